//! A neighbour that lies, in a group that works.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;

use treecast_overlay::io::CloseReason;
use treecast_overlay::sim::{Contacts, Crash, NetworkModel, NodeIx, World};
use treecast_overlay::{Descriptor, Input, Lane, LinkId, wire};

use super::Decisions;
use super::mutate::mutate;
use crate::invariant::{agreement, bounds, causality, fifo, integrity, tree, validity};
use crate::oracle::{Fact, History, Oracle};

/// Nodes 0 to 2 are honest.
const HONEST: usize = 3;
/// The keys of the field follow from this…
const FIELD_SEED: u64 = 1;
/// …and those of the corpus from this: the same keys in another run would sign forks.
const CORPUS_SEED: u64 = 2;
/// A member whose frames are changed on their way out.
const LIAR: NodeIx = NodeIx(3);

/// Three honest members, a fourth whose frames `data` changes on their way out, and a
/// stranger who sends raw pieces of it.
///
/// # Panics
/// When anything but the liar's and the stranger's own connections suffers: an engine
/// panics or spins, a cap is passed, an honest member closes a link to another for breach of
/// protocol, loses, alters or misorders an honest message, or is not in one tree afterwards.
pub fn frames(data: &[u8]) {
    let mut decisions = Decisions::new(data);
    let mut field = Field::new(FIELD_SEED);
    field.world.capture(2_000);
    // A liar from the first word on, or one that was a good neighbour before.
    if decisions.byte() >= 64 {
        field.talk(Duration::from_millis(1_500));
    }
    field.lie(&mut decisions);
    field.talk(Duration::from_millis(2_000));
    if decisions.byte() >= 128 {
        // One that comes back hears of its own past from a liar, too.
        let victim = NodeIx(decisions.below(HONEST));
        field.world.crash(victim, Crash::Process);
        field.talk(Duration::from_millis(200));
        field.world.start(victim, true);
    }
    field.talk(Duration::from_millis(2_000));
    field.world.crash(LIAR, Crash::Process);
    field.world.tamper(None);
    field.talk(Duration::from_millis(3_000));
    // Past the last hole that is given up: that of a replayed batch of another run, and beside it
    // those of its causes.
    let quiet = field.world.config.lost_after + Duration::from_secs(15);
    field.run_for(quiet);
    field.talk(Duration::from_millis(1_000));
    field.run_for(Duration::from_secs(10));
    field.judge();
}

/// Real frames of such a group: its start, some talk, a crash and a return.
fn corpus() -> &'static [Bytes] {
    static CORPUS: OnceLock<Vec<Bytes>> = OnceLock::new();
    CORPUS.get_or_init(|| {
        let mut field = Field::new(CORPUS_SEED);
        field.world.capture(5_000);
        field.talk(Duration::from_millis(1_000));
        field.world.crash(LIAR, Crash::Process);
        field.talk(Duration::from_millis(500));
        field.world.start(LIAR, true);
        field.talk(Duration::from_millis(1_000));
        let frames = field.world.take_captured().into_iter().map(|it| it.frame).collect::<Vec<_>>();
        assert!(!frames.is_empty(), "a group talks");
        frames
    })
}

struct Field {
    world: World,
    oracle: Oracle,
}

impl Field {
    fn new(seed: u64) -> Self {
        let group = Descriptor::open("field").expect("a good name");
        let mut world = World::new(seed, NetworkModel::lan());
        world.contacts = Contacts::All;
        for _ in 0..=HONEST {
            let node = world.add_node(std::slice::from_ref(&group));
            world.start(node, true);
        }
        Self { world, oracle: Oracle::new(group.id()) }
    }

    fn run_for(&mut self, span: Duration) {
        let until = self.world.now() + span;
        self.world.run_until(until);
        self.oracle.observe(&mut self.world);
        bounds::check(&self.world).unwrap_or_else(|violation| panic!("bounds: {violation}"));
    }

