//! Cores: members that root a tree of their own each, and feed each other directly.
//!
//! A batch goes up to the core of its source, from there to all other cores, and down their trees:
//! three short ways instead of one by a single root. The root of the group is a core and says who
//! the others are (see [`plan`](super::plan)); they are its children, and count latency from
//! themselves on. Being a core is soft state: it ends with the root's word, or without its link.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::ADDRESSES;
use super::{Act, CHILD_TTL, Child, GRAFT_RENEWAL, POISON_AFTER, SHORTLY, Sight, Tree};
use crate::coordinate::Place;
use crate::id::{Address, NodeId};
use crate::io::ParentReason;
use crate::time::{Time, soonest};
use crate::wire::frame::{Appoint, Cores as Told};

/// Who was asked to be a core and has not come by then does not.
pub(super) const CALL_TTL: Duration = Duration::from_secs(4);
/// …and is not asked again for so long: it declined, or the word does not reach it. Guess.
const ABSENT_FOR: Duration = Duration::from_secs(20);
/// The same word is passed on this often at most, and so many within that.
const APPOINT_GAP: Duration = Duration::from_millis(250);
const MAX_PASSED: usize = 64;
/// A new core looks for those that it has not reached this often. Guess.
const HELLO_AGAIN: Duration = Duration::from_millis(400);
/// A new core that has not reached all others by then goes on without them.
const MESH_TIMEOUT: Duration = Duration::from_secs(4);
/// The list of cores is repeated this often.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// A direct way to the root that is so much longer than the tree's is not taken. Guess.
const DETOUR: f64 = 1.25;

/// Somebody whom the root wants to be a core.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) place: Place,
    pub(super) until: Time,
    /// How often the word went down.
    pub(super) times: u32,
}

/// This node's part among the cores.
#[derive(Debug, Default)]
pub(super) struct Cores {
    /// By the root's word, this node is one.
    is_core: bool,
    /// The root wants us to be one, until then.
    called: Option<Time>,
    /// It would be the only one beside the root.
    alone: bool,
    /// All of them, by the root's word, and where they may be reached.
    all: BTreeMap<NodeId, Vec<Address>>,
    /// Those that feed us, until when.
    mesh: BTreeMap<NodeId, Time>,
    /// We feed them ourselves: until then, the root does.
    meshed: bool,
    /// They are fed by us from then on, complete or not.
    mesh_by: Time,
    next_hello: Time,
    /// As root: who was asked to come, where it is, and until when.
    pub(super) asked: BTreeMap<u64, Asked>,
    /// As root: who did not come, and is not asked again until then.
    pub(super) absent: BTreeMap<u64, Time>,
    /// Whose appointment was passed on, and when.
    passed: BTreeMap<u64, Time>,
    /// Counts the root's changes to them.
    pub(super) plan: u32,
    /// As root: cores that are in no plan any more, since when.
    pub(super) leaving: BTreeMap<NodeId, Time>,
    /// When there was a plan last, and for how many.
    pub(super) planned: Time,
    pub(super) members: Option<u32>,
    /// When cores were moved last, and how often.
    pub(super) moved: Time,
    pub(super) moves: u32,
    pub(super) next_plan: Time,
    pub(super) plan_pause: Duration,
    /// As root: when all are told next.
    next_told: Time,
    /// This node publishes so much that it should be one.
    pub(super) is_source: bool,
}

impl Cores {
    pub(super) fn deadline(&self, is_root: bool) -> Option<Time> {
        let hello = (self.is_core && !is_root).then_some(self.next_hello);
        let root = is_root.then(|| self.next_plan.min(self.next_told));
        soonest([hello, root, self.called])
    }
}

impl Tree {
    /// Whether this node roots a tree: the root of all does, too.
    pub(super) fn is_core(&self) -> bool {
        self.cores.is_core || self.root.is(&self.me)
    }

