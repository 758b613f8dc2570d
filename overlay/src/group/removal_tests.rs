//! A member against records that are forged, and against one that was removed and goes on.

use bytes::Bytes;
use serde_bytes::ByteBuf;

use crate::config::Config;
use crate::descriptor::{Admission, Descriptor};
use crate::engine::{Engine, Start};
use crate::id::{BatchId, Digest, GroupId, LinkId, NodeId, Seq};
use crate::identity::Identity;
use crate::io::{Event, Input, Lane, MemberState, Output};
use crate::links::tag;
use crate::out::Out;
use crate::time::Time;
use crate::wire::batch::{Batch, Header, Opening};
use crate::wire::frame::{self, Acks, Channels, Frame, Join, Neighbour, Pull, Records, Welcome};
use crate::wire::record::{Ack, MemberRecord, Standing, Suspicion};
use crate::wire::removal::{Removal, Removals};

const LIFE: u64 = 1_000_000;
const FOUNDER: LinkId = LinkId(1);
const VICTIM: LinkId = LinkId(2);

/// One member under test; the founder and another member are played by hand.
struct Stage {
    engine: Engine,
    group: GroupId,
    victim: Identity,
    sent: Vec<(LinkId, Bytes)>,
    events: Vec<Event>,
    written: usize,
}

impl Stage {
    fn new(with_founder: bool) -> Self {
        let [founder, victim] = [[2; 32], [3; 32]].map(|key| Identity::new(&key));
        let mut descriptor = Descriptor::open("board").expect("a good name");
        if with_founder {
            descriptor.founder = Some(founder.node());
            descriptor.admission = Admission::Ticket;
        }
        let (config, group) = (Config::lan(), descriptor.id());
        let start =
            Start { config, secret_key: [1; 32], seed: 7, unix_ms: LIFE, last_life: 0, ends: Vec::new() };
        let engine = Engine::new(start).expect("a good configuration");
        let (sent, events) = (Vec::new(), Vec::new());
        let mut stage = Self { engine, group, victim, sent, events, written: 0 };
        stage.input(Input::Join(Box::new(descriptor)));
        for (link, key) in [(FOUNDER, [2; 32]), (VICTIM, [3; 32])] {
            stage.admit(link, &Identity::new(&key));
        }
        stage
    }

    fn input(&mut self, input: Input) {
        let mut out = Out::new();
        self.engine.handle(Time::ZERO, input, &mut out);
        while let Some(output) = out.pop() {
            match output {
                Output::Send { link, frame, .. } => self.sent.push((link, frame)),
                Output::Event(event) => self.events.push(event),
                Output::Persist { token, .. } => {
                    self.written += 1;
                    self.input(Input::Persisted(token));
                }
                _ => {}
            }
        }
    }

    fn link(&mut self, link: LinkId, node: NodeId) {
        self.input(Input::LinkUp { link, node });
        let tag = tag(&self.group, &node, &self.engine.node());
        let open = Channels { open: vec![(1, ByteBuf::from(tag))], close: Vec::new() };
        let frame = Frame::Channels(open).encode(0);
        self.input(Input::Frame { link, lane: Lane::Live, frame });
    }

    fn admit(&mut self, link: LinkId, who: &Identity) {
        self.link(link, who.node());
        let record = MemberRecord::sign(&self.group, who, 9, Standing::Online, "", &[]).bytes;
        self.receive(link, &Frame::Join(Join { record, fresh: true, age_ms: 0 }));
        let (records, baseline) = (Vec::new(), Vec::new());
        self.receive(
            link,
            &Frame::Welcome(Welcome {
                records,
                baseline,
                last_life: None,
                grounded: true,
                order: None,
                unknown_ms: None,
            }),
        );
    }

    fn receive(&mut self, link: LinkId, frame: &Frame) {
        self.input(Input::Frame { link, lane: Lane::Live, frame: frame.encode(1) });
    }

