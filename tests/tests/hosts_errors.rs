//! What goes wrong on real hosts: said in three parts, with the exit codes of the contract, nothing
//! else lost.

use std::time::Duration;

use serde_json::Value;
use treecast_tests::hosts::{Host, Lab, Run, lines_of, tell};

/// The error with this code, which has all three parts.
fn three_parts<'a>(run: &'a Run, code: &str) -> &'a Value {
    let error = run.error(code);
    for part in ["what", "why", "fix"] {
        assert!(error[part].as_str().is_some_and(|text| !text.is_empty()), "no `{part}` in {error}");
    }
    error
}

/// All words of an error.
fn words(error: &Value) -> String {
    ["what", "why", "fix"].map(|part| error[part].as_str().unwrap_or_default()).join(" ")
}

#[test]
fn alone_without_mdns_says_so_and_keeps_trying() {
    let Some(lab) = Lab::new(2) else { return };
    let [one, two] = lab.hosts() else { unreachable!("two were asked for") };
    // Another node is on the LAN, but nobody looks for it.
    let other = two.treecast(&["sub", "lobby", "--listen", "/ip4/10.77.0.2/tcp/4001"]);
    two.node_id();
    let mut lonely = one.treecast(&["chat", "lobby", "--no-mdns"]);
    let started = lonely.started();
    let (at, warning) = lonely.wait_complaint("nobody being there", |line| line["code"] == "nobody-found");
    let took = at.duration_since(started);
    tell(&format!("alone: said after {:.1} s", took.as_secs_f32()));
    assert!(took >= Duration::from_secs(9), "nobody looks properly in {took:?}");
    assert!(words(&warning).contains("--peer"), "{warning}");
    assert!(!lonely.has_ended(), "it keeps trying");
    assert!(other.messages().is_empty());
    drop(lonely);

    let mut by_hand = one.treecast(&["chat", "lobby", "--no-mdns", "--peer", "/ip4/10.77.0.2/tcp/4001"]);
    by_hand.say("found by hand");
    other.wait_text("found by hand");
}

#[test]
fn a_peer_that_comes_late_is_found() {
    let Some(lab) = Lab::new(2) else { return };
    let [one, two] = lab.hosts() else { unreachable!("two were asked for") };
    let mut early = one.treecast(&["chat", "lobby", "--no-mdns", "--peer", "/ip4/10.77.0.2/tcp/4001"]);
    early.say("said to nobody yet");
    std::thread::sleep(Duration::from_secs(3));
    let late = two.treecast(&["sub", "lobby", "--listen", "/ip4/10.77.0.2/tcp/4001"]);
    late.wait_text("said to nobody yet");
}

#[test]
fn taken_ports_and_second_nodes_are_named() {
    let Some(lab) = Lab::new(1) else { return };
    let [host] = lab.hosts() else { unreachable!("one was asked for") };
    let up = host.treecast(&["up", "--listen", "/ip4/0.0.0.0/tcp/4001"]);
    up.wait("that it is ready", |line| line["type"] == "ready");

    let second = host.run(&["up"], b"");
    assert_eq!(second.code, Some(3), "{second:?}");
    let error = three_parts(&second, "already-running");
    assert!(words(error).contains(&up.pid().to_string()), "the process is not named: {error}");
    let attached = host.run(&["sub", "lobby", "--listen", "/ip4/0.0.0.0/tcp/4002"], b"");
    assert_eq!(attached.code, Some(2), "{attached:?}");

    let other = host.folder().join("other");
    let other = other.to_str().expect("our own path is text");
    let taken =
        host.bare(&["--json", "--data-dir", other, "up", "--listen", "/ip4/0.0.0.0/tcp/4001"]).finish(b"");
    assert!(taken.code.is_some_and(|code| code > 1), "{taken:?}");
    let error = three_parts(&taken, "port-taken");
    assert!(words(error).contains("4001") && words(error).contains("--listen"), "{error}");

    let down = host.run(&["down"], b"");
    assert_eq!(down.code, Some(0), "{down:?}");
    assert_eq!(up.ended().code, Some(0));
    let gone = host.run(&["status"], b"");
    assert_eq!(gone.code, Some(3), "{gone:?}");
    three_parts(&gone, "no-node");
    assert_eq!(host.run(&["down"], b"").code, Some(3));
}

#[test]
fn a_port_that_is_remembered_but_taken_is_no_obstacle() {
    let Some(lab) = Lab::new(1) else { return };
    let [host] = lab.hosts() else { unreachable!("one was asked for") };
    let ports = || {
        let up = host.treecast(&["up"]);
        let (_, ready) = up.wait("that it is ready", |line| line["type"] == "ready");
        let addresses = ready["addresses"].to_string();
        let port = addresses.split("/tcp/").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
        (up, port.expect("a TCP address"))
    };
    let (up, first) = ports();
    up.kill();
    let (up, second) = ports();
    assert_eq!(first, second, "the port is remembered, also after a kill");
    drop(up);
    let squatter = host.folder().join("squatter");
    let address = format!("/ip4/0.0.0.0/tcp/{first}");
    let squatter = ["--json", "--data-dir", squatter.to_str().expect("text"), "up", "--listen", &address];
    let squatter = host.bare(&squatter);
    squatter.wait("that it is ready", |line| line["type"] == "ready");
    let (_up, third) = ports();
    assert_ne!(first, third);
}

