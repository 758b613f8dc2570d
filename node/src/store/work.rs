//! What can be written, and how.

use bytes::Bytes;
use libp2p::Multiaddr;
use rusqlite::{Connection, OptionalExtension, params};
use treecast_overlay::files::FileHash;
use treecast_overlay::io::{KeepEarlier, OrderRecord, SourceRecord};
use treecast_overlay::{BatchId, GroupId, Life, NodeId, PastLife, Retention};

use super::earlier;
use super::kept::{Contact, KeptGroup, KeptNode, MAX_PEERS};
use super::offers::{self, HeldFile};
use super::order::{self, Agreement};
use super::record::{self, KeptBatch, Numbers};

/// One change. Several that are handed over together are made together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Work {
    /// What the node remembers of itself.
    Node(KeptNode),
    /// Be in this group until it is forgotten; or what has changed of it.
    Keep(Box<KeptGroup>),
    /// Who is known to be in a group that is kept; replaces what was known.
    Members { group: GroupId, members: Vec<Contact> },
    /// The group is left.
    Forget(GroupId),
    /// A life of this node has begun.
    Life { group: GroupId, life: Life },
    /// A batch of this node, before it leaves.
    Own { group: GroupId, batch: Box<KeptBatch> },
    /// What was delivered, and how far this node is.
    History {
        group: GroupId,
        entered: bool,
        batches: Vec<KeptBatch>,
        sources: Vec<SourceRecord>,
        /// What the next batch of this node's own is to name.
        causes: Option<Vec<BatchId>>,
        /// How far the total order is, if that has moved.
        order: Option<OrderRecord>,
    },
    /// What this node has promised and accepted as a member of a committee: after all that it rests on.
    Agreement(Box<Agreement>),
    /// Others have this node's own batches below `next`.
    Taken { group: GroupId, source: NodeId, life: Life, next: u64 },
    /// How much of a group is to be kept at least.
    Retain { group: GroupId, retention: Retention },
    /// What was said before this node's time.
    Earlier { keep: Box<KeepEarlier>, now_ms: u64 },
    /// The founder's word that a member is removed from a group.
    Removal { group: GroupId, node: NodeId, record: Bytes },
    /// A node was connected there.
    Peer { contact: Contact, seen_ms: u64 },
    /// A file lies here, all of it or part.
    Hold(Box<HeldFile>),
    /// It is served and remembered no more.
    Release(FileHash),
    /// Another node had all of a file.
    Holder { hash: FileHash, node: NodeId, seen_ms: u64 },
}

/// The text that addresses are kept as.
pub(super) fn addresses_text(addresses: &[Multiaddr]) -> String {
    serde_json::to_string(addresses).expect("addresses are texts")
}

/// SQLite's integers are signed: a number beyond them is as good as the largest.
pub(crate) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Work {
    /// Whether somebody is told that it is on disk: then it has to survive the loss of power, too.
    pub(super) fn must_last(&self) -> bool {
        !matches!(
            self,
            Self::History { .. }
                | Self::Taken { .. }
                | Self::Retain { .. }
                | Self::Earlier { .. }
                | Self::Holder { .. }
        )
    }

    /// Makes the change; durable with the transaction around it.
    pub(super) fn apply(&self, connection: &Connection, numbers: &mut Numbers) -> rusqlite::Result<()> {
        match self {
            Self::Node(node) => write_node(connection, node),
            Self::Keep(group) => keep(connection, group),
            Self::Members { group, members } => write_members(connection, *group, members),
            Self::Forget(group) => {
                connection.execute("DELETE FROM groups WHERE id = ?1", [&group.as_bytes()[..]])?;
                record::forget(connection, numbers, *group)
            }
            Self::Life { group, life } => begin_life(connection, *group, *life),
            Self::Own { group, batch } => own(connection, numbers, *group, batch),
            Self::History { group, entered, batches, sources, causes, order } => {
                record::history(connection, numbers, *group, *entered, batches, sources)?;
                super::causes::keep(connection, numbers, *group, causes.as_deref())?;
                let room = numbers.room(connection, *group)?;
                order.iter().try_for_each(|order| order::settle(connection, numbers, room, order))
            }
            Self::Agreement(agreement) => order::agree(connection, numbers, agreement),
            Self::Taken { group, source, life, next } => {
                record::taken(connection, *group, *source, *life, *next)
            }
            Self::Retain { group, retention } => record::retain(connection, numbers, *group, retention),
            Self::Earlier { keep, now_ms } => earlier::keep(connection, numbers, keep, *now_ms),
            Self::Removal { group, node, record } => {
                record::removal(connection, numbers, *group, node, record)
            }
            Self::Peer { contact, seen_ms } => write_peer(connection, contact, *seen_ms),
            Self::Hold(file) => offers::hold(connection, file),
            Self::Release(hash) => offers::release(connection, *hash),
            Self::Holder { hash, node, seen_ms } => offers::holder(connection, *hash, *node, *seen_ms),
        }
    }
}

