//! Why a member was not removed.

use super::{Stopped, UnknownGroup, not_saved, sentence};
use crate::failure::{Failure, exit};

/// Why a member was not removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// There is no such group here.
    #[error(transparent)]
    UnknownGroup(#[from] UnknownGroup),
    /// The group has no founder.
    #[error("{0} is an open group: it has no founder, and nobody can remove members")]
    NoFounder(String),
    /// Another node is its founder.
    #[error("only the founder of a group removes members; that of {group} is {founder}")]
    NotFounder {
        /// Which group.
        group: String,
        /// Its founder's nick or id.
        founder: String,
    },
    /// This node is not in it any more.
    #[error("this node was removed from {0} itself, or is leaving it")]
    Gone(String),
    /// The founder cannot remove itself.
    #[error("the founder of a group cannot be removed")]
    Founder,
    /// No member has that id or nick.
    #[error("no member of {group} is called {name:?}")]
    UnknownMember {
        /// Whom.
        name: String,
        /// From where.
        group: String,
    },
    /// It begins like an id.
    #[error("{0:?} begins like a node's id, but is none")]
    BadNode(String),
    /// Several members have that nick.
    #[error("{count} members are called {name:?}")]
    Ambiguous {
        /// The nick.
        name: String,
        /// How many have it.
        count: usize,
    },
    /// As many were removed as may be.
    #[error("as many members were removed as may be ({0})")]
    Full(usize),
    /// It could not be written.
    #[error("the removal could not be saved: {0}")]
    NotSaved(String),
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<RemoveError> for Failure {
    fn from(error: RemoveError) -> Self {
        let what = "Nobody was removed.";
        let (code, status, fix) = match &error {
            RemoveError::UnknownGroup(unknown) => {
                return Self { what: what.to_owned(), ..unknown.clone().into() };
            }
            RemoveError::Stopped(stopped) => return stopped.clone().into(),
            RemoveError::NotSaved(_) => return not_saved(what, sentence(&error)),
            RemoveError::NoFounder(_) => (
                "no-founder",
                exit::REFUSED,
                "Make a group with `treecast group create`, and invite those that are to be in it.",
            ),
            RemoveError::NotFounder { .. } => ("not-founder", exit::REFUSED, "Ask the founder."),
            RemoveError::Gone(_) => ("not-in-group", exit::REFUSED, "See `treecast group ls`."),
            RemoveError::Founder => {
                ("founder", exit::USAGE, "`treecast group leave` leaves the group to the others.")
            }
            RemoveError::UnknownMember { .. } => {
                ("unknown-node", exit::NOT_FOUND, "`treecast group show` lists the members and their ids.")
            }
            RemoveError::BadNode(_) => {
                ("usage", exit::USAGE, "Copy it again, all of it: `treecast group show` lists the members.")
            }
            RemoveError::Ambiguous { .. } => {
                ("ambiguous", exit::USAGE, "Give the node's id instead: `treecast group show --json` has it.")
            }
            RemoveError::Full(_) => {
                ("too-many-removals", exit::REFUSED, "Create a new group, and invite the others.")
            }
        };
        Self::new(code, status, what, sentence(&error), fix)
    }
}
