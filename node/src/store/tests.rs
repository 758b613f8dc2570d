//! The store against what happens to files.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use libp2p::Multiaddr;
use treecast_overlay::io::HistoryBatch;
use treecast_overlay::{BatchId, Descriptor, Digest, GroupId, NodeId, PastLife};

use super::kept::{KeptNode, MAX_PEERS};
use super::*;
use crate::files::tests::Scratch;

const ME: NodeId = NodeId::from_bytes([9; 32]);
const DB: &str = "treecast.db";

fn address(port: u16) -> Multiaddr {
    format!("/ip4/10.0.0.1/tcp/{port}").parse().expect("an address")
}

fn contact(node: u8) -> Contact {
    Contact { node: NodeId::from_bytes([node; 32]), addresses: vec![address(1), address(2)] }
}

fn group(name: &str) -> KeptGroup {
    let descriptor = Descriptor::open(name).expect("a good name");
    KeptGroup { label: name.to_owned(), descriptor, joined_ms: 5, members: vec![contact(2), contact(1)] }
}

/// A batch of this node.
fn own(group: GroupId, life: u64, seq: u64, digest: u8) -> Work {
    let id = BatchId { source: ME, life, seq };
    Work::Own { group, batch: Box::new(kept(life * 100 + seq, id, digest)) }
}

fn kept(at: u64, id: BatchId, digest: u8) -> KeptBatch {
    let digest = Digest::from_bytes([digest; 20]);
    let bytes = bytes::Bytes::from_static(b"no batch, but bytes");
    let batch = HistoryBatch { id, bytes, digest, messages: 2, payload: 10 };
    KeptBatch { at, nick: "ada".into(), kept_ms: at, unsettled: false, batch }
}

fn open(dir: &Path) -> (Store, Kept) {
    Store::open(dir, 1).expect("a good store")
}

fn reopened(store: Store, dir: &Path) -> Kept {
    drop(store);
    open(dir).1
}

#[test]
fn what_is_written_is_read_back() {
    let scratch = Scratch::new();
    let (mut store, kept) = open(scratch.path());
    assert_eq!(kept, Kept::default());
    let node = KeptNode { nick: Some("ada".into()), tcp_port: Some(4001), quic_port: None };
    let (one, two) = (group("lobby"), group("茶 room"));
    let past = PastLife { group: one.descriptor.id(), life: 9, end: 3, digest: Digest::from_bytes([4; 20]) };
    let works = [
        Work::Node(node.clone()),
        Work::Keep(Box::new(one.clone())),
        Work::Keep(Box::new(two.clone())),
        Work::Life { group: past.group, life: 9 },
        own(past.group, 9, 2, 4),
        Work::Life { group: two.descriptor.id(), life: 7 },
        Work::Peer { contact: contact(1), seen_ms: 1 },
        Work::Peer { contact: contact(2), seen_ms: 2 },
    ];
    store.write(&works).expect("written");
    let kept = reopened(store, scratch.path());
    assert_eq!(kept.node, node);
    assert_eq!(kept.groups, [one, two]);
    assert_eq!(kept.peers, [contact(2), contact(1)]);
    assert_eq!((kept.last_life(), kept.ends()), (9, vec![past]));
}

#[test]
fn a_group_that_is_left_is_gone_but_its_life_is_not() {
    let scratch = Scratch::new();
    let (mut store, _) = open(scratch.path());
    let id = group("lobby").descriptor.id();
    let left = [Work::Keep(Box::new(group("lobby"))), Work::Life { group: id, life: 9 }, Work::Forget(id)];
    store.write(&left).expect("written");
    // What was gathered before it was left may come after.
    store.write(&[Work::Members { group: id, members: vec![contact(1)] }]).expect("written");
    let kept = reopened(store, scratch.path());
    assert!(kept.groups.is_empty());
    assert_eq!(kept.last_life(), 9);
}

