//! A static group against a node that has its ticket and lies: every frame that such a node can
//! send, and every frame in which a member can speak for it.

use bytes::Bytes;
use serde_bytes::ByteBuf;

use crate::config::Config;
use crate::descriptor::{Admission, Descriptor};
use crate::engine::{Engine, Start};
use crate::id::{Address, BatchId, Digest, GroupId, LinkId, NodeId, Seq};
use crate::identity::Identity;
use crate::io::{Event, Input, Lane, MemberState, Output};
use crate::links::tag;
use crate::out::Out;
use crate::time::Time;
use crate::wire::batch::{Batch, Header, Opening};
use crate::wire::compare::{Baseline, Compare, Prefix};
use crate::wire::frame::{
    self, AckRequest, Appoint, Channels, Cores, Empty, ForwardJoin, Frame, Graft, Join, Mesh, Neighbour,
    NeighbourReply,
};
use crate::wire::frame::{Acks, Fork, Probe, Pull, Records, RosterDigest, Summary, Welcome};
use crate::wire::frontier::{Definition, Entry, Frontier};
use crate::wire::record::{Ack, MemberRecord, Standing, Suspicion};

const LIFE: u64 = 1_000_000;
const MEMBER: LinkId = LinkId(1);
const INTRUDER: LinkId = LinkId(2);

/// One member under test; the other member and the intruder are played by hand.
struct Stage {
    engine: Engine,
    group: GroupId,
    member: Identity,
    intruder: Identity,
    now: u64,
    sent: Vec<(LinkId, Bytes)>,
    dials: Vec<NodeId>,
    events: Vec<Event>,
}

impl Stage {
    fn new() -> Self {
        let [me, member, intruder] = [[1; 32], [2; 32], [3; 32]].map(|key| Identity::new(&key));
        let mut listed = vec![me.node(), member.node()];
        listed.sort_unstable();
        let mut descriptor = Descriptor::open("board").expect("a good name");
        descriptor.admission = Admission::Members(listed);
        let start = Start {
            config: Config::lan(),
            secret_key: [1; 32],
            seed: 7,
            unix_ms: LIFE,
            last_life: 0,
            ends: Vec::new(),
        };
        let engine = Engine::new(start).expect("a good configuration");
        let (group, now) = (descriptor.id(), 0);
        let mut stage = Self {
            engine,
            group,
            member,
            intruder,
            now,
            sent: Vec::new(),
            dials: Vec::new(),
            events: Vec::new(),
        };
        stage.input(Input::Join(Box::new(descriptor)));
        stage
    }

    /// The member is new itself, and asks to be let in.
    fn among_newcomers() -> Self {
        let mut stage = Self::new();
        stage.link(MEMBER);
        let record = stage.record(&stage.member);
        stage.receive(MEMBER, &Frame::Join(Join { record, fresh: true, age_ms: 0 }), 1);
        stage
    }

    /// What the member says in the midst of its life.
    fn late_batch(&self, seq: Seq) -> Batch {
        let header = Header {
            id: BatchId { source: self.member.node(), life: LIFE, seq },
            previous: Digest::ZERO,
            time_after_life_ms: 0,
            dependencies: Vec::new(),
            opening: None,
        };
        Batch::sign(&self.group, header, &[Bytes::from_static(b"news")], &self.member)
    }

    fn input(&mut self, input: Input) {
        let mut out = Out::new();
        self.engine.handle(Time::from_micros(self.now), input, &mut out);
        while let Some(output) = out.pop() {
            match output {
                Output::Send { link, frame, .. } => self.sent.push((link, frame)),
                Output::Dial { node, .. } => self.dials.push(node),
                Output::Event(event) => self.events.push(event),
                Output::Persist { token, .. } => self.input(Input::Persisted(token)),
                Output::Close { .. }
                | Output::Record(_)
                | Output::Fetch { .. }
                | Output::FetchEarlier { .. } => {}
            }
        }
    }

    fn receive(&mut self, link: LinkId, frame: &Frame, channel: u32) {
        self.input(Input::Frame { link, lane: Lane::Live, frame: frame.encode(channel) });
    }

    /// A link on which the other side shows that it knows the group.
    fn link(&mut self, link: LinkId) {
        let node = if link == MEMBER { self.member.node() } else { self.intruder.node() };
        self.input(Input::LinkUp { link, node });
        let tag = tag(&self.group, &node, &self.engine.node());
        let open = Channels { open: vec![(1, ByteBuf::from(tag))], close: Vec::new() };
        self.receive(link, &Frame::Channels(open), 0);
    }

    fn record(&self, of: &Identity) -> ByteBuf {
        MemberRecord::sign(&self.group, of, 9, Standing::Online, "eve", &[address()]).bytes
    }

