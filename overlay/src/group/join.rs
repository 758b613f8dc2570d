//! Coming in, and finding neighbours.

use std::time::Duration;

use serde_bytes::ByteBuf;

use super::ctx::Ctx;
use super::membership::roster::Merged;
use super::membership::views::Request;
use super::{Group, Phase};
use crate::config::Config;
use crate::id::{Address, Life, NodeId, Seq};
use crate::io::MemberState;
use crate::time::Time;
use crate::wire::compare::{Baseline, MAX_BASELINE};
use crate::wire::frame::{
    Empty, ForwardJoin, Frame, Join, Neighbour, NeighbourReply, Records, RosterDigest, Welcome,
};
use crate::wire::frontier::Purpose;
use crate::wire::record::{MemberRecord, Standing};

/// Who asked us in while nobody had let us in ourselves, at most: others are let in at once.
pub(super) const MAX_ASKERS: usize = 32;

/// Who has been in a group for so long knows its members, if they are few. Guess.
const SETTLED: Duration = Duration::from_secs(30);

impl Group {
    /// A linked node turns out to be in this group too.
    pub(crate) fn on_shared(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        if self.is_over() || !self.descriptor.admits(&node) {
            return;
        }
        if !self.allows(&node) {
            return self.turn_away(ctx, &node);
        }
        if self.seems_cut_off(ctx, &node) {
            self.bridge = Some(node);
        }
        self.on_reached(ctx, &node);
        self.on_reconnected(&node);
        self.repair.on_linked(ctx.now);
        let sought = self.bridge == Some(node)
            || self.near.is_tried(&node)
            || self.tree.wants(&node)
            || self.is_deserted(ctx);
        let wanted = sought || self.wants_more(ctx.config);
        if !self.views.is_active(&node) && wanted {
            self.approach(ctx, node);
        }
    }

    /// A member that is in touch, but has failed by all we know, or is unknown although we have
    /// been here for long, may be of another half of the group: worth an edge although the view is full.
    fn seems_cut_off(&self, ctx: &Ctx<'_>, node: &NodeId) -> bool {
        match self.roster.get(node) {
            Some(member) => member.state() == MemberState::Failed,
            None => ctx.now.since(self.entered) >= SETTLED && !self.roster.is_full(),
        }
    }

    /// Asks a linked node to let us in, or to be a neighbour.
    pub(super) fn approach(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        let record = self.roster.own().bytes.clone();
        let fresh = matches!(self.phase, Phase::Fresh);
        let alone = self.views.active_len() == 0;
        let request = if fresh || alone { Request::Join } else { Request::Neighbour };
        if !self.views.request(ctx.now, node, request) {
            return;
        }
        let frame = match request {
            Request::Join => {
                let age_ms = ctx.now.since(self.entered).as_millis() as u64;
                Frame::Join(Join { record, fresh, age_ms })
            }
            Request::Neighbour => {
                let bridges = self.bridge.take_if(|it| *it == node).is_some();
                let high = alone || bridges || self.tree.wants(&node) || self.is_deserted(ctx);
                let near = !high && self.near.is_tried(&node);
                Frame::Neighbour(Neighbour { record, high, near })
            }
        };
        ctx.send(&node, &frame);
    }

    /// Somebody that would be a good neighbour: ask it if there is a link, else dial.
    pub(super) fn meet(&mut self, ctx: &mut Ctx<'_>, node: NodeId, at: &[Address]) {
        if node == ctx.me() || self.views.is_active(&node) || !self.allows(&node) {
            return;
        }
        if ctx.links.shares(&node, &self.id) {
            self.approach(ctx, node);
        } else {
            let mut addresses = self.addresses_of(&node);
            addresses.extend_from_slice(at);
            ctx.dial(node, &addresses);
        }
    }

    /// Where a member may be reached, by all that is known here.
    pub(super) fn addresses_of(&self, node: &NodeId) -> Vec<Address> {
        self.all_addresses_of(node).cloned().collect()
    }

