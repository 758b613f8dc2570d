//! Our own batches: made of what waits, written, and sent.

use std::time::Duration;

use super::ctx::Ctx;
use super::flow::Edge;
use super::publish::TOGETHER;
use super::{Group, Making, Phase, Unwritten};
use crate::id::{PublishId, Token};
use crate::io::{Event, Lane, PublishError, Write};
use crate::wire::batch::Batch;

/// When links are full, whether they have stalled is looked at this often.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// So many times as long as for a welcome, a first batch waits for what others have of our past and
/// we do not. Guess: anybody can claim such.
const PAST_WAITS: u32 = 5;

impl Group {
    /// Makes batches of what waits, as fast as the tree and the disk take them.
    pub(super) fn maybe_make_batch(&mut self, ctx: &mut Ctx<'_>) {
        while self.publisher.has_waiting() && self.may_make_batch(ctx) && !self.is_too_fresh(ctx) {
            if self.publisher.life().is_none() {
                self.look_back(&ctx.me());
            }
            let most = if ctx.config.history { TOGETHER } else { 1 };
            let (mut batches, mut writes) = (Vec::new(), Vec::new());
            while batches.is_empty() || (batches.len() < most && self.publisher.is_full(ctx.config)) {
                batches.push(self.make_batch(ctx, &mut writes));
            }
            let token = ctx.persist(writes);
            self.publisher.unwritten = Some(Unwritten { token, batches });
        }
        // A full link says when it is free; whether it has stalled is seen by looking again.
        let ripe = self.publisher.is_ripe(ctx.now, ctx.config);
        self.next_try = if ripe { ctx.now + TRY_AGAIN } else { self.publisher.ripe_at(ctx.config) };
    }

    fn make_batch(&mut self, ctx: &mut Ctx<'_>, writes: &mut Vec<Write>) -> (Batch, Vec<PublishId>) {
        let dependencies = self.causes.take(self.publisher.most_dependencies(ctx.config));
        let making = Making {
            group: &self.id,
            identity: ctx.identity,
            unix_ms: ctx.unix_ms,
            last_life: *ctx.last_life,
            nonce: ctx.rng.next_u64(),
        };
        let (batch, publications) = self.publisher.make(ctx.now, dependencies, &making, ctx.config);
        let id = batch.header.id;
        if id.seq == 0 {
            *ctx.last_life = (*ctx.last_life).max(id.life);
            writes.push(Write::Life { group: self.id, life: id.life });
            // It has its place in the history now.
            self.close_own_past(ctx, (id.source, id.life));
            if let Err(cap) = self.sources.begin_own((id.source, id.life), ctx.config) {
                self.overload(ctx, cap);
            }
        }
        writes.push(batch.to_write(self.id));
        (batch, publications)
    }

    /// Idle: at once. Busy: when a batch is full or 5 ms old. Never while most of
    /// the tree lags: the queue fills, and its room tells the application.
    fn may_make_batch(&self, ctx: &Ctx<'_>) -> bool {
        let edges = self.outlets(ctx);
        let queued = |Edge { node, .. }: &Edge| {
            if ctx.links.stalled(ctx.now, node, ctx.config) { 0 } else { ctx.links.queued(node, Lane::Live) }
        };
        let idle = edges.iter().map(queued).max() == Some(0);
        let going = matches!(self.phase, Phase::Going(_));
        if self.flow.crowded(ctx.now, &edges, ctx.links, ctx.config) {
            return false;
        }
        idle || going || self.publisher.is_ripe(ctx.now, ctx.config)
    }

    /// Who has a past here says where it ended: neighbours know, unless the store does. So the
    /// first batch waits for a welcome, but not for long; longer for what of that past others have.
    fn is_too_fresh(&self, ctx: &Ctx<'_>) -> bool {
        if self.publisher.life().is_some() {
            return false;
        }
        let waited = ctx.now.since(self.entered);
        (waited < ctx.config.fresh_wait && self.has_loose_ends(ctx))
            || (waited < ctx.config.fresh_wait * PAST_WAITS && self.lacks_past(ctx))
    }

    /// Our batches are on disk: they may leave.
    pub(crate) fn on_persisted(&mut self, ctx: &mut Ctx<'_>, token: Token) {
        if self.on_removal_kept(ctx, token, true) || self.on_agreement_kept(ctx, token, true) {
            return;
        }
        let Some(unwritten) = self.publisher.unwritten.take_if(|it| it.token == token) else {
            return self.on_receipt_kept(ctx, token);
        };
        for (batch, publications) in unwritten.batches {
            let id = batch.header.id;
            for (n, publication) in publications.into_iter().enumerate() {
                ctx.event(Event::Published { group: self.id, id: publication, batch: id, n: n as u32 });
            }
            self.untaken.push((!ctx.config.history).then_some(batch.bytes.len()));
            self.take(ctx, batch, None);
        }
        self.poll_total(ctx);
        self.maybe_make_batch(ctx);
        self.poll_farewell(ctx);
    }

    pub(crate) fn on_persist_failed(&mut self, ctx: &mut Ctx<'_>, token: Token) {
        self.receipts.drop_held(token);
        self.on_removal_kept(ctx, token, false);
        self.on_agreement_kept(ctx, token, false);
        self.on_earlier_kept(ctx, token, false);
        if self.publisher.unwritten.as_ref().is_some_and(|it| it.token == token) {
            let life = self.publisher.life().map(|life| (ctx.me(), life));
            for (batch, _) in self.publisher.unwritten.iter().flat_map(|it| &it.batches) {
                self.causes.give_back(&batch.header.dependencies);
            }
            for id in self.publisher.on_write_failed() {
                ctx.event(Event::Rejected { group: self.id, id, error: PublishError::NotDurable });
            }
            // What was written before is still to reach others.
            let owed = self.untaken.end();
            if let Some(state) = life.and_then(|life| self.sources.life_mut(life)) {
                state.owed = owed;
            }
            self.maybe_make_batch(ctx);
        }
    }
}
