//! The door: owns links and groups, and routes each input to its room.

use bytes::Bytes;

use crate::config::{Config, ConfigError};
use crate::id::{GroupId, NodeId};
use crate::io::{CollectionView, GroupView, Input};
use crate::out::Out;
use crate::time::Time;

/// How an engine starts.
pub struct Start {
    /// Caps and durations.
    pub config: Config,
    /// The node's Ed25519 secret key (32 bytes); its public half is the [`NodeId`].
    pub secret_key: [u8; 32],
    /// Where all its choices come from: the same seed and inputs give the same run.
    pub seed: u64,
    /// Unix milliseconds at [`Time::ZERO`]; for lives, incarnations and the times that
    /// messages show.
    pub unix_ms: u64,
    /// The highest life this node has used in any group, from its store; 0 if none.
    pub last_life: u64,
}

/// The protocol of one node, as a machine without I/O.
pub struct Engine {
    me: NodeId,
}

impl Engine {
    /// A node that is in no group and has no link.
    ///
    /// # Errors
    /// When the configuration is out of range.
    pub fn new(start: Start) -> Result<Self, ConfigError> {
        start.config.check()?;
        let key = ed25519_dalek::SigningKey::from_bytes(&start.secret_key);
        Ok(Self { me: NodeId::from_bytes(key.verifying_key().to_bytes()) })
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.me
    }

    /// Takes one input and writes what follows to `out`.
    pub fn handle(&mut self, _now: Time, _input: Input, _out: &mut Out) {
        let _ = Bytes::new();
    }

    /// When to call [`Engine::handle`] with [`Input::Tick`] if nothing else happens.
    pub fn deadline(&self) -> Option<Time> {
        None
    }

    /// How many more payload bytes the group takes before [`Input::Publish`] is refused.
    pub fn publish_room(&self, _group: GroupId) -> usize {
        0
    }

    /// The groups this node is in.
    pub fn groups(&self) -> Vec<GroupId> {
        Vec::new()
    }

    /// One group, as this node sees it.
    pub fn group(&self, _now: Time, _group: GroupId) -> Option<GroupView> {
        None
    }

    /// Round trip to a linked node, measured by pings.
    pub fn rtt(&self, _node: NodeId) -> Option<std::time::Duration> {
        None
    }

    /// How full every bounded collection is.
    pub fn collections(&self) -> Vec<CollectionView> {
        Vec::new()
    }
}
