//! `group create|join|ls|show|leave` and `invite`, with real nodes on loopback.

mod common;

use std::process::Output;

use common::{Running, Scratch, code, text};
use serde_json::Value;

impl Scratch {
    /// The object that a command prints.
    fn json(&self, node: &str, words: &[&str]) -> Value {
        let words: Vec<&str> = ["--json"].iter().chain(words).copied().collect();
        let output = self.run(node, &words);
        assert_eq!(code(&output), 0, "{words:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{words:?}: {}", text(&output.stdout)))
    }

    /// The error that a command ends with.
    fn error(&self, node: &str, words: &[&str], exit: i32) -> Value {
        let words: Vec<&str> = ["--json"].iter().chain(words).copied().collect();
        error(&self.run(node, &words), exit)
    }

    /// A node in the foreground.
    fn up(&self, node: &str) -> Running {
        self.ready(node, &[]).0
    }
}

fn error(output: &Output, exit: i32) -> Value {
    let error = common::error(output);
    assert_eq!(code(output), exit, "{error}");
    for part in ["code", "what", "why", "fix"] {
        assert!(error[part].as_str().is_some_and(|it| !it.is_empty()), "{part} in {error}");
    }
    error
}

#[test]
fn the_objects_are_those_of_the_contract() {
    let scratch = Scratch::new("objects");
    let _up = scratch.up("a");
    let me = scratch.json("a", &["id"])["node"].clone();
    let words = [
        "group",
        "create",
        "garden",
        "--order",
        "fifo",
        "--route",
        "tree:shared",
        "--retain",
        "7d",
        "--retain",
        "1GiB",
    ];
    let made = scratch.json("a", &words);
    for (key, value) in [
        ("type", "group".into()),
        ("name", "garden".into()),
        ("order", "fifo".into()),
        ("route", "tree:shared".into()),
        ("founder", me),
        ("members", 1.into()),
        ("state", "waiting".into()),
        ("retain", serde_json::json!({"age_s": 604_800, "bytes": 1_073_741_824, "count": null})),
    ] {
        assert_eq!(made[key], value, "{key} in {made}");
    }
    assert!(made["id"].as_str().is_some_and(|id| id.len() == 64));
    assert!(made["ticket"].as_str().is_some_and(|ticket| ticket.starts_with("treecast1")));

    let shown = scratch.json("a", &["group", "show", "garden"]);
    let member = &shown["members"][0];
    assert_eq!((&member["state"], &member["node"]), (&"online".into(), &made["founder"]));
    assert!(member["nick"].is_string() && member["frontier"].is_object(), "{member}");
    for key in ["committee", "epoch", "leader", "stalled"] {
        assert!(shown.as_object().expect("an object")[key].is_null(), "{key}");
    }
    let invited = scratch.json("a", &["invite", "garden"]);
    assert_eq!((&invited["type"], &invited["group"]), (&"ticket".into(), &"garden".into()));
    assert!(invited["ticket"].as_str().is_some_and(|ticket| ticket.starts_with("treecast1")));
    let people = scratch.run("a", &["invite", "garden"]);
    let printed = text(&people.stdout);
    assert!(printed.starts_with("treecast1") && printed.lines().count() == 1, "only the ticket: {printed}");
    let people = text(&scratch.run("a", &["group", "create", "second"]).stdout);
    assert!(people.lines().last().is_some_and(|line| line.starts_with("treecast1")), "{people}");
    let left = scratch.json("a", &["group", "leave", "garden"]);
    assert_eq!(left["state"], "left");
    assert_eq!(scratch.json("a", &["group", "ls"])["name"], "second");
}

#[test]
fn whoever_has_the_ticket_joins_by_argument_by_stdin_and_in_a_chat() {
    let scratch = Scratch::new("join");
    let _a = scratch.up("a");
    let made = scratch.json("a", &["group", "create", "茶 room"]);
    let ticket = made["ticket"].as_str().expect("a ticket").to_owned();
    {
        let _b = scratch.up("b");
        let joined = scratch.json("b", &["group", "join", &ticket]);
        assert_eq!((&joined["id"], &joined["name"]), (&made["id"], &"茶 room".into()));
        let again = scratch.json("b", &["group", "join", "茶 room"]);
        assert_eq!(again["id"], made["id"], "a name that is known here");
    }
    {
        let _c = scratch.up("c");
        let joined = scratch.feed("c", &["--json", "group", "join", "-"], format!("\n{ticket}\n"));
        assert_eq!(code(&joined), 0, "{}", text(&joined.stderr));
        assert!(text(&joined.stdout).contains(made["id"].as_str().expect("text")));
        let open = scratch.json("c", &["group", "join", "lobby"]);
        assert_eq!((&open["ticket"], &open["founder"]), (&Value::Null, &Value::Null));
    }
    let said = scratch.run("d", &["pub", &ticket, "hello", "--wait", "1", "--timeout", "20s", "--json"]);
    assert_eq!(code(&said), 0, "{}", text(&said.stderr));
    let receipt: Value = serde_json::from_slice(&said.stdout).expect("one line");
    assert_eq!((&receipt["group"], &receipt["have"]), (&"茶 room".into(), &1.into()));
    // The ticket is the first line, the rest is said.
    let said = scratch.feed("e", &["chat", "-", "--json"], format!("{ticket}\nfrom a pipe\n"));
    assert_eq!(code(&said), 0, "{}", text(&said.stderr));
    assert!(text(&said.stdout).contains("from a pipe"), "{}", text(&said.stdout));
}