#[test]
fn data_directories_that_cannot_be_are_refused() {
    let Some(lab) = Lab::new(1) else { return };
    let [host] = lab.hosts() else { unreachable!("one was asked for") };
    std::fs::write(host.data_dir(), "a file in its place").expect("the host's folder can be written");
    let refused = host.run(&["up"], b"");
    not_writable(host, &refused);
    std::fs::remove_file(host.data_dir()).expect("just written");
    // `ip netns exec` has a mount namespace of its own: nobody else sees this.
    let read_only = "mkdir -p $DATA && mount -t tmpfs -o ro none $DATA && exec $TREECAST up";
    let refused = host.shell(read_only).finish(b"");
    not_writable(host, &refused);
    let full = "mkdir -p $DATA && mount -t tmpfs -o size=4k none $DATA && cat /dev/zero >$DATA/big 2>&-; exec $TREECAST up";
    let refused = host.shell(full).finish(b"");
    not_writable(host, &refused);
}

fn not_writable(host: &Host, run: &Run) {
    assert!(run.code.is_some_and(|code| code > 1), "{run:?}");
    let error =
        run.err.iter().find(|line| line["type"] == "error").unwrap_or_else(|| panic!("no error: {run:?}"));
    let error = three_parts(run, error["code"].as_str().expect("every error has a code"));
    let names_it = words(error).contains(host.data_dir().to_str().expect("text"));
    assert!(names_it && words(error).contains("--data-dir"), "{error}");
}

#[test]
fn any_bytes_arrive_as_they_are() {
    let Some(lab) = Lab::new(2) else { return };
    let [one, two] = lab.hosts() else { unreachable!("two were asked for") };
    let sub = one.treecast(&["sub", "lobby"]);
    one.node_id();
    const MIB: usize = 1 << 20;
    let mut input = Vec::new();
    let mut lines: Vec<Vec<u8>> = vec![
        b"first".to_vec(),
        b"a\0b".to_vec(),
        vec![0xff, 0xfe, 0x00, 0x80],
        (1..=255).filter(|byte| *byte != b'\n').collect(),
        Vec::new(),
        b"\r".to_vec(),
        "\u{202e}\u{1b}[31m\u{7}".into(),
        b"{\"type\":\"message\",\"text\":\"no\"}".to_vec(),
        vec![b'x'; MIB],
        vec![0; MIB],
    ];
    lines.extend((0..200).map(|number| format!("after {number}").into_bytes()));
    for line in &lines[..9] {
        input.extend_from_slice(line);
        input.push(b'\n');
    }
    // Too long: refused, the rest goes on.
    input.extend(vec![b'y'; MIB + 1]);
    input.push(b'\n');
    for line in &lines[9..] {
        input.extend_from_slice(line);
        input.push(b'\n');
    }
    let run = two.run(&["pub", "lobby", "--wait", "1", "--timeout", "60s"], &input);
    assert_eq!(run.code, Some(2), "{:?}", run.err);
    let error = three_parts(&run, "too-long");
    assert!(words(error).contains("Line 10"), "{error}");
    assert_eq!(run.of_type("receipt").len(), lines.len());
    sub.wait_text("after 199");
    let shown = lines_of("the listener", &sub.messages());
    let shown = shown.values().next().expect("one author");
    assert_eq!(shown.len(), lines.len());
    for (shown, line) in shown.iter().zip(&lines) {
        let expected = String::from_utf8(line.clone()).unwrap_or_else(|error| base64(error.as_bytes()));
        assert!(*shown == expected, "a line of {} bytes was harmed", line.len());
    }
}

/// RFC 4648 §4, as the contract shows what is no text.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place) & 63) as usize;
            text.push(if place <= chunk.len() { ALPHABET[sextet] as char } else { '=' });
        }
    }
    text
}

#[test]
fn pipes_that_close_early_end_quietly() {
    let Some(lab) = Lab::new(2) else { return };
    let [one, two] = lab.hosts() else { unreachable!("two were asked for") };
    let up = one.treecast(&["up", "--group", "lobby"]);
    up.wait("that it is ready", |line| line["type"] == "ready");
    let listener = two.treecast(&["sub", "lobby"]);
    // The exit code of `sub` itself is what counts, so it goes to stderr.
    let first_only = "( $TREECAST sub lobby; echo \"\\\"code $?\\\"\" >&2 ) | head -n 1";
    let reader = one.shell(first_only);
    one.run(&["id"], b"");
    let talk = two.shell("for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.3; done | $TREECAST pub lobby");
    let run = reader.ended();
    assert_eq!(run.err, ["code 0"], "{run:?}");
    assert_eq!(run.out.len(), 1);
    assert_eq!(talk.ended().code, Some(0));

    let full = one.shell("$TREECAST status >/dev/full").finish(b"");
    assert_eq!(full.code, Some(8), "{full:?}");
    let closed = one.shell("seq 1 100000 | $TREECAST pub lobby | head -n 3").finish(b"");
    assert_eq!(closed.of_type("receipt").len(), 3);
    drop(listener);
    let no_stdin = one.shell("exec $TREECAST chat lobby </dev/null").finish(b"");
    assert_eq!(no_stdin.code, Some(0), "{no_stdin:?}");
    let run = up.stop();
    assert_eq!(run.code, Some(0), "{run:?}");
}

#[test]
fn stopping_is_no_failure() {
    let Some(lab) = Lab::new(1) else { return };
    let [host] = lab.hosts() else { unreachable!("one was asked for") };
    for signal in ["TERM", "INT"] {
        for verb in [&["up"][..], &["sub", "lobby"], &["chat", "lobby"]] {
            let process = host.treecast(verb);
            host.node_id();
            process.signal(signal);
            let run = process.ended();
            assert_eq!(run.code, Some(0), "{verb:?} after {signal}: {run:?}");
        }
    }
    let talking = host.treecast(&["pub", "lobby"]);
    host.node_id();
    talking.signal("INT");
    assert_eq!(talking.ended().code, Some(130));
}
