//! Validity: "if a correct process broadcasts a message, then it eventually delivers it"
//! (Hadzilacos and Toueg 1994, §3; Cachin et al. 2011, Module 3.3: RB1). What the engine
//! refuses with an event is not broadcast.

use std::collections::BTreeSet;

use super::{Violation, violation};
use crate::oracle::{Fact, History};

/// To be asked after quiescence.
///
/// # Errors
/// The first message whose source did not deliver it although its run went on, or that got
/// neither a place nor a refusal.
pub fn check(history: &History) -> Result<(), Violation> {
    let mut owed = BTreeSet::new();
    let mut unanswered = BTreeSet::new();
    for entry in &history.entries {
        match entry.fact {
            Fact::Published(key) => {
                owed.insert((entry.node, entry.run, key));
                unanswered.insert((entry.node, entry.run, key));
            }
            Fact::Placed(key) => {
                unanswered.remove(&(entry.node, entry.run, key));
            }
            Fact::Refused(key, _) => {
                owed.remove(&(entry.node, entry.run, key));
                unanswered.remove(&(entry.node, entry.run, key));
            }
            Fact::Delivered(it) => {
                if let Some(key) = it.key {
                    owed.remove(&(entry.node, entry.run, key));
                }
            }
            Fact::Stopped(_) | Fact::LeftGroup => {
                let goes_on = |it: &(_, u32, _)| (it.0, it.1) != (entry.node, entry.run);
                owed.retain(goes_on);
                unanswered.retain(goes_on);
            }
            _ => {}
        }
    }
    if let Some((node, run, key)) = owed.first() {
        violation!("{} own messages not delivered; first: {node:?} run {run} {key:?}", owed.len());
    }
    if let Some((node, run, key)) = unanswered.first() {
        violation!("{} publications unanswered; first: {node:?} run {run} {key:?}", unanswered.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::bad_history::{Tale, key};
    use super::*;

    #[test]
    fn a_source_that_does_not_deliver_its_own_is_seen() {
        let published = || Tale::default().publishes(0, 0);
        assert_eq!(check(&published().delivers(0, 0, 0).told()), Ok(()));
        assert_eq!(check(&published().dies(0).told()), Ok(()));
        assert!(check(&published().delivers(1, 0, 0).told()).is_err());
    }

    #[test]
    fn a_publication_without_an_answer_is_seen() {
        let unanswered = Tale::default().fact(0, 1, Fact::Published(key(0, 0))).delivers(0, 0, 0);
        assert!(check(&unanswered.told()).is_err());
    }
}
