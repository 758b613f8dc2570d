//! Mean, percentiles and maximum: exact of a few values, or nearly so of any number.

use std::time::Duration;

/// Mean, median, 99th percentile and maximum, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(in crate::sim) struct Stats {
    pub(in crate::sim) mean: f64,
    pub(in crate::sim) p50: f64,
    pub(in crate::sim) p99: f64,
    pub(in crate::sim) max: f64,
}

impl Stats {
    /// Exact; nothing for no values. The p-th percentile is the value at the nearest rank.
    pub(in crate::sim) fn of(values: &mut [u32]) -> Option<Self> {
        let last = values.len().checked_sub(1)?;
        let sum: u64 = values.iter().map(|it| u64::from(*it)).sum();
        let mut at = |share: f64| {
            let rank = (last as f64 * share).round() as usize;
            f64::from(*values.select_nth_unstable(rank).1)
        };
        let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
        Some(Self { mean: sum as f64 / values.len() as f64, p50, p99, max })
    }
}

/// Steps in each octave: a percentile is off by at most 1/1024 of its value.
const STEPS: u64 = 1 << STEP_BITS;
const STEP_BITS: u32 = 10;

/// Counts of durations, in steps that grow with the duration (as HdrHistogram's do).
#[derive(Debug, Clone, Default)]
pub(in crate::sim) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum_us: u64,
    max_us: u64,
}

impl Histogram {
    pub(in crate::sim) fn add(&mut self, span: Duration) {
        let us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let step = step_of(us);
        if self.counts.len() <= step {
            self.counts.resize(step + 1, 0);
        }
        self.counts[step] += 1;
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
    }

    pub(in crate::sim) fn stats(&self) -> Option<Stats> {
        let last = self.count.checked_sub(1)?;
        let at = |share: f64| self.at_rank((last as f64 * share).round() as u64);
        let mean = self.sum_us as f64 / self.count as f64;
        Some(Stats { mean, p50: at(0.5), p99: at(0.99), max: self.max_us as f64 })
    }

    fn at_rank(&self, rank: u64) -> f64 {
        let mut seen = 0;
        let step = self.counts.iter().position(|count| {
            seen += count;
            seen > rank
        });
        step.map_or(0.0, |step| least_of(step) as f64).min(self.max_us as f64)
    }
}

/// Which step a value falls into.
fn step_of(us: u64) -> usize {
    let octave = (u64::BITS - us.leading_zeros()).saturating_sub(STEP_BITS);
    let step = us >> octave;
    usize::try_from(u64::from(octave) * STEPS + step).expect("65 octaves of 1024 steps")
}

/// The least value of a step.
fn least_of(step: usize) -> u64 {
    let (octave, step) = (step as u64 / STEPS, step as u64 % STEPS);
    step << octave
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn percentiles_of_a_hundred_and_one() {
        let mut values: Vec<u32> = (1..=101).rev().collect();
        let stats = Stats::of(&mut values).expect("some");
        assert_eq!(stats, Stats { mean: 51.0, p50: 51.0, p99: 100.0, max: 101.0 });
        assert_eq!(Stats::of(&mut []), None);
    }

    #[test]
    fn the_histogram_is_within_a_thousandth_of_the_exact() {
        let mut rng = Rng::new(5);
        let (mut values, mut histogram) = (Vec::new(), Histogram::default());
        for _ in 0..20_000 {
            // From a microsecond to a quarter of an hour.
            let us = 1u32 << rng.below(30);
            let us = us + rng.below(us as usize) as u32;
            values.push(us);
            histogram.add(Duration::from_micros(u64::from(us)));
        }
        let (exact, near) = (Stats::of(&mut values).expect("some"), histogram.stats().expect("some"));
        assert!((exact.mean - near.mean).abs() < 1e-6, "the mean is exact: {} {}", exact.mean, near.mean);
        for (exact, near) in [(exact.p50, near.p50), (exact.p99, near.p99)] {
            assert!(near <= exact && (exact - near) / exact <= 1.0 / 512.0, "{exact} {near}");
        }
        assert!((exact.max - near.max).abs() < f64::EPSILON);
        assert_eq!(Histogram::default().stats(), None);
    }

    #[test]
    fn steps_do_not_overlap() {
        for us in (0..5_000).chain((1..60).map(|bits| (1 << bits) + 1)) {
            let step = step_of(us);
            assert!(least_of(step) <= us, "{us}");
            assert!(step == 0 || least_of(step) == us || step_of(least_of(step)) == step, "{us}");
        }
    }
}
