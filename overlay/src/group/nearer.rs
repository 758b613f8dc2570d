//! Rounds of looking for a better parent than any neighbour is.

use std::time::Duration;

use super::Group;
use super::ctx::Ctx;
use super::route::ADDRESSES;
use super::route::near::Known;
use super::route::tree::{Offer, Sight, is_great};
use crate::coordinate::Place;
use crate::id::{Address, NodeId};
use crate::io::MemberState;
use crate::locator::NEAREST;
use crate::wire::frame::{Candidate, Candidates, Crown, Frame};

/// Candidates told in one exchange: the best for the other, and while this node looks for its place…
const BEST: usize = 4;
/// …the nearest to the other, and some more so that all come around; later one of these, while there is much
/// that is new.
const CLOSE: usize = 8;
const OTHERS: usize = 3;
/// Links to such members that are opened at a time.
const DIALS: usize = 2;
/// The way from the root to one that has not said.
const NOWHERE: Duration = Duration::from_micros(u32::MAX as u64);
/// A root by hearsay is sought if its way to all is that much shorter than a neighbour's. Guess.
const MUCH_BETTER: f64 = 0.9;

impl Group {
    pub(super) fn poll_near(&mut self, ctx: &mut Ctx<'_>) {
        let is_root = self.tree.ideal().is_some();
        if !self.near.is_due(ctx.now, ctx.rng, is_root) || self.is_over() {
            return;
        }
        if self.are_all_neighbours() {
            return;
        }
        let active = self.views.active();
        // The near know the near; others know others.
        let close: Vec<_> = if self.near.is_placing(ctx.now) {
            ctx.links.nearest(NEAREST).into_iter().map(|(_, node, _)| node).collect()
        } else {
            self.tree.edges()
        };
        let from = if close.is_empty() || ctx.rng.below(3) == 0 { &active } else { &close };
        if let Some(partner) = ctx.rng.pick(from).copied() {
            let told = self.candidates_for(ctx, &partner, None);
            ctx.send(&partner, &Frame::Candidates(told));
        }
        self.try_nearer(ctx);
        self.maybe_hand_over(ctx);
    }

    /// Nobody is left to be heard of.
    fn are_all_neighbours(&self) -> bool {
        !self.roster.is_full() && self.roster.online().iter().all(|it| self.views.is_active(it))
    }

    /// Makes a neighbour of the candidate that seems nearest to the root from here, if it is nearer
    /// than the parent.
    fn try_nearer(&mut self, ctx: &mut Ctx<'_>) {
        let sight = Sight { now: ctx.now, links: ctx.links, config: ctx.config };
        let Some(parent) = self.tree.parent() else { return };
        let Some(current) = self.tree.current_cost(&sight) else { return };
        let gain = sight.gain(current) + ctx.links.jitter(&parent);
        let views = &self.views;
        let is_worth_it = |cost: Duration, offer: &Offer| {
            let nearer = if offer.free > 0 {
                cost + gain < current
            } else {
                is_great(&sight, (current, &parent), (cost, &offer.node))
            };
            nearer && !views.is_active(&offer.node)
        };
        if let Some(node) = self.near.try_best(ctx.now, &ctx.links.here(), is_worth_it) {
            self.meet(ctx, node, &[]);
        }
    }

    /// While this node does not know its place: links to those that should be near, for their round
    /// trips.
    pub(crate) fn meet_close(&mut self, ctx: &mut Ctx<'_>) {
        self.near.on_placing(ctx.now);
        let here = ctx.links.here();
        let enough = ctx.links.nearest(NEAREST).get(NEAREST - 1).map_or(Duration::MAX, |it| it.0);
        let close = self.near.close(&here).into_iter().filter(|(_, node)| !ctx.links.connected(node));
        let nearer = close.take_while(|(away, _)| *away < enough);
        for (_, node) in nearer.take(DIALS).collect::<Vec<_>>() {
            let addresses = self.addresses_of(&node);
            ctx.dial(node, &addresses);
        }
    }

