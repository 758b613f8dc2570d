//! Anti-entropy among very many sources: two members compare hashes from the top down, and tell each other
//! their frontiers where few sources are left (`sources/hashes.rs`).
//!
//! No step needs to remember the one before, and each goes further down: a comparison ends whatever moves
//! meanwhile, and whatever the other says. What that may cost is bounded by [`Config::compare_bytes`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::ctx::Ctx;
use super::sources::LifeId;
use super::{Group, Phase};
use crate::config::Config;
use crate::id::NodeId;
use crate::io::Lane;
use crate::time::Time;
use crate::wire::compare::{Branch, Compare, MAX_ASKED, MAX_BRANCHES, Prefix};
use crate::wire::frame::Frame;
use crate::wire::frontier::Purpose;

/// After a step a comparison is taken for under way for so long. Guess: most round trips.
const UNDER_WAY: Duration = Duration::from_millis(250);
/// What a branch, an entry with its definition and a look at a source cost, of the bytes that one may cost us. The
/// last is a guess: what takes as long as to write so much.
const BRANCH: usize = 144;
const ENTRY: usize = 90;
const LOOK: usize = 8;

/// What is under way with one neighbour.
#[derive(Debug, Default)]
struct Walk {
    /// When we began one.
    began: Option<Time>,
    stepped: Option<Time>,
    /// Another is to follow then, of this purpose.
    again: Option<(Time, Purpose)>,
    /// What was spent on its questions since then.
    since: Time,
    spent: usize,
}

/// The comparisons with each neighbour.
#[derive(Debug, Default)]
pub(super) struct Walks(BTreeMap<NodeId, Walk>);

impl Walks {
    pub(super) fn forget(&mut self, node: &NodeId) {
        self.0.remove(node);
    }

    fn is_under_way(&self, now: Time, node: &NodeId) -> bool {
        self.0.get(node).and_then(|it| it.stepped).is_some_and(|at| now.since(at) < UNDER_WAY)
    }

    /// Whether we had begun one that the other cannot have heard of when it sent what has come now.
    fn crosses(&self, now: Time, node: &NodeId, rtt: Option<Duration>) -> bool {
        let began = self.0.get(node).and_then(|it| it.began);
        began.is_some_and(|at| now.since(at) < rtt.unwrap_or(UNDER_WAY))
    }

    /// Another is to follow once this one is over.
    fn put_off(&mut self, now: Time, node: NodeId, purpose: Purpose) {
        let again = &mut self.0.entry(node).or_default().again;
        let told = again.is_some_and(|it| it.1 == Purpose::Tell) || purpose == Purpose::Tell;
        *again = Some((now + UNDER_WAY, if told { Purpose::Tell } else { Purpose::News }));
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.0.values().filter_map(|it| it.again).map(|it| it.0).min()
    }

    fn take_due(&mut self, now: Time) -> Vec<(NodeId, Purpose)> {
        let due =
            self.0.iter_mut().filter_map(|(node, it)| Some((*node, it.again.take_if(|it| it.0 <= now)?.1)));
        due.collect()
    }

    fn on_begin(&mut self, now: Time, node: NodeId) {
        let walk = self.0.entry(node).or_default();
        (walk.began, walk.stepped) = (Some(now), Some(now));
    }

    fn on_step(&mut self, now: Time, node: NodeId) {
        self.0.entry(node).or_default().stepped = Some(now);
    }

    /// Spends so much on a neighbour's questions, if there is so much left in this round.
    fn spend(&mut self, now: Time, node: NodeId, cost: usize, config: &Config) -> bool {
        let walk = self.0.entry(node).or_default();
        if now.since(walk.since) >= config.anti_entropy_every {
            (walk.since, walk.spent) = (now, 0);
        }
        let has_room = walk.spent < config.compare_bytes;
        walk.spent += cost;
        has_room
    }
}

/// What a comparison has come to.
#[derive(Debug, Default)]
struct Found {
    lives: BTreeSet<LifeId>,
    branches: Vec<Branch>,
    asked: Vec<Prefix>,
}

impl Group {
    /// Whether there are too many sources to tell the frontiers of all.
    pub(super) fn has_many_sources(&self, config: &Config) -> bool {
        self.sources.len() > config.exact_sources
    }

    /// Tells a neighbour what hashes do not say, and begins to compare them.
    pub(super) fn compare(&mut self, ctx: &mut Ctx<'_>, node: &NodeId, purpose: Purpose) {
        let mut lives: BTreeSet<_> = self.lives_of(node).chain(self.lives_of(&ctx.me())).collect();
        if purpose == Purpose::Tell {
            lives.extend(self.sources.disowned());
        }
        let mut found = Found { lives, ..Found::default() };
        if self.walks.is_under_way(ctx.now, node) {
            // It finds what differs by now, but says nothing of what comes meanwhile.
            self.walks.put_off(ctx.now, *node, purpose);
        } else {
            self.walks.on_begin(ctx.now, *node);
            found.branches.push(self.branch(Prefix::ROOT));
        }
        self.tell_found(ctx, node, found, purpose);
    }

    pub(super) fn poll_compare(&mut self, ctx: &mut Ctx<'_>) {
        if self.walks.deadline().is_none_or(|at| at > ctx.now) {
            return;
        }
        for (node, purpose) in self.walks.take_due(ctx.now) {
            self.compare(ctx, &node, purpose);
        }
    }

