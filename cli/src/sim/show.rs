//! A run's measures, for scripts and for people.

use serde::Serialize;
use treecast_overlay::sim::{Experiment, Measures, Tail};

use crate::output::counted;

/// What scripts read.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    measures: &'a Measures,
    wall_s: f64,
}

/// One JSON object.
pub(crate) fn json(measures: &Measures, wall_s: f64) -> String {
    let wall_s = (wall_s * 1_000.0).round() / 1_000.0;
    serde_json::to_string(&Line { r#type: "sim", measures, wall_s }).unwrap_or_default()
}

/// What was simulated, in a line.
pub(crate) fn headline(experiment: &Experiment) -> String {
    let Experiment { nodes, sources, rate, size, span, order, route, .. } = experiment;
    let who = if *sources == 1 { "one source".to_owned() } else { format!("{sources} sources") };
    let seconds = span.as_secs_f64();
    format!("{nodes} nodes, {who}, {rate} messages/s of {size} bytes for {seconds} s; {order}, {route}")
}

/// The columns of several runs, each a row.
pub(crate) const ROW: [&str; 9] =
    ["SEED", "SETTLED", "STRETCH", "RMR", "CONTROL", "IDLE", "P99 ms", "MISSING", "WALL"];

/// One of several runs.
pub(crate) fn row(measures: &Measures, wall_s: f64) -> String {
    let Measures { seed, rmr, control_bytes, idle_bytes_per_s, missing, .. } = measures;
    let cells = [
        seed.to_string(),
        settled(measures),
        stretch(measures),
        format!("{rmr:.3}"),
        format!("{control_bytes:.0} B"),
        format!("{idle_bytes_per_s:.0} B/s"),
        measures.latency_ms.map_or_else(dash, |it| format!("{:.0}", it.p99)),
        missing.to_string(),
        format!("{wall_s:.1} s"),
    ];
    columns(&cells)
}

/// The names of the columns of [`row`].
pub(crate) fn row_head() -> String {
    columns(&ROW.map(str::to_owned))
}

/// Rows are printed one by one, so columns have a fixed width; only STRETCH is wide.
fn columns(cells: &[String]) -> String {
    let width = |i: usize| if i == 2 { 18 } else { 10 };
    let padded: String =
        cells.iter().enumerate().map(|(i, cell)| format!("{cell:<width$}", width = width(i))).collect();
    padded.trim_end().to_owned()
}

/// One run, a line a measure.
pub(crate) fn block(measures: &Measures, wall_s: f64) -> Vec<String> {
    let m = measures;
    let mut lines = vec![
        entry("settled", format!("{} from a start of all at once", settled(m))),
        entry(
            "delivered",
            format!(
                "{} of {} owed; {}, {} at the end",
                m.deliveries,
                m.owed,
                counted(m.messages as u64, "message", "messages"),
                counted(m.members as u64, "member", "members")
            ),
        ),
        entry(
            "wrong",
            format!("{} missing, {} twice, {} out of order", m.missing, m.duplicates, m.order_violations),
        ),
    ];
    if m.rejected > 0 {
        lines.push(entry(
            "refused",
            format!("{}, as the source's queue was full", counted(m.rejected, "message", "messages")),
        ));
    }
    if let Some(it) = m.latency_ms {
        let latency =
            format!("mean {:.1} ms, p50 {:.1}, p99 {:.1}, max {:.1}", it.mean, it.p50, it.p99, it.max);
        lines.push(entry("latency", latency));
    }
    if let Some(it) = m.stretch {
        let stretch =
            format!("mean {:.3}, p99 {:.3}, max {:.3} times the direct way", it.mean, it.p99, it.max);
        lines.push(entry("stretch", stretch));
    }
    if let Some(it) = m.above_floor {
        let places = m.above_best.map(|it| format!("; those are {it:.3} times the best"));
        let places = places.unwrap_or_default();
        lines.push(entry("order", format!("{it:.3} times what the committee's places allow{places}")));
    }
    lines.extend([
        entry(
            "copies",
            format!(
                "RMR {:.4}; {:.1} hops to the last; at most {} by one member",
                m.rmr, m.ldh, m.max_node_sends
            ),
        ),
        entry("crossings", format!("{:.1} between regions, a batch", m.border_crossings)),
        entry(
            "overhead",
            format!(
                "header {:.0} bytes a batch; control {:.1} bytes a message and node",
                m.header_bytes, m.control_bytes
            ),
        ),
        entry("idle", format!("{:.0} bytes/s a node", m.idle_bytes_per_s)),
    ]);
    lines.extend(after_kill(m));
    lines.push(entry(
        "run",
        format!("seed {}, {wall_s:.1} s, trace {}", m.seed, m.trace_hash.get(..16).unwrap_or_default()),
    ));
    lines
}

fn after_kill(measures: &Measures) -> Option<String> {
    let first = measures.first_after_kill_ms?;
    let usual = measures.settled_last_ms.map_or_else(dash, |ms| format!("{ms:.0}"));
    let later = measures.extra_ms.map_or_else(dash, tail);
    Some(entry(
        "kill",
        format!("first message after it: {} ms (last before: {usual}); later by {later} ms", tail(first)),
    ))
}

fn tail(tail: Tail) -> String {
    format!("p50 {:.0}, p99 {:.0}, max {:.0}", tail.p50, tail.p99, tail.max)
}

fn entry(name: &str, text: String) -> String {
    format!("  {name:<10} {text}")
}

fn settled(measures: &Measures) -> String {
    if measures.settled { format!("{:.1} s", measures.settled_s) } else { "not".to_owned() }
}

fn stretch(measures: &Measures) -> String {
    measures.stretch.map_or_else(dash, |it| format!("{:.2}/{:.2}/{:.2}", it.mean, it.p99, it.max))
}

fn dash() -> String {
    "–".to_owned()
}
