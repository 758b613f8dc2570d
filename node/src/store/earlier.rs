//! What was said before this node's time: below all that was delivered here.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};
use treecast_overlay::io::{EarlierPlace, FetchEarlier, KeepEarlier};
use treecast_overlay::wire::MAX_FRAME;
use treecast_overlay::{GroupId, NodeId};

use super::read::{ReadError, bytes};
use super::record::{Numbers, Row, insert_at};

/// What a piece adds around one batch, bytes, at the most.
const AROUND: usize = 128;

/// A piece of a history for somebody who came later.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Piece {
    /// When each came here, and itself; latest first.
    pub(crate) batches: Vec<(u64, Bytes)>,
    /// Where the last of them stands.
    pub(crate) last: Option<i64>,
    /// Nothing stands before it.
    pub(crate) end: bool,
}

/// Keeps a piece, and how far that goes.
pub(super) fn keep(
    connection: &Connection,
    numbers: &mut Numbers,
    keep: &KeepEarlier,
    now_ms: u64,
) -> rusqlite::Result<()> {
    let room = numbers.room(connection, keep.group)?;
    let lowest: i64 = connection
        .prepare_cached("SELECT min(coalesce((SELECT min(at) FROM batches), 0), 0)")?
        .query_row((), |row| row.get(0))?;
    for (below, it) in (1..).zip(&keep.batches) {
        let kept_ms = now_ms.saturating_sub(it.age_ms);
        let row = Row { at: lowest - below, kept_ms, nick: &it.nick, unsettled: false, batch: &it.batch };
        insert_at(connection, numbers, (room, keep.group), &[row])?;
        // If it is this node's own, of a store that is lost: others have it.
        let chain = numbers.chain(connection, room, it.batch.id.source, it.batch.id.life)?;
        connection
            .prepare_cached("UPDATE chains SET taken = max(taken, ?2) WHERE chain = ?1 AND next <= ?3")?
            .execute(params![chain, super::work::integer(it.batch.id.seq + 1), 0])?;
    }
    let (node, at) = keep.place.at.unzip();
    connection
        .prepare_cached("UPDATE rooms SET earlier = ?2, earlier_from = ?3, earlier_at = ?4 WHERE room = ?1")?
        .execute(params![room, !keep.done, node.as_ref().map(|it| &it.as_bytes()[..]), at])?;
    Ok(())
}

/// How far that goes, if more is to be gathered.
pub(super) fn place(connection: &Connection, room: i64) -> Result<Option<EarlierPlace>, ReadError> {
    let mut select = connection
        .prepare_cached("SELECT earlier_from, earlier_at FROM rooms WHERE room = ?1 AND earlier = 1")?;
    let found = select
        .query_row([room], |row| Ok((row.get::<_, Option<Vec<u8>>>(0)?, row.get::<_, Option<i64>>(1)?)))
        .optional()?;
    Ok(match found {
        None => None,
        Some((Some(node), Some(at))) => {
            Some(EarlierPlace { at: Some((NodeId::from_bytes(bytes(node, "rooms")?), at)) })
        }
        Some(_) => Some(EarlierPlace::default()),
    })
}

/// What stands before a place, latest first.
pub(super) fn piece(connection: &Connection, fetch: &FetchEarlier) -> rusqlite::Result<Piece> {
    let (mut piece, mut size) = (Piece::default(), 0);
    let before = fetch.before.unwrap_or(i64::MAX);
    if !has_order(connection, &fetch.group)? {
        let sql =
            "SELECT at, kept_ms, body FROM batches WHERE room = (SELECT room FROM rooms WHERE group_id = ?1)
                   AND at < ?2 AND at NOT IN (SELECT at FROM unsettled) ORDER BY at DESC";
        piece.end = fill(connection, sql, fetch, before, (&mut piece, &mut size))?;
        return Ok(piece);
    }
    // What has no place yet comes as talk, and the order's own records say nothing to who comes later.
    let placed = "SELECT place, kept_ms, body FROM places JOIN batches USING (at)
                  WHERE places.room = (SELECT room FROM rooms WHERE group_id = ?1) AND place < ?2
                  ORDER BY place DESC";
    let earlier = format!("SELECT at, kept_ms, body {EARLIER} AND at < ?2 ORDER BY at DESC");
    piece.end = fill(connection, placed, fetch, before, (&mut piece, &mut size))?
        && fill(connection, &earlier, fetch, before.min(0), (&mut piece, &mut size))?;
    Ok(piece)
}

/// What was gathered, of a group with a total order, and has not been delivered.
pub(super) const EARLIER: &str =
    "FROM batches WHERE room = (SELECT room FROM rooms WHERE group_id = ?1) AND at < 0
     AND NOT EXISTS (SELECT 1 FROM places WHERE places.at = batches.at)
     AND NOT EXISTS (SELECT 1 FROM unsettled WHERE unsettled.at = batches.at)";

/// Whether something of a total order is kept.
fn has_order(connection: &Connection, group: &GroupId) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM orders WHERE room = (SELECT room FROM rooms WHERE group_id = ?1)")?
        .exists([&group.as_bytes()[..]])
}

/// Adds to a piece, and says whether that was all.
fn fill(
    connection: &Connection,
    sql: &str,
    fetch: &FetchEarlier,
    before: i64,
    (piece, size): (&mut Piece, &mut usize),
) -> rusqlite::Result<bool> {
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query(params![&fetch.group.as_bytes()[..], before])?;
    while let Some(row) = rows.next()? {
        let body = Bytes::from(row.get::<_, Vec<u8>>(2)?);
        if body.len() + AROUND > MAX_FRAME {
            // It fits into a frame of its own only.
            piece.last = Some(row.get(0)?);
            continue;
        }
        let fits = *size + body.len() <= fetch.bytes && (piece.batches.len() as u64) < fetch.batches;
        if !fits && !piece.batches.is_empty() {
            return Ok(false);
        }
        *size += body.len();
        piece.batches.push((row.get::<_, i64>(1)?.unsigned_abs(), body));
        piece.last = Some(row.get(0)?);
    }
    Ok(true)
}
