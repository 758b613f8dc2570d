//! One group: the rooms, and the order in which they are asked.
//!
//! The rooms (views, roster, detector, tree, sources, store, repair, order, publisher,
//! receipts, flow) never call each other. What comes in takes one of four ways through here:
//! a frame ([`inbound`]), a neighbour that comes or goes ([`join`], [`watch`]), a batch
//! ([`spread`]), or time ([`Group::poll`]).

mod adverts;
mod baseline;
mod beaten;
mod committee;
mod compare;
mod cores;
mod counts;
pub(crate) mod ctx;
mod defined;
mod doubled;
mod early;
mod farewell;
mod flow;
mod fork;
mod herald;
mod history;
mod hold;
mod inbound;
mod join;
mod late;
mod lazy;
mod lives;
mod load;
mod make;
mod membership;
mod nearer;
mod order;
mod overtaken;
mod publish;
mod ranges;
mod recall;
mod receipts;
mod remove;
mod repair;
mod route;
mod settle;
mod shuffle;
mod silence;
mod sources;
mod spread;
mod store;
mod tell;
mod untaken;
mod view;
mod watch;
mod way;

#[cfg(test)]
mod admission_tests;
#[cfg(test)]
mod compare_tests;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod removal_tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::descriptor::{Descriptor, Route};
use crate::id::{Address, BatchId, GroupId, Life, NodeId, PublishId, Seq};
use crate::io::{Event, Past, PublishError};
use crate::time::{Time, soonest};
use crate::wire::batch::LifeEnd;
use crate::wire::frame::{Channel, Frame, Join, Mesh, Records, Summary};
use crate::wire::record::{MemberRecord, Standing};

use adverts::Told;
use baseline::Pieces;
use beaten::Beaten;
use compare::Walks;
use cores::Pace;
use ctx::Ctx;
use defined::Defined;
use doubled::Doubled;
use early::Early;
use farewell::Farewell;
use flow::Flow;
use fork::Proofs;
use herald::Herald;
use history::History;
use late::Ground;
use lazy::Lazy;
use load::Load;
use membership::detector::Detector;
use membership::removal::Removals;
use membership::roster::Roster;
use membership::views::Views;
use order::total::Total;
use order::{Causes, Sequencer};
use publish::{Making, Publisher, Unwritten};
use recall::Recall;
use receipts::Receipts;
use repair::Repair;
use route::near::Near;
use route::tree::{Act, Sight, Tree};
use silence::Silence;
use sources::{LifeId, Sources};
use store::Store;
use untaken::Untaken;

/// How far along we are.
#[derive(Debug)]
enum Phase {
    /// No member has told us where to start.
    Fresh,
    Member,
    Going(Farewell),
    /// The founder has removed us: nothing is said or heard any more.
    Removed,
}

/// One group, as one member runs it.
pub(crate) struct Group {
    id: GroupId,
    descriptor: Descriptor,
    channel: Channel,
    phase: Phase,
    ready: bool,
    entered: Time,
    nick: String,
    addresses: Vec<Address>,
    roster: Roster,
    views: Views,
    detector: Detector,
    removals: Removals,
    tree: Tree,
    near: Near,
    pace: Pace,
    sources: Sources,
    proofs: Proofs,
    store: Store,
    repair: Repair,
    silence: Silence,
    sequencer: Sequencer,
    total: Option<Box<Total>>,
    recall: Recall,
    causes: Causes,
    publisher: Publisher,
    receipts: Receipts,
    flow: Flow,
    lazy: Lazy,
    load: Load,
    told: Told,
    herald: Herald,
    history: History,
    early: Early,
    ground: Ground,
    doubled: Doubled,
    /// Who asked us in before we were in ourselves, and when.
    askers: BTreeMap<NodeId, (Join, Time)>,
    /// A member that is to be a neighbour although the view is full.
    bridge: Option<NodeId>,
    /// A neighbour of which one link closed, while another is still open, and when.
    half_gone: Option<(NodeId, Time)>,
    /// What each neighbour's short numbers mean.
    references: BTreeMap<NodeId, BTreeMap<u32, LifeId>>,
    defined: Defined,
    walks: Walks,
    /// Pieces of a baseline, and who sends them.
    pieces: Pieces,
    /// Lives with news for lazy links, and those whose short number is not told yet.
    news: BTreeSet<LifeId>,
    undefined: BTreeSet<LifeId>,
    next_news: Time,
    /// The parent, if it is to hear that we have pulled what it did not bring.
    tells_parent: Option<NodeId>,
    beaten: Beaten,
    frontier_number: u64,
    next_anti_entropy: Time,
    next_eviction: Time,
    /// When to try again to make a batch of what waits.
    next_try: Time,
    /// Own batches that no neighbour is known to hold: (seq, bytes).
    untaken: Untaken,
    /// The caps that were told as hit, and when.
    overloaded: BTreeMap<&'static str, Time>,
    received: u64,
    duplicates: u64,
}