    fn batch(&self, by: &Identity, dependencies: Vec<BatchId>) -> Batch {
        let header = Header {
            id: BatchId { source: by.node(), life: LIFE, seq: 0 },
            previous: Digest::ZERO,
            time_after_life_ms: 0,
            dependencies,
            opening: Some(Opening { nonce: 1, previous: None }),
        };
        Batch::sign(&self.group, header, &[Bytes::from_static(b"psst")], by)
    }

    /// The other member is let in.
    fn admit_member(&mut self) {
        self.link(MEMBER);
        let record = MemberRecord::sign(&self.group, &self.member, 9, Standing::Online, "bob", &[]).bytes;
        self.receive(MEMBER, &Frame::Join(Join { record, fresh: true, age_ms: 0 }), 1);
        let (records, baseline) = (Vec::new(), Vec::new());
        self.receive(
            MEMBER,
            &Frame::Welcome(Welcome {
                records,
                baseline,
                last_life: None,
                grounded: true,
                order: None,
                unknown_ms: None,
            }),
            1,
        );
        assert!(
            self.view_of(&self.member.node())
                .is_some_and(|(state, is_near)| { state == MemberState::Online && is_near })
        );
    }

    fn view_of(&self, node: &NodeId) -> Option<(MemberState, bool)> {
        let view = self.engine.group(Time::from_micros(self.now), self.group).expect("joined");
        view.members.iter().find(|it| it.node == *node).map(|it| (it.state, it.neighbour))
    }

    /// Frames of the group on a link, in clear words.
    fn group_frames(&self, link: LinkId) -> usize {
        let decoded =
            self.sent.iter().filter(|it| it.0 == link).map(|it| frame::decode(&it.1).expect("ours"));
        decoded.filter(|(channel, _)| *channel != 0).count()
    }

    /// Nothing of the intruder has come in, and nothing of the group has gone out to it.
    fn assert_untouched(&mut self, after: &str) {
        let eve = self.intruder.node();
        assert_eq!(self.view_of(&eve), None, "a member after {after}");
        assert_eq!(self.group_frames(INTRUDER), 0, "told something after {after}");
        assert!(!self.dials.contains(&eve), "dialled after {after}");
        let about_eve = |event: &&Event| match event {
            Event::Deliver { delivery, .. } => delivery.source == eve,
            Event::MemberJoined { node, .. } | Event::MemberOnline { node, .. } => *node == eve,
            Event::MemberFailed { .. } | Event::Forked { .. } | Event::Overloaded { .. } => true,
            Event::Receipt { have, .. } => *have > 1,
            _ => false,
        };
        assert_eq!(self.events.iter().find(about_eve), None, "told after {after}");
        for _ in 0..20 {
            self.now += 100_000;
            self.input(Input::Tick);
        }
    }
}

fn address() -> Address {
    Address::new(vec![4, 10, 0, 0, 9, 6, 0, 1]).expect("short")
}

#[test]
fn a_stranger_is_not_even_shown_that_the_group_is_here() {
    let mut stage = Stage::new();
    stage.admit_member();
    stage.link(INTRUDER);
    let mine = tag(&stage.group, &stage.engine.node(), &stage.intruder.node());
    for (_, bytes) in stage.sent.iter().filter(|it| it.0 == INTRUDER) {
        if let Ok((_, Frame::Channels(channels))) = frame::decode(bytes) {
            assert!(channels.open.iter().all(|(_, told)| told.as_slice() != mine), "our tag");
        }
    }
    // Nor when the group is joined while the link stands already.
    let mut descriptor = Descriptor::open("other").expect("a good name");
    descriptor.admission = Admission::Members(vec![stage.engine.node()]);
    let before = stage.sent.len();
    stage.input(Input::Join(Box::new(descriptor)));
    let told = stage.sent[before..].iter().filter(|it| it.0 == INTRUDER);
    assert_eq!(told.filter(|it| matches!(frame::decode(&it.1), Ok((_, Frame::Channels(_))))).count(), 0);
}

