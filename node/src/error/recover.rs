//! Why a group was not recovered.

use super::{JoinError, Stopped, UnknownGroup, sentence};
use crate::failure::{Failure, exit};

/// Why a group was not recovered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// There is no such group here.
    #[error(transparent)]
    UnknownGroup(#[from] UnknownGroup),
    /// It has no total order.
    #[error("{group} has no committee that could be lost: its order is {order}")]
    NotTotal {
        /// Which group.
        group: String,
        /// Its order.
        order: treecast_overlay::Order,
    },
    /// Another node is its founder.
    #[error("only the founder of a group recovers it; that of {group} is {founder}")]
    NotFounder {
        /// Which group.
        group: String,
        /// Its founder's nick or id.
        founder: String,
    },
    /// Nothing was heard of its order here, so there is nothing to go on from.
    #[error("this node knows of no committee of {0}: nothing was heard of its order yet")]
    Unfounded(String),
    /// A majority of the committee is there.
    #[error("{live} of the {seats} in the committee of {group} are online: its order goes on by itself")]
    GoesOn {
        /// Which group.
        group: String,
        /// Members of its committee that are online.
        live: usize,
        /// Members of its committee.
        seats: usize,
    },
    /// The group that is to follow could not be entered.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<RecoverError> for Failure {
    fn from(error: RecoverError) -> Self {
        let what = "The group was not recovered.";
        let (code, status, fix) = match &error {
            RecoverError::UnknownGroup(unknown) => {
                return Self { what: what.to_owned(), ..unknown.clone().into() };
            }
            RecoverError::Join(join) => return Self { what: what.to_owned(), ..join.clone().into() },
            RecoverError::Stopped(stopped) => return stopped.clone().into(),
            RecoverError::NotTotal { .. } => {
                ("no-committee", exit::REFUSED, "Nothing is to be done: it needs no committee to go on.")
            }
            RecoverError::NotFounder { .. } => ("not-founder", exit::REFUSED, "Ask the founder."),
            RecoverError::Unfounded(_) => (
                "no-order",
                exit::REFUSED,
                "Reach a member that knows of it, or make a new group with `treecast group create`.",
            ),
            RecoverError::GoesOn { .. } => {
                ("not-lost", exit::REFUSED, "`treecast group show` tells what it waits for, if it does.")
            }
        };
        Self::new(code, status, what, sentence(&error), fix)
    }
}
