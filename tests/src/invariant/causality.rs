//! Causal order: "if the broadcast of m causally precedes the broadcast of m', no correct
//! process delivers m' unless it has previously delivered m" (Hadzilacos and Toueg 1994, §3;
//! happened-before: Lamport 1978). What precedes a message is what its author's application
//! had delivered when it published, in this run or, where nodes have disks, in an earlier one; the author's own messages are for FIFO to judge. A run
//! that was told of a loss is judged up to there: what a lost message stood for is unknown.

use std::collections::{BTreeMap, BTreeSet};

use treecast_overlay::sim::NodeIx;
use treecast_overlay::{Life, Seq};

use super::{Violation, violation};
use crate::oracle::{Fact, History, Key};

type Run = (NodeIx, u32);
/// What each run delivered, in order.
type Deliveries = BTreeMap<Run, Vec<Key>>;
/// For each message its author's run and how many of that run's deliveries are its causes.
type Causes = BTreeMap<Key, (Run, usize)>;

/// # Errors
/// The first delivery that comes after one that it happened before.
pub fn check(history: &History) -> Result<(), Violation> {
    let (delivered, causes) = read(history);
    let (lost, forgot) = (losses(history), forgetful(history));
    for (receiver, keys) in &delivered {
        let is_forgetful = forgot.get(&receiver.0).is_some_and(|run| *run < receiver.1);
        let judged = lost.get(receiver).copied().unwrap_or(keys.len());
        let judged = if is_forgetful { 0 } else { judged };
        judge(keys, judged, &delivered, &causes).map_err(|it| format!("{receiver:?} {it}"))?;
    }
    // Of the losses on a disk only that there were some is known.
    let whole = |node: &NodeIx| !lost.keys().any(|(it, _)| it == node);
    for (node, kept) in history.disks.iter().filter(|(node, _)| whole(node)) {
        let keys: Vec<Key> = kept.iter().filter_map(|it| it.key).collect();
        judge(&keys, keys.len(), &delivered, &causes)
            .map_err(|it| format!("on the disk of {node:?}: {it}"))?;
    }
    Ok(())
}

/// The same of a total order: what has its place comes after the places of what its author's application had been
/// given before, whether that had its place by then or not.
///
/// # Errors
/// The first message that has its place before a cause of its.
pub fn check_settled(history: &History) -> Result<(), Violation> {
    let mut places = BTreeMap::<Key, u64>::new();
    let (mut given, mut causes) = (Deliveries::new(), Causes::new());
    let mut lost = BTreeSet::<(NodeIx, Life, Seq)>::new();
    let mut batches = BTreeMap::<Key, (NodeIx, Life, Seq)>::new();
    for entry in &history.entries {
        let run = (entry.node, entry.run);
        match entry.fact {
            Fact::Published(key) => {
                causes.insert(key, (run, given.get(&run).map_or(0, Vec::len)));
            }
            Fact::Tentative(it) | Fact::Ordered(_, it) => {
                given.entry(run).or_default().extend(it.key);
                batches.extend(it.key.zip(it.source).map(|(key, source)| (key, (source, it.life, it.seq))));
                if let Fact::Ordered(index, _) = entry.fact {
                    places.extend(it.key.map(|key| (key, index)));
                }
            }
            Fact::Lost { source: Some(source), life, from, to } => {
                lost.extend((from..to).map(|seq| (source, life, seq)));
            }
            _ => {}
        }
    }
    // What a message stands for that somebody was told to be lost is unknown there.
    let is_whole = |key: &Key| batches.get(key).is_none_or(|batch| !lost.contains(batch));
    for (key, (author, count)) in &causes {
        let Some(place) = places.get(key) else { continue };
        let known = given.get(author).map(|it| &it[..*count]).unwrap_or_default();
        let later = |cause: &&Key| places.get(cause).is_some_and(|it| it > place);
        if let Some(cause) = known.iter().filter(|cause| is_whole(cause)).find(later) {
            violation!("{key:?} has its place, {place}, before its cause {cause:?}, {}", places[cause]);
        }
    }
    Ok(())
}

/// Judges the first of what was delivered in one place.
fn judge(keys: &[Key], judged: usize, delivered: &Deliveries, causes: &Causes) -> Result<(), Violation> {
    let position: BTreeMap<Key, usize> = keys.iter().enumerate().map(|(at, key)| (*key, at)).collect();
    // Causes of an author's earlier message are among those of its later ones, so each
    // need be looked at only once.
    let mut looked_at: BTreeMap<Run, usize> = BTreeMap::new();
    for (at, key) in keys.iter().enumerate().take(judged) {
        let Some((author, count)) = causes.get(key) else { continue };
        let from = looked_at.entry(*author).or_default();
        let known = delivered.get(author).map(Vec::as_slice).unwrap_or_default();
        for cause in known.get(*from..*count).unwrap_or_default() {
            if position.get(cause).is_some_and(|cause_at| *cause_at > at) {
                violation!("delivered {key:?} before its cause {cause:?}");
            }
        }
        *from = (*from).max(*count);
    }
    Ok(())
}

