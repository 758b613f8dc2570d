//! Who was away for longer than the records of the order are kept goes on where others stand.

use std::time::Duration;

use super::Group;
use super::baseline::{First, NOTHING};
use super::ctx::Ctx;
use super::order::total::{Overtaken, Part};
use crate::id::{BatchId, Digest, NodeId, Seq};
use crate::io::{Event, OrderRecord};
use crate::time::Time;
use crate::wire::order::Start;

/// Between questions, to another neighbour each time; ever longer, up to [`MAX_PAUSE`] times that. Guess: longer than
/// an answer takes.
const ASK_EVERY: Duration = Duration::from_secs(1);
const MAX_PAUSE: u32 = 30;

impl Group {
    /// What the order needs to go on here has been dropped by all.
    pub(super) fn on_overtaken(&mut self, now: Time) {
        if let Some(total) = &mut self.total {
            total.overtaken.get_or_insert(Overtaken { asked: None, next: now, turn: 0 });
        }
    }

    pub(super) fn asks_where_order_is(&self, node: &NodeId) -> bool {
        let overtaken = self.total.as_ref().and_then(|it| it.overtaken.as_ref());
        overtaken.is_some_and(|it| it.asked.as_ref() == Some(node))
    }

    pub(super) fn ask_where_order_is(&mut self, ctx: &mut Ctx<'_>) {
        let neighbours = self.views.active();
        let overtaken = self.total.as_mut().and_then(|it| it.overtaken.as_mut());
        let Some(overtaken) = overtaken.filter(|it| it.next <= ctx.now) else { return };
        overtaken.next = ctx.now + ASK_EVERY * MAX_PAUSE.min(overtaken.turn as u32 + 1);
        if neighbours.is_empty() {
            return;
        }
        let node = neighbours[overtaken.turn % neighbours.len()];
        (overtaken.asked, overtaken.turn) = (Some(node), overtaken.turn + 1);
        self.ask_where_to_start(ctx, &node);
    }

    /// A neighbour tells where it stands. The application is told how many places it has missed.
    pub(super) fn catch_up_order(&mut self, ctx: &mut Ctx<'_>, start: &Start, baseline: &[First]) {
        let lineage = self.check_start(ctx, start);
        let Some((total, lineage)) = self.total.as_mut().zip(lineage) else { return };
        let (source, epoch) = (total.source(), lineage.epoch());
        let next = baseline.iter().find(|it| (it.0, it.1) == (source, epoch)).map(|it| it.2);
        let known = total.epoch().map_or(0, |it| it.0);
        let Some(next) = next.filter(|_| start.index > total.ledger.index() && epoch >= known) else {
            // It is no further than this node.
            return;
        };
        total.overtaken = None;
        let missed = start.index - total.ledger.index();
        let marks = baseline.iter().filter(|it| it.0 != source && it.2 > 0 && it.2 != NOTHING);
        let marks = marks.map(|&(source, life, next)| Part(source, life, next, Digest::ZERO));
        let passed = total.go_on(lineage, (start.index, next), marks);
        total.moved = ctx.now;
        self.pass_over_older(ctx, baseline);
        self.start_from(ctx, baseline);
        let settled: Vec<(BatchId, Option<u64>)> = passed.into_iter().map(|it| (it, None)).collect();
        if ctx.config.history {
            let order = self.order_place().map(|place| OrderRecord { settled, ..place });
            self.record_all_in(ctx, order);
        }
        ctx.event(Event::Lagged { group: self.id, missed });
        for &(source, life, _) in baseline {
            self.want_missing(ctx, (source, life), false);
            self.deliver(ctx, source);
        }
        self.poll_total(ctx);
    }

    /// Of lives before those that the order is in nothing gets a place any more.
    fn pass_over_older(&mut self, ctx: &Ctx<'_>, baseline: &[First]) {
        let others = baseline.iter().filter(|it| it.0 != ctx.me() && it.2 > 0 && it.2 != NOTHING);
        for &(source, life, _) in others {
            for (older, from, _) in self.sources.close_at_delivered((source, life)) {
                self.store.abandon(BatchId { source, life: older, seq: from }, Seq::MAX);
                self.repair.forget_life((source, older));
            }
        }
    }
}
