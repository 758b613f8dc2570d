//! Sources that signed two histories: they are set aside, and everybody is to hear of it, those too
//! that come later.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Group;
use super::ctx::Ctx;
use super::spread::Violation;
use crate::config::Config;
use crate::id::{BatchId, NodeId, Seq};
use crate::io::Event;
use crate::wire::batch::Batch;
use crate::wire::frame::{Fork, Frame};

/// Why sources were set aside, and which neighbours know.
#[derive(Debug, Default)]
pub(crate) struct Proofs {
    kept: BTreeMap<NodeId, Fork>,
    bytes: usize,
    /// (neighbour, source)
    told: BTreeSet<(NodeId, NodeId)>,
}

impl Proofs {
    /// Keeps a proof that these neighbours have been sent; whether there is no room for it.
    fn keep(&mut self, source: NodeId, proof: Fork, neighbours: &[NodeId], config: &Config) -> bool {
        let bytes = proof.first.len() + proof.second.len();
        let full = self.bytes + bytes > config.fork_proof_bytes;
        if !full {
            self.bytes += bytes;
            self.kept.insert(source, proof);
            self.told.extend(neighbours.iter().map(|it| (*it, source)));
        }
        full
    }

    /// The proof for a neighbour that has not had it.
    fn untold(&mut self, neighbour: &NodeId, source: &NodeId) -> Option<&Fork> {
        let proof = self.kept.get(source)?;
        self.told.insert((*neighbour, *source)).then_some(proof)
    }

    /// A neighbour knows of it.
    fn on_told(&mut self, neighbour: NodeId, source: NodeId) {
        if self.kept.contains_key(&source) {
            self.told.insert((neighbour, source));
        }
    }

    pub(crate) fn forget(&mut self, neighbour: &NodeId) {
        self.told.retain(|(it, _)| it != neighbour);
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Group {
    /// A batch whose chain does not fit its neighbours in the chain: its source forked.
    pub(super) fn contradicted_by(&self, batch: &Batch) -> Option<Bytes> {
        let id = batch.header.id;
        let before = id.seq.checked_sub(1).and_then(|seq| self.store.get(&BatchId { seq, ..id }));
        if let Some(before) = before.filter(|it| it.digest != batch.header.previous) {
            return Some(before.bytes.clone());
        }
        let after = self.store.get(&BatchId { seq: id.seq + 1, ..id });
        after.filter(|it| it.header.previous != batch.digest).map(|it| it.bytes.clone())
    }

    /// Two batches prove that their source signed two histories: nothing more is taken from
    /// it, and everybody hears of it.
    pub(super) fn set_aside(&mut self, ctx: &mut Ctx<'_>, source: NodeId, first: &Bytes, second: &Bytes) {
        let Some(state) = self.sources.get_mut(&source).filter(|it| !it.forked) else { return };
        state.forked = true;
        let lives: Vec<_> = state.lives.keys().copied().collect();
        for life in lives {
            self.store.abandon(BatchId { source, life, seq: 0 }, Seq::MAX);
            self.repair.forget_life((source, life));
            self.news.remove(&(source, life));
        }
        let proof = Fork { first: first.to_vec().into(), second: second.to_vec().into() };
        let neighbours = self.views.active();
        ctx.send_all(&neighbours, &Frame::Fork(proof.clone()));
        if self.proofs.keep(source, proof, &neighbours, ctx.config) {
            self.overload(ctx, "fork_proof_bytes");
        }
        if let Ok(batch) = Batch::parse(&self.id, second.clone()) {
            let BatchId { life, seq, .. } = batch.header.id;
            ctx.event(Event::Forked { group: self.id, source, life, seq });
        }
        // What waited for it waits no longer.
        self.deliver(ctx, source);
    }

    /// A neighbour speaks of a source that we have set aside: it has not heard why.
    pub(super) fn maybe_prove_fork(&mut self, ctx: &mut Ctx<'_>, neighbour: &NodeId, source: &NodeId) {
        if let Some(proof) = self.proofs.untold(neighbour, source) {
            let frame = Frame::Fork(proof.clone());
            ctx.send(neighbour, &frame);
        }
    }

    /// A neighbour's proof that a source forked.
    pub(super) fn handle_fork(
        &mut self,
        ctx: &mut Ctx<'_>,
        from: NodeId,
        fork: &Fork,
    ) -> Result<(), Violation> {
        let parse = |bytes: &[u8]| Batch::parse(&self.id, Bytes::copy_from_slice(bytes));
        let (Ok(first), Ok(second)) = (parse(&fork.first), parse(&fork.second)) else {
            return Err(Violation("malformed fork proof"));
        };
        let (one, two) = (first.header.id, second.header.id);
        let same_life = (one.source, one.life) == (two.source, two.life);
        let same_place = one.seq == two.seq && first.digest != second.digest;
        let broken = (one.seq + 1 == two.seq && second.header.previous != first.digest)
            || (two.seq + 1 == one.seq && first.header.previous != second.digest);
        if !same_life || !(same_place || broken) {
            return Err(Violation("a fork proof that proves nothing"));
        }
        self.proofs.on_told(from, one.source);
        let settled = self.sources.get(&one.source).is_some_and(|it| it.forked);
        if settled || one.source == ctx.me() || !self.descriptor.admits(&one.source) {
            return Ok(());
        }
        self.check(ctx, &first)
            .and_then(|()| self.check(ctx, &second))
            .map_err(|_| Violation("bad signature"))?;
        // Also of a source that we have heard nothing of yet.
        if let Err(cap) = self.sources.open((one.source, one.life), ctx.config) {
            self.overload(ctx, cap);
        }
        self.set_aside(ctx, one.source, &first.bytes, &second.bytes);
        Ok(())
    }
}
