//! Frontiers: what is held, heard of and delivered of each source. They are the truth;
//! trees are an optimisation.

mod closed;
mod cut;
mod hashes;

use std::collections::BTreeMap;
use std::ops::Bound;

use super::ranges::{Range, Ranges};
use crate::config::Config;
use crate::descriptor::Order;
use crate::id::{BatchId, Digest, Life, NodeId, Seq};
use crate::identity::{BadSignature, Verifier};
use crate::time::Time;
use crate::wire::batch::{LifeEnd, Opening};

use hashes::Hashes;

/// So often the last batches of a life that is over are waited for in vain; then more is not believed. Guess.
const MAX_IN_VAIN: u8 = 4;

/// A (source, life).
pub(crate) type LifeId = (NodeId, Life);

/// What is known of one life.
#[derive(Debug, Clone)]
pub(crate) struct LifeState {
    /// Batches received, given up, or before our time.
    pub(crate) held: Ranges,
    /// Given up, or below the baseline: held, but nobody gets them from us.
    pub(crate) skipped: Vec<Range>,
    /// One past the highest that anybody is known to hold.
    pub(crate) heard: Seq,
    /// The first not yet delivered.
    pub(crate) delivered: Seq,
    /// All below it was dropped from the store.
    pub(crate) dropped_below: Seq,
    /// Digest at `held.next() - 1`, if that batch passed through here.
    pub(crate) head: Option<Digest>,
    /// What its first batch said.
    pub(crate) opening: Option<Opening>,
    /// Its end, once a later life is known.
    pub(crate) end: Option<Seq>,
    /// Where the life after it says that it ended, by its source's own store: what anybody claims above that
    /// is to be shown.
    pub(crate) named_end: Option<Seq>,
    /// How often its last batches were waited for in vain since one of it came.
    in_vain: u8,
    /// When a batch of it last came.
    pub(crate) moved: Time,
    /// Nobody told of it but the opening of the life after it.
    pub(crate) only_named: bool,
    /// Our own, of an earlier run: from here on no other is known to have it. It stays open until
    /// somebody does.
    pub(crate) owed: Option<Seq>,
    /// It is closed, and the life after it does not know of it, or of all of it: the source's store was
    /// lost, or restored from a copy.
    pub(crate) disowned: bool,
    /// Our short number for it in frontier frames.
    pub(crate) reference: u32,
}

/// One source.
#[derive(Debug)]
pub(crate) struct Source {
    verifier: Option<Verifier>,
    /// Lives not closed, ascending; and a few that are closed but disowned.
    pub(crate) lives: BTreeMap<Life, LifeState>,
    /// All lives below are closed: what comes of them is too late.
    pub(crate) floor: Life,
    /// Lives up to here are before our time, or too long ago to be remembered.
    forgotten: Life,
    /// Others that were closed, and where: who has more of them, or one in between, has what we missed.
    closed: BTreeMap<Life, Seq>,
    /// The life that we write ourselves, from when its first batch goes to the disk.
    writes: Life,
    /// It signed two batches for one place: nothing more is taken from it.
    pub(crate) forked: bool,
    /// Gaps that were told by hearsay since a life was closed.
    tales: usize,
}

impl Source {
    /// Whether something of a later life was delivered: a life before it that is not known
    /// comes too late.
    fn has_begun_after(&self, life: Life) -> bool {
        self.writes > life || self.lives.range(life..).any(|(_, later)| later.delivered > 0)
    }
}

/// Where a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Not held; to be taken.
    New,
    /// Held already.
    Held,
    /// Of a closed life, or a source set aside.
    Closed,
    /// Beyond a cap, named.
    Beyond(&'static str),
}

