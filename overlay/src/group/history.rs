//! The past of a group: what the driver keeps of it, what it brings back at the next join, and
//! serving others from it.
//!
//! A node that comes back with its past is no newcomer: it holds its frontiers and is owed all that
//! it missed. Its own lives of earlier runs that nobody is known to have stay open, and are told to
//! everybody, until somebody has them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::ctx::Ctx;
use super::order::Advance;
use super::publish::MAX_AHEAD_MS;
use super::ranges::{Range, Ranges};
use super::sources::{LifeId, LifeState};
use super::{Group, Phase};
use crate::config::Config;
use crate::descriptor::Order;
use crate::id::{BatchId, Life, NodeId, Seq, Token};
use crate::io::{
    Delivery, Event, Fetch, HistoryBatch, Lane, LifeRecord, OrderRecord, Output, Past, Record, SourceRecord,
};
use crate::time::Time;
use crate::wire::batch::LifeEnd;
use crate::wire::frame::{Frame, Pull, PullEnd};
use crate::wire::frontier::{Frontier, MAX_ENTRIES};

/// Answers from the history that one neighbour may wait for at a time. Guess.
const MAX_PER_NEIGHBOUR: usize = 4;

/// Pulls that wait for those before them, in all, for each fetch that may be under way; and ranges that are kept
/// of one: for the rest whoever asked asks again. Guesses: three neighbours ask for as many lives as are taken.
pub(super) const WAITING_PER_FETCH: usize = 4;
const MAX_WAITING_RANGES: usize = 16;

/// Causes that are kept with each record. Guess; mostly there is one.
pub(super) const MAX_CAUSES: usize = 256;

/// A pull that waits for the history.
#[derive(Debug)]
struct Question {
    from: NodeId,
    life: LifeId,
    ranges: Vec<Range>,
    batches: u64,
    bytes: usize,
}

/// What is under way between a group and its history.
#[derive(Debug, Default)]
pub(crate) struct History {
    questions: BTreeMap<Token, Question>,
    /// Pulls that there was no room to look up yet, and by whom; oldest first.
    waiting: VecDeque<(NodeId, Pull)>,
    /// We came back, and nobody has told yet how far our own lives are known.
    ungreeted: bool,
    /// When we came back.
    came_back: Option<Time>,
}

impl History {
    pub(crate) fn len(&self) -> usize {
        self.questions.len()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// This one gets no answer any more.
    pub(super) fn forget(&mut self, node: &NodeId) {
        self.questions.retain(|_, it| it.from != *node);
        self.waiting.retain(|it| it.0 != *node);
    }

    /// This pull has its turn when one before it is answered; unless none is under way, or too many wait
    /// (no neighbour takes all the room): then whoever asks has to ask again.
    pub(super) fn wait(&mut self, from: NodeId, pull: Pull, config: &Config) {
        self.waiting.retain(|(node, it)| *node != from || (it.source, it.life) != (pull.source, pull.life));
        let its = self.waiting.iter().filter(|it| it.0 == from).count();
        let most = config.max_fetches * WAITING_PER_FETCH;
        if !self.questions.is_empty() && self.waiting.len() < most && its < config.max_fetches {
            let ranges = pull.ranges.into_iter().take(MAX_WAITING_RANGES).collect();
            self.waiting.push_back((from, Pull { ranges, ..pull }));
        }
    }

    /// When we came back into a group of which we were a member: who was off by then we do not know.
    pub(crate) fn came_back(&self) -> Option<Time> {
        self.came_back
    }

    /// What a neighbour waits for: how many answers, and their bytes at most.
    pub(crate) fn of(&self, neighbour: &NodeId) -> (usize, usize) {
        let its = || self.questions.values().filter(|it| it.from == *neighbour);
        (its().count(), its().map(|it| it.bytes).sum())
    }
}

impl Group {
    /// Goes on where it was left.
    pub(super) fn resume(&mut self, ctx: &mut Ctx<'_>, past: &Past) {
        for record in &past.sources {
            if let Err(cap) = self.restore(ctx, record) {
                self.overload(ctx, cap);
            }
        }
        if past.entered {
            self.phase = Phase::Member;
            self.ground.found();
            self.sources.since = 0;
            self.history.came_back = Some(ctx.now);
        } else {
            self.ground.enter(ctx.now);
        }
        // What was delivered in earlier runs, our application may have read.
        let causes = past.causes.clone().unwrap_or_else(|| self.all_heads(&ctx.me()));
        self.causes.give_back(&causes);
        self.history.ungreeted = true;
        self.early.resume(ctx.now, past.earlier.as_ref());
        self.resume_order(ctx, past.order.as_ref());
        self.resume_removals(ctx, &past.removals);
    }

