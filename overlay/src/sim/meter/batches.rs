//! What became of each batch on its way: who passed it on, how often, over how many hops.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::id::{BatchId, GroupId};
use crate::sim::node::NodeIx;
use crate::wire::batch::Batch;
use crate::wire::frame::{self, Frame};

/// A batch's number in the order of first sight.
pub(in crate::sim) type BatchIx = u32;

/// So many first bytes of a frame tell its batch: kind, channel, lengths, source, life and seq
/// take at most 61 (`wire/batch.rs`).
const PREFIX: usize = 64;

/// One batch on its way.
#[derive(Debug, Default)]
struct Track {
    /// Hops from the source to each node, plus one; 0 while it has not arrived there.
    hops: Vec<u8>,
    /// Copies sent by each node.
    sends: Vec<u16>,
    arrivals: u64,
    first_arrivals: u64,
    most_hops: u8,
    border_crossings: u64,
    /// Bytes of its frame that are no payload.
    header: usize,
}

/// Sums over some batches.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in crate::sim) struct Sums {
    pub(in crate::sim) batches: u64,
    pub(in crate::sim) arrivals: u64,
    pub(in crate::sim) first_arrivals: u64,
    pub(in crate::sim) hops: u64,
    pub(in crate::sim) border_crossings: u64,
    pub(in crate::sim) header: u64,
    pub(in crate::sim) most_sends: u16,
}

impl Sums {
    /// Plumtree's relative message redundancy (§3.1), with those that received it in the place
    /// of those that should.
    pub(in crate::sim) fn redundancy(&self) -> f64 {
        if self.first_arrivals == 0 {
            return 0.0;
        }
        self.arrivals as f64 / self.first_arrivals as f64 - 1.0
    }
}

/// All batches of a run.
#[derive(Debug)]
pub(in crate::sim) struct Batches {
    group: GroupId,
    by_prefix: BTreeMap<Box<[u8]>, (BatchIx, Bytes)>,
    by_id: BTreeMap<BatchId, BatchIx>,
    tracks: Vec<Track>,
}

impl Batches {
    pub(super) fn new(group: GroupId) -> Self {
        Self { group, by_prefix: BTreeMap::new(), by_id: BTreeMap::new(), tracks: Vec::new() }
    }

    /// Which batch a frame carries; the frame becomes a clone of the first that was equal to
    /// it. `None` if it is none of this group.
    pub(super) fn recognise(&mut self, frame: &mut Bytes) -> Option<BatchIx> {
        let prefix = &frame[..frame.len().min(PREFIX)];
        if let Some((batch, first)) = self.by_prefix.get(prefix) {
            if first == frame {
                *frame = first.clone();
            }
            return Some(*batch);
        }
        let Ok((_, Frame::Batch(bytes))) = frame::decode(frame) else { return None };
        let batch = Batch::parse(&self.group, bytes).ok()?;
        let payload: usize = batch.messages.iter().flatten().map(Bytes::len).sum();
        let header = frame.len() - payload;
        let next = BatchIx::try_from(self.tracks.len()).expect("fewer than 2^32 batches");
        let number = *self.by_id.entry(batch.header.id).or_insert(next);
        if number == next {
            self.tracks.push(Track { header, ..Track::default() });
        }
        self.by_prefix.insert(prefix.into(), (number, frame.clone()));
        Some(number)
    }

    pub(super) fn on_send(&mut self, batch: BatchIx, from: NodeIx, border: bool) {
        let track = &mut self.tracks[batch as usize];
        if track.sends.is_empty() {
            // The first to send it is its source.
            *entry(&mut track.hops, from) = 1;
        }
        let sends = entry(&mut track.sends, from);
        *sends = sends.saturating_add(1);
        track.border_crossings += u64::from(border);
    }

    pub(super) fn on_arrive(&mut self, batch: BatchIx, from: NodeIx, to: NodeIx) {
        let track = &mut self.tracks[batch as usize];
        track.arrivals += 1;
        let hops = (*entry(&mut track.hops, from)).max(1).saturating_add(1);
        let known = entry(&mut track.hops, to);
        if *known == 0 {
            *known = hops;
            track.first_arrivals += 1;
            track.most_hops = track.most_hops.max(hops - 1);
        }
    }

