//! What the thread that writes does when nobody waits for it: the index for searching, and letting
//! go of what need not be kept.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::{Connection, params};
use treecast_overlay::io::Shown;
use treecast_overlay::{GroupId, NodeId};

use super::fold::fold;
use super::record::Numbers;
use super::work::integer;

/// Batches that are indexed, or deleted, in one transaction: writers wait for that long.
const AT_ONCE: i64 = 128;

/// Bytes that are indexed in one transaction: some tens of milliseconds.
const INDEXED_AT_ONCE: usize = 256 << 10;

/// While batches come the index waits, since it costs more than they do; but not for ever: then it takes no
/// more than so much of the time that writing takes. Where that is little, no more than so much of all time.
const QUIET_FOR: Duration = Duration::from_millis(500);
const SHARE_WHILE_BUSY: u32 = 10;
const SHARE_OF_ALL: u32 = 50;

/// Pages given back in one go.
const PAGES: u32 = 512;

/// What is kept of a group that says nothing of it, bytes of payload. Guess: years of talk.
const DEFAULT_BYTES: i64 = 1 << 30;

/// What may be done next; each turn is short.
#[derive(Debug)]
pub(super) struct Upkeep {
    me: NodeId,
    /// Groups whose history is to be looked at, and when that was begun.
    rooms: Vec<i64>,
    looked_ms: u64,
    /// There may be something to index.
    unindexed: bool,
    /// The index is not behind by more than a while, however busy the store is: until then, or until so
    /// much more time went into writing.
    next_index: Instant,
    writes_first: Duration,
    /// When something was written last.
    wrote: Instant,
    /// Something was deleted since space was given back.
    spare: bool,
    /// Something was written since the last look.
    written: bool,
}

/// Between looks at what may go, milliseconds.
const LOOK_EVERY_MS: u64 = 2_000;

impl Upkeep {
    pub(super) fn new(me: NodeId) -> Self {
        Self {
            me,
            rooms: Vec::new(),
            looked_ms: 0,
            unindexed: true,
            next_index: Instant::now(),
            writes_first: Duration::ZERO,
            wrote: Instant::now(),
            spare: true,
            written: true,
        }
    }

    /// Something was written, in so much time.
    pub(super) fn on_written(&mut self, took: Duration) {
        (self.unindexed, self.written) = (true, true);
        self.writes_first = self.writes_first.saturating_sub(took);
        self.wrote = Instant::now();
    }

    /// How long until there is something to do; at most `idle`.
    pub(super) fn due_in(&self, now_ms: u64, idle: Duration) -> Duration {
        if self.spare || !self.rooms.is_empty() || self.looks(now_ms) {
            return Duration::ZERO;
        }
        if self.unindexed { idle.min(self.index_in()) } else { idle }
    }

    /// How long the index is to wait.
    fn index_in(&self) -> Duration {
        if self.writes_first.is_zero() {
            return Duration::ZERO;
        }
        let quiet = self.wrote + QUIET_FOR;
        quiet.min(self.next_index).saturating_duration_since(Instant::now())
    }

    /// Age passes without a write, but not so fast.
    fn looks(&self, now_ms: u64) -> bool {
        let pause = if self.written { LOOK_EVERY_MS } else { 30 * LOOK_EVERY_MS };
        // A clock that was set back is no reason to wait.
        now_ms.abs_diff(self.looked_ms) >= pause
    }

    /// One short turn.
    pub(super) fn turn(
        &mut self,
        connection: &mut Connection,
        numbers: &mut Numbers,
        now_ms: u64,
    ) -> rusqlite::Result<()> {
        if self.looks(now_ms) {
            (self.looked_ms, self.written) = (now_ms, false);
            self.rooms = rooms(connection)?;
        }
        if let Some(room) = self.rooms.last().copied() {
            if let_go(connection, numbers, room, &self.me, now_ms)? {
                self.spare = true;
            } else {
                self.rooms.pop();
            }
        } else if self.unindexed && self.index_in().is_zero() {
            let began = Instant::now();
            self.unindexed = index(connection)?;
            let took = began.elapsed();
            self.next_index = Instant::now() + took * SHARE_OF_ALL;
            // One write at least, also at the first.
            self.writes_first = (took * SHARE_WHILE_BUSY).max(QUIET_FOR / SHARE_WHILE_BUSY);
        } else if self.spare {
            self.spare = give_back(connection)?;
        }
        Ok(())
    }

