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

/// Announcements that are kept of one group; the oldest go of those who have most.
const MAX_OFFERS: usize = 10_000;

/// So many of them are one member's, at most; its oldest go. Guess.
const MAX_OF_SOURCE: usize = 1_000;

/// Once there are too many, a twentieth goes: else each announcement would be one too many.
const SPARE: usize = 20;

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
    /// Its place in the history of the node when it was first announced so.
    pub(crate) first: i64,
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
    let (mut has_offer, mut has_retraction) = (false, false);
    for (n, (_, payload)) in shown.messages.iter().enumerate() {
        let place = Place { room, at, kept_ms, nick, batch: batch.id, n };
        if let Some(offer) = Offer::from_message(payload) {
            note_offer(connection, place, &offer)?;
            has_offer = true;
        } else if let Some(retraction) = Retraction::from_message(payload) {
            note_retraction(connection, place, &retraction)?;
            has_retraction = true;
        }
    }
    for (table, is_noted) in [("offers", has_offer), ("retractions", has_retraction)] {
        if is_noted {
            prune(connection, table, room, &batch.id.source.as_bytes()[..])?;
        }
    }
    Ok(())
}

fn note_offer(connection: &Connection, place: Place<'_>, offer: &Offer) -> rusqlite::Result<()> {
    // Of two words of one source the later in its own order counts, whichever comes first here.
    connection
        .prepare_cached(
            "INSERT INTO offers (room, hash, source, name, at, life, seq, n, kept_ms, nick, size, manifest, first)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?5) ON CONFLICT (room, hash, source, name)
             DO UPDATE SET at = max(at, ?5), life = ?6, seq = ?7, n = ?8, kept_ms = ?9, nick = ?10, size = ?11,
             manifest = ?12, first = CASE WHEN size = ?11 AND manifest IS ?12 THEN first ELSE ?5 END
             WHERE (life, seq, n) <= (?6, ?7, ?8)",
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
            "UPDATE offers SET first = ?5 WHERE room = ?1 AND hash = ?2 AND source = ?3 AND name = ?4
             AND first > ?5 AND size = ?6 AND manifest IS ?7",
        )?
        .execute(params![
            place.room,
            &offer.hash.as_bytes()[..],
            &place.batch.source.as_bytes()[..],
            offer.name,
            place.at,
            integer(offer.size),
            offer.manifest.map(integer),
        ])?;
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
    Ok(())
}

/// Keeps of a source, and of its group, no more than is allowed.
fn prune(connection: &Connection, table: &str, room: i64, source: &[u8]) -> rusqlite::Result<()> {
    let of_source = format!("SELECT count(*) FROM {table} WHERE room = ?1 AND source = ?2");
    let of_source: i64 =
        connection.prepare_cached(&of_source)?.query_row(params![room, source], |row| row.get(0))?;
    let is_greedy = usize::try_from(of_source).unwrap_or(0) > MAX_OF_SOURCE;
    if is_greedy {
        keep_newest(connection, table, (room, source), MAX_OF_SOURCE - MAX_OF_SOURCE / SPARE)?;
    }
    let of_room = format!("SELECT count(*) FROM {table} WHERE room = ?1");
    let of_room: i64 = connection.prepare_cached(&of_room)?.query_row([room], |row| row.get(0))?;
    let is_full = usize::try_from(of_room).unwrap_or(0) > MAX_OFFERS;
    if is_full {
        share_out(connection, table, room, MAX_OFFERS - MAX_OFFERS / SPARE)?;
    }
    if is_greedy || is_full { forget_holders(connection) } else { Ok(()) }
}

/// Takes from those who have most until there are no more than so many.
fn share_out(connection: &Connection, table: &str, room: i64, most: usize) -> rusqlite::Result<()> {
    let each = format!("SELECT source, count(*) FROM {table} WHERE room = ?1 GROUP BY source");
    let mut each = connection.prepare_cached(&each)?;
    let sources: Vec<(Vec<u8>, i64)> =
        each.query_map([room], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    let counts: Vec<usize> = sources.iter().map(|it| usize::try_from(it.1).unwrap_or(0)).collect();
    let share = share(&counts, most);
    for ((source, _), _) in sources.iter().zip(counts).filter(|(_, count)| *count > share) {
        keep_newest(connection, table, (room, source), share)?;
    }
    // If more members announce than there is room, each has one by now.
    connection.prepare_cached(&all_but_newest(table))?.execute(params![room, integer(most as u64 - 1)])?;
    Ok(())
}

/// How many each may keep, so that all have at most so many; at least one.
fn share(counts: &[usize], most: usize) -> usize {
    let mut counts = counts.to_vec();
    counts.sort_unstable();
    let mut left = most;
    for (at, count) in counts.iter().enumerate() {
        let share = left / (counts.len() - at);
        if *count > share {
            return share.max(1);
        }
        left -= count;
    }
    usize::MAX
}

fn keep_newest(
    connection: &Connection,
    table: &str,
    (room, source): (i64, &[u8]),
    most: usize,
) -> rusqlite::Result<()> {
    let older = all_but_newest_of_source(table);
    connection.prepare_cached(&older)?.execute(params![room, source, integer(most as u64 - 1)])?;
    Ok(())
}

fn all_but_newest(table: &str) -> String {
    format!(
        "DELETE FROM {table} WHERE room = ?1 AND at < (SELECT at FROM {table} WHERE room = ?1
         ORDER BY at DESC LIMIT 1 OFFSET ?2)"
    )
}

