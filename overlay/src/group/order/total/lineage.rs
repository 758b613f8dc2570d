//! The committees of a total order, one after the other, as anybody can check them: the descriptor names the
//! founder, who is the first; each is ended by a record that one of its members signed and that names the next.
//!
//! Committee members are trusted not to lie (`DESIGN.md` §3.6), so one signature is enough; nobody else can make a
//! link of this chain (`docs/decisions/022-epochs.md`).

use bytes::Bytes;

use crate::id::{GroupId, NodeId};
use crate::identity::{Signatures, Verifier};
use crate::wire::batch::Batch;
use crate::wire::cbor::Malformed;
use crate::wire::order::{Entry, order_source};

/// Committees, from the first on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lineage {
    founder: NodeId,
    /// Of each epoch; none before the order was founded.
    rosters: Vec<Vec<NodeId>>,
    /// Of each but the last, the record that ended it.
    ended: Vec<Bytes>,
}

impl Lineage {
    pub(crate) fn new(founder: NodeId) -> Self {
        Self { founder, rosters: Vec::new(), ended: Vec::new() }
    }

    /// Follows the chain of what somebody says to have ended epochs.
    pub(crate) fn follow(
        group: &GroupId,
        founder: NodeId,
        ended: impl IntoIterator<Item = Bytes>,
        signatures: Signatures,
    ) -> Result<Self, Malformed> {
        let mut it = Self::new(founder);
        it.found();
        for (epoch, bytes) in (1..).zip(ended) {
            let record = Batch::parse(group, bytes.clone()).map_err(|_| Malformed)?;
            let id = record.header.id;
            let is_its = id.source == order_source(group) && id.life == epoch && id.seq > 0;
            if !is_its || (signatures.are_checked() && !it.signed(epoch, &record)) {
                return Err(Malformed);
            }
            let payload = record.messages.first().and_then(Option::as_ref).ok_or(Malformed)?;
            let Entry::Stop(roster) = Entry::read(payload)? else { return Err(Malformed) };
            it.end(bytes, roster);
        }
        Ok(it)
    }

    /// Whether the founder signed this.
    pub(crate) fn founded_by(&self, record: &Batch) -> bool {
        signed(record, &self.founder)
    }

    pub(crate) fn founder(&self) -> NodeId {
        self.founder
    }

    /// The first epoch begins.
    pub(crate) fn found(&mut self) {
        if self.rosters.is_empty() {
            self.rosters.push(vec![self.founder]);
        }
    }

    /// The last epoch ended by this record, and these are the next committee.
    pub(crate) fn end(&mut self, record: Bytes, roster: Vec<NodeId>) {
        self.ended.push(record);
        self.rosters.push(roster);
    }

    /// The number of the last epoch; 0 before the first.
    pub(crate) fn epoch(&self) -> u64 {
        self.rosters.len() as u64
    }

    /// The committee of an epoch, if that is known.
    pub(crate) fn roster(&self, epoch: u64) -> Option<&[NodeId]> {
        let at = usize::try_from(epoch.checked_sub(1)?).ok()?;
        self.rosters.get(at).map(Vec::as_slice)
    }

    /// The records that ended epochs, oldest first.
    pub(crate) fn ended(&self) -> &[Bytes] {
        &self.ended
    }

    /// Whether one of an epoch's committee signed this.
    pub(crate) fn signed(&self, epoch: u64, record: &Batch) -> bool {
        self.roster(epoch).is_some_and(|it| it.iter().any(|node| signed(record, node)))
    }
}

fn signed(record: &Batch, by: &NodeId) -> bool {
    Verifier::new(by).and_then(|it| record.check(&it)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Digest;
    use crate::identity::Identity;
    use crate::wire::order;

    fn identity(number: u8) -> Identity {
        Identity::new(&[number; 32])
    }

    fn stop(epoch: u64, next: &[NodeId], by: &Identity) -> Bytes {
        let entry = Entry::Stop(next.to_vec()).to_bytes();
        order::record(&group(), (epoch, 5), Digest::ZERO, entry, by).bytes
    }

    fn group() -> GroupId {
        GroupId::from_bytes([9; 32])
    }

    #[test]
    fn each_committee_is_named_by_one_of_the_one_before() {
        let [a, b, c, d] = [1, 2, 3, 4].map(identity);
        let ids = [&a, &b, &c, &d].map(Identity::node);
        let first = stop(1, &ids[..3], &a);
        let second = stop(2, &ids[1..], &c);
        let follow = |chain| Lineage::follow(&group(), ids[0], chain, Signatures::Checked);
        let lineage = follow(vec![first.clone(), second.clone()]).expect("a good chain");
        assert_eq!((lineage.epoch(), lineage.roster(3)), (3, Some(&ids[1..])));
        assert_eq!((lineage.roster(0), lineage.roster(4)), (None, None));
        let forged = stop(2, &[ids[3]], &d);
        let others = [
            vec![first.clone(), forged],
            vec![second.clone()],
            vec![first.clone(), first.clone()],
            vec![stop(1, &ids[..1], &b)],
            vec![Bytes::from_static(b"what is this")],
        ];
        for (number, chain) in others.into_iter().enumerate() {
            assert!(follow(chain).is_err(), "{number}");
        }
        let cut = order::record(&group(), (1, 5), Digest::ZERO, Entry::Cut(Vec::new()).to_bytes(), &a).bytes;
        assert!(follow(vec![cut]).is_err(), "a cut ends nothing");
    }
}
