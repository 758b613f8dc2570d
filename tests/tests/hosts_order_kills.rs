//! Seven hosts in a total order, all publishing: killed, started again and cut off at random. At the end all sequences
//! are the same, and hold every acknowledged message once. And a leader that is killed: how long the order stands still.
//!
//! `TREECAST_ORDER_S` says for how long, in seconds: 45 by default; fifteen minutes by `./scripts/order-kills`.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use treecast_overlay::Rng;
use treecast_tests::hosts::{Host, Lab, Node, PATIENCE, Run, Spoken, talk, tell, until};
use treecast_tests::seeds::seeds;

const HOSTS: usize = 7;
const UP: [&str; 3] = ["up", "--serve-after", "3s"];
const BETWEEN_FAULTS: Duration = Duration::from_secs(3);
/// A host comes back after one second to so many.
const LONGEST_OFF: usize = 15;
/// A cut heals after so many seconds at most.
const LONGEST_CUT: usize = 10;
/// So many are left running whatever happens: lines are to go somewhere.
const LEFT: usize = 3;

/// What `sub` shows of a message, apart from nicks and times.
type Line = (u64, String, u64, u64, u64, String);

fn lasts() -> Duration {
    let seconds = std::env::var("TREECAST_ORDER_S");
    Duration::from_secs(seconds.map_or(45, |it| it.parse().expect("TREECAST_ORDER_S is a number")))
}

/// The line that a command answers with.
fn answer(host: &Host, args: &[&str]) -> Value {
    let Run { code, out, err, .. } = host.run(args, b"");
    assert_eq!(code, Some(0), "{args:?}: {err:?}");
    out.into_iter().next().expect("a line")
}

/// A group that all hosts are in, the first has founded, and five decide in.
fn found(hosts: &[Host]) {
    let made = answer(&hosts[0], &["group", "create", "garden"]);
    let ticket = made["ticket"].as_str().expect("a ticket");
    for host in &hosts[1..] {
        answer(host, &["group", "join", ticket]);
    }
    for host in hosts {
        until(2 * PATIENCE, "five decide", || {
            let group = answer(host, &["group", "show", "garden"]);
            (group["committee"].as_array()?.len() == 5).then_some(())
        });
    }
}

