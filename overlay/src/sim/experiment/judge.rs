//! What it all came to: the definitions stand in `docs/simulator.md`.

use std::time::Duration;

use super::floor;
use super::measures::{Measures, Stretch, Tail, Times, round};
use super::runner::{Life, Runner};
use crate::sim::meter::{Histogram, Message, Meter, Stats, Sums, UNDELIVERED};
use crate::sim::node::NodeIx;
use crate::time::Time;

/// A member must have started so long before a message to be owed it…
const OWED_AFTER: Duration = Duration::from_secs(2);
/// …and, where members come and go, live so long after.
const OWED_UNTIL: Duration = Duration::from_secs(10);
/// Messages before the kill that say what was usual.
const USUAL: usize = 5;
/// Who gets a message by no more than this later than usual is not affected, µs.
const UNAFFECTED: u32 = 1_000;

pub(super) fn judge(runner: &mut Runner<'_>) -> Measures {
    let meter = runner.world.meter.take().expect("set at the start");
    let experiment = runner.experiment;
    let (owed, deliveries) = owed_and_made(runner, &meter);
    let placed: Vec<&Message> = meter.ledger.messages.iter().filter(|it| it.batch.is_some()).collect();
    let messages = placed.len();
    let sums = sums(&meter, &placed, Time::ZERO);
    let per_batch = |sum: u64| round(sum as f64 / sums.batches.max(1) as f64, 3);
    let mean_members = runner.notes.member_seconds / experiment.span.as_secs_f64();
    let killed = after_kill(runner, &meter);
    Measures {
        seed: experiment.seed,
        nodes: experiment.nodes,
        members: runner.lives.iter().filter(|it| it.to.is_none()).count(),
        messages,
        rejected: meter.ledger.rejected,
        deliveries,
        owed,
        missing: owed - deliveries,
        duplicates: meter.ledger.duplicates,
        order_violations: meter.ledger.order_violations,
        settled_s: round(runner.notes.settled_s, 3),
        settled: runner.notes.settled,
        stretch: stretch(runner, &meter, &placed),
        above_floor: floor::above_floor(runner, &meter, &placed),
        above_best: runner.notes.places.or_else(|| floor::places(runner)),
        rmr: round(sums.redundancy(), 5),
        ldh: per_batch(sums.hops),
        header_bytes: per_batch(sums.header),
        control_bytes: round(
            runner.notes.span_control as f64 / messages.max(1) as f64 / mean_members.max(1.0),
            3,
        ),
        idle_bytes_per_s: round(runner.idle_bytes_per_s(), 3),
        border_crossings: per_batch(sums.border_crossings),
        max_node_sends: sums.most_sends,
        latency_ms: latency(runner, &meter, &placed),
        settled_last_ms: killed.as_ref().and_then(|it| it.settled_last_ms),
        first_after_kill_ms: killed.as_ref().map(|it| it.first),
        extra_ms: killed.as_ref().and_then(|it| it.extra),
        rmr_after_kill: killed.as_ref().map(|it| it.rmr),
        trace_hash: runner.world.trace_hash(),
    }
}

/// Whether this message is owed to a node.
fn owes(runner: &Runner<'_>, message: &Message, life: &Life) -> bool {
    let early = life.from == Time::ZERO || life.from + OWED_AFTER <= message.published;
    let survives = match life.to {
        None => true,
        Some(died) => runner.experiment.churn > 0.0 && died >= message.published + OWED_UNTIL,
    };
    message.batch.is_some() && early && survives
}

fn owed_and_made(runner: &Runner<'_>, meter: &Meter) -> (u64, u64) {
    let (mut owed, mut made) = (0, 0);
    for message in &meter.ledger.messages {
        for (node, life) in runner.lives.iter().enumerate() {
            if owes(runner, message, life) {
                owed += 1;
                made += u64::from(message.is_delivered(NodeIx(node)));
            }
        }
    }
    (owed, made)
}

/// Whether nobody waits for a message any more to whom it is owed.
pub(super) fn has_come_to_all(runner: &Runner<'_>, number: usize) -> bool {
    let meter = runner.world.meter.as_ref().expect("set at the start");
    let message = &meter.ledger.messages[number];
    let waits = |(node, life): (usize, &Life)| {
        life.to.is_none() && owes(runner, message, life) && !message.is_delivered(NodeIx(node))
    };
    !runner.lives.iter().enumerate().any(waits)
}

/// What became of the batches of these messages that were published since.
fn sums(meter: &Meter, placed: &[&Message], since: Time) -> Sums {
    let late = placed.iter().filter(|it| it.published >= since);
    let mut batches: Vec<_> = late.filter_map(|it| meter.batches.number(&it.batch?)).collect();
    // Messages that travelled together are next to each other, unless sources took turns.
    batches.sort_unstable();
    batches.dedup();
    meter.batches.sum(batches.into_iter())
}

