//! What went wrong, why, and what mends it: the three parts every error has.

use std::fmt;

use serde_json::{Value, json};

/// How a command ends, as the contract numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All done; a stop by SIGINT or SIGTERM of what runs until stopped.
    Done,
    /// A bug in treecast.
    Bug,
    /// What was typed cannot be done.
    Usage,
    /// No running node, or it went away.
    NoNode,
    /// Nobody reachable, or not in time.
    Unreachable,
    /// No such group or node.
    NotFound,
    /// Somebody's rules forbid it.
    Refused,
    /// Another number, as the node gave it.
    Other(u8),
    /// A piece of work was interrupted before it was done.
    Interrupted,
}

impl Exit {
    /// The process's exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Bug => 1,
            Self::Usage => 2,
            Self::NoNode => 3,
            Self::Unreachable => 4,
            Self::NotFound => 5,
            Self::Refused => 6,
            Self::Other(code) => code,
            Self::Interrupted => 130,
        }
    }

    /// The exit of this number.
    pub(crate) fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Done,
            1 => Self::Bug,
            2 => Self::Usage,
            3 => Self::NoNode,
            4 => Self::Unreachable,
            5 => Self::NotFound,
            6 => Self::Refused,
            130 => Self::Interrupted,
            other => Self::Other(other),
        }
    }
}

/// An error as people and scripts meet it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// A stable word for scripts: `no-node`, `usage`, …
    pub(crate) code: String,
    /// What did not happen, as a sentence.
    pub(crate) what: String,
    /// Why, as a sentence; may be empty.
    pub(crate) why: String,
    /// What to do about it; may be empty.
    pub(crate) fix: String,
    /// How the process ends.
    pub(crate) exit: Exit,
}

impl Failure {
    /// A failure of these parts.
    pub(crate) fn new(
        exit: Exit,
        code: &str,
        what: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { code: code.to_owned(), what: what.into(), why: why.into(), fix: fix.into(), exit }
    }

    /// Something typed was wrong.
    pub(crate) fn usage(what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", what, why, fix)
    }

    /// Something that is planned and not offered yet.
    pub(crate) fn not_built(what: &str, fix: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "not-built", format!("{what} cannot be used yet."), "It is not built.", fix)
    }

    /// A broken assumption of ours.
    pub(crate) fn bug(what: impl Into<String>) -> Self {
        let fix = "Please report it, with the command you typed and what `-vv` prints.";
        Self::new(Exit::Bug, "bug", what, "This is a bug in treecast.", fix)
    }

    /// No node runs for this data directory.
    pub(crate) fn no_node(data_dir: &std::path::Path) -> Self {
        Self::new(
            Exit::NoNode,
            "no-node",
            "No treecast node runs for this data directory.",
            format!("Nothing answers at {}.", data_dir.display()),
            "Start one with `treecast up`.",
        )
    }

    /// The node stopped while we talked to it.
    pub(crate) fn node_gone() -> Self {
        Self::new(
            Exit::NoNode,
            "node-gone",
            "The node went away.",
            "It was stopped or it crashed while this command used it.",
            "Start it again with `treecast up`.",
        )
    }

    /// Interrupted by a signal before the work was done.
    pub(crate) fn interrupted(what: impl Into<String>) -> Self {
        Self::new(Exit::Interrupted, "interrupted", what, "A signal asked this command to stop.", "")
    }

    /// The line for scripts.
    pub(crate) fn to_json(&self) -> Value {
        json!({"type": "error", "code": self.code, "what": self.what, "why": self.why, "fix": self.fix})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.what, &self.why, &self.fix];
        let mut parts = parts.into_iter().filter(|part| !part.is_empty());
        if let Some(first) = parts.next() {
            f.write_str(first)?;
        }
        parts.try_for_each(|part| write!(f, " {part}"))
    }
}

impl std::error::Error for Failure {}
