//! The test vectors of `docs/wire.md` against the code: the page is read as it is printed, so
//! that neither can change without the other.
//!
//! In the page each vector stands in a block fenced as `vectors`: a line with the name and a
//! colon, then indented lines with the value (hex, or text where the value is text).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use serde_bytes::ByteBuf;

mod files;

use super::batch::{Batch, Header, LifeEnd, Opening};
use super::compare::{Baseline, Branch, Compare, Prefix};
use super::earlier::{Earlier, PullEarlier};
use super::frame::{self, *};
use super::frontier::{Definition, Entry, Frontier, News, Purpose};
use super::order::Agree;
use super::record::{Ack, MemberRecord, Standing, Suspicion};
use super::removal::{Removal, Removals};
use super::ticket::Ticket;
use crate::coordinate::Place;
use crate::descriptor::{Admission, CommitteePolicy, Descriptor, Order, Predecessor, Retention, Route};
use crate::id::{Address, BatchId, Digest, GroupId, NodeId};
use crate::identity::{Identity, Signatures, Verifier};
use crate::links::tag;

const PAGE: &str = include_str!("../../../docs/wire.md");

/// A life, and the clock: 2025-01-01 00:00:00 UTC.
const LIFE: u64 = 1_735_689_600_000;

/// All that the vectors are made of.
const PLACE: Place = Place { x: -24, y: 160, z: 3, height: 9, error: 12 };

struct World {
    ann: Identity,
    bob: Identity,
    lobby: Descriptor,
    group: GroupId,
}

impl World {
    fn new() -> Self {
        let lobby = Descriptor::open("lobby").expect("a good name");
        Self { ann: Identity::new(&[1; 32]), bob: Identity::new(&[2; 32]), group: lobby.id(), lobby }
    }

    fn ann(&self) -> NodeId {
        self.ann.node()
    }

    fn bob(&self) -> NodeId {
        self.bob.node()
    }

    fn address(&self) -> Address {
        Address::new(vec![4, 192, 0, 2, 7, 6, 0x0f, 0xa1]).expect("a good length")
    }

    /// A descriptor with nothing left at its default.
    fn full(&self) -> Descriptor {
        let mut members = vec![self.ann(), self.bob()];
        members.sort_unstable();
        Descriptor {
            name: "Gärten".to_owned(),
            order: Order::Total,
            route: Route::TreeShared,
            founder: Some(self.ann()),
            retention: Retention { age_s: Some(86_400), bytes: Some(1 << 30), count: Some(1_000_000) },
            admission: Admission::Members(members),
            committee: CommitteePolicy::Named(vec![self.ann()]),
            salt: Some(Digest::from_bytes([0x11; 20])),
            predecessor: Some(Predecessor {
                group: self.group,
                index: 7,
                digest: Digest::from_bytes([0x22; 20]),
            }),
        }
    }

