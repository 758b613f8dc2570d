//! The nodes on the hosts: who they are, and what tree they are in.

use std::time::{Duration, Instant};

use serde_json::Value;
use treecast_tests::hosts::{Host, Lab, Process, Tree, tell};

use super::network::Network;

/// How long a tree may take until all agree on it, or until it stands still.
const PATIENCE: Duration = Duration::from_secs(60);

/// A tree stands still whose mean way varies by no more than this share…
const STEADY: f64 = 0.01;

/// …for so long (as the simulator judges it).
const STEADY_FOR: Duration = Duration::from_secs(5);

/// Who is there, by place.
pub(crate) struct Crowd<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) ids: Vec<String>,
    /// None any more, once killed.
    pub(crate) nodes: Vec<Option<Process>>,
}

impl<'a> Crowd<'a> {
    pub(crate) fn gather(lab: &'a Lab) -> Self {
        let nodes: Vec<_> = lab.hosts().iter().map(|host| host.treecast(&["sub", "lobby", "-v"])).collect();
        let ids = lab.hosts().iter().map(Host::node_id).collect();
        Self { lab, ids, nodes: nodes.into_iter().map(Some).collect() }
    }

    pub(crate) fn alive(&self) -> impl Iterator<Item = (usize, &Process)> {
        self.nodes.iter().enumerate().filter_map(|(place, node)| Some((place, node.as_ref()?)))
    }

    pub(crate) fn place(&self, id: &str) -> usize {
        self.ids.iter().position(|other| other == id).expect("nobody else is there")
    }

    fn ask(&self) -> Result<Tree, String> {
        let alive = self.alive().map(|(place, _)| (&self.lab.hosts()[place], self.ids[place].as_str()));
        Tree::ask(alive, "lobby")
    }

    /// Parents by place.
    pub(crate) fn parents(&self, tree: &Tree) -> Vec<Option<usize>> {
        let parent = |id: &String| Some(self.place(tree.0.get(id)?.parent.as_ref()?));
        self.ids.iter().map(parent).collect()
    }

    /// A tree that all agree on, now.
    pub(crate) fn tree(&self, when: &str) -> Tree {
        let start = Instant::now();
        loop {
            match self.ask() {
                Ok(tree) => return tree,
                Err(why) => assert!(start.elapsed() < PATIENCE, "no tree that all agree on {when}: {why}"),
            }
        }
    }

    /// Waits until the tree stands still.
    pub(crate) fn settle(&self, network: &Network) {
        let start = Instant::now();
        let mut steady: Option<(Instant, f64)> = None;
        while start.elapsed() < PATIENCE && steady.is_none_or(|(since, _)| since.elapsed() < STEADY_FOR) {
            steady = self.mean_from_root_ms(network).map(|mean| match steady {
                Some((since, first)) if (mean - first).abs() <= STEADY * first => (since, first),
                _ => (Instant::now(), mean),
            });
        }
        let (took, mean) = (start.elapsed().as_secs_f32(), steady.map(|(_, mean)| mean));
        tell(&format!("the tree stood still after {took:.1} s, {mean:.1?} ms from its root in the mean"));
    }

    fn mean_from_root_ms(&self, network: &Network) -> Option<f64> {
        let tree = self.ask().ok()?;
        let root = tree.0.values().find(|place| place.parent.is_none())?;
        network.mean_along_ms(&self.parents(&tree), self.place(&root.node))
    }

    /// What each node says of its place in the tree.
    pub(crate) fn words(&self) -> Vec<Value> {
        let hosts = self.lab.hosts().iter();
        let word = |host: &Host| host.run(&["tree", "lobby"], b"").of_type("tree").first().copied().cloned();
        hosts.map(|host| word(host).expect("all are in the tree")).collect()
    }
}
