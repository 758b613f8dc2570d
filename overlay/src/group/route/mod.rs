//! Whom do I forward this batch to, and whom do I only tell that I have it?

pub(crate) mod near;
pub(crate) mod tree;

/// Addresses told of a node: there are some for each transport and interface.
pub(crate) const ADDRESSES: usize = 2;
