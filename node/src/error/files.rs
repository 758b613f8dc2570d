//! What can fail with files.

use std::io;
use std::path::{Path, PathBuf};

use treecast_overlay::files::Ending;

use super::{HistoryError, JoinError, PublishError, Stopped, UnknownGroup, sentence};
use crate::failure::{Failure, exit};

/// Why something was not announced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnnounceError {
    /// There is no such group here.
    #[error(transparent)]
    UnknownGroup(#[from] UnknownGroup),
    /// Nothing lies there.
    #[error("there is nothing at {}", .0.display())]
    NotFound(PathBuf),
    /// It cannot be read.
    #[error("{}: {source}", .path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is neither a file nor a folder, or something in the folder is not.
    #[error("{} is {kind}", .path.display())]
    Kind {
        /// What.
        path: PathBuf,
        /// `a symbolic link`, `a pipe`, `a socket`, `a device`.
        kind: &'static str,
    },
    /// Its name, or one in the folder, cannot be used on all systems.
    #[error("the name of {} is no text, has control characters, or is too long", .0.display())]
    Name(PathBuf),
    /// It changed while it was read.
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
    /// It has more than 1 TiB.
    #[error("{} is larger than 1 TiB", .0.display())]
    TooLarge(PathBuf),
    /// The folder has more than 1,000,000 files and folders, or names of more than 128 MiB.
    #[error("{} has too many files and folders, more than 1,000,000 say", .0.display())]
    TooMany(PathBuf),
    /// A command fetches or announces the same at this moment.
    #[error("a command fetches the same at this moment")]
    Busy,
    /// It was not told.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The group cannot be entered.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// It could not be saved.
    #[error("what the node keeps of it could not be saved: {0}")]
    NotSaved(String),
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl AnnounceError {
    pub(crate) fn of(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound(path),
            io::ErrorKind::UnexpectedEof => Self::Changed(path),
            _ => Self::Unreadable { path, source },
        }
    }

    pub(crate) fn kind(path: &Path, kind: &'static str) -> Self {
        Self::Kind { path: path.to_owned(), kind }
    }
}

