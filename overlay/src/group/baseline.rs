//! Where a newcomer starts (`docs/decisions/004-joiner-baseline.md`).

use std::collections::BTreeMap;

use super::Group;
use super::Phase;
use super::ctx::Ctx;
use super::membership::views::Request;
use super::order::close_before;
use super::sources::{LifeId, LifeState};
use crate::id::{BatchId, Life, NodeId, Seq};
use crate::time::Time;
use crate::wire::compare::Baseline;

/// Stands in a baseline for "first": nothing of this life, or of those before it, is owed.
pub(super) const NOTHING: Seq = Seq::MAX;

/// (source, life, first that is owed).
pub(super) type First = (NodeId, Life, Seq);

/// Pieces of a baseline that have come before the welcome.
#[derive(Debug, Default)]
pub(super) struct Pieces(Option<(NodeId, Vec<First>)>);

impl Pieces {
    /// Keeps a piece, in place of those of another node; `false` if that is too much.
    fn add(&mut self, from: NodeId, piece: Vec<First>, most: usize) -> bool {
        let (_, pieces) = match self.0.take().filter(|it| it.0 == from) {
            Some(same) => self.0.insert(same),
            None => self.0.insert((from, Vec::new())),
        };
        let fits = pieces.len() + piece.len() <= most;
        pieces.extend(piece.into_iter().filter(|_| fits));
        fits
    }

    pub(super) fn take(&mut self, from: &NodeId) -> Vec<First> {
        self.0.take().filter(|it| it.0 == *from).map(|it| it.1).unwrap_or_default()
    }
}

impl Group {
    /// Where a newcomer starts: it is owed what was published since it entered (`cutoff`),
    /// and what we could not hand to anybody yet.
    pub(super) fn baseline(&self, ctx: &Ctx<'_>, cutoff: Time) -> Vec<First> {
        let untaken = self.untaken.first();
        let first = |(id, state): (LifeId, &LifeState)| {
            let first = self.store.first_since(id, cutoff).unwrap_or(Seq::MAX);
            // What was delivered here before this node was told where it starts is before that all the same.
            let mut first = first.max(state.dropped_below).min(state.delivered);
            if id.0 == ctx.me() && self.publisher.life() == Some(id.1) {
                first = first.min(untaken.unwrap_or(first));
            }
            let first = first.min(state.owed.unwrap_or(first));
            (id.0, id.1, first)
        };
        let closed = self.sources.closed(self.store.lives()).filter_map(|id| {
            let first = self.store.first_since(id, cutoff)?;
            Some((id.0, id.1, first))
        });
        let mut owed: Vec<_> = self.sources.lives().map(first).chain(closed).collect();
        let mut oldest = BTreeMap::new();
        for (source, life, _) in &owed {
            let known = oldest.entry(*source).or_insert(*life);
            *known = (*known).min(*life);
        }
        // Older lives, which others may still have open, are before the joiner's time.
        owed.extend(self.sources.last_closed().map(|(source, life)| {
            let oldest = oldest.get(&source).map_or(life, |oldest| life.min(oldest.saturating_sub(1)));
            (source, oldest, NOTHING)
        }));
        owed
    }

    /// A piece of where we are to start; the rest comes with the welcome.
    pub(super) fn handle_baseline(&mut self, ctx: &mut Ctx<'_>, from: NodeId, piece: Baseline) {
        let asked = matches!(self.phase, Phase::Fresh) && self.views.has_asked(&from, Request::Join);
        let awaited = asked || self.ground.awaits(&from) || self.asks_where_order_is(&from);
        if awaited && !self.pieces.add(from, piece.first, ctx.config.max_sources * 2) {
            self.overload(ctx, "max_sources");
        }
    }

    pub(super) fn start_from(&mut self, ctx: &mut Ctx<'_>, baseline: &[First]) {
        for &(source, life, first) in baseline {
            let own = source == ctx.me() && self.publisher.life().is_some_and(|current| current <= life);
            if own || !self.admits_source(&source) {
                continue;
            }
            let begun = if first == NOTHING {
                let oldest = BatchId { source, life: 0, seq: 0 };
                self.store.pass_over(oldest..BatchId { source, life, seq: Seq::MAX });
                self.sources.begin_after((source, life), ctx.config)
            } else {
                let first = first.min(self.sources.cut_of((source, life)));
                let oldest = BatchId { source, life, seq: 0 };
                self.store.pass_over(oldest..BatchId { seq: first, ..oldest });
                self.sources.open((source, life), ctx.config).map(|state| state.start_at(first))
            };
            if let Err(cap) = begun {
                self.overload(ctx, cap);
            }
        }
        for &(source, life, first) in baseline {
            if first > 0 && first != NOTHING {
                // Its opening will not come here, and with it where the life before it ended.
                close_before(source, life, None, &mut self.sources);
            }
        }
    }
}
