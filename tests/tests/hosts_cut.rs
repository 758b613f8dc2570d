//! A network that falls apart and comes together again: both halves go on, and afterwards everybody
//! has everything, without anybody being told an address.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use treecast_tests::hosts::{Host, Lab, PATIENCE, Process, lines_of, tell, until};

/// How long after the cut everybody may lack something. Ten seconds are promised, three hoped for; a
/// loaded machine is no broken promise.
const HEALED_WITHIN: Duration = Duration::from_secs(30);

/// Between two words of one host.
const TALK_EVERY: Duration = Duration::from_millis(200);

struct Member<'a> {
    host: &'a Host,
    chat: Process,
    said: Vec<String>,
}

impl<'a> Member<'a> {
    fn new(host: &'a Host) -> Self {
        Self { host, chat: host.treecast(&["chat", "cut"]), said: Vec::new() }
    }

    fn say(&mut self) {
        let line = format!("h{} {}", self.host.number(), self.said.len());
        self.chat.say(&line);
        self.said.push(line);
    }

    /// How many of these it has been shown.
    fn has(&self, lines: &BTreeSet<String>) -> usize {
        self.chat.messages().iter().filter(|message| lines.contains(&message.text)).count()
    }
}

/// Everybody talks for so long.
fn talk(members: &mut [Member<'_>], span: Duration) {
    let start = Instant::now();
    while start.elapsed() < span {
        members.iter_mut().for_each(Member::say);
        std::thread::sleep(TALK_EVERY);
    }
}

fn all_said(members: &[Member<'_>]) -> BTreeSet<String> {
    members.iter().flat_map(|member| member.said.iter().cloned()).collect()
}

/// Until everybody has been shown everything; how long that took.
fn whole(members: &[Member<'_>], since: Instant) -> Duration {
    let all = all_said(members);
    until(PATIENCE, "everything everywhere", || {
        members.iter().all(|member| member.has(&all) >= all.len()).then_some(())
    });
    since.elapsed()
}

/// Nobody was shown anything twice, or any author's lines out of order, or in part.
fn judge(members: Vec<Member<'_>>) {
    let said: Vec<Vec<String>> = members.iter().map(|member| member.said.clone()).collect();
    for member in members {
        let who = format!("h{}", member.host.number());
        let by_author = lines_of(&who, &member.chat.messages());
        let mut heard: Vec<Vec<String>> = by_author.into_values().collect();
        let mut said = said.clone();
        heard.sort();
        said.sort();
        assert!(heard == said, "{who} was shown other lines than were said");
        let run = member.chat.stop();
        assert_eq!(run.code, Some(0), "{:?}", run.err);
    }
}

/// Waits for this word about the cut from the `from`-th line on; the line after it.
fn told(member: &Member<'_>, from: usize, event: &str) -> usize {
    let (at, ..) = member.chat.wait_from(from, &format!("that the cut is {event}"), |line| {
        line["type"] == "partition" && line["event"] == event && line["group"] == "cut"
    });
    at + 1
}

#[test]
fn halves_find_each_other_again() {
    let Some(lab) = Lab::new(6) else { return };
    let mut members: Vec<_> = lab.hosts().iter().map(Member::new).collect();
    talk(&mut members, Duration::from_secs(2));
    whole(&members, Instant::now());

    let away: Vec<&Host> = lab.hosts()[..3].iter().collect();
    lab.cut(&away);
    talk(&mut members, Duration::from_secs(30));
    let suspected: Vec<usize> = members.iter().map(|member| told(member, 0, "suspected")).collect();
    let (left, right) = members.split_at(3);
    for (half, others) in [(left, right), (right, left)] {
        let of_others: BTreeSet<String> =
            others.iter().flat_map(|member| member.said.iter().rev().take(50).cloned()).collect();
        assert!(half.iter().all(|member| member.has(&of_others) == 0), "the cut was no cut");
    }
    let healed = Instant::now();
    lab.heal();
    let took = whole(&members, healed);
    tell(&format!("three and three for 30 s: whole again after {} ms", took.as_millis()));
    talk(&mut members, Duration::from_secs(2));
    whole(&members, Instant::now());
    for (member, from) in members.iter().zip(suspected) {
        told(member, from, "healed");
    }
    judge(members);
    assert!(took < HEALED_WITHIN, "it took {took:?}");
}

#[test]
fn two_that_are_cut_off_find_each_other_again() {
    let Some(lab) = Lab::new(2) else { return };
    let mut members: Vec<_> = lab.hosts().iter().map(Member::new).collect();
    talk(&mut members, Duration::from_secs(1));
    whole(&members, Instant::now());
    let mut from = vec![0; members.len()];
    for cut in [8, 20, 30].map(Duration::from_secs) {
        lab.cut(&[&lab.hosts()[0]]);
        talk(&mut members, cut);
        let healed = Instant::now();
        lab.heal();
        let took = whole(&members, healed);
        tell(&format!("cut for {cut:?}: whole again after {} ms", took.as_millis()));
        assert!(took < HEALED_WITHIN, "it took {took:?}");
        for (member, from) in members.iter().zip(&mut from) {
            *from = told(member, *from, "suspected");
            *from = told(member, *from, "healed");
        }
    }
    judge(members);
}
