//! Ten hosts, a node each: 20,000 messages that one hands over at once arrive whole everywhere.

use std::fmt::Write;
use std::time::Duration;

use treecast_tests::hosts::{Lab, Process, lines_of, tell, until};

const HOSTS: usize = 10;

/// Messages in the burst.
const BURST: usize = 20_000;

/// Bytes of each.
const SIZE: usize = 1_024;

/// Generous: ten processes that print 20,000 lines each share whatever the machine has.
const PATIENCE: Duration = Duration::from_secs(240);

#[test]
fn a_burst_of_20_000_arrives_whole_everywhere() {
    let Some(lab) = Lab::new(HOSTS) else { return };
    let (source, others) = lab.hosts().split_first().expect("there are ten");
    let up = source.treecast(&["up", "--group", "lobby"]);
    up.wait("that it is ready", |line| line["type"] == "ready");
    let listeners: Vec<Process> = others.iter().map(|host| host.treecast(&["sub", "lobby"])).collect();
    until(PATIENCE, "one tree of ten", || {
        let run = source.run(&["pub", "lobby", "roll call", "--wait", "9", "--timeout", "2s"], b"");
        (run.code == Some(0)).then_some(())
    });

    let lines = (0..BURST).fold(String::new(), |mut lines, number| {
        let start = lines.len();
        write!(lines, "burst {number} ").expect("a string takes all");
        lines.extend(std::iter::repeat_n('.', SIZE - (lines.len() - start)));
        lines.push('\n');
        lines
    });
    let began = std::time::Instant::now();
    let run = source.run(&["pub", "lobby"], lines.as_bytes());
    assert_eq!(run.code, Some(0), "{:?}", run.err);
    assert_eq!(run.of_type("receipt").len(), BURST);
    tell(&format!("handed over after {} ms", began.elapsed().as_millis()));

    let expected: Vec<&str> = lines.lines().collect();
    for (host, listener) in others.iter().zip(listeners) {
        until(PATIENCE, "the whole burst", || (bursts(&listener).len() >= BURST).then_some(()));
        let last = listener.messages().last().expect("there are many").at;
        tell(&format!("h{} has all after {} ms", host.number(), last.duration_since(began).as_millis()));
        assert!(bursts(&listener) == expected, "h{}: not each line once and in order", host.number());
        let troubles = listener
            .said()
            .iter()
            .filter(|(_, line)| line["type"] == "lagged" || line["type"] == "gap")
            .count();
        assert_eq!(troubles, 0, "h{} was told of messages that it misses", host.number());
        assert_eq!(listener.stop().code, Some(0));
    }
    assert_eq!(up.stop().code, Some(0));
}

/// The lines of the burst that a listener was shown, as they came.
fn bursts(listener: &Process) -> Vec<String> {
    let by_author = lines_of("a listener", &listener.messages());
    by_author.into_values().flatten().filter(|line| line.starts_with("burst")).collect()
}
