//! Gaps: who told of what we miss, how long the tree may take to bring it, whom to ask.
//!
//! A seq that a lazy link tells of is pulled after the learned lag; a second miss says that
//! the parent is silent (Plumtree §3.4, SRM §3 for the timing).

mod claims;
mod hold;
mod lag;
mod lost;
mod misses;
mod tail;
mod want;

use std::collections::BTreeMap;
use std::time::Duration;

use super::ranges::{Range, Ranges, take};
use super::sources::{LifeId, Sources};
use crate::config::Config;
use crate::id::{NodeId, Seq};
use crate::links::Links;
use crate::time::Time;

use claims::Claims;
use hold::Holds;
use lag::Lag;
use misses::Misses;
pub(crate) use tail::Others;
use want::{Asked, Want};

/// Heads of one life that ripen one after the other, at most.
const MAX_HEADS: usize = 64;
/// After so many pulls without an answer, news cut the back-off short: somebody may have told
/// of what does not exist.
const IN_VAIN: u32 = 3;
/// Children are told of what is missing of a life that the tree brought within this span.
const HOLD_WITHIN: Duration = Duration::from_secs(2);

/// What of the group's world repair may look at.
#[derive(Clone, Copy)]
pub(crate) struct Sight<'a> {
    pub(crate) now: Time,
    pub(crate) parent: Option<NodeId>,
    /// Who may be asked.
    pub(crate) neighbours: &'a [NodeId],
    pub(crate) others: &'a Others,
    pub(crate) sources: &'a Sources,
    pub(crate) links: &'a Links,
    pub(crate) config: &'a Config,
}

/// What to do about one (source, life).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask this neighbour.
    Pull(NodeId, LifeId, Vec<Range>),
    /// The parent missed twice what this neighbour has.
    ParentSilent(NodeId),
    /// Ask whether this one runs.
    Question(NodeId),
    /// Get links to these: they are to be asked.
    Reach(Vec<NodeId>),
    /// Tell of a gap.
    Gap(LifeId, Range),
    /// Nobody has it: order goes on without.
    Lost(LifeId, Range, bool),
}

/// The state of all gaps of a group.
#[derive(Debug, Default)]
pub(crate) struct Repair {
    wants: BTreeMap<LifeId, Want>,
    /// What each neighbour is known to hold.
    known: BTreeMap<NodeId, BTreeMap<LifeId, Ranges>>,
    /// Pulls that were sent and whose end has not come yet.
    unended: BTreeMap<(NodeId, LifeId), u32>,
    /// Below this, a neighbour held and dropped everything.
    dropped: BTreeMap<(NodeId, LifeId), Seq>,
    /// What the tree brings, and how late.
    pub(crate) lag: Lag,
    claims: Claims,
    holds: Holds,
    misses: Misses,
}

impl Repair {
    /// A neighbour told what it holds.
    pub(crate) fn on_told(&mut self, node: NodeId, life: LifeId, held: Ranges) {
        if let Some(want) = self.wants.get_mut(&life).filter(|it| held.contains(it.first)) {
            want.lacking.remove(&node);
        }
        self.known.entry(node).or_default().insert(life, held);
    }

    /// A neighbour evidently holds this batch: it sent it, or we sent it there.
    pub(crate) fn on_has(&mut self, node: NodeId, life: LifeId, seq: Seq) {
        self.known.entry(node).or_default().entry(life).or_default().insert(seq);
    }

    /// Whether the neighbour is known to hold it.
    pub(crate) fn has(&self, node: &NodeId, life: LifeId, seq: Seq) -> bool {
        self.known.get(node).and_then(|it| it.get(&life)).is_some_and(|held| held.contains(seq))
    }

    /// Whether the neighbour is known to hold just this.
    pub(crate) fn holds_just(&self, node: &NodeId, life: LifeId, held: &Ranges) -> bool {
        self.known.get(node).and_then(|it| it.get(&life)) == Some(held)
    }

    /// How many neighbours hold everything of this life below `next`.
    pub(crate) fn holders(&self, life: LifeId, next: Seq) -> usize {
        self.known.values().filter(|it| it.get(&life).is_some_and(|held| held.next() >= next)).count()
    }

