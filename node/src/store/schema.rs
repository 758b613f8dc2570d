//! The tables, step by step: each version is one file of SQL that makes it of the one before.

use rusqlite::{Connection, TransactionBehavior};

/// Marks the file as ours: "tcst".
const APPLICATION_ID: i64 = 0x7463_7374;

/// Step `n` leads from version `n` to `n + 1`. A step that was released never changes.
const STEPS: &[&str] = &[
    include_str!("schema/001.sql"),
    include_str!("schema/002.sql"),
    include_str!("schema/003.sql"),
    include_str!("schema/004.sql"),
    include_str!("schema/005.sql"),
    include_str!("schema/006.sql"),
    include_str!("schema/007.sql"),
];

/// The version that this program reads and writes.
pub(super) const LATEST: u32 = STEPS.len() as u32;

/// What a file turns out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Ours, of a version that is known; 0 if it is new and empty.
    Version(u32),
    /// Ours, but made by a program that is newer.
    Newer(u32),
    /// Some other program's database.
    Foreign,
}

/// Looks without changing anything.
pub(super) fn find(connection: &Connection) -> rusqlite::Result<Found> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    let is_new = (application, version, tables) == (0, 0, 0);
    Ok(match u32::try_from(version) {
        Ok(0) if is_new => Found::Version(0),
        Ok(known @ 1..=LATEST) if application == APPLICATION_ID => Found::Version(known),
        Ok(newer) if application == APPLICATION_ID && newer > LATEST => Found::Newer(newer),
        _ => Found::Foreign,
    })
}

/// Takes the steps that are missing: all of them or, after a failure or crash, none.
pub(super) fn migrate(connection: &mut Connection, from: u32) -> rusqlite::Result<()> {
    if from >= LATEST {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in &STEPS[from as usize..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", i64::from(LATEST))?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_becomes_the_latest_version_once() {
        let mut connection = Connection::open_in_memory().expect("opens");
        assert_eq!(find(&connection), Ok(Found::Version(0)));
        migrate(&mut connection, 0).expect("the steps are good SQL");
        assert_eq!(find(&connection), Ok(Found::Version(LATEST)));
        migrate(&mut connection, LATEST).expect("nothing to do");
    }

    #[test]
    fn what_is_newer_or_not_ours_is_told_apart() {
        let mut connection = Connection::open_in_memory().expect("opens");
        migrate(&mut connection, 0).expect("good SQL");
        connection.pragma_update(None, "user_version", 77).expect("set");
        assert_eq!(find(&connection), Ok(Found::Newer(77)));
        let other = Connection::open_in_memory().expect("opens");
        other.execute_batch("CREATE TABLE recipes (name TEXT)").expect("made");
        assert_eq!(find(&other), Ok(Found::Foreign));
    }

    #[test]
    fn a_step_that_fails_leaves_nothing_behind() {
        let mut connection = Connection::open_in_memory().expect("opens");
        connection.execute_batch("CREATE TABLE peers (x)").expect("in the way of the first step");
        assert!(migrate(&mut connection, 0).is_err());
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))
            .expect("counted");
        assert_eq!(tables, 1);
    }
}