    /// After a failure: the same would fail again at once.
    pub(super) fn pause(&mut self, now_ms: u64) {
        (self.unindexed, self.spare) = (false, false);
        self.rooms.clear();
        self.looked_ms = now_ms;
    }
}

fn rooms(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    connection.prepare_cached("SELECT room FROM rooms")?.query_map((), |row| row.get(0))?.collect()
}

/// Puts some batches into the index. Whether there may be more.
fn index(connection: &mut Connection) -> rusqlite::Result<bool> {
    let transaction = connection.transaction()?;
    let (mut read, mut bytes): (i64, usize) = (0, 0);
    let mut more = false;
    {
        let mut upto: i64 = transaction.query_row("SELECT upto FROM indexed", (), |row| row.get(0))?;
        let mut select = transaction.prepare_cached(
            "SELECT at, group_id, body, batches.messages FROM batches JOIN rooms USING (room) WHERE at > ?1 ORDER BY at LIMIT ?2",
        )?;
        let mut insert = transaction.prepare_cached("INSERT INTO words (rowid, text) VALUES (?1, ?2)")?;
        let mut rows = select.query([upto, AT_ONCE])?;
        while let Some(row) = rows.next()? {
            upto = row.get(0)?;
            read += 1;
            // What has no message is an order's own record.
            let group: Option<[u8; 32]> = row.get(1)?;
            let (body, messages): (Vec<u8>, u32) = (row.get(2)?, row.get(3)?);
            let group = group.filter(|_| messages > 0);
            if let Some(text) = group.and_then(|group| text(GroupId::from_bytes(group), body.into())) {
                bytes += text.len();
                insert.execute(params![upto, text])?;
            }
            if bytes >= INDEXED_AT_ONCE {
                more = true;
                break;
            }
        }
        if read > 0 {
            transaction.execute("UPDATE indexed SET upto = ?1", [upto])?;
        }
    }
    transaction.commit()?;
    Ok(more || read == AT_ONCE)
}

/// Puts one batch into the index, whose place that has passed already.
pub(super) fn index_one(
    connection: &Connection,
    at: i64,
    group: GroupId,
    body: Bytes,
) -> rusqlite::Result<()> {
    if let Some(text) = text(group, body) {
        connection
            .prepare_cached("INSERT INTO words (rowid, text) VALUES (?1, ?2)")?
            .execute(params![at, text])?;
    }
    Ok(())
}

/// All texts of a batch, as they are searched.
fn text(group: GroupId, body: Bytes) -> Option<String> {
    let shown = Shown::read(&group, body)?;
    let texts = shown.messages.iter().filter_map(|(_, payload)| std::str::from_utf8(payload).ok());
    Some(texts.map(fold).collect::<Vec<_>>().join("\n")).filter(|text| !text.is_empty())
}

/// What is to be kept of a room, and what there is.
struct Room {
    is_left: bool,
    age_s: Option<i64>,
    most_bytes: Option<i64>,
    most_messages: Option<i64>,
    messages: i64,
    bytes: i64,
}

impl Room {
    fn read(connection: &Connection, room: i64) -> rusqlite::Result<Self> {
        connection
            .prepare_cached(
                "SELECT group_id IS NULL, retain_age_s, retain_bytes, retain_count, messages, bytes
                 FROM rooms WHERE room = ?1",
            )?
            .query_row([room], |row| {
                let (age_s, most_bytes, most_messages) = (row.get(1)?, row.get(2)?, row.get(3)?);
                let says_nothing = (age_s, most_bytes, most_messages) == (None, None, None);
                Ok(Self {
                    is_left: row.get(0)?,
                    age_s,
                    most_bytes: if says_nothing { Some(DEFAULT_BYTES) } else { most_bytes },
                    most_messages,
                    messages: row.get(4)?,
                    bytes: row.get(5)?,
                })
            })
    }

