//! Writing the history: batches in the order of their delivery, and how far this node is.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use treecast_overlay::io::{HistoryBatch, SourceRecord};
use treecast_overlay::{GroupId, Life, NodeId, Retention, Seq};

use super::upkeep::index_one;
use super::work::integer;
use super::{offers, order};

/// A batch for the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptBatch {
    /// Its place in the history of the node; never used twice.
    pub(crate) at: u64,
    /// What its source called itself.
    pub(crate) nick: Arc<str>,
    /// When it came.
    pub(crate) kept_ms: u64,
    /// It waits for its place in a total order.
    pub(crate) unsettled: bool,
    /// It.
    pub(crate) batch: HistoryBatch,
}

impl KeptBatch {
    /// What it takes in memory while it waits, roughly.
    pub(crate) fn weight(&self) -> usize {
        self.batch.bytes.len() + 256
    }
}

/// Numbers of rooms and chains that were looked up. Void once a transaction failed.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    rooms: HashMap<GroupId, i64>,
    chains: HashMap<(i64, NodeId, Life), i64>,
}

/// Chains remembered; beyond, they are looked up again. Guess.
const MAX_NUMBERS: usize = 65_536;

impl Numbers {
    pub(super) fn clear(&mut self) {
        self.rooms.clear();
        self.chains.clear();
    }

    pub(super) fn room(&mut self, connection: &Connection, group: GroupId) -> rusqlite::Result<i64> {
        if let Some(room) = self.rooms.get(&group) {
            return Ok(*room);
        }
        let id = &group.as_bytes()[..];
        connection
            .prepare_cached("INSERT INTO rooms (group_id) VALUES (?1) ON CONFLICT DO NOTHING")?
            .execute([id])?;
        let room = connection
            .prepare_cached("SELECT room FROM rooms WHERE group_id = ?1")?
            .query_row([id], |row| row.get(0))?;
        self.rooms.insert(group, room);
        Ok(room)
    }

    pub(super) fn chain(
        &mut self,
        connection: &Connection,
        room: i64,
        source: NodeId,
        life: Life,
    ) -> rusqlite::Result<i64> {
        if let Some(chain) = self.chains.get(&(room, source, life)) {
            return Ok(*chain);
        }
        let key = params![room, &source.as_bytes()[..], integer(life)];
        connection
            .prepare_cached(
                "INSERT INTO chains (room, source, life) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            )?
            .execute(key)?;
        let chain = connection
            .prepare_cached("SELECT chain FROM chains WHERE room = ?1 AND source = ?2 AND life = ?3")?
            .query_row(key, |row| row.get(0))?;
        if self.chains.len() >= MAX_NUMBERS {
            self.chains.clear();
        }
        self.chains.insert((room, source, life), chain);
        Ok(chain)
    }
}

/// What this node published, before it leaves.
pub(super) fn own(
    connection: &Connection,
    numbers: &mut Numbers,
    group: GroupId,
    kept: &KeptBatch,
) -> rusqlite::Result<()> {
    let room = numbers.room(connection, group)?;
    insert(connection, numbers, (room, group), std::slice::from_ref(kept))?;
    let HistoryBatch { id, digest, .. } = &kept.batch;
    let chain = numbers.chain(connection, room, id.source, id.life)?;
    connection
        .prepare_cached("UPDATE chains SET next = ?2, head = ?3 WHERE chain = ?1 AND next < ?2")?
        .execute(params![chain, integer(id.seq + 1), &digest.as_bytes()[..]])?;
    Ok(())
}

/// What was delivered, and how far this node is.
pub(super) fn history(
    connection: &Connection,
    numbers: &mut Numbers,
    group: GroupId,
    entered: bool,
    batches: &[KeptBatch],
    sources: &[SourceRecord],
) -> rusqlite::Result<()> {
    let room = numbers.room(connection, group)?;
    if entered {
        connection
            .prepare_cached("UPDATE rooms SET entered = 1 WHERE room = ?1 AND entered = 0")?
            .execute([room])?;
    }
    insert(connection, numbers, (room, group), batches)?;
    sources.iter().try_for_each(|source| write_source(connection, numbers, room, source))
}

fn insert(
    connection: &Connection,
    numbers: &mut Numbers,
    room: (i64, GroupId),
    batches: &[KeptBatch],
) -> rusqlite::Result<()> {
    let row = |it| {
        let KeptBatch { at, kept_ms, nick, unsettled, batch }: &KeptBatch = it;
        Row { at: integer(*at), kept_ms: *kept_ms, nick, unsettled: *unsettled, batch }
    };
    let rows: Vec<Row<'_>> = batches.iter().map(row).collect();
    insert_at(connection, numbers, room, &rows)
}

/// A batch and its place.
pub(super) struct Row<'a> {
    pub(super) at: i64,
    pub(super) kept_ms: u64,
    pub(super) nick: &'a str,
    pub(super) unsettled: bool,
    pub(super) batch: &'a HistoryBatch,
}

