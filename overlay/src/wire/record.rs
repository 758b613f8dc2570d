//! Signed statements about members: alive, offline, left; suspicions; acknowledgements.
//!
//! A record is `body ‖ signature` like a batch, and its kind and group are part of what is
//! hashed, so none passes for another.

use serde::Serialize;
use serde_bytes::ByteBuf;

use super::cbor::{self, Malformed, cbor_array};
use crate::coordinate::Place;
use crate::id::{Address, GroupId, Life, NodeId, Seq};
use crate::identity::{BadSignature, Identity, SIGNATURE_LEN, Signatures, Verifier};

/// Longest nick, bytes.
pub(crate) const MAX_NICK: usize = 128;
/// Most addresses in a record.
pub(crate) const MAX_ADDRESSES: usize = 16;

/// What a member says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Online,
    Offline,
    Left,
}

impl Standing {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Online => 0,
            Self::Offline => 1,
            Self::Left => 2,
        }
    }

    fn from_code(code: u8) -> Result<Self, Malformed> {
        [Self::Online, Self::Offline, Self::Left].into_iter().find(|it| it.code() == code).ok_or(Malformed)
    }
}

cbor_array! {
    #[derive(Debug, Clone)]
    struct MemberBody {
        node: NodeId,
        incarnation: u64,
        standing: u8,
        nick: String,
        addresses: Vec<Address>;
        or_none
        /// It would be in the committee of a total order.
        serves: bool,
        /// Where it is, if it serves and knows.
        place: Place,
    }
}

cbor_array! {
    /// What a record begins with.
    #[derive(Debug)]
    struct Subject {
        node: NodeId,
        incarnation: u64,
    }
}

/// A member's own word on itself.
#[derive(Debug, Clone)]
pub(crate) struct MemberRecord {
    pub(crate) node: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) standing: Standing,
    pub(crate) nick: String,
    pub(crate) addresses: Vec<Address>,
    /// It would be in the committee of a total order (it runs as a service, and has a disk), and where it is,
    /// as far as it knows.
    pub(crate) serves: Option<Place>,
    /// As it travels.
    pub(crate) bytes: ByteBuf,
}

impl MemberRecord {
    /// The word of a member that would not be in a committee.
    pub(crate) fn sign(
        group: &GroupId,
        identity: &Identity,
        incarnation: u64,
        standing: Standing,
        nick: &str,
        addresses: &[Address],
    ) -> Self {
        Self::sign_serving(group, identity, incarnation, (standing, None), nick, addresses)
    }

    pub(crate) fn sign_serving(
        group: &GroupId,
        identity: &Identity,
        incarnation: u64,
        (standing, serves): (Standing, Option<Place>),
        nick: &str,
        addresses: &[Address],
    ) -> Self {
        let body = MemberBody {
            node: identity.node(),
            incarnation,
            standing: standing.code(),
            nick: nick.to_owned(),
            addresses: addresses.iter().take(MAX_ADDRESSES).cloned().collect(),
            serves: serves.map(|_| true),
            place: serves.filter(Place::is_located),
        };
        let bytes = ByteBuf::from(seal("treecast 1 member", group, &body, identity));
        let MemberBody { node, nick, addresses, .. } = body;
        Self { node, incarnation, standing, nick, addresses, serves, bytes }
    }

    /// Whose word it is, and of which incarnation: most that comes is known, and need not be read
    /// further.
    pub(crate) fn subject(bytes: &[u8]) -> Result<(NodeId, u64), Malformed> {
        let Subject { node, incarnation } = cbor::from_slice(split(bytes)?.0)?;
        Ok((node, incarnation))
    }

    /// Reads a record; its signature is checked by [`MemberRecord::check`], so that known
    /// ones cost nothing.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let body: MemberBody = cbor::from_slice(split(bytes)?.0)?;
        if body.nick.len() > MAX_NICK || body.addresses.len() > MAX_ADDRESSES {
            return Err(Malformed);
        }
        if body.addresses.iter().any(|it| it.as_bytes().is_empty() || it.as_bytes().len() > Address::MAX_LEN)
        {
            return Err(Malformed);
        }
        Ok(Self {
            node: body.node,
            incarnation: body.incarnation,
            standing: Standing::from_code(body.standing)?,
            nick: body.nick,
            addresses: body.addresses,
            serves: body.serves.filter(|it| *it).map(|_| body.place.unwrap_or_default()),
            bytes: ByteBuf::from(bytes),
        })
    }

    pub(crate) fn check(&self, group: &GroupId, signatures: Signatures) -> Result<(), BadSignature> {
        check("treecast 1 member", group, &self.node, &self.bytes, signatures)
    }
}

