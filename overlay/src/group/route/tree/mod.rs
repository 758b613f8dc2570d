//! The shared tree: explicit parents, ranked backups, one root.
//!
//! Each node advertises its path from the root and the latency along it; a node keeps the
//! best parent whose path avoids it, and moves with hysteresis. Loops are kept out by the
//! path (cf. RFC 8966 §2.4 on why distance alone does not), stale roots by the root's
//! running number (RFC 8966 §2.5). Batches go along the tree's edges both ways (CBT,
//! RFC 2201 §2), so any member is a source.

mod advertise;
mod candidate;
mod children;
mod cores;
mod offences;
mod optimiser;
mod plan;
mod root;
mod seek;
mod sketch;
mod slots;
mod swap;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Config;
use crate::coordinate::Place;
use crate::id::{Address, NodeId};
use crate::io::{ParentReason, TreeId, TreeView};
use crate::links::Links;
use crate::time::{Time, soonest};
use crate::wire::frame::{Advert, Appoint, Cluster, Crown, Graft, GraftReply};

pub(crate) use candidate::is_great;
use candidate::{Heard, Led};
use children::TellClusters;
use cores::Cores;
use offences::Offences;
use optimiser::Optimiser;
use root::Root;
use slots::Slots;
use swap::LEAVING_AT_ONCE;

/// Hops from the root, at most (DESIGN.md §4).
pub(crate) const MAX_PATH: usize = 32;
/// How long an answer to a graft may take; a fifth of it and two round trips, if those are known.
const GRAFT_TIMEOUT: Duration = Duration::from_millis(500);
/// A child repeats its graft this often…
const GRAFT_RENEWAL: Duration = Duration::from_secs(2);
/// …and is let go when it has not for so long.
const CHILD_TTL: Duration = Duration::from_secs(7);
/// One that was sent down is fed for so long: it has another parent by then.
const SENT_DOWN_FOR: Duration = Duration::from_secs(1);
/// Adverts that changed go out at most this often.
const ADVERT_GAP: Duration = Duration::from_millis(20);
/// Children hear every advert, for the root's number; others every so many.
const TO_ALL_EVERY: u32 = 5;
/// A node without a parent says so after this long: most find another sooner.
const POISON_AFTER: Duration = Duration::from_millis(500);
/// …and after this long if there is nobody to turn to. Others that lost the same ancestor, too,
/// have another way by then, and have said so. Guess: a few gaps between adverts.
const SHORTLY: Duration = Duration::from_millis(60);
/// After a move for being nearer, the old parent's batches are still on their way for so long.
const HANDOVER: Duration = Duration::from_millis(500);
/// Somebody who refused is asked again after this long…
const REFUSED_FOR: Duration = Duration::from_secs(2);
/// …by one that was full, after this long…
const REFUSED_FULL_FOR: Duration = Duration::from_secs(30);
/// …or this long, by who has no parent.
const REFUSED_ORPHAN_FOR: Duration = Duration::from_millis(100);

/// Round trips on one machine or LAN do not differ by so much. Guess.
const GREAT_GAIN: Duration = Duration::from_millis(1);

/// Subtrees count for so much at most, whatever their roots say.
const MAX_SIZE: u32 = 1 << 20;

/// What the tree wants sent or told.
#[derive(Debug, PartialEq)]
pub(crate) enum Act {
    /// To all neighbours.
    Advertise(Advert),
    AdvertiseTo(Vec<NodeId>, Advert),
    Graft(NodeId, Graft),
    /// To stay, as the last graft said.
    Stay(NodeId),
    GraftReply(NodeId, GraftReply),
    Prune(NodeId),
    /// This node has become a tree neighbour: exchange frontiers with it.
    Edge(NodeId),
    ParentChanged {
        from: Option<NodeId>,
        to: Option<NodeId>,
        reason: ParentReason,
    },
    /// There are other cores: look for a nearer parent anew.
    LookAround,
    /// A redirect named this node: make it a neighbour.
    Meet(NodeId),
    /// Likewise, and it may be reached there.
    MeetAt(NodeId, Vec<Address>),
    /// Down to this child; the addresses are the root's, and ours if there are none.
    Appoint(NodeId, Appoint),
    /// To these: who the cores are.
    Cores(Vec<NodeId>, Vec<NodeId>),
    Mesh(NodeId, bool),
}

