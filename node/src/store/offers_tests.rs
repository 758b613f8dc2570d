//! What was announced and taken back, in whatever order it comes here.

use treecast_overlay::files::{Ending, FileHash, Offer, Retraction};
use treecast_overlay::io::{EarlierBatch, EarlierPlace, HistoryBatch, KeepEarlier};

use super::history_tests::{ME, batches, open, shelf};
use super::*;
use crate::files::tests::Scratch;

fn offer(name: &str) -> Offer {
    Offer { hash: FileHash::from_bytes([7; 32]), name: name.to_owned(), size: 3, manifest: None }
}

/// One announces a file under two names, withdraws it, and announces it again under one.
fn said() -> (treecast_overlay::GroupId, Vec<HistoryBatch>) {
    let withdrawn = Retraction { hash: offer("").hash, name: "a".into(), ending: Ending::Withdrawn };
    let all =
        [offer("a").to_message(), offer("b").to_message(), withdrawn.to_message(), offer("b").to_message()];
    batches("lobby", 1, &all.each_ref().map(String::as_str))
}

/// The names that are known, and whether each was withdrawn.
fn known(scratch: &Scratch) -> Vec<(String, bool)> {
    let offers = shelf(scratch.path()).offers(None).expect("read");
    offers.into_iter().map(|it| (it.offer.name, it.ending == Some(Ending::Withdrawn))).collect()
}

fn earlier(group: treecast_overlay::GroupId, all: &[&HistoryBatch]) -> Work {
    let batch = |it: &&HistoryBatch| EarlierBatch { age_ms: 1, nick: "ada".into(), batch: (*it).clone() };
    let (batches, place) = (all.iter().map(batch).collect(), EarlierPlace { at: Some((ME, 1)) });
    Work::Earlier { keep: Box::new(KeepEarlier { group, batches, place, done: false }), now_ms: 9 }
}

#[test]
fn a_file_has_several_names_until_its_announcer_takes_it_back() {
    let told = |names: &[(&str, bool)]| names.iter().map(|(it, ended)| ((*it).to_owned(), *ended)).collect();
    let expected: [Vec<(String, bool)>; 4] = [
        told(&[("a", false)]),
        told(&[("a", false), ("b", false)]),
        told(&[("a", true), ("b", true)]),
        told(&[("a", true), ("b", false)]),
    ];
    let (group, all) = said();
    for count in 1..=all.len() {
        // As it is said, latest first: what was said before this node's time comes so.
        let scratch = Scratch::new();
        let mut store = open(scratch.path());
        let latest: Vec<&HistoryBatch> = all[..count].iter().rev().collect();
        store.write(&[earlier(group, &latest)]).expect("written");
        assert_eq!(known(&scratch), expected[count - 1], "{count}");
    }
}

#[test]
fn what_has_changed_is_known_after_a_restart() {
    let scratch = Scratch::new();
    let path = scratch.path().join("it");
    let hash = offer("").hash;
    let mut file = HeldFile { hash, path, size: 3, manifest: None, whole: true, ending: None };
    for ending in [None, Some(Ending::Changed), Some(Ending::Removed), None] {
        file.ending = ending;
        open(scratch.path()).write(&[Work::Hold(Box::new(file.clone()))]).expect("written");
        assert_eq!(open(scratch.path()).held().expect("read"), [file.clone()]);
    }
}

#[test]
fn what_an_older_version_kept_is_known_under_its_name() {
    let scratch = Scratch::new();
    let (group, all) = said();
    let mut store = open(scratch.path());
    store.write(&[earlier(group, &[&all[0]])]).expect("written");
    // As the version before had it.
    let before = "DROP TABLE retractions; ALTER TABLE held DROP COLUMN ending;
         ALTER TABLE offers RENAME TO named;
         CREATE TABLE offers (room INTEGER NOT NULL, hash BLOB NOT NULL, source BLOB NOT NULL, at INTEGER NOT NULL,
             kept_ms INTEGER NOT NULL, nick TEXT NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL,
             manifest INTEGER, PRIMARY KEY (room, hash, source)) STRICT, WITHOUT ROWID;
         INSERT INTO offers SELECT room, hash, source, at, kept_ms, nick, name, size, manifest FROM named;
         DROP TABLE named; PRAGMA user_version = 6;";
    store.connection_mut().execute_batch(before).expect("set back");
    drop(store);
    let mut store = open(scratch.path());
    assert_eq!(known(&scratch), [("a".to_owned(), false)]);
    store.write(&[earlier(group, &[&all[2], &all[1]])]).expect("written");
    assert_eq!(known(&scratch), [("b".to_owned(), true), ("a".to_owned(), true)]);
}

#[test]
fn of_some_files_those_are_found_that_were_announced() {
    let scratch = Scratch::new();
    let other = Offer { hash: FileHash::from_bytes([8; 32]), ..offer("c") };
    let texts = [offer("a").to_message(), other.to_message(), offer("b").to_message()];
    let (group, all) = batches("lobby", 1, &texts.each_ref().map(String::as_str));
    open(scratch.path()).write(&[earlier(group, &all.iter().rev().collect::<Vec<_>>())]).expect("written");
    let (shelf, unknown) = (shelf(scratch.path()), FileHash::from_bytes([9; 32]));
    let (ours, theirs) = (all[0].id.source, treecast_overlay::NodeId::from_bytes([3; 32]));
    let hashes = [other.hash, unknown, offer("").hash];
    let found = |source| shelf.offered(group, source, &hashes).expect("read");
    assert_eq!(found(ours), [(hashes[2], true), (other.hash, true)], "the latest first");
    assert_eq!(found(theirs), [(hashes[2], false), (other.hash, false)]);
    let elsewhere = treecast_overlay::GroupId::from_bytes([1; 32]);
    assert_eq!(shelf.offered(elsewhere, ours, &hashes).expect("read"), []);
    let names = |source| shelf.offers_by(source).expect("read").into_iter().map(|it| it.offer.name);
    assert!(names(ours).eq(["a", "c", "b"]) && names(theirs).eq([] as [&str; 0]));
}
