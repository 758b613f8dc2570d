//! The core inside a libp2p swarm.
//!
//! [`Behaviour`] owns an [`Engine`] and decides nothing: what comes from connections, clock
//! and caller goes in, what comes out goes to connections and swarm. It composes by
//! `#[derive(NetworkBehaviour)]` with any others.
//!
//! ```text
//! swarm task    Behaviour ── Engine             one per node
//!                 │  ▲
//!       LinkQueue │  │ FromHandler (whole frames, up, over), Reports (what has left)
//!                 ▼  │
//! connection    Handler: live out, bulk out, live in, bulk in
//! task                                          one per connection
//! ```
//!
//! A link is an established connection on which both sides have opened their live lane. Each
//! side opens two streams of `/treecast/1.0.0` and writes to them only; the first byte names
//! the lane (0 live, 1 bulk), then come frames, each behind its length as an unsigned varint.
//!
//! No peer can hold up another: a handler takes from its bounded queue at its own speed, the
//! behaviour never waits for one, and a queue at its cap costs its owner the link. What comes in is
//! bounded by the swarm's event buffer: a handler whose frames are not taken reads no further.

mod closed;
mod framing;
mod handler;
mod links;
mod queue;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures::FutureExt;
use futures_timer::Delay;
use libp2p::PeerId;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::identity::Keypair;
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::swarm::{CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, ToSwarm};

pub use self::closed::LinkClosed;
use self::handler::{FromHandler, Handler, HandlerEvent};
use self::links::Links;
use crate::io::{Fetch, FetchEarlier, Past, Record, Write};
use crate::{
    Address, BatchId, Config, ConfigError, Descriptor, Engine, GroupId, Input, LinkId, NodeId, Out, Output,
    PublishId, Seq, Time, Token,
};

/// Events given to the swarm in a row before its connections and other behaviours get their turn.
const EVENTS_IN_A_ROW: usize = 64;

/// What a run of a node starts from; the rest of [`crate::Start`] is the caller's key and
/// configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Start {
    /// Where all the core's choices come from. Take it from the system's entropy.
    pub seed: u64,
    /// Unix milliseconds now.
    pub unix_ms: u64,
    /// The highest life this node has used in any group, from its store; 0 if none.
    pub last_life: u64,
    /// Where its last life ended in each group, from its store.
    pub ends: Vec<crate::PastLife>,
}

/// What the swarm reports as this behaviour's events.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Something happened in a group.
    Overlay(crate::Event),
    /// Make these writes durable, then call [`Behaviour::persisted`] or
    /// [`Behaviour::persist_failed`]. Only after [`Behaviour::with_store`].
    Persist {
        /// To be returned.
        token: Token,
        /// What to write.
        writes: Vec<Write>,
    },
    /// Keep this soon; nothing waits for it. Only with [`Config::history`](crate::Config).
    Record(Box<Record>),
    /// Look this up, then call [`Behaviour::fetched`]. Only with
    /// [`Config::history`](crate::Config).
    Fetch {
        /// To be returned.
        token: Token,
        /// What.
        fetch: Box<Fetch>,
    },
    /// Look this up, then call [`Behaviour::fetched_earlier`]. Only with
    /// [`Config::history`](crate::Config).
    FetchEarlier {
        /// To be returned.
        token: Token,
        /// What.
        fetch: FetchEarlier,
    },
    /// A connection became a link.
    LinkOpened {
        /// To whom.
        node: NodeId,
        /// Over which connection.
        connection: ConnectionId,
    },
    /// A link is over.
    LinkClosed {
        /// To whom.
        node: NodeId,
        /// Over which connection.
        connection: ConnectionId,
        /// Why.
        reason: LinkClosed,
    },
}

/// Why there is no [`Behaviour`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NewError {
    /// Nodes are named by Ed25519 keys.
    #[error("the identity key is not an Ed25519 key")]
    NotEd25519,
    /// The configuration is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Treecast as one of a swarm's behaviours.
///
/// Its methods are of two kinds: inputs (`join`, `publish`, `discovered`, …), which return at
/// once and are answered by [`Event`]s, and views ([`Behaviour::engine`],
/// [`Behaviour::publish_room`]). The swarm does the rest.
pub struct Behaviour {
    engine: Engine,
    out: Out,
    zero: Instant,
    timer: Delay,
    /// What the timer is set to; `None` once it has gone off.
    armed: Option<Time>,
    deadline: Option<Time>,
    deadline_is_stale: bool,
    has_store: bool,
    links: Links,
    pending: VecDeque<ToSwarm<Event, Infallible>>,
    in_a_row: usize,
}

