//! Groups that are made on one host and joined on others by their tickets, without multicast: kept
//! across restarts and kills, refused to who is not listed, told where nobody answers.

use std::time::Duration;

use serde_json::Value;
use treecast_overlay::Address;
use treecast_overlay::wire::ticket::Ticket;
use treecast_tests::hosts::{Host, Lab, PATIENCE, Process, Run, tell, until};

/// A node that looks for nobody by itself.
fn up(host: &Host) -> Process {
    let up = host.treecast(&["up", "--no-mdns"]);
    up.wait("that it is ready", |line| line["type"] == "ready");
    up
}

/// The only line of a command that goes well.
fn line(host: &Host, args: &[&str]) -> Value {
    let run = host.run(args, b"");
    assert_eq!(run.code, Some(0), "{args:?}: {run:?}");
    assert_eq!(run.out.len(), 1, "{args:?}: {run:?}");
    run.out[0].clone()
}

fn text<'a>(line: &'a Value, key: &str) -> &'a str {
    line[key].as_str().unwrap_or_else(|| panic!("no text `{key}` in {line}"))
}

/// The error with this code, which has all three parts, and the exit code of the contract.
fn refusal<'a>(run: &'a Run, exit: i32, code: &str) -> &'a Value {
    assert_eq!(run.code, Some(exit), "{run:?}");
    let error = run.error(code);
    for part in ["what", "why", "fix"] {
        assert!(!text(error, part).is_empty(), "no `{part}` in {error}");
    }
    error
}

/// Says it on one host until another has it: neighbours may still be on their way to each other.
fn say(host: &Host, group: &str, words: &str) {
    let run = host.run(&["pub", group, words, "--wait", "1", "--timeout", "40s"], b"");
    assert_eq!(run.code, Some(0), "{words}: {run:?}");
}

/// Says it until the listener shows it: that may only just have attached to its node.
fn hears(listener: &Process, host: &Host, group: &str, words: &str) {
    until(PATIENCE, &format!("{words:?} to be heard"), || {
        say(host, group, words);
        std::thread::sleep(Duration::from_millis(200));
        listener.messages().iter().any(|message| message.text == words).then_some(())
    });
}

#[test]
fn a_ticket_made_on_one_host_is_all_another_needs() {
    let Some(lab) = Lab::new(3) else { return };
    let [one, two, three] = lab.hosts() else { unreachable!("three were asked for") };
    let (first, second) = (up(one), up(two));
    for name in ["项目", "the garden party"] {
        let made = line(one, &["group", "create", name, "--order", "causal"]);
        let joined = line(two, &["group", "join", text(&made, "ticket")]);
        assert_eq!((&joined["id"], text(&joined, "name")), (&made["id"], name));
        let heard = two.treecast(&["sub", name]);
        hears(&heard, one, name, "hello");
    }

    // Both know all of it after a kill, and find each other by what they remember.
    first.kill();
    second.kill();
    let (first, _second) = (up(one), up(two));
    for name in ["项目", "the garden party"] {
        let heard = two.treecast(&["sub", name]);
        hears(&heard, one, name, "again");
    }

    // Who made the group is needed no longer: another's ticket leads to who is there.
    let ticket = line(two, &["invite", "项目"]);
    assert_eq!((&ticket["type"], text(&ticket, "group")), (&"ticket".into(), "项目"));
    assert_eq!(first.stop().code, Some(0));
    let late = three.treecast(&["sub", text(&ticket, "ticket"), "--no-mdns"]);
    three.node_id();
    hears(&late, two, "项目", "for the third");
}

#[test]
fn members_that_do_not_answer_are_counted_and_tried_again() {
    let Some(lab) = Lab::new(3) else { return };
    let [one, two, three] = lab.hosts() else { unreachable!("three were asked for") };
    let (first, second) = (up(one), up(two));
    let made = line(one, &["group", "create", "garden"]);
    line(two, &["group", "join", text(&made, "ticket")]);
    say(two, "garden", "here");
    let ticket = until(PATIENCE, "a ticket with both", || {
        let shown = line(two, &["group", "show", "garden"]);
        let online = shown["members"].as_array()?.iter().filter(|member| member["state"] == "online").count();
        (online == 2).then(|| line(two, &["invite", "garden"]))
    });
    // One machine answers that nobody listens, the other does not answer at all.
    first.kill();
    second.kill();
    lab.plug(two, false);
    let mut late = three.treecast(&["chat", text(&ticket, "ticket"), "--no-mdns"]);
    let (at, warning) = late.wait_complaint("nobody answering", |line| line["code"] == "ticket-unanswered");
    tell(&format!("told after {:.1} s: {}", at.duration_since(late.started()).as_secs_f32(), warning["why"]));
    let why = text(&warning, "why");
    assert!(
        why.contains("1 timed out") && why.contains("1 refused") && why.contains("still trying"),
        "{why}"
    );
    late.say("is anybody there?");
    let _first = up(one);
    let heard = one.treecast(&["sub", "garden"]);
    // Said before it was there to hear it; and again.
    until(PATIENCE, "the late one to be heard", || {
        late.say("hello?");
        std::thread::sleep(Duration::from_millis(200));
        heard.messages().iter().any(|message| message.text == "hello?").then_some(())
    });
    assert!(!late.has_ended());
}

