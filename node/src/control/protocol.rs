//! What the control socket speaks: one JSON object a line, both ways.
//!
//! The server greets with [`Line::Hello`]. The client sends one [`Request`]; `pub` is
//! followed by [`Feed`] lines. The server answers with [`Line`]s, which *are* the objects
//! that the command line prints with `--json`, and ends with [`Line::Done`] or
//! [`Line::Error`] before it closes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Longest line either side accepts, bytes: a message of 1 MiB, every byte escaped.
pub const MAX_LINE: usize = 8 << 20;

/// What a client asks, one a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Request {
    /// Only the greeting.
    Hello,
    /// One [`Line::Status`].
    Status,
    /// One [`Line::Id`].
    Id,
    /// Take this nick; one [`Line::Id`].
    Nick {
        /// 1 to 32 characters, no control characters.
        name: String,
    },
    /// Stop the node, with goodbyes. [`Line::Done`] comes when they are said; the process
    /// ends a moment later.
    Down,
    /// One [`Line::Peer`] a connected peer.
    Peers {
        /// Only the peers of this group.
        #[serde(default)]
        group: Option<String>,
    },
    /// One [`Line::Tree`] a tree.
    Tree {
        /// Which group.
        group: String,
        /// Go on: all trees again whenever one changes.
        #[serde(default)]
        watch: bool,
    },
    /// `count` [`Line::Ping`]s, one a second.
    Ping {
        /// A node id or a nick.
        node: String,
        /// How many.
        #[serde(default = "one")]
        count: u32,
    },
    /// Publish what the following [`Feed`] lines bring; one [`Line::Receipt`] a message, in order.
    Pub {
        /// Where; an unknown plain name is joined.
        group: String,
        /// What a receipt waits for.
        #[serde(default)]
        wait: Wait,
        /// How long each receipt may take; no bound if absent.
        #[serde(default)]
        timeout_ms: Option<u64>,
    },
    /// Events until the client closes. The first line is [`Line::Joined`].
    Sub {
        /// Where; an unknown plain name is joined.
        group: String,
        /// Also parents, passing gaps, caps that were hit.
        #[serde(default)]
        verbose: bool,
    },
    /// One [`Line::Group`] a group.
    GroupLs,
    /// One [`Line::Group`] with members.
    GroupShow {
        /// Which.
        group: String,
    },
    /// Leave for good; the [`Line::Group`] as it was, with state `left`.
    GroupLeave {
        /// Which.
        group: String,
    },
}

fn one() -> u32 {
    1
}

/// What the client of `pub` sends after its request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Feed {
    /// A message that is text.
    Text(String),
    /// A message of any bytes, base64.
    Data(String),
    /// No more messages: `{"end":true}`.
    End(bool),
}

/// What a receipt of `pub` waits for. On the wire: `"sent"`, `"stored"`, `"all"` or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wait {
    /// A neighbour has taken it.
    #[default]
    Sent,
    /// It is on this node's disk. Not built yet: refused.
    Stored,
    /// So many other members have it.
    Members(usize),
    /// All other members that are online have it.
    All,
}

/// The text is no [`Wait`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `sent`, `stored`, `all` or a number from 1")]
pub struct ParseWaitError;

impl FromStr for Wait {
    type Err = ParseWaitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "sent" => Ok(Self::Sent),
            "stored" => Ok(Self::Stored),
            "all" => Ok(Self::All),
            number => match number.parse() {
                Ok(0) | Err(_) => Err(ParseWaitError),
                Ok(count) => Ok(Self::Members(count)),
            },
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent => f.write_str("sent"),
            Self::Stored => f.write_str("stored"),
            Self::All => f.write_str("all"),
            Self::Members(count) => write!(f, "{count}"),
        }
    }
}

