//! Records that are new here, on their way to neighbours.
//!
//! One at a time they go on at once. When many come, as in the first seconds of a large group, they
//! are gathered for a moment: a frame then carries many, and who has told of one meanwhile need not
//! hear it. Suspicions go with them, and behind them: whoever does not know the record that one speaks
//! of does not heed it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_bytes::ByteBuf;

use super::Group;
use super::ctx::Ctx;
use crate::id::NodeId;
use crate::time::Time;
use crate::wire::frame::{Frame, Records};
use crate::wire::record::Suspicion;

/// Between two rounds, at the least. Guess: few notice that somebody came a fifth of a second ago.
const GATHER: Duration = Duration::from_millis(200);
/// Records that wait, and suspicions, at most: more make a round of their own.
const MOST: usize = 256;
const MOST_SUSPICIONS: usize = 64;

/// One member's latest record, or one suspicion, and which neighbours have it.
#[derive(Debug)]
struct Waiting {
    record: ByteBuf,
    incarnation: u64,
    held_by: BTreeSet<NodeId>,
}

/// What neighbours are to hear of members.
#[derive(Debug, Default)]
pub(super) struct Herald {
    waiting: BTreeMap<NodeId, Waiting>,
    /// By suspect and accuser.
    suspicions: BTreeMap<(NodeId, NodeId), Waiting>,
    next: Time,
}

impl Herald {
    /// A record is new here; `from` has it.
    fn add(&mut self, subject: NodeId, incarnation: u64, record: ByteBuf, from: Option<&NodeId>) {
        let held_by = from.copied().into_iter().collect();
        self.waiting.insert(subject, Waiting { record, incarnation, held_by });
    }

    /// A neighbour has told of what we know: it need not hear it from us.
    pub(super) fn is_held(&mut self, subject: &NodeId, incarnation: u64, by: &NodeId) {
        if let Some(it) = self.waiting.get_mut(subject).filter(|it| it.incarnation <= incarnation) {
            it.held_by.insert(*by);
        }
    }

    /// A suspicion is new here; `from` has it.
    fn add_suspicion(&mut self, suspicion: Suspicion, from: Option<&NodeId>) {
        let held_by = from.copied().into_iter().collect();
        let Suspicion { suspect, accuser, incarnation, bytes: record } = suspicion;
        self.suspicions.insert((suspect, accuser), Waiting { record, incarnation, held_by });
    }

    /// A neighbour has told of what we know: it need not hear it from us.
    pub(super) fn is_suspicion_held(&mut self, suspicion: &Suspicion, by: &NodeId) {
        let waiting = self.suspicions.get_mut(&(suspicion.suspect, suspicion.accuser));
        if let Some(it) = waiting.filter(|it| it.incarnation <= suspicion.incarnation) {
            it.held_by.insert(*by);
        }
    }

    /// Records and suspicions for a neighbour.
    fn missing(&self, node: &NodeId) -> (Vec<&ByteBuf>, Vec<&ByteBuf>) {
        let lacks = |it: &&Waiting| !it.held_by.contains(node);
        let members = self.waiting.iter().filter(|(subject, _)| *subject != node).map(|(_, it)| it);
        let members = members.filter(lacks).map(|it| &it.record).collect();
        (members, self.suspicions.values().filter(lacks).map(|it| &it.record).collect())
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.suspicions.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        (!self.is_empty()).then_some(self.next)
    }
}

impl Group {
    /// A member's record is new here: neighbours are to hear it.
    pub(super) fn herald(
        &mut self,
        ctx: &mut Ctx<'_>,
        (subject, incarnation): (NodeId, u64),
        record: &ByteBuf,
        from: Option<&NodeId>,
    ) {
        self.herald.add(subject, incarnation, record.clone(), from);
        if self.herald.waiting.len() >= MOST {
            self.herald.next = ctx.now;
            self.poll_herald(ctx);
        }
    }

    /// Neighbours are to hear of a suspicion that is new here.
    pub(super) fn herald_suspicion(
        &mut self,
        ctx: &mut Ctx<'_>,
        suspicion: Suspicion,
        from: Option<&NodeId>,
    ) {
        self.herald.add_suspicion(suspicion, from);
        if self.herald.suspicions.len() >= MOST_SUSPICIONS {
            self.herald.next = ctx.now;
            self.poll_herald(ctx);
        }
    }

    pub(super) fn poll_herald(&mut self, ctx: &mut Ctx<'_>) {
        if self.herald.deadline().is_none_or(|at| at > ctx.now) {
            return;
        }
        self.herald.next = ctx.now + GATHER;
        // Most neighbours lack the same.
        let mut alike: BTreeMap<_, Vec<NodeId>> = BTreeMap::new();
        for node in self.views.active() {
            alike.entry(self.herald.missing(&node)).or_default().push(node);
        }
        for ((members, suspicions), nodes) in alike {
            if !members.is_empty() || !suspicions.is_empty() {
                let members = members.into_iter().cloned().collect();
                let suspicions = suspicions.into_iter().cloned().collect();
                ctx.send_all(&nodes, &Frame::Records(Records { members, suspicions }));
            }
        }
        self.herald.waiting.clear();
        self.herald.suspicions.clear();
    }
}
