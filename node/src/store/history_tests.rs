//! The history against kills, forgetting and searches.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use treecast_overlay::io::{
    EarlierBatch, EarlierPlace, Fetch, FetchEarlier, HistoryBatch, KeepEarlier, LifeRecord, SourceRecord,
    Write,
};
use treecast_overlay::{
    BatchId, Config, Descriptor, Digest, Engine, GroupId, Input, NodeId, Out, Output, PublishId, Retention,
    Start, Time,
};

use super::fold::Words;
use super::library::Shelf;
use super::record::Numbers;
use super::upkeep::Upkeep;
use super::*;
use crate::event::Fork;
use crate::files::tests::Scratch;

const DB: &str = "treecast.db";
pub(super) const ME: NodeId = NodeId::from_bytes([9; 32]);

/// A source's batches, one a text, as they would come in.
pub(super) fn batches(name: &str, key: u8, texts: &[&str]) -> (GroupId, Vec<HistoryBatch>) {
    let group = Descriptor::open(name).expect("a good name");
    let config = Config { history: true, ..Config::default() };
    let (secret_key, ends) = ([key; 32], Vec::new());
    let start = Start { config, secret_key, seed: 1, unix_ms: 1_000, last_life: 0, ends };
    let mut engine = Engine::new(start).expect("in range");
    let (mut out, mut made, mut now) = (Out::new(), Vec::new(), 0);
    engine.handle(Time::ZERO, Input::Join(Box::new(group.clone())), &mut out);
    for (id, text) in (0..).map(PublishId).zip(texts) {
        now += 2_000_000;
        let payload = Bytes::from((*text).to_owned());
        engine.handle(Time::from_micros(now), Input::Publish { group: group.id(), id, payload }, &mut out);
        engine.handle(Time::from_micros(now + 100_000), Input::Tick, &mut out);
        while let Some(output) = out.pop() {
            let Output::Persist { token, writes } = output else { continue };
            for write in writes {
                if let Write::Batch { id, bytes, digest, messages, payload, .. } = write {
                    made.push(HistoryBatch { id, bytes, digest, messages, payload });
                }
            }
            engine.handle(Time::from_micros(now + 100_000), Input::Persisted(token), &mut out);
        }
    }
    assert_eq!(made.len(), texts.len());
    (group.id(), made)
}

fn record(group: GroupId, at: u64, batch: &HistoryBatch, kept_ms: u64) -> Work {
    let BatchId { source, life, seq } = batch.id;
    let (head, end, above) = (Some(batch.digest), None, Vec::new());
    let life = LifeRecord { life, next: seq + 1, head, end, above, owed: None };
    let kept = KeptBatch { at, nick: "ada".into(), kept_ms, unsettled: false, batch: batch.clone() };
    let sources = vec![SourceRecord { source, floor: 0, lives: vec![life], closed: Vec::new() }];
    Work::History { group, entered: true, batches: vec![kept], sources, causes: None, order: None }
}

pub(super) fn open(dir: &Path) -> Store {
    Store::open(dir, 1).expect("a good store").0
}

/// A store in which these were delivered, each a millisecond after the one before.
fn told(dir: &Path, group: GroupId, batches: &[HistoryBatch]) -> Store {
    let mut store = open(dir);
    let works: Vec<Work> = (1..).zip(batches).map(|(at, it)| record(group, at, it, at)).collect();
    store.write(&works).expect("written");
    store
}

pub(super) fn shelf(dir: &Path) -> Shelf {
    Shelf::open(&dir.join(DB)).expect("opens")
}

pub(super) fn texts(found: &[PastBatch]) -> Vec<String> {
    let payloads = found.iter().flat_map(|it| &it.shown.messages);
    payloads.map(|(_, payload)| String::from_utf8_lossy(payload).into_owned()).collect()
}

pub(super) fn all(group: GroupId) -> Span {
    Span { group, from: i64::MIN, before: i64::MAX, since_ms: 0, total: false }
}

/// Longer than upkeep ever waits while there is some.
const FAR: Duration = Duration::from_secs(3_600);