/// What of the group's world the tree may look at.
pub(crate) struct Sight<'a> {
    pub(crate) now: Time,
    pub(crate) links: &'a Links,
    pub(crate) config: &'a Config,
}

impl Sight<'_> {
    /// What is worth a move from a place so far from the root.
    pub(crate) fn gain(&self, current: Duration) -> Duration {
        self.config.parent_gain.max(current.mul_f64(self.config.parent_gain_share))
    }
}

/// What a node would be as a parent, as it says or is said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    pub(crate) node: NodeId,
    /// From the root to it.
    pub(crate) delay: Duration,
    /// Children that it would still take.
    pub(crate) free: u32,
    pub(crate) place: Place,
}

#[derive(Debug)]
struct Grafting {
    to: NodeId,
    until: Time,
    reason: ParentReason,
}

/// Somebody below us.
#[derive(Debug)]
pub(super) struct Child {
    /// When it last asked to stay.
    heard: Time,
    /// Nodes in its subtree, itself among them, as it says.
    size: u32,
    /// Where they are.
    clusters: Vec<Cluster>,
    /// It roots a tree of its own…
    core: bool,
    /// …and feeds the other cores itself.
    meshed: bool,
    /// It was asked to go, for another that gains more, and is fed for a moment more.
    leaving: bool,
}

/// This node's place in the shared tree.
#[derive(Debug)]
pub(crate) struct Tree {
    me: NodeId,
    /// Ours: a hash, and looked for in every path that is heard.
    tag: u64,
    carries: bool,
    root: Root,
    parent: Option<NodeId>,
    /// Why it is the parent, and since when.
    reason: ParentReason,
    parent_since: Time,
    /// The root's term and running number, as parents have told them, and when those last grew.
    led_on: (Led, Time),
    /// Root and parent that the application was told last.
    told: Option<(NodeId, Option<NodeId>)>,
    optimiser: Optimiser,
    offences: Offences,
    /// Without a parent since.
    orphan_since: Option<Time>,
    orphan_reason: ParentReason,
    grafting: Option<Grafting>,
    next_renewal: Time,
    /// The parent from before this node became a core, and until when it stays a tree neighbour.
    left: Option<(NodeId, Time)>,
    /// The parent lets us go, and feeds us until then.
    sent_down: Option<Time>,
    children: BTreeMap<NodeId, Child>,
    slots: Slots,
    heard: BTreeMap<NodeId, Heard>,
    refused: BTreeMap<NodeId, Time>,
    next_advert: Time,
    last_advert: Time,
    last_to_all: Time,
    changed: bool,
    poisoned: bool,
    /// Where this node is.
    place: Place,
    cores: Cores,
    /// Cores that are to hear that they are none any more.
    dismissed: Vec<NodeId>,
    told_clusters: TellClusters,
}

impl Tree {
    /// A tree of one: this node is its root until it hears of a better one.
    /// Only one that carries batches may have several cores.
    pub(crate) fn new(now: Time, me: NodeId, carries: bool) -> Self {
        Self {
            me,
            tag: me.tag(),
            carries,
            root: Root::alone(now, me),
            parent: None,
            reason: ParentReason::Joined,
            parent_since: now,
            led_on: (Led::default(), now),
            told: None,
            optimiser: Optimiser::default(),
            offences: Offences::default(),
            orphan_since: None,
            orphan_reason: ParentReason::Joined,
            grafting: None,
            next_renewal: Time::NEVER,
            left: None,
            sent_down: None,
            children: BTreeMap::new(),
            slots: Slots::default(),
            heard: BTreeMap::new(),
            refused: BTreeMap::new(),
            next_advert: now,
            last_advert: Time::ZERO,
            last_to_all: Time::ZERO,
            changed: false,
            poisoned: false,
            place: Place::UNKNOWN,
            cores: Cores::default(),
            dismissed: Vec::new(),
            told_clusters: TellClusters::default(),
        }
    }

    /// This node is there now, by its network coordinate.
    pub(crate) fn set_place(&mut self, place: Place) {
        self.place = place;
    }

    /// Tree neighbours: whom batches are forwarded to.
    pub(crate) fn edges(&self) -> Vec<NodeId> {
        let above = self.parent.into_iter().chain(self.left());
        above.chain(self.children.keys().copied()).chain(self.mesh()).collect()
    }