fn all_but_newest_of_source(table: &str) -> String {
    format!(
        "DELETE FROM {table} WHERE room = ?1 AND source = ?2 AND (at, n) < (SELECT at, n FROM {table}
         WHERE room = ?1 AND source = ?2 ORDER BY at DESC, n DESC LIMIT 1 OFFSET ?3)"
    )
}

/// Who had files that nobody knows of any more.
fn forget_holders(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM holders WHERE hash NOT IN (SELECT hash FROM offers)", ())?;
    Ok(())
}

/// The group is left.
pub(super) fn forget(connection: &Connection, group: GroupId) -> rusqlite::Result<()> {
    for table in ["offers", "retractions"] {
        let of_group =
            format!("DELETE FROM {table} WHERE room = (SELECT room FROM rooms WHERE group_id = ?1)");
        connection.execute(&of_group, [&group.as_bytes()[..]])?;
    }
    forget_holders(connection)
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

const OFFERS: &str = "SELECT group_id, offers.source, offers.nick, kept_ms, offers.hash, name, size,
     manifest, ending, first FROM offers JOIN rooms USING (room) LEFT JOIN retractions AS said ON said.room = offers.room
     AND said.hash = offers.hash AND said.source = offers.source
     AND (said.life, said.seq, said.n) > (offers.life, offers.seq, offers.n) WHERE group_id NOT NULL";

fn known(row: &Row<'_>) -> rusqlite::Result<KnownOffer> {
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
        first: row.get(9)?,
        ending: ending(row.get(8)?),
    })
}

impl Shelf {
    /// What was announced, in one group or all, oldest first.
    pub(crate) fn offers(&self, group: Option<GroupId>) -> Result<Vec<KnownOffer>, SaveError> {
        self.told(self.try_offers(group))
    }

    fn try_offers(&self, group: Option<GroupId>) -> rusqlite::Result<Vec<KnownOffer>> {
        let select = format!("{OFFERS} AND (?1 IS NULL OR group_id = ?1) ORDER BY offers.at, offers.n");
        let mut select = self.connection.prepare_cached(&select)?;
        select.query_map([group.map(|it| it.as_bytes().to_vec())], known)?.collect()
    }

    /// What one announced, in all groups, oldest first.
    pub(crate) fn offers_by(&self, source: NodeId) -> Result<Vec<KnownOffer>, SaveError> {
        let read = || {
            let select = format!("{OFFERS} AND offers.source = ?1 ORDER BY offers.at, offers.n");
            let mut select = self.connection.prepare_cached(&select)?;
            select.query_map([&source.as_bytes()[..]], known)?.collect()
        };
        self.told(read())
    }

    /// Which of some files were announced in a group, the latest first, and which of them by this source.
    pub(crate) fn offered(
        &self,
        group: GroupId,
        source: NodeId,
        hashes: &[FileHash],
    ) -> Result<Vec<(FileHash, bool)>, SaveError> {
        let read = || {
            let mut select = self.connection.prepare_cached(
                "SELECT max(at), max(source = ?3) FROM offers WHERE hash = ?2
                 AND room = (SELECT room FROM rooms WHERE group_id = ?1)",
            )?;
            let mut found: Vec<(i64, FileHash, bool)> = Vec::new();
            for hash in hashes {
                let key = [&group.as_bytes()[..], &hash.as_bytes()[..], &source.as_bytes()[..]];
                let row = |row: &Row<'_>| Ok((row.get::<_, Option<i64>>(0)?, row.get(1)?));
                let (at, is_own): (_, Option<bool>) = select.query_row(key, row)?;
                found.extend(at.map(|at| (at, *hash, is_own == Some(true))));
            }
            found.sort_unstable_by_key(|it| std::cmp::Reverse(it.0));
            Ok(found.into_iter().map(|(_, hash, is_own)| (hash, is_own)).collect())
        };
        self.told(read())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema;

    fn empty() -> Connection {
        let mut connection = Connection::open_in_memory().expect("opens");
        schema::migrate(&mut connection, 0).expect("good SQL");
        connection
    }

    fn place(source: u8, seq: u64, at: i64) -> Place<'static> {
        let batch = BatchId { source: NodeId::from_bytes([source; 32]), life: 1, seq };
        Place { room: 1, at, kept_ms: 0, nick: "ada", batch, n: 0 }
    }