impl Behaviour {
    /// A node that is in no group and has no link, and no store: what waits for a disk goes on
    /// at once.
    ///
    /// # Errors
    /// If the key is no Ed25519 key or the configuration is out of range.
    #[expect(clippy::disallowed_methods, reason = "here the clock enters: the core is told, it never reads")]
    pub fn new(keypair: &Keypair, config: Config, start: Start) -> Result<Self, NewError> {
        let keypair = keypair.clone().try_into_ed25519().map_err(|_| NewError::NotEd25519)?;
        let secret_key = keypair.secret().as_ref().try_into().map_err(|_| NewError::NotEd25519)?;
        let links = Links::new(config.link_high_water);
        let Start { seed, unix_ms, last_life, ends } = start;
        let engine = Engine::new(crate::Start { config, secret_key, seed, unix_ms, last_life, ends })?;
        Ok(Self {
            engine,
            out: Out::new(),
            zero: Instant::now(),
            timer: Delay::new(std::time::Duration::ZERO),
            armed: None,
            deadline: None,
            deadline_is_stale: true,
            has_store: false,
            links,
            pending: VecDeque::new(),
            in_a_row: 0,
        })
    }

    /// The caller has a store: it gets [`Event::Persist`] and answers.
    #[must_use]
    pub fn with_store(mut self) -> Self {
        self.has_store = true;
        self
    }