/// Upkeep until there is none left.
pub(super) fn keep_up(store: &mut Store, now_ms: u64) {
    let (mut upkeep, mut numbers) = (Upkeep::new(ME), Numbers::default());
    for _ in 0..10_000 {
        if upkeep.due_in(now_ms, FAR) == FAR {
            return;
        }
        std::thread::sleep(upkeep.due_in(now_ms, FAR).min(Duration::from_millis(50)));
        upkeep.turn(store.connection_mut(), &mut numbers, now_ms).expect("it can be written");
    }
    panic!("it never ends");
}

#[test]
fn history_is_what_was_delivered_in_its_order() {
    let scratch = Scratch::new();
    let (group, ada) = batches("lobby", 1, &["one", "three", "five"]);
    let (_, bob) = batches("lobby", 2, &["two", "four"]);
    let (other, elsewhere) = batches("garden", 1, &["elsewhere"]);
    let mut store = open(scratch.path());
    for (at, (group, batch)) in (1..).zip([
        (group, &ada[0]),
        (group, &bob[0]),
        (other, &elsewhere[0]),
        (group, &ada[1]),
        (group, &bob[1]),
        (group, &ada[2]),
    ]) {
        store.write(&[record(group, at, batch, at * 10)]).expect("written");
    }
    // Once more, as after a crash: it keeps its place.
    store.write(&[record(group, 7, &ada[0], 99)]).expect("written");
    let shelf = shelf(scratch.path());
    let read = |span: &Span| texts(&shelf.page(span).expect("read"));
    assert_eq!(read(&all(group)), ["one", "two", "three", "four", "five"]);
    assert_eq!(read(&Span { from: 2, before: 5, ..all(group) }), ["two", "three"]);
    assert_eq!(read(&Span { since_ms: 45, ..all(group) }), ["four", "five"]);
    assert_eq!(shelf.last(&all(group), 2).expect("read"), (5, 0));
    assert_eq!(shelf.last(&all(group), 99).expect("read"), (1, 0));
    let before = |limit, id: &BatchId, n| {
        let found = shelf.last_before(&all(group), limit, id, n).expect("read");
        found.map(|(span, skip)| (span.before, (span.from, skip)))
    };
    assert_eq!(before(2, &ada[2].id, 0), Some((7, (4, 0))));
    assert_eq!(before(2, &ada[2].id, 1), Some((7, (5, 0))), "one of its own batch");
    assert_eq!(before(2, &ada[2].id, 5), Some((7, (6, 3))));
    assert_eq!(before(2, &BatchId { seq: 99, ..ada[2].id }, 0), None, "not kept");
    assert_eq!(read(&all(other)), ["elsewhere"]);
    drop(store);
    let store = open(scratch.path());
    assert_eq!(store.history(&ME).expect("read").1, 7, "a place is never used twice");
}

#[test]
fn others_are_served_what_was_kept() {
    let scratch = Scratch::new();
    let (group, ada) = batches("lobby", 1, &["a", "b", "c", "d", "e"]);
    let _store = told(scratch.path(), group, &ada[1..]);
    let shelf = shelf(scratch.path());
    let BatchId { source, life, .. } = ada[0].id;
    let fetch = |ranges: &[(u64, u64)], batches, bytes| {
        let fetch = Fetch { group, source, life, ranges: ranges.to_vec(), batches, bytes };
        let (found, first) = shelf.fetch(&fetch).expect("read");
        (found.into_iter().map(|(seq, _)| seq).collect::<Vec<_>>(), first)
    };
    assert_eq!(fetch(&[(0, 3), (4, u64::MAX)], 64, 1 << 20), (vec![1, 2, 4], Some(1)));
    assert_eq!(fetch(&[(0, 9)], 2, 1 << 20), (vec![1, 2], Some(1)));
    assert_eq!(fetch(&[(0, 9)], 64, 1), (vec![1], Some(1)), "one at least");
    let none = Fetch { group, source: ME, life, ranges: vec![(0, 9)], batches: 9, bytes: 9 };
    assert_eq!(shelf.fetch(&none), Ok((Vec::new(), None)));
}

