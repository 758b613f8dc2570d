//! What was measured, next to what the simulator foretells and to what the nodes say.

use std::fs;

use serde_json::Value;
use treecast_overlay::sim::{Crash, Experiment};
use treecast_tests::hosts::tell;

use super::heard::{Extra, Heard};
use super::kill::Kill;
use super::network::Network;
use super::{BEFORE_KILL, EVERY, LINE, LINES, NODES, TALK, simulated};

/// Runs of the simulator.
const RUNS: u64 = 8;

/// The lines by which a tree is judged: those before may have changed it.
const JUDGED: std::ops::Range<usize> = TALK / 2..TALK;

/// A stretch of the tree's ways that only something broken has.
const ABSURD: f64 = 3.0;

/// Likewise an extra delay, milliseconds.
const FOREVER_MS: f64 = 5_000.0;

/// The tree's ways on real hosts, what came along them, and both in the simulator.
pub(crate) fn stretch(network: &Network, source: usize, parents: &[Option<usize>], heard: &Heard) {
    let mean = network.mean_along_ms(parents, source).expect("a tree leads everywhere");
    let ways = mean / network.mean_direct_ms(source);
    let own = heard.mean_ms(source, JUDGED).expect("it hears itself");
    let real = heard.stretch(network, source, JUDGED);
    tell(&format!(
        "stretch of the tree's ways {ways:.3}, of what was heard {real:.3} (the source: after {own:.1} ms)"
    ));
    let runs = (1..=RUNS).map(|seed| simulated::run(network, source, seed, LINES, Crash::Process));
    let same: Vec<f64> = runs.map(|run| run.heard.stretch(network, source, JUDGED)).collect();
    let any: Vec<f64> = (1..=RUNS).map(|seed| experiment(network, seed)).collect();
    tell(&format!("stretch simulated: from this source {same:.3?}, from any {any:.3?}"));
    assert!(ways < ABSURD, "a stretch of {ways:.2}");
}

/// The simulator's own measure of such a group; its uplinks all have 1 Gbit/s.
fn experiment(network: &Network, seed: u64) -> f64 {
    let experiment = Experiment {
        seed,
        nodes: NODES,
        network: network.model(),
        rate: 1.0 / EVERY.as_secs_f64(),
        size: LINE,
        span: EVERY * TALK as u32,
        ..Experiment::default()
    };
    let measures = experiment.run().expect("the options are in range");
    measures.stretch.expect("lines were published").mean
}

/// What the nodes say of their delays, and what the switch makes of them.
pub(crate) fn delays(network: &Network, parents: &[Option<usize>], words: &[Value]) {
    let delay = |place: usize| words[place]["delay_ms"].as_f64().expect("every place has a delay");
    let off: Vec<f64> = (0..NODES)
        .map(|place| {
            // Those below a core count from it; a core says nought.
            let core = std::iter::successors(Some(place), |at| parents[*at]).find(|at| delay(*at) == 0.0);
            let core = core.expect("a root is a core");
            delay(place) - network.along_ms(parents, core)[place].expect("a tree leads everywhere")
        })
        .collect();
    let worst = off.iter().copied().fold(0.0, |worst: f64, it| worst.max(it.abs()));
    let mean = off.iter().sum::<f64>() / NODES as f64;
    tell(&format!("delay_ms is off the ways by {mean:.2} ms in the mean, by {worst:.2} ms at most"));
}

/// What the nodes say of copies, and what the switch counted.
pub(crate) fn copies(words: &[Value], frames: &[u64]) {
    let outside = frames.iter().sum::<u64>() as f64 / (TALK * (NODES - 1)) as f64 - 1.0;
    let said: Vec<f64> = words.iter().filter_map(|word| word["rmr"].as_f64()).collect();
    let inside = said.iter().sum::<f64>() / said.len() as f64;
    tell(&format!("rmr: {outside:.4} by the switch, {inside:.4} by what the nodes say"));
}

/// How much later than usual the next line came, and the latest of all.
pub(crate) fn extras(network: &Network, source: usize, heard: &Heard, kill: &Kill) {
    let real = heard.extras(BEFORE_KILL, AFFECTED);
    let (victim, children) = (kill.victim, kill.orphans.len());
    tell(&format!("killed {victim}, parent of {children}; {}", summary(&real)));
    let by_place: Vec<_> =
        real.iter().map(|it| (it.place, it.next_ms.round(), it.worst_ms.round())).collect();
    tell(&format!("  each (place, next, latest): {by_place:?}"));
    for how in [Crash::Process, Crash::Host] {
        for seed in 1..=RUNS / 2 {
            let run = simulated::run(network, source, seed, LINES, how);
            let extras = run.heard.extras(BEFORE_KILL, AFFECTED);
            tell(&format!("  simulated ({how:?}), parent of {}; {}", run.children, summary(&extras)));
        }
    }
    assert!(real.iter().all(|it| it.worst_ms < FOREVER_MS), "{real:?}");
}

/// Half a second of lines before the kill, some of which it swallows, and all after it.
const AFFECTED: std::ops::Range<usize> = BEFORE_KILL - 25..LINES;

fn summary(extras: &[Extra]) -> String {
    let spread = |of: fn(&Extra) -> f64| {
        let mut all: Vec<f64> = extras.iter().map(of).filter(|it| *it > 1.0).collect();
        all.sort_by(f64::total_cmp);
        let median = all.get(all.len() / 2).copied().unwrap_or(0.0);
        format!("{median:.0} (at most {:.0}, {} nodes)", all.last().copied().unwrap_or(0.0), all.len())
    };
    format!(
        "extra ms of the next line {}, of the latest {}",
        spread(|it| it.next_ms),
        spread(|it| it.worst_ms)
    )
}

/// Processor time so far: at work, and altogether, in ticks of all processors.
pub(crate) fn work() -> (u64, u64) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let all = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<u64> = all.filter_map(|it| it.parse().ok()).collect();
    // The fourth and fifth are idle, with and without waiting for a disk.
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    let total: u64 = ticks.iter().sum();
    (total - idle, total)
}
