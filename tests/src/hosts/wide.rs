//! The link of hosts that are far from each other: a switch in user space, on a TAP device a host,
//! that passes each frame on when the way between the two hosts is over.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::RangeInclusive;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tappers::{Interface, Tap};

/// What a frame takes at most: 1,500 bytes, and Ethernet's header.
const FRAME: usize = 1_514;

/// What our addresses on the wire begin with: locally administered, and the host's place follows.
const MAC: [u8; 4] = [0x02, 0x77, 0, 0];

/// A switch without frames looks up so often.
const IDLE: Duration = Duration::from_millis(100);

/// The switch; dropping it ends the forwarding.
#[derive(Debug)]
pub struct Wide {
    link: Arc<Link>,
    forwarder: Option<JoinHandle<()>>,
}

/// How much later frames left the switch than they were due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lateness {
    /// So many frames.
    pub frames: u64,
    /// All of them together.
    pub sum: Duration,
}

impl Lateness {
    /// The mean of the frames since then, milliseconds.
    pub fn mean_ms_since(&self, then: &Self) -> f64 {
        let frames = (self.frames - then.frames).max(1);
        (self.sum - then.sum).as_secs_f64() * 1_000.0 / frames as f64
    }
}

struct Link {
    ports: Vec<Port>,
    one_way: Vec<Vec<Duration>>,
    under_way: Mutex<UnderWay>,
    sooner: Condvar,
    lateness: Mutex<Lateness>,
}

/// A host's end.
struct Port {
    tap: Tap,
    dark: AtomicBool,
    /// How many frames of each size reached it.
    sizes: Vec<AtomicU64>,
}

#[derive(Default)]
struct UnderWay {
    frames: BinaryHeap<Reverse<Frame>>,
    /// Frames so far: those due at one moment leave in the order they came.
    taken: u64,
    closed: bool,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Frame {
    due: Instant,
    number: u64,
    to: usize,
    bytes: Arc<[u8]>,
}

impl Wide {
    /// A switch for as many hosts as the matrix of one-way delays has rows. Each gets a device of
    /// the name that `name` gives to its place.
    ///
    /// # Errors
    /// Why there are no TAP devices here.
    pub(super) fn new(one_way: Vec<Vec<Duration>>, name: impl Fn(usize) -> String) -> Result<Self, String> {
        let ports = (0..one_way.len()).map(|place| Port::new(&name(place)));
        let ports = ports.collect::<Result<Vec<_>, _>>()?;
        let link = Arc::new(Link {
            ports,
            one_way,
            under_way: Mutex::default(),
            sooner: Condvar::new(),
            lateness: Mutex::default(),
        });
        let forwarder = std::thread::spawn({
            let link = link.clone();
            move || {
                hurry();
                // Threads inherit the priority of whoever starts them.
                for place in 0..link.ports.len() {
                    let link = link.clone();
                    std::thread::spawn(move || link.read(place));
                }
                link.forward();
            }
        });
        Ok(Self { link, forwarder: Some(forwarder) })
    }

    /// Frames of these sizes, Ethernet's header included, that reached each host so far, by place.
    pub fn frames(&self, sizes: RangeInclusive<usize>) -> Vec<u64> {
        let of = |port: &Port| port.sizes[sizes.clone()].iter().map(|it| it.load(Ordering::Relaxed)).sum();
        self.link.ports.iter().map(of).collect()
    }

    /// How precise the delays were so far.
    pub fn lateness(&self) -> Lateness {
        *self.link.lateness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing comes from this host or gets there, as if its power were gone; what is
    /// under way from it still arrives.
    pub(super) fn darken(&self, place: usize) {
        self.link.ports[place].dark.store(true, Ordering::Relaxed);
    }
}

impl Drop for Wide {
    fn drop(&mut self) {
        self.link.under_way().closed = true;
        self.link.sooner.notify_all();
        if let Some(forwarder) = self.forwarder.take() {
            // Ignored: a panic in there was told when it happened.
            let _ = forwarder.join();
        }
    }
}

/// The address of the host at this place.
pub(super) fn mac(place: usize) -> String {
    let [a, b, c, d] = MAC;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{:02x}:{:02x}", place >> 8, place & 0xff)
}

impl Port {
    fn new(name: &str) -> Result<Self, String> {
        let tap = Interface::new(name).and_then(Tap::new_named);
        let tap = tap.map_err(|error| format!("no TAP device: {error}"))?;
        let sizes = (0..=FRAME).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { tap, dark: AtomicBool::new(false), sizes })
    }

    fn is_dark(&self) -> bool {
        self.dark.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("ports", &self.ports.len()).finish_non_exhaustive()
    }
}

impl Link {
    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a host sends, until its device is gone.
    fn read(&self, from: usize) {
        let mut buffer = [0; 2 * FRAME];
        while let Ok(length) = self.ports[from].tap.recv(&mut buffer) {
            self.take(from, &buffer[..length], Instant::now());
        }
    }

    fn take(&self, from: usize, frame: &[u8], now: Instant) {
        if frame.len() < MAC.len() + 2 || self.ports[from].is_dark() {
            return;
        }
        let bytes: Arc<[u8]> = frame.into();
        let mut under_way = self.under_way();
        for to in self.destinations(from, frame) {
            under_way.taken += 1;
            let (due, number) = (now + self.one_way[from][to], under_way.taken);
            under_way.frames.push(Reverse(Frame { due, number, to, bytes: bytes.clone() }));
            if under_way.frames.peek().is_some_and(|Reverse(first)| first.number == number) {
                self.sooner.notify_one();
            }
        }
    }

    /// The host whose address it is; all others, if it is for many.
    fn destinations(&self, from: usize, frame: &[u8]) -> Vec<usize> {
        if frame[0] & 1 == 1 {
            return (0..self.ports.len()).filter(|place| *place != from).collect();
        }
        let place = usize::from(u16::from_be_bytes([frame[4], frame[5]]));
        let ours = frame.starts_with(&MAC) && place < self.ports.len() && place != from;
        ours.then_some(place).into_iter().collect()
    }

    /// Hands out what is due, until the switch is dropped.
    fn forward(&self) {
        let mut under_way = self.under_way();
        while !under_way.closed {
            let now = Instant::now();
            let wait = under_way.frames.peek().map(|Reverse(first)| first.due.saturating_duration_since(now));
            if wait == Some(Duration::ZERO) {
                let Reverse(frame) = under_way.frames.pop().expect("it was just seen");
                drop(under_way);
                self.hand_out(&frame);
                under_way = self.under_way();
            } else {
                let waited = self.sooner.wait_timeout(under_way, wait.unwrap_or(IDLE));
                under_way = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    fn hand_out(&self, frame: &Frame) {
        let port = &self.ports[frame.to];
        if port.is_dark() {
            return;
        }
        port.sizes[frame.bytes.len().min(FRAME)].fetch_add(1, Ordering::Relaxed);
        let late = frame.due.elapsed();
        // Ignored: a host that is not up yet, or gone, misses it.
        let _ = port.tap.send(&frame.bytes);
        let mut lateness = self.lateness.lock().unwrap_or_else(PoisonError::into_inner);
        lateness.frames += 1;
        lateness.sum += late;
    }
}

/// Puts this thread before all that runs under test, in real time: a late switch is a longer way.
fn hurry() {
    let Ok(thread) = std::fs::read_link("/proc/thread-self") else { return };
    let Some(id) = thread.file_name() else { return };
    // Ignored: without it the delays are less precise, which is told.
    let _ = Command::new("chrt")
        .args(["--fifo", "--pid", "1"])
        .arg(id)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
