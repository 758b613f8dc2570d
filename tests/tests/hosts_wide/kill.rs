//! The parent of most is killed, and its children tell what they do about it.

use std::time::Instant;

use serde_json::Value;
use treecast_tests::hosts::tell;

use super::NODES;
use super::crowd::Crowd;

/// Whose death leaves most without a parent. Chosen before lines flow: looking through what all have
/// said takes its time.
pub(crate) struct Plan {
    victim: usize,
    /// And how many lines they had told by then.
    orphans: Vec<(usize, usize)>,
}

/// Who was killed, and whom that left without a parent.
pub(crate) struct Kill {
    pub(crate) victim: usize,
    pub(crate) orphans: Vec<(usize, usize)>,
    at: Instant,
}

impl Plan {
    /// Whoever has most children, the source excepted, by what the nodes told of their parents.
    pub(crate) fn largest_parent(crowd: &Crowd<'_>, source: usize) -> Self {
        let mut children = vec![Vec::new(); NODES];
        for (place, process) in crowd.alive() {
            let said = process.said();
            if let Some(parent) = last_parent(&said) {
                children[crowd.place(parent)].push((place, said.len()));
            }
        }
        children[source].clear();
        let largest = children.into_iter().enumerate().max_by_key(|(_, children)| children.len());
        let (victim, orphans) = largest.expect("there are others");
        assert!(!orphans.is_empty(), "nobody passes anything on");
        Self { victim, orphans }
    }

    pub(crate) fn carry_out(self, crowd: &mut Crowd<'_>) -> Kill {
        let at = Instant::now();
        crowd.nodes[self.victim].take().expect("it lives").kill();
        Kill { victim: self.victim, orphans: self.orphans, at }
    }
}

impl Kill {
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
