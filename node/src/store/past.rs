//! Reading how far this node was in each group.

use std::collections::BTreeMap;

use bytes::Bytes;
use rusqlite::Connection;
use treecast_overlay::io::{LifeRecord, Past, SourceRecord};
use treecast_overlay::{Digest, GroupId, Life, NodeId, Seq};

use super::read::{ReadError, bytes, natural};

/// How a group was left; its own end is in the table of lives.
pub(super) fn all(connection: &Connection, me: &NodeId) -> Result<Vec<Past>, ReadError> {
    let mut select =
        connection.prepare("SELECT room, group_id, entered, causes FROM rooms WHERE group_id IS NOT NULL")?;
    let mut rows = select.query(())?;
    let mut pasts = Vec::new();
    while let Some(row) = rows.next()? {
        let (room, entered): (i64, bool) = (row.get(0)?, row.get(2)?);
        let group = GroupId::from_bytes(bytes(row.get(1)?, "rooms")?);
        let sources = sources(connection, room, me)?;
        let earlier = super::earlier::place(connection, room)?;
        let removals = removals(connection, room)?;
        let causes = super::causes::read(row.get::<_, Option<Vec<u8>>>(3)?.as_deref())?;
        let order = super::order::past(connection, room)?;
        pasts.push(Past { group, entered, sources, end: None, earlier, removals, causes, order });
    }
    Ok(pasts)
}

fn removals(connection: &Connection, room: i64) -> Result<Vec<Bytes>, ReadError> {
    let mut select = connection.prepare_cached("SELECT record FROM removals WHERE room = ?1")?;
    let mut rows = select.query([room])?;
    let mut removals = Vec::new();
    while let Some(row) = rows.next()? {
        removals.push(Bytes::from(row.get::<_, Vec<u8>>(0)?));
    }
    Ok(removals)
}

fn sources(connection: &Connection, room: i64, me: &NodeId) -> Result<Vec<SourceRecord>, ReadError> {
    let mut floors: BTreeMap<NodeId, Life> = BTreeMap::new();
    let mut select = connection.prepare_cached("SELECT source, floor FROM sources WHERE room = ?1")?;
    let mut rows = select.query([room])?;
    while let Some(row) = rows.next()? {
        floors.insert(NodeId::from_bytes(bytes(row.get(0)?, "sources")?), natural(row.get(1)?));
    }
    let (mut lives, mut closed) = lives(connection, room, me, &floors)?;
    for source in lives.keys() {
        floors.entry(*source).or_insert(0);
    }
    let record = |(source, floor)| {
        let (lives, closed) = (lives.remove(&source), closed.remove(&source));
        SourceRecord { source, floor, lives: lives.unwrap_or_default(), closed: closed.unwrap_or_default() }
    };
    Ok(floors.into_iter().map(record).collect())
}

/// What is open of each source, and what was closed where.
type Lives = (BTreeMap<NodeId, Vec<LifeRecord>>, BTreeMap<NodeId, Vec<(Life, Seq)>>);

fn lives(
    connection: &Connection,
    room: i64,
    me: &NodeId,
    floors: &BTreeMap<NodeId, Life>,
) -> Result<Lives, ReadError> {
    let mut select = connection.prepare_cached(
        "SELECT chain, source, life, next, head, ending, taken FROM chains WHERE room = ?1 AND (next > 0 OR ending NOT NULL)
         ORDER BY source, life",
    )?;
    let mut rows = select.query([room])?;
    let (mut lives, mut closed): Lives = Default::default();
    while let Some(row) = rows.next()? {
        let source = NodeId::from_bytes(bytes(row.get(1)?, "chains")?);
        let (chain, life, next) = (row.get(0)?, natural(row.get(2)?), natural(row.get(3)?));
        if floors.get(&source).is_some_and(|floor| life < *floor) {
            closed.entry(source).or_default().push((life, next));
            continue;
        }
        let head = match row.get::<_, Option<Vec<u8>>>(4)? {
            Some(head) => Some(Digest::from_bytes(bytes(head, "chains")?)),
            None => None,
        };
        let end = row.get::<_, Option<i64>>(5)?.map(natural);
        let owed = Some(natural(row.get(6)?)).filter(|taken| source == *me && *taken < next);
        let above = if source == *me { Vec::new() } else { above(connection, chain, next)? };
        lives.entry(source).or_default().push(LifeRecord { life, next, head, end, above, owed });
    }
    // What is on disk of an own life is all that there is of it.
    if let Some((_, earlier)) = lives.get_mut(me).and_then(|own| own.split_last_mut()) {
        earlier.iter_mut().for_each(|life| life.end = Some(life.next));
    }
    Ok((lives, closed))
}

/// What was delivered above `next`, where no order is kept.
fn above(connection: &Connection, chain: i64, next: u64) -> Result<Vec<(u64, u64)>, ReadError> {
    let mut select =
        connection.prepare_cached("SELECT seq FROM batches WHERE chain = ?1 AND seq > ?2 ORDER BY seq")?;
    let mut rows = select.query([chain, super::work::integer(next)])?;
    let mut above: Vec<(u64, u64)> = Vec::new();
    while let Some(row) = rows.next()? {
        let seq = natural(row.get(0)?);
        match above.last_mut().filter(|last| last.1 == seq) {
            Some(last) => last.1 = seq + 1,
            None => above.push((seq, seq + 1)),
        }
    }
    Ok(above)
}