    /// The batch's number, once it was on an uplink.
    pub(in crate::sim) fn number(&self, id: &BatchId) -> Option<BatchIx> {
        self.by_id.get(id).copied()
    }

    /// Who sent how many copies of a batch.
    pub(in crate::sim) fn sends(&self, batch: BatchIx) -> &[u16] {
        &self.tracks[batch as usize].sends
    }

    /// Sums over these batches.
    pub(in crate::sim) fn sum(&self, batches: impl Iterator<Item = BatchIx>) -> Sums {
        let mut sums = Sums::default();
        for batch in batches {
            let track = &self.tracks[batch as usize];
            sums.batches += 1;
            sums.arrivals += track.arrivals;
            sums.first_arrivals += track.first_arrivals;
            sums.hops += u64::from(track.most_hops);
            sums.border_crossings += track.border_crossings;
            sums.header += track.header as u64;
            sums.most_sends = sums.most_sends.max(track.sends.iter().copied().max().unwrap_or(0));
        }
        sums
    }
}

/// A node's entry in a list that grows as nodes come.
fn entry<T: Default + Clone>(list: &mut Vec<T>, node: NodeIx) -> &mut T {
    if list.len() <= node.0 {
        list.resize(node.0 + 1, T::default());
    }
    &mut list[node.0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use crate::wire::batch::{Header, Opening};

    fn frame(seq: u64) -> (BatchId, Bytes) {
        let identity = Identity::trusting(&[1; 32]);
        let header = Header {
            id: BatchId { source: identity.node(), life: 1_700_000_000_000, seq },
            previous: crate::id::Digest::ZERO,
            time_after_life_ms: 3,
            dependencies: Vec::new(),
            opening: (seq == 0).then_some(Opening { nonce: 1, previous: None }),
        };
        let payload = Bytes::from_static(&[7; 500]);
        let batch = Batch::sign(&GroupId::from_bytes([3; 32]), header, &[payload], &identity);
        (batch.header.id, Frame::Batch(batch.bytes).encode(1))
    }

    /// 0 → 1 → 2, and 0 → 2 too late: a chain of two hops with one copy too many.
    #[test]
    fn hops_and_redundancy_of_a_known_way() {
        let mut batches = Batches::new(GroupId::from_bytes([3; 32]));
        let (id, mut sent) = frame(0);
        let batch = batches.recognise(&mut sent).expect("a batch");
        for (from, to, border) in [(0, 1, false), (1, 2, true), (0, 2, false)] {
            batches.on_send(batch, NodeIx(from), border);
            batches.on_arrive(batch, NodeIx(from), NodeIx(to));
        }
        assert_eq!(batches.number(&id), Some(batch));
        let sums = batches.sum([batch].into_iter());
        assert_eq!((sums.arrivals, sums.first_arrivals, sums.hops), (3, 2, 2));
        assert_eq!((sums.border_crossings, sums.most_sends), (1, 2));
        assert!((sums.redundancy() - 0.5).abs() < 1e-12);
        assert_eq!(sums.header as usize, sent.len() - 500);
    }

    #[test]
    fn equal_frames_share_their_bytes_and_others_do_not() {
        let mut batches = Batches::new(GroupId::from_bytes([3; 32]));
        let (mut first, mut again, mut other) = (frame(1).1, frame(1).1, frame(300).1);
        assert_ne!(first.as_ptr(), again.as_ptr());
        let one = batches.recognise(&mut first);
        assert_eq!(one, batches.recognise(&mut again));
        assert_eq!(first.as_ptr(), again.as_ptr());
        assert_ne!(one, batches.recognise(&mut other));
        let mut changed = again.to_vec();
        *changed.last_mut().expect("not empty") ^= 1;
        let mut changed = Bytes::from(changed);
        assert_eq!(one, batches.recognise(&mut changed));
        assert_ne!(changed, first, "what differs stays as it is");
    }
}
