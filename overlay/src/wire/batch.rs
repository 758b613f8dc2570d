//! The batch: what travels, is signed, stored and repaired.
//!
//! ```text
//! batch   = core ‖ signature            the last 64 bytes are the signature
//! core    = [source, life, seq, previous, time, messages, dependencies?, opening?]
//! hash    = BLAKE3-derive("treecast 1 batch", group id ‖ core)       32 bytes, signed
//! digest  = the first 20 bytes of hash                               chained
//! ```

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq as _, Serializer};

use super::cbor::{self, Malformed, cbor_array};
use crate::id::{BatchId, Digest, GroupId, Life, NodeId, Seq};
use crate::identity::{BadSignature, Identity, SIGNATURE_LEN, Verifier};
use crate::io::Write;

/// Messages in one batch, at most.
pub(crate) const MAX_MESSAGES: usize = 65_536;
/// Dependency heads in one batch, at most.
pub(crate) const MAX_DEPENDENCIES: usize = 4_096;

cbor_array! {
    /// Where a life ended.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct LifeEnd {
        pub(crate) life: Life,
        /// The first seq that was not used.
        pub(crate) end: Seq,
        /// The digest at `end - 1`; zero if the life is empty or its end was only heard of.
        pub(crate) digest: Digest,
    }
}

cbor_array! {
    /// What a life's first batch says besides.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(crate) struct Opening {
        /// Tells two lives apart that got one number (a restored backup).
        pub(crate) nonce: u64,
        /// Where the life before this one ended, if the source knows.
        pub(crate) previous: Option<LifeEnd>,
    }
}

impl Opening {
    /// Whether its source knew of all of an earlier life, when it began this one, or of a life after that.
    pub(crate) fn knows_of(&self, life: Life, end: Seq) -> bool {
        self.previous.is_some_and(|it| it.life > life || (it.life == life && it.end >= end))
    }
}

/// What a batch says, apart from its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: BatchId,
    /// Digest of the batch before; zero at the start of a life.
    pub(crate) previous: Digest,
    /// The author's clock: milliseconds after `life`.
    pub(crate) time_after_life_ms: i64,
    /// What the author had delivered, undominated heads only.
    pub(crate) dependencies: Vec<BatchId>,
    /// With seq 0 only.
    pub(crate) opening: Option<Opening>,
}

/// A batch, parsed; its payloads are slices of `bytes`.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) header: Header,
    pub(crate) digest: Digest,
    /// As it travels, stored and forwarded as it is.
    pub(crate) bytes: Bytes,
    /// Application messages in order. Elements of kinds unknown here are `None`: counted,
    /// not delivered.
    pub(crate) messages: Vec<Option<Bytes>>,
    hash: [u8; 32],
}

impl Batch {
    /// Builds and signs a batch.
    pub(crate) fn sign(group: &GroupId, header: Header, messages: &[Bytes], identity: &Identity) -> Self {
        let payload: usize = messages.iter().map(|message| message.len() + 5).sum();
        let core = Core { header: &header, messages };
        let mut bytes =
            cbor4ii::serde::to_vec(Vec::with_capacity(payload + 256), &core).expect("our own types encode");
        let hash = hash(group, &bytes);
        bytes.extend_from_slice(&identity.sign(&hash));
        // Parsed from its own bytes, so that the kept payloads share one buffer.
        Self::parse(group, Bytes::from(bytes)).expect("what we encode parses").with(header)
    }

    fn with(self, header: Header) -> Self {
        debug_assert_eq!(self.header, header);
        self
    }

    /// Reads a batch; the signature is checked by [`Batch::check`].
    pub(crate) fn parse(group: &GroupId, bytes: Bytes) -> Result<Self, Malformed> {
        let split = bytes.len().checked_sub(SIGNATURE_LEN).ok_or(Malformed)?;
        let core = &bytes[..split];
        let parsed: ParsedCore<'_> = cbor::from_slice(core)?;
        let messages = parsed.messages.iter().map(|it| it.0.map(|slice| bytes.slice_ref(slice))).collect();
        let hash = hash(group, core);
        Ok(Self { header: parsed.header, digest: digest_of(&hash), messages, hash, bytes })
    }

    /// Whether its source signed it.
    pub(crate) fn check(&self, verifier: &Verifier) -> Result<(), BadSignature> {
        verifier.check(&self.hash, &self.bytes[self.bytes.len() - SIGNATURE_LEN..])
    }

    /// The write that makes it durable.
    pub(crate) fn to_write(&self, group: GroupId) -> Write {
        let payload = self.messages.iter().flatten().map(|it| it.len() as u64).sum();
        let messages = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        let (id, bytes, digest) = (self.header.id, self.bytes.clone(), self.digest);
        Write::Batch { group, id, bytes, digest, messages, payload }
    }

    /// The author's clock, unix milliseconds, for show.
    pub(crate) fn time_unix_ms(&self) -> u64 {
        self.header.id.life.saturating_add_signed(self.header.time_after_life_ms)
    }
}

fn hash(group: &GroupId, core: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("treecast 1 batch");
    hasher.update(group.as_bytes());
    hasher.update(core);
    *hasher.finalize().as_bytes()
}

fn digest_of(hash: &[u8; 32]) -> Digest {
    Digest::from_bytes(hash[..Digest::LEN].try_into().expect("20 of 32 bytes"))
}

struct Core<'a> {
    header: &'a Header,
    messages: &'a [Bytes],
}

