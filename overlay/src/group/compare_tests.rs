//! Members with very many sources: what they exchange, and what it costs them if one lies.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use serde_bytes::ByteBuf;

use crate::config::Config;
use crate::descriptor::{Descriptor, Order};
use crate::engine::{Engine, Start};
use crate::id::{BatchId, Digest, LinkId, NodeId, Seq};
use crate::identity::Identity;
use crate::io::{Input, Lane, LifeRecord, Output, Past, SourceRecord};
use crate::links::tag;
use crate::out::Out;
use crate::rng::Rng;
use crate::time::Time;
use crate::wire::MAX_FRAME;
use crate::wire::batch::{Batch, Header, Opening};
use crate::wire::compare::{Baseline, Branch, Compare, DEEPEST, Prefix};
use crate::wire::frame::{self, Channels, Frame, Join};
use crate::wire::frontier::Purpose;
use crate::wire::record::{MemberRecord, Standing};

const LIFE: u64 = 1_000_000;
/// Microseconds from one to another.
const LATENCY: u64 = 10_000;

struct InFlight {
    at: u64,
    to: usize,
    link: LinkId,
    lane: Lane,
    frame: Bytes,
}

/// Engines and links between them. Who is no engine of these is played by hand.
struct World {
    group: Descriptor,
    engines: Vec<Engine>,
    now: u64,
    links: BTreeMap<(usize, LinkId), (usize, LinkId)>,
    next_link: u64,
    flying: VecDeque<InFlight>,
    /// Bytes of frames by kind, and of how many, between engines.
    bytes: BTreeMap<&'static str, (usize, usize)>,
    /// What engines say to those that are none.
    said: Vec<(usize, LinkId, Bytes)>,
    gaps: usize,
}

impl World {
    fn new(count: u8, config: &Config, sources: &[SourceRecord], order: Order) -> Self {
        let mut group = Descriptor::open("many").expect("a good name");
        group.order = order;
        let mut world = Self {
            group,
            engines: Vec::new(),
            now: 0,
            links: BTreeMap::new(),
            next_link: 1,
            flying: VecDeque::new(),
            bytes: BTreeMap::new(),
            said: Vec::new(),
            gaps: 0,
        };
        for key in 1..=count {
            world.start(key, config, Some(sources));
        }
        world
    }

    /// One more, a member already if it has a past.
    fn start(&mut self, key: u8, config: &Config, past: Option<&[SourceRecord]>) -> usize {
        let start = Start {
            config: config.clone(),
            secret_key: [key; 32],
            seed: u64::from(key),
            unix_ms: LIFE,
            last_life: 0,
            ends: Vec::new(),
        };
        self.engines.push(Engine::new(start).expect("in range"));
        let ix = self.engines.len() - 1;
        if let Some(sources) = past {
            let sources = sources.to_vec();
            let past = Past {
                group: self.group.id(),
                entered: true,
                sources,
                end: None,
                earlier: None,
                removals: Vec::new(),
                causes: None,
                order: None,
            };
            self.input(ix, Input::Resume(Box::new(past)));
        }
        self.input(ix, Input::Join(Box::new(self.group.clone())));
        ix
    }

    fn node(&self, ix: usize) -> NodeId {
        self.engines[ix].node()
    }

    fn next_link(&mut self) -> LinkId {
        self.next_link += 1;
        LinkId(self.next_link)
    }

    fn link(&mut self, one: usize, two: usize) {
        let (first, second) = (self.next_link(), self.next_link());
        self.links.insert((one, first), (two, second));
        self.links.insert((two, second), (one, first));
        let (one_id, two_id) = (self.node(one), self.node(two));
        self.input(one, Input::LinkUp { link: first, node: two_id });
        self.input(two, Input::LinkUp { link: second, node: one_id });
    }

    /// A link to somebody who is played by hand and shares the group.
    fn link_stranger(&mut self, ix: usize, stranger: &Identity) -> LinkId {
        let link = self.next_link();
        self.input(ix, Input::LinkUp { link, node: stranger.node() });
        let tag = tag(&self.group.id(), &stranger.node(), &self.node(ix));
        let open = Channels { open: vec![(1, ByteBuf::from(tag))], close: Vec::new() };
        self.say(ix, link, &Frame::Channels(open), 0);
        link
    }

