//! Silence: what comes regularly is missed soon after it should have come.
//!
//! Lazy links tell of what the tree does not bring, unless they died with the parent. So a member
//! knows how often batches come, and when none has for clearly longer it asks around: neighbours that
//! run answer within a round trip, and say so if they hold more (DESIGN.md §4: 2.5 × the usual gap;
//! here the gaps' own deviation decides, as for RFC 6298's timeout).

use std::time::Duration;

use super::Group;
use super::ctx::Ctx;
use crate::time::Time;
use crate::wire::frame::Frame;

/// Gaps that make a rhythm; one such gap that is longer ends it: who speaks so seldom is missed by
/// anti-entropy. Guess.
const RHYTHM: u32 = 4;
const LONGEST: Duration = Duration::from_secs(2);
/// How much longer than the usual gap, at the least. Guess: silence costs a few frames.
const FACTOR: f64 = 1.25;
const AT_LEAST: Duration = Duration::from_millis(30);
/// Batches that come within so long of each other say one thing.
const TOGETHER: Duration = Duration::from_millis(10);
/// By then neighbours that run have answered: lazy links are chosen anew. Guess.
const ANSWERED_BY: Duration = Duration::from_millis(300);
/// So often somebody asks, each time after twice as long, as long as some do not answer.
const ATTEMPTS: u32 = 4;

/// Members that are looked for at a time when neighbours do not answer: many of them may be gone as well. Guess.
const STRANGERS: usize = 4;

/// How often batches come, of all sources together.
#[derive(Debug, Default)]
pub(super) struct Silence {
    last: Option<Time>,
    /// When the latest of those that came together did.
    event: Option<Time>,
    gaps: u32,
    /// Smoothed gap and its deviation (RFC 6298 §2).
    mean: Duration,
    deviation: Duration,
    asked: u32,
    /// When we began to ask around.
    since: Option<Time>,
}

impl Silence {
    /// A batch came that is new here.
    pub(super) fn on_batch(&mut self, now: Time) {
        let suspected = self.since.take().is_some();
        (self.asked, self.last) = (0, Some(now));
        // What comes together is one event, be it several batches or several sources.
        if self.event.is_some_and(|at| now.since(at) < TOGETHER) {
            return;
        }
        let gap = self.event.replace(now).map(|event| now.since(event));
        match gap {
            Some(gap) if gap > LONGEST => self.gaps = 0,
            Some(gap) if self.gaps == 0 => (self.gaps, self.mean, self.deviation) = (1, gap, gap / 2),
            Some(gap) => {
                // What a failure holds up says little of the rhythm.
                let gap = if suspected { gap.min((self.mean * 4).max(AT_LEAST)) } else { gap };
                self.gaps = self.gaps.saturating_add(1);
                self.deviation = (self.deviation * 3 + self.mean.abs_diff(gap)) / 4;
                self.mean = (self.mean * 7 + gap) / 8;
            }
            None => {}
        }
    }

    /// Above us somebody asks for what is missing: it is known, and no reason to ask around.
    pub(super) fn on_hold(&mut self, now: Time) {
        (self.since, self.asked, self.last) = (None, 0, self.last.map(|_| now));
    }

    /// When to ask around.
    pub(super) fn deadline(&self) -> Option<Time> {
        let last = self.last.filter(|_| self.gaps >= RHYTHM && self.asked < ATTEMPTS)?;
        let usual = self.mean.mul_f64(FACTOR).max(self.mean + self.deviation * 4);
        let first = last + (usual + AT_LEAST);
        Some(self.since.map_or(first, |at| first.max(at) + (usual + ANSWERED_BY) * self.asked))
    }

    /// Batches should have come, and whoever tells of one is right at once.
    pub(super) fn is_suspected(&self) -> bool {
        self.since.is_some()
    }
}

impl Group {
    /// Asks neighbours whether they run, and whether they hold more than we do.
    pub(super) fn poll_silence(&mut self, ctx: &mut Ctx<'_>) {
        if self.silence.deadline().is_none_or(|at| at > ctx.now) {
            return;
        }
        let neighbours = self.views.active();
        let again = self.silence.since.is_some();
        if again && !neighbours.iter().any(|it| ctx.links.is_asked(it)) {
            // All run, and none has more: there is nothing more.
            self.silence.asked = ATTEMPTS;
            return;
        }
        if again && self.is_deserted(ctx) {
            self.reach_strangers(ctx);
        }
        self.silence.asked += 1;
        self.silence.since.get_or_insert(ctx.now);
        let above: Vec<_> = neighbours.iter().filter(|it| !self.tree.is_child(it)).copied().collect();
        ctx.links.question(ctx.now, &neighbours);
        let summary = self.summary();
        ctx.send_all(&above, &Frame::Summary(summary));
        self.lazy.look_in(ctx.now, ANSWERED_BY);
    }

    /// Nothing comes although it should, and half of those who might tell why do not answer: the others may be
    /// as cut off as we are.
    pub(super) fn is_deserted(&self, ctx: &Ctx<'_>) -> bool {
        let neighbours = self.views.active();
        let quiet = neighbours.iter().filter(|it| ctx.links.is_quiet(ctx.now, it)).count();
        self.silence.is_suspected() && quiet * 2 >= neighbours.len()
    }

    /// Looks for neighbours among members that are none, before those that are silent count as gone.
    fn reach_strangers(&mut self, ctx: &mut Ctx<'_>) {
        let mut strangers = self.candidates();
        ctx.rng.shuffle(&mut strangers);
        for node in strangers.into_iter().take(STRANGERS) {
            self.meet(ctx, node, &[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1_000)
    }

    #[test]
    fn a_steady_source_is_missed_soon_and_an_unsteady_one_later() {
        let (mut steady, mut unsteady) = (Silence::default(), Silence::default());
        for n in 0..50 {
            steady.on_batch(at(n * 100));
            unsteady.on_batch(at(n * 100 + [0, 60][n as usize % 2]));
        }
        let late = |it: &Silence| it.deadline().expect("a rhythm").since(it.last.expect("begun"));
        assert!(late(&steady) <= Duration::from_millis(201), "{:?}", late(&steady));
        assert!(late(&unsteady) >= Duration::from_millis(300), "{:?}", late(&unsteady));
    }

    #[test]
    fn talk_with_pauses_has_no_rhythm() {
        let mut silence = Silence::default();
        for n in 0..20 {
            silence.on_batch(at(n * 2_500));
            assert_eq!(silence.deadline(), None);
        }
    }
}
