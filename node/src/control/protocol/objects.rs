//! The larger of the objects that are printed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::request::Retain;

/// How the node is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The node.
    pub node: String,
    /// What it calls itself.
    pub nick: String,
    /// Seconds since its start.
    pub uptime_s: u64,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// Connected peers.
    pub peers: usize,
    /// Names of its groups.
    pub groups: Vec<String>,
    /// How full each bounded collection is.
    pub collections: BTreeMap<String, Collection>,
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Its data directory.
    pub data_dir: String,
    /// mDNS is on.
    pub mdns: bool,
    /// What came of multicast; none without mDNS.
    #[serde(default)]
    pub multicast: Option<MulticastEntry>,
    /// Kademlia is on.
    #[serde(default)]
    pub kad: bool,
    /// Why what should be remembered is not saved, if that is how it is.
    #[serde(default)]
    pub store_failure: Option<String>,
    /// Where another node runs with this one's identity, as was heard lately; absent if none does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub same_identity: Vec<String>,
    /// Where it serves metrics; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
}

/// Whether mDNS comes through.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MulticastEntry {
    /// This machine's interfaces, by address, and how many seconds ago the node's own multicast was
    /// heard there; none if not in the last minute.
    pub own: BTreeMap<String, Option<u64>>,
    /// Other hosts whose mDNS was heard in the last minute.
    pub others: usize,
}

/// How full a bounded collection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// Entries.
    pub len: usize,
    /// Payload bytes, where they are what is bounded.
    pub bytes: usize,
    /// The cap.
    pub cap: usize,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupLine {
    /// Its name here.
    pub name: String,
    /// Its id.
    pub id: String,
    /// A ticket with where members are now; none for open groups, whose name is enough.
    pub ticket: Option<String>,
    /// Its order.
    pub order: String,
    /// Its route.
    pub route: String,
    /// Its founder; none for open groups.
    pub founder: Option<String>,
    /// How many are known to be in it and have not left; in `show`, who.
    pub members: Members,
    /// `ready`, `waiting` (no neighbour found yet), `left`.
    pub state: String,
    /// Who may join: `open` (whoever knows the name), `ticket` (whoever has one), `members` (these only).
    #[serde(default)]
    pub admission: String,
    /// What its members keep at least; absent if nothing is said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain: Option<Retain>,
    /// How it goes with members whose addresses are known, from a ticket or from before.
    #[serde(default)]
    pub contacts: Contacts,
    /// `show`: what a total-order group has; nulls in others.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub total: Option<TotalEntry>,
}

/// The part of `group show` that only total-order groups fill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TotalEntry {
    /// The committee.
    pub committee: Option<Vec<String>>,
    /// Its epoch; 0 before anything was heard of the order.
    pub epoch: Option<u64>,
    /// Its leader, where this node is in the committee.
    pub leader: Option<String>,
    /// Why messages have waited for their places for some time, if they have.
    pub stalled: Option<String>,
    /// Messages that have a place here.
    #[serde(default)]
    pub index: Option<u64>,
    /// Batches that wait for one.
    #[serde(default)]
    pub tentative: Option<usize>,
}

/// How the last attempts to reach some members went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Contacts {
    /// How many there are.
    pub known: usize,
    /// They answered.
    pub answered: usize,
    /// Their machines answered that nobody listens there.
    pub refused: usize,
    /// Nothing came back, or not yet.
    pub timed_out: usize,
    /// Somebody else answers there, or no way leads there.
    pub failed: usize,
}

/// A count, or everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Members {
    /// How many.
    Count(usize),
    /// Who.
    List(Vec<MemberEntry>),
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberEntry {
    /// Who.
    pub node: String,
    /// What it calls itself.
    pub nick: String,
    /// `online`, `offline`, `failed`, `left`, `removed`. A member of a static group that was never seen is `offline`.
    pub state: String,
    /// What was delivered here of it: `life:next seq` for each life.
    #[serde(default)]
    pub frontier: BTreeMap<String, u64>,
    /// It is a neighbour in the overlay.
    #[serde(default)]
    pub neighbour: bool,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageLine {
    /// The group's name here.
    pub group: String,
    /// Who published it.
    pub source: String,
    /// What that calls itself.
    pub nick: String,
    /// In which life.
    pub life: u64,
    /// In which batch.
    pub seq: u64,
    /// Which message of the batch.
    pub n: u32,
    /// Its place in the total order; none elsewhere.
    pub index: Option<u64>,
    /// Shown before its order is settled.
    pub tentative: bool,
    /// Its place is behind the one from which on the group's founder went on in another.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forked: bool,
    /// The author's clock, unix milliseconds; for show.
    pub time: u64,
    /// What, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What, in base64, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The file that it announces, if it does; the command line prints it as a file then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<super::Announced>,
    /// The file that its source announced and does not have any more, if it says so; as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<super::Ended>,
}

/// A connected peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerLine {
    /// Who.
    pub node: String,
    /// What it calls itself; empty if not known.
    pub nick: String,
    /// Where it can be reached.
    pub addresses: Vec<String>,
    /// `tcp` or `quic`.
    pub transport: String,
    /// Not through a relay.
    pub direct: bool,
    /// Round trip, milliseconds; none before the first ping.
    pub rtt_ms: Option<f64>,
    /// Names of the groups it shares with this node.
    pub groups: Vec<String>,
}

/// One tree, as this node sees it. `reported` and `measured` name the fields that others
/// told and those that were seen here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TreeLine {
    /// The group's name here.
    pub group: String,
    /// `core:ID` or `source:ID`.
    pub tree: String,
    /// Its root.
    pub root: String,
    /// Whom batches come from.
    pub parent: Option<String>,
    /// Ranked candidates.
    pub backups: Vec<String>,
    /// Whom batches go to.
    pub children: Vec<String>,
    /// Hops from the root.
    pub depth: usize,
    /// Path latency from the root, milliseconds.
    pub delay_ms: f64,
    /// Batches received again for each received first; none before the first.
    pub rmr: Option<f64>,
    /// How old the parent's report is, milliseconds.
    pub age_ms: u64,
    /// Round trip to the parent, milliseconds.
    pub parent_rtt_ms: Option<f64>,
    /// Fields that rest on the parent's report.
    pub reported: Vec<String>,
    /// Fields that were measured here.
    pub measured: Vec<String>,
    /// Nicks of the nodes named above, where known.
    pub nicks: BTreeMap<String, String>,
}
