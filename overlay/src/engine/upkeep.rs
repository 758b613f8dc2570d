//! Links in good order: pings and what they tell, links that are silent or of no use, and those that
//! are opened for their round trips.

use std::time::Duration;

use super::Engine;
use crate::id::{GroupId, LinkId, NodeId};
use crate::io::{CloseReason, Event, RemoveError};
use crate::links::Link;
use crate::out::Out;
use crate::time::Time;
use crate::wire::frame::{Frame, Ping, Pong};

/// A link that no group needs is kept this long.
const UNUSED_FOR: Duration = Duration::from_secs(15);
/// …or a fifth of that, once there are more than this fraction of those that there may be: many look
/// for whoever is well placed.
const CROWDED: usize = 8;
/// The round trip of a busy link is measured this often.
const RTT_EVERY: Duration = Duration::from_secs(5);
/// By so much rarer are the pings on a link that no group shares, or that no group has needed for so long, and
/// longer the patience. Guess.
const CALM: u32 = 4;
const UNUSED_SOON: Duration = Duration::from_secs(3);
/// A link that is silent for so long after a ping, while the node speaks on another, is dead.
const SUPERSEDED_AFTER: Duration = Duration::from_millis(400);

impl Engine {
    pub(super) fn handle_remove(&mut self, now: Time, group: GroupId, node: NodeId, out: &mut Out) {
        if self.with_group(now, group, out, |group, ctx| group.remove(ctx, node)).is_none() {
            out.event(Event::RemoveRefused { group, node, error: RemoveError::UnknownGroup });
        }
    }

    pub(super) fn handle_ping(&mut self, now: Time, node: &NodeId, out: &mut Out) {
        if let Some(link) = self.links.await_round_trip(now, node) {
            self.ping(now, link, out);
        }
    }

    pub(super) fn ping(&mut self, now: Time, link: LinkId, out: &mut Out) {
        let place = self.links.tell_place(link);
        let settling = self.locator.is_settling(now);
        let distance = self.links.get(link).filter(|_| settling).and_then(Link::measured);
        let rtt_us = distance.and_then(|it| u32::try_from(it.as_micros()).ok());
        // No peer can answer before it was asked, to seem nearer than it is: it does not know the nonce.
        let nonce = self.rng.below(1 << 16) as u16;
        self.links.on_asked(now, link, nonce);
        self.send_on(now, link, &Frame::Ping(Ping { nonce: nonce.into(), place, rtt_us }), out);
    }

    pub(super) fn handle_pong(&mut self, now: Time, link: LinkId, pong: &Pong, out: &mut Out) {
        let Some(state) = self.links.get(link) else { return };
        let node = state.node;
        let Some(sent) = self.links.on_answered(link, pong.nonce) else { return };
        let rtt = now.since(sent);
        self.links.on_place(link, pong.place);
        if self.links.on_round_trip(now, link, rtt) {
            out.event(Event::RoundTrip { node, rtt });
        }
        self.relocate(now, link);
    }

    /// A link was measured, here or there: this node may be elsewhere than thought.
    pub(super) fn relocate(&mut self, now: Time, link: LinkId) {
        self.locator.on_round_trip(now, &self.links, link, &mut self.rng);
        self.links.set_here(self.locator.place());
    }

    /// Pings links, and closes those that are silent or of no use.
    pub(super) fn keep_links(&mut self, now: Time, out: &mut Out) {
        let crowded = self.links.len() * CROWDED > self.config.max_links;
        let unused_for = if crowded { UNUSED_FOR / 5 } else { UNUSED_FOR };
        for link in self.links.ids() {
            let superseded = self.links.is_superseded(now, link, SUPERSEDED_AFTER);
            let Some(state) = self.links.get(link) else { continue };
            let (node, shared) = (state.node, state.is_shared());
            let unused = now.since(state.last_needed) > UNUSED_SOON && self.is_of_no_use(&node);
            let calm = if shared && !unused { 1 } else { CALM };
            let every = self.config.ping_every * calm;
            // One end pings in time, and the other has heard of it by when it would.
            let patience = if self.identity.node() < node { every } else { every.mul_f64(1.5) };
            let quiet = now.since(state.last_heard) >= patience || state.is_unmeasured();
            let quiet = quiet || state.questioned;
            // The next ping may have been put off when no group shared the link yet.
            let overdue = now.since(state.last_heard) >= self.config.ping_every * calm * 2;
            let ping =
                (state.next_ping <= now || overdue) && (quiet || now.since(state.next_ping) >= RTT_EVERY);
            let unanswered = state.asked.is_some_and(|at| now.since(at) > self.config.ping_timeout);
            if superseded || unanswered || now.since(state.last_heard) > self.config.ping_timeout * calm {
                self.close(link, CloseReason::Silent, out);
                continue;
            }
            if unused && now.since(state.last_needed) > unused_for {
                if !shared {
                    self.dialer.foreign(now, &node);
                }
                self.close(link, CloseReason::Unused, out);
                continue;
            }
            if ping {
                let every = self.rng.jitter(self.config.ping_every * calm);
                if let Some(state) = self.links.get_mut(link) {
                    state.next_ping = now + every;
                    state.asked.get_or_insert(now);
                    state.questioned = false;
                }
                self.ping(now, link, out);
            }
        }
    }

    fn is_of_no_use(&self, node: &NodeId) -> bool {
        !self.kept.contains(node) && !self.groups.values().any(|it| it.group.is_neighbour(node))
    }

    /// Closes the link that was needed least lately, as there are too many; whether there was one
    /// that is of no use.
    pub(super) fn make_room(&mut self, now: Time, out: &mut Out) -> bool {
        let idle = self.links.ids().into_iter().filter_map(|link| {
            let state = self.links.get(link).filter(|it| self.is_of_no_use(&it.node))?;
            Some((state.is_shared(), state.last_needed, link))
        });
        let Some((.., link)) = idle.min() else { return false };
        self.close(link, CloseReason::Unused, out);
        self.handle_link_down(now, link, out);
        true
    }

    /// Opens links to some members, for their round trips.
    pub(super) fn meet_strangers(&mut self, now: Time, out: &mut Out) {
        for id in self.groups() {
            let missing = self.locator.missing(now, &self.links);
            let missing = if missing > 0 { missing.saturating_sub(self.dialer.dialing()) } else { 0 };
            if self.shutting_down {
                return;
            }
            self.with_group(now, id, out, |group, ctx| {
                group.meet_strangers(ctx, missing);
                group.meet_close(ctx);
            });
        }
    }
}