    fn batch(&self, header: Header, messages: &[&'static [u8]]) -> Batch {
        let messages: Vec<_> = messages.iter().map(|it| Bytes::from_static(it)).collect();
        Batch::sign(&self.group, header, &messages, &self.ann)
    }

    fn first(&self) -> Batch {
        let header = Header {
            id: BatchId { source: self.ann(), life: LIFE, seq: 0 },
            previous: Digest::ZERO,
            time_after_life_ms: 0,
            dependencies: Vec::new(),
            opening: Some(Opening { nonce: 7, previous: None }),
        };
        self.batch(header, &[b"hello"])
    }

    fn second(&self) -> Batch {
        let header = Header {
            id: BatchId { source: self.ann(), life: LIFE, seq: 1 },
            previous: self.first().digest,
            time_after_life_ms: 1_500,
            dependencies: vec![BatchId { source: self.bob(), life: LIFE + 9, seq: 4 }],
            opening: None,
        };
        self.batch(header, &[b"how are you?", b"", &[0xff, 0x00]])
    }

    fn later_life(&self) -> Batch {
        let previous = LifeEnd { life: LIFE, end: 2, digest: self.second().digest };
        let header = Header {
            id: BatchId { source: self.ann(), life: LIFE + 60_000, seq: 0 },
            previous: Digest::ZERO,
            time_after_life_ms: -20,
            dependencies: Vec::new(),
            opening: Some(Opening { nonce: u64::MAX, previous: Some(previous) }),
        };
        self.batch(header, &[b"back"])
    }

    fn member(&self) -> MemberRecord {
        MemberRecord::sign(&self.group, &self.ann, LIFE, Standing::Online, "Ann", &[self.address()])
    }

    /// B is removed; its last batch that counts is number 4.
    fn removal(&self) -> Removal {
        let end = (LIFE + 9, 5, self.second().digest);
        Removal::sign(&self.group, &self.ann, LIFE, self.bob(), end)
    }

    fn ticket(&self) -> Ticket {
        let members = vec![(self.ann(), vec![self.address()])];
        Ticket { descriptor: self.lobby.clone(), members }
    }

    /// One frame of each kind, by name; all on channel 1, those of the link on 0.
    fn frames(&self) -> Vec<(&'static str, Bytes)> {
        let mut all = Vec::new();
        let mut add = |name, channel, frame: Frame| all.push((name, frame.encode(channel)));
        let tag = ByteBuf::from(tag(&self.group, &self.ann(), &self.bob()));
        add("Hello", 0, Frame::Hello(Hello { version: 1 }));
        add("Channels", 0, Frame::Channels(Channels { open: vec![(1, tag)], close: vec![300] }));
        add("Ping", 0, Frame::Ping(Ping { nonce: 1_000_000, place: Some(PLACE), rtt_us: Some(40_000) }));
        add("Pong", 0, Frame::Pong(Pong { nonce: 1_000_000, place: None }));
        self.membership(&mut add);
        self.tree(&mut add);
        self.data(&mut add);
        all
    }

    fn membership(&self, add: &mut impl FnMut(&'static str, u32, Frame)) {
        let (record, two) = (self.member().bytes, NodeId::from_bytes([2; 32]));
        let suspicion = Suspicion::sign(&self.group, &self.ann, self.bob(), LIFE).bytes;
        let probe = |alive| Probe { target: two, nonce: 3, alive };
        let records = |members, suspicions| Records { members, suspicions };
        let join = Join { record: record.clone(), fresh: true, age_ms: 250 };
        let welcome = Welcome {
            records: vec![record.clone()],
            baseline: vec![(two, LIFE, 12)],
            last_life: Some((LIFE, 5)),
            grounded: true,
            order: None,
            unknown_ms: Some(1_500),
        };
        add("Join", 1, Frame::Join(join));
        add("Welcome", 1, Frame::Welcome(welcome));
        add("Neighbour", 1, Frame::Neighbour(Neighbour { record: record.clone(), high: false, near: false }));
        let reply = NeighbourReply { accepted: true, record: record.clone() };
        add("NeighbourReply", 1, Frame::NeighbourReply(reply));
        add("Disconnect", 1, Frame::Disconnect(Empty::default()));
        add("ForwardJoin", 1, Frame::ForwardJoin(ForwardJoin { record: record.clone(), ttl: 6 }));
        add("Shuffle", 1, Frame::Shuffle(records(vec![record.clone()], Vec::new())));
        add("ShuffleReply", 1, Frame::ShuffleReply(records(Vec::new(), Vec::new())));
        add("Records", 1, Frame::Records(records(vec![record], vec![suspicion])));
        let entries = vec![(two.tag(), LIFE, 3)];
        add("RosterDigest", 1, Frame::RosterDigest(RosterDigest { entries, exchange: true }));
        add("Probe", 1, Frame::Probe(probe(false)));
        add("ProbeReply", 1, Frame::ProbeReply(probe(true)));
        let records = vec![self.removal().bytes];
        add("Removals", 1, Frame::Removals(Removals { known: 5, exchange: true, records }));
        // A heartbeat's request, of round 5.
        let message = ByteBuf::from(crate::wire::cbor::to_vec(&(8_u8, 5_u32)));
        add("Agree", 1, Frame::Agree(Agree { epoch: 2, message }));
    }

    fn tree(&self, add: &mut impl FnMut(&'static str, u32, Frame)) {
        let root = NodeId::from_bytes([2; 32]);
        let place = PLACE;
        let advert = Advert {
            root,
            epoch: 1,
            number: 42,
            delay_us: 1_250,
            path: vec![root.tag(), 1],
            free: 8,
            heir: Some(root),
            size: 12,
            plan: 3,
        };
        add("Advert", 1, Frame::Advert(advert));
        let cluster = Cluster { centre: place, members: 2, best: root.tag(), place, source: true };
        let graft = Graft { root, epoch: 1, size: 3, core: true, meshed: false, clusters: vec![cluster] };
        add("Graft", 1, Frame::Graft(graft));
        add("Stay", 1, Frame::Stay(Empty::default()));
        let reply = GraftReply { accepted: false, candidates: vec![root] };
        add("GraftReply", 1, Frame::GraftReply(reply));
        let addresses = self.member().addresses;
        let way_us = Some(1_500);
        let candidate =
            Candidate { node: root, addresses, delay_us: 3_000, free: 2, place, age_s: 4, way_us };
        let candidates = vec![candidate];
        let told =
            Candidates { tree: root.tag().wrapping_add(1), towards: place, exchange: true, candidates };
        add("Candidates", 1, Frame::Candidates(told));
        add("Crown", 1, Frame::Crown(Crown { root, epoch: 2 }));
        let addresses = self.member().addresses;
        let appoint = Appoint {
            root,
            epoch: 1,
            tag: root.tag(),
            addresses: addresses.clone(),
            alone: true,
            wide: false,
        };
        add("Appoint", 1, Frame::Appoint(appoint));
        add("Cores", 1, Frame::Cores(Cores { root, epoch: 1, cores: vec![(root, addresses)] }));
        add("Mesh", 1, Frame::Mesh(Mesh { on: true }));
        add("Pulse", 1, Frame::Pulse(Pulse { number: 43 }));
        add("Prune", 1, Frame::Prune(Empty::default()));
    }

    fn data(&self, add: &mut impl FnMut(&'static str, u32, Frame)) {
        let source = NodeId::from_bytes([2; 32]);
        let head = ByteBuf::from(&self.first().digest.as_bytes()[..8]);
        let frontier = Frontier {
            number: 5,
            base: 4,
            purpose: Purpose::News.code(),
            definitions: vec![Definition { reference: 1, source, life: LIFE }],
            entries: vec![Entry { reference: 1, next: 10, head, above: vec![(12, 14)] }],
        };
        let ack = Ack::sign(&self.group, &self.bob, self.ann(), LIFE, 2);
        let fork =
            Fork { first: ByteBuf::from(&b"one batch"[..]), second: ByteBuf::from(&b"another batch"[..]) };
        add("Batch", 1, Frame::Batch(Bytes::from_static(b"the bytes of a batch")));
        add("Frontier", 1, Frame::Frontier(frontier));
        add("News", 1, Frame::News(News { next: vec![(1, 300)] }));
        add("Pull", 1, Frame::Pull(Pull { source, life: LIFE, ranges: vec![(10, 12), (14, 20)] }));
        let end = PullEnd { source, life: LIFE, absent: vec![(14, 20)], dropped_below: 3 };
        add("PullEnd", 1, Frame::PullEnd(end));
        add("Flow", 1, Frame::Flow(Flow { paused: true }));
        add("Summary", 1, Frame::Summary(Summary { frontiers: 1, roster: u64::MAX }));
        add("AckRequest", 1, Frame::AckRequest(AckRequest { source, life: LIFE, next: 2, round: 1 }));
        add("Acks", 1, Frame::Acks(Acks { acks: vec![ack] }));
        add("Fork", 1, Frame::Fork(fork));
        add("Listen", 1, Frame::Listen(Listen { on: true }));
        add("PullEarlier", 1, Frame::PullEarlier(PullEarlier { before: Some(-7) }));
        let batches = vec![(60_000, ByteBuf::from(&b"a batch"[..]))];
        add("Earlier", 1, Frame::Earlier(Earlier { batches, last: Some(-9), end: true, whole: false }));
        add("Hold", 1, Frame::Hold(Hold { source, life: LIFE, end: 20 }));
        let at = Prefix::of(&source, 4);
        let branches = vec![Branch::new(at, 1..=16)];
        let compare =
            Compare { purpose: Purpose::Tell.code(), branches, asked: vec![Prefix::of(&source, 2)] };
        add("Compare", 1, Frame::Compare(compare));
        add("Baseline", 1, Frame::Baseline(Baseline { first: vec![(source, LIFE, 12)] }));
    }

    /// Every vector by name, as it is printed.
    fn vectors(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut add = |name: &str, value: String| all.push((name.to_owned(), value));
        add("node A", hex(self.ann().as_bytes()));
        add("node A, printed", self.ann().to_string());
        add("tag of node A", self.ann().tag().to_string());
        add("node B", hex(self.bob().as_bytes()));
        add("node B, printed", self.bob().to_string());
        add("descriptor of lobby", hex(&self.lobby.to_bytes()));
        add("group id of lobby", hex(self.group.as_bytes()));
        add("full descriptor", hex(&self.full().to_bytes()));
        add("group id of the full descriptor", hex(self.full().id().as_bytes()));
        add("channel tag from A to B", hex(&tag(&self.group, &self.ann(), &self.bob())));
        add("channel tag from B to A", hex(&tag(&self.group, &self.bob(), &self.ann())));
        let batches =
            [("batch 0", self.first()), ("batch 1", self.second()), ("later life", self.later_life())];
        for (name, batch) in batches {
            add(name, hex(&batch.bytes));
            add(&format!("digest of {name}"), hex(batch.digest.as_bytes()));
        }
        add("member record", hex(&self.member().bytes));
        let suspicion = Suspicion::sign(&self.group, &self.ann, self.bob(), LIFE);
        add("suspicion", hex(&suspicion.bytes));
        add("acknowledgement", hex(&Ack::sign(&self.group, &self.bob, self.ann(), LIFE, 2)));
        add("removal", hex(&self.removal().bytes));
        add("ticket", self.ticket().to_string());
        for (name, bytes) in self.frames() {
            add(&format!("frame {name}"), hex(&bytes));
        }
        for (name, bytes) in files::vectors(&self.group) {
            add(&name, hex(&bytes));
        }
        all
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect()
}

/// The vectors as the page has them.
fn printed() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let (mut inside, mut name) = (false, String::new());
    for line in PAGE.lines() {
        match line {
            "```vectors" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ if line.starts_with(' ') => {
                found.entry(name.clone()).or_insert_with(String::new).push_str(line.trim())
            }
            _ => name = line.trim_end_matches(':').to_owned(),
        }
    }
    found
}

/// As it should stand in the page.
fn print(name: &str, value: &str) -> String {
    let mut text = format!("{name}:\n");
    for chunk in value.as_bytes().chunks(96) {
        writeln!(text, "  {}", std::str::from_utf8(chunk).expect("ASCII")).expect("a string takes all");
    }
    text
}

#[test]
fn the_page_and_the_code_agree() {
    let mut on_page = printed();
    let mut wrong = String::new();
    for (name, value) in World::new().vectors() {
        if on_page.remove(&name).as_deref() != Some(&value) {
            wrong.push_str(&print(&name, &value));
        }
    }
    assert!(wrong.is_empty(), "docs/wire.md does not have these vectors:\n{wrong}");
    assert!(on_page.is_empty(), "docs/wire.md has vectors that nobody checks: {:?}", on_page.keys());
}

#[test]
fn what_the_page_prints_reads_back() {
    let (world, page) = (World::new(), printed());
    let bytes = |name: &str| Bytes::from(unhex(&page[name]));
    assert_eq!(Descriptor::from_bytes(&bytes("descriptor of lobby")), Ok(world.lobby.clone()));
    assert_eq!(Descriptor::from_bytes(&bytes("full descriptor")), Ok(world.full()));
    let verifier = Verifier::new(&world.ann()).expect("a key");
    for (name, header) in [("batch 0", world.first().header), ("batch 1", world.second().header)] {
        let batch = Batch::parse(&world.group, bytes(name)).expect("parses");
        batch.check(&verifier).expect("signed");
        assert_eq!(batch.header, header);
    }
    let record = MemberRecord::parse(&bytes("member record")).expect("parses");
    record.check(&world.group, Signatures::Checked).expect("signed");
    Suspicion::open(&world.group, &bytes("suspicion"), Signatures::Checked).expect("signed");
    let ack = bytes("acknowledgement");
    Ack::parse(&ack).expect("parses").check(&world.group, &ack, Signatures::Checked).expect("signed");
    let removal = Removal::parse(&bytes("removal")).expect("parses");
    removal.check(&world.group, &world.ann(), Signatures::Checked).expect("signed");
    assert_eq!(page["ticket"].parse(), Ok(world.ticket()));
}

#[test]
fn what_the_page_says_of_files_reads_back() {
    let page = printed();
    files::read_back(&World::new().group, |name| unhex(&page[name]));
}

#[test]
fn every_frame_of_the_page_is_known() {
    let page = printed();
    let frames: Vec<_> = page.iter().filter(|(name, _)| name.starts_with("frame ")).collect();
    assert_eq!(frames.len(), 45, "one of each kind");
    for (name, text) in frames {
        let (channel, frame) = frame::decode(&Bytes::from(unhex(text))).expect("decodes");
        let kind = format!("{frame:?}");
        assert_eq!(kind.split('(').next(), name.strip_prefix("frame "), "channel {channel}");
    }
}
