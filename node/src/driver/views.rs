//! What the node says about itself when asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p::Multiaddr;
use treecast_overlay::io::{CollectionView, GroupView, MemberState};
use treecast_overlay::{Admission, GroupId, NodeId};

use super::Driver;
use super::contacts::{told_by, with_listed};
use super::guests::MAX_GUESTS;
use super::peers::{Peer, peer_of};
use crate::discovery::addresses::{is_direct, transport_of, useful};
use crate::discovery::ear::Ear;
use crate::error::{PingError, UnknownGroup};
use crate::store::MAX_PEERS;
use crate::swarm;
use crate::view::{GroupInfo, NodeStatus, PeerView};

impl Driver {
    pub(crate) fn nick(&self) -> &str {
        &self.nick
    }

    pub(crate) fn addresses(&self) -> Vec<Multiaddr> {
        let mut addresses: Vec<_> = self.listens.iter().map(|(_, address)| address.clone()).collect();
        addresses.dedup();
        addresses
    }

    pub(crate) fn status(&mut self) -> NodeStatus {
        let collections = self.collections();
        let behaviours = self.swarm.behaviour();
        NodeStatus {
            node: self.me,
            nick: self.nick.clone(),
            uptime: self.started.elapsed(),
            addresses: self.addresses(),
            peers: self.peers.len(),
            groups: self.groups.slots.values().map(|slot| slot.label.clone()).collect(),
            collections,
            mdns: behaviours.mdns.is_enabled(),
            multicast: self.ear.as_ref().map(Ear::view),
            kad: behaviours.kad.is_enabled(),
            store_failure: self.keeper.failure().map(ToString::to_string),
            same_identity: self.twin(),
        }
    }

    /// How full every bounded collection of the node and its core is.
    pub(super) fn collections(&mut self) -> Vec<CollectionView> {
        let own =
            |name: &str, len: usize, cap: usize| CollectionView { name: name.into(), len, bytes: 0, cap };
        let mut all = self.swarm.behaviour().overlay.engine().collections();
        let connections = self.swarm.network_info().connection_counters().num_established() as usize;
        all.extend([
            own("node/connections", connections, swarm::connections_cap(self.limits.max_links)),
            own("node/peers_connected", self.peers.len(), swarm::connections_cap(self.limits.max_links)),
            own("node/peers_kept", self.keeper.kept().peers.len(), MAX_PEERS),
            own("node/peers_found_on_lan", self.found.len(), super::MAX_FOUND),
            own("node/guests", self.guests.len(), MAX_GUESTS),
            own("node/redials", self.redial.len(), self.redial.len()),
        ]);
        let history = self.keeper.archive.held_bytes();
        let (name, cap) = ("node/history_waiting".into(), super::archive::MAX_HELD);
        all.push(CollectionView { name, len: 0, bytes: history, cap });
        all.extend(self.groups.collections(&self.limits));
        all.extend(self.kad_collections());
        all
    }

    pub(super) fn view(&self, group: GroupId) -> Option<GroupView> {
        let overlay = &self.swarm.behaviour().overlay;
        overlay.engine().group(overlay.now(), group)
    }

    fn views(&self) -> impl Iterator<Item = (&str, GroupView)> {
        self.groups.slots.iter().filter_map(|(id, slot)| Some((slot.label.as_str(), self.view(*id)?)))
    }

    pub(super) fn rtt(&self, node: NodeId, peer: &Peer) -> Option<Duration> {
        self.swarm.behaviour().overlay.engine().rtt(node).or(peer.rtt)
    }

