//! Total orders against restarts, retention and reading.

use bytes::Bytes;
use treecast_overlay::io::{
    AgreementPast, EarlierBatch, EarlierPlace, FetchEarlier, HistoryBatch, KeepEarlier, OrderPast,
    OrderRecord,
};
use treecast_overlay::{BatchId, GroupId, Retention, Rng};

use super::fold::Words;
use super::history_tests::{ME, all, batches, keep_up, open, shelf, texts};
use super::*;
use crate::files::tests::Scratch;

/// Delivered, and how far the order is then.
fn delivered(group: GroupId, kept: &[(u64, &HistoryBatch)], order: Option<OrderRecord>) -> Work {
    let kept = kept.iter().map(|(at, batch)| KeptBatch {
        at: *at,
        nick: "ada".into(),
        kept_ms: *at,
        unsettled: true,
        batch: (*batch).clone(),
    });
    let (batches, sources) = (kept.collect(), Vec::new());
    Work::History { group, entered: true, batches, sources, causes: None, order }
}

fn order(index: u64, settled: &[(BatchId, Option<u64>)]) -> Option<OrderRecord> {
    let marks = settled.iter().map(|(it, _)| (it.source, it.life, it.seq + 1)).collect();
    Some(OrderRecord { ended: Vec::new(), index, marks, settled: settled.to_vec() })
}

fn past(store: &Store) -> Option<OrderPast> {
    store.history(&ME).expect("read").0.remove(0).order
}

fn span(group: GroupId) -> Span {
    Span { total: true, ..all(group) }
}

#[test]
fn what_waits_for_its_place_and_how_far_the_order_is_outlive_a_restart() {
    let scratch = Scratch::new();
    let (group, ada) = batches("lobby", 1, &["one", "two", "three", "four"]);
    let mut store = open(scratch.path());
    let kept: Vec<_> = (1..).zip(&ada).collect();
    store.write(&[delivered(group, &kept[..3], None)]).expect("written");
    let unsettled = |batches: &[HistoryBatch]| batches.iter().map(|it| it.bytes.clone()).collect::<Vec<_>>();
    let before = past(&store).expect("something waits");
    assert_eq!((before.founded, before.unsettled), (false, unsettled(&ada[..3])));
    let settled = [(ada[1].id, Some(7)), (ada[0].id, None)];
    store.write(&[delivered(group, &kept[3..], order(8, &settled))]).expect("written");
    drop(store);
    let mut store = open(scratch.path());
    let after = past(&store).expect("there is an order");
    let BatchId { source, life, .. } = ada[0].id;
    assert_eq!((after.founded, after.index), (true, 8));
    assert_eq!((after.marks, after.unsettled), (vec![(source, life, 1)], unsettled(&ada[2..])));
    assert_eq!(after.agreement, None);
    // Once more, as after a write that was tried again: what has its place keeps it.
    store.write(&[delivered(group, &kept[..2], None)]).expect("written");
    assert_eq!(past(&store).expect("there").unsettled, unsettled(&ada[2..]));
    store.write(&[Work::Forget(group)]).expect("written");
    keep_up(&mut store, 10_000);
    for table in ["orders", "ended", "marks", "places", "unsettled", "vows", "accepted", "batches"] {
        let sql = format!("SELECT count(*) FROM {table}");
        let rows: u32 = store.connection_mut().query_row(&sql, (), |row| row.get(0)).expect("counted");
        assert_eq!(rows, 0, "{table}");
    }
}

