//! Nodes that are killed and started again, and authors that go on talking whatever happens to their nodes.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Host, Process};

/// Lines a second of each author.
const RATE: u32 = 20;

/// A host's node, or when it is started again.
pub struct Node<'a> {
    /// Where.
    pub host: &'a Host,
    /// Its process, if it runs.
    pub up: Option<Process>,
    /// When it is started again.
    pub back_at: Instant,
    /// How often it was killed.
    pub kills: usize,
    /// What it is started with.
    args: &'a [&'a str],
    /// It answers commands: whoever asks it to publish starts no node beside it.
    pub serves: Arc<AtomicBool>,
}

impl<'a> Node<'a> {
    /// Starts one.
    pub fn new(host: &'a Host, args: &'a [&'a str]) -> Self {
        let (back_at, serves) = (Instant::now(), Arc::default());
        let mut node = Self { host, up: None, back_at, kills: 0, args, serves };
        node.start();
        node
    }

    /// Starts it again.
    pub fn start(&mut self) {
        self.up = Some(self.host.treecast(self.args));
    }

    /// Starts it if it is time.
    ///
    /// # Panics
    /// When it ended by itself.
    pub fn poll(&mut self, now: Instant) {
        match &mut self.up {
            Some(up) => {
                let number = self.host.number();
                assert!(!up.has_ended(), "h{number} ended by itself: {:?}", up.complained());
                if !self.serves.load(Ordering::Relaxed) {
                    let is_ready = up.said().iter().any(|(_, line)| line["type"] == "ready");
                    self.serves.store(is_ready, Ordering::Relaxed);
                }
            }
            None if self.back_at <= now => self.start(),
            None => {}
        }
    }

    /// Kills it.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self, back_at: Instant) {
        self.serves.store(false, Ordering::Relaxed);
        self.back_at = back_at;
        self.kills += 1;
        self.up.take().expect("only who runs is killed").kill();
    }
}

/// What an author has said: lines are its number, a colon and a count.
#[derive(Debug, Default)]
pub struct Spoken {
    /// Of each line, whether its receipt came.
    pub lines: Vec<bool>,
}

impl Spoken {
    /// The lines whose receipts came.
    pub fn acknowledged(&self, author: usize) -> impl Iterator<Item = String> {
        let lines = self.lines.iter().enumerate().filter(|(_, acknowledged)| **acknowledged);
        lines.map(move |(number, _)| format!("{author}:{number}"))
    }
}

/// Says lines in a group at an even pace, each of them once, to whatever node runs there.
pub fn talk((author, group): (usize, &str), host: &Host, serves: &AtomicBool, over: &AtomicBool) -> Spoken {
    let mut said = Spoken::default();
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
        if serves.load(Ordering::Relaxed) {
            publish((author, group), host, serves, over, &mut said);
        }
    }
    said
}

/// Until it is over, or the node is killed.
fn publish(
    (author, group): (usize, &str),
    host: &Host,
    serves: &AtomicBool,
    over: &AtomicBool,
    said: &mut Spoken,
) {
    let first = said.lines.len();
    let receipts = Arc::new(AtomicU64::new(0));
    let counted = receipts.clone();
    let mut publishing = host.watched(&["pub", group, "--wait", "stored"], move |line| {
        let is_receipt = line["type"] == "receipt";
        counted.fetch_add(u64::from(is_receipt), Ordering::Relaxed);
        is_receipt
    });
    let mut stdin = publishing.take_stdin();
    let goes_on = || serves.load(Ordering::Relaxed) && !over.load(Ordering::Relaxed);
    while goes_on() && !publishing.has_ended() {
        if writeln!(stdin, "{author}:{}", said.lines.len()).is_err() {
            break;
        }
        said.lines.push(false);
        std::thread::sleep(Duration::from_secs(1) / RATE);
    }
    drop(stdin);
    if serves.load(Ordering::Relaxed) {
        publishing.ended();
    } else {
        // It ends with its node; or has become one itself, if it came a moment too late.
        std::thread::sleep(Duration::from_millis(300));
        publishing.kill();
    }
    let acknowledged = usize::try_from(receipts.load(Ordering::Relaxed)).expect("few");
    said.lines[first..first + acknowledged].fill(true);
}
