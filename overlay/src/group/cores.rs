//! Being a core, as far as it concerns more than the tree: addresses, and who publishes much.

use std::time::Duration;

use super::Group;
use super::ctx::Ctx;
use super::route::ADDRESSES;
use super::route::tree::Sight;
use crate::descriptor::Route;
use crate::id::NodeId;
use crate::time::Time;
use crate::wire::frame::{Appoint, Cores, Frame};

/// Messages a second that make a source a core in a group that decides by itself, and below which
/// it is none any more. Guess.
const BUSY: (f64, f64) = (0.5, 0.1);
/// In a group whose sources are all cores: one message is enough, for about a minute.
const SPEAKS: (f64, f64) = (0.01, 0.001);
/// Over how long rates are taken.
const MEMORY: Duration = Duration::from_secs(10);
/// A source whose core is nearer than this gains too little. Guess: most ways on one machine or
/// LAN are shorter.
const NEAR: Duration = Duration::from_millis(1);

/// How much this node publishes.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Messages, older ones counting less.
    count: f64,
    at: Time,
    is_source: bool,
}

impl Pace {
    fn rate(&self, now: Time) -> f64 {
        let age = now.since(self.at).as_secs_f64() / MEMORY.as_secs_f64();
        self.count * (-age).exp() / MEMORY.as_secs_f64()
    }

    pub(super) fn published(&mut self, now: Time) {
        self.count = self.rate(now) * MEMORY.as_secs_f64() + 1.0;
        self.at = now;
    }

    /// Whether it is much, given when that begins and ends.
    fn is_much(&mut self, now: Time, (begins, ends): (f64, f64)) -> bool {
        self.is_source = self.rate(now) >= if self.is_source { ends } else { begins };
        self.is_source
    }
}

impl Group {
    /// A node that publishes much is to be a core, if that shortens ways.
    pub(super) fn poll_pace(&mut self, ctx: &Ctx<'_>) {
        let bounds = match self.descriptor.route {
            Route::TreeAuto => BUSY,
            Route::TreeSource => SPEAKS,
            _ => return,
        };
        let was = self.pace.is_source;
        // Who leads a committee gives every batch its place, and gets every batch first.
        let leads = self.total.as_ref().is_some_and(|it| it.leads());
        let much = self.pace.is_much(ctx.now, bounds) || leads;
        let sight = Sight { now: ctx.now, links: ctx.links, config: ctx.config };
        let far = || self.tree.current_cost(&sight).is_some_and(|way| way >= NEAR);
        self.pace.is_source = much && (was || far());
        self.tree.set_source(self.pace.is_source);
    }

    pub(super) fn appoint(&mut self, ctx: &mut Ctx<'_>, child: &NodeId, mut appoint: Appoint) {
        if appoint.root == ctx.me() {
            appoint.addresses = self.addresses.iter().take(ADDRESSES).cloned().collect();
        }
        ctx.send(child, &Frame::Appoint(appoint));
    }

    pub(super) fn tell_cores(&self, ctx: &mut Ctx<'_>, to: &[NodeId], cores: &[NodeId]) {
        let addresses = |node: &NodeId| {
            let met = self.record_of(node).map(|it| it.addresses.clone());
            let mut known = met.unwrap_or_else(|| self.addresses_of(node));
            known.truncate(ADDRESSES);
            known
        };
        let (root, epoch) = self.tree.claim();
        let cores = cores.iter().map(|node| (*node, addresses(node))).collect();
        ctx.send_all(to, &Frame::Cores(Cores { root, epoch, cores }));
    }
}