    pub(crate) fn forget(&mut self, node: &NodeId) {
        self.known.remove(node);
        self.lag.forget(node);
        self.claims.forget(node);
        self.unended.retain(|(it, _), _| it != node);
        self.dropped.retain(|(it, _), _| it != node);
        for want in self.wants.values_mut() {
            if want.is_asked(node) {
                want.asked = None;
                want.deadline = Time::ZERO;
            }
        }
    }

    pub(crate) fn forget_life(&mut self, life: LifeId) {
        self.wants.remove(&life);
        self.claims.on_progress(life);
        self.lag.forget_life(&life);
        self.holds.forget_life(&life);
        self.unended.retain(|(_, it), _| *it != life);
        self.dropped.retain(|(_, it), _| *it != life);
        for known in self.known.values_mut() {
            known.remove(&life);
        }
    }

    /// Forgets lives that are closed.
    pub(crate) fn retain(&mut self, open: impl Fn(LifeId) -> bool) {
        self.wants.retain(|life, _| open(*life));
        self.lag.retain(&open);
        self.holds.retain(&open);
        self.unended.retain(|(_, life), _| open(*life));
        self.dropped.retain(|(_, life), _| open(*life));
        for known in self.known.values_mut() {
            known.retain(|life, _| open(*life));
        }
    }

    /// Something of this life below `end` is missing; `patient` when the tree should bring it.
    pub(crate) fn want(&mut self, now: Time, life: LifeId, end: Seq, patient: bool, config: &Config) {
        let ripe_at = if patient { now + self.lag.learned(config) } else { now };
        let want = self.wants.entry(life).or_insert_with(|| Want::new(now, ripe_at));
        if want.pulls >= IN_VAIN {
            // Asked in vain so far; who tells of more may be the one that has it.
            want.deadline = want.deadline.min(ripe_at.max(now + config.pull_timeout));
        }
        if !patient {
            want.ripe = want.ripe.max(end);
            want.unpushed = want.unpushed.max(end);
            if want.asked.is_none() {
                want.deadline = want.deadline.min(now);
            }
        } else if want.heads.back().map_or(want.ripe, |head| head.0) < end {
            if want.heads.len() >= MAX_HEADS {
                want.heads.pop_back();
            }
            want.heads.push_back((end, ripe_at));
        }
    }

    /// Whether this neighbour sends it because we asked for it.
    pub(crate) fn is_asked(&self, node: &NodeId, life: LifeId, seq: Seq) -> bool {
        let asked = self.wants.get(&life).and_then(|it| it.asked.as_ref());
        asked.is_some_and(|it| it.node == *node && names(&it.ranges, seq))
    }

    /// A batch came in: see whether its gap is filled. Returns the gap
    /// that was told and is now repaired.
    pub(crate) fn on_received(
        &mut self,
        now: Time,
        life: LifeId,
        seq: Seq,
        sources: &Sources,
        config: &Config,
    ) -> Option<Range> {
        self.claims.on_progress(life);
        let want = self.wants.get_mut(&life)?;
        want.lacking.clear();
        let state = sources.life(life)?;
        if state.held.contains(want.first) {
            // Or who has not answered would be asked again whenever something else of this life comes.
            want.tried.clear();
        }
        let told = want.told.filter(|(_, to)| state.held.next() >= *to);
        if told.is_some() {
            want.told = None;
        }
        let missing = state.missing();
        if missing.is_empty() {
            self.wants.remove(&life);
        } else if missing[0].0 >= want.ripe {
            // What was due is here; the next is not due yet.
            want.begin_anew(now);
            want.deadline = want.heads.front().map_or(now, |head| head.1);
        } else if want.asked.as_ref().is_some_and(|it| all_held(&state.held, &it.ranges)) {
            // The answer is complete: ask for the next piece at once.
            want.begin_anew(now);
            want.deadline = now;
        } else if want.asked.as_ref().is_some_and(|it| names(&it.ranges, seq)) {
            // The answer is coming: no reason to ask anybody else.
            want.deadline = want.deadline.max(now + config.pull_timeout);
        }
        told
    }

    /// The tree brought a batch, for the first time or again; `held` is what was here before.
    pub(crate) fn on_pushed(&mut self, now: Time, by: NodeId, life: LifeId, seq: Seq, held: Option<&Ranges>) {
        let lost = self.holds.named(&life, seq);
        self.lag.on_pushed(now, by, life, seq, lost, held);
    }

