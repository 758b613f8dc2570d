//! Fetching from one peer: what was asked for is put together, checked and written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use treecast_overlay::files::wire::{Frame, Part, Refusal};
use treecast_overlay::files::{FileHash, Pieces};
use treecast_overlay::{GroupId, NodeId};

use super::Exchange;
use super::holding::{Holding, TakeError};
use super::stream::{Frames, Sink};

/// How long it may take to reach a peer, and to hear what it has.
const REACHING: Duration = Duration::from_secs(5);

/// What a peer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Ask(u32),
    Cancel(u32),
    /// This node has all of it.
    Whole,
}

/// What has come of a peer.
#[derive(Debug)]
pub(super) enum Heard {
    Has(Pieces),
    More(Vec<u32>),
    Bytes(usize),
    /// A piece was put together, and written if it is the file's.
    Piece(u32, Result<(), TakeError>),
    /// Nothing more will come.
    Gone(Gone),
}

/// Why a peer is no source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    Refused(Refusal),
    Unreachable,
    Broken,
}

/// What all sessions of a fetch tell.
pub(super) type Ears = mpsc::Sender<(NodeId, Heard)>;

/// What is wanted of a peer.
pub(super) struct Wanted {
    pub(super) group: GroupId,
    pub(super) hash: FileHash,
    pub(super) node: NodeId,
    pub(super) holding: Arc<Holding>,
    pub(super) ears: Ears,
}

/// Pieces that were asked for and are not whole.
#[derive(Default)]
struct Halves(BTreeMap<u32, Half>);

/// A piece of which some came.
#[derive(Default)]
struct Half {
    bytes: Vec<u8>,
    proof: Vec<[u8; 32]>,
}

/// Talks to a peer until it or the fetch ends.
pub(super) async fn run(exchange: Arc<Exchange>, wanted: Wanted, mut orders: mpsc::UnboundedReceiver<Order>) {
    let open = Frame::Open { group: wanted.group, hash: wanted.hash };
    let gone = match tokio::time::timeout(REACHING, exchange.first_word(wanted.node, &open)).await {
        Ok(Ok((Frame::Not(refusal), ..))) => Gone::Refused(refusal),
        Ok(Ok((Frame::Has { pieces }, frames, sink))) => {
            let has = Pieces::from_bytes(wanted.holding.geometry().pieces(), &pieces);
            // The fetch may be over.
            let _ = wanted.ears.send((wanted.node, Heard::Has(has))).await;
            talk(&exchange, &wanted, &mut orders, frames, sink).await
        }
        _ => Gone::Unreachable,
    };
    let _ = wanted.ears.send((wanted.node, Heard::Gone(gone))).await;
}

async fn talk(
    exchange: &Arc<Exchange>,
    wanted: &Wanted,
    orders: &mut mpsc::UnboundedReceiver<Order>,
    mut frames: Frames,
    mut sink: Sink,
) -> Gone {
    let (tell, mut told) = mpsc::channel(4);
    let reading = tokio::spawn(async move {
        while let Ok(Some(frame)) = frames.next().await {
            if tell.send(frame).await.is_err() {
                return;
            }
        }
    });
    let mut halves = Halves::default();
    let mut taken = 0;
    let gone = loop {
        tokio::select! {
            order = orders.recv() => {
                let Some(order) = order else { break Gone::Broken };
                let frame = match order {
                    Order::Ask(piece) => {
                        halves.0.entry(piece).or_default();
                        Frame::Ask { piece }
                    }
                    Order::Cancel(piece) => {
                        halves.0.remove(&piece);
                        Frame::Cancel { piece }
                    }
                    Order::Whole => Frame::Whole,
                };
                if sink.send(&frame).await.is_err() {
                    break Gone::Broken;
                }
            }
            frame = told.recv() => match frame {
                None => break Gone::Broken,
                Some(Frame::Part(part)) => {
                    let delay_us = delay(exchange.now().as_micros(), part.stamp_us);
                    taken += part.bytes.len() as u64;
                    let took = Frame::Took { bytes: taken, delay_us };
                    if sink.send(&took).await.is_err() || on_part(wanted, &mut halves, part).await.is_err() {
                        break Gone::Broken;
                    }
                }
                Some(Frame::More { pieces }) => {
                    if wanted.ears.send((wanted.node, Heard::More(pieces))).await.is_err() {
                        break Gone::Broken;
                    }
                }
                Some(Frame::Not(refusal)) => break Gone::Refused(refusal),
                Some(_) => {}
            },
        }
    };
    reading.abort();
    sink.close().await;
    gone
}

