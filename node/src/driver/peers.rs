//! Who is connected, over what, and where they can be reached.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use libp2p::core::ConnectedPoint;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use treecast_overlay::NodeId;

use crate::discovery::addresses::{self, useful};

/// One connected peer.
#[derive(Default)]
pub(super) struct Peer {
    /// Its connections, oldest first, and the address at their other end.
    connections: BTreeMap<ConnectionId, Multiaddr>,
    /// We dialled it there and it answered.
    dialled: Option<Multiaddr>,
    /// Where it says it listens.
    listens: Vec<Multiaddr>,
    pub(super) rtt: Option<Duration>,
}

impl Peer {
    /// The other end of this connection; of the oldest, if there is no such.
    pub(super) fn remote(&self, carrier: Option<ConnectionId>) -> Option<&Multiaddr> {
        let carrier = carrier.and_then(|carrier| self.connections.get(&carrier));
        carrier.or_else(|| self.connections.values().next())
    }

    /// Where it says it listens, as far as that is of use.
    pub(super) fn listens(&self) -> &[Multiaddr] {
        &self.listens
    }

    /// Where it can be reached, best first.
    pub(super) fn addresses(&self) -> Vec<Multiaddr> {
        useful(self.dialled.iter().chain(&self.listens).cloned())
    }
}

/// All connected peers.
#[derive(Default)]
pub(super) struct Peers {
    connected: HashMap<PeerId, Peer>,
}

impl Peers {
    pub(super) fn len(&self) -> usize {
        self.connected.len()
    }

    pub(super) fn is_connected(&self, peer: &PeerId) -> bool {
        self.connected.contains_key(peer)
    }

    pub(super) fn of(&self, peer: &PeerId) -> Option<&Peer> {
        self.connected.get(peer)
    }

    /// Connected peers that are nodes, by id.
    pub(super) fn nodes(&self) -> BTreeMap<NodeId, &Peer> {
        self.connected.iter().filter_map(|(id, peer)| Some((node_of(id)?, peer))).collect()
    }

    pub(super) fn on_connected(&mut self, id: PeerId, connection: ConnectionId, point: &ConnectedPoint) {
        let peer = self.connected.entry(id).or_default();
        let remote = addresses::without_peer(point.get_remote_address().clone());
        if point.is_dialer() {
            peer.dialled = Some(remote.clone());
        }
        peer.connections.insert(connection, remote);
    }

    pub(super) fn on_closed(&mut self, id: &PeerId, connection: ConnectionId) {
        let Some(peer) = self.connected.get_mut(id) else { return };
        peer.connections.remove(&connection);
        if peer.connections.is_empty() {
            self.connected.remove(id);
        }
    }

    /// The peer has said where it listens.
    pub(super) fn on_identified(&mut self, id: &PeerId, listens: Vec<Multiaddr>) {
        if let Some(peer) = self.connected.get_mut(id) {
            peer.listens = useful(listens);
        }
    }

    pub(super) fn on_rtt(&mut self, id: &PeerId, rtt: Duration) {
        if let Some(peer) = self.connected.get_mut(id) {
            peer.rtt = Some(rtt);
        }
    }
}

/// The node of a peer, if its key is one that nodes have.
pub(super) fn node_of(peer: &PeerId) -> Option<NodeId> {
    NodeId::from_peer_id_bytes(&peer.to_bytes())
}

/// The peer of a node.
pub(super) fn peer_of(node: &NodeId) -> Option<PeerId> {
    PeerId::from_bytes(&node.to_peer_id_bytes()).ok()
}
