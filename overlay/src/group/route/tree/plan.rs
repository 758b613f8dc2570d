//! As root: where the cores should be.
//!
//! The way between two members is the way to a core, to another and on; it is short if everybody
//! has a core near. So cores are medians of the members' places (the k-median problem; one of them
//! added or swapped at a time until nothing is gained, as in Arya et al. 2004), by the clusters that
//! grafts tell. Whoever publishes much is one, too: then no core is on a detour.

use std::time::Duration;

use super::cores::{Asked, CALL_TTL};
use super::{Act, Sight, Tree};
use crate::config::Config;
use crate::coordinate::Place;
use crate::id::NodeId;
use crate::time::Time;
use crate::wire::frame::{Appoint, Cluster};

/// Between plans: at first, and longer by this factor each time that nothing changed, up to this.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
const PATIENCE: f64 = 1.5;
/// Between plans at the least: whatever children say, there are not more.
const PLAN_GAP: Duration = Duration::from_millis(250);
/// Between words to who was asked to be a core and has not come. More than a round trip.
const CALL_GAP: Duration = Duration::from_millis(400);
/// What share of all ways must be saved by other places for the cores. Guess: coordinates err, and
/// a change moves a part of the group. More after each change, by this factor, up to this.
const MOVE_GAIN: (f64, f64, f64) = (0.03, 1.1, 0.3);
/// Cores that go elsewhere at once, at most: what is below them looks around for a while. Guess.
const SWAPS: usize = 2;
/// After each such change the next comes later by a step, so many times.
const MOVES_REMEMBERED: u32 = 10;
/// What share a core must save to be worth it, and one in the place of another. Guess.
const CORE_GAIN: f64 = 0.004;
const SWAP_GAIN: f64 = 0.004;
/// How much longer the way is for who is not right below its core. By simulation.
const DETOUR: Duration = Duration::from_millis(3);
/// What each member must gain in the mean. Guess: less than that, coordinates do not tell.
const LEAST_GAIN: Duration = Duration::from_micros(250);
/// A core in whose place others have come goes after so long: those below have looked around. Guess.
const GOES_AFTER: Duration = Duration::from_secs(5);
/// Cores rest for so long after a move, and a step longer after each; the first move soon mends what was planned
/// by places that were hardly known. Guess.
const MOVES_FOR: Duration = Duration::from_secs(8);
const MENDS_AFTER: Duration = Duration::from_secs(3);
/// The first plan waits for so long after the group has a root: coordinates settle meanwhile. Guess.
const FIRST_AFTER: Duration = Duration::from_secs(5);
/// After so many words on the way that the tree says, the next go to all. Guess.
const PATIENT_TIMES: u32 = 2;
/// Below this many members one shared tree is all. DESIGN.md §4: about 100.
const MANY: u32 = 100;

/// How many cores a group of so many members has, its root among them.
fn wanted(members: u32, config: &Config) -> usize {
    if let Some(cores) = config.cores {
        return cores.min(config.max_cores);
    }
    let few = members as usize / config.members_a_core.max(1);
    if members < MANY { 1 } else { few.clamp(1, config.max_cores) }
}

/// A core, or one that could be.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Site {
    tag: u64,
    place: Place,
}

impl Tree {
    /// Whether this group is so large that it has several cores, besides busy sources.
    pub(crate) fn has_cores(&self, config: &Config) -> bool {
        self.carries && wanted(self.size(), config) > 1
    }

    /// How many cores there should be where so many are: what members say of their number changes, and
    /// each core that goes moves all below it.
    fn enough(&mut self, are: usize, config: &Config) -> usize {
        // Whoever moves is counted twice until the parent that it left has told.
        let members = self.cores.members.replace(self.size()).unwrap_or(u32::MAX).min(self.size());
        let wanted = wanted(members, config);
        are.clamp(wanted, wanted + wanted / 4)
    }

