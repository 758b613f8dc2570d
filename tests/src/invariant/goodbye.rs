//! Goodbye is bounded: a node that is asked to stop or to leave is done within
//! [`Config::goodbye_wait`](treecast_overlay::Config) (and a second), whatever its
//! neighbours do. (The design's §3.7: "both wait (bounded)".)

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use treecast_overlay::Time;

use super::{Violation, violation};
use crate::oracle::{Fact, History};

/// # Errors
/// The first goodbye that took longer than `bound`, or never ended although the history
/// goes on past it until `end`.
pub fn check(history: &History, bound: Duration, end: Time) -> Result<(), Violation> {
    let mut asked = BTreeMap::new();
    let mut gone = BTreeSet::new();
    for entry in &history.entries {
        match entry.fact {
            // Who has left is out already.
            Fact::LeaveAsked if gone.contains(&(entry.node, entry.run)) => {}
            Fact::ShutdownAsked | Fact::LeaveAsked => {
                asked.entry((entry.node, entry.run)).or_insert(entry.time);
            }
            Fact::Stopped(_) | Fact::LeftGroup => {
                gone.insert((entry.node, entry.run));
                if let Some(at) = asked.remove(&(entry.node, entry.run))
                    && entry.time.since(at) > bound
                {
                    violation!("a goodbye took {:?}: {entry:?}", entry.time.since(at));
                }
            }
            _ => {}
        }
    }
    match asked.into_iter().find(|(_, at)| end.since(*at) > bound) {
        Some(((node, run), at)) => violation!("{node:?} run {run} said at {at:?} that it goes, and stayed"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::bad_history::Tale;
    use super::*;
    use treecast_overlay::sim::Stop;

    #[test]
    fn a_late_and_a_missing_goodbye_are_seen() {
        let bound = Duration::from_secs(3);
        let end = Time::from_micros(60_000_000);
        let asked = || Tale::default().fact(0, 1, Fact::ShutdownAsked);
        let gone = |tale: Tale| tale.fact(0, 1, Fact::Stopped(Stop::Goodbye)).told();
        assert_eq!(check(&gone(asked()), bound, end), Ok(()));
        assert!(check(&asked().told(), bound, end).is_err());
        assert!(check(&gone(asked().ready(2)), bound, end).is_err());
    }
}
