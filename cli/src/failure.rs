//! Failures this side of the control socket finds itself, and how a command may stop.

use treecast_node::control::ClientError;
use treecast_node::{Failure, exit};

/// Exit code of an unfinished piece of work that a signal interrupted.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command stops before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It failed.
    Failed(Failure),
    /// Whoever read our stdout has closed it (`| head -1`): nothing to complain about.
    PipeClosed,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        Self::Failed(error.into())
    }
}

/// What was typed cannot be done.
pub(crate) fn usage(what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Failure {
    Failure::new("usage", exit::USAGE, what, why, fix)
}

/// An assumption of ours does not hold.
pub(crate) fn bug(why: impl Into<String>) -> Failure {
    let fix = "Please report it, with the command you typed and what `-vv` prints.";
    Failure::new("bug", exit::BUG, "treecast has hit a bug.", why, fix)
}

/// A signal came before the work was done; `fix` says how to have it done all the same.
pub(crate) fn interrupted(what: impl Into<String>, fix: &str) -> Failure {
    Failure::new("interrupted", INTERRUPTED, what, "A signal asked this command to stop.", fix)
}

/// A node option was typed for a command that uses a node which runs already.
pub(crate) fn attached(option: &str, pid: u32) -> Failure {
    usage(
        format!("{option} cannot be used here."),
        format!("A node runs for this data directory (process {pid}), and this command uses it as it is."),
        format!("Leave {option} out, or stop the node with `treecast down`, or choose another --data-dir."),
    )
}
