//! What is stored stays: the binary with real nodes on loopback, killed and started again.

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{PATIENCE, Running, Scratch, code, text};
use serde_json::Value;

impl Scratch {
    /// What it prints, an object a line; it is to succeed.
    fn json(&self, node: &str, words: &[&str]) -> Vec<Value> {
        let words: Vec<&str> = words.iter().chain(&["--json"]).copied().collect();
        let output = self.run(node, &words);
        assert_eq!(code(&output), 0, "{words:?}: {}", text(&output.stderr));
        let lines = text(&output.stdout);
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn texts(&self, node: &str, words: &[&str]) -> Vec<String> {
        let messages = self.json(node, words).into_iter().filter(|line| line["type"] == "message");
        messages.map(|line| line["text"].as_str().expect("it is text").to_owned()).collect()
    }

    fn stored(&self, node: &str, text: &str) {
        let receipts = self.json(node, &["pub", "lobby", text, "--wait", "stored"]);
        assert_eq!(receipts.len(), 1);
        assert_eq!(receipts[0]["type"], "receipt");
    }

    fn up(&self, node: &str, words: &[&str]) -> Node {
        let (running, ready) = self.ready(node, words);
        let address = ready["addresses"][0].as_str().expect("an address").to_owned();
        Node { running, address }
    }

    /// Waits until a node's history is this.
    fn await_history(&self, node: &str, wanted: &[String]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let kept = self.texts(node, &["history", "lobby"]);
            if kept == wanted {
                return;
            }
            let lacks: Vec<_> = wanted.iter().filter(|it| !kept.contains(it)).take(5).collect();
            assert!(
                Instant::now() < deadline,
                "{node} has {} of {}; lacks {lacks:?}",
                kept.len(),
                wanted.len()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A node, and where it is.
struct Node {
    running: Running,
    address: String,
}

impl Node {
    fn kill(self) {
        self.running.kill();
    }
}

fn lines(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("line {number}")).collect()
}

/// The publisher dies right after each acknowledgement, and starts again; another member is there, or
/// is not. `TREECAST_KILLS` sets how often.
#[test]
fn what_was_acknowledged_as_stored_reaches_everybody_once_whatever_is_killed() {
    let kills = std::env::var("TREECAST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let scratch = Scratch::new("kills");
    let mut ada = scratch.up("ada", &["--group", "lobby"]);
    let mut bob = Some(scratch.up("bob", &["--group", "lobby", "--peer", &ada.address]));
    scratch.json("bob", &["pub", "lobby", "hello", "--wait", "all"]);
    let mut wanted = vec!["hello".to_owned()];
    for number in 0..kills {
        if number % 5 == 3 {
            bob.take().into_iter().for_each(Node::kill);
        }
        let line = format!("line {number}");
        scratch.stored("ada", &line);
        ada.kill();
        wanted.push(line);
        ada = scratch.up("ada", &[]);
        if bob.is_none() && number % 5 == 1 {
            bob = Some(scratch.up("bob", &["--peer", &ada.address]));
        }
    }
    let _bob = bob.unwrap_or_else(|| scratch.up("bob", &["--peer", &ada.address]));
    scratch.await_history("bob", &wanted);
    scratch.await_history("ada", &wanted);
}

#[test]
fn who_was_off_gets_what_was_missed_in_order_once_from_whoever_stored_it() {
    let scratch = Scratch::new("off");
    let ada = scratch.up("ada", &["--group", "lobby"]);
    let bob = scratch.up("bob", &["--group", "lobby", "--peer", &ada.address]);
    let eve = scratch.up("eve", &["--group", "lobby", "--peer", &ada.address]);
    scratch.json("ada", &["pub", "lobby", "line 0", "--wait", "2"]);
    eve.kill();
    let missed = lines(2_000);
    let said = scratch.feed("ada", &["pub", "lobby", "--wait", "all"], missed[1..].join("\n"));
    assert_eq!(code(&said), 0, "{}", text(&said.stderr));
    // Who wrote it is gone, and whoever has it has started anew: it comes from the disk.
    ada.kill();
    bob.kill();
    let bob = scratch.up("bob", &[]);
    let sub = ["sub", "lobby", "--peer", &bob.address, "--count", "1999", "--timeout", "20s"];
    assert_eq!(scratch.texts("eve", &[&sub[..], &["-q"]].concat()), missed[1..]);
    let _eve = scratch.up("eve", &["--peer", &bob.address]);
    assert_eq!(scratch.texts("eve", &["history", "lobby"]), missed);
}

#[test]
fn history_and_search_show_what_sub_showed() {
    let scratch = Scratch::new("shows");
    let _ada = scratch.up("ada", &["--group", "lobby"]);
    let mut sub = scratch.command("ada", &["sub", "lobby", "--json", "--count", "4"]).spawn().expect("runs");
    std::thread::sleep(Duration::from_millis(500));
    for text in ["Grüße aus Köln", "抹茶ラテ", "plain", "plain again"] {
        scratch.stored("ada", text);
    }
    let mut shown = String::new();
    sub.stdout.take().expect("piped").read_to_string(&mut shown).expect("UTF-8");
    sub.wait().expect("it is ours");
    let shown = shown.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let shown: Vec<Value> = shown.filter(|line: &Value| line["type"] == "message").collect();
    assert_eq!(scratch.json("ada", &["history", "lobby"]), shown);
    assert_eq!(scratch.texts("ada", &["history", "lobby", "--limit", "2"]), ["plain", "plain again"]);
    assert_eq!(scratch.texts("ada", &["history", "lobby", "--since", "1h"]).len(), 4);
    assert!(scratch.texts("ada", &["history", "lobby", "--since", "1ms"]).is_empty());
    assert_eq!(scratch.json("ada", &["search", "KÖLN", "gruss"]), [] as [Value; 0]);
    assert_eq!(scratch.texts("ada", &["search", "KOLN", "grü"]), ["Grüße aus Köln"]);
    assert_eq!(scratch.texts("ada", &["search", "茶", "--group", "lobby"]), ["抹茶ラテ"]);
    assert_eq!(scratch.texts("ada", &["search", "plain"]), ["plain", "plain again"]);
    let people = scratch.run("ada", &["history", "lobby", "--limit", "1"]);
    assert!(text(&people.stdout).trim_end().ends_with(": plain again"), "{}", text(&people.stdout));
}

#[test]
fn sub_since_start_goes_on_with_what_comes_without_gap_or_repeat() {
    let scratch = Scratch::new("since");
    let _ada = scratch.up("ada", &["--group", "lobby"]);
    let all = lines(3_000);
    let first = scratch.feed("ada", &["pub", "lobby", "--wait", "stored"], all[..1_500].join("\n"));
    assert_eq!(code(&first), 0);
    // While the rest is said, four begin to listen at different moments.
    let mut rest = scratch.command("ada", &["pub", "lobby", "--wait", "stored"]);
    let mut rest = rest.stdin(Stdio::piped()).spawn().expect("the binary runs");
    let mut stdin = rest.stdin.take().expect("piped");
    let words = ["sub", "lobby", "--since", "start", "--json", "--count", "3000", "--timeout", "20s"];
    let mut subs = Vec::new();
    for (number, line) in all[1_500..].iter().enumerate() {
        writeln!(stdin, "{line}").expect("it reads");
        if number % 400 == 100 {
            subs.push(scratch.command("ada", &words).spawn().expect("the binary runs"));
        }
        if number % 10 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    drop(stdin);
    assert!(rest.wait().expect("it is ours").success());
    assert!(!subs.is_empty());
    for sub in subs {
        let output = sub.wait_with_output().expect("it ends");
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let output = text(&output.stdout);
        let told = output.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let told = told.filter(|line| line["type"] == "message");
        let told: Vec<String> = told.map(|it| it["text"].as_str().expect("text").to_owned()).collect();
        assert_eq!(told, all);
    }
}

#[test]
fn what_cannot_be_read_says_why() {
    let scratch = Scratch::new("errors");
    let error = |node: &str, words: &[&str], exit: i32| -> Value {
        let output = scratch.run(node, &[words, &["--json"]].concat());
        assert_eq!(code(&output), exit, "{}", text(&output.stderr));
        serde_json::from_str(text(&output.stderr).lines().last().expect("an error")).expect("JSON")
    };
    assert_eq!(error("ada", &["history", "lobby"], 3)["code"], "no-node");
    assert_eq!(error("ada", &["search", "x"], 3)["code"], "no-node");
    let _ada = scratch.up("ada", &["--group", "lobby"]);
    assert_eq!(error("ada", &["history", "garden"], 5)["code"], "unknown-group");
    assert_eq!(error("ada", &["history", "garden", "--since", "7"], 5)["code"], "unknown-group");
    assert_eq!(error("ada", &["search", "x", "--group", "garden"], 5)["code"], "unknown-group");
    assert_eq!(error("ada", &["search", " "], 2)["code"], "usage");
    for command in ["history", "sub"] {
        let told = error("ada", &[command, "lobby", "--since", "7"], 2);
        assert_eq!(told["code"], "no-index", "{told}");
    }
}

#[test]
fn a_group_keeps_what_its_descriptor_says_and_little_more() {
    let scratch = Scratch::new("retain");
    let _ada = scratch.up("ada", &[]);
    scratch.json("ada", &["group", "create", "board", "--order", "causal", "--retain", "50"]);
    let all = lines(1_000);
    for part in all.chunks(100) {
        let said = scratch.feed("ada", &["pub", "board", "--wait", "stored"], part.join("\n"));
        assert_eq!(code(&said), 0);
    }
    let kept = scratch.texts("ada", &["history", "board"]);
    assert_eq!(kept, all, "nobody has it yet: it stays, whatever is said");
    let ticket =
        scratch.json("ada", &["invite", "board"])[0]["ticket"].as_str().expect("a ticket").to_owned();
    let _bob = scratch.up("bob", &["--group", &ticket]);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let kept: BTreeSet<String> = scratch.texts("ada", &["history", "board"]).into_iter().collect();
        assert!(all[950..].iter().all(|line| kept.contains(line)), "{} are left", kept.len());
        if kept.len() < 250 {
            break;
        }
        assert!(Instant::now() < deadline, "{} are left", kept.len());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Off for longer than the group keeps what is said: told how much that was, and then what is left.
#[test]
fn who_was_off_for_too_long_is_told_how_much_it_missed() {
    let scratch = Scratch::new("lagged");
    let ada = scratch.up("ada", &[]);
    let ticket = scratch.json("ada", &["group", "create", "board", "--order", "causal", "--retain", "50"]);
    let ticket = ticket[0]["ticket"].as_str().expect("a ticket").to_owned();
    let bob = scratch.up("bob", &["--group", &ticket, "--peer", &ada.address]);
    let eve = scratch.up("eve", &["--group", &ticket, "--peer", &ada.address]);
    scratch.json("ada", &["pub", "board", "line 0", "--wait", "2"]);
    eve.kill();
    for part in lines(1_000)[1..].chunks(20) {
        let said = scratch.feed("ada", &["pub", "board", "--wait", "1"], part.join("\n"));
        assert_eq!(code(&said), 0, "{}", text(&said.stderr));
    }
    let deadline = Instant::now() + PATIENCE;
    let kept = |node| scratch.texts(node, &["history", "board"]).len();
    while kept("ada") > 400 || kept("bob") > 400 {
        assert!(Instant::now() < deadline, "{} and {} are left", kept("ada"), kept("bob"));
        std::thread::sleep(Duration::from_millis(200));
    }
    // What is still in memory goes with them.
    ada.kill();
    bob.kill();
    let bob = scratch.up("bob", &[]);
    let _ada = scratch.up("ada", &["--peer", &bob.address]);
    let sub = ["sub", "board", "--peer", &bob.address, "--timeout", "60s", "--count", "1000", "--json", "-q"];
    let mut eve = Running::start(scratch.command("eve", &sub));
    let (mut missed, mut first, mut texts) = (0, None, Vec::new());
    while texts.last().is_none_or(|it| it != "line 999") {
        let line = eve.next_json();
        match line["type"].as_str() {
            Some("lagged") => missed += line["missed"].as_u64().expect("a number"),
            Some("message") => {
                first = first.or(line["seq"].as_u64());
                texts.push(line["text"].as_str().expect("it is text").to_owned());
            }
            _ => {}
        }
    }
    eve.kill();
    // Batches: line 0 was the first.
    assert_eq!(Some(missed), first.map(|seq| seq - 1), "{missed} missed, then {:?}", texts.first());
    assert!(missed > 0 && texts.len() >= 50, "{missed} missed, {} left", texts.len());
    assert_eq!(texts, lines(1_000)[1_000 - texts.len()..], "what is left comes in order");
}

#[test]
fn who_comes_late_sees_what_was_said_before_and_is_told_only_what_comes() {
    let scratch = Scratch::new("late");
    let ada = scratch.up("ada", &["--group", "lobby"]);
    let all = lines(200);
    let said = scratch.feed("ada", &["pub", "lobby", "--wait", "stored"], all.join("\n"));
    assert_eq!(code(&said), 0);
    // Nothing of it is in memory any more where the newcomer asks.
    let bob = scratch.up("bob", &["--group", "lobby", "--peer", &ada.address]);
    scratch.await_history("bob", &all);
    ada.kill();
    let sub = ["sub", "lobby", "--peer", &bob.address, "--count", "1", "--timeout", "20s", "-q", "--json"];
    let mut eve = scratch.command("eve", &sub).spawn().expect("the binary runs");
    let deadline = Instant::now() + PATIENCE;
    while eve.try_wait().expect("it is ours").is_none() {
        scratch.stored("bob", "live");
        assert!(Instant::now() < deadline, "nothing comes");
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut told = String::new();
    eve.stdout.take().expect("piped").read_to_string(&mut told).expect("UTF-8");
    let first = told.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let first = first.filter(|it| it["type"] == "message").map(|it| it["text"].clone()).next();
    assert_eq!(first, Some("live".into()), "live talk first, and nothing old as talk");

    let _eve = scratch.up("eve", &["--peer", &bob.address]);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut kept = scratch.texts("eve", &["history", "lobby"]);
        kept.retain(|it| it != "live");
        if kept == all {
            break;
        }
        assert!(Instant::now() < deadline, "{} of 200 are there", kept.len());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(scratch.texts("eve", &["search", "line 199"]), ["line 199"]);
    let since = ["sub", "lobby", "--since", "start", "--count", "200", "--timeout", "10s", "-q"];
    assert_eq!(scratch.texts("eve", &since), all);
    let short = scratch.texts("eve", &["history", "lobby", "--since", "1h"]);
    assert_eq!(short[..200], all[..], "it counts from when it was said there");
}
