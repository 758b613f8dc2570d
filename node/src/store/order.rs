//! A total order: which batches wait for a place, which place each got, and what this node has promised as a
//! member of the committee.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};
use treecast_overlay::io::{AgreementPast, OrderPast, OrderRecord};
use treecast_overlay::{BatchId, GroupId, Life, NodeId, Seq};

use super::read::{ReadError, bytes, natural};
use super::record::Numbers;
use super::work::integer;

/// What a committee member has promised and accepted, as the core puts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agreement {
    pub(crate) group: GroupId,
    pub(crate) epoch: u64,
    pub(crate) vows: Bytes,
    pub(crate) from: u64,
    pub(crate) entries: Vec<Bytes>,
    pub(crate) compacted: u64,
}

/// A batch that stands at `at` waits for its place, behind all that were delivered before it. One that was
/// kept already does so only if it was gathered before it was delivered.
pub(super) fn wait(
    connection: &Connection,
    room: i64,
    number: i64,
    at: i64,
    is_new: bool,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO unsettled (number, room, at) SELECT ?1, ?2, ?3
             WHERE ?4 OR (?3 < 0 AND NOT EXISTS (SELECT 1 FROM places WHERE at = ?3)) ON CONFLICT DO NOTHING",
        )?
        .execute(params![number, room, at, is_new])?;
    Ok(())
}

/// How far the order is now.
pub(super) fn settle(
    connection: &Connection,
    numbers: &mut Numbers,
    room: i64,
    order: &OrderRecord,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO orders (room, next) VALUES (?1, ?2)")?
        .execute([room, integer(order.index)])?;
    for record in &order.ended {
        connection
            .prepare_cached(
                "INSERT INTO ended (room, number, record)
                 SELECT ?1, coalesce(max(number) + 1, 0), ?2 FROM ended WHERE room = ?1",
            )?
            .execute(params![room, &record[..]])?;
    }
    for (source, life, next) in &order.marks {
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO marks (room, source, life, next) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![room, &source.as_bytes()[..], integer(*life), integer(*next)])?;
    }
    for (batch, place) in &order.settled {
        let BatchId { source, life, seq } = *batch;
        let chain = numbers.chain(connection, room, source, life)?;
        let at: Option<i64> = connection
            .prepare_cached("SELECT at FROM batches WHERE chain = ?1 AND seq = ?2")?
            .query_row([chain, integer(seq)], |row| row.get(0))
            .optional()?;
        let Some(at) = at else { continue };
        connection.prepare_cached("DELETE FROM unsettled WHERE at = ?1")?.execute([at])?;
        if let Some(place) = place {
            connection
                .prepare_cached(
                    "INSERT INTO places (room, place, at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                )?
                .execute([room, integer(*place), at])?;
        }
    }
    Ok(())
}

