//! The binary with real nodes on loopback: what goes in comes out, and how commands end.

mod common;

use std::io::BufReader;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{PATIENCE, Running, Scratch, code, text};
use serde_json::Value;

impl Scratch {
    /// A node in the foreground, and its first address.
    fn up(&self, node: &str, words: &[&str]) -> (Running, String) {
        let (running, ready) = self.ready(node, words);
        assert!(ready["node"].as_str().is_some_and(|node| node.starts_with("12D3KooW")), "{ready}");
        let address = ready["addresses"][0].as_str().expect("an address").to_owned();
        (running, address)
    }
}

impl Running {
    /// The next message's text, over what else is told.
    fn next_text(&mut self) -> String {
        loop {
            let line = self.next_json();
            if line["type"] == "message" {
                return line["text"].as_str().unwrap_or("(data)").to_owned();
            }
        }
    }
}

#[test]
fn what_is_said_in_a_pipe_is_heard() {
    let scratch = Scratch::new("pipe");
    let (_up, address) = scratch.up("a", &["--group", "lobby"]);
    let mut sub = Running::start(scratch.command("a", &["sub", "lobby", "--json"]));
    std::thread::sleep(Duration::from_millis(300));
    let said = scratch.feed("b", &["chat", "lobby", "--peer", &address], b"hi\nthere\n");
    assert_eq!(code(&said), 0, "{}", text(&said.stderr));
    assert_eq!(text(&said.stdout).lines().filter(|line| line.ends_with(": hi")).count(), 1);
    assert_eq!((sub.next_text(), sub.next_text()), ("hi".into(), "there".into()));
    let one = scratch.run("b", &["pub", "lobby", "caf\u{e9}", "--peer", &address, "--wait", "1", "--json"]);
    assert_eq!(code(&one), 0, "{}", text(&one.stderr));
    let receipt: Value = serde_json::from_slice(&one.stdout).expect("one line");
    assert_eq!((&receipt["type"], &receipt["have"]), (&"receipt".into(), &1.into()));
    assert_eq!(sub.next_text(), "caf\u{e9}");
    sub.signal("-TERM");
    assert_eq!(sub.code(), 0);
}

#[test]
fn any_bytes_and_long_lines_lose_nothing_else() {
    let scratch = Scratch::new("bytes");
    let (_up, address) = scratch.up("a", &["--group", "lobby"]);
    let words = ["sub", "lobby", "--count", "4", "--timeout", "30s", "--json"];
    let mut sub = Running::start(scratch.command("a", &words));
    std::thread::sleep(Duration::from_millis(300));
    let mut input = b"one\n\n\xff\x00\xfe\n".to_vec();
    input.extend(vec![b'x'; (1 << 20) + 1]);
    input.extend_from_slice(b"\nlast");
    let said = scratch.feed("b", &["pub", "lobby", "--peer", &address, "--json"], &input);
    assert_eq!(code(&said), 2);
    assert!(text(&said.stderr).contains("Line 4"), "{}", text(&said.stderr));
    assert_eq!(text(&said.stdout).lines().count(), 4);
    assert_eq!((sub.next_text(), sub.next_text()), ("one".into(), String::new()));
    let data = loop {
        let line = sub.next_json();
        if line["type"] == "message" {
            break line;
        }
    };
    assert_eq!((&data["data"], &data["text"]), (&"/wD+".into(), &Value::Null));
    assert_eq!(sub.next_text(), "last");
    assert_eq!(sub.code(), 0);
}

#[test]
fn two_thousand_lines_arrive_once_and_in_order() {
    let scratch = Scratch::new("many");
    let (_up, address) = scratch.up("a", &["--group", "lobby"]);
    let mut sub = Running::start(scratch.command("a", &["sub", "lobby", "--count", "2000", "--json"]));
    std::thread::sleep(Duration::from_millis(300));
    let lines: String = (0..2000).map(|number| format!("{number}\n")).collect();
    let said = scratch.feed("b", &["pub", "lobby", "--peer", &address, "--json"], lines.as_bytes());
    assert_eq!(code(&said), 0, "{}", text(&said.stderr));
    assert_eq!(text(&said.stdout).lines().count(), 2000);
    for number in 0..2000 {
        assert_eq!(sub.next_text(), number.to_string());
    }
    assert_eq!(sub.code(), 0);
}