    /// The last that was delivered of each life, whether others name it or not.
    fn all_heads(&self, me: &NodeId) -> Vec<BatchId> {
        let heads = self.sources.lives().filter(|((source, _), state)| source != me && state.delivered > 0);
        heads.map(|((source, life), it)| BatchId { source, life, seq: it.delivered - 1 }).collect()
    }

    fn restore(&mut self, ctx: &Ctx<'_>, record: &SourceRecord) -> Result<(), &'static str> {
        if !self.admits_source(&record.source) {
            return Ok(());
        }
        if record.floor > 0 {
            self.sources.restore_closed(record.source, record.floor, &record.closed, ctx.config)?;
        }
        for life in &record.lives {
            let id = (record.source, life.life);
            // What is owed does not count for the cap.
            let state = self.sources.open_owed(id, life.owed, ctx.config)?;
            state.held = Ranges::from_wire(life.next, &life.above);
            state.delivered = life.next;
            state.head = life.head;
            state.end = life.end;
            // Others may have closed it, and will not tell of it.
            state.heard = state.held.end().max(life.end.unwrap_or(0));
            self.want_missing(ctx, id, false);
        }
        Ok(())
    }

    /// Somebody has told what it knows of our own past.
    pub(super) fn on_greeted(&mut self) {
        self.history.ungreeted = false;
    }

    /// Whether nobody has told yet what it knows of our own past.
    pub(super) fn is_ungreeted(&self) -> bool {
        self.history.ungreeted
    }

    /// Whether our next life had better wait: nobody has told of our last one yet, or nobody has what
    /// we published in it. (Who hears of a life first, and has nobody near who holds the one before,
    /// takes that for lost.)
    pub(super) fn has_loose_ends(&self, ctx: &Ctx<'_>) -> bool {
        let me = ctx.me();
        let owes = || self.sources.get(&me).is_some_and(|it| it.lives.values().any(|it| it.owed.is_some()));
        matches!(self.phase, Phase::Fresh) || self.history.ungreeted || owes() || self.lacks_past(ctx)
    }

    /// Whether others have more of our own earlier lives than we: our store was restored from a copy. What
    /// came back and waits for its causes is not delivered yet, and never would be once the next life began.
    pub(super) fn lacks_past(&self, ctx: &Ctx<'_>) -> bool {
        let lacks = |life: &LifeState| !life.missing().is_empty() || (ctx.config.history && life.is_behind());
        self.sources.get(&ctx.me()).is_some_and(|it| it.lives.values().any(lacks))
    }

    /// A neighbour knows of an earlier life of ours, up to there: what is not here of it we get back
    /// before we go on.
    pub(super) fn on_own_past(&mut self, ctx: &mut Ctx<'_>, life: Life, end: Seq) {
        self.publisher.on_last_life(ctx.unix_ms, life, end);
        let id = (ctx.me(), life);
        let is_back = ctx.config.history && !matches!(self.phase, Phase::Fresh);
        if !is_back || self.publisher.life().is_some() || life > ctx.unix_ms.saturating_add(MAX_AHEAD_MS) {
            return;
        }
        if let Ok(state) = self.sources.open(id, ctx.config) {
            let most = state.held.next().saturating_add(ctx.config.max_lookahead);
            state.heard = state.heard.max(end.min(most));
            self.want_missing(ctx, id, false);
        }
    }

    /// A life of ours is about to begin: where the one before ended, by what is here of it.
    pub(super) fn look_back(&mut self, me: &NodeId) {
        let lives = self.sources.get(me).map(|it| &it.lives);
        let Some((life, state)) = lives.and_then(|it| it.last_key_value()) else { return };
        if let Some(digest) = state.head {
            self.publisher.on_longer_past(LifeEnd { life: *life, end: state.held.next(), digest });
        }
    }

    /// A neighbour holds our batches of an earlier run below `next`.
    pub(super) fn on_owed_taken(&mut self, ctx: &mut Ctx<'_>, life: Life, next: Seq) {
        let me = ctx.me();
        let Some(state) = self.sources.life_mut((me, life)) else { return };
        let Some(from) = state.owed else { return };
        let next = next.min(state.held.next());
        if next <= from {
            return;
        }
        state.owed = Some(next).filter(|next| *next < state.held.next());
        let batch = BatchId { source: me, life, seq: next - 1 };
        ctx.event(Event::Sent { group: self.id, batch });
        // What is over and owed no longer is closed.
        self.deliver(ctx, me);
        self.maybe_make_batch(ctx);
    }

    /// A neighbour has told all that it has open. Lives of ours before one that has begun there are over
    /// there, if they are not among that: it holds them, or they were before its time.
    pub(super) fn on_whole_frontier(&mut self, ctx: &mut Ctx<'_>, from: &NodeId, frontier: &Frontier) {
        let me = ctx.me();
        let owed = || self.sources.get(&me)?.lives.iter().find(|(_, state)| state.owed.is_some());
        let is_whole = frontier.base == 0 && frontier.number != 0 && frontier.entries.len() < MAX_ENTRIES;
        if !is_whole || owed().is_none() {
            return;
        }
        let Some(known) = self.references.get(from) else { return };
        let open = frontier.entries.iter().filter_map(|it| Some((known.get(&it.reference)?, it.next)));
        let open: Vec<(Life, Seq)> =
            open.filter(|((source, _), _)| *source == me).map(|((_, life), next)| (*life, next)).collect();
        let Some(begun) = open.iter().filter(|(_, next)| *next > 0).map(|(life, _)| *life).max() else {
            return;
        };
        let lives = self.sources.get(&me).into_iter().flat_map(|it| it.lives.range(..begun));
        let over =
            lives.filter(|(life, state)| state.owed.is_some() && !open.iter().any(|it| it.0 == **life));
        for life in over.map(|(life, _)| *life).collect::<Vec<_>>() {
            self.on_owed_taken(ctx, life, Seq::MAX);
        }
    }

    /// All lives below this are over, as far as the history was told.
    pub(super) fn floor(&self, source: &NodeId) -> Life {
        self.sources.get(source).map_or(0, |it| it.floor)
    }

    /// Has what was delivered kept, and how far we are now. `floor` is where the source was before.
    pub(super) fn record(&mut self, ctx: &mut Ctx<'_>, source: NodeId, floor: Life, advance: &Advance) {
        if !ctx.config.history {
            return;
        }
        let mut sources: BTreeSet<NodeId> = advance.moved.iter().map(|(source, _)| *source).collect();
        if self.floor(&source) != floor {
            sources.insert(source);
        }
        if sources.is_empty() && advance.delivered.is_empty() {
            return;
        }
        let batches = self.delivered_batches(ctx.me(), advance);
        self.push_record(ctx, batches, sources.iter(), Some((source, floor)), None);
    }

    /// Has all frontiers kept: from here on we are a member.
    pub(super) fn record_all(&mut self, ctx: &mut Ctx<'_>) {
        if ctx.config.history {
            let order = self.order_place();
            self.record_all_in(ctx, order);
        }
    }

    /// With a place in the order that is not known as it was reached.
    pub(super) fn record_all_in(&self, ctx: &mut Ctx<'_>, order: Option<OrderRecord>) {
        let sources: Vec<_> = self.sources.names().copied().collect();
        self.push_record(ctx, Vec::new(), sources.iter(), None, order);
    }

    fn push_record<'a>(
        &self,
        ctx: &mut Ctx<'_>,
        batches: Vec<HistoryBatch>,
        sources: impl Iterator<Item = &'a NodeId>,
        floor: Option<(NodeId, Life)>,
        order: Option<OrderRecord>,
    ) {
        let floor = |it: &NodeId| floor.filter(|(source, _)| source == it).map(|it| it.1);
        let sources = sources.filter_map(|it| self.source_record(it, floor(it))).collect();
        let entered = matches!(self.phase, Phase::Member);
        let causes = self.causes.all(MAX_CAUSES);
        let record = Record { group: self.id, entered, batches, sources, causes, order };
        ctx.out.push(Output::Record(Box::new(record)));
    }