    pub(crate) fn is_edge(&self, node: &NodeId) -> bool {
        let above = self.parent.as_ref() == Some(node) || self.left().as_ref() == Some(node);
        above || self.children.contains_key(node) || self.is_in_mesh(node)
    }

    /// As root: where the root should be.
    pub(crate) fn ideal(&self) -> Option<Place> {
        self.root.is(&self.me).then(|| self.centre())
    }

    pub(crate) fn root(&self) -> NodeId {
        self.root.node()
    }

    pub(crate) fn parent(&self) -> Option<NodeId> {
        self.parent
    }

    /// Root, or child of somebody.
    pub(crate) fn is_placed(&self) -> bool {
        self.parent.is_some() || self.root.is(&self.me)
    }

    /// The parent is new and merely nearer: what it had before comes from the one before it, too.
    pub(crate) fn is_handed_over(&self, now: Time) -> bool {
        self.reason == ParentReason::Better && now.since(self.parent_since) < HANDOVER
    }

    pub(crate) fn heard_len(&self) -> usize {
        self.heard.len()
    }

    /// A neighbour is new: tell it our place.
    pub(crate) fn on_neighbour(&mut self, sight: &Sight<'_>, node: NodeId, acts: &mut Vec<Act>) {
        if let Some(advert) = self.advert(sight) {
            acts.push(Act::AdvertiseTo(vec![node], advert));
        }
        self.greet_core(node, acts);
    }

    /// A neighbour is none any more; `gone` if it does not run, as far as we know.
    pub(crate) fn on_neighbour_lost(
        &mut self,
        sight: &Sight<'_>,
        node: &NodeId,
        gone: bool,
        acts: &mut Vec<Act>,
    ) {
        self.heard.remove(node);
        self.refused.remove(node);
        self.forget_core(node);
        self.left.take_if(|(left, _)| left == node);
        let core = self.remove_child(node).is_some_and(|child| child.core);
        if core {
            self.on_cores_changed();
        }
        if gone {
            self.mark_gone(sight, node);
        }
        if self.root.is(&self.me) {
            self.root.on_child_lost(sight.now, node);
            self.next_advert = self.next_advert.min(self.root.next_number());
        }
        if self.grafting.as_ref().is_some_and(|it| it.to == *node) {
            self.grafting = None;
        }
        if self.parent.as_ref() == Some(node) {
            self.orphan(sight.now, ParentReason::LinkClosed);
        }
        self.reconsider(sight, acts);
    }

    /// The last link to a node is gone; it may have been no neighbour any more, as another link
    /// closed before.
    pub(crate) fn on_gone(&mut self, sight: &Sight<'_>, node: &NodeId, acts: &mut Vec<Act>) {
        self.mark_gone(sight, node);
        self.reconsider(sight, acts);
    }

    fn mark_gone(&mut self, sight: &Sight<'_>, node: &NodeId) {
        self.heard.values_mut().for_each(|it| it.doubt(node));
        if self.root.is(node) {
            let farthest = self.heard.keys().filter_map(|it| sight.links.distance(it)).max();
            self.root.on_root_link_lost(sight, &self.me, farthest.unwrap_or_default());
        }
    }

    pub(crate) fn handle_advert(
        &mut self,
        sight: &Sight<'_>,
        from: NodeId,
        advert: Advert,
        acts: &mut Vec<Act>,
    ) {
        if advert.path.len() > MAX_PATH
            || advert.delay_us > u64::from(u32::MAX) && advert.delay_us != u64::MAX
        {
            return;
        }
        if self.parent == Some(from) && !self.root.is(&self.me) && advert.plan != self.cores.plan {
            self.cores.plan = advert.plan;
            self.optimiser.renew(sight.now);
            acts.push(Act::LookAround);
        }
        match self.heard.get_mut(&from) {
            Some(heard) => {
                let moved = advert.path != heard.advert.path;
                if self.parent == Some(from) && (advert.number > heard.advert.number || moved) {
                    // The root's number goes down at once: if each hop waited for its turn, who
                    // moves to a deeper place would miss the root for seconds. And so does a path: who
                    // is on it himself is to know.
                    self.next_advert = self.next_advert.min(self.last_advert + ADVERT_GAP);
                }
                heard.update(sight.now, advert);
            }
            None => {
                self.heard.insert(from, Heard::new(sight.now, advert));
            }
        }
        self.refused.remove(&from);
        if self.parent == Some(from) {
            self.on_led(sight.now, &from);
        }
        self.reconsider(sight, acts);
    }