    /// The parent brought something, or there is another.
    pub(crate) fn on_parent_speaks(&mut self) {
        self.misses = Misses::default();
        self.holds.on_parent_speaks();
    }

    /// The parent has asked for what it lacks of a life below `end`; whether that is new, and worth a wait.
    pub(crate) fn on_hold(&mut self, now: Time, life: LifeId, end: Seq, config: &Config) -> bool {
        let waits = self.holds.on_hold(life, end, now + self.lag.learned(config));
        if waits {
            self.misses = Misses::default();
        }
        waits
    }

    /// Whether to tell our children that we have asked for these.
    pub(crate) fn is_to_hold(&mut self, now: Time, life: LifeId, ranges: &[Range]) -> bool {
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { return false };
        // Of what has flowed until now. History is asked for by whoever lacks it.
        let flows = self.lag.pushed_at(&life).is_some_and(|at| now.since(at) < HOLD_WITHIN);
        flows && last.1 - first.0 <= MAX_HEADS as Seq && self.holds.is_to_tell(life, last.1)
    }

    /// A neighbour has answered a pull with all that it could.
    pub(crate) fn on_pull_end(
        &mut self,
        now: Time,
        node: NodeId,
        life: LifeId,
        absent: &[Range],
        dropped_below: Seq,
    ) {
        if let Some(held) = self.known.get_mut(&node).and_then(|it| it.get_mut(&life)) {
            *held = without(held, absent);
        }
        if dropped_below > 0 {
            self.dropped.insert((node, life), dropped_below);
        }
        // A complete answer is followed by the next pull before its end comes: one end each.
        let unended = self.unended.get_mut(&(node, life));
        let latest = unended.is_none_or(|it| {
            *it = it.saturating_sub(1);
            *it == 0
        });
        if latest {
            self.unended.remove(&(node, life));
        }
        let Some(want) = self.wants.get_mut(&life) else { return };
        if names(absent, want.first) {
            want.lacking.insert(node);
        }
        if latest && want.is_asked(&node) {
            want.asked = None;
            want.deadline = now;
            if absent.is_empty() {
                self.claims.on_nothing(node, life);
            }
            // Others have their turn, too, beside one that always answers and brings nothing.
            if !absent.is_empty() || self.claims.is_void(&node, life) {
                want.tried.insert(node);
            }
        }
    }

    /// What is due by now.
    pub(crate) fn poll(&mut self, sight: &Sight<'_>) -> Vec<Step> {
        let due = self.wants.iter().filter(|(_, it)| it.deadline <= sight.now).map(|(life, _)| *life);
        let due: Vec<_> = due.collect();
        let mut steps = Vec::new();
        for life in due {
            let missing = sight.sources.life(life).map(|it| it.missing()).unwrap_or_default();
            if missing.is_empty() {
                self.wants.remove(&life);
                continue;
            }
            let want = self.wants.get_mut(&life).expect("due");
            let missing = want.due(sight.now, &missing);
            if !missing.is_empty() {
                self.poll_one(sight, life, &missing, &mut steps);
                continue;
            }
            want.asked = None;
            match want.heads.front() {
                Some(head) => want.deadline = head.1,
                None => {
                    self.wants.remove(&life);
                }
            }
        }
        steps
    }

    fn poll_one(&mut self, sight: &Sight<'_>, life: LifeId, missing: &[Range], steps: &mut Vec<Step>) {
        let until = self.on_its_way(sight.now, life, missing[0].0, sight.sources, sight.config);
        let until = until.or_else(|| self.held_back(sight.now, life, missing[0].0));
        let want = self.wants.get_mut(&life).expect("due");
        if let Some(until) = until {
            want.deadline = until;
            return;
        }
        if let Some(asked) = want.asked.take() {
            let silent = asked.node;
            if sight.links.last_heard(&silent).is_none_or(|at| at <= asked.at) {
                // Dead, maybe: others who are to be asked are not.
                steps.push(Step::Question(silent));
            } else {
                want.slow = want.slow.saturating_add(1);
            }
            want.tried.insert(silent);
            self.claims.on_nothing(silent, life);
            self.unended.remove(&(silent, life));
        }
        let asked_some = want.pulls > 0;
        let Some(state) = sight.sources.life(life) else { return };
        let all_asked = self.choose(sight, life, missing).is_none();
        // Nobody had told of it, it may be before our time, and all were asked: not worth a wait.
        let named_in_vain = state.only_named && all_asked && asked_some && !sight.sources.knew_before(life);
        let tail = state.lacks_tail_only();
        // What neighbours have dropped, or what was before their time, others may have.
        let left_to_others = self.is_left_to_others(sight, life, missing[0]);
        let wide = tail || left_to_others || self.is_overdue(sight, life);
        if named_in_vain || (tail && self.nobody_has_tail(life, missing[0], sight.others, state)) {
            steps.push(Step::Lost(life, *missing.last().expect("not empty"), false));
            self.wants.remove(&life);
            return;
        }
        if !wide {
            return self.step(sight, life, missing, steps);
        }
        if all_asked || left_to_others {
            steps.extend(self.reach(life, sight.others));
        }
        let all = [sight.neighbours, &sight.others.linked].concat();
        self.step(&Sight { neighbours: &all, ..*sight }, life, missing, steps);
    }

