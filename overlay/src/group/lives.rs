//! Lives of a source follow each other: where one ends shows when the next has begun.

use super::Group;
use super::ctx::Ctx;
use super::order::close_before;
use super::sources::LifeId;
use crate::id::{BatchId, Life, NodeId, Seq};
use crate::io::Event;
use crate::wire::batch::{Batch, LifeEnd};
use crate::wire::frame::{Frame, Pull};

impl Group {
    /// Our application does not wait for what it published in runs before this one; what a store
    /// that was restored from a copy lacks of that, and others have, is lost to it.
    pub(super) fn close_own_past(&mut self, ctx: &mut Ctx<'_>, (source, life): LifeId) {
        for (older, from, to) in self.sources.close_at_delivered((source, life)) {
            self.store.abandon(BatchId { source, life: older, seq: from }, Seq::MAX);
            self.repair.forget_life((source, older));
            if from < to {
                let group = self.id;
                ctx.event(Event::Gap { group, source, life: older, from, to, lost: true });
            }
        }
    }

    pub(super) fn close_lives_before(&mut self, ctx: &mut Ctx<'_>, life: LifeId, told: Option<LifeEnd>) {
        // A life that this one follows, and of which nothing was heard here: whoever holds it may
        // not have had the time to say so.
        let mut unheard = None;
        if let Some(told) = told.filter(|it| it.life < life.1) {
            match self.sources.open_named(life.0, told, ctx.config) {
                Ok(is_new) => unheard = Some(told).filter(|_| is_new),
                Err(cap) => self.overload(ctx, cap),
            }
        }
        for (older, _) in close_before(life.0, life.1, told, &mut self.sources) {
            let patient = unheard.is_none_or(|it| it.life != older);
            self.want_missing(ctx, (life.0, older), patient);
        }
    }

    /// Somebody has batches below `end` of a life that comes too late here: a later one of that
    /// source has begun. Not without a word.
    pub(super) fn maybe_miss(&mut self, ctx: &mut Ctx<'_>, teller: Option<&NodeId>, id: LifeId, end: Seq) {
        let end = end.min(self.sources.cut_of(id));
        if end > 0
            && let Some(from) = self.sources.misses(id, end)
        {
            // By hearsay: not without end.
            let end = end.min(from.saturating_add(ctx.config.max_lookahead));
            let (group, (source, life)) = (self.id, id);
            ctx.event(Event::Gap { group, source, life, from, to: end, lost: true });
            self.tell_disowned(&source, life);
            if let Some(teller) = teller.filter(|_| from == 0) {
                // Its opening says whether there was another before it that is missing, too.
                ctx.send(teller, &Frame::Pull(Pull { source, life, ranges: vec![(0, 1)] }));
            }
        }
    }

    /// Its source has forgotten such a life: who has missed it, or some of it, hears of it from those only
    /// who have it.
    pub(super) fn tell_disowned(&mut self, source: &NodeId, from: Life) {
        for id in self.sources.disowned_from(source, from) {
            self.undefined.insert(id);
            self.news.insert(id);
        }
    }

    /// A batch that comes too late: it, and the life before it, if it tells of one, may not be known here.
    pub(super) fn on_late(&mut self, ctx: &mut Ctx<'_>, from: &NodeId, batch: &Batch) {
        let BatchId { source, life, seq } = batch.header.id;
        self.maybe_miss(ctx, Some(from), (source, life), seq + 1);
        let told = batch.header.opening.as_ref().and_then(|it| it.previous);
        if let Some(told) =
            told.filter(|it| it.life < life && self.sources.would_miss((source, it.life), it.end))
            && self.check(ctx, batch).is_ok()
        {
            self.maybe_miss(ctx, Some(from), (source, told.life), told.end);
        }
    }

    /// A life that is new here may be followed by one that has begun: it ends where that says.
    pub(super) fn close_if_followed(&mut self, ctx: &mut Ctx<'_>, life: LifeId) {
        if let Some((later, told)) = self.sources.begun_after(life) {
            self.close_lives_before(ctx, (life.0, later), told);
        }
    }
}
