//! What a total order looks like on the command line, with real nodes on loopback.

mod common;

use std::time::{Duration, Instant};

use common::{PATIENCE, Running, Scratch, code, error, text};
use serde_json::Value;

fn ask(scratch: &Scratch, node: &str, words: &[&str]) -> Vec<Value> {
    let output = scratch.run(node, words);
    assert_eq!(code(&output), 0, "{words:?}: {}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn show(scratch: &Scratch, node: &str) -> Value {
    ask(scratch, node, &["group", "show", "garden"]).remove(0)
}

/// Until the group is so, as a node shows it.
fn until(scratch: &Scratch, node: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let group = show(scratch, node);
        if is_so(&group) {
            return group;
        }
        assert!(Instant::now() < deadline, "{what}: {group}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn texts(lines: &[Value]) -> Vec<(Option<u64>, &str)> {
    let messages = lines.iter().filter(|line| line["type"] == "message");
    messages.map(|it| (it["index"].as_u64(), it["text"].as_str().unwrap_or_default())).collect()
}

#[test]
fn a_group_that_is_made_has_one_sequence_with_an_index() {
    let scratch = Scratch::telling_json("sequence");
    let (_ada, ready) = scratch.ready("ada", &[]);
    let made = ask(&scratch, "ada", &["group", "create", "garden"]).remove(0);
    assert_eq!(made["order"], "total");
    let group = until(&scratch, "ada", "the founder begins", |it| it["epoch"] == 1);
    assert_eq!(group["committee"], Value::from(vec![ready["node"].clone()]));
    assert_eq!((&group["leader"], &group["stalled"]), (&ready["node"], &Value::Null));
    for line in ["one", "two", "three"] {
        ask(&scratch, "ada", &["pub", "garden", line, "--wait", "stored"]);
    }
    let count = |count| ["sub", "garden", "--since", "start", "--timeout", "20s", "--count", count];
    let all = ask(&scratch, "ada", &count("3"));
    assert_eq!(texts(&all), [(Some(0), "one"), (Some(1), "two"), (Some(2), "three")]);
    assert!(all.iter().all(|it| it["tentative"] == false), "{all:?}");
    let later = ["sub", "garden", "--since", "1", "--timeout", "20s", "--count", "2"];
    assert_eq!(texts(&ask(&scratch, "ada", &later)), [(Some(1), "two"), (Some(2), "three")]);
    let history = ask(&scratch, "ada", &["history", "garden", "--since", "2"]);
    assert_eq!(texts(&history), [(Some(2), "three")]);
    assert_eq!(texts(&ask(&scratch, "ada", &["history", "garden", "--limit", "1"])), [(Some(2), "three")]);
    assert_eq!(texts(&ask(&scratch, "ada", &["search", "two"])), [(Some(1), "two")]);

    // An index that is still to come.
    let mut waiting =
        Running::start(scratch.command("ada", &["sub", "garden", "--since", "4", "--count", "1"]));
    for line in ["four", "five"] {
        ask(&scratch, "ada", &["pub", "garden", line, "--wait", "stored"]);
    }
    let line = waiting.next_json();
    assert_eq!((&line["index"], &line["text"]), (&4.into(), &"five".into()));

    let mut tentative = Running::start(
        scratch.command("ada", &["sub", "garden", "--tentative", "--since", "5", "--count", "1"]),
    );
    std::thread::sleep(Duration::from_millis(500));
    ask(&scratch, "ada", &["pub", "garden", "six", "--wait", "stored"]);
    let (first, second) = (tentative.next_json(), tentative.next_json());
    assert_eq!((&first["tentative"], &first["index"]), (&true.into(), &Value::Null), "{first}");
    assert_eq!((&second["tentative"], &second["index"]), (&false.into(), &5.into()), "{second}");
    assert_eq!(tentative.code(), 0, "only what is settled counts");

    // In a pipe only what is settled.
    let chat = scratch.feed("ada", &["chat", "garden"], "seven\n");
    let said: Vec<Value> =
        text(&chat.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(texts(&said), [(Some(6), "seven")]);
}

#[test]
fn what_has_no_place_yet_is_told_apart_and_people_are_told_why() {
    let scratch = Scratch::telling_json("stalled");
    let (ada, ready) = scratch.ready("ada", &[]);
    let address = ready["addresses"][0].as_str().expect("one").to_owned();
    let made = ask(&scratch, "ada", &["group", "create", "garden"]).remove(0);
    let ticket = made["ticket"].as_str().expect("one").to_owned();
    let (_bob, ready) = scratch.ready("bob", &["--group", &ticket, "--peer", &address]);
    let address = ready["addresses"][0].as_str().expect("one").to_owned();
    until(&scratch, "bob", "bob hears of the order", |it| it["epoch"] == 1);
    drop(ada);
    ask(&scratch, "bob", &["pub", "garden", "anybody?", "--wait", "stored"]);
    let mut sub = Running::start(scratch.command("bob", &["sub", "garden", "--tentative"]));
    let first = sub.next_json();
    assert_eq!((&first["text"], &first["tentative"]), (&"anybody?".into(), &true.into()), "it waits already");
    let stalled = loop {
        let line = sub.next_json();
        if line["type"] == "order" {
            break line;
        }
    };
    assert_eq!(stalled["event"], "stalled");
    assert!(stalled["reason"].as_str().is_some_and(|why| !why.is_empty()), "{stalled}");
    let group = until(&scratch, "bob", "it is shown why", |it| it["stalled"].is_string());
    assert_eq!((&group["index"], &group["tentative"]), (&0.into(), &1.into()), "{group}");
    assert_eq!(texts(&ask(&scratch, "bob", &["history", "garden"])), []);
    let people = text(
        &scratch
            .command("bob", &["group", "show", "garden"])
            .env_remove("TREECAST_JSON")
            .output()
            .expect("runs")
            .stdout,
    );
    assert!(people.contains("0 messages ordered; by") && people.contains("stalled: "), "{people}");
    let (_ada, _) = scratch.ready("ada", &["--peer", &address]);
    loop {
        let line = sub.next_json();
        if line["type"] == "message" {
            assert_eq!((&line["text"], &line["index"]), (&"anybody?".into(), &0.into()), "{line}");
            break;
        }
    }
    until(&scratch, "bob", "it goes on", |it| it["stalled"].is_null());
}

#[test]
fn who_may_decide_is_named_and_where_nothing_is_decided_that_is_refused() {
    let scratch = Scratch::telling_json("named");
    let (_ada, _) = scratch.ready("ada", &[]);
    let named = ["group", "create", "garden", "--committee", "named"];
    assert_eq!(ask(&scratch, "ada", &named)[0]["order"], "total");
    let refused = scratch.run("ada", &["group", "create", "x", "--order", "fifo", "--committee", "named"]);
    assert_eq!((code(&refused), &error(&refused)["code"]), (2, &"usage".into()));
    let refused = scratch.run("ada", &["bench", "--committee", "3"]);
    assert_eq!(code(&refused), 2, "{}", text(&refused.stderr));
    let refused = scratch.run("ada", &["bench", "--order", "total", "--committee", "2"]);
    assert_eq!(code(&refused), 2, "{}", text(&refused.stderr));
    // What is open has no founder, and no such order.
    ask(&scratch, "ada", &["pub", "lobby", "hi", "--wait", "stored"]);
    assert_eq!(texts(&ask(&scratch, "ada", &["history", "lobby"])), [(None, "hi")]);
    let refused = scratch.run("ada", &["sub", "lobby", "--since", "7"]);
    assert_eq!((code(&refused), &error(&refused)["code"]), (2, &"no-index".into()));
    let refused = scratch.run("ada", &["sub", "elsewhere", "--since", "7"]);
    assert_eq!(code(&refused), 2, "{}", text(&refused.stderr));
    let help = text(&scratch.run("ada", &["group", "create", "--help"]).stdout);
    assert!(help.contains("unordered|fifo|causal|total") && help.contains("any|named"), "{help}");
}