    /// How far we are with a source; `floor` is where it was when that was told last.
    fn source_record(&self, source: &NodeId, floor: Option<Life>) -> Option<SourceRecord> {
        let it = self.sources.get(source)?;
        let lives = it
            .lives
            .iter()
            .filter(|(_, state)| (state.delivered > 0 || state.end.is_some()) && !state.disowned);
        let lives = lives.map(|(life, state)| self.life_record((*source, *life), state)).collect();
        let closed = floor.map(|floor| it.closed_from(floor)).unwrap_or_default();
        Some(SourceRecord { source: *source, floor: it.floor, lives, closed })
    }

    fn life_record(&self, (source, life): LifeId, state: &LifeState) -> LifeRecord {
        let last = state.delivered.checked_sub(1).map(|seq| BatchId { source, life, seq });
        let digest = last.and_then(|last| Some(self.store.get(&last)?.digest));
        let head = if state.delivered == state.held.next() { state.head.or(digest) } else { digest };
        let unordered = self.descriptor.order == Order::Unordered;
        let above = if unordered { state.held.above().to_vec() } else { Vec::new() };
        LifeRecord { life, next: state.delivered, head, end: state.end, above, owed: state.owed }
    }

    fn delivered_batches(&self, me: NodeId, advance: &Advance) -> Vec<HistoryBatch> {
        let current = self.publisher.life();
        let mut deliveries = &advance.deliveries[..];
        let mut batches = Vec::with_capacity(advance.delivered.len());
        for id in &advance.delivered {
            let of_it = deliveries.iter().take_while(|it| it.batch() == *id).count();
            let (its, rest) = deliveries.split_at(of_it);
            deliveries = rest;
            // Our own of this run were on disk before they left.
            if id.source == me && current == Some(id.life) {
                continue;
            }
            let Some(stored) = self.store.get(id) else { continue };
            let (messages, payload) = weigh(its);
            let (bytes, digest) = (stored.bytes.clone(), stored.digest);
            batches.push(HistoryBatch { id: *id, bytes, digest, messages, payload });
        }
        batches
    }

