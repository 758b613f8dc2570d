//! Uniform agreement: "if a process, correct or faulty, delivers m, all correct processes eventually deliver m"
//! (Hadzilacos and Toueg 1994, §4; Défago, Schiper, Urbán 2004, §2.2). So what anybody was told to have a place, also
//! if that one died then or lost its disk, everybody has who runs at the end, from where its own sequence begins.

use std::collections::BTreeSet;

use treecast_overlay::sim::NodeIx;

use super::{Violation, violation};
use crate::oracle::{Fact, History};

/// To be asked where nodes have disks, when faults have been lifted and all is quiet.
///
/// # Errors
/// The first place that somebody was told of and a member that runs does not have.
pub fn check(history: &History) -> Result<(), Violation> {
    let (members, excused) = members(history);
    let told = history.entries.iter().filter_map(|entry| match entry.fact {
        Fact::Ordered(index, _) => Some((index, entry.node)),
        _ => None,
    });
    let told: BTreeSet<(u64, NodeIx)> = told.collect();
    let Some((last, teller)) = told.last() else { return Ok(()) };
    for node in members {
        let Some(kept) = history.order.disks.get(&node) else {
            violation!("{node:?} has nothing, and {teller:?} was told of {last}");
        };
        let first = kept.places.first_key_value().map(|it| *it.0);
        let is_owed = |index: &u64| first.is_some_and(|first| *index >= first) && !excused.contains(&node);
        let lacks = |(index, _): &&(u64, NodeIx)| is_owed(index) && !kept.places.contains_key(index);
        if let Some((index, teller)) = told.iter().find(lacks) {
            violation!("{node:?} has nothing at {index}, of which {teller:?} was told");
        }
        if kept.next <= *last {
            violation!("{node:?} ends at {}, and {teller:?} was told of {last}", kept.next);
        }
    }
    Ok(())
}

/// Who runs at the end, and who of them was told that it missed something.
fn members(history: &History) -> (BTreeSet<NodeIx>, BTreeSet<NodeIx>) {
    let (mut up, mut excused) = (BTreeSet::new(), BTreeSet::new());
    for entry in &history.entries {
        match entry.fact {
            Fact::Started { .. } => drop(up.insert(entry.node)),
            Fact::Stopped(_) | Fact::ShutdownAsked | Fact::LeaveAsked | Fact::LeftGroup => {
                up.remove(&entry.node);
            }
            Fact::Excused => drop(excused.insert(entry.node)),
            _ => {}
        }
    }
    (up, excused)
}

#[cfg(test)]
mod tests {
    use super::super::bad_history::{Tale, delivered};
    use super::*;

    #[test]
    fn what_only_a_dead_one_was_told_is_owed_to_all() {
        let tale = || Tale::default().ready(2).orders(0, 0, delivered(0, 0)).orders(0, 1, delivered(0, 1));
        let all = || vec![delivered(0, 0), delivered(0, 1)];
        let dies = || tale().dies(0);
        assert_eq!(check(&dies().has_order(1, 0, all()).told()), Ok(()));
        assert!(check(&dies().has_order(1, 0, vec![delivered(0, 0)]).told()).is_err());
        assert!(check(&dies().told()).is_err(), "it has nothing at all");
        let both = tale().has_order(0, 0, all());
        assert_eq!(check(&both.clone().has_order(1, 1, vec![delivered(0, 1)]).told()), Ok(()), "a newcomer");
        assert!(check(&both.has_order(1, 1, Vec::new()).told()).is_err());
    }

    #[test]
    fn a_hole_is_seen_unless_it_was_told() {
        let tale = || {
            let tale = Tale::default().ready(2).orders(0, 0, delivered(0, 0)).orders(0, 1, delivered(0, 1));
            tale.orders(0, 2, delivered(0, 2)).dies(0)
        };
        let hole = |tale: Tale| {
            let mut history = tale.has_order(1, 0, vec![delivered(0, 0), delivered(0, 1)]).told();
            let kept = history.order.disks.get_mut(&NodeIx(1)).expect("set above");
            kept.places.remove(&1);
            kept.places.insert(2, delivered(0, 2));
            kept.next = 3;
            history
        };
        assert!(check(&hole(tale())).is_err());
        assert_eq!(check(&hole(tale().fact(1, 1, Fact::Excused))), Ok(()));
    }
}
