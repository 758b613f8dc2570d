//! Engines that keep what they deliver, killed and brought back.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::config::Config;
use crate::descriptor::{Descriptor, Order};
use crate::engine::{Engine, PastLife, Start};
use crate::id::{BatchId, GroupId, LinkId, NodeId, PublishId, Seq, Token};
use crate::identity::Identity;
use crate::io::{EarlierPlace, Event, Input, LifeRecord, Output, Past, SourceRecord, Write};
use crate::out::Out;
use crate::time::Time;

/// One node: its engine while it runs, and its disk.
struct Node {
    key: u8,
    engine: Option<Engine>,
    began: u64,
    disk: BTreeMap<BatchId, Bytes>,
    sources: BTreeMap<NodeId, SourceRecord>,
    entered: bool,
    end: Option<PastLife>,
    /// Own batches below are known elsewhere, by life.
    taken: BTreeMap<u64, Seq>,
    heard: Vec<String>,
    told: Vec<Event>,
    /// The disk is slow: what is to be written waits.
    waiting: Option<Vec<Token>>,
    /// The disk is full.
    fails: bool,
    /// From before its time: what has come into the history, and how far that is.
    gathered: Vec<BatchId>,
    earlier: Option<EarlierPlace>,
    /// What its next batch is to name.
    causes: Option<Vec<BatchId>>,
    /// How often what it gathers was written.
    gathers: usize,
    /// How often others asked for a piece of its history.
    pieces: usize,
    /// Who has what, as told last.
    receipt: Option<(usize, usize)>,
}

/// Nodes that are all linked with each other while they run.
struct World {
    group: Descriptor,
    nodes: Vec<Node>,
    now: u64,
    /// Who is linked with whom by which number.
    links: BTreeMap<(usize, usize), LinkId>,
    next_link: u64,
    publications: u64,
    config: Config,
}

impl World {
    fn new(count: u8, order: Order) -> Self {
        let mut group = Descriptor::open("lobby").expect("a good name");
        group.order = order;
        let node = |key| Node {
            key,
            engine: None,
            began: 0,
            disk: BTreeMap::new(),
            sources: BTreeMap::new(),
            entered: false,
            end: None,
            taken: BTreeMap::new(),
            heard: Vec::new(),
            told: Vec::new(),
            waiting: None,
            fails: false,
            gathered: Vec::new(),
            earlier: None,
            causes: None,
            gathers: 0,
            pieces: 0,
            receipt: None,
        };
        let nodes = (1..=count).map(node).collect();
        let config = Config { history: true, max_lives: 64, ..Config::lan() };
        Self { group, nodes, now: 0, links: BTreeMap::new(), next_link: 1, publications: 0, config }
    }

    fn id(&self) -> GroupId {
        self.group.id()
    }

    fn start(&mut self, ix: usize) {
        let (config, group) = (self.config.clone(), self.id());
        let node = &mut self.nodes[ix];
        let secret_key = [node.key; 32];
        let last_life = node.end.map_or(0, |it| it.life);
        let (seed, unix_ms) = (u64::from(node.key) + self.now, 1_000_000 + self.now / 1_000);
        let start = Start { config, secret_key, seed, unix_ms, last_life, ends: Vec::new() };
        let engine = Engine::new(start).expect("in range");
        let me = engine.node();
        (node.engine, node.began) = (Some(engine), self.now);
        let mut sources: Vec<SourceRecord> = node.sources.values().cloned().collect();
        if let Some(own) = sources.iter_mut().find(|it| it.source == me) {
            let last = own.lives.last().map(|it| it.life);
            for life in &mut own.lives {
                let taken = node.taken.get(&life.life).copied().unwrap_or(0);
                life.owed = Some(taken).filter(|taken| *taken < life.next);
                life.end = Some(life.next).filter(|_| Some(life.life) != last);
            }
        }
        let (entered, end, earlier, causes) = (node.entered, node.end, node.earlier, node.causes.clone());
        let past = Past { group, entered, sources, end, earlier, removals: Vec::new(), causes, order: None };
        self.input(ix, Input::Resume(Box::new(past)));
        self.input(ix, Input::Join(Box::new(self.group.clone())));
    }

