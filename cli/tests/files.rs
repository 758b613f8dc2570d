//! `file announce|ls|get|rm` between real nodes on loopback.

mod common;

use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use common::{PATIENCE, Running, Scratch, code, error, text};
use serde_json::Value;

/// Bytes that are not all alike.
fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(len).collect()
}

fn lines(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The one object of this type.
fn one(output: &Output, kind: &str) -> Value {
    assert_eq!(code(output), 0, "{}", text(&output.stderr));
    let found: Vec<Value> = lines(output).into_iter().filter(|it| it["type"] == kind).collect();
    assert_eq!(found.len(), 1, "{}", text(&output.stdout));
    found[0].clone()
}

impl Scratch {
    /// Nodes that know each other by the first, in a group that is ready.
    fn nodes(&self, names: &[&str]) -> Vec<Running> {
        let (first, ready) = self.ready(names[0], &["--group", "lobby"]);
        let address = ready["addresses"][0].as_str().expect("an address").to_owned();
        let mut all = vec![first];
        for name in &names[1..] {
            all.push(self.ready(name, &["--group", "lobby", "--peer", &address]).0);
        }
        let deadline = Instant::now() + PATIENCE;
        while names.iter().any(|name| self.online(name) < names.len()) {
            assert!(Instant::now() < deadline, "they do not meet");
            std::thread::sleep(Duration::from_millis(100));
        }
        all
    }

    fn online(&self, node: &str) -> usize {
        let shown = one(&self.run(node, &["group", "show", "lobby"]), "group");
        let members = shown["members"].as_array().expect("a list").clone();
        members.iter().filter(|it| it["state"] == "online").count()
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.join(name);
        std::fs::create_dir_all(path.parent().expect("below the folder")).expect("made");
        std::fs::write(&path, content).expect("written");
        path
    }

    fn announce(&self, node: &str, path: &std::path::Path) -> Value {
        let path = path.to_str().expect("a text");
        one(&self.run(node, &["file", "announce", path, "--group", "lobby"]), "file")
    }

    /// Until a node has heard of so many files.
    fn await_files(&self, node: &str, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = lines(&self.run(node, &["file", "ls"]));
            if told.len() >= count {
                return told;
            }
            assert!(Instant::now() < deadline, "{told:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn get(&self, node: &str, what: &str, to: &str, words: &[&str]) -> Output {
        let to = self.dir.join(to);
        let to = to.to_str().expect("a text");
        self.run(node, &[&["file", "get", what, "-o", to], words].concat())
    }
}

#[test]
fn what_one_announces_all_see_and_fetch() {
    let scratch = Scratch::telling_json("fetch");
    let _nodes = scratch.nodes(&["a", "b", "c"]);
    let mut sub = Running::start(scratch.command("b", &["sub", "lobby", "--count", "1"]));
    std::thread::sleep(Duration::from_millis(300));
    let content = bytes(3_000_000, 1);
    let path = scratch.file("träume.bin", &content);
    let told = scratch.announce("a", &path);
    let hash = told["hash"].as_str().expect("a hash").to_owned();
    assert_eq!((&told["name"], &told["size"]), (&"träume.bin".into(), &3_000_000.into()));
    assert_eq!(told["group"], "lobby");
    let heard = loop {
        let line = sub.next_json();
        if line["type"] != "member" {
            break line;
        }
    };
    assert_eq!(
        (&heard["type"], &heard["hash"], &heard["source"]),
        (&"file".into(), &told["hash"], &told["source"])
    );
    assert!(heard["index"].is_null() && heard["seq"].is_u64() && heard["text"].is_null(), "{heard}");
    scratch.await_files("c", 1);
    let got = scratch.get("c", "träume.bin", "c.bin", &[]);
    let file = one(&got, "file");
    assert_eq!(std::fs::read(file["path"].as_str().expect("a path")).expect("there"), content);
    assert!(lines(&got).iter().any(|it| it["type"] == "progress" && it["done"] == 3_000_000), "{file}");
    let listed = &scratch.await_files("b", 1)[0];
    assert_eq!((&listed["have"], &listed["of"], &listed["held"]), (&2.into(), &3.into(), &0.into()));
    assert!(listed["holders"].as_array().expect("a list").contains(&told["source"]), "{listed}");
    // By the first digits of its hash, from the two who have it.
    one(&scratch.get("b", &hash[..10], "b.bin", &[]), "file");
    assert_eq!(std::fs::read(scratch.dir.join("b.bin")).expect("there"), content);
    let past = lines(&scratch.run("c", &["history", "lobby"]));
    assert_eq!((past.len(), &past[0]["type"]), (1, &"file".into()));
    let forgotten = scratch.run("a", &["file", "rm", &hash]);
    assert_eq!(code(&forgotten), 0, "{}", text(&forgotten.stderr));
    assert!(path.exists());
    assert_eq!(scratch.await_files("a", 1)[0]["have"], 2);
    let unknown = scratch.get("b", "nothing.bin", "x", &[]);
    assert_eq!((code(&unknown), &error(&unknown)["code"]), (5, &"no-file".into()));
}

#[test]
fn nothing_is_overwritten_unasked_and_names_are_harmless() {
    let scratch = Scratch::telling_json("names");
    let _nodes = scratch.nodes(&["a", "b"]);
    for (name, content) in
        [("empty", &b""[..]), ("one", b"1"), (".hidden", b"dots"), ("日本 🎉.txt", b"names")]
    {
        scratch.announce("a", &scratch.file(name, content));
    }
    scratch.await_files("b", 4);
    std::fs::create_dir(scratch.dir.join("in")).expect("made");
    for (name, there, content) in [
        ("empty", "empty", &b""[..]),
        ("one", "one", b"1"),
        (".hidden", "hidden", b"dots"),
        ("日本 🎉.txt", "日本 🎉.txt", b"names"),
    ] {
        let got = one(&scratch.get("b", name, "in", &[]), "file");
        let path = scratch.dir.join("in").join(there);
        assert_eq!(got["path"].as_str(), path.to_str());
        assert_eq!(std::fs::read(path).expect("there"), content);
    }
    // The same is there already.
    one(&scratch.get("b", "one", "in", &[]), "file");
    let taken = scratch.file("in/taken", b"mine");
    let refused = scratch.get("b", "one", "in/taken", &[]);
    assert_eq!((code(&refused), &error(&refused)["code"]), (6, &"exists".into()));
    assert_eq!(code(&scratch.get("b", "one", "in/one", &["--on-conflict", "fail"])), 6);
    let renamed = one(&scratch.get("b", "one", "in/taken", &["--on-conflict", "rename"]), "file");
    assert!(renamed["path"].as_str().is_some_and(|path| path.ends_with("taken (2)")), "{renamed}");
    assert_eq!(std::fs::read(&taken).expect("there"), b"mine");
    one(&scratch.get("b", "one", "in/taken", &["--on-conflict", "overwrite"]), "file");
    assert_eq!(std::fs::read(&taken).expect("there"), b"1");
    assert_eq!(code(&scratch.get("b", "one", "nowhere/x", &[])), 2);
    for (path, status) in [("/dev/null", 2), ("/proc/self/none", 5)] {
        assert_eq!(
            code(&scratch.run("a", &["file", "announce", path, "--group", "lobby"])),
            status,
            "{path}"
        );
    }
    assert_eq!(code(&scratch.run("a", &["file", "announce", "/etc/hostname", "--group", "none"])), 5);
    // Announced again under a name that would lead elsewhere, by hand.
    let evil = "[file] x\n\u{1e}treecast-file:1:00";
    assert_eq!(code(&scratch.run("a", &["pub", "lobby", evil])), 0);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(scratch.await_files("b", 4).len(), 4, "what is malformed is talk");
}

#[test]
fn a_folder_comes_with_all_that_is_in_it() {
    let scratch = Scratch::telling_json("folder");
    let _nodes = scratch.nodes(&["a", "b"]);
    let large = bytes(700_000, 9);
    for (name, content) in [("album/a", &b"1"[..]), ("album/sub/ü", b""), ("album/sub/deep/large", &large)] {
        scratch.file(name, content);
    }
    for number in 0..500 {
        scratch.file(&format!("album/many/{number}"), format!("{number}").as_bytes());
    }
    let told = scratch.announce("a", &scratch.dir.join("album"));
    assert_eq!(told["folder"], true);
    scratch.await_files("b", 1);
    one(&scratch.get("b", "album", "copy", &[]), "file");
    let read = |name: &str| std::fs::read(scratch.dir.join("copy").join(name)).expect("there");
    assert_eq!((read("a"), read("sub/ü"), read("sub/deep/large")), (b"1".to_vec(), Vec::new(), large));
    assert!((0..500).all(|number| read(&format!("many/{number}")) == number.to_string().as_bytes()));
    // From the copy, to whoever asks next.
    std::fs::remove_dir_all(scratch.dir.join("album")).expect("removed");
    one(&scratch.get("a", "album", "again", &[]), "file");
    assert_eq!(std::fs::read_dir(scratch.dir.join("again/many")).expect("there").count(), 500);
}

#[test]
fn a_folder_takes_the_place_of_another_as_it_was_said() {
    let scratch = Scratch::telling_json("places");
    let _nodes = scratch.nodes(&["a", "b"]);
    scratch.file("album/a", b"1");
    std::fs::create_dir_all(scratch.dir.join("album/none/here")).expect("made");
    scratch.announce("a", &scratch.dir.join("album"));
    std::fs::create_dir_all(scratch.dir.join("bare")).expect("made");
    scratch.announce("a", &scratch.dir.join("bare"));
    scratch.await_files("b", 2);
    let one = |output: &Output| self::one(output, "file");
    let read = |name: &str| std::fs::read(scratch.dir.join(name)).expect("there");
    let names = |name: &str| {
        let all = std::fs::read_dir(scratch.dir.join(name)).expect("there");
        let mut all: Vec<_> = all.map(|it| it.expect("read").file_name()).collect();
        all.sort();
        all
    };
    one(&scratch.get("b", "bare", "empty", &[]));
    assert!(names("empty").is_empty());
    scratch.file("to/mine", b"mine");
    for how in ["resume", "fail"] {
        let refused = scratch.get("b", "album", "to", &["--on-conflict", how]);
        // `to` is a folder to put it in, so that it is `to/album` that matters.
        assert_eq!(code(&refused), if how == "resume" { 0 } else { 6 }, "{how}");
    }
    assert_eq!(names("to/album"), ["a", "none"]);
    assert_eq!(names("to/album/none"), ["here"]);
    scratch.file("to/album/more", b"more");
    let refused = scratch.get("b", "album", "to", &[]);
    assert_eq!((code(&refused), &error(&refused)["code"]), (6, &"exists".into()));
    let renamed = one(&scratch.get("b", "album", "to", &["--on-conflict", "rename"]));
    assert_eq!(renamed["path"].as_str(), scratch.dir.join("to/album (2)").to_str());
    assert_eq!((read("to/album (2)/a"), read("to/album/more")), (b"1".to_vec(), b"more".to_vec()));
    one(&scratch.get("b", "album", "to", &["--on-conflict", "overwrite"]));
    assert_eq!((names("to/album"), read("to/mine")), (names("album"), b"mine".to_vec()));
    // A copy that somebody made by hand is that folder as well.
    std::fs::create_dir_all(scratch.dir.join("by-hand/album/none/here")).expect("made");
    scratch.file("by-hand/album/a", b"1");
    scratch.run("b", &["file", "rm", "album"]);
    one(&scratch.get("b", "album", "by-hand", &[]));
    let listed = scratch.await_files("b", 2);
    let album = listed.iter().find(|it| it["name"] == "album").expect("it is listed");
    assert_eq!(
        (&album["have"], &album["held"]),
        (&2.into(), &album["size"]),
        "it is served from there: {album}"
    );
    // A file is in the way of a folder, whatever is said.
    scratch.file("taken", b"mine");
    assert_eq!(code(&scratch.get("b", "album", "taken", &["--on-conflict", "overwrite"])), 6);
    assert_eq!(names("to"), ["album", "album (2)", "mine"], "nothing is left beside them");
}

#[test]
fn what_is_withdrawn_is_told_and_goes_once_nobody_has_it() {
    let scratch = Scratch::telling_json("withdrawn");
    let _nodes = scratch.nodes(&["a", "b"]);
    let mut sub = Running::start(scratch.command("b", &["sub", "lobby"]));
    std::thread::sleep(Duration::from_millis(300));
    let path = scratch.file("plan", b"of old");
    let hash = scratch.announce("a", &path)["hash"].as_str().expect("a hash").to_owned();
    scratch.await_files("b", 1);
    let removed = one(&scratch.run("a", &["file", "rm", &hash[..8]]), "file");
    assert_eq!((&removed["withdrawn_in"], path.exists()), (&serde_json::json!(["lobby"]), true));
    let ended = loop {
        let line = sub.next_json();
        if line["type"] == "file-ended" {
            break line;
        }
    };
    assert_eq!((&ended["event"], ended["hash"].as_str()), (&"withdrawn".into(), Some(&*hash)), "{ended}");
    let past = lines(&scratch.run("b", &["history", "lobby"]));
    let kinds: Vec<&Value> = past.iter().map(|it| &it["type"]).collect();
    assert_eq!(kinds, ["file", "file-ended"]);
    for node in ["a", "b"] {
        assert_eq!(lines(&scratch.run(node, &["file", "ls"])), [] as [Value; 0], "{node}");
    }
    let failed = scratch.get("b", "plan", "x", &[]);
    let told = error(&failed);
    assert_eq!((code(&failed), &told["code"]), (4, &"nobody-has-it".into()));
    assert!(told["why"].as_str().is_some_and(|why| why.contains("it was withdrawn by ")), "{told}");
    assert_eq!(code(&scratch.run("a", &["file", "rm", &hash])), 5, "once is enough");
    scratch.announce("a", &path);
    scratch.await_files("b", 1);
    one(&scratch.get("b", "plan", "x", &[]), "file");
}

#[test]
fn a_file_that_changes_is_not_served_and_who_had_it_is_named() {
    let scratch = Scratch::telling_json("changed");
    let nodes = scratch.nodes(&["a", "b", "c"]);
    let content = bytes(1_000_000, 4);
    let path = scratch.file("draft", &content);
    let mut sub = Running::start(scratch.command("c", &["sub", "lobby"]));
    std::thread::sleep(Duration::from_millis(300));
    scratch.announce("a", &path);
    scratch.await_files("b", 1);
    scratch.await_files("c", 1);
    let mut changed = content.clone();
    changed[700_000] ^= 1;
    std::fs::write(&path, &changed).expect("changed");
    let failed = scratch.get("b", "draft", "b.out", &[]);
    assert_eq!(
        (code(&failed), &error(&failed)["code"]),
        (4, &"nobody-has-it".into()),
        "{}",
        text(&failed.stdout)
    );
    assert!(!scratch.dir.join("b.out").exists());
    let told = error(&failed);
    assert!(told["why"].as_str().is_some_and(|why| why.contains("it was changed by ")), "{told}");
    assert!(told["fix"].as_str().is_some_and(|fix| fix.contains("announce it again")), "{told}");
    let listed = &scratch.await_files("a", 1)[0];
    assert_eq!((&listed["changed"], &listed["have"]), (&true.into(), &0.into()), "{listed}");
    assert_eq!((&listed["ending"], listed["former"].is_null()), (&"changed".into(), true), "{listed}");
    let listed = &scratch.await_files("c", 1)[0];
    assert_eq!(listed["former"][0]["node"], listed["source"], "{listed}");
    assert_eq!((&listed["former"][0]["event"], &listed["changed"]), (&"changed".into(), &false.into()));
    let ended = loop {
        let line = sub.next_json();
        if line["type"] == "file-ended" {
            break line;
        }
        assert_ne!(line["type"], "message", "{line}");
    };
    assert_eq!((&ended["event"], &ended["name"]), (&"changed".into(), &"draft".into()), "{ended}");
    assert_eq!((&ended["hash"], &ended["source"]), (&listed["hash"], &listed["source"]));
    assert!(ended["seq"].is_u64() && ended["index"].is_null() && ended["group"] == "lobby", "{ended}");
    drop(sub);
    // Put right and announced once more, it goes on with what had come.
    std::fs::write(&path, &content).expect("as it was");
    scratch.announce("a", &path);
    one(&scratch.get("b", "draft", "b.out", &[]), "file");
    assert_eq!(std::fs::read(scratch.dir.join("b.out")).expect("there"), content);
    // Those who had it go: who they were is told; who waits gets it once one is back.
    let [a, b, _c] = <[Running; 3]>::try_from(nodes).ok().expect("three");
    drop((a, b));
    let failed = scratch.get("c", "draft", "c.out", &[]);
    let told = error(&failed);
    assert_eq!((code(&failed), &told["code"]), (4, &"nobody-has-it".into()));
    assert!(
        told["why"].as_str().is_some_and(|why| why.contains("who had it: ") && why.contains(" ago")),
        "{told}"
    );
    let to = scratch.dir.join("c.out");
    let mut waiting = Running::start(
        scratch.command("c", &["file", "get", "draft", "--wait", "-o", to.to_str().expect("a text")]),
    );
    std::thread::sleep(Duration::from_secs(1));
    let (_b, _) = scratch.ready("b", &[]);
    assert_eq!(waiting.code(), 0);
    assert_eq!(std::fs::read(to).expect("there"), content);
}

/// What a node has sent of files, by its metrics.
fn sent(address: &str) -> u64 {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).expect("it serves metrics");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("asked");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("UTF-8");
    let line = page.lines().find_map(|line| line.strip_prefix("treecast_file_sent_bytes_total "));
    line.expect("it is counted").trim().parse().expect("a number")
}

#[test]
fn a_fetch_that_is_killed_again_and_again_goes_on_where_it_was() {
    let scratch = Scratch::telling_json("killed");
    let (_source, ready) = scratch.ready("a", &["--group", "lobby", "--metrics", "127.0.0.1:0"]);
    let address = ready["addresses"][0].as_str().expect("an address").to_owned();
    let metrics = ready["metrics"].as_str().expect("an address").to_owned();
    let size = 96 << 20;
    let content = bytes(size, 6);
    scratch.announce("a", &scratch.file("big", &content));
    let up = || scratch.ready("b", &["--group", "lobby", "--peer", &address]).0;
    let mut node = up();
    scratch.await_files("b", 1);
    let to = scratch.dir.join("copy");
    let get = || {
        let words = ["file", "get", "big", "--wait", "-o", to.to_str().expect("a text")];
        Running::start(scratch.command("b", &words))
    };
    let (mut kills, mut partly) = (0, 0);
    // Each time a little later than what it took to begin; the last may have all of it.
    for turn in 0..20_u64 {
        let getting = get();
        std::thread::sleep(Duration::from_millis(120 + (turn * 7_919) % 170));
        node.kill();
        drop(getting);
        kills += u32::from(!to.exists());
        node = up();
        let held = lines(&scratch.run("b", &["file", "ls"]))[0]["held"].as_u64().expect("a number");
        partly += u32::from(held > 0 && held < size as u64);
    }
    let mut last = get();
    assert_eq!(last.code(), 0, "{}", last.stderr());
    assert!(std::fs::read(&to).expect("there") == content);
    let total = sent(&metrics);
    assert!(total as f64 <= 1.1 * size as f64, "{total} bytes for {size}, killed {kills} times on the way");
    assert!(kills >= 3, "it was killed on the way {kills} times only");
    assert!(partly > 0, "what has come is listed after a restart");
    drop(node);
}

#[test]
fn what_is_typed_means_one_file_and_goes_where_it_was_said() {
    let scratch = Scratch::telling_json("meant");
    let _nodes = scratch.nodes(&["a", "b", "c"]);
    let one = |output: &Output| self::one(output, "file");
    let first = scratch.announce("a", &scratch.file("of-a/notes", b"of a"));
    scratch.announce("a", &scratch.file("of-a/again/notes", b"of a, again"));
    scratch.await_files("c", 2);
    one(&scratch.get("c", "notes", "newest", &[]));
    assert_eq!(std::fs::read(scratch.dir.join("newest")).expect("there"), b"of a, again");
    scratch.announce("b", &scratch.file("of-b/notes", b"of b"));
    scratch.await_files("c", 3);
    let refused = scratch.get("c", "notes", "which", &[]);
    let told = error(&refused);
    assert_eq!((code(&refused), &told["code"]), (2, &"ambiguous".into()), "{told}");
    let hash = first["hash"].as_str().expect("a hash");
    one(&scratch.get("c", hash, "which", &[]));
    assert_eq!(std::fs::read(scratch.dir.join("which")).expect("there"), b"of a");
    // A folder that is not there is not made a file.
    let nowhere = scratch.get("c", hash, "none/", &[]);
    assert_eq!((code(&nowhere), &error(&nowhere)["code"]), (2, &"bad-path".into()));
    // What this node announced itself is copied; a folder that is there as it was need not come again.
    one(&scratch.get("a", hash, "own-copy", &[]));
    assert_eq!(std::fs::read(scratch.dir.join("own-copy")).expect("there"), b"of a");
    scratch.file("album/x", b"x");
    scratch.announce("a", &scratch.dir.join("album"));
    scratch.await_files("b", 4);
    for _ in 0..2 {
        one(&scratch.get("b", "album", "album-copy", &[]));
    }
    assert!(!scratch.dir.join("album-copy/album").exists());
    // Something else is a folder to put it in, and is left alone.
    scratch.file("album-copy/x", b"y");
    one(&scratch.get("b", "album", "album-copy", &[]));
    assert_eq!(std::fs::read(scratch.dir.join("album-copy/album/x")).expect("there"), b"x");
    scratch.file("album-copy/album/x", b"y");
    assert_eq!(code(&scratch.get("b", "album", "album-copy", &[])), 6);
    std::os::unix::fs::symlink("x", scratch.dir.join("album/link")).expect("linked");
    let linked = scratch.dir.join("album");
    let refused = scratch.run("a", &["file", "announce", linked.to_str().expect("text"), "--group", "lobby"]);
    let told = error(&refused);
    assert_eq!(code(&refused), 2);
    assert!(told["why"].as_str().is_some_and(|why| why.contains("link is a symbolic link")), "{told}");
}

#[test]
fn what_is_being_fetched_is_not_forgotten_and_what_is_forgotten_leaves_nothing() {
    let scratch = Scratch::telling_json("twice");
    let mut nodes = scratch.nodes(&["a", "b"]);
    let told = scratch.announce("a", &scratch.file("big", &bytes(2_000_000, 3)));
    let hash = told["hash"].as_str().expect("a hash").to_owned();
    scratch.await_files("b", 1);
    // Whoever has it goes.
    drop(nodes.remove(0));
    std::fs::create_dir(scratch.dir.join("to")).expect("made");
    let to = scratch.dir.join("to/it");
    let words = ["file", "get", "big", "--wait", "-o", to.to_str().expect("text")];
    let mut first = Running::start(scratch.command("b", &words));
    std::thread::sleep(Duration::from_secs(1));
    let refused = scratch.run("b", &["file", "rm", &hash]);
    assert_eq!((code(&refused), &error(&refused)["code"]), (6, &"busy".into()));
    // Who does not wait hears that nobody has it, as it would alone.
    let second = scratch.get("b", "big", "to/other", &[]);
    assert_eq!((code(&second), &error(&second)["code"]), (4, &"nobody-has-it".into()));
    first.signal("-INT");
    assert_eq!(first.code(), 130);
    assert!(first.stderr().contains("goes on with what has come"));
    // As if some had come.
    scratch.file(&format!("to/.it.{}.treecast-part", &hash[..12]), b"some");
    one(&scratch.run("b", &["file", "rm", &hash]), "file");
    assert_eq!(std::fs::read_dir(scratch.dir.join("to")).expect("there").count(), 0);
}

/// A disk that is full on the way, and then is not. As root only, for want of another small disk.
#[test]
fn a_disk_that_fills_on_the_way_is_named_and_keeps_what_came() {
    let scratch = Scratch::telling_json("full");
    let disk = scratch.dir.join("disk");
    std::fs::create_dir(&disk).expect("made");
    let mount = |words: &[&str]| {
        std::process::Command::new(words[0])
            .args(&words[1..])
            .arg(&disk)
            .output()
            .is_ok_and(|it| it.status.success())
    };
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=64m", "treecast-test"]) {
        eprintln!("skipped: no disk can be mounted");
        return;
    }
    let content = bytes(40 << 20, 8);
    let failed = std::panic::catch_unwind(|| {
        let _nodes = scratch.nodes(&["a", "b"]);
        scratch.announce("a", &scratch.file("big", &content));
        scratch.await_files("b", 1);
        // Not enough from the beginning: nothing is begun.
        std::fs::write(disk.join("ballast"), vec![0; 20 << 20]).expect("written");
        let refused = scratch.get("b", "big", "disk/", &[]);
        assert_eq!((code(&refused), &error(&refused)["code"]), (6, &"disk-full".into()));
        std::fs::remove_file(disk.join("ballast")).expect("removed");
        // It fills as it comes, by somebody else.
        let to = disk.join("it");
        let words = ["file", "get", "big", "-o", to.to_str().expect("text")];
        let getting = scratch.command("b", &words).spawn().expect("it starts");
        let part = || std::fs::read_dir(&disk).expect("there").count() > 0;
        let deadline = Instant::now() + PATIENCE;
        while !part() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = std::fs::write(disk.join("ballast"), vec![0; 64 << 20]);
        let output = getting.wait_with_output().expect("it ends");
        let told = error(&output);
        assert_eq!((code(&output), &told["code"]), (8, &"disk-full".into()), "{told}");
        let disk_path = disk.to_str().expect("text");
        assert!(told["why"].as_str().is_some_and(|why| why.contains(disk_path)), "{told}");
        let held = scratch.await_files("b", 1)[0]["held"].as_u64().expect("a number");
        assert!(held < content.len() as u64, "{held}");
        std::fs::remove_file(disk.join("ballast")).expect("removed");
        one(&scratch.get("b", "big", "disk/it", &[]), "file");
        assert!(std::fs::read(&to).expect("there") == content);
    });
    mount(&["umount"]);
    if let Err(failed) = failed {
        std::panic::resume_unwind(failed);
    }
}
