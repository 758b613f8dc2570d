//! A peer for tests that speaks the protocol's name and then whatever it likes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{AsyncWriteExt, FutureExt};
use futures_timer::Delay;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::ConnectionEvent;
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    Stream, StreamProtocol, SubstreamProtocol, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::handler::PROTOCOL;

/// What a raw peer does on its connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// Opens a stream that begins with these bytes, and holds it.
    Open(&'static [u8]),
    /// The same, and closes it for writing.
    OpenAndClose(&'static [u8]),
    /// Long enough for a link to stand.
    Wait,
}

/// Takes all streams, reads none of them, and follows its script.
pub(super) struct Raw(Vec<Step>);

impl Raw {
    pub(super) fn new(script: &[Step]) -> Self {
        Self(script.to_vec())
    }

    fn handler(&self) -> RawHandler {
        RawHandler {
            script: self.0.iter().copied().collect(),
            wait: None,
            held: Vec::new(),
            work: Vec::new(),
        }
    }
}

pub(super) struct RawHandler {
    script: VecDeque<Step>,
    wait: Option<Delay>,
    held: Vec<Stream>,
    work: Vec<Pin<Box<dyn Future<Output = Option<Stream>> + Send>>>,
}

impl ConnectionHandler for RawHandler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Step;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Step, Infallible>> {
        let held = &mut self.held;
        self.work.retain_mut(|write| match write.poll_unpin(cx) {
            Poll::Pending => true,
            Poll::Ready(stream) => {
                held.extend(stream);
                false
            }
        });
        if let Some(wait) = &mut self.wait
            && wait.poll_unpin(cx).is_pending()
        {
            return Poll::Pending;
        }
        self.wait = None;
        match self.script.pop_front() {
            None => Poll::Pending,
            Some(Step::Wait) => {
                self.wait = Some(Delay::new(Duration::from_millis(200)));
                self.poll(cx)
            }
            Some(step) => {
                let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), step);
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
        }
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), Step>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(it) => self.held.push(it.protocol),
            ConnectionEvent::FullyNegotiatedOutbound(it) => {
                let mut stream = it.protocol;
                let (bytes, close) = match it.info {
                    Step::Open(bytes) => (bytes, false),
                    Step::OpenAndClose(bytes) => (bytes, true),
                    Step::Wait => return,
                };
                self.work.push(Box::pin(async move {
                    stream.write_all(bytes).await.ok()?;
                    stream.flush().await.ok()?;
                    if close {
                        stream.close().await.ok()?;
                    }
                    Some(stream)
                }));
            }
            _ => {}
        }
    }
}

impl NetworkBehaviour for Raw {
    type ConnectionHandler = RawHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<RawHandler, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<RawHandler, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Infallible>> {
        Poll::Pending
    }
}