/// As the core's own reading of its writes.
#[test]
fn what_was_promised_and_accepted_is_what_was_written() {
    let scratch = Scratch::new();
    let (group, ada) = batches("lobby", 1, &["one"]);
    let mut store = open(scratch.path());
    store.write(&[delivered(group, &[(1, &ada[0])], None)]).expect("written");
    let (mut rng, mut model) = (Rng::new(5), AgreementPast::new(0));
    let below = |rng: &mut Rng, most: u64| (rng.unit() * most as f64) as u64;
    for turn in 0..200 {
        let epoch = turn / 50;
        if model.epoch != epoch {
            model = AgreementPast::new(epoch);
        }
        let end = model.compacted + model.entries.len() as u64;
        let compacted = model.compacted + below(&mut rng, model.entries.len() as u64 / 2 + 1);
        let from = compacted + below(&mut rng, end - compacted + 1);
        let entries: Vec<Bytes> =
            (0..below(&mut rng, 4)).map(|n| Bytes::from(format!("{turn}.{n}"))).collect();
        let vows = Bytes::from(format!("vow {turn}"));
        model.write(vows.clone(), from, &entries, compacted);
        let agreement = Agreement { group, epoch, vows, from, entries, compacted };
        store.write(&[Work::Agreement(Box::new(agreement))]).expect("written");
        assert_eq!(past(&store).and_then(|it| it.agreement).as_ref(), Some(&model), "turn {turn}");
    }
}

#[test]
fn the_history_is_read_by_place_and_the_orders_own_records_are_not_in_it() {
    let scratch = Scratch::new();
    let (group, mut ada) = batches("lobby", 1, &["one", "two", "three", "four", "a record"]);
    (ada[4].messages, ada[4].payload) = (0, 0);
    let mut store = open(scratch.path());
    let kept: Vec<_> = (1..).zip(&ada).collect();
    let settled = [(ada[2].id, Some(5)), (ada[0].id, Some(6)), (ada[1].id, Some(7)), (ada[4].id, None)];
    store.write(&[delivered(group, &kept, order(8, &settled))]).expect("written");
    keep_up(&mut store, 5);
    let shelf = shelf(scratch.path());
    let found = shelf.page(&span(group)).expect("read");
    assert_eq!(texts(&found), ["three", "one", "two"]);
    assert_eq!(found.iter().map(|it| it.index).collect::<Vec<_>>(), [Some(5), Some(6), Some(7)]);
    let read = |span: Span| texts(&shelf.page(&shelf.begin(&span).expect("read")).expect("read"));
    assert_eq!(read(Span { from: 6, ..span(group) }), ["one", "two"]);
    assert_eq!(read(Span { from: 6, before: 7, ..span(group) }), ["one"]);
    // It may have had several messages: who reads leaves out those before.
    assert_eq!(read(Span { from: 9, ..span(group) }), ["two"]);
    assert_eq!(
        read(Span { since_ms: 2, ..span(group) }),
        ["three", "one", "two"],
        "from the first that came"
    );
    assert_eq!(shelf.last(&span(group), 2).expect("read"), (6, 0));
    let (before, _) = shelf.last_before(&span(group), 1, &ada[1].id, 0).expect("read").expect("it is there");
    assert_eq!((before.from, before.before), (6, 8));
    let (before, _) = shelf.last_before(&span(group), 1, &ada[3].id, 0).expect("read").expect("it is there");
    assert_eq!(before.from, 7, "all that has a place stands before what has none");
    let (found, _) = shelf.search(&Words::of("o"), Some(group), 0).expect("read");
    let standing = found.iter().map(|it| (it.index, it.tentative)).collect::<Vec<_>>();
    assert_eq!(standing, [(Some(6), false), (Some(7), false), (Some(5), false), (None, true)]);
    let (found, _) = shelf.search(&Words::of("record"), Some(group), 0).expect("read");
    assert!(found.is_empty());
    // Who comes later is told what has a place, the last first; what was said before it came stands first.
    let fetch = |before| FetchEarlier { group, before, batches: 2, bytes: 1 << 20 };
    let bodies = |piece: &Piece| piece.batches.iter().map(|it| it.1.clone()).collect::<Vec<_>>();
    let piece = shelf.earlier(&fetch(None)).expect("read");
    assert_eq!((bodies(&piece), piece.end), (vec![ada[1].bytes.clone(), ada[0].bytes.clone()], false));
    let piece = shelf.earlier(&fetch(piece.last)).expect("read");
    assert_eq!((bodies(&piece), piece.end), (vec![ada[2].bytes.clone()], true));
}

