//! What is said of a process that is there and does not answer: it was stopped, and still holds
//! its data directory, its ports and its connections.
#![cfg(unix)]

mod common;

use std::time::{Duration, Instant};

use common::{Scratch, error};

#[test]
fn a_node_that_does_not_answer_is_named_and_nobody_waits_long() {
    let scratch = Scratch::telling_json("node");
    let (node, _) = scratch.ready("a", &[]);
    node.signal("-STOP");
    let pid = node.child.id().to_string();
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
    let scratch = Scratch::telling_json("ping");
    let (_one, ready) = scratch.ready("a", &[]);
    let target = ready["node"].as_str().expect("its id").to_owned();
    let (two, other) = scratch.ready("b", &["--peer", ready["addresses"][0].as_str().expect("an address")]);
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
