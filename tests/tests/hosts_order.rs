//! Total order among real processes: all see one sequence, kills and an absent founder included.

use std::time::{Duration, Instant};

use serde_json::Value;
use treecast_tests::hosts::{Host, Lab, Process, Run, tell, until};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// What `sub` shows of a message, apart from nicks and times.
type Line = (u64, String, u64, u64, u64, String);

fn up(host: &Host) -> Process {
    let node = host.treecast(&["up", "--serve-after", "3s"]);
    node.wait("it is up", |line| line["type"] == "ready");
    node
}

/// The line that a command answers with.
fn answer(host: &Host, args: &[&str]) -> Value {
    let Run { code, out, err, .. } = host.run(args, b"");
    assert_eq!(code, Some(0), "{args:?}: {err:?}");
    out.into_iter().next().expect("a line")
}

/// A group of the default order that all hosts are in; the first has founded it.
fn found(hosts: &[Host]) {
    found_keeping(hosts, &[]);
}

/// With bounds of what is kept.
fn found_keeping(hosts: &[Host], retain: &[&str]) {
    let made = answer(&hosts[0], &[&["group", "create", "garden"], retain].concat());
    assert_eq!(made["order"], "total");
    let ticket = made["ticket"].as_str().expect("a ticket");
    for host in &hosts[1..] {
        answer(host, &["group", "join", ticket]);
    }
    for host in hosts {
        until(LONG, "all have met", || {
            let group = answer(host, &["group", "show", "garden"]);
            let met = group["members"].as_array()?.iter().filter(|it| it["state"] == "online").count();
            (met == hosts.len() && group["epoch"].as_u64() > Some(0)).then_some(())
        });
    }
}

/// Says so many lines as fast as it goes; the process ends when they are taken.
fn talk(host: &Host, from: usize, count: usize) -> Process {
    let lines: String =
        (from..from + count).map(|line| format!("h{} line {line}\n", host.number())).collect();
    let script = format!("printf '{lines}' | $TREECAST pub garden --wait all --timeout 60s");
    host.shell(&script)
}

/// All that has a place, by `sub --since`.
fn sequence(host: &Host, since: &str, count: usize) -> Vec<Line> {
    let count = count.to_string();
    let run = host.run(&["sub", "garden", "--since", since, "--count", &count, "--timeout", "60s"], b"");
    assert_eq!(run.code, Some(0), "h{}: {:?}", host.number(), run.err);
    run.of_type("message").into_iter().map(line).collect()
}

fn line(message: &Value) -> Line {
    assert_eq!(message["tentative"], false, "{message}");
    let number = |key: &str| message[key].as_u64().unwrap_or_else(|| panic!("{key} in {message}"));
    let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
    (number("index"), text("source"), number("life"), number("seq"), number("n"), text("text"))
}

/// Waits until so many decide.
fn committee_of(host: &Host, members: usize) {
    let epoch = until(LONG, "a committee", || {
        let group = answer(host, &["group", "show", "garden"]);
        let is_so = group["committee"].as_array().is_some_and(|it| it.len() == members);
        is_so.then(|| group["epoch"].clone())
    });
    tell(&format!("a committee of {members} decides, in epoch {epoch}"));
}

/// All of them see the same, one message a place from the first on.
fn agree(hosts: &[Host], count: usize) -> Vec<Line> {
    let all: Vec<Vec<Line>> = hosts.iter().map(|host| sequence(host, "start", count)).collect();
    let places: Vec<u64> = all[0].iter().map(|it| it.0).collect();
    assert_eq!(places, (0..count as u64).collect::<Vec<_>>(), "one message a place");
    for (host, seen) in hosts.iter().zip(&all) {
        assert_eq!(seen, &all[0], "h{}", host.number());
    }
    all.into_iter().next().expect("some hosts")
}

