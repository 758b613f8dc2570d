//! Who might be a better parent than any neighbour: candidates by hearsay, and the one that is
//! being tried.
//!
//! Members tell each other of those who would suit the other best, by path latency and network
//! coordinate (T-Man; Jelasity, Montresor, Babaoglu 2009): within a dozen rounds each hears of the
//! best for itself. What they tell is hearsay and coordinates err, so the best is made a neighbour
//! for a while, measured, and taken for a parent only by what it says and shows itself. Rounds that
//! change nothing come ever more seldom.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::ctx::Ctx;
use super::tree::Offer;
use crate::coordinate::Place;
use crate::id::{Address, NodeId};
use crate::rng::Rng;
use crate::time::Time;

/// Between rounds: at first and after each move, and at most. Guess.
const PAUSE: (Duration, Duration) = (Duration::from_millis(400), Duration::from_secs(60));
/// Below this there may be much that is new. Guess.
const RESTLESS: Duration = Duration::from_secs(3);
/// The root's, at most: it is one, and all suffer from where it is.
const ROOTS_PAUSE: Duration = Duration::from_secs(2);
/// By so much each pause is longer than the one before.
const PATIENCE: f64 = 1.5;
/// What was heard so long ago is no longer true.
const STALE: Duration = Duration::from_secs(90);
/// How long a candidate has to become a neighbour, be measured, and be taken.
const TRIAL: Duration = Duration::from_secs(5);
/// So many are kept for being near, whatever their way from the root is: round trips to some near ones
/// make a node's place.
const CLOSE: usize = 12;
/// Between rounds at most while this node looks for its place. Guess.
const PLACING: Duration = Duration::from_millis(500);
/// One that was tried in vain is left alone for so long.
const BARREN: Duration = Duration::from_secs(60);

/// What is known of a candidate.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) offer: Offer,
    pub(crate) addresses: Vec<Address>,
    /// When it said so itself.
    pub(crate) at: Time,
    /// From here to it, by the coordinates.
    way: Duration,
    /// The shortest way to it by somebody who told of it, as round trips say.
    told: Option<Duration>,
}

impl Known {
    pub(crate) fn new(offer: Offer, addresses: Vec<Address>, at: Time, told: Option<Duration>) -> Self {
        Self { offer, addresses, at, way: Duration::ZERO, told }
    }

    /// How far from the root we would be below it, from here.
    fn cost(&self) -> Duration {
        self.offer.delay + self.way
    }

    /// How far away it seems from here: a map can be folded, and what was measured is not farther.
    fn away(&self) -> Option<Duration> {
        let by_map = Some(self.way).filter(|_| self.offer.place.is_located());
        by_map.into_iter().chain(self.told).min()
    }
}

#[derive(Debug)]
struct Trial {
    node: NodeId,
    until: Time,
}

/// Candidates that are no neighbours.
#[derive(Debug)]
pub(crate) struct Near {
    known: BTreeMap<NodeId, Known>,
    /// Where this node is, as all ways were counted.
    here: Place,
    trial: Option<Trial>,
    /// Tried in vain, until then.
    barren: BTreeMap<NodeId, Time>,
    pause: Duration,
    next_round: Time,
    placing: Time,
}

impl Near {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            known: BTreeMap::new(),
            here: Place::UNKNOWN,
            trial: None,
            barren: BTreeMap::new(),
            pause: PAUSE.0,
            next_round: now + PAUSE.0,
            placing: Time::ZERO,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether it is time for a round; the next is set.
    pub(crate) fn is_due(&mut self, now: Time, rng: &mut Rng, is_root: bool) -> bool {
        let due = self.next_round <= now;
        if due {
            self.next_round = now + rng.jitter(self.pause);
            let most = if is_root { ROOTS_PAUSE } else { PAUSE.1 };
            self.pause = self.pause.mul_f64(PATIENCE).min(most);
            self.known.retain(|_, it| now.since(it.at) < STALE);
            self.barren.retain(|_, until| now < *until);
            if let Some(trial) = self.trial.take_if(|it| it.until <= now) {
                self.barren.insert(trial.node, now + BARREN);
            }
        }
        due
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        Some(self.next_round)
    }

    /// There is another parent: what was best before need not be now.
    pub(crate) fn on_moved(&mut self, now: Time, to: Option<&NodeId>) {
        self.trial.take_if(|it| Some(&it.node) == to);
        self.pause = (self.pause / 4).max(PAUSE.0);
        self.next_round = self.next_round.min(now + self.pause);
    }

    /// Rounds come often again.
    pub(crate) fn look_around(&mut self, now: Time) {
        self.pause = self.pause.min(PAUSE.0);
        self.next_round = self.next_round.min(now + self.pause);
    }