    /// Whether the oldest batch may go: all bounds are met without it, or one is exceeded with it.
    fn may_lose(&self, old: &Old, now_ms: i64) -> bool {
        let too_old =
            self.age_s.is_some_and(|age| now_ms.saturating_sub(old.kept_ms) > age.saturating_mul(1_000));
        let too_large = self.most_bytes.is_some_and(|most| self.bytes - old.bytes >= most);
        let too_many = self.most_messages.is_some_and(|most| self.messages - old.messages >= most);
        self.is_left || too_old || too_large || too_many
    }
}

/// A batch that may go.
struct Old {
    at: i64,
    kept_ms: i64,
    messages: i64,
    bytes: i64,
}

/// Deletes some of what need not be kept, oldest first. Whether there may be more.
fn let_go(
    connection: &mut Connection,
    numbers: &mut Numbers,
    room: i64,
    me: &NodeId,
    now_ms: u64,
) -> rusqlite::Result<bool> {
    let transaction = connection.transaction()?;
    let mut it = Room::read(&transaction, room)?;
    let (mut gone, before) = (0, (it.messages, it.bytes));
    for old in oldest(&transaction, room, it.is_left, me)? {
        if !it.may_lose(&old, integer(now_ms)) {
            break;
        }
        transaction.prepare_cached("DELETE FROM words WHERE rowid = ?1")?.execute([old.at])?;
        transaction.prepare_cached("DELETE FROM places WHERE at = ?1")?.execute([old.at])?;
        transaction.prepare_cached("DELETE FROM batches WHERE at = ?1")?.execute([old.at])?;
        (it.messages, it.bytes) = (it.messages - old.messages, it.bytes - old.bytes);
        gone += 1;
    }
    if gone > 0 {
        let less = [room, before.0 - it.messages, before.1 - it.bytes];
        transaction
            .execute("UPDATE rooms SET messages = messages - ?2, bytes = bytes - ?3 WHERE room = ?1", less)?;
    }
    if gone < AT_ONCE {
        forget_chains(&transaction, room, it.is_left && gone == 0)?;
        numbers.clear();
    }
    transaction.commit()?;
    Ok(gone > 0)
}

/// The oldest batches, but for this node's own that nobody has yet, and for those that wait for a place in a
/// total order.
fn oldest(connection: &Connection, room: i64, is_left: bool, me: &NodeId) -> rusqlite::Result<Vec<Old>> {
    const NEEDED: &str = "(?2 OR NOT EXISTS (
                   SELECT 1 FROM chains WHERE chains.chain = batches.chain
                   AND chains.source = ?4 AND batches.seq >= chains.taken))
               AND NOT EXISTS (SELECT 1 FROM unsettled WHERE unsettled.at = batches.at)";
    let read = |sql: &str| -> rusqlite::Result<Vec<Old>> {
        let mut select = connection.prepare_cached(sql)?;
        let rows = select.query_map(params![room, is_left, AT_ONCE, &me.as_bytes()[..]], |row| {
            Ok(Old { at: row.get(0)?, kept_ms: row.get(1)?, messages: row.get(2)?, bytes: row.get(3)? })
        })?;
        rows.collect()
    };
    let has_places =
        connection.prepare_cached("SELECT 1 FROM places WHERE room = ?1 LIMIT 1")?.exists([room])?;
    if !has_places {
        return read(&format!(
            "SELECT at, kept_ms, messages, bytes FROM batches WHERE room = ?1 AND {NEEDED} ORDER BY at LIMIT ?3"
        ));
    }
    // From the first place on, so that no hole is left; what has none goes with what came when it did.
    let unplaced = read(&format!(
        "SELECT at, kept_ms, messages, bytes FROM batches WHERE room = ?1 AND {NEEDED}
         AND NOT EXISTS (SELECT 1 FROM places WHERE places.at = batches.at) ORDER BY at LIMIT ?3"
    ))?;
    let placed = read(&format!(
        "SELECT at, kept_ms, messages, bytes FROM places JOIN batches USING (at)
         WHERE places.room = ?1 AND {NEEDED} ORDER BY place LIMIT ?3"
    ))?;
    let mut all: Vec<(i64, Old)> = in_time(unplaced).chain(in_time(placed)).collect();
    all.sort_by_key(|it| it.0);
    Ok(all.into_iter().take(AT_ONCE as usize).map(|it| it.1).collect())
}