    pub(super) fn plan_cores(&mut self, sight: &Sight<'_>, acts: &mut Vec<Act>) {
        if !self.cores.asked.is_empty() && sight.now < self.cores.planned + PAUSE.0 {
            self.call(acts);
            self.cores.next_plan = sight.now + CALL_GAP;
            return;
        }
        self.cores.planned = sight.now;
        let may = self.carries && self.root.is_settled_for(&self.me, sight.now, FIRST_AFTER);
        let changed = may && self.replan(sight, acts);
        let longer = self.cores.plan_pause.mul_f64(PATIENCE).clamp(PAUSE.0, PAUSE.1);
        self.cores.plan_pause = if changed || !may { PAUSE.0 } else { longer };
        let pause = if self.cores.asked.is_empty() { self.cores.plan_pause } else { CALL_GAP };
        let next = sight.now + pause;
        let goes =
            self.cores.leaving.values().min().map(|since| (*since + GOES_AFTER).max(sight.now + PAUSE.0));
        self.cores.next_plan = goes.map_or(next, |it| next.min(it));
    }

    /// Others publish much than before.
    pub(super) fn plan_soon(&mut self, now: Time) {
        let soon = now.max(self.cores.planned + PLAN_GAP);
        self.cores.next_plan = self.cores.next_plan.min(soon);
    }

    /// Asks those to come that should be cores, and lets those go that need not be any more;
    /// whether there was anything to do.
    fn replan(&mut self, sight: &Sight<'_>, acts: &mut Vec<Act>) -> bool {
        let mut clusters: Vec<Cluster> = self.clusters_below();
        for it in clusters.iter_mut().filter(|it| self.cores.absent.contains_key(&it.best)) {
            // It counts as a member, and not as a site.
            (it.source, it.place.error) = (false, Place::UNKNOWN.error);
        }
        let sources = clusters.iter().filter(|it| it.source).take(sight.config.max_cores);
        let sources: Vec<u64> = sources.map(|it| it.best).collect();
        let is_source = |site: &Site| sources.contains(&site.tag) && site.tag != self.tag;
        let mut now: Vec<Site> = self.sites(sight);
        now.extend(self.cores.asked.iter().map(|(tag, it)| Site { tag: *tag, place: it.place }));
        let map = Map::new(&clusters, &now, sight.config.max_children);
        let mut best = Plan { fixed: 1, sites: vec![0] };
        best.sites.extend(map.all().filter(|it| *it > 0 && is_source(&map.sites[*it])));
        best.fixed = best.sites.len();
        // Whoever is to go is not kept, or two that are as good would take turns.
        let leaving: Vec<u64> = self.cores.leaving.keys().map(NodeId::tag).collect();
        let stays = |site: &Site| !is_source(site) && !leaving.contains(&site.tag);
        let kept: Vec<usize> = (1..now.len()).filter(|it| stays(&now[*it])).collect();
        let most = best.fixed - 1 + self.enough(kept.len() + 1, sight.config);
        best.sites.extend(kept);
        map.shrink(&mut best, most);
        map.grow(&mut best, most);
        let moves = self.cores.moves;
        let rest = if moves == 0 { MENDS_AFTER } else { MOVES_FOR * (1 + moves.min(MOVES_REMEMBERED)) };
        let rests = self.cores.asked.is_empty() && sight.now.since(self.cores.moved) >= rest;
        // The first cores move nobody that has found one.
        let first = now.len() == 1;
        let is_worth = |it: &Plan| first || map.is_worth(map.way(it), map.way(&best), moves);
        let swaps = if moves == 0 { best.sites.len() * 2 } else { SWAPS };
        let moved = (first || rests).then(|| map.moved(&best, swaps)).filter(is_worth);
        if moved.is_some() {
            self.cores.moved = sight.now;
            self.cores.moves += u32::from(!first);
        }
        let plan = moved.unwrap_or(best);
        let plan: Vec<Site> = plan.sites.iter().map(|it| map.sites[*it]).collect();
        let is_new = |site: &&Site| !now.iter().any(|it| it.tag == site.tag);
        let new: Vec<Site> = plan.iter().filter(is_new).copied().collect();
        for site in &new {
            let asked = Asked { place: site.place, until: sight.now + CALL_TTL, times: 0 };
            self.cores.asked.insert(site.tag, asked);
        }
        self.call(acts);
        self.dismiss_unless(sight, &plan, acts) || !new.is_empty()
    }

