//! What a node remembers from one run to the next: small, in one file, replaced whole.

use std::io;
use std::path::{Path, PathBuf};

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};
use treecast_overlay::{Descriptor, NodeId};

use crate::files;

/// Its name in the data directory.
const FILE: &str = "state.json";

/// Nodes whose addresses are remembered. Guess: enough to find a way back in.
pub(crate) const MAX_PEERS: usize = 64;

/// Addresses remembered of one node.
pub(crate) const MAX_ADDRESSES: usize = 8;

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    /// What the node calls itself, if it was ever told.
    pub(crate) nick: Option<String>,
    /// The port of the default TCP listeners.
    pub(crate) tcp_port: Option<u16>,
    /// The port of the default QUIC listeners.
    pub(crate) quic_port: Option<u16>,
    /// The highest life used in any group.
    pub(crate) last_life: u64,
    /// Groups to go on with.
    pub(crate) groups: Vec<KeptGroup>,
    /// Where others were reached, latest first.
    pub(crate) peers: Vec<KeptPeer>,
}

/// A group the node is in until it leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptGroup {
    /// What it is called here.
    pub(crate) label: String,
    /// What it is.
    #[serde(with = "descriptor_text")]
    pub(crate) descriptor: Descriptor,
}

/// A node and where it was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptPeer {
    /// Who.
    #[serde(with = "node_text")]
    pub(crate) node: NodeId,
    /// Where.
    pub(crate) addresses: Vec<Multiaddr>,
}

/// Why nothing is remembered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("{}: {why}", .path.display())]
    Bad { path: PathBuf, why: String },
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl State {
    /// Reads it; a data directory that has none gets the default.
    pub(crate) fn load(data_dir: &Path) -> Result<Self, StateError> {
        let path = data_dir.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(StateError::Io { path, source }),
        };
        serde_json::from_slice(&bytes).map_err(|error| StateError::Bad { path, why: error.to_string() })
    }

    /// Replaces the file; durable when this returns.
    pub(crate) fn save(&self, data_dir: &Path) -> io::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("it has string keys only");
        bytes.push(b'\n');
        files::replace(data_dir, FILE, &bytes)
    }

    /// Puts a node first among those remembered. Says whether anything changed but the order.
    pub(crate) fn remember_peer(&mut self, node: NodeId, mut addresses: Vec<Multiaddr>) -> bool {
        addresses.truncate(MAX_ADDRESSES);
        let peer = KeptPeer { node, addresses };
        let changed = !self.peers.contains(&peer);
        self.peers.retain(|kept| kept.node != node);
        self.peers.insert(0, peer);
        self.peers.truncate(MAX_PEERS);
        changed
    }
}

mod node_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use treecast_overlay::NodeId;

    pub(super) fn serialize<S: Serializer>(node: &NodeId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(node)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NodeId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

mod descriptor_text {
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use treecast_overlay::Descriptor;

    pub(super) fn serialize<S: Serializer>(
        descriptor: &Descriptor,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&descriptor.to_bytes()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Descriptor, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64.decode(text.as_bytes()).map_err(D::Error::custom)?;
        Descriptor::from_bytes(&bytes).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;

    #[test]
    fn what_is_saved_is_read_back() {
        let scratch = Scratch::new();
        assert_eq!(State::load(scratch.path()).expect("no file"), State::default());
        let descriptor = Descriptor::open("lobby").expect("a good name");
        let mut state = State {
            nick: Some("ada".into()),
            tcp_port: Some(4001),
            last_life: 7,
            groups: vec![KeptGroup { label: "lobby".into(), descriptor }],
            ..State::default()
        };
        let node = NodeId::from_bytes([3; 32]);
        assert!(state.remember_peer(node, vec!["/ip4/10.0.0.1/tcp/1".parse().expect("an address")]));
        assert!(!state.remember_peer(node, vec!["/ip4/10.0.0.1/tcp/1".parse().expect("an address")]));
        state.save(scratch.path()).expect("written");
        assert_eq!(State::load(scratch.path()).expect("read"), state);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let scratch = Scratch::new();
        std::fs::write(scratch.path().join(FILE), "{\"nick\":").expect("written");
        assert!(matches!(State::load(scratch.path()), Err(StateError::Bad { .. })));
    }

    #[test]
    fn an_unknown_field_is_no_damage() {
        let scratch = Scratch::new();
        std::fs::write(scratch.path().join(FILE), "{\"later\":1,\"last_life\":9}").expect("written");
        assert_eq!(State::load(scratch.path()).expect("read").last_life, 9);
    }
}
