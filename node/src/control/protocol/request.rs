//! What clients send.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a client asks, one a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Request {
    /// Only the greeting.
    Hello,
    /// One [`Line::Status`](super::Line::Status).
    Status,
    /// One [`Line::Id`](super::Line::Id).
    Id,
    /// Take this nick; one [`Line::Id`](super::Line::Id).
    Nick {
        /// 1 to 32 characters, no control characters.
        name: String,
    },
    /// Stop the node, with goodbyes. [`Line::Done`](super::Line::Done) comes when they are said; the process
    /// ends a moment later.
    Down,
    /// One [`Line::Peer`](super::Line::Peer) a connected peer.
    Peers {
        /// Only the peers of this group.
        #[serde(default)]
        group: Option<String>,
    },
    /// One [`Line::Tree`](super::Line::Tree) a tree.
    Tree {
        /// Which group.
        group: String,
        /// Go on: all trees again whenever one changes.
        #[serde(default)]
        watch: bool,
    },
    /// `count` [`Line::Ping`](super::Line::Ping)s, one a second.
    Ping {
        /// A node id or a nick.
        node: String,
        /// How many.
        #[serde(default = "one")]
        count: u32,
    },
    /// Publish what the following [`Feed`] lines bring; one [`Line::Receipt`](super::Line::Receipt) a message, in order.
    Pub {
        /// Where; an unknown plain name is joined.
        group: String,
        /// What a receipt waits for.
        #[serde(default)]
        wait: Wait,
        /// How long each receipt may take; no bound if absent.
        #[serde(default)]
        timeout_ms: Option<u64>,
        /// Also a [`Line::Placed`](super::Line::Placed) a message, and [`Line::Held`](super::Line::Held) as it
        /// spreads.
        #[serde(default)]
        follow: bool,
    },
    /// One [`Line::Lacking`](super::Line::Lacking).
    Lacking {
        /// In which group.
        group: String,
        /// In which life of the node…
        life: u64,
        /// …and in which batch.
        seq: u64,
    },
    /// Events until the client closes. The first line is [`Line::Joined`](super::Line::Joined).
    Sub {
        /// Where; an unknown plain name is joined.
        group: String,
        /// Also parents, passing gaps, caps that were hit.
        #[serde(default)]
        verbose: bool,
        /// Where to begin.
        #[serde(default)]
        since: Start,
        /// In a total order, also messages that have no place yet; they come again when they have.
        #[serde(default)]
        tentative: bool,
    },
    /// What is kept of a group, a [`Line::Message`](super::Line::Message) each, oldest first.
    History {
        /// Which group.
        group: String,
        /// Only the last so many.
        #[serde(default)]
        limit: Option<u64>,
        /// From where on; all that is kept if absent.
        #[serde(default)]
        since: Option<Start>,
        /// Only what stands before this message, and a `limit` of that.
        #[serde(default)]
        before: Option<Place>,
    },
    /// What of that has all words of a query, in all groups or one, oldest first.
    Search {
        /// Words, or parts of them.
        query: String,
        /// Only in this group.
        #[serde(default)]
        group: Option<String>,
    },
    /// One [`Line::Group`](super::Line::Group) a group.
    GroupLs,
    /// One [`Line::Group`](super::Line::Group) with members.
    GroupShow {
        /// Which.
        group: String,
    },
    /// Make a group and be in it; its [`Line::Group`](super::Line::Group) once it is saved.
    GroupCreate(CreateGroup),
    /// Be in a group from now on; its [`Line::Group`](super::Line::Group) once that is saved.
    GroupJoin {
        /// A ticket, or the name of an open group.
        group: String,
    },
    /// One [`Line::Ticket`](super::Line::Ticket).
    Invite {
        /// To which group.
        group: String,
    },
    /// Remove a member, as the founder; the [`Line::Group`](super::Line::Group) with members once that is
    /// saved.
    GroupRemove {
        /// From which group.
        group: String,
        /// Whom: a node id, or a member's nick.
        node: String,
    },
    /// Announce a file or folder; its [`Line::File`](super::Line::File) once that is saved.
    FileAnnounce {
        /// Where it lies, from the root.
        path: String,
        /// In which group.
        group: String,
    },
    /// One [`Line::File`](super::Line::File) for each that was announced, oldest first.
    FileLs {
        /// Only in this group.
        #[serde(default)]
        group: Option<String>,
    },
    /// Fetch a file for as long as the client listens: [`Line::Progress`](super::Line::Progress) about once a
    /// second, its [`Line::File`](super::Line::File) in the end.
    FileGet(GetRequest),
    /// Serve a file no longer; its [`Line::File`](super::Line::File).
    FileRm {
        /// Its hash, the beginning of that, or its name.
        what: String,
    },
    /// Go on with a group whose committee is lost, as its founder, in another that follows it; that one's
    /// [`Line::Group`](super::Line::Group) once it is saved.
    GroupRecover {
        /// Which group.
        group: String,
    },
    /// Leave for good; the [`Line::Group`](super::Line::Group) as it was, with state `left`.
    GroupLeave {
        /// Which.
        group: String,
    },
}