impl Serialize for Core<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Header { id, previous, time_after_life_ms, dependencies, opening } = self.header;
        let extras = if opening.is_some() { 2 } else { usize::from(!dependencies.is_empty()) };
        let mut seq = serializer.serialize_seq(Some(6 + extras))?;
        seq.serialize_element(&id.source)?;
        seq.serialize_element(&id.life)?;
        seq.serialize_element(&id.seq)?;
        seq.serialize_element(previous)?;
        seq.serialize_element(time_after_life_ms)?;
        seq.serialize_element(&Messages(self.messages))?;
        if extras > 0 {
            let heads: Vec<_> = dependencies.iter().map(|it| (it.source, it.life, it.seq)).collect();
            seq.serialize_element(&heads)?;
        }
        if let Some(opening) = opening {
            seq.serialize_element(opening)?;
        }
        seq.end()
    }
}

struct Messages<'a>(&'a [Bytes]);

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for message in self.0 {
            seq.serialize_element(serde_bytes::Bytes::new(message))?;
        }
        seq.end()
    }
}

struct ParsedCore<'a> {
    header: Header,
    messages: Vec<Element<'a>>,
}

impl<'de> Deserialize<'de> for ParsedCore<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(CoreVisitor)
    }
}

struct CoreVisitor;

impl<'de> Visitor<'de> for CoreVisitor {
    type Value = ParsedCore<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a batch")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        fn need<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(seq: &mut A) -> Result<T, A::Error> {
            seq.next_element()?.ok_or_else(|| A::Error::custom("a batch has at least 6 fields"))
        }
        let id = BatchId { source: need(&mut seq)?, life: need(&mut seq)?, seq: need(&mut seq)? };
        let previous = need(&mut seq)?;
        let time_after_life_ms = need(&mut seq)?;
        let messages: Vec<Element<'de>> = need(&mut seq)?;
        let heads: Vec<(NodeId, Life, Seq)> = seq.next_element()?.unwrap_or_default();
        let opening: Option<Opening> = seq.next_element()?.unwrap_or_default();
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        if messages.is_empty() || messages.len() > MAX_MESSAGES || heads.len() > MAX_DEPENDENCIES {
            return Err(A::Error::custom("a batch out of its bounds"));
        }
        if (id.seq == 0) != (opening.is_some() && previous == Digest::ZERO) || id.seq == Seq::MAX {
            return Err(A::Error::custom("only the first batch of a life opens it"));
        }
        let dependencies =
            heads.into_iter().map(|(source, life, seq)| BatchId { source, life, seq }).collect();
        Ok(ParsedCore {
            header: Header { id, previous, time_after_life_ms, dependencies, opening },
            messages,
        })
    }
}

/// A message: a byte string, or `[kind, …]` for kinds that later versions add.
struct Element<'a>(Option<&'a [u8]>);

impl<'de> Deserialize<'de> for Element<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementVisitor;

        impl<'de> Visitor<'de> for ElementVisitor {
            type Value = Element<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a message")
            }

            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Element(Some(bytes)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Element(None))
            }
        }

        deserializer.deserialize_any(ElementVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seq: Seq, messages: &[&'static [u8]]) -> (GroupId, Identity, Batch) {
        let group = GroupId::from_bytes([3; 32]);
        let identity = Identity::new(&[9; 32]);
        let header = Header {
            id: BatchId { source: identity.node(), life: 1_700_000_000_000, seq },
            previous: if seq == 0 { Digest::ZERO } else { Digest::from_bytes([5; 20]) },
            time_after_life_ms: 90_000,
            dependencies: Vec::new(),
            opening: (seq == 0).then_some(Opening { nonce: 7, previous: None }),
        };
        let messages: Vec<_> = messages.iter().map(|it| Bytes::from_static(it)).collect();
        let batch = Batch::sign(&group, header, &messages, &identity);
        (group, identity, batch)
    }

    #[test]
    fn a_batch_reads_back_and_verifies() {
        let (group, identity, batch) = sample(0, &[b"one", b"two"]);
        let read = Batch::parse(&group, batch.bytes.clone()).expect("parses");
        assert_eq!(read.header, batch.header);
        assert_eq!(read.messages, batch.messages);
        read.check(&Verifier::new(&identity.node()).expect("a key")).expect("signed");
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (group, identity, batch) = sample(4, &[b"payload"]);
        let verifier = Verifier::new(&identity.node()).expect("a key");
        for bit in 0..batch.bytes.len() * 8 {
            let mut bytes = batch.bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let valid = Batch::parse(&group, bytes.into()).is_ok_and(|it| it.check(&verifier).is_ok());
            assert!(!valid, "bit {bit} may be flipped");
        }
    }

    #[test]
    fn a_batch_of_another_group_does_not_verify() {
        let (_, identity, batch) = sample(1, &[b"x"]);
        let other = Batch::parse(&GroupId::from_bytes([4; 32]), batch.bytes).expect("parses");
        assert_eq!(other.check(&Verifier::new(&identity.node()).expect("a key")), Err(BadSignature));
    }

    #[test]
    fn the_header_takes_at_most_150_bytes() {
        let payload: &'static [u8] = &[1; 1024];
        let (_, _, batch) = sample(100_000, &[payload]);
        assert!(batch.bytes.len() - payload.len() <= 150, "{}", batch.bytes.len() - payload.len());
    }
}