#[test]
fn all_see_one_sequence_although_one_is_killed() {
    let Some(lab) = Lab::new(3) else { return };
    let hosts = lab.hosts();
    let mut nodes: Vec<Process> = hosts.iter().map(up).collect();
    found(hosts);
    // Who listens all the time sees it in that order as well.
    let listening = hosts[1].treecast(&["sub", "garden", "--since", "start"]);
    let talking: Vec<Process> = hosts.iter().map(|host| talk(host, 0, 100)).collect();
    for talk in talking {
        assert_eq!(talk.ended().code, Some(0));
    }
    let first = agree(hosts, 300);
    let mixed = first.windows(2).filter(|two| two[0].1 != two[1].1).count();
    tell(&format!("300 lines of three that talk at once: {mixed} changes of the author"));
    until(LONG, "the listener has all", || (listening.messages().len() == 300).then_some(()));
    let heard: Vec<Line> = listening
        .said()
        .iter()
        .filter(|(_, line)| line["type"] == "message")
        .map(|(_, message)| line(message))
        .collect();
    assert_eq!(heard, first);
    assert_eq!(sequence(&hosts[2], "120", 180), first[120..], "from an index on");

    // By now all three decide: any of them may be killed, and the order goes on.
    committee_of(&hosts[0], 3);
    nodes.remove(2).kill();
    let talking: Vec<Process> = hosts[..2].iter().map(|host| talk(host, 100, 50)).collect();
    for talk in talking {
        assert_eq!(talk.ended().code, Some(0));
    }
    nodes.push(up(&hosts[2]));
    let second = agree(hosts, 400);
    assert_eq!(second[..300], first, "what has its place keeps it");
    let found = answer(&hosts[2], &["search", "line 149", "--group", "garden"]);
    assert!(found["index"].as_u64() >= Some(300), "{found}");
    let kept = hosts[2].run(&["history", "garden", "--limit", "5"], b"");
    let kept: Vec<Line> = kept.of_type("message").into_iter().map(line).collect();
    assert_eq!(kept, second[395..]);
    let group = answer(&hosts[0], &["group", "show", "garden"]);
    assert_eq!((&group["stalled"], &group["index"]), (&Value::Null, &400.into()), "{group}");

    // The founder, too.
    committee_of(&hosts[1], 3);
    nodes.remove(0).kill();
    assert_eq!(talk(&hosts[1], 150, 50).ended().code, Some(0));
    let third = agree(&hosts[1..], 450);
    assert_eq!(third[..400], second);
    nodes.push(up(&hosts[0]));
    assert_eq!(agree(hosts, 450), third);
}

/// The founder alone keeps the order going, as the others do not run as services: while it is away they go on
/// tentatively.
#[test]
fn without_the_founder_others_go_on_tentatively_and_settle_when_it_is_back() {
    let Some(lab) = Lab::new(3) else { return };
    let hosts = lab.hosts();
    let late = |host: &Host| {
        let node = host.treecast(&["up", "--serve-after", "1h"]);
        node.wait("it is up", |line| line["type"] == "ready");
        node
    };
    let founder = late(&hosts[0]);
    let _others: Vec<Process> = hosts[1..].iter().map(late).collect();
    found(hosts);
    assert_eq!(talk(&hosts[1], 0, 5).ended().code, Some(0));
    agree(hosts, 5);
    let watching = hosts[2].treecast(&["sub", "garden", "--tentative", "--since", "start"]);
    watching.wait_text("h2 line 4");
    assert_eq!(founder.stop().code, Some(0));

    assert_eq!(talk(&hosts[1], 5, 5).ended().code, Some(0));
    let is_tentative = |line: &Value, text: &str| line["tentative"] == true && line["text"] == text;
    watching.wait("a tentative line", |line| is_tentative(line, "h2 line 9"));
    let (_, stalled) = watching.wait("the order stands still", |line| line["type"] == "order");
    assert_eq!((&stalled["event"], stalled["reason"].is_string()), (&"stalled".into(), true), "{stalled}");
    for host in &hosts[1..] {
        until(LONG, "the reason is shown", || {
            let group = answer(host, &["group", "show", "garden"]);
            group["stalled"].as_str().filter(|why| why.contains("majority")).map(|_| ())
        });
    }
    let settled = hosts[2].run(&["history", "garden"], b"");
    assert_eq!(settled.of_type("message").len(), 5, "only what has its place");

    let _founder = late(&hosts[0]);
    watching.wait("the order goes on", |line| line["type"] == "order" && line["event"] == "resumed");
    let all = agree(hosts, 10);
    let texts: Vec<&str> = all[5..].iter().map(|it| it.5.as_str()).collect();
    assert_eq!(texts, ["h2 line 5", "h2 line 6", "h2 line 7", "h2 line 8", "h2 line 9"]);
    for text in texts {
        let twice: Vec<bool> = watching
            .said()
            .iter()
            .filter(|(_, line)| line["text"] == text)
            .map(|(_, line)| line["tentative"] == true)
            .collect();
        assert_eq!(twice, [true, false], "{text}");
    }
}

