//! The total order's part in a group: what is delivered causally gets its place.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::baseline::First;
use super::ctx::Ctx;
use super::order::total::{
    Cut, Delegate, Lack, Lineage, MAX_PARTS, Part, Proposed, Saving, Settled, Spoken, Tentative, Vows,
};
use super::order::{Advance, total::Total};
use super::{Group, Phase};
use crate::descriptor::{Descriptor, Order};
use crate::id::{BatchId, Digest, GroupId, NodeId, Seq, Token};
use crate::identity::{BadSignature, Signatures};
use crate::io::{Delivery, Event, MemberState, OrderPast, OrderRecord, Output, Record, Write};
use crate::mutants::{self, Mutant};
use crate::time::Time;
use crate::wire::batch::Batch;
use crate::wire::frame::Frame;
use crate::wire::order::{self, Agree, Entry, Opened, Start};

/// After a cut the next comes no earlier, however few its messages, and…
const CUT_SOON: Duration = Duration::from_millis(3);
/// …no later, however many (`docs/decisions/026-pace-of-cuts.md`).
const CUT_LATE: Duration = Duration::from_millis(20);
/// Entries of the log between two that are forgotten. Guess.
const COMPACT_EVERY: u64 = 64;
/// Records of an epoch that is over and whose end is not known that are asked for at a time. Guess.
const FOLLOWED: u64 = 64;
/// A disk that refused is tried again so often. Guess.
const TRY_DISK_EVERY: Duration = Duration::from_secs(1);
/// Between heartbeats of a committee. A leader that is gone is replaced after three to four.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(300);

impl Group {
    pub(super) fn new_total(id: &GroupId, descriptor: &Descriptor, now: Time) -> Option<Box<Total>> {
        let founder = descriptor.founder.filter(|_| descriptor.order == Order::Total)?;
        let begins = descriptor.predecessor.map_or(0, |it| it.index);
        Some(Box::new(Total::new(id, founder, begins, now)))
    }

    /// Whether these are records of the order, which nobody published.
    pub(super) fn is_order(&self, source: &NodeId) -> bool {
        self.total.as_ref().is_some_and(|it| it.source() == *source)
    }

    /// Whether what this source publishes belongs in the group.
    pub(super) fn admits_source(&self, source: &NodeId) -> bool {
        self.descriptor.admits(source) || self.is_order(source)
    }

    /// Whether a record is the committee's; `None` if that is not known here yet.
    pub(super) fn check_record(
        &self,
        record: &Batch,
        signatures: Signatures,
    ) -> Option<Result<(), BadSignature>> {
        self.total.as_ref().and_then(|it| it.check(record, signatures))
    }

    /// Batches were delivered causally: they wait for their place, or are what gives others theirs.
    pub(super) fn on_causal(&mut self, ctx: &mut Ctx<'_>, advance: &mut Advance) {
        let Some(total) = &mut self.total else { return };
        let mut deliveries = std::mem::take(&mut advance.deliveries).into_iter().peekable();
        for batch in &advance.delivered {
            let mut its: Vec<Delivery> = Vec::new();
            while let Some(delivery) = deliveries.next_if(|it| it.batch() == *batch) {
                its.push(delivery);
            }
            if batch.source == total.source() {
                if let Some(payload) = its.first().and_then(|it| it.payloads.first())
                    && let Some(stored) = self.store.get(batch)
                {
                    total.on_record(batch, stored.digest, &stored.bytes, payload);
                    if total.ends_with(batch)
                        && let Some(state) = self.sources.life_mut((batch.source, batch.life))
                    {
                        // More of it was asked for than there is.
                        state.heard = state.heard.min(batch.seq + 1);
                    }
                }
                continue;
            }
            let Some(stored) = self.store.get(batch) else { continue };
            let tentative = Tentative {
                digest: stored.digest,
                dependencies: stored.header.dependencies.clone(),
                messages: stored.count,
                bytes: stored.bytes.len(),
                deliveries: its.clone(),
            };
            if total.ledger.on_delivered(*batch, tentative) {
                for delivery in its {
                    ctx.event(Event::Deliver { group: self.id, delivery, tentative: true });
                }
            }
        }
    }

