//! Why a node did not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use libp2p::Multiaddr;
use treecast_overlay::ConfigError;

use super::{JoinError, NickError};
use crate::failure::{Failure, exit};

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No data directory was given.
    #[error("no data directory was given")]
    NoDataDir,
    /// A node runs for this data directory.
    #[error("a node already runs for {} (process {})", .data_dir.display(), pid_text(.pid))]
    AlreadyRunning {
        /// Whose.
        data_dir: PathBuf,
        /// Its process, if it has said so.
        pid: Option<u32>,
    },
    /// The data directory, or something in it, cannot be written.
    #[error("cannot write {}: {source}", .path.display())]
    DataDirUnwritable {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key file is damaged.
    #[error("the key file {} cannot be used: {why}", .path.display())]
    BadKey {
        /// Which.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// There is no key beside a store that was used.
    #[error("the key file {} is gone", .path.display())]
    KeyGone {
        /// Where it was.
        path: PathBuf,
    },
    /// The store is damaged.
    #[error("the store {} cannot be used: {why}", .path.display())]
    BadStore {
        /// Which file.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// A newer program made the store.
    #[error("the store {} is of version {found}; this program knows {known}", .path.display())]
    NewerStore {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// Somebody else listens there.
    #[error("the port of {address} is taken")]
    PortTaken {
        /// What was asked for.
        address: Multiaddr,
    },
    /// It is not possible to listen there.
    #[error("cannot listen on {address}: {why}")]
    CannotListen {
        /// What was asked for.
        address: Multiaddr,
        /// Why.
        why: String,
    },
    /// Somebody else listens where the metrics are to be served.
    #[error("the metrics port of {address} is taken")]
    MetricsPortTaken {
        /// What was asked for.
        address: SocketAddr,
    },
    /// It is not possible to serve metrics there.
    #[error("cannot serve metrics on {address}: {source}")]
    CannotServeMetrics {
        /// What was asked for.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A group to be in cannot be joined.
    #[error("group {name:?}: {source}")]
    BadGroup {
        /// What was asked for.
        name: String,
        /// Why.
        source: JoinError,
    },
    /// The nick is not allowed.
    #[error(transparent)]
    BadNick(#[from] NickError),
    /// An overlay setting is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system refused something that a node needs.
    #[error("cannot set up {what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn pid_text(pid: &Option<u32>) -> String {
    pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
}

impl StartError {
    /// Why, in a few words.
    fn short(&self) -> &'static str {
        match self {
            Self::NoDataDir => "it has no data directory",
            Self::AlreadyRunning { .. } => "one runs already",
            Self::DataDirUnwritable { .. } => "its data directory cannot be written",
            Self::BadKey { .. } => "its key is damaged",
            Self::KeyGone { .. } => "its key is gone",
            Self::BadStore { .. } => "its store cannot be read",
            Self::NewerStore { .. } => "its store is of a newer version",
            Self::PortTaken { .. } => "its port is taken",
            Self::CannotListen { .. } => "it cannot listen",
            Self::MetricsPortTaken { .. } => "the port for its metrics is taken",
            Self::CannotServeMetrics { .. } => "it cannot serve its metrics",
            Self::BadGroup { .. } => "one of its groups cannot be entered",
            Self::BadNick(_) => "its nick is not allowed",
            Self::Config(_) => "a setting is out of range",
            Self::System { .. } => "the system refused what it needs",
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let short = error.short();
        let refused = |code: &str, status: u8, why: String, fix: String| {
            Self::new(code, status, format!("The node did not start: {short}."), why, fix)
        };
        match error {
            StartError::NoDataDir => refused(
                "no-data-dir",
                exit::USAGE,
                "No data directory was given.".into(),
                "Give one with `--data-dir DIR`.".into(),
            ),
            StartError::AlreadyRunning { data_dir, pid } => refused(
                "already-running",
                exit::NO_NODE,
                format!("A node runs for {} already: process {}.", data_dir.display(), pid_text(&pid)),
                "Use it as it is, stop it with `treecast down`, or choose another directory with `--data-dir`.".into(),
            ),
            StartError::DataDirUnwritable { path, source } => refused(
                "data-dir",
                exit::USAGE,
                format!("{} cannot be written: {source}.", path.display()),
                "Mend its permissions or free some space, or choose another directory with `--data-dir`.".into(),
            ),
            StartError::BadKey { path, why } => refused(
                "bad-key",
                exit::USAGE,
                format!("The key file {} cannot be used: {why}.", path.display()),
                "Put back a copy of it; or rename it to identity.key.bad: the node gets a new identity.".into(),
            ),
            StartError::KeyGone { path } => refused(
                "no-key",
                exit::USAGE,
                format!("{} is gone, beside a store that was used with it.", path.display()),
                format!("Put back a copy of it; or, for a new identity, `touch {}.bad`.", path.display()),
            ),
            StartError::BadStore { path, why } => refused(
                "bad-store",
                exit::USAGE,
                format!("The store {} cannot be read: {why}.", path.display()),
                "Put back a copy, with the `-wal` that belongs to it if there is one; or move both away: the identity \
                 stays; nick, port and joined groups start anew."
                    .into(),
            ),
            StartError::NewerStore { path, found, known } => refused(
                "newer-store",
                exit::USAGE,
                format!(
                    "The store {} was written by a newer treecast: its version is {found}, this one knows {known}.",
                    path.display()
                ),
                "Use the newer treecast here, or choose another directory with `--data-dir`.".into(),
            ),
            StartError::PortTaken { address } => refused(
                "port-taken",
                exit::USAGE,
                format!("Somebody else listens on the port of {address}."),
                "Stop that program, or choose another port with `--listen` (port 0 takes a free one).".into(),
            ),
            StartError::CannotListen { address, why } => refused(
                "cannot-listen",
                exit::USAGE,
                format!("It is not possible to listen on {address}: {why}."),
                "Give an address of this machine with `--listen`, such as /ip4/0.0.0.0/tcp/0.".into(),
            ),
            StartError::MetricsPortTaken { address } => refused(
                "port-taken",
                exit::USAGE,
                format!("Somebody else listens on {address}."),
                "Stop that program, or choose another port with `--metrics` (port 0 takes a free one).".into(),
            ),
            StartError::CannotServeMetrics { address, source } => refused(
                "cannot-listen",
                exit::USAGE,
                format!("It is not possible to serve metrics on {address}: {source}."),
                "Give an address of this machine with `--metrics`, such as 127.0.0.1:9464.".into(),
            ),
            StartError::BadGroup { name, source } => {
                let failure = Failure::from(source);
                let why = format!("Group {name:?}: {}", failure.why);
                refused(&failure.code, failure.exit, why, failure.fix)
            }
            StartError::BadNick(source) => source.into(),
            StartError::Config(source) => {
                refused("bad-config", exit::USAGE, format!("{source}."), "Correct the setting.".into())
            }
            StartError::System { what, source } => refused(
                "system",
                exit::BUG,
                format!("The system refused {what}: {source}."),
                "Look at the limits of this account (open files, sockets).".into(),
            ),
        }
    }
}