    pub(super) fn all_addresses_of(&self, node: &NodeId) -> impl Iterator<Item = &Address> {
        let passive = self.views.passive_record(node).into_iter().flat_map(|it| &it.addresses);
        self.roster.addresses(node).iter().chain(passive).chain(self.near.addresses(node))
    }

    /// Opens links to some members, for their round trips.
    pub(crate) fn meet_strangers(&self, ctx: &mut Ctx<'_>, count: usize) {
        if count == 0 || self.is_over() {
            return;
        }
        let mut strangers = self.candidates();
        strangers.retain(|it| !ctx.links.connected(it));
        ctx.rng.shuffle(&mut strangers);
        for node in strangers.into_iter().take(count) {
            ctx.dial(node, &self.addresses_of(&node));
        }
    }

    /// Somebody asks to be let in. Who is new itself first hears where to start: else it could not say, and
    /// two that met each other before anybody else would take all that was ever said for owed to them.
    pub(super) fn handle_join(&mut self, ctx: &mut Ctx<'_>, from: NodeId, join: &Join) {
        if join.fresh && matches!(self.phase, Phase::Fresh) && self.askers.len() < MAX_ASKERS {
            self.askers.insert(from, (join.clone(), ctx.now));
            self.maybe_ask_in(ctx, from);
            self.poll_askers(ctx);
        } else {
            self.let_in(ctx, from, join);
        }
    }

    /// Lets those in that asked before we were in, once we are, or nobody else is left who may tell.
    pub(super) fn poll_askers(&mut self, ctx: &mut Ctx<'_>) {
        let waits = matches!(self.phase, Phase::Fresh)
            && self.askers_until(ctx.config).is_some_and(|until| until > ctx.now)
            && (ctx.dialer.dialing() > 0
                || self.views.awaits_welcome(ctx.now, |it| !self.askers.contains_key(it)));
        if !waits {
            for (node, (join, _)) in std::mem::take(&mut self.askers) {
                self.let_in(ctx, node, &join);
            }
        }
    }

    pub(super) fn askers_until(&self, config: &Config) -> Option<Time> {
        self.askers.values().map(|(_, at)| *at + config.fresh_wait).min()
    }

    fn let_in(&mut self, ctx: &mut Ctx<'_>, from: NodeId, join: &Join) {
        if !self.takes(ctx, &from, &join.record) {
            ctx.send(&from, &Frame::Disconnect(Empty::default()));
            return;
        }
        let cutoff = ctx.now - Duration::from_millis(join.age_ms);
        if !self.removals.is_empty() {
            // Before it hears of what they published.
            self.tell_removals(ctx, &from, false);
        }
        // In a total order all begin at one cut.
        let start = self.start().filter(|_| join.fresh);
        let (order, mut baseline) = match start {
            Some((start, baseline)) => (Some(start), baseline),
            None if join.fresh => (None, self.unfounded().unwrap_or_else(|| self.baseline(ctx, cutoff))),
            None => (None, Vec::new()),
        };
        let unknown_ms = self.unknown_ms(ctx, &from, join, &baseline).filter(|_| order.is_none());
        while baseline.len() > MAX_BASELINE {
            let first = baseline.split_off(baseline.len() - MAX_BASELINE);
            ctx.send(&from, &Frame::Baseline(Baseline { first }));
        }
        let welcome = Welcome {
            records: self.some_records(&from),
            baseline,
            last_life: self.last_life(&from),
            grounded: self.is_grounded(),
            order,
            unknown_ms,
        };
        ctx.send(&from, &Frame::Welcome(welcome));
        if self.roster.is_full() {
            let walk = ForwardJoin { record: join.record.clone(), ttl: ctx.config.walk_length };
            let others: Vec<_> = self.views.active().into_iter().filter(|it| *it != from).collect();
            ctx.send_all(&others, &Frame::ForwardJoin(walk));
        }
        self.neighbour_up(ctx, from, false);
        // A welcome tells us where to start. One that we asked for before may have gone to an
        // earlier connection of ours that is dead.
        self.maybe_ask_in(ctx, from);
    }

