//! The control socket: how commands talk to the node that runs for a data directory.

use std::path::{Path, PathBuf};

mod client;
pub mod protocol;

pub use client::{Client, ClientError, ClientReader, ClientWriter};

/// Where the node of a data directory listens for commands.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}