#[test]
fn a_life_never_goes_back_and_a_new_one_has_no_end() {
    let scratch = Scratch::new();
    let (mut store, _) = open(scratch.path());
    let group = GroupId::from_bytes([1; 32]);
    let end = |life| own(group, life, 0, 2);
    let life = |life| Work::Life { group, life };
    store.write(&[life(9), end(9), life(8), end(8)]).expect("written");
    let (mut store, kept) = {
        drop(store);
        open(scratch.path())
    };
    assert_eq!(kept.ends().iter().map(|it| it.life).collect::<Vec<_>>(), [9]);
    store.write(&[life(10)]).expect("written");
    let kept = reopened(store, scratch.path());
    assert_eq!((kept.last_life(), kept.ends()), (10, vec![]));
}

#[test]
fn works_are_made_together_or_not_at_all() {
    let scratch = Scratch::new();
    let (mut store, _) = open(scratch.path());
    let mut same_label = group("other");
    same_label.label = "lobby".into();
    let error = store
        .write(&[Work::Keep(Box::new(group("lobby"))), Work::Keep(Box::new(same_label))])
        .expect_err("one label");
    assert!(error.to_string().contains(DB), "{error}");
    assert!(reopened(store, scratch.path()).groups.is_empty());
}

#[test]
fn peers_beyond_the_cap_go_the_oldest_first() {
    let scratch = Scratch::new();
    let (mut store, _) = open(scratch.path());
    let peer = |n: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        let contact = Contact { node: NodeId::from_bytes(bytes), addresses: vec![address(1)] };
        Work::Peer { contact, seen_ms: n as u64 }
    };
    let works: Vec<Work> = (0..MAX_PEERS + 5).map(peer).collect();
    store.write(&works).expect("written");
    let rows: i64 = {
        drop(store);
        let connection = rusqlite::Connection::open(scratch.path().join(DB)).expect("opens");
        connection
            .query_row("SELECT count(*) FROM peers WHERE seen_ms >= 5", (), |row| row.get(0))
            .expect("read")
    };
    assert_eq!(rows, MAX_PEERS as i64);
}

