//! What is settled stays: "if a server has applied a log entry at a given index, no other entry is ever applied at
//! it" (Ongaro and Ousterhout 2014, Figure 3: state machine safety), and it does not vanish: what a node was told to
//! have a place is there on its disk at the end, unless the disk was lost, replaced or left meanwhile.

use std::collections::BTreeMap;

use treecast_overlay::sim::NodeIx;

use super::{Violation, violation};
use crate::oracle::{Delivered, Fact, History};

/// To be asked where nodes have disks, when all is quiet.
///
/// # Errors
/// The first place that a node was told of and that holds something else, or nothing, afterwards.
pub fn check(history: &History) -> Result<(), Violation> {
    let mut told = BTreeMap::<NodeIx, BTreeMap<u64, Delivered>>::new();
    for entry in &history.entries {
        let its = told.entry(entry.node).or_default();
        match entry.fact {
            Fact::Wiped | Fact::Restored | Fact::LeftGroup => its.clear(),
            Fact::Ordered(index, it) => {
                if let Some(earlier) = its.insert(index, it).filter(|earlier| *earlier != it) {
                    violation!("it was {earlier:?}: {entry:?}");
                }
            }
            _ => {}
        }
    }
    for (node, its) in &told {
        let kept = history.order.disks.get(node);
        let running = |index: &u64| kept.and_then(|it| it.places.get(index));
        if is_up(history, *node)
            && let Some((index, it)) = its.iter().find(|(index, it)| running(index) != Some(*it))
        {
            violation!("{node:?} was told that {it:?} is at {index}, where {:?} is", running(index));
        }
    }
    Ok(())
}

/// Who stopped may not have written yet what it was told; it is told again.
fn is_up(history: &History, node: NodeIx) -> bool {
    let last = history.entries.iter().rev().filter(|it| it.node == node);
    let mut ends = last.filter(|it| matches!(it.fact, Fact::Started { .. } | Fact::Stopped(_)));
    ends.next().is_some_and(|it| matches!(it.fact, Fact::Started { .. }))
}

#[cfg(test)]
mod tests {
    use super::super::bad_history::{Tale, delivered};
    use super::*;

    #[test]
    fn what_was_told_is_there_later() {
        let tale = || Tale::default().ready(1).orders(0, 0, delivered(0, 0));
        assert_eq!(check(&tale().has_order(0, 0, vec![delivered(0, 0)]).told()), Ok(()));
        assert!(check(&tale().has_order(0, 0, vec![delivered(0, 1)]).told()).is_err());
        assert!(check(&tale().has_order(0, 0, Vec::new()).told()).is_err());
        assert!(check(&tale().orders(0, 0, delivered(0, 1)).told()).is_err());
        assert_eq!(check(&tale().fact(0, 1, Fact::Wiped).has_order(0, 5, Vec::new()).told()), Ok(()));
        assert_eq!(check(&tale().dies(0).has_order(0, 0, Vec::new()).told()), Ok(()));
    }
}
