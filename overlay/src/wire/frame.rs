//! Frames: `[kind, channel, body]`. Kinds that are not known are ignored, and so are
//! fields after the last known one.

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_bytes::ByteBuf;

use super::cbor::{self, Malformed, cbor_array};
use super::compare::{Baseline, Compare};
use super::earlier::{Earlier, PullEarlier};
use super::frontier::{Frontier, News};
use super::order::{Agree, Start};
pub(crate) use super::pull::{Hold, Pull, PullEnd};
use super::removal::Removals;
use crate::coordinate::Place;
use crate::id::{Address, Life, NodeId, Seq};

/// The sender's number for a group on all its links; 0 is the link itself.
pub(crate) type Channel = u32;

cbor_array! {
    /// Opens a link.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Hello {
        /// Wire version of the sender, for its information.
        pub(crate) version: u32,
    }
}

cbor_array! {
    /// The groups that the sender is in. A tag shows a group only to who knows it.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Channels {
        pub(crate) open: Vec<(Channel, ByteBuf)>,
        pub(crate) close: Vec<Channel>,
    }
}

cbor_array! {
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Ping {
        pub(crate) nonce: u64;
        or_none
        /// Where the sender is, by its network coordinate, unless it told that before.
        pub(crate) place: Place,
        /// The shortest round trip that it measured on this link, while it looks for its place.
        pub(crate) rtt_us: u32,
    }
}

cbor_array! {
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Pong {
        /// The ping's.
        pub(crate) nonce: u64;
        or_none
        /// As in a ping.
        pub(crate) place: Place,
    }
}

cbor_array! {
    /// A node without neighbours asks in.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Join {
        pub(crate) record: ByteBuf,
        /// It has no baseline yet.
        pub(crate) fresh: bool,
        /// How long ago it entered the group, ms: what was published since is owed to it.
        pub(crate) age_ms: u64,
    }
}

cbor_array! {
    /// The answer to `Join`: a neighbour's place, and where to start.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Welcome {
        pub(crate) records: Vec<ByteBuf>,
        /// (source, life, first seq that is owed to the joiner).
        pub(crate) baseline: Vec<(NodeId, Life, Seq)>,
        /// Where the joiner's own last life ended, as far as known here.
        pub(crate) last_life: Option<(Life, Seq)>,
        /// Whether the sender knows itself where it started.
        pub(crate) grounded: bool;
        or_none
        /// In a total order: which place in it the baseline is.
        pub(crate) order: Start,
        /// For so long after the joiner entered the sender cannot say what is owed: it came later itself.
        pub(crate) unknown_ms: u64,
    }
}

cbor_array! {
    /// Asks for a place in the active view.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Neighbour {
        pub(crate) record: ByteBuf,
        /// The asker has no other neighbour (HyParView §4.3: high priority).
        pub(crate) high: bool,
        /// It may want to be a child: a full view is no reason against it, a full tree place is.
        pub(crate) near: bool,
    }
}

cbor_array! {
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct NeighbourReply {
        pub(crate) accepted: bool,
        pub(crate) record: ByteBuf,
    }
}

cbor_array! {
    /// A joiner's random walk (HyParView §4.2).
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct ForwardJoin {
        pub(crate) record: ByteBuf,
        pub(crate) ttl: u8,
    }
}

cbor_array! {
    /// Member records: of a shuffle, or flooded.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Records {
        pub(crate) members: Vec<ByteBuf>,
        pub(crate) suspicions: Vec<ByteBuf>,
    }
}

cbor_array! {
    /// What the sender's roster holds: (node tag, incarnation, standing).
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct RosterDigest {
        pub(crate) entries: Vec<(u64, u64, u8)>,
        /// Answer with yours.
        pub(crate) exchange: bool,
    }
}

cbor_array! {
    /// SWIM's ping-req, and its answer.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Probe {
        pub(crate) target: NodeId,
        pub(crate) nonce: u64,
        /// In the answer: whether the target answered.
        pub(crate) alive: bool,
    }
}

cbor_array! {
    /// A tree node's word on its place.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(crate) struct Advert {
        pub(crate) root: NodeId,
        /// The root's term: higher wins, then the lower id.
        pub(crate) epoch: u64,
        /// Counts the root's adverts of this term.
        pub(crate) number: u64,
        /// Path latency from the root, microseconds.
        pub(crate) delay_us: u64,
        /// Tags of the nodes from the root to the sender, both included.
        pub(crate) path: Vec<u64>,
        /// Children that the sender would still take.
        pub(crate) free: u32,
        /// Who follows the root if it goes.
        pub(crate) heir: Option<NodeId>,
        /// Nodes in the tree, as the root counts them.
        pub(crate) size: u32,
        /// Counts the root's changes to the cores.
        pub(crate) plan: u32,
    }
}