    /// Has those come that were asked and have not yet: they may have moved while the word went down.
    fn call(&mut self, acts: &mut Vec<Act>) {
        let mut asked = std::mem::take(&mut self.cores.asked);
        let alone = self.core_children().next().is_none() && asked.len() == 1;
        for (tag, it) in &mut asked {
            it.times += 1;
            self.appoint(*tag, alone, it.times > PATIENT_TIMES, acts);
        }
        self.cores.asked = asked;
    }

    /// The cores, this node first.
    fn sites(&self, sight: &Sight<'_>) -> Vec<Site> {
        let own = Site { tag: self.tag, place: self.place };
        let others = self.core_children().map(|node| {
            let place = sight.links.place(&node).unwrap_or(Place::UNKNOWN);
            Site { tag: node.tag(), place }
        });
        [own].into_iter().chain(others).collect()
    }

    fn appoint(&self, tag: u64, alone: bool, wide: bool, acts: &mut Vec<Act>) {
        let (root, epoch) = self.root.claim();
        self.pass_appoint(Appoint { root, epoch, tag, addresses: Vec::new(), alone, wide }, acts);
    }

    /// Lets cores go that have not been in any plan for a while; whether there was one.
    fn dismiss_unless(&mut self, sight: &Sight<'_>, plan: &[Site], acts: &mut Vec<Act>) -> bool {
        let now = sight.now;
        let superfluous: Vec<NodeId> =
            self.core_children().filter(|node| !plan.iter().any(|site| site.tag == node.tag())).collect();
        self.cores.leaving.retain(|node, _| superfluous.contains(node));
        // Others must have come first.
        let came = |it: &&Site| it.tag == self.tag || self.core_children().any(|core| core.tag() == it.tag);
        let complete = plan.iter().filter(came).count() * 4 >= plan.len() * 3;
        let mut any = false;
        for node in superfluous {
            let since = *self.cores.leaving.entry(node).or_insert(now);
            if complete && now.since(since) >= GOES_AFTER {
                any = true;
                self.dismiss(sight, node, plan, acts);
            }
        }
        if any {
            self.on_cores_changed();
        }
        any
    }

    /// Makes a core a member like others, below another core.
    fn dismiss(&mut self, sight: &Sight<'_>, node: NodeId, plan: &[Site], acts: &mut Vec<Act>) {
        self.cores.leaving.remove(&node);
        self.dismissed.push(node);
        let place = sight.links.place(&node).unwrap_or(Place::UNKNOWN);
        let others = self.core_children().filter(|it| plan.iter().any(|site| site.tag == it.tag()));
        let nearest = others.min_by_key(|it| (sight.links.place(it).map(|at| at.to(&place)), *it));
        if let Some(child) = self.children.get_mut(&node) {
            (child.core, child.meshed) = (false, false);
        }
        if let Some(nearest) = nearest {
            self.send_down(sight.now, &node, vec![nearest], acts);
        }
    }
}

/// Some sites, by their number; the first ones stay.
#[derive(Debug, Clone)]
struct Plan {
    fixed: usize,
    sites: Vec<usize>,
}

/// Members, and where cores are or could be.
struct Map {
    sites: Vec<Site>,
    members: Vec<f64>,
    /// From each site to each cluster, in seconds.
    ways: Vec<Vec<f64>>,
    /// So many members are right below a core.
    fanout: f64,
}

/// Which core each cluster is nearest to, and what follows.
struct Shares {
    /// The way there, in seconds, and which of the plan's sites it is.
    nearest: Vec<(f64, usize)>,
    /// Members at each of them.
    loads: Vec<f64>,
}

impl Map {
    /// Cores that there are come first.
    fn new(clusters: &[Cluster], cores: &[Site], fanout: usize) -> Self {
        let mut sites = cores.to_vec();
        for it in clusters.iter().filter(|it| it.place.is_located()) {
            if !cores.iter().any(|core| core.tag == it.best) {
                sites.push(Site { tag: it.best, place: it.place });
            }
        }
        let way = |site: &Site, to: &Cluster| {
            // A core that does not know where it is counts for nobody.
            if site.place.is_located() { site.place.to(&to.centre).as_secs_f64() } else { FAR }
        };
        let ways = sites.iter().map(|site| clusters.iter().map(|it| way(site, it)).collect()).collect();
        let members = clusters.iter().map(|it| f64::from(it.members)).collect();
        Self { sites, members, ways, fanout: fanout as f64 }
    }

