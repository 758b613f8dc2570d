//! The page: every metric's name, kind and help. What to make of each is in `docs/metrics.md`.

use std::time::Duration;

use treecast_overlay::io::{CollectionView, FrameCount};

use super::process::Process;
use super::snapshot::{GroupSnapshot, OrderSnapshot, Snapshot};
use super::text::Kind::{Counter, Gauge};
use super::text::{Kind, Page};
use crate::driver::tally::Words;

/// What the driver does not know.
pub(super) struct Around {
    /// How long it took the driver to answer.
    pub(super) waited: Duration,
    /// Size of the data directory's files.
    pub(super) disk_bytes: u64,
    /// Bytes of files that went out.
    pub(super) file_bytes: u64,
    pub(super) process: Process,
}

/// Words that a series stands for from the start, so that the first event is an increase.
const PARENT_REASONS: [&str; 8] =
    ["became_root", "better", "joined", "link_closed", "new_root", "released", "root_lost", "silent"];
const MEMBER_CHANGES: [&str; 6] = ["failed", "joined", "left", "offline", "online", "removed"];
const REJECTIONS: [&str; 2] = ["full", "not_durable"];
const LINK_ENDS: [&str; 12] = [
    "by_peer",
    "by_us",
    "connection",
    "protocol",
    "queue_full",
    "redundant",
    "shutdown",
    "silent",
    "stream",
    "timed_out",
    "unsupported",
    "unused",
];
const TRANSPORTS: [&str; 2] = ["quic", "tcp"];
const DIRECTIONS: [&str; 2] = ["in", "out"];

pub(super) fn write(snapshot: &Snapshot, around: &Around) -> String {
    let mut page = Page::default();
    node(&mut page, snapshot, around);
    connections(&mut page, snapshot);
    frames(&mut page, &snapshot.frames);
    groups(&mut page, snapshot);
    orders(&mut page, snapshot);
    group_events(&mut page, snapshot);
    trees(&mut page, snapshot);
    collections(&mut page, snapshot);
    around.process.write(&mut page);
    page.finish()
}

fn node(page: &mut Page, snapshot: &Snapshot, around: &Around) {
    let version = env!("CARGO_PKG_VERSION");
    page.family("treecast_build_info", Gauge, "What runs. Always 1.").put(&[("version", version)], 1);
    let me = snapshot.node.to_string();
    page.family("treecast_node_info", Gauge, "Who it is. Always 1.").put(&[("node", &me)], 1);
    page.one("treecast_uptime_seconds", Gauge, "Since the node's start.", snapshot.uptime.as_secs_f64());
    let help = "Turns of the loop that everything goes through.";
    page.one("treecast_loop_turns_total", Counter, help, snapshot.tally.turns);
    let help = "How long that loop took to answer this request: how busy it is.";
    page.one("treecast_loop_answer_seconds", Gauge, help, around.waited.as_secs_f64());

    let help = "1 while what should be saved is not, 0 otherwise.";
    page.one("treecast_store_failed", Gauge, help, u8::from(snapshot.store_failed));
    page.one(
        "treecast_store_jobs_total",
        Counter,
        "Writes that the store answered.",
        snapshot.tally.store_jobs,
    );
    let help = "Writes that the store could not make.";
    page.one("treecast_store_errors_total", Counter, help, snapshot.tally.store_errors);
    let help = "Writes that wait for the disk.";
    page.one("treecast_store_jobs_waiting", Gauge, help, snapshot.store_waiting);
    let help = "Size of the files in the data directory.";
    page.one("treecast_data_dir_bytes", Gauge, help, around.disk_bytes);
    let help = "Bytes of files sent to others, their framing not counted.";
    page.one("treecast_file_sent_bytes_total", Counter, help, around.file_bytes);
}

