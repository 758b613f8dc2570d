//! Why the store does not serve.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// It is damaged, or no store at all.
    #[error("{}: {why}", .path.display())]
    Bad { path: PathBuf, why: String },
    /// A newer program made it.
    #[error("{}: made by a newer version", .path.display())]
    Newer { path: PathBuf, found: u32, known: u32 },
    /// It cannot be opened or written.
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl StoreError {
    pub(super) fn bad(path: &Path, why: impl Into<String>) -> Self {
        Self::Bad { path: path.to_owned(), why: why.into() }
    }

    /// What SQLite says, told apart by what mends it.
    pub(super) fn of(path: &Path, error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::bad(path, "it is no SQLite database"),
            Some(ErrorCode::DatabaseCorrupt) => Self::bad(path, "it is damaged"),
            Some(ErrorCode::ConstraintViolation | ErrorCode::Unknown) | None => {
                Self::bad(path, format!("it does not hold what it should ({error})"))
            }
            Some(code) => {
                let source = io::Error::new(kind(code), words(code, error));
                Self::Io { path: path.to_owned(), source }
            }
        }
    }
}

fn kind(code: ErrorCode) -> io::ErrorKind {
    match code {
        ErrorCode::DiskFull => io::ErrorKind::StorageFull,
        ErrorCode::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
        ErrorCode::PermissionDenied => io::ErrorKind::PermissionDenied,
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => io::ErrorKind::ResourceBusy,
        _ => io::ErrorKind::Other,
    }
}

/// What SQLite calls "database" and "table" people need not know.
fn words(code: ErrorCode, error: &rusqlite::Error) -> String {
    match code {
        ErrorCode::DiskFull => "the disk is full".to_owned(),
        ErrorCode::ReadOnly => "it is read-only".to_owned(),
        ErrorCode::DatabaseCorrupt => "it is damaged".to_owned(),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => "another program has it open".to_owned(),
        ErrorCode::SystemIoFailure => format!("the disk fails ({error})"),
        _ => error.to_string(),
    }
}

/// Why something was not saved. It may be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SaveError {
    path: Option<PathBuf>,
    cannot: &'static str,
    why: String,
}

impl SaveError {
    pub(super) fn of(path: &Path, error: &rusqlite::Error) -> Self {
        Self::with(path, "cannot be written", error)
    }

    /// It was not read.
    pub(super) fn unread(path: &Path, error: &rusqlite::Error) -> Self {
        Self::with(path, "cannot be read", error)
    }

    fn with(path: &Path, cannot: &'static str, error: &rusqlite::Error) -> Self {
        let why = match error.sqlite_error_code() {
            Some(code) => words(code, error),
            None => error.to_string(),
        };
        Self { path: Some(path.to_owned()), cannot, why }
    }

    /// Nobody is there to write it.
    pub(crate) fn gone() -> Self {
        Self {
            path: None,
            cannot: "cannot be written",
            why: "the thread that writes it has ended".to_owned(),
        }
    }
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{} {}: {}", path.display(), self.cannot, self.why),
            None => write!(f, "the store {}: {}", self.cannot, self.why),
        }
    }
}

impl std::error::Error for SaveError {}
