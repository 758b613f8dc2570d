//! The founder removes a member: the record is signed and on disk before anybody hears of it, goes to
//! all members, and whoever has it has nothing to do with that member any more ([decision 020]).
//!
//! [decision 020]: https://github.com/treecast/treecast/blob/main/docs/decisions/020-removal.md

use bytes::Bytes;
use serde_bytes::ByteBuf;

use super::ctx::Ctx;
use super::membership::removal::Merged;
use super::{Group, Phase};
use crate::descriptor::Order;
use crate::id::{BatchId, Digest, Life, NodeId, Seq, Token};
use crate::io::{Event, PublishError, RemoveError, Write};
use crate::wire::batch::Batch;
use crate::wire::frame::{Empty, Frame};
use crate::wire::removal::{Removal, Removals};

impl Group {
    /// Whether this node may be in the group, by its descriptor and its founder.
    pub(super) fn allows(&self, node: &NodeId) -> bool {
        self.descriptor.admits(node) && !self.removals.contains(node)
    }

    /// Whether we are going, or were removed: nothing is begun any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Going(_) | Phase::Removed)
    }

    pub(super) fn is_removed(&self) -> bool {
        matches!(self.phase, Phase::Removed)
    }

    /// Our application, as the founder, removes a member.
    pub(crate) fn remove(&mut self, ctx: &mut Ctx<'_>, victim: NodeId) {
        if let Some(error) = self.remove_error(ctx, &victim) {
            return ctx.event(Event::RemoveRefused { group: self.id, node: victim, error });
        }
        if self.removals.contains(&victim) {
            return self.tell_removed(ctx, victim);
        }
        if self.removals.is_under_way(&victim) {
            return;
        }
        let number = self.removals.next_number(ctx.unix_ms);
        let removal = Removal::sign(&self.id, ctx.identity, number, victim, self.last_valid(&victim));
        let token = ctx.persist(vec![self.to_write(&removal)]);
        self.removals.hold(token, removal);
    }

    fn remove_error(&self, ctx: &Ctx<'_>, victim: &NodeId) -> Option<RemoveError> {
        let most = ctx.config.max_removals;
        match self.descriptor.founder {
            _ if self.is_over() => Some(RemoveError::UnknownGroup),
            None => Some(RemoveError::NoFounder),
            Some(founder) if founder != ctx.me() => Some(RemoveError::NotFounder),
            Some(founder) if founder == *victim => Some(RemoveError::Founder),
            Some(_) if self.removals.len() >= most && !self.removals.contains(victim) => {
                Some(RemoveError::Full(most))
            }
            Some(_) => None,
        }
    }

    /// The last of a member's that counts: what was delivered here, which is the founder. With nothing to
    /// name, that is all of the lives before one that cannot begin any more.
    fn last_valid(&self, victim: &NodeId) -> (Life, Seq, Digest) {
        let Some(source) = self.sources.get(victim) else { return (0, 0, Digest::ZERO) };
        let begun = source.lives.iter().rev().find(|(_, it)| it.delivered > 0 || it.is_real());
        let Some((&life, state)) = begun else { return (source.floor, 0, Digest::ZERO) };
        let unordered = self.descriptor.order == Order::Unordered;
        let end = if unordered { state.held.end() } else { state.delivered };
        let last = end.checked_sub(1).map(|seq| BatchId { source: *victim, life, seq });
        let stored = last.and_then(|last| Some(self.store.get(&last)?.digest));
        let head = state.head.filter(|_| end == state.held.next());
        (life, end, stored.or(head).unwrap_or(Digest::ZERO))
    }

    fn to_write(&self, removal: &Removal) -> Write {
        let record = Bytes::copy_from_slice(&removal.bytes);
        Write::Removal { group: self.id, node: removal.victim, record }
    }

    /// Our own record is on disk, or is not; whether this was one.
    pub(super) fn on_removal_kept(&mut self, ctx: &mut Ctx<'_>, token: Token, is_kept: bool) -> bool {
        let Some(removal) = self.removals.release(token) else { return false };
        let (group, node) = (self.id, removal.victim);
        if is_kept {
            let told = self.roster.get(&node).is_some();
            self.take_removal(ctx, removal, None);
            if !told {
                self.tell_removed(ctx, node);
            }
        } else {
            ctx.event(Event::RemoveRefused { group, node, error: RemoveError::NotDurable });
        }
        true
    }

    fn tell_removed(&self, ctx: &mut Ctx<'_>, node: NodeId) {
        let nick = self.roster.get(&node).map(|it| it.record.nick.clone()).unwrap_or_default();
        ctx.event(Event::MemberRemoved { group: self.id, node, nick });
    }

    /// What our store has of it.
    pub(super) fn resume_removals(&mut self, ctx: &mut Ctx<'_>, records: &[Bytes]) {
        for removal in records.iter().filter_map(|it| Removal::parse(it).ok()) {
            if self.judge_removal(ctx, &removal) == Merged::New {
                self.removals.insert(removal.clone());
                self.expel(ctx, &removal);
            }
        }
    }

    pub(super) fn handle_removals(&mut self, ctx: &mut Ctx<'_>, from: NodeId, told: &Removals) {
        for bytes in told.records.iter().take(ctx.config.max_removals) {
            let Ok(removal) = Removal::parse(bytes) else { continue };
            match self.judge_removal(ctx, &removal) {
                Merged::New => {
                    // Nothing waits for this: who loses it is told again.
                    ctx.persist(vec![self.to_write(&removal)]);
                    self.take_removal(ctx, removal, Some(&from));
                }
                Merged::Full => self.overload(ctx, "max_removals"),
                Merged::Stale => {}
            }
        }
        if told.exchange && told.known != self.removals.summary() && !self.is_over() {
            // With nothing told, theirs is asked for as well.
            let exchange = told.records.is_empty();
            self.tell_removals(ctx, &from, exchange);
        }
    }

    fn judge_removal(&self, ctx: &Ctx<'_>, removal: &Removal) -> Merged {
        let Some(founder) = self.descriptor.founder.filter(|it| *it != removal.victim) else {
            return Merged::Stale;
        };
        let merged = self.removals.judge(removal, ctx.config.max_removals);
        let is_forged = || removal.check(&self.id, &founder, ctx.identity.signatures()).is_err();
        let is_bad = merged == Merged::New && (!self.descriptor.admits(&removal.victim) || is_forged());
        if is_bad { Merged::Stale } else { merged }
    }

    /// All that we know of.
    pub(super) fn tell_removals(&self, ctx: &mut Ctx<'_>, node: &NodeId, exchange: bool) {
        let (known, records) = (self.removals.summary(), self.removals.records());
        ctx.send(node, &Frame::Removals(Removals { known, exchange, records }));
    }

    /// Asks whether a neighbour knows the same. Who knows of none does not ask, and is asked.
    pub(super) fn compare_removals(&self, ctx: &mut Ctx<'_>, node: &NodeId) {
        if !self.removals.is_empty() {
            let (known, records) = (self.removals.summary(), Vec::new());
            ctx.send(node, &Frame::Removals(Removals { known, exchange: true, records }));
        }
    }

    fn take_removal(&mut self, ctx: &mut Ctx<'_>, removal: Removal, from: Option<&NodeId>) {
        self.removals.insert(removal.clone());
        let mut to = self.views.active();
        to.retain(|it| Some(it) != from && *it != removal.victim);
        let (known, records) = (self.removals.summary(), vec![removal.bytes.clone()]);
        ctx.send_all(&to, &Frame::Removals(Removals { known, exchange: false, records }));
        self.expel(ctx, &removal);
    }

    /// A member is none any more.
    fn expel(&mut self, ctx: &mut Ctx<'_>, removal: &Removal) {
        let victim = removal.victim;
        if victim == ctx.me() {
            return self.retire(ctx);
        }
        if let Some(event) = self.roster.expel(&victim) {
            ctx.event(event);
        }
        if ctx.links.shares(&victim, &self.id) {
            self.turn_away(ctx, &victim);
        }
        self.neighbour_down(ctx, &victim);
        self.views.forget(&victim);
        self.near.forget(&victim);
        self.detector.on_alive(&victim);
        self.receipts.forget(&victim);
        self.history.forget(&victim);
        self.early.forget(&victim);
        ctx.dialer.no_longer_lost(&victim);
        if self.bridge == Some(victim) {
            self.bridge = None;
        }
        self.cut(ctx, removal);
        self.tell_receipts(ctx);
    }

    /// What the member published after its end is of no account: it is not looked for, not passed on, and
    /// nothing waits for it. What of it was delivered here stays delivered.
    fn cut(&mut self, ctx: &mut Ctx<'_>, removal: &Removal) {
        let Removal { victim, life, end, digest, .. } = *removal;
        for (life, from) in self.sources.cut((victim, life), end, digest) {
            self.store.abandon(BatchId { source: victim, life, seq: from }, Seq::MAX);
            self.repair.forget_life((victim, life));
            if self.sources.life((victim, life)).is_none() {
                self.news.remove(&(victim, life));
                self.undefined.remove(&(victim, life));
            }
        }
        let lives = self.sources.get(&victim).map(|it| it.lives.keys().copied().collect::<Vec<_>>());
        for life in lives.unwrap_or_default() {
            self.want_missing(ctx, (victim, life), false);
        }
        self.deliver(ctx, victim);
    }

    /// Whether the founder saw another batch in this place: the last that counts.
    pub(super) fn is_other_than_named(&self, batch: &Batch) -> bool {
        let id = batch.header.id;
        let named = self.removals.get(&id.source).filter(|it| it.life == id.life && it.end == id.seq + 1);
        named.is_some_and(|it| it.digest != Digest::ZERO && it.digest != batch.digest)
    }

    /// Somebody who was removed is here, and may not have heard: it is told, and the group's part of the
    /// links to it ends.
    pub(super) fn turn_away(&self, ctx: &mut Ctx<'_>, node: &NodeId) {
        let records: Vec<ByteBuf> = self.removals.get(node).map(|it| it.bytes.clone()).into_iter().collect();
        ctx.send(node, &Frame::Removals(Removals { known: 0, exchange: false, records }));
        ctx.send(node, &Frame::Disconnect(Empty::default()));
        ctx.part(node);
    }

    /// It is us.
    fn retire(&mut self, ctx: &mut Ctx<'_>) {
        if self.is_over() {
            return;
        }
        for id in self.publisher.drain() {
            ctx.event(Event::Rejected { group: self.id, id, error: PublishError::Removed });
        }
        for node in self.views.active() {
            ctx.send(&node, &Frame::Disconnect(Empty::default()));
            self.neighbour_down(ctx, &node);
        }
        let me = ctx.me();
        let others: Vec<NodeId> = self.roster.iter().map(|(node, _)| *node).filter(|it| *it != me).collect();
        others.iter().for_each(|node| ctx.part(node));
        self.phase = Phase::Removed;
        self.roster.expel(&me);
        self.tell_removed(ctx, me);
    }

    /// Those that were removed and that no record is known of.
    pub(super) fn unknown_victims(&self) -> impl Iterator<Item = NodeId> {
        self.removals.victims().copied().filter(|it| self.roster.get(it).is_none())
    }
}
