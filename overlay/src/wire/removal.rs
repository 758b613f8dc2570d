//! The founder's word that a member is removed.

use serde_bytes::ByteBuf;

use super::cbor::{self, Malformed, cbor_array};
use super::record::{check, seal, split};
use crate::id::{Digest, GroupId, Life, NodeId, Seq};
use crate::identity::{BadSignature, Identity, Signatures};

cbor_array! {
    #[derive(Debug, Clone)]
    struct RemovalBody {
        number: u64,
        victim: NodeId,
        life: Life,
        end: Seq,
        digest: Digest,
    }
}

/// A removal as the founder signed it. Who that is stands in the group's descriptor, not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Removal {
    /// Of two about one member the higher counts.
    pub(crate) number: u64,
    pub(crate) victim: NodeId,
    /// Its last life that counts: later ones do not…
    pub(crate) life: Life,
    /// …nor does that from this batch on.
    pub(crate) end: Seq,
    /// The digest of the batch before; zero where there is none, or the founder did not see it.
    pub(crate) digest: Digest,
    /// As it travels.
    pub(crate) bytes: ByteBuf,
}

impl Removal {
    pub(crate) fn sign(
        group: &GroupId,
        founder: &Identity,
        number: u64,
        victim: NodeId,
        (life, end, digest): (Life, Seq, Digest),
    ) -> Self {
        let body = RemovalBody { number, victim, life, end, digest };
        let bytes = ByteBuf::from(seal("treecast 1 removal", group, &body, founder));
        Self { number, victim, life, end, digest, bytes }
    }

    /// Reads a record; whether the founder signed it is for [`Removal::check`].
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let RemovalBody { number, victim, life, end, digest } = cbor::from_slice(split(bytes)?.0)?;
        Ok(Self { number, victim, life, end, digest, bytes: ByteBuf::from(bytes) })
    }

    pub(crate) fn check(
        &self,
        group: &GroupId,
        founder: &NodeId,
        signatures: Signatures,
    ) -> Result<(), BadSignature> {
        check("treecast 1 removal", group, founder, &self.bytes, signatures)
    }

    /// Whether this one counts and not the other, about the same member: of two with one number (the
    /// founder has lost its store) all members choose the same.
    pub(crate) fn supersedes(&self, other: &Self) -> bool {
        (self.number, &self.bytes) > (other.number, &other.bytes)
    }
}

cbor_array! {
    /// Who was removed, as the sender knows it.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Removals {
        /// A hash over all that the sender knows.
        pub(crate) known: u64,
        /// Answer with yours if that is another one.
        pub(crate) exchange: bool,
        pub(crate) records: Vec<ByteBuf>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId::from_bytes([1; 32]);
    const VICTIM: NodeId = NodeId::from_bytes([9; 32]);

    #[test]
    fn only_the_founder_of_this_group_removes() {
        let [founder, other] = [[2; 32], [3; 32]].map(|key| Identity::new(&key));
        let end = (7, 4, Digest::from_bytes([5; Digest::LEN]));
        let made = Removal::sign(&GROUP, &founder, 1, VICTIM, end);
        let read = Removal::parse(&made.bytes).expect("parses");
        assert_eq!(read, made);
        let checked = Signatures::Checked;
        read.check(&GROUP, &founder.node(), checked).expect("signed");
        assert!(read.check(&GROUP, &other.node(), checked).is_err());
        assert!(read.check(&GroupId::from_bytes([2; 32]), &founder.node(), checked).is_err());
    }

    #[test]
    fn of_two_about_one_member_all_choose_the_same() {
        let founder = Identity::new(&[2; 32]);
        let sign = |number, end| Removal::sign(&GROUP, &founder, number, VICTIM, (7, end, Digest::ZERO));
        assert!(sign(2, 0).supersedes(&sign(1, 9)) && !sign(1, 9).supersedes(&sign(2, 0)));
        let (one, two) = (sign(1, 3), sign(1, 4));
        assert_ne!(one.supersedes(&two), two.supersedes(&one));
        assert!(!one.supersedes(&one));
    }
}