    /// Two that know each other.
    fn start_linked(&mut self) {
        self.start(0);
        self.start(1);
        self.link(0, 1);
        self.run(3_000);
    }

    fn link(&mut self, one: usize, two: usize) {
        let numbers = [LinkId(self.next_link), LinkId(self.next_link + 1)];
        self.next_link += 2;
        self.links.insert((one, two), numbers[0]);
        self.links.insert((two, one), numbers[1]);
        let up = |from: usize, to: usize| {
            (from, Input::LinkUp { link: self.links[&(from, to)], node: self.node(to) })
        };
        self.inputs(vec![up(one, two), up(two, one)]);
    }

    fn kill(&mut self, ix: usize) {
        self.nodes[ix].engine = None;
        let gone: Vec<_> = self.links.keys().filter(|(one, two)| *one == ix || *two == ix).copied().collect();
        for pair in gone {
            let link = self.links.remove(&pair).expect("listed");
            if pair.0 != ix {
                self.input(pair.0, Input::LinkDown { link });
            }
        }
    }

    fn node(&self, ix: usize) -> NodeId {
        self.nodes[ix].engine.as_ref().expect("it runs").node()
    }

    fn say(&mut self, ix: usize, text: &str) {
        self.publications += 1;
        let (group, id, payload) = (self.id(), PublishId(self.publications), Bytes::from(text.to_owned()));
        self.input(ix, Input::Publish { group, id, payload });
    }

    fn run(&mut self, millis: u64) {
        for _ in 0..millis / 5 {
            self.now += 5_000;
            for ix in 0..self.nodes.len() {
                self.input(ix, Input::Tick);
            }
        }
    }

    fn input(&mut self, ix: usize, input: Input) {
        self.inputs(vec![(ix, input)]);
    }

    fn inputs(&mut self, inputs: Vec<(usize, Input)>) {
        let mut inputs = std::collections::VecDeque::from(inputs);
        while let Some((ix, input)) = inputs.pop_front() {
            let now = Time::from_micros(self.now - self.nodes[ix].began);
            let Some(engine) = self.nodes[ix].engine.as_mut() else { continue };
            let mut out = Out::new();
            engine.handle(now, input, &mut out);
            while let Some(output) = out.pop() {
                inputs.extend(self.carry_out(ix, output));
            }
        }
    }

    fn carry_out(&mut self, ix: usize, output: Output) -> Vec<(usize, Input)> {
        let node = &mut self.nodes[ix];
        match output {
            Output::Send { link, lane, frame } => {
                let bytes = frame.len();
                let sent = (ix, Input::Drained { link, lane, bytes });
                let to = self.links.iter().find(|((from, _), number)| *from == ix && **number == link);
                let Some(to) = to.map(|((_, to), _)| *to) else { return vec![sent] };
                let link = self.links[&(to, ix)];
                vec![sent, (to, Input::Frame { link, lane, frame })]
            }
            Output::Persist { token, .. } if node.fails => vec![(ix, Input::PersistFailed(token))],
            Output::Persist { token, writes } => {
                writes.into_iter().for_each(|write| node.write(write));
                if let Some(waiting) = &mut node.waiting {
                    waiting.push(token);
                    return Vec::new();
                }
                vec![(ix, Input::Persisted(token))]
            }
            Output::Record(record) => {
                node.entered |= record.entered;
                node.disk.extend(record.batches.into_iter().map(|it| (it.id, it.bytes)));
                node.sources.extend(record.sources.into_iter().map(|it| (it.source, it)));
                node.causes = record.causes;
                Vec::new()
            }
            Output::Fetch { token, fetch } => {
                let of_it = |id: &BatchId| id.source == fetch.source && id.life == fetch.life;
                let wanted = |seq: Seq| fetch.ranges.iter().any(|(from, to)| (*from..*to).contains(&seq));
                let all = node.disk.iter().filter(|(id, _)| of_it(id));
                let found =
                    all.clone().filter(|(id, _)| wanted(id.seq)).map(|(id, bytes)| (id.seq, bytes.clone()));
                let batches = found.take(fetch.batches as usize).collect();
                let first = all.clone().map(|(id, _)| id.seq).next();
                vec![(ix, Input::Fetched { token, batches, first })]
            }
            Output::FetchEarlier { token, fetch } => {
                node.pieces += 1;
                // Where a batch stands among all is its place.
                let all = (0..i64::MAX).zip(&node.disk).collect::<Vec<_>>().into_iter().rev();
                let before: Vec<_> = all.filter(|(at, _)| fetch.before.is_none_or(|it| *at < it)).collect();
                let some = &before[..before.len().min(fetch.batches as usize)];
                let batches = some.iter().map(|(_, (_, bytes))| (1_000, (*bytes).clone())).collect();
                let (last, end) = (some.last().map(|it| it.0), some.len() == before.len());
                vec![(ix, Input::FetchedEarlier { token, batches, last, end })]
            }
            Output::Event(event) => {
                node.on_event(event);
                Vec::new()
            }
            Output::Dial { .. } | Output::Close { .. } => Vec::new(),
        }
    }
}

