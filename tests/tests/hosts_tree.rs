//! Twenty processes on their own addresses: one tree that all agree on, also when parents die.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use treecast_tests::hosts::{Host, Lab, Process, Tree, lines_of, tell};

const NODES: usize = 20;

/// Parents killed, one after the other; every other one is the root.
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
        let tree = loop {
            let hosts = self.0.iter().map(|(node, (host, _))| (*host, node.as_str()));
            match Tree::ask(hosts, "lobby") {
                Ok(tree) => break tree,
                Err(why) => assert!(start.elapsed() < SETTLING, "no tree that all agree on {when}: {why}"),
            }
        };
        let (parents, depth) = (tree.parents().len(), tree.depth());
        let took = start.elapsed().as_secs_f32();
        tell(&format!(
            "{when}: one tree of {}, {parents} parents, depth {depth}, seen after {took:.1} s",
            self.0.len()
        ));
        tree
    }

    /// Kills the root, or whoever has most children, but not the one to spare. Its children, by their
    /// own word, tell whom they have chosen instead.
    fn kill(&mut self, root: bool, spare: &str) {
        let root = if root { self.root() } else { None }.filter(|root| root != spare);
        let what = if root.is_some() { "the root" } else { "a parent" };
        let victim = root.or_else(|| self.most_children(spare)).expect("somebody is a parent");
        let (_, process) = self.0.remove(&victim).expect("it was there");
        let orphans = self.children(&victim);
        let at = Instant::now();
        process.kill();
        let told = orphans.iter().map(|(orphan, seen)| {
            let (_, when, line) = self.0[orphan].1.wait_from(*seen, "its new parent", |line| {
                let settled = line["to"].is_string() || line["tree"] == format!("core:{orphan}");
                line["type"] == "parent" && settled && line["to"] != victim
            });
            (when.saturating_duration_since(at).as_millis(), line["reason"].to_string())
        });
        let mut told: Vec<_> = told.collect();
        told.sort();
        tell(&format!("killed {what} of {}; they told their new parents after (ms): {told:?}", told.len()));
    }

    /// Whom most follow, by their last word.
    fn root(&self) -> Option<String> {
        let mut followers: BTreeMap<String, usize> = BTreeMap::new();
        for (_, process) in self.0.values() {
            let last = parent_changes(process).pop();
            let root = last.as_ref().and_then(|(_, line)| line["tree"].as_str()?.strip_prefix("core:"));
            *followers.entry(root.unwrap_or_default().to_owned()).or_default() += 1;
        }
        let roots = followers.into_iter().filter(|(root, _)| self.0.contains_key(root));
        roots.max_by_key(|(_, followers)| *followers).map(|(root, _)| root)
    }

    /// Those whose parent this is by their last word, and how many lines they have said.
    fn children(&self, parent: &str) -> Vec<(String, usize)> {
        let is_child =
            |process: &Process| parent_changes(process).last().is_some_and(|(_, line)| line["to"] == parent);
        let children = self.0.iter().filter(|(_, (_, process))| is_child(process));
        children.map(|(node, (_, process))| (node.clone(), process.said().len())).collect()
    }

    fn most_children(&self, spare: &str) -> Option<String> {
        let candidates = self.0.keys().filter(|node| *node != spare);
        candidates.max_by_key(|node| self.children(node).len()).cloned()
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
    let tree = crowd.tree("at first");
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
                crowd.kill(kill % 2 == 1, &talker);
                crowd.tree(&format!("after kill {kill}"));
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
    let told: usize = crowd.0.values().map(|(_, process)| parent_changes(process).len()).sum();
    tell(&format!("{told} changes of parents were told"));
    crowd.tree("in the end");
}

/// What a node told of its parents.
fn parent_changes(process: &Process) -> Vec<(Instant, serde_json::Value)> {
    process.said().into_iter().filter(|(_, line)| line["type"] == "parent").collect()
}
