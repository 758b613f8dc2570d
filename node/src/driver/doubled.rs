//! Another node runs with this node's identity: a copy of its data directory, say. The core hears of it where
//! both are in one group and have a neighbour that knows both; the ear, on one LAN, always.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::Multiaddr;
use tokio::time::Instant;
use treecast_overlay::{Address, GroupId};

use super::Driver;
use crate::discovery::ear::Ear;
use crate::event::Event;

/// Between two words about what the ear hears all the time, to one group. Guess.
const TOLD_EVERY: Duration = Duration::from_secs(300);

/// The core's word counts for so long: it is told again when both have spoken. Guess.
const FRESH: Duration = Duration::from_secs(120);

/// What was heard of it.
#[derive(Default)]
pub(super) struct Doubled {
    told: HashMap<GroupId, Instant>,
    /// What the core heard last.
    by_core: Option<(Instant, Vec<String>)>,
}

impl Driver {
    /// The core has heard of it.
    pub(super) fn on_doubled(&mut self, group: GroupId, addresses: &[Address]) {
        let there = addresses.iter().filter_map(|it| Multiaddr::try_from(it.as_bytes().to_vec()).ok());
        let there: Vec<String> = there.map(|it| it.to_string()).collect();
        self.doubled.by_core = Some((Instant::now(), there.clone()));
        self.tell_doubled(vec![group], &there);
    }

    /// Whether the ear has heard of it.
    pub(super) fn listen_for_twin(&mut self) {
        let there = self.ear.as_ref().map(Ear::twin).unwrap_or_default();
        if there.is_empty() {
            return;
        }
        let there: Vec<String> = there.iter().map(ToString::to_string).collect();
        let now = Instant::now();
        self.doubled.told.retain(|_, at| now.duration_since(*at) < TOLD_EVERY);
        let groups = self.groups.slots.keys().filter(|group| !self.doubled.told.contains_key(*group));
        let groups: Vec<GroupId> = groups.copied().collect();
        self.tell_doubled(groups, &there);
    }

    fn tell_doubled(&mut self, groups: Vec<GroupId>, there: &[String]) {
        if groups.is_empty() {
            return;
        }
        let here: Vec<String> = self.addresses().iter().map(ToString::to_string).collect();
        tracing::error!(?here, ?there, "another node runs with this node's identity");
        for group in groups {
            self.doubled.told.insert(group, Instant::now());
            if let Some(slot) = self.groups.slots.get_mut(&group) {
                slot.tell(Event::Doubled { here: here.clone(), there: there.to_vec() });
            }
        }
    }

    /// Where another node with this identity is, by what was heard lately; empty if there is none.
    pub(super) fn twin(&self) -> Vec<String> {
        let heard = self.ear.as_ref().map(Ear::twin).unwrap_or_default();
        let by_core = self.doubled.by_core.iter().filter(|(at, _)| at.elapsed() < FRESH);
        let mut all: Vec<String> = by_core.flat_map(|(_, there)| there.clone()).collect();
        all.extend(heard.iter().map(ToString::to_string));
        all.sort();
        all.dedup();
        all
    }
}
