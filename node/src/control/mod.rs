//! The control socket: how commands talk to the node that runs for a data directory.

use std::path::{Path, PathBuf};

mod client;
mod connection;
mod files;
mod follow;
mod groups;
mod history;
mod lines;
pub mod protocol;
mod publish;
mod server;
mod socket;
mod subscribe;

pub(crate) use server::Server;

pub use client::{Client, ClientError, ClientReader, ClientWriter};

/// Where the node of a data directory listens for commands.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}