impl Node {
    fn write(&mut self, write: Write) {
        let (group, id, bytes, digest) = match write {
            Write::Batch { group, id, bytes, digest, .. } => (group, id, bytes, digest),
            Write::Earlier(keep) => {
                self.earlier = (!keep.done).then_some(keep.place);
                self.gathers += 1;
                self.gathered.extend(keep.batches.iter().map(|it| it.batch.id));
                return;
            }
            Write::Life { .. } | Write::Removal { .. } | Write::Agreement { .. } => return,
        };
        self.disk.insert(id, bytes);
        let (life, next) = (id.life, id.seq + 1);
        self.end = Some(PastLife { group, life, end: next, digest });
        let source = id.source;
        let own = self.sources.entry(source).or_insert(SourceRecord {
            source,
            floor: 0,
            lives: Vec::new(),
            closed: Vec::new(),
        });
        own.lives.retain(|it| it.life != life);
        let head = Some(digest);
        own.lives.push(LifeRecord { life, next, head, end: None, above: Vec::new(), owed: None });
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Deliver { delivery, .. } => {
                let texts = delivery.payloads.iter().map(|it| String::from_utf8_lossy(it).into_owned());
                self.heard.extend(texts);
            }
            Event::Sent { batch, .. } => {
                let taken = self.taken.entry(batch.life).or_default();
                *taken = (*taken).max(batch.seq + 1);
            }
            Event::Receipt { have, of, .. } => self.receipt = Some((have, of)),
            event @ (Event::Gap { .. } | Event::Lagged { .. } | Event::Overloaded { .. }) => {
                self.told.push(event)
            }
            _ => {}
        }
    }
}

fn lines(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("line {number}")).collect()
}

#[test]
fn who_was_off_gets_what_was_missed_once_and_from_the_disk() {
    for order in [Order::Unordered, Order::Fifo, Order::Causal] {
        let mut world = World::new(2, order);
        // Nothing is served from memory for long.
        world.config.store_bytes = 1;
        world.start_linked();
        world.say(0, "line 0");
        world.run(500);
        world.kill(1);
        for line in lines(1..300) {
            world.say(0, &line);
            world.run(10);
        }
        world.kill(0);
        world.start(0);
        world.run(2_000);
        world.start(1);
        world.link(0, 1);
        world.run(5_000);
        assert_eq!(world.nodes[1].heard, lines(0..300), "{order:?}");
        assert_eq!(world.nodes[1].told, [], "{order:?}");
        assert_eq!(world.nodes[0].heard, lines(0..300), "its own are not told again");
    }
}

/// What is in memory must not take the room of what comes before it from the disk.
#[test]
fn answers_from_disk_and_memory_take_turns() {
    let mut world = World::new(2, Order::Fifo);
    let config = &mut world.config;
    (config.store_bytes, config.link_high_water, config.link_low_water) = (10_000, 1_500, 700);
    world.start_linked();
    world.kill(1);
    for line in lines(0..200) {
        world.say(0, &line);
        world.run(10);
    }
    world.start(1);
    world.link(0, 1);
    let began = world.now;
    while world.nodes[1].heard.len() < 200 && world.now - began < 5_000_000 {
        world.run(10);
    }
    assert_eq!(world.nodes[1].heard, lines(0..200));
    assert!(world.now - began < 1_000_000, "nobody waited for an answer: {} us", world.now - began);
}

