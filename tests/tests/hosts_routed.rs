//! Three networks with routers between them and no multicast across: members who know only a node
//! that is not in their group find each other through Kademlia.

use std::time::{Duration, Instant};

use treecast_tests::hosts::{Host, Lab, Process, tell};

/// Fifteen seconds are promised; a loaded machine is no broken promise.
const MEET_WITHIN: Duration = Duration::from_secs(45);

const HELPER: &str = "/ip4/10.79.0.3/tcp/4001";

fn up(host: &Host, args: &[&str]) -> Process {
    let up = host.treecast(&[&["up"], args].concat());
    up.wait("that it is ready", |line| line["type"] == "ready");
    up
}

/// Its group as it says, with this key.
fn group(host: &Host, args: &[&str], key: &str) -> String {
    let run = host.run(&[&["group"], args].concat(), b"");
    assert_eq!(run.code, Some(0), "{run:?}");
    let lines = run.of_type("group");
    lines[0][key].as_str().unwrap_or_else(|| panic!("no `{key}` in {run:?}")).to_owned()
}

#[test]
fn members_meet_through_a_node_that_never_knows_their_group() {
    let Some(lab) = Lab::routed(&[1, 1, 1]) else { return };
    let [one, two, three] = lab.hosts() else { unreachable!("three were asked for") };
    let helper = up(three, &["--listen", HELPER]);

    let first = up(one, &["--peer", HELPER, "--listen", "/ip4/10.77.0.1/tcp/5001"]);
    let ticket = group(one, &["create", "club"], "ticket");
    let id = group(one, &["show", "club"], "id");
    assert_eq!(first.stop().code, Some(0));
    // Where the ticket says, nobody is any more.
    let first = up(one, &["--peer", HELPER, "--listen", "/ip4/10.77.0.1/tcp/5002"]);
    let heard = one.treecast(&["sub", "club"]);

    let second = up(two, &["--peer", HELPER]);
    assert_eq!(group(two, &["join", &ticket], "name"), "club");
    let joined = Instant::now();
    let mut chat = two.treecast(&["chat", "club"]);
    chat.say("found you");
    let met = heard.wait_text("found you").saturating_duration_since(joined);
    tell(&format!("met through Kademlia after {} ms", met.as_millis()));
    let answer = one.run(&["pub", "club", "and I you", "--wait", "all"], b"");
    assert_eq!(answer.code, Some(0), "{answer:?}");
    chat.wait_text("and I you");
    assert!(met < MEET_WITHIN, "it took {met:?}");

    // The second comes back at another port as well, and neither is told.
    drop(chat);
    assert_eq!(second.stop().code, Some(0));
    let second = up(two, &["--peer", HELPER, "--listen", "/ip4/10.78.0.2/tcp/5003"]);
    let mut chat = two.treecast(&["chat", "club"]);
    chat.say("moved");
    heard.wait_text("moved");

    knows_nothing(three, &id);
    drop(chat);
    for process in [heard, second, first, helper] {
        let run = process.stop();
        assert_eq!(run.code, Some(0), "{:?}", run.err);
    }
}

/// The helper has records, and neither the group's name nor its id.
fn knows_nothing(helper: &Host, id: &str) {
    let run = helper.run(&["status"], b"");
    let status = run.of_type("status")[0].clone();
    assert_eq!(status["groups"].as_array().map(Vec::len), Some(0), "{status}");
    let records = status["collections"]["kad/provider_records"]["len"].as_u64();
    assert!(records >= Some(2), "{status}");
    assert!(helper.run(&["group", "ls"], b"").of_type("group").is_empty());
    let raw: Vec<u8> = (0..id.len() / 2)
        .map(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).expect("an id is hexadecimal"))
        .collect();
    for entry in helper.data_dir().read_dir().expect("its node has made it").flatten() {
        let Ok(bytes) = std::fs::read(entry.path()) else { continue };
        for secret in [b"club".as_slice(), id.as_bytes(), &raw] {
            let leaks = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!leaks, "{} tells the group", entry.path().display());
        }
    }
}

#[test]
fn without_kademlia_nobody_meets() {
    let Some(lab) = Lab::routed(&[1, 1, 1]) else { return };
    let [one, two, three] = lab.hosts() else { unreachable!("three were asked for") };
    let _helper = up(three, &["--listen", HELPER]);
    let _first = up(one, &["--peer", HELPER, "--listen", "/ip4/10.77.0.1/tcp/5001"]);
    let ticket = group(one, &["create", "club"], "ticket");
    drop(_first);
    let _first = up(one, &["--peer", HELPER, "--listen", "/ip4/10.77.0.1/tcp/5002"]);
    let _second = up(two, &["--peer", HELPER, "--no-kad"]);
    group(two, &["join", &ticket], "name");
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(group(two, &["show", "club"], "state"), "waiting");
}
