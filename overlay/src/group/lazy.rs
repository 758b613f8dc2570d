//! Lazy links: whom we ask for news of what they hold, and who asked us.
//!
//! The receiver chooses (DESIGN.md §4): neighbours from which the root can be reached without its
//! parent, as they go on hearing when the parent does not, and one other. What each of them tells is
//! only insurance against the tree, so three are enough; anti-entropy finds what all three miss.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Group;
use super::ctx::Ctx;
use super::route::tree::Sight;
use crate::id::NodeId;
use crate::time::Time;
use crate::wire::frame::{Frame, Listen};
use crate::wire::frontier::Purpose;

/// Lazy links of a node, and those among them that are backups for the parent (DESIGN.md §4).
const LINKS: usize = 3;
const BACKUPS: usize = 2;
/// Tree neighbours that lose what they send and are listened to, too, at most.
const LOSSY: usize = 8;
/// Neighbours and places change in bursts: the choice waits for so long.
const SHORTLY: Duration = Duration::from_millis(100);
/// Backups are ranked anew without anybody coming or going, too.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// The lazy links of one group.
#[derive(Debug, Default)]
pub(super) struct Lazy {
    /// Whom we asked.
    asked: BTreeSet<NodeId>,
    /// Who asked us.
    listeners: BTreeSet<NodeId>,
    next_look: Time,
}

impl Lazy {
    /// Who wants our news.
    pub(super) fn has_listener(&self, node: &NodeId) -> bool {
        self.listeners.contains(node)
    }

    /// Neighbours or places in the tree have changed.
    pub(super) fn on_change(&mut self, now: Time) {
        self.look_in(now, SHORTLY);
    }

    /// Chooses anew within so long.
    pub(super) fn look_in(&mut self, now: Time, span: Duration) {
        self.next_look = self.next_look.min(now + span);
    }

    /// A node is no neighbour any more, or begins anew as one.
    pub(super) fn forget(&mut self, node: &NodeId) {
        self.asked.remove(node);
        self.listeners.remove(node);
    }

    pub(super) fn deadline(&self) -> Time {
        self.next_look
    }

    /// Whom to ask of these, those asked before rather than others.
    fn choose(&self, me: &NodeId, backups: &[NodeId], others: &[NodeId]) -> BTreeSet<NodeId> {
        let rank = |node: &&NodeId| (!self.asked.contains(*node), me.tag() ^ node.tag());
        let mut backups: Vec<_> = backups.iter().enumerate().collect();
        backups.sort_by_key(|(at, node)| (!self.asked.contains(*node), *at));
        let mut chosen: BTreeSet<_> = backups.into_iter().take(BACKUPS).map(|(_, node)| *node).collect();
        let mut others: Vec<_> = others.iter().filter(|it| !chosen.contains(*it)).collect();
        others.sort_by_key(rank);
        chosen.extend(others.into_iter().take(LINKS - chosen.len()));
        chosen
    }
}

impl Group {
    pub(super) fn poll_lazy(&mut self, ctx: &mut Ctx<'_>) {
        if self.lazy.next_look > ctx.now {
            return;
        }
        self.lazy.next_look = ctx.now + LOOK_EVERY;
        let mut others = self.views.active();
        others.retain(|it| !self.tree.is_edge(it) && !ctx.links.is_quiet(ctx.now, it));
        let sight = Sight { now: ctx.now, links: ctx.links, config: ctx.config };
        let mut backups = self.tree.backups(&sight);
        backups.retain(|it| others.contains(it));
        let mut chosen = self.lazy.choose(&ctx.me(), &backups, &others);
        // What the tree itself loses is best known to who sent it.
        chosen.extend(self.repair.lag.lossy(ctx.now).filter(|it| self.tree.is_edge(it)).take(LOSSY));
        let before = std::mem::replace(&mut self.lazy.asked, chosen.clone());
        for node in chosen.difference(&before) {
            ctx.send(node, &Frame::Listen(Listen { on: true }));
        }
        for node in before.difference(&chosen) {
            ctx.send(node, &Frame::Listen(Listen { on: false }));
        }
    }

    pub(super) fn handle_listen(&mut self, ctx: &mut Ctx<'_>, from: NodeId, listen: &Listen) {
        if !listen.on {
            self.lazy.listeners.remove(&from);
        } else if self.lazy.listeners.insert(from) {
            self.tell_all(ctx, &from, Purpose::News);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_are_backups_and_whoever_was_asked_stays() {
        let node = |it| NodeId::from_bytes([it; 32]);
        let all: Vec<_> = (1..=8).map(node).collect();
        let mut lazy = Lazy::default();
        let first = lazy.choose(&node(9), &all[..3], &all);
        assert_eq!(first.len(), LINKS);
        assert!(first.contains(&all[0]) && first.contains(&all[1]), "the nearest backups");
        lazy.asked.clone_from(&first);
        let ranked_anew: Vec<_> = all[..3].iter().rev().copied().collect();
        assert_eq!(lazy.choose(&node(9), &ranked_anew, &all), first);
        assert_eq!(lazy.choose(&node(9), &[], &all[..2]).len(), 2, "there are no more");
    }
}