    fn maybe_ask_in(&mut self, ctx: &mut Ctx<'_>, neighbour: NodeId) {
        if matches!(self.phase, Phase::Fresh) {
            self.approach(ctx, neighbour);
        }
    }

    /// Whether the node may come in, by the descriptor and its own signed record.
    fn takes(&mut self, ctx: &mut Ctx<'_>, from: &NodeId, record: &[u8]) -> bool {
        if self.is_over() || !self.allows(from) {
            return false;
        }
        let Ok(parsed) = MemberRecord::parse(record) else { return false };
        if parsed.node != *from || parsed.standing != Standing::Online {
            return false;
        }
        let incarnation = parsed.incarnation;
        self.merge_records(ctx, Some(from), &[ByteBuf::from(record)]);
        if self.roster.get(from).is_none() && parsed.check(&self.id, ctx.identity.signatures()).is_ok() {
            self.views.meet(parsed);
        }
        let Some(known) = self.roster.get(from).filter(|it| it.state() != MemberState::Online) else {
            return true;
        };
        if known.record.incarnation >= incarnation {
            // Its clock was set back since it went: it is to say that it is here after that.
            let members = vec![known.record.bytes.clone()];
            ctx.send(from, &Frame::Records(Records { members, suspicions: Vec::new() }));
        }
        false
    }

    fn last_life(&self, joiner: &NodeId) -> Option<(Life, Seq)> {
        let (life, state) = self.sources.get(joiner)?.lives.last_key_value()?;
        Some((*life, state.held.end()))
    }

    /// Everybody in a small group; of a large one, neighbours and some others.
    fn some_records(&self, joiner: &NodeId) -> Vec<ByteBuf> {
        let others =
            self.roster.iter().filter(|(node, it)| *node != joiner && it.state() != MemberState::Removed);
        let roster = others.map(|(_, it)| &it.record);
        let passive = self.views.passive_records();
        roster.chain(passive).map(|record| record.bytes.clone()).collect()
    }

    pub(super) fn handle_welcome(&mut self, ctx: &mut Ctx<'_>, from: NodeId, welcome: &Welcome) {
        // Two that ask each other at once are neighbours by each other's asking already.
        let asked = self.views.answered(&from, Request::Join);
        if !asked && !self.views.is_active(&from) {
            ctx.send(&from, &Frame::Disconnect(Empty::default()));
            return;
        }
        if self.is_over() {
            return;
        }
        if let Some((life, end)) = welcome.last_life {
            self.on_own_past(ctx, life, end);
        }
        self.on_greeted();
        if matches!(self.phase, Phase::Fresh) && self.waits_for_older(ctx, welcome) {
            self.pieces.take(&from);
            // As a neighbour it would tell us of all that was ever said.
            ctx.send(&from, &Frame::Disconnect(Empty::default()));
            self.neighbour_down(ctx, &from);
            self.merge_records(ctx, Some(&from), &welcome.records);
            self.fill(ctx, Some(&from));
            return;
        }
        if matches!(self.phase, Phase::Fresh) {
            let order = welcome.order.as_ref().map(|start| (start.index, self.check_start(ctx, start)));
            if matches!(order, Some((_, None))) && self.total.is_some() {
                // Where it stands, it did not get by following the order.
                ctx.send(&from, &Frame::Disconnect(Empty::default()));
                return;
            }
            self.phase = Phase::Member;
            let pieces = self.pieces.take(&from);
            let baseline = [&welcome.baseline[..], &pieces].concat();
            self.start_from(ctx, &baseline);
            if let Some((index, Some(lineage))) = order {
                self.start_order(ctx, lineage, index, &baseline);
            }
            self.record_all(ctx);
            self.go_on_from(ctx, &baseline);
            self.want_earlier(ctx);
            if welcome.grounded {
                self.ground.found();
            }
        } else if welcome.grounded && welcome.unknown_ms.is_none() && self.ground.awaits(&from) {
            let pieces = self.pieces.take(&from);
            self.ground.found();
            self.start_late(ctx, &[&welcome.baseline[..], &pieces].concat());
        } else if let Some(start) = welcome.order.as_ref().filter(|_| self.asks_where_order_is(&from)) {
            let pieces = self.pieces.take(&from);
            self.catch_up_order(ctx, start, &[&welcome.baseline[..], &pieces].concat());
        }
        self.merge_records(ctx, Some(&from), &welcome.records);
        self.neighbour_up(ctx, from, false);
        self.poll_askers(ctx);
    }