/// The records of the order are kept no longer than what was said.
#[test]
fn who_was_away_for_longer_than_is_kept_goes_on_where_the_others_stand() {
    let Some(lab) = Lab::new(3) else { return };
    let hosts = lab.hosts();
    let mut nodes: Vec<Process> = hosts.iter().map(up).collect();
    found_keeping(hosts, &["--retain", "50"]);
    assert_eq!(talk(&hosts[1], 0, 20).ended().code, Some(0));
    agree(hosts, 20);
    nodes.remove(2).kill();
    for part in 0..10 {
        assert_eq!(talk(&hosts[1], 20 + 50 * part, 50).ended().code, Some(0));
    }
    // What is kept in memory goes with the processes.
    nodes.into_iter().for_each(Process::kill);
    let _others: Vec<Process> = hosts[..2].iter().map(up).collect();
    let group = until(LONG, "the others are back", || {
        let group = answer(&hosts[0], &["group", "show", "garden"]);
        (group["index"] == 520 && group["stalled"].is_null()).then_some(group)
    });
    tell(&format!("the others stand at {}", group["index"]));
    let _late = up(&hosts[2]);
    let listening = hosts[2].treecast(&["sub", "garden"]);
    let (_, lagged) = listening.wait("what was missed is told", |line| line["type"] == "lagged");
    assert!(lagged["missed"].as_u64() > Some(400), "{lagged}");
    assert_eq!(talk(&hosts[1], 600, 5).ended().code, Some(0));
    listening.wait_text("h2 line 604");
    let ends: Vec<Vec<Line>> = hosts.iter().map(|host| sequence(host, "520", 5)).collect();
    assert_eq!(ends[0].iter().map(|it| it.0).collect::<Vec<_>>(), [520, 521, 522, 523, 524]);
    assert!(ends.iter().all(|it| *it == ends[0]), "{ends:?}");
    assert_eq!(talk(&hosts[2], 0, 5).ended().code, Some(0));
    assert_eq!(sequence(&hosts[0], "525", 5), sequence(&hosts[2], "525", 5));
}

/// The founder and four that serve with it; three of those never come back.
#[test]
fn a_group_whose_committee_is_lost_goes_on_in_another() {
    let Some(lab) = Lab::new(5) else { return };
    let hosts = lab.hosts();
    let (founder, other) = (&hosts[0], &hosts[1]);
    let mut nodes: Vec<Process> = hosts.iter().map(up).collect();
    found(hosts);
    committee_of(founder, 5);
    assert_eq!(talk(other, 0, 3).ended().code, Some(0));
    let before = agree(hosts, 3);
    let refused = founder.run(&["group", "recover", "garden"], b"");
    assert_eq!(
        (refused.code, &refused.error("not-lost")["what"]),
        (Some(6), &"The group was not recovered.".into())
    );

    nodes.split_off(2).into_iter().for_each(Process::kill);
    until(LONG, "they are missed", || {
        let group = answer(founder, &["group", "show", "garden"]);
        let failed = group["members"].as_array()?.iter().filter(|it| it["state"] == "failed").count();
        (failed == 3).then_some(())
    });
    assert_eq!(founder.run(&["pub", "garden", "without a place", "--wait", "1"], b"").code, Some(0));
    let refused = other.run(&["group", "recover", "garden"], b"");
    assert_eq!((refused.code, refused.error("not-founder")["code"].is_string()), (Some(6), true));

    let listening = other.treecast(&["sub", "garden", "--tentative"]);
    listening.wait_text("without a place");
    let next = answer(founder, &["group", "recover", "garden"]);
    assert_eq!((&next["order"], &next["founder"]), (&"total".into(), &founder.node_id().into()));
    let name = next["name"].as_str().expect("a name");
    assert!(name.starts_with("garden~"), "{name}");
    // Who is in the old group is told there where it goes on.
    let is_word = |line: &Value| line["text"].as_str().is_some_and(|it| it.contains("group join treecast1"));
    let (_, word) = listening.wait("where it goes on", is_word);
    let (_, ticket) =
        word["text"].as_str().and_then(|it| it.split_once("group join ")).expect("looked at above");
    assert_eq!(answer(other, &["group", "join", ticket])["id"], next["id"]);
    assert_eq!(other.run(&["pub", name, "here", "--wait", "1"], b"").code, Some(0));
    for host in &hosts[..2] {
        let run = host.run(&["sub", name, "--since", "start", "--count", "1", "--timeout", "60s"], b"");
        let lines: Vec<Line> = run.of_type("message").into_iter().map(line).collect();
        assert_eq!((lines[0].0, lines[0].5.as_str()), (3, "here"), "it counts on");
        assert_eq!(sequence(host, "start", 3), before, "what had its place keeps it");
    }

    // Those that were thought lost come back, and the old group goes on: who is in both groups sees what that is.
    let _back: Vec<Process> = hosts[2..].iter().map(up).collect();
    let has_its_place = |line: &Value| line["text"] == "without a place" && line["tentative"] == false;
    let (_, late) = listening.wait("it has a place after all", has_its_place);
    assert_eq!((late["index"].as_u64() >= Some(3), &late["forked"]), (true, &true.into()), "{late}");
    let marks = |host: &Host| {
        let run = host.run(&["history", "garden"], b"");
        let all = run.of_type("message").into_iter();
        all.map(|it| (it["index"].as_u64() >= Some(3), it["forked"] == true)).collect::<Vec<_>>()
    };
    let both = marks(founder);
    assert!(both.len() > 3 && both.iter().all(|(is_late, forked)| is_late == forked), "{both:?}");
    assert!(
        marks(&hosts[2]).iter().all(|(_, forked)| !forked),
        "who is in the old group alone goes on in it"
    );
}

