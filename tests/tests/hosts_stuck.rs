//! A host that stops reading slows nobody else, costs its neighbours bounded memory, and
//! catches up when it goes on: over TCP and over QUIC.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use treecast_tests::hosts::{Lab, PATIENCE, Process, Tree, lines_of, tell, until};

const HOSTS: usize = 6;

/// Lines a second, and bytes of each: half a megabyte a second, so that what is said while one
/// stands still fits into what the others keep.
const RATE: u64 = 500;
const SIZE: usize = 1_024;

/// How much more memory a neighbour may take: what it keeps for repair (64 MiB), twice.
const MEMORY_KIB: u64 = 128 << 10;

/// How long one stands still, seconds; `TREECAST_STUCK_S` overrides.
fn stuck_for() -> Duration {
    let seconds = std::env::var("TREECAST_STUCK_S").ok().and_then(|it| it.parse().ok());
    Duration::from_secs(seconds.unwrap_or(30))
}

/// Talk at an even pace, for as long as it is not told to end; when each line was said.
struct Talk<'a> {
    said: &'a Mutex<Vec<Instant>>,
    over: &'a AtomicBool,
}

impl Talk<'_> {
    fn run(&self, mut to: impl Write) {
        let (began, mut number) = (Instant::now(), 0);
        while !self.over.load(Ordering::Relaxed) {
            while number < (began.elapsed().as_micros() as u64 * RATE) / 1_000_000 {
                self.said.lock().expect("no panic").push(Instant::now());
                writeln!(to, "{number:.<SIZE$}").expect("it listens");
                number += 1;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn number_of(line: &str) -> usize {
    line.trim_end_matches('.').parse().unwrap_or(usize::MAX)
}

/// How late lines said within `span` came at most, and the 99th of a hundred.
fn lateness(listener: &Process, said: &[Instant], span: (Instant, Instant)) -> (Duration, Duration) {
    let mut late: Vec<Duration> = listener
        .messages()
        .iter()
        .filter_map(|message| Some((said.get(number_of(&message.text))?, message.at)))
        .filter(|(said, _)| (span.0..span.1).contains(*said))
        .map(|(said, at)| at.saturating_duration_since(*said))
        .collect();
    late.sort_unstable();
    let at = |share: usize| late.get((late.len() * share / 100).min(late.len().saturating_sub(1))).copied();
    (at(100).unwrap_or_default(), at(99).unwrap_or_default())
}

fn one_stands_still(listen: &str) {
    let Some(lab) = Lab::new(HOSTS) else { return };
    let nodes: Vec<Process> = lab
        .hosts()
        .iter()
        .map(|host| host.treecast(&["up", "--group", "lobby", "--listen", listen]))
        .collect();
    for node in &nodes {
        node.wait("that it is ready", |line| line["type"] == "ready");
    }
    // The root stands still, through which all goes; another talks.
    let root = root_of(&lab);
    let source = usize::from(root == 0);
    let listeners: Vec<(usize, Process)> = (0..HOSTS)
        .filter(|host| *host != source)
        .map(|host| (host, lab.hosts()[host].treecast(&["sub", "lobby"])))
        .collect();
    for (host, listener) in &listeners {
        until(PATIENCE, "a sub that has attached", || {
            lab.hosts()[*host].run(&["pub", "lobby", "hear, hear"], b"");
            (!listener.messages().is_empty()).then_some(())
        });
    }

    let mut publisher = lab.hosts()[source].treecast(&["pub", "lobby"]);
    let stdin = publisher.take_stdin();
    let (said, over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| Talk { said: &said, over: &over }.run(stdin));
        std::thread::sleep(Duration::from_secs(5));
        let before: Vec<u64> = nodes.iter().map(|node| node.used().0).collect();
        let still = Instant::now();
        nodes[root].signal("STOP");
        std::thread::sleep(stuck_for());
        let after: Vec<u64> = nodes.iter().map(|node| node.used().0).collect();
        nodes[root].signal("CONT");
        let goes_on = Instant::now();
        over.store(true, Ordering::Relaxed);
        for (number, (before, after)) in before.iter().zip(&after).enumerate() {
            tell(&format!("h{}: {before} KiB resident, then {after}", number + 1));
            assert!(
                after.saturating_sub(*before) < MEMORY_KIB,
                "h{}: {before} KiB, then {after}",
                number + 1
            );
        }
        tell(&format!("h{} stood still", root + 1));
        judge(&listeners, &said, (still, goes_on));
    });
    assert_eq!(publisher.ended().code, Some(0));
}

/// The number of the host whose node is the root of the one tree that all agree on.
fn root_of(lab: &Lab) -> usize {
    let ids: Vec<String> = lab.hosts().iter().map(|host| host.node_id()).collect();
    let tree = until(PATIENCE, "one tree", || {
        Tree::ask(lab.hosts().iter().zip(ids.iter().map(String::as_str)), "lobby")
            .ok()
            .filter(|tree| tree.0.len() == HOSTS)
    });
    let root = tree.0.values().find(|place| place.parent.is_none()).expect("a tree has a root");
    ids.iter().position(|id| *id == root.node).expect("it is one of them")
}

fn judge(listeners: &[(usize, Process)], said: &Mutex<Vec<Instant>>, (still, goes_on): (Instant, Instant)) {
    let count = || said.lock().expect("no panic").len();
    let of_talk = |listener: &Process| {
        let by_author = lines_of("a listener", &listener.messages());
        let lines = by_author.into_values().flatten().map(|line| number_of(&line));
        lines.filter(|number| *number != usize::MAX).collect::<Vec<_>>()
    };
    for (host, listener) in listeners {
        let host = host + 1;
        until(PATIENCE, "all that was said", || (of_talk(listener).len() >= count()).then_some(()));
        let last = listener.messages().last().expect("there are many").at;
        let said = said.lock().expect("no panic").clone();
        let (most, p99) = lateness(listener, &said, (still, goes_on));
        let after = last.saturating_duration_since(goes_on);
        tell(&format!("h{host}: at most {most:?} late (p99 {p99:?}), all there {after:?} later"));
        assert!(of_talk(listener).into_iter().eq(0..said.len()), "h{host}: each line once, in order");
    }
}

#[test]
fn one_that_stands_still_slows_nobody_over_tcp() {
    one_stands_still("/ip4/0.0.0.0/tcp/0");
}

#[test]
fn one_that_stands_still_slows_nobody_over_quic() {
    one_stands_still("/ip4/0.0.0.0/udp/0/quic-v1");
}