#[test]
fn what_is_no_ticket_is_said_with_its_place_and_needs_no_node() {
    let scratch = Scratch::new("bad");
    let ticket = {
        let _a = scratch.up("a");
        scratch.json("a", &["group", "create", "garden"])["ticket"].as_str().expect("a ticket").to_owned()
    };
    let cut = &ticket[..ticket.len() - 7];
    let at = 60;
    let wrong = if &ticket[at..=at] == "a" { "b" } else { "a" };
    let mistyped = format!("{}{wrong}{}", &ticket[..at], &ticket[at + 1..]);
    let strange = format!("{}!{}", &ticket[..20], &ticket[21..]);
    for (ticket, words) in [
        (cut, "cut short after character"),
        (&mistyped, "mistyped between characters 52 and 93"),
        (&strange, "Character 21 is `!`"),
    ] {
        for command in
            [&["group", "join"][..], &["chat"], &["pub"], &["sub"], &["invite"], &["up", "--group"]]
        {
            let all: Vec<&str> = command.iter().chain([&ticket]).copied().collect();
            let error = scratch.error("nobody", &all, 2);
            assert_eq!(error["code"], "bad-ticket", "{all:?}");
            assert!(error["why"].as_str().is_some_and(|why| why.contains(words)), "{words}: {error}");
        }
    }
    let foreign = format!("blobaa{}", "k5".repeat(70));
    let error = scratch.error("nobody", &["group", "join", &foreign], 2);
    assert!(error["why"].as_str().is_some_and(|why| why.contains("another program")), "{error}");
    let empty = scratch.feed("nobody", &["--json", "group", "join", "-"], "");
    assert_eq!(self::error(&empty, 2)["code"], "bad-ticket");
    let good = scratch.error("nobody", &["group", "join", &ticket], 3);
    assert_eq!(good["code"], "no-node");
}

#[test]
fn a_taken_name_and_unknown_groups_are_no_surprise() {
    let scratch = Scratch::new("taken");
    let _a = scratch.up("a");
    let first = scratch.json("a", &["group", "create", "team"]);
    let second = scratch.json("a", &["group", "create", "team"]);
    let short = &second["id"].as_str().expect("text")[..4];
    assert_eq!((&first["name"], &second["name"]), (&"team".into(), &format!("team~{short}").into()));
    let note = text(&scratch.run("a", &["group", "create", "team"]).stderr);
    assert!(note.contains("Another group is called team"), "{note}");
    for words in [
        &["group", "show", "nowhere"][..],
        &["group", "leave", "nowhere"],
        &["invite", "nowhere"],
        &["peers", "nowhere"],
        &["tree", "nowhere"],
    ] {
        assert_eq!(scratch.error("a", words, 5)["code"], "unknown-group", "{words:?}");
    }
}

#[test]
fn a_static_group_refuses_who_is_not_listed() {
    let scratch = Scratch::new("static");
    let (_a, _b, _c) = (scratch.up("a"), scratch.up("b"), scratch.up("c"));
    let b = scratch.json("b", &["id"])["node"].as_str().expect("text").to_owned();
    let made = scratch.json("a", &["group", "create", "board", "--members", &b]);
    assert_eq!(made["members"], 2);
    let shown = scratch.json("a", &["group", "show", "board"]);
    let states: Vec<&str> = shown["members"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|member| member["state"].as_str().expect("text"))
        .collect();
    assert!(states.contains(&"offline") && states.contains(&"online"), "{shown}");
    let ticket = made["ticket"].as_str().expect("a ticket");
    assert_eq!(scratch.error("c", &["group", "join", ticket], 6)["code"], "not-admitted");
    assert_eq!(scratch.error("c", &["sub", ticket], 6)["code"], "not-admitted");
    assert_eq!(scratch.json("b", &["group", "join", ticket])["id"], made["id"]);
    let broken = format!("{b}x");
    assert_eq!(scratch.error("a", &["group", "create", "x", "--members", &broken], 2)["code"], "usage");
    assert_eq!(scratch.error("a", &["group", "create", "x", "--members", "zoe"], 5)["code"], "unknown-node");
    assert_eq!(scratch.json("a", &["group", "ls"])["name"], "board", "nothing was made of those");
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let scratch = Scratch::new("kill");
    let mut names = Vec::new();
    for round in 0..6 {
        let up = scratch.up("a");
        let name = format!("round {round}");
        scratch.json("a", &["group", "create", &name]);
        scratch.json("a", &["nick", &format!("nick {round}")]);
        // At once, and without a word.
        up.kill();
        names.push(name);
    }
    let _up = scratch.up("a");
    assert_eq!(scratch.json("a", &["id"])["nick"], "nick 5");
    let listed = scratch.run("a", &["group", "ls", "--json"]);
    let mut listed: Vec<String> = text(&listed.stdout)
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).expect("JSON")["name"].as_str().expect("text").to_owned()
        })
        .collect();
    listed.sort_unstable();
    assert_eq!(listed, names);
}
