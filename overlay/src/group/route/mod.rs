//! Whom do I forward this batch to, and whom do I only tell that I have it?

pub(crate) mod near;
pub(crate) mod tree;