    /// The other end of the connection that carries the link to a node.
    pub(super) fn remote<'a>(&self, node: NodeId, peer: &'a Peer) -> Option<&'a Multiaddr> {
        let links = self.swarm.behaviour().overlay.links();
        let carrier = links.filter(|(other, _)| *other == node).map(|(_, connection)| connection).min();
        peer.remote(carrier)
    }

    fn info(&self, label: &str, view: GroupView) -> GroupInfo {
        let view = with_listed(view);
        let nodes = self.peers.nodes();
        let rtts = view
            .members
            .iter()
            .filter_map(|member| Some((member.node, self.rtt(member.node, nodes.get(&member.node)?)?)))
            .collect();
        let is_open = view.descriptor.admission == Admission::Open;
        let ticket = if is_open { None } else { self.ticket(view.id).map(|it| it.to_string()) };
        let contacts = self.contacts_view(view.id);
        let removed = view.members.iter().any(|it| it.node == self.me && it.state == MemberState::Removed);
        GroupInfo { label: label.to_owned(), removed, view, rtts, ticket, contacts }
    }

    pub(crate) fn groups(&self) -> Vec<GroupInfo> {
        let mut groups: Vec<_> = self.views().map(|(label, view)| self.info(label, view)).collect();
        groups.sort_by(|one, two| one.label.cmp(&two.label));
        groups
    }

    pub(crate) fn group_info(&self, name: &str) -> Result<GroupInfo, UnknownGroup> {
        let found =
            self.groups.find(name).and_then(|id| Some((&self.groups.slots[&id].label, self.view(id)?)));
        let (label, view) = found.ok_or_else(|| UnknownGroup(name.to_owned()))?;
        Ok(self.info(label, view))
    }

    pub(crate) fn peers(&self, group: Option<&str>) -> Result<Vec<PeerView>, UnknownGroup> {
        let only = match group {
            Some(name) => Some(self.groups.find(name).ok_or_else(|| UnknownGroup(name.to_owned()))?),
            None => None,
        };
        let mut shared: BTreeMap<NodeId, (String, Vec<String>)> = BTreeMap::new();
        let mut wanted: BTreeSet<NodeId> = BTreeSet::new();
        for (label, view) in self.views() {
            for member in &view.members {
                let entry = shared.entry(member.node).or_default();
                entry.0.clone_from(&member.nick);
                if member.state.is_member() {
                    entry.1.push(label.to_owned());
                    if only == Some(view.id) {
                        wanted.insert(member.node);
                    }
                }
            }
        }
        let nodes = self.peers.nodes().into_iter();
        let peers =
            nodes.filter(|(node, _)| only.is_none() || wanted.contains(node)).filter_map(|(node, peer)| {
                let remote = self.remote(node, peer)?;
                let (nick, groups) = shared.remove(&node).unwrap_or_default();
                let mut addresses = peer.addresses();
                if addresses.is_empty() {
                    addresses.push(remote.clone());
                }
                // What is shown first is how it is reached now.
                addresses.sort_by_key(|address| transport_of(address) != transport_of(remote));
                Some(PeerView {
                    node,
                    nick,
                    addresses,
                    transport: transport_of(remote),
                    direct: is_direct(remote),
                    rtt: self.rtt(node, peer),
                    groups,
                })
            });
        Ok(peers.collect())
    }

    /// The node of this id or nick.
    pub(crate) fn find_node(&self, name: &str) -> Result<NodeId, PingError> {
        let unknown = || PingError::Unknown(name.to_owned());
        if let Ok(node) = name.parse::<NodeId>() {
            let known = node == self.me
                || self.peers.nodes().contains_key(&node)
                || !self.known_addresses(node).is_empty();
            return if known { Ok(node) } else { Err(unknown()) };
        }
        let mut called: BTreeSet<NodeId> = BTreeSet::new();
        if name == self.nick {
            called.insert(self.me);
        }
        for (_, view) in self.views() {
            called.extend(view.members.iter().filter(|member| member.nick == name).map(|member| member.node));
        }
        match called.len() {
            0 => Err(unknown()),
            1 => called.pop_first().ok_or_else(unknown),
            count => Err(PingError::Ambiguous { name: name.to_owned(), count }),
        }
    }

    pub(super) fn known_addresses(&self, node: NodeId) -> Vec<Multiaddr> {
        let peer = peer_of(&node);
        let found = peer.and_then(|peer| self.found.get(&peer)).cloned().unwrap_or_default();
        let kept = self.keeper.kept();
        let kept = kept.peers.iter().chain(kept.groups.iter().flat_map(|group| &group.members));
        let kept = kept.filter(|kept| kept.node == node).flat_map(|kept| kept.addresses.clone());
        let told = self.views().flat_map(|(_, view)| view.members).filter(|member| member.node == node);
        let told: Vec<_> = told.flat_map(|member| told_by(&member).collect::<Vec<_>>()).collect();
        useful(found.into_iter().chain(kept).chain(told))
    }
}
