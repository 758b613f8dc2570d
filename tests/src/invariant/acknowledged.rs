//! No acknowledged entry is lost: a message that its author was told to be stored has a place at the end ("a node that
//! crashed loses nothing that it acknowledged", the design's §4; validity of a total order broadcast, Défago,
//! Schiper, Urbán 2004, §2.2). That is asked of authors that run at the end with the disk that they stored it on; who
//! was told that a message of its own is lost knows.

use std::collections::{BTreeMap, BTreeSet};

use treecast_overlay::sim::NodeIx;
use treecast_overlay::{Life, Seq};

use super::{Violation, violation};
use crate::oracle::{Delivered, Fact, History, Key};

#[derive(Default)]
struct Author {
    is_up: bool,
    stored: BTreeSet<Key>,
    lost: Vec<(Life, Seq, Seq)>,
}

impl Author {
    /// Whether it was told that this one is lost.
    fn knows(&self, it: Option<&Delivered>) -> bool {
        it.is_some_and(|it| {
            let covers =
                |(life, from, to): &(Life, Seq, Seq)| it.life == *life && (*from..*to).contains(&it.seq);
            self.lost.iter().any(covers)
        })
    }
}

/// To be asked where nodes have disks, when faults have been lifted and all is quiet.
///
/// # Errors
/// The first stored message that has no place on its author's disk.
pub fn check(history: &History) -> Result<(), Violation> {
    let mut authors = BTreeMap::<NodeIx, Author>::new();
    let mut places = BTreeMap::new();
    for entry in &history.entries {
        let it = authors.entry(entry.node).or_default();
        match entry.fact {
            Fact::Started { .. } => it.is_up = true,
            Fact::Stopped(_) | Fact::ShutdownAsked | Fact::LeaveAsked => it.is_up = false,
            Fact::Wiped | Fact::Restored | Fact::LeftGroup => it.stored.clear(),
            Fact::Placed(key) => drop(it.stored.insert(key)),
            Fact::Lost { source, life, from, to } if source == Some(entry.node) => {
                it.lost.push((life, from, to))
            }
            Fact::Tentative(it) => places.extend(it.key.map(|key| (key, it))),
            _ => {}
        }
    }
    for (node, author) in authors.iter().filter(|it| it.1.is_up) {
        let kept = history.order.disks.get(node).into_iter().flat_map(|it| it.places.values());
        let kept: BTreeSet<Key> = kept.filter_map(|it| it.key).collect();
        let mut lacking = author.stored.difference(&kept);
        if let Some(key) = lacking.find(|key| !author.knows(places.get(key))) {
            violation!("stored, and it has no place: {key:?}, {:?}", places.get(key));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::bad_history::{Tale, delivered};
    use super::*;

    #[test]
    fn a_stored_message_without_a_place_is_seen() {
        let tale = || Tale::default().ready(1).publishes(0, 0).fact(0, 1, Fact::Tentative(delivered(0, 0)));
        assert_eq!(check(&tale().has_order(0, 0, vec![delivered(0, 0)]).told()), Ok(()));
        assert!(check(&tale().has_order(0, 0, Vec::new()).told()).is_err());
        let lost = Fact::Lost { source: Some(NodeIx(0)), life: 1, from: 0, to: 1 };
        assert_eq!(check(&tale().fact(0, 1, lost).has_order(0, 0, Vec::new()).told()), Ok(()));
        assert_eq!(check(&tale().dies(0).told()), Ok(()));
    }
}
