//! The driver's part in Kademlia: who goes into the table, and what is done with what is found.

use std::collections::{BTreeMap, HashMap, HashSet};

use libp2p::kad::{Event, GetClosestPeersOk, GetProvidersOk, QueryId, QueryResult, RecordKey};
use libp2p::{PeerId, StreamProtocol};
use tokio::time::Instant;
use treecast_overlay::io::CollectionView;
use treecast_overlay::{GroupId, NodeId};

use super::Driver;
use super::peers::node_of;
use crate::discovery::kad::plan::{Act, MAX_ASTRAY, Plan};
use crate::discovery::kad::{self, Kademlia};

/// Members that one look may bring: providers come from strangers.
const MAX_FOUND: usize = 40;

/// Queries at a time; libp2p's own, which look at far parts of the table, come on top.
const MAX_QUERIES: usize = 48;
const OWN_QUERIES: usize = 16;

/// What the driver remembers for Kademlia.
pub(super) struct Finding {
    plan: Plan,
    /// Looks for members, and whom each has found.
    looks: HashMap<QueryId, HashSet<PeerId>>,
}

impl Finding {
    pub(super) fn new(seed: u64) -> Self {
        Self { plan: Plan::new(seed), looks: HashMap::new() }
    }
}

impl Driver {
    fn kad(&mut self) -> Option<&mut Kademlia> {
        self.swarm.behaviour_mut().kad.as_mut()
    }

    /// Does what is due.
    pub(super) fn beat_kad(&mut self, now: Instant) {
        let Some(kademlia) = self.swarm.behaviour_mut().kad.as_mut() else { return };
        let table = kad::table_len(kademlia);
        let room = MAX_QUERIES.saturating_sub(kademlia.iter_queries().count());
        let announced = self.announced();
        for act in self.finding.plan.due(now, &announced, table, room) {
            self.act(act);
        }
    }

    /// The groups to be found through Kademlia, with their neighbours.
    fn announced(&self) -> BTreeMap<GroupId, usize> {
        let engine = self.swarm.behaviour().overlay.engine();
        let created =
            self.groups.slots.iter().filter(|(_, slot)| slot.descriptor.is_created() && !slot.stepping_out);
        created.filter_map(|(id, _)| Some((*id, engine.neighbours(*id)?))).collect()
    }

    fn act(&mut self, act: Act) {
        tracing::debug!(?act, "Kademlia");
        let Some(kademlia) = self.swarm.behaviour_mut().kad.as_mut() else { return };
        match act {
            Act::Announce(group) => {
                if let Err(error) = kademlia.start_providing(key(&group)) {
                    tracing::warn!(%error, "a group could not be announced");
                }
            }
            Act::Withdraw(group) => kademlia.stop_providing(&key(&group)),
            Act::FindMembers(group) => {
                let query = kademlia.get_providers(key(&group));
                self.finding.looks.insert(query, HashSet::new());
            }
            // The query itself dials the node where others say that it is.
            Act::FindPeer(peer) => {
                kademlia.get_closest_peers(peer);
            }
        }
    }

    pub(super) fn on_kad_event(&mut self, event: Event) {
        match event {
            Event::RoutingUpdated { peer, is_new_peer: true, .. } => {
                tracing::debug!(%peer, "new in the table");
                self.finding.plan.on_growth(Instant::now());
            }
            Event::OutboundQueryProgressed { id, result, step, .. } => {
                match result {
                    QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) => {
                        self.on_members_found(id, providers);
                    }
                    QueryResult::GetClosestPeers(Ok(GetClosestPeersOk { peers, .. })) => {
                        tracing::debug!(peers = peers.len(), "a node was looked for");
                    }
                    _ => {}
                }
                if step.last {
                    self.finding.looks.remove(&id);
                }
            }
            _ => {}
        }
    }

    /// Tells the core of members, with the addresses that only the running query knows.
    fn on_members_found(&mut self, query: QueryId, providers: HashSet<PeerId>) {
        let me = *self.swarm.local_peer_id();
        for peer in providers.into_iter().filter(|peer| *peer != me) {
            let Some(found) = self.finding.looks.get_mut(&query) else { return };
            if found.len() >= MAX_FOUND || !found.insert(peer) {
                continue;
            }
            let Some(kademlia) = self.kad() else { return };
            let addresses = kad::addresses_of(kademlia, peer);
            tracing::debug!(%peer, ?addresses, "a member was found");
            if addresses.is_empty() {
                self.finding.plan.on_missed(Instant::now(), peer);
            } else {
                self.overlay().discovered(peer, addresses);
            }
        }
    }

    /// A node has said where it listens and what it speaks.
    pub(super) fn on_identified(&mut self, peer: &PeerId, protocols: &[StreamProtocol]) {
        let listens = self.peers.of(peer).map(|it| it.listens().to_vec()).unwrap_or_default();
        let Some(kademlia) = self.kad().filter(|_| protocols.contains(&kad::PROTOCOL)) else { return };
        kad::learn(kademlia, peer, &listens);
    }

    /// Nobody answered where this node was: if it matters, others are asked where it is.
    pub(super) fn on_dialled_in_vain(&mut self, peer: &PeerId) {
        if self.swarm.behaviour().kad.is_enabled() && self.matters(peer) {
            self.finding.plan.on_missed(Instant::now(), *peer);
        }
    }

    pub(super) fn on_found_again(&mut self, peer: &PeerId) {
        self.finding.plan.on_connected(peer);
    }

    pub(super) fn on_moved(&mut self) {
        self.finding.plan.on_moved(Instant::now());
    }

    /// Named by hand, remembered, or a member of a group of ours that wants neighbours.
    fn matters(&self, peer: &PeerId) -> bool {
        let Some(node) = node_of(peer) else { return false };
        let kept = self.keeper.kept();
        let members = kept.groups.iter().flat_map(|group| &group.members);
        let mut remembered = members.chain(&kept.peers);
        self.redial.names(peer) || remembered.any(|kept| kept.node == node) || self.is_member(node)
    }

    fn is_member(&self, node: NodeId) -> bool {
        let engine = self.swarm.behaviour().overlay.engine();
        self.groups.slots.keys().any(|group| engine.is_member(*group, node))
    }

    /// How full Kademlia's collections are.
    pub(super) fn kad_collections(&mut self) -> Vec<CollectionView> {
        let (astray, looks) = (self.finding.plan.astray(), self.finding.looks.len());
        let Some(kademlia) = self.kad() else { return Vec::new() };
        let own =
            |name: &str, len: usize, cap: usize| CollectionView { name: name.into(), len, bytes: 0, cap };
        vec![
            own("kad/table", kad::table_len(kademlia), kad::TABLE_CAP),
            own("kad/provider_records", kademlia.store_mut().len(), kad::Providers::CAP),
            own("kad/queries", kademlia.iter_queries().count(), MAX_QUERIES + OWN_QUERIES),
            own("kad/looks", looks, MAX_QUERIES),
            own("kad/astray", astray, MAX_ASTRAY),
        ]
    }
}

/// Under which key a group's members are found.
fn key(group: &GroupId) -> RecordKey {
    RecordKey::new(&group.rendezvous())
}