impl Serialize for Wait {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What the server answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Line {
    /// The first line of every connection.
    Hello {
        /// The node that answers.
        node: String,
        /// Its version.
        version: String,
        /// Its process.
        pid: u32,
    },
    /// The node listens. Printed by `up`; not sent on the socket.
    Ready {
        /// The node.
        node: String,
        /// What it calls itself.
        nick: String,
        /// Where it listens.
        addresses: Vec<String>,
    },
    /// How the node is.
    Status(Status),
    /// Who the node is.
    Id {
        /// The node.
        node: String,
        /// What it calls itself.
        nick: String,
    },
    /// A group.
    Group(GroupLine),
    /// `sub` has begun; for the client itself, not one of the printed objects.
    Joined {
        /// The group's name here.
        group: String,
        /// Its id.
        id: String,
        /// This node.
        node: String,
        /// The group has had a neighbour.
        ready: bool,
        /// Who is known to be in it.
        members: Vec<MemberEntry>,
    },
    /// The group has its first neighbour and a place in the tree. For the client itself.
    GroupReady {
        /// Which group.
        group: String,
    },
    /// A message.
    Message(MessageLine),
    /// A member came, went, failed.
    Member {
        /// Which group.
        group: String,
        /// `joined`, `online`, `offline`, `failed`, `left`, `removed`.
        event: String,
        /// Who.
        node: String,
        /// What it calls itself.
        nick: String,
    },
    /// Some events or messages were skipped: the reader was slow, or the node was away too long.
    Lagged {
        /// Which group.
        group: String,
        /// How many.
        missed: u64,
    },
    /// Batches of a source are missing.
    Gap {
        /// Which group.
        group: String,
        /// `lost` (given up); with verbose also `missing` and `repaired`.
        event: String,
        /// Whose.
        source: String,
        /// In which life.
        life: u64,
        /// First missing batch.
        from: u64,
        /// First not missing.
        to: u64,
    },
    /// The group may be cut in two, or is whole again.
    Partition {
        /// Which group.
        group: String,
        /// `suspected` or `healed`.
        event: String,
    },
    /// The node's parent in a tree changed.
    Parent {
        /// Which group.
        group: String,
        /// Which tree.
        tree: String,
        /// The parent before.
        from: Option<String>,
        /// The parent now.
        to: Option<String>,
        /// Why.
        reason: String,
    },
    /// Something was noticed that is worth a line on stderr (a cap that was hit, a fork).
    Notice {
        /// Which group.
        group: String,
        /// A short fixed word: `overloaded`, `forked`.
        code: String,
        /// A sentence.
        what: String,
    },
    /// What `pub` waited for has come.
    Receipt {
        /// The group's name here.
        group: String,
        /// Who published: this node.
        source: String,
        /// In which life.
        life: u64,
        /// In which batch.
        seq: u64,
        /// Which message of the batch.
        n: u32,
        /// Other members that have it, as far as they have said so.
        have: usize,
        /// Other members that are online.
        of: usize,
    },
    /// One message of `pub` was refused; the others go on.
    Refused {
        /// Counted from 1.
        line: u64,
        /// Why, in three parts.
        #[serde(flatten)]
        failure: Failure,
    },
    /// A message of `pub` has had no receipt in time; it stays queued. For the client itself.
    Late {
        /// How many by now.
        count: u64,
    },
    /// A connected peer.
    Peer(PeerLine),
    /// A tree.
    Tree(TreeLine),
    /// All trees were told (after each round of `tree --watch`). For the client itself.
    TreeEnd {
        /// Which group.
        group: String,
    },
    /// A round trip.
    Ping {
        /// To whom.
        node: String,
        /// How long, milliseconds.
        rtt_ms: f64,
        /// `tcp` or `quic`.
        transport: String,
        /// Not through a relay.
        direct: bool,
    },
    /// The end: done.
    Done {
        /// The exit code.
        exit: u8,
    },
    /// The end: failed.
    Error(Failure),
    /// A line this client is too old for.
    #[serde(other)]
    Unknown,
}

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
    /// Its ticket; none for open groups.
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
    /// `show`: what a total-order group has.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub total: Option<TotalEntry>,
}

/// The part of `group show` that only total-order groups fill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TotalEntry {
    /// The committee.
    pub committee: Option<Vec<String>>,
    /// Its epoch.
    pub epoch: Option<u64>,
    /// Its leader.
    pub leader: Option<String>,
    /// The order does not extend.
    pub stalled: bool,
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
    /// `online`, `offline`, `failed`, `left`, `removed`.
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
    /// The author's clock, unix milliseconds; for show.
    pub time: u64,
    /// What, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What, in base64, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
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

impl Line {
    /// The line that is sent, with its newline.
    pub fn to_line(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("a line has string keys only");
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_as_people_would_write_them() {
        let read = |text| serde_json::from_str::<Request>(text).expect("a request");
        assert_eq!(read(r#"{"cmd":"status"}"#), Request::Status);
        assert_eq!(
            read(r#"{"cmd":"group-show","group":"lobby"}"#),
            Request::GroupShow { group: "lobby".into() }
        );
        assert_eq!(
            read(r#"{"cmd":"pub","group":"lobby","wait":"3"}"#),
            Request::Pub { group: "lobby".into(), wait: Wait::Members(3), timeout_ms: None }
        );
        assert!(serde_json::from_str::<Request>(r#"{"cmd":"pub","group":"g","wait":"0"}"#).is_err());
    }

    #[test]
    fn feeds_are_one_key_objects() {
        let read = |text| serde_json::from_str::<Feed>(text).expect("a feed");
        assert_eq!(read(r#"{"text":"hi"}"#), Feed::Text("hi".into()));
        assert_eq!(read(r#"{"data":"/w=="}"#), Feed::Data("/w==".into()));
        assert_eq!(read(r#"{"end":true}"#), Feed::End(true));
    }

    #[test]
    fn lines_are_the_command_lines_objects() {
        let message = Line::Message(MessageLine {
            group: "lobby".into(),
            source: "12D".into(),
            nick: "ada".into(),
            life: 1,
            seq: 2,
            n: 0,
            index: None,
            tentative: false,
            time: 5,
            text: Some("hi".into()),
            data: None,
        });
        let text = String::from_utf8(message.to_line()).expect("JSON is UTF-8");
        assert_eq!(
            text,
            "{\"type\":\"message\",\"group\":\"lobby\",\"source\":\"12D\",\"nick\":\"ada\",\"life\":1,\"seq\":2,\"n\":0,\
             \"index\":null,\"tentative\":false,\"time\":5,\"text\":\"hi\"}\n"
        );
        assert_eq!(serde_json::from_str::<Line>(&text).expect("reads back"), message);
        assert_eq!(
            serde_json::from_str::<Line>(r#"{"type":"later","x":1}"#).expect("unknown"),
            Line::Unknown
        );
    }

    #[test]
    fn an_error_has_its_three_parts() {
        let line = Line::Error(Failure::new("no-node", 3, "what", "why", "fix"));
        let text = String::from_utf8(line.to_line()).expect("JSON is UTF-8");
        assert_eq!(
            text,
            "{\"type\":\"error\",\"code\":\"no-node\",\"what\":\"what\",\"why\":\"why\",\"fix\":\"fix\",\"exit\":3}\n"
        );
    }
}