/// What a group begins with.
pub(crate) struct Entry {
    pub(crate) descriptor: Descriptor,
    pub(crate) channel: Channel,
    pub(crate) nick: String,
    pub(crate) addresses: Vec<Address>,
    /// Where our last life in this group ended, by our own store.
    pub(crate) last_life: Option<LifeEnd>,
    /// What our own store has of the group.
    pub(crate) past: Option<Box<Past>>,
}

impl Group {
    pub(crate) fn new(ctx: &mut Ctx<'_>, entry: Entry) -> Self {
        let Entry { descriptor, channel, nick, addresses, last_life, past } = entry;
        let (id, now) = (ctx.group, ctx.now);
        let unicast = descriptor.route == Route::Unicast;
        // Who sends to all must know all.
        let most = if unicast { ctx.config.roster.max(way::AUDIENCE) } else { ctx.config.roster };
        let own = MemberRecord::sign(&id, ctx.identity, ctx.unix_ms, Standing::Online, &nick, &addresses);
        let mut group = Self {
            id,
            channel,
            phase: Phase::Fresh,
            ready: false,
            entered: now,
            nick,
            addresses,
            roster: Roster::new(id, own, most, ctx.identity.signatures()),
            views: Views::new(now, ctx.rng, ctx.config),
            detector: Detector::default(),
            removals: Removals::default(),
            tree: Tree::new(now, ctx.me(), !unicast),
            near: Near::new(now),
            pace: Pace::default(),
            sources: Sources::new(descriptor.order, ctx.unix_ms),
            proofs: Proofs::default(),
            store: Store::default(),
            repair: Repair::default(),
            silence: Silence::default(),
            sequencer: Sequencer::new(descriptor.order, descriptor.admission.clone()),
            total: Self::new_total(&id, &descriptor, now),
            recall: Recall::default(),
            causes: Causes::default(),
            publisher: Publisher::new(last_life),
            receipts: Receipts::default(),
            flow: Flow::default(),
            lazy: Lazy::default(),
            load: Load::default(),
            told: Told::default(),
            herald: Herald::default(),
            history: History::default(),
            early: Early::default(),
            ground: Ground::default(),
            doubled: Doubled::default(),
            askers: BTreeMap::new(),
            bridge: None,
            half_gone: None,
            references: BTreeMap::new(),
            defined: Defined::default(),
            walks: Walks::default(),
            pieces: Pieces::default(),
            news: BTreeSet::new(),
            undefined: BTreeSet::new(),
            next_news: now,
            tells_parent: None,
            beaten: Beaten::default(),
            frontier_number: 0,
            next_anti_entropy: now + ctx.rng.jitter(ctx.config.anti_entropy_every),
            next_eviction: now + EVICT_EVERY,
            next_try: now,
            untaken: Untaken::default(),
            overloaded: BTreeMap::new(),
            received: 0,
            duplicates: 0,
            descriptor,
        };
        match past {
            Some(past) => group.resume(ctx, &past),
            None => {
                group.ground.enter(now);
                group.total.iter_mut().for_each(|it| it.was_left = last_life.is_some());
            }
        }
        group
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel
    }

    /// Whether this node may be met in the group: one that was removed only to be told that.
    pub(crate) fn admits(&self, node: &NodeId) -> bool {
        self.descriptor.admits(node) && !self.is_removed()
    }

    /// Whether more neighbours are wanted: found nodes are dialled for such groups.
    pub(crate) fn wants_contacts(&self, config: &crate::config::Config) -> bool {
        !self.is_over() && self.wants_more(config)
    }

    pub(crate) fn is_neighbour(&self, node: &NodeId) -> bool {
        let audience = || self.is_unicast() && self.is_member(node);
        self.views.is_active(node) || audience()
    }

    pub(crate) fn neighbours(&self) -> usize {
        self.views.active_len()
    }

    pub(crate) fn is_member(&self, node: &NodeId) -> bool {
        self.roster.get(node).is_some_and(|it| it.state().is_member())
    }

    pub(crate) fn publish_room(&self, config: &crate::config::Config) -> usize {
        if self.is_pool_full(config) {
            // Until the order goes on.
            return 0;
        }
        // What is on disk waits there.
        let untaken = if config.history { 0 } else { self.untaken.bytes() };
        config.publish_queue_bytes.saturating_sub(self.publisher.queued() + untaken)
    }

