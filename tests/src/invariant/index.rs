//! No gap and no repeat: an application is told of places one after the other (`DESIGN.md` §3.5: "all members the
//! same sequence"; as a replicated state machine applies its log, Schneider 1990, §2.2). A run that goes on with its
//! disk is told on from what is there; only word that something was missed excuses a gap.

use std::collections::BTreeMap;

use super::{Violation, violation};
use crate::oracle::{Fact, History};

/// # Errors
/// The first place that an application was told of although another was the next.
pub fn check(history: &History) -> Result<(), Violation> {
    let mut next = BTreeMap::new();
    for entry in &history.entries {
        let run = (entry.node, entry.run);
        match entry.fact {
            Fact::Started { resumed: true } => {
                next.insert(run, history.order.resumed.get(&run).map(|it| it.next));
            }
            Fact::Excused => drop(next.insert(run, None)),
            Fact::Ordered(index, _) => {
                let expected = next.insert(run, Some(index + 1)).flatten();
                if expected.is_some_and(|expected| expected != index) {
                    violation!("{expected:?} comes next: {entry:?}");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use treecast_overlay::sim::NodeIx;

    use super::super::bad_history::{Tale, delivered};
    use super::*;
    use crate::oracle::Sequence;

    #[test]
    fn a_gap_and_a_repeat_are_seen() {
        let tale = || Tale::default().ready(1).orders(0, 7, delivered(0, 0));
        assert_eq!(check(&tale().orders(0, 8, delivered(0, 1)).told()), Ok(()));
        assert!(check(&tale().orders(0, 9, delivered(0, 1)).told()).is_err());
        assert!(check(&tale().orders(0, 7, delivered(0, 0)).told()).is_err());
        let missed = tale().fact(0, 1, Fact::Excused).orders(0, 20, delivered(0, 1));
        assert_eq!(check(&missed.told()), Ok(()));
    }

    #[test]
    fn a_run_goes_on_from_its_disk() {
        let again = |index| {
            let tale = Tale::default().ready(1).orders(0, 7, delivered(0, 0)).dies(0);
            let tale = tale.fact(0, 2, Fact::Started { resumed: true });
            let tale = tale.fact(0, 2, Fact::Ordered(index, delivered(0, 1)));
            let mut history = tale.told();
            history.order.resumed.insert((NodeIx(0), 2), Sequence { next: 8, ..Sequence::default() });
            history
        };
        assert_eq!(check(&again(8)), Ok(()));
        assert!(check(&again(9)).is_err());
        assert!(check(&again(7)).is_err());
    }
}