#[test]
fn what_was_gathered_before_it_was_delivered_gets_its_place_all_the_same() {
    let scratch = Scratch::new();
    let (group, ada) = batches("lobby", 1, &["zero", "one", "two", "three"]);
    let mut store = open(scratch.path());
    let earlier = |it: &HistoryBatch| EarlierBatch { age_ms: 9, nick: "ada".into(), batch: it.clone() };
    let place = EarlierPlace { at: Some((ME, 1)) };
    let gathered = vec![earlier(&ada[2]), earlier(&ada[1]), earlier(&ada[0])];
    let keep = Box::new(KeepEarlier { group, batches: gathered, place, done: true });
    store.write(&[Work::Earlier { keep, now_ms: 10 }]).expect("written");
    store.write(&[delivered(group, &[(1, &ada[3]), (2, &ada[2])], None)]).expect("written");
    let waiting = past(&store).expect("some wait").unsettled;
    assert_eq!(waiting, [ada[3].bytes.clone(), ada[2].bytes.clone()], "as they were delivered");
    let read = || texts(&shelf(scratch.path()).page(&span(group)).expect("read"));
    assert_eq!(read(), ["zero", "one"]);
    let settled = [(ada[2].id, Some(40)), (ada[3].id, Some(41))];
    store.write(&[delivered(group, &[], order(42, &settled))]).expect("written");
    assert_eq!(read(), ["zero", "one"], "a page of what came before");
    let later = Span { from: 0, ..span(group) };
    assert_eq!(texts(&shelf(scratch.path()).page(&later).expect("read")), ["two", "three"]);
    assert_eq!(shelf(scratch.path()).last(&span(group), 3).expect("read"), (-2, 0));
}

#[test]
fn retention_lets_go_of_the_first_places_and_of_nothing_that_waits() {
    let scratch = Scratch::new();
    let (group, ada) = batches("lobby", 1, &vec!["0123456789"; 40]);
    let mut store = open(scratch.path());
    let retention = Retention { count: Some(10), ..Retention::default() };
    store.write(&[Work::Retain { group, retention }]).expect("written");
    let kept: Vec<_> = (1..).zip(&ada).collect();
    // Two and two have their places the other way round; the first of all have none.
    let settled: Vec<_> = (5..40).map(|n: u64| (ada[n as usize].id, Some(100 + (n ^ 1)))).collect();
    store.write(&[delivered(group, &kept, order(200, &settled))]).expect("written");
    keep_up(&mut store, 10_000);
    assert_eq!(past(&store).expect("there").unsettled.len(), 5);
    let found = shelf(scratch.path()).page(&span(group)).expect("read");
    let places: Vec<u64> = found.iter().filter_map(|it| it.index).collect();
    assert_eq!(places, (140 - places.len() as u64..140).collect::<Vec<_>>(), "without a hole");
    assert_eq!(places.len(), 5, "those that wait count as well");
}

/// The next is delivered to nobody if the order cannot be kept with it.
#[test]
fn a_record_is_kept_whole_or_not_at_all() {
    let scratch = Scratch::new();
    let (group, ada) = batches("lobby", 1, &["one", "two"]);
    let mut store = open(scratch.path());
    store.write(&[delivered(group, &[(1, &ada[0])], None)]).expect("written");
    store.refuse_writes();
    let settled = [(ada[0].id, Some(0))];
    assert!(store.write(&[delivered(group, &[(2, &ada[1])], order(1, &settled))]).is_err());
    drop(store);
    let past = past(&open(scratch.path())).expect("as it was");
    assert_eq!((past.founded, past.unsettled), (false, vec![ada[0].bytes.clone()]));
}

#[test]
fn records_that_ended_epochs_are_kept_in_their_order() {
    let scratch = Scratch::new();
    let (group, _) = batches("lobby", 1, &["one"]);
    let mut store = open(scratch.path());
    let ended: Vec<Bytes> = ["first", "second", "third"].map(Bytes::from).to_vec();
    for part in [&ended[..1], &[], &ended[1..]] {
        let record = OrderRecord { ended: part.to_vec(), ..order(0, &[]).expect("one") };
        store.write(&[delivered(group, &[], Some(record))]).expect("written");
    }
    assert_eq!(past(&store).expect("there").ended, ended);
}
