//! What an experiment came to.

use serde::Serialize;

use crate::sim::meter::Stats;

/// What an experiment came to. Its fields are the keys of `treecast sim --json`.
///
/// Bytes are those of frames, without what transports add. A message is *owed* to every member that
/// started at least 2 s before it was published and survives; under churn, to every member that
/// lives 10 s longer at least. The source's own delivery counts.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Measures {
    /// Of everything that was drawn.
    pub seed: u64,
    /// Members at the start.
    pub nodes: usize,
    /// Members at the end.
    pub members: usize,
    /// Messages published.
    pub messages: usize,
    /// Messages that the source's engine refused, its queue being full.
    pub rejected: u64,
    /// Deliveries that were owed and made.
    pub deliveries: u64,
    /// Deliveries owed.
    pub owed: u64,
    /// Deliveries owed and not made.
    pub missing: u64,
    /// Deliveries of what was delivered there before.
    pub duplicates: u64,
    /// Deliveries before what must come before them, by the group's order.
    pub order_violations: u64,
    /// When the group had settled, seconds from the start; 120 if it had not by then.
    pub settled_s: f64,
    /// Whether it had.
    pub settled: bool,
    /// Delay through the overlay ÷ direct delay; the mean over messages.
    pub stretch: Option<Stretch>,
    /// In a total order: the mean delivery ÷ what the places of leader and committee allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above_floor: Option<f64>,
    /// In a total order: what the places of leader and committee allow, 60 s after the start or at the end, ÷ what
    /// the best places would; for messages of any member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above_best: Option<f64>,
    /// Relative message redundancy: batches received ÷ batches received for the first time − 1.
    pub rmr: f64,
    /// Hops of the farthest first reception; the mean over batches.
    pub ldh: f64,
    /// Bytes of a batch's frame that are no payload; the mean over batches.
    pub header_bytes: f64,
    /// Bytes of all frames without a batch, per message and member, in the span.
    pub control_bytes: f64,
    /// Bytes of all frames, per member and second, while nobody published.
    pub idle_bytes_per_s: f64,
    /// Copies that went from one region into another; the mean over batches.
    pub border_crossings: f64,
    /// The most copies of one batch that one member sent.
    pub max_node_sends: u16,
    /// From the publishing to the delivery at the other members to which it is owed.
    pub latency_ms: Option<Times>,
    /// How long the source that is judged took to reach its last member, before the kill: the
    /// mean over its last 5 messages that had come to all by then.
    pub settled_last_ms: Option<f64>,
    /// From the publishing of the first message after the kill, 20 ms later, to each survivor.
    pub first_after_kill_ms: Option<Tail>,
    /// By how much that was later than the same survivor's mean before the kill, over those that
    /// got it more than 1 ms later. Zeros if there is none.
    pub extra_ms: Option<Tail>,
    /// [`Measures::rmr`] of the messages after the kill.
    pub rmr_after_kill: Option<f64>,
    /// BLAKE3 over all that the engines took and told.
    pub trace_hash: String,
}

/// Ratios of a statistic over members, through the overlay and directly: one way from the source
/// to the member and its processing, the source's uplink being infinitely wide.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Stretch {
    /// Of the means.
    pub mean: f64,
    /// Of the 99th percentiles.
    pub p99: f64,
    /// Of the maxima.
    pub max: f64,
}

/// Times, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Times {
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Maximum.
    pub max: f64,
}

impl Times {
    pub(super) fn of(stats: &Stats) -> Self {
        let ms = |us: f64| round(us / 1_000.0, 3);
        Self { mean: ms(stats.mean), p50: ms(stats.p50), p99: ms(stats.p99), max: ms(stats.max) }
    }
}

/// Times without their mean, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Tail {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Maximum.
    pub max: f64,
}

impl Tail {
    pub(super) fn of(mut micros: Vec<u32>) -> Self {
        let Some(stats) = Stats::of(&mut micros) else { return Self::default() };
        let Times { p50, p99, max, .. } = Times::of(&stats);
        Self { p50, p99, max }
    }
}

/// To so many decimals.
pub(super) fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}
