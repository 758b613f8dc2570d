//! A full parent's choice: whom to keep when somebody asks in that would gain more.

use std::time::Duration;

use super::candidate::half_rtt;
use super::{Act, CHILD_TTL, MAX_SIZE, SENT_DOWN_FOR, Sight, Tree};
use crate::id::NodeId;
use crate::time::Time;
use crate::wire::frame::{Graft, GraftReply};

/// What a swap must gain for each node below the asker, and of what the asker gains. Guess:
/// coordinates err, and who is sent down may do better elsewhere.
const LEAST_GAIN: Duration = Duration::from_millis(1);
const LEAST_SHARE: f64 = 0.2;

/// Children that are fed although they were sent down, at most.
pub(crate) const LEAVING_AT_ONCE: usize = 2;

impl Tree {
    /// The child that is to be the asker's instead of ours, if that shortens the sum over all nodes
    /// concerned of the way from the root.
    pub(super) fn gives_way(&self, sight: &Sight<'_>, asker: &NodeId, graft: &Graft) -> Option<NodeId> {
        let heard = self.heard.get(asker)?;
        let ours = self.root.matches(&heard.advert.root, heard.advert.epoch);
        if !ours || heard.advert.free == 0 || heard.advert.delay_us == u64::MAX {
            return None;
        }
        sight.links.distance(asker)?;
        let asking = sight.links.place(asker)?;
        if self.children.values().filter(|child| child.leaving).count() >= LEAVING_AT_ONCE {
            return None;
        }
        let (way, size) = (seconds(half_rtt(sight.links, asker)), f64::from(graft.size.clamp(1, MAX_SIZE)));
        let here = self.advert(sight).filter(|it| it.delay_us != u64::MAX)?.delay_us as f64 / 1e6;
        let gain = (heard.advert.delay_us as f64 / 1e6 - here - way) * size;
        let loss = |child: &NodeId, size: u32| {
            let place = sight.links.place(child)?;
            let longer = way + seconds(asking.to(&place)) - seconds(half_rtt(sight.links, child));
            Some(longer * f64::from(size))
        };
        let staying = self.children.iter().filter(|(_, child)| !child.leaving && !child.core);
        let losses = staying.filter_map(|(node, child)| Some((loss(node, child.size)?, *node)));
        let (loss, child) = losses.min_by(|a, b| a.0.total_cmp(&b.0))?;
        let net = gain - loss;
        let noise = sight.links.jitter(asker) + sight.links.jitter(&child);
        (net > gain * LEAST_SHARE && net > seconds(LEAST_GAIN + noise * 2) * size).then_some(child)
    }

    /// Asks a child to go to one of those instead; it is fed until it has.
    pub(super) fn send_down(&mut self, now: Time, child: &NodeId, to: Vec<NodeId>, acts: &mut Vec<Act>) {
        if let Some(it) = self.children.get_mut(child) {
            it.leaving = true;
            it.heard = now + SENT_DOWN_FOR - CHILD_TTL;
        }
        acts.push(Act::GraftReply(*child, GraftReply { accepted: false, candidates: to }));
    }
}

fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}
