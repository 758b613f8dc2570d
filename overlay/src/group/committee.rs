//! Who should be in the committee of a total order.
//!
//! It grows from the founder to three and to five as members serve that can replace each other, and who has left
//! or failed is replaced while a majority is there. Only rosters whose majority is live are proposed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Group;
use super::ctx::Ctx;
use super::order::total::seats::{self, Candidate};
use super::order::total::{Delegate, Total};
use crate::config::Config;
use crate::coordinate::Place;
use crate::descriptor::CommitteePolicy;
use crate::id::{BatchId, NodeId};
use crate::io::{Event, MemberState, OrderView, Stall};
use crate::wire::record::Standing;

/// What waits for its place for so long is told. Longer than a leader takes to be replaced. Guess.
const STALLED_AFTER: Duration = Duration::from_secs(3);
/// Between looks at whether another committee would be better. Guess.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A committee that is whole keeps its seats for so long times the number of its epoch, up to so many times, whatever
/// places others have: coordinates take about a dozen seconds at first, and whoever does not come to lead by a move
/// does not cause moves without end. Guess.
const MOVE_AFTER: Duration = Duration::from_secs(15);
const SLOWEST: u32 = 240;
/// Who serves tells of another place if it has moved by so many half milliseconds, at most so often. Guess.
const MOVED: u32 = 20;
const TELL_PLACE_EVERY: Duration = Duration::from_secs(60);

impl Group {
    /// Whether this node says that it serves, and from where.
    pub(super) fn service(&self, ctx: &Ctx<'_>) -> Option<Place> {
        let long = ctx.config.serve_after.is_some_and(|after| ctx.now.since(self.entered) >= after);
        // Who has a seat says so at once, unless it does not know what it promised there.
        let serves = |it: &Total| it.delegate.as_ref().map_or(long, |it| !it.is_mute());
        let serves = self.total.as_deref().is_some_and(serves) && self.is_eligible(&ctx.me());
        serves.then(|| ctx.links.here())
    }

    fn is_eligible(&self, node: &NodeId) -> bool {
        match &self.descriptor.committee {
            CommitteePolicy::Any => true,
            CommitteePolicy::Named(named) => named.contains(node) || self.descriptor.founder == Some(*node),
        }
    }

    /// Says so, once it does; and where it is, once it knows, or has moved.
    pub(super) fn poll_service(&mut self, ctx: &mut Ctx<'_>) {
        let Some(total) = &self.total else { return };
        let (told, here) = (self.roster.own().serves, self.service(ctx));
        let moved = match (told, here) {
            (Some(told), Some(here)) if here.is_precise() => {
                let first = !told.is_located();
                first || (told.is_away(&here, MOVED) && ctx.now >= total.place_told + TELL_PLACE_EVERY)
            }
            _ => told.is_some() != here.is_some(),
        };
        if moved && !self.is_over() {
            self.restate_at_least(ctx, 0, Standing::Online);
            if let Some(total) = &mut self.total {
                total.place_told = ctx.now;
            }
        }
    }

    /// What people are told of the order.
    pub(super) fn order_view(&self) -> Option<OrderView> {
        let total = self.total.as_ref()?;
        let (epoch, committee) = total.epoch().map_or((0, Vec::new()), |(epoch, it)| (epoch, it.to_vec()));
        let leader = total.delegate.as_ref().and_then(Delegate::leader);
        let (index, tentative) = (total.ledger.index(), total.ledger.pooled());
        let digest = self.sources.life((total.source(), epoch)).and_then(|it| it.head);
        Some(OrderView { epoch, committee, leader, index, digest, tentative, stalled: total.stalled })
    }

    /// Says when batches wait for their place for long, and when they no longer do.
    pub(super) fn watch_order(&mut self, ctx: &mut Ctx<'_>) {
        let Some(total) = &self.total else { return };
        let waits = ctx.now.since(total.moved) >= STALLED_AFTER && total.ledger.pooled() > 0;
        let reason = waits.then(|| self.stall(ctx));
        let (group, was) = (self.id, total.stalled);
        match reason {
            Some(reason) if was != Some(reason) => ctx.event(Event::OrderStalled { group, reason }),
            None if was.is_some() => ctx.event(Event::OrderResumed { group }),
            _ => {}
        }
        self.total.as_mut().expect("looked at above").stalled = reason;
    }

    fn stall(&self, ctx: &Ctx<'_>) -> Stall {
        let Some(total) = &self.total else { return Stall::Unfounded };
        let Some((_, roster)) = total.epoch() else { return Stall::Unfounded };
        let online = |it: &NodeId| {
            *it == ctx.me() || self.roster.get(it).is_some_and(|it| it.state() == MemberState::Online)
        };
        let live = roster.iter().filter(|it| online(it)).count();
        if total.delegate.as_ref().is_some_and(Delegate::is_mute) {
            Stall::Disk
        } else if live * 2 <= roster.len() {
            Stall::NoMajority
        } else if total.ledger.waiting() > 0 {
            Stall::Missing
        } else {
            Stall::Slow
        }
    }

    /// Whether so much waits for its place that no more is taken in but what is to get one now.
    pub(super) fn is_pool_full(&self, config: &Config) -> bool {
        self.total.as_ref().is_some_and(|it| it.ledger.pooled_bytes() >= config.pending_bytes)
    }

