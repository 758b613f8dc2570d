//! What a parent claims, against what neighbours bring.
//!
//! Parents are chosen by the latency that they say they have. One whose word is false takes in all around
//! it. What it cannot fake is when its batches come: a neighbour that tells of one batch after the other
//! well before the parent brings it would be the better parent, whatever both say (DESIGN.md §4: measured
//! lag outranks what a parent says of itself).

use std::collections::BTreeMap;
use std::time::Duration;

use super::Group;
use super::ctx::Ctx;
use super::sources::LifeId;
use crate::id::{NodeId, Seq};
use crate::time::Time;

/// So much earlier a neighbour is to know of a batch. Guess: more than what places and queues are off by.
const LEAD: Duration = Duration::from_millis(40);
/// So many batches in a row, of whatever sources, for so long. Guess: a source that has just begun is near
/// some for some seconds, until it is a core.
const IN_A_ROW: u32 = 20;
const FOR: Duration = Duration::from_millis(2_500);
/// So many neighbours have to say so.
const WITNESSES: usize = 2;
/// What was told so long ago the parent does not bring any more.
const STALE: Duration = Duration::from_secs(2);

/// Neighbours that know of batches before the parent brings them.
#[derive(Debug, Default)]
pub(super) struct Beaten {
    /// What the parent brought last.
    brought: Option<(LifeId, Seq)>,
    /// The first that each told of and that the parent has not brought.
    told: BTreeMap<NodeId, (LifeId, Seq, Time)>,
    /// Batches in a row, since when, and by how much at the least.
    leads: BTreeMap<NodeId, (u32, Time, Duration)>,
}

impl Beaten {
    /// A neighbour holds everything of this life below `next`.
    fn on_told(&mut self, now: Time, by: NodeId, life: LifeId, next: Seq) {
        if self.brought.is_some_and(|(of, seq)| of == life && next <= seq + 1) {
            // Not before the parent.
            self.leads.remove(&by);
            return;
        }
        let told = self.told.entry(by).or_insert((life, next, now));
        if now.since(told.2) > STALE {
            *told = (life, next, now);
        }
    }

    /// The parent brought a batch: who has beaten it for long, and by how much. One alone may tell of what
    /// it does not have, so it takes two; and the second one's lead counts.
    fn on_brought(&mut self, now: Time, life: LifeId, seq: Seq) -> Option<(NodeId, Duration)> {
        self.brought = Some((life, seq));
        let mut earlier = BTreeMap::new();
        self.told.retain(|node, (of, next, at)| {
            let same = *of == life && *next > seq;
            if same && now.since(*at) >= LEAD {
                earlier.insert(*node, now.since(*at));
            }
            !same
        });
        self.leads.retain(|node, _| earlier.contains_key(node));
        for (node, lead) in earlier {
            let (count, _, least) = self.leads.entry(node).or_insert((0, now, lead));
            (*count, *least) = (*count + 1, lead.min(*least));
        }
        let long = self.leads.iter().filter(|(_, it)| it.0 >= IN_A_ROW && now.since(it.1) >= FOR);
        let mut long: Vec<_> = long.map(|(node, it)| (it.2, *node)).collect();
        long.sort_unstable();
        long.iter().rev().nth(WITNESSES - 1).map(|(lead, node)| (*node, *lead))
    }

    /// There is another parent.
    pub(super) fn begin_anew(&mut self) {
        *self = Self::default();
    }

    pub(super) fn forget(&mut self, node: &NodeId) {
        self.told.remove(node);
        self.leads.remove(node);
    }
}

impl Group {
    pub(super) fn told_by(&mut self, ctx: &Ctx<'_>, by: NodeId, life: LifeId, next: Seq) {
        if !self.tree.is_edge(&by) && self.tree.parent().is_some() && !self.is_unicast() {
            self.beaten.on_told(ctx.now, by, life, next);
        }
    }

    /// The parent brought this.
    pub(super) fn brought_by_parent(&mut self, ctx: &mut Ctx<'_>, life: LifeId, seq: Seq) {
        if let Some((by, lead)) = self.beaten.on_brought(ctx.now, life, seq) {
            self.beaten.begin_anew();
            self.with_tree(ctx, |tree, sight, acts| tree.on_beaten(sight, by, lead, acts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u64 = 150;

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1_000)
    }

    fn node(it: u8) -> NodeId {
        NodeId::from_bytes([it; 32])
    }

    /// Batches of one life; two neighbours tell of each `lead` ms before the parent brings it, one of them
    /// long before.
    fn run(lead: impl Fn(u64) -> i64) -> Option<u64> {
        let mut beaten = Beaten::default();
        let life = (node(9), 1);
        for n in 0..100 {
            let (due, lead) = (1_000 + n * STEP, lead(n));
            beaten.on_told(at(due - 120), node(2), life, n + 1);
            if lead >= 0 {
                beaten.on_told(at(due - lead as u64), node(1), life, n + 1);
            }
            let found = beaten.on_brought(at(due), life, n);
            if lead < 0 {
                beaten.on_told(at(due + lead.unsigned_abs()), node(1), life, n + 1);
            }
            if let Some((by, least)) = found {
                assert_eq!((by, least), (node(1), Duration::from_millis(60)));
                return Some(n);
            }
        }
        None
    }

    #[test]
    fn a_lead_counts_once_it_has_lasted() {
        assert_eq!(run(|n| 60 + (n % 3) as i64), Some(19));
        // Though the other was far ahead all the time.
        assert_eq!(run(|_| 39), None, "too little");
        assert_eq!(run(|n| if n % 15 == 14 { -5 } else { 60 }), None, "not in a row");
        assert_eq!(run(|n| if n % 15 == 14 { 10 } else { 60 }), None, "nor so");
    }

    #[test]
    fn what_the_parent_never_brings_says_nothing_of_the_next() {
        let mut beaten = Beaten::default();
        let (lost, life) = ((node(8), 1), (node(9), 1));
        beaten.on_told(at(0), node(1), lost, 1);
        for n in 0..60 {
            beaten.on_told(at(n * STEP), node(1), life, n + 1);
            beaten.on_brought(at(n * STEP + 60), life, n);
        }
        assert!(beaten.leads.contains_key(&node(1)), "the stale word gave way");
    }
}
