//! A place that is named where there are none.

use crate::failure::{Failure, exit};

/// Messages have a place in a total order only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("only messages of a total order have a place to begin at ({0})")]
pub struct NoIndex(pub u64);

impl From<NoIndex> for Failure {
    fn from(NoIndex(index): NoIndex) -> Self {
        Self::new(
            "no-index",
            exit::USAGE,
            format!("--since {index} cannot be used in this group."),
            "A bare number is an index, and only messages of a total order have one.",
            format!("Use `start` or a time, {index}m say."),
        )
    }
}
