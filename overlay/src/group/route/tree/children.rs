//! Who is below: how many, where, and who may come.

use super::{Act, Child, MAX_SIZE, Sight, Tree};
use crate::config::Config;
use crate::coordinate::{Place, middle};
use crate::id::NodeId;
use crate::wire::frame::{Graft, GraftReply};

impl Tree {
    /// Nodes in our subtree, ourselves among them.
    pub(super) fn size(&self) -> u32 {
        self.children.values().fold(1, |sum: u32, child| sum.saturating_add(child.size))
    }

    /// The middle of our subtree.
    pub(super) fn centre(&self) -> Place {
        let below = self.children.values().map(|child| (child.centre, child.size));
        middle(below.chain([(self.place, 1)]))
    }

    /// Children that we would still take.
    pub(super) fn free(&self, config: &Config) -> usize {
        let staying = self.children.values().filter(|child| !child.leaving).count();
        config.max_children.saturating_sub(staying)
    }

    /// Whether there is room for another child.
    pub(crate) fn has_free(&self, config: &Config) -> bool {
        self.free(config) > 0
    }

    /// Tree neighbours, and how many nodes lie behind each, as they say.
    pub(crate) fn weights(&self) -> Vec<(NodeId, u32)> {
        let above = self.parent.map(|parent| {
            let all = self.heard.get(&parent).map_or(0, |heard| heard.advert.size);
            (parent, all.min(MAX_SIZE).saturating_sub(self.size()).max(1))
        });
        above.into_iter().chain(self.children.iter().map(|(node, child)| (*node, child.size))).collect()
    }

    pub(crate) fn children_len(&self) -> usize {
        self.children.len()
    }

    pub(crate) fn handle_graft(
        &mut self,
        sight: &Sight<'_>,
        from: NodeId,
        graft: &Graft,
        acts: &mut Vec<Act>,
    ) {
        let known = self.children.get(&from).is_some_and(|child| !child.leaving);
        let crossing = self.grafting.as_ref().is_some_and(|it| it.to == from);
        let above = self.parent == Some(from) || self.path_has(&from);
        let full = !known && !self.has_free(sight.config);
        let stranger = !self.root.matches(&graft.root, graft.epoch) && !known;
        let refused = above || stranger || (crossing && self.me > from);
        let gives_way = if full && !refused { self.gives_way(sight, &from, graft) } else { None };
        if let Some(child) = gives_way {
            self.send_down(sight.now, &child, from, acts);
        } else if full || refused {
            self.children.remove(&from);
            let candidates = if full { self.children.keys().copied().take(3).collect() } else { Vec::new() };
            acts.push(Act::GraftReply(from, GraftReply { accepted: false, candidates }));
            return;
        }
        if crossing {
            self.grafting = None;
        }
        self.children.insert(
            from,
            Child {
                heard: sight.now,
                size: graft.size.clamp(1, MAX_SIZE),
                centre: graft.centre,
                leaving: false,
            },
        );
        acts.push(Act::GraftReply(from, GraftReply { accepted: true, candidates: Vec::new() }));
        if !known {
            self.root.on_child(sight.now, from);
            acts.push(Act::Edge(from));
        }
        self.reconsider(sight, acts);
    }
}
