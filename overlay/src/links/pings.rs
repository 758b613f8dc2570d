//! Pings of one link: which were asked, and what their answers say.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;

/// Pings of one link whose answers somebody waits for; the oldest is forgotten first. Guess.
pub(super) const MAX_AWAITED: usize = 64;

/// Pings that were not answered yet, the last ones: by their nonces, when they went out.
#[derive(Debug, Default)]
pub(super) struct Asked(Vec<(u16, Time)>);

impl Asked {
    pub(super) fn push(&mut self, nonce: u16, now: Time) {
        self.0.push((nonce, now));
        if self.0.len() > MAX_AWAITED {
            self.0.remove(0);
        }
    }

    /// When the ping that is answered went out.
    pub(super) fn take(&mut self, nonce: u64) -> Option<Time> {
        let found = self.0.iter().position(|(it, _)| u64::from(*it) == nonce)?;
        Some(self.0.remove(found).1)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ping_is_answered_once_and_none_before_it_was_asked() {
        let mut asked = Asked::default();
        assert_eq!(asked.take(7), None);
        for (nonce, ms) in [(7, 1), (9, 2)] {
            asked.push(nonce, Time::from_micros(ms * 1_000));
        }
        assert_eq!(asked.take(9), Some(Time::from_micros(2_000)));
        assert_eq!(asked.take(9), None);
        assert_eq!(asked.take(7 + (1 << 16)), None, "not cut to its lower bytes");
        assert_eq!(asked.take(7), Some(Time::from_micros(1_000)));
    }
}
