//! Committees on a network that loses, delays and cuts, with disks that forget what they had not written:
//! what one decided, all decide.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::rng::Rng;

/// A member, its disk, and what it was told to be decided.
struct Member {
    delegate: Option<Delegate>,
    disk: Saved,
    /// Writes under way, oldest first.
    writes: VecDeque<(Token, Saving)>,
    decided: BTreeMap<u64, Bytes>,
}

struct Committee {
    rng: Rng,
    roster: Vec<NodeId>,
    members: Vec<Member>,
    /// (from, to) → in order, as links are.
    links: BTreeMap<(usize, usize), VecDeque<Bytes>>,
    cut: Vec<(usize, usize)>,
    tokens: u64,
    proposed: u64,
}

impl Saved {
    fn write(&mut self, saving: Saving) {
        self.vows = saving.vows;
        let gone = saving.compacted.saturating_sub(self.compacted) as usize;
        self.entries.drain(..gone.min(self.entries.len()));
        self.compacted = saving.compacted;
        self.entries.truncate((saving.from - self.compacted) as usize);
        self.entries.extend(saving.entries);
    }
}

impl Committee {
    fn new(seed: u64, size: usize) -> Self {
        let roster: Vec<_> = (1..=size as u8).map(|it| NodeId::from_bytes([it; 32])).collect();
        let member = |me: &NodeId| Member {
            delegate: Delegate::new(me, 1, &roster, None),
            disk: Saved::default(),
            writes: VecDeque::new(),
            decided: BTreeMap::new(),
        };
        let members = roster.iter().map(member).collect();
        let (links, cut) = (BTreeMap::new(), Vec::new());
        Self { rng: Rng::new(seed), roster, members, links, cut, tokens: 0, proposed: 0 }
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.rng.next_u64() % bound as u64) as usize
    }

    fn spread(&mut self, from: usize, spoken: Spoken) {
        for (to, message) in spoken.messages {
            let to = self.roster.iter().position(|it| *it == to).expect("in the roster");
            if !self.cut.contains(&(from, to)) {
                self.links.entry((from, to)).or_default().push_back(message);
            }
        }
        for (index, entry) in spoken.decided {
            let earlier = self.members[from].decided.insert(index, entry.clone());
            assert!(earlier.is_none_or(|it| it == entry), "member {from} decides {index} twice");
        }
    }

    fn turn(&mut self, at: usize) {
        let member = &mut self.members[at];
        let Some(delegate) = &mut member.delegate else { return };
        let (tokens, writes) = (&mut self.tokens, &mut member.writes);
        let spoken = delegate.take_turn(|saving| {
            *tokens += 1;
            writes.push_back((Token(*tokens), saving));
            Token(*tokens)
        });
        self.spread(at, spoken);
    }

    fn step(&mut self) {
        let at = self.below(self.members.len());
        // A heartbeat interval is several times as long as a message takes.
        match self.below(60 * self.members.len()) {
            0 => {
                if let Some(delegate) = &mut self.members[at].delegate {
                    delegate.tick();
                }
            }
            1..=8 => self.propose(at),
            it if it % 4 == 0 => self.write_one(at),
            _ => self.deliver_one(),
        }
        self.turn(at);
    }

    fn deliver_one(&mut self) {
        let ready: Vec<_> = self.links.iter().filter(|it| !it.1.is_empty()).map(|it| *it.0).collect();
        if ready.is_empty() {
            return;
        }
        let (from, to) = ready[self.below(ready.len())];
        let message = self.links.get_mut(&(from, to)).and_then(VecDeque::pop_front).expect("one waits");
        if let Some(delegate) = &mut self.members[to].delegate {
            delegate.handle(&self.roster[from], message).expect("well-formed");
            delegate.take_in(|_| true).expect("well-formed");
        }
        self.turn(to);
    }

    fn write_one(&mut self, at: usize) {
        let Some((token, saving)) = self.members[at].writes.pop_front() else { return };
        self.members[at].disk.write(saving);
        let spoken = self.members[at].delegate.as_mut().and_then(|it| it.on_persisted(token));
        self.spread(at, spoken.unwrap_or_default());
    }

    fn propose(&mut self, at: usize) {
        let Some(delegate) = self.members[at].delegate.as_mut().filter(|it| it.leads()) else { return };
        self.proposed += 1;
        delegate.propose(Bytes::from(self.proposed.to_be_bytes().to_vec()));
    }

    /// It forgets all that its disk has not, and what was on its links is gone.
    fn crash(&mut self, at: usize) {
        self.members[at].delegate = None;
        self.members[at].writes.clear();
        self.links.retain(|(from, to), _| *from != at && *to != at);
    }

    fn restart(&mut self, at: usize) {
        if self.members[at].delegate.is_none() {
            let (me, disk) = (self.roster[at], self.members[at].disk.clone());
            self.members[at].delegate = Delegate::new(&me, 1, &self.roster, Some(disk));
            for other in 0..self.members.len() {
                self.reconnect(at, other);
                self.reconnect(other, at);
            }
        }
    }

    fn reconnect(&mut self, at: usize, to: usize) {
        if let Some(delegate) = self.members[at].delegate.as_mut().filter(|_| at != to) {
            delegate.on_reconnected(&self.roster[to]);
        }
    }

    fn fault(&mut self) {
        let (at, other) = (self.below(self.members.len()), self.below(self.members.len()));
        match self.below(6) {
            0 => self.crash(at),
            1..=2 => self.restart(at),
            // One way only, or both.
            3 => self.cut.push((at, other)),
            4 => {
                self.cut.extend([(at, other), (other, at)]);
                self.links.retain(|(from, to), _| (*from, *to) != (at, other) && (*from, *to) != (other, at));
            }
            _ => self.heal(),
        }
    }

    fn heal(&mut self) {
        for (from, to) in std::mem::take(&mut self.cut) {
            self.reconnect(to, from);
            self.reconnect(from, to);
        }
    }

    /// Whatever one decided, nobody decided otherwise.
    fn check(&self) {
        let mut all: BTreeMap<u64, &Bytes> = BTreeMap::new();
        for (index, entry) in self.members.iter().flat_map(|it| &it.decided) {
            let known = *all.entry(*index).or_insert(entry);
            assert_eq!(known, entry, "two entries at {index}");
        }
        let mut entries: Vec<_> = all.values().collect();
        entries.sort_unstable();
        entries.dedup();
        assert_eq!(entries.len(), all.len(), "an entry was decided at two places");
    }

    /// Faults are over: how far the log is decided everywhere after so many steps.
    fn settle(&mut self, steps: usize) -> u64 {
        self.heal();
        (0..self.members.len()).for_each(|at| self.restart(at));
        for _ in 0..steps {
            self.step();
        }
        let ends = self.members.iter().map(|it| it.decided.keys().last().map_or(0, |last| last + 1));
        ends.min().unwrap_or(0)
    }
}

