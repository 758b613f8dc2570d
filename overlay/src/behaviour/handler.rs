//! One connection's two lanes out and two lanes in.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite, FutureExt};
use futures_timer::Delay;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol,
};

use super::LinkClosed;
use super::framing::{ReadError, Reader, Writer, Written};
use super::queue::{LinkQueue, Wish, index};
use crate::io::Lane;

/// The protocol both lanes speak.
pub(super) const PROTOCOL: StreamProtocol = StreamProtocol::new("/treecast/1.0.0");

/// How long both sides may take to open their live lanes. As libp2p's own stream negotiation.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// How long a link that closes may go on sending what waits. Guess: longer than a round trip,
/// shorter than anybody's patience.
const FINISH_WITHIN: Duration = Duration::from_secs(1);

/// Bytes the live lane may write before others get their turn.
const LIVE_BUDGET: usize = 256 << 10;

/// The same for the bulk lane: what is in the muxer goes out before later live frames.
const BULK_BUDGET: usize = 32 << 10;

/// Rounds of live writing after which a waiting bulk lane gets one, so that talk at full speed
/// does not starve history.
const LIVE_ROUNDS: u8 = 8;

/// What a handler tells the behaviour.
#[derive(Debug)]
pub(super) enum FromHandler {
    /// Both sides have opened their live lanes: the link stands.
    Up(Arc<LinkQueue>),
    /// There will be no link on this connection.
    NoLink(LinkClosed),
    /// Whole frames of one lane.
    Frames(Lane, Vec<Bytes>),
    /// The link is over.
    Broken(LinkClosed),
    /// What waited is sent, as was wished.
    Finished,
    /// It was not sent in time, or not wanted any more; the streams are dropped.
    Dropped,
}

/// [`FromHandler`], as the swarm carries it.
#[derive(Debug)]
pub struct HandlerEvent(pub(super) FromHandler);

enum Phase {
    Opening(Delay),
    Up,
    /// Sends what waits and closes its lanes, then waits for the peer to do the same.
    Finishing(Delay),
    /// Without streams; the swarm closes the connection when no other protocol uses it.
    Over,
}

struct Outgoing {
    stream: Stream,
    writer: Writer,
}

struct Incoming {
    stream: Stream,
    reader: Reader,
}

/// See [`super::Behaviour`].
pub struct Handler {
    queue: Arc<LinkQueue>,
    phase: Phase,
    requests: VecDeque<Lane>,
    outgoing: [Option<Outgoing>; 2],
    incoming: [Option<Incoming>; 2],
    /// Inbound streams whose first byte, the lane's name, has not come; at most two.
    unnamed: Vec<Stream>,
    events: VecDeque<FromHandler>,
    live_rounds: u8,
    /// Which lane is read first; they take turns.
    read_first: Lane,
}

impl Handler {
    pub(super) fn new(queue: LinkQueue) -> Self {
        Self {
            queue: Arc::new(queue),
            phase: Phase::Opening(Delay::new(OPEN_WITHIN)),
            requests: VecDeque::from([Lane::Live, Lane::Bulk]),
            outgoing: [None, None],
            incoming: [None, None],
            unnamed: Vec::new(),
            events: VecDeque::new(),
            live_rounds: 0,
            read_first: Lane::Live,
        }
    }

    /// For a peer that cannot be a node: opens nothing, takes nothing.
    pub(super) fn off(queue: LinkQueue) -> Self {
        Self { phase: Phase::Over, requests: VecDeque::new(), ..Self::new(queue) }
    }

    /// Drops all streams and tells why.
    fn end(&mut self, reason: LinkClosed) {
        let event = match self.phase {
            Phase::Over => return,
            Phase::Opening(_) => FromHandler::NoLink(reason),
            Phase::Up => FromHandler::Broken(reason),
            Phase::Finishing(_) if matches!(reason, LinkClosed::ByPeer) => FromHandler::Finished,
            Phase::Finishing(_) => FromHandler::Dropped,
        };
        self.drop_streams();
        self.events.push_back(event);
    }

