//! Reading all that is kept.

use std::collections::BTreeMap;
use std::path::Path;

use libp2p::Multiaddr;
use rusqlite::{Connection, OptionalExtension};
use treecast_overlay::{Descriptor, Digest, GroupId, NodeId};

use super::error::StoreError;
use super::kept::{Contact, Kept, KeptGroup, KeptLife, KeptNode, MAX_PEERS};

/// Why it was not read.
#[derive(Debug)]
pub(super) enum ReadError {
    Sql(rusqlite::Error),
    /// This table holds what nobody wrote there.
    Row(&'static str),
}

impl ReadError {
    pub(super) fn at(&self, path: &Path) -> StoreError {
        match self {
            Self::Sql(error) => StoreError::of(path, error),
            Self::Row(table) => StoreError::bad(path, format!("a row of its table `{table}` makes no sense")),
        }
    }
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

pub(super) fn all(connection: &Connection) -> Result<Kept, ReadError> {
    Ok(Kept {
        node: node(connection)?,
        groups: groups(connection)?,
        lives: lives(connection)?,
        peers: peers(connection)?,
    })
}

fn node(connection: &Connection) -> Result<KeptNode, ReadError> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(KeptNode { nick: row.get(0)?, tcp_port: row.get(1)?, quic_port: row.get(2)? })
    };
    let node = connection.query_row("SELECT nick, tcp_port, quic_port FROM node", (), read);
    Ok(node.optional()?.unwrap_or_default())
}

fn groups(connection: &Connection) -> Result<Vec<KeptGroup>, ReadError> {
    let bad = ReadError::Row("groups");
    let mut select = connection
        .prepare("SELECT id, label, descriptor, joined_ms FROM groups ORDER BY joined_ms, rowid")?;
    let mut rows = select.query(())?;
    let (mut groups, mut members) = (Vec::new(), members(connection)?);
    while let Some(row) = rows.next()? {
        let (id, descriptor): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(2)?);
        let Ok(descriptor) = Descriptor::from_bytes(&descriptor) else { return Err(bad) };
        if id != descriptor.id().as_bytes() {
            return Err(bad);
        }
        groups.push(KeptGroup {
            label: row.get(1)?,
            joined_ms: natural(row.get(3)?),
            members: members.remove(&descriptor.id()).unwrap_or_default(),
            descriptor,
        });
    }
    Ok(groups)
}

fn members(connection: &Connection) -> Result<BTreeMap<GroupId, Vec<Contact>>, ReadError> {
    let mut select =
        connection.prepare("SELECT group_id, node, addresses FROM members ORDER BY group_id, rank")?;
    let mut rows = select.query(())?;
    let mut members: BTreeMap<GroupId, Vec<Contact>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let group = GroupId::from_bytes(bytes(row.get(0)?, "members")?);
        let contact = contact(row.get(1)?, &row.get::<_, String>(2)?, "members")?;
        members.entry(group).or_default().push(contact);
    }
    Ok(members)
}

fn lives(connection: &Connection) -> Result<BTreeMap<GroupId, KeptLife>, ReadError> {
    let mut select = connection.prepare("SELECT group_id, life, end_seq, end_digest FROM lives")?;
    let mut rows = select.query(())?;
    let mut lives = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let end = match (row.get::<_, Option<i64>>(2)?, row.get::<_, Option<Vec<u8>>>(3)?) {
            (Some(seq), Some(digest)) => Some((natural(seq), Digest::from_bytes(bytes(digest, "lives")?))),
            _ => None,
        };
        let life = KeptLife { life: natural(row.get(1)?), end };
        lives.insert(GroupId::from_bytes(bytes(row.get(0)?, "lives")?), life);
    }
    Ok(lives)
}

fn peers(connection: &Connection) -> Result<Vec<Contact>, ReadError> {
    let mut select =
        connection.prepare("SELECT node, addresses FROM peers ORDER BY seen_ms DESC, rowid DESC LIMIT ?1")?;
    let mut rows = select.query([super::work::integer(MAX_PEERS as u64)])?;
    let mut peers = Vec::new();
    while let Some(row) = rows.next()? {
        peers.push(contact(row.get(0)?, &row.get::<_, String>(1)?, "peers")?);
    }
    Ok(peers)
}

fn contact(node: Vec<u8>, addresses: &str, table: &'static str) -> Result<Contact, ReadError> {
    let addresses: Vec<Multiaddr> = serde_json::from_str(addresses).map_err(|_| ReadError::Row(table))?;
    Ok(Contact { node: NodeId::from_bytes(bytes(node, table)?), addresses })
}

pub(super) fn bytes<const N: usize>(found: Vec<u8>, table: &'static str) -> Result<[u8; N], ReadError> {
    found.try_into().map_err(|_| ReadError::Row(table))
}

/// The numbers that are written are never negative.
pub(super) fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
