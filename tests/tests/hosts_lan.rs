//! Three hosts on one LAN, nothing set up: they find each other, and bursts arrive whole.

use std::time::Duration;

use treecast_tests::hosts::{Host, Lab, PATIENCE, Process, lines_of, numbered, tell, until};

/// Lines that each host publishes at once.
const BURST: usize = 2_000;

/// What the first words may take; two seconds are promised, and a loaded machine is no broken promise.
const FIRST_WORDS: Duration = Duration::from_secs(10);

#[test]
fn three_hosts_find_each_other_and_bursts_arrive_whole() {
    let Some(lab) = Lab::new(3) else { return };
    let [one, two, three] = lab.hosts() else { unreachable!("three were asked for") };

    let sub = one.treecast(&["sub", "lobby"]);
    one.node_id();
    let mut chat = two.treecast(&["chat", "lobby"]);
    chat.say("anybody there?");
    let took = sub.wait_text("anybody there?").duration_since(chat.started());
    tell(&format!("first message: {} ms after the second host's start", took.as_millis()));
    assert!(took < FIRST_WORDS, "the first message took {took:?}");

    let run = three.run(&["pub", "lobby", "from a node that comes and goes"], b"");
    assert_eq!(run.code, Some(0), "{run:?}");
    tell(&format!("pub on a third host: done after {} ms", run.took.as_millis()));
    sub.wait_text("from a node that comes and goes");
    chat.wait_text("from a node that comes and goes");

    let up = three.treecast(&["up", "--group", "lobby"]);
    up.wait("that it is ready", |line| line["type"] == "ready");
    let third = three.treecast(&["sub", "lobby"]);
    until(PATIENCE, "a sub that has attached to its node", || {
        // It shows what comes from then on: its own node's words are there when it is.
        let run = three.run(&["pub", "lobby", "are you listening?"], b"");
        assert_eq!(run.code, Some(0), "{run:?}");
        third.said().iter().any(|(_, line)| line["text"] == "are you listening?").then_some(())
    });
    everybody_hears_a_word(&lab, &[&sub, &chat, &third]);
    bursts(&lab, &[&sub, &chat, &third]);
    idle(&[&sub, &chat, &up]);

    chat.close_stdin();
    for process in [third, sub, chat, up] {
        let run = process.stop();
        assert_eq!(run.code, Some(0), "{:?}", run.err);
    }
}

/// From here on all are attached and in one group.
fn everybody_hears_a_word(lab: &Lab, listeners: &[&Process]) {
    for host in lab.hosts() {
        let word = format!("word of h{}", host.number());
        let run = host.run(&["pub", "lobby", &word], b"");
        assert_eq!(run.code, Some(0), "{run:?}");
        for listener in listeners {
            listener.wait_text(&word);
        }
    }
}

fn prefix(host: &Host) -> String {
    format!("burst of h{}", host.number())
}

/// Every host publishes at once; everybody has everything exactly once, each author's in order.
fn bursts(lab: &Lab, listeners: &[&Process]) {
    std::thread::scope(|scope| {
        for host in lab.hosts() {
            scope.spawn(move || {
                let run = host.run(&["pub", "lobby"], numbered(&prefix(host), BURST).as_bytes());
                assert_eq!(run.code, Some(0), "{:?}", run.err);
                assert_eq!(run.of_type("receipt").len(), BURST);
            });
        }
    });
    let all = lab.hosts().len() * BURST;
    for listener in listeners {
        let of_bursts = || listener.messages().iter().filter(|it| it.text.starts_with("burst")).count();
        until(PATIENCE, "the bursts everywhere", || (of_bursts() >= all).then_some(()));
    }
    // What comes twice comes late.
    std::thread::sleep(Duration::from_secs(1));
    for listener in listeners {
        let by_author = lines_of("a listener", &listener.messages());
        for host in lab.hosts() {
            let expected: Vec<String> = numbered(&prefix(host), BURST).lines().map(str::to_owned).collect();
            let heard: Vec<_> = by_author
                .values()
                .flatten()
                .filter(|text| text.starts_with(&prefix(host)))
                .cloned()
                .collect();
            assert_eq!(heard.len(), expected.len());
            assert!(heard == expected, "{}: out of order", prefix(host));
        }
    }
}

/// Nobody talks: nobody works.
fn idle(nodes: &[&Process]) {
    let span = Duration::from_secs(5);
    let before: Vec<_> = nodes.iter().map(|node| node.used().1).collect();
    std::thread::sleep(span);
    for (node, before) in nodes.iter().zip(before) {
        let (rss, after) = node.used();
        let spent = after - before;
        tell(&format!("idle node: {rss} KiB resident, {spent:?} of processor time in {span:?}"));
        assert!(spent < span / 2, "an idle node is busy");
    }
}
