//! What was said before our time: pulled from neighbours' histories into ours, behind everything else.
//!
//! A newcomer is owed what was said since it entered (see `join`). What was said before it is not delivered,
//! since it would come after what was said later; it goes into the history below all that was delivered,
//! latest first, piece by piece, as far as the descriptor says that history is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::ctx::Ctx;
use super::spread::Violation;
use super::{Group, Phase};
use crate::descriptor::Retention;
use crate::id::{NodeId, Token};
use crate::io::{EarlierBatch, EarlierPlace, FetchEarlier, HistoryBatch, KeepEarlier, Lane, Write};
use crate::time::Time;
use crate::wire::batch::Batch;
use crate::wire::earlier::{Earlier, PullEarlier};
use crate::wire::frame::Frame;

/// Batches, and about so many bytes, in one piece: tens of milliseconds of a disk's time, with the index.
const PIECE_BATCHES: u64 = 256;
const PIECE_BYTES: usize = 128 << 10;
/// Between two pieces, at the least: others write, too.
const GAP: Duration = Duration::from_millis(50);
/// While talk is being repaired, history waits.
const BUSY: Duration = Duration::from_millis(250);
/// With nobody to ask, whether there is somebody is looked at again after so long.
const IDLE: Duration = Duration::from_secs(2);
/// An answer that takes longer does not come. Bulk may wait for much that is live.
const PATIENCE: Duration = Duration::from_secs(20);
/// Who has told all that it has, and still gathers itself, is asked again after so long, and then ever
/// less often.
const AGAIN: Duration = Duration::from_secs(30);
const SELDOM: Duration = Duration::from_secs(600);
/// Once all neighbours were asked so often in a row and had nothing new (three quarters of an hour), that is all
/// there is, until another neighbour comes. Guess.
const ENOUGH: u32 = 8;
/// Pieces that are looked up for others at once.
pub(super) const MAX_QUESTIONS: usize = 8;
/// Neighbours whose places are remembered. Guess.
const MAX_PLACES: usize = 64;
/// Bytes of payload that are gathered of a group that does not say what it keeps (guess: months of talk), and
/// of one that does not say it in bytes.
const DEFAULT_BYTES: u64 = 64 << 20;
const MOST_BYTES: u64 = 1 << 30;

/// How far we are with one neighbour's history.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    /// All from here on is here.
    before: Option<i64>,
    /// Not before then.
    again: Time,
    /// How often that was put off.
    vain: u32,
}

impl Cursor {
    /// There was nothing new, or no answer.
    fn put_off(self, now: Time) -> Self {
        let pause = (AGAIN * (1 << self.vain.min(5))).min(SELDOM);
        Self { again: now + pause, vain: self.vain + 1, ..self }
    }
}

/// A piece under way.
#[derive(Debug)]
enum Piece {
    Asked(NodeId, Time),
    /// Where we are with that neighbour once it is written, and whether nothing more is to come.
    Written(Token, NodeId, Cursor, bool),
}

/// What is gathered, and what others ask for.
#[derive(Debug, Default)]
pub(crate) struct Early {
    wanted: bool,
    /// Nobody has more by now.
    asleep: bool,
    piece: Option<Piece>,
    cursors: BTreeMap<NodeId, Cursor>,
    next: Time,
    messages: u64,
    bytes: u64,
    questions: BTreeMap<Token, NodeId>,
}

impl Early {
    pub(crate) fn len(&self) -> usize {
        self.questions.len()
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        match &self.piece {
            _ if !self.wanted || self.asleep => None,
            Some(Piece::Asked(_, until)) => Some(*until),
            Some(Piece::Written(..)) => None,
            None => Some(self.next),
        }
    }

    /// Goes on where the last run was.
    pub(super) fn resume(&mut self, now: Time, place: Option<&EarlierPlace>) {
        let Some(place) = place else { return };
        (self.wanted, self.next) = (true, now + BUSY);
        if let Some((node, before)) = place.at {
            self.cursors.insert(node, Cursor { before: Some(before), ..Cursor::default() });
        }
    }

    fn cursor(&self, node: &NodeId) -> Cursor {
        self.cursors.get(node).copied().unwrap_or_default()
    }

    /// Whose history to look into next: where we have begun, else the nearest.
    fn choose(&self, ctx: &Ctx<'_>, neighbours: &[NodeId]) -> Option<NodeId> {
        let may = |node: &&NodeId| ctx.links.connected(node) && self.cursor(node).again <= ctx.now;
        let open = neighbours.iter().filter(may);
        let rank = |node: &NodeId| (self.cursor(node).before.is_none(), ctx.links.rtt(node), *node);
        open.min_by_key(|node| rank(node)).copied()
    }

