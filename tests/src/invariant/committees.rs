//! One committee an epoch: every configuration of a replicated state machine is decided by the one before it, so
//! that there is one sequence of them (Lamport, Malkhi, Zhou 2010, "Reconfiguring a state machine", §2; the design's
//! §5, *Epochs*).

use std::collections::BTreeMap;

use super::{Violation, violation};
use crate::oracle::History;

/// # Errors
/// The first epoch that has two committees, by what two nodes hold or by what one of them held at two times.
pub fn check(history: &History) -> Result<(), Violation> {
    let mut rosters = BTreeMap::new();
    for (epoch, roster, node) in &history.order.committees {
        let (first, of) = rosters.entry(epoch).or_insert((roster, node));
        if first != &roster {
            violation!(
                "in epoch {epoch} {first:?} are the committee for {of:?}, and {roster:?} for {node:?}"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use treecast_overlay::sim::NodeIx;

    use super::*;

    #[test]
    fn two_committees_in_an_epoch_are_seen() {
        let seen = |all: &[(u64, &[usize], usize)]| {
            let mut history = History::default();
            let roster = |it: &[usize]| it.iter().map(|node| NodeIx(*node)).collect();
            let all = all.iter().map(|(epoch, it, node)| (*epoch, roster(it), NodeIx(*node)));
            history.order.committees.extend(all);
            check(&history)
        };
        assert_eq!(seen(&[(1, &[0], 0), (2, &[0, 1, 2], 0), (2, &[0, 1, 2], 1)]), Ok(()));
        assert!(seen(&[(2, &[0, 1, 2], 0), (2, &[0, 1, 3], 1)]).is_err());
        assert!(seen(&[(2, &[0, 1, 2], 0), (2, &[0, 2, 1], 1)]).is_err(), "seats count");
    }
}
