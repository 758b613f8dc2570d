//! Agreement: "if a correct process delivers a message, then all correct processes
//! eventually deliver it" (Hadzilacos and Toueg 1994, §3; Cachin et al. 2011, Module 3.3:
//! RB4). A correct member of a message is one that was ready 2 s before the publishing and
//! whose run goes on to the end; or which went down since and came back with its disk, or with a
//! copy of it that was made later. Its application lives as long as the disk does, over its runs: what it
//! has is what it was given in one of them, and what is on its disk at the end. (Only on the disk: it was
//! never told. Only told: the next run forgot it.) Its own words it need not be told of: they are there
//! before they leave. To be asked when faults have been lifted and all is quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use treecast_overlay::sim::NodeIx;
use treecast_overlay::{Life, Seq, Time};

use super::{Violation, violation};
use crate::oracle::{Delivered, Entry, Fact, History, Key};

/// How long a member is in the group before messages are owed to it.
const SETTLED: Duration = Duration::from_secs(2);

/// A node as it is now.
struct Member {
    /// It runs, and is not on its way out.
    is_up: bool,
    /// Since when messages are owed to it.
    ready: Time,
    /// The same, by the copy of its disk; and what it had been told by then.
    copied: Time,
    told_by_copy: BTreeSet<Key>,
    /// It came back with a copy of its disk, and was told that it had published more.
    is_copy: bool,
    lost_own: bool,
    /// What it was told that it will not get: of whom, which life, from where to where.
    lost: Vec<(NodeIx, Life, Seq, Seq)>,
    delivered: BTreeSet<Key>,
}

impl Default for Member {
    fn default() -> Self {
        let (ready, copied) = (Time::NEVER, Time::NEVER);
        let (is_up, is_copy, lost_own) = (false, false, false);
        let (told_by_copy, delivered) = (BTreeSet::new(), BTreeSet::new());
        Self { is_up, ready, copied, told_by_copy, is_copy, lost_own, lost: Vec::new(), delivered }
    }
}

