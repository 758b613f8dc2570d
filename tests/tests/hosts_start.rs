//! Twelve nodes that start at once are one group with one tree, and no island: on one LAN, and in
//! routed networks where all know one of them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use treecast_tests::hosts::{Host, Lab, PATIENCE, Process, Tree, tell, until};

const NODES: usize = 12;

/// How often all is started anew; `TREECAST_STARTS` asks for more.
fn starts(default: usize) -> usize {
    std::env::var("TREECAST_STARTS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Where all of a routed lab find the first one.
const FIRST: &str = "/ip4/10.77.0.1/tcp/4001";

struct Round<'a> {
    nodes: Vec<(&'a Host, Process)>,
    started: Instant,
}

impl<'a> Round<'a> {
    /// All at once; who they were is forgotten.
    fn start(lab: &'a Lab, args: impl Fn(&Host) -> Vec<&'static str>) -> Self {
        for host in lab.hosts() {
            // It may not be there yet.
            let _ = std::fs::remove_dir_all(host.data_dir());
        }
        let started = Instant::now();
        let start = |host: &'a Host| (host, host.treecast(&[vec!["chat", "lobby"], args(host)].concat()));
        Self { nodes: lab.hosts().iter().map(start).collect(), started }
    }

    /// Waits until all agree on one tree.
    fn one_tree(&self) -> Duration {
        let ids: Vec<String> = self.nodes.iter().map(|(host, _)| host.node_id()).collect();
        let patience = Instant::now();
        loop {
            let hosts = self.nodes.iter().zip(&ids).map(|((host, _), id)| (*host, id.as_str()));
            match Tree::ask(hosts, "lobby") {
                Ok(_) => return self.started.elapsed(),
                Err(why) => assert!(patience.elapsed() < PATIENCE, "no tree that all agree on: {why}"),
            }
        }
    }

    /// What anybody says, everybody hears.
    fn no_island(&mut self) {
        let mut words = BTreeSet::new();
        for (host, chat) in &mut self.nodes {
            let word = format!("h{} is here", host.number());
            chat.say(&word);
            words.insert(word);
        }
        until(PATIENCE, "every word everywhere", || {
            let has_all = |(_, chat): &(&Host, Process)| {
                let heard: BTreeSet<String> = chat.messages().into_iter().map(|it| it.text).collect();
                heard.is_superset(&words)
            };
            self.nodes.iter().all(has_all).then_some(())
        });
    }
}

fn rounds(lab: &Lab, count: usize, args: impl Fn(&Host) -> Vec<&'static str>) {
    let mut took = Vec::new();
    for _ in 0..count {
        let mut round = Round::start(lab, &args);
        took.push(round.one_tree().as_millis());
        round.no_island();
    }
    tell(&format!("{NODES} started at once: seen to be one tree after (ms) {took:?}"));
}

#[test]
fn twelve_on_one_lan() {
    let Some(lab) = Lab::new(NODES) else { return };
    rounds(&lab, starts(3), |_| Vec::new());
}

#[test]
fn twelve_in_three_routed_networks_that_know_one() {
    let Some(lab) = Lab::routed(&[4, 4, 4]) else { return };
    rounds(&lab, starts(2), |host| match host.number() {
        1 => vec!["--listen", FIRST],
        _ => vec!["--peer", FIRST],
    });
}