    /// A message from the application.
    pub(crate) fn publish(&mut self, ctx: &mut Ctx<'_>, id: PublishId, payload: Bytes) {
        let (len, max) = (payload.len(), ctx.config.max_message);
        let error = if self.is_removed() {
            Some(PublishError::Removed)
        } else if self.is_over() {
            Some(PublishError::Leaving)
        } else if len > max {
            Some(PublishError::TooLarge { len, max })
        } else if len > self.publish_room(ctx.config) {
            Some(PublishError::Full)
        } else {
            None
        };
        match error {
            Some(error) => ctx.event(Event::Rejected { group: self.id, id, error }),
            None => {
                self.pace.published(ctx.now);
                self.publisher.push(ctx.now, id, payload);
                self.maybe_make_batch(ctx);
            }
        }
    }

    /// The application wants to know who has a batch of ours.
    pub(crate) fn request_receipt(&mut self, ctx: &mut Ctx<'_>, batch: &BatchId) {
        if batch.source == ctx.me() {
            self.receipts.request(batch.life, batch.seq);
            self.poll_receipts(ctx);
        }
    }

    /// This node has a new name or new addresses: say so.
    pub(crate) fn restate(&mut self, ctx: &mut Ctx<'_>, nick: &str, addresses: &[Address]) {
        let same = self.nick == nick && self.addresses == addresses;
        if !same && !self.is_over() {
            nick.clone_into(&mut self.nick);
            self.addresses = addresses.to_vec();
            self.restate_at_least(ctx, 0, Standing::Online);
        }
    }

    fn restate_at_least(&mut self, ctx: &mut Ctx<'_>, incarnation: u64, standing: Standing) {
        let (serves, nick, addresses) = (self.service(ctx), &self.nick, &self.addresses);
        let record = self.roster.restate(ctx.identity, incarnation, standing, serves, nick, addresses);
        self.flood(ctx, Records { members: vec![record.bytes], suspicions: Vec::new() }, None);
    }

    /// Passes records on to all neighbours but the one they came from.
    fn flood(&self, ctx: &mut Ctx<'_>, records: Records, except: Option<&NodeId>) {
        let to: Vec<_> = self.views.active().into_iter().filter(|it| Some(it) != except).collect();
        ctx.send_all(&to, &Frame::Records(records));
    }

    /// Says once in a while that a cap was hit.
    fn overload(&mut self, ctx: &mut Ctx<'_>, cap: &'static str) {
        let told = self.overloaded.get(cap);
        if !cap.is_empty() && told.is_none_or(|at| ctx.now.since(*at) >= OVERLOAD_TOLD_EVERY) {
            self.overloaded.insert(cap, ctx.now);
            ctx.event(Event::Overloaded { group: self.id, cap });
        }
    }