/// All sources of a group.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    map: BTreeMap<NodeId, Source>,
    /// Forgets what it knows of each source that is lent out to be changed.
    hashes: Hashes,
    references: u32,
    /// No order is kept: a life does not come too late because a later one has begun.
    unordered: bool,
    /// When we entered, unix milliseconds: lives that began later are not before our time. Zero if we
    /// were a member before this run.
    pub(crate) since: Life,
    /// Of sources that were removed: their last life that counts, and where it ends.
    cuts: BTreeMap<NodeId, (Life, Seq)>,
}

impl Sources {
    pub(crate) fn new(order: Order, since: Life) -> Self {
        Self { unordered: order == Order::Unordered, since, ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn get(&self, source: &NodeId) -> Option<&Source> {
        self.map.get(source)
    }

    pub(crate) fn get_mut(&mut self, source: &NodeId) -> Option<&mut Source> {
        self.hashes.touch(source);
        self.map.get_mut(source)
    }

    pub(crate) fn life(&self, id: LifeId) -> Option<&LifeState> {
        self.map.get(&id.0)?.lives.get(&id.1)
    }

    pub(crate) fn life_mut(&mut self, id: LifeId) -> Option<&mut LifeState> {
        self.hashes.touch(&id.0);
        self.map.get_mut(&id.0)?.lives.get_mut(&id.1)
    }

    /// All lives, by source and life.
    pub(crate) fn lives(&self) -> impl Iterator<Item = (LifeId, &LifeState)> {
        self.map
            .iter()
            .flat_map(|(source, it)| it.lives.iter().map(|(life, state)| ((*source, *life), state)))
    }

    /// Which of these lives are closed.
    pub(crate) fn closed(&self, lives: Vec<LifeId>) -> impl Iterator<Item = LifeId> {
        lives.into_iter().filter(|(source, life)| self.map.get(source).is_some_and(|it| *life < it.floor))
    }

    /// The last closed life of each source that has any.
    pub(crate) fn last_closed(&self) -> impl Iterator<Item = LifeId> {
        self.map.iter().filter_map(|(source, it)| Some((*source, it.floor.checked_sub(1)?)))
    }

    /// This life and all before it are before our time.
    pub(crate) fn begin_after(
        &mut self,
        (source, life): LifeId,
        config: &Config,
    ) -> Result<(), &'static str> {
        self.hashes.touch(&source);
        let source = entry(&mut self.map, source, config)?;
        source.lives.retain(|older, _| *older > life);
        source.floor = source.floor.max(life.saturating_add(1));
        source.forgotten = source.forgotten.max(life.saturating_add(1));
        Ok(())
    }

    /// All lives but those of sources that were set aside.
    pub(crate) fn trusted_lives(&self) -> impl Iterator<Item = (LifeId, &LifeState)> {
        self.lives().filter(|(id, _)| self.map.get(&id.0).is_some_and(|it| !it.forked))
    }

    /// The life, made if it is new; `Err` names the cap that stands in the way, or is empty
    /// for a closed one.
    pub(crate) fn open(&mut self, id: LifeId, config: &Config) -> Result<&mut LifeState, &'static str> {
        let (source, life) = id;
        let cut = self.cuts.get(&source).copied();
        if cut.is_some_and(|(last, end)| life > last || (life == last && end == 0)) {
            return Err("");
        }
        self.hashes.touch(&source);
        let entry = entry(&mut self.map, source, config)?;
        if entry.forked || life < entry.floor {
            return Err("");
        }
        if !entry.lives.contains_key(&life) {
            // A later life has begun: an older one that nobody had heard of is too late.
            if !self.unordered && entry.has_begun_after(life) {
                return Err("");
            }
            if entry.counted_lives() >= config.max_lives && !entry.forget_rumour(life) {
                return Err("max_lives");
            }
        }
        Ok(entry.lives.entry(life).or_insert_with(|| {
            self.references += 1;
            let end = cut.filter(|(last, _)| *last == life).map(|(_, end)| end);
            LifeState { end, ..LifeState::new(self.references) }
        }))
    }