    /// While the tree brings this life in order, the end that others told of is on its way: until
    /// when to trust in that. A gap in the middle is none: links are FIFO.
    fn on_its_way(
        &self,
        now: Time,
        life: LifeId,
        first: Seq,
        sources: &Sources,
        config: &Config,
    ) -> Option<Time> {
        let want = self.wants.get(&life)?;
        let tail = sources.life(life).is_some_and(|it| it.held.end() <= first);
        let until = self.lag.pushed_at(&life)? + self.lag.learned(config);
        (tail && first >= want.unpushed && want.asked.is_none() && until > now).then_some(until)
    }

    /// While the parent asks for what we all lack, it is to have the time to bring it.
    fn held_back(&self, now: Time, life: LifeId, first: Seq) -> Option<Time> {
        let want = self.wants.get(&life)?;
        let free = first >= want.unpushed && want.asked.is_none();
        self.holds.until(now, &life, first).filter(|_| free)
    }

    fn step(&mut self, sight: &Sight<'_>, life: LifeId, missing: &[Range], steps: &mut Vec<Step>) {
        let Sight { now, parent, neighbours, links, config, .. } = *sight;
        let first = missing[0];
        let proven = sight.sources.life(life).is_some_and(|it| it.held.end() >= first.1);
        let lag = self.lag.learned(config);
        let target = self.choose(sight, life, missing);
        let given_up = self.is_dropped_by_all(sight, life, first);
        let beyond_hope = self.is_beyond_hope(sight, life, first);
        if given_up || beyond_hope {
            let mut lost = self.lost_range(life, first);
            if given_up {
                let dropped = neighbours.iter().filter(|it| self.has_dropped(it, life, first));
                let below = dropped.filter_map(|node| self.dropped.get(&(*node, life))).min();
                lost.1 = below.map_or(lost.1, |below| lost.1.min(*below));
            }
            let want = self.wants.get_mut(&life).expect("due");
            want.since = now;
            want.deadline = now;
            steps.push(Step::Lost(life, lost, given_up));
            return;
        }
        let want = self.wants.get_mut(&life).expect("due");
        let Some(target) = target else {
            // Everybody was asked: begin again, more slowly.
            want.tried.clear();
            want.pulls = want.pulls.saturating_add(1);
            want.deadline = now + backoff(config.pull_timeout, want.pulls);
            want.rounds = want.rounds.saturating_add(1);
            return;
        };
        // Later batches are here, and the first that was asked did not help.
        if want.told.is_none() && proven && want.pulls > 0 {
            want.told = Some(first);
            steps.push(Step::Gap(life, first));
        }
        let flows = self.lag.pushed_at(&life).is_some_and(|at| now.since(at) < lag * 2);
        // A second miss, be it that the first was helped at once by somebody else. Of lives that the
        // tree never brought nothing is to be had from a parent's silence.
        let elsewhere = parent.is_some_and(|it| it != target) && self.lag.pushed_at(&life).is_some();
        if let Some(parent) = parent.filter(|_| elsewhere && !flows) {
            steps.push(self.misses.on_miss(sight, parent, target));
        }
        let ranges = ask(self.known.get(&target).and_then(|it| it.get(&life)), missing, config.pull_batches);
        want.pulls = want.pulls.saturating_add(1);
        let patience = answer_within(links, &target, config);
        want.deadline = now + backoff(patience, want.slow);
        if want.first != missing[0].0 {
            want.lacking.clear();
        }
        want.first = missing[0].0;
        want.asked = Some(Asked { node: target, ranges: ranges.clone(), at: now });
        *self.unended.entry((target, life)).or_default() += 1;
        steps.push(Step::Pull(target, life, ranges));
    }

