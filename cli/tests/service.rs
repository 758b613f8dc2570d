//! `up` under a service manager: what it is told, over a real socket, and when it is told nothing.
#![cfg(unix)]

mod common;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{PATIENCE, Running, Scratch};

/// A manager with a directory of its own, gone afterwards.
struct Manager {
    scratch: Scratch,
    socket: UnixDatagram,
}

impl Manager {
    fn new(name: &str) -> Self {
        let scratch = Scratch::telling_json(name);
        let socket = UnixDatagram::bind(scratch.dir.join("notify")).expect("a socket");
        Self { scratch, socket }
    }

    /// A node that is its service.
    fn up(&self, watchdog: Option<Duration>) -> Running {
        let mut command = self.scratch.command("a", &["up"]);
        command.env("NOTIFY_SOCKET", self.scratch.dir.join("notify"));
        if let Some(patience) = watchdog {
            command.env("WATCHDOG_USEC", patience.as_micros().to_string());
        }
        Running::start(command)
    }

    /// What is told next; nothing if it does not come in time.
    fn next(&self, patience: Duration) -> Option<Vec<String>> {
        self.socket.set_read_timeout(Some(patience)).expect("a timeout");
        let mut buffer = [0; 4_096];
        match self.socket.recv(&mut buffer) {
            Ok(len) => Some(String::from_utf8_lossy(&buffer[..len]).lines().map(str::to_owned).collect()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until this line is told; and what else was until then.
    fn until(&self, line: &str) -> Vec<String> {
        let (begun, mut before) = (Instant::now(), Vec::new());
        while begun.elapsed() < PATIENCE {
            for told in self.next(PATIENCE).unwrap_or_default() {
                if told == line {
                    return before;
                }
                before.push(told);
            }
        }
        panic!("{line} was never told; {before:?} was");
    }
}

#[test]
fn a_service_says_when_it_listens_and_when_it_stops() {
    for end in ["-TERM", "down"] {
        let manager = Manager::new(end);
        let mut node = manager.up(None);
        assert_eq!(manager.until("READY=1"), [""; 0], "nothing before it is ready");
        let line = node.next_line();
        assert!(line.contains("\"ready\""), "{line}");
        let status = manager.scratch.command("a", &["status"]).status().expect("the binary runs");
        assert!(status.success(), "who is told READY can use it");
        assert_eq!(manager.until("STATUS=0 groups, 0 peers."), [""; 0]);
        match end {
            "down" => assert!(manager.scratch.command("a", &["down"]).status().expect("runs").success()),
            signal => node.signal(signal),
        }
        let before = manager.until("STOPPING=1");
        assert!(!before.iter().any(|line| line.starts_with("WATCHDOG")), "nobody asked: {before:?}");
        assert_eq!(node.child.wait().expect("it ends").code(), Some(0));
    }
}

#[test]
fn the_watchdog_is_fed_in_time_and_not_by_a_process_that_stands_still() {
    let manager = Manager::new("watchdog");
    let patience = Duration::from_secs(6);
    let node = manager.up(Some(patience));
    manager.until("WATCHDOG=1");
    for _ in 0..3 {
        let last = Instant::now();
        manager.until("WATCHDOG=1");
        assert!(last.elapsed() < patience / 2, "{:?}", last.elapsed());
    }
    node.signal("-STOP");
    // One may be on its way.
    manager.next(Duration::from_millis(200));
    assert_eq!(manager.next(patience), None);
    node.signal("-CONT");
    manager.until("WATCHDOG=1");
    node.signal("-TERM");
    manager.until("STOPPING=1");
}

#[test]
fn a_watchdog_for_another_process_is_not_fed() {
    let manager = Manager::new("other");
    let mut command = manager.scratch.command("a", &["up"]);
    command.env("NOTIFY_SOCKET", manager.scratch.dir.join("notify"));
    command.env("WATCHDOG_USEC", "300000").env("WATCHDOG_PID", "1");
    let node = Running::start(command);
    manager.until("READY=1");
    while let Some(told) = manager.next(Duration::from_secs(1)) {
        assert!(!told.contains(&"WATCHDOG=1".to_owned()), "{told:?}");
    }
    drop(node);
}

#[test]
fn a_manager_that_is_gone_or_reads_nothing_is_no_reason_not_to_run() {
    let manager = Manager::new("gone");
    // Full: whoever writes to it would wait.
    let full = UnixDatagram::unbound().expect("a socket");
    full.set_nonblocking(true).expect("possible");
    full.connect(manager.scratch.dir.join("notify")).expect("the manager's");
    while full.send(b"x").is_ok() {}
    for socket in [manager.scratch.dir.join("nowhere"), manager.scratch.dir.join("notify")] {
        let mut command = manager.scratch.command("a", &["up"]);
        command.env("NOTIFY_SOCKET", socket);
        let mut node = Running::start(command);
        let line = node.next_line();
        assert!(line.contains("\"ready\""), "{line}");
        let begun = Instant::now();
        node.signal("-TERM");
        assert_eq!(node.child.wait().expect("it ends").code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    }
}

fn unit(kind: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../dist/systemd/{kind}/treecast.service"));
    std::fs::read_to_string(file).expect("the unit is there")
}

#[test]
fn the_units_run_what_there_is_and_watch_it() {
    for kind in ["system", "user"] {
        let text = unit(kind);
        let set: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        assert_eq!(
            (set["Type"], set["WatchdogSec"], set["Restart"]),
            ("notify", "30s", "on-failure"),
            "{kind}"
        );
        let mut words = set["ExecStart"].split(' ');
        assert!(words.next().is_some_and(|program| program.ends_with("/treecast")), "{kind}");
        assert_eq!(words.next(), Some("up"), "{kind}");
        // `config` takes what `up` takes.
        let manager = Manager::new(&format!("unit-{kind}"));
        let words: Vec<&str> = ["config"].into_iter().chain(words).collect();
        assert!(manager.scratch.command("a", &words).status().expect("runs").success(), "{kind}: {words:?}");
    }
}

/// Skipped where there is no systemd.
#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("There is no `systemd-analyze` here: skipped.");
        return;
    }
    for (kind, option) in [("system", "--system"), ("user", "--user")] {
        let manager = Manager::new(&format!("verify-{kind}"));
        let program = format!("ExecStart={} up", env!("CARGO_BIN_EXE_treecast"));
        let lines = unit(kind);
        let lines = lines.lines().map(|line| if line.starts_with("ExecStart=") { &program } else { line });
        let file = manager.scratch.dir.join("treecast.service");
        std::fs::write(&file, lines.collect::<Vec<_>>().join("\n")).expect("written");
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no", option]).arg(&file).env("XDG_RUNTIME_DIR", &manager.scratch.dir);
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        let about_us: Vec<&str> = said.lines().filter(|line| line.contains("treecast")).collect();
        assert!(output.status.success() && about_us.is_empty(), "{kind}: {said}");
    }
}