#[test]
fn a_node_comes_back_to_where_it_was() {
    let scratch = Scratch::new();
    let (group, ada) = batches("lobby", 1, &["a", "b"]);
    let (mut store, id) = (told(scratch.path(), group, &ada), ada[1].id);
    let over = LifeRecord { life: 3, next: 7, head: None, end: Some(7), above: Vec::new(), owed: None };
    let bob = SourceRecord { source: ME, floor: 3, lives: vec![over.clone()], closed: Vec::new() };
    let sources = vec![bob];
    store
        .write(&[Work::History {
            group,
            entered: false,
            batches: Vec::new(),
            sources,
            causes: None,
            order: None,
        }])
        .expect("written");
    store.write(&[Work::Taken { group, source: ME, life: 3, next: 5 }]).expect("written");
    let (pasts, _) = store.history(&ME).expect("read");
    assert_eq!(pasts.len(), 1);
    assert!(pasts[0].entered, "that is never taken back");
    let own = pasts[0].sources.iter().find(|it| it.source == ME).expect("there");
    assert_eq!((own.floor, &own.lives[..]), (3, &[LifeRecord { owed: Some(5), ..over }][..]));
    let ada = pasts[0].sources.iter().find(|it| it.source == id.source).expect("there");
    assert_eq!((ada.lives[0].next, ada.lives[0].owed), (2, None));
    store.write(&[Work::Forget(group)]).expect("written");
    assert!(store.history(&ME).expect("read").0.is_empty(), "who comes again is new");
}

#[test]
fn where_no_order_is_kept_what_came_above_a_gap_is_known() {
    let scratch = Scratch::new();
    let (group, ada) = batches("lobby", 1, &["a", "b", "c", "d", "e"]);
    let mut store = told(scratch.path(), group, &ada[..1]);
    let above = |at, seq: usize| {
        let kept = KeptBatch { at, nick: "".into(), kept_ms: 1, unsettled: false, batch: ada[seq].clone() };
        Work::History {
            group,
            entered: true,
            batches: vec![kept],
            sources: Vec::new(),
            causes: None,
            order: None,
        }
    };
    store.write(&[above(2, 2), above(3, 4)]).expect("written");
    let life = &store.history(&ME).expect("read").0[0].sources[0].lives[0];
    assert_eq!((life.next, &life.above[..]), (1, &[(2, 3), (4, 5)][..]));
}

/// Whatever is left of the files after a kill: what a node says that it has, it has.
#[test]
fn after_a_crash_at_any_point_frontiers_and_batches_agree() {
    let scratch = Scratch::new();
    let said: Vec<String> = (0..24).map(|number| format!("line {number}")).collect();
    let (group, ada) = batches("lobby", 1, &said.iter().map(String::as_str).collect::<Vec<_>>());
    let mut store = open(scratch.path());
    for (at, batch) in (1..).zip(&ada) {
        store.write(&[record(group, at, batch, at)]).expect("written");
    }
    let file = std::fs::read(scratch.path().join(DB)).expect("there");
    let log = std::fs::read(scratch.path().join("treecast.db-wal")).expect("there");
    let (image, mut seen) = (Scratch::new(), std::collections::BTreeSet::new());
    for length in (0..=log.len()).step_by(9_973).chain([log.len()]) {
        std::fs::write(image.path().join(DB), &file).expect("copied");
        std::fs::write(image.path().join("treecast.db-wal"), &log[..length]).expect("copied");
        let _ = std::fs::remove_file(image.path().join("treecast.db-shm"));
        let store = open(image.path());
        let (pasts, next_at) = store.history(&ME).expect("read");
        let next = pasts.first().map_or(0, |it| it.sources[0].lives[0].next);
        let kept = shelf(image.path()).page(&all(group)).expect("read");
        assert_eq!(texts(&kept), said[..next as usize], "cut at {length}");
        assert_eq!(next_at, next + 1);
        seen.insert(next);
    }
    assert!(seen.len() > 4 && seen.last() == Some(&24), "{seen:?}");
}

