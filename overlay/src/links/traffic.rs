//! What passes on all links, counted by kind of frame.

use crate::io::FrameCount;
use crate::wire::frame;

/// Kinds are below this; what is not is counted as one. (`docs/wire.md` ends at 55.)
const KINDS: usize = 64;
/// Where the unknown are counted.
const UNKNOWN: usize = KINDS - 1;

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    frames: u64,
    bytes: u64,
}

/// Both ways.
#[derive(Debug)]
pub(crate) struct Traffic {
    sent: [Count; KINDS],
    received: [Count; KINDS],
}

impl Default for Traffic {
    fn default() -> Self {
        Self { sent: [Count::default(); KINDS], received: [Count::default(); KINDS] }
    }
}

impl Traffic {
    pub(crate) fn on_sent(&mut self, frame: &[u8]) {
        self.sent[slot(frame)].add(frame);
    }

    pub(crate) fn on_received(&mut self, frame: &[u8]) {
        self.received[slot(frame)].add(frame);
    }

    pub(crate) fn frames(&self) -> Vec<FrameCount> {
        let count = |kind: &'static str, at: usize| FrameCount {
            kind,
            sent: self.sent[at].frames,
            sent_bytes: self.sent[at].bytes,
            received: self.received[at].frames,
            received_bytes: self.received[at].bytes,
        };
        let known = (0..UNKNOWN).filter_map(|at| Some(count(frame::kind_name(at as u8)?, at)));
        known.chain([count("Unknown", UNKNOWN)]).collect()
    }
}

impl Count {
    fn add(&mut self, frame: &[u8]) {
        self.frames += 1;
        self.bytes += frame.len() as u64;
    }
}

fn slot(bytes: &[u8]) -> usize {
    let known = frame::kind(bytes).filter(|kind| frame::kind_name(*kind).is_some());
    known.map_or(UNKNOWN, usize::from).min(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::cbor;
    use crate::wire::frame::{Flow, Frame, Pong};

    #[test]
    fn frames_are_counted_by_their_kind_each_way() {
        let mut traffic = Traffic::default();
        let (batch, pong) =
            (Frame::Batch(Bytes::from(vec![0; 500])).encode(3), Pong { nonce: 1, place: None });
        let pong = Frame::Pong(pong).encode(0);
        traffic.on_sent(&batch);
        traffic.on_sent(&batch);
        traffic.on_sent(&Frame::Flow(Flow { paused: true }).encode(70_000));
        traffic.on_received(&pong);
        let frames = traffic.frames();
        let of = |kind: &str| frames.iter().find(|it| it.kind == kind).copied().expect("a kind");
        assert_eq!((of("Batch").sent, of("Batch").sent_bytes), (2, 2 * batch.len() as u64));
        assert_eq!((of("Batch").received, of("Flow").sent), (0, 1));
        assert_eq!((of("Pong").received, of("Pong").received_bytes), (1, pong.len() as u64));
        assert_eq!(of("Unknown").received + of("Unknown").sent, 0);
    }

    #[test]
    fn every_kind_has_its_place() {
        assert!(
            (UNKNOWN as u8..=u8::MAX).all(|kind| frame::kind_name(kind).is_none()),
            "`KINDS` is too small"
        );
    }

    #[test]
    fn what_is_unknown_or_no_frame_is_counted_as_one_kind() {
        let mut traffic = Traffic::default();
        let later = cbor::to_vec(&(60_u8, 1_u32, ("what", "ever")));
        let much_later = cbor::to_vec(&(999_u32, 1_u32, 0_u8));
        for strange in
            [&b""[..], b"\x83", b"\x83\x18", b"\xff\xff\xff", b"\x83\x19\x00\x00", &later, &much_later]
        {
            traffic.on_received(strange);
        }
        let frames = traffic.frames();
        let last = frames.last().expect("the unknown");
        assert_eq!((last.kind, last.received), ("Unknown", 7));
        assert_eq!(frames.iter().map(|it| it.received).sum::<u64>(), 7);
    }
}