pub(super) fn insert_at(
    connection: &Connection,
    numbers: &mut Numbers,
    (room, group): (i64, GroupId),
    rows: &[Row<'_>],
) -> rusqlite::Result<()> {
    let (mut messages, mut bytes) = (0, 0);
    let indexed: i64 =
        connection.prepare_cached("SELECT upto FROM indexed")?.query_row((), |row| row.get(0))?;
    for kept in rows {
        let HistoryBatch { id, bytes: body, messages: count, payload, .. } = kept.batch;
        let chain = numbers.chain(connection, room, id.source, id.life)?;
        // A batch that came once more, after a crash or to a restored store, keeps its place.
        let new = connection
            .prepare_cached(
                "INSERT INTO batches (at, room, chain, seq, kept_ms, messages, bytes, nick, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (chain, seq) DO NOTHING",
            )?
            .execute(params![
                kept.at,
                room,
                chain,
                integer(id.seq),
                integer(kept.kept_ms),
                count,
                integer(*payload),
                kept.nick,
                &body[..],
            ])?;
        if new > 0 {
            messages += i64::from(*count);
            bytes += integer(*payload);
            offers::note(connection, (room, group), (kept.at, kept.kept_ms, kept.nick), kept.batch)?;
            // A write that was tried again, or what was said before our time: the index has passed its place.
            if kept.at <= indexed && *count > 0 {
                index_one(connection, kept.at, group, body.clone())?;
            }
        }
        if kept.unsettled {
            let at = if new > 0 { kept.at } else { place_of(connection, chain, id.seq)? };
            order::wait(connection, room, kept.at, at, new > 0)?;
        }
    }
    if messages > 0 || bytes > 0 {
        connection
            .prepare_cached("UPDATE rooms SET messages = messages + ?2, bytes = bytes + ?3 WHERE room = ?1")?
            .execute([room, messages, bytes])?;
    }
    Ok(())
}

fn place_of(connection: &Connection, chain: i64, seq: Seq) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT at FROM batches WHERE chain = ?1 AND seq = ?2")?
        .query_row([chain, integer(seq)], |row| row.get(0))
}

fn write_source(
    connection: &Connection,
    numbers: &mut Numbers,
    room: i64,
    record: &SourceRecord,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO sources (room, source, floor) VALUES (?1, ?2, ?3)
             ON CONFLICT (room, source) DO UPDATE SET floor = ?3 WHERE floor < ?3",
        )?
        .execute(params![room, &record.source.as_bytes()[..], integer(record.floor)])?;
    for (life, end) in &record.closed {
        let chain = numbers.chain(connection, room, record.source, *life)?;
        connection
            .prepare_cached("UPDATE chains SET next = ?2 WHERE chain = ?1 AND next < ?2")?
            .execute(params![chain, integer(*end)])?;
    }
    for life in &record.lives {
        let chain = numbers.chain(connection, room, record.source, life.life)?;
        let head = life.head.as_ref().map(|head| &head.as_bytes()[..]);
        connection
            .prepare_cached(
                "UPDATE chains SET next = ?2, head = ?3, ending = ?4 WHERE chain = ?1 AND next <= ?2",
            )?
            .execute(params![chain, integer(life.next), head, life.end.map(integer)])?;
    }
    Ok(())
}

/// Others are known to have this node's own batches below `next`.
pub(super) fn taken(
    connection: &Connection,
    group: GroupId,
    source: NodeId,
    life: Life,
    next: u64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE chains SET taken = ?4 WHERE taken < ?4 AND source = ?2 AND life = ?3
             AND room = (SELECT room FROM rooms WHERE group_id = ?1)",
        )?
        .execute(params![&group.as_bytes()[..], &source.as_bytes()[..], integer(life), integer(next)])?;
    Ok(())
}

/// How much of a group is to be kept at least.
pub(super) fn retain(
    connection: &Connection,
    numbers: &mut Numbers,
    group: GroupId,
    retention: &Retention,
) -> rusqlite::Result<()> {
    let room = numbers.room(connection, group)?;
    let Retention { age_s, bytes, count } = *retention;
    connection.execute(
        "UPDATE rooms SET retain_age_s = ?2, retain_bytes = ?3, retain_count = ?4 WHERE room = ?1",
        params![room, age_s.map(integer), bytes.map(integer), count.map(integer)],
    )?;
    Ok(())
}

/// The group is left: what was kept of it goes when there is time for that.
pub(super) fn forget(connection: &Connection, numbers: &mut Numbers, group: GroupId) -> rusqlite::Result<()> {
    numbers.clear();
    let of_group = "DELETE FROM removals WHERE room = (SELECT room FROM rooms WHERE group_id = ?1)";
    connection.execute(of_group, [&group.as_bytes()[..]])?;
    order::forget(connection, group)?;
    offers::forget(connection, group)?;
    connection.execute("UPDATE rooms SET group_id = NULL WHERE group_id = ?1", [&group.as_bytes()[..]])?;
    Ok(())
}

/// A member is removed; what was kept of it before is replaced.
pub(super) fn removal(
    connection: &Connection,
    numbers: &mut Numbers,
    group: GroupId,
    node: &NodeId,
    record: &[u8],
) -> rusqlite::Result<()> {
    let room = numbers.room(connection, group)?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO removals (room, victim, record) VALUES (?1, ?2, ?3)")?
        .execute(params![room, &node.as_bytes()[..], record])?;
    Ok(())
}

/// The first place in the history that was never used.
pub(super) fn next_at(connection: &Connection) -> rusqlite::Result<u64> {
    let last: Option<i64> = connection
        .query_row("SELECT max(coalesce((SELECT max(at) FROM batches), 0), upto) FROM indexed", (), |row| {
            row.get(0)
        })
        .optional()?
        .flatten();
    Ok(u64::try_from(last.unwrap_or(0)).unwrap_or(0) + 1)
}
