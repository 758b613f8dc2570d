//! Frontiers on their way: what we tell, what we are told.

use std::collections::BTreeSet;

use serde_bytes::ByteBuf;

use super::ctx::Ctx;
use super::publish::MAX_AHEAD_MS;
use super::ranges::Ranges;
use super::receipts::Answer;
use super::sources::{LifeId, LifeState};
use super::{Group, Phase};
use crate::id::{BatchId, NodeId, Token};
use crate::io::{Event, Lane};
use crate::wire::frame::{AckRequest, Acks, Frame, Pull, Summary};
use crate::wire::frontier::{Definition, Entry, Frontier, MAX_ENTRIES, MAX_RANGES, News, Purpose};
use crate::wire::record::Ack;

/// Bytes of the head's digest in news; anti-entropy sends it whole.
const NEWS_DIGEST: usize = 8;
/// What an entry with its definition may take, a range above it, and all of them in one frame.
const ENTRY_BYTES: usize = 100;
const RANGE_BYTES: usize = 19;
const PIECE_BYTES: usize = 512 << 10;
/// Lives that one source has at once, most often.
const MAX_LIVES: usize = 64;

impl Group {
    /// Tells a neighbour all our frontiers; of very many, what it lacks.
    pub(super) fn tell_all(&mut self, ctx: &mut Ctx<'_>, node: &NodeId, purpose: Purpose) {
        if self.has_many_sources(ctx.config) {
            return self.compare(ctx, node, purpose);
        }
        let lives: Vec<_> = self.sources.trusted_lives().map(|(id, _)| id).collect();
        let mut pieces = self.pieces(&lives);
        let first = pieces.next().unwrap_or_default();
        let frame = self.frontier(&[*node], first, first, purpose, true);
        ctx.send(node, &frame);
        let purpose = if purpose == Purpose::Tell { Purpose::Tell } else { Purpose::News };
        for piece in pieces {
            let frame = self.frontier(&[*node], piece, piece, purpose, true);
            ctx.send(node, &frame);
        }
    }

    /// Tells a neighbour some frontiers.
    pub(super) fn tell_lives(
        &mut self,
        ctx: &mut Ctx<'_>,
        node: &NodeId,
        lives: Vec<LifeId>,
        purpose: Purpose,
    ) {
        for piece in self.pieces(&lives) {
            let undefined = self.undefined_at(&[*node], piece);
            let frame = self.frontier(&[*node], piece, &undefined, purpose, true);
            ctx.send(node, &frame);
        }
    }

