//! Files: what is announced in a group, how its bytes are checked, and whom to ask for which of them.
//!
//! No room in here does I/O. [`Offer`] is what a member announces, as a message like others; [`Retraction`] ends it. [`Geometry`] cuts a
//! file into pieces; a [`HashTree`] checks each of them against the file's BLAKE3 hash, with the few hashes that lead
//! from it to the root. [`Fetch`] chooses whom to ask for which piece. [`Window`] bounds what a sender has under
//! way by the delay that it causes. [`wire`] is what two nodes say to each other about one file.
//!
//! A folder is one run of bytes, too: its [`Manifest`], then its files one after the other.

mod fetch;
mod manifest;
mod name;
mod offer;
mod pieces;
mod tree;
mod window;
pub mod wire;

#[cfg(test)]
mod fetch_tests;

pub use fetch::{Ask, Fetch, Late, Taken};
pub use manifest::{Entry, MAX_ENTRIES, MAX_MANIFEST, Manifest, ManifestError};
pub use name::{check_part, clean_name};
pub use offer::{Ending, FileHash, MAX_NAME, MAX_SIZE, Offer, ParseFileHashError, Retraction};
pub use pieces::{Geometry, Pieces};
pub use tree::{HashTree, Unverified};
pub use window::Window;