    /// Whether rounds have brought something new of late.
    pub(crate) fn is_restless(&self) -> bool {
        self.pause < RESTLESS
    }

    /// Whether this one is being tried.
    pub(crate) fn is_tried(&self, node: &NodeId) -> bool {
        self.trial.as_ref().is_some_and(|it| it.node == *node)
    }

    /// Whether it was tried in vain of late.
    pub(crate) fn is_barren(&self, node: &NodeId) -> bool {
        self.barren.contains_key(node)
    }

    /// It does not want us.
    pub(crate) fn refused(&mut self, now: Time, node: &NodeId) {
        if self.trial.take_if(|it| it.node == *node).is_some() {
            self.barren.insert(*node, now + BARREN);
        }
    }

    pub(crate) fn forget(&mut self, node: &NodeId) {
        self.known.remove(node);
    }

    pub(crate) fn addresses(&self, node: &NodeId) -> &[Address] {
        self.known.get(node).map_or(&[], |it| &it.addresses)
    }

    /// This node is here now: ways are others than before.
    fn come_to(&mut self, here: Place) {
        if self.here != here {
            self.here = here;
            self.known.values_mut().for_each(|it| it.way = here.to(&it.offer.place));
        }
    }

    /// Somebody told of a candidate, to which it is so far by there.
    pub(crate) fn hear(&mut self, ctx: &Ctx<'_>, told: Known) {
        let (now, here, node) = (ctx.now, ctx.links.here(), told.offer.node);
        if now.since(told.at) >= STALE {
            return;
        }
        self.come_to(here);
        if let Some(known) = self.known.get_mut(&node) {
            let shortest = known.told.into_iter().chain(told.told).min();
            if known.at < told.at {
                *known = told;
                known.way = here.to(&known.offer.place);
            }
            known.told = shortest;
            return;
        }
        self.known.insert(node, Known { way: here.to(&told.offer.place), ..told });
        if self.known.len() > ctx.config.near_candidates {
            let last_close = self.last_close();
            let is_close = |it: &Known| {
                it.away().is_some_and(|away| last_close.is_none_or(|last| (away, it.offer.node) <= last))
            };
            let others = self.known.iter().filter(|(_, it)| !is_close(it));
            let last = others.max_by_key(|(node, it)| (it.cost(), **node)).map(|(node, _)| *node);
            last.map(|node| self.known.remove(&node));
        }
    }

    fn located(&self) -> Vec<(Duration, NodeId)> {
        self.known.values().filter_map(|it| Some((it.away()?, it.offer.node))).collect()
    }

    /// The farthest of those that are kept for being near; `None` if all are.
    fn last_close(&self) -> Option<(Duration, NodeId)> {
        let mut located = self.located();
        (located.len() > CLOSE).then(|| *located.select_nth_unstable(CLOSE - 1).1)
    }

    /// Those of which it is known how far away they are, nearest first.
    pub(crate) fn close(&mut self, here: &Place) -> Vec<(Duration, NodeId)> {
        self.come_to(*here);
        let mut close = self.located();
        close.sort_unstable();
        close
    }

    /// This node does not know its place yet: rounds tell who is near.
    pub(crate) fn on_placing(&mut self, now: Time) {
        self.next_round = self.next_round.min(now + PLACING);
        self.placing = now + PLACING * 2;
    }

    /// Whether this node looks for its place.
    pub(crate) fn is_placing(&self, now: Time) -> bool {
        now < self.placing
    }

    pub(crate) fn knows(&self, node: &NodeId) -> bool {
        self.known.contains_key(node)
    }

    /// All that are known.
    pub(crate) fn known(&self) -> impl Iterator<Item = &Known> {
        self.known.values()
    }

    /// Tries this one, unless another is being tried or it was tried in vain.
    pub(crate) fn try_this(&mut self, now: Time, node: NodeId) -> bool {
        let may = self.trial.is_none() && !self.is_barren(&node);
        if may {
            self.trial = Some(Trial { node, until: now + TRIAL });
        }
        may
    }

    /// Tries the one that should be nearest to the root for us, of those that are worth it at their
    /// distance.
    pub(crate) fn try_best(
        &mut self,
        now: Time,
        here: &Place,
        is_worth_it: impl Fn(Duration, &Offer) -> bool,
    ) -> Option<NodeId> {
        if self.trial.is_some() {
            return None;
        }
        self.come_to(*here);
        let all = self.known().map(|it| (it.cost(), it.offer));
        let worth = all.filter(|(cost, offer)| !self.is_barren(&offer.node) && is_worth_it(*cost, offer));
        let node = worth.map(|(cost, offer)| (cost, offer.node)).min()?.1;
        self.try_this(now, node).then_some(node)
    }
}
