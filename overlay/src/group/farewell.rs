//! Going: a goodbye keeps the membership, a leave ends it. Both wait, bounded, until
//! neighbours hold what we published.

use super::ctx::Ctx;
use super::{Group, Phase};
use crate::io::{Event, MemberState};
use crate::time::Time;
use crate::wire::frame::{Empty, Frame};
use crate::wire::frontier::Purpose;
use crate::wire::record::Standing;

/// Neighbours that should hold our batches before we go (DESIGN.md §3.7).
const HOLDERS: usize = 2;

/// A goodbye under way.
#[derive(Debug)]
pub(crate) struct Farewell {
    standing: Standing,
    until: Time,
    done: bool,
}

impl Group {
    /// Begins to go: for good, or only offline.
    pub(crate) fn begin_farewell(&mut self, ctx: &mut Ctx<'_>, for_good: bool) {
        if matches!(self.phase, Phase::Going(_)) {
            return;
        }
        let was_removed = self.is_removed();
        let standing = if for_good { Standing::Left } else { Standing::Offline };
        self.phase =
            Phase::Going(Farewell { standing, until: ctx.now + ctx.config.goodbye_wait, done: was_removed });
        if was_removed {
            // Nobody would hear it.
            return self.tell_gone(ctx, standing);
        }
        self.maybe_make_batch(ctx);
        self.poll_farewell(ctx);
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(&self.phase, Phase::Going(Farewell { done: true, .. }))
    }

    pub(super) fn farewell_deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::Going(farewell) if !farewell.done => Some(farewell.until),
            _ => None,
        }
    }

    /// Goes as soon as enough neighbours hold our batches, or the wait is over.
    pub(super) fn poll_farewell(&mut self, ctx: &mut Ctx<'_>) {
        let Phase::Going(farewell) = &self.phase else { return };
        let (standing, late) = (farewell.standing, farewell.until <= ctx.now);
        if farewell.done || !(late || self.is_held_elsewhere(ctx)) {
            return;
        }
        self.restate_at_least(ctx, 0, standing);
        self.with_tree(ctx, |tree, _, acts| tree.on_goodbye(acts));
        let neighbours = self.views.active();
        for node in &neighbours {
            // Or they would hand us once more what we have had already, when we come back.
            self.tell_all(ctx, node, Purpose::Tell);
        }
        ctx.send_all(&neighbours, &Frame::Disconnect(Empty::default()));
        for id in self.publisher.drain() {
            ctx.event(Event::Rejected { group: self.id, id, error: crate::io::PublishError::Leaving });
        }
        self.tell_gone(ctx, standing);
        if let Phase::Going(farewell) = &mut self.phase {
            farewell.done = true;
        }
    }

    fn tell_gone(&self, ctx: &mut Ctx<'_>, standing: Standing) {
        ctx.event(match standing {
            Standing::Left => Event::LeftGroup { group: self.id },
            _ => Event::WentOffline { group: self.id },
        });
    }

    fn is_held_elsewhere(&self, ctx: &Ctx<'_>) -> bool {
        let others =
            self.roster.iter().any(|(node, it)| *node != ctx.me() && it.state() == MemberState::Online);
        let Some(life) = self.publisher.life().filter(|_| others || self.views.active_len() > 0) else {
            return self.publisher.is_idle();
        };
        let wanted = HOLDERS.min(self.views.active_len().max(1));
        self.publisher.is_idle() && self.repair.holders((ctx.me(), life), self.publisher.next()) >= wanted
    }
}