    /// A neighbour's place is as it told last, and the root counts on.
    pub(crate) fn handle_pulse(&mut self, sight: &Sight<'_>, from: NodeId, number: u64, acts: &mut Vec<Act>) {
        if let Some(heard) = self.heard.get(&from) {
            let advert = Advert { number, ..heard.advert.clone() };
            self.handle_advert(sight, from, advert, acts);
        }
    }

    /// The root wants us in its place.
    pub(crate) fn handle_crown(
        &mut self,
        sight: &Sight<'_>,
        from: &NodeId,
        crown: &Crown,
        acts: &mut Vec<Act>,
    ) {
        let (root, epoch) = self.root.claim();
        if *from == root && crown.root == root && crown.epoch == epoch + 1 {
            self.root.crown(sight.now, self.me, crown.epoch);
            self.on_root_changed(sight, acts);
            self.reconsider(sight, acts);
            self.advertise(sight, acts);
        }
    }

    pub(crate) fn handle_graft_reply(
        &mut self,
        sight: &Sight<'_>,
        from: NodeId,
        reply: &GraftReply,
        acts: &mut Vec<Act>,
    ) {
        let awaited = self.grafting.take_if(|it| it.to == from);
        if reply.accepted {
            match awaited {
                Some(grafting) => self.adopt(sight, from, grafting.reason, acts),
                // The answer came after we went elsewhere.
                None if self.parent != Some(from) => {
                    self.left.take_if(|(left, _)| *left == from);
                    acts.push(Act::Prune(from));
                }
                None => {}
            }
            self.tell(acts);
            return;
        }
        self.refuse(sight.now, from);
        if self.root.is(&from) {
            self.resign(acts);
        }
        if self.heard.get(&from).is_some_and(|it| it.advert.free == 0) {
            // It would have made room if that gained anything.
            self.refused.insert(from, sight.now + REFUSED_FULL_FOR);
        }
        acts.extend(reply.candidates.iter().take(3).map(|node| Act::Meet(*node)));
        if self.parent == Some(from) {
            if reply.candidates.is_empty() {
                self.orphan(sight.now, ParentReason::Released);
            } else {
                self.sent_down = Some(sight.now + SENT_DOWN_FOR);
            }
        }
        self.reconsider(sight, acts);
    }

    /// A batch came twice, from somebody that is no tree neighbour of ours. One that we are asking
    /// in may have taken us in: it would let us go again.
    pub(crate) fn on_duplicate(&self, from: NodeId, acts: &mut Vec<Act>) {
        let asked = self.grafting.as_ref().is_some_and(|it| it.to == from);
        if !self.is_edge(&from) && !asked {
            acts.push(Act::Prune(from));
        }
    }

    /// We go: hand children over to our parent and let go of both.
    pub(crate) fn on_goodbye(&mut self, acts: &mut Vec<Act>) {
        self.resign(acts);
        let candidates: Vec<_> = self.parent.into_iter().collect();
        for child in std::mem::take(&mut self.children).into_keys() {
            acts.push(Act::GraftReply(child, GraftReply { accepted: false, candidates: candidates.clone() }));
        }
        self.next_renewal = Time::NEVER;
        let above = self.parent.take().into_iter().chain(self.left.take().map(|(node, _)| node));
        acts.extend(above.map(Act::Prune));
    }

