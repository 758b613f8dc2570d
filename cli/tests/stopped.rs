//! What is said of a process that is there and does not answer: it was stopped, and still holds
//! its data directory, its ports and its connections.
#![cfg(unix)]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A directory of this test's own, gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("treecast-stopped-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary folder can be written");
        Self(path)
    }

    /// A command on the node called `node`, which looks for nobody by itself.
    fn command(&self, node: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_treecast"));
        command.env_clear().env("HOME", &self.0).env("TREECAST_NO_MDNS", "1").env("TREECAST_JSON", "1");
        command.env("TREECAST_LISTEN", "/ip4/127.0.0.1/tcp/0").env("TREECAST_DATA_DIR", self.0.join(node));
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, node: &str, words: &[&str]) -> Output {
        self.command(node, words).output().expect("the binary runs")
    }

    /// A node in the foreground, and what it says once it is ready.
    fn up(&self, node: &str, words: &[&str]) -> (Running, Value) {
        let words: Vec<&str> = ["up"].iter().chain(words).copied().collect();
        let mut child = self.command(node, &words).spawn().expect("the binary runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says that it is ready");
        (Running(child), serde_json::from_str(&line).expect("JSON"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A node; ended with the test, stopped or not.
struct Running(Child);

impl Running {
    fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(done.expect("kill runs").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn error(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| panic!("no error: {text}"))
}

#[test]
fn a_node_that_does_not_answer_is_named_and_nobody_waits_long() {
    let scratch = Scratch::new("node");
    let (node, _) = scratch.up("a", &[]);
    node.signal("-STOP");
    let pid = node.0.id().to_string();
    for (words, code, exit) in [
        (&["status"][..], "node-silent", 4),
        (&["down"], "node-silent", 4),
        (&["pub", "lobby", "hi"], "node-silent", 4),
        (&["up"], "already-running", 3),
    ] {
        let begun = Instant::now();
        let output = scratch.run("a", words);
        assert!(begun.elapsed() < Duration::from_secs(9), "{words:?} took {:?}", begun.elapsed());
        let error = error(&output);
        assert_eq!((output.status.code(), error["code"].as_str()), (Some(exit), Some(code)), "{error}");
        assert!(error["why"].as_str().is_some_and(|why| why.contains(&pid)), "{error}");
        assert!(error["fix"].as_str().is_some_and(|fix| fix.contains("kill -CONT")), "{error}");
    }
    let doctor = scratch.run("a", &["doctor"]);
    assert_eq!(doctor.status.code(), Some(8));
    let text = String::from_utf8_lossy(&doctor.stdout);
    assert!(text.lines().last().is_some_and(|last| last.contains("kill -CONT")), "{text}");
    node.signal("-CONT");
    assert_eq!(scratch.run("a", &["down"]).status.code(), Some(0), "it goes on as if nothing had been");
}

#[test]
fn a_stopped_peer_does_not_answer_a_ping() {
    let scratch = Scratch::new("ping");
    let (_one, ready) = scratch.up("a", &[]);
    let target = ready["node"].as_str().expect("its id").to_owned();
    let (two, other) = scratch.up("b", &["--peer", ready["addresses"][0].as_str().expect("an address")]);
    let ping = |node: &str, target: &str| scratch.run(node, &["ping", target, "--count", "2"]);
    // "b" connects to "a" once it is up; until then nobody knows who that is.
    let begun = Instant::now();
    let output = loop {
        let output = ping("b", &target);
        if output.status.code() != Some(5) || begun.elapsed() > Duration::from_secs(20) {
            break output;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let pings = String::from_utf8_lossy(&output.stdout);
    assert_eq!((output.status.code(), pings.lines().count()), (Some(0), 2), "{output:?}");
    two.signal("-STOP");
    let begun = Instant::now();
    let output = ping("a", other["node"].as_str().expect("its id"));
    assert_eq!((output.status.code(), output.stdout.len()), (Some(4), 0), "{output:?}");
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
}