/// How long two lines of a kind are apart at most.
fn longest_pause(heard: &[(Instant, Value)], tentative: bool) -> Duration {
    let of_kind = |line: &&(Instant, Value)| line.1["type"] == "message" && line.1["tentative"] == tentative;
    let at: Vec<Instant> = heard.iter().filter(of_kind).map(|it| it.0).collect();
    at.windows(2).map(|two| two[1] - two[0]).max().unwrap_or_default()
}

/// Who leads the committee dies while two talk: all keep talking, and what is heard gets its places soon.
#[test]
fn the_order_goes_on_when_its_leader_is_killed_under_load() {
    const LINES: usize = 600;
    let Some(lab) = Lab::new(5) else { return };
    let hosts = lab.hosts();
    let mut nodes: Vec<Option<Process>> = hosts.iter().map(|host| Some(up(host))).collect();
    found(hosts);
    committee_of(&hosts[0], 5);
    let leads = |host: &Host| answer(&hosts[0], &["group", "show", "garden"])["leader"] == *host.node_id();
    let leader = until(LONG, "a leader", || hosts.iter().position(leads));
    let others: Vec<&Host> = hosts.iter().enumerate().filter(|it| it.0 != leader).map(|it| it.1).collect();
    let listening = others[2].treecast(&["sub", "garden", "--tentative"]);
    let talking: Vec<Process> = others[..2]
        .iter()
        .map(|host| {
            let line = format!("h{} $i", host.number());
            let script =
                format!("for i in $(seq {LINES}); do echo {line}; sleep 0.01; done | $TREECAST pub garden");
            host.shell(&script)
        })
        .collect();
    let ordered = |heard: &[(Instant, Value)]| {
        heard.iter().filter(|it| it.1["type"] == "message" && it.1["tentative"] == false).count()
    };
    until(LONG, "they talk", || (ordered(&listening.said()) >= LINES / 3).then_some(()));
    nodes[leader].take().expect("it runs").kill();
    for talk in talking {
        assert_eq!(talk.ended().code, Some(0));
    }
    until(LONG, "all has its place", || (ordered(&listening.said()) == 2 * LINES).then_some(()));
    let heard = listening.said();
    let (settled, tentative) = (longest_pause(&heard, false), longest_pause(&heard, true));
    tell(&format!("leader killed: the order stood for {settled:?} at most, talk for {tentative:?}"));
    let all: Vec<Vec<Line>> = others.iter().map(|host| sequence(host, "start", 2 * LINES)).collect();
    assert!(all.iter().all(|it| *it == all[0]), "one sequence");
}
