//! The parent of most is killed, and its children tell what they do about it.

use std::time::Instant;

use serde_json::Value;
use treecast_tests::hosts::tell;

use super::NODES;
use super::crowd::Crowd;

/// Who was killed, and whom that left without a parent.
pub(crate) struct Kill {
    pub(crate) victim: usize,
    /// And how many lines they had told before.
    pub(crate) orphans: Vec<(usize, usize)>,
    at: Instant,
}

impl Kill {
    /// Whoever has most children, the source excepted, by what the nodes told of their parents.
    pub(crate) fn largest_parent(crowd: &mut Crowd<'_>, source: usize) -> Self {
        let orphans = |crowd: &Crowd<'_>, parent: usize| -> Vec<(usize, usize)> {
            let told = crowd.alive().map(|(place, process)| (place, process.said()));
            let children = told.filter(|(_, said)| last_parent(said) == Some(crowd.ids[parent].as_str()));
            children.map(|(place, said)| (place, said.len())).collect()
        };
        let candidates = (0..NODES).filter(|place| *place != source);
        let victim = candidates.max_by_key(|place| orphans(crowd, *place).len()).expect("there are others");
        let orphans = orphans(crowd, victim);
        assert!(!orphans.is_empty(), "nobody passes anything on");
        let at = Instant::now();
        crowd.nodes[victim].take().expect("it lives").kill();
        Self { victim, orphans, at }
    }

    /// Each orphan told that its parent went, and who is it now.
    pub(crate) fn is_told(&self, crowd: &Crowd<'_>) {
        let mut told: Vec<_> = self.orphans.iter().map(|orphan| self.told_by(crowd, *orphan)).collect();
        told.sort();
        tell(&format!("told of a new parent, ms after the kill: {told:?}"));
    }

    /// After how many milliseconds an orphan told whom it has chosen, and why.
    fn told_by(&self, crowd: &Crowd<'_>, (orphan, seen): (usize, usize)) -> (u128, String) {
        let victim = crowd.ids[self.victim].as_str();
        let process = crowd.nodes[orphan].as_ref().expect("only the victim died");
        let (next, ..) = process.wait_from(seen, "that its parent went", |line| {
            line["type"] == "parent" && line["from"] == victim && line["to"] != victim
        });
        let (_, at, found) = process.wait_from(next, "who is its parent now", |line| {
            line["type"] == "parent" && (line["to"].is_string() || line["reason"] == "became root")
        });
        assert_ne!(found["to"], victim, "a dead parent");
        let reason = found["reason"].as_str().expect("every change has a reason");
        (at.saturating_duration_since(self.at).as_millis(), reason.to_owned())
    }
}

/// Whom a node told last to be its parent.
fn last_parent(said: &[(Instant, Value)]) -> Option<&str> {
    let last = said.iter().rev().find(|(_, line)| line["type"] == "parent");
    last.and_then(|(_, line)| line["to"].as_str())
}