    /// Gives out the places that are decided, and does the committee's part.
    pub(super) fn poll_total(&mut self, ctx: &mut Ctx<'_>) {
        let over = self.is_over();
        match &mut self.total {
            Some(total) if !over => total.polled = ctx.now,
            _ => return,
        }
        self.ask_where_order_is(ctx);
        self.maybe_found(ctx);
        self.settle(ctx);
        self.maybe_open(ctx);
        self.follow_epochs(ctx);
        self.take_seat(ctx);
        self.remember(ctx);
        self.try_disk_again(ctx);
        self.heartbeat(ctx);
        self.take_in(ctx);
        self.propose(ctx);
        self.turn(ctx);
        self.make_records(ctx);
        self.compact();
        self.watch_order(ctx);
    }

    /// Entries that are expanded are kept as records.
    fn compact(&mut self) {
        let Some(total) = &mut self.total else { return };
        let source = total.source();
        let Some(delegate) = &mut total.delegate else { return };
        let records = self.sources.life((source, delegate.epoch())).map_or(0, |it| it.delivered);
        let expanded = records.saturating_sub(1 + total.ledger.waiting() as u64);
        if expanded >= total.compacted_at + COMPACT_EVERY {
            total.compacted_at = expanded;
            delegate.compact(expanded);
        }
    }

    fn settle(&mut self, ctx: &mut Ctx<'_>) {
        let Some(total) = &mut self.total else { return };
        let (group, mut placed) = (self.id, Vec::new());
        // One that contradicts what was settled before is left where it is: the order stands still.
        while let Ok(Some((record, settled))) = total.ledger.settle() {
            placed.push((record, None));
            for Settled { batch, index, deliveries } in settled {
                placed.push((batch, Some(index)));
                for delivery in deliveries {
                    // Messages of unknown kinds, between, have places too.
                    let index = index + u64::from(delivery.first);
                    ctx.event(Event::Ordered { group, index, delivery });
                }
            }
        }
        if !placed.is_empty() {
            total.overtaken = None;
        }
        if !placed.is_empty() || total.ledger.pooled() == 0 {
            total.moved = ctx.now;
        }
        for BatchId { source, life, seq } in total.ledger.take_closed() {
            placed.push((BatchId { source, life, seq }, None));
            ctx.event(Event::Gap { group, source, life, from: seq, to: seq + 1, lost: true });
        }
        let lacks = total.ledger.lacks();
        self.record_order(ctx, placed);
        self.poll_recall(ctx);
        for lack in lacks {
            self.want_named(ctx, lack);
        }
    }

    /// Has it kept how far the order is.
    fn record_order(&mut self, ctx: &mut Ctx<'_>, mut settled: Vec<(BatchId, Option<u64>)>) {
        let entered = matches!(self.phase, Phase::Member);
        let Some(total) = &mut self.total else { return };
        settled.extend(total.take_done().into_iter().map(|it| (it, None)));
        if total.epoch().is_none() || !ctx.config.history || settled.is_empty() {
            return;
        }
        let moved: BTreeSet<NodeId> = settled.iter().map(|it| it.0.source).collect();
        let (index, ended) = (total.ledger.index(), total.take_ended());
        let mark = |source: &NodeId| total.ledger.settled().get(source).map(|it| (*source, it.life, it.next));
        let marks = moved.iter().filter_map(mark).collect();
        let order = Some(OrderRecord { ended, index, marks, settled });
        let (group, batches, sources) = (self.id, Vec::new(), Vec::new());
        let causes = self.causes.all(super::history::MAX_CAUSES);
        let record = Record { group, entered, batches, sources, causes, order };
        ctx.out.push(Output::Record(Box::new(record)));
    }

    /// Where this node is in the order, all of it.
    pub(super) fn order_place(&mut self) -> Option<OrderRecord> {
        let total = self.total.as_mut().filter(|it| it.epoch().is_some())?;
        let ended = total.take_ended();
        let marks = total.ledger.settled().iter().map(|(source, it)| (*source, it.life, it.next)).collect();
        Some(OrderRecord { ended, index: total.ledger.index(), marks, settled: Vec::new() })
    }

    /// Goes on where the order was left.
    pub(super) fn resume_order(&mut self, ctx: &mut Ctx<'_>, past: Option<&OrderPast>) {
        let Some((total, past)) = self.total.as_mut().zip(past) else { return };
        let (founder, ended) = (total.lineage().founder(), past.ended.iter().cloned());
        let lineage = Lineage::follow(&self.id, founder, ended, ctx.identity.signatures());
        total.resume(past, lineage.ok().filter(|_| past.founded));
        for bytes in &past.unsettled {
            let Ok(batch) = Batch::parse(&self.id, bytes.clone()) else { continue };
            let id = batch.header.id;
            if id.source == total.source() {
                if let Some(payload) = batch.messages.first().and_then(Option::as_ref) {
                    total.on_record(&id, batch.digest, bytes, payload);
                }
                continue;
            }
            let deliveries = runs(&batch);
            if total.ledger.on_delivered(id, tentative(&batch)) {
                for delivery in deliveries {
                    ctx.event(Event::Deliver { group: self.id, delivery, tentative: true });
                }
            }
        }
    }