    /// As [`Sources::open`], for a life of our own from `owed` on nobody else is known to have.
    pub(crate) fn open_owed(
        &mut self,
        id: LifeId,
        owed: Option<Seq>,
        config: &Config,
    ) -> Result<&mut LifeState, &'static str> {
        if owed.is_some() {
            let mut state = LifeState::new(self.references + 1);
            (self.references, state.owed) = (self.references + 1, owed);
            entry(&mut self.map, id.0, config)?.lives.insert(id.1, state);
        }
        self.open(id, config)
    }

    /// Our own life begins: its first batch has its place in the history, and what was said before comes
    /// too late.
    pub(crate) fn begin_own(&mut self, (me, life): LifeId, config: &Config) -> Result<(), &'static str> {
        entry(&mut self.map, me, config)?.writes = life;
        Ok(())
    }

    /// Those that are known.
    pub(crate) fn names(&self) -> impl Iterator<Item = &NodeId> {
        self.map.keys()
    }

    /// The first life after this one that has begun, and what its opening says of the one before.
    pub(crate) fn begun_after(&self, (source, life): LifeId) -> Option<(Life, Option<LifeEnd>)> {
        let mut later = self.map.get(&source)?.lives.range((Bound::Excluded(life), Bound::Unbounded));
        let (life, state) = later.find(|(_, it)| it.has_begun())?;
        Some((*life, state.opening.as_ref().and_then(|it| it.previous)))
    }

    /// Opens a life that only the opening of the next one speaks of. `false` if it is known; `Err` if it
    /// comes too late, or names the cap that stands in the way.
    pub(crate) fn open_named(
        &mut self,
        source: NodeId,
        told: LifeEnd,
        config: &Config,
    ) -> Result<bool, &'static str> {
        let known = self.life((source, told.life)).is_some();
        if told.end == 0 || known {
            return Ok(false);
        }
        self.open((source, told.life), config)?.only_named = true;
        Ok(true)
    }

    /// Ends the lives before this one: what of them others were heard to have and is not delivered here, is
    /// lost here (life, from, to). It is told once: whoever tells of it again tells nothing new.
    pub(crate) fn close_at_delivered(&mut self, (source, life): LifeId) -> Vec<(Life, Seq, Seq)> {
        let older = self.map.get_mut(&source).into_iter().flat_map(|it| it.lives.range_mut(..life));
        let end = |(life, state): (&Life, &mut LifeState)| {
            let (from, to) = (state.delivered, state.heard.max(state.delivered));
            if from < to {
                state.skip((from, to));
            }
            (state.heard, state.delivered, state.end) = (to, to, Some(to));
            (*life, from, to)
        };
        older.map(end).collect()
    }

    /// Whether this life is not before our time: it began later, or something of the source from before it
    /// was here.
    pub(crate) fn knew_before(&self, (source, life): LifeId) -> bool {
        let earlier = |it: &Source| it.lives.range(..life).any(|(_, state)| state.is_real());
        life >= self.since || self.map.get(&source).is_some_and(|it| it.floor > 0 || earlier(it))
    }

    /// Where a batch that came in would go.
    pub(crate) fn place(&self, id: &BatchId, config: &Config) -> Place {
        if self.is_beyond(id) {
            return Place::Closed;
        }
        let Some(source) = self.map.get(&id.source) else {
            if self.map.len() >= config.max_sources {
                return Place::Beyond("max_sources");
            }
            return if id.seq > config.max_lookahead { Place::Beyond("max_lookahead") } else { Place::New };
        };
        if source.forked || id.life < source.floor {
            return Place::Closed;
        }
        let Some(life) = source.lives.get(&id.life) else {
            if !self.unordered && source.has_begun_after(id.life) {
                return Place::Closed;
            }
            return if source.counted_lives() >= config.max_lives {
                Place::Beyond("max_lives")
            } else {
                Place::New
            };
        };
        if life.held.contains(id.seq) {
            Place::Held
        } else if life.end.is_some_and(|end| id.seq >= end) {
            Place::Closed
        } else if id.seq - life.held.next() > config.max_lookahead {
            Place::Beyond("max_lookahead")
        } else if life.held.above().len() >= config.max_ranges && id.seq > life.held.next() {
            Place::Beyond("max_ranges")
        } else {
            Place::New
        }
    }

    /// The source's key, unpacked once.
    pub(crate) fn verifier(&mut self, source: &NodeId) -> Result<Verifier, BadSignature> {
        if let Some(verifier) = self.map.get(source).and_then(|it| it.verifier.clone()) {
            return Ok(verifier);
        }
        let verifier = Verifier::new(source)?;
        if let Some(known) = self.map.get_mut(source) {
            known.verifier = Some(verifier.clone());
        }
        Ok(verifier)
    }

    /// Whether a dependency is met: delivered, closed, before our time, or of no account since its source
    /// was removed.
    pub(crate) fn is_met(&self, dependency: &BatchId) -> bool {
        if self.is_beyond(dependency) {
            return true;
        }
        let Some(source) = self.map.get(&dependency.source) else { return false };
        dependency.life < source.floor
            || source.forked
            || source.lives.get(&dependency.life).map_or_else(
                // Of a life that came before one we have begun with: it will never come.
                || source.has_begun_after(dependency.life),
                |life| life.delivered > dependency.seq,
            )
    }
}

