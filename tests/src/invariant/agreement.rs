//! Agreement: "if a correct process delivers a message, then all correct processes
//! eventually deliver it" (Hadzilacos and Toueg 1994, §3; Cachin et al. 2011, Module 3.3:
//! RB4). A correct member of a message is one that was ready 2 s before the publishing and
//! whose run goes on to the end; to be asked when faults have been lifted and all is quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use treecast_overlay::Time;
use treecast_overlay::sim::NodeIx;

use super::{Violation, violation};
use crate::oracle::{Fact, History, Key};

/// How long a member is in the group before messages are owed to it.
const SETTLED: Duration = Duration::from_secs(2);

/// A member whose run goes on to the end.
struct Correct {
    ready: Time,
    delivered: BTreeSet<Key>,
}

/// # Errors
/// The messages that one correct member delivered and another, to which they were owed, did
/// not.
pub fn check(history: &History) -> Result<(), Violation> {
    let (published, correct) = read(history);
    let mut missing = BTreeMap::<(Key, NodeIx), Time>::new();
    for (key, at) in &published {
        if correct.values().any(|member| member.delivered.contains(key)) {
            let owed = correct.iter().filter(|(_, member)| member.ready + SETTLED <= *at);
            let lacking = owed.filter(|(_, member)| !member.delivered.contains(key));
            missing.extend(lacking.map(|(node, _)| ((*key, *node), *at)));
        }
    }
    if let Some(((key, node), at)) = missing.first_key_value() {
        let nodes: BTreeSet<_> = missing.keys().map(|(_, node)| node.0).collect();
        violation!(
            "{} deliveries missing, at nodes {nodes:?}; first: {key:?}, published at {at:?}, at {node:?}",
            missing.len()
        );
    }
    Ok(())
}

fn read(history: &History) -> (BTreeMap<Key, Time>, BTreeMap<NodeIx, Correct>) {
    let mut published = BTreeMap::new();
    let mut correct = BTreeMap::new();
    for entry in &history.entries {
        match entry.fact {
            Fact::Published(key) => {
                published.insert(key, entry.time);
            }
            Fact::Started => {
                let member = Correct { ready: Time::NEVER, delivered: BTreeSet::new() };
                correct.insert(entry.node, member);
            }
            // One that is on its way out is owed nothing any more.
            Fact::Stopped(_) | Fact::ShutdownAsked | Fact::LeaveAsked | Fact::LeftGroup => {
                correct.remove(&entry.node);
            }
            Fact::Excused => {
                if let Some(member) = correct.get_mut(&entry.node) {
                    member.ready = Time::NEVER;
                }
            }
            Fact::Ready => {
                if let Some(member) = correct.get_mut(&entry.node) {
                    member.ready = member.ready.min(entry.time);
                }
            }
            Fact::Delivered(it) => {
                if let (Some(member), Some(key)) = (correct.get_mut(&entry.node), it.key) {
                    member.delivered.insert(key);
                }
            }
            _ => {}
        }
    }
    (published, correct)
}

#[cfg(test)]
mod tests {
    use super::super::bad_history::Tale;
    use super::*;

    #[test]
    fn a_member_that_misses_what_another_has_is_seen() {
        let tale = || Tale::default().ready(3).publishes(0, 0).delivers(0, 0, 0).delivers(1, 0, 0);
        assert_eq!(check(&tale().delivers(2, 0, 0).told()), Ok(()));
        assert!(check(&tale().told()).is_err());
    }

    #[test]
    fn nothing_is_owed_to_the_dead_the_late_and_when_only_the_dead_delivered() {
        let tale = || Tale::default().ready(3).publishes(0, 0);
        assert_eq!(check(&tale().delivers(0, 0, 0).delivers(1, 0, 0).dies(2).told()), Ok(()));
        assert_eq!(check(&tale().delivers(0, 0, 0).dies(0).told()), Ok(()));
        let late = tale().delivers(0, 0, 0).delivers(1, 0, 0).delivers(2, 0, 0).fact(3, 1, Fact::Started);
        assert_eq!(check(&late.fact(3, 1, Fact::Ready).told()), Ok(()));
    }

    #[test]
    fn a_source_that_died_is_owed_to_the_survivors_once_one_of_them_has_it() {
        let tale = Tale::default().ready(3).publishes(0, 0).delivers(0, 0, 0).dies(0).delivers(1, 0, 0);
        assert!(check(&tale.told()).is_err());
    }
}