    fn say(&mut self, ix: usize, link: LinkId, frame: &Frame, channel: u32) {
        self.input(ix, Input::Frame { link, lane: Lane::Live, frame: frame.encode(channel) });
    }

    fn input(&mut self, ix: usize, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Out::new();
            self.engines[ix].handle(Time::from_micros(self.now), input, &mut out);
            while let Some(output) = out.pop() {
                match output {
                    Output::Send { link, lane, frame } => {
                        assert!(frame.len() <= MAX_FRAME, "{} bytes", frame.len());
                        inputs.push_back(Input::Drained { link, lane, bytes: frame.len() });
                        self.send(ix, link, lane, frame);
                    }
                    Output::Persist { token, .. } => inputs.push_back(Input::Persisted(token)),
                    Output::Event(crate::io::Event::Gap { .. }) => self.gaps += 1,
                    Output::Close { link, reason } => panic!("{ix} closed {link:?}: {reason:?}"),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, ix: usize, link: LinkId, lane: Lane, frame: Bytes) {
        let Some(&(to, at)) = self.links.get(&(ix, link)) else {
            return self.said.push((ix, link, frame));
        };
        let name = frame::kind(&frame).and_then(frame::kind_name).unwrap_or("unknown");
        let count = self.bytes.entry(name).or_default();
        *count = (count.0 + frame.len(), count.1 + 1);
        self.flying.push_back(InFlight { at: self.now + LATENCY, to, link: at, lane, frame });
    }

    fn run(&mut self, millis: u64) {
        let end = self.now + millis * 1_000;
        while self.now < end {
            self.now += 5_000;
            while self.flying.front().is_some_and(|it| it.at <= self.now) {
                let it = self.flying.pop_front().expect("there is one");
                self.input(it.to, Input::Frame { link: it.link, lane: it.lane, frame: it.frame });
            }
            for ix in 0..self.engines.len() {
                let due = self.engines[ix].deadline();
                if due.is_some_and(|at| at <= Time::from_micros(self.now)) {
                    self.input(ix, Input::Tick);
                }
            }
        }
    }

    fn total(&self) -> usize {
        self.bytes.values().map(|it| it.0).sum()
    }

    /// How far each source is delivered here.
    fn delivered(&self, ix: usize) -> BTreeSet<(NodeId, u64, Seq)> {
        let view = self.engines[ix].group(Time::from_micros(self.now), self.group.id());
        view.expect("joined").delivered.into_iter().filter(|it| it.2 > 0).collect()
    }

    fn batch(&self, source: &Identity, life: u64, seq: Seq, previous: Digest) -> Batch {
        let header = Header {
            id: BatchId { source: source.node(), life, seq },
            previous,
            time_after_life_ms: 0,
            dependencies: Vec::new(),
            opening: (seq == 0).then_some(Opening { nonce: 1, previous: None }),
        };
        Batch::sign(&self.group.id(), header, &[Bytes::from_static(b"hello")], source)
    }

    /// A neighbour that is played by hand.
    fn befriend(&mut self, ix: usize, stranger: &Identity) -> LinkId {
        let link = self.link_stranger(ix, stranger);
        let record = MemberRecord::sign(&self.group.id(), stranger, 9, Standing::Online, "eve", &[]).bytes;
        self.say(ix, link, &Frame::Join(Join { record, fresh: false, age_ms: 0 }), 1);
        link
    }
}

fn identity(number: u64) -> Identity {
    let mut key = [9; 32];
    key[..8].copy_from_slice(&number.to_le_bytes());
    Identity::new(&key)
}

/// So many sources, of which all is known up to some batch.
fn records(count: usize, rng: &mut Rng) -> Vec<SourceRecord> {
    let record = |_| {
        let mut key = [0; 32];
        key.chunks_mut(8).for_each(|part| part.copy_from_slice(&rng.next_u64().to_le_bytes()));
        let next = 1 + rng.below(1_000) as u64;
        let life = LifeRecord { life: LIFE - 5, next, head: None, end: None, above: Vec::new(), owed: None };
        SourceRecord { source: NodeId::from_bytes(key), floor: 0, lives: vec![life], closed: Vec::new() }
    };
    (0..count).map(record).collect()
}

#[test]
fn ten_differences_among_a_hundred_thousand_sources_are_found_in_twenty_kibibytes() {
    const DIFFERENT: u64 = 10;
    let mut sources = records(100_000 - DIFFERENT as usize, &mut Rng::new(1));
    for number in 0..DIFFERENT {
        let lives =
            vec![LifeRecord { life: LIFE, next: 7, head: None, end: None, above: Vec::new(), owed: None }];
        sources.push(SourceRecord { source: identity(number).node(), floor: 0, lives, closed: Vec::new() });
    }
    let mut world = World::new(2, &Config::default(), &sources, Order::Causal);
    let stranger = identity(1 << 40);
    for number in 0..DIFFERENT {
        let ix = (number % 2) as usize;
        let link = world.link_stranger(ix, &stranger);
        let batch = world.batch(&identity(number), LIFE, 7, Digest::ZERO);
        world.say(ix, link, &Frame::Batch(batch.bytes), 1);
        world.input(ix, Input::LinkDown { link });
    }
    assert_eq!(world.delivered(0).difference(&world.delivered(1)).count(), DIFFERENT as usize);
    world.link(0, 1);
    world.run(400);
    assert_eq!(world.delivered(0), world.delivered(1));
    world.run(9_600);
    assert!(world.total() < 20 << 10, "{} bytes: {:?}", world.total(), world.bytes);
    world.bytes.clear();
    world.run(30_000);
    assert!(!world.bytes.contains_key("Compare"), "there is nothing to find");
}

#[test]
fn a_newcomer_is_told_where_a_hundred_thousand_sources_begin() {
    let sources = records(100_000 - 2, &mut Rng::new(2));
    let mut world = World::new(1, &Config::default(), &sources, Order::Causal);
    let newcomer = world.start(2, &Config::default(), None);
    world.link(0, newcomer);
    world.run(1_000);
    let view = |ix: usize| world.engines[ix].group(Time::from_micros(world.now), world.group.id());
    let [old, new] = [0, newcomer].map(|ix| view(ix).expect("joined").delivered);
    assert_eq!(old.len(), sources.len());
    assert_eq!(new, old);
    let entries = world.bytes["Baseline"].0 + world.bytes["Welcome"].0;
    assert!(world.total() < entries + (20 << 10), "all else is little: {:?}", world.bytes);
}

/// Some batches of some sources are here, others there; each is somewhere.
#[test]
fn members_come_to_hold_the_same_whatever_they_held() {
    for seed in 0..12 {
        let mut rng = Rng::new(seed);
        // One compares, or both, or none.
        let limits = [rng.below(30), 10_000 * rng.below(2)];
        let mut world = World::new(0, &Config::default(), &[], Order::Fifo);
        for (key, exact_sources) in (1..=2).zip(limits) {
            world.start(key, &Config { exact_sources, ..Config::default() }, Some(&[]));
        }
        let stranger = identity(1 << 40);
        let links = [0, 1].map(|ix| world.link_stranger(ix, &stranger));
        let mut all = BTreeSet::new();
        for number in 0..20 + rng.below(150) as u64 {
            let (source, mut previous) = (identity(number), Digest::ZERO);
            let (count, bias) = (1 + rng.below(6) as u64, rng.below(3));
            for seq in 0..count {
                let batch = world.batch(&source, LIFE, seq, previous);
                previous = batch.digest;
                let holders = [rng.below(4) <= bias, rng.below(4) > bias];
                let holders = if holders == [false, false] { [true, true] } else { holders };
                for ix in (0..2).filter(|ix| holders[*ix]) {
                    world.say(ix, links[ix], &Frame::Batch(batch.bytes.clone()), 1);
                }
            }
            all.insert((source.node(), LIFE, count));
        }
        links.iter().enumerate().for_each(|(ix, link)| world.input(ix, Input::LinkDown { link: *link }));
        world.link(0, 1);
        world.run(8_000);
        for ix in 0..2 {
            let missing: Vec<_> = all.difference(&world.delivered(ix)).copied().collect();
            assert!(missing.is_empty(), "seed {seed}, {ix} of {limits:?} lacks {missing:?}");
        }
        assert_eq!(world.gaps, 0, "seed {seed}");
    }
}

/// Frontiers that move all the time make a comparison neither endless nor vain.
#[test]
fn what_moves_meanwhile_does_not_matter() {
    let config = Config { exact_sources: 50, ..Config::default() };
    let mut rng = Rng::new(5);
    let sources = records(2_000, &mut rng);
    let mut world = World::new(2, &config, &sources, Order::Fifo);
    let stranger = identity(1 << 40);
    let links = [0, 1].map(|ix| world.link_stranger(ix, &stranger));
    world.link(0, 1);
    let mut heads = BTreeMap::new();
    for _ in 0..1_500 {
        let number = rng.below(100) as u64;
        let (seq, previous) = heads.get(&number).copied().unwrap_or((0, Digest::ZERO));
        let batch = world.batch(&identity(number), LIFE, seq, previous);
        heads.insert(number, (seq + 1, batch.digest));
        let ix = rng.below(2);
        world.say(ix, links[ix], &Frame::Batch(batch.bytes), 1);
        world.run(5);
    }
    world.run(1_000);
    assert_eq!(world.delivered(0), world.delivered(1));
    assert_eq!(world.delivered(0).len(), 2_000 + heads.len());
    let (bytes, _) = world.bytes["Compare"];
    assert!(bytes < 60_000, "few comparisons in 9 s: {:?}", world.bytes);
}

/// Whatever a neighbour asks or claims, it costs no more than one round may.
#[test]
fn nonsense_costs_little() {
    let config = Config { compare_bytes: 200_000, ..Config::default() };
    let mut rng = Rng::new(6);
    let sources = records(5_000, &mut rng);
    for kind in 0..5 {
        let mut world = World::new(1, &config, &sources, Order::Fifo);
        let eve = identity(1 << 41);
        let link = world.befriend(0, &eve);
        world.run(2_000);
        world.said.clear();
        for _ in 0..200 {
            let compare = nonsense(kind, &mut rng);
            world.say(0, link, &Frame::Compare(compare), 1);
        }
        let bytes: usize = world.said.iter().map(|it| it.2.len()).sum();
        assert!(bytes < 2 * config.compare_bytes, "kind {kind}: {bytes} bytes");
        // And it goes on working, with whoever is honest.
        let other = world.start(2, &config, Some(&sources[1..]));
        world.link(0, other);
        world.run(4_000);
        assert!(world.delivered(0).len() == sources.len(), "kind {kind}");
    }
}

fn nonsense(kind: usize, rng: &mut Rng) -> Compare {
    let mut at = |deepest: usize| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
        Prefix::of(&NodeId::from_bytes(key), rng.below(deepest + 1) as u8)
    };
    let (mut branches, mut asked) = (Vec::new(), Vec::new());
    let hashes = |seed: u64| (0..16).map(move |it| it ^ seed);
    match kind {
        0 => asked.push(Prefix::ROOT),
        1 => asked.extend((0..4_096).map(|_| at(3))),
        2 => branches.extend((0..256).map(|it| Branch::new(at(2), hashes(it)))),
        3 => branches.push(Branch::new(Prefix::ROOT, hashes(7))),
        _ => {
            let unsound = Prefix { depth: DEEPEST + 9, bits: 77 };
            asked.extend([unsound, at(usize::from(DEEPEST)), Prefix { depth: 1, bits: 1 }]);
            branches.push(Branch { at: unsound, hashes: vec![1; 128].into() });
            branches.push(Branch { at: Prefix::ROOT, hashes: vec![1; 1_000].into() });
            branches.push(Branch { at: at(usize::from(DEEPEST)), hashes: vec![1; 128].into() });
        }
    }
    Compare { purpose: Purpose::Exchange.code(), branches, asked }
}

#[test]
fn pieces_of_a_baseline_count_from_whoever_was_asked_only() {
    let mut world = World::new(0, &Config::default(), &[], Order::Fifo);
    let ix = world.start(1, &Config { max_sources: 100, ..Config::default() }, None);
    let eve = identity(1 << 41);
    let link = world.link_stranger(ix, &eve);
    let piece = |from: u64| {
        let first = (from..from + 150).map(|it| (identity(it).node(), LIFE, 3)).collect();
        Frame::Baseline(Baseline { first })
    };
    for from in 0..4 {
        world.say(ix, link, &piece(from * 1_000), 1);
    }
    let nothing = crate::wire::frame::Welcome {
        records: Vec::new(),
        baseline: Vec::new(),
        last_life: None,
        grounded: true,
        order: None,
        unknown_ms: None,
    };
    world.say(ix, link, &Frame::Welcome(nothing), 1);
    assert!(world.delivered(ix).len() <= 100);
}