    /// Asks the tree, then does what it wants done.
    fn with_tree(&mut self, ctx: &mut Ctx<'_>, ask: impl FnOnce(&mut Tree, &Sight<'_>, &mut Vec<Act>)) {
        let mut acts = Vec::new();
        self.tree.set_place(ctx.links.here());
        let sight = Sight { now: ctx.now, links: ctx.links, config: ctx.config };
        ask(&mut self.tree, &sight, &mut acts);
        for act in acts {
            self.act(ctx, act);
        }
    }

    fn act(&mut self, ctx: &mut Ctx<'_>, act: Act) {
        match act {
            Act::Advertise(advert) => self.advertise(ctx, &self.views.active(), advert),
            Act::AdvertiseTo(nodes, advert) => self.advertise(ctx, &nodes, advert),
            Act::Graft(node, graft) => ctx.send(&node, &Frame::Graft(graft)),
            Act::Stay(node) => ctx.send(&node, &Frame::Stay(crate::wire::frame::Empty::default())),
            Act::GraftReply(node, reply) => ctx.send(&node, &Frame::GraftReply(reply)),
            Act::Prune(node) => ctx.send(&node, &Frame::Prune(crate::wire::frame::Empty::default())),
            Act::Edge(node) => {
                self.lazy.on_change(ctx.now);
                self.tell_all(ctx, &node, crate::wire::frontier::Purpose::Tell);
                self.maybe_ready(ctx);
                self.maybe_make_batch(ctx);
            }
            Act::ParentChanged { from, to, reason } => {
                self.near.on_moved(ctx.now, to.as_ref());
                self.lazy.on_change(ctx.now);
                self.repair.on_parent_speaks();
                self.beaten.begin_anew();
                let tree = self.tree_id();
                ctx.event(Event::ParentChanged { group: self.id, tree, from, to, reason });
            }
            Act::LookAround => self.near.look_around(ctx.now),
            Act::Meet(node) => self.meet(ctx, node, &[]),
            Act::MeetAt(node, addresses) => self.meet(ctx, node, &addresses),
            Act::Appoint(node, appoint) => self.appoint(ctx, &node, appoint),
            Act::Cores(to, cores) => self.tell_cores(ctx, &to, &cores),
            Act::Mesh(node, on) => ctx.send(&node, &Frame::Mesh(Mesh { on })),
        }
    }

    fn maybe_ready(&mut self, ctx: &mut Ctx<'_>) {
        if !self.ready && self.views.active_len() > 0 && self.tree.is_placed() {
            self.ready = true;
            ctx.event(Event::Ready { group: self.id });
        }
    }

    /// What is due by now.
    pub(crate) fn poll(&mut self, ctx: &mut Ctx<'_>) {
        if self.is_removed() {
            return;
        }
        self.poll_pace(ctx);
        self.poll_askers(ctx);
        self.poll_views(ctx);
        self.poll_detector(ctx);
        self.poll_herald(ctx);
        self.with_tree(ctx, |tree, sight, acts| tree.poll(sight, acts));
        self.maybe_ready(ctx);
        self.poll_near(ctx);
        self.poll_silence(ctx);
        self.poll_lazy(ctx);
        self.poll_repair(ctx);
        self.poll_anti_entropy(ctx);
        self.poll_compare(ctx);
        self.poll_flow(ctx);
        self.maybe_make_batch(ctx);
        self.poll_receipts(ctx);
        self.poll_early(ctx);
        self.poll_service(ctx);
        self.poll_total(ctx);
        self.poll_ground(ctx);
        self.poll_news(ctx);
        self.poll_eviction(ctx);
        self.poll_farewell(ctx);
    }

    pub(crate) fn deadline(&self, config: &crate::config::Config) -> Option<Time> {
        if self.is_removed() {
            return None;
        }
        let going = self.is_over();
        soonest([
            self.views.deadline(self.tree.bonds_len(), config).filter(|_| !going),
            self.near.deadline().filter(|_| !going),
            self.detector.deadline(),
            self.herald.deadline(),
            self.tree.deadline(),
            self.repair.deadline(),
            self.silence.deadline().filter(|_| !going),
            self.askers_until(config),
            Some(self.next_anti_entropy),
            self.walks.deadline(),
            self.flow.deadline(),
            Some(self.lazy.deadline()),
            self.publisher.has_waiting().then_some(self.next_try),
            self.receipts.deadline(),
            self.early.deadline().filter(|_| !going),
            self.total.as_ref().and_then(|it| it.deadline()).filter(|_| !going),
            self.total.as_ref().and_then(|it| self.recall.deadline(it.polled)).filter(|_| !going),
            self.ground.deadline().filter(|_| !going),
            (!self.news.is_empty()).then_some(self.next_news),
            Some(self.next_eviction),
            self.farewell_deadline(),
        ])
    }

    fn poll_anti_entropy(&mut self, ctx: &mut Ctx<'_>) {
        if self.next_anti_entropy > ctx.now {
            return;
        }
        self.next_anti_entropy = ctx.now + ctx.rng.jitter(ctx.config.anti_entropy_every);
        let active = self.views.active();
        if let Some(node) = ctx.rng.pick(&active).copied() {
            ctx.send(&node, &Frame::Summary(self.summary()));
            self.compare_removals(ctx, &node);
        }
    }

    fn summary(&mut self) -> Summary {
        Summary { frontiers: self.sources.summary(), roster: self.roster.summary() }
    }

    fn poll_eviction(&mut self, ctx: &mut Ctx<'_>) {
        if self.next_eviction > ctx.now {
            return;
        }
        self.next_eviction = ctx.now + EVICT_EVERY;
        let own = (ctx.me(), self.publisher.life().unwrap_or_default());
        self.repair.retain(|life| life == own || self.sources.life(life).is_some());
        self.defined.tidy(self.sources.len());
        self.evict(ctx);
    }

    fn evict(&mut self, ctx: &Ctx<'_>) {
        let (me, history) = (ctx.me(), ctx.config.history);
        let mut untaken: BTreeMap<Life, Seq> =
            self.publisher.life().zip(self.untaken.first()).into_iter().collect();
        if let Some(own) = self.sources.get(&me) {
            untaken.extend(own.lives.iter().filter_map(|(life, state)| Some((*life, state.owed?))));
        }
        let pinned = |id: &BatchId| {
            !history && id.source == me && untaken.get(&id.life).is_some_and(|seq| id.seq >= *seq)
        };
        for id in self.store.evict(ctx.now, ctx.config, pinned) {
            // What is out of memory is in the history, for as long as that keeps it.
            if let Some(life) = self.sources.life_mut((id.source, id.life)).filter(|_| !history) {
                life.dropped_below = life.dropped_below.max(id.seq + 1);
            }
        }
    }
}

/// Between looks at what is too old to keep.
const EVICT_EVERY: Duration = Duration::from_secs(5);
/// Between two events about one cap.
const OVERLOAD_TOLD_EVERY: Duration = Duration::from_secs(10);