    /// The victim's batches, chained; the one after the next-to-last of another content.
    fn batches(&self, count: Seq) -> Vec<Batch> {
        let (mut all, mut previous) = (Vec::new(), Digest::ZERO);
        for seq in 0..count {
            let header = Header {
                id: BatchId { source: self.victim.node(), life: LIFE, seq },
                previous,
                time_after_life_ms: 0,
                dependencies: Vec::new(),
                opening: (seq == 0).then_some(Opening { nonce: 1, previous: None }),
            };
            let batch = Batch::sign(&self.group, header, &[Bytes::from_static(b"psst")], &self.victim);
            previous = batch.digest;
            all.push(batch);
        }
        all
    }

    fn removal(&self, by: &Identity, number: u64, end: Seq, digest: Digest) -> Frame {
        let removal = Removal::sign(&self.group, by, number, self.victim.node(), (LIFE, end, digest));
        Frame::Removals(Removals { known: 0, exchange: false, records: vec![removal.bytes] })
    }

    fn is_removed(&self) -> bool {
        let view = self.engine.group(Time::ZERO, self.group).expect("joined");
        let victim = view.members.iter().find(|it| it.node == self.victim.node()).expect("it was a member");
        assert_eq!(victim.neighbour, victim.state == MemberState::Online);
        victim.state == MemberState::Removed
    }

    fn delivered(&self) -> Vec<Seq> {
        let seqs = self.events.iter().filter_map(|it| match it {
            Event::Deliver { delivery, .. } => Some(delivery.seq),
            _ => None,
        });
        seqs.collect()
    }

    /// What was sent on a link since, in the group or about its channel.
    fn take(&mut self, link: LinkId) -> Vec<Frame> {
        let sent = std::mem::take(&mut self.sent).into_iter().filter(|it| it.0 == link);
        let frames = sent.map(|(_, bytes)| frame::decode(&bytes).expect("ours").1);
        frames.filter(|it| !matches!(it, Frame::Ping(_) | Frame::Pong(_) | Frame::Hello(_))).collect()
    }
}

#[test]
fn nobody_but_the_founder_is_believed() {
    for with_founder in [true, false] {
        let mut stage = Stage::new(with_founder);
        let [forger, founder] = [[4; 32], [2; 32]].map(|key| Identity::new(&key));
        let elsewhere = Removal::sign(
            &GroupId::from_bytes([9; 32]),
            &founder,
            1,
            stage.victim.node(),
            (0, 0, Digest::ZERO),
        );
        let elsewhere =
            Removals { known: 0, exchange: false, records: vec![elsewhere.bytes, ByteBuf::from([0; 99])] };
        let of_itself = stage.removal(&Identity::new(&[3; 32]), 1, 0, Digest::ZERO);
        for told in [stage.removal(&forger, 1, 0, Digest::ZERO), Frame::Removals(elsewhere), of_itself] {
            for link in [FOUNDER, VICTIM] {
                stage.receive(link, &told);
            }
        }
        let of_the_founder = Removal::sign(&stage.group, &founder, 1, founder.node(), (0, 0, Digest::ZERO));
        let records = vec![of_the_founder.bytes];
        stage.receive(FOUNDER, &Frame::Removals(Removals { known: 0, exchange: false, records }));
        assert!(!stage.is_removed() && stage.written == 0);
        stage.receive(FOUNDER, &stage.removal(&founder, 1, 0, Digest::ZERO));
        assert_eq!((stage.is_removed(), stage.written), (with_founder, usize::from(with_founder)));
        let told = stage.events.iter().filter(|it| matches!(it, Event::MemberRemoved { .. })).count();
        assert_eq!(told, usize::from(with_founder));
    }
}

