//! Who should be in the committee of a total order.
//!
//! It grows from the founder to three and to five as members serve that can replace each other, and who has left
//! or failed is replaced while a majority is there. Only rosters whose majority is live are proposed.

use std::time::Duration;

use super::Group;
use super::ctx::Ctx;
use crate::descriptor::CommitteePolicy;
use crate::id::NodeId;
use crate::io::MemberState;
use crate::wire::record::Standing;

/// Committees larger than this gain little (DESIGN.md §5: 1 → 3 → 5).
const LARGEST: usize = 5;
/// Between looks at whether another committee would be better. Guess.
const LOOK_EVERY: Duration = Duration::from_secs(2);

impl Group {
    /// Whether this node says that it serves.
    pub(super) fn may_serve(&self, ctx: &Ctx<'_>) -> bool {
        let long = ctx.config.serve_after.is_some_and(|after| ctx.now.since(self.entered) >= after);
        long && self.total.is_some() && self.is_eligible(&ctx.me())
    }

    fn is_eligible(&self, node: &NodeId) -> bool {
        match &self.descriptor.committee {
            CommitteePolicy::Any => true,
            CommitteePolicy::Named(named) => named.contains(node) || self.descriptor.founder == Some(*node),
        }
    }

    /// Says so, once it does.
    pub(super) fn poll_service(&mut self, ctx: &mut Ctx<'_>) {
        if self.may_serve(ctx) && !self.roster.own().serves && !self.is_over() {
            self.restate_at_least(ctx, 0, Standing::Online);
        }
    }

    /// The committee that this leader would rather have, if there is one.
    pub(super) fn better_committee(&mut self, ctx: &Ctx<'_>) -> Option<Vec<NodeId>> {
        let total = self.total.as_mut()?;
        if total.next_look > ctx.now {
            return None;
        }
        total.next_look = ctx.now + LOOK_EVERY;
        let (_, roster) = self.total.as_ref()?.epoch()?;
        let me = ctx.me();
        let state = |node: &NodeId| self.roster.get(node).map(|it| it.state());
        let runs = |node: &NodeId| *node == me || state(node) == Some(MemberState::Online);
        let stays = |node: &&NodeId| {
            **node == me || matches!(state(node), Some(MemberState::Online | MemberState::Offline))
        };
        let mut next: Vec<NodeId> = roster.iter().filter(stays).copied().collect();
        let others = self.roster.iter().filter(|(node, member)| {
            member.record.serves && runs(node) && !next.contains(node) && self.is_eligible(node)
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