    /// Cuts what is to be told, ascending, into what fits into a frame. A source's lives stay together.
    fn pieces<'a>(&self, lives: &'a [LifeId]) -> std::vec::IntoIter<&'a [LifeId]> {
        let (mut pieces, mut first, mut bytes) = (Vec::new(), 0, 0);
        for (at, id) in lives.iter().enumerate() {
            let ranges = self.sources.life(*id).map_or(0, |it| it.held.above().len().min(MAX_RANGES));
            bytes += ENTRY_BYTES + ranges * RANGE_BYTES;
            let is_new = at > first && lives[at - 1].0 != id.0;
            let is_full = bytes > PIECE_BYTES || at - first >= MAX_ENTRIES - MAX_LIVES;
            if (is_new && is_full) || at - first >= MAX_ENTRIES {
                pieces.push(&lives[first..at]);
                (first, bytes) = (at, ENTRY_BYTES + ranges * RANGE_BYTES);
            }
        }
        if first < lives.len() {
            pieces.push(&lives[first..]);
        }
        pieces.into_iter()
    }

    /// Those of which one of these neighbours does not know our short number.
    fn undefined_at(&self, to: &[NodeId], lives: &[LifeId]) -> Vec<LifeId> {
        let reference = |id: &LifeId| self.sources.life(*id).map(|it| it.reference);
        let lacks = |it: u32| to.iter().any(|node| !self.defined.is_told(node, it));
        lives.iter().filter(|id| reference(id).is_some_and(lacks)).copied().collect()
    }

    /// A frontier frame; `whole` if it stands for itself.
    fn frontier(
        &mut self,
        to: &[NodeId],
        lives: &[LifeId],
        defined: &[LifeId],
        purpose: Purpose,
        whole: bool,
    ) -> Frame {
        self.frontier_number += 1;
        let digest = if whole { crate::id::Digest::LEN } else { NEWS_DIGEST };
        let entries = lives.iter().filter_map(|id| self.sources.life(*id)).map(|state| entry(state, digest));
        let entries = entries.collect();
        let define = |id: &LifeId| {
            let reference = self.sources.life(*id)?.reference;
            Some(Definition { reference, source: id.0, life: id.1 })
        };
        let definitions: Vec<_> = defined.iter().filter_map(define).collect();
        self.defined.on_told(to, definitions.iter().map(|it| it.reference));
        Frame::Frontier(Frontier {
            number: self.frontier_number,
            base: if whole { 0 } else { self.frontier_number - 1 },
            purpose: purpose.code(),
            definitions,
            entries,
        })
    }

    /// Tells lazy links the news, and sources next to us that we have theirs.
    pub(super) fn poll_news(&mut self, ctx: &mut Ctx<'_>) {
        if self.news.is_empty() || self.next_news > ctx.now {
            return;
        }
        self.next_news = ctx.now + ctx.config.frontier_every;
        let news: Vec<_> = std::mem::take(&mut self.news).into_iter().collect();
        let mut undefined: Vec<_> = std::mem::take(&mut self.undefined).into_iter().collect();
        let many = self.has_many_sources(ctx.config);
        if many {
            // Too much for who does not ask.
            undefined.clear();
        }
        let sources: BTreeSet<_> = news.iter().map(|id| id.0).collect();
        let mut to = self.views.active();
        let tells_parent = self.tells_parent.take();
        let wants = |node: &NodeId| self.lazy.has_listener(node) || tells_parent == Some(*node);
        to.retain(|node| !undefined.is_empty() || wants(node) || sources.contains(node));
        for piece in self.pieces(&news) {
            if many {
                undefined = self.undefined_at(&to, piece);
            }
            let short = if undefined.is_empty() { self.short_news(piece) } else { None };
            let frame = short.unwrap_or_else(|| self.frontier(&to, piece, &undefined, Purpose::News, false));
            ctx.send_all(&to, &frame);
        }
    }

    /// News in a few bytes, if nothing of it has a gap: most of what a busy group has to say besides
    /// its batches. Forks show by the batches' own digests, and in anti-entropy.
    fn short_news(&self, lives: &[LifeId]) -> Option<Frame> {
        let lives = lives.iter().filter_map(|id| self.sources.life(*id));
        let next = |it: &LifeState| it.held.above().is_empty().then(|| (it.reference, it.held.next()));
        Some(Frame::News(News { next: lives.map(next).collect::<Option<_>>()? }))
    }

    /// Tells a neighbour that was not pushed to what there is, once its link has room.
    pub(super) fn tell_skipped(&mut self, ctx: &mut Ctx<'_>, node: &NodeId) {
        let lives = self.flow.take_skipped(node, ctx.links, ctx.config);
        if !lives.is_empty() {
            let lives: Vec<_> = lives.into_iter().collect();
            for piece in self.pieces(&lives) {
                let frame = self.frontier(&[*node], piece, piece, Purpose::Tell, true);
                ctx.send(node, &frame);
            }
        }
    }

    pub(super) fn handle_frontier(&mut self, ctx: &mut Ctx<'_>, from: NodeId, frontier: &Frontier) {
        if frontier.entries.len() > MAX_ENTRIES || frontier.definitions.len() > MAX_ENTRIES {
            return;
        }
        let purpose = Purpose::from_code(frontier.purpose);
        let known = self.references.entry(from).or_default();
        let mut overloaded = false;
        for it in &frontier.definitions {
            if known.len() >= ctx.config.max_sources && !known.contains_key(&it.reference) {
                if overloaded {
                    continue;
                }
                // Of lives that are over, or were made up.
                known.retain(|_, id| self.sources.life(*id).is_some());
                if known.len() >= ctx.config.max_sources {
                    overloaded = true;
                    continue;
                }
            }
            known.insert(it.reference, (it.source, it.life));
        }
        if overloaded {
            self.overload(ctx, "max_sources");
        }
        self.on_greeted();
        if !matches!(self.phase, Phase::Fresh) {
            self.hear(ctx, from, frontier, purpose);
        }
        if purpose == Purpose::Exchange && self.has_many_sources(ctx.config) {
            self.tell_differing(ctx, &from);
        } else if purpose == Purpose::Exchange {
            self.tell_all(ctx, &from, Purpose::News);
        }
    }

    fn hear(&mut self, ctx: &mut Ctx<'_>, from: NodeId, frontier: &Frontier, purpose: Purpose) {
        let mut touched = Vec::new();
        let is_live = frontier.number == 0 || frontier.base != 0;
        // Frontiers that are told whole say nothing of when.
        let mut timely = frontier.number == 0 && !self.tree.is_edge(&from);
        for entry in &frontier.entries {
            let Some(id) = self.references.get(&from).and_then(|it| it.get(&entry.reference)).copied() else {
                continue;
            };
            if !self.admits_source(&id.0) || entry.above.len() > MAX_RANGES {
                continue;
            }
            self.maybe_prove_fork(ctx, &from, &id.0);
            let said = entry.next == 0 || self.repair.has(&from, id, entry.next - 1);
            if self.hear_one(ctx, from, id, entry) {
                touched.push(id);
            } else if timely && !said && id.0 != ctx.me() {
                timely = !self.repair.lag.on_old_news(ctx.now, id);
            }
        }
        self.on_whole_frontier(ctx, &from, frontier);
        // A root has no parent, and all come to it along the tree nevertheless.
        let parent = self.tree.parent() == Some(from);
        let by_tree = self.tree.is_placed() && !parent;
        let handed_over = parent && self.tree.is_handed_over(ctx.now);
        // Anti-entropy between two that talk always finds something that is on its way.
        let patient = ((purpose != Purpose::Tell && by_tree) || handed_over) && !self.silence.is_suspected();
        for id in touched {
            // What brings this life has brought all that it will: links are FIFO.
            let brought = is_live && self.repair.lag.is_feeder(&from, &id);
            self.want_missing(ctx, id, patient && !brought);
            self.deliver(ctx, id.0);
        }
        self.poll_repair(ctx);
    }

    /// Notes one entry; whether it tells of something that we lack.
    fn hear_one(&mut self, ctx: &mut Ctx<'_>, from: NodeId, id: LifeId, entry: &Entry) -> bool {
        let held = Ranges::from_wire(entry.next, &entry.above);
        if id.0 == ctx.me() && self.publisher.life() == Some(id.1) {
            if held.end() <= self.publisher.next() {
                let next = held.next();
                self.repair.on_told(from, id, held);
                self.on_taken(ctx, id, next);
            }
            return false;
        }
        if id.0 == ctx.me() {
            // A life of ours before this run: others' messages may name it as their cause, so
            // it is repaired like anybody's.
            self.publisher.on_last_life(ctx.unix_ms, id.1, held.end());
            self.on_owed_taken(ctx, id.1, held.next());
            if self.publisher.life().is_some_and(|current| current < id.1) {
                return false;
            }
        }
        if id.1 > ctx.unix_ms.saturating_add(MAX_AHEAD_MS) {
            return false;
        }
        let fresh = self.sources.life(id).is_none();
        let cut = self.sources.cut_of(id);
        // What our application was told of our own past stands once our next life has begun.
        let is_own_past = id.0 == ctx.me() && self.publisher.life().is_some();
        let state = match self.sources.open(id, ctx.config) {
            Ok(state) => state,
            Err(cap) => {
                self.overload(ctx, cap);
                self.maybe_miss(ctx, Some(&from), id, held.end());
                return false;
            }
        };
        let most = state.held.next().saturating_add(ctx.config.max_lookahead);
        let end = held.end().min(most).min(cut);
        let end = if is_own_past { end } else { state.hear(end) };
        let news = end > state.heard;
        state.heard = state.heard.max(end);
        state.only_named &= end == 0;
        let lacks = !state.missing().is_empty();
        let differs = is_fork(state, entry);
        let next = held.end();
        self.told_by(ctx, from, id, held.next());
        self.repair.on_told(from, id, held);
        if fresh {
            self.undefined.insert(id);
            self.close_if_followed(ctx, id);
        }
        if news && lacks {
            self.repair.lag.on_news(ctx.now, id, next);
        }
        if differs {
            // Its head is not ours: what it holds there is half of a proof.
            let seq = entry.next - 1;
            let held_here = self.store.get(&BatchId { source: id.0, life: id.1, seq }).is_some();
            if held_here {
                let pull = Pull { source: id.0, life: id.1, ranges: vec![(seq, seq + 1)] };
                ctx.send(&from, &Frame::Pull(pull));
            }
        }
        lacks
    }

    pub(super) fn handle_summary(&mut self, ctx: &mut Ctx<'_>, from: NodeId, theirs: &Summary) {
        let ours = self.summary();
        if theirs.frontiers != ours.frontiers && self.has_many_sources(ctx.config) {
            self.maybe_compare(ctx, &from);
        } else if theirs.frontiers != ours.frontiers {
            self.tell_all(ctx, &from, Purpose::Exchange);
        }
        if theirs.roster != ours.roster {
            ctx.send(&from, &Frame::RosterDigest(self.roster.digest(true)));
        }
    }

    pub(super) fn poll_receipts(&mut self, ctx: &mut Ctx<'_>) {
        self.tell_receipts(ctx);
        if let Some(request) = self.receipts.poll(ctx.now, ctx.me()) {
            ctx.send_all(&self.views.active(), &Frame::AckRequest(request));
        }
    }

    pub(super) fn tell_receipts(&mut self, ctx: &mut Ctx<'_>) {
        if self.receipts.deadline().is_none() {
            return;
        }
        let (group, source) = (self.id, ctx.me());
        for (life, seq, have, of) in self.receipts.count(&self.roster.online()) {
            ctx.event(Event::Receipt { group, batch: BatchId { source, life, seq }, have, of });
        }
    }

    pub(super) fn handle_ack_request(&mut self, ctx: &mut Ctx<'_>, from: NodeId, request: &AckRequest) {
        let is_ours = request.source == ctx.me();
        if is_ours || !self.allows(&request.source) || !self.receipts.on_request(ctx.now, from, request) {
            return;
        }
        let others: Vec<_> = self.views.active().into_iter().filter(|it| *it != from).collect();
        ctx.send_all(&others, &Frame::AckRequest(request.clone()));
        self.answer_receipt(ctx, (request.source, request.life));
    }

    /// Says that we have delivered as far as somebody asked; where there is a history, once that is in it.
    pub(super) fn answer_receipt(&mut self, ctx: &mut Ctx<'_>, life: LifeId) {
        let Some(delivered) = self.sources.life(life).map(|it| it.delivered) else { return };
        let Some(answer) = self.receipts.due(life, delivered) else { return };
        if ctx.config.history {
            let token = ctx.persist(Vec::new());
            self.receipts.hold(token, answer);
        } else {
            self.send_ack(ctx, &answer);
        }
    }

    /// What we are to say that we have is in the history.
    pub(super) fn on_receipt_kept(&mut self, ctx: &mut Ctx<'_>, token: Token) {
        if self.on_earlier_kept(ctx, token, true) {
            return;
        }
        if let Some(answer) = self.receipts.release(token) {
            self.send_ack(ctx, &answer);
        }
    }

    fn send_ack(&self, ctx: &mut Ctx<'_>, Answer { via, life, next }: &Answer) {
        let ack = Ack::sign(&self.id, ctx.identity, life.0, life.1, *next);
        ctx.send(via, &Frame::Acks(Acks { acks: vec![ack] }));
    }

    pub(super) fn handle_acks(&mut self, ctx: &mut Ctx<'_>, from: NodeId, acks: &Acks) {
        for bytes in acks.acks.iter().take(ctx.config.roster) {
            let Ok(ack) = Ack::parse(bytes) else { continue };
            if ack.source == ctx.me() {
                if self.allows(&ack.member)
                    && ack.member != ctx.me()
                    && ack.check(&self.id, bytes, ctx.identity.signatures()).is_ok()
                {
                    self.receipts.on_ack(&ack);
                    self.on_taken(ctx, (ack.source, ack.life), ack.next);
                }
            } else if let Some(via) = self.receipts.via(&ack.source).filter(|via| *via != from) {
                let frame = Frame::Acks(Acks { acks: vec![bytes.clone()] });
                ctx.send_encoded(&via, Lane::Live, frame.encode(ctx.channel));
            }
        }
        self.tell_receipts(ctx);
    }
}

fn entry(state: &LifeState, digest: usize) -> Entry {
    let head = state.head.filter(|_| state.held.next() > 0);
    Entry {
        reference: state.reference,
        next: state.held.next(),
        head: head.map(|it| ByteBuf::from(&it.as_bytes()[..digest])).unwrap_or_default(),
        above: state.held.above().iter().take(MAX_RANGES).copied().collect(),
    }
}

/// Whether the sender's head, at the same place as ours, is another one.
fn is_fork(state: &LifeState, entry: &Entry) -> bool {
    let Some(ours) = state.head else { return false };
    let comparable = entry.next == state.held.next()
        && entry.head.len() >= 4
        && entry.head.len() <= crate::id::Digest::LEN;
    comparable && !ours.as_bytes().starts_with(&entry.head)
}
