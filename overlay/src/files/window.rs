//! How much one sender may have under way to one receiver: as much as leaves others' packets on time.
//!
//! After LEDBAT (RFC 6817): the receiver tells how long each part was under way, by two clocks that need not agree;
//! the least of the last minutes is the way's own, and what is above it is what waits before it. The window grows
//! while that is below the target and shrinks above.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;

/// The delay that file traffic may add. RFC 6817 allows 100 ms; talk is to be held up by less than is noticed.
const TARGET: Duration = Duration::from_millis(6);

/// RFC 6817, §2.4.2: at most as fast as TCP.
const GAIN: f64 = 1.0;

/// Parts are as large as what goes in so long a time: few, and yet no long wait for what comes between them.
const PART: Duration = Duration::from_millis(5);

/// The least part, bytes, and the greatest. One part may always be under way.
const LEAST_PART: f64 = 8_192.0;
const MOST_PART: f64 = 65_536.0;

/// How much one measure moves the rate: what a link takes at once after a pause is soon forgotten.
const RATE_GAIN: f64 = 0.125;

/// At most, bytes: the memory of a link.
const MOST: f64 = 8_388_608.0;

/// Growth in one answer counts for so many bytes.
const SEGMENT: f64 = 16_384.0;

/// The least delay is that of so many spans (RFC 6817, §3.1.2: BASE_HISTORY)…
const SPANS: usize = 6;

/// …of so long.
const SPAN: Duration = Duration::from_secs(20);

/// Delays of which the least is the current one (RFC 6817: CURRENT_FILTER), so that one that a busy machine
/// noticed late does not count.
const FILTER: usize = 4;

/// The window of one sender to one receiver.
#[derive(Debug, Clone)]
pub struct Window {
    bytes: f64,
    /// Until the delay first is felt it doubles each round (RFC 6817 leaves that to the sender; as slow start).
    starting: bool,
    sent: u64,
    taken: u64,
    spans: VecDeque<(Time, i64)>,
    recent: VecDeque<i64>,
    /// Where the window last shrank: once a round is enough.
    shrunk_at: u64,
    /// Parts under way: how much was sent with each, how much had come by then, and when.
    parts: VecDeque<(u64, u64, Time)>,
    /// Bytes a second, on average lately.
    rate: f64,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            bytes: 4.0 * SEGMENT,
            starting: true,
            sent: 0,
            taken: 0,
            spans: VecDeque::new(),
            recent: VecDeque::new(),
            shrunk_at: 0,
            parts: VecDeque::new(),
            rate: 0.0,
        }
    }
}

impl Window {
    /// Bytes that may be sent now.
    pub fn room(&self) -> usize {
        let under_way = self.under_way() as f64;
        if under_way >= self.bytes { 0 } else { (self.bytes - under_way) as usize }
    }

    /// How large a part is to be, bytes.
    pub fn part(&self) -> usize {
        (self.rate * PART.as_secs_f64()).clamp(LEAST_PART, MOST_PART) as usize
    }

    /// Sent, and not told to have come.
    pub fn under_way(&self) -> u64 {
        self.sent - self.taken
    }

    /// These bytes go out.
    pub fn on_sent(&mut self, now: Time, bytes: usize) {
        self.sent += bytes as u64;
        self.parts.push_back((self.sent, self.taken, now));
    }

    /// How fast what was just taken came (as BBR's delivery rate).
    fn measure(&mut self, now: Time) {
        while let Some((sent, taken, at)) = self.parts.front().copied().filter(|it| it.0 <= self.taken) {
            self.parts.pop_front();
            let span = now.since(at).as_secs_f64();
            if span > 0.0 && sent == self.taken {
                let rate = (self.taken - taken) as f64 / span;
                self.rate += if self.rate == 0.0 { rate } else { RATE_GAIN * (rate - self.rate) };
            }
        }
    }