    /// What is due by now.
    pub(crate) fn poll(&mut self, sight: &Sight<'_>, acts: &mut Vec<Act>) {
        let now = sight.now;
        self.drop_silent_children(now);
        self.poll_slots(now, sight.config);
        self.refused.retain(|_, until| now < *until);
        if let Some(late) = self.grafting.take_if(|it| it.until <= now) {
            self.refuse(now, late.to);
        }
        if self.sent_down.take_if(|until| *until <= now).is_some() {
            self.orphan(now, ParentReason::Released);
        }
        if self.root.is(&self.me) {
            self.changed |= self.root.poll(now, &self.children, sight);
        }
        self.reconsider(sight, acts);
        self.poll_cores(sight, acts);
        if let Some(parent) = self.parent.filter(|_| self.next_renewal <= now) {
            self.next_renewal = now + GRAFT_RENEWAL;
            acts.push(self.renewal(now, parent));
        }
        self.advertise(sight, acts);
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        let orphaned = self.orphan_since.filter(|_| !self.poisoned);
        let asks_again = self.refused.values().filter(|_| self.parent.is_none()).min().copied();
        let changed = self.changed.then(|| self.last_advert + ADVERT_GAP);
        soonest([
            Some(self.next_advert),
            changed,
            orphaned.map(|at| at + if self.grafting.is_some() { POISON_AFTER } else { SHORTLY }),
            asks_again,
            self.grafting.as_ref().map(|it| it.until),
            self.sent_down,
            self.left.map(|(_, until)| until),
            self.slots.deadline(),
            Some(self.next_renewal),
            self.root.deadline(),
            self.cores.deadline(self.root.is(&self.me)),
        ])
    }

    pub(crate) fn view(&self, sight: &Sight<'_>) -> TreeView {
        let advert = self.advert(sight);
        let age =
            self.parent.and_then(|it| self.heard.get(&it)).map_or(Duration::ZERO, |it| it.age(sight.now));
        TreeView {
            tree: TreeId::Core(self.root.node()),
            root: self.root.node(),
            parent: self.parent,
            backups: self.backups(sight),
            children: self.children.keys().copied().collect(),
            depth: advert.as_ref().map_or(0, |it| it.path.len().saturating_sub(1)),
            delay: Duration::from_micros(advert.map_or(0, |it| it.delay_us)),
            age,
        }
    }

    fn path_has(&self, node: &NodeId) -> bool {
        let path = self.parent.and_then(|it| self.heard.get(&it));
        path.is_some_and(|heard| heard.advert.path.contains(&node.tag()))
    }

    /// Looks at all that is known and takes the place that follows from it.
    fn reconsider(&mut self, sight: &Sight<'_>, acts: &mut Vec<Act>) {
        let best = self.best_root(sight);
        if self.root.consider(sight.now, &self.me, best, sight.config) {
            self.on_root_changed(sight, acts);
        }
        if !self.root.is(&self.me) {
            self.look_for_parent(sight, acts);
        }
        self.tell(acts);
    }

    /// Tells of this node's place, once it has one and if it is another than was told: a search
    /// for a parent is no change that anybody could see.
    fn tell(&mut self, acts: &mut Vec<Act>) {
        let is_root = self.root.is(&self.me);
        if !is_root && self.parent.is_none_or(|it| !self.follows_root(&it)) {
            return;
        }
        let place = (self.root.node(), self.parent);
        if self.told == Some(place) || (self.told.is_none() && is_root) {
            return;
        }
        let told = self.told.replace(place);
        let from = told.and_then(|it| it.1);
        let reason = match self.parent {
            None => ParentReason::BecameRoot,
            Some(_) if told.is_none() => ParentReason::Joined,
            parent if parent == from => ParentReason::NewRoot,
            Some(_) => self.reason,
        };
        acts.push(Act::ParentChanged { from, to: self.parent, reason });
    }

    fn on_root_changed(&mut self, sight: &Sight<'_>, acts: &mut Vec<Act>) {
        self.changed = true;
        self.optimiser.renew(sight.now);
        self.refused.clear();
        self.on_root_of_cores_changed(sight.now, acts);
        if self.root.is(&self.me) {
            self.grafting = None;
            self.orphan_since = None;
            self.sent_down = None;
            self.next_renewal = Time::NEVER;
            if let Some(parent) = self.parent.take() {
                acts.push(Act::Prune(parent));
            }
        } else if self.parent.is_none() && self.orphan_since.is_none() {
            self.orphan_since = Some(sight.now);
            self.orphan_reason = ParentReason::NewRoot;
        }
    }

    /// A short name of the tree's root and its term.
    pub(crate) fn tag(&self) -> u64 {
        let (root, epoch) = self.root.claim();
        root.tag().wrapping_add(epoch)
    }

    /// The tree's root and its term.
    pub(crate) fn claim(&self) -> (NodeId, u64) {
        self.root.claim()
    }
}
