//! The door: owns links and groups, and routes each input to its room.

mod counts;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use serde_bytes::ByteBuf;

use crate::config::{Config, ConfigError};
use crate::descriptor::{Descriptor, Order};
use crate::dialer::Dialer;
use crate::group::ctx::Ctx;
use crate::group::{Entry, Group};
use crate::id::{Address, Digest, GroupId, Life, LinkId, NodeId, PublishId, Seq, Token};
use crate::identity::Identity;
use crate::io::{
    CloseReason, CollectionView, Event, GroupView, Input, Lane, Output, Past, PublishError, TrafficView,
    TreeView,
};
use crate::joined::Joined;
use crate::links::{Links, tag};
use crate::locator::Locator;
use crate::out::Out;
use crate::rng::Rng;
use crate::time::{Time, soonest};
use crate::wire::VERSION;
use crate::wire::batch::LifeEnd;
use crate::wire::frame::{self, Channel, Channels, Frame, Hello, Pong};

/// Between looks at links and found nodes.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// A nick has at most so many bytes; longer ones are cut at a character.
const MAX_NICK: usize = 64;

/// How an engine starts.
#[derive(Clone)]
pub struct Start {
    /// Caps and durations.
    pub config: Config,
    /// The node's Ed25519 secret key (32 bytes); its public half is the [`NodeId`].
    pub secret_key: [u8; 32],
    /// Where all its choices come from: the same seed and inputs give the same run.
    pub seed: u64,
    /// Unix milliseconds at [`Time::ZERO`]; for lives, incarnations and the times that
    /// messages show.
    pub unix_ms: u64,
    /// The highest life this node has used in any group, from its store; 0 if none.
    pub last_life: u64,
    /// Where its last life ended in each group, from its store: what tells everybody, when
    /// it comes back, what was still owed.
    pub ends: Vec<PastLife>,
}

/// Where a life of this node ended, as its own store knows: by the last
/// [`Write::Batch`](crate::io::Write) that was durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastLife {
    /// In which group.
    pub group: GroupId,
    /// The life.
    pub life: Life,
    /// The first seq that was not used.
    pub end: Seq,
    /// The digest of the batch at `end - 1`.
    pub digest: Digest,
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the key.
        f.debug_struct("Start")
            .field("seed", &self.seed)
            .field("unix_ms", &self.unix_ms)
            .finish_non_exhaustive()
    }
}

/// The protocol of one node, as a machine without I/O.
///
/// A driver owns it and does four things: tells it what happened ([`Engine::handle`] with an
/// [`Input`]), carries out what it wrote to the [`Out`], in order; calls it again with
/// [`Input::Tick`] at [`Engine::deadline`] if nothing happens before; and looks at it
/// ([`Engine::group`], [`Engine::collections`]) as it likes. Time never runs backwards.
pub struct Engine {
    config: Config,
    identity: Identity,
    rng: Rng,
    unix_ms: u64,
    last_life: u64,
    ends: BTreeMap<GroupId, LifeEnd>,
    /// Groups as they were left, until they are joined.
    pasts: BTreeMap<GroupId, Box<Past>>,
    nick: String,
    addresses: Vec<Address>,
    links: Links,
    locator: Locator,
    /// Nodes whose links stay although no group needs them.
    kept: BTreeSet<NodeId>,
    dialer: Dialer,
    groups: BTreeMap<GroupId, Box<Joined>>,
    next_channel: Channel,
    next_token: u64,
    tokens: BTreeMap<Token, GroupId>,
    next_housekeeping: Time,
    shutting_down: bool,
}

impl Engine {
    /// A node that is in no group and has no link.
    ///
    /// # Errors
    /// When the configuration is out of range.
    pub fn new(start: Start) -> Result<Self, ConfigError> {
        let identity = Identity::new(&start.secret_key);
        Self::with_identity(start, identity)
    }

    /// A node that neither makes nor checks signatures: for simulations only, where all
    /// nodes are ours.
    #[cfg(feature = "sim")]
    pub(crate) fn trusting(start: Start) -> Result<Self, ConfigError> {
        let identity = Identity::trusting(&start.secret_key);
        Self::with_identity(start, identity)
    }