#[test]
fn whatever_a_stranger_sends_is_not_heard() {
    let mut stage = Stage::new();
    stage.admit_member();
    stage.link(INTRUDER);
    let (eve, bob) = (stage.intruder.node(), stage.member.node());
    let (record, of_bob) = (stage.record(&stage.intruder), stage.record(&stage.member));
    let batch = stage.batch(&stage.intruder, Vec::new()).bytes;
    let stolen = stage.batch(&stage.member, Vec::new()).bytes;
    let entry = Entry { reference: 1, next: 5, head: ByteBuf::from([1; 20]), above: Vec::new() };
    let definitions = vec![Definition { reference: 1, source: eve, life: LIFE }];
    let frontier = Frontier { number: 1, base: 0, purpose: 2, definitions, entries: vec![entry] };
    let suspicion = Suspicion::sign(&stage.group, &stage.intruder, bob, 9).bytes;
    let ack = Ack::sign(&stage.group, &stage.intruder, stage.engine.node(), LIFE, 1);
    let records = |members| Records { members, suspicions: vec![suspicion.clone()] };
    let frames = [
        Frame::Join(Join { record: record.clone(), fresh: true, age_ms: 0 }),
        Frame::Neighbour(Neighbour { record: record.clone(), high: true, near: false }),
        Frame::NeighbourReply(NeighbourReply { accepted: true, record: record.clone() }),
        Frame::Welcome(Welcome {
            records: vec![record.clone()],
            baseline: vec![(eve, LIFE, 0)],
            last_life: None,
            grounded: true,
            order: None,
            unknown_ms: None,
        }),
        Frame::ForwardJoin(ForwardJoin { record: record.clone(), ttl: 0 }),
        Frame::Records(records(vec![record.clone(), of_bob])),
        Frame::Shuffle(records(vec![record.clone()])),
        Frame::RosterDigest(RosterDigest { entries: Vec::new(), exchange: true }),
        Frame::Summary(Summary { frontiers: 1, roster: 1 }),
        Frame::Compare(Compare { purpose: 1, branches: Vec::new(), asked: vec![Prefix::ROOT] }),
        Frame::Baseline(Baseline { first: vec![(eve, LIFE, 0)] }),
        Frame::Frontier(frontier),
        Frame::Batch(batch),
        Frame::Batch(stolen),
        Frame::Pull(Pull { source: bob, life: LIFE, ranges: vec![(0, 9)] }),
        Frame::Graft(Graft {
            root: eve,
            epoch: u64::MAX,
            size: 1,
            core: true,
            meshed: true,
            clusters: Vec::new(),
        }),
        Frame::Appoint(Appoint {
            root: eve,
            epoch: 1,
            tag: eve.tag(),
            addresses: Vec::new(),
            alone: false,
            wide: false,
        }),
        Frame::Cores(Cores { root: eve, epoch: 1, cores: vec![(eve, Vec::new())] }),
        Frame::Mesh(Mesh { on: true }),
        Frame::Probe(Probe { target: bob, nonce: 1, alive: false }),
        Frame::AckRequest(AckRequest { source: eve, life: LIFE, next: 1, round: 1 }),
        Frame::Acks(Acks { acks: vec![ack] }),
        Frame::Disconnect(Empty::default()),
    ];
    for frame in frames {
        stage.receive(INTRUDER, &frame, 1);
        stage.assert_untouched(&format!("{frame:?}"));
    }
    assert!(!stage.events.iter().any(|it| matches!(it, Event::Deliver { .. })), "not even another's batch");
}

#[test]
fn no_member_can_bring_a_stranger_in() {
    let mut stage = Stage::new();
    stage.admit_member();
    let (eve, group) = (stage.intruder.node(), stage.group);
    let record = stage.record(&stage.intruder);
    let one = stage.batch(&stage.intruder, Vec::new());
    let two = stage.batch(&stage.intruder, vec![BatchId { source: eve, life: 1, seq: 0 }]);
    let suspicion = Suspicion::sign(&group, &stage.intruder, stage.member.node(), 9).bytes;
    let ack = Ack::sign(&group, &stage.intruder, stage.engine.node(), LIFE, 1);
    let entry = Entry { reference: 1, next: 5, head: ByteBuf::from([1; 20]), above: Vec::new() };
    let definitions = vec![Definition { reference: 1, source: eve, life: LIFE }];
    let frames = [
        Frame::Records(Records { members: vec![record.clone()], suspicions: vec![suspicion] }),
        Frame::Welcome(Welcome {
            records: vec![record.clone()],
            baseline: vec![(eve, LIFE, 0)],
            last_life: None,
            grounded: true,
            order: None,
            unknown_ms: None,
        }),
        Frame::ForwardJoin(ForwardJoin { record: record.clone(), ttl: 0 }),
        Frame::Shuffle(Records { members: vec![record], suspicions: Vec::new() }),
        Frame::Batch(one.bytes.clone()),
        Frame::Fork(Fork { first: one.bytes.to_vec().into(), second: two.bytes.to_vec().into() }),
        Frame::Frontier(Frontier { number: 1, base: 0, purpose: 2, definitions, entries: vec![entry] }),
        Frame::Probe(Probe { target: eve, nonce: 1, alive: false }),
        Frame::Acks(Acks { acks: vec![ack] }),
    ];
    for frame in frames {
        stage.receive(MEMBER, &frame, 1);
        stage.assert_untouched(&format!("{frame:?}"));
    }
    let view = stage.engine.group(Time::from_micros(stage.now), group).expect("joined");
    assert!(view.delivered.iter().all(|(source, ..)| *source != eve), "no frontier of it is kept");
}

