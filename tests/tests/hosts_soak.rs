//! Twenty hosts at full talk while hosts are killed, stopped and cut off at random, for as long as
//! `TREECAST_SOAK_S` says: nothing is lost, and no node grows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ChildStdin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use treecast_overlay::Rng;
use treecast_tests::hosts::{Host, Lab, PATIENCE, Process, tell, until};
use treecast_tests::seeds::seeds;

const HOSTS: usize = 20;
const AUTHORS: usize = 4;

/// Who is never killed: the authors and some more. Stopped and cut off they are like all others.
const SURVIVORS: usize = 8;

/// Lines a second of each author.
const RATE: u32 = 50;

/// Of killed, and of stopped hosts, at most so many at once.
const AT_ONCE: usize = 4;

/// When memory is first looked at, and by how much it may grow from then on.
const WARM_AFTER: Duration = Duration::from_secs(300);
const GROWTH: f64 = 1.2;

/// `TREECAST_SOAK_S` seconds, by default one minute; an hour is promised.
fn soak_for() -> Duration {
    let seconds = std::env::var("TREECAST_SOAK_S");
    Duration::from_secs(seconds.map_or(60, |it| it.parse().expect("TREECAST_SOAK_S is a number")))
}

/// What one run of a node has been shown: each author's lines count up.
#[derive(Debug, Default)]
struct Shown {
    /// It came late: the first line it is shown of each author may be any.
    late: bool,
    next: BTreeMap<usize, u64>,
    wrong: Vec<String>,
}

impl Shown {
    /// Takes a line that is part of the talk.
    fn take(&mut self, line: &Value) -> bool {
        match line["type"].as_str() {
            Some("message") => {
                let text = line["text"].as_str().expect("all of it is text");
                let (author, number) = text.split_once(':').expect("AUTHOR:NUMBER");
                let number: u64 = number.parse().expect("a number");
                let next = self.next.entry(author.parse().expect("a number"));
                let next = next.or_insert(if self.late { number } else { 0 });
                if number != *next {
                    self.wrong.push(format!("{text} where {next} was due"));
                }
                *next = number + 1;
                true
            }
            Some("gap") => {
                self.wrong.push(line.to_string());
                true
            }
            kind => kind == Some("receipt"),
        }
    }
}

struct Node<'a> {
    host: &'a Host,
    chat: Option<Process>,
    shown: Arc<Mutex<Shown>>,
    /// Killed or stopped until then.
    until: Option<Instant>,
    /// Resident memory in KiB, every few seconds.
    memory: Vec<(Instant, u64)>,
}

impl<'a> Node<'a> {
    fn new(host: &'a Host) -> Self {
        let mut node = Self { host, chat: None, shown: Arc::default(), until: None, memory: Vec::new() };
        node.start(false);
        node
    }

    fn start(&mut self, late: bool) {
        let shown = Arc::new(Mutex::new(Shown { late, ..Shown::default() }));
        self.shown = shown.clone();
        let take = move |line: &Value| shown.lock().unwrap_or_else(PoisonError::into_inner).take(line);
        self.chat = Some(self.host.watched(&["chat", "soak"], take));
    }

    fn chat(&mut self) -> &mut Process {
        self.chat.as_mut().expect("it runs")
    }

    /// It runs, undisturbed, and was shown what it should be.
    fn check(&mut self) {
        let number = self.host.number();
        let wrong = self.shown.lock().unwrap_or_else(PoisonError::into_inner).wrong.clone();
        assert!(wrong.is_empty(), "h{number} was shown {wrong:?}");
        if let Some(chat) = &mut self.chat {
            assert!(!chat.has_ended(), "h{number} ended by itself: {:?}", chat.complained());
        }
    }

    /// Whether a trouble of its own is over by now.
    fn recover(&mut self, now: Instant) {
        if self.until.is_some_and(|until| until <= now) {
            self.until = None;
            match &self.chat {
                Some(chat) => chat.signal("CONT"),
                None => self.start(true),
            }
        }
    }

    fn next(&self, author: usize) -> u64 {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.next.get(&author).copied().unwrap_or(0)
    }

