//! Progress: "after the faults stop, progress within 5 s" (issue 6; liveness under partial synchrony: Dwork, Lynch,
//! Stockmeyer 1988, §2.3: after the global stabilisation time something is decided within a bounded time).

use std::collections::BTreeSet;
use std::time::Duration;

use treecast_overlay::Time;

use super::{Violation, violation};
use crate::oracle::{Fact, History};

/// # Errors
/// Nothing that was published after `calm` had a place anywhere `within` that time.
pub fn check(history: &History, calm: Time, within: Duration) -> Result<(), Violation> {
    let mut later = BTreeSet::new();
    for entry in history.entries.iter().filter(|it| it.time >= calm) {
        match entry.fact {
            Fact::Published(key) => drop(later.insert(key)),
            Fact::Ordered(_, it) if it.key.is_some_and(|key| later.contains(&key)) => {
                let took = entry.time.since(calm);
                if took <= within {
                    return Ok(());
                }
                violation!("only after {took:?} something has a place that was said when faults were over");
            }
            _ => {}
        }
    }
    violation!("nothing that was said when faults were over has a place");
}

#[cfg(test)]
mod tests {
    use super::super::bad_history::{Tale, delivered};
    use super::*;

    #[test]
    fn what_comes_late_or_never_is_seen() {
        // A second between each two: published at 1 s, ordered at 3 s.
        let told = |from: usize| {
            let tale = Tale::default().ready(0).publishes(0, 0);
            let history = tale.orders(0, 0, delivered(0, 0)).told();
            assert!(from < history.entries.len());
            history
        };
        let calm = told(0).entries[3].time;
        assert_eq!(check(&told(0), calm, Duration::from_secs(2)), Ok(()));
        assert!(check(&told(0), calm, Duration::from_secs(1)).is_err(), "late");
        let after = calm + Duration::from_secs(1);
        assert!(check(&told(0), after, Duration::from_secs(9)).is_err(), "it was said before");
    }
}