    /// A cut names batches that are not here: they exist.
    fn want_named(&mut self, ctx: &mut Ctx<'_>, lack: Lack) {
        if self.is_to_recall(&lack) {
            return self.recall(ctx, lack);
        }
        let Lack { source, life, next, .. } = lack;
        match self.sources.open((source, life), ctx.config) {
            Ok(state) if state.heard < next => {
                state.heard = next.min(state.held.next().saturating_add(ctx.config.max_lookahead));
                self.undefined.insert((source, life));
                self.want_missing(ctx, (source, life), true);
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// The founder opens the first epoch, once it knows that there was none.
    fn maybe_found(&mut self, ctx: &mut Ctx<'_>) {
        let Some(total) = &self.total else { return };
        let (source, me) = (total.source(), ctx.me());
        let is_first = total.lineage().founder() == me && total.epoch().is_none() && !total.was_left;
        let is_known = self.sources.get(&source).is_some();
        let waits = matches!(self.phase, Phase::Fresh) && ctx.now.since(self.entered) < ctx.config.fresh_wait;
        if is_first && !is_known && !waits {
            let index = total.ledger.index();
            let record = Opened { roster: vec![me], index }.record(&self.id, 1, None, ctx.identity);
            self.take(ctx, record, None);
        }
    }

    /// An epoch that has ended is followed by the next, whose first record is made by one of its committee.
    fn maybe_open(&mut self, ctx: &mut Ctx<'_>) {
        let Some(total) = &mut self.total else { return };
        if total.end_epoch().is_some() {
            total.seated = ctx.now;
        }
        let (source, me, index) = (total.source(), ctx.me(), total.ledger.index());
        let Some((epoch, roster)) = total.epoch().filter(|it| it.0 > 1) else { return };
        let roster = roster.to_vec();
        let is_open = self.sources.life((source, epoch)).is_some_and(|it| it.has_begun());
        if is_open || !total.opens(&me, ctx.now) {
            return;
        }
        let Some(previous) = total.ended else { return };
        let record = Opened { roster, index }.record(&self.id, epoch, Some(previous), ctx.identity);
        self.take(ctx, record, None);
    }

    /// Somebody tells of a later epoch: this one has records that are not here, as has each between; how many, nobody
    /// tells any more. The committee of the later one, which those name, has to be known before its records can be
    /// checked.
    fn follow_epochs(&mut self, ctx: &Ctx<'_>) {
        let Some(total) = self.total.as_ref().filter(|it| !it.is_last_known()) else { return };
        let (source, Some((epoch, _))) = (total.source(), total.epoch()) else { return };
        let later = self.sources.get(&source).and_then(|it| it.lives.last_key_value());
        if later.is_none_or(|(life, it)| *life <= epoch || it.heard == 0) {
            return;
        }
        if let Ok(state) = self.sources.open((source, epoch), ctx.config)
            && state.heard <= state.delivered
            && state.end.is_none_or(|end| state.delivered < end)
        {
            state.heard = state.delivered + FOLLOWED;
            self.undefined.insert((source, epoch));
            self.want_missing(ctx, (source, epoch), false);
        }
    }

    /// In an epoch whose committee we are in, we have a part.
    fn take_seat(&mut self, ctx: &Ctx<'_>) {
        let Some(total) = &mut self.total else { return };
        let Some((epoch, roster)) = total.epoch() else { return };
        if total.delegate.as_ref().is_none_or(|it| it.epoch() < epoch) {
            let roster = roster.to_vec();
            let saved = total.take_saved(epoch);
            (total.delegate, total.proposed) = (Delegate::new(&ctx.me(), epoch, &roster, saved), None);
            // The first seat is the best one, and is elected if it is there: it takes two heartbeats.
            let is_first = roster.first() == Some(&ctx.me());
            total.next_tick = ctx.now + HEARTBEAT_EVERY * if is_first { 0 } else { 2 };
        }
    }

    /// What this node, a member of the committee, promised in this epoch it does not know: it takes no part in it,
    /// and is replaced (`DESIGN.md` §5).
    fn forget(&mut self, ctx: &mut Ctx<'_>) {
        let group = self.id;
        let Some(total) = self.total.as_mut() else { return };
        let Some(epoch) = total.on_forgotten(&ctx.me()) else { return };
        let vows = Vows { forgot: true, ..Vows::default() };
        let saving = Saving { vows, from: 0, entries: Vec::new(), compacted: 0 };
        ctx.persist(vec![to_write(group, epoch, saving)]);
    }

    /// A committee of one has nobody to tell it that its disk is an old copy, but others have its records.
    fn remember(&mut self, ctx: &mut Ctx<'_>) {
        let Some(total) = &self.total else { return };
        let Some(delegate) = total.delegate.as_ref().filter(|it| it.leads() && !it.has_heartbeats()) else {
            return;
        };
        let heard = self.sources.life((total.source(), delegate.epoch())).map_or(0, |it| it.heard);
        if heard > delegate.log_end() + 1 {
            self.forget(ctx);
        }
    }

    /// A disk that refused what the committee needs may take it later.
    fn try_disk_again(&mut self, ctx: &mut Ctx<'_>) {
        let group = self.id;
        let Some(total) = self.total.as_mut().filter(|it| it.next_tick <= ctx.now) else { return };
        if let Some(delegate) = total.delegate.as_mut().filter(|it| it.is_broken()) {
            total.next_tick = ctx.now + TRY_DISK_EVERY;
            let epoch = delegate.epoch();
            delegate.try_again(|saving| ctx.persist(vec![to_write(group, epoch, saving)]));
        }
    }

    fn heartbeat(&mut self, ctx: &mut Ctx<'_>) {
        let Some(total) = &mut self.total else { return };
        let Some(delegate) = total.delegate.as_mut().filter(|it| it.has_heartbeats()) else { return };
        let me = ctx.me();
        for node in delegate.others(&me) {
            if ctx.links.shares(node, &self.id) {
                ctx.links.touch(ctx.now, node);
            } else if !ctx.links.connected(node) {
                let is_offline = self.roster.get(node).is_some_and(|it| it.state() == MemberState::Offline);
                if !is_offline {
                    // The order may stand still until it is back: an early dial that failed is no reason to wait.
                    ctx.dialer.lost(ctx.now, *node, ctx.config);
                }
                ctx.dial(*node, self.roster.addresses(node));
            }
        }
        if total.next_tick <= ctx.now {
            total.next_tick = ctx.now + HEARTBEAT_EVERY;
            delegate.tick();
        }
    }

    /// A link to this member is new.
    pub(super) fn on_reconnected(&mut self, node: &NodeId) {
        if let Some(delegate) = self.total.as_mut().and_then(|it| it.delegate.as_mut()) {
            delegate.on_reconnected(node);
        }
    }

    pub(super) fn handle_agree(&mut self, ctx: &mut Ctx<'_>, from: NodeId, agree: Agree) {
        let delegate = self.total.as_mut().and_then(|it| it.delegate.as_mut());
        let any_epoch = mutants::is_on(Mutant::VoteAcrossEpochs);
        if let Some(delegate) = delegate.filter(|it| it.epoch() == agree.epoch || any_epoch) {
            let was_mute = delegate.is_mute();
            // What is malformed is dropped: it is as if the link had lost it.
            let _ = delegate.handle(&from, agree.message.into_vec().into());
            if delegate.is_mute() && !was_mute {
                self.forget(ctx);
            }
            self.poll_total(ctx);
        }
    }

    /// What others ask us to accept is accepted once the batches that it names are here.
    fn take_in(&mut self, ctx: &mut Ctx<'_>) {
        let Some(mut delegate) = self.total.as_mut().and_then(|it| it.delegate.take()) else { return };
        let careless = mutants::is_on(Mutant::AcceptWithoutPayload);
        let has_payload = |group: &Self, entry: &Bytes| careless || group.lacks_of(entry).is_empty();
        let wanted = delegate.take_in(|entry| has_payload(self, entry)).unwrap_or_default();
        let lacks: Vec<Lack> = wanted.iter().flat_map(|(_, entry)| self.lacks_of(entry)).collect();
        for lack in &lacks {
            self.want_named(ctx, *lack);
        }
        let total = self.total.as_mut().expect("looked at above");
        (total.delegate, total.lacks) = (Some(delegate), lacks);
    }

    /// What an entry names and is not delivered here.
    fn lacks_of(&self, entry: &Bytes) -> Vec<Lack> {
        let Ok(Entry::Cut(cut)) = Entry::read(entry) else { return Vec::new() };
        let Some((cut, total)) = Cut::decode(&cut).ok().zip(self.total.as_ref()) else { return Vec::new() };
        let lacking = cut.parts.iter().filter(|part| !total.ledger.is_here(part));
        lacking.filter_map(|part| total.ledger.lack(part)).collect()
    }

    /// A leader proposes all that is here and has no place: idle, at once; busy, every few milliseconds.
    fn propose(&mut self, ctx: &mut Ctx<'_>) {
        let roster = self.better_committee(ctx);
        let ungreeted = self.is_ungreeted();
        let Some(total) = &mut self.total else { return };
        let source = total.source();
        let leads = total.delegate.as_ref().filter(|it| it.leads()).map(|it| it.term());
        // What was proposed in an earlier term may have been lost with it.
        total.proposed.take_if(|it| Some(it.term) != leads);
        // Others may know of more than its disk does.
        let waits = ungreeted && ctx.now.since(self.entered) < ctx.config.fresh_wait;
        if total.next_cut > ctx.now || total.is_ending() || waits {
            return;
        }
        let (Some(term), Some(delegate)) = (leads, &mut total.delegate) else { return };
        if total.proposed.is_none() {
            // What earlier leaders have left in the log comes first.
            let records = self.sources.life((source, delegate.epoch())).map_or(0, |it| it.delivered);
            if delegate.log_end() > records.saturating_sub(1) || total.ledger.waiting() > 0 {
                return;
            }
            let (vector, index) = (total.ledger.settled().clone(), total.ledger.index());
            total.proposed = Some(Proposed { term, vector, index, stops: false });
        }
        let Some(proposed) = &mut total.proposed else { return };
        if let Some(roster) = roster {
            delegate.propose(Entry::Stop(roster).to_bytes());
            proposed.stops = true;
            return;
        }
        if let Some((cut, messages)) = total.ledger.cut_beyond(&proposed.vector, proposed.index, MAX_PARTS) {
            proposed.vector.apply(&cut);
            proposed.index += messages;
            delegate.propose(Entry::Cut(cut.encode()).to_bytes());
            total.next_cut = ctx.now + pause(messages);
        }
    }

    fn turn(&mut self, ctx: &mut Ctx<'_>) {
        let group = self.id;
        let Some(delegate) = self.total.as_mut().and_then(|it| it.delegate.as_mut()) else { return };
        let epoch = delegate.epoch();
        let spoken = delegate.take_turn(|saving| ctx.persist(vec![to_write(group, epoch, saving)]));
        self.speak(ctx, spoken);
    }

    fn speak(&mut self, ctx: &mut Ctx<'_>, spoken: Spoken) {
        let Some(total) = &mut self.total else { return };
        let Some(epoch) = total.delegate.as_ref().map(Delegate::epoch) else { return };
        let next = self.sources.life((total.source(), epoch)).map_or(0, |it| it.held.next());
        total.on_decided(ctx.now, spoken.decided, next);
        for (node, message) in spoken.messages {
            let message = serde_bytes::ByteBuf::from(message.to_vec());
            ctx.send(&node, &Frame::Agree(Agree { epoch, message }));
        }
    }

    /// What the committee decided becomes records, for everybody.
    fn make_records(&mut self, ctx: &mut Ctx<'_>) {
        loop {
            let Some(total) = &mut self.total else { return };
            let Some((epoch, _)) = total.epoch() else { return };
            let life = self.sources.life((total.source(), epoch));
            let Some((next, previous)) = life.and_then(|it| Some((it.held.next(), it.head?))) else { return };
            let Some(entry) = total.due_record(ctx.now, next) else {
                return total.records_made(ctx.now);
            };
            let record = order::record(&self.id, (epoch, next), previous, entry, ctx.identity);
            self.take(ctx, record, None);
        }
    }

    /// The committee's state is on disk, or will never be. Whether it was that.
    pub(super) fn on_agreement_kept(&mut self, ctx: &mut Ctx<'_>, token: Token, durable: bool) -> bool {
        let Some(delegate) = self.total.as_mut().and_then(|it| it.delegate.as_mut()) else { return false };
        if !durable {
            let is_ours = delegate.on_persist_failed(token);
            if let Some(total) = self.total.as_mut().filter(|_| is_ours) {
                total.next_tick = ctx.now + TRY_DISK_EVERY;
            }
            return is_ours;
        }
        let Some(spoken) = delegate.on_persisted(token) else { return false };
        self.speak(ctx, spoken);
        self.make_records(ctx);
        self.poll_total(ctx);
        true
    }

    /// Where a newcomer starts: everybody from one cut on.
    pub(super) fn start(&self) -> Option<(Start, Vec<First>)> {
        let total = self.total.as_ref()?;
        let (epoch, _) = total.epoch()?;
        let lineage =
            total.lineage().ended().iter().map(|it| serde_bytes::ByteBuf::from(it.to_vec())).collect();
        let start = Start { lineage, index: total.ledger.index() };
        // Of an epoch that has just begun nothing may be here yet, not even what opens it.
        let records = self.sources.life((total.source(), epoch)).map_or(0, |it| it.delivered);
        let next = records.saturating_sub(total.unexpanded());
        let marks = total.ledger.settled().iter().map(|(source, mark)| (*source, mark.life, mark.next));
        let fresh = self.sources.lives().filter(|((source, life), _)| {
            *source != total.source() && total.ledger.settled().get(source).is_none_or(|it| it.life < *life)
        });
        let fresh = fresh.map(|((source, life), _)| (source, life, 0));
        Some((start, marks.chain(fresh).chain([(total.source(), epoch, next)]).collect()))
    }

    /// Where a newcomer starts before the order has begun: nothing has a place yet, so everybody needs all of it.
    pub(super) fn unfounded(&self) -> Option<Vec<First>> {
        self.total.as_ref().filter(|it| it.epoch().is_none())?;
        Some(self.sources.lives().map(|((source, life), _)| (source, life, 0)).collect())
    }

    /// The committees of a total order as another member tells of them, if they follow from the founder.
    pub(super) fn check_start(&self, ctx: &Ctx<'_>, start: &Start) -> Option<Lineage> {
        let founder = self.total.as_ref()?.lineage().founder();
        let ended = start.lineage.iter().map(|it| Bytes::copy_from_slice(it));
        Lineage::follow(&self.id, founder, ended, ctx.identity.signatures()).ok()
    }

    /// Begins an order where another member stands.
    pub(super) fn start_order(
        &mut self,
        ctx: &mut Ctx<'_>,
        lineage: Lineage,
        index: u64,
        baseline: &[First],
    ) {
        let Some(total) = self.total.as_mut().filter(|it| it.epoch().is_none()) else { return };
        let source = total.source();
        let of_sources = baseline.iter().filter(|it| it.0 != source && it.2 > 0 && it.2 != Seq::MAX);
        let marks = of_sources.map(|&(source, life, next)| Part(source, life, next, Digest::ZERO));
        total.start(lineage, index, marks);
        self.forget(ctx);
    }
}

/// How long after a cut the next one waits. By the root of its messages, it grows with their rate: 5 ms at 10,000/s.
fn pause(messages: u64) -> Duration {
    Duration::from_micros(700).mul_f64((messages as f64).sqrt()).clamp(CUT_SOON, CUT_LATE)
}

/// A batch as it waits for its place.
pub(super) fn tentative(batch: &Batch) -> Tentative {
    Tentative {
        digest: batch.digest,
        dependencies: batch.header.dependencies.clone(),
        messages: u32::try_from(batch.messages.len()).unwrap_or(u32::MAX),
        bytes: batch.bytes.len(),
        deliveries: runs(batch),
    }
}

/// A batch's messages as they are delivered: those of unknown kinds split the run.
pub(super) fn runs(batch: &Batch) -> Vec<Delivery> {
    let BatchId { source, life, seq } = batch.header.id;
    let time_unix_ms = batch.time_unix_ms();
    let numbered: Vec<_> = (0..).zip(&batch.messages).collect();
    let runs = numbered.split(|(_, message)| message.is_none()).filter(|run| !run.is_empty());
    let delivery = |run: &[(u32, &Option<Bytes>)]| Delivery {
        source,
        life,
        seq,
        time_unix_ms,
        first: run[0].0,
        payloads: run.iter().filter_map(|(_, message)| (*message).clone()).collect(),
    };
    runs.map(delivery).collect()
}

fn to_write(group: GroupId, epoch: u64, saving: Saving) -> Write {
    let Saving { vows, from, entries, compacted } = saving;
    let vows = crate::wire::cbor::to_vec(&vows).into();
    Write::Agreement { group, epoch, vows, from, entries, compacted }
}