fn seeds() -> Vec<u64> {
    match std::env::var("TREECAST_SEED").ok().and_then(|it| it.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..200).collect(),
    }
}

#[test]
fn a_committee_decides_one_log_whatever_fails() {
    for seed in seeds() {
        eprintln!("seed {seed}");
        let mut committee = Committee::new(seed, 2 + seed as usize % 4);
        for step in 0..20_000 {
            committee.step();
            if step % 500 == 499 {
                committee.fault();
            }
        }
        committee.check();
        let before = committee.proposed;
        let end = committee.settle(20_000);
        committee.check();
        assert!(committee.proposed > before, "seed {seed}: nobody leads after faults are over");
        assert!(end > 0, "seed {seed}: somebody never hears of anything");
    }
}

/// Nothing is said, and nothing counts, before it is on the disk.
#[test]
fn a_member_whose_disk_does_not_answer_is_silent() {
    let mut committee = Committee::new(7, 3);
    for _ in 0..20_000 {
        committee.step();
    }
    let at = committee.members.iter().position(|it| it.delegate.as_ref().is_some_and(Delegate::leads));
    let at = at.expect("somebody leads");
    while !committee.members[at].writes.is_empty() {
        committee.write_one(at);
    }
    committee.links.clear();
    let decided = committee.members[at].decided.len();
    committee.propose(at);
    committee.turn(at);
    let of_it = |committee: &Committee| {
        let appends = |it: &Bytes| !crate::wire::agreement::appended(it).is_empty();
        committee.links.iter().filter(|it| it.0.0 == at).any(|it| it.1.iter().any(appends))
    };
    assert!(!of_it(&committee));
    committee.write_one(at);
    assert!(of_it(&committee));
    assert_eq!(committee.members[at].decided.len(), decided, "a majority has to have it");
}