#[test]
fn a_node_answers_its_commands_and_ends_on_down() {
    let scratch = Scratch::new("commands");
    let (mut up, _) = scratch.up("a", &["--group", "lobby"]);
    let json = |words: &[&str]| {
        let words: Vec<&str> = words.iter().chain(&["--json"]).copied().collect();
        let output = scratch.run("a", &words);
        assert_eq!(code(&output), 0, "{words:?}: {}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).expect("one line of JSON")
    };
    assert_eq!(json(&["nick", "Ada"])["nick"], "Ada");
    assert_eq!(json(&["id"])["nick"], "Ada");
    let status = json(&["status"]);
    assert_eq!((&status["type"], &status["groups"][0]), (&"status".into(), &"lobby".into()));
    assert_eq!(json(&["group", "ls"])["name"], "lobby");
    assert_eq!(json(&["group", "show", "lobby"])["members"][0]["state"], "online");
    assert_eq!(code(&scratch.run("a", &["nick", "bad\u{7}"])), 2);
    for words in
        [&["tree", "nope"][..], &["peers", "nope"], &["group", "show", "nope"], &["group", "leave", "nope"]]
    {
        assert_eq!(code(&scratch.run("a", words)), 5, "{words:?}");
    }
    let second = scratch.run("a", &["up"]);
    assert_eq!(code(&second), 3);
    assert!(text(&second.stderr).contains(&up.child.id().to_string()), "{}", text(&second.stderr));
    for words in [&["sub", "lobby", "--no-mdns"][..], &["chat", "lobby", "--peer", "/ip4/127.0.0.1/tcp/1"]] {
        assert_eq!(code(&scratch.run("a", words)), 2, "{words:?}");
    }
    json(&["group", "leave", "lobby"]);
    assert_eq!(code(&scratch.run("a", &["group", "show", "lobby"])), 5);
    assert_eq!(code(&scratch.run("a", &["down"])), 0);
    assert_eq!(up.code(), 0);
    assert_eq!(code(&scratch.run("a", &["status"])), 3);
}

#[test]
fn waits_that_are_not_met_are_exit_4() {
    let scratch = Scratch::new("alone");
    let alone = scratch.run("a", &["pub", "lobby", "x", "--timeout", "300ms"]);
    assert_eq!(code(&alone), 4, "{}", text(&alone.stderr));
    let few = scratch.run("a", &["sub", "lobby", "--count", "1", "--timeout", "300ms"]);
    assert_eq!(code(&few), 4);
    let time = scratch.run("a", &["sub", "lobby", "--timeout", "300ms"]);
    assert_eq!(code(&time), 0, "{}", text(&time.stderr));
}

#[test]
fn signals_end_what_runs_until_stopped_with_0() {
    let scratch = Scratch::new("signals");
    for signal in ["-INT", "-TERM"] {
        let (mut up, _) = scratch.up("a", &[]);
        up.signal(signal);
        assert_eq!(up.code(), 0, "up {signal}: {}", up.stderr());
        for words in [&["sub", "lobby"][..], &["chat", "lobby"], &["sub", "lobby", "--json"]] {
            let mut command = scratch.command("a", words);
            command.stdin(Stdio::piped());
            let mut running = Running::start(command);
            std::thread::sleep(Duration::from_millis(500));
            running.signal(signal);
            assert_eq!(running.code(), 0, "{words:?} {signal}: {}", running.stderr());
        }
        let mut command = scratch.command("a", &["pub", "lobby"]);
        command.stdin(Stdio::piped());
        let mut publishing = Running::start(command);
        std::thread::sleep(Duration::from_millis(500));
        publishing.signal(signal);
        assert_eq!(publishing.code(), 130, "pub {signal}");
    }
}

#[test]
fn a_reader_that_goes_ends_the_command_quietly() {
    let scratch = Scratch::new("head");
    let (_up, _) = scratch.up("a", &["--group", "lobby"]);
    let mut sub = Running::start(scratch.command("a", &["sub", "lobby"]));
    std::thread::sleep(Duration::from_millis(300));
    let said = scratch.feed("a", &["pub", "lobby", "--timeout", "100ms"], b"one\n");
    assert_eq!(code(&said), 4, "nobody else is there");
    assert!(sub.next_line().ends_with(": one"));
    let Running { child, stdout } = &mut sub;
    // What `head -1` does.
    drop(std::mem::replace(stdout, BufReader::new(other_pipe())));
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("it is ours").is_none() {
        assert!(Instant::now() < deadline, "it goes on for nobody");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(sub.code(), 0);
    assert_eq!(sub.stderr(), "");
}

/// Some other pipe, to put in the place of one that is closed.
fn other_pipe() -> std::process::ChildStdout {
    let mut child = Command::new("true").stdout(Stdio::piped()).spawn().expect("`true` runs");
    let stdout = child.stdout.take().expect("piped");
    child.wait().expect("it ends");
    stdout
}

#[test]
fn a_node_that_goes_away_is_exit_3() {
    let scratch = Scratch::new("gone");
    let (up, _) = scratch.up("a", &["--group", "lobby"]);
    let mut sub = Running::start(scratch.command("a", &["sub", "lobby"]));
    std::thread::sleep(Duration::from_millis(300));
    up.signal("-KILL");
    assert_eq!(sub.code(), 3);
    assert!(sub.stderr().contains("treecast up"));
    // The socket that is left is no node.
    drop(up);
    assert_eq!(code(&scratch.run("a", &["status"])), 3);
}

#[test]
fn a_port_that_is_taken_and_a_folder_that_cannot_be_written_are_named() {
    let scratch = Scratch::new("refused");
    let (_up, address) = scratch.up("a", &[]);
    let address = address.split("/p2p/").next().expect("an address");
    let taken = scratch.run("b", &["up", "--listen", address]);
    assert_eq!(code(&taken), 2);
    assert!(text(&taken.stderr).contains("--listen"), "{}", text(&taken.stderr));
    let file = scratch.dir.join("file");
    std::fs::write(&file, "").expect("written");
    let dir = file.join("data");
    let blocked = scratch.run("b", &["up", "--data-dir", dir.to_str().expect("UTF-8")]);
    assert_eq!(code(&blocked), 2);
    assert!(text(&blocked.stderr).contains("--data-dir"), "{}", text(&blocked.stderr));
}