/// Batches with the time by which they go: each when those before it do, or later.
fn in_time(batches: Vec<Old>) -> impl Iterator<Item = (i64, Old)> {
    batches.into_iter().scan(i64::MIN, |latest, old| {
        // What was said before this node's time goes first.
        *latest = if old.at < 0 { *latest } else { (*latest).max(old.kept_ms) };
        Some((*latest, old))
    })
}

/// Lives that are over and of which nothing is left; all of a room that is empty and left.
fn forget_chains(connection: &Connection, room: i64, all: bool) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM chains WHERE room = ?1
         AND (?2 OR life < (SELECT floor FROM sources WHERE sources.room = ?1 AND sources.source = chains.source))
         AND NOT EXISTS (SELECT 1 FROM batches WHERE batches.chain = chains.chain)",
        params![room, all],
    )?;
    if all {
        connection.execute("DELETE FROM sources WHERE room = ?1", [room])?;
        connection.execute("DELETE FROM rooms WHERE room = ?1 AND group_id IS NULL", [room])?;
    }
    Ok(())
}

/// Gives some free pages back to the disk. Whether there may be more.
fn give_back(connection: &Connection) -> rusqlite::Result<bool> {
    let free = |it: &Connection| it.pragma_query_value(None, "freelist_count", |row| row.get::<_, u32>(0));
    let before = free(connection)?;
    if before == 0 {
        return Ok(false);
    }
    // Each step frees one page.
    let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    let mut steps = vacuum.raw_query();
    while steps.next()?.is_some() {}
    drop(steps);
    let after = free(connection)?;
    Ok(after > 0 && after < before)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(9);

    #[test]
    fn the_index_waits_while_batches_come_but_not_for_ever() {
        let mut upkeep = Upkeep::new(NodeId::from_bytes([1; 32]));
        (upkeep.spare, upkeep.written, upkeep.looked_ms) = (false, false, 5);
        (upkeep.next_index, upkeep.writes_first) = (Instant::now() + IDLE, Duration::from_millis(3));
        upkeep.on_written(Duration::from_millis(1));
        let wait = upkeep.due_in(5, IDLE);
        assert!(!wait.is_zero() && wait <= QUIET_FOR, "{wait:?}");
        upkeep.wrote = Instant::now().checked_sub(QUIET_FOR).expect("the machine runs for longer");
        assert_eq!(upkeep.due_in(5, IDLE), Duration::ZERO, "nothing comes any more");
        upkeep.on_written(Duration::from_millis(1));
        upkeep.next_index = Instant::now();
        assert_eq!(upkeep.due_in(5, IDLE), Duration::ZERO, "its share of all time");
        upkeep.next_index = Instant::now() + IDLE;
        assert_ne!(upkeep.due_in(5, IDLE), Duration::ZERO);
        upkeep.on_written(Duration::from_millis(1));
        assert_eq!(upkeep.due_in(5, IDLE), Duration::ZERO, "its share of the time that writing takes");
        upkeep.unindexed = false;
        assert_eq!(upkeep.due_in(5, IDLE), IDLE);
    }
}
