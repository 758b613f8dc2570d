//! What is acknowledged as stored survives: a message that was given a place is on its author's
//! disk whatever happens, but for the loss of the disk. (The design's §3.4: "a node that crashed
//! loses nothing that it acknowledged".) And a disk has each message once, unaltered, as its author
//! published it (integrity, as for a run).

use std::collections::{BTreeMap, BTreeSet};

use treecast_overlay::sim::NodeIx;

use super::{Violation, violation};
use crate::oracle::{Delivered, Fact, History, Key};

/// To be asked where nodes have disks.
///
/// # Errors
/// The first message that is not on its author's disk although it should be; or is on a disk altered,
/// twice, or without having been published.
pub fn check(history: &History) -> Result<(), Violation> {
    let published = history.entries.iter().filter_map(|entry| match entry.fact {
        Fact::Published(key) => Some(key),
        _ => None,
    });
    let published: BTreeSet<Key> = published.collect();
    for (node, kept) in &history.disks {
        let earlier = history.earlier.get(node).into_iter().flatten();
        let kept: Vec<Delivered> = earlier.chain(kept).copied().collect();
        once(&kept, &published).map_err(|it| format!("on the disk of {node:?}: {it}"))?;
    }
    for (author, stored) in stored(history) {
        let kept = history.disks.get(&author).into_iter().flatten();
        let kept: BTreeSet<Key> = kept.filter_map(|it| it.key).collect();
        if let Some(key) = stored.difference(&kept).next() {
            violation!("stored, and not on the disk of its author any more: {key:?}");
        }
    }
    Ok(())
}

fn once(kept: &[Delivered], published: &BTreeSet<Key>) -> Result<(), Violation> {
    let (mut keys, mut places) = (BTreeSet::new(), BTreeSet::new());
    for it in kept {
        let Some(key) = it.key else { violation!("altered: {it:?}") };
        if Some(key.author) != it.source || !published.contains(&key) {
            violation!("not published by its source: {it:?}");
        }
        if !keys.insert(key) || !places.insert((it.source, it.life, it.seq, it.n)) {
            violation!("twice: {it:?}");
        }
    }
    Ok(())
}

/// By author: what its disk, as it is at the end, was acknowledged to have.
fn stored(history: &History) -> BTreeMap<NodeIx, BTreeSet<Key>> {
    let mut stored = BTreeMap::<NodeIx, BTreeSet<Key>>::new();
    let mut copies = BTreeMap::<NodeIx, BTreeSet<Key>>::new();
    for entry in &history.entries {
        let its = stored.entry(entry.node).or_default();
        match entry.fact {
            Fact::Placed(key) => drop(its.insert(key)),
            Fact::Wiped | Fact::LeftGroup => its.clear(),
            Fact::BackedUp => drop(copies.insert(entry.node, its.clone())),
            Fact::Restored => *its = copies.get(&entry.node).cloned().unwrap_or_default(),
            _ => {}
        }
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::super::bad_history::{Tale, delivered};
    use super::*;

    #[test]
    fn what_was_acknowledged_is_there_unless_the_disk_was_lost() {
        let tale = || Tale::default().publishes(0, 0);
        assert_eq!(check(&tale().keeps(0, vec![delivered(0, 0)]).told()), Ok(()));
        assert!(check(&tale().keeps(0, Vec::new()).told()).is_err());
        assert_eq!(check(&tale().fact(0, 1, Fact::Wiped).keeps(0, Vec::new()).told()), Ok(()));
        let older = Tale::default().fact(0, 1, Fact::BackedUp).publishes(0, 0).fact(0, 1, Fact::Restored);
        assert_eq!(check(&older.keeps(0, Vec::new()).told()), Ok(()));
    }

    #[test]
    fn each_breach_on_a_disk_is_seen() {
        let altered = Delivered { key: None, ..delivered(0, 0) };
        let elsewhere = Delivered { seq: 9, ..delivered(0, 0) };
        let foreign = Delivered { source: Some(NodeIx(2)), ..delivered(0, 0) };
        for kept in [
            vec![altered],
            vec![foreign],
            vec![delivered(0, 0), delivered(0, 0)],
            vec![delivered(0, 0), elsewhere],
            vec![delivered(0, 0), delivered(0, 1)],
        ] {
            let tale = Tale::default().publishes(0, 0).keeps(0, vec![delivered(0, 0)]);
            assert!(check(&tale.keeps(1, kept.clone()).told()).is_err(), "{kept:?}");
        }
    }
}
