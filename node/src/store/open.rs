//! Opening: all checks first, then all that is kept.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use treecast_overlay::NodeId;
use treecast_overlay::io::Past;

use super::error::{SaveError, StoreError};
use super::kept::Kept;
use super::library::Library;
use super::log::{self, Log};
use super::offers::{self, HeldFile};
use super::record::{self, Numbers};
use super::schema::{self, Found};
use super::thread::{Done, Writer};
use super::work::{self, Work};
use super::{past, read};

/// Its name in the data directory.
const FILE: &str = "treecast.db";

/// How long another program that has the file locked is waited for: a backup, say.
const BUSY: Duration = Duration::from_secs(3);

/// A larger file is not read through at each start; damage shows then where it is met.
const CHECK_UP_TO: u64 = 16 << 20;

/// Who only looks wants to know, and waits some seconds for it.
const LOOK_UP_TO: u64 = 1 << 30;

/// From this version of the tables on there is a history.
const FIRST_WITH_HISTORY: u32 = 2;

/// An open store that nobody else writes to.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    connection: Connection,
}

impl Store {
    /// Opens the data directory's store, makes it if there is none, and reads what is kept.
    pub(crate) fn open(data_dir: &Path, now_ms: u64) -> Result<(Self, Kept), StoreError> {
        let path = data_dir.join(FILE);
        check_log(&path)?;
        create_private(&path).map_err(|source| StoreError::Io { path: path.clone(), source })?;
        let refused = |error: rusqlite::Error| StoreError::of(&path, &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&path, flags).map_err(refused)?;
        connection.busy_timeout(BUSY).map_err(refused)?;
        let version = match schema::find(&connection).map_err(refused)? {
            Found::Version(version) => version,
            Found::Newer(found) => {
                let known = schema::LATEST;
                return Err(StoreError::Newer { path: path.clone(), found, known });
            }
            Found::Foreign => return Err(StoreError::bad(&path, "it is another program's database")),
        };
        configure(&connection, version).map_err(refused)?;
        check(&connection, &path, CHECK_UP_TO)?;
        schema::migrate(&mut connection, version).map_err(refused)?;
        work::mark_start(&connection, now_ms).map_err(refused)?;
        let kept = read::all(&connection).map_err(|error| error.at(&path))?;
        Ok((Self { path, connection }, kept))
    }