    /// Whether a decided cut waits for a batch, or one that this node is asked to accept: without it what fills the
    /// pool would never get its place.
    pub(super) fn is_to_settle(&self, batch: &BatchId) -> bool {
        let Some(total) = &self.total else { return false };
        self.is_order(&batch.source)
            || total.ledger.needs(batch)
            || total
                .lacks
                .iter()
                .any(|it| (it.source, it.life) == (batch.source, batch.life) && batch.seq < it.next)
    }

    /// The committee that this leader would rather have, if there is one.
    pub(super) fn better_committee(&mut self, ctx: &Ctx<'_>) -> Option<Vec<NodeId>> {
        let total = self.total.as_mut()?;
        if total.next_look > ctx.now {
            return None;
        }
        total.next_look = ctx.now + LOOK_EVERY;
        let (_, roster) = total.epoch()?;
        // Who comes back says in its first words that it serves, or soon after.
        let serves = |it: &&NodeId| self.roster.get(it).is_none_or(|it| it.record.serves.is_some());
        let lapsed: BTreeSet<NodeId> = roster.iter().filter(|it| !serves(it)).copied().collect();
        let was_lapsed = std::mem::replace(&mut total.lapsed, lapsed);
        let (_, roster) = self.total.as_ref()?.epoch()?;
        let stays = |node: &&NodeId| self.keeps_seat(ctx, node, was_lapsed.contains(*node));
        let kept: Vec<NodeId> = roster.iter().filter(stays).copied().collect();
        let others = self.roster.iter().filter(|(node, member)| {
            let serves = member.record.serves.is_some() && self.runs(ctx, node);
            serves && !kept.contains(node) && !self.is_forgetful(node) && self.is_eligible(node)
        });
        let others: Vec<NodeId> = others.map(|(node, _)| *node).collect();
        let size = odd((kept.len() + others.len()).min(ctx.config.max_committee)).max(1);
        let is_whole = kept.len() == roster.len() && size == roster.len();
        if let Some(placed) = self.well_placed(ctx, (&kept, &others), size, is_whole) {
            return Some(placed);
        }
        let mut next = kept;
        next.extend(others.into_iter().take(size.saturating_sub(next.len())));
        next.sort_by_key(|it| (*it != ctx.me(), !self.runs(ctx, it)));
        next.truncate(size);
        let live = next.iter().filter(|it| self.runs(ctx, it)).count();
        let same = next.len() == roster.len() && next.iter().all(|it| roster.contains(it));
        (!same && next.contains(&ctx.me()) && live * 2 > next.len()).then_some(next)
    }

    fn runs(&self, ctx: &Ctx<'_>, node: &NodeId) -> bool {
        *node == ctx.me() || self.roster.get(node).is_some_and(|it| it.state() == MemberState::Online)
    }

    fn is_forgetful(&self, node: &NodeId) -> bool {
        self.total.as_ref().is_some_and(|it| it.is_forgetful(node))
    }

    /// Whether who has a seat is to keep it, unless there is a better place.
    fn keeps_seat(&self, ctx: &Ctx<'_>, node: &NodeId, was_lapsed: bool) -> bool {
        let member = self.roster.get(node);
        let is_there =
            member.is_some_and(|it| matches!(it.state(), MemberState::Online | MemberState::Offline));
        let serves = !was_lapsed || member.is_none_or(|it| it.record.serves.is_some());
        *node == ctx.me() || (is_there && serves && !self.is_forgetful(node))
    }

    /// The committee at the best places, if it is to be another anyway, or is that much better. `None` also while
    /// too few are known to say where they are.
    fn well_placed(
        &self,
        ctx: &Ctx<'_>,
        (kept, others): (&[NodeId], &[NodeId]),
        size: usize,
        is_whole: bool,
    ) -> Option<Vec<NodeId>> {
        let total = self.total.as_ref()?;
        let (epoch, roster) = total.epoch()?;
        let times = u32::try_from(epoch).unwrap_or(SLOWEST).min(SLOWEST);
        let rests = ctx.now.since(total.seated) < MOVE_AFTER * times;
        // Alone, the founder keeps its seat; an epoch has its cost.
        if (is_whole && rests) || (size < 3 && ctx.config.max_committee > 1) {
            return None;
        }
        let place = |node: &NodeId| match *node == ctx.me() {
            true => Some(ctx.links.here()),
            false => self.roster.get(node)?.record.serves,
        };
        let candidate = |node: &NodeId| {
            let place = place(node).filter(Place::is_located)?;
            self.runs(ctx, node).then_some(Candidate { node: *node, place })
        };
        let all: Vec<Candidate> = kept.iter().chain(others).filter_map(candidate).collect();
        let placed = self.roster.iter().filter_map(|(node, _)| place(node).filter(Place::is_located));
        let members: Vec<Place> = placed.collect();
        let better = seats::best(&all, size, &members)?;
        let leader = ctx.me();
        let mut now: Vec<NodeId> = roster.to_vec();
        now.sort_by_key(|it| *it != leader);
        (!is_whole || seats::is_worth(&better, &now, &all, &members)).then_some(better)
    }
}

/// The largest odd number up to this one.
fn odd(number: usize) -> usize {
    number - usize::from(number.is_multiple_of(2) && number > 0)
}