    fn set(&mut self, node: NodeId, cursor: Cursor) {
        if self.cursors.len() >= MAX_PLACES && !self.cursors.contains_key(&node) {
            self.cursors.pop_first();
        }
        self.cursors.insert(node, cursor);
    }

    /// There is a neighbour: one that was not asked yet may have more.
    pub(super) fn on_neighbour(&mut self, now: Time, node: &NodeId) {
        if self.asleep && self.cursor(node).vain < ENOUGH {
            (self.asleep, self.next) = (false, now + BUSY);
        }
    }

    /// This one gets no answer any more.
    pub(super) fn forget(&mut self, node: &NodeId) {
        self.questions.retain(|_, it| it != node);
    }

    fn has_enough(&self, retention: &Retention) -> bool {
        let says_nothing = *retention == Retention::default();
        let most_bytes = retention.bytes.unwrap_or(if says_nothing { DEFAULT_BYTES } else { MOST_BYTES });
        self.bytes >= most_bytes || retention.count.is_some_and(|most| self.messages >= most)
    }
}

impl Group {
    /// We have just come in: what was said before is to be gathered, in this run or a later one. Before the
    /// founder's time nothing was.
    pub(super) fn want_earlier(&mut self, ctx: &mut Ctx<'_>) {
        if ctx.config.history && self.descriptor.founder != Some(ctx.me()) {
            (self.early.wanted, self.early.next) = (true, ctx.now + BUSY);
            self.keep_earlier(ctx, None, Vec::new(), false);
        }
    }

    fn keep_earlier(
        &mut self,
        ctx: &mut Ctx<'_>,
        at: Option<(NodeId, i64)>,
        batches: Vec<EarlierBatch>,
        done: bool,
    ) -> Token {
        let keep = KeepEarlier { group: self.id, batches, place: EarlierPlace { at }, done };
        ctx.persist(vec![Write::Earlier(Box::new(keep))])
    }

    pub(super) fn poll_early(&mut self, ctx: &mut Ctx<'_>) {
        if self.early.deadline().is_none_or(|at| at > ctx.now) {
            return;
        }
        if let Some(Piece::Asked(node, _)) = self.early.piece.take() {
            self.early.set(node, self.early.cursor(&node).put_off(ctx.now));
        }
        self.early.next = ctx.now + BUSY;
        if !matches!(self.phase, Phase::Member) || self.repair.open() > 0 {
            return;
        }
        self.early.next = ctx.now + IDLE;
        let neighbours = self.views.active();
        let in_vain = |node: &NodeId| self.early.cursor(node).vain >= ENOUGH;
        self.early.asleep = !neighbours.is_empty() && neighbours.iter().all(in_vain);
        if self.early.asleep {
            return;
        }
        if let Some(node) = self.early.choose(ctx, &neighbours) {
            let before = self.early.cursor(&node).before;
            self.early.piece = Some(Piece::Asked(node, ctx.now + PATIENCE));
            ctx.send(&node, &Frame::PullEarlier(PullEarlier { before }));
        }
    }

    /// A neighbour gathers what was said before its time.
    pub(super) fn handle_pull_earlier(&mut self, ctx: &mut Ctx<'_>, from: NodeId, pull: &PullEarlier) {
        if !ctx.config.history {
            let end = Earlier { batches: Vec::new(), last: None, end: true, whole: false };
            return ctx.send(&from, &Frame::Earlier(end));
        }
        let questions = &self.early.questions;
        let is_full = ctx.links.queued(&from, Lane::Bulk) + PIECE_BYTES > ctx.config.link_high_water;
        if is_full || questions.len() >= MAX_QUESTIONS || questions.values().any(|it| *it == from) {
            return;
        }
        let (batches, bytes) = (PIECE_BATCHES, PIECE_BYTES);
        let token = ctx.fetch_earlier(FetchEarlier { group: self.id, before: pull.before, batches, bytes });
        self.early.questions.insert(token, from);
    }

    /// The history has answered.
    pub(crate) fn on_fetched_earlier(
        &mut self,
        ctx: &mut Ctx<'_>,
        token: Token,
        batches: Vec<(u64, Bytes)>,
        last: Option<i64>,
        end: bool,
    ) {
        let Some(from) = self.early.questions.remove(&token) else { return };
        let batches = batches.into_iter().map(|(age, bytes)| (age, bytes.to_vec().into())).collect();
        let frame = Frame::Earlier(Earlier { batches, last, end, whole: !self.early.wanted });
        ctx.send_encoded(&from, Lane::Bulk, frame.encode(ctx.channel));
    }

