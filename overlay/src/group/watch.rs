//! Links that go, and members that fall silent.

use std::time::Duration;

use super::Group;
use super::ctx::Ctx;
use crate::id::NodeId;
use crate::io::MemberState;
use crate::time::Time;
use crate::wire::frame::{Frame, Probe, Records};
use crate::wire::record::{Standing, Suspicion};

/// The links to a node that died close one after the other within so long.
const HALF_GONE_FOR: Duration = Duration::from_secs(2);

impl Group {
    /// A link to this node is gone; there may be another.
    pub(crate) fn on_link_down(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        // One that we were about to win back over another link counts as well.
        let asked = self.views.forget(&node);
        let neighbour = self.views.is_active(&node);
        let wanted = asked || neighbour;
        self.neighbour_down(ctx, &node);
        self.repair.forget(&node);
        self.flow.forget(&node);
        self.askers.remove(&node);
        if self.is_over() {
            return;
        }
        if ctx.links.shares(&node, &self.id) {
            if neighbour {
                self.half_gone = Some((node, ctx.now));
            }
            if wanted { self.approach(ctx, node) } else { self.on_shared(ctx, node) }
        } else if wanted {
            let lately = |(it, at): &mut (_, Time)| *it == node && ctx.now.since(*at) < HALF_GONE_FOR;
            if self.half_gone.take_if(lately).is_some() {
                self.with_tree(ctx, |tree, sight, acts| tree.on_gone(sight, &node, acts));
            }
            self.look_for(ctx, node);
        }
        self.judge(ctx, &node);
    }

    /// Looks for a member that fell silent: dials it, and asks others to reach it.
    pub(super) fn look_for(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        let online = self.roster.get(&node).is_some_and(|it| it.state() == MemberState::Online);
        if !online {
            return;
        }
        let Some(nonce) = self.detector.check(ctx.now, node, ctx.config) else { return };
        if !ctx.links.connected(&node) {
            ctx.dialer.lost(ctx.now, node, ctx.config);
        }
        ctx.dial(node, self.roster.addresses(&node));
        let mut others = self.views.active();
        others.retain(|it| *it != node);
        ctx.rng.shuffle(&mut others);
        others.truncate(ctx.config.indirect_probes);
        ctx.send_all(&others, &Frame::Probe(Probe { target: node, nonce, alive: false }));
    }

    /// Evidence that a node runs and can be reached from here.
    pub(super) fn on_reached(&mut self, ctx: &mut Ctx<'_>, node: &NodeId) {
        self.detector.on_alive(node);
        self.answer_errands(ctx, node, true);
        if let Some(event) = self.roster.revive(node) {
            ctx.event(event);
        }
    }

    pub(crate) fn on_dial_failed(&mut self, ctx: &mut Ctx<'_>, node: &NodeId) {
        self.answer_errands(ctx, node, false);
    }

    fn answer_errands(&mut self, ctx: &mut Ctx<'_>, target: &NodeId, alive: bool) {
        for (asker, nonce) in self.detector.finish_errands(target) {
            ctx.send(&asker, &Frame::ProbeReply(Probe { target: *target, nonce, alive }));
        }
    }

    pub(super) fn handle_probe(&mut self, ctx: &mut Ctx<'_>, from: NodeId, probe: &Probe) {
        let Probe { target, nonce, .. } = *probe;
        if !self.allows(&target) || !self.detector.take_errand(ctx.now, from, target, nonce, ctx.config) {
            return;
        }
        // Who is in touch may have left the group, and its word of that may be lost.
        let heard = ctx.links.last_heard(&target).filter(|_| ctx.links.shares(&target, &self.id));
        // One that was silent for as long as its links bear was not heard of here for half of that.
        if heard.is_some_and(|at| ctx.now.since(at) < ctx.config.ping_timeout / 2) {
            self.answer_errands(ctx, &target, true);
        } else if !ctx.links.connected(&target) {
            ctx.dial(target, self.roster.addresses(&target));
        }
    }