    /// Whether we ask that one in as a core.
    pub(super) fn is_core_of(&self, to: &NodeId) -> bool {
        self.root.is(to) && (self.cores.is_core || self.cores.called.is_some())
    }

    /// Whether this node feeds other cores itself.
    pub(super) fn is_meshed(&self) -> bool {
        self.cores.is_core && self.cores.meshed
    }

    pub(super) fn is_in_mesh(&self, node: &NodeId) -> bool {
        self.cores.is_core && self.cores.mesh.contains_key(node)
    }

    /// Whether that is a core that feeds the others itself: what it sends is for our own tree.
    pub(super) fn is_peer(&self, node: &NodeId) -> bool {
        let above = self.cores.is_core && self.parent.as_ref() == Some(node);
        // A child that has become a core stays below until it feeds all others.
        above || self.children.get(node).map_or(self.is_in_mesh(node), |child| child.meshed)
    }

    /// Other cores that are fed by this one; until it feeds all of them the root does, too, and what
    /// comes twice is better than what comes by a detour.
    pub(super) fn mesh(&self) -> impl Iterator<Item = NodeId> + '_ {
        let mesh = self.cores.mesh.keys().copied();
        // Neither above nor below: those are fed as such.
        mesh.filter(|it| self.cores.is_core && self.parent != Some(*it) && !self.children.contains_key(it))
    }

    /// Whom a batch goes to that came from there; by the tree unless `pulled`.
    pub(crate) fn onward(&self, from: Option<&NodeId>, pulled: bool) -> Vec<NodeId> {
        let by_core = from.is_some_and(|it| self.is_peer(it));
        let below = self.children.iter().filter(|(_, child)| !(by_core && child.meshed));
        // Who takes us for one that feeds all cores passes nothing on to them: so none is fed before.
        let meshed = self.is_meshed();
        let mesh = self.mesh().filter(|_| meshed);
        let left = self.left.map(|(node, _)| node);
        let left = left.filter(|it| !meshed && !self.children.contains_key(it));
        let around = self.parent.into_iter().chain(mesh).chain(left).filter(|_| !by_core && !pulled);
        around.chain(below.map(|(node, _)| *node)).filter(|it| Some(it) != from).collect()
    }

    /// The parent from before this node became a core, that still passes on what comes from here.
    pub(super) fn left(&self) -> Option<NodeId> {
        let left = self.left.map(|(node, _)| node);
        left.filter(|it| !self.is_in_mesh(it) && !self.children.contains_key(it))
    }

    /// Lets the parent from before go, once all cores are fed from here or after a while.
    pub(super) fn poll_left(&mut self, now: Time, acts: &mut Vec<Act>) {
        let meshed = self.is_meshed();
        let Some((node, _)) = self.left.take_if(|(_, until)| meshed || *until <= now) else { return };
        if self.children.contains_key(&node) {
            return;
        }
        acts.push(Act::Prune(node));
        if self.is_in_mesh(&node) {
            // It is a core by now, and takes us for none of its own.
            acts.push(Act::Mesh(node, true));
        }
    }

    /// Whether this one is to be a neighbour, to be a core together.
    pub(crate) fn wants(&self, node: &NodeId) -> bool {
        let root = self.root.is(node) && (self.cores.called.is_some() || self.cores.is_core);
        let core = self.cores.is_core && self.cores.all.contains_key(node);
        root || core || (self.root.is(&self.me) && self.cores.asked.contains_key(&node.tag()))
    }

    /// Tree neighbours, and those that are to be: links to keep.
    pub(crate) fn bonds(&self) -> Vec<NodeId> {
        self.edges().into_iter().chain(self.wanted()).chain(self.asked_in()).collect()
    }

    /// Who is asked to be our parent, and is no tree neighbour yet.
    fn asked_in(&self) -> Option<NodeId> {
        let asked = self.grafting.as_ref().map(|it| it.to);
        asked.filter(|it| !self.is_edge(it) && !self.wanted().any(|wanted| wanted == *it))
    }

    /// How many there are of them.
    pub(crate) fn bonds_len(&self) -> usize {
        let above = usize::from(self.parent.is_some()) + usize::from(self.left.is_some());
        let edges = above + self.children.len() + self.mesh().count();
        edges + self.wanted().count() + usize::from(self.asked_in().is_some())
    }

    /// Neighbours that are to be tree neighbours.
    fn wanted(&self) -> impl Iterator<Item = NodeId> + '_ {
        let involved = self.is_core() || self.cores.called.is_some();
        let is_edge = |node: &NodeId| {
            self.is_in_mesh(node) || self.parent.as_ref() == Some(node) || self.children.contains_key(node)
        };
        let heard = involved.then_some(&self.heard).into_iter().flat_map(BTreeMap::keys);
        heard.filter(move |it| !is_edge(it) && self.wants(it)).copied()
    }

    /// This node publishes so much that it should be a core, or no longer.
    pub(crate) fn set_source(&mut self, is_source: bool) {
        if self.cores.is_source != is_source {
            self.cores.is_source = is_source;
            self.renew_by(Time::ZERO);
            self.cores.next_plan = Time::ZERO;
        }
    }

    /// The root wants somebody to be a core: us, or one below.
    pub(crate) fn handle_appoint(
        &mut self,
        sight: &Sight<'_>,
        from: &NodeId,
        appoint: Appoint,
        acts: &mut Vec<Act>,
    ) {
        if self.parent.as_ref() != Some(from) || !self.root.matches(&appoint.root, appoint.epoch) {
            return;
        }
        if appoint.tag == self.tag {
            (self.cores.called, self.cores.alone) = (Some(sight.now + CALL_TTL), appoint.alone);
            // It may have had no room for one more child. For a core it has.
            self.refused.remove(&appoint.root);
            let addresses = appoint.addresses.into_iter().take(ADDRESSES).collect();
            acts.push(Act::MeetAt(appoint.root, addresses));
            self.reconsider(sight, acts);
            return;
        }
        // In a loop of parents it would come again and again.
        let lately = |at: &Time| sight.now.since(*at) < APPOINT_GAP;
        self.cores.passed.retain(|_, at| lately(at));
        if self.cores.passed.len() < MAX_PASSED && self.cores.passed.insert(appoint.tag, sight.now).is_none()
        {
            let addresses = appoint.addresses.into_iter().take(ADDRESSES).collect();
            self.pass_appoint(Appoint { addresses, ..appoint }, acts);
        }
    }

    /// Down to the child that told of that one, or to all if none did: those that speak for a cluster
    /// change, and members move, faster than the root hears of it.
    pub(super) fn pass_appoint(&self, appoint: Appoint, acts: &mut Vec<Act>) {
        let has = |child: &Child| child.clusters.iter().any(|it| it.best == appoint.tag);
        let via = self.children.iter().find(|(_, child)| has(child) && !appoint.wide);
        let via: Vec<NodeId> =
            via.map(|(node, _)| vec![*node]).unwrap_or_else(|| self.children.keys().copied().collect());
        let wide = appoint.wide || via.len() > 1;
        acts.extend(via.into_iter().map(|child| Act::Appoint(child, Appoint { wide, ..appoint.clone() })));
    }

    /// The root says who the cores are.
    pub(crate) fn handle_cores(
        &mut self,
        sight: &Sight<'_>,
        from: &NodeId,
        told: &Told,
        acts: &mut Vec<Act>,
    ) {
        if !self.root.is(from) || !self.root.matches(&told.root, told.epoch) {
            return;
        }
        // The root is on the list, too.
        let most = sight.config.max_cores * 2 + 1;
        let few = |(node, at): &(NodeId, Vec<Address>)| (*node, at.iter().take(ADDRESSES).cloned().collect());
        self.cores.all = told.cores.iter().take(most).map(few).collect();
        if self.cores.all.remove(&self.me).is_none() {
            self.resign(acts);
            return;
        }
        let all = &self.cores.all;
        self.cores.mesh.retain(|node, _| all.contains_key(node));
        if !self.cores.is_core {
            (self.cores.is_core, self.cores.meshed) = (true, false);
            self.cores.mesh_by = sight.now + MESH_TIMEOUT;
            self.changed = true;
        }
        self.cores.called = None;
        self.cores.next_hello = sight.now;
        self.reconsider(sight, acts);
        self.poll_cores(sight, acts);
    }

    /// A core that has become a neighbour is asked to feed us.
    pub(super) fn greet_core(&self, node: NodeId, acts: &mut Vec<Act>) {
        let awaited = self.cores.is_core && self.cores.all.contains_key(&node);
        if awaited && self.parent != Some(node) {
            acts.push(Act::Mesh(node, true));
        }
    }

    pub(crate) fn handle_mesh(&mut self, sight: &Sight<'_>, from: NodeId, on: bool, acts: &mut Vec<Act>) {
        if !on {
            self.cores.mesh.remove(&from);
        } else if self.cores.is_core && self.cores.all.contains_key(&from) && self.parent != Some(from) {
            let new = self.cores.mesh.insert(from, sight.now + CHILD_TTL).is_none();
            if new {
                acts.push(Act::Mesh(from, true));
                acts.push(Act::Edge(from));
                self.maybe_meshed(sight.now);
            }
        }
    }

    /// From now on we feed the other cores ourselves, if all are there: the root is told.
    fn maybe_meshed(&mut self, now: Time) {
        let others = self.cores.all.keys().filter(|it| self.parent.as_ref() != Some(*it));
        let complete = others.clone().all(|it| self.cores.mesh.contains_key(it));
        if self.cores.is_core && !self.cores.meshed && (complete || self.cores.mesh_by <= now) {
            self.cores.meshed = true;
            self.renew_by(now);
        }
    }

    /// The parent hears of us by then.
    pub(super) fn renew_by(&mut self, time: Time) {
        if self.parent.is_some() {
            self.next_renewal = self.next_renewal.min(time);
        }
    }

    /// Is a member like others from now on.
    pub(super) fn resign(&mut self, acts: &mut Vec<Act>) {
        self.cores.called = None;
        if std::mem::take(&mut self.cores.is_core) {
            self.changed = true;
            let mesh = std::mem::take(&mut self.cores.mesh);
            acts.extend(mesh.into_keys().map(|node| Act::Mesh(node, false)));
        }
    }

    /// Another root: those that were cores together stay so, if it is one of them.
    pub(super) fn on_root_of_cores_changed(&mut self, now: Time, acts: &mut Vec<Act>) {
        self.cores.called = None;
        self.cores.asked.clear();
        self.cores.absent.clear();
        self.cores.leaving.clear();
        self.cores.plan_pause = Duration::ZERO;
        if self.root.is(&self.me) {
            let others = self.cores.all.keys().filter(|_| self.cores.is_core);
            self.cores.asked = others
                .map(|it| (it.tag(), Asked { place: Place::default(), until: now + CALL_TTL, times: 0 }))
                .collect();
            self.resign(acts);
        } else if !self.cores.all.contains_key(&self.root.node()) {
            self.resign(acts);
        }
    }

    pub(super) fn forget_core(&mut self, node: &NodeId) {
        self.cores.mesh.remove(node);
    }

    /// What a core, or who is to be one, does about its parent; `false` if it is like others.
    pub(super) fn seek_as_core(&mut self, sight: &Sight<'_>, acts: &mut Vec<Act>) -> bool {
        if !self.cores.is_core && self.cores.called.is_none() {
            return false;
        }
        let root = self.root.node();
        let is_near = self.heard.contains_key(&root) && sight.links.connected(&root);
        if self.parent == Some(root) && self.cores.is_core && is_near {
            return true;
        }
        if is_near && !self.cores.is_core && self.is_detour(sight, &root) {
            self.cores.called = None;
            return false;
        }
        if is_near && !self.refused.contains_key(&root) {
            if self.grafting.is_none() {
                self.graft(sight, root, ParentReason::NewRoot, acts);
            }
            return true;
        }
        if !self.cores.is_core {
            return false;
        }
        if self.parent.is_some() {
            self.orphan(sight.now, ParentReason::LinkClosed);
        }
        // Other cores feed us meanwhile.
        let patience = if self.cores.mesh.is_empty() { SHORTLY } else { POISON_AFTER };
        let patient = self.orphan_since.is_some_and(|at| sight.now.since(at) < patience);
        if !patient {
            self.resign(acts);
        }
        patient
    }

    /// Whether the direct way to the root is longer than the tree's: where round trips are no
    /// distances, somebody in between may be near to both.
    fn is_detour(&self, sight: &Sight<'_>, root: &NodeId) -> bool {
        let direct = sight.links.distance(root).map(|rtt| rtt / 2);
        let ways = direct.zip(self.current_cost(sight));
        self.cores.alone && ways.is_some_and(|(direct, way)| direct > way.mul_f64(DETOUR))
    }

    /// Whether this one may be a core under us.
    pub(super) fn takes_core(&self, sight: &Sight<'_>, node: &NodeId) -> bool {
        let is_core = self.children.get(node).is_some_and(|child| child.core);
        let asked = self.cores.asked.contains_key(&node.tag());
        let room = self.core_children().count() < sight.config.max_cores * 2;
        self.root.is(&self.me) && (is_core || (asked && room))
    }

    pub(super) fn core_children(&self) -> impl Iterator<Item = NodeId> {
        self.children.iter().filter(|(_, child)| child.core).map(|(node, _)| *node)
    }

    /// As root: the cores are others than before.
    pub(super) fn on_cores_changed(&mut self) {
        self.cores.plan = self.cores.plan.wrapping_add(1);
        self.tell_cores_soon();
    }

    pub(super) fn tell_cores_soon(&mut self) {
        self.changed = true;
        self.cores.next_told = Time::ZERO;
    }

    pub(super) fn poll_cores(&mut self, sight: &Sight<'_>, acts: &mut Vec<Act>) {
        let now = sight.now;
        self.poll_left(now, acts);
        self.cores.called.take_if(|until| *until <= now);
        self.cores.mesh.retain(|_, until| now < *until);
        if self.root.is(&self.me) {
            self.cores.absent.retain(|_, until| now < *until);
            let (late, asked) =
                std::mem::take(&mut self.cores.asked).into_iter().partition(|(_, it)| it.until <= now);
            self.cores.asked = asked;
            let late: BTreeMap<u64, Asked> = late;
            self.cores.absent.extend(late.into_keys().map(|tag| (tag, now + ABSENT_FOR)));
            if self.cores.next_plan <= now {
                self.plan_cores(sight, acts);
            }
            if self.cores.next_told <= now {
                self.cores.next_told = now + TOLD_EVERY;
                let cores: Vec<_> = self.core_children().collect();
                let to: Vec<_> = cores.iter().copied().chain(self.dismissed.drain(..)).collect();
                if !to.is_empty() {
                    acts.push(Act::Cores(to, [self.me].into_iter().chain(cores).collect()));
                }
            }
        } else if self.cores.is_core && self.cores.next_hello <= now {
            self.maybe_meshed(now);
            self.cores.next_hello = now + if self.cores.meshed { GRAFT_RENEWAL } else { HELLO_AGAIN };
            for (node, addresses) in self.cores.all.iter().filter(|it| self.parent.as_ref() != Some(it.0)) {
                if self.heard.contains_key(node) {
                    acts.push(Act::Mesh(*node, true));
                } else if self.me < *node || !self.cores.meshed || self.cores.mesh_by <= now {
                    acts.push(Act::MeetAt(*node, addresses.clone()));
                }
            }
        }
    }
}
