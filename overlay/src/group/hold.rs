//! One of a subtree asks for what the tree did not bring; the others wait for it (`repair/hold.rs`).

use super::Group;
use super::ctx::Ctx;
use super::ranges::Range;
use super::sources::LifeId;
use crate::id::NodeId;
use crate::wire::frame::{Frame, Hold};

impl Group {
    /// Tells our children that we have asked for this.
    pub(super) fn hold_below(&self, ctx: &mut Ctx<'_>, life: LifeId, ranges: &[Range]) {
        let Some((first, end)) = ranges.first().zip(ranges.last()).map(|(first, last)| (first.0, last.1))
        else {
            return;
        };
        let mut children = self.views.active();
        children.retain(|it| self.tree.is_child(it) && !self.repair.has(it, life, first));
        let (source, life) = life;
        ctx.send_all(&children, &Frame::Hold(Hold { source, life, end }));
    }

    /// Our parent has asked: those below us need not, either.
    pub(super) fn handle_hold(&mut self, ctx: &mut Ctx<'_>, from: NodeId, hold: &Hold) {
        let id = (hold.source, hold.life);
        if self.tree.parent() != Some(from) {
            return;
        }
        let Some(state) = self.sources.life(id) else { return };
        let first = state.held.next();
        if hold.end <= first || hold.end > first.saturating_add(ctx.config.max_lookahead) {
            return;
        }
        let range = [(first, hold.end)];
        if !self.repair.on_hold(ctx.now, id, hold.end, ctx.config) {
            return;
        }
        self.silence.on_hold(ctx.now);
        if self.repair.is_to_hold(ctx.now, id, &range) {
            self.hold_below(ctx, id, &range);
        }
    }
}
