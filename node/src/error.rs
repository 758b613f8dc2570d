//! What can fail, an enum an operation, each with its three parts for people.

mod files;
mod no_index;
mod recover;
mod remove;
mod start;

use treecast_overlay::DescriptorError;
use treecast_overlay::wire::ticket::TicketError;

use crate::failure::{Failure, exit};

pub use self::files::{AnnounceError, DropFileError, GetError};
pub use self::no_index::NoIndex;
pub use self::recover::RecoverError;
pub use self::remove::RemoveError;
pub use self::start::StartError;

/// The nick is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a nick has 1 to 32 characters, none of them a control character, and no space at its ends")]
pub struct NickError;

impl From<NickError> for Failure {
    fn from(error: NickError) -> Self {
        Self::new(
            "bad-nick",
            exit::USAGE,
            "The nick was not taken.",
            format!("{error}.").replacen('a', "A", 1),
            "Choose another with `treecast nick NAME`.",
        )
    }
}

/// Why a nick was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetNickError {
    /// It is not allowed.
    #[error(transparent)]
    Nick(#[from] NickError),
    /// It is in use but could not be saved.
    #[error("the nick could not be saved: {0}")]
    NotSaved(String),
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<SetNickError> for Failure {
    fn from(error: SetNickError) -> Self {
        match &error {
            SetNickError::Nick(nick) => nick.clone().into(),
            SetNickError::NotSaved(_) => {
                not_saved("The nick holds only until the node stops.", sentence(&error))
            }
            SetNickError::Stopped(stopped) => stopped.clone().into(),
        }
    }
}

/// What should last was not written.
fn not_saved(what: &str, why: String) -> Failure {
    let fix = "Free some space there or mend its permissions, then say it again.";
    Failure::new("not-saved", exit::USAGE, what, why, fix)
}

/// Checks a nick: 1 to 32 characters, no control characters, no space at its ends.
///
/// # Errors
/// When it is not allowed.
pub fn check_nick(nick: &str) -> Result<(), NickError> {
    let length = nick.chars().count();
    let fine = (1..=32).contains(&length) && !nick.chars().any(is_invisible_control) && nick.trim() == nick;
    if fine { Ok(()) } else { Err(NickError) }
}

/// Control characters, and those that turn the direction of text around them.
fn is_invisible_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Why a group was not entered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The name or descriptor is not allowed.
    #[error(transparent)]
    Descriptor(#[from] DescriptorError),
    /// The text is no ticket, though it begins like one.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// The group asks for what is not built yet.
    #[error("{0} is not built yet")]
    NotBuilt(String),
    /// A place of a total order is named, and the group has none.
    #[error(transparent)]
    NoIndex(#[from] NoIndex),
    /// The group lists its members, and this node is not among them.
    #[error("this node is not on the group's list of members")]
    NotAdmitted,
    /// The node is in as many groups as it may be.
    #[error("this node is in as many groups as it may be ({0})")]
    TooMany(usize),
    /// That the node is in the group could not be saved.
    #[error("the group could not be saved: {0}")]
    NotSaved(String),
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        let (code, status, fix) = match &error {
            JoinError::Descriptor(_) => ("bad-group", exit::USAGE, "Choose another name."),
            JoinError::Ticket(_) => {
                ("bad-ticket", exit::USAGE, "Copy it again, all of it (`treecast invite` makes a new one).")
            }
            JoinError::NotBuilt(_) => {
                ("not-built", exit::USAGE, "Choose what is: `treecast group create --help`.")
            }
            JoinError::NotAdmitted => ("not-admitted", exit::REFUSED, "Ask the founder of the group."),
            JoinError::TooMany(_) => {
                ("too-many-groups", exit::REFUSED, "Leave one with `treecast group leave`.")
            }
            JoinError::NotSaved(_) => return not_saved("The group was not joined.", sentence(&error)),
            JoinError::NoIndex(error) => return error.clone().into(),
            JoinError::Stopped(stopped) => return stopped.clone().into(),
        };
        Self::new(code, status, "The group was not joined.", sentence(&error), fix)
    }
}

/// Why a message was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The core refused it.
    #[error(transparent)]
    Refused(#[from] treecast_overlay::PublishError),
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        use treecast_overlay::PublishError as Core;
        let (code, status, fix) = match &error {
            PublishError::Refused(Core::TooLarge { .. }) => ("too-large", exit::USAGE, "Send it in parts."),
            PublishError::Refused(Core::UnknownGroup | Core::Leaving) => {
                ("not-in-group", exit::NOT_FOUND, "Join the group again.")
            }
            PublishError::Refused(Core::Removed) => (
                "removed",
                exit::REFUSED,
                "Ask its founder; `treecast group leave` takes the group off this node's list.",
            ),
            PublishError::Refused(Core::NotDurable) => (
                "not-durable",
                exit::PARTLY,
                "`treecast status` says why; free some space or mend permissions.",
            ),
            PublishError::Refused(_) => ("refused", exit::REFUSED, "Try again in a moment."),
            PublishError::Stopped(stopped) => return stopped.clone().into(),
        };
        Self::new(code, status, "A message was not published.", sentence(&error), fix)
    }
}

