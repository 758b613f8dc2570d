//! Twenty processes on their own addresses: one tree that all agree on, also when parents die.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use treecast_tests::hosts::{Host, Lab, Process, Tree, lines_of, tell, until};

const NODES: usize = 20;

/// Parents killed, one after the other; the root first.
const KILLS: usize = 5;

/// Between two lines of the steady publisher.
const EVERY: Duration = Duration::from_millis(50);

/// How long a tree may take until all agree on it.
const SETTLING: Duration = Duration::from_secs(120);

/// Who is there, by node id.
struct Crowd<'a>(BTreeMap<String, (&'a Host, Process)>);

impl<'a> Crowd<'a> {
    fn gather(lab: &'a Lab) -> Self {
        let started: Vec<_> =
            lab.hosts().iter().map(|host| (host, host.treecast(&["sub", "lobby", "-v"]))).collect();
        Self(started.into_iter().map(|(host, process)| (host.node_id(), (host, process))).collect())
    }

    /// A tree that all agree on.
    fn tree(&self, when: &str) -> Tree {
        let start = Instant::now();
        let mut why = String::new();
        let tree = loop {
            let hosts = self.0.iter().map(|(node, (host, _))| (*host, node.as_str()));
            match Tree::ask(hosts, "lobby") {
                Ok(tree) => break tree,
                Err(wrong) => why = wrong,
            }
            assert!(start.elapsed() < SETTLING, "no tree that all agree on {when}: {why}");
        };
        let (parents, depth) = (tree.parents().len(), tree.depth());
        let took = start.elapsed().as_secs_f32();
        tell(&format!(
            "{when}: one tree of {}, {parents} parents, depth {depth}, seen after {took:.1} s",
            self.0.len()
        ));
        tree
    }

    /// Kills a parent; its children tell whom they have chosen instead.
    fn kill(&mut self, tree: &Tree, victim: &str) {
        let place = &tree.0[victim];
        let orphans: Vec<(&String, usize)> =
            place.children.iter().map(|child| (child, self.0[child].1.said().len())).collect();
        let what = if place.parent.is_none() { "the root" } else { "a parent" };
        tell(&format!("killing {what} of {}", orphans.len()));
        let (_, process) = self.0.remove(victim).expect("it was there");
        let at = Instant::now();
        process.kill();
        let reselection = orphans.iter().map(|(orphan, seen)| {
            let (_, when, line) = self.0[*orphan]
                .1
                .wait_from(*seen, "a new parent", |line| line["type"] == "parent" && line["from"] == victim);
            (when.duration_since(at), line["reason"].to_string())
        });
        let slowest = reselection.max().expect("a parent has children");
        tell(&format!("the last orphan said so after {} ms ({})", slowest.0.as_millis(), slowest.1));
    }
}

/// Publishes a line now and then until told to stop; how many they were.
fn steadily(publisher: &mut Process, stop: &AtomicBool) -> usize {
    let mut stdin = publisher.take_stdin();
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        writeln!(stdin, "steady-{count}").expect("the publisher listens");
        count += 1;
        std::thread::sleep(EVERY);
    }
    count
}

#[test]
fn parents_die_and_the_tree_heals() {
    let Some(lab) = Lab::new(NODES) else { return };
    let mut crowd = Crowd::gather(&lab);
    let mut tree = crowd.tree("at first");
    // A leaf talks; it stays.
    let talker =
        tree.0.values().find(|place| place.children.is_empty()).expect("a tree has leaves").node.clone();
    let host = crowd.0[&talker].0;

    let mut publisher = host.treecast(&["pub", "lobby"]);
    let stop = AtomicBool::new(false);
    let count = std::thread::scope(|scope| {
        let steady = scope.spawn(|| steadily(&mut publisher, &stop));
        let kills = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for kill in 1..=KILLS {
                std::thread::sleep(Duration::from_secs(1));
                let victim =
                    tree.parents().iter().find(|place| place.node != talker).map(|place| place.node.clone());
                crowd.kill(&tree, &victim.expect("there is a parent that does not talk"));
                tree = crowd.tree(&format!("after kill {kill}"));
            }
        }));
        stop.store(true, Ordering::Relaxed);
        let count = steady.join().expect("the publisher is fed");
        if let Err(panic) = kills {
            std::panic::resume_unwind(panic);
        }
        count
    });
    let run = publisher.ended();
    assert_eq!(run.code, Some(0), "{:?}", run.err);
    assert_eq!(run.of_type("receipt").len(), count);
    nothing_is_lost(&crowd, &talker, count);
}

fn nothing_is_lost(crowd: &Crowd<'_>, talker: &str, count: usize) {
    let last = format!("steady-{}", count - 1);
    for (_, process) in crowd.0.values() {
        process.wait_text(&last);
    }
    let expected: Vec<String> = (0..count).map(|number| format!("steady-{number}")).collect();
    for (node, (_, process)) in &crowd.0 {
        let by_author = lines_of(node, &process.messages());
        let heard = by_author.get(talker).expect("everybody heard the talker");
        assert!(*heard == expected, "{node} heard {} of {count}", heard.len());
    }
    tell(&format!("{count} lines: all of them at all {} that are left", crowd.0.len()));
    let delays = crowd.0.values().flat_map(|(_, process)| parent_changes(process));
    tell(&format!("{} changes of parents were told", delays.count()));
    // So that a crowd that never settles shows.
    until(SETTLING, "a tree in the end", || Some(crowd.tree("in the end")));
}

fn parent_changes(process: &Process) -> Vec<serde_json::Value> {
    let said = process.said().into_iter().map(|(_, line)| line);
    said.filter(|line| line["type"] == "parent").collect()
}