    /// Hashes differ: compares further down, unless that is under way.
    pub(super) fn maybe_compare(&mut self, ctx: &mut Ctx<'_>, node: &NodeId) {
        if !self.walks.is_under_way(ctx.now, node) {
            self.compare(ctx, node, Purpose::News);
        }
    }

    fn lives_of(&self, source: &NodeId) -> impl Iterator<Item = LifeId> {
        let lives = self.sources.get(source).filter(|it| !it.forked).map(|it| it.lives.keys());
        let source = *source;
        lives.into_iter().flatten().map(move |life| (source, *life))
    }

    fn branch(&mut self, at: Prefix) -> Branch {
        Branch::new(at, at.parts().map(|part| self.sources.hash(part).hash))
    }

    pub(super) fn handle_compare(&mut self, ctx: &mut Ctx<'_>, from: NodeId, compare: &Compare) {
        let Compare { purpose, branches, asked } = compare;
        if branches.len() > MAX_BRANCHES || asked.len() > MAX_ASKED || matches!(self.phase, Phase::Fresh) {
            return;
        }
        // Both have begun at once: one comparison will do, that of the lower id.
        let begins = branches.iter().any(|it| it.at == Prefix::ROOT);
        let rtt = ctx.links.rtt(&from);
        if begins && ctx.me() < from && self.walks.crosses(ctx.now, &from, rtt) {
            return;
        }
        self.walks.on_step(ctx.now, from);
        let mut found = Found::default();
        self.look_into(ctx, &from, branches, &mut found);
        self.look_up_asked(ctx, &from, asked, &mut found);
        self.tell_found(ctx, &from, found, Purpose::from_code(*purpose));
    }

    /// Finds the parts that differ. If there is no room for all it is not always the same that are left out.
    fn look_into(&mut self, ctx: &mut Ctx<'_>, from: &NodeId, branches: &[Branch], found: &mut Found) {
        for branch in turned(ctx, branches) {
            if !self.has_room_for(ctx, from, BRANCH) {
                return;
            }
            for (part, theirs) in branch.parts() {
                let ours = self.sources.hash(part);
                if ours.hash == theirs {
                    continue;
                }
                if ours.is_few {
                    let lives = self.sources.under(part);
                    let lives = lives.flat_map(|(node, it)| it.lives.keys().map(move |life| (node, *life)));
                    let before = found.lives.len();
                    found.lives.extend(lives);
                    found.asked.push(part);
                    self.has_room_for(ctx, from, ENTRY * (found.lives.len() - before));
                } else if self.has_room_for(ctx, from, BRANCH) {
                    let further = self.branch(part);
                    found.branches.push(further);
                }
            }
        }
    }

    /// Finds what a neighbour does not hold as we do, of what it has told all that it holds.
    fn look_up_asked(&mut self, ctx: &mut Ctx<'_>, from: &NodeId, asked: &[Prefix], found: &mut Found) {
        let sound = asked.iter().filter(|it| it.is_sound()).copied().collect::<BTreeSet<_>>();
        let sound: Vec<_> = sound.into_iter().collect();
        for at in turned(ctx, &sound) {
            for (node, source) in self.sources.under(*at) {
                let differs = source.lives.iter().any(|(life, it)| {
                    it.held.end() > 0 && !self.repair.holds_just(from, (node, *life), &it.held)
                });
                let lives = source.lives.keys().map(|life| (node, *life)).filter(|_| differs);
                let before = found.lives.len();
                found.lives.extend(lives);
                let cost = LOOK + ENTRY * (found.lives.len() - before);
                if !self.walks.spend(ctx.now, *from, cost, ctx.config) {
                    return;
                }
            }
        }
    }

    /// Answers an exact exchange: what the neighbour, which has told all, does not hold as we do.
    pub(super) fn tell_differing(&mut self, ctx: &mut Ctx<'_>, node: &NodeId) {
        let mut found = Found::default();
        found.lives.extend(self.lives_of(node));
        self.look_up_asked(ctx, node, &[Prefix::ROOT], &mut found);
        self.tell_found(ctx, node, found, Purpose::News);
    }

    /// Whether more may be spent on this neighbour, and its link takes it.
    fn has_room_for(&mut self, ctx: &Ctx<'_>, node: &NodeId, cost: usize) -> bool {
        let queued = ctx.links.queued(node, Lane::Live);
        queued < ctx.config.link_high_water && self.walks.spend(ctx.now, *node, cost, ctx.config)
    }

    fn tell_found(&mut self, ctx: &mut Ctx<'_>, node: &NodeId, found: Found, purpose: Purpose) {
        let Found { lives, branches, mut asked } = found;
        let purpose = if purpose == Purpose::Tell { Purpose::Tell } else { Purpose::News };
        // First, so that who is asked knows what we hold.
        self.tell_lives(ctx, node, lives.into_iter().collect(), purpose);
        let mut branches = branches.into_iter().peekable();
        while branches.peek().is_some() || !asked.is_empty() {
            let piece = branches.by_ref().take(MAX_BRANCHES).collect();
            let rest = asked.split_off(asked.len().min(MAX_ASKED));
            let compare = Compare { purpose: purpose.code(), branches: piece, asked };
            ctx.send(node, &Frame::Compare(compare));
            asked = rest;
        }
    }
}

/// All of them, beginning anywhere.
fn turned<'a, T>(ctx: &mut Ctx<'_>, items: &'a [T]) -> impl Iterator<Item = &'a T> + use<'a, T> {
    let first = if items.len() > 1 { ctx.rng.below(items.len()) } else { 0 };
    let (end, begin) = items.split_at(first);
    begin.iter().chain(end)
}