    /// Who is known to have it, nearest first, then the parent, then anybody.
    fn choose(&self, sight: &Sight<'_>, life: LifeId, missing: &[Range]) -> Option<NodeId> {
        let Sight { now, parent, neighbours, links, .. } = *sight;
        let tried = self.wants.get(&life).map(|it| &it.tried);
        let open = |node: &&NodeId| !tried.is_some_and(|it| it.contains(*node)) && links.connected(node);
        let rank = |node: &NodeId| {
            let has = self.covers(node, life, missing);
            let quiet = links.is_quiet(now, node);
            // Who has it, the nearest; else who should get it.
            let rtt = links.rtt(node).unwrap_or(Duration::MAX);
            (quiet, !has, !has && parent != Some(*node), rtt, *node)
        };
        neighbours.iter().filter(open).min_by_key(|node| rank(node)).copied()
    }

    /// Whether a neighbour says that it holds some of this, and has not told that it no longer
    /// does: what was given up or dropped counts as held in frontiers.
    fn covers(&self, node: &NodeId, life: LifeId, missing: &[Range]) -> bool {
        let known = self.known.get(node).and_then(|it| it.get(&life));
        let dropped = self.dropped.get(&(*node, life)).copied().unwrap_or(0);
        known.is_some_and(|held| held.intersect(missing).iter().any(|range| range.1 > dropped))
    }

    /// What goes beyond the source's own word is believed as long as it may be shown.
    fn anybody_has(&self, life: LifeId, first: Range, named_end: Option<Seq>) -> bool {
        let is_hearsay = named_end.is_some_and(|end| first.0 >= end);
        let believed = |node: &&NodeId| !is_hearsay || !self.claims.is_void(node, life);
        self.known.keys().filter(believed).any(|node| self.covers(node, life, &[first]))
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.wants.values().map(|want| want.deadline).min()
    }

    pub(crate) fn open(&self) -> usize {
        self.wants.len()
    }
}

/// When a neighbour should have answered a pull.
fn answer_within(links: &Links, node: &NodeId, config: &Config) -> Duration {
    links.rtt(node).map_or(config.pull_timeout, |rtt| rtt.mul_f64(1.25) + config.pull_timeout / 4)
}

/// What to ask a neighbour for: what it is known to have; of one that we know nothing of,
/// the first of all that is missing.
fn ask(known: Option<&Ranges>, missing: &[Range], most: u64) -> Vec<Range> {
    let likely = known.map(|held| held.intersect(missing)).unwrap_or_default();
    take(if likely.is_empty() { missing } else { &likely }, most)
}

fn names(ranges: &[Range], seq: Seq) -> bool {
    ranges.iter().any(|(from, to)| (*from..*to).contains(&seq))
}

fn all_held(held: &Ranges, ranges: &[Range]) -> bool {
    ranges
        .iter()
        .all(|range| held.missing_below(range.1).iter().all(|gap| gap.1 <= range.0 || gap.0 >= range.1))
}

fn without(held: &Ranges, absent: &[Range]) -> Ranges {
    let mut less = Ranges::default();
    for (from, to) in held.intersect(&[(0, Seq::MAX)]) {
        let mut start = from;
        for &(gone, until) in absent {
            if gone < to && until > start {
                less.insert_range((start, gone.max(start)));
                start = until.min(to).max(start);
            }
        }
        less.insert_range((start, to));
    }
    less
}

fn backoff(base: Duration, attempts: u32) -> Duration {
    base.saturating_mul(1 << attempts.min(5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_taken_out() {
        let mut held = Ranges::below(10);
        held.insert_range((20, 30));
        let less = without(&held, &[(0, 5), (25, 40)]);
        assert_eq!((less.next(), less.above()), (0, &[(5, 10), (20, 25)][..]));
    }

    #[test]
    fn an_answer_is_complete_when_all_its_ranges_are_held() {
        let mut held = Ranges::below(4);
        held.insert_range((6, 8));
        assert!(all_held(&held, &[(0, 4), (6, 7)]));
        assert!(!all_held(&held, &[(3, 7)]));
    }
}