#[test]
fn the_file_is_private_even_if_it_was_not() {
    let scratch = Scratch::new();
    let path = scratch.path().join(DB);
    std::fs::write(&path, "").expect("made");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("opened");
    let (_store, _) = open(scratch.path());
    for file in [DB, "treecast.db-wal"] {
        let mode = std::fs::metadata(scratch.path().join(file)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn damage_is_named_and_left_alone() {
    let scratch = Scratch::new();
    let path = scratch.path().join(DB);
    let (mut store, _) = open(scratch.path());
    store.write(&[Work::Keep(Box::new(group("lobby")))]).expect("written");
    drop(store);
    let good = std::fs::read(&path).expect("there");
    let mut torn = good.clone();
    // The pages after the first, where the tables are.
    torn[4096..].fill(0xa5);
    for bad in [&b"hello, this is no database at all"[..], &torn, &good[..good.len() / 2]] {
        std::fs::write(&path, bad).expect("damaged");
        match Store::open(scratch.path(), 2) {
            Err(StoreError::Bad { path: named, .. }) => assert_eq!(named, path),
            other => panic!("{} bytes: {other:?}", bad.len()),
        }
        assert_eq!(std::fs::read(&path).expect("still there"), bad, "it is evidence");
    }
}

#[test]
fn rows_that_make_no_sense_are_damage_too() {
    for (table, damage) in [
        ("groups", "UPDATE groups SET descriptor = x'83'"),
        ("groups", "UPDATE groups SET id = zeroblob(32)"),
        ("members", "UPDATE members SET addresses = 'nowhere'"),
        ("peers", "UPDATE peers SET addresses = '[\"/ip4/x\"]'"),
        ("lives", "UPDATE lives SET end_seq = 1, end_digest = x'00'"),
    ] {
        let scratch = Scratch::new();
        let (mut store, _) = open(scratch.path());
        let lobby = group("lobby");
        let life = Work::Life { group: lobby.descriptor.id(), life: 9 };
        store
            .write(&[Work::Keep(Box::new(lobby)), life, Work::Peer { contact: contact(1), seen_ms: 1 }])
            .expect("written");
        drop(store);
        let connection = rusqlite::Connection::open(scratch.path().join(DB)).expect("opens");
        connection.pragma_update(None, "foreign_keys", false).expect("set");
        assert!(connection.execute(damage, ()).expect("damaged") > 0);
        drop(connection);
        match Store::open(scratch.path(), 2) {
            Err(StoreError::Bad { why, .. }) => assert!(why.contains(table), "{why}"),
            other => panic!("{damage}: {other:?}"),
        }
    }
}

#[test]
fn a_newer_version_and_a_foreign_database_are_refused() {
    let scratch = Scratch::new();
    drop(open(scratch.path()));
    let path = scratch.path().join(DB);
    let connection = rusqlite::Connection::open(&path).expect("opens");
    connection.pragma_update(None, "user_version", 99).expect("set");
    drop(connection);
    match Store::open(scratch.path(), 2) {
        Err(StoreError::Newer { found: 99, known, .. }) => assert_eq!(known, schema::LATEST),
        other => panic!("{other:?}"),
    }
    std::fs::remove_file(&path).expect("removed");
    let other = rusqlite::Connection::open(&path).expect("opens");
    other.execute_batch("CREATE TABLE recipes (name TEXT)").expect("made");
    drop(other);
    assert!(matches!(Store::open(scratch.path(), 2), Err(StoreError::Bad { .. })));
}

#[test]
fn a_store_that_cannot_be_opened_names_itself() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path().join(DB)).expect("made");
    match Store::open(scratch.path(), 1) {
        Err(StoreError::Io { path, .. }) => assert_eq!(path, scratch.path().join(DB)),
        other => panic!("{other:?}"),
    }
}

/// What is left of the files after a crash at any byte of the log is a store that holds the jobs up
/// to some point, each whole.
#[test]
fn a_crash_at_any_point_leaves_whole_jobs_in_their_order() {
    let scratch = Scratch::new();
    let (mut store, _) = open(scratch.path());
    let ports = |port: u16| Work::Node(KeptNode { tcp_port: Some(port), ..KeptNode::default() });
    for port in 1..=12 {
        let life = Work::Life { group: GroupId::from_bytes([1; 32]), life: u64::from(port) };
        store.write(&[ports(port), life]).expect("written");
    }
    let file = std::fs::read(scratch.path().join(DB)).expect("there");
    let log = std::fs::read(scratch.path().join("treecast.db-wal")).expect("there");
    let image = Scratch::new();
    let mut seen = std::collections::BTreeSet::new();
    for length in (0..=log.len()).step_by(1_777).chain([log.len()]) {
        std::fs::write(image.path().join(DB), &file).expect("copied");
        std::fs::write(image.path().join("treecast.db-wal"), &log[..length]).expect("copied");
        let _ = std::fs::remove_file(image.path().join("treecast.db-shm"));
        let (_, kept) = open(image.path());
        let port = kept.node.tcp_port.unwrap_or(0);
        assert_eq!(kept.last_life(), u64::from(port), "cut at {length}");
        seen.insert(port);
    }
    assert!(seen.len() > 6 && seen.last() == Some(&12), "{seen:?}");
}

#[tokio::test]
async fn what_was_answered_is_in_a_copy_of_the_files() {
    let scratch = Scratch::new();
    let (store, _) = open(scratch.path());
    let (mut writer, mut done) = store.serve(ME).expect("a thread");
    let jobs: Vec<JobId> = (1..=40)
        .map(|port| writer.submit(vec![Work::Node(KeptNode { tcp_port: Some(port), ..KeptNode::default() })]))
        .collect();
    let mut answered = Vec::new();
    while answered.len() < jobs.len() {
        for it in done.recv().await.expect("the thread runs") {
            it.result.expect("written");
            answered.push(it.job);
        }
        let image = Scratch::new();
        for file in [DB, "treecast.db-wal"] {
            std::fs::copy(scratch.path().join(file), image.path().join(file)).expect("copied");
        }
        let port = usize::from(open(image.path()).1.node.tcp_port.unwrap_or(0));
        assert!(port >= answered.len(), "{port} of {}", answered.len());
    }
    assert_eq!(answered, jobs, "in the order in which they came");
    drop(writer);
    assert!(done.recv().await.is_none(), "the thread ends");
    assert!(!scratch.path().join("treecast.db-wal").exists(), "and leaves one file");
}

#[tokio::test]
async fn a_full_disk_is_answered_and_what_was_there_stays() {
    let scratch = Scratch::new();
    let (mut store, _) = open(scratch.path());
    store.write(&[Work::Keep(Box::new(group("lobby")))]).expect("written");
    store.fill_up();
    let (mut writer, mut done) = store.serve(ME).expect("a thread");
    let mut large = group("large");
    large.members = (0..MAX_MEMBERS as u8).map(contact).collect();
    let failing = writer.submit(vec![Work::Keep(Box::new(large))]);
    let answer = done.recv().await.expect("answered").remove(0);
    assert_eq!(answer.job, failing);
    let error = answer.result.expect_err("there is no room");
    assert!(error.to_string().contains("the disk is full"), "{error}");
    // It is still served: this needs no room.
    let small = writer.submit(vec![Work::Forget(group("nowhere").descriptor.id())]);
    let answer = done.recv().await.expect("answered").remove(0);
    assert_eq!((answer.job, answer.result), (small, Ok(())));
    drop(writer);
    assert!(done.recv().await.is_none());
    assert_eq!(open(scratch.path()).1.groups, [group("lobby")]);
}

#[tokio::test]
async fn a_job_that_fails_takes_no_other_with_it() {
    let scratch = Scratch::new();
    let (store, _) = open(scratch.path());
    let (mut writer, mut done) = store.serve(ME).expect("a thread");
    let mut same_label = group("other");
    same_label.label = "lobby".into();
    for works in [
        vec![Work::Keep(Box::new(group("lobby")))],
        vec![Work::Keep(Box::new(same_label))],
        vec![Work::Keep(Box::new(group("third")))],
    ] {
        writer.submit(works);
    }
    let mut results = Vec::new();
    while results.len() < 3 {
        results.extend(done.recv().await.expect("answered").into_iter().map(|it| it.result.is_ok()));
    }
    assert_eq!(results, [true, false, true]);
}

#[test]
fn an_end_in_good_order_leaves_all_in_one_file() {
    let scratch = Scratch::new();
    let (store, _) = open(scratch.path());
    // Whoever reads is there longer.
    let _library = store.library().expect("opens");
    let (mut writer, mut done) = store.serve(ME).expect("a thread");
    writer.submit(vec![Work::Keep(Box::new(group("lobby")))]);
    drop(writer);
    while done.blocking_recv().is_some() {}
    let copy = Scratch::new();
    std::fs::copy(scratch.path().join(DB), copy.path().join(DB)).expect("copied");
    assert_eq!(open(copy.path()).1.groups, [group("lobby")]);
}

#[test]
fn a_log_without_its_file_is_named_and_left_alone() {
    let scratch = Scratch::new();
    let (mut store, _) = open(scratch.path());
    store.write(&[Work::Keep(Box::new(group("lobby")))]).expect("written");
    let crashed = Scratch::new();
    let log = |dir: &Path| dir.join(format!("{DB}-wal"));
    let copy = || std::fs::copy(log(scratch.path()), log(crashed.path())).expect("copied");
    let refused = |says: &str| {
        let before = std::fs::read(log(crashed.path())).expect("there");
        for error in [Store::open(crashed.path(), 1).err(), Store::look(crashed.path()).err()] {
            match error {
                Some(StoreError::Bad { why, .. }) => assert!(why.contains(says), "{why}"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(std::fs::read(log(crashed.path())).expect("still there"), before);
    };
    copy();
    refused("treecast.db-wal is not");
    std::fs::write(crashed.path().join(DB), "").expect("emptied");
    refused("treecast.db-wal is not");
    std::fs::copy(scratch.path().join(DB), crashed.path().join(DB)).expect("copied");
    let mut damaged = std::fs::read(log(crashed.path())).expect("there");
    damaged[8..16].fill(0xff);
    std::fs::write(log(crashed.path()), damaged).expect("damaged");
    refused("treecast.db-wal is damaged");
    copy();
    assert_eq!(open(crashed.path()).1.groups, [group("lobby")]);
}
