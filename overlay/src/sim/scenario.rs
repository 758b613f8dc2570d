//! A run as data: who there is, and what happens when.

use std::time::Duration;

use bytes::Bytes;

use super::faults::Crash;
use super::network::NetworkModel;
use super::node::NodeIx;
use super::world::{Contacts, World};
use crate::config::Config;
use crate::descriptor::Descriptor;
use crate::time::Time;

/// One thing that a scenario does to its world.
#[derive(Debug, Clone)]
pub enum Step {
    /// Start a node that does not run, with or without what it had written.
    Start {
        /// Which.
        node: NodeIx,
        /// With its disk.
        with_disk: bool,
    },
    /// Crash it.
    Crash {
        /// Which.
        node: NodeIx,
        /// How.
        how: Crash,
    },
    /// Ask it to say goodbye and stop.
    Shutdown(NodeIx),
    /// Ask it to leave the group for good.
    Leave(NodeIx),
    /// Publish in the scenario's group.
    Publish {
        /// Who.
        node: NodeIx,
        /// What.
        payload: Bytes,
    },
    /// Nothing passes between these and those.
    Cut {
        /// One side.
        a: Vec<NodeIx>,
        /// The other.
        b: Vec<NodeIx>,
        /// Only from `a` to `b`.
        one_way: bool,
    },
    /// All cuts heal.
    Heal,
    /// The node's uplink changes.
    Uplink {
        /// Whose.
        node: NodeIx,
        /// To how much.
        bytes_per_s: u64,
    },
    /// The network's loss changes.
    Loss(f64),
    /// All of a node's connections break.
    DropLinks(NodeIx),
    /// The node's disk fails, or works again.
    Disk {
        /// Whose.
        node: NodeIx,
        /// Writes fail.
        failing: bool,
    },
    /// The node's disk takes so long to write; `None` for as long as all.
    SlowDisk {
        /// Whose.
        node: NodeIx,
        /// How long.
        delay: Option<Duration>,
    },
    /// The node's wall clock is so many milliseconds ahead, from its next start on.
    Clock {
        /// Whose.
        node: NodeIx,
        /// By how much.
        ahead_ms: i64,
    },
    /// Make a copy of the node's disk.
    Backup(NodeIx),
    /// Replace the disk of a node that does not run by its last copy, if there is one.
    Restore(NodeIx),
}

/// A whole run: the same scenario gives the same trace.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Of everything that is drawn.
    pub seed: u64,
    /// How many nodes there are.
    pub nodes: usize,
    /// What they are all in.
    pub group: Descriptor,
    /// The network under them.
    pub network: NetworkModel,
    /// How they run.
    pub config: Config,
    /// Whom a node knows when it starts.
    pub contacts: Contacts,
    /// What happens, at which moment.
    pub steps: Vec<(Duration, Step)>,
}

impl Scenario {
    /// The world at its start; its nodes run once their [`Step::Start`] has come.
    pub fn build(&self) -> World {
        let mut world = World::new(self.seed, self.network.clone());
        world.config = self.config.clone();
        world.contacts = self.contacts;
        for _ in 0..self.nodes {
            world.add_node(std::slice::from_ref(&self.group));
        }
        for (at, step) in &self.steps {
            world.schedule(Time::ZERO + *at, step.clone());
        }
        world
    }
}

impl World {
    /// Carries out one step now.
    pub fn apply(&mut self, step: Step) {
        match step {
            Step::Start { node, with_disk } => self.start(node, with_disk),
            Step::Crash { node, how } => self.crash(node, how),
            Step::Shutdown(node) => self.shutdown(node),
            Step::Leave(node) => {
                for group in self.group_ids(node) {
                    self.leave(node, group);
                }
            }
            Step::Publish { node, payload } => {
                for group in self.group_ids(node) {
                    self.publish(node, group, payload.clone());
                }
            }
            Step::Cut { a, b, one_way: true } => self.cut_one_way(&a, &b),
            Step::Cut { a, b, one_way: false } => self.cut(&a, &b),
            Step::Heal => self.heal(),
            Step::Uplink { node, bytes_per_s } => self.set_uplink(node, bytes_per_s),
            Step::Loss(loss) => self.set_loss(loss),
            Step::DropLinks(node) => self.drop_links(node),
            Step::Disk { node, failing } => self.set_disk_failing(node, failing),
            Step::SlowDisk { node, delay } => self.set_disk_delay(node, delay),
            Step::Clock { node, ahead_ms } => self.set_clock_skew_ms(node, ahead_ms),
            Step::Backup(node) => self.back_up(node),
            Step::Restore(node) => self.restore(node),
        }
    }
}