#[test]
fn what_nobody_had_of_earlier_lives_reaches_members_and_newcomers() {
    for was_member in [true, false] {
        let mut world = World::new(2, Order::Causal);
        world.start(0);
        if was_member {
            world.start(1);
            world.link(0, 1);
            world.run(3_000);
            world.kill(1);
        }
        for line in lines(0..6) {
            world.say(0, &line);
            world.run(1_500);
            world.kill(0);
            world.run(10);
            world.start(0);
        }
        world.start(1);
        world.link(0, 1);
        world.run(8_000);
        assert_eq!(world.nodes[1].heard, lines(0..6), "{was_member}");
        assert_eq!(world.nodes[1].told, [], "{was_member}");
        let me = world.node(0);
        let node = &world.nodes[0];
        assert!(node.sources[&me].lives.iter().all(|life| node.taken[&life.life] == life.next));
        world.say(0, "line 6");
        world.run(500);
        assert_eq!(world.nodes[1].heard, lines(0..7));
    }
}

/// A data directory that was put back from a copy is behind what the node had said since.
#[test]
fn a_restored_copy_begins_a_new_life_and_gets_back_what_it_had_said() {
    let mut world = World::new(2, Order::Fifo);
    world.start_linked();
    world.say(0, "line 0");
    world.run(500);
    let me = world.node(0);
    let node = &world.nodes[0];
    let copy = (node.disk.clone(), node.sources.clone(), node.end);
    for line in lines(1..4) {
        world.say(0, &line);
        world.run(100);
    }
    world.kill(0);
    let node = &mut world.nodes[0];
    (node.disk, node.sources, node.end) = copy;
    world.start(0);
    world.link(0, 1);
    world.say(0, "line 4");
    world.run(5_000);
    assert_eq!(world.nodes[1].heard, lines(0..5));
    assert_eq!(world.nodes[1].told, []);
    let own = world.nodes[0].disk.keys().filter(|id| id.source == me).count();
    assert_eq!(own, 5, "what it had forgotten is back");
}

/// Killed while it got back what it had missed of a life that is over: nobody tells of that any more.
#[test]
fn what_is_missing_of_a_life_that_is_over_is_looked_for_again_after_a_kill() {
    let mut world = World::new(2, Order::Fifo);
    world.start_linked();
    for line in lines(0..3) {
        world.say(0, &line);
        world.run(100);
    }
    world.kill(0);
    world.start(0);
    world.link(0, 1);
    world.run(1_500);
    world.say(0, "line 3");
    world.run(1_000);
    assert_eq!(world.nodes[1].heard, lines(0..4));
    world.kill(1);
    let source = world.node(0);
    let node = &mut world.nodes[1];
    let first = *node.disk.keys().find(|id| id.source == source).expect("it has all");
    node.disk.retain(|id, _| *id == first);
    let own = node.sources.get_mut(&source).expect("it has all");
    let cut =
        LifeRecord { life: first.life, next: 1, end: Some(3), head: None, above: Vec::new(), owed: None };
    (own.floor, own.lives) = (0, vec![cut]);
    node.heard.clear();
    world.start(1);
    world.link(0, 1);
    world.run(5_000);
    assert_eq!(world.nodes[1].heard, lines(1..4));
}

/// Its disk was full for a while, and took what came after that.
#[test]
fn what_a_history_has_above_a_hole_is_not_delivered_again() {
    for order in [Order::Unordered, Order::Fifo, Order::Causal] {
        let mut world = World::new(2, order);
        world.start_linked();
        for line in lines(0..5) {
            world.say(0, &line);
            world.run(100);
        }
        let source = world.node(0);
        world.kill(1);
        let node = &mut world.nodes[1];
        node.disk.retain(|id, _| id.source != source || id.seq != 2);
        let life = &mut node.sources.get_mut(&source).expect("it has all").lives[0];
        (life.next, life.head, life.above) = (2, None, vec![(3, 5)]);
        node.heard.clear();
        world.start(1);
        world.link(0, 1);
        world.run(3_000);
        world.say(0, "line 5");
        world.run(1_000);
        assert_eq!(world.nodes[1].heard, ["line 2", "line 5"], "{order:?}");
        let is_lost = |it: &Event| matches!(it, Event::Gap { lost: true, .. });
        assert!(!world.nodes[1].told.iter().any(is_lost), "{order:?}: {:?}", world.nodes[1].told);
    }
}