    fn with_identity(start: Start, identity: Identity) -> Result<Self, ConfigError> {
        start.config.check()?;
        let locator = Locator::new(&identity.node());
        let mut links = Links::default();
        links.set_here(locator.place());
        Ok(Self {
            config: start.config,
            identity,
            rng: Rng::new(start.seed),
            unix_ms: start.unix_ms,
            last_life: start.last_life,
            ends: start
                .ends
                .iter()
                .map(|it| (it.group, LifeEnd { life: it.life, end: it.end, digest: it.digest }))
                .collect(),
            pasts: BTreeMap::new(),
            nick: String::new(),
            addresses: Vec::new(),
            links,
            locator,
            kept: BTreeSet::new(),
            dialer: Dialer::new(Rng::new(!start.seed)),
            groups: BTreeMap::new(),
            next_channel: 1,
            next_token: 1,
            tokens: BTreeMap::new(),
            next_housekeeping: Time::ZERO,
            shutting_down: false,
        })
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.identity.node()
    }

    /// Takes one input and writes what follows to `out`.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Out) {
        match input {
            Input::Frame { link, lane: _, frame } => self.handle_frame(now, link, &frame, out),
            Input::Drained { link, lane, bytes } => self.handle_drained(now, link, lane, bytes, out),
            Input::Publish { group, id, payload } => self.handle_publish(now, group, id, payload, out),
            Input::Persisted(token) => self.handle_persisted(now, token, true, out),
            Input::PersistFailed(token) => self.handle_persisted(now, token, false, out),
            Input::LinkUp { link, node } => self.handle_link_up(now, link, node, out),
            Input::LinkDown { link } => self.handle_link_down(now, link, out),
            Input::Discovered { node, addresses } => self.handle_discovered(now, node, addresses, out),
            Input::Keep { node, keep: true } if self.kept.len() < self.config.max_links => {
                self.kept.insert(node);
            }
            Input::Keep { keep: true, .. } => {}
            Input::Keep { node, keep: false } => {
                self.kept.remove(&node);
            }
            Input::DialFailed { node } => {
                self.dialer.dial_failed(now, &node, &self.config);
                self.each_group(now, out, |group, ctx| group.on_dial_failed(ctx, &node));
            }
            Input::OwnAddresses(addresses) => {
                self.addresses = addresses;
                self.restate(now, out);
            }
            Input::Nick(nick) => {
                self.nick = cut(nick, MAX_NICK);
                self.restate(now, out);
            }
            Input::Resume(past) => self.resume(past),
            Input::Fetched { token, batches, first } => {
                if let Some(group) = self.tokens.remove(&token) {
                    self.with_group(now, group, out, |group, ctx| {
                        group.on_fetched(ctx, token, batches, first)
                    });
                }
            }
            Input::FetchedEarlier { token, batches, last, end } => {
                if let Some(group) = self.tokens.remove(&token) {
                    self.with_group(now, group, out, |group, ctx| {
                        group.on_fetched_earlier(ctx, token, batches, last, end)
                    });
                }
            }
            Input::Join(descriptor) => self.handle_join(now, *descriptor, out),
            Input::Leave(group) => {
                self.with_group(now, group, out, |group, ctx| group.begin_farewell(ctx, true));
                self.reap(now, out);
            }
            Input::Remove { group, node } => self.handle_remove(now, group, node, out),
            Input::GoOffline(group) => {
                self.with_group(now, group, out, |group, ctx| group.begin_farewell(ctx, false));
                self.reap(now, out);
            }
            Input::RequestReceipt { group, batch } => {
                self.with_group(now, group, out, |group, ctx| group.request_receipt(ctx, &batch));
            }
            Input::Ping { node } => self.handle_ping(now, &node, out),
            Input::Shutdown => self.handle_shutdown(now, out),
            Input::Tick => {}
        }
        self.poll(now, out);
    }

    /// When to call [`Engine::handle`] with [`Input::Tick`] if nothing else happens.
    pub fn deadline(&self) -> Option<Time> {
        let groups = self.groups.values().map(|it| it.deadline(&self.config));
        let housekeeping =
            (self.links.len() > 0 || !self.groups.is_empty()).then_some(self.next_housekeeping);
        soonest(groups.chain([housekeeping, self.locator.deadline()]))
    }

    /// How many more payload bytes the group takes before [`Input::Publish`] is refused.
    pub fn publish_room(&self, group: GroupId) -> usize {
        self.groups.get(&group).map_or(0, |it| it.group.publish_room(&self.config))
    }

    /// The groups this node is in.
    pub fn groups(&self) -> Vec<GroupId> {
        self.groups.keys().copied().collect()
    }

    /// One group, as this node sees it.
    pub fn group(&self, now: Time, group: GroupId) -> Option<GroupView> {
        let joined = self.groups.get(&group)?;
        Some(joined.group.view(now, &self.links, &self.config, joined.traffic))
    }

    /// This node's places in the group's trees.
    pub fn trees(&self, now: Time, group: GroupId) -> Vec<TreeView> {
        self.groups.get(&group).map(|it| it.group.trees(now, &self.links, &self.config)).unwrap_or_default()
    }

    /// Round trip to a linked node, measured by pings.
    pub fn rtt(&self, node: NodeId) -> Option<Duration> {
        self.links.rtt(&node)
    }

    /// How many neighbours this node has in a group it is in.
    pub fn neighbours(&self, group: GroupId) -> Option<usize> {
        self.groups.get(&group).map(|it| it.group.neighbours())
    }

    /// Whether a node is known to be in a group with us, in touch or not.
    pub fn is_member(&self, group: GroupId, node: NodeId) -> bool {
        self.groups.get(&group).is_some_and(|it| it.group.is_member(&node))
    }

    /// How full every bounded collection is.
    pub fn collections(&self) -> Vec<CollectionView> {
        let own =
            |name: &str, len: usize, cap: usize| CollectionView { name: name.into(), len, bytes: 0, cap };
        let mut all = vec![
            own("engine/max_groups", self.groups.len(), self.config.max_groups),
            own("engine/max_links", self.links.len(), self.config.max_links),
            own("engine/kept", self.kept.len(), self.config.max_links),
            own("engine/max_candidates", self.dialer.len(), self.config.max_candidates),
        ];
        all.extend(self.groups.values().flat_map(|it| it.group.collections(&self.config)));
        all
    }

    fn handle_frame(&mut self, now: Time, link: LinkId, bytes: &Bytes, out: &mut Out) {
        let Some(state) = self.links.get_mut(link) else { return };
        state.last_heard = now;
        state.asked = None;
        let node = state.node;
        self.links.traffic.on_received(bytes);
        if bytes.len() > crate::wire::MAX_FRAME {
            return self.close(link, CloseReason::Protocol("oversized frame"), out);
        }
        let Ok((channel, frame)) = frame::decode(bytes) else {
            return self.close(link, CloseReason::Protocol("malformed frame"), out);
        };
        if channel == 0 {
            return self.handle_link_frame(now, link, node, frame, out);
        }
        let Some(group) = self.links.group(link, channel) else { return };
        let result = self.with_group(now, group, out, |group, ctx| group.handle_frame(ctx, node, frame));
        if let Some(Err(violation)) = result {
            self.close(link, CloseReason::Protocol(violation.0), out);
        }
    }

    fn handle_link_frame(&mut self, now: Time, link: LinkId, node: NodeId, frame: Frame, out: &mut Out) {
        match frame {
            Frame::Ping(ping) => {
                self.links.on_place(link, ping.place);
                let place = self.links.tell_place(link);
                self.send_on(now, link, &Frame::Pong(Pong { nonce: ping.nonce, place }), out);
                if let Some(rtt_us) = ping.rtt_us.filter(|_| self.locator.is_settling(now)) {
                    let (rtt, every) = (Duration::from_micros(rtt_us.into()), crate::locator::EVERY / 2);
                    if self.links.on_told_round_trip(now, link, rtt, every) {
                        self.relocate(now, link);
                    }
                }
            }
            Frame::Pong(pong) => self.handle_pong(now, link, &pong, out),
            Frame::Channels(channels) => self.handle_channels(now, link, node, channels, out),
            _ => {}
        }
    }

    fn handle_channels(&mut self, now: Time, link: LinkId, node: NodeId, channels: Channels, out: &mut Out) {
        for channel in channels.close {
            if let Some(group) = self.links.close(link, channel) {
                self.with_group(now, group, out, |group, ctx| group.on_link_down(ctx, node));
            }
        }
        let cap = self.config.max_groups;
        for (channel, told) in channels.open {
            let Ok(told) = told.as_slice().try_into() else { continue };
            if self.links.open(link, channel, told, cap).is_err() {
                return self.close(link, CloseReason::Protocol("too many channels"), out);
            }
        }
        for group in self.groups() {
            self.recognise(now, group, out);
        }
    }

    /// Finds a group among what peers told, and brings it its new neighbours.
    fn recognise(&mut self, now: Time, group: GroupId, out: &mut Out) {
        let Some(joined) = self.groups.get(&group) else { return };
        let admits = |node: &NodeId| joined.group.admits(node);
        for node in self.links.recognise(&self.identity.node(), &group, admits) {
            self.links.touch(now, &node);
            self.locator.on_link(now);
            self.with_group(now, group, out, |group, ctx| group.on_shared(ctx, node));
        }
    }

    fn handle_link_up(&mut self, now: Time, link: LinkId, node: NodeId, out: &mut Out) {
        self.dialer.link_up(now, &node, &self.config);
        let refused = node == self.identity.node() || self.shutting_down;
        if refused || (self.links.len() >= self.config.max_links && !self.make_room(now, out)) {
            out.push(Output::Close { link, reason: CloseReason::Unused });
            return;
        }
        if !self.links.insert(now, link, node) {
            return;
        }
        self.links.question_siblings(now, &node, link);
        self.next_housekeeping = self.next_housekeeping.min(now);
        self.send_on(now, link, &Frame::Hello(Hello { version: VERSION }), out);
        let open = self.groups.iter().filter(|(_, it)| it.group.admits(&node));
        let open: Vec<_> = open.map(|(id, it)| (it.group.channel(), *id)).collect();
        self.send_channels(now, link, node, &open, out);
    }

    fn send_channels(
        &mut self,
        now: Time,
        link: LinkId,
        node: NodeId,
        open: &[(Channel, GroupId)],
        out: &mut Out,
    ) {
        let me = self.identity.node();
        let open = open.iter().map(|(channel, id)| (*channel, ByteBuf::from(tag(id, &me, &node)))).collect();
        self.send_on(now, link, &Frame::Channels(Channels { open, close: Vec::new() }), out);
    }

    fn handle_link_down(&mut self, now: Time, link: LinkId, out: &mut Out) {
        if let Some(node) = self.links.remove(link) {
            self.each_group(now, out, |group, ctx| group.on_link_down(ctx, node));
        }
    }

    fn handle_drained(&mut self, now: Time, link: LinkId, lane: Lane, bytes: usize, out: &mut Out) {
        let Some(node) = self.links.drained(now, link, lane, bytes) else { return };
        let awaiting = self.groups.iter().filter(|(_, it)| it.group.awaits_drain()).map(|(id, _)| *id);
        for id in awaiting.collect::<Vec<_>>() {
            self.with_group(now, id, out, |group, ctx| group.on_drained(ctx, &node));
        }
    }

    fn handle_discovered(&mut self, now: Time, node: NodeId, addresses: Vec<Address>, out: &mut Out) {
        if node == self.identity.node() || self.shutting_down {
            return;
        }
        self.dialer.discovered(node, addresses, &self.config);
        if self.groups.values().any(|it| it.group.wants_contacts(&self.config)) {
            self.dialer.dial_found(now, &self.config, &self.links, out);
        }
    }

    fn handle_join(&mut self, now: Time, descriptor: Descriptor, out: &mut Out) {
        let id = descriptor.id();
        if self.groups.contains_key(&id) || self.shutting_down {
            return;
        }
        if self.groups.len() >= self.config.max_groups {
            return out.event(Event::Overloaded { group: id, cap: "max_groups" });
        }
        if descriptor.order == Order::Total && descriptor.founder.is_none() {
            return out.event(Event::JoinRefused { group: id, why: "a total order has a founder" });
        }
        if !descriptor.admits(&self.identity.node()) {
            return out.event(Event::JoinRefused { group: id, why: "this node is not on the group's list" });
        }
        let channel = self.next_channel;
        self.next_channel += 1;
        let (last_life, past) = (self.ends.get(&id).copied(), self.pasts.remove(&id));
        let (nick, addresses) = (self.nick.clone(), self.addresses.clone());
        let entry = Entry { descriptor, channel, nick, addresses, last_life, past };
        let mut traffic = TrafficView::default();
        let group = Group::new(&mut self.lend(now, id, channel, &mut traffic, out), entry);
        self.groups.insert(id, Box::new(Joined::new(group, traffic)));
        for link in self.links.ids() {
            let node = self.links.get(link).expect("listed").node;
            if self.groups.get(&id).is_some_and(|it| it.group.admits(&node)) {
                self.send_channels(now, link, node, &[(channel, id)], out);
            }
        }
        self.next_housekeeping = self.next_housekeeping.min(now);
        self.recognise(now, id, out);
        self.dialer.dial_found(now, &self.config, &self.links, out);
    }

    fn resume(&mut self, past: Box<Past>) {
        if let Some(it) = past.end {
            let end = LifeEnd { life: it.life, end: it.end, digest: it.digest };
            self.ends.insert(past.group, end);
            self.last_life = self.last_life.max(it.life);
        }
        if self.pasts.len() < self.config.max_groups {
            self.pasts.insert(past.group, past);
        }
    }

    fn handle_publish(&mut self, now: Time, group: GroupId, id: PublishId, payload: Bytes, out: &mut Out) {
        if self.with_group(now, group, out, |group, ctx| group.publish(ctx, id, payload)).is_none() {
            out.event(Event::Rejected { group, id, error: PublishError::UnknownGroup });
        }
    }

    fn handle_persisted(&mut self, now: Time, token: Token, durable: bool, out: &mut Out) {
        let Some(group) = self.tokens.remove(&token) else { return };
        self.with_group(now, group, out, |group, ctx| {
            if durable { group.on_persisted(ctx, token) } else { group.on_persist_failed(ctx, token) }
        });
    }

    fn restate(&mut self, now: Time, out: &mut Out) {
        let (nick, addresses) = (self.nick.clone(), self.addresses.clone());
        self.each_group(now, out, |group, ctx| group.restate(ctx, &nick, &addresses));
    }

    fn handle_shutdown(&mut self, now: Time, out: &mut Out) {
        self.shutting_down = true;
        self.each_group(now, out, |group, ctx| group.begin_farewell(ctx, false));
        if self.groups.is_empty() {
            out.event(Event::ShutdownComplete);
        } else {
            self.reap(now, out);
        }
    }

    /// What is due by now, in all groups and for all links.
    fn poll(&mut self, now: Time, out: &mut Out) {
        let due = |joined: &Joined| joined.deadline(&self.config).is_some_and(|at| at <= now);
        let due: Vec<_> = self.groups.iter().filter(|(_, it)| due(it)).map(|(id, _)| *id).collect();
        for id in due {
            self.with_group(now, id, out, |group, ctx| group.poll(ctx));
        }
        self.reap(now, out);
        if self.locator.is_due(now) {
            for link in self.locator.to_measure(now, &self.identity.node(), &self.links) {
                self.ping(now, link, out);
            }
            self.meet_strangers(now, out);
        }
        if self.links.take_questions() {
            self.keep_links(now, out);
        }
        if self.next_housekeeping <= now {
            self.next_housekeeping = now + HOUSEKEEPING;
            self.keep_links(now, out);
            self.dialer.dial_lost(now, &self.config, &self.links, out);
            if self.groups.values().any(|it| it.group.wants_contacts(&self.config)) {
                self.dialer.dial_found(now, &self.config, &self.links, out);
            }
        }
    }

    /// Takes out groups that have said goodbye.
    fn reap(&mut self, now: Time, out: &mut Out) {
        let gone: Vec<_> =
            self.groups.iter().filter(|(_, it)| it.group.is_gone()).map(|(id, _)| *id).collect();
        for id in &gone {
            let gone = self.groups.remove(id).expect("listed");
            self.links.forget_group(id);
            let frame = Frame::Channels(Channels { open: Vec::new(), close: vec![gone.group.channel()] });
            for link in self.links.ids() {
                self.send_on(now, link, &frame, out);
            }
        }
        if self.shutting_down && !gone.is_empty() && self.groups.is_empty() {
            out.event(Event::ShutdownComplete);
        }
    }

    /// Asks the driver to close a link; [`Input::LinkDown`] follows.
    fn close(&mut self, link: LinkId, reason: CloseReason, out: &mut Out) {
        out.push(Output::Close { link, reason });
    }

    fn send_on(&mut self, now: Time, link: LinkId, frame: &Frame, out: &mut Out) {
        self.links.send_on(now, link, Lane::Live, frame.encode(0), out);
    }

    fn lend<'a>(
        &'a mut self,
        now: Time,
        group: GroupId,
        channel: Channel,
        traffic: &'a mut TrafficView,
        out: &'a mut Out,
    ) -> Ctx<'a> {
        Ctx {
            now,
            unix_ms: self.unix_ms.saturating_add(now.as_micros() / 1_000),
            config: &self.config,
            identity: &self.identity,
            group,
            channel,
            rng: &mut self.rng,
            links: &mut self.links,
            dialer: &mut self.dialer,
            traffic,
            last_life: &mut self.last_life,
            next_token: &mut self.next_token,
            tokens: &mut self.tokens,
            out,
        }
    }

    fn with_group<R>(
        &mut self,
        now: Time,
        id: GroupId,
        out: &mut Out,
        ask: impl FnOnce(&mut Group, &mut Ctx<'_>) -> R,
    ) -> Option<R> {
        // Taken out while it works, so that it can be lent all the rest.
        let mut groups = std::mem::take(&mut self.groups);
        let result = groups.get_mut(&id).map(|joined| {
            joined.touch();
            let channel = joined.group.channel();
            ask(&mut joined.group, &mut self.lend(now, id, channel, &mut joined.traffic, out))
        });
        self.groups = groups;
        result
    }

    fn each_group(&mut self, now: Time, out: &mut Out, mut ask: impl FnMut(&mut Group, &mut Ctx<'_>)) {
        for id in self.groups() {
            self.with_group(now, id, out, &mut ask);
        }
    }
}

fn cut(mut text: String, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