    /// What was not delivered is not there.
    fn end_in_history(&self, ctx: &Ctx<'_>, life: LifeId) -> Seq {
        let Some(source) = self.sources.get(&life.0).filter(|_| ctx.config.history) else { return 0 };
        let end = match source.lives.get(&life.1) {
            Some(state) => state.delivered.max(state.held.above().last().map_or(0, |it| it.1)),
            None => Seq::MAX,
        };
        end.min(self.sources.cut_of(life))
    }

    /// Whether a batch that memory lacks may be in the history.
    pub(super) fn may_be_in_history(&self, ctx: &Ctx<'_>, life: LifeId, seq: Seq) -> bool {
        seq < self.end_in_history(ctx, life)
    }

    /// Looks in the history for what memory lacks of a pull. Whether no answer is given now: it comes from
    /// there, at once or in its turn, or whoever asks has to ask again.
    pub(super) fn look_up(
        &mut self,
        ctx: &mut Ctx<'_>,
        from: NodeId,
        life: LifeId,
        absent: &[Range],
        room: (u64, usize),
    ) -> bool {
        let most = self.end_in_history(ctx, life);
        let ranges = absent.iter().map(|(from, to)| (*from, (*to).min(most)));
        let ranges: Vec<Range> = ranges.filter(|(from, to)| from < to).collect();
        if ranges.is_empty() {
            return false;
        }
        let (batches, room) = room;
        let (its, promised) = self.history.of(&from);
        // It is sent in bulk, whatever else of the answer was not.
        let queued = ctx.links.queued(&from, Lane::Bulk) + promised;
        let bytes = room.min(ctx.config.link_high_water.saturating_sub(queued));
        let is_asked = self.history.questions.values().any(|it| it.from == from && it.life == life);
        let is_full = self.history.len() >= ctx.config.max_fetches || its >= MAX_PER_NEIGHBOUR;
        if is_asked || batches == 0 || room == 0 {
            return true;
        }
        if is_full || bytes == 0 {
            // Who came back asks for many lives of one source at once (`docs/decisions/019-lives-in-a-row.md`).
            let pull = Pull { source: life.0, life: life.1, ranges: absent.to_vec() };
            self.history.wait(from, pull, ctx.config);
            return true;
        }
        let fetch =
            Fetch { group: self.id, source: life.0, life: life.1, ranges: ranges.clone(), batches, bytes };
        let token = ctx.fetch(fetch);
        self.history.questions.insert(token, Question { from, life, ranges, batches, bytes });
        true
    }