/// How long a part was under way, by two clocks.
fn delay(now_us: u64, stamp_us: u64) -> i64 {
    now_us.wrapping_sub(stamp_us).cast_signed()
}

/// Puts a part where it belongs; a piece that is whole is checked and written, beside what comes next.
async fn on_part(
    wanted: &Wanted,
    halves: &mut Halves,
    part: Part,
) -> Result<(), mpsc::error::SendError<(NodeId, Heard)>> {
    let (piece, count) = (part.piece, part.bytes.len());
    let whole = wanted.holding.geometry().len(piece);
    let Some(whole) = halves.add(part, whole) else { return Ok(()) };
    wanted.ears.send((wanted.node, Heard::Bytes(count))).await?;
    let Some(Half { bytes, proof }) = whole else { return Ok(()) };
    let (holding, ears, node) = (wanted.holding.clone(), wanted.ears.clone(), wanted.node);
    tokio::task::spawn_blocking(move || {
        let taken = holding.take(piece, &bytes, &proof);
        // The fetch may be over.
        let _ = ears.blocking_send((node, Heard::Piece(piece, taken)));
    });
    Ok(())
}

impl Halves {
    /// A part of a piece of `whole` bytes, and the piece if that was its last. `None` if it was not asked for, or is
    /// not what comes next: of a piece that was not wanted any more, and then was, parts of the first time may come.
    fn add(&mut self, part: Part, whole: usize) -> Option<Option<Half>> {
        let Part { piece, offset, proof, bytes, .. } = part;
        let half = self.0.get_mut(&piece)?;
        if offset == 0 {
            (half.bytes, half.proof) = (Vec::with_capacity(whole), proof);
        }
        let fits = offset as usize == half.bytes.len() && half.bytes.len() + bytes.len() <= whole;
        if !fits || (bytes.is_empty() && whole > 0) {
            return None;
        }
        half.bytes.extend_from_slice(&bytes);
        Some(if half.bytes.len() == whole { self.0.remove(&piece) } else { None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(piece: u32, offset: u32, len: usize) -> Part {
        Part { piece, offset, stamp_us: 0, proof: Vec::new(), bytes: vec![7; len] }
    }

    #[test]
    fn only_what_was_asked_for_stands_in_memory_and_begins_anew_if_it_does() {
        let mut halves = Halves::default();
        assert!(halves.add(part(1, 0, 10), 30).is_none(), "nobody asked");
        halves.0.entry(1).or_default();
        assert!(halves.add(part(1, 10, 10), 30).is_none(), "the rest of what was asked for before");
        assert!(halves.add(part(1, 0, 10), 30).is_some_and(|it| it.is_none()));
        assert!(halves.add(part(1, 10, 30), 30).is_none(), "too much");
        assert!(halves.add(part(1, 0, 20), 30).is_some_and(|it| it.is_none()), "anew");
        assert!(halves.add(part(1, 20, 0), 30).is_none(), "nothing is no news");
        let whole = halves.add(part(1, 20, 10), 30).flatten().expect("all of it");
        assert!(whole.bytes.len() == 30 && halves.0.is_empty());
        // An empty file's piece has no bytes.
        halves.0.entry(0).or_default();
        assert!(halves.add(part(0, 0, 0), 0).flatten().is_some());
    }
}