    /// The middle of its memory in that span, KiB.
    fn memory_in(&self, from: Instant, to: Instant) -> Option<u64> {
        let mut all: Vec<u64> =
            self.memory.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, kib)| *kib).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied()
    }
}

/// Makes trouble, one at a time of each kind, and ends it.
struct Troubles<'a> {
    lab: &'a Lab,
    rng: Rng,
    cut_until: Option<Instant>,
    kills: usize,
    stops: usize,
    cuts: usize,
}

impl Troubles<'_> {
    fn span(&mut self, longest: usize) -> Duration {
        Duration::from_secs(1 + self.rng.below(longest) as u64)
    }

    /// Once a second.
    fn step(&mut self, nodes: &mut [Node<'_>], now: Instant) {
        for node in &mut *nodes {
            node.recover(now);
        }
        if self.cut_until.is_some_and(|until| until <= now) {
            self.cut_until = None;
            self.lab.unblock();
        }
        let killed = nodes.iter().filter(|node| node.chat.is_none()).count();
        let stopped = nodes.iter().filter(|node| node.until.is_some() && node.chat.is_some()).count();
        match self.rng.below(10) {
            0 | 1 if killed < AT_ONCE => self.kill(nodes, now),
            2 if stopped < AT_ONCE => self.stop(nodes, now),
            3 if self.cut_until.is_none() => self.cut(now),
            _ => {}
        }
    }

    fn kill(&mut self, nodes: &mut [Node<'_>], now: Instant) {
        let victim = SURVIVORS + self.rng.below(HOSTS - SURVIVORS);
        if nodes[victim].until.is_none() {
            nodes[victim].until = Some(now + self.span(10));
            nodes[victim].chat.take().expect("it runs").kill();
            self.kills += 1;
        }
    }

    fn stop(&mut self, nodes: &mut [Node<'_>], now: Instant) {
        let victim = self.rng.below(HOSTS);
        if nodes[victim].until.is_none() {
            nodes[victim].until = Some(now + self.span(20));
            nodes[victim].chat().signal("STOP");
            self.stops += 1;
        }
    }

    /// Some hosts from the others, both ways or one.
    fn cut(&mut self, now: Instant) {
        let mut hosts: Vec<&Host> = self.lab.hosts().iter().collect();
        self.rng.shuffle(&mut hosts);
        let (away, rest) = hosts.split_at(1 + self.rng.below(HOSTS / 2));
        self.lab.block(away, rest);
        if self.rng.below(2) == 0 {
            self.lab.block(rest, away);
        }
        self.cut_until = Some(now + self.span(15));
        self.cuts += 1;
    }

    /// All troubles are over.
    fn end(&mut self, nodes: &mut [Node<'_>]) {
        self.lab.unblock();
        for node in nodes {
            node.until = node.until.map(|_| Instant::now());
            node.recover(Instant::now());
        }
    }
}

/// Lines at an even pace, as far as they are taken; how many.
fn talk(author: usize, stdin: &mut ChildStdin, over: &AtomicBool) -> u64 {
    let (began, mut said) = (Instant::now(), 0);
    while !over.load(Ordering::Relaxed) {
        writeln!(stdin, "{author}:{said}").expect("it listens");
        said += 1;
        let due = began + Duration::from_secs(1) / RATE * u32::try_from(said).expect("not for years");
        std::thread::sleep(due - Instant::now());
    }
    said
}

fn all_know_all(lab: &Lab) {
    for host in lab.hosts() {
        until(PATIENCE, "that all know all", || {
            let run = host.run(&["group", "show", "soak"], b"");
            let members = run.of_type("group").first()?["members"].as_array()?.len();
            (members == HOSTS).then_some(())
        });
    }
}

fn tell_of(began: Instant, nodes: &[Node<'_>], troubles: &Troubles<'_>) {
    let mut line = format!("{:>5} s:", began.elapsed().as_secs());
    let Troubles { kills, stops, cuts, .. } = troubles;
    let _ = write!(line, " {kills} kills, {stops} stops, {cuts} cuts; MiB, descriptors:");
    for node in &nodes[..SURVIVORS] {
        let kib = node.memory.last().map_or(0, |(_, kib)| *kib);
        let descriptors = node.chat.as_ref().map_or(0, Process::descriptors);
        let _ = write!(line, " {:.1} {descriptors},", kib as f64 / 1024.0);
    }
    tell(line.trim_end_matches(','));
}

/// Between looks at memory.
const LOOK_EVERY: usize = 5;
/// Between words about how it goes.
const TELL_EVERY: usize = 60;

#[test]
fn nothing_is_lost_and_nobody_grows() {
    let seed = seeds(1)[0];
    let Some(lab) = Lab::new(HOSTS) else { return };
    let mut nodes: Vec<_> = lab.hosts().iter().map(Node::new).collect();
    all_know_all(&lab);
    let at_first: Vec<usize> = nodes.iter_mut().map(|node| node.chat().descriptors()).collect();
    let mut stdins: Vec<_> = nodes[..AUTHORS].iter_mut().map(|node| node.chat().take_stdin()).collect();
    let mut troubles =
        Troubles { lab: &lab, rng: Rng::new(seed), cut_until: None, kills: 0, stops: 0, cuts: 0 };
    tell(&format!("seed {seed}, {:?}", soak_for()));

    let (began, over) = (Instant::now(), AtomicBool::new(false));
    let said: Vec<u64> = std::thread::scope(|scope| {
        let over = &over;
        let talks: Vec<_> = stdins
            .iter_mut()
            .enumerate()
            .map(|(author, stdin)| scope.spawn(move || talk(author, stdin, over)))
            .collect();
        // Also if something is found wrong: the scope waits for them.
        let soaked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            soak(&mut nodes, &mut troubles, began);
        }));
        over.store(true, Ordering::Relaxed);
        troubles.end(&mut nodes);
        let said = talks.into_iter().map(|talk| talk.join().expect("no panic")).collect();
        soaked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        said
    });

    let ended = Instant::now();
    for node in &mut nodes[..SURVIVORS] {
        let number = node.host.number();
        until(PATIENCE, &format!("every line at h{number}"), || {
            node.check();
            said.iter().enumerate().all(|(author, said)| node.next(author) >= *said).then_some(())
        });
    }
    let all: u64 = said.iter().sum();
    tell(&format!("all {all} lines everywhere {} ms after the last word", ended.elapsed().as_millis()));
    std::thread::sleep(Duration::from_secs(1));
    tell_of(began, &nodes, &troubles);
    for (node, at_first) in nodes.iter_mut().zip(at_first).take(SURVIVORS) {
        node.check();
        let number = node.host.number();
        // A link is a descriptor, and everybody has some more or less than at first: who has become the
        // root since feeds twelve children besides its other neighbours, over two links for a while.
        until(PATIENCE, &format!("few descriptors at h{number}"), || {
            (node.chat().descriptors() <= at_first + HOSTS + HOSTS / 2).then_some(())
        });
        let warm = node.memory_in(began + WARM_AFTER, began + WARM_AFTER + Duration::from_secs(60));
        let last = node.memory_in(ended - Duration::from_secs(120), ended);
        if let (Some(warm), Some(last)) = (warm, last) {
            let growth = last as f64 / warm as f64;
            tell(&format!("h{number}: {warm} KiB after five minutes, {last} KiB at the end: × {growth:.2}"));
            assert!(growth <= GROWTH, "h{number} grew by {growth:.2}");
        }
    }
}

fn soak(nodes: &mut [Node<'_>], troubles: &mut Troubles<'_>, began: Instant) {
    for second in 1.. {
        if began.elapsed() >= soak_for() {
            return;
        }
        let due = began + Duration::from_secs(second as u64);
        std::thread::sleep(due - Instant::now());
        let now = Instant::now();
        troubles.step(nodes, now);
        for node in &mut *nodes {
            node.check();
            if second % LOOK_EVERY == 0
                && let Some(chat) = &node.chat
            {
                node.memory.push((now, chat.used().0));
            }
        }
        if second % TELL_EVERY == 0 {
            tell_of(began, nodes, troubles);
        }
    }
}
