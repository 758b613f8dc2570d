//! Files: what was announced, what is held here, who else had it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rusqlite::{Connection, Row, params};
use treecast_overlay::files::{Ending, FileHash, Offer, Retraction};
use treecast_overlay::io::{HistoryBatch, Shown};
use treecast_overlay::{BatchId, GroupId, NodeId};

use super::error::SaveError;
use super::library::Shelf;
use super::work::integer;

/// Announcements that are kept of one group; the oldest go.
const MAX_OFFERS: i64 = 10_000;

/// Holders that are kept of one file; those seen last.
const MAX_HOLDERS: i64 = 256;

/// A file that was announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownOffer {
    pub(crate) group: GroupId,
    pub(crate) source: NodeId,
    pub(crate) nick: String,
    pub(crate) kept_ms: u64,
    pub(crate) offer: Offer,
    /// Its announcer has said since that it is not to be had there any more.
    pub(crate) ending: Option<Ending>,
}

/// A file that lies here, all of it or part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldFile {
    pub(crate) hash: FileHash,
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) manifest: Option<u64>,
    pub(crate) whole: bool,
    /// What lies there is not what it was.
    pub(crate) ending: Option<Ending>,
}

/// Where a message stands: in which room, at which place of its history, as which of its source's.
#[derive(Clone, Copy)]
struct Place<'a> {
    room: i64,
    at: i64,
    kept_ms: u64,
    nick: &'a str,
    batch: BatchId,
    n: usize,
}

/// Notes what a batch announces, or ends, if anything.
pub(super) fn note(
    connection: &Connection,
    (room, group): (i64, GroupId),
    (at, kept_ms, nick): (i64, u64, &str),
    batch: &HistoryBatch,
) -> rusqlite::Result<()> {
    if !Offer::may_be_in(&batch.bytes) {
        return Ok(());
    }
    let Some(shown) = Shown::read(&group, batch.bytes.clone()) else { return Ok(()) };
    for (n, (_, payload)) in shown.messages.iter().enumerate() {
        let place = Place { room, at, kept_ms, nick, batch: batch.id, n };
        if let Some(offer) = Offer::from_message(payload) {
            note_offer(connection, place, &offer)?;
        } else if let Some(retraction) = Retraction::from_message(payload) {
            note_retraction(connection, place, &retraction)?;
        }
    }
    Ok(())
}

fn note_offer(connection: &Connection, place: Place<'_>, offer: &Offer) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO offers (room, hash, source, name, at, life, seq, n, kept_ms, nick, size, manifest)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT (room, hash, source, name)
             DO UPDATE SET at = ?5, life = ?6, seq = ?7, n = ?8, kept_ms = ?9, nick = ?10, size = ?11, manifest = ?12
             WHERE at <= ?5",
        )?
        .execute(params![
            place.room,
            &offer.hash.as_bytes()[..],
            &place.batch.source.as_bytes()[..],
            offer.name,
            place.at,
            integer(place.batch.life),
            integer(place.batch.seq),
            integer(place.n as u64),
            integer(place.kept_ms),
            place.nick,
            integer(offer.size),
            offer.manifest.map(integer),
        ])?;
    connection
        .prepare_cached(
            "DELETE FROM offers WHERE room = ?1 AND at < (SELECT at FROM offers WHERE room = ?1
             ORDER BY at DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute([place.room, MAX_OFFERS - 1])?;
    Ok(())
}

fn note_retraction(connection: &Connection, place: Place<'_>, it: &Retraction) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO retractions (room, hash, source, at, life, seq, n, nick, ending)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (room, hash, source)
             DO UPDATE SET at = ?4, life = ?5, seq = ?6, n = ?7, nick = ?8, ending = ?9
             WHERE (life, seq, n) < (?5, ?6, ?7)",
        )?
        .execute(params![
            place.room,
            &it.hash.as_bytes()[..],
            &place.batch.source.as_bytes()[..],
            place.at,
            integer(place.batch.life),
            integer(place.batch.seq),
            integer(place.n as u64),
            place.nick,
            it.ending.code(),
        ])?;
    connection
        .prepare_cached(
            "DELETE FROM retractions WHERE room = ?1 AND at < (SELECT at FROM retractions WHERE room = ?1
             ORDER BY at DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute([place.room, MAX_OFFERS - 1])?;
    Ok(())
}

/// The group is left.
pub(super) fn forget(connection: &Connection, group: GroupId) -> rusqlite::Result<()> {
    for table in ["offers", "retractions"] {
        let of_group =
            format!("DELETE FROM {table} WHERE room = (SELECT room FROM rooms WHERE group_id = ?1)");
        connection.execute(&of_group, [&group.as_bytes()[..]])?;
    }
    Ok(())
}

