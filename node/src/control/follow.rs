//! How messages of `pub` spread, told as it goes on.

use std::collections::VecDeque;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use treecast_overlay::BatchId;

use super::protocol::Line;
use crate::handle::{Receipt, Sender};

/// Batches that are followed at once; of older ones nothing more is told. Guess: more than a terminal
/// shows.
const FOLLOWED: usize = 256;

/// Where it is told which message, counted from 1, has its place.
pub(super) type PlacedTell = mpsc::UnboundedSender<(u64, BatchId)>;

/// The latest batches of a `pub`.
pub(super) struct Following {
    sender: Sender,
    placed: mpsc::UnboundedReceiver<(u64, BatchId)>,
    tell: mpsc::UnboundedSender<(BatchId, Receipt)>,
    told: mpsc::UnboundedReceiver<(BatchId, Receipt)>,
    followed: VecDeque<(BatchId, JoinHandle<()>)>,
}

impl Following {
    pub(super) fn new(sender: Sender) -> (PlacedTell, Self) {
        let (tell_placed, placed) = mpsc::unbounded_channel();
        let (tell, told) = mpsc::unbounded_channel();
        (tell_placed, Self { sender, placed, tell, told, followed: VecDeque::new() })
    }

    /// The next thing to tell; never, if nothing is followed. A call that is dropped loses nothing.
    pub(super) async fn next(&mut self) -> Line {
        tokio::select! {
            Some((line, batch)) = self.placed.recv() => {
                self.follow(batch);
                Line::Placed { line, life: batch.life, seq: batch.seq }
            }
            Some((batch, Receipt { have, of })) = self.told.recv() => {
                Line::Held { life: batch.life, seq: batch.seq, have, of }
            }
            else => std::future::pending().await,
        }
    }

    fn follow(&mut self, batch: BatchId) {
        if self.followed.back().is_some_and(|(last, _)| *last == batch) {
            return;
        }
        if self.followed.len() >= FOLLOWED
            && let Some((_, oldest)) = self.followed.pop_front()
        {
            oldest.abort();
        }
        let task = tokio::spawn(follow(self.sender.clone(), batch, self.tell.clone()));
        self.followed.push_back((batch, task));
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.followed.iter().for_each(|(_, task)| task.abort());
    }
}

/// Until all that are online have it.
async fn follow(sender: Sender, batch: BatchId, tell: mpsc::UnboundedSender<(BatchId, Receipt)>) {
    let Ok(mut steps) = sender.watch_receipt(batch).await else { return };
    loop {
        let step = *steps.borrow_and_update();
        if step.is_some_and(|receipt| tell.send((batch, receipt)).is_err()) {
            return;
        }
        if steps.changed().await.is_err() {
            // The last step and the end may have come together.
            let last = *steps.borrow();
            if let Some(receipt) = last.filter(|_| last != step) {
                // Whoever followed may have gone.
                let _ = tell.send((batch, receipt));
            }
            return;
        }
    }
}