#[test]
fn addresses_that_swallow_packets_do_not_hold_up_good_ones() {
    let Some(lab) = Lab::new(3) else { return };
    let [one, two, three] = lab.hosts() else { unreachable!("three were asked for") };
    let (_first, _second) = (up(one), up(two));
    let made = line(one, &["group", "create", "garden"]);
    let mut ticket: Ticket = text(&made, "ticket").parse().expect("our own tickets read back");
    // The third host's cable is out: what goes there is lost. TCP and QUIC, first and last.
    lab.plug(three, false);
    let mut void = vec![4, 10, 77, 0, 3, 6, 0, 9];
    let good = std::mem::take(&mut ticket.members[0].1);
    let tcp = Address::new(void.clone()).expect("short");
    void.splice(5.., [0x91, 0x02, 0, 9, 0xcd, 0x03]);
    let quic = Address::new(void).expect("short");
    ticket.members[0].1 = [vec![tcp.clone(), quic.clone()], good, vec![quic, tcp]].concat();
    let asked = std::time::Instant::now();
    line(two, &["group", "join", &ticket.to_string()]);
    until(PATIENCE, "the founder to be found", || {
        (line(two, &["group", "show", "garden"])["state"] == "ready").then_some(())
    });
    tell(&format!("found among addresses that swallow packets after {} ms", asked.elapsed().as_millis()));
}

