//! What this node's next batch in a group is to name as its causes: 48 bytes each, as they are few and
//! always read and written whole.

use rusqlite::{Connection, params};
use treecast_overlay::{BatchId, GroupId, NodeId};

use super::read::{ReadError, bytes};
use super::record::Numbers;

const WIDTH: usize = 48;

pub(super) fn keep(
    connection: &Connection,
    numbers: &mut Numbers,
    group: GroupId,
    causes: Option<&[BatchId]>,
) -> rusqlite::Result<()> {
    let room = numbers.room(connection, group)?;
    let blob = causes.map(|causes| causes.iter().flat_map(to_bytes).collect::<Vec<u8>>());
    connection
        .prepare_cached("UPDATE rooms SET causes = ?2 WHERE room = ?1 AND causes IS NOT ?2")?
        .execute(params![room, blob])?;
    Ok(())
}

fn to_bytes(batch: &BatchId) -> Vec<u8> {
    [&batch.source.as_bytes()[..], &batch.life.to_le_bytes(), &batch.seq.to_le_bytes()].concat()
}

pub(super) fn read(blob: Option<&[u8]>) -> Result<Option<Vec<BatchId>>, ReadError> {
    let one = |chunk: &[u8]| {
        let (source, numbers) = chunk.split_at_checked(32).ok_or(ReadError::Row("rooms"))?;
        let (life, seq) = numbers.split_at_checked(8).ok_or(ReadError::Row("rooms"))?;
        let source = NodeId::from_bytes(bytes(source.to_vec(), "rooms")?);
        let life = u64::from_le_bytes(bytes(life.to_vec(), "rooms")?);
        Ok(BatchId { source, life, seq: u64::from_le_bytes(bytes(seq.to_vec(), "rooms")?) })
    };
    blob.map(|blob| blob.chunks(WIDTH).map(one).collect()).transpose()
}