fn entry<'a>(
    map: &'a mut BTreeMap<NodeId, Source>,
    source: NodeId,
    config: &Config,
) -> Result<&'a mut Source, &'static str> {
    if !map.contains_key(&source) && map.len() >= config.max_sources {
        return Err("max_sources");
    }
    Ok(map.entry(source).or_insert_with(|| Source {
        verifier: None,
        lives: BTreeMap::new(),
        floor: 0,
        writes: 0,
        forgotten: 0,
        closed: BTreeMap::new(),
        forked: false,
        tales: 0,
    }))
}

impl Source {
    /// Lives that count for the cap: others cannot make us owe anything.
    fn counted_lives(&self) -> usize {
        self.lives.values().filter(|it| it.owed.is_none() && !it.disowned).count()
    }

    /// Makes room for a life by forgetting one that is only rumoured: anybody can make those up. Not one
    /// before it, unless nothing is told of that any more: lives come one after the other.
    fn forget_rumour(&mut self, before: Life) -> bool {
        // One that is named by a life after it has an end.
        let is_late = |life: Life, it: &LifeState| life > before && it.end.is_none();
        let goes = |(life, it): &(&Life, &LifeState)| !it.is_real() && (is_late(**life, it) || it.heard == 0);
        let rumour = self.lives.iter().rev().find(goes).map(|(life, _)| *life);
        rumour.is_some_and(|life| self.lives.remove(&life).is_some())
    }
}

impl LifeState {
    /// Whether its first batch was here, was given up, or was before our time: it is known now, if
    /// ever, where the life before it ended.
    pub(crate) fn has_begun(&self) -> bool {
        self.held.next() > 0
    }

    /// Whether a signed batch of it was here, or it is where we began.
    pub(crate) fn is_real(&self) -> bool {
        self.held.end() > 0
    }

    fn new(reference: u32) -> Self {
        Self {
            held: Ranges::default(),
            skipped: Vec::new(),
            heard: 0,
            delivered: 0,
            dropped_below: 0,
            head: None,
            opening: None,
            end: None,
            named_end: None,
            in_vain: 0,
            moved: Time::ZERO,
            only_named: false,
            owed: None,
            disowned: false,
            reference,
        }
    }

    /// Its batch `seq` has come. `digest_at` knows those that came before: what fills a gap brings the head
    /// to the last of what was above it.
    pub(crate) fn hold(&mut self, seq: Seq, digest: Digest, digest_at: impl FnOnce(Seq) -> Option<Digest>) {
        self.in_vain = 0;
        self.held.insert(seq);
        let next = self.held.next();
        if next > seq {
            self.head = if next == seq + 1 { Some(digest) } else { digest_at(next - 1) };
        }
    }