    /// The history has answered: whoever asked gets it, in bulk.
    pub(crate) fn on_fetched(
        &mut self,
        ctx: &mut Ctx<'_>,
        token: Token,
        batches: Vec<(Seq, Bytes)>,
        first: Option<Seq>,
    ) {
        let Some(question) = self.history.questions.remove(&token) else { return };
        let Question { from, life, ranges, .. } = &question;
        let mut there = Ranges::default();
        let bytes: usize = batches.iter().map(|(_, bytes)| bytes.len()).sum();
        let is_cut = batches.len() as u64 >= question.batches || bytes >= question.bytes;
        let until = batches.last().filter(|_| is_cut).map_or(Seq::MAX, |(seq, _)| seq + 1);
        for (seq, bytes) in batches {
            there.insert(seq);
            self.flow.on_pulled(ctx.now, from, (*life, seq));
            self.repair.on_has(*from, *life, seq);
            ctx.send_encoded(from, Lane::Bulk, Frame::Batch(bytes).encode(ctx.channel));
        }
        let absent = ranges.iter().flat_map(|range| lacking(&there, *range, until)).collect();
        let dropped_below = self.dropped_below(*life, first);
        let end = PullEnd { source: life.0, life: life.1, absent, dropped_below };
        ctx.send_encoded(from, Lane::Bulk, Frame::PullEnd(end).encode(ctx.channel));
        self.answer_waiting(ctx);
    }

    /// Those that waited have their turn, one of each neighbour that has to wait further.
    fn answer_waiting(&mut self, ctx: &mut Ctx<'_>) {
        let mut full = BTreeSet::new();
        for (from, pull) in std::mem::take(&mut self.history.waiting) {
            if !ctx.links.connected(&from) {
                continue;
            }
            if full.contains(&from) {
                self.history.waiting.push_back((from, pull));
                continue;
            }
            let before = self.history.waiting.len();
            self.handle_pull(ctx, from, &pull);
            if self.history.waiting.len() > before {
                full.insert(from);
            }
        }
    }

    /// Below this nothing of a life can be had from us any more; `first` is what the history begins
    /// with.
    fn dropped_below(&mut self, life: LifeId, first: Option<Seq>) -> Seq {
        let in_memory = self.store.next_after(&BatchId { source: life.0, life: life.1, seq: 0 });
        let first = first.into_iter().chain(in_memory).min();
        let Some(state) = self.sources.life_mut(life) else { return first.unwrap_or(0) };
        state.dropped_below = state.dropped_below.max(first.unwrap_or(state.delivered).min(state.delivered));
        state.dropped_below
    }
}

/// What of a range is not there, below a bound.
fn lacking(there: &Ranges, (from, to): Range, until: Seq) -> Vec<Range> {
    let missing = there.missing_below(to.min(until));
    let within = missing.into_iter().map(|(start, end)| (start.max(from), end));
    within.filter(|(start, end)| start < end).collect()
}

/// How many messages, and their bytes.
fn weigh(deliveries: &[Delivery]) -> (u32, u64) {
    let payloads = || deliveries.iter().flat_map(|it| &it.payloads);
    let messages = u32::try_from(payloads().count()).unwrap_or(u32::MAX);
    (messages, payloads().map(|it| it.len() as u64).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named_up_to_where_the_answer_was_cut() {
        let mut there = Ranges::default();
        there.insert_range((5, 8));
        assert_eq!(lacking(&there, (0, 10), Seq::MAX), [(0, 5), (8, 10)]);
        assert_eq!(lacking(&there, (3, 6), Seq::MAX), [(3, 5)]);
        assert_eq!(lacking(&there, (3, 10), 8), [(3, 5)]);
        assert_eq!(lacking(&Ranges::default(), (3, 10), Seq::MAX), [(3, 10)]);
    }
}
