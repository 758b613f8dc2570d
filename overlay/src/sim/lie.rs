//! Members that misbehave: what each says instead of what its engine would have it say.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::forger::Forger;
use crate::id::{BatchId, GroupId, Life, NodeId, Seq};
use crate::identity::Identity;
use crate::wire::batch::Batch;
use crate::wire::frame::{self, Frame, Hold, Pull, Records};
use crate::wire::frontier::{Entry, News};
use crate::wire::record::{MemberRecord, Suspicion};

/// What a member claims to be far from the root, microseconds.
const CLAIMED_US: u64 = 1_000;
/// By how many batches a boaster is ahead of the truth.
const AHEAD: Seq = 20;
/// How often a beggar asks.
const TIMES: usize = 20;

/// A way to misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lie {
    /// Claims to be next to the root.
    Distance,
    /// Likewise, and takes children in, and passes nothing on to anybody.
    Nothing,
    /// Passes nothing on, and tells those below it each time that it has asked for it.
    Hold,
    /// Tells of batches that it does not have.
    Boast,
    /// Asks for each batch again and again, whether it has it or not.
    Beg,
    /// Accuses every member that it has heard of of not answering, again and again.
    Accuse,
    /// In a total order whose committee it is not in: forges records, certificates, what members of the committee say to
    /// each other, and removals.
    Order,
}

/// One that misbehaves.
pub(super) struct Liar {
    lie: Lie,
    /// What it asks for.
    known: Option<(NodeId, Life)>,
    identity: Identity,
    group: GroupId,
    /// Whom it accuses, and of which incarnation.
    members: BTreeMap<NodeId, u64>,
    forger: Forger,
}

impl Liar {
    pub(super) fn new(lie: Lie, identity: Identity, group: GroupId) -> Self {
        Self { lie, known: None, identity, group, members: BTreeMap::new(), forger: Forger::default() }
    }

    /// What goes out in a frame's place.
    pub(super) fn tell(&mut self, bytes: Bytes) -> Vec<Bytes> {
        let Ok((channel, mut frame)) = frame::decode(&bytes) else { return vec![bytes] };
        match (self.lie, &mut frame) {
            (Lie::Order, frame) => {
                return self.forger.tell((&self.group, &self.identity), (channel, frame, bytes));
            }
            (Lie::Distance | Lie::Nothing, Frame::Advert(advert)) if advert.path.len() > 2 => {
                advert.delay_us = CLAIMED_US;
                advert.path =
                    [advert.path.first(), advert.path.last()].into_iter().flatten().copied().collect();
            }
            (Lie::Nothing, Frame::Batch(_)) => return Vec::new(),
            (Lie::Hold, Frame::Batch(batch)) => {
                // Of which group it is shows in its hash only.
                let batch = Batch::parse(&GroupId::from_bytes([0; 32]), batch.clone());
                let hold = |it: BatchId| Hold { source: it.source, life: it.life, end: it.seq + 1 };
                let hold = batch.ok().map(|it| Frame::Hold(hold(it.header.id)).encode(channel));
                return hold.into_iter().collect();
            }
            (Lie::Boast, Frame::News(News { next })) => next.iter_mut().for_each(|(_, next)| *next += AHEAD),
            (Lie::Boast, Frame::Frontier(frontier)) => {
                let ahead = |it: &mut Entry| it.next += AHEAD;
                frontier.entries.iter_mut().filter(|it| it.next > 0).for_each(ahead);
            }
            (Lie::Beg, Frame::Frontier(frontier)) => {
                let first = frontier.definitions.first();
                self.known = first.map(|it| (it.source, it.life)).or(self.known);
                return vec![bytes];
            }
            (Lie::Beg, Frame::News(News { next })) => {
                let end = next.first().map_or(0, |it| it.1);
                let ranges = vec![(end.saturating_sub(TIMES as Seq), end)];
                let pull = self.known.map(|(source, life)| Frame::Pull(Pull { source, life, ranges }));
                return [bytes].into_iter().chain(pull.map(|it| it.encode(channel))).collect();
            }
            (Lie::Accuse, Frame::Records(records) | Frame::Shuffle(records)) => {
                let told = records.members.iter().filter_map(|it| MemberRecord::parse(it).ok());
                self.members.extend(told.map(|it| (it.node, it.incarnation)));
                return vec![bytes];
            }
            (Lie::Accuse, Frame::Summary(_)) => {
                let accuse = |(node, incarnation): (&NodeId, &u64)| {
                    [*incarnation, incarnation + 1, u64::MAX]
                        .map(|it| Suspicion::sign(&self.group, &self.identity, *node, it).bytes)
                };
                let suspicions = self.members.iter().flat_map(accuse).collect();
                let accusation = Frame::Records(Records { members: Vec::new(), suspicions });
                return vec![bytes, accusation.encode(channel)];
            }
            (Lie::Beg, Frame::Pull(_)) => return vec![bytes; TIMES],
            _ => return vec![bytes],
        }
        vec![frame.encode(channel)]
    }
}