    /// Everybody that runs publishes every 100 ms.
    fn talk(&mut self, span: Duration) {
        let until = self.world.now() + span;
        while self.world.now() < until {
            for node in 0..=HONEST {
                self.oracle.publish(&mut self.world, NodeIx(node), 40);
            }
            self.run_for(Duration::from_millis(100));
        }
    }

    fn lie(&mut self, decisions: &mut Decisions) {
        // Replays of this very group come with what others said in another.
        let mut earlier = corpus().to_vec();
        earlier.extend(self.world.take_captured().into_iter().map(|it| it.frame));
        let stranger = self.world.add_puppet();
        let victim = NodeIx(decisions.below(HONEST));
        let link = self.world.link_to(stranger, victim);
        for _ in 0..decisions.below(8) {
            self.intrude(victim, link, &earlier, decisions);
        }
        let own = Rc::new(RefCell::new(decisions.clone()));
        let change = move |frame: Bytes| mutate(&frame, &earlier, &mut own.borrow_mut());
        self.world.tamper(Some((LIAR, Box::new(change))));
    }

    fn intrude(&mut self, victim: NodeIx, link: LinkId, earlier: &[Bytes], decisions: &mut Decisions) {
        let base =
            if earlier.is_empty() { Bytes::new() } else { earlier[decisions.below(earlier.len())].clone() };
        let lane = if decisions.byte() < 200 { Lane::Live } else { Lane::Bulk };
        for frame in mutate(&base, earlier, decisions) {
            if self.world.has_link(victim, link) && frame.len() <= wire::MAX_FRAME {
                self.world.feed(victim, Input::Frame { link, lane, frame });
            }
        }
    }

    fn judge(mut self) {
        self.oracle.observe(&mut self.world);
        let history = honest(&self.oracle.history);
        let at = self.world.now();
        let demand = |what: &str, judged: Result<(), String>| {
            judged.unwrap_or_else(|violation| panic!("{what} at {at:?}: {violation}"));
        };
        for entry in &history.entries {
            if let Fact::Closed { peer, reason: CloseReason::Protocol(why) } = entry.fact {
                assert!(peer.0 >= HONEST, "{:?} closed its link to honest {peer:?}: {why}", entry.node);
            }
        }
        demand("integrity", integrity::check(&history));
        demand("validity", validity::check(&history));
        demand("fifo", fifo::check(&history));
        demand("causality", causality::check(&history));
        demand("agreement", agreement::check(&history));
        demand("tree", tree::check(&self.world, self.oracle.group()));
        let end = self.world.now();
        let late = history.entries.iter().filter(|it| end.since(it.time) < Duration::from_secs(11));
        let authors: BTreeSet<_> = late.filter_map(|it| delivered_author(it.fact)).collect();
        assert_eq!(authors.len(), HONEST, "talk goes on");
    }
}

fn delivered_author(fact: Fact) -> Option<NodeIx> {
    match fact {
        Fact::Delivered(it) => it.key.map(|key| key.author),
        _ => None,
    }
}

/// What happened at the honest nodes, with the honest nodes' messages. What a liar says of
/// itself is its own matter, except that nobody else's words may be altered.
fn honest(history: &History) -> History {
    let of_honest = |fact: &Fact| match fact {
        Fact::Delivered(it) => it.source.is_some_and(|source| source.0 < HONEST),
        _ => true,
    };
    let entries = history.entries.iter().filter(|entry| entry.node.0 < HONEST && of_honest(&entry.fact));
    History { entries: entries.copied().collect(), ..History::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use treecast_overlay::Time;

    #[test]
    fn only_honest_facts_are_judged() {
        use crate::oracle::{Delivered, Entry};
        let entry = |node, source| Entry {
            time: Time::ZERO,
            node: NodeIx(node),
            run: 1,
            fact: Fact::Delivered(Delivered {
                source: Some(NodeIx(source)),
                life: 1,
                seq: 0,
                n: 0,
                key: None,
            }),
        };
        let history = History { entries: vec![entry(0, 1), entry(0, 3), entry(3, 1)], ..History::default() };
        assert_eq!(honest(&history).entries, [entry(0, 1)]);
    }
}