fn connections(page: &mut Page, snapshot: &Snapshot) {
    let tally = &snapshot.tally;
    let mut family = page.family("treecast_peers", Gauge, "Connected peers.");
    for transport in TRANSPORTS {
        family.put(&[("transport", transport)], snapshot.peers.get(transport).unwrap_or(&0));
    }
    let mut family = page.family("treecast_links", Gauge, "Connections that carry treecast's frames.");
    for transport in TRANSPORTS {
        family.put(&[("transport", transport)], snapshot.links.get(transport).unwrap_or(&0));
    }
    let help = "Links that came to stand.";
    page.one("treecast_links_opened_total", Counter, help, tally.links_opened);
    let help = "Links that ended, by why.";
    words(page, "treecast_links_closed_total", help, "reason", &LINK_ENDS, &tally.links_closed);
    let help = "Bytes that wait to leave, on all links.";
    page.one("treecast_link_queue_bytes", Gauge, help, snapshot.queued_bytes);

    let mut family =
        page.family("treecast_connections_opened_total", Counter, "Connections that came to stand.");
    for transport in TRANSPORTS {
        for direction in DIRECTIONS {
            let opened = tally.connections.get(&(transport, direction)).unwrap_or(&0);
            family.put(&[("transport", transport), ("direction", direction)], opened);
        }
    }
    let help = "Connections that ended.";
    words(page, "treecast_connections_closed_total", help, "transport", &TRANSPORTS, &tally.disconnections);
    let (name, help) =
        ("treecast_connections_failed_total", "Attempts at a connection that came to nothing.");
    words(page, name, help, "direction", &DIRECTIONS, &tally.failed_connections);

    if let Some(longest) = snapshot.round_trips.last() {
        let median = snapshot.round_trips[snapshot.round_trips.len() / 2];
        let help = "Smoothed round trip of the links: the median of them.";
        page.one("treecast_link_rtt_median_seconds", Gauge, help, median.as_secs_f64());
        let help = "Smoothed round trip of the links: the longest of them.";
        page.one("treecast_link_rtt_max_seconds", Gauge, help, longest.as_secs_f64());
    }
}

