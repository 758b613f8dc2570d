//! Integrity: "every process delivers a message at most once, and only if it was previously
//! broadcast by its sender" (Hadzilacos and Toueg 1994, §3; Cachin, Guerraoui, Rodrigues
//! 2011, Module 3.3: RB2, RB3). Here: at most once per run of the receiver's application,
//! unaltered.

use std::collections::BTreeSet;

use super::{Violation, violation};
use crate::oracle::{Fact, History};

/// # Errors
/// The first delivery that is altered, twice in a run, or not published before by its source.
pub fn check(history: &History) -> Result<(), Violation> {
    let mut published = BTreeSet::new();
    let mut refused = BTreeSet::new();
    let mut places = BTreeSet::new();
    let mut delivered = BTreeSet::new();
    for entry in &history.entries {
        let run = (entry.node, entry.run);
        match entry.fact {
            Fact::Published(key) => {
                published.insert(key);
            }
            Fact::Refused(key, _) => {
                refused.insert(key);
            }
            Fact::Delivered(it) => {
                let Some(key) = it.key else { violation!("an altered message was delivered: {entry:?}") };
                if Some(key.author) != it.source {
                    violation!("delivered as another's: {entry:?}");
                }
                if !published.contains(&key) || refused.contains(&key) {
                    violation!("delivered but not published: {entry:?}");
                }
                if !delivered.insert((run, key)) || !places.insert((run, it.source, it.life, it.seq, it.n)) {
                    violation!("delivered twice: {entry:?}");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::bad_history::{Tale, delivered, key};
    use super::*;
    use treecast_overlay::PublishError;
    use treecast_overlay::sim::NodeIx;

    #[test]
    fn a_clean_history_passes_and_a_second_run_may_hear_again() {
        let tale = Tale::default().publishes(0, 0).delivers(1, 0, 0).dies(1);
        assert_eq!(check(&tale.delivers_as(1, 2, delivered(0, 0)).told()), Ok(()));
    }

    #[test]
    fn each_breach_is_seen() {
        let published = || Tale::default().publishes(0, 0);
        let altered = crate::oracle::Delivered { key: None, ..delivered(0, 0) };
        let foreign = crate::oracle::Delivered { source: Some(NodeIx(2)), ..delivered(0, 0) };
        let elsewhere = crate::oracle::Delivered { seq: 9, ..delivered(0, 0) };
        let same_place = crate::oracle::Delivered { key: Some(key(0, 1)), ..delivered(0, 0) };
        for bad in [
            Tale::default().delivers(1, 0, 0),
            published().delivers_as(1, 1, altered),
            published().delivers_as(1, 1, foreign),
            published().delivers(1, 0, 0).delivers(1, 0, 0),
            published().delivers(1, 0, 0).delivers_as(1, 1, elsewhere),
            published().publishes(0, 1).delivers(1, 0, 0).delivers_as(1, 1, same_place),
            published().fact(0, 1, Fact::Refused(key(0, 0), PublishError::Full)).delivers(1, 0, 0),
        ] {
            assert!(check(&bad.told()).is_err());
        }
    }
}