/// What this node has promised and accepted: first what is compacted goes, then the log is cut off, then it
/// goes on; as [`AgreementPast::write`] says.
pub(super) fn agree(
    connection: &Connection,
    numbers: &mut Numbers,
    agreement: &Agreement,
) -> rusqlite::Result<()> {
    let Agreement { group, epoch, vows, from, entries, compacted } = agreement;
    let room = numbers.room(connection, *group)?;
    let before: Option<(i64, i64)> = connection
        .prepare_cached("SELECT epoch, compacted FROM vows WHERE room = ?1")?
        .query_row([room], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let compacted = match before {
        Some((known, compacted_before)) if known == integer(*epoch) => {
            compacted_before.max(integer(*compacted))
        }
        _ => {
            connection.prepare_cached("DELETE FROM accepted WHERE room = ?1")?.execute([room])?;
            integer(*compacted)
        }
    };
    connection
        .prepare_cached("INSERT OR REPLACE INTO vows (room, epoch, vows, compacted) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![room, integer(*epoch), &vows[..], compacted])?;
    connection
        .prepare_cached("DELETE FROM accepted WHERE room = ?1 AND (place < ?2 OR place >= ?3)")?
        .execute([room, compacted, integer(*from)])?;
    let next: i64 = connection
        .prepare_cached("SELECT coalesce(max(place) + 1, ?2) FROM accepted WHERE room = ?1")?
        .query_row([room, compacted], |row| row.get(0))?;
    let mut insert =
        connection.prepare_cached("INSERT INTO accepted (room, place, entry) VALUES (?1, ?2, ?3)")?;
    for (place, entry) in (next..).zip(entries) {
        insert.execute(params![room, place, &entry[..]])?;
    }
    Ok(())
}

/// The order as this node left it, if there is anything of it.
pub(super) fn past(connection: &Connection, room: i64) -> Result<Option<OrderPast>, ReadError> {
    let index: Option<i64> = connection
        .prepare_cached("SELECT next FROM orders WHERE room = ?1")?
        .query_row([room], |row| row.get(0))
        .optional()?;
    let unsettled = unsettled(connection, room)?;
    if index.is_none() && unsettled.is_empty() {
        return Ok(None);
    }
    Ok(Some(OrderPast {
        founded: index.is_some(),
        ended: ended(connection, room)?,
        index: index.map_or(0, natural),
        marks: marks(connection, room)?,
        unsettled,
        agreement: agreement(connection, room)?,
    }))
}

fn ended(connection: &Connection, room: i64) -> rusqlite::Result<Vec<Bytes>> {
    let mut select = connection.prepare_cached("SELECT record FROM ended WHERE room = ?1 ORDER BY number")?;
    select.query_map([room], |row| Ok(Bytes::from(row.get::<_, Vec<u8>>(0)?)))?.collect()
}

fn unsettled(connection: &Connection, room: i64) -> rusqlite::Result<Vec<Bytes>> {
    let mut select = connection.prepare_cached(
        "SELECT body FROM unsettled JOIN batches USING (at) WHERE unsettled.room = ?1 ORDER BY number",
    )?;
    select.query_map([room], |row| Ok(Bytes::from(row.get::<_, Vec<u8>>(0)?)))?.collect()
}

fn marks(connection: &Connection, room: i64) -> Result<Vec<(NodeId, Life, Seq)>, ReadError> {
    let mut select =
        connection.prepare_cached("SELECT source, life, next FROM marks WHERE room = ?1 ORDER BY source")?;
    let mut rows = select.query([room])?;
    let mut marks = Vec::new();
    while let Some(row) = rows.next()? {
        let source = NodeId::from_bytes(bytes(row.get(0)?, "marks")?);
        marks.push((source, natural(row.get(1)?), natural(row.get(2)?)));
    }
    Ok(marks)
}

fn agreement(connection: &Connection, room: i64) -> rusqlite::Result<Option<AgreementPast>> {
    let kept = connection
        .prepare_cached("SELECT epoch, vows, compacted FROM vows WHERE room = ?1")?
        .query_row([room], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, i64>(2)?))
        })
        .optional()?;
    let Some((epoch, vows, compacted)) = kept else { return Ok(None) };
    let mut select =
        connection.prepare_cached("SELECT entry FROM accepted WHERE room = ?1 ORDER BY place")?;
    let entries = select.query_map([room], |row| Ok(Bytes::from(row.get::<_, Vec<u8>>(0)?)))?;
    let entries = entries.collect::<Result<_, _>>()?;
    Ok(Some(AgreementPast {
        epoch: natural(epoch),
        vows: vows.into(),
        compacted: natural(compacted),
        entries,
    }))
}

/// The group is left. Places go with their batches.
pub(super) fn forget(connection: &Connection, group: GroupId) -> rusqlite::Result<()> {
    for table in ["orders", "ended", "marks", "unsettled", "vows", "accepted"] {
        let sql = format!("DELETE FROM {table} WHERE room = (SELECT room FROM rooms WHERE group_id = ?1)");
        connection.execute(&sql, [&group.as_bytes()[..]])?;
    }
    Ok(())
}
