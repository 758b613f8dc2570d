//! Twenty hosts around the world: what people would see, next to what the simulator foretells for the
//! same network, and what the nodes say of it themselves.
//!
//! Delays come from a switch in user space, uplinks are shaped by `tbf`. Times are told, not judged,
//! but for bounds that only something broken exceeds: on a busy machine they say more of the machine. The network follows from `TREECAST_SEED`.

mod crowd;
mod heard;
mod kill;
mod network;
mod simulated;
mod told;

use std::io::Write;
use std::ops::RangeInclusive;
use std::process::ChildStdin;
use std::time::{Duration, Instant};

use treecast_tests::hosts::{Lab, lines_of, tell};
use treecast_tests::seeds::seeds;

use crowd::Crowd;
use heard::Heard;
use kill::Plan;
use network::Network;

const NODES: usize = 20;

/// Bytes of a line.
const LINE: usize = 1_024;

/// Bytes of the frames that carry one, over TCP or QUIC: larger than what QUIC pads, and smaller than
/// what it tries a path's size with.
const FRAMES: RangeInclusive<usize> = LINE + 219..=LINE + 276;

/// Between lines.
const EVERY: Duration = Duration::from_millis(20);

/// Lines of the first talk, by which the tree is judged…
const TALK: usize = 500;

/// …then a pause in which the nodes are asked…
const PAUSE: Duration = Duration::from_secs(2);

/// …and more lines, the parent of most being killed before this one.
const BEFORE_KILL: usize = TALK + 100;

/// All lines.
const LINES: usize = BEFORE_KILL + 250;

/// When a simulated group begins to talk.
const SETTLED: Duration = Duration::from_secs(20);

/// By how much later than at [`EVERY`] a line is published.
fn after_pause(line: usize) -> Duration {
    if line < TALK { Duration::ZERO } else { PAUSE }
}

/// What was published when.
struct Talk {
    stdin: ChildStdin,
    sent: Vec<Instant>,
}

impl Talk {
    /// Publishes lines at an even pace up to this one.
    fn until(&mut self, end: usize) {
        let (start, first) = (Instant::now(), self.sent.len());
        for line in first..end {
            let due = start + EVERY * u32::try_from(line - first).expect("few lines");
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            self.sent.push(Instant::now());
            let text = format!("wide-{line} ");
            writeln!(self.stdin, "{text:.<width$}", width = LINE).expect("the publisher listens");
        }
    }

    /// No more lines come; when they were published.
    fn end(self) -> Vec<Instant> {
        self.sent
    }
}

/// When each line came to each place.
fn heard(sent: &[Instant], crowd: &Crowd<'_>) -> Heard {
    let mut heard = Heard::new(NODES, sent.len());
    for (place, process) in crowd.alive() {
        for said in process.messages() {
            let line = line_of(&said.text);
            let delay = said.at.saturating_duration_since(sent[line]);
            heard.delays[place][line] = Some(delay.as_secs_f64() * 1_000.0);
        }
    }
    heard
}

fn line_of(text: &str) -> usize {
    let number = text.strip_prefix("wide-").and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.trim_end_matches('.').parse().ok()).expect("nobody says anything else")
}

#[test]
fn around_the_world_it_is_as_the_simulator_says() {
    let seed = seeds(1)[0];
    let network = Network::draw(seed, NODES);
    let Some(lab) = Lab::wide(network.one_way.clone()) else { return };
    for (host, mbit) in lab.hosts().iter().zip(&network.mbit) {
        host.shape(*mbit);
    }
    let source = seed as usize % NODES;
    tell(&format!("seed {seed}: host {source} talks; uplinks in Mbit/s {:?}", network.mbit));
    let mut crowd = Crowd::gather(&lab);
    crowd.tree("at first");
    crowd.settle(&network);

    let mut publisher = lab.hosts()[source].treecast(&["pub", "lobby"]);
    let mut talk = Talk { stdin: publisher.take_stdin(), sent: Vec::new() };
    let frames = counted(&lab, || talk.until(TALK));
    let parents = crowd.parents(&crowd.tree("after the talk"));
    let words = crowd.words();
    let plan = Plan::largest_parent(&crowd, source);

    talk.until(BEFORE_KILL);
    let kill = plan.carry_out(&mut crowd);
    talk.until(LINES);
    let sent = talk.end();
    let run = publisher.ended();
    assert_eq!(run.code, Some(0), "{:?}", run.err);
    assert_eq!(run.of_type("receipt").len(), LINES);
    nothing_is_lost(&crowd, source);
    kill.is_told(&crowd);
    crowd.tree("in the end");

    let heard = heard(&sent, &crowd);
    told::stretch(&network, source, &parents, &heard);
    told::delays(&network, &parents, &words);
    told::copies(&words, &frames);
    told::extras(&network, source, &heard, &kill);
}

/// Frames that carried lines to each host while `talk` ran; how busy the machine was is told, too.
fn counted(lab: &Lab, talk: impl FnOnce()) -> Vec<u64> {
    let (before, late, work) = (lab.switch().frames(FRAMES), lab.switch().lateness(), told::work());
    talk();
    std::thread::sleep(PAUSE / 2);
    let now = told::work();
    let busy = 100 * (now.0 - work.0) / (now.1 - work.1).max(1);
    let late = lab.switch().lateness().mean_ms_since(&late);
    tell(&format!("processors {busy} % busy; frames left the switch {late:.3} ms late in the mean"));
    lab.switch().frames(FRAMES).iter().zip(before).map(|(now, then)| now - then).collect()
}

/// Every line came to everybody who lives, once and in order.
fn nothing_is_lost(crowd: &Crowd<'_>, source: usize) {
    for (place, process) in crowd.alive() {
        process.wait("the last line", |line| {
            line["type"] == "message" && line["text"].as_str().is_some_and(|text| line_of(text) == LINES - 1)
        });
        let by_author = lines_of(&crowd.ids[place], &process.messages());
        let heard: Vec<usize> = by_author[&crowd.ids[source]].iter().map(|text| line_of(text)).collect();
        assert!(heard == (0..LINES).collect::<Vec<_>>(), "host {place} heard {} of {LINES}", heard.len());
    }
}