#[test]
fn searches_find_words_of_all_scripts_and_lengths_indexed_or_not() {
    let scratch = Scratch::new();
    let lines = ["Der BÄR tanzt", "抹茶ラテ を飲む", "a café, twice", "nothing here", "x"];
    let (group, ada) = batches("lobby", 1, &lines);
    let (other, _) = batches("garden", 1, &["bear"]);
    let mut store = told(scratch.path(), group, &ada);
    for indexed in [false, true] {
        if indexed {
            keep_up(&mut store, 5);
        }
        let shelf = shelf(scratch.path());
        let find = |query: &str, group| {
            let (words, mut from, mut all) = (Words::of(query), Some(0), Vec::new());
            while let Some(at) = from {
                let (found, next) = shelf.search(&words, group, at).expect("searched");
                all.extend(texts(&found).into_iter().filter(|text| words.are_in(text)));
                from = next;
            }
            all
        };
        for (query, line) in [
            ("bar", 0),
            ("tanzt bär", 0),
            ("茶", 1),
            ("茶ラテ", 1),
            ("飲む 抹茶", 1),
            ("CAFE\u{301}", 2),
            ("x", 4),
        ] {
            let found = find(query, None);
            assert_eq!(found, [lines[line]], "{query}, {indexed}");
        }
        assert!(find("tanzt café", None).is_empty(), "not in one message");
        assert!(find("\"OR\" * bär)", None).is_empty(), "no syntax");
        assert_eq!(find("nothing", Some(group)).len(), 1);
        assert!(find("nothing", Some(other)).is_empty());
    }
}

#[test]
fn what_could_be_written_only_later_is_found_as_well() {
    let scratch = Scratch::new();
    let (group, ada) = batches("lobby", 1, &["early bird", "late bird"]);
    let mut store = open(scratch.path());
    store.write(&[record(group, 2, &ada[0], 1)]).expect("written");
    keep_up(&mut store, 5);
    store.write(&[record(group, 1, &ada[1], 1)]).expect("written");
    let (found, _) = shelf(scratch.path()).search(&Words::of("bird"), None, 0).expect("searched");
    assert_eq!(texts(&found), ["late bird", "early bird"]);
    keep_up(&mut store, 5);
}

#[test]
fn retention_keeps_at_least_what_is_asked_for_and_gives_back_the_rest() {
    let (group, ada) = batches("lobby", 1, &vec!["0123456789"; 300]);
    let cases = [
        (Retention { count: Some(100), ..Retention::default() }, 100),
        (Retention { bytes: Some(1_000), ..Retention::default() }, 100),
        (Retention { bytes: Some(995), ..Retention::default() }, 100),
        (Retention { age_s: Some(1), ..Retention::default() }, 150),
        (Retention { age_s: Some(1), count: Some(10), ..Retention::default() }, 10),
        (Retention::default(), 300),
    ];
    for (retention, left) in cases {
        let scratch = Scratch::new();
        let mut store = open(scratch.path());
        store.write(&[Work::Retain { group, retention }]).expect("written");
        // The first half came long before the second.
        let works = (1..).zip(&ada).map(|(at, it)| record(group, at, it, if at <= 150 { 0 } else { 9_500 }));
        store.write(&works.collect::<Vec<_>>()).expect("written");
        keep_up(&mut store, 10_000);
        let kept = shelf(scratch.path()).last(&all(group), u64::MAX).expect("read");
        assert_eq!(kept.0, 301 - left, "{retention:?}");
        let next = store.history(&ME).expect("read").0[0].sources[0].lives[0].next;
        assert_eq!(next, 300, "how far it was outlives what is gone");
        let spare: u32 = store
            .connection_mut()
            .pragma_query_value(None, "freelist_count", |row| row.get(0))
            .expect("told");
        assert_eq!(spare, 0, "{retention:?}");
    }
}

