//! Word of members that are no neighbours: who might become one, and bridges between parts.

use serde_bytes::ByteBuf;

use super::Group;
use super::ctx::Ctx;
use crate::id::NodeId;
use crate::io::MemberState;
use crate::wire::frame::{Frame, Records};
use crate::wire::record::{MemberRecord, Standing};

/// One shuffle in so many also builds a bridge to a member that is no neighbour. Guess: every
/// 30 s a node; in a group of 20 that was cut in halves, one is built within seconds.
const BRIDGE_EVERY: usize = 3;

/// One in so many is Cyclon's exchange: the passive view is a reserve, and need not change faster.
/// Guess.
const EXCHANGE_EVERY: usize = 6;

impl Group {
    /// Cyclon's exchange with a neighbour; and one that seemed to be gone is tried again, so
    /// that halves that were cut off find each other.
    pub(super) fn shuffle(&mut self, ctx: &mut Ctx<'_>) {
        let active = self.views.active();
        let exchange = self.roster.is_full() && ctx.rng.below(EXCHANGE_EVERY) == 0;
        if let Some(partner) = ctx.rng.pick(&active).copied().filter(|_| exchange) {
            let members = self.sample(ctx, &partner);
            ctx.send(&partner, &Frame::Shuffle(Records { members, suspicions: Vec::new() }));
        }
        let failed =
            self.roster.iter().filter(|(_, it)| it.state() == MemberState::Failed).map(|(node, _)| *node);
        let failed: Vec<_> = failed.collect();
        if let Some(node) = ctx.rng.pick(&failed).copied() {
            self.meet(ctx, node, &[]);
        }
        if ctx.rng.below(BRIDGE_EVERY) == 0 {
            self.build_bridge(ctx);
        }
        if let Some(node) = self.detector.doubted(ctx.rng) {
            self.look_for(ctx, node);
        }
    }

    /// Makes any member a neighbour that is none, in the place of another: two halves that
    /// have healed and hold each other online may have full views with no edge between them.
    fn build_bridge(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(node) = ctx.rng.pick(&self.candidates()).copied() {
            self.bridge = Some(node);
            if self.roster.get(&node).is_none() || ctx.links.shares(&node, &self.id) {
                self.meet(ctx, node, &[]);
            } else {
                // It may be known by hearsay only: all who saw it die are gone themselves.
                self.look_for(ctx, node);
            }
        }
    }

    fn sample(&mut self, ctx: &mut Ctx<'_>, except: &NodeId) -> Vec<ByteBuf> {
        let active = self.views.active();
        let known = active.iter().filter_map(|it| self.record_of(it));
        let pool = known.chain(self.views.passive_records()).filter(|it| it.node != *except);
        let mut sample: Vec<_> = pool.map(|it| it.bytes.clone()).collect();
        ctx.rng.shuffle(&mut sample);
        sample.truncate(ctx.config.shuffle_size.saturating_sub(1));
        sample.push(self.roster.own().bytes.clone());
        sample
    }

    pub(super) fn handle_shuffle(&mut self, ctx: &mut Ctx<'_>, from: NodeId, records: &Records) {
        let members = self.sample(ctx, &from);
        ctx.send(&from, &Frame::ShuffleReply(Records { members, suspicions: Vec::new() }));
        self.remember_all(ctx, records);
    }

    pub(super) fn remember_all(&mut self, ctx: &mut Ctx<'_>, records: &Records) {
        for bytes in records.members.iter().take(ctx.config.shuffle_size) {
            let Ok(record) = MemberRecord::parse(bytes) else { continue };
            let welcome = record.standing == Standing::Online && self.allows(&record.node);
            if record.node != ctx.me() && welcome && record.check(&self.id, ctx.identity.signatures()).is_ok()
            {
                self.views.remember(ctx.rng, ctx.config, record);
            }
        }
    }
}
