//! Files that change, go, are fetched twice at once or are withdrawn, between nodes in one process.

use std::path::Path;

use tokio::time::Instant;
use treecast_overlay::files::Ending;

use super::tests::{PATIENCE, await_file, content, get, nodes};
use super::*;
use crate::error::{DropFileError, GetError};
use crate::event::Event;
use crate::files::tests::Scratch;
use crate::handle::Node;
use crate::receiver::Receiver;

/// What a group says of a file next, and who says it.
async fn next_ending(receiver: &mut Receiver) -> (Ending, String, NodeId) {
    let heard = async {
        loop {
            match receiver.next().await.expect("it runs") {
                Event::FileEnded { retraction, message } => {
                    return (retraction.ending, retraction.name, message.batch.source);
                }
                Event::Message(message) => {
                    assert!(treecast_overlay::files::Retraction::from_message(&message.payload).is_none());
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("it is told")
}

async fn listen(node: &Node) -> Receiver {
    node.enter(crate::group::GroupRef::from("lobby"), true).await.expect("it is in it").1
}

/// The one file that a node knows of, once that is so.
async fn file_when(node: &Node, is_so: impl Fn(&FileInfo) -> bool) -> FileInfo {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let files = node.files(None).await.expect("it runs");
        if let [file] = &files[..]
            && is_so(file)
        {
            return file.clone();
        }
        assert!(Instant::now() < deadline, "{files:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn fate(file: &FileInfo, node: &Node) -> Option<Ending> {
    file.former.iter().find(|it| it.node == node.id()).map(|it| it.ending)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_changed_or_removed_a_file_is_named_to_all_and_after_a_restart() {
    let scratch = Scratch::new();
    let all = nodes(&scratch, &["source", "reader"]).await;
    let [source, reader] = <[Node; 2]>::try_from(all).expect("two nodes");
    let mut receiver = listen(&reader).await;
    let (path, bytes) = (scratch.path().join("it"), content(300_000));
    std::fs::write(&path, &bytes).expect("written");
    source.announce(&path, "lobby").await.expect("announced");
    await_file(&reader).await;
    // Of the same length: it is found out as it is read.
    std::fs::write(&path, &content(300_001)[1..]).expect("changed");
    let failed = get(&reader, scratch.path().join("copy")).await;
    let Err(GetError::NobodyHas { former, .. }) = failed else { panic!("{failed:?}") };
    assert_eq!(former, [("source".to_owned(), Ending::Changed)]);
    assert_eq!(next_ending(&mut receiver).await, (Ending::Changed, "it".to_owned(), source.id()));
    let seen = file_when(&reader, |it| it.former.len() == 1).await;
    assert_eq!((fate(&seen, &source), seen.holders.len()), (Some(Ending::Changed), 0));
    source.shutdown().await;
    drop(source);
    let source = super::tests::node(&scratch.path().join("source"), Some(&reader)).await;
    assert_eq!(file_when(&source, |_| true).await.ending, Some(Ending::Changed));
    // Another at its place, and then it again: it is to be had, and the other is not.
    source.announce(&path, "lobby").await.expect("announced");
    std::fs::write(&path, &bytes).expect("as it was");
    source.announce(&path, "lobby").await.expect("announced");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let files = reader.files(None).await.expect("it runs");
        let fates: Vec<_> = files.iter().map(|it| (it.holders.len(), fate(it, &source))).collect();
        if fates == [(0, Some(Ending::Changed)), (1, None)] {
            break;
        }
        assert!(Instant::now() < deadline, "{fates:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    std::fs::remove_file(&path).expect("removed");
    source.files(None).await.expect("it runs");
    while next_ending(&mut receiver).await.0 != Ending::Removed {}
    for node in [source, reader] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_while_it_is_fetched_has_it_as_well() {
    let scratch = Scratch::new();
    let all = nodes(&scratch, &["source", "reader"]).await;
    let [source, reader] = &all[..] else { unreachable!("two nodes") };
    let (path, bytes) = (scratch.path().join("it"), content(20_000_000));
    std::fs::write(&path, &bytes).expect("written");
    source.announce(&path, "lobby").await.expect("announced");
    await_file(reader).await;
    let paths = ["one", "two", "three"].map(|name| scratch.path().join(name));
    let gets = paths.clone().map(|path| get(reader, path));
    for got in futures::future::join_all(gets).await {
        let got = got.expect("it is there");
        assert!(std::fs::read(&got.path).expect("there") == bytes);
    }
    let sent = source.exchange.served_bytes().load(Ordering::Relaxed);
    assert!(sent < 2 * bytes.len() as u64, "{sent} bytes: the others are copies");
    // Nobody but this node: what lies here is copied.
    source.shutdown().await;
    let got = get(reader, scratch.path().join("four")).await.expect("it is here");
    assert!(std::fs::read(&got.path).expect("there") == bytes);
    reader.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_fetch_to_which_nothing_comes_is_told_who_had_it() {
    let scratch = Scratch::new();
    let all = nodes(&scratch, &["source", "reader"]).await;
    let [source, reader] = &all[..] else { unreachable!("two nodes") };
    let path = scratch.path().join("it");
    std::fs::write(&path, content(1_000)).expect("written");
    source.announce(&path, "lobby").await.expect("announced");
    await_file(reader).await;
    source.shutdown().await;
    let patient = GetFile {
        what: "it".to_owned(),
        out: scratch.path().join("one"),
        on_conflict: OnConflict::Resume,
        wait: true,
    };
    let waiting = reader.get_file(patient, |_| ());
    tokio::select! {
        got = waiting => panic!("{got:?}"),
        failed = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            get(reader, scratch.path().join("two")).await
        } => {
            let Err(GetError::NobodyHas { had, .. }) = failed else { panic!("{failed:?}") };
            assert_eq!(had[0].0, "source");
        }
    }
    reader.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_withdrawn_is_listed_while_somebody_has_it() {
    let scratch = Scratch::new();
    let all = nodes(&scratch, &["source", "holder", "reader"]).await;
    let [source, holder, reader] = &all[..] else { unreachable!("three nodes") };
    let mut receiver = listen(reader).await;
    let path = scratch.path().join("it");
    std::fs::write(&path, content(1_000)).expect("written");
    source.announce(&path, "lobby").await.expect("announced");
    await_file(holder).await;
    await_file(reader).await;
    get(holder, scratch.path().join("held")).await.expect("fetched");
    assert_eq!(holder.drop_file("it").await.expect("it had it").withdrawn_in, [] as [&str; 0]);
    get(holder, scratch.path().join("held again")).await.expect("fetched");
    assert_eq!(source.drop_file("it").await.expect("it had it").withdrawn_in, ["lobby"]);
    assert_eq!(next_ending(&mut receiver).await, (Ending::Withdrawn, "it".to_owned(), source.id()));
    let listed = file_when(reader, FileInfo::is_withdrawn).await;
    assert_eq!(listed.holders.iter().map(|it| it.node).collect::<Vec<_>>(), [holder.id()]);
    assert!(matches!(source.drop_file("it").await, Err(DropFileError::Unknown(_))), "once is enough");
    get(reader, scratch.path().join("copy")).await.expect("the holder serves it on");
    for node in [reader, holder] {
        node.drop_file("it").await.expect("it had it");
    }
    let deadline = Instant::now() + PATIENCE;
    while !reader.files(None).await.expect("it runs").is_empty() {
        assert!(Instant::now() < deadline, "nobody has it any more");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let failed = get(reader, scratch.path().join("never")).await;
    let Err(GetError::NobodyHas { former, .. }) = failed else { panic!("{failed:?}") };
    assert_eq!(former, [("source".to_owned(), Ending::Withdrawn)]);
    // Announced anew it is there again.
    source.announce(&path, "lobby").await.expect("announced");
    file_when(reader, |it| !it.is_withdrawn() && it.holders.len() == 1).await;
    for node in all {
        node.shutdown().await;
    }
}

async fn announce_at(node: &Node, path: &Path, bytes: &[u8]) -> FileInfo {
    std::fs::write(path, bytes).expect("written");
    node.announce(path, "lobby").await.expect("announced")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_content_has_two_names_and_both_are_found() {
    let scratch = Scratch::new();
    let all = nodes(&scratch, &["source", "reader"]).await;
    let [source, reader] = &all[..] else { unreachable!("two nodes") };
    let one = announce_at(source, &scratch.path().join("it"), b"x").await;
    let two = announce_at(source, &scratch.path().join("it too"), b"x").await;
    assert_eq!(one.offer.hash, two.offer.hash);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let names = reader.files(None).await.expect("it runs");
        if names.iter().map(|it| it.offer.name.as_str()).eq(["it", "it too"]) {
            assert!(names.iter().all(|it| it.holders.len() == 1));
            break;
        }
        assert!(Instant::now() < deadline, "{names:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    std::fs::create_dir(scratch.path().join("to")).expect("made");
    for name in ["it", "it too"] {
        let (what, out) = (name.to_owned(), scratch.path().join("to"));
        let get = GetFile { what, out, on_conflict: OnConflict::Resume, wait: false };
        let got = reader.get_file(get, |_| ()).await.expect("fetched or copied");
        assert_eq!(got.path, scratch.path().join("to").join(name));
        assert_eq!(std::fs::read(got.path).expect("there"), b"x");
    }
    for node in all {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_come_is_finished_also_if_nobody_waits_for_it_any_more() {
    let scratch = Scratch::new();
    let all = nodes(&scratch, &["source", "reader"]).await;
    let [source, reader] = &all[..] else { unreachable!("two nodes") };
    let (bytes, out) = (content(3_000_000), scratch.path().join("copy"));
    let info = announce_at(source, &scratch.path().join("it"), &bytes).await;
    await_file(reader).await;
    let all_here = tokio::sync::Notify::new();
    let what =
        GetFile { what: "it".to_owned(), out: out.clone(), on_conflict: OnConflict::Overwrite, wait: false };
    tokio::select! {
        biased;
        () = all_here.notified() => {}
        got = reader.get_file(what, |it| if it.done == it.size { all_here.notify_one() }) => drop(got),
    }
    // Nobody else begins with it before that is done.
    let got = get(reader, out.clone()).await.expect("it is there");
    assert!(got.path == out && std::fs::read(&out).expect("there") == bytes);
    let held = lock(&reader.exchange.held).get(&info.offer.hash).cloned().expect("it is held");
    assert!(held.whole && held.path == out);
    let sent = source.exchange.served_bytes().load(Ordering::Relaxed);
    assert!(sent < 2 * bytes.len() as u64, "{sent} bytes: it came once");
    for node in all {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_command_has_in_hand_is_not_announced_meanwhile() {
    let scratch = Scratch::new();
    let all = nodes(&scratch, &["source"]).await;
    let source = &all[0];
    let path = scratch.path().join("it");
    let info = announce_at(source, &path, b"x").await;
    let hash = info.offer.hash;
    let before = source.exchange.holding(hash).await.expect("it is served");
    let (claim, _interest) = super::claim::Claim::begin(&source.exchange, hash).expect("nobody has it");
    let failed = source.announce(&path, "lobby").await;
    assert!(matches!(failed, Err(crate::error::AnnounceError::Busy)), "{failed:?}");
    drop(claim);
    source.announce(&path, "lobby").await.expect("announced");
    assert_eq!(before.refusal(), Some(Refusal::NotHeld), "who has a seat hears of the new one");
    let now = source.exchange.holding(hash).await.expect("it is served");
    assert_eq!(now.refusal(), None);
    for node in all {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_takes_the_place_of_another_fetched_and_copied() {
    let scratch = Scratch::new();
    let all = nodes(&scratch, &["source", "reader"]).await;
    let [source, reader] = &all[..] else { unreachable!("two nodes") };
    let (it, bytes) = (scratch.path().join("it"), content(400_000));
    std::fs::create_dir_all(it.join("a/b")).expect("made");
    std::fs::create_dir_all(it.join("none")).expect("made");
    std::fs::write(it.join("a/b/x"), &bytes).expect("written");
    std::fs::write(it.join("empty"), "").expect("written");
    source.announce(&it, "lobby").await.expect("announced");
    await_file(reader).await;
    let to = scratch.path().join("to");
    std::fs::create_dir(&to).expect("made");
    for name in ["one", "two"] {
        let out = to.join(name);
        std::fs::create_dir(&out).expect("made");
        let what = || GetFile {
            what: "it".to_owned(),
            out: out.clone(),
            on_conflict: OnConflict::Overwrite,
            wait: false,
        };
        // Where nothing is first, and then where it is itself.
        let inside = reader.get_file(what(), |_| ()).await.expect("fetched or copied").path;
        assert_eq!(inside, out.join("it"));
        std::fs::write(inside.join("more"), "more").expect("written");
        let got = reader.get_file(what(), |_| ()).await.expect("fetched or copied").path;
        assert!(std::fs::read(got.join("a/b/x")).expect("there") == bytes);
        assert!(got.join("none").is_dir() && got.join("empty").is_file() && !got.join("more").exists());
        let names = std::fs::read_dir(&out).expect("there").map(|it| it.expect("there").file_name());
        assert_eq!(names.collect::<Vec<_>>(), ["it"], "nothing is left beside it");
    }
    for node in all {
        node.shutdown().await;
    }
}

/// Once a node knows of so many files: they.
async fn files_when(node: &Node, count: usize) -> Vec<FileInfo> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let files = node.files(None).await.expect("it runs");
        if files.len() == count {
            return files;
        }
        assert!(Instant::now() < deadline, "{files:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_announces_anothers_file_as_something_else_keeps_nobody_from_it() {
    let scratch = Scratch::new();
    let all = nodes(&scratch, &["source", "liar", "reader"]).await;
    let [source, liar, reader] = &all[..] else { unreachable!("three nodes") };
    let path = scratch.path().join("it");
    let bytes = content(300_000);
    let info = announce_at(source, &path, &bytes).await;
    await_file(liar).await;
    let lobby = crate::group::GroupRef::from("lobby");
    let (sender, _receiver) = liar.enter(lobby, true).await.expect("it is in it");
    let larger = treecast_overlay::files::Offer { size: 300_000 + (128 << 10), ..info.offer.clone() };
    let renamed = treecast_overlay::files::Offer { name: "Documents".to_owned(), ..info.offer.clone() };
    for offer in [&larger, &renamed] {
        sender.publish(offer.to_message()).await.expect("published");
    }
    files_when(reader, 3).await;
    let hash = info.offer.hash.to_string();
    let failed = get(reader, scratch.path().join("never")).await;
    assert!(matches!(failed, Err(GetError::Ambiguous { files, .. }) if files.len() == 2));
    std::fs::create_dir(scratch.path().join("to")).expect("made");
    let get =
        GetFile { what: hash, out: scratch.path().join("to"), on_conflict: OnConflict::Resume, wait: false };
    let got = reader.get_file(get, |_| ()).await.expect("the source has it");
    assert_eq!(got.path, scratch.path().join("to/it"));
    assert!(std::fs::read(&got.path).expect("there") == bytes);
    let here = files_when(reader, 3).await;
    let here: Vec<u64> = here.into_iter().filter(|it| it.held > 0).map(|it| it.offer.size).collect();
    assert_eq!(here, [300_000, 300_000], "what is said of it otherwise is not here");
    for node in all {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_whose_group_was_left_can_be_forgotten() {
    let scratch = Scratch::new();
    let node = super::tests::node(&scratch.path().join("source"), None).await;
    let info = announce_at(&node, &scratch.path().join("it"), b"x").await;
    let hash = info.offer.hash.to_string();
    node.leave("lobby").await.expect("left");
    for unknown in ["it", &hash[..5], &"0".repeat(64)] {
        assert!(matches!(node.drop_file(unknown).await, Err(DropFileError::Unknown(_))), "{unknown}");
    }
    let dropped = node.drop_file(&hash[..8]).await.expect("it has it");
    assert_eq!((dropped.info.path, dropped.info.offer.hash), (info.path, info.offer.hash));
    assert_eq!(dropped.withdrawn_in, [] as [&str; 0]);
    assert!(matches!(node.drop_file(&hash).await, Err(DropFileError::Unknown(_))), "it is gone");
    assert!(lock(&node.exchange.held).is_empty());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_told_before_a_crash_is_told_after_it_where_it_can_be() {
    let scratch = Scratch::new();
    let all = nodes(&scratch, &["source", "reader"]).await;
    let [source, reader] = <[Node; 2]>::try_from(all).expect("two nodes");
    let mut receiver = listen(&reader).await;
    let aside = crate::group::GroupRef::from("aside");
    let in_aside = source.enter(aside, true).await.expect("entered");
    let path = scratch.path().join("it");
    std::fs::write(&path, b"x").expect("written");
    for group in ["aside", "lobby"] {
        source.announce(&path, group).await.expect("announced");
    }
    await_file(&reader).await;
    source.shutdown().await;
    drop((source, in_aside));
    // It is saved that the file has changed, and no group was told; one of them cannot be told either.
    let store = rusqlite::Connection::open(scratch.path().join("source/treecast.db")).expect("opens");
    let gone = "UPDATE held SET ending = 1; DELETE FROM members; DELETE FROM groups WHERE label = 'aside'";
    store.execute_batch(gone).expect("written");
    drop(store);
    let source = super::tests::node(&scratch.path().join("source"), Some(&reader)).await;
    assert_eq!(next_ending(&mut receiver).await, (Ending::Changed, "it".to_owned(), source.id()));
    for node in [source, reader] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_replaced_is_told_to_the_groups_that_do_not_hear_of_the_new_one() {
    let scratch = Scratch::new();
    let source = super::tests::node(&scratch.path().join("source"), None).await;
    let aside = crate::group::GroupRef::from("aside");
    let (_sender, mut receiver) = source.enter(aside, true).await.expect("entered");
    let mut in_lobby = listen(&source).await;
    let path = scratch.path().join("it");
    std::fs::write(&path, b"x").expect("written");
    for group in ["aside", "lobby"] {
        source.announce(&path, group).await.expect("announced");
    }
    let other = announce_at(&source, &path, b"another").await;
    assert_eq!(next_ending(&mut receiver).await, (Ending::Changed, "it".to_owned(), source.id()));
    source.drop_file(&other.offer.hash.to_string()).await.expect("it had it");
    assert_eq!(next_ending(&mut in_lobby).await.0, Ending::Withdrawn, "the lobby heard of the new one");
    source.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_looks_at_all_files_while_another_does() {
    let scratch = Scratch::new();
    let node = super::tests::node(&scratch.path().join("source"), None).await;
    announce_at(&node, &scratch.path().join("it"), b"x").await;
    // The node itself may look at this moment.
    let looking = node.exchange.looking.clone().acquire_owned().await.expect("never closed");
    assert!(node.exchange.look_at_all().is_none());
    drop(looking);
    node.exchange.look_at_all().expect("nobody does").await.expect("it ends");
    node.shutdown().await;
}