cbor_array! {
    #[derive(Debug, Clone)]
    struct SuspicionBody {
        accuser: NodeId,
        suspect: NodeId,
        incarnation: u64,
    }
}

/// A member's word that another does not answer.
#[derive(Debug, Clone)]
pub(crate) struct Suspicion {
    pub(crate) accuser: NodeId,
    pub(crate) suspect: NodeId,
    /// The suspect's incarnation that did not answer; a higher one refutes.
    pub(crate) incarnation: u64,
    /// As it travels.
    pub(crate) bytes: ByteBuf,
}

impl Suspicion {
    pub(crate) fn sign(group: &GroupId, identity: &Identity, suspect: NodeId, incarnation: u64) -> Self {
        let body = SuspicionBody { accuser: identity.node(), suspect, incarnation };
        let bytes = ByteBuf::from(seal("treecast 1 suspicion", group, &body, identity));
        Self { accuser: identity.node(), suspect, incarnation, bytes }
    }

    pub(crate) fn open(group: &GroupId, bytes: &[u8], signatures: Signatures) -> Result<Self, Malformed> {
        let body: SuspicionBody = cbor::from_slice(split(bytes)?.0)?;
        check("treecast 1 suspicion", group, &body.accuser, bytes, signatures).map_err(|_| Malformed)?;
        let SuspicionBody { accuser, suspect, incarnation } = body;
        Ok(Self { accuser, suspect, incarnation, bytes: ByteBuf::from(bytes) })
    }
}

cbor_array! {
    #[derive(Debug, Clone)]
    struct AckBody {
        member: NodeId,
        source: NodeId,
        life: Life,
        next: Seq,
    }
}

/// A member's word that it has delivered a source's batches below `next`.
#[derive(Debug, Clone)]
pub(crate) struct Ack {
    pub(crate) member: NodeId,
    pub(crate) source: NodeId,
    pub(crate) life: Life,
    pub(crate) next: Seq,
}

impl Ack {
    pub(crate) fn sign(
        group: &GroupId,
        identity: &Identity,
        source: NodeId,
        life: Life,
        next: Seq,
    ) -> ByteBuf {
        let body = AckBody { member: identity.node(), source, life, next };
        ByteBuf::from(seal("treecast 1 ack", group, &body, identity))
    }

    /// Reads an acknowledgement without checking it: who only passes it on need not.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let AckBody { member, source, life, next } = cbor::from_slice(split(bytes)?.0)?;
        Ok(Self { member, source, life, next })
    }

    pub(crate) fn check(
        &self,
        group: &GroupId,
        bytes: &[u8],
        signatures: Signatures,
    ) -> Result<(), BadSignature> {
        check("treecast 1 ack", group, &self.member, bytes, signatures)
    }
}

pub(super) fn seal<T: Serialize>(context: &str, group: &GroupId, body: &T, identity: &Identity) -> Vec<u8> {
    let mut bytes = cbor::to_vec(body);
    let hash = hash(context, group, &bytes);
    bytes.extend_from_slice(&identity.sign(&hash));
    bytes
}

pub(super) fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    bytes.len().checked_sub(SIGNATURE_LEN).map(|at| bytes.split_at(at)).ok_or(Malformed)
}

pub(super) fn check(
    context: &str,
    group: &GroupId,
    signer: &NodeId,
    bytes: &[u8],
    signatures: Signatures,
) -> Result<(), BadSignature> {
    let (body, signature) = split(bytes).map_err(|_| BadSignature)?;
    if !signatures.are_checked() {
        return Ok(());
    }
    Verifier::new(signer)?.check(&hash(context, group, body), signature)
}

fn hash(context: &str, group: &GroupId, body: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(group.as_bytes());
    hasher.update(body);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_bound_to_their_kind_and_group() {
        let group = GroupId::from_bytes([1; 32]);
        let identity = Identity::new(&[2; 32]);
        let record = MemberRecord::sign(&group, &identity, 5, Standing::Online, "ann", &[]);
        let read = MemberRecord::parse(&record.bytes).expect("parses");
        assert_eq!((read.node, read.incarnation, read.nick.as_str()), (identity.node(), 5, "ann"));
        assert_eq!(MemberRecord::subject(&record.bytes), Ok((identity.node(), 5)));
        read.check(&group, Signatures::Checked).expect("signed");
        assert!(read.check(&GroupId::from_bytes([2; 32]), Signatures::Checked).is_err());
        assert!(Suspicion::open(&group, &record.bytes, Signatures::Checked).is_err());
    }
}