/// Why nobody answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PingError {
    /// No node of that id or nick is known.
    #[error("no node called {0:?} is known here")]
    Unknown(String),
    /// Several nodes have that nick.
    #[error("{count} nodes are called {name:?}")]
    Ambiguous {
        /// The nick.
        name: String,
        /// How many have it.
        count: usize,
    },
    /// There is no way to it, or it does not answer.
    #[error("{0} cannot be reached")]
    Unreachable(String),
    /// It is connected, as it seems, but does not answer.
    #[error("{name} is connected, but has not answered in {} s", patience.as_secs_f64())]
    Silent {
        /// Who.
        name: String,
        /// How long was waited.
        patience: std::time::Duration,
    },
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<PingError> for Failure {
    fn from(error: PingError) -> Self {
        let (code, status, fix) = match &error {
            PingError::Unknown(_) => {
                ("unknown-node", exit::NOT_FOUND, "See `treecast peers` for those that are.")
            }
            PingError::Ambiguous { .. } => {
                ("ambiguous", exit::USAGE, "Give the node's id instead (see `treecast peers`).")
            }
            PingError::Unreachable(_) => {
                ("unreachable", exit::TIMEOUT, "See whether it runs, and whether a firewall lies between.")
            }
            PingError::Silent { .. } => {
                ("silent", exit::TIMEOUT, "See on its machine whether its process is stopped or very busy.")
            }
            PingError::Stopped(stopped) => return stopped.clone().into(),
        };
        Self::new(code, status, "No answer.", sentence(&error), fix)
    }
}

/// No group of this node has that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this node is in no group called {0:?}")]
pub struct UnknownGroup(pub String);

impl From<UnknownGroup> for Failure {
    fn from(error: UnknownGroup) -> Self {
        Self::new(
            "unknown-group",
            exit::NOT_FOUND,
            "The group was not found.",
            sentence(&error),
            "See `treecast group ls` for those it is in; `treecast group join` joins one.",
        )
    }
}

/// Why something was not found out or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// No group of this node has that name.
    #[error(transparent)]
    Unknown(#[from] UnknownGroup),
    /// The group is left, but that could not be saved.
    #[error("that the group is left could not be saved: {0}")]
    NotSaved(String),
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<GroupError> for Failure {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::Unknown(unknown) => unknown.into(),
            GroupError::NotSaved(_) => {
                not_saved("The group is left, but will be back at the node's next start.", sentence(&error))
            }
            GroupError::Stopped(stopped) => stopped.into(),
        }
    }
}

/// Why the history was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// No group of this node has that name.
    #[error(transparent)]
    Unknown(#[from] UnknownGroup),
    /// A place of a total order is named, and the group has none.
    #[error(transparent)]
    NoIndex(#[from] NoIndex),
    /// There is no word to look for.
    #[error("there is no word to look for")]
    EmptyQuery,
    /// The store cannot be read.
    #[error("{0}")]
    Store(String),
    /// That was all that is on disk; what came last could not be written.
    #[error("{0}")]
    Incomplete(String),
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl HistoryError {
    pub(crate) fn of(error: crate::store::SaveError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Self {
        let refused = |code, what, fix| Self::new(code, exit::USAGE, what, sentence(&error), fix);
        match &error {
            HistoryError::EmptyQuery => {
                refused("usage", "Nothing was searched.", "Say what to look for: `treecast search WORDS`.")
            }
            HistoryError::Store(_) => refused(
                "history",
                "The history was not read.",
                "Mend its permissions; if it is damaged, stop the node and put back a copy, or move it away, with the `-wal` \
                 beside it: the identity stays.",
            ),
            HistoryError::Incomplete(_) => Self::new(
                "not-saved",
                exit::PARTLY,
                "Not all that came is in this history.",
                sentence(&error),
                "Free some space there or mend its permissions; the node tries again by itself.",
            ),
            HistoryError::NoIndex(error) => error.clone().into(),
            HistoryError::Unknown(unknown) => unknown.clone().into(),
            HistoryError::Stopped(stopped) => stopped.clone().into(),
        }
    }
}

/// The node has stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the node has stopped")]
pub struct Stopped;

impl From<Stopped> for Failure {
    fn from(_: Stopped) -> Self {
        Self::new(
            "node-gone",
            exit::NO_NODE,
            "The node went away before it had answered.",
            "It is being stopped.",
            "Start it again with `treecast up`.",
        )
    }
}

/// The error's text as a sentence.
fn sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    let first: String = chars.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nicks_are_short_and_visible() {
        assert!(check_nick("ada").is_ok());
        assert!(check_nick("名前 2").is_ok());
        assert!(check_nick(&"é".repeat(32)).is_ok());
        for bad in ["", " ada", "a\nb", "a\u{202e}b", &"x".repeat(33)] {
            assert_eq!(check_nick(bad), Err(NickError), "{bad:?}");
        }
    }

    #[test]
    fn a_second_node_is_told_which_process_is_the_first() {
        let failure = Failure::from(StartError::AlreadyRunning { data_dir: "/d".into(), pid: Some(42) });
        assert_eq!((failure.code.as_str(), failure.exit), ("already-running", 3));
        assert!(failure.why.contains("process 42"), "{}", failure.why);
    }

    #[test]
    fn parts_are_sentences() {
        let failure = Failure::from(UnknownGroup("x".into()));
        assert_eq!(failure.why, "This node is in no group called \"x\".");
        assert_eq!(Failure::from(NickError).why.chars().next(), Some('A'));
    }
}
