//! A failure as people and scripts are told it: what, why, and what mends it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Exit codes of the command line.
pub mod exit {
    /// A bug.
    pub const BUG: u8 = 1;
    /// Usage or bad input.
    pub const USAGE: u8 = 2;
    /// No running node, or it went away.
    pub const NO_NODE: u8 = 3;
    /// Nobody reachable, or timed out.
    pub const TIMEOUT: u8 = 4;
    /// Not found.
    pub const NOT_FOUND: u8 = 5;
    /// Refused.
    pub const REFUSED: u8 = 6;
    /// What came is not what it should be.
    pub const VERIFICATION: u8 = 7;
    /// Partly done.
    pub const PARTLY: u8 = 8;
}

/// What failed, why, and the command or change that mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A short fixed word for scripts.
    pub code: String,
    /// What did not happen.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do about it.
    pub fix: String,
    /// The exit code.
    pub exit: u8,
}

impl Failure {
    /// A failure of these parts.
    pub fn new(
        code: &str,
        exit: u8,
        what: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { code: code.to_owned(), what: what.into(), why: why.into(), fix: fix.into(), exit }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.what, self.why, self.fix)
    }
}

impl std::error::Error for Failure {}
