//! Word of a loss is final, and comes once: in one run of an application, no place is told as lost twice,
//! and nothing is delivered at a place that was told as lost. (The design's §3: "an unrecoverable hole as
//! `Gap{lost}`, never as silence"; one that is told again and again is as good as none.)

use std::collections::{BTreeMap, BTreeSet};

use treecast_overlay::sim::NodeIx;
use treecast_overlay::{Life, Seq};

use super::{Violation, violation};
use crate::oracle::{Delivered, Fact, History};

/// # Errors
/// The first loss that is told anew in the same run, or that was none.
pub fn check(history: &History) -> Result<(), Violation> {
    let mut lost = BTreeMap::<(NodeIx, u32, NodeIx, Life), BTreeSet<Seq>>::new();
    for entry in &history.entries {
        let place = |source, life| (entry.node, entry.run, source, life);
        match entry.fact {
            Fact::Lost { source: Some(source), life, from, to } => {
                let told = lost.entry(place(source, life)).or_default();
                if (from..to).any(|seq| !told.insert(seq)) {
                    violation!("a loss was told twice: {entry:?}");
                }
            }
            Fact::Delivered(Delivered { source: Some(source), life, seq, .. })
                if lost.get(&place(source, life)).is_some_and(|it| it.contains(&seq)) =>
            {
                violation!("delivered what was told as lost: {entry:?}");
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::bad_history::{Tale, delivered};
    use super::*;

    #[test]
    fn each_breach_is_seen() {
        let lost = |from, to| Fact::Lost { source: Some(NodeIx(0)), life: 1, from, to };
        let tale = || Tale::default().delivers(1, 0, 0).fact(1, 1, lost(1, 4));
        assert_eq!(check(&tale().fact(1, 1, lost(4, 6)).delivers(1, 0, 6).told()), Ok(()));
        assert_eq!(check(&tale().delivers_as(1, 2, delivered(0, 2)).told()), Ok(()), "another run");
        assert!(check(&tale().fact(1, 1, lost(3, 6)).told()).is_err());
        assert!(check(&tale().delivers(1, 0, 2).told()).is_err());
    }
}