#[test]
fn who_was_removed_is_told_and_not_heard_and_nobody_speaks_for_it() {
    let mut stage = Stage::new(true);
    let (batches, founder) = (stage.batches(4), Identity::new(&[2; 32]));
    stage.receive(VICTIM, &Frame::Batch(batches[0].bytes.clone()));
    let removal = stage.removal(&founder, 1, 2, batches[1].digest);
    stage.take(VICTIM);
    stage.receive(FOUNDER, &removal);
    let told = stage.take(VICTIM);
    let is_all = matches!(&told[..], [Frame::Removals(it), Frame::Disconnect(_), Frame::Channels(end)]
        if it.records.len() == 1 && end.close.len() == 1);
    assert!(is_all, "{told:?}");

    // It goes on as if nothing were: on a channel that is closed, and on one that it opens anew.
    let victim = Identity::new(&[3; 32]);
    let record = MemberRecord::sign(&stage.group, &victim, 99, Standing::Online, "eve", &[]).bytes;
    let me = stage.engine.node();
    let ask = Neighbour { record: record.clone(), high: true, near: false };
    let frames = [
        Frame::Join(Join { record: record.clone(), fresh: true, age_ms: 0 }),
        Frame::Neighbour(ask),
        Frame::Batch(batches[1].bytes.clone()),
        Frame::Records(Records { members: vec![record.clone()], suspicions: Vec::new() }),
        Frame::Pull(Pull { source: victim.node(), life: LIFE, ranges: vec![(0, 9)] }),
    ];
    for frame in &frames {
        stage.receive(VICTIM, frame);
        assert!(stage.take(VICTIM).is_empty(), "{frame:?}");
        stage.link(VICTIM, victim.node());
        let told = stage.take(VICTIM);
        let is_told = matches!(&told[..], [Frame::Removals(_), Frame::Disconnect(_), Frame::Channels(_)]);
        assert!(is_told, "{told:?}");
        stage.receive(VICTIM, frame);
        assert!(stage.take(VICTIM).is_empty(), "{frame:?}");
    }
    // Nor does a member say anything in its name.
    let suspicion = Suspicion::sign(&stage.group, &victim, me, 9).bytes;
    let records = Records { members: vec![record], suspicions: vec![suspicion] };
    stage.receive(FOUNDER, &Frame::Records(records));
    let ack = Ack::sign(&stage.group, &victim, me, LIFE, 1);
    stage.receive(FOUNDER, &Frame::Acks(Acks { acks: vec![ack] }));
    assert!(stage.is_removed());
    assert_eq!(stage.delivered(), [0], "and what it had said stays");
}

#[test]
fn what_comes_before_the_end_is_owed_and_nothing_after_it() {
    let mut stage = Stage::new(true);
    let (batches, founder) = (stage.batches(4), Identity::new(&[2; 32]));
    stage.receive(FOUNDER, &stage.removal(&founder, 5, 3, batches[2].digest));
    for batch in &batches {
        stage.receive(FOUNDER, &Frame::Batch(batch.bytes.clone()));
    }
    assert_eq!(stage.delivered(), [0, 1, 2]);
    // An earlier word, played back, changes nothing; a later one does.
    stage.receive(FOUNDER, &stage.removal(&founder, 4, 9, Digest::ZERO));
    stage.receive(FOUNDER, &Frame::Batch(batches[3].bytes.clone()));
    assert_eq!(stage.delivered(), [0, 1, 2]);
    stage.receive(FOUNDER, &stage.removal(&founder, 6, 1, batches[0].digest));
    stage.take(FOUNDER);
    stage.receive(
        FOUNDER,
        &Frame::Pull(Pull { source: stage.victim.node(), life: LIFE, ranges: vec![(0, 4)] }),
    );
    let answer = stage.take(FOUNDER);
    let brought = answer.iter().filter(|it| matches!(it, Frame::Batch(_))).count();
    let denied = answer.iter().any(|it| matches!(it, Frame::PullEnd(end) if end.absent == [(1, 4)]));
    assert!(brought == 1 && denied, "the first is served, and the rest is not: {answer:?}");
    assert!(!stage.events.iter().any(|it| matches!(it, Event::Gap { .. } | Event::Forked { .. })));
}

/// The victim signed two batches for its last place, and the founder has seen the other one.
#[test]
fn the_founders_digest_decides_which_batch_is_the_last() {
    let mut stage = Stage::new(true);
    let (batches, founder) = (stage.batches(2), Identity::new(&[2; 32]));
    stage.receive(FOUNDER, &stage.removal(&founder, 5, 2, Digest::from_bytes([7; Digest::LEN])));
    for batch in &batches {
        stage.receive(FOUNDER, &Frame::Batch(batch.bytes.clone()));
    }
    assert_eq!(stage.delivered(), [0]);
}
