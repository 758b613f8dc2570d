//! Whom a batch is forwarded to: the one question that a route answers.
//!
//! Along trees, tree neighbours pass it on. By unicast the source sends it to every member itself and
//! nobody passes anything on: what a network without multicast does if nobody builds one, and what
//! trees are measured against. Everything else is common to both: who misses something hears of it
//! from lazy links and pulls it.

use super::Group;
use super::ctx::Ctx;
use super::flow::Edge;
use crate::descriptor::Route;
use crate::id::NodeId;

/// Members that everybody in a unicast group knows, at most: all must agree on that number.
pub(super) const AUDIENCE: usize = 512;

impl Group {
    pub(super) fn is_unicast(&self) -> bool {
        self.descriptor.route == Route::Unicast
    }

    /// Whom a batch goes to that came from there, or that is our own; by the route unless `pulled`.
    pub(super) fn onward(&self, ctx: &mut Ctx<'_>, from: Option<&NodeId>, pulled: bool) -> Vec<NodeId> {
        let mut all = match from {
            _ if !self.is_unicast() => self.tree.onward(from, pulled),
            None => self.audience(ctx),
            Some(_) => Vec::new(),
        };
        // Nobody delivers before those that give it its place; of them, who leads has the first seat.
        if let Some((_, roster)) = self.total.as_ref().and_then(|it| it.epoch()) {
            all.sort_by_key(|it| roster.iter().position(|member| member == it).unwrap_or(usize::MAX));
        }
        all
    }

    /// Whether a batch of this source that comes from there is on its way by the route.
    pub(super) fn is_pushed(&self, from: &NodeId, source: &NodeId) -> bool {
        if self.is_unicast() { from == source } else { self.tree.is_edge(from) }
    }

    /// Whom this node pushes to, and how many members lie behind each, as they say.
    pub(super) fn outlets(&self, ctx: &Ctx<'_>) -> Vec<Edge> {
        if self.is_unicast() {
            let edge = |node| Edge { node, weight: 1, feeds_cores: false, below: true };
            self.linked(ctx).into_iter().map(edge).collect()
        } else {
            self.tree.weights()
        }
    }

    /// All members with a link to us; those without are dialled. In a group of more than there may be
    /// links the others hear of it from these.
    fn audience(&self, ctx: &mut Ctx<'_>) -> Vec<NodeId> {
        for node in self.roster.online() {
            if ctx.links.shares(&node, &self.id) {
                ctx.links.touch(ctx.now, &node);
            } else if !ctx.links.connected(&node) {
                ctx.dial(node, self.roster.addresses(&node));
            }
        }
        self.linked(ctx)
    }

    fn linked(&self, ctx: &Ctx<'_>) -> Vec<NodeId> {
        let mut all = self.roster.online();
        all.extend(self.views.active());
        all.into_iter().filter(|it| ctx.links.shares(it, &self.id)).collect()
    }
}