cbor_array! {
    /// The sender's place is as it told last, but for the root's running number.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Pulse {
        pub(crate) number: u64,
    }
}

cbor_array! {
    /// Somebody who would take a child, as one member tells another.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Candidate {
        pub(crate) node: NodeId,
        /// Where it may be reached: the first of its own list. Hearsay, as all of it.
        pub(crate) addresses: Vec<Address>,
        /// Its path latency from the root, microseconds.
        pub(crate) delay_us: u64,
        /// Children that it would still take.
        pub(crate) free: u32,
        pub(crate) place: Place,
        /// How old its own word on this is, in seconds.
        pub(crate) age_s: u32,
        /// Half the shortest round trip between the sender and it, microseconds, if it was measured of late.
        pub(crate) way_us: Option<u32>,
    }
}

cbor_array! {
    /// Candidates for a parent, those that should suit the receiver best.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Candidates {
        /// The tree that this is about: the tag of its root, plus its epoch.
        pub(crate) tree: u64,
        /// What the sender looks for: whoever is near this.
        pub(crate) towards: Place,
        /// Answer with yours.
        pub(crate) exchange: bool,
        pub(crate) candidates: Vec<Candidate>,
    }
}

cbor_array! {
    /// Some members that are near each other.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Cluster {
        /// The middle of their places.
        pub(crate) centre: Place,
        /// How many they are.
        pub(crate) members: u32,
        /// Tag of the one that would be the best core of these, and where it is.
        pub(crate) best: u64,
        pub(crate) place: Place,
        /// This one publishes so much that it is to be a core itself.
        pub(crate) source: bool,
    }
}

cbor_array! {
    /// Asks to be, or to stay, a child in the tree of this root.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Graft {
        pub(crate) root: NodeId,
        pub(crate) epoch: u64,
        /// Nodes in the sender's subtree, itself among them.
        pub(crate) size: u32,
        /// The sender is a core, or was asked to be one.
        pub(crate) core: bool,
        /// It feeds the other cores itself.
        pub(crate) meshed: bool,
        /// Where they are; empty if that is as told before.
        pub(crate) clusters: Vec<Cluster>,
    }
}

cbor_array! {
    /// The root asks a member to be a core; passed down the tree to whoever has this tag.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Appoint {
        pub(crate) root: NodeId,
        pub(crate) epoch: u64,
        pub(crate) tag: u64,
        /// Where the root may be reached.
        pub(crate) addresses: Vec<Address>,
        /// There is no other core: all count latency from the root.
        pub(crate) alone: bool,
        /// To all below: it is not where it was thought to be.
        pub(crate) wide: bool,
    }
}

cbor_array! {
    /// The root tells the cores who all of them are, itself among them.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Cores {
        pub(crate) root: NodeId,
        pub(crate) epoch: u64,
        pub(crate) cores: Vec<(NodeId, Vec<Address>)>,
    }
}

cbor_array! {
    /// From core to core: feed me (or, no longer), and I feed you.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Mesh {
        pub(crate) on: bool,
    }
}

cbor_array! {
    /// The root hands its place over: the receiver is to claim this term.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Crown {
        pub(crate) root: NodeId,
        pub(crate) epoch: u64,
    }
}

cbor_array! {
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct GraftReply {
        pub(crate) accepted: bool,
        /// Whom to ask instead.
        pub(crate) candidates: Vec<NodeId>,
    }
}

cbor_array! {
    /// Asks for a pause in pushed batches, or ends it.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Flow {
        pub(crate) paused: bool,
    }
}

cbor_array! {
    /// Asks for news of what the receiver holds, or for no more of them.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Listen {
        pub(crate) on: bool,
    }
}

cbor_array! {
    /// Anti-entropy: a hash over all frontiers, and one over the roster.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Summary {
        pub(crate) frontiers: u64,
        pub(crate) roster: u64,
    }
}

cbor_array! {
    /// The source asks who has delivered its batches below `next`; flooded.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct AckRequest {
        pub(crate) source: NodeId,
        pub(crate) life: Life,
        pub(crate) next: Seq,
        pub(crate) round: u64,
    }
}