pub(super) fn hold(connection: &Connection, file: &HeldFile) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT OR REPLACE INTO held (hash, path, size, manifest, whole, ending) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            &file.hash.as_bytes()[..],
            file.path.as_os_str().as_bytes(),
            integer(file.size),
            file.manifest.map(integer),
            file.whole,
            file.ending.map(Ending::code),
        ],
    )?;
    Ok(())
}

pub(super) fn release(connection: &Connection, hash: FileHash) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM held WHERE hash = ?1", [&hash.as_bytes()[..]])?;
    Ok(())
}

pub(super) fn holder(
    connection: &Connection,
    hash: FileHash,
    node: NodeId,
    seen_ms: u64,
) -> rusqlite::Result<()> {
    let (hash, node) = (&hash.as_bytes()[..], &node.as_bytes()[..]);
    connection.execute(
        "INSERT INTO holders (hash, node, seen_ms) VALUES (?1, ?2, ?3)
         ON CONFLICT (hash, node) DO UPDATE SET seen_ms = max(seen_ms, ?3)",
        params![hash, node, integer(seen_ms)],
    )?;
    connection.execute(
        "DELETE FROM holders WHERE hash = ?1 AND node NOT IN
         (SELECT node FROM holders WHERE hash = ?1 ORDER BY seen_ms DESC LIMIT ?2)",
        params![hash, MAX_HOLDERS],
    )?;
    Ok(())
}

pub(super) fn held(connection: &Connection) -> rusqlite::Result<Vec<HeldFile>> {
    let mut select = connection.prepare("SELECT hash, path, size, manifest, whole, ending FROM held")?;
    let row = |row: &Row<'_>| {
        let path = PathBuf::from(OsString::from_vec(row.get(1)?));
        Ok(HeldFile {
            hash: FileHash::from_bytes(row.get(0)?),
            path,
            size: natural(row.get(2)?),
            manifest: row.get::<_, Option<i64>>(3)?.map(natural),
            whole: row.get(4)?,
            ending: ending(row.get(5)?),
        })
    };
    select.query_map((), row)?.collect()
}

fn ending(code: Option<u8>) -> Option<Ending> {
    code.and_then(Ending::from_code)
}

fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

impl Shelf {
    /// What was announced, in one group or all, oldest first.
    pub(crate) fn offers(&self, group: Option<GroupId>) -> Result<Vec<KnownOffer>, SaveError> {
        self.told(self.try_offers(group))
    }

    fn try_offers(&self, group: Option<GroupId>) -> rusqlite::Result<Vec<KnownOffer>> {
        let mut select = self.connection.prepare_cached(
            "SELECT group_id, offers.source, offers.nick, kept_ms, offers.hash, name, size, manifest, ending
             FROM offers JOIN rooms USING (room) LEFT JOIN retractions AS said ON said.room = offers.room
             AND said.hash = offers.hash AND said.source = offers.source
             AND (said.life, said.seq, said.n) > (offers.life, offers.seq, offers.n)
             WHERE group_id NOT NULL AND (?1 IS NULL OR group_id = ?1) ORDER BY offers.at, offers.n",
        )?;
        let row = |row: &Row<'_>| {
            let offer = Offer {
                hash: FileHash::from_bytes(row.get(4)?),
                name: row.get(5)?,
                size: natural(row.get(6)?),
                manifest: row.get::<_, Option<i64>>(7)?.map(natural),
            };
            Ok(KnownOffer {
                group: GroupId::from_bytes(row.get(0)?),
                source: NodeId::from_bytes(row.get(1)?),
                nick: row.get(2)?,
                kept_ms: natural(row.get(3)?),
                offer,
                ending: ending(row.get(8)?),
            })
        };
        select.query_map([group.map(|it| it.as_bytes().to_vec())], row)?.collect()
    }

    /// Whether a file was announced in a group.
    pub(crate) fn is_offered(&self, group: GroupId, hash: FileHash) -> Result<bool, SaveError> {
        let exists = || {
            self.connection
                .prepare_cached(
                    "SELECT 1 FROM offers WHERE hash = ?2
                     AND room = (SELECT room FROM rooms WHERE group_id = ?1)",
                )?
                .exists([&group.as_bytes()[..], &hash.as_bytes()[..]])
        };
        self.told(exists())
    }

    /// Who had all of a file, and when that was known last; latest first.
    pub(crate) fn holders(&self, hash: FileHash) -> Result<Vec<(NodeId, u64)>, SaveError> {
        let read = || {
            let mut select = self
                .connection
                .prepare_cached("SELECT node, seen_ms FROM holders WHERE hash = ?1 ORDER BY seen_ms DESC")?;
            let row = |row: &Row<'_>| Ok((NodeId::from_bytes(row.get(0)?), natural(row.get(1)?)));
            select.query_map([&hash.as_bytes()[..]], row)?.collect()
        };
        self.told(read())
    }
}
