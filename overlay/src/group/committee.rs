//! Who should be in the committee of a total order.
//!
//! It grows from the founder to three and to five as members serve that can replace each other, and who has left
//! or failed is replaced while a majority is there. Only rosters whose majority is live are proposed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Group;
use super::ctx::Ctx;
use super::order::total::{Delegate, Total};
use crate::config::Config;
use crate::descriptor::CommitteePolicy;
use crate::id::{BatchId, NodeId};
use crate::io::{Event, MemberState, OrderView, Stall};
use crate::wire::record::Standing;

/// Committees larger than this gain little (DESIGN.md §5: 1 → 3 → 5).
const LARGEST: usize = 5;
/// What waits for its place for so long is told. Longer than a leader takes to be replaced. Guess.
const STALLED_AFTER: Duration = Duration::from_secs(3);
/// Between looks at whether another committee would be better. Guess.
const LOOK_EVERY: Duration = Duration::from_secs(2);

impl Group {
    /// Whether this node says that it serves.
    pub(super) fn may_serve(&self, ctx: &Ctx<'_>) -> bool {
        let long = ctx.config.serve_after.is_some_and(|after| ctx.now.since(self.entered) >= after);
        // Who has a seat says so at once, unless it does not know what it promised there.
        let serves = |it: &Total| it.delegate.as_ref().map_or(long, |it| !it.is_mute());
        self.total.as_deref().is_some_and(serves) && self.is_eligible(&ctx.me())
    }

    fn is_eligible(&self, node: &NodeId) -> bool {
        match &self.descriptor.committee {
            CommitteePolicy::Any => true,
            CommitteePolicy::Named(named) => named.contains(node) || self.descriptor.founder == Some(*node),
        }
    }

    /// Says so, once it does.
    pub(super) fn poll_service(&mut self, ctx: &mut Ctx<'_>) {
        if self.may_serve(ctx) != self.roster.own().serves && !self.is_over() {
            self.restate_at_least(ctx, 0, Standing::Online);
        }
    }

    /// What people are told of the order.
    pub(super) fn order_view(&self) -> Option<OrderView> {
        let total = self.total.as_ref()?;
        let (epoch, committee) = total.epoch().map_or((0, Vec::new()), |(epoch, it)| (epoch, it.to_vec()));
        let leader = total.delegate.as_ref().and_then(Delegate::leader);
        let (index, tentative) = (total.ledger.index(), total.ledger.pooled());
        Some(OrderView { epoch, committee, leader, index, tentative, stalled: total.stalled })
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

    pub(super) fn is_to_settle(&self, batch: &BatchId) -> bool {
        self.is_order(&batch.source) || self.total.as_ref().is_some_and(|it| it.ledger.needs(batch))
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
        let serves = |it: &&NodeId| self.roster.get(it).is_none_or(|it| it.record.serves);
        let lapsed: BTreeSet<NodeId> = roster.iter().filter(|it| !serves(it)).copied().collect();
        let was_lapsed = std::mem::replace(&mut total.lapsed, lapsed);
        let (_, roster) = self.total.as_ref()?.epoch()?;
        let me = ctx.me();
        let state = |node: &NodeId| self.roster.get(node).map(|it| it.state());
        let runs = |node: &NodeId| *node == me || state(node) == Some(MemberState::Online);
        let forgetful = |node: &NodeId| self.total.as_ref().is_some_and(|it| it.is_forgetful(node));
        let stays = |node: &&NodeId| {
            let is_there = matches!(state(node), Some(MemberState::Online | MemberState::Offline));
            let serves = !was_lapsed.contains(*node) || serves(node);
            **node == me || (is_there && serves && !forgetful(node))
        };
        let mut next: Vec<NodeId> = roster.iter().filter(stays).copied().collect();
        let others = self.roster.iter().filter(|(node, member)| {
            let is_free = !next.contains(node) && !forgetful(node);
            member.record.serves && runs(node) && is_free && self.is_eligible(node)
        });
        let others: Vec<NodeId> = others.map(|(node, _)| *node).collect();
        let size = odd((next.len() + others.len()).min(LARGEST));
        next.extend(others.into_iter().take(size.saturating_sub(next.len())));
        next.sort_by_key(|it| (*it != me, !runs(it)));
        next.truncate(size.max(1));
        let live = next.iter().filter(|it| runs(it)).count();
        let same = next.len() == roster.len() && next.iter().all(|it| roster.contains(it));
        (!same && next.contains(&me) && live * 2 > next.len()).then_some(next)
    }
}

/// The largest odd number up to this one.
fn odd(number: usize) -> usize {
    number - usize::from(number.is_multiple_of(2) && number > 0)
}