    pub(super) fn handle_neighbour(&mut self, ctx: &mut Ctx<'_>, from: NodeId, ask: &Neighbour) {
        let fresh = matches!(self.phase, Phase::Fresh);
        let edges = self.tree.bonds_len();
        let near = ask.near && self.views.has_room_near(ctx.now, &self.tree.bonds(), ctx.config);
        let room = ask.high || near || self.views.has_room(edges, ctx.config) || self.views.is_active(&from);
        let accepted = self.takes(ctx, &from, &ask.record) && room && !fresh;
        // Who is refused has no use for who we are.
        let record = if accepted { self.roster.own().bytes.clone() } else { Default::default() };
        ctx.send(&from, &Frame::NeighbourReply(NeighbourReply { accepted, record }));
        if accepted {
            self.neighbour_up(ctx, from, ask.near);
        } else if fresh {
            // We do not know where to start yet: ask in instead.
            self.approach(ctx, from);
        }
    }

    pub(super) fn handle_neighbour_reply(&mut self, ctx: &mut Ctx<'_>, from: NodeId, reply: &NeighbourReply) {
        if !self.views.answered(&from, Request::Neighbour) {
            if reply.accepted && !self.views.is_active(&from) {
                ctx.send(&from, &Frame::Disconnect(Empty::default()));
            }
            return;
        }
        if reply.accepted && self.takes(ctx, &from, &reply.record) {
            let near = self.near.is_tried(&from);
            self.neighbour_up(ctx, from, near);
        } else {
            self.near.refused(ctx.now, &from);
        }
    }

    /// A joiner's walk: whoever it ends at becomes a neighbour, whoever it passes remembers.
    pub(super) fn handle_forward_join(&mut self, ctx: &mut Ctx<'_>, from: NodeId, walk: &ForwardJoin) {
        let Ok(record) = MemberRecord::parse(&walk.record) else { return };
        let joiner = record.node;
        if joiner == ctx.me()
            || record.check(&self.id, ctx.identity.signatures()).is_err()
            || !self.allows(&joiner)
        {
            return;
        }
        let onward: Vec<_> =
            self.views.active().into_iter().filter(|it| *it != from && *it != joiner).collect();
        let ttl = walk.ttl.min(ctx.config.walk_length);
        let addresses = record.addresses.clone();
        self.views.remember(ctx.rng, ctx.config, record);
        match ctx.rng.pick(&onward).copied().filter(|_| ttl > 0) {
            Some(next) => {
                let walk = ForwardJoin { record: walk.record.clone(), ttl: ttl - 1 };
                ctx.send(&next, &Frame::ForwardJoin(walk));
            }
            None if self.views.has_room(self.tree.bonds_len(), ctx.config) => {
                ctx.dial(joiner, &addresses);
            }
            None => {}
        }
    }