    /// Reads what is kept and changes nothing, beside a node that runs or without one. `None` if
    /// there is no store, or one that a start would bring up to date first.
    pub(crate) fn look(data_dir: &Path) -> Result<Option<Kept>, StoreError> {
        let path = data_dir.join(FILE);
        check_log(&path)?;
        if !path.exists() {
            return Ok(None);
        }
        let refused = |error: rusqlite::Error| StoreError::of(&path, &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(refused)?;
        connection.busy_timeout(BUSY).map_err(refused)?;
        match schema::find(&connection).map_err(refused)? {
            Found::Version(schema::LATEST) => {}
            Found::Version(_) => return Ok(None),
            Found::Newer(found) => {
                return Err(StoreError::Newer { path: path.clone(), found, known: schema::LATEST });
            }
            Found::Foreign => return Err(StoreError::bad(&path, "it is another program's database")),
        }
        check(&connection, &path, LOOK_UP_TO)?;
        read::all(&connection).map(Some).map_err(|error| error.at(&path))
    }

    /// How far this node was in each group; and the first free place in the history.
    pub(crate) fn history(&self, me: &NodeId) -> Result<(Vec<Past>, u64), StoreError> {
        let read = || Ok((past::all(&self.connection, me)?, record::next_at(&self.connection)?));
        read().map_err(|error: read::ReadError| error.at(&self.path))
    }

    /// The files that lie here.
    pub(crate) fn held(&self) -> Result<Vec<HeldFile>, StoreError> {
        offers::held(&self.connection).map_err(|error| StoreError::of(&self.path, &error))
    }

    /// For reading beside the thread that writes.
    pub(crate) fn library(&self) -> Result<Library, StoreError> {
        Library::open(&self.path).map_err(|error| StoreError::of(&self.path, &error))
    }

    /// Makes these changes, all or none; durable when this returns.
    pub(crate) fn write(&mut self, works: &[Work]) -> Result<(), SaveError> {
        let mut numbers = Numbers::default();
        write(&mut self.connection, &mut numbers, works).map_err(|error| SaveError::of(&self.path, &error))
    }

    /// Hands the store over to a thread of its own. What has become of each job comes from the
    /// receiver.
    pub(crate) fn serve(
        self,
        me: NodeId,
    ) -> io::Result<(Writer, tokio::sync::mpsc::UnboundedReceiver<Vec<Done>>)> {
        Writer::spawn(self.connection, self.path, me)
    }

    #[cfg(test)]
    pub(super) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// From now on it can only be read.
    #[cfg(test)]
    pub(crate) fn refuse_writes(&self) {
        self.connection.pragma_update(None, "query_only", true).expect("set");
    }

    /// Refuses to grow any further: a disk that is full.
    #[cfg(test)]
    pub(crate) fn fill_up(&self) {
        let pages: i64 =
            self.connection.pragma_query_value(None, "page_count", |row| row.get(0)).expect("counted");
        let set = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        self.connection.pragma_update_and_check(None, "max_page_count", pages, set).expect("set");
    }
}

fn write(connection: &mut Connection, numbers: &mut Numbers, works: &[Work]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    works.iter().try_for_each(|work| work.apply(&transaction, numbers))?;
    transaction.commit()
}

/// SQLite would make the file readable for all that the umask allows.
fn create_private(path: &Path) -> io::Result<()> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// Pages of 4 KiB that the log has before they go into the file. Guess: it stays below 16 MiB.
const LOG_PAGES: u32 = 4_096;

fn configure(connection: &Connection, version: u32) -> rusqlite::Result<()> {
    if version < FIRST_WITH_HISTORY {
        // So that the space of what is kept no longer can be given back bit by bit. An older file is
        // small, and written anew for that.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        if version > 0 {
            connection.execute_batch("VACUUM")?;
        }
    }
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Each time what is in the log goes into the file both are synced: in a flood that is to be rarer than
    // every 4 MiB.
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What stands in the file is data, whoever wrote it.
    connection.pragma_update(None, "trusted_schema", false)
}

/// Before SQLite sees the file: it deletes or overwrites what it cannot read of the log.
fn check_log(path: &Path) -> Result<(), StoreError> {
    let log = log::path(path);
    let found = log::check(path).map_err(|source| StoreError::Io { path: log.clone(), source })?;
    let name = log.file_name().unwrap_or_default().display();
    match found {
        Log::Good => {}
        Log::Orphan => {
            return Err(StoreError::bad(path, format!("it is empty or gone, but its log {name} is not")));
        }
        Log::Bad => return Err(StoreError::bad(path, format!("its log {name} is damaged"))),
        Log::Broken { good } => tracing::warn!(
            log = %log.display(),
            "the store's log is damaged after {good} pages: what was written after them, last before the node \
             ended, is lost here; others may have it"
        ),
    }
    Ok(())
}

fn check(connection: &Connection, path: &Path, up_to: u64) -> Result<(), StoreError> {
    let size = std::fs::metadata(path).map_or(0, |it| it.len());
    if size > up_to {
        return Ok(());
    }
    let found: String = connection
        .query_row("PRAGMA quick_check(1)", (), |row| row.get(0))
        .map_err(|error| StoreError::of(path, &error))?;
    // Before the last line stands which of its databases SQLite means.
    let found = found.lines().last().unwrap_or_default();
    if found == "ok" { Ok(()) } else { Err(StoreError::bad(path, format!("it is damaged ({found})"))) }
}
