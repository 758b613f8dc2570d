//! A member outside the committee that would have an order of its own.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_bytes::ByteBuf;

use crate::id::{BatchId, Digest, GroupId, Life, NodeId, Seq};
use crate::identity::Identity;
use crate::wire::agreement::{self, Claim};
use crate::wire::batch::{Batch, LifeEnd};
use crate::wire::frame::{Channel, Frame, Welcome};
use crate::wire::order::{self, Agree, Entry, Opened, order_source};
use crate::wire::record::MemberRecord;
use crate::wire::removal::{Removal, Removals};

/// Epochs whose committees it speaks to: the last that it heard of, and later ones.
const EPOCHS: u64 = 3;
/// Nobody has accepted more.
const HIGHEST: Claim = Claim((u32::MAX, u32::MAX, u64::MAX), u64::MAX);

/// What it has seen of the order, to forge what comes next.
#[derive(Debug, Default)]
pub(super) struct Forger {
    /// The last record: its epoch, number and digest.
    last: Option<(Life, Seq, Digest)>,
    /// Whom it would have removed.
    members: BTreeSet<NodeId>,
}

impl Forger {
    /// What goes out in a frame's place, or beside it.
    pub(super) fn tell(
        &mut self,
        (group, identity): (&GroupId, &Identity),
        (channel, frame, bytes): (Channel, &mut Frame, Bytes),
    ) -> Vec<Bytes> {
        match frame {
            Frame::Batch(batch) => {
                let batch = Batch::parse(group, batch.clone()).ok();
                let record = batch.filter(|it| it.header.id.source == order_source(group));
                if let Some(Batch { header, digest, .. }) = record {
                    let BatchId { life, seq, .. } = header.id;
                    self.last = self.last.max(Some((life, seq, digest)));
                    let next = self.records(group, identity);
                    let forged = next.into_iter().map(|it| Frame::Batch(it.bytes).encode(channel));
                    // The forged come first: whoever takes the first for the right one is lost.
                    return forged.chain([bytes]).collect();
                }
            }
            Frame::Records(records) | Frame::Shuffle(records) => {
                let told = records.members.iter().filter_map(|it| MemberRecord::parse(it).ok());
                self.members.extend(told.map(|it| it.node));
            }
            Frame::Welcome(welcome) => {
                self.welcome(welcome, group, identity);
                return vec![frame.encode(channel)];
            }
            Frame::Summary(_) => {
                let mut all = vec![bytes];
                all.extend(self.agreement().map(|it| it.encode(channel)));
                all.push(self.removal(group, identity).encode(channel));
                return all;
            }
            _ => {}
        }
        vec![bytes]
    }

    /// The next record of the epoch, twice: a cut, and an end whose successor is this node. And what opens that one.
    fn records(&self, group: &GroupId, me: &Identity) -> Vec<Batch> {
        let Some((epoch, seq, digest)) = self.last else { return Vec::new() };
        let (empty, stop) = (Entry::Cut(Vec::new()), Entry::Stop(vec![me.node()]));
        let next = |entry: &Entry| order::record(group, (epoch, seq + 1), digest, entry.to_bytes(), me);
        let end = next(&stop);
        let ended = LifeEnd { life: epoch, end: seq + 2, digest: end.digest };
        let opened = Opened { roster: vec![me.node()], index: 0 }.record(group, epoch + 1, Some(ended), me);
        vec![next(&empty), end, opened]
    }

    /// A newcomer is told of an epoch that this node alone decides.
    fn welcome(&self, welcome: &mut Welcome, group: &GroupId, me: &Identity) {
        let Some((epoch, seq, digest)) = self.last else { return };
        let Some(start) = &mut welcome.order else { return };
        let stop = Entry::Stop(vec![me.node()]).to_bytes();
        let stop = order::record(group, (epoch, seq + 1), digest, stop, me);
        start.lineage.push(ByteBuf::from(stop.bytes.to_vec()));
        welcome.baseline.push((order_source(group), epoch + 1, 0));
    }

    /// Words of a member that it is not, in each epoch: that it has accepted more than anybody.
    fn agreement(&self) -> impl Iterator<Item = Frame> {
        let epoch = self.last.map_or(1, |it| it.0);
        (epoch..epoch + EPOCHS).flat_map(|epoch| {
            let heard = agreement::write_heard(&[HIGHEST; 3]);
            [heard, vec![0xff; 64]].map(|it| Frame::Agree(Agree { epoch, message: ByteBuf::from(it) }))
        })
    }

    /// The founder never said so.
    fn removal(&self, group: &GroupId, me: &Identity) -> Frame {
        let removal = |it: &NodeId| Removal::sign(group, me, u64::MAX, *it, (0, 0, Digest::ZERO)).bytes;
        let records = self.members.iter().filter(|it| **it != me.node()).map(removal).collect();
        Frame::Removals(Removals { known: 0, exchange: false, records })
    }
}