/// What is to be fetched, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GetRequest {
    /// A name, a hash, or the beginning of one.
    pub what: String,
    /// A path from the root, or a folder to put it in.
    pub out: String,
    /// `resume`, `rename`, `overwrite`, `fail`; the first if absent.
    #[serde(default)]
    pub on_conflict: Option<String>,
    /// If nobody has it, wait for somebody.
    #[serde(default)]
    pub wait: bool,
}

/// What a new group is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CreateGroup {
    /// 1 to 64 characters.
    pub name: String,
    /// `unordered`, `fifo`, `causal`, `total`; that if absent.
    #[serde(default)]
    pub order: Option<String>,
    /// `tree:shared`, `tree:source`, `tree:auto`; that if absent.
    #[serde(default)]
    pub route: Option<String>,
    /// What its members keep at least.
    #[serde(default)]
    pub retain: Retain,
    /// `any` or `named`; the first if absent.
    #[serde(default)]
    pub committee: Option<String>,
    /// A static group: these nodes, by id or nick, and the founder.
    #[serde(default)]
    pub members: Vec<String>,
}

/// What a group's members keep at least. Bounds that are given hold together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Retain {
    /// Seconds.
    pub age_s: Option<u64>,
    /// Payload bytes.
    pub bytes: Option<u64>,
    /// Messages.
    pub count: Option<u64>,
}

/// Names a message of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Who published it.
    pub source: String,
    /// In which life.
    pub life: u64,
    /// In which batch.
    pub seq: u64,
    /// Its number in that.
    pub n: u32,
}

/// From where on messages are wanted. On the wire: `"now"`, `"start"`, `{"last-ms":60000}`, `{"index":5}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// What comes from now on.
    #[default]
    Now,
    /// All that is kept.
    Start,
    /// What came here in so many milliseconds.
    LastMs(u64),
    /// From this place of a total order on.
    Index(u64),
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
    /// It is on this node's disk, and will go out whatever happens.
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
            Request::Pub { group: "lobby".into(), wait: Wait::Members(3), timeout_ms: None, follow: false }
        );
        assert!(serde_json::from_str::<Request>(r#"{"cmd":"pub","group":"g","wait":"0"}"#).is_err());
        let create = CreateGroup { name: "g".into(), order: Some("fifo".into()), ..CreateGroup::default() };
        let text = r#"{"cmd":"group-create","name":"g","order":"fifo"}"#;
        assert_eq!(read(text), Request::GroupCreate(create));
    }

    #[test]
    fn feeds_are_one_key_objects() {
        let read = |text| serde_json::from_str::<Feed>(text).expect("a feed");
        assert_eq!(read(r#"{"text":"hi"}"#), Feed::Text("hi".into()));
        assert_eq!(read(r#"{"data":"/w=="}"#), Feed::Data("/w==".into()));
        assert_eq!(read(r#"{"end":true}"#), Feed::End(true));
    }
}