#[test]
fn more_lives_than_are_taken_at_once_are_taken_one_after_the_other() {
    let mut world = World::new(2, Order::Fifo);
    world.config.max_lives = 4;
    world.start_linked();
    world.kill(1);
    for line in lines(0..10) {
        world.say(0, &line);
        world.run(1_500);
        world.kill(0);
        world.start(0);
    }
    world.start(1);
    world.link(0, 1);
    world.run(60_000);
    assert_eq!(world.nodes[1].heard, lines(0..10), "{:?}", world.nodes[1].told);
}

#[test]
fn a_member_says_that_it_has_something_once_that_is_on_its_disk() {
    let mut world = World::new(2, Order::Causal);
    world.start_linked();
    world.nodes[1].waiting = Some(Vec::new());
    world.say(0, "line 0");
    let batch = *world.nodes[0].disk.keys().next_back().expect("it is written before it leaves");
    world.input(0, Input::RequestReceipt { group: world.id(), batch });
    world.run(300);
    assert_eq!(world.nodes[1].heard, ["line 0"]);
    assert_eq!(world.nodes[0].receipt, Some((0, 1)), "delivered, and not written yet");
    let tokens = world.nodes[1].waiting.take().expect("slow");
    assert!(!tokens.is_empty());
    world.inputs(tokens.into_iter().map(|token| (1, Input::Persisted(token))).collect());
    world.run(300);
    assert_eq!(world.nodes[0].receipt, Some((1, 1)));
}

#[test]
fn what_was_stored_before_a_write_that_failed_still_reaches_others() {
    for goes_on in [false, true] {
        let mut world = World::new(2, Order::Causal);
        world.start_linked();
        world.kill(1);
        // The first write of a life, and one in its middle.
        for fails in [true, false, false, true] {
            world.nodes[0].fails = fails;
            let line = if fails { "refused".to_owned() } else { format!("line {}", world.publications - 1) };
            world.say(0, &line);
            world.run(100);
        }
        world.nodes[0].fails = false;
        if goes_on {
            world.say(0, "line 2");
            world.run(100);
        }
        world.start(1);
        world.link(0, 1);
        world.run(8_000);
        assert_eq!(world.nodes[1].heard, lines(0..if goes_on { 3 } else { 2 }), "{goes_on}");
        assert_eq!(world.nodes[1].told, [], "{goes_on}");
        let me = world.node(0);
        let node = &world.nodes[0];
        assert!(node.sources[&me].lives.iter().all(|life| node.taken.get(&life.life) == Some(&life.next)));
    }
}

#[test]
fn a_newcomer_gathers_what_was_said_before_its_time_and_is_told_only_what_comes() {
    for order in [Order::Unordered, Order::Fifo, Order::Causal] {
        let mut world = World::new(3, order);
        world.config.store_bytes = 1;
        world.group.founder = Some(Identity::new(&[1; 32]).node());
        world.start_linked();
        for line in lines(0..2_000) {
            world.say(0, &line);
            world.run(10);
        }
        world.run(2_000);
        world.start(2);
        world.link(2, 1);
        world.run(200);
        assert!(world.nodes[2].gathered.is_empty(), "live talk comes first");
        world.say(0, "now");
        world.run(300);
        assert_eq!(world.nodes[2].heard, ["now"], "{order}");
        // Killed on the way, it goes on where it was.
        let some = world.nodes[2].gathered.len();
        assert!((1..2_000).contains(&some) && world.nodes[2].earlier.is_some(), "{some}");
        world.kill(2);
        world.start(2);
        world.link(2, 1);
        world.run(3_000);
        let mut gathered = world.nodes[2].gathered.clone();
        assert!(gathered.is_sorted_by(|one, two| one.seq > two.seq), "latest first, none twice");
        gathered.retain(|it| it.source == world.node(0) && it.seq < 2_000);
        assert_eq!(gathered.len(), 2_000, "{order}");
        assert_eq!(world.nodes[2].earlier, None, "that is all");
        assert_eq!(world.nodes[2].heard, ["now"]);
    }
}

