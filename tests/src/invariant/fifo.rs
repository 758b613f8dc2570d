//! FIFO order: "if a process broadcasts m before it broadcasts m', no correct process
//! delivers m' unless it has previously delivered m" (Hadzilacos and Toueg 1994, §3). Here
//! also across a source's lives. What was never delivered at all is for agreement to judge.

use std::collections::BTreeMap;

use treecast_overlay::sim::NodeIx;
use treecast_overlay::{Life, Seq};

use super::{Violation, violation};
use crate::oracle::{Delivered, Fact, History};

/// # Errors
/// The first delivery, in a run or to a disk, that comes after a later message of the same source.
pub fn check(history: &History) -> Result<(), Violation> {
    let mut runs = BTreeMap::new();
    for entry in &history.entries {
        let Fact::Delivered(it) = entry.fact else { continue };
        follow(runs.entry((entry.node, entry.run)).or_default(), &it)
            .map_err(|it| format!("{it}: {entry:?}"))?;
    }
    for (node, kept) in &history.disks {
        let mut last = Last::new();
        for it in kept {
            follow(&mut last, it)
                .map_err(|violation| format!("{violation}: {it:?} on the disk of {node:?}"))?;
        }
    }
    Ok(())
}

/// Of each author the last message and its place.
type Last = BTreeMap<NodeIx, (u64, (Life, Seq, u32))>;

fn follow(last: &mut Last, it: &Delivered) -> Result<(), Violation> {
    let Some(key) = it.key else { return Ok(()) };
    let here = (key.n, (it.life, it.seq, it.n));
    match last.insert(key.author, here) {
        Some((n, place)) if n >= here.0 || place >= here.1 => {
            violation!("delivered after message {n} at {place:?}")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::bad_history::{Tale, delivered};
    use super::*;
    use crate::oracle::Delivered;

    #[test]
    fn holes_pass_and_inversions_do_not() {
        let tale = || Tale::default().publishes(0, 0).publishes(0, 1).publishes(0, 2);
        assert_eq!(check(&tale().delivers(1, 0, 0).delivers(1, 0, 2).told()), Ok(()));
        assert!(check(&tale().delivers(1, 0, 1).delivers(1, 0, 0).told()).is_err());
        let kept = |numbers: [u64; 2]| numbers.map(|n| delivered(0, n)).to_vec();
        assert_eq!(check(&tale().keeps(1, kept([0, 2])).told()), Ok(()));
        assert!(check(&tale().keeps(1, kept([2, 0])).told()).is_err());
    }

    #[test]
    fn an_earlier_life_after_a_later_one_is_seen() {
        let tale = Tale::default().publishes(0, 0).publishes(0, 1);
        let later_life = Delivered { life: 2, seq: 0, ..delivered(0, 0) };
        assert!(check(&tale.delivers_as(1, 1, later_life).delivers(1, 0, 1).told()).is_err());
    }
}
