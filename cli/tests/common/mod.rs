//! What tests of the binary share: a directory with nodes on loopback, and commands to them.
#![allow(dead_code, reason = "each test uses some of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest that anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A directory of a test's own, gone afterwards.
pub(crate) struct Scratch {
    pub(crate) dir: PathBuf,
    json: bool,
}

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let of = env!("CARGO_CRATE_NAME");
        let path = std::env::temp_dir().join(format!("treecast-{of}-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary folder can be written");
        Self { dir: path, json: false }
    }

    /// One in which every command tells JSON.
    pub(crate) fn telling_json(name: &str) -> Self {
        let mut scratch = Self::new(name);
        scratch.json = true;
        scratch
    }

    /// A command on the node called `node`, which looks for nobody by itself.
    pub(crate) fn command(&self, node: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_treecast"));
        command.env_clear().env("HOME", &self.dir).env("TREECAST_NO_MDNS", "1");
        command.env("TREECAST_LISTEN", "/ip4/127.0.0.1/tcp/0").env("TREECAST_DATA_DIR", self.dir.join(node));
        if self.json {
            command.env("TREECAST_JSON", "1");
        }
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, node: &str, words: &[&str]) -> Output {
        self.command(node, words).output().expect("the binary runs")
    }

    pub(crate) fn feed(&self, node: &str, words: &[&str], input: impl AsRef<[u8]>) -> Output {
        let mut child = self.command(node, words).stdin(Stdio::piped()).spawn().expect("the binary runs");
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.as_ref().to_vec();
        // What is refused at once reads nothing.
        let feeding = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("it ends");
        feeding.join().expect("fed");
        output
    }

    /// A node in the foreground, and what it says once it is ready.
    pub(crate) fn ready(&self, node: &str, words: &[&str]) -> (Running, Value) {
        let words: Vec<&str> = ["up", "--json"].iter().chain(words).copied().collect();
        let mut running = Running::start(self.command(node, &words));
        let ready = running.next_json();
        assert_eq!(ready["type"], "ready", "{ready}");
        (running, ready)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A command that goes on; ended with the test, stopped or not.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdout: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary runs");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, stdout }
    }

    pub(crate) fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("stdout can be read");
        line.trim_end().to_owned()
    }

    pub(crate) fn next_json(&mut self) -> Value {
        let line = self.next_line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is ours");
    }

    /// Its exit code, once it has ended.
    pub(crate) fn code(&mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return status.code().expect("it ended by itself");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not end");
    }

    pub(crate) fn stderr(&mut self) -> String {
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

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The error that a command told last.
pub(crate) fn error(output: &Output) -> Value {
    let told = text(&output.stderr);
    let last = told.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| panic!("no error: {told}"))
}