    /// A piece of what was said before our time.
    pub(super) fn handle_earlier(
        &mut self,
        ctx: &mut Ctx<'_>,
        from: NodeId,
        told: Earlier,
    ) -> Result<(), Violation> {
        if !matches!(self.early.piece, Some(Piece::Asked(node, _)) if node == from) {
            return Ok(());
        }
        self.early.piece = None;
        let cursor = self.early.cursor(&from);
        let is_news = told.last.is_some_and(|last| cursor.before.is_none_or(|before| last < before));
        if cursor.before.is_none() {
            // What another told counts once more here: this one has its own.
            (self.early.messages, self.early.bytes) = (0, 0);
        }
        let size: usize = told.batches.iter().map(|(_, bytes)| bytes.len()).sum();
        let count = told.batches.len();
        if count as u64 > PIECE_BATCHES || (size > PIECE_BYTES && count > 1) {
            return Err(Violation("too much of a history at once"));
        }
        let mut batches = Vec::new();
        for (age_ms, bytes) in told.batches {
            batches.extend(self.read_earlier(ctx, age_ms, bytes.into_vec().into())?);
        }
        // Who leads nowhere is as good as at its end.
        let cursor = match is_news {
            true if told.end => Cursor { before: told.last, again: ctx.now + AGAIN, vain: 0 },
            true if batches.is_empty() => Cursor { before: told.last, ..cursor.put_off(ctx.now) },
            true => Cursor { before: told.last, ..Cursor::default() },
            false => cursor.put_off(ctx.now),
        };
        self.early.messages += batches.iter().map(|it| u64::from(it.batch.messages)).sum::<u64>();
        self.early.bytes += batches.iter().map(|it| it.batch.payload).sum::<u64>();
        let done = (told.end && told.whole) || self.early.has_enough(&self.descriptor.retention);
        if batches.is_empty() && !is_news && !done {
            // Nothing to write.
            self.early.set(from, cursor);
            self.early.next = ctx.now + GAP;
            return Ok(());
        }
        let place = cursor.before.map(|before| (from, before));
        let token = self.keep_earlier(ctx, place, batches, done);
        self.early.piece = Some(Piece::Written(token, from, cursor, done));
        Ok(())
    }

    /// A batch that was delivered before our time, or is here already. What is still to come as talk comes
    /// as talk.
    fn read_earlier(
        &mut self,
        ctx: &Ctx<'_>,
        age_ms: u64,
        bytes: Bytes,
    ) -> Result<Option<EarlierBatch>, Violation> {
        let batch = Batch::parse(&self.id, bytes).map_err(|_| Violation("malformed batch"))?;
        let id = batch.header.id;
        let forked = self.sources.get(&id.source).is_some_and(|it| it.forked);
        let is_none_of_ours = forked || self.sources.is_beyond(&id);
        if is_none_of_ours || !self.descriptor.admits(&id.source) || !self.sources.is_met(&id) {
            return Ok(None);
        }
        self.check(ctx, &batch).map_err(|_| Violation("bad signature"))?;
        let known = batch.messages.iter().flatten();
        let (messages, payload) = (known.clone().count(), known.map(|it| it.len() as u64).sum());
        // What cannot be read takes room as well.
        let is_read = batch.messages.iter().all(Option::is_some);
        let payload = if is_read { payload } else { batch.bytes.len() as u64 };
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        let nick = self.roster.get(&id.source).map(|it| it.record.nick.clone()).unwrap_or_default();
        let batch = HistoryBatch { id, bytes: batch.bytes, digest: batch.digest, messages, payload };
        Ok(Some(EarlierBatch { age_ms, nick, batch }))
    }

    /// A piece is in the history, or is not; whether this was one.
    pub(super) fn on_earlier_kept(&mut self, ctx: &Ctx<'_>, token: Token, is_kept: bool) -> bool {
        let Some(Piece::Written(_, node, cursor, done)) =
            self.early.piece.take_if(|it| matches!(it, Piece::Written(it, ..) if *it == token))
        else {
            return false;
        };
        if is_kept {
            self.early.set(node, cursor);
            self.early.wanted &= !done;
            self.early.next = ctx.now + GAP;
        } else {
            self.early.next = ctx.now + AGAIN;
        }
        true
    }
}
