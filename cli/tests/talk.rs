//! The binary with real nodes on loopback: what goes in comes out, and how commands end.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A directory of this test's own, gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("treecast-talk-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary folder can be written");
        Self(path)
    }

    /// A command on the node called `node`, which looks for nobody by itself.
    fn command(&self, node: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_treecast"));
        command.env_clear().env("HOME", &self.0).env("TREECAST_NO_MDNS", "1");
        command.env("TREECAST_LISTEN", "/ip4/127.0.0.1/tcp/0").env("TREECAST_DATA_DIR", self.0.join(node));
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, node: &str, words: &[&str]) -> Output {
        self.command(node, words).output().expect("the binary runs")
    }

    fn feed(&self, node: &str, words: &[&str], input: &[u8]) -> Output {
        let mut child = self.command(node, words).stdin(Stdio::piped()).spawn().expect("the binary runs");
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_vec();
        let feeding = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("it ends");
        feeding.join().expect("fed");
        output
    }

    /// A node in the foreground, and its first address.
    fn up(&self, node: &str, words: &[&str]) -> (Running, String) {
        let words: Vec<&str> = ["up", "--json"].iter().chain(words).copied().collect();
        let mut running = Running::start(self.command(node, &words));
        let ready = running.next_json();
        assert_eq!(ready["type"], "ready");
        assert!(ready["node"].as_str().is_some_and(|node| node.starts_with("12D3KooW")), "{ready}");
        let address = ready["addresses"][0].as_str().expect("an address").to_owned();
        (running, address)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A command that goes on; ended with the test.
struct Running {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary runs");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, stdout }
    }

    fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("stdout can be read");
        line.trim_end().to_owned()
    }

    fn next_json(&mut self) -> Value {
        let line = self.next_line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// The next message's text, over what else is told.
    fn next_text(&mut self) -> String {
        loop {
            let line = self.next_json();
            if line["type"] == "message" {
                return line["text"].as_str().unwrap_or("(data)").to_owned();
            }
        }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    fn code(&mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return status.code().expect("it ended by itself");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not end");
    }

    fn stderr(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut text).expect("UTF-8");
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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
    let file = scratch.0.join("file");
    std::fs::write(&file, "").expect("written");
    let dir = file.join("data");
    let blocked = scratch.run("b", &["up", "--data-dir", dir.to_str().expect("UTF-8")]);
    assert_eq!(code(&blocked), 2);
    assert!(text(&blocked.stderr).contains("--data-dir"), "{}", text(&blocked.stderr));
}
