//! Lives of a source follow each other: where one ends shows when the next has begun.

use super::Group;
use super::ctx::Ctx;
use super::order::close_before;
use super::sources::LifeId;
use crate::id::{BatchId, Seq};
use crate::io::Event;
use crate::wire::batch::LifeEnd;

impl Group {
    /// Our application does not wait for what it published in runs before this one; what a store
    /// that was restored from a copy lacks of that, and others have, is lost to it.
    pub(super) fn close_own_past(&mut self, ctx: &mut Ctx<'_>, (source, life): LifeId) {
        for (older, delivered, heard) in self.sources.close_at_delivered((source, life)) {
            self.store.abandon(BatchId { source, life: older, seq: delivered }, Seq::MAX);
            self.repair.forget_life((source, older));
            if ctx.config.history && delivered < heard {
                let (group, from, to) = (self.id, delivered, heard);
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
    pub(super) fn maybe_miss(&mut self, ctx: &mut Ctx<'_>, id: LifeId, end: Seq) {
        if end > 0
            && let Some(from) = self.sources.misses(id, end)
        {
            // By hearsay: not without end.
            let end = end.min(from.saturating_add(ctx.config.max_lookahead));
            let (group, (source, life)) = (self.id, id);
            ctx.event(Event::Gap { group, source, life, from, to: end, lost: true });
        }
    }

    /// A life that is new here may be followed by one that has begun: it ends where that says.
    pub(super) fn close_if_followed(&mut self, ctx: &mut Ctx<'_>, life: LifeId) {
        if let Some((later, told)) = self.sources.begun_after(life) {
            self.close_lives_before(ctx, (life.0, later), told);
        }
    }
}
