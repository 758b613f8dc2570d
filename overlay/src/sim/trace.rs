//! The hash over everything that entered an engine and everything it told.

use std::fmt::{self, Write as _};

use super::node::NodeIx;
use crate::id::GroupId;
use crate::io::{Delivery, Event, Input};
use crate::time::Time;

/// What is hashed at a time: BLAKE3 takes many blocks at once several times as fast as one by one.
const PIECE: usize = 64 * 1_024;

/// BLAKE3 over the run so far. As frames that enter one engine came out of another, two runs
/// with the same hash are the same run.
pub(super) struct Trace {
    hasher: blake3::Hasher,
    /// What is not hashed yet.
    piece: Vec<u8>,
}

impl Trace {
    pub(super) fn new(seed: u64) -> Self {
        let hasher = blake3::Hasher::new_derive_key("treecast 1 simulator trace");
        let mut trace = Self { hasher, piece: Vec::with_capacity(PIECE) };
        trace.update(&seed.to_le_bytes());
        trace
    }

    fn update(&mut self, bytes: &[u8]) {
        if self.piece.len() + bytes.len() > PIECE {
            self.hasher.update(&self.piece);
            self.piece.clear();
        }
        self.piece.extend_from_slice(bytes);
    }

    pub(super) fn input(&mut self, now: Time, node: NodeIx, input: &Input) {
        match input {
            Input::Frame { link, lane, frame } => {
                self.head(b'f', now, node, link.0 << 1 | *lane as u64);
                self.update(&(frame.len() as u64).to_le_bytes());
                self.update(frame);
            }
            Input::Drained { link, lane, bytes } => {
                self.head(b'd', now, node, link.0 << 1 | *lane as u64);
                self.update(&(*bytes as u64).to_le_bytes());
            }
            Input::Tick => self.head(b't', now, node, 0),
            other => self.text(b'i', now, node, other),
        }
    }

    pub(super) fn event(&mut self, now: Time, node: NodeIx, event: &Event) {
        match event {
            Event::Deliver { group, delivery, .. } => self.delivery(now, node, group, delivery),
            // What there is most of besides: a thousand nodes meet two hundred members each.
            Event::MemberJoined { group, node: member, nick } => {
                self.head(b'j', now, node, nick.len() as u64);
                self.update(group.as_bytes());
                self.update(member.as_bytes());
                self.update(nick.as_bytes());
            }
            other => self.text(b'e', now, node, other),
        }
    }

    fn delivery(&mut self, now: Time, node: NodeIx, group: &GroupId, delivery: &Delivery) {
        self.head(b'm', now, node, delivery.life);
        self.update(group.as_bytes());
        self.update(delivery.source.as_bytes());
        for number in [delivery.seq, delivery.time_unix_ms, u64::from(delivery.first)] {
            self.update(&number.to_le_bytes());
        }
        for payload in &delivery.payloads {
            self.update(&(payload.len() as u64).to_le_bytes());
            self.update(payload);
        }
    }

    pub(super) fn hash(&self) -> String {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.piece).finalize().to_hex().to_string()
    }

    fn head(&mut self, tag: u8, now: Time, node: NodeIx, number: u64) {
        let mut head = [0; 25];
        head[0] = tag;
        head[1..9].copy_from_slice(&now.as_micros().to_le_bytes());
        head[9..17].copy_from_slice(&(node.0 as u64).to_le_bytes());
        head[17..].copy_from_slice(&number.to_le_bytes());
        self.update(&head);
    }

    fn text(&mut self, tag: u8, now: Time, node: NodeIx, what: &impl fmt::Debug) {
        self.head(tag, now, node, 0);
        write!(HashText(self), "{what:?}").expect("hashing does not fail");
    }
}

/// Formats straight into the hash.
struct HashText<'a>(&'a mut Trace);

impl fmt::Write for HashText<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}