#[test]
fn a_cause_that_nobody_may_publish_holds_nothing_up() {
    let mut stage = Stage::new();
    stage.admit_member();
    let cause = BatchId { source: stage.intruder.node(), life: LIFE, seq: 3 };
    let batch = stage.batch(&stage.member, vec![cause]).bytes;
    stage.receive(MEMBER, &Frame::Batch(batch), 1);
    let heard = stage.events.iter().any(|it| matches!(it, Event::Deliver { .. }));
    assert!(heard, "delivered at once, not when the cause is given up");
}

/// Let in by a newcomer, which could not say where sources begin, a node waits for the beginning of a life that is
/// long gone, until one that knows says what was before its time.
#[test]
fn who_was_let_in_by_a_newcomer_asks_again_where_to_start() {
    for grounded in [false, true] {
        let mut stage = Stage::among_newcomers();
        let bob = stage.member.node();
        let welcome = |baseline, grounded| {
            Frame::Welcome(Welcome {
                records: Vec::new(),
                baseline,
                last_life: None,
                grounded,
                order: None,
                unknown_ms: None,
            })
        };
        stage.receive(MEMBER, &welcome(Vec::new(), grounded), 1);
        // Its first waits for something, and is long gone by everybody else's account.
        let cause = BatchId { source: stage.engine.node(), life: 5, seq: 3 };
        let early = stage.batch(&stage.member, vec![cause]);
        stage.receive(MEMBER, &Frame::Batch(early.bytes), 1);
        let late = stage.late_batch(9);
        stage.receive(MEMBER, &Frame::Batch(late.bytes), 1);
        stage.sent.clear();
        for _ in 0..6 {
            stage.now += 100_000;
            stage.input(Input::Tick);
        }
        let asks = |(_, bytes): &(LinkId, Bytes)| {
            matches!(frame::decode(bytes), Ok((_, Frame::Join(Join { fresh: true, .. }))))
        };
        assert_eq!(stage.sent.iter().any(asks), !grounded, "who knows does not ask");
        stage.receive(MEMBER, &welcome(vec![(bob, LIFE, 9)], true), 1);
        let delivered = |seq| {
            let is = |event: &Event| matches!(event, Event::Deliver { delivery, .. } if delivery.seq == seq);
            stage.events.iter().any(is)
        };
        assert_eq!(delivered(9), !grounded, "nobody else's word is taken");
        assert!(!delivered(0), "it is before its time");
        // Nor is it owed to whoever comes in by this node, however long ago that one entered.
        stage.sent.clear();
        let record = MemberRecord::sign(&stage.group, &stage.member, 9, Standing::Online, "bob", &[]).bytes;
        stage.receive(MEMBER, &Frame::Join(Join { record, fresh: true, age_ms: 60_000 }), 1);
        let baseline = stage.sent.iter().find_map(|(_, bytes)| match frame::decode(bytes) {
            Ok((_, Frame::Welcome(welcome))) => Some(welcome.baseline),
            _ => None,
        });
        let first = if grounded { 0 } else { 9 };
        assert!(baseline.expect("a welcome").contains(&(bob, LIFE, first)));
    }
}

/// Who came after a node cannot say what was published since that one came: its word counts when nobody older has been
/// found for a while.
#[test]
fn a_newcomer_waits_for_one_that_came_before_it() {
    for is_found in [true, false] {
        let mut stage = Stage::among_newcomers();
        let bob = stage.member.node();
        let batch = stage.late_batch(9);
        let batch = Frame::Batch(batch.bytes);
        let tells = |stage: &mut Stage, unknown_ms| {
            let record =
                MemberRecord::sign(&stage.group, &stage.member, 9, Standing::Online, "bob", &[]).bytes;
            let (records, baseline) = (vec![record], vec![(bob, LIFE, 9)]);
            let (last_life, grounded, order) = (None, true, None);
            let welcome = Welcome { records, baseline, last_life, grounded, order, unknown_ms };
            stage.receive(MEMBER, &Frame::Welcome(welcome), 1);
            stage.receive(MEMBER, &batch, 1);
            stage.events.iter().any(|it| matches!(it, Event::Deliver { .. }))
        };
        assert!(!tells(&mut stage, Some(1_500)));
        stage.sent.clear();
        stage.now += 1_500_000;
        stage.input(Input::Tick);
        let asks = |(_, bytes): &(LinkId, Bytes)| {
            matches!(frame::decode(bytes), Ok((_, Frame::Join(Join { fresh: true, .. }))))
        };
        assert!(stage.sent.iter().any(asks), "it goes on asking");
        let unknown_ms = (!is_found).then_some(1_500);
        assert_eq!(tells(&mut stage, unknown_ms), is_found, "it may be owed what was before");
        stage.now += 600_000;
        stage.input(Input::Tick);
        assert!(tells(&mut stage, unknown_ms), "nobody is older");
    }
}
