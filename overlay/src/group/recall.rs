//! What a cut names and the causal order will not bring: it was given up here as lost, its life is closed here, or
//! its source forked and another batch of its number came first. The committee holds what the cut names
//! (`DESIGN.md` §5), so it is asked for by range, and taken if it leads to the digest in the cut.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Group;
use super::ctx::Ctx;
use super::order::Advance;
use super::order::total::Lack;
use super::settle::{runs, tentative};
use super::sources::LifeId;
use super::spread::Violation;
use crate::id::{BatchId, Digest, NodeId, Seq};
use crate::io::Event;
use crate::time::Time;
use crate::wire::batch::Batch;
use crate::wire::frame::{Frame, Pull};

/// Who does not answer for so long is not asked again soon. Guess: several round trips.
const PATIENCE: Duration = Duration::from_secs(1);
/// What no cut names for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(10);
/// Lives that are recalled at a time; others wait.
const MAX_RECALLED: usize = 64;

/// One life's.
#[derive(Debug)]
struct Chain {
    lack: Lack,
    came: BTreeMap<Seq, Batch>,
    bytes: usize,
    /// How often somebody was asked.
    asked: usize,
    again: Time,
}

/// What is recalled.
#[derive(Debug, Default)]
pub(crate) struct Recall(BTreeMap<LifeId, Chain>);

impl Chain {
    /// All of it, if it is here and fits together.
    fn take_whole(&mut self) -> Option<Vec<Batch>> {
        if (self.came.len() as u64) < self.lack.next - self.lack.first {
            return None;
        }
        let chain: Vec<Batch> = std::mem::take(&mut self.came).into_values().collect();
        self.bytes = 0;
        let fits = chain.windows(2).all(|pair| pair[1].header.previous == pair[0].digest);
        let ends = chain.last().is_some_and(|it| it.digest == self.lack.digest);
        // Another branch of a fork: somebody else has this one.
        (fits && ends).then_some(chain)
    }
}

impl Recall {
    fn range(&self, id: &BatchId) -> Option<&Chain> {
        let chain = self.0.get(&(id.source, id.life))?;
        (chain.lack.first..chain.lack.next).contains(&id.seq).then_some(chain)
    }

    /// When somebody else is to be asked; what was due and not done waits for something else.
    pub(crate) fn deadline(&self, polled: Time) -> Option<Time> {
        self.0.values().map(|it| it.again).filter(|it| *it > polled).min()
    }
}

impl Group {
    /// Whether the causal order will not bring all that is lacking.
    pub(super) fn is_to_recall(&self, lack: &Lack) -> bool {
        let Some(total) = &self.total else { return false };
        let Some(source) = self.sources.get(&lack.source) else { return false };
        let delivered = source.lives.get(&lack.life).map_or(0, |it| it.delivered);
        let hole = total.ledger.hole(lack);
        source.forked || lack.life < source.floor || hole.is_none_or(|seq| seq < delivered)
    }

    /// Asks for it, one after the other.
    pub(super) fn recall(&mut self, ctx: &mut Ctx<'_>, lack: Lack) {
        let life = (lack.source, lack.life);
        if self.recall.0.len() >= MAX_RECALLED && !self.recall.0.contains_key(&life) {
            return;
        }
        let members = self.total.as_ref().and_then(|it| it.epoch()).map_or(&[][..], |it| it.1);
        let linked = |it: &&NodeId| ctx.links.shares(it, &self.id);
        // Its committee holds it for certain.
        let mut others: Vec<NodeId> = members.iter().filter(linked).copied().collect();
        others.extend(self.views.active().into_iter().filter(|it| !members.contains(it)));
        others.retain(|it| *it != ctx.me());
        let chain = self.recall.0.entry(life).or_insert_with(|| Chain {
            lack,
            came: BTreeMap::new(),
            bytes: 0,
            asked: 0,
            again: ctx.now,
        });
        if chain.lack != lack {
            (chain.lack, chain.again) = (lack, ctx.now);
            chain.came.retain(|seq, _| (lack.first..lack.next).contains(seq));
            chain.bytes = chain.came.values().map(|it| it.bytes.len()).sum();
        }
        if chain.again > ctx.now || others.is_empty() {
            return;
        }
        let next = chain.came.keys().zip(lack.first..).find(|(have, seq)| *have != seq).map(|it| it.1);
        let first = next.unwrap_or(lack.first + chain.came.len() as u64).min(lack.next - 1);
        let node = others[chain.asked % others.len()];
        (chain.asked, chain.again) = (chain.asked + 1, ctx.now + PATIENCE);
        let (source, life) = life;
        ctx.send(&node, &Frame::Pull(Pull { source, life, ranges: vec![(first, lack.next)] }));
    }

    /// Whether this batch is one that was recalled; then it goes no other way.
    pub(super) fn on_recalled(&mut self, ctx: &mut Ctx<'_>, batch: &Batch) -> Result<bool, Violation> {
        let id = batch.header.id;
        if self.recall.range(&id).is_none() {
            return Ok(false);
        }
        self.check(ctx, batch).map_err(|_| Violation("bad signature"))?;
        let Some(chain) = self.recall.0.get_mut(&(id.source, id.life)) else { return Ok(false) };
        if chain.bytes + batch.bytes.len() > ctx.config.pending_bytes {
            (chain.came, chain.bytes) = (BTreeMap::new(), 0);
            self.overload(ctx, "pending_bytes");
            return Ok(true);
        }
        if chain.came.insert(id.seq, batch.clone()).is_none() {
            chain.bytes += batch.bytes.len();
        }
        chain.again = chain.again.max(ctx.now + PATIENCE);
        if let Some(whole) = chain.take_whole() {
            self.recall.0.remove(&(id.source, id.life));
            self.take_recalled(ctx, whole);
            self.poll_total(ctx);
        }
        Ok(true)
    }

    /// They are shown as tentative, kept, and get their places.
    fn take_recalled(&mut self, ctx: &mut Ctx<'_>, chain: Vec<Batch>) {
        let Some(source) = chain.first().map(|it| it.header.id.source) else { return };
        let (group, floor) = (self.id, self.floor(&source));
        let mut advance = Advance::default();
        for batch in chain {
            let id: BatchId = batch.header.id;
            let (tentative, deliveries) = (tentative(&batch), runs(&batch));
            let Some(total) = &mut self.total else { return };
            if !total.ledger.on_recalled(id, tentative) {
                continue;
            }
            for delivery in &deliveries {
                ctx.event(Event::Deliver { group, delivery: delivery.clone(), tentative: true });
            }
            let digest: Digest = batch.digest;
            if self.store.get(&id).is_none_or(|it| it.digest != digest) {
                self.store.replace(ctx.now, batch);
            }
            advance.deliveries.extend(deliveries);
            advance.delivered.push(id);
        }
        self.record(ctx, source, floor, &advance);
    }

    /// What has its place, or is no longer lacking, is not asked for any more, nor what no cut named of late: those
    /// that are not decided may be given up.
    pub(super) fn poll_recall(&mut self, ctx: &Ctx<'_>) {
        let Some(total) = &self.total else { return };
        self.recall
            .0
            .retain(|_, chain| chain.again + FORGOTTEN > ctx.now && total.ledger.still_lacks(&chain.lack));
    }
}
