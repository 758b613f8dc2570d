//! Sources that were there before us, and that the contact which welcomed us did not know: it had just
//! come in itself. Who knows them says where they begin for us.

use std::time::Duration;

use super::ctx::Ctx;
use super::sources::LifeId;
use super::{Group, Phase};
use crate::id::{Life, NodeId, Seq};
use crate::wire::frame::{Frame, Join};

/// An answer is awaited for so long, then somebody else may be asked. Guess.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

impl Group {
    /// Whether a life began before we entered, and nothing is known of where its source begins for us.
    pub(super) fn lacks_baseline(&self, (source, life): LifeId) -> bool {
        life < self.sources.since && self.sources.get(&source).is_none()
    }

    /// Whether a welcome is the answer to such a question.
    pub(super) fn is_late_baseline(&self, ctx: &Ctx<'_>, from: &NodeId) -> bool {
        self.late_baseline.is_some_and(|(node, at)| node == *from && ctx.now.since(at) < ANSWER_WITHIN)
    }

    /// Asks a neighbour that knows such sources where they begin.
    pub(super) fn ask_for_baseline(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        let waits = self.late_baseline.is_some_and(|(_, at)| ctx.now.since(at) < ANSWER_WITHIN);
        if waits || !matches!(self.phase, Phase::Member) {
            return;
        }
        self.late_baseline = Some((node, ctx.now));
        let age_ms = ctx.now.since(self.entered).as_millis() as u64;
        let record = self.roster.own().bytes.clone();
        ctx.send(&node, &Frame::Join(Join { record, fresh: true, age_ms }));
    }

    /// It has answered.
    pub(super) fn start_late(&mut self, ctx: &mut Ctx<'_>, baseline: &[(NodeId, Life, Seq)]) {
        let mut late = baseline.to_vec();
        late.retain(|(source, life, _)| self.lacks_baseline((*source, *life)));
        self.start_from(ctx, &late);
        self.record_all(ctx);
        for (source, life, _) in late {
            self.deliver(ctx, source);
            self.want_missing(ctx, (source, life), false);
        }
    }
}