    fn hash(source: u8, number: u64) -> FileHash {
        let mut hash = [source; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        FileHash::from_bytes(hash)
    }

    fn offer(hash: FileHash, size: u64) -> Offer {
        Offer { hash, name: "it".to_owned(), size, manifest: None }
    }

    fn count(connection: &Connection, of: &str) -> i64 {
        let count = format!("SELECT count(*) FROM {of}");
        connection.query_row(&count, (), |row| row.get(0)).expect("counted")
    }

    #[test]
    fn who_announces_much_loses_its_own_oldest() {
        let connection = empty();
        connection.execute_batch("BEGIN").expect("begun");
        let prune = |source: u8| prune(&connection, "offers", 1, &[source; 32]).expect("pruned");
        note_offer(&connection, place(1, 0, 1), &offer(hash(1, 0), 1)).expect("noted");
        let full = MAX_OFFERS / MAX_OF_SOURCE + 2;
        for source in (2..).take(full) {
            for number in 0..=MAX_OF_SOURCE as u64 {
                let at = i64::from(source) * 10_000 + number as i64;
                note_offer(&connection, place(source, number, at), &offer(hash(source, number), 1))
                    .expect("noted");
                if number % 500 == 0 {
                    holder(&connection, hash(source, number), NodeId::from_bytes([9; 32]), 1).expect("noted");
                }
            }
            prune(source);
            let of_source = format!("offers WHERE source = x'{}'", format!("{source:02x}").repeat(32));
            let kept = count(&connection, &of_source);
            assert!((1..MAX_OF_SOURCE as i64).contains(&kept), "{kept} of {source}");
            let newest = format!("{of_source} AND seq = {MAX_OF_SOURCE}");
            let oldest = format!("{of_source} AND seq = 0");
            assert_eq!((count(&connection, &newest), count(&connection, &oldest)), (1, 0));
        }
        let all = count(&connection, "offers");
        assert!((9_000..=MAX_OFFERS as i64).contains(&all), "{all}");
        let quiet = format!("offers WHERE source = x'{}'", "01".repeat(32));
        assert_eq!(count(&connection, &quiet), 1, "whoever announces little stays");
        let lost = "holders WHERE hash NOT IN (SELECT hash FROM offers)";
        assert_eq!((count(&connection, lost), count(&connection, "holders") > 0), (0, true));
    }

    #[test]
    fn room_is_shared_out_among_those_who_have_most() {
        assert_eq!(share(&[1, 5, 1_000], 100), 94);
        assert_eq!(share(&[1_000, 1, 1_000], 100), 49);
        assert_eq!(share(&[1; 200], 100), 1);
        assert_eq!(share(&[7, 3], 10), usize::MAX);
    }

    #[test]
    fn what_goes_is_found_by_an_index() {
        let connection = empty();
        for table in ["offers", "retractions"] {
            for delete in [all_but_newest(table), all_but_newest_of_source(table)] {
                let plan = format!("EXPLAIN QUERY PLAN {delete}");
                let mut explain = connection.prepare(&plan).expect("good SQL");
                let blanks = vec![1; explain.parameter_count()];
                let row = |row: &Row<'_>| row.get::<_, String>(3);
                let steps = explain.query_map(rusqlite::params_from_iter(blanks), row).expect("explained");
                for step in steps.map(|step| step.expect("read")) {
                    assert!(!step.starts_with("SCAN") && !step.contains("TEMP"), "{delete}: {step}");
                }
            }
        }
    }

    #[test]
    fn the_later_word_of_a_source_counts_whichever_comes_first() {
        let (connection, it) = (empty(), hash(1, 1));
        // The announcement's number, its places here, the size.
        let row = || {
            let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
            let select = "SELECT seq, at, first, size FROM offers";
            connection.query_row::<(i64, i64, i64, i64), _, _>(select, (), row).expect("one")
        };
        let told = [
            ((5, 10, 4), (5, 10, 10, 4)),
            // Older ones that come late, as something else and as the same.
            ((2, 20, 3), (5, 10, 10, 4)),
            ((1, -7, 4), (5, 10, -7, 4)),
            // Newer ones.
            ((6, -9, 4), (6, 10, -9, 4)),
            ((7, 30, 4), (7, 30, -9, 4)),
            ((8, 40, 2), (8, 40, 40, 2)),
        ];
        for ((seq, at, size), expected) in told {
            note_offer(&connection, place(1, seq, at), &offer(it, size)).expect("noted");
            assert_eq!(row(), expected, "{seq}");
        }
    }
}