    fn drop_streams(&mut self) {
        self.phase = Phase::Over;
        self.requests.clear();
        self.outgoing = [None, None];
        self.incoming = [None, None];
        self.unnamed.clear();
        self.queue.wish(Wish::Drop);
    }

    fn on_inbound(&mut self, stream: Stream) {
        let open = self.incoming.iter().flatten().count() + self.unnamed.len();
        if matches!(self.phase, Phase::Over) {
            return;
        }
        if open == 2 {
            return self.end(LinkClosed::Protocol("a third stream"));
        }
        self.unnamed.push(stream);
    }

    fn on_outbound(&mut self, lane: Lane, stream: Stream) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        let writer = Writer::new(index(lane) as u8);
        self.outgoing[index(lane)] = Some(Outgoing { stream, writer });
    }

    fn on_outbound_failed(&mut self, error: &StreamUpgradeError<Infallible>) {
        self.end(match error {
            StreamUpgradeError::NegotiationFailed => LinkClosed::Unsupported,
            StreamUpgradeError::Timeout => LinkClosed::TimedOut,
            StreamUpgradeError::Io(error) => LinkClosed::Stream(error.kind()),
            StreamUpgradeError::Apply(never) => match *never {},
        });
    }

    fn poll_unnamed(&mut self, cx: &mut Context<'_>) {
        let mut i = 0;
        while i < self.unnamed.len() {
            let mut name = [0];
            let read = match Pin::new(&mut self.unnamed[i]).poll_read(cx, &mut name) {
                Poll::Pending => {
                    i += 1;
                    continue;
                }
                Poll::Ready(Ok(read)) => read,
                Poll::Ready(Err(error)) => return self.end(LinkClosed::Stream(error.kind())),
            };
            let stream = self.unnamed.swap_remove(i);
            match (read, self.incoming.get_mut(usize::from(name[0]))) {
                (0, _) => return self.end(LinkClosed::ByPeer),
                (_, Some(place @ None)) => *place = Some(Incoming { stream, reader: Reader::new() }),
                (_, Some(Some(_))) => return self.end(LinkClosed::Protocol("a lane was opened twice")),
                (_, None) => return self.end(LinkClosed::Protocol("an unknown lane")),
            }
        }
    }

    /// Moves from phase to phase.
    fn poll_phase(&mut self, cx: &mut Context<'_>) {
        match (&mut self.phase, self.queue.wished()) {
            (Phase::Over, _) => {}
            (_, Wish::Drop) => self.end(LinkClosed::ByUs),
            (Phase::Opening(late), _) => {
                if self.outgoing[index(Lane::Live)].is_some() && self.incoming[index(Lane::Live)].is_some() {
                    self.phase = Phase::Up;
                    self.events.push_back(FromHandler::Up(self.queue.clone()));
                } else if late.poll_unpin(cx).is_ready() {
                    self.end(LinkClosed::TimedOut);
                }
            }
            (Phase::Up, Wish::Open) => {}
            (Phase::Up, Wish::Finish) => {
                let mut late = Delay::new(FINISH_WITHIN);
                let _ = late.poll_unpin(cx);
                self.phase = Phase::Finishing(late);
            }
            (Phase::Finishing(late), _) => {
                if late.poll_unpin(cx).is_ready() {
                    self.end(LinkClosed::ByUs);
                }
            }
        }
    }

    /// Live first. Whether all that waited is written and flushed.
    fn poll_lanes_out(&mut self, cx: &mut Context<'_>) -> bool {
        let live = self.poll_lane_out(cx, Lane::Live);
        self.live_rounds = if live == Some(Written::All) { 0 } else { self.live_rounds + 1 };
        if self.live_rounds > 0 && self.live_rounds < LIVE_ROUNDS {
            return false;
        }
        self.live_rounds = 0;
        let bulk = self.poll_lane_out(cx, Lane::Bulk);
        live == Some(Written::All) && bulk == Some(Written::All)
    }

    /// `None` while the stream takes no more.
    fn poll_lane_out(&mut self, cx: &mut Context<'_>, lane: Lane) -> Option<Written> {
        let Some(out) = &mut self.outgoing[index(lane)] else {
            return self.queue.is_empty(lane).then_some(Written::All);
        };
        let queue = &self.queue;
        let budget = if lane == Lane::Live { LIVE_BUDGET } else { BULK_BUDGET };
        let round = out.writer.poll_write(
            cx,
            &mut out.stream,
            budget,
            |take| queue.take(lane, take),
            |bytes| queue.on_written(lane, bytes),
        );
        match round {
            Poll::Pending => None,
            Poll::Ready(Ok(written)) => {
                if written == Written::Budget {
                    cx.waker().wake_by_ref();
                }
                Some(written)
            }
            Poll::Ready(Err(error)) => {
                self.end(LinkClosed::Stream(error.kind()));
                None
            }
        }
    }

    /// The frames that came in on one of the lanes.
    fn poll_lanes_in(&mut self, cx: &mut Context<'_>) -> Option<FromHandler> {
        let first = self.read_first;
        let second = if first == Lane::Live { Lane::Bulk } else { Lane::Live };
        for (lane, next) in [(first, second), (second, first)] {
            if let Some(frames) = self.poll_lane_in(cx, lane) {
                self.read_first = next;
                return Some(FromHandler::Frames(lane, frames));
            }
        }
        None
    }

    fn poll_lane_in(&mut self, cx: &mut Context<'_>, lane: Lane) -> Option<Vec<Bytes>> {
        let from = self.incoming[index(lane)].as_mut()?;
        let mut frames = Vec::new();
        match from.reader.poll_frames(cx, &mut from.stream, &mut frames) {
            Poll::Pending => return None,
            Poll::Ready(Ok(())) => return Some(frames),
            // Nothing is lost of the live lane when bulk ends first.
            Poll::Ready(Err(ReadError::Ended)) if lane == Lane::Bulk => self.incoming[index(lane)] = None,
            Poll::Ready(Err(error)) => self.end(error.into()),
        }
        None
    }

    /// Sends the rest, closes our lanes, and reads on (for nobody) until the peer has closed its
    /// own: by then it has read all.
    fn poll_finish(&mut self, cx: &mut Context<'_>) {
        if !self.poll_lanes_out(cx) {
            return;
        }
        for out in &mut self.outgoing {
            let closed = out.as_mut().map(|out| Pin::new(&mut out.stream).poll_close(cx));
            match closed {
                None => {}
                Some(Poll::Pending) => return,
                Some(Poll::Ready(_)) => *out = None,
            }
        }
        while self.poll_lanes_in(cx).is_some() {}
    }
}