/// # Errors
/// The messages that one correct member delivered and another, to which they were owed, did
/// not.
pub fn check(history: &History) -> Result<(), Violation> {
    let (published, correct) = read(history);
    let forgotten = Forgotten::read(history);
    let mut missing = BTreeMap::<(Key, NodeIx), Time>::new();
    for (key, at) in &published {
        if correct.values().any(|member| member.delivered.contains(key)) {
            let owed = correct.iter().filter(|(_, member)| member.ready + SETTLED <= *at);
            let lacking = owed.filter(|(_, member)| !member.delivered.contains(key));
            let lacking = lacking.filter(|(node, member)| !member.may_lack(**node, key, &forgotten));
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

/// What authors do not know of any more, since their disks were lost or replaced by copies. Who goes on
/// in a new life without it has put that after it, so it comes too late for some: they are told.
#[derive(Default)]
struct Forgotten {
    messages: BTreeSet<Key>,
    places: BTreeMap<Key, (Life, Seq)>,
}

impl Forgotten {
    fn read(history: &History) -> Self {
        let mut it = Self::default();
        let mut published = BTreeMap::<NodeIx, Vec<Key>>::new();
        for entry in &history.entries {
            match entry.fact {
                Fact::Published(key) => published.entry(entry.node).or_default().push(key),
                Fact::Wiped | Fact::Restored => {
                    it.messages.extend(published.remove(&entry.node).into_iter().flatten());
                }
                Fact::Delivered(Delivered { key: Some(key), life, seq, .. }) => {
                    it.places.insert(key, (life, seq));
                }
                _ => {}
            }
        }
        // Nobody was ever told of what its author had just written when it went down.
        let kept = history.disks.values().flatten();
        it.places.extend(kept.filter_map(|kept| Some((kept.key?, (kept.life, kept.seq)))));
        it
    }
}

fn read(history: &History) -> (BTreeMap<Key, Time>, BTreeMap<NodeIx, Member>) {
    let mut published = BTreeMap::new();
    let mut members = BTreeMap::<NodeIx, Member>::new();
    for entry in &history.entries {
        if let Fact::Published(key) = entry.fact {
            published.insert(key, entry.time);
        }
        members.entry(entry.node).or_default().take(entry);
    }
    members.retain(|_, member| member.is_up);
    for (node, kept) in &history.disks {
        if let Some(member) = members.get_mut(node) {
            let kept: BTreeSet<Key> = kept.iter().filter_map(|it| it.key).collect();
            let own = kept.iter().filter(|key| key.author == *node);
            member.delivered = member.delivered.intersection(&kept).chain(own).copied().collect();
        }
    }
    (published, members)
}

impl Member {
    /// Whether it lacks this message by right.
    fn may_lack(&self, me: NodeIx, key: &Key, forgotten: &Forgotten) -> bool {
        // Whose disk was replaced by a copy may have gone on before it had its own words back.
        let own = me == key.author && self.lost_own;
        let place = forgotten.places.get(key);
        let of_it = |(source, its, from, to): &(NodeIx, Life, Seq, Seq)| {
            let covers = |(life, seq): &(Life, Seq)| its == life && (*from..*to).contains(seq);
            *source == key.author && place.is_some_and(covers)
        };
        own || (forgotten.messages.contains(key) && self.lost.iter().any(of_it))
    }

    fn take(&mut self, Entry { time, node, fact, .. }: &Entry) {
        match fact {
            Fact::Started { resumed } => {
                self.is_up = true;
                if !resumed {
                    self.delivered.clear();
                    self.ready = Time::NEVER;
                }
            }
            // One that is on its way out is owed nothing any more.
            Fact::Stopped(_) | Fact::ShutdownAsked => self.is_up = false,
            Fact::LeaveAsked | Fact::LeftGroup => {
                (self.is_up, self.ready, self.copied) = (false, Time::NEVER, Time::NEVER);
            }
            Fact::BackedUp => (self.copied, self.told_by_copy) = (self.ready, self.delivered.clone()),
            Fact::Restored => {
                (self.ready, self.is_copy) = (self.copied, true);
                // A run with an empty disk may have been in between, and known nothing of it.
                self.delivered.extend(&self.told_by_copy);
            }
            Fact::Lost { source: Some(source), life, from, to } => {
                self.lost_own |= self.is_copy && source == node;
                self.lost.push((*source, *life, *from, *to));
            }
            Fact::Excused => self.ready = Time::NEVER,
            Fact::Ready => self.ready = self.ready.min(*time),
            Fact::Delivered(it) => self.delivered.extend(it.key),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bad_history::{Tale, delivered, key};
    use super::*;

    #[test]
    fn a_member_that_misses_what_another_has_is_seen() {
        let tale = || Tale::default().ready(3).publishes(0, 0).delivers(0, 0, 0).delivers(1, 0, 0);
        assert_eq!(check(&tale().delivers(2, 0, 0).told()), Ok(()));
        assert!(check(&tale().told()).is_err());
    }

    #[test]
    fn who_comes_back_with_its_disk_is_owed_what_it_missed() {
        let back = |resumed| {
            let tale = Tale::default().ready(2).dies(1).publishes(0, 0).delivers(0, 0, 0);
            tale.fact(1, 2, Fact::Started { resumed }).fact(1, 2, Fact::Ready).keeps(0, vec![delivered(0, 0)])
        };
        let told = |tale: Tale| tale.delivers_as(1, 2, delivered(0, 0));
        assert_eq!(check(&told(back(true)).keeps(1, vec![delivered(0, 0)]).told()), Ok(()));
        assert!(check(&back(true).keeps(1, Vec::new()).told()).is_err());
        assert!(check(&told(back(true)).keeps(1, Vec::new()).told()).is_err(), "it is forgotten");
        assert!(check(&back(true).keeps(1, vec![delivered(0, 0)]).told()).is_err(), "nobody was told");
        assert_eq!(check(&back(false).keeps(1, Vec::new()).told()), Ok(()));
    }

    #[test]
    fn an_engine_that_records_and_never_delivers_is_seen() {
        let all = || vec![delivered(0, 0)];
        let tale = Tale::default().ready(3).publishes(0, 0).delivers(0, 0, 0).delivers(1, 0, 0);
        let tale = tale.keeps(0, all()).keeps(1, all()).keeps(2, all());
        assert!(check(&tale.told()).is_err());
    }

    #[test]
    fn who_was_told_before_it_went_down_need_not_be_told_again() {
        let tale = Tale::default().ready(2).publishes(0, 0).delivers(0, 0, 0).delivers(1, 0, 0).dies(1);
        let tale = tale.fact(1, 2, Fact::Started { resumed: true }).fact(1, 2, Fact::Ready);
        let tale = tale.keeps(0, vec![delivered(0, 0)]).keeps(1, vec![delivered(0, 0)]);
        assert_eq!(check(&tale.told()), Ok(()));
    }

    #[test]
    fn a_copy_owes_from_when_its_node_was_in_by_then() {
        let back = |tale: Tale| {
            let tale = tale.dies(1).fact(1, 1, Fact::Restored).fact(1, 2, Fact::Started { resumed: true });
            tale.fact(1, 2, Fact::Ready).keeps(0, vec![delivered(0, 0)]).keeps(1, Vec::new()).told()
        };
        let in_by_then = Tale::default().ready(2).fact(1, 1, Fact::BackedUp).publishes(0, 0);
        assert!(check(&back(in_by_then)).is_err());
        let only_later = Tale::default().fact(1, 1, Fact::BackedUp).ready(2).publishes(0, 0);
        assert_eq!(check(&back(only_later)), Ok(()));
    }

    #[test]
    fn who_was_told_before_its_copy_was_made_need_not_be_told_again() {
        let tale = Tale::default().ready(2).publishes(0, 0).delivers(0, 0, 0);
        let back = |tale: Tale| {
            let tale = tale.dies(1).fact(1, 2, Fact::Started { resumed: false }).fact(1, 2, Fact::Ready);
            let tale = tale.fact(1, 2, Fact::Restored).fact(1, 3, Fact::Started { resumed: true });
            let tale = tale.fact(1, 3, Fact::Ready).keeps(0, vec![delivered(0, 0)]);
            check(&tale.keeps(1, vec![delivered(0, 0)]).told())
        };
        assert_eq!(back(tale.delivers(1, 0, 0).fact(1, 1, Fact::BackedUp)), Ok(()));
        let never = Tale::default().ready(2).fact(1, 1, Fact::BackedUp).publishes(0, 0).delivers(0, 0, 0);
        assert!(back(never).is_err(), "nobody was told");
    }

    #[test]
    fn who_was_told_that_a_copy_lacks_its_own_words_is_not_owed_them() {
        let lost = |source| Fact::Lost { source: Some(NodeIx(source)), life: 1, from: 0, to: 1 };
        let back = |source| {
            let tale = Tale::default().ready(2).fact(0, 1, Fact::BackedUp).publishes(0, 0);
            let tale = tale.dies(0).fact(0, 1, Fact::Restored).fact(0, 2, Fact::Started { resumed: true });
            let tale = tale.delivers(1, 0, 0).fact(0, 2, lost(source)).keeps(0, Vec::new());
            tale.keeps(1, vec![delivered(0, 0)]).told()
        };
        assert_eq!(check(&back(0)), Ok(()));
        assert!(check(&back(1)).is_err());
    }

    #[test]
    fn what_its_author_forgot_may_come_too_late_for_who_was_told() {
        let lost = Fact::Lost { source: Some(NodeIx(0)), life: 1, from: 0, to: 1 };
        let kept = |tale: Tale| {
            let tale = tale.keeps(0, Vec::new()).keeps(1, vec![delivered(0, 0)]).keeps(2, Vec::new());
            tale.delivers(1, 0, 0).told()
        };
        let tale = || Tale::default().ready(3).publishes(0, 0);
        let wiped = || tale().dies(0).fact(0, 1, Fact::Wiped);
        assert_eq!(check(&kept(wiped().fact(2, 1, lost))), Ok(()));
        assert!(check(&kept(wiped())).is_err(), "in silence");
        assert!(check(&kept(tale().dies(0).fact(2, 1, lost))).is_err(), "nothing was forgotten");
    }

    /// It was on its author's disk only, which was lost, and came back with an older copy.
    #[test]
    fn what_nobody_was_told_of_before_its_author_forgot_it_may_come_too_late_as_well() {
        let tale = Tale::default().ready(2).fact(0, 1, Fact::Published(key(0, 0))).dies(0);
        let tale = tale.fact(0, 1, Fact::BackedUp).fact(0, 2, Fact::Wiped).fact(0, 2, Fact::Restored);
        let tale = tale.fact(0, 3, Fact::Started { resumed: true }).fact(0, 3, Fact::Ready);
        let tale = || tale.clone().keeps(0, vec![delivered(0, 0)]).keeps(1, Vec::new());
        let lost = |seq| Fact::Lost { source: Some(NodeIx(0)), life: 1, from: seq, to: seq + 1 };
        assert_eq!(check(&tale().fact(1, 1, lost(0)).told()), Ok(()));
        assert!(check(&tale().told()).is_err(), "in silence");
        assert!(check(&tale().fact(1, 1, lost(1)).told()).is_err(), "another was lost");
    }

    #[test]
    fn nothing_is_owed_to_the_dead_the_late_and_when_only_the_dead_delivered() {
        let tale = || Tale::default().ready(3).publishes(0, 0);
        assert_eq!(check(&tale().delivers(0, 0, 0).delivers(1, 0, 0).dies(2).told()), Ok(()));
        assert_eq!(check(&tale().delivers(0, 0, 0).dies(0).told()), Ok(()));
        let late = tale().delivers(0, 0, 0).delivers(1, 0, 0).delivers(2, 0, 0).fact(
            3,
            1,
            Fact::Started { resumed: false },
        );
        assert_eq!(check(&late.fact(3, 1, Fact::Ready).told()), Ok(()));
    }

    #[test]
    fn a_source_that_died_is_owed_to_the_survivors_once_one_of_them_has_it() {
        let tale = Tale::default().ready(3).publishes(0, 0).delivers(0, 0, 0).dies(0).delivers(1, 0, 0);
        assert!(check(&tale.told()).is_err());
    }
}