/// Faults, one after the other, until it is over.
fn disturb(lab: &Lab, nodes: &mut [Node<'_>], rng: &mut Rng) -> usize {
    let (began, mut next, mut cuts) = (Instant::now(), Instant::now() + BETWEEN_FAULTS, 0);
    let mut heals: Option<Instant> = None;
    while began.elapsed() < lasts() {
        std::thread::sleep(Duration::from_millis(100));
        let now = Instant::now();
        nodes.iter_mut().for_each(|node| node.poll(now));
        if heals.take_if(|at| *at <= now).is_some() {
            lab.heal();
        }
        if now < next {
            continue;
        }
        next += BETWEEN_FAULTS;
        let running = nodes.iter().filter(|node| node.up.is_some()).count();
        let victim = rng.below(HOSTS);
        if heals.is_none() && rng.below(4) == 0 {
            let mut away: Vec<&Host> = lab.hosts().iter().collect();
            rng.shuffle(&mut away);
            away.truncate(1 + rng.below(3));
            lab.cut(&away);
            cuts += 1;
            heals = Some(now + Duration::from_secs(1 + rng.below(LONGEST_CUT) as u64));
        } else if running > LEFT && nodes[victim].up.is_some() {
            let pause = 1 + rng.below(LONGEST_OFF);
            nodes[victim].kill(now + Duration::from_secs(pause as u64));
        }
    }
    if heals.is_some() {
        lab.heal();
    }
    cuts
}

fn sequence(host: &Host, count: u64) -> Vec<Line> {
    let count = count.to_string();
    let run = host.run(&["sub", "garden", "--since", "start", "--count", &count, "--timeout", "60s"], b"");
    assert_eq!(run.code, Some(0), "h{}: {:?}", host.number(), run.err);
    run.of_type("message").into_iter().map(line).collect()
}

fn line(message: &Value) -> Line {
    let number = |key: &str| message[key].as_u64().unwrap_or_else(|| panic!("{key} in {message}"));
    let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
    (number("index"), text("source"), number("life"), number("seq"), number("n"), text("text"))
}

/// Waits until nothing waits for its place any more, and all are at the same one, which does not change.
fn settled(hosts: &[Host]) -> u64 {
    let mut last = None;
    until(3 * PATIENCE, "that all has its place everywhere", || {
        std::thread::sleep(Duration::from_secs(1));
        let groups: Vec<Value> = hosts.iter().map(|it| answer(it, &["group", "show", "garden"])).collect();
        let index = groups[0]["index"].as_u64()?;
        let same = groups.iter().all(|it| it["index"] == index && it["stalled"].is_null());
        let rests = last.replace(index) == Some(index);
        (same && rests).then_some(index)
    })
}

#[test]
fn all_sequences_are_one_whatever_is_killed_and_cut() {
    let seed = seeds(1)[0];
    let Some(lab) = Lab::new(HOSTS) else { return };
    let mut nodes: Vec<_> = lab.hosts().iter().map(|host| Node::new(host, &UP)).collect();
    for node in &mut nodes {
        until(PATIENCE, "it serves", || {
            node.poll(Instant::now());
            node.serves.load(Ordering::Relaxed).then_some(())
        });
    }
    found(lab.hosts());
    tell(&format!("seed {seed}, {:?}", lasts()));
    let over = AtomicBool::new(false);
    let (said, cuts) = std::thread::scope(|scope| {
        let over = &over;
        let authors = nodes.iter().map(|node| (node.host, node.serves.clone())).enumerate();
        let talks: Vec<_> = authors
            .map(|(number, (host, serves))| {
                scope.spawn(move || talk((number, "garden"), host, &serves, over))
            })
            .collect();
        // Also if something is found wrong: the scope waits for them.
        let cuts = catch_unwind(AssertUnwindSafe(|| disturb(&lab, &mut nodes, &mut Rng::new(seed))));
        over.store(true, Ordering::Relaxed);
        let said: Vec<Spoken> = talks.into_iter().map(|talk| talk.join().expect("no panic")).collect();
        (said, cuts)
    });
    let cuts = cuts.unwrap_or_else(|panic| resume_unwind(panic));
    for node in nodes.iter_mut().filter(|node| node.up.is_none()) {
        node.start();
    }
    let kills: usize = nodes.iter().map(|node| node.kills).sum();
    let acknowledged: BTreeSet<String> =
        said.iter().enumerate().flat_map(|(author, said)| said.acknowledged(author)).collect();
    tell(&format!("{kills} kills, {cuts} cuts; {} lines were acknowledged", acknowledged.len()));
    assert!(!acknowledged.is_empty() && kills > 0);
    let ended = Instant::now();
    for node in &mut nodes {
        until(PATIENCE, "it serves", || {
            node.poll(Instant::now());
            node.serves.load(Ordering::Relaxed).then_some(())
        });
    }
    let count = settled(lab.hosts());
    tell(&format!("all stand at {count}, {:?} after the last fault", ended.elapsed()));
    let first = sequence(&lab.hosts()[0], count);
    assert!(first.iter().map(|it| it.0).eq(0..count), "one message a place");
    for host in &lab.hosts()[1..] {
        assert_eq!(sequence(host, count), first, "h{}", host.number());
    }
    let texts: BTreeSet<String> = first.iter().map(|it| it.5.clone()).collect();
    assert_eq!(texts.len() as u64, count, "every line once");
    let lost: Vec<_> = acknowledged.difference(&texts).take(9).collect();
    assert!(lost.is_empty(), "acknowledged, and nowhere: {lost:?}");
}
