//! What the control socket speaks: one JSON object a line, both ways.
//!
//! The server greets with [`Line::Hello`]. The client sends one [`Request`]; `pub` is
//! followed by [`Feed`] lines. The server answers with [`Line`]s, which *are* the objects
//! that the command line prints with `--json`, and ends with [`Line::Done`] or
//! [`Line::Error`] before it closes.

mod files;
mod objects;
mod request;

use serde::{Deserialize, Serialize};

pub use self::files::{
    Announced, Ended, FileEndedLine, FileLine, FilePlace, FileSpread, FormerLine, ProgressLine,
};
pub use self::objects::{
    Collection, Contacts, GroupLine, MemberEntry, Members, MessageLine, MulticastEntry, PeerLine, Status,
    TotalEntry, TreeLine,
};
pub use self::request::{CreateGroup, Feed, GetRequest, ParseWaitError, Place, Request, Retain, Start, Wait};
use crate::failure::Failure;

/// Longest line either side accepts, bytes: a message of 1 MiB, every byte escaped.
pub const MAX_LINE: usize = 8 << 20;

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
        /// Where it serves metrics; absent if it does not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        metrics: Option<String>,
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
    Group(Box<GroupLine>),
    /// How others can join a group now.
    Ticket {
        /// The group's name here.
        group: String,
        /// The ticket.
        ticket: String,
    },
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
    /// A total order stands still, or goes on.
    Order {
        /// Which group.
        group: String,
        /// `stalled` or `resumed`.
        event: String,
        /// Why it stands still.
        reason: Option<String>,
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
    /// A message of `pub` has its place, and is on disk. For the client itself, if it follows.
    Placed {
        /// Which message, counted from 1.
        line: u64,
        /// In which life.
        life: u64,
        /// In which batch.
        seq: u64,
    },
    /// So many others have a batch, and all before it of its life. For the client itself, if it follows.
    Held {
        /// In which life.
        life: u64,
        /// Which batch.
        seq: u64,
        /// Other members that have it.
        have: usize,
        /// Other members that are online.
        of: usize,
    },
    /// Who did not say that it has a batch. For the client itself.
    Lacking {
        /// Members that did not leave.
        members: Vec<MemberEntry>,
    },
    /// A message of `pub` has had no receipt in time; it stays queued. For the client itself.
    Late {
        /// How many by now.
        count: u64,
    },
    /// A file.
    File(Box<FileLine>),
    /// A file is not to be had any more from who announced it: what the command line makes of such a message.
    FileEnded(Box<FileEndedLine>),
    /// How `file get` goes, about once a second.
    Progress(ProgressLine),
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
            forked: false,
            time: 5,
            text: Some("hi".into()),
            data: None,
            file: None,
            ended: None,
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
