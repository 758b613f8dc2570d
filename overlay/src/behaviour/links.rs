//! Which connection is which link, and whom we are dialling.

use std::collections::BTreeMap;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};

use super::LinkClosed;
use super::queue::{Full, LEAST_CAP, LinkQueue, Reports, Wish};
use crate::id::{LinkId, NodeId};
use crate::io::Lane;

/// Addresses of one node that are dialled at once. A swarm with smart dialling paces them
/// itself and ignores it.
const DIAL_AT_ONCE: NonZeroU8 = NonZeroU8::new(16).expect("not zero");

/// Established connections of all kinds, the links among them, and dials that the core waits for.
pub(super) struct Links {
    next: u64,
    cap: usize,
    reports: Arc<Reports>,
    connections: BTreeMap<ConnectionId, Connection>,
    links: BTreeMap<LinkId, Link>,
    dials: BTreeMap<PeerId, Dial>,
    written: Vec<LinkId>,
}

struct Connection {
    peer: PeerId,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Opening,
    Link(LinkId),
    /// The core has closed it; it only sends what waits.
    Finishing(LinkId),
    /// It has been a link; the swarm may take long to see that it is dead.
    Over,
    /// The peer does not speak the protocol.
    NoLink,
}

impl State {
    /// Not a link, and will be none.
    fn is_hopeless(self) -> bool {
        matches!(self, Self::Finishing(_) | Self::Over | Self::NoLink)
    }
}

/// The latest dial to a peer that the core waits for.
#[derive(Debug, Clone, Copy)]
struct Dial {
    connection: ConnectionId,
    /// It may still become a connection of its own.
    pending: bool,
}

struct Link {
    node: NodeId,
    connection: ConnectionId,
    queue: Arc<LinkQueue>,
    /// Frames were queued in this round: wake the handler at its end.
    written: bool,
    /// Why the core has closed it.
    finishing: Option<LinkClosed>,
}

/// A link that is over.
pub(super) struct Over {
    pub(super) node: NodeId,
    pub(super) connection: ConnectionId,
    /// Why, if the core closed it.
    pub(super) reason: Option<LinkClosed>,
}