cbor_array! {
    /// Acknowledgements on their way to their source.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Acks {
        pub(crate) acks: Vec<ByteBuf>,
    }
}

cbor_array! {
    /// Two batches that one source signed for one place.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Fork {
        pub(crate) first: ByteBuf,
        pub(crate) second: ByteBuf,
    }
}

cbor_array! {
    /// A frame that says all by its kind; later versions may add to it.
    #[derive(Debug, Clone, Default, PartialEq)]
    pub(crate) struct Empty {
        reserved: u8,
    }
}

/// A frame's body, or the raw bytes of a batch.
#[derive(Debug, Clone)]
pub(crate) enum Frame {
    Hello(Hello),
    Channels(Channels),
    Ping(Ping),
    Pong(Pong),
    Join(Join),
    Welcome(Welcome),
    Neighbour(Neighbour),
    NeighbourReply(NeighbourReply),
    Disconnect(Empty),
    ForwardJoin(ForwardJoin),
    Shuffle(Records),
    ShuffleReply(Records),
    Records(Records),
    RosterDigest(RosterDigest),
    Probe(Probe),
    ProbeReply(Probe),
    Advert(Advert),
    Graft(Graft),
    /// To stay a child; nothing has changed.
    Stay(Empty),
    GraftReply(GraftReply),
    Prune(Empty),
    Candidates(Candidates),
    Crown(Crown),
    Appoint(Appoint),
    Cores(Cores),
    Mesh(Mesh),
    Pulse(Pulse),
    Batch(Bytes),
    Frontier(Frontier),
    News(News),
    Pull(Pull),
    PullEnd(PullEnd),
    Flow(Flow),
    Summary(Summary),
    AckRequest(AckRequest),
    Acks(Acks),
    Fork(Fork),
    Listen(Listen),
    Hold(Hold),
    PullEarlier(PullEarlier),
    Earlier(Earlier),
    Compare(Compare),
    Baseline(Baseline),
    Removals(Removals),
    Agree(Agree),
    /// Of a later version.
    Unknown,
}

/// The kind of a batch frame, the one that is not read by serde.
const BATCH: u8 = 40;

macro_rules! kinds {
    ($($code:literal => $variant:ident,)+) => {
        /// What a kind of frame is called; none if it is of a later version.
        pub(crate) fn kind_name(kind: u8) -> Option<&'static str> {
            match kind {
                $($code => Some(stringify!($variant)),)+
                BATCH => Some("Batch"),
                _ => None,
            }
        }

        impl Frame {
            fn read<'de, A: SeqAccess<'de>>(kind: u8, seq: &mut A) -> Result<Self, A::Error> {
                let missing = || A::Error::custom("a frame without a body");
                Ok(match kind {
                    $($code => Self::$variant(seq.next_element()?.ok_or_else(missing)?),)+
                    _ => Self::Unknown,
                })
            }

            /// The frame's bytes, once for however many links.
            pub(crate) fn encode(&self, channel: Channel) -> Bytes {
                match self {
                    $(Self::$variant(body) => cbor::to_vec(&($code as u8, channel, body)).into(),)+
                    Self::Batch(bytes) => encode_batch(channel, bytes),
                    Self::Unknown => unreachable!("nobody builds a frame of a later version"),
                }
            }
        }
    };
}

kinds! {
    0 => Hello, 1 => Channels, 2 => Ping, 3 => Pong,
    10 => Join, 11 => Welcome, 12 => Neighbour, 13 => NeighbourReply, 14 => Disconnect, 15 => ForwardJoin,
    16 => Shuffle, 17 => ShuffleReply, 18 => Records, 19 => RosterDigest, 20 => Probe, 21 => ProbeReply,
    22 => News, 23 => Stay,
    30 => Advert, 31 => Graft, 32 => GraftReply, 33 => Prune, 34 => Candidates, 35 => Crown,
    36 => Appoint, 37 => Cores, 38 => Mesh, 39 => Pulse,
    41 => Frontier, 42 => Pull, 43 => PullEnd, 44 => Flow, 45 => Summary, 46 => AckRequest, 47 => Acks, 48 => Fork, 49 => Listen, 50 => Hold, 51 => PullEarlier, 52 => Earlier,
    53 => Compare, 54 => Baseline, 55 => Removals, 56 => Agree,
}