    /// A node is a neighbour now, on both sides; `near` if that is why.
    pub(super) fn neighbour_up(&mut self, ctx: &mut Ctx<'_>, node: NodeId, near: bool) {
        self.on_reached(ctx, &node);
        let new = self.views.add(ctx.now, node, near);
        self.near.forget(&node);
        self.told.forget(&node);
        self.lazy.on_change(ctx.now);
        self.early.on_neighbour(ctx.now, &node);
        if !new {
            // The other side began anew: what it was told before is void there.
            self.forget_neighbour(ctx, &node, true);
        }
        ctx.links.touch(ctx.now, &node);
        self.with_tree(ctx, |tree, sight, acts| tree.on_neighbour(sight, node, acts));
        self.tell_all(ctx, &node, Purpose::Tell);
        if ctx.me() < node {
            ctx.send(&node, &Frame::Summary(self.summary()));
        }
        self.compare_removals(ctx, &node);
        let mut edges = self.tree.bonds();
        // Of those that are to be, some have not told their place yet.
        edges.extend(self.views.active().into_iter().filter(|it| self.tree.wants(it)));
        if let Some(surplus) = self.views.surplus(ctx.rng, ctx.config, &node, &edges) {
            ctx.send(&surplus, &Frame::Disconnect(Empty::default()));
            self.neighbour_down(ctx, &surplus);
        }
        self.maybe_ready(ctx);
        self.maybe_make_batch(ctx);
    }

    /// A node is no neighbour any more.
    pub(super) fn neighbour_down(&mut self, ctx: &mut Ctx<'_>, node: &NodeId) {
        if self.views.remove(node) {
            // A full roster does not hold everybody.
            let member = self.roster.get(node);
            let stopped = member.is_some_and(|it| it.state() != MemberState::Online);
            let gone = stopped || !ctx.links.shares(node, &self.id);
            let record = self.record_of(node).filter(|_| !stopped).cloned();
            self.forget_neighbour(ctx, node, gone);
            if let Some(record) = record {
                self.views.remember(ctx.rng, ctx.config, record);
            }
        }
    }

    /// `gone` unless it runs and is only no neighbour any more.
    fn forget_neighbour(&mut self, ctx: &mut Ctx<'_>, node: &NodeId, gone: bool) {
        self.repair.forget(node);
        self.flow.forget(node);
        self.lazy.forget(node);
        self.beaten.forget(node);
        self.told.forget(node);
        self.lazy.on_change(ctx.now);
        self.proofs.forget(node);
        self.references.remove(node);
        self.defined.forget(node);
        self.walks.forget(node);
        self.with_tree(ctx, |tree, sight, acts| tree.on_neighbour_lost(sight, node, gone, acts));
    }

    pub(super) fn handle_disconnect(&mut self, ctx: &mut Ctx<'_>, from: NodeId) {
        self.views.answered(&from, Request::Join);
        self.views.answered(&from, Request::Neighbour);
        self.neighbour_down(ctx, &from);
    }

    /// Whether neighbours are wanted beside those in the tree.
    pub(super) fn wants_more(&self, config: &crate::config::Config) -> bool {
        self.views.missing(self.tree.bonds_len(), config) > 0
    }

    /// The record of a neighbour, or of another that is known to all.
    pub(super) fn record_of(&self, node: &NodeId) -> Option<&MemberRecord> {
        self.roster.get(node).map(|it| &it.record).or_else(|| self.views.met(node))
    }

    /// Keeps the active view filled, and the passive view mixed.
    pub(super) fn poll_views(&mut self, ctx: &mut Ctx<'_>) {
        if self.is_over() {
            return;
        }
        if self.views.fill_due(ctx.now) && self.wants_more(ctx.config) {
            let active = self.views.active();
            if let Some(node) = ctx.rng.pick(&active).copied() {
                self.maybe_ask_in(ctx, node);
            }
            self.fill(ctx, None);
        }
        if self.views.shuffle_due(ctx.now, ctx.rng, ctx.config) {
            self.shuffle(ctx);
        }
    }

    pub(super) fn fill(&mut self, ctx: &mut Ctx<'_>, besides: Option<&NodeId>) {
        let missing = self.views.missing(self.tree.bonds_len(), ctx.config);
        let mut room = missing.saturating_sub(self.views.requests_len(ctx.now));
        let mut candidates = self.candidates();
        ctx.rng.shuffle(&mut candidates);
        for node in candidates.into_iter().filter(|it| Some(it) != besides) {
            if room == 0 {
                return;
            }
            if ctx.links.shares(&node, &self.id) || !ctx.links.connected(&node) {
                self.meet(ctx, node, &[]);
                room -= 1;
            }
        }
        ctx.dialer.dial_found(ctx.now, ctx.config, ctx.links, ctx.out);
    }

