//! What is ordered can always be delivered: "each ordered batch is on the disks of a committee majority" (the
//! design's §5, *Accept rule*; a value is chosen once a majority has accepted it, Lamport 2001, "Paxos made simple",
//! §2.2, and it is accepted here with what it names).

use super::{Violation, violation};
use crate::oracle::History;

/// # Errors
/// The first batch that somebody was told to have a place when it was on fewer disks.
pub fn check(history: &History) -> Result<(), Violation> {
    match history.order.frail.first() {
        Some((time, batch)) => {
            violation!("on the disks of no majority when it was ordered, at {time:?}: {batch:?}")
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use treecast_overlay::{BatchId, NodeId, Time};

    use super::*;

    #[test]
    fn a_frail_batch_is_seen() {
        let mut history = History::default();
        assert_eq!(check(&history), Ok(()));
        let batch = BatchId { source: NodeId::from_bytes([1; 32]), life: 1, seq: 0 };
        history.order.frail.push((Time::ZERO, batch));
        assert!(check(&history).is_err());
    }
}