#[test]
fn what_nobody_has_is_not_let_go_nor_is_a_group_that_is_left_kept() {
    let scratch = Scratch::new();
    let (group, mut ada) = batches("lobby", 1, &vec!["0123456789"; 50]);
    let me = ada[0].id.source;
    ada.truncate(40);
    let mut store = open(scratch.path());
    let retention = Retention { count: Some(1), ..Retention::default() };
    store.write(&[Work::Retain { group, retention }]).expect("written");
    let life = ada[0].id.life;
    let own = |(at, batch): (u64, &HistoryBatch)| {
        let kept = KeptBatch { at, nick: "".into(), kept_ms: 1, unsettled: false, batch: batch.clone() };
        Work::Own { group, batch: Box::new(kept) }
    };
    store.write(&(1..).zip(&ada).map(own).collect::<Vec<_>>()).expect("written");
    store.write(&[Work::Taken { group, source: me, life, next: 25 }]).expect("written");
    let (mut upkeep, mut numbers) = (Upkeep::new(me), Numbers::default());
    while upkeep.due_in(10_000, FAR) < FAR {
        std::thread::sleep(upkeep.due_in(10_000, FAR).min(Duration::from_millis(50)));
        upkeep.turn(store.connection_mut(), &mut numbers, 10_000).expect("it can be written");
    }
    assert_eq!(shelf(scratch.path()).last(&all(group), u64::MAX).expect("read"), (26, 0));
    store.write(&[Work::Forget(group)]).expect("written");
    keep_up(&mut store, 10_000);
    for table in ["rooms", "chains", "sources", "batches", "words"] {
        let sql = format!("SELECT count(*) FROM {table}");
        let rows: u32 = store.connection_mut().query_row(&sql, (), |row| row.get(0)).expect("counted");
        assert_eq!(rows, 0, "{table}");
    }
}

#[test]
fn a_store_of_the_first_version_gets_a_history() {
    let scratch = Scratch::new();
    let connection = rusqlite::Connection::open(scratch.path().join(DB)).expect("opens");
    connection.execute_batch(include_str!("schema/001.sql")).expect("made");
    connection.pragma_update(None, "application_id", 0x7463_7374).expect("set");
    connection.pragma_update(None, "user_version", 1).expect("set");
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).expect("set");
    connection
        .execute("INSERT INTO lives (group_id, life) VALUES (?1, 7)", [[1_u8; 32].as_slice()])
        .expect("put");
    drop(connection);
    let (mut store, kept) = Store::open(scratch.path(), 2).expect("it is brought up to date");
    assert_eq!(kept.last_life(), 7);
    let mode: u32 =
        store.connection_mut().pragma_query_value(None, "auto_vacuum", |row| row.get(0)).expect("told");
    assert_eq!(mode, 2, "space can be given back");
    let (group, ada) = batches("lobby", 1, &["hi"]);
    store.write(&[record(group, 1, &ada[0], 1)]).expect("written");
    assert_eq!(texts(&shelf(scratch.path()).page(&all(group)).expect("read")), ["hi"]);
    assert_ne!(ada[0].digest, Digest::ZERO);
}

#[test]
fn what_was_said_before_stands_below_all_that_was_delivered() {
    let scratch = Scratch::new();
    let (group, ada) = batches("lobby", 1, &["one", "two", "three", "four", "five"]);
    let mut store = told(scratch.path(), group, &ada[3..]);
    keep_up(&mut store, 1_000);
    let earlier = |seq: usize, age_ms| EarlierBatch { age_ms, nick: "ada".into(), batch: ada[seq].clone() };
    let keep = |batches, at, done| {
        let place = EarlierPlace { at: Some((ME, at)) };
        let keep = Box::new(KeepEarlier { group, batches, place, done });
        Work::Earlier { keep, now_ms: 1_000 }
    };
    // The latest first, one of it delivered already.
    store.write(&[keep(vec![earlier(3, 10), earlier(2, 20)], 8, false)]).expect("written");
    assert_eq!(store.history(&ME).expect("read").0[0].earlier, Some(EarlierPlace { at: Some((ME, 8)) }));
    store.write(&[keep(vec![earlier(1, 500), earlier(0, 900)], 6, true)]).expect("written");
    assert_eq!(store.history(&ME).expect("read").0[0].earlier, None);
    let shelf = shelf(scratch.path());
    let read = |span: &Span| texts(&shelf.page(span).expect("read"));
    assert_eq!(read(&all(group)), ["one", "two", "three", "four", "five"]);
    let words = Words::of("two");
    let (found, next) = shelf.search(&words, Some(group), i64::MIN).expect("read");
    assert_eq!((texts(&found), next.is_some()), (vec!["two".to_owned()], true), "it is in the index");
    let fetch = |before| FetchEarlier { group, before, batches: 2, bytes: 1 << 20 };
    let piece = shelf.earlier(&fetch(None)).expect("read");
    assert_eq!((piece.batches.len(), piece.end), (2, false));
    let piece = shelf.earlier(&fetch(piece.last)).expect("read");
    assert_eq!(piece.batches.iter().map(|it| it.0).collect::<Vec<_>>(), [980, 500]);
    let piece = shelf.earlier(&fetch(piece.last)).expect("read");
    assert_eq!((piece.batches.len(), piece.end), (1, true));
    // Retention takes the oldest first.
    let retention = Retention { count: Some(3), ..Retention::default() };
    store.write(&[Work::Retain { group, retention }]).expect("written");
    keep_up(&mut store, 10_000);
    assert_eq!(read(&all(group)), ["three", "four", "five"]);
}