/// How many deliveries each run had made when it was first told of a loss.
fn losses(history: &History) -> BTreeMap<Run, usize> {
    let (mut made, mut lost) = (BTreeMap::<Run, usize>::new(), BTreeMap::new());
    for entry in &history.entries {
        let run = (entry.node, entry.run);
        let made = made.entry(run).or_insert_with(|| history.resumed.get(&run).map_or(0, Vec::len));
        match entry.fact {
            Fact::Delivered(_) => *made += 1,
            Fact::Lost { .. } => {
                lost.entry((entry.node, entry.run)).or_insert(*made);
            }
            _ => {}
        }
    }
    lost
}

/// In which run a node was first told that it had published what it does not have.
fn forgetful(history: &History) -> BTreeMap<NodeIx, u32> {
    let mut forgot = BTreeMap::new();
    for entry in &history.entries {
        if let Fact::Lost { source, .. } = entry.fact
            && source == Some(entry.node)
        {
            forgot.entry(entry.node).or_insert(entry.run);
        }
    }
    forgot
}

fn read(history: &History) -> (Deliveries, Causes) {
    let (mut delivered, mut causes) = (Deliveries::from_iter(history.resumed.clone()), Causes::new());
    for entry in &history.entries {
        let run = (entry.node, entry.run);
        match entry.fact {
            Fact::Published(key) => {
                causes.insert(key, (run, delivered.get(&run).map_or(0, Vec::len)));
            }
            Fact::Delivered(it) => delivered.entry(run).or_default().extend(it.key),
            _ => {}
        }
    }
    (delivered, causes)
}

#[cfg(test)]
mod tests {
    use super::super::bad_history::{LOST, Tale, delivered};
    use super::*;

    /// Node 0 asks; node 1 hears it and answers.
    fn answered() -> Tale {
        Tale::default().publishes(0, 0).delivers(1, 0, 0).publishes(1, 0)
    }

    #[test]
    fn an_answer_before_its_question_is_seen() {
        assert_eq!(check(&answered().delivers(2, 0, 0).delivers(2, 1, 0).told()), Ok(()));
        assert!(check(&answered().delivers(2, 1, 0).delivers(2, 0, 0).told()).is_err());
    }

    #[test]
    fn it_reaches_through_a_second_author_and_later_messages() {
        let tale = || answered().publishes(1, 1).delivers(2, 1, 0).publishes(2, 0);
        let good = tale().delivers(3, 0, 0).delivers(3, 1, 0).delivers(3, 2, 0);
        assert_eq!(check(&good.told()), Ok(()));
        assert!(check(&tale().delivers(3, 2, 0).delivers(3, 1, 0).told()).is_err());
        assert!(check(&tale().delivers(3, 1, 1).delivers(3, 0, 0).told()).is_err());
    }

    #[test]
    fn a_disk_is_judged_like_a_run_as_long_as_nothing_was_lost() {
        let kept = |order: [(usize, u64); 2]| order.map(|(author, n)| delivered(author, n)).to_vec();
        let tale = |order| answered().keeps(2, kept(order));
        assert_eq!(check(&tale([(0, 0), (1, 0)]).told()), Ok(()));
        assert!(check(&tale([(1, 0), (0, 0)]).told()).is_err());
        assert_eq!(check(&tale([(1, 0), (0, 0)]).fact(2, 1, LOST).told()), Ok(()));
    }

    #[test]
    fn a_loss_that_was_told_excuses_what_comes_after_it() {
        let lost = || answered().fact(2, 1, LOST);
        assert_eq!(check(&lost().delivers(2, 1, 0).delivers(2, 0, 0).told()), Ok(()));
        let too_late = answered().delivers(2, 1, 0).fact(2, 1, LOST);
        assert!(check(&too_late.delivers(2, 0, 0).told()).is_err());
    }

    #[test]
    fn places_follow_what_an_author_was_given_tentatively() {
        let tale = Tale::default().publishes(0, 0).fact(1, 1, Fact::Tentative(delivered(0, 0)));
        let tale = || tale.clone().publishes(1, 0);
        let good = tale().orders(2, 0, delivered(0, 0)).orders(2, 1, delivered(1, 0));
        assert_eq!(check_settled(&good.told()), Ok(()));
        let bad = || tale().orders(2, 0, delivered(1, 0)).orders(2, 1, delivered(0, 0));
        assert!(check_settled(&bad().told()).is_err());
        let lost = Fact::Lost { source: Some(NodeIx(0)), life: 1, from: 0, to: 1 };
        assert_eq!(check_settled(&bad().fact(2, 1, lost).told()), Ok(()));
    }

    #[test]
    fn concurrent_messages_may_come_either_way() {
        let tale = Tale::default().publishes(0, 0).publishes(1, 0).delivers(1, 0, 0);
        assert_eq!(check(&tale.delivers(2, 1, 0).delivers(2, 0, 0).told()), Ok(()));
    }
}
