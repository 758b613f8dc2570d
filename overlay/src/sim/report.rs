//! A run in numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::node::NodeIx;
use super::record::{Record, What};
use crate::id::{BatchId, PublishId};
use crate::io::Event;
use crate::time::Time;

/// Mean, median, 99th percentile and maximum of a set of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spread {
    /// Arithmetic mean.
    pub mean: Duration,
    /// Half are at most this.
    pub p50: Duration,
    /// 99 % are at most this.
    pub p99: Duration,
    /// All are.
    pub max: Duration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let Some(max) = times.last().copied() else { return Self::default() };
        let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
        let count = u32::try_from(times.len()).unwrap_or(u32::MAX);
        Self { mean: times.iter().sum::<Duration>() / count, p50: at(0.5), p99: at(0.99), max }
    }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Messages that got a place.
    pub messages: usize,
    /// Deliveries of them, their own sources' included.
    pub deliveries: usize,
    /// From the publishing to a delivery at another node.
    pub latency: Spread,
}

impl Report {
    /// Sums up a run's records.
    pub fn of(records: &[Record]) -> Self {
        let (published, places) = publications(records);
        let mut report = Self { messages: places.len(), ..Self::default() };
        let mut latencies = Vec::new();
        for record in records {
            let What::Event(Event::Deliver { delivery, .. }) = &record.what else { continue };
            for n in (delivery.first..).take(delivery.payloads.len()) {
                report.deliveries += 1;
                let id = places.get(&(delivery.batch(), n));
                if let Some((source, at)) = id.and_then(|id| published.get(id))
                    && *source != record.node
                {
                    latencies.push(record.time.since(*at));
                }
            }
        }
        report.latency = Spread::of(latencies);
        report
    }
}

type Published = BTreeMap<PublishId, (NodeIx, Time)>;
type Places = BTreeMap<(BatchId, u32), PublishId>;

fn publications(records: &[Record]) -> (Published, Places) {
    let (mut published, mut places) = (Published::new(), Places::new());
    for record in records {
        match &record.what {
            What::Publish { id, .. } => {
                published.insert(*id, (record.node, record.time));
            }
            What::Event(Event::Published { id, batch, n, .. }) => {
                places.insert((*batch, *n), *id);
            }
            _ => {}
        }
    }
    (published, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_hundred() {
        let spread = Spread::of((1..=101).rev().map(Duration::from_millis).collect());
        let ms = Duration::from_millis;
        assert_eq!(spread, Spread { mean: ms(51), p50: ms(51), p99: ms(100), max: ms(101) });
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }
}