#[test]
fn a_static_group_is_for_those_it_lists() {
    let Some(lab) = Lab::new(4) else { return };
    let [one, two, three, four] = lab.hosts() else { unreachable!("four were asked for") };
    let nodes: Vec<Process> = [one, two, three, four].map(up).into();
    let ids = [one, two, three].map(Host::node_id);
    // In a total order these would wait for their place while the founder is away.
    let listed = ids[1..].join(",");
    let made = line(one, &["group", "create", "board", "--order", "causal", "--members", &listed]);
    let ticket = text(&made, "ticket");
    assert_eq!(made["members"], 3);
    let shown = line(one, &["group", "show", "board"]);
    let mut states: Vec<(&str, &str)> = shown["members"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|member| (text(member, "node"), text(member, "state")))
        .collect();
    states.sort_unstable();
    let mut expected =
        [(ids[0].as_str(), "online"), (ids[1].as_str(), "offline"), (ids[2].as_str(), "offline")];
    expected.sort_unstable();
    assert_eq!(states, expected, "everybody knows who is to come");

    for words in [&["group", "join", ticket][..], &["sub", ticket], &["pub", ticket, "let me in"]] {
        refusal(&four.run(words, b""), 6, "not-admitted");
    }
    line(two, &["group", "join", ticket]);
    line(three, &["group", "join", ticket]);
    let heard = three.treecast(&["sub", "board"]);
    hears(&heard, two, "board", "among us");

    // Nor is it let in when it calls them itself.
    drop(nodes);
    let [first, second, third] = [one, two, three].map(up);
    let shown = line(one, &["status"]);
    let address = shown["addresses"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .find(|address| address.contains("/ip4/10.77.") && address.contains("/tcp/"))
        .expect("it listens on its own address")
        .to_owned();
    let fourth = four.treecast(&["up", "--no-mdns", "--peer", &address]);
    fourth.wait("that it is ready", |line| line["type"] == "ready");
    until(PATIENCE, "the fourth's call to be answered", || {
        (!four.run(&["peers"], b"").of_type("peer").is_empty()).then_some(())
    });
    refusal(&four.run(&["group", "join", ticket], b""), 6, "not-admitted");
    drop(fourth);
    let asked = four.run(&["up", "--no-mdns", "--peer", &address, "--group", ticket], b"");
    refusal(&asked, 6, "not-admitted");

    // Any two of the three are enough.
    drop(first);
    let heard = three.treecast(&["sub", "board"]);
    hears(&heard, two, "board", "without the founder");
    drop(second);
    let _first = up(one);
    let heard = one.treecast(&["sub", "board"]);
    hears(&heard, three, "board", "without the second");
    drop(third);
    let _second = up(two);
    let heard = two.treecast(&["sub", "board"]);
    hears(&heard, one, "board", "without the third");
    let members = line(one, &["group", "show", "board"])["members"].as_array().expect("a list").len();
    assert_eq!(members, 3);
}

/// What a command said of a store that does not serve, from one shell: each has its own mounts.
fn store_error(host: &Host, script: &str, code: &str) -> Value {
    let run = host.shell(script).finish(b"");
    let error = refusal(&run, 2, code);
    let words = ["what", "why", "fix"].map(|part| text(error, part)).join(" ");
    assert!(words.contains("treecast.db"), "it does not name the file: {words}");
    assert!(!run.out.iter().any(|line| line["type"] == "ready"), "half a start: {run:?}");
    error.clone()
}

#[test]
fn a_store_that_does_not_serve_stops_the_start() {
    let Some(lab) = Lab::new(1) else { return };
    let [host] = lab.hosts() else { unreachable!("one was asked for") };
    let node = up(host);
    line(host, &["group", "create", "garden"]);
    assert_eq!(node.stop().code, Some(0));
    let file = host.data_dir().join("treecast.db");
    let good = std::fs::read(&file).expect("one file after a stop in good order");

    std::fs::write(&file, &good[..good.len() / 3]).expect("damaged");
    store_error(host, "exec $TREECAST up", "bad-store");
    assert_eq!(std::fs::read(&file).expect("there").len(), good.len() / 3, "it is left as it is");
    std::fs::write(&file, "somebody else's").expect("damaged");
    store_error(host, "exec $TREECAST chat lobby", "bad-store");

    std::fs::write(&file, &good).expect("mended");
    // The version stands in bytes 60 to 63 of a SQLite file.
    let mut newer = good.clone();
    newer[60..64].copy_from_slice(&77u32.to_be_bytes());
    std::fs::write(&file, &newer).expect("newer");
    let error = store_error(host, "exec $TREECAST up", "newer-store");
    assert!(text(&error, "why").contains("77"), "{error}");

    std::fs::write(&file, &good).expect("mended");
    let read_only = "mount --bind $DATA/treecast.db $DATA/treecast.db && \
                     mount -o remount,bind,ro $DATA/treecast.db && exec $TREECAST up";
    store_error(host, read_only, "data-dir");
    let _node = up(host);
    assert_eq!(text(&line(host, &["group", "ls"]), "name"), "garden", "nothing was lost by all that");
}

#[test]
fn a_disk_that_fills_up_is_told_and_forgiven() {
    let Some(lab) = Lab::new(1) else { return };
    let [host] = lab.hosts() else { unreachable!("one was asked for") };
    let script = "mkdir -p $DATA && mount -t tmpfs -o size=1m none $DATA
        $TREECAST up --no-mdns & node=$!
        until $TREECAST id >/dev/null 2>&1; do sleep 0.1; done
        $TREECAST group create before
        cat /dev/zero >$DATA/big 2>&-
        for i in 1 2 3 4 5 6 7 8 9; do $TREECAST group create full$i >/dev/null || { echo \"\\\"code $?\\\"\"; break; }; done
        $TREECAST status
        rm $DATA/big
        $TREECAST group create after
        $TREECAST status
        kill -KILL $node; wait $node
        $TREECAST up --no-mdns & node=$!
        until $TREECAST id >/dev/null 2>&1; do sleep 0.1; done
        $TREECAST group ls
        $TREECAST down; wait $node";
    let run = host.shell(script).finish(b"");
    let refused = run.error("not-saved");
    assert!(text(refused, "why").contains("full"), "{refused}");
    assert!(run.out.contains(&"code 2".into()), "{run:?}");
    let failures: Vec<bool> =
        run.of_type("status").iter().map(|status| status["store_failure"].is_string()).collect();
    assert_eq!(failures, [true, false], "told while it lasts");
    let groups = run.of_type("group");
    let listed = &groups[2..];
    let names: Vec<&str> = listed.iter().map(|group| text(group, "name")).collect();
    assert!(names.contains(&"before") && names.contains(&"after"), "{names:?}");
    tell(&format!("kept through a full disk and a kill: {names:?}"));
}

#[test]
fn whatever_was_acknowledged_is_kept_through_kills() {
    let Some(lab) = Lab::new(1) else { return };
    let [host] = lab.hosts() else { unreachable!("one was asked for") };
    let mut made = Vec::new();
    for round in 0..10u64 {
        let node = up(host);
        let script =
            format!("i=0; while $TREECAST group create \"{round} $i\"; do i=$((i+1)); done 2>/dev/null");
        let making = host.shell(&script);
        making.wait("a group", |line| line["type"] == "group");
        std::thread::sleep(Duration::from_millis(37 * round));
        node.kill();
        let run = making.ended();
        made.extend(run.of_type("group").iter().map(|group| text(group, "id").to_owned()));
    }
    let _node = up(host);
    let kept = host.run(&["group", "ls"], b"");
    let kept: Vec<&str> = kept.of_type("group").iter().map(|group| text(group, "id")).collect();
    let lost: Vec<&String> = made.iter().filter(|id| !kept.contains(&id.as_str())).collect();
    tell(&format!("{} groups were acknowledged, {} are kept", made.len(), kept.len()));
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}