    /// Whom to turn to; while quite alone, also those that seemed to be gone. In a large group the
    /// roster names the same few to everybody: there, rather those that the shuffles brought.
    pub(super) fn candidates(&self) -> Vec<NodeId> {
        let alone = self.views.active_len() == 0;
        let few = !self.roster.is_full() || self.views.passive_len() == 0;
        let wanted =
            |state: MemberState| (few && state == MemberState::Online) || (alone && state.is_member());
        let roster = (few || alone).then(|| self.roster.iter()).into_iter().flatten();
        let roster = roster.filter(|(_, it)| wanted(it.state())).map(|(node, _)| *node);
        let passive = self.views.passive_records().map(|it| it.node);
        let own = self.roster.own().node;
        let fit = |it: &NodeId| *it != own && !self.views.is_active(it);
        let mut all: Vec<_> = roster.chain(passive).filter(fit).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    pub(super) fn handle_roster_digest(&mut self, ctx: &mut Ctx<'_>, from: NodeId, digest: &RosterDigest) {
        let compared = self.roster.compare(digest);
        if !compared.records.is_empty() || !compared.suspicions.is_empty() {
            let records = Records { members: compared.records, suspicions: compared.suspicions };
            ctx.send(&from, &Frame::Records(records));
        }
        if digest.exchange {
            ctx.send(&from, &Frame::RosterDigest(self.roster.digest(false)));
        }
        for node in compared.contested {
            self.contest(ctx, &node);
        }
    }

    /// Somebody counts a member as failed that we do not: let it hear of that, or look for it.
    fn contest(&mut self, ctx: &mut Ctx<'_>, node: &NodeId) {
        if *node == ctx.me() {
            if !self.is_over() {
                self.restate_at_least(ctx, 0, Standing::Online);
            }
        } else if ctx.links.shares(node, &self.id) {
            if let Some(accusation) = self.roster.accusation(node) {
                ctx.send(node, &Frame::RosterDigest(accusation));
            }
        } else {
            self.look_for(ctx, *node);
        }
    }

    /// Takes records in and floods on what is new.
    pub(super) fn merge_records(&mut self, ctx: &mut Ctx<'_>, from: Option<&NodeId>, records: &[ByteBuf]) {
        for bytes in records.iter().take(ctx.config.roster * 2) {
            let Ok(subject) = MemberRecord::subject(bytes) else { continue };
            if !self.allows(&subject.0) {
                continue;
            }
            if self.roster.knows(&subject.0, subject.1) {
                from.into_iter().for_each(|from| self.herald.is_held(&subject.0, subject.1, from));
                continue;
            }
            let Ok(record) = MemberRecord::parse(bytes) else { continue };
            let mut events = Vec::new();
            match self.roster.merge(&record, &mut events) {
                Merged::New => {
                    self.on_record(ctx, &record);
                    self.herald(ctx, subject, bytes, from);
                }
                Merged::Full
                    if record.standing == Standing::Online
                        && record.check(&self.id, ctx.identity.signatures()).is_ok() =>
                {
                    self.views.remember(ctx.rng, ctx.config, record);
                }
                Merged::Ourselves => self.on_ourselves(ctx, &record),
                _ => {}
            }
            events.into_iter().for_each(|event| ctx.event(event));
        }
        self.poll_herald(ctx);
    }

    fn on_record(&mut self, ctx: &mut Ctx<'_>, record: &MemberRecord) {
        self.detector.on_alive(&record.node);
        if record.standing == Standing::Online {
            ctx.dialer.discovered(record.node, record.addresses.clone(), ctx.config);
        } else {
            self.views.forget(&record.node);
            self.near.forget(&record.node);
            ctx.dialer.no_longer_lost(&record.node);
            if record.standing == Standing::Left {
                self.receipts.forget(&record.node);
                self.neighbour_down(ctx, &record.node);
            }
        }
    }
}