    pub(super) fn handle_probe_reply(&mut self, probe: &Probe) {
        self.detector.on_reply(&probe.target, probe.nonce, probe.alive);
    }

    /// Accuses whom nobody reached in time.
    pub(super) fn poll_detector(&mut self, ctx: &mut Ctx<'_>) {
        for node in self.detector.overdue(ctx.now) {
            let Some(member) = self.roster.get(&node).filter(|it| it.state() == MemberState::Online) else {
                continue;
            };
            if ctx.links.shares(&node, &self.id) {
                continue;
            }
            let suspicion = Suspicion::sign(&self.id, ctx.identity, node, member.record.incarnation);
            self.take_suspicion(ctx, None, suspicion);
        }
    }

    pub(super) fn handle_records(&mut self, ctx: &mut Ctx<'_>, from: NodeId, records: &Records) {
        self.merge_records(ctx, Some(&from), &records.members);
        for bytes in records.suspicions.iter().take(ctx.config.roster) {
            if let Ok(suspicion) = Suspicion::open(&self.id, bytes, ctx.identity.signatures()) {
                self.hear_suspicion(ctx, &from, suspicion);
            }
        }
    }

    fn hear_suspicion(&mut self, ctx: &mut Ctx<'_>, from: &NodeId, suspicion: Suspicion) {
        let suspect = suspicion.suspect;
        self.herald.is_suspicion_held(&suspicion, from);
        let accuser = self.roster.get(&suspicion.accuser).map(|it| it.state());
        if !self.allows(&suspicion.accuser)
            || suspicion.accuser == suspect
            || accuser.is_none()
            || suspicion.accuser == ctx.me()
        {
            return;
        }
        let suspected = self.roster.get(&suspect);
        // Enough have said so, and what they said was passed on: all others that miss it say the same.
        if suspected.is_some_and(|it| it.state() == MemberState::Failed) {
            return;
        }
        // An incarnation is its node's own word, and its record was on the way before the suspicion: one
        // that is not known here is made up, lest there be none left to refute with.
        let own = self.roster.own().incarnation;
        let current = suspected.map(|it| it.record.incarnation);
        let current = if suspect == ctx.me() { Some(own) } else { current };
        if current != Some(suspicion.incarnation)
            || !self.detector.hears(ctx.now, suspicion.accuser, ctx.config)
        {
            return;
        }
        if suspect == ctx.me() {
            if !self.is_over() {
                self.restate_at_least(ctx, own.saturating_add(1), Standing::Online);
            }
            return;
        }
        self.take_suspicion(ctx, Some(from), suspicion);
        // Who has a link, be it one that is seldom used, finds out by it.
        ctx.links.question(ctx.now, &[suspect]);
        if !ctx.links.connected(&suspect) && self.roster.is_witness(&suspect, ctx.config.indirect_probes) {
            self.look_for(ctx, suspect);
        }
    }

    fn take_suspicion(&mut self, ctx: &mut Ctx<'_>, from: Option<&NodeId>, suspicion: Suspicion) {
        if !self.detector.on_suspicion(ctx.now, &suspicion, ctx.config) {
            return;
        }
        let suspect = suspicion.suspect;
        self.herald_suspicion(ctx, suspicion, from);
        self.judge(ctx, &suspect);
    }

    /// Whether enough members say that this one does not answer; whoever has a link to it knows better.
    fn judge(&mut self, ctx: &mut Ctx<'_>, suspect: &NodeId) {
        let Some(member) = self.roster.get(suspect) else { return };
        if !self.detector.is_accused(suspect) || ctx.links.shares(suspect, &self.id) {
            return;
        }
        let mut witnesses = self.roster.online();
        witnesses.remove(suspect);
        witnesses.insert(ctx.me());
        let verdict = self.detector.verdict(&ctx.me(), suspect, member.record.incarnation, &witnesses);
        let Some(proofs) = verdict else { return };
        self.views.forget(suspect);
        self.detector.on_settled(suspect);
        if let Some(event) = self.roster.fail(ctx.now, suspect, proofs) {
            ctx.event(event);
        }
    }
}