fn frames(page: &mut Page, frames: &[FrameCount]) {
    type Read = fn(&FrameCount) -> u64;
    let families: [(&'static str, &str, Read); 4] = [
        ("treecast_frames_sent_total", "Frames given to links.", |it| it.sent),
        ("treecast_frame_sent_bytes_total", "Bytes of frames given to links.", |it| it.sent_bytes),
        ("treecast_frames_received_total", "Frames that came in.", |it| it.received),
        ("treecast_frame_received_bytes_total", "Bytes of frames that came in.", |it| it.received_bytes),
    ];
    for (name, help, read) in families {
        let mut family = page.family(name, Counter, help);
        for frame in frames {
            family.put(&[("kind", &snake(frame.kind))], read(frame));
        }
    }
}

/// One family with a series for each group.
fn each(
    page: &mut Page,
    snapshot: &Snapshot,
    (name, kind, help): (&'static str, Kind, &str),
    read: impl Fn(&GroupSnapshot) -> f64,
) {
    let mut family = page.family(name, kind, help);
    for (label, group) in &snapshot.groups {
        family.put(&[("group", label)], read(group));
    }
}

fn groups(page: &mut Page, snapshot: &Snapshot) {
    page.one("treecast_groups", Gauge, "Groups that this node is in.", snapshot.groups.len());
    let mut family = page.family("treecast_group_info", Gauge, "What a group is. Always 1.");
    for (label, group) in &snapshot.groups {
        let labels =
            [("group", label.as_str()), ("id", &group.id), ("order", &group.order), ("route", &group.route)];
        family.put(&labels, 1);
    }
    let mut family = page.family("treecast_members", Gauge, "Members that are known, this node among them.");
    for (label, group) in &snapshot.groups {
        let it = &group.counts;
        for (state, count) in [
            ("failed", it.failed),
            ("left", it.left),
            ("offline", it.offline),
            ("online", it.online),
            ("removed", it.removed),
        ] {
            family.put(&[("group", label), ("state", state)], count);
        }
    }
    type Read = fn(&GroupSnapshot) -> f64;
    let families: [(&'static str, Kind, &str, Read); 13] = [
        (
            "treecast_group_ready",
            Gauge,
            "1 once the group has had a neighbour and a place in the tree.",
            |it| f64::from(u8::from(it.counts.ready)),
        ),
        ("treecast_neighbours", Gauge, "Neighbours: the active view.", |it| it.counts.neighbours as f64),
        ("treecast_sources", Gauge, "Lives of sources that are tracked.", |it| it.counts.sources as f64),
        ("treecast_messages_published_total", Counter, "This node's messages that have their place.", |it| {
            it.tally.published as f64
        }),
        (
            "treecast_messages_delivered_total",
            Counter,
            "Messages delivered, this node's own among them.",
            |it| it.tally.delivered as f64,
        ),
        ("treecast_delivered_bytes_total", Counter, "Payload of the messages delivered.", |it| {
            it.tally.delivered_bytes as f64
        }),
        ("treecast_batches_published_total", Counter, "Batches that this node's messages went into.", |it| {
            it.tally.own_batches as f64
        }),
        ("treecast_batches_received_total", Counter, "Batches of others, each once.", |it| {
            it.counts.received as f64
        }),
        ("treecast_batches_duplicate_total", Counter, "Batches that came again.", |it| {
            it.counts.duplicates as f64
        }),
        ("treecast_batches_sent_bytes_total", Counter, "Bytes of batches sent, own and passed on.", |it| {
            it.counts.sent_bytes.batches as f64
        }),
        (
            "treecast_control_sent_bytes_total",
            Counter,
            "Bytes sent for the group in all other frames.",
            |it| it.counts.sent_bytes.control as f64,
        ),
        ("treecast_receipts_waiting", Gauge, "Receipts that somebody waits for.", |it| {
            it.receipts_waiting as f64
        }),
        ("treecast_partition_suspected", Gauge, "1 while the group seems to be cut in two.", |it| {
            f64::from(u8::from(it.partitioned))
        }),
    ];
    for (name, kind, help, read) in families {
        each(page, snapshot, (name, kind, help), read);
    }
}

/// Of groups with a total order only.
fn orders(page: &mut Page, snapshot: &Snapshot) {
    type Read = fn(&OrderSnapshot) -> f64;
    let families: [(&'static str, &str, Read); 3] = [
        ("treecast_order_index", "Messages that have a place in the total order.", |it| it.index as f64),
        ("treecast_order_tentative", "Batches that wait for a place in the total order.", |it| {
            it.tentative as f64
        }),
        ("treecast_order_stalled", "1 while batches have waited for a place for some time.", |it| {
            f64::from(u8::from(it.stalled))
        }),
    ];
    for (name, help, read) in families {
        let mut family = page.family(name, Gauge, help);
        for (label, group) in &snapshot.groups {
            if let Some(order) = &group.order_now {
                family.put(&[("group", label)], read(order));
            }
        }
    }
}

fn group_events(page: &mut Page, snapshot: &Snapshot) {
    type Read = fn(&GroupSnapshot) -> f64;
    let families: [(&'static str, Kind, &str, Read); 6] = [
        (
            "treecast_batches_missing_total",
            Counter,
            "Batches that were missing although later ones were known.",
            |it| it.tally.missing as f64,
        ),
        ("treecast_batches_repaired_total", Counter, "Missing batches that came after all.", |it| {
            it.tally.repaired as f64
        }),
        (
            "treecast_batches_lost_total",
            Counter,
            "Missing batches that were given up: nobody has them.",
            |it| it.tally.lost as f64,
        ),
        (
            "treecast_batches_lagged_total",
            Counter,
            "Batches skipped: this node was away for too long.",
            |it| it.tally.lagged as f64,
        ),
        (
            "treecast_events_dropped_total",
            Counter,
            "Messages and events that slow subscribers missed.",
            |it| it.events_dropped as f64,
        ),
        ("treecast_forks_total", Counter, "Sources that were caught signing two histories.", |it| {
            it.tally.forks as f64
        }),
    ];
    for (name, kind, help, read) in families {
        each(page, snapshot, (name, kind, help), read);
    }
    let (name, help) = ("treecast_messages_rejected_total", "Messages that were not taken, by why.");
    each_by_word(page, snapshot, (name, help), ("reason", &REJECTIONS), |it| &it.tally.rejected);
    let (name, help) = ("treecast_overloads_total", "Caps that were hit, by cap.");
    each_by_word(page, snapshot, (name, help), ("cap", &[]), |it| &it.tally.overloads);
    let (name, help) = ("treecast_parent_changes_total", "Changes of place in the tree, by why.");
    each_by_word(page, snapshot, (name, help), ("reason", &PARENT_REASONS), |it| &it.tally.parent_changes);
    let (name, help) = ("treecast_member_changes_total", "What happened to members.");
    each_by_word(page, snapshot, (name, help), ("change", &MEMBER_CHANGES), |it| &it.tally.member_changes);
}

/// One counter with a series for each group and word.
fn each_by_word(
    page: &mut Page,
    snapshot: &Snapshot,
    (name, help): (&'static str, &str),
    (label, from_start): (&str, &[&'static str]),
    read: impl Fn(&GroupSnapshot) -> &Words,
) {
    let mut family = page.family(name, Counter, help);
    for (group, it) in &snapshot.groups {
        for (word, count) in with_zeros(from_start, read(it)) {
            family.put(&[("group", group), (label, word)], count);
        }
    }
}

fn trees(page: &mut Page, snapshot: &Snapshot) {
    type Read = fn(&treecast_overlay::io::TreeView) -> f64;
    let families: [(&'static str, &str, Read); 6] = [
        ("treecast_tree_root", "1 if this node is the root of the group's tree.", |it| {
            f64::from(u8::from(it.depth == 0 && it.parent.is_none()))
        }),
        ("treecast_tree_parents", "1 if this node has a parent.", |it| {
            f64::from(u8::from(it.parent.is_some()))
        }),
        ("treecast_tree_children", "Nodes that batches are passed to.", |it| it.children.len() as f64),
        ("treecast_tree_backups", "Nodes that could be the parent at once.", |it| it.backups.len() as f64),
        ("treecast_tree_depth", "Hops from the root, as the parent reports them.", |it| it.depth as f64),
        ("treecast_tree_delay_seconds", "Way from the root or the core, as the parent reports it.", |it| {
            it.delay.as_secs_f64()
        }),
    ];
    for (name, help, read) in families {
        let mut family = page.family(name, Gauge, help);
        for (label, group) in &snapshot.groups {
            if let Some(tree) = &group.tree {
                family.put(&[("group", label)], read(tree));
            }
        }
    }
}

/// What bounded collections hold, and their caps: entries or bytes, whichever is what is bounded.
fn collections(page: &mut Page, snapshot: &Snapshot) {
    type Read = fn(&CollectionView) -> Option<usize>;
    let parts: [(&'static str, &'static str, &str, Read); 4] = [
        ("treecast_collection_entries", "treecast_group_collection_entries", "Entries held.", |it| {
            Some(it.len)
        }),
        (
            "treecast_collection_cap_entries",
            "treecast_group_collection_cap_entries",
            "Entries that fit.",
            |it| Some(it.cap).filter(|_| !is_in_bytes(it) && it.name != NO_CAP),
        ),
        (
            "treecast_collection_bytes",
            "treecast_group_collection_bytes",
            "Bytes held, where bytes are bounded.",
            |it| Some(it.bytes).filter(|_| is_in_bytes(it)),
        ),
        ("treecast_collection_cap_bytes", "treecast_group_collection_cap_bytes", "Bytes that fit.", |it| {
            Some(it.cap).filter(|_| is_in_bytes(it))
        }),
    ];
    for (of_node, _, help, read) in parts {
        let mut family = page.family(of_node, Gauge, help);
        for it in &snapshot.collections {
            if let Some(value) = read(it) {
                family.put(&[("collection", &it.name)], value);
            }
        }
    }
    for (_, of_group, help, read) in parts {
        let mut family = page.family(of_group, Gauge, help);
        for (label, group) in &snapshot.groups {
            for it in &group.collections {
                if let Some(value) = read(it) {
                    family.put(&[("group", label), ("collection", &it.name)], value);
                }
            }
        }
    }
}

/// As many as were named by hand: nothing that could fill up.
const NO_CAP: &str = "node/redials";

/// Whether the cap is in bytes. A view does not say so while it is empty.
fn is_in_bytes(view: &CollectionView) -> bool {
    view.bytes > 0
        || view.name.ends_with("_bytes")
        || matches!(view.name.as_str(), "node/event_queues" | "node/publish_waiting")
}

fn words(
    page: &mut Page,
    name: &'static str,
    help: &str,
    label: &str,
    from_start: &[&'static str],
    counts: &Words,
) {
    let mut family = page.family(name, Counter, help);
    for (word, count) in with_zeros(from_start, counts) {
        family.put(&[(label, word)], count);
    }
}

fn with_zeros(from_start: &[&'static str], counts: &Words) -> Words {
    let mut all: Words = from_start.iter().map(|word| (*word, 0)).collect();
    all.extend(counts);
    all
}

/// `RosterDigest` → `roster_digest`.
fn snake(camel: &str) -> String {
    let mut snake = String::with_capacity(camel.len() + 2);
    for (at, c) in camel.char_indices() {
        if c.is_ascii_uppercase() && at > 0 {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}
