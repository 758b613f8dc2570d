//! A batch's way through a member: taken in once, passed on, kept, ordered, delivered.

use bytes::Bytes;

use super::Group;
use super::ctx::Ctx;
use super::publish::MAX_AHEAD_MS;
use super::ranges::Range;
use super::repair::{Others, Sight, Step};
use super::sources::{LifeId, Place};
use crate::descriptor::Order;
use crate::id::{BatchId, NodeId, Seq};
use crate::identity::BadSignature;
use crate::io::{Event, Lane};
use crate::wire::batch::Batch;
use crate::wire::frame::{Frame, Pull, PullEnd};

/// An answer of more batches than this is history: it takes the bulk lane.
const LIVE_ANSWER: u64 = 16;
/// Up to so many members are all asked whether they hold the end of a life that is over…
const ASK_ALL: usize = 32;
/// …and so many besides the neighbours in a larger group. Guesses.
const ASK_SOME: usize = 8;
/// Ranges that one pull may name.
const MAX_PULL_RANGES: usize = 256;

/// The sender broke the protocol.
pub(crate) struct Violation(pub(crate) &'static str);

impl Group {
    /// A batch from a neighbour, pushed or pulled.
    pub(super) fn handle_batch(
        &mut self,
        ctx: &mut Ctx<'_>,
        from: NodeId,
        bytes: Bytes,
    ) -> Result<(), Violation> {
        let batch = Batch::parse(&self.id, bytes).map_err(|_| Violation("malformed batch"))?;
        let id = batch.header.id;
        if !self.admits_source(&id.source) || !self.allows(&from) {
            return Ok(());
        }
        if self.on_recalled(ctx, &batch)? {
            return Ok(());
        }
        match self.sources.place(&id, ctx.config) {
            Place::New => {}
            Place::Held => {
                self.repair.on_has(from, (id.source, id.life), id.seq);
                let asked = self.repair.is_asked(&from, (id.source, id.life), id.seq);
                if self.is_pushed(&from, &id.source) && !asked {
                    self.on_pushed(ctx, from, &id);
                }
                return self.on_duplicate(ctx, from, batch);
            }
            Place::Closed => {
                self.on_late(ctx, &from, &batch);
                return Ok(());
            }
            Place::Beyond(cap) => {
                self.overload(ctx, cap);
                return Ok(());
            }
        }
        if self.store.pending_bytes() + batch.bytes.len() > ctx.config.pending_bytes && !self.is_next(&id) {
            self.overload(ctx, "pending_bytes");
            return Ok(());
        }
        if self.is_order(&id.source) && self.check_record(&batch, ctx.identity.signatures()).is_none() {
            // Of a committee that is not known here: it comes again when it is.
            return Ok(());
        }
        if self.is_pool_full(ctx.config) && !self.is_to_settle(&id) {
            self.overload(ctx, "pending_bytes");
            return Ok(());
        }
        self.check(ctx, &batch).map_err(|_| Violation("bad signature"))?;
        if self.is_other_than_named(&batch) {
            return Ok(());
        }
        if let Some(other) = self.contradicted_by(&batch) {
            self.set_aside(ctx, id.source, &batch.bytes, &other);
            return Ok(());
        }
        self.received += 1;
        if self.tree.parent() == Some(from) {
            self.repair.on_parent_speaks();
        }
        self.silence.on_batch(ctx.now);
        self.repair.on_has(from, (id.source, id.life), id.seq);
        let life = (id.source, id.life);
        if self.is_unicast() {
            ctx.links.touch(ctx.now, &from);
        }
        if self.is_pushed(&from, &id.source) && !self.repair.is_asked(&from, life, id.seq) {
            self.on_pushed(ctx, from, &id);
        }
        if self.repair.is_asked(&from, life, id.seq) {
            self.repair.lag.on_pulled(life, id.seq);
            // Or the parent would bring it, too, once it has it.
            self.tells_parent = self.tree.parent().filter(|it| !self.repair.has(it, life, id.seq));
        }
        self.take(ctx, batch, Some(from));
        let repaired = self.repair.on_received(ctx.now, life, id.seq, &self.sources, ctx.config);
        if let Some((from, to)) = repaired {
            let (group, source, life) = (self.id, id.source, id.life);
            ctx.event(Event::Repaired { group, source, life, from, to });
        }
        self.poll_total(ctx);
        Ok(())
    }

    fn on_pushed(&mut self, ctx: &mut Ctx<'_>, from: NodeId, id: &BatchId) {
        let life = (id.source, id.life);
        let held = self.sources.life(life).map(|it| &it.held);
        self.repair.on_pushed(ctx.now, from, life, id.seq, held);
        if self.tree.parent() == Some(from) {
            self.brought_by_parent(ctx, life, id.seq);
        }
    }

    fn is_next(&self, id: &BatchId) -> bool {
        self.sources.life((id.source, id.life)).is_none_or(|life| life.held.next() == id.seq)
    }

    pub(super) fn check(&mut self, ctx: &Ctx<'_>, batch: &Batch) -> Result<(), BadSignature> {
        if !ctx.identity.signatures().are_checked() {
            return Ok(());
        }
        if self.is_order(&batch.header.id.source) {
            return self.check_record(batch, ctx.identity.signatures()).unwrap_or(Err(BadSignature));
        }
        let verifier = self.sources.verifier(&batch.header.id.source)?;
        batch.check(&verifier)
    }

    /// Seen before: the tree may have an edge too many, or the source lies.
    fn on_duplicate(&mut self, ctx: &mut Ctx<'_>, from: NodeId, batch: Batch) -> Result<(), Violation> {
        self.duplicates += 1;
        let id = batch.header.id;
        if let Some(held) = self.store.get(&id).filter(|held| held.digest != batch.digest) {
            let other = held.bytes.clone();
            self.check(ctx, &batch).map_err(|_| Violation("bad signature"))?;
            self.set_aside(ctx, id.source, &other, &batch.bytes);
            return Ok(());
        }
        self.with_tree(ctx, |tree, _, acts| tree.on_duplicate(from, acts));
        Ok(())
    }

    /// Keeps a batch that is new here, passes it on, delivers what it makes deliverable.
    pub(super) fn take(&mut self, ctx: &mut Ctx<'_>, batch: Batch, from: Option<NodeId>) {
        let id = batch.header.id;
        let life = (id.source, id.life);
        let fresh = self.sources.life(life).is_none();
        let state = match self.sources.open(life, ctx.config) {
            Ok(state) => state,
            Err(cap) => return self.overload(ctx, cap),
        };
        let begins = id.seq == 0;
        (state.only_named, state.moved) = (false, ctx.now);
        state.heard = state.heard.max(id.seq + 1);
        if id.seq == 0 {
            state.opening = batch.header.opening.clone();
        }
        let digest_at = |seq| self.store.get(&BatchId { seq, ..id }).map(|it| it.digest);
        state.hold(id.seq, batch.digest, digest_at);
        let opening = batch.header.opening.clone().and_then(|it| it.previous);
        let bytes = batch.bytes.clone();
        self.store.insert(ctx.now, batch);
        if fresh {
            self.undefined.insert(life);
            self.close_if_followed(ctx, life);
        }
        if begins && from.is_none() && !self.is_order(&id.source) {
            self.close_own_past(ctx, life);
        } else if begins {
            self.close_lives_before(ctx, life, opening);
        }
        self.want_missing(ctx, life, true);
        if from.is_some() && self.descriptor.order >= Order::Causal {
            self.want_causes(ctx, &id);
        }
        self.forward(ctx, &id, &bytes, from);
        self.news.insert(life);
        self.deliver(ctx, id.source);
        self.poll_news(ctx);
        if self.store.bytes() > ctx.config.store_bytes {
            self.evict(ctx);
        }
    }

    /// Starts or keeps a search for what is known to exist and is not here.
    pub(super) fn want_missing(&mut self, ctx: &Ctx<'_>, life: LifeId, patient: bool) {
        let missing = self.sources.life(life).map(|it| it.missing()).unwrap_or_default();
        if let Some((_, end)) = missing.last() {
            self.repair.want(ctx.now, life, *end, patient, ctx.config);
        }
    }

    /// Pushes a batch along the tree.
    fn forward(&mut self, ctx: &mut Ctx<'_>, id: &BatchId, bytes: &Bytes, from: Option<NodeId>) {
        let life = (id.source, id.life);
        if !self.is_unicast() {
            self.watch_load(ctx);
        }
        let mut frame = None;
        // What had to be pulled goes down only: the parent has ways of its own, and by when it
        // comes from there the lag is learned.
        let pulled =
            from.is_some_and(|from| !self.tree.is_edge(&from) || self.repair.is_asked(&from, life, id.seq));
        for node in self.onward(ctx, from.as_ref(), pulled) {
            if node == id.source || self.repair.has(&node, life, id.seq) {
                continue;
            }
            if self.flow.can_push(&node, ctx.links, ctx.config) {
                let frame = frame.get_or_insert_with(|| Frame::Batch(bytes.clone()).encode(ctx.channel));
                ctx.send_encoded(&node, Lane::Live, frame.clone());
            } else if self.views.is_active(&node) {
                self.flow.on_skipped(ctx.now, node, (life, id.seq));
            }
        }
        self.ask_for_pauses(ctx);
    }

    /// Delivers what has become deliverable since something happened to this source.
    pub(super) fn deliver(&mut self, ctx: &mut Ctx<'_>, source: NodeId) {
        let floor = self.floor(&source);
        let mut advance = self.sequencer.advance(source, &mut self.sources, &mut self.store);
        let (me, mut answered) = (ctx.me(), Vec::new());
        for batch in &advance.delivered {
            self.store.on_delivered(ctx.now, batch);
            if batch.source != me && !self.is_order(&batch.source) {
                let heads = self.store.get(batch).map_or(&[][..], |it| &it.header.dependencies);
                self.causes.delivered(batch, heads);
                answered.extend(heads.iter().filter(|it| it.source == me));
            }
        }
        self.record(ctx, source, floor, &advance);
        self.on_causal(ctx, &mut advance);
        if self.floor(&source) != floor {
            self.tell_disowned(&source, floor);
        }
        for cause in advance.missed {
            self.maybe_miss(ctx, None, (cause.source, cause.life), cause.seq.saturating_add(1));
        }
        for delivery in advance.deliveries {
            ctx.event(Event::Deliver { group: self.id, delivery, tentative: false });
        }
        for life in advance.moved {
            self.answer_receipt(ctx, life);
        }
        for cause in advance.wanted {
            self.want_cause(ctx, &cause);
        }
        for own in answered {
            self.on_answered(ctx, own);
        }
    }

    /// Somebody has named a batch of ours as a cause: it has it. (Or who comes in would still be owed it,
    /// beside answers to it.)
    fn on_answered(&mut self, ctx: &mut Ctx<'_>, own: BatchId) {
        let next = own.seq.saturating_add(1);
        self.on_taken(ctx, (own.source, own.life), next);
        self.on_owed_taken(ctx, own.life, next);
    }

    /// Causes of a batch that has come are looked for at once, also while it is not its turn yet:
    /// what nobody has is given up beside what is missing before it, not after that.
    fn want_causes(&mut self, ctx: &mut Ctx<'_>, batch: &BatchId) {
        let causes = self.store.get(batch).map(|it| it.header.dependencies.clone()).unwrap_or_default();
        for cause in causes.iter().filter(|it| it.source != batch.source) {
            let heard = self.sources.life((cause.source, cause.life)).is_some_and(|it| it.heard > cause.seq);
            if !heard && !self.sources.is_met(cause) {
                self.want_cause(ctx, cause);
            }
        }
    }

    fn want_cause(&mut self, ctx: &mut Ctx<'_>, cause: &BatchId) {
        let life = (cause.source, cause.life);
        if cause.life > ctx.unix_ms.saturating_add(MAX_AHEAD_MS) {
            self.sequencer.waive(life, 0);
            return;
        }
        match self.sources.open(life, ctx.config) {
            Ok(state) => {
                let most = state.held.next().saturating_add(ctx.config.max_lookahead);
                state.heard = state.heard.max(cause.seq.saturating_add(1).min(most));
                self.undefined.insert(life);
                self.close_if_followed(ctx, life);
                self.want_missing(ctx, life, true);
            }
            Err(cap) => self.overload(ctx, cap),
        }
    }

    /// A neighbour holds our batches below `next`.
    pub(super) fn on_taken(&mut self, ctx: &mut Ctx<'_>, life: LifeId, next: Seq) {
        if life.0 != ctx.me() || self.publisher.life() != Some(life.1) {
            return;
        }
        if let Some(seq) = self.untaken.take_below(next) {
            let batch = BatchId { source: life.0, life: life.1, seq };
            ctx.event(Event::Sent { group: self.id, batch });
        }
        self.poll_farewell(ctx);
    }

    pub(super) fn poll_repair(&mut self, ctx: &mut Ctx<'_>) {
        if self.repair.deadline().is_none_or(|at| at > ctx.now) {
            return;
        }
        let neighbours = self.views.active();
        let parent = self.tree.parent().filter(|_| !self.is_unicast());
        let others = self.others(ctx);
        let (sources, links, config) = (&self.sources, &*ctx.links, ctx.config);
        let sight =
            Sight { now: ctx.now, parent, neighbours: &neighbours, others: &others, sources, links, config };
        let steps = self.repair.poll(&sight);
        for step in steps {
            match step {
                Step::Pull(node, (source, life), ranges) => {
                    if self.repair.is_to_hold(ctx.now, (source, life), &ranges) {
                        self.hold_below(ctx, (source, life), &ranges);
                    }
                    ctx.send(&node, &Frame::Pull(Pull { source, life, ranges }));
                }
                Step::ParentSilent(other) => {
                    self.with_tree(ctx, |tree, sight, acts| tree.on_parent_silent(sight, other, acts));
                }
                Step::Question(node) => ctx.links.question(ctx.now, &[node]),
                Step::Reach(nodes) => nodes.into_iter().for_each(|node| {
                    ctx.dial(node, self.roster.addresses(&node));
                }),
                Step::Gap((source, life), (from, to)) => {
                    ctx.event(Event::Gap { group: self.id, source, life, from, to, lost: false });
                }
                Step::Lost(life, range, dropped) => self.give_up(ctx, life, range, dropped),
            }
        }
    }

    /// Whose word decides that nobody holds what neighbours have dropped or long lacked, or the end of
    /// a life that is over: everybody's that runs; in a large group that of neighbours and some others.
    fn others(&self, ctx: &Ctx<'_>) -> Others {
        if !self.repair.needs_others(ctx.now, &self.sources, ctx.config) {
            return Others::default();
        }
        let mut needed = self.roster.online();
        if needed.len() > ASK_ALL {
            let me = ctx.me().tag();
            let mut far: Vec<_> = needed.iter().copied().collect();
            far.sort_unstable_by_key(|it| it.tag() ^ me);
            far.truncate(ASK_SOME);
            needed.retain(|it| self.views.is_active(it) || far.contains(it));
        }
        let shares = |node: &&NodeId| ctx.links.shares(node, &self.id);
        let linked = needed.iter().filter(shares).copied().collect();
        let came_back = self.history.came_back();
        let long = ctx.config.store_age.max(ctx.config.lost_after);
        let returned = came_back.is_some_and(|at| ctx.now.since(at) <= long);
        let last_failure = self.roster.last_failure().max(came_back);
        Others { needed, linked, last_failure, disks: ctx.config.history, returned }
    }

    /// Nobody holds this. In the middle of a life, or at the end of a closed one, order goes
    /// on without it; at the end of a live one it was but a rumour.
    fn give_up(&mut self, ctx: &mut Ctx<'_>, id: LifeId, (from, to): Range, dropped: bool) {
        let first = BatchId { source: id.0, life: id.1, seq: from };
        if self.is_order(&id.0) || self.total.as_ref().is_some_and(|it| it.ledger.needs(&first)) {
            // The committee has it, and all waits for that; unless it has been dropped.
            if dropped {
                self.on_overtaken(ctx.now);
            }
            return self.want_missing(ctx, id, false);
        }
        let knew_before = self.sources.knew_before(id);
        let Some(state) = self.sources.life_mut(id) else { return };
        let rumour = to >= state.held.end().max(from + 1)
            && state.held.end() <= from
            && state.end.is_none()
            && !dropped;
        if state.only_named && !knew_before {
            // As for whoever comes in: before our time.
            state.start_at(to);
            self.close_lives_before(ctx, id, None);
        } else if rumour {
            state.heard = state.held.end();
            self.sequencer.waive(id, from);
        } else if state.ends_by_hearsay(from) {
            // It ends where its source says, after all; others need not hear of the rest from us.
            (state.end, state.heard) = (Some(from), from);
            self.on_lost(ctx, id, (from, to));
        } else {
            state.skip((from, to));
            self.on_lost(ctx, id, (from, to));
            if dropped && self.total.is_none() {
                ctx.event(Event::Lagged { group: self.id, missed: to - from });
            }
        }
        self.deliver(ctx, id.0);
        self.want_missing(ctx, id, false);
        self.poll_total(ctx);
    }

    fn on_lost(&mut self, ctx: &mut Ctx<'_>, id: LifeId, (from, to): Range) {
        let (group, (source, life)) = (self.id, id);
        ctx.event(Event::Gap { group, source, life, from, to, lost: true });
        if from == 0 {
            // With its opening, where the life before it ended.
            self.close_lives_before(ctx, id, None);
        }
    }

    pub(super) fn handle_pull(&mut self, ctx: &mut Ctx<'_>, from: NodeId, pull: &Pull) {
        if !self.allows(&from) || pull.ranges.len() > MAX_PULL_RANGES {
            return;
        }
        let id = (pull.source, pull.life);
        let asked: u64 =
            pull.ranges.iter().map(|(from, to)| to.saturating_sub(*from)).fold(0, u64::saturating_add);
        let lane = if asked > LIVE_ANSWER { Lane::Bulk } else { Lane::Live };
        let promised = if lane == Lane::Bulk { self.history.of(&from).1 } else { 0 };
        let free = ctx.config.link_high_water.saturating_sub(ctx.links.queued(&from, lane));
        let mut room = free.saturating_sub(promised);
        if room == 0 {
            if free > 0 {
                self.history.wait(from, pull.clone(), ctx.config);
            }
            return;
        }
        let (mut absent, mut left) = (Vec::new(), ctx.config.pull_batches);
        let mut refused = false;
        let last = self.sources.cut_of(id);
        'answer: for &(start, stop) in &pull.ranges {
            let (mut seq, end) = (start, stop.min(last));
            while seq < end {
                if room == 0 || left == 0 {
                    break 'answer;
                }
                let batch = BatchId { source: id.0, life: id.1, seq };
                let Some(bytes) = self.store.get(&batch).map(|it| it.bytes.clone()) else {
                    let next = self.store.next_after(&batch).unwrap_or(end).min(end);
                    absent.push((seq, next));
                    if self.may_be_in_history(ctx, id, seq) {
                        // What comes after it is for the next answer: it would take its room.
                        break 'answer;
                    }
                    seq = next;
                    continue;
                };
                left -= 1;
                if self.repair.has(&from, id, seq) && !self.flow.may_repeat(ctx.now, &from) {
                    (refused, seq) = (true, seq + 1);
                    continue;
                }
                room = room.saturating_sub(bytes.len());
                self.flow.on_pulled(ctx.now, &from, (id, seq));
                self.repair.on_has(from, id, seq);
                ctx.send_encoded(&from, lane, Frame::Batch(bytes).encode(ctx.channel));
                seq += 1;
            }
            if end < stop {
                absent.push((end.max(start), stop));
            }
        }
        if refused {
            // Neither held back nor absent: who asks too often waits.
            return;
        }
        if !absent.is_empty() && self.look_up(ctx, from, id, &absent, (left, room)) {
            return;
        }
        let dropped_below = self.sources.life(id).map_or(0, |it| it.dropped_below);
        let end = PullEnd { source: id.0, life: id.1, absent, dropped_below };
        ctx.send_encoded(&from, lane, Frame::PullEnd(end).encode(ctx.channel));
    }

    pub(super) fn handle_pull_end(&mut self, ctx: &mut Ctx<'_>, from: NodeId, end: &PullEnd) {
        let life = (end.source, end.life);
        if self.sources.life(life).is_some() && end.absent.len() <= MAX_PULL_RANGES {
            self.repair.on_pull_end(ctx.now, from, life, &end.absent, end.dropped_below);
            self.poll_repair(ctx);
        }
    }

    /// A link has room again: who was not pushed to is told what there is.
    pub(crate) fn on_drained(&mut self, ctx: &mut Ctx<'_>, node: &NodeId) {
        self.tell_skipped(ctx, node);
        self.ask_for_pauses(ctx);
        self.maybe_make_batch(ctx);
    }

    pub(super) fn poll_flow(&mut self, ctx: &mut Ctx<'_>) {
        for node in self.flow.behind() {
            self.tell_skipped(ctx, &node);
        }
        self.ask_for_pauses(ctx);
    }

    /// Whether it matters here that a queue is shorter.
    pub(crate) fn awaits_drain(&self) -> bool {
        !self.flow.is_calm() || self.publisher.has_waiting()
    }

    fn ask_for_pauses(&mut self, ctx: &mut Ctx<'_>) {
        if self.is_unicast() {
            return;
        }
        if self.flow.is_calm()
            && ctx.links.queued_in_all() < ctx.config.link_low_water.min(ctx.config.link_high_water / 4)
        {
            return;
        }
        let edges = self.tree.weights();
        for (node, paused) in self.flow.poll(ctx.now, &edges, ctx.links, ctx.config) {
            ctx.send(&node, &Frame::Flow(crate::wire::frame::Flow { paused }));
        }
    }
}