/// What was gathered of a group from before this node's time has the lowest places of all.
#[tokio::test]
async fn in_several_groups_what_came_first_is_found_first() {
    let scratch = Scratch::new();
    let (lobby, ada) = batches("lobby", 1, &["a red bird", "a blue bird"]);
    let (garden, bob) = batches("garden", 1, &["an old bird", "a green bird"]);
    let mut store = open(scratch.path());
    let works = [
        record(garden, 1, &bob[0], 100),
        record(garden, 2, &bob[1], 5_500),
        record(lobby, 3, &ada[0], 5_000),
        record(lobby, 4, &ada[1], 6_000),
    ];
    store.write(&works).expect("written");
    let groups = [(lobby, "lobby"), (garden, "garden")];
    let groups = groups.map(|(id, label)| (id, (label.to_owned(), Fork::default()))).into();
    let library = store.library().expect("readable");
    let catalogue = crate::history::Catalogue { library, groups, only: None, incomplete: None };
    let mut finds = crate::history::Finds::new(catalogue, "bird").expect("words");
    let mut found = Vec::new();
    while let Some((group, message)) = finds.next().await.expect("read") {
        found.push((group, String::from_utf8_lossy(&message.payload).into_owned()));
    }
    let wanted = [
        ("garden", "an old bird"),
        ("lobby", "a red bird"),
        ("garden", "a green bird"),
        ("lobby", "a blue bird"),
    ];
    assert_eq!(found, wanted.map(|(group, text)| (group.to_owned(), text.to_owned())));
}

#[test]
fn removals_and_causes_are_there_at_the_next_start() {
    let scratch = Scratch::new();
    let (group, ada) = batches("lobby", 1, &["a"]);
    let mut store = told(scratch.path(), group, &ada);
    let past = |store: &Store| store.history(&ME).expect("read").0.remove(0);
    assert_eq!((past(&store).removals, past(&store).causes), (Vec::new(), None));
    let removal = |victim: u8, record: &'static [u8]| Work::Removal {
        group,
        node: NodeId::from_bytes([victim; 32]),
        record: Bytes::from_static(record),
    };
    store.write(&[removal(1, b"first"), removal(2, b"other"), removal(1, b"later")]).expect("written");
    let told = |causes| Work::History {
        group,
        entered: true,
        batches: Vec::new(),
        sources: Vec::new(),
        causes,
        order: None,
    };
    let heads = vec![ada[0].id, BatchId { source: ME, life: u64::MAX, seq: 7 }];
    for causes in [Some(heads), Some(Vec::new()), None] {
        store.write(&[told(causes.clone())]).expect("written");
        assert_eq!(past(&store).causes, causes);
    }
    assert_eq!(past(&store).removals, [&b"later"[..], b"other"].map(Bytes::from_static));
    store.write(&[Work::Forget(group)]).expect("written");
    store.write(&[told(None)]).expect("written");
    assert!(past(&store).removals.is_empty(), "the group was left");
}
