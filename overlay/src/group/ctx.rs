//! What the engine lends a group for one input.

use bytes::Bytes;

use crate::config::Config;
use crate::dialer::Dialer;
use crate::id::{Address, GroupId, NodeId, Token};
use crate::identity::Identity;
use crate::io::{Event, Fetch, FetchEarlier, Lane, Output, TrafficView, Write};
use crate::links::Links;
use crate::out::Out;
use crate::rng::Rng;
use crate::time::Time;
use crate::wire::frame::{Channel, Channels, Frame};

/// The world around a group's rooms: the time, the caps, the links, the one output.
pub(crate) struct Ctx<'a> {
    pub(crate) now: Time,
    pub(crate) unix_ms: u64,
    pub(crate) config: &'a Config,
    pub(crate) identity: &'a Identity,
    pub(crate) group: GroupId,
    pub(crate) channel: Channel,
    pub(crate) rng: &'a mut Rng,
    pub(crate) links: &'a mut Links,
    pub(crate) dialer: &'a mut Dialer,
    pub(crate) traffic: &'a mut TrafficView,
    /// The highest life this node has used in any group.
    pub(crate) last_life: &'a mut u64,
    pub(crate) next_token: &'a mut u64,
    pub(crate) tokens: &'a mut std::collections::BTreeMap<Token, GroupId>,
    pub(crate) out: &'a mut Out,
}

impl Ctx<'_> {
    pub(crate) fn me(&self) -> NodeId {
        self.identity.node()
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.out.event(event);
    }

    /// Sends a control frame on the live lane.
    pub(crate) fn send(&mut self, node: &NodeId, frame: &Frame) {
        let bytes = frame.encode(self.channel);
        self.send_encoded(node, Lane::Live, bytes);
    }

    /// Sends one frame to many, encoded once.
    pub(crate) fn send_all(&mut self, nodes: &[NodeId], frame: &Frame) {
        if nodes.is_empty() {
            return;
        }
        let bytes = frame.encode(self.channel);
        for node in nodes {
            self.send_encoded(node, Lane::Live, bytes.clone());
        }
    }

    pub(crate) fn send_encoded(&mut self, node: &NodeId, lane: Lane, bytes: Bytes) {
        let len = bytes.len() as u64;
        let batch = crate::wire::frame::is_batch(&bytes);
        if self.links.send(self.now, node, lane, bytes, self.out) {
            let counter = if batch { &mut self.traffic.batches } else { &mut self.traffic.control };
            *counter += len;
        }
    }

    /// Ends the group's part of all links to a node.
    pub(crate) fn part(&mut self, node: &NodeId) {
        let close = Frame::Channels(Channels { open: Vec::new(), close: vec![self.channel] }).encode(0);
        for link in self.links.part(node, &self.group) {
            self.links.send_on(self.now, link, Lane::Live, close.clone(), self.out);
        }
    }

    pub(crate) fn dial(&mut self, node: NodeId, addresses: &[Address]) -> bool {
        self.dialer.dial(self.now, node, addresses, self.config, self.links, self.out)
    }

    fn token(&mut self) -> Token {
        let token = Token(*self.next_token);
        *self.next_token += 1;
        self.tokens.insert(token, self.group);
        token
    }

    pub(crate) fn fetch(&mut self, fetch: Fetch) -> Token {
        let token = self.token();
        self.out.push(Output::Fetch { token, fetch: Box::new(fetch) });
        token
    }

    pub(crate) fn fetch_earlier(&mut self, fetch: FetchEarlier) -> Token {
        let token = self.token();
        self.out.push(Output::FetchEarlier { token, fetch });
        token
    }

    pub(crate) fn persist(&mut self, writes: Vec<Write>) -> Token {
        let token = self.token();
        self.out.push(Output::Persist { token, writes });
        token
    }
}