impl Links {
    /// The core holds batches back at `high_water` bytes a link; other frames come on top.
    pub(super) fn new(high_water: usize) -> Self {
        Self {
            next: 0,
            cap: LEAST_CAP.max(high_water.saturating_mul(2)),
            reports: Arc::default(),
            connections: BTreeMap::new(),
            links: BTreeMap::new(),
            dials: BTreeMap::new(),
            written: Vec::new(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, ConnectionId)> {
        self.links.values().map(|link| (link.node, link.connection))
    }

    pub(super) fn register(&self, waker: &Waker) {
        self.reports.register(waker);
    }

    pub(super) fn wake_swarm(&self) {
        self.reports.wake();
    }

    /// The queue of a connection that may become a link.
    pub(super) fn new_queue(&mut self) -> LinkQueue {
        let link = LinkId(self.next);
        self.next += 1;
        LinkQueue::new(link, self.cap, self.reports.clone())
    }

    pub(super) fn established(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(dial) = self.dials.get_mut(&peer).filter(|dial| dial.connection == connection) {
            dial.pending = false;
        }
        self.connections.insert(connection, Connection { peer, state: State::Opening });
    }

    pub(super) fn up(&mut self, node: NodeId, peer: PeerId, connection: ConnectionId, queue: Arc<LinkQueue>) {
        let link = queue.link();
        if let Some(it) = self.connections.get_mut(&connection) {
            it.state = State::Link(link);
        }
        self.links.insert(link, Link { node, connection, queue, written: false, finishing: None });
        self.dials.remove(&peer);
    }

    pub(super) fn link_of(&self, connection: ConnectionId) -> Option<LinkId> {
        match self.connections.get(&connection)?.state {
            State::Link(link) | State::Finishing(link) => Some(link),
            State::Opening | State::Over | State::NoLink => None,
        }
    }

    /// The link, unless the core has closed it.
    pub(super) fn open_link_of(&self, connection: ConnectionId) -> Option<LinkId> {
        match self.connections.get(&connection)?.state {
            State::Link(link) => Some(link),
            State::Opening | State::Finishing(_) | State::Over | State::NoLink => None,
        }
    }

    /// Queues a frame. One for a link that is over or closing goes nowhere, as on a cut cable.
    pub(super) fn send(&mut self, link: LinkId, lane: Lane, frame: Bytes) -> Result<(), Full> {
        let Some(it) = self.links.get_mut(&link).filter(|it| it.finishing.is_none()) else {
            return Ok(());
        };
        it.queue.push(lane, frame)?;
        if !std::mem::replace(&mut it.written, true) {
            self.written.push(link);
        }
        Ok(())
    }

    /// Ends a round of sending: each handler is woken once, so that it finds all its frames.
    pub(super) fn wake_written(&mut self) {
        for link in self.written.drain(..) {
            if let Some(it) = self.links.get_mut(&link) {
                it.written = false;
                it.queue.wake();
            }
        }
    }

    /// What has left the links' queues.
    pub(super) fn drained(&mut self) -> Vec<(LinkId, Lane, usize)> {
        let reported = self.reports.take();
        let links = reported.iter().filter_map(|link| Some((*link, self.links.get(link)?)));
        links
            .flat_map(|(link, it)| it.queue.drained().map(|(lane, bytes)| (link, lane, bytes)))
            .filter(|(_, _, bytes)| *bytes > 0)
            .collect()
    }

    /// Sends what waits, then ends.
    pub(super) fn finish(&mut self, link: LinkId, reason: LinkClosed) {
        if let Some(it) = self.links.get_mut(&link) {
            it.finishing.get_or_insert(reason);
            it.queue.wish(Wish::Finish);
            if let Some(connection) = self.connections.get_mut(&it.connection) {
                connection.state = State::Finishing(link);
            }
        }
    }

    pub(super) fn remove(&mut self, link: LinkId) -> Option<Over> {
        let it = self.links.remove(&link)?;
        it.queue.wish(Wish::Drop);
        if let Some(connection) = self.connections.get_mut(&it.connection) {
            connection.state = State::Over;
        }
        Some(Over { node: it.node, connection: it.connection, reason: it.finishing })
    }

    /// There will be no link on this connection. Whether a dial has failed by it.
    pub(super) fn no_link(&mut self, peer: PeerId, connection: ConnectionId) -> bool {
        if let Some(it) = self.connections.get_mut(&connection) {
            it.state = State::NoLink;
        }
        self.is_hopeless(peer)
    }

    /// The connection is gone. Whether a dial has failed by it.
    pub(super) fn closed(&mut self, peer: PeerId, connection: ConnectionId) -> bool {
        self.connections.remove(&connection);
        self.is_hopeless(peer)
    }

    /// Starts to dial. What was sent into a cut may hang for long: a dial that is under way is no
    /// reason against another, and neither is a connection that was a link and is none any more.
    pub(super) fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) -> DialOpts {
        let is_over = |state| matches!(state, State::Finishing(_) | State::Over);
        let condition = if self.states_of(peer).all(is_over) {
            PeerCondition::Always
        } else {
            PeerCondition::Disconnected
        };
        let opts = DialOpts::peer_id(peer)
            .condition(condition)
            .addresses(addresses)
            .extend_addresses_through_behaviour()
            .override_dial_concurrency_factor(DIAL_AT_ONCE)
            .build();
        self.dials.insert(peer, Dial { connection: opts.connection_id(), pending: true });
        opts
    }

    /// Whom the failed dial was for, if the core waits for it and no other connection may
    /// still become a link.
    pub(super) fn dial_failed(&mut self, failed: ConnectionId) -> Option<PeerId> {
        let (&peer, dial) = self.dials.iter_mut().find(|(_, dial)| dial.connection == failed)?;
        dial.pending = false;
        // Refused because a connection stands: as a link, the core knows it.
        if self.states_of(peer).any(|state| matches!(state, State::Link(_))) {
            self.dials.remove(&peer);
            return None;
        }
        if self.states_of(peer).any(|state| state == State::Opening) {
            return None;
        }
        self.dials.remove(&peer);
        Some(peer)
    }

    /// Ends the wait for a dialled peer if its connections came to nothing.
    fn is_hopeless(&mut self, peer: PeerId) -> bool {
        self.dials.get(&peer).is_some_and(|dial| !dial.pending)
            && self.states_of(peer).all(State::is_hopeless)
            && self.dials.remove(&peer).is_some()
    }

    fn states_of(&self, peer: PeerId) -> impl Iterator<Item = State> {
        self.connections.values().filter(move |it| it.peer == peer).map(|it| it.state)
    }

    #[cfg(test)]
    pub(super) fn queue_of(&self, link: LinkId) -> Option<Arc<LinkQueue>> {
        self.links.get(&link).map(|it| it.queue.clone())
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self, link: LinkId) -> bool {
        self.queue_of(link).is_none_or(|queue| queue.is_empty(Lane::Live) && queue.is_empty(Lane::Bulk))
    }

    #[cfg(test)]
    pub(super) fn dialling(&self) -> usize {
        self.dials.len()
    }
}