impl From<AnnounceError> for Failure {
    fn from(error: AnnounceError) -> Self {
        let why = sentence(&error);
        let (code, status, fix) = match error {
            AnnounceError::UnknownGroup(unknown) => return unknown.into(),
            AnnounceError::Publish(error) => return error.into(),
            AnnounceError::Join(error) => return error.into(),
            AnnounceError::Stopped(stopped) => return stopped.into(),
            AnnounceError::NotFound(_) => ("no-file", exit::NOT_FOUND, "Check the path."),
            AnnounceError::Unreadable { .. } => {
                ("unreadable", exit::USAGE, "Mend its permissions: the node has to read it.")
            }
            AnnounceError::Kind { .. } => {
                ("not-a-file", exit::USAGE, "Announce a file, or a folder that has only files and folders.")
            }
            AnnounceError::Name(_) => ("bad-name", exit::USAGE, "Give it another name."),
            AnnounceError::Changed(_) => {
                ("changed", exit::REFUSED, "Announce it again once nothing writes to it.")
            }
            AnnounceError::TooLarge(_) | AnnounceError::TooMany(_) => {
                ("too-large", exit::USAGE, "Announce it in parts.")
            }
            AnnounceError::Busy => ("busy", exit::REFUSED, "Stop that one first, or wait for it."),
            AnnounceError::NotSaved(_) => {
                ("not-saved", exit::PARTLY, "Free some space in the data directory or mend its permissions.")
            }
        };
        Self::new(code, status, "Nothing was announced.", why, fix)
    }
}

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// Nothing of this name or hash was announced.
    #[error("nothing called {0:?} was announced in a group of this node")]
    Unknown(String),
    /// Several files are meant by that: from different members, or the beginning of a hash fits several.
    #[error("several files are meant by {what:?}: {}", .files.join(", "))]
    Ambiguous {
        /// What was typed.
        what: String,
        /// The hash of each, and who announced it where.
        files: Vec<String>,
    },
    /// Something lies where it is to go.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// It cannot be put there.
    #[error("{}: {why}", .path.display())]
    Target {
        /// Where.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The disk has no room for it.
    #[error("{} has {free} bytes left, and {needed} are needed", .path.display())]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
    /// The disk refused what came.
    #[error("{}: {source}", .path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody who is online has what is missing.
    #[error("nobody who is online has what is missing of it{}", told(.former, .had))]
    NobodyHas {
        /// Who had it, and when that was known last.
        had: Vec<(String, String)>,
        /// Who had it and has it no longer, by their own word.
        former: Vec<(String, Ending)>,
    },
    /// Whoever has it serves other bytes than were announced.
    #[error("what {} served is not what was announced", .0.join(", "))]
    Liars(Vec<String>),
    /// The folder's list of files cannot be used.
    #[error("the folder's list of files is not one: {0}")]
    Manifest(String),
    /// What was announced cannot be looked up.
    #[error(transparent)]
    Store(#[from] HistoryError),
    /// What the node keeps of it could not be saved.
    #[error("what the node keeps of it could not be saved: {0}")]
    NotSaved(String),
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

fn told(former: &[(String, Ending)], had: &[(String, String)]) -> String {
    let mut text = String::new();
    for (who, ending) in former {
        text.push_str(match ending {
            Ending::Changed => "; it was changed by ",
            Ending::Removed => "; it was removed by ",
            _ => "; it was withdrawn by ",
        });
        text.push_str(who);
    }
    if !had.is_empty() {
        let each: Vec<String> = had.iter().map(|(who, when)| format!("{who} {when}")).collect();
        text.push_str("; who had it: ");
        text.push_str(&each.join(", "));
    }
    text
}

impl From<GetError> for Failure {
    fn from(error: GetError) -> Self {
        let why = sentence(&error);
        let what = "The file was not fetched.";
        let (code, status, fix) = match error {
            GetError::Store(error) => return error.into(),
            GetError::Stopped(stopped) => return stopped.into(),
            GetError::Unknown(_) => {
                ("no-file", exit::NOT_FOUND, "See `treecast file ls` for what was announced.")
            }
            GetError::Ambiguous { .. } => (
                "ambiguous",
                exit::USAGE,
                "Type the hash of the one that you mean; `treecast file ls` shows all.",
            ),
            GetError::Exists(_) => (
                "exists",
                exit::REFUSED,
                "Choose another path with -o, or --on-conflict rename or overwrite.",
            ),
            GetError::Target { .. } => ("bad-path", exit::USAGE, "Choose another path with -o."),
            GetError::NoSpace { .. } => (
                "disk-full",
                exit::REFUSED,
                "Make room there, or choose another disk: with -o, or --data-dir if it is the node's.",
            ),
            GetError::Disk { source, .. } if source.kind() == io::ErrorKind::StorageFull => (
                "disk-full",
                exit::PARTLY,
                "Make room there and type it again: what has come is kept. Or choose another disk with -o.",
            ),
            GetError::Disk { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ("disk", exit::PARTLY, "Type it again: it goes on with what is left.")
            }
            GetError::Disk { .. } => {
                ("disk", exit::PARTLY, "Mend its permissions, or choose another path with -o.")
            }
            GetError::NobodyHas { former, had } if had.is_empty() && !former.is_empty() => {
                let who: Vec<&str> = former.iter().map(|(who, _)| who.as_str()).collect();
                let fix = format!("Ask {} to announce it again.", who.join(" or "));
                return Self::new("nobody-has-it", exit::TIMEOUT, what, why, fix);
            }
            GetError::NobodyHas { .. } => (
                "nobody-has-it",
                exit::TIMEOUT,
                "Type it again when one of them is back, or wait for that with --wait; what has come is kept.",
            ),
            GetError::Liars(_) => (
                "verification-failed",
                exit::VERIFICATION,
                "Ask whoever announced it to announce it again. Nothing of what they served was kept.",
            ),
            GetError::Manifest(_) => (
                "verification-failed",
                exit::VERIFICATION,
                "Ask whoever announced the folder to announce it again, with this version of treecast.",
            ),
            GetError::NotSaved(_) => {
                ("not-saved", exit::PARTLY, "Free some space in the data directory or mend its permissions.")
            }
        };
        Self::new(code, status, what, why, fix)
    }
}

/// Why a file is served on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DropFileError {
    /// This node has no such file.
    #[error("this node serves no file called {0:?}")]
    Unknown(String),
    /// It is being fetched.
    #[error("a command fetches it at this moment")]
    Busy,
    /// Several files are meant: see [`GetError::Ambiguous`].
    #[error(transparent)]
    Ambiguous(Box<GetError>),
    /// It is not served any more, but who is in the group was not told so.
    #[error("it is not served any more, but the group was not told: {0}")]
    NotTold(String),
    /// That it is forgotten could not be saved.
    #[error("that it is forgotten could not be saved: {0}")]
    NotSaved(String),
    /// What was announced cannot be looked up.
    #[error(transparent)]
    Store(#[from] HistoryError),
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<DropFileError> for Failure {
    fn from(error: DropFileError) -> Self {
        let why = sentence(&error);
        let (code, status, fix) = match error {
            DropFileError::Store(error) => return error.into(),
            DropFileError::Stopped(stopped) => return stopped.into(),
            DropFileError::Unknown(_) => ("no-file", exit::NOT_FOUND, "See `treecast file ls`."),
            DropFileError::Busy => ("busy", exit::REFUSED, "Stop that one first."),
            DropFileError::Ambiguous(_) => (
                "ambiguous",
                exit::USAGE,
                "Type the hash of the one that you mean; `treecast file ls` shows all.",
            ),
            DropFileError::NotTold(_) => {
                let fix = "Type it again once you can publish there.";
                return Self::new("not-told", exit::PARTLY, "The file was not withdrawn.", why, fix);
            }
            DropFileError::NotSaved(_) => {
                ("not-saved", exit::PARTLY, "Free some space in the data directory, and type it again.")
            }
        };
        Self::new(code, status, "The file was not removed from what is served.", why, fix)
    }
}