fn write_node(connection: &Connection, node: &KeptNode) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO node (one, nick, tcp_port, quic_port, started_ms) VALUES (1, ?1, ?2, ?3, ?4)
         ON CONFLICT (one) DO UPDATE SET nick = ?1, tcp_port = ?2, quic_port = ?3",
        params![node.nick, node.tcp_port, node.quic_port, 0],
    )?;
    Ok(())
}

/// A start writes this each time, so that a store that cannot be written shows then.
pub(super) fn mark_start(connection: &Connection, now_ms: u64) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO node (one, started_ms) VALUES (1, ?1)
         ON CONFLICT (one) DO UPDATE SET started_ms = ?1",
        [integer(now_ms)],
    )?;
    Ok(())
}

fn keep(connection: &Connection, group: &KeptGroup) -> rusqlite::Result<()> {
    let id = group.descriptor.id();
    connection.execute(
        "INSERT INTO groups (id, label, descriptor, joined_ms) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET label = ?2, descriptor = ?3",
        params![&id.as_bytes()[..], group.label, group.descriptor.to_bytes(), integer(group.joined_ms)],
    )?;
    write_members(connection, id, &group.members)
}

/// A group that is not kept (any longer) has no members here: no row is written then.
fn write_members(connection: &Connection, group: GroupId, members: &[Contact]) -> rusqlite::Result<()> {
    let id = &group.as_bytes()[..];
    let kept: Option<i64> =
        connection.query_row("SELECT 1 FROM groups WHERE id = ?1", [id], |row| row.get(0)).optional()?;
    if kept.is_none() {
        return Ok(());
    }
    connection.execute("DELETE FROM members WHERE group_id = ?1", [id])?;
    let mut insert = connection.prepare(
        "INSERT INTO members (group_id, node, rank, addresses) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
    )?;
    for (rank, Contact { node, addresses }) in (0..).zip(members) {
        insert.execute(params![id, node_bytes(node), integer(rank), addresses_text(addresses)])?;
    }
    Ok(())
}

fn begin_life(connection: &Connection, group: GroupId, life: Life) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO lives (group_id, life) VALUES (?1, ?2)
         ON CONFLICT (group_id) DO UPDATE SET life = ?2, end_seq = NULL, end_digest = NULL WHERE life < ?2",
        params![&group.as_bytes()[..], integer(life)],
    )?;
    Ok(())
}

/// All that there is of a life is on disk before it leaves: so its end is, too, whenever the node ends.
fn own(
    connection: &Connection,
    numbers: &mut Numbers,
    group: GroupId,
    kept: &KeptBatch,
) -> rusqlite::Result<()> {
    let id = kept.batch.id;
    end_life(connection, &PastLife { group, life: id.life, end: id.seq + 1, digest: kept.batch.digest })?;
    record::own(connection, numbers, group, kept)
}

fn end_life(connection: &Connection, past: &PastLife) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE lives SET end_seq = ?3, end_digest = ?4 WHERE group_id = ?1 AND life = ?2")?
        .execute(params![
            &past.group.as_bytes()[..],
            integer(past.life),
            integer(past.end),
            &past.digest.as_bytes()[..]
        ])?;
    Ok(())
}

fn write_peer(connection: &Connection, contact: &Contact, seen_ms: u64) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO peers (node, addresses, seen_ms) VALUES (?1, ?2, ?3)
         ON CONFLICT (node) DO UPDATE SET addresses = ?2, seen_ms = ?3",
        params![node_bytes(&contact.node), addresses_text(&contact.addresses), integer(seen_ms)],
    )?;
    connection.execute(
        "DELETE FROM peers WHERE node NOT IN (SELECT node FROM peers ORDER BY seen_ms DESC, rowid DESC LIMIT ?1)",
        [integer(MAX_PEERS as u64)],
    )?;
    Ok(())
}

fn node_bytes(node: &NodeId) -> &[u8] {
    &node.as_bytes()[..]
}