type ToSwarm = ConnectionHandlerEvent<ReadyUpgrade<StreamProtocol>, Lane, HandlerEvent>;

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = HandlerEvent;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Lane;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn connection_keep_alive(&self) -> bool {
        !matches!(self.phase, Phase::Over)
    }

    /// Looks first at what others want of us, then writes, then reads: each bounded.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm> {
        self.queue.register(cx.waker());
        self.poll_unnamed(cx);
        self.poll_phase(cx);
        match self.phase {
            // Before the link stands, the lanes' names go out.
            Phase::Opening(_) | Phase::Up => {
                self.poll_lanes_out(cx);
            }
            Phase::Finishing(_) => self.poll_finish(cx),
            Phase::Over => {}
        }
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(HandlerEvent(event)));
        }
        if let Some(lane) = self.requests.pop_front() {
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), lane);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        if matches!(self.phase, Phase::Up)
            && let Some(frames) = self.poll_lanes_in(cx)
        {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(HandlerEvent(frames)));
        }
        match self.events.pop_front() {
            Some(event) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(HandlerEvent(event))),
            None => Poll::Pending,
        }
    }

    /// Gives the streams what they take at once; the muxer sends that before it closes.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        if matches!(self.phase, Phase::Up | Phase::Finishing(_)) {
            let _ = self.poll_lanes_out(cx);
        }
        self.drop_streams();
        Poll::Ready(None)
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), Lane>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.on_inbound(protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                self.on_outbound(info, protocol);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.on_outbound_failed(&error);
            }
            _ => {}
        }
    }
}
