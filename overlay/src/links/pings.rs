//! Pings of one link: which were asked, and what their answers say.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;

/// Pings of one link whose answers somebody waits for; the oldest is forgotten first. Guess.
pub(super) const MAX_AWAITED: usize = 64;

/// The last moments at which something was asked, so many at most.
#[derive(Debug, Default)]
pub(super) struct Moments(Vec<Time>);

impl Moments {
    pub(super) fn push(&mut self, now: Time) {
        if self.0.last() != Some(&now) {
            self.0.push(now);
        }
        if self.0.len() > MAX_AWAITED {
            self.0.remove(0);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn remove(&mut self, at: Time) -> bool {
        let found = self.0.iter().position(|it| *it == at);
        found.map(|found| self.0.remove(found)).is_some()
    }
}

/// What round trips of late say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measured {
    /// The shortest.
    pub(super) distance: Option<Duration>,
    /// Mean deviation.
    pub(super) jitter: Duration,
}

impl Measured {
    pub(super) fn of(samples: &VecDeque<(Time, Duration)>) -> Self {
        let Some(distance) = samples.iter().map(|it| it.1).min() else { return Self::default() };
        let count = u32::try_from(samples.len()).expect("few");
        let mean = samples.iter().map(|it| it.1).sum::<Duration>() / count;
        let jitter = samples.iter().map(|it| it.1.abs_diff(mean)).sum::<Duration>() / count;
        Self { distance: Some(distance), jitter }
    }
}
