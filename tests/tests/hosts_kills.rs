//! Eight hosts, each killed now and then and started again, while four of them publish numbered lines:
//! afterwards the history of every host has every acknowledged line once, and none twice.
//!
//! `TREECAST_KILLS_S` says for how long, in seconds: 40 by default; ten minutes are promised.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use treecast_overlay::Rng;
use treecast_tests::hosts::{Host, Lab, Node, PATIENCE, Spoken, talk, tell, until};
use treecast_tests::seeds::seeds;

const HOSTS: usize = 8;
const AUTHORS: usize = 4;

const BETWEEN_KILLS: Duration = Duration::from_secs(3);

/// A host comes back after one second to so many.
const LONGEST_OFF: usize = 20;

/// So many are left running whatever happens: lines are to go somewhere.
const LEFT: usize = 2;

fn kill_for() -> Duration {
    let seconds = std::env::var("TREECAST_KILLS_S");
    Duration::from_secs(seconds.map_or(40, |it| it.parse().expect("TREECAST_KILLS_S is a number")))
}

fn kill_some(nodes: &mut [Node<'_>], rng: &mut Rng, began: Instant) {
    let mut next_kill = began + BETWEEN_KILLS;
    while began.elapsed() < kill_for() {
        std::thread::sleep(Duration::from_millis(100));
        let now = Instant::now();
        nodes.iter_mut().for_each(|node| node.poll(now));
        if now < next_kill {
            continue;
        }
        next_kill += BETWEEN_KILLS;
        let running = nodes.iter().filter(|node| node.up.is_some()).count();
        let victim = rng.below(HOSTS);
        if running > LEFT && nodes[victim].up.is_some() {
            let pause = 1 + rng.below(LONGEST_OFF);
            nodes[victim].kill(now + Duration::from_secs(pause as u64));
        }
    }
}

/// How often each line stands in a host's history.
fn history(host: &Host) -> BTreeMap<String, usize> {
    let run = host.run(&["history", "soak"], b"");
    let mut lines = BTreeMap::new();
    for message in run.of_type("message") {
        *lines.entry(message["text"].as_str().expect("all of it is text").to_owned()).or_default() += 1;
    }
    lines
}

/// What is wrong with a history, if something is.
fn compare(history: &BTreeMap<String, usize>, said: &[Spoken]) -> Option<String> {
    let twice: Vec<_> = history.iter().filter(|(_, count)| **count > 1).take(5).collect();
    if !twice.is_empty() {
        return Some(format!("more than once: {twice:?}"));
    }
    let acknowledged = said.iter().enumerate().flat_map(|(author, said)| said.acknowledged(author));
    let lacks: Vec<String> = acknowledged.filter(|line| !history.contains_key(line)).collect();
    (!lacks.is_empty()).then(|| format!("{} are missing: {:?}", lacks.len(), &lacks[..lacks.len().min(9)]))
}

#[test]
fn every_history_has_every_acknowledged_line_once() {
    let seed = seeds(1)[0];
    let Some(lab) = Lab::new(HOSTS) else { return };
    let mut nodes: Vec<_> =
        lab.hosts().iter().map(|host| Node::new(host, &["up", "--group", "soak"])).collect();
    for host in lab.hosts() {
        until(PATIENCE, "that all know all", || {
            let run = host.run(&["group", "show", "soak"], b"");
            let members = run.of_type("group").first()?["members"].as_array()?.len();
            (members == HOSTS).then_some(())
        });
    }
    tell(&format!("seed {seed}, {:?}", kill_for()));
    let (over, failed) = (AtomicBool::new(false), Mutex::new(None));
    let said: Vec<Spoken> = std::thread::scope(|scope| {
        let over = &over;
        let authors = nodes[..AUTHORS].iter().map(|node| (node.host, node.serves.clone())).enumerate();
        let talks: Vec<_> = authors
            .map(|(number, (host, serves))| scope.spawn(move || talk((number, "soak"), host, &serves, over)))
            .collect();
        let mut rng = Rng::new(seed);
        // Also if something is found wrong: the scope waits for them.
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            kill_some(&mut nodes, &mut rng, Instant::now());
        }));
        over.store(true, Ordering::Relaxed);
        *failed.lock().unwrap_or_else(PoisonError::into_inner) = killed.err();
        talks.into_iter().map(|talk| talk.join().expect("no panic")).collect()
    });
    if let Some(panic) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        std::panic::resume_unwind(panic);
    }
    for node in nodes.iter_mut().filter(|node| node.up.is_none()) {
        node.start();
    }
    let (all, acknowledged) = said.iter().fold((0, 0), |(all, acknowledged), it| {
        (all + it.lines.len(), acknowledged + it.lines.iter().filter(|it| **it).count())
    });
    let kills: usize = nodes.iter().map(|node| node.kills).sum();
    tell(&format!("{kills} kills; {acknowledged} of {all} lines were acknowledged"));
    assert!(acknowledged > 0 && kills > 0);
    let ended = Instant::now();
    for host in lab.hosts() {
        let mut wrong = String::new();
        let waited = Instant::now();
        while let Some(now) = compare(&history(host), &said) {
            wrong = now;
            assert!(waited.elapsed() < 2 * PATIENCE, "h{}: {wrong}", host.number());
            std::thread::sleep(Duration::from_secs(1));
        }
        tell(&format!("h{}: right after {:?} ({wrong})", host.number(), ended.elapsed()));
    }
    // What comes twice comes late.
    std::thread::sleep(Duration::from_secs(3));
    for host in lab.hosts() {
        assert_eq!(compare(&history(host), &said), None, "h{}", host.number());
    }
}