/// A batch goes into its frame with a few bytes before it.
fn encode_batch(channel: Channel, batch: &Bytes) -> Bytes {
    cbor::to_vec_with_capacity(batch.len() + 16, &(BATCH, channel, serde_bytes::Bytes::new(batch))).into()
}

/// Of which kind a frame seems to be, without decoding it.
pub(crate) fn kind(frame: &[u8]) -> Option<u8> {
    match frame {
        [0x80..=0x97, kind @ 0..=0x17, ..] | [0x80..=0x97, 0x18, kind, ..] => Some(*kind),
        _ => None,
    }
}

/// Whether the frame carries a batch, so that traffic can be told apart without decoding.
pub(crate) fn is_batch(frame: &[u8]) -> bool {
    matches!(frame, [0x83, 0x18, BATCH, ..])
}

/// Whether a network that loses datagrams may lose this frame: batches and frontiers
/// (MODEL.md's `datagram`); all others need a reliable link.
pub fn is_repairable(frame: &[u8]) -> bool {
    matches!(frame, [0x83, 0x18, 40 | 41, ..] | [0x83, 22, ..])
}

/// Reads a frame. A batch's bytes are a slice of `frame`.
pub(crate) fn decode(frame: &Bytes) -> Result<(Channel, Frame), Malformed> {
    let Decoded(channel, body) = cbor::from_slice(frame)?;
    Ok(match body {
        Body::Batch(slice) => (channel, Frame::Batch(frame.slice_ref(slice))),
        Body::Other(other) => (channel, other),
    })
}

struct Decoded<'a>(Channel, Body<'a>);

enum Body<'a> {
    Batch(&'a [u8]),
    Other(Frame),
}

impl<'de> Deserialize<'de> for Decoded<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FrameVisitor;

        impl<'de> Visitor<'de> for FrameVisitor {
            type Value = Decoded<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a frame")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let short = || A::Error::custom("a frame has a kind and a channel");
                let kind: u64 = seq.next_element()?.ok_or_else(short)?;
                let channel = seq.next_element()?.ok_or_else(short)?;
                let body = match u8::try_from(kind) {
                    Ok(BATCH) => Body::Batch(seq.next_element::<&serde_bytes::Bytes>()?.ok_or_else(short)?),
                    Ok(kind) => Body::Other(Frame::read(kind, &mut seq)?),
                    Err(_) => Body::Other(Frame::Unknown),
                };
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Decoded(channel, body))
            }
        }

        deserializer.deserialize_seq(FrameVisitor)
    }
}

/// Only for tests of other rooms: frames compare by their bytes.
impl Serialize for Frame {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.encode(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_frame_is_read_without_copying() {
        let batch = Bytes::from(vec![7; 5000]);
        let frame = Frame::Batch(batch.clone()).encode(3);
        assert!(is_batch(&frame));
        let (channel, Frame::Batch(read)) = decode(&frame).expect("decodes") else { panic!("a batch") };
        assert_eq!((channel, &read), (3, &batch));
        let range = frame.as_ptr_range();
        assert!(range.contains(&read.as_ptr()), "a slice of the frame");
    }

    #[test]
    fn what_a_ping_does_not_say_takes_no_room() {
        let ping = |rtt_us| Ping { nonce: 500, place: None, rtt_us };
        assert_eq!(Frame::Ping(ping(None)).encode(0).len(), 7);
        let is = |bytes: Bytes, told| matches!(decode(&bytes), Ok((0, Frame::Ping(it))) if it == told);
        assert!(is(Frame::Ping(ping(Some(9))).encode(0), ping(Some(9))));
        let with_nulls = cbor::to_vec(&(2u8, 0u8, (500u16, None::<u8>, None::<u8>)));
        assert!(is(with_nulls.into(), ping(None)));
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        let longer = cbor::to_vec(&(44u8, 1u32, (true, "new", 5), "more"));
        let (_, frame) = decode(&longer.into()).expect("decodes");
        assert!(matches!(frame, Frame::Flow(Flow { paused: true })));
        let unknown = cbor::to_vec(&(999u32, 1u32, ("what", "ever")));
        assert!(matches!(decode(&unknown.into()), Ok((1, Frame::Unknown))));
    }

    #[test]
    fn broken_frames_are_refused() {
        let frame = Frame::Pong(Pong { nonce: 1 << 40, place: None }).encode(0);
        for cut in 0..frame.len() {
            assert!(decode(&frame.slice(..cut)).is_err(), "cut at {cut}");
        }
        assert!(decode(&Bytes::from_static(&[0xa0])).is_err());
    }
}