#[test]
fn who_still_gathers_is_asked_again_and_retention_bounds_it() {
    let mut world = World::new(4, Order::Causal);
    world.group.retention.count = Some(100);
    world.start_linked();
    for line in lines(0..600) {
        world.say(0, &line);
        world.run(10);
    }
    // The third knows only the fourth, who is as new as it is.
    world.start(2);
    world.start(3);
    world.link(2, 3);
    world.run(2_000);
    assert!(world.nodes[2].earlier.is_some() && world.nodes[3].earlier.is_some(), "nobody has told them");
    world.link(3, 0);
    world.run(40_000);
    let gathered = world.nodes[3].gathered.len();
    assert!((100..=256).contains(&gathered), "one piece is enough: {gathered}");
    assert_eq!(world.nodes[3].earlier, None);
}

/// Where nobody founded the group, nobody can say that there is no more to gather.
#[test]
fn who_gathers_in_vain_writes_nothing_and_stops_asking() {
    let mut world = World::new(3, Order::Causal);
    world.start_linked();
    world.say(0, "line 0");
    world.run(900_000);
    for node in &world.nodes[..2] {
        assert!(
            node.gathers <= 2,
            "that it is wanted, one piece at the most, and nothing since: {}",
            node.gathers
        );
    }
    world.run(3_600_000);
    let asked = world.nodes[0].pieces;
    world.run(3_600_000);
    assert_eq!(world.nodes[0].pieces, asked, "nobody has more");
    world.start(2);
    world.link(2, 0);
    world.run(5_000);
    assert!(world.nodes[0].pieces > asked, "the newcomer asks");
    assert_eq!(world.nodes[2].gathered.len(), 1);
}

/// What the first batch of a run names: heads that no other names, not all that was ever heard.
#[test]
fn the_first_batch_of_a_run_names_undominated_heads_only() {
    let mut world = World::new(4, Order::Causal);
    world.start_linked();
    for ix in [2, 3] {
        world.start(ix);
        world.link(ix, 0);
        world.link(ix, 1);
    }
    world.run(3_000);
    // Each answers the one before; the last is heard by the first.
    for (ix, line) in [(1, "line 0"), (2, "line 1"), (3, "line 2")] {
        world.say(ix, line);
        world.run(300);
    }
    assert_eq!(world.nodes[0].heard, lines(0..3));
    world.kill(0);
    world.start(0);
    world.link(0, 1);
    world.run(3_000);
    world.say(0, "line 3");
    world.run(3_000);
    let (me, last) = (world.node(0), world.node(3));
    let first = world.nodes[0].disk.iter().find(|(id, _)| id.source == me && id.seq == 0).expect("said");
    let batch = crate::wire::batch::Batch::parse(&world.id(), first.1.clone()).expect("its own");
    let named: Vec<NodeId> = batch.header.dependencies.iter().map(|it| it.source).collect();
    assert_eq!(named, [last]);
}

/// While the disk is slow, much of a source goes into its next write; all of it, or nothing.
#[test]
fn a_slow_disk_is_given_several_batches_at_once() {
    let mut world = World::new(2, Order::Fifo);
    world.start_linked();
    let long = |line: &str| format!("{line} {}", "x".repeat(20_000));
    let said: Vec<_> = lines(0..60).iter().map(|line| long(line)).collect();
    world.nodes[0].waiting = Some(Vec::new());
    for line in &said {
        world.say(0, line);
    }
    let mut writes = Vec::new();
    while let Some(tokens) = world.nodes[0].waiting.replace(Vec::new()).filter(|it| !it.is_empty()) {
        let before = world.nodes[0].disk.len();
        tokens.into_iter().for_each(|token| world.input(0, Input::Persisted(token)));
        writes.push(world.nodes[0].disk.len() - before);
        world.run(50);
    }
    assert_eq!(world.nodes[1].heard, said);
    assert!(writes.len() < 6 && writes.iter().all(|count| *count <= 8), "{writes:?} after the first");
    world.nodes[0].waiting = None;
    // None of what a write that failed had is ever seen; what comes after it is.
    world.nodes[0].fails = true;
    said.iter().for_each(|line| world.say(0, line));
    world.nodes[0].fails = false;
    world.say(0, "over");
    world.run(3_000);
    assert_eq!(world.nodes[1].heard[60..], ["over"]);
    assert_eq!(world.nodes[1].told, []);
}