/// When a message came to each member to which it is owed, besides its source, µs.
pub(super) fn delays_owed<'a>(
    runner: &'a Runner<'_>,
    meter: &Meter,
    message: &'a Message,
) -> impl Iterator<Item = (NodeIx, u32)> + use<'a> {
    let source = meter.ledger.node_of(message.source);
    let lives = runner.lives.iter().enumerate().map(|(node, life)| (NodeIx(node), life));
    lives
        .filter(move |(node, life)| *node != source && owes(runner, message, life))
        .filter_map(|(node, _)| Some((node, message.delay(node)?)))
}

fn latency(runner: &Runner<'_>, meter: &Meter, placed: &[&Message]) -> Option<Times> {
    let mut histogram = Histogram::default();
    for message in placed {
        for (_, delay) in delays_owed(runner, meter, message) {
            histogram.add(Duration::from_micros(u64::from(delay)));
        }
    }
    histogram.stats().map(|it| Times::of(&it))
}

/// For each message, the statistics of its delays over those of the direct delays to the same
/// members; the mean of that over messages.
fn stretch(runner: &Runner<'_>, meter: &Meter, placed: &[&Message]) -> Option<Stretch> {
    let (mut mean, mut p99, mut max, mut count) = (0.0, 0.0, 0.0, 0.0);
    let (mut through, mut direct) = (Vec::new(), Vec::new());
    for message in placed {
        let source = meter.ledger.node_of(message.source);
        through.clear();
        direct.clear();
        for (node, delay) in delays_owed(runner, meter, message) {
            through.push(delay);
            direct.push(runner.world.direct(source, node).as_micros() as u32);
        }
        if let (Some(through), Some(direct)) = (Stats::of(&mut through), Stats::of(&mut direct)) {
            mean += through.mean / direct.mean;
            p99 += through.p99 / direct.p99;
            max += through.max / direct.max;
            count += 1.0;
        }
    }
    let ratio = |sum: f64| round(sum / count, 4);
    (count > 0.0).then(|| Stretch { mean: ratio(mean), p99: ratio(p99), max: ratio(max) })
}

struct AfterKill {
    settled_last_ms: Option<f64>,
    first: Tail,
    extra: Option<Tail>,
    rmr: f64,
}

fn after_kill(runner: &Runner<'_>, meter: &Meter) -> Option<AfterKill> {
    let killed_at = runner.notes.killed_at?;
    let messages = &meter.ledger.messages;
    let first = &messages[runner.notes.judged?];
    let usual = usual(messages, first.source, killed_at);
    let lasts = usual.iter().map(|it| f64::from(last_delay(it))).sum::<f64>();
    let source = meter.ledger.node_of(first.source);
    let survivors =
        runner.lives.iter().enumerate().filter(|(_, it)| it.from == Time::ZERO && it.to.is_none());
    let survivors: Vec<_> = survivors.map(|(node, _)| NodeIx(node)).filter(|it| *it != source).collect();
    let extra = |node: &NodeIx| {
        let before = usual.iter().map(|it| it.delay(*node)).sum::<Option<u32>>()?;
        let later = first.delay(*node)?.saturating_sub(before / usual.len() as u32);
        (later > UNAFFECTED).then_some(later)
    };
    let placed: Vec<_> = messages.iter().filter(|it| it.batch.is_some()).collect();
    Some(AfterKill {
        settled_last_ms: (!usual.is_empty()).then(|| round(lasts / usual.len() as f64 / 1_000.0, 3)),
        first: Tail::of(survivors.iter().filter_map(|it| first.delay(*it)).collect()),
        extra: (!usual.is_empty()).then(|| Tail::of(survivors.iter().filter_map(extra).collect())),
        rmr: round(sums(meter, &placed, first.published).redundancy(), 5),
    })
}

/// The source's last messages that had come to all before the kill.
fn usual(messages: &[Message], source: usize, killed_at: Time) -> Vec<&Message> {
    let done = |it: &&Message| it.source == source && it.batch.is_some() && it.published < killed_at;
    let before: Vec<_> = messages.iter().filter(done).collect();
    let reached = |it: &Message| it.delays.iter().filter(|delay| **delay != UNDELIVERED).count();
    let all = before.iter().map(|it| reached(it)).max().unwrap_or(0);
    let settled = |it: &&Message| {
        let last = Duration::from_micros(u64::from(last_delay(it)));
        reached(it) == all && it.published + last < killed_at
    };
    before.into_iter().rev().filter(settled).take(USUAL).collect()
}

fn last_delay(message: &Message) -> u32 {
    message.delays.iter().copied().filter(|it| *it != UNDELIVERED).max().unwrap_or(0)
}
