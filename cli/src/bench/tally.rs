//! What a receiver counts, and what the process used.

use std::time::Duration;

use serde::Serialize;

/// What came to one receiver.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Messages, each counted once.
    pub(super) received: u64,
    /// Messages that came again.
    pub(super) duplicates: u64,
    /// How long those took that were sent at an easy pace.
    pub(super) easy_us: Vec<u64>,
    /// And those sent one at a time.
    pub(super) idle_us: Vec<u64>,
    /// A bit a message.
    seen: Vec<u64>,
}

impl Tally {
    /// Notes the message of this number; whether it is new.
    pub(super) fn note(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        let new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        if new {
            self.received += 1
        } else {
            self.duplicates += 1
        }
        new
    }
}

/// Microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Latency {
    /// Half were faster.
    pub(crate) p50: u64,
    /// All but one in a hundred were faster.
    pub(crate) p99: u64,
}

pub(super) fn percentiles(mut latencies_us: Vec<u64>) -> Latency {
    latencies_us.sort_unstable();
    let at = |share: usize| latencies_us.get(latencies_us.len() * share / 100).copied().unwrap_or(0);
    Latency { p50: at(50), p99: at(99) }
}

/// Processor time this process has used, user and system, where `/proc` tells (proc(5), `stat`).
pub(super) fn cpu_time() -> Option<Duration> {
    /// Clock ticks a second in `/proc`, on every Linux (USER_HZ).
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Fields are counted from behind the name, which may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(|it| it.parse::<u64>().ok());
    Some(Duration::from_secs_f64(ticks.sum::<Option<u64>>()? as f64 / TICKS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_once() {
        let mut tally = Tally::default();
        assert!(tally.note(130) && tally.note(0) && !tally.note(130));
        assert_eq!((tally.received, tally.duplicates), (2, 1));
    }

    #[test]
    fn percentiles_of_a_few() {
        assert_eq!(percentiles(vec![]), Latency { p50: 0, p99: 0 });
        assert_eq!(percentiles((0..200).rev().collect()), Latency { p50: 100, p99: 198 });
    }
}