#[test]
fn a_failed_write_silences_its_member_until_all_is_on_disk() {
    let mut committee = Committee::new(9, 3);
    for _ in 0..20_000 {
        committee.step();
    }
    let (token, _) = loop {
        match committee.members[0].writes.front() {
            Some(write) => break write.clone(),
            None => committee.step(),
        }
    };
    let delegate = committee.members[0].delegate.as_mut().expect("it runs");
    assert!(delegate.on_persist_failed(token));
    delegate.tick();
    let spoken = delegate.take_turn(|_| panic!("nothing is written after it"));
    assert!(spoken.messages.is_empty() && spoken.decided.is_empty());
    assert!(!delegate.leads() && delegate.is_mute());
    // The disk refuses once more, then it takes all of it.
    delegate.try_again(|_| Token(u64::MAX));
    assert!(delegate.on_persist_failed(Token(u64::MAX)) && delegate.is_mute());
    let mut all = None;
    delegate.try_again(|saving| {
        all = Some(saving);
        Token(u64::MAX - 1)
    });
    let all = all.expect("it is tried again");
    assert_eq!((all.from, all.from + all.entries.len() as u64), (all.compacted, delegate.log_end()));
    delegate.try_again(|_| panic!("that is under way"));
    let spoken = delegate.on_persisted(Token(u64::MAX - 1)).expect("it is its own");
    assert!(!spoken.messages.is_empty() || !spoken.decided.is_empty(), "what waited is said");
    assert!(!delegate.is_mute());
}

/// What a follower is asked to accept waits for its payloads, and so does all that comes after it.
#[test]
fn what_has_no_payload_here_is_not_accepted() {
    let mut committee = Committee::new(11, 2);
    for _ in 0..20_000 {
        committee.step();
    }
    let leader = committee.members.iter().position(|it| it.delegate.as_ref().is_some_and(Delegate::leads));
    let leader = leader.expect("somebody leads");
    let follower = 1 - leader;
    for _ in 0..100 {
        (0..2).for_each(|at| committee.write_one(at));
        committee.deliver_one();
    }
    committee.propose(leader);
    committee.turn(leader);
    committee.write_one(leader);
    let from = committee.roster[leader];
    let messages = committee.links.remove(&(leader, follower)).expect("it says so");
    let delegate = committee.members[follower].delegate.as_mut().expect("it runs");
    for message in messages {
        delegate.handle(&from, message).expect("well-formed");
    }
    let wanted = delegate.take_in(|_| false).expect("well-formed");
    assert_eq!(wanted.len(), 1);
    assert!(delegate.take_turn(|_| panic!("there is nothing to write")).messages.is_empty());
    assert_eq!(delegate.take_in(|_| true).expect("well-formed"), []);
    let mut wrote = false;
    delegate.take_turn(|_| {
        wrote = true;
        Token(u64::MAX)
    });
    assert!(wrote, "it is accepted now");
}

/// Only others can know that a disk is an old copy. They do, although all were off meanwhile, and whoever led.
#[test]
fn an_old_copy_is_found_out_by_what_others_have_heard() {
    for seed in seeds() {
        let mut committee = Committee::new(seed, 3);
        let run = |committee: &mut Committee| (0..10_000).for_each(|_| committee.step());
        run(&mut committee);
        let leads = |it: &Member| it.delegate.as_ref().is_some_and(Delegate::leads);
        let leader = committee.members.iter().position(leads).expect("somebody leads");
        let at = (leader + seed as usize) % 3;
        let copy = committee.members[at].disk.clone();
        run(&mut committee);
        (0..3).for_each(|it| committee.crash(it));
        committee.members[at].disk = copy;
        committee.settle(20_000);
        committee.check();
        let delegate = committee.members[at].delegate.as_ref().expect("it runs");
        assert!(delegate.is_mute(), "seed {seed}: it takes part as if nothing had been");
    }
}

/// What a third one tells may come before what a member said earlier: that is not taken for having forgotten.
#[test]
fn word_of_others_that_comes_first_silences_nobody() {
    let mut committee = Committee::new(5, 3);
    for _ in 0..20_000 {
        committee.step();
    }
    let leads = |it: &Member| it.delegate.as_ref().is_some_and(Delegate::leads);
    let leader = committee.members.iter().position(leads).expect("somebody leads");
    let (from, to) = ((leader + 1) % 3, (leader + 2) % 3);
    let roster = committee.roster.clone();
    let mut claims = vec![Claim::default(); 3];
    claims[from] = committee.members[from].delegate.as_ref().expect("it runs").consensus.accepted();
    claims[from].1 += 1;
    let early = agreement::write_heard(&claims).into();
    let delegate = committee.members[to].delegate.as_mut().expect("it runs");
    delegate.handle(&roster[leader], early).expect("well-formed");
    assert!(!delegate.is_forgetful(&roster[from]));
    for _ in 0..20_000 {
        committee.step();
    }
    let delegate = committee.members[to].delegate.as_ref().expect("it runs");
    assert!(!delegate.is_forgetful(&roster[from]));
}