    fn all(&self) -> std::ops::Range<usize> {
        0..self.sites.len()
    }

    fn shares(&self, plan: &[usize]) -> Shares {
        let mut shares = Shares { nearest: vec![(FAR, 0); self.members.len()], loads: vec![0.0; plan.len()] };
        for (at, site) in plan.iter().enumerate() {
            for (nearest, way) in shares.nearest.iter_mut().zip(&self.ways[*site]) {
                if *way < nearest.0 {
                    *nearest = (*way, at);
                }
            }
        }
        for ((_, at), members) in shares.nearest.iter().zip(&self.members) {
            shares.loads[*at] += members;
        }
        shares
    }

    /// The ways of those that find no room right below a core are longer, in seconds.
    fn detours(&self, loads: impl Iterator<Item = f64>) -> f64 {
        loads.map(|load| (load - self.fanout).max(0.0)).sum::<f64>() * DETOUR.as_secs_f64()
    }

    /// All members' ways together, in seconds.
    fn way(&self, plan: &Plan) -> f64 {
        let shares = self.shares(&plan.sites);
        let ways = shares.nearest.iter().zip(&self.members).map(|((way, _), members)| way * members);
        ways.sum::<f64>() + self.detours(shares.loads.into_iter())
    }

    /// The site that shortens all ways most beside these, and how long they are then.
    fn best_beside(&self, plan: &[usize]) -> Option<(f64, usize)> {
        let shares = self.shares(plan);
        let mut loads = Vec::new();
        let mut with = |site: usize| {
            loads.clone_from(&shares.loads);
            let (mut sum, mut taken) = (0.0, 0.0);
            for (((way, at), there), members) in
                shares.nearest.iter().zip(&self.ways[site]).zip(&self.members)
            {
                if there < way {
                    (loads[*at], taken) = (loads[*at] - members, taken + members);
                }
                sum += way.min(*there) * members;
            }
            sum + self.detours(loads.iter().copied().chain([taken]))
        };
        self.all().map(|site| (with(site), site)).min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
    }

    /// Leaves out whoever is missed least until there are so many.
    fn shrink(&self, plan: &mut Plan, most: usize) {
        while plan.sites.len() > most.max(plan.fixed) {
            let without = |out: usize| {
                let mut rest = plan.clone();
                rest.sites.remove(out);
                self.way(&rest)
            };
            let ways = (plan.fixed..plan.sites.len()).map(|out| (without(out), out));
            let least = ways.min_by(|a, b| a.0.total_cmp(&b.0));
            least.map(|(_, out)| plan.sites.remove(out));
        }
    }

    /// Adds sites as long as that is worth it and there are not so many.
    fn grow(&self, plan: &mut Plan, most: usize) {
        for _ in plan.sites.len()..most {
            let best = self.best_beside(&plan.sites);
            let now = self.way(plan);
            let Some((_, site)) = best.filter(|it| it.0 < now * (1.0 - CORE_GAIN)) else { return };
            plan.sites.push(site);
        }
    }

    /// Whoever is missed least goes, and the best comes, as long as that gains, so many times at most.
    fn moved(&self, plan: &Plan, most: usize) -> Plan {
        let mut plan = plan.clone();
        for _ in 0..most {
            let now = self.way(&plan);
            let mut next = plan.clone();
            self.shrink(&mut next, plan.sites.len() - 1);
            let best = self.best_beside(&next.sites).filter(|it| it.0 < now * (1.0 - SWAP_GAIN));
            let Some((_, site)) = best.filter(|_| next.sites.len() < plan.sites.len()) else { break };
            next.sites.push(site);
            plan = next;
        }
        plan
    }

    /// Whether this is so much shorter that many should move.
    fn is_worth(&self, way: f64, now: f64, moves: u32) -> bool {
        let (first, factor, most) = MOVE_GAIN;
        let gain = (first * factor.powi(moves.min(16) as i32)).min(most);
        way + self.least() < now * (1.0 - gain)
    }

    fn least(&self) -> f64 {
        self.members.iter().sum::<f64>() * LEAST_GAIN.as_secs_f64()
    }
}

/// A way that is longer than any, in seconds.
const FAR: f64 = 10.0;