    /// The core, for views.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The time that the core's views take: since [`Behaviour::new`].
    pub fn now(&self) -> Time {
        Time::from_micros(u64::try_from(self.zero.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The links that stand, and their connections.
    pub fn links(&self) -> impl Iterator<Item = (NodeId, ConnectionId)> {
        self.links.iter()
    }

    /// See [`Input::Join`].
    pub fn join(&mut self, group: Descriptor) {
        self.input(Input::Join(Box::new(group)));
    }

    /// See [`Input::Resume`].
    pub fn resume(&mut self, past: Past) {
        self.input(Input::Resume(Box::new(past)));
    }

    /// Answers [`Event::Fetch`]; see [`Input::Fetched`].
    pub fn fetched(&mut self, token: Token, batches: Vec<(Seq, Bytes)>, first: Option<Seq>) {
        self.input(Input::Fetched { token, batches, first });
    }

    /// See [`Input::Leave`].
    pub fn leave(&mut self, group: GroupId) {
        self.input(Input::Leave(group));
    }

    /// See [`Input::Remove`].
    pub fn remove(&mut self, group: GroupId, node: NodeId) {
        self.input(Input::Remove { group, node });
    }

    /// See [`Input::GoOffline`].
    pub fn go_offline(&mut self, group: GroupId) {
        self.input(Input::GoOffline(group));
    }

    /// See [`Input::Publish`]. Ask [`Behaviour::publish_room`] first.
    pub fn publish(&mut self, group: GroupId, id: PublishId, payload: Bytes) {
        self.input(Input::Publish { group, id, payload });
    }

    /// See [`Engine::publish_room`].
    pub fn publish_room(&self, group: GroupId) -> usize {
        self.engine.publish_room(group)
    }

    /// See [`Input::RequestReceipt`].
    pub fn request_receipt(&mut self, group: GroupId, batch: BatchId) {
        self.input(Input::RequestReceipt { group, batch });
    }

    /// A peer was found that may share groups with us. Whose key names no node is ignored.
    pub fn discovered(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let Some(node) = node_of(&peer) else { return };
        let addresses = addresses.into_iter().filter_map(address_of).collect();
        self.input(Input::Discovered { node, addresses });
    }

    /// See [`Input::Keep`]. Whose key names no node is ignored.
    pub fn keep(&mut self, peer: PeerId, keep: bool) {
        let Some(node) = node_of(&peer) else { return };
        self.input(Input::Keep { node, keep });
    }

    /// See [`Input::Ping`].
    pub fn ping(&mut self, node: NodeId) {
        self.input(Input::Ping { node });
    }

    /// See [`Input::Nick`].
    pub fn set_nick(&mut self, nick: String) {
        self.input(Input::Nick(nick));
    }

    /// See [`Input::OwnAddresses`]. Which of the swarm's addresses others can use is the
    /// caller's judgement.
    pub fn set_own_addresses(&mut self, addresses: Vec<Multiaddr>) {
        let addresses = addresses.into_iter().filter_map(address_of).collect();
        self.input(Input::OwnAddresses(addresses));
    }

    /// Answers [`Event::FetchEarlier`]; see [`Input::FetchedEarlier`].
    pub fn fetched_earlier(
        &mut self,
        token: Token,
        batches: Vec<(u64, Bytes)>,
        last: Option<i64>,
        end: bool,
    ) {
        self.input(Input::FetchedEarlier { token, batches, last, end });
    }

    /// Answers [`Event::Persist`]: it is done.
    pub fn persisted(&mut self, token: Token) {
        self.input(Input::Persisted(token));
    }

    /// Answers [`Event::Persist`]: it failed.
    pub fn persist_failed(&mut self, token: Token) {
        self.input(Input::PersistFailed(token));
    }

    /// See [`Input::Shutdown`]; go on polling the swarm until
    /// [`ShutdownComplete`](crate::Event::ShutdownComplete).
    pub fn shutdown(&mut self) {
        self.input(Input::Shutdown);
    }

    /// An input from the caller, who may not be the task that polls the swarm.
    fn input(&mut self, input: Input) {
        self.handle(input);
        self.apply();
        self.links.wake_swarm();
    }

    fn handle(&mut self, input: Input) {
        let now = self.now();
        self.engine.handle(now, input, &mut self.out);
        self.deadline_is_stale = true;
    }

    /// Carries out what the core wants, in order.
    fn apply(&mut self) {
        while let Some(output) = self.out.pop() {
            match output {
                Output::Send { link, lane, frame } => {
                    if self.links.send(link, lane, frame).is_err() {
                        self.cut(link, LinkClosed::QueueFull);
                    }
                }
                Output::Dial { node, addresses } => self.dial(node, addresses),
                Output::Close { link, reason } => {
                    self.links.finish(link, LinkClosed::Core(reason));
                    // It only sends what waits; to the core it is gone.
                    self.handle(Input::LinkDown { link });
                }
                Output::Persist { token, writes } if self.has_store => {
                    self.pending.push_back(ToSwarm::GenerateEvent(Event::Persist { token, writes }));
                }
                Output::Persist { token, .. } => self.handle(Input::Persisted(token)),
                Output::Record(record) => {
                    self.pending.push_back(ToSwarm::GenerateEvent(Event::Record(record)));
                }
                Output::Fetch { token, fetch } => {
                    self.pending.push_back(ToSwarm::GenerateEvent(Event::Fetch { token, fetch }));
                }
                Output::FetchEarlier { token, fetch } => {
                    self.pending.push_back(ToSwarm::GenerateEvent(Event::FetchEarlier { token, fetch }));
                }
                Output::Event(event) => {
                    self.pending.push_back(ToSwarm::GenerateEvent(Event::Overlay(event)));
                }
            }
        }
        self.links.wake_written();
    }

    fn dial(&mut self, node: NodeId, addresses: Vec<Address>) {
        let Some(peer) = peer_of(&node) else {
            return self.handle(Input::DialFailed { node });
        };
        let addresses = addresses.iter().filter_map(multiaddr_of).collect();
        let opts = self.links.dial(peer, addresses);
        self.pending.push_back(ToSwarm::Dial { opts });
    }

    fn dial_failed(&mut self, peer: PeerId) {
        if let Some(node) = node_of(&peer) {
            self.handle(Input::DialFailed { node });
            self.apply();
        }
    }

    /// The link is over: its streams go at once, what waits for it is dropped.
    fn cut(&mut self, link: LinkId, reason: LinkClosed) {
        let Some(over) = self.links.remove(link) else { return };
        let reason = over.reason.unwrap_or(reason);
        tracing::debug!(node = %over.node, %reason, "link closed");
        let event = Event::LinkClosed { node: over.node, connection: over.connection, reason };
        self.pending.push_back(ToSwarm::GenerateEvent(event));
        if over.reason.is_none() {
            self.handle(Input::LinkDown { link });
        }
    }

    fn close_connection(&mut self, peer: PeerId, connection: ConnectionId) {
        let connection = CloseConnection::One(connection);
        self.pending.push_back(ToSwarm::CloseConnection { peer_id: peer, connection });
    }

    fn on_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: FromHandler) {
        match event {
            FromHandler::Up(queue) => {
                let (Some(node), link) = (node_of(&peer), queue.link()) else { return };
                self.links.up(node, peer, connection, queue);
                self.pending.push_back(ToSwarm::GenerateEvent(Event::LinkOpened { node, connection }));
                self.handle(Input::LinkUp { link, node });
            }
            FromHandler::NoLink(reason) => {
                tracing::debug!(%peer, %reason, "no link on this connection");
                if matches!(reason, LinkClosed::Protocol(_)) {
                    self.close_connection(peer, connection);
                }
                if self.links.no_link(peer, connection) {
                    self.dial_failed(peer);
                }
            }
            FromHandler::Frames(lane, frames) => {
                let Some(link) = self.links.open_link_of(connection) else { return };
                for frame in frames {
                    self.handle(Input::Frame { link, lane, frame });
                }
            }
            FromHandler::Broken(reason) => {
                self.close_connection(peer, connection);
                self.over(connection, reason);
            }
            FromHandler::Finished => {
                self.close_connection(peer, connection);
                self.over(connection, LinkClosed::ByUs);
            }
            // No orderly close: the peer does not read, and the swarm would wait for it. Without
            // streams and unused, the connection goes at the swarm's idle timeout.
            FromHandler::Dropped => self.over(connection, LinkClosed::ByUs),
        }
    }

    fn over(&mut self, connection: ConnectionId, reason: LinkClosed) {
        if let Some(link) = self.links.link_of(connection) {
            self.cut(link, reason);
        }
    }

    fn on_closed(&mut self, peer: PeerId, connection: ConnectionId) {
        self.over(connection, LinkClosed::Connection);
        if self.links.closed(peer, connection) {
            self.dial_failed(peer);
        }
    }

    fn take_drained(&mut self) {
        for (link, lane, bytes) in self.links.drained() {
            self.handle(Input::Drained { link, lane, bytes });
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        loop {
            if std::mem::take(&mut self.deadline_is_stale) {
                self.deadline = self.engine.deadline();
            }
            let Some(deadline) = self.deadline else { return };
            let now = self.now();
            if deadline <= now {
                self.handle(Input::Tick);
                self.apply();
                // A core that is due again at once gets its turn after everybody else's.
                if self.engine.deadline().is_some_and(|next| next <= now) {
                    cx.waker().wake_by_ref();
                    return;
                }
                continue;
            }
            if self.armed.is_none_or(|armed| armed > deadline) {
                self.timer.reset(deadline.since(now));
                self.armed = Some(deadline);
            }
            if self.timer.poll_unpin(cx).is_pending() {
                return;
            }
            self.armed = None;
        }
    }

    fn new_handler(&mut self, peer: PeerId) -> Handler {
        let queue = self.links.new_queue();
        if node_of(&peer).is_some() { Handler::new(queue) } else { Handler::off(queue) }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.new_handler(peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.new_handler(peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(it) => self.links.established(it.peer_id, it.connection_id),
            FromSwarm::ConnectionClosed(it) => self.on_closed(it.peer_id, it.connection_id),
            FromSwarm::DialFailure(it) => {
                if let Some(peer) = self.links.dial_failed(it.connection_id) {
                    self.dial_failed(peer);
                }
            }
            _ => {}
        }
        self.apply();
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        HandlerEvent(event): HandlerEvent,
    ) {
        self.on_handler_event(peer, connection, event);
        self.apply();
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, Infallible>> {
        self.links.register(cx.waker());
        self.take_drained();
        self.apply();
        self.poll_timer(cx);
        if self.in_a_row < EVENTS_IN_A_ROW {
            if let Some(event) = self.pending.pop_front() {
                self.in_a_row += 1;
                return Poll::Ready(event);
            }
        } else {
            cx.waker().wake_by_ref();
        }
        self.in_a_row = 0;
        Poll::Pending
    }
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behaviour").field("node", &self.engine.node()).finish_non_exhaustive()
    }
}

/// The node of an Ed25519 peer.
fn node_of(peer: &PeerId) -> Option<NodeId> {
    NodeId::from_peer_id_bytes(&peer.to_bytes())
}

fn peer_of(node: &NodeId) -> Option<PeerId> {
    PeerId::from_bytes(&node.to_peer_id_bytes()).ok()
}

/// Without the peer's name, which travels beside it.
fn address_of(mut address: Multiaddr) -> Option<Address> {
    if let Some(Protocol::P2p(_)) = address.iter().last() {
        address.pop();
    }
    Address::new(address.to_vec())
}

fn multiaddr_of(address: &Address) -> Option<Multiaddr> {
    Multiaddr::try_from(address.as_bytes().to_vec()).ok()
}

#[cfg(test)]
mod raw_peer;
#[cfg(test)]
mod tests;
