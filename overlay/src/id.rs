//! Names of things: nodes, groups, batches, links.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A node's identity: its Ed25519 public key.
///
/// It prints as the libp2p `PeerId` of that key (`12D3KooW…`), so that the same
/// string names the node everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId([u8; 32]);

/// What stands before the key in an Ed25519 `PeerId`: identity multihash, length
/// 36, and the protobuf of a public key (libp2p specs, `peer-ids`).
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl Ord for NodeId {
    /// As the bytes. Almost all differ in the first eight: half of what an engine does is to look
    /// nodes up.
    fn cmp(&self, other: &Self) -> Ordering {
        self.head().cmp(&other.head()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for NodeId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl NodeId {
    /// The first eight bytes, as a number.
    pub(crate) fn head(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// The node with this Ed25519 public key (32 bytes). Whether they are a point
    /// of the curve shows when a signature is checked.
    pub const fn from_bytes(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The public key, 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 38 bytes of the libp2p `PeerId`.
    pub fn to_peer_id_bytes(&self) -> [u8; 38] {
        let mut bytes = [0; 38];
        bytes[..6].copy_from_slice(&PEER_ID_PREFIX);
        bytes[6..].copy_from_slice(&self.0);
        bytes
    }

    /// Reads the bytes of a libp2p `PeerId`; `None` if its key is not an inlined
    /// Ed25519 key.
    pub fn from_peer_id_bytes(bytes: &[u8]) -> Option<Self> {
        let key = bytes.strip_prefix(&PEER_ID_PREFIX)?;
        Some(Self(key.try_into().ok()?))
    }

    /// Eight bytes that stand for the node where a collision costs bytes or time
    /// only (tree paths, roster digests).
    pub fn tag(&self) -> u64 {
        let hash = blake3::hash(&self.0);
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
    }

    /// The end of the printed form, for people: `…x7Kp2Q`.
    pub fn short(&self) -> String {
        let text = self.to_string();
        text[text.len() - 6..].to_owned()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.to_peer_id_bytes()).into_string())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId(…{})", self.short())
    }
}

/// The text is not the `PeerId` of an Ed25519 key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a node id: expected the base58 PeerId of an Ed25519 key (12D3KooW…)")]
pub struct ParseNodeIdError;

impl FromStr for NodeId {
    type Err = ParseNodeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > 64 {
            return Err(ParseNodeIdError);
        }
        let bytes = bs58::decode(text).into_vec().map_err(|_| ParseNodeIdError)?;
        Self::from_peer_id_bytes(&bytes).ok_or(ParseNodeIdError)
    }
}

impl Serialize for NodeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fixed_bytes(deserializer).map(Self)
    }
}

/// A group's identity: the BLAKE3 hash of its descriptor (32 bytes).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId([u8; 32]);

impl GroupId {
    /// The group whose descriptor hashes to these bytes.
    pub const fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash, 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Under which key members announce themselves in a public directory: BLAKE3 (derive-key
    /// context `treecast 1 rendezvous`) of the id. Whoever keeps the directory learns how many
    /// meet, and where, but neither the group's id nor anything it can join with.
    pub fn rendezvous(&self) -> [u8; 32] {
        blake3::derive_key("treecast 1 rendezvous", &self.0)
    }

    /// The start of the printed form, for people and for telling two groups of
    /// one name apart (`name~ab12`).
    pub fn short(&self) -> String {
        self.to_string()[..4].to_owned()
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupId({})", self.short())
    }
}

impl Serialize for GroupId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for GroupId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fixed_bytes(deserializer).map(Self)
    }
}

/// A batch's digest: BLAKE3 over the group id and the signed part, cut to 20 bytes.
///
/// 160 bits keep everybody but the author from finding a second batch with the same
/// digest, and the header within 150 bytes (`docs/decisions/001-digest-length.md`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest([u8; Digest::LEN]);

impl Digest {
    /// Length in bytes.
    pub const LEN: usize = 20;
    /// The predecessor of a life's first batch.
    pub const ZERO: Self = Self([0; Self::LEN]);

    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fixed_bytes(deserializer).map(Self)
    }
}

fn fixed_bytes<'de, D, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error>
where
    D: serde::Deserializer<'de>,
{
    let bytes: &serde_bytes::Bytes = Deserialize::deserialize(deserializer)?;
    <[u8; N]>::try_from(bytes.as_ref())
        .map_err(|_| serde::de::Error::invalid_length(bytes.len(), &"the exact length"))
}

/// One run of a publisher: larger is later. `max(last + 1, unix ms, highest that
/// neighbours report + 1)`.
pub type Life = u64;

/// Counts a source's batches from 0 without holes inside one [`Life`].
pub type Seq = u64;

/// A batch's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId {
    /// Who published it.
    pub source: NodeId,
    /// In which of its runs.
    pub life: Life,
    /// Its place in that run.
    pub seq: Seq,
}

/// A live connection to a neighbour. The driver chooses the number; it is not used
/// again while the engine lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Ties an [`Output::Persist`](crate::Output::Persist) to its
/// [`Input::Persisted`](crate::Input::Persisted).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Ties an [`Input::Publish`](crate::Input::Publish) to the events about it; chosen by
/// the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishId(pub u64);

/// Where a node can be reached, opaque to the core: the bytes of a multiaddr,
/// 1 to 255 of them.
///
/// Clones share the bytes: records, candidates and what is told of them name the same addresses.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(Arc<[u8]>);

impl Address {
    /// Longest address in bytes.
    pub const MAX_LEN: usize = 255;

    /// `None` if empty or longer than [`Address::MAX_LEN`].
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (!bytes.is_empty() && bytes.len() <= Self::MAX_LEN).then(|| Self(bytes.into()))
    }

    /// The bytes of the multiaddr.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: Cow<'de, [u8]> = serde_bytes::deserialize(deserializer)?;
        Ok(Self(Arc::from(bytes)))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_prints_as_its_peer_id_and_reads_back() {
        let id = NodeId::from_bytes([7; 32]);
        let text = id.to_string();
        assert!(text.starts_with("12D3KooW"), "{text}");
        assert_eq!(text.parse::<NodeId>(), Ok(id));
        assert_eq!("".parse::<NodeId>(), Err(ParseNodeIdError));
        assert_eq!("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N".parse::<NodeId>(), Err(ParseNodeIdError));
    }
}