    /// Everything below `first` is before our time.
    pub(crate) fn start_at(&mut self, first: Seq) {
        // What came already and waits for causes is before our time, too.
        if first > self.delivered {
            self.skipped.push((self.delivered, first));
            self.held.insert_range((0, first));
            self.heard = self.heard.max(first);
            self.delivered = self.delivered.max(first);
            self.dropped_below = self.dropped_below.max(first);
            self.head = None;
        }
    }

    /// Marks what nobody holds, so that order can go on.
    pub(crate) fn skip(&mut self, range: Range) {
        let tail = self.end.is_some_and(|end| end <= range.1);
        self.in_vain = self.in_vain.saturating_add(u8::from(tail));
        self.held.insert_range(range);
        self.skipped.push(range);
        if range.0 <= self.dropped_below {
            self.dropped_below = self.dropped_below.max(range.1);
        }
        self.head = None;
    }

    /// Somebody holds batches below `end`: up to where that counts. The store that named the end of a life
    /// that is over may be an old copy, or hearsay was short (`order::close_before`); but who claims ever
    /// more of it, and brings nothing, is not waited for without end.
    pub(crate) fn hear(&mut self, end: Seq) -> Seq {
        match self.end.filter(|known| *known < end) {
            Some(known) if self.in_vain >= MAX_IN_VAIN => known,
            Some(_) => *self.end.insert(end),
            None => end,
        }
    }

    /// Whether it goes on here: there is more of it, by what was heard, than was delivered.
    pub(crate) fn is_behind(&self) -> bool {
        self.delivered < self.end.map_or(self.heard, |end| self.heard.min(end))
    }

    /// Whether there is nothing from `from` on but what others claim beyond the source's word.
    pub(crate) fn ends_by_hearsay(&self, from: Seq) -> bool {
        self.held.end() <= from && self.named_end.is_some_and(|end| end <= from)
    }

    /// Whether it is over and nothing is known of its end but where that is.
    pub(crate) fn lacks_tail_only(&self) -> bool {
        self.end.is_some() && self.held.above().is_empty() && !self.missing().is_empty()
    }

    /// What is known to exist and not held.
    pub(crate) fn missing(&self) -> Vec<Range> {
        self.held.missing_below(self.end.map_or(self.heard, |end| self.heard.min(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_life_is_not_put_off_for_ever_by_who_brings_nothing() {
        let mut life = LifeState::new(1);
        assert_eq!(life.hear(900), 900, "it goes on");
        life.held.insert_range((0, 3));
        life.end = Some(3);
        let mut believed = 0;
        for end in 4..500 {
            believed += u8::from(life.hear(end) == end && life.hear(end) == end);
            life.heard = life.end.unwrap_or(0);
            life.missing().into_iter().for_each(|range| life.skip(range));
        }
        assert_eq!((believed, life.end), (MAX_IN_VAIN, Some(3 + Seq::from(MAX_IN_VAIN))));
        life.hold(7, Digest::from_bytes([1; Digest::LEN]), |_| None);
        assert_eq!(life.hear(500), 500, "there was more of it indeed");
    }

    #[test]
    fn the_head_is_the_last_before_the_first_gap() {
        let digest = |seq: Seq| Digest::from_bytes([seq as u8; Digest::LEN]);
        let mut life = LifeState::new(1);
        for (seq, head) in
            [(0, Some(0)), (2, Some(0)), (3, Some(0)), (1, Some(3)), (5, Some(3)), (4, Some(5))]
        {
            life.hold(seq, digest(seq), |at| Some(digest(at)));
            assert_eq!(life.head, head.map(digest), "after {seq}");
        }
        life.hold(7, digest(7), |_| None);
        life.hold(6, digest(6), |_| None);
        assert_eq!(life.head, None, "what is not kept is not claimed");
    }
}
