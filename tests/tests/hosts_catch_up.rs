//! A host that was off for many messages of 1 KiB (64 in a batch) comes back while another source talks: it
//! catches up, and the talk is not held up, neither for it nor for others.
//!
//! `TREECAST_MISSED` says for how many; 100,000 are promised at 20,000 a second, with talk at most twice as
//! late as usual. Less is too short to be measured: then only that all comes is looked at.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use treecast_tests::hosts::{Host, Lab, PATIENCE, Process, lateness, say_live, tell, until};

/// So many messages make a figure.
const MEASURED: u64 = 100_000;
const WANTED_RATE: f64 = 20_000.0;

/// Live lines a second.
const RATE: u32 = 50;

/// Delays of live lines are in milliseconds, and clocks are not finer: up to this nothing is late.
const UNNOTICED_MS: f64 = 5.0;

fn missed() -> u64 {
    let messages = std::env::var("TREECAST_MISSED");
    messages.map_or(5_000, |it| it.parse().expect("TREECAST_MISSED is a number"))
}

/// What a subscriber was told.
#[derive(Debug, Default)]
struct Heard {
    /// Of the many; and when the last of them came.
    bulk: u64,
    last_bulk: Option<Instant>,
    /// Of each live line: when it came, and how late it was.
    live: Vec<(Instant, Duration)>,
}

type SharedHeard = Arc<Mutex<Heard>>;

fn listen(host: &Host, began: Instant) -> (Process, SharedHeard) {
    let heard = SharedHeard::default();
    let told = heard.clone();
    let take = move |line: &Value| {
        let Some(text) = line["text"].as_str() else { return false };
        let (now, mut heard) = (Instant::now(), told.lock().unwrap_or_else(PoisonError::into_inner));
        match lateness(text, began) {
            Some(late) => heard.live.push((now, late)),
            None => (heard.bulk, heard.last_bulk) = (heard.bulk + 1, Some(now)),
        }
        true
    };
    (host.watched(&["sub", "board"], take), heard)
}

/// The median and the 95th percentile, milliseconds.
fn delays(heard: &SharedHeard, from: Instant, to: Instant) -> (f64, f64) {
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    let within = heard.live.iter().filter(|(at, _)| (from..to).contains(at));
    let mut all: Vec<f64> = within.map(|(_, late)| late.as_secs_f64() * 1e3).collect();
    all.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| all.get(((all.len() as f64 - 1.0) * share) as usize).copied().unwrap_or(f64::NAN);
    (at(0.5), at(0.95))
}

#[test]
fn who_was_off_catches_up_while_others_talk() {
    let Some(lab) = Lab::new(4) else { return };
    let [source, talker, other, away] = lab.hosts() else { unreachable!("four hosts") };
    let began = Instant::now();
    // In fifo order one source does not wait for another: only so talk can come before what was missed.
    let first = source.treecast(&["up"]);
    first.wait("ready", |line| line["type"] == "ready");
    let made = source.run(&["group", "create", "board", "--order", "fifo"], b"");
    let ticket = made.of_type("group")[0]["ticket"].as_str().expect("a ticket").to_owned();
    let come = |host: &Host| host.treecast(&["up", "--group", &ticket]);
    let mut ups = vec![first, come(talker), come(other)];
    let gone = come(away);
    for host in lab.hosts() {
        until(PATIENCE, "that all know all", || {
            let run = host.run(&["group", "show", "board"], b"");
            (run.of_type("group").first()?["members"].as_array()?.len() == 4).then_some(())
        });
    }
    gone.stop();

    let many = missed();
    let payload = "x".repeat(1_010);
    let text: String = (0..many).map(|number| format!("{number:>9} {payload}\n")).collect();
    let said = source.run(&["pub", "board", "--wait", "2", "--timeout", "300s"], text.as_bytes());
    assert_eq!(said.code, Some(0));
    let author = source.node_id();
    let batches = delivered(other, &author);
    let (_others, there) = listen(other, began);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let over = &over;
        let talking = scope.spawn(move || say_live(talker, "board", RATE, began, over));
        std::thread::sleep(Duration::from_secs(4));
        let back = Instant::now();
        ups.push(away.treecast(&["up"]));
        until(PATIENCE, "that it answers", || (away.run(&["id"], b"").code == Some(0)).then_some(()));
        let (_listening, here) = listen(away, began);
        until(5 * PATIENCE, "all that was missed", || (delivered(away, &author) >= batches).then_some(()));
        let end = Instant::now();
        std::thread::sleep(Duration::from_secs(4));
        over.store(true, Ordering::Relaxed);
        talking.join().expect("no panic");
        let took = (end - back).as_secs_f64();
        let rate = many as f64 / took;
        let usual = delays(&there, back - Duration::from_secs(3), back);
        let meanwhile = (delays(&there, back, end), delays(&here, back, end));
        let after = delays(&here, end + Duration::from_secs(1), Instant::now());
        tell(&format!("{many} in {took:.2} s from its start on: {rate:.0} a second"));
        tell(&format!("others, p50 and p95 ms: usual {usual:.1?}, meanwhile {:.1?}", meanwhile.0));
        tell(&format!("itself: meanwhile {:.1?}, after that {after:.1?}", meanwhile.1));
        if many >= MEASURED {
            assert!(rate >= WANTED_RATE, "{rate:.0} a second");
            let most = |usual: f64| (2.0 * usual).max(UNNOTICED_MS);
            assert!(meanwhile.0.0 <= most(usual.0), "others wait");
            assert!(meanwhile.1.0 <= most(after.0), "it waits");
        }
    });
}

/// How many batches a host's node delivered of another.
fn delivered(host: &Host, of: &str) -> u64 {
    let run = host.run(&["group", "show", "board"], b"");
    let Some(group) = run.of_type("group").first().copied().cloned() else { return 0 };
    let members = group["members"].as_array().cloned().unwrap_or_default();
    let member = members.iter().filter(|it| it["node"] == of);
    let frontiers = member.filter_map(|it| it["frontier"].as_object());
    frontiers.flat_map(|it| it.values()).filter_map(Value::as_u64).max().unwrap_or(0)
}