    /// What a neighbour should hear of, that looks `towards` somewhere: those from which the way from
    /// the root to there is shortest.
    fn candidates_for(&mut self, ctx: &mut Ctx<'_>, node: &NodeId, towards: Option<Place>) -> Candidates {
        let sight = Sight { now: ctx.now, links: ctx.links, config: ctx.config };
        let exchange = towards.is_none();
        let towards = towards.or_else(|| ctx.links.place(node)).unwrap_or_else(|| ctx.links.here());
        let mut pool: Vec<(Offer, u32)> = self
            .tree
            .own_offer(&sight)
            .into_iter()
            .chain(self.tree.offers(&sight))
            .map(|it| (it, 0))
            .collect();
        pool.extend(self.near.known().map(|it| (it.offer, ctx.now.since(it.at).as_secs() as u32)));
        let placing = self.near.is_placing(ctx.now);
        if placing {
            pool.extend(self.linked_strangers(ctx).into_iter().map(|it| (it, 0)));
        }
        pool.retain(|(offer, ..)| offer.node != *node);
        pool.sort_by_cached_key(|(offer, ..)| (offer.delay + towards.to(&offer.place), offer.node));
        // Whoever is not much nearer to the root than the other is already would be told in vain. A root
        // looks for something else.
        let placed = self.tree.delay_of(node).filter(|delay| !delay.is_zero());
        let most = placed.map(|it| it.saturating_sub(sight.gain(it)));
        let is_nearer = |offer: &Offer| most.is_none_or(|it| offer.delay + towards.to(&offer.place) < it);
        let nearer = pool.iter().take(BEST).take_while(|(offer, ..)| is_nearer(offer)).count();
        let mut others = pool.split_off(nearer);
        if placing {
            let by_us = way_to(ctx, node);
            others.sort_by_cached_key(|(offer, ..)| {
                let by_us = by_us.zip(way_to(ctx, &offer.node)).map(|(a, b)| a + b);
                let by_map = Some(towards.to(&offer.place)).filter(|_| offer.place.is_located());
                let away = by_us.into_iter().chain(by_map).min();
                (away.is_none(), away, offer.node)
            });
            let rest = others.split_off(others.len().min(CLOSE));
            pool.extend(std::mem::replace(&mut others, rest));
        }
        ctx.rng.shuffle(&mut others);
        let some = if placing { OTHERS } else { usize::from(self.near.is_restless()) };
        pool.extend(others.into_iter().take(some));
        let candidates = pool.into_iter().filter_map(|(offer, age_s)| {
            let Offer { node, delay, free, place } = offer;
            let addresses = self.addresses_to_tell(&node);
            let is_reachable = node == ctx.me() || !addresses.is_empty();
            is_reachable.then_some(Candidate {
                node,
                addresses,
                delay_us: delay.as_micros() as u64,
                free,
                place,
                age_s,
                way_us: way_to(ctx, &node).filter(|_| placing).map(|it| it.as_micros() as u32),
            })
        });
        let towards = self.tree.ideal().unwrap_or_else(|| ctx.links.here());
        let candidates = candidates.collect();
        Candidates { tree: self.tree.tag(), towards, exchange, candidates }
    }

    /// Where a candidate may be reached.
    fn addresses_to_tell(&self, node: &NodeId) -> Vec<Address> {
        let mut addresses = Vec::new();
        for address in self.all_addresses_of(node) {
            if addresses.len() < ADDRESSES && !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses
    }

    /// Those that are linked and have said where they are, and nothing of the tree.
    fn linked_strangers(&self, ctx: &Ctx<'_>) -> Vec<Offer> {
        let strangers =
            ctx.links.located().filter(|(_, it, _)| self.tree.delay_of(it).is_none() && !self.near.knows(it));
        strangers.map(|(_, node, place)| Offer { node, delay: NOWHERE, free: 0, place }).collect()
    }

    pub(super) fn handle_candidates(&mut self, ctx: &mut Ctx<'_>, from: NodeId, told: &Candidates) {
        if told.exchange {
            let answer = self.candidates_for(ctx, &from, Some(told.towards));
            if !answer.candidates.is_empty() {
                ctx.send(&from, &Frame::Candidates(answer));
            }
        }
        if self.tree.tag() != told.tree {
            return;
        }
        for it in told.candidates.iter().take(BEST + CLOSE + OTHERS) {
            let running = self.roster.get(&it.node).is_none_or(|it| it.state() == MemberState::Online);
            let wanted =
                it.node != ctx.me() && running && !self.views.is_active(&it.node) && self.allows(&it.node);
            if wanted {
                let delay = Duration::from_micros(it.delay_us).min(NOWHERE);
                let offer = Offer { node: it.node, delay, free: it.free, place: it.place };
                let addresses = it.addresses.iter().take(ADDRESSES).cloned().collect();
                let at = ctx.now - Duration::from_secs(it.age_s.into());
                let told = it.way_us.map(|it| Duration::from_micros(it.into()));
                let way = told.zip(way_to(ctx, &from)).map(|(a, b)| a + b);
                self.near.hear(ctx, Known::new(offer, addresses, at, way));
            }
        }
    }

    /// As root: who is clearly nearer to all members follows. One that is known by hearsay becomes
    /// a neighbour first.
    pub(super) fn maybe_hand_over(&mut self, ctx: &mut Ctx<'_>) {
        if self.tree.has_cores(ctx.config) {
            // Where it is matters less then.
            return;
        }
        let sight = Sight { now: ctx.now, links: ctx.links, config: ctx.config };
        let known = self.near.known().map(|it| it.offer).filter(|it| !self.near.is_barren(&it.node));
        let [here, known] = self.tree.better_roots(&sight, known);
        match (here, known) {
            (here, Some((way, node))) if here.is_none_or(|here| way < here.0.mul_f64(MUCH_BETTER)) => {
                if self.near.try_this(ctx.now, node) {
                    self.bridge = Some(node);
                    self.meet(ctx, node, &[]);
                } else if let Some((_, node)) = here.filter(|it| self.near.is_tried(&it.1)) {
                    self.crown(ctx, &node);
                }
            }
            (Some((_, node)), _) => self.crown(ctx, &node),
            (None, _) => {}
        }
    }

    fn crown(&mut self, ctx: &mut Ctx<'_>, heir: &NodeId) {
        let (root, epoch) = self.tree.claim();
        ctx.send(heir, &Frame::Crown(Crown { root, epoch: epoch + 1 }));
    }
}

/// How far a linked node is, as round trips say.
fn way_to(ctx: &Ctx<'_>, node: &NodeId) -> Option<Duration> {
    ctx.links.distance(node).map(|it| it / 2)
}