    /// The receiver has `taken` bytes by now; the last were under way for `delay_us`, by two clocks.
    pub fn on_taken(&mut self, now: Time, taken: u64, delay_us: i64) {
        let fresh = taken.min(self.sent).saturating_sub(self.taken) as f64;
        self.taken = taken.clamp(self.taken, self.sent);
        self.measure(now);
        let queued = self.queued(now, delay_us);
        let off_target = 1.0 - queued / TARGET.as_micros() as f64;
        let is_used = self.under_way() as f64 + fresh >= self.bytes / 2.0;
        if off_target > 0.0 {
            if self.starting && is_used {
                self.bytes += fresh;
            } else if is_used {
                self.bytes += GAIN * off_target * fresh * SEGMENT / self.bytes;
            }
        } else {
            self.starting = false;
            if self.taken >= self.shrunk_at {
                // Not by more than a third in one round.
                self.bytes *= 1.0 + (off_target * 0.25).max(-0.35);
                self.shrunk_at = self.sent;
            }
        }
        self.bytes = self.bytes.clamp(self.part() as f64, MOST);
    }

    /// What waits before the way itself, microseconds.
    fn queued(&mut self, now: Time, delay_us: i64) -> f64 {
        match self.spans.back_mut() {
            Some((since, least)) if now.since(*since) < SPAN => *least = (*least).min(delay_us),
            _ => {
                self.spans.push_back((now, delay_us));
                if self.spans.len() > SPANS {
                    self.spans.pop_front();
                }
            }
        }
        self.recent.push_back(delay_us);
        if self.recent.len() > FILTER {
            self.recent.pop_front();
        }
        let least = self.spans.iter().map(|(_, least)| *least).min().unwrap_or(delay_us);
        let current = self.recent.iter().copied().min().unwrap_or(delay_us);
        current.saturating_sub(least).max(0) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A way of `rate` bytes a second and 1 ms, with a queue of any length: what waits in it in the second half of
    /// three seconds, on average, and how much of the way was used then.
    fn run(rate: f64) -> (Duration, f64) {
        let (mut window, mut now, mut free_at) = (Window::default(), 0.0_f64, 0.0_f64);
        let mut answers: VecDeque<(f64, u64, i64)> = VecDeque::new();
        let (mut sent, mut queued, mut parts, mut bytes) = (0_u64, 0.0, 0.0, 0.0);
        while now < 3.0 {
            while window.room() > 0 {
                let part = window.part();
                sent += part as u64;
                window.on_sent(Time::from_micros((now * 1e6) as u64), part);
                free_at = free_at.max(now) + part as f64 / rate;
                let came = free_at + 0.001;
                // The receiver's clock is another.
                answers.push_back((came + 0.001, sent, ((came - now) * 1e6) as i64 - 5_000_000));
                if now > 1.5 {
                    queued += free_at - now;
                    parts += 1.0;
                    bytes += part as f64;
                }
            }
            let (at, taken, delay) = answers.pop_front().expect("something is under way");
            now = at;
            window.on_taken(Time::from_micros((now * 1e6) as u64), taken, delay);
        }
        (Duration::from_secs_f64(queued / parts), bytes / rate / 1.5)
    }

    #[test]
    fn the_way_is_filled_and_the_queue_is_short() {
        for rate in [1.25e6, 12.5e6, 125e6] {
            let (queued, used) = run(rate);
            assert!(used > 0.9, "{rate}: used {used}");
            let least = Duration::from_secs_f64(3.0 * LEAST_PART / rate);
            assert!(queued < TARGET.mul_f64(2.5).max(least), "{rate}: {queued:?} waits");
        }
    }

    #[test]
    fn answers_for_what_was_never_sent_open_nothing() {
        let mut window = Window::default();
        window.on_taken(Time::from_micros(1), u64::MAX, i64::MIN);
        window.on_taken(Time::from_micros(2), u64::MAX, i64::MAX);
        assert!(window.under_way() == 0 && window.room() as f64 <= MOST);
    }
}
