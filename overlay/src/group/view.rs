//! What a group shows of itself.

use super::history::WAITING_PER_FETCH;
use super::membership::views::Views;
use super::{Group, Sight, Tree};
use crate::config::Config;
use crate::id::{BatchId, GroupId, NodeId};
use crate::io::{CollectionView, GroupView, MemberState, MemberView, TrafficView, TreeId, TreeView};
use crate::links::Links;
use crate::time::Time;

impl Group {
    pub(super) fn tree_id(&self) -> TreeId {
        TreeId::Core(self.tree.root())
    }

    /// Members that did not say that they have a batch of ours, those that left aside.
    pub(crate) fn lacking(&self, batch: &BatchId) -> Vec<NodeId> {
        let me = self.roster.own().node;
        let lacks = |node: &NodeId| *node != me && !self.receipts.has(node, batch.life, batch.seq);
        let there = self.roster.iter().filter(|(_, it)| it.state().is_member());
        there.map(|(node, _)| *node).filter(lacks).collect()
    }

    pub(crate) fn trees(&self, now: Time, links: &Links, config: &Config) -> Vec<TreeView> {
        vec![self.tree.view(&Sight { now, links, config })]
    }

    pub(crate) fn view(&self, now: Time, links: &Links, config: &Config, traffic: TrafficView) -> GroupView {
        let member = |(node, member): (&crate::id::NodeId, &super::membership::roster::Member)| MemberView {
            node: *node,
            nick: member.record.nick.clone(),
            state: member.state(),
            addresses: member.record.addresses.clone(),
            neighbour: self.views.is_active(node),
        };
        let mut members: Vec<_> = self.roster.iter().map(member).collect();
        members.extend(self.unknown_victims().map(|node| MemberView {
            node,
            nick: String::new(),
            state: MemberState::Removed,
            addresses: Vec::new(),
            neighbour: false,
        }));
        members.sort_unstable_by_key(|it| it.node);
        GroupView {
            id: self.id,
            descriptor: self.descriptor.clone(),
            ready: self.ready,
            members,
            trees: self.trees(now, links, config),
            delivered: self
                .sources
                .lives()
                .map(|((node, life), state)| (node, life, state.delivered))
                .collect(),
            order: self.order_view(),
            received: self.received,
            duplicates: self.duplicates,
            sent_bytes: traffic,
        }
    }

    pub(crate) fn collections(&self, config: &Config) -> Vec<CollectionView> {
        let cap = |name: &str, len: usize, bytes: usize, cap: usize| CollectionView {
            name: format!("{}/{name}", name_of(&self.id, &self.descriptor.name)),
            len,
            bytes,
            cap,
        };
        let untaken = if config.history { 0 } else { self.untaken.bytes() };
        let published = self.publisher.queued() + untaken;
        vec![
            cap("active_view", self.views.active_len(), 0, Views::most(config)),
            cap("near_candidates", self.near.len(), 0, config.near_candidates),
            cap("passive_view", self.views.passive_len(), 0, config.passive_view),
            cap("roster", self.roster.len(), 0, config.roster + 1),
            cap("suspicions", self.detector.len(), 0, config.roster * config.roster),
            cap("max_sources", self.sources.len(), 0, config.max_sources),
            cap("store_bytes", self.store.len(), self.store.bytes(), self.store_cap(config)),
            cap(
                "pending_bytes",
                0,
                self.store.pending_bytes(),
                config.pending_bytes + crate::wire::MAX_FRAME,
            ),
            cap(
                "publish_queue_bytes",
                self.untaken.len(),
                published,
                config.publish_queue_bytes + crate::wire::MAX_FRAME,
            ),
            cap("max_fetches", self.history.len(), 0, config.max_fetches),
            cap("waiting_pulls", self.history.waiting(), 0, config.max_fetches * WAITING_PER_FETCH),
            cap("askers", self.askers.len(), 0, super::join::MAX_ASKERS),
            cap("earlier_questions", self.early.len(), 0, super::early::MAX_QUESTIONS),
            cap("max_removals", self.removals.len(), 0, config.max_removals),
            cap("fork_proof_bytes", self.proofs.len(), self.proofs.bytes(), config.fork_proof_bytes),
            cap("max_children", self.tree.children_len(), 0, Tree::most_children(config)),
            cap("adverts", self.tree.heard_len(), 0, Views::most(config)),
            cap("wants", self.repair.open(), 0, config.max_sources * config.max_lives),
            cap("flows", self.flow.len(), 0, Views::most(config)),
            cap("causes", self.causes.len() + self.sequencer.waiting(), 0, config.max_sources * 2),
            cap("receipts", self.receipts.len(), 0, super::receipts::MAX_RECEIPTS),
        ]
    }

    /// What waits for order or was not handed on yet is kept beyond the store's cap.
    fn store_cap(&self, config: &Config) -> usize {
        config.store_bytes + config.pending_bytes + config.publish_queue_bytes
    }
}

fn name_of(id: &GroupId, name: &str) -> String {
    format!("{name}~{}", id.short())
}
