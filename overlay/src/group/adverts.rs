//! Adverts as they go out: whole when they say something new, else only the root's number.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Group;
use super::ctx::Ctx;
use crate::id::NodeId;
use crate::io::Lane;
use crate::time::Time;
use crate::wire::frame::{Advert, Frame, Pulse};

/// What differs by less than this is not news: of a path latency (nobody moves for less,
/// [`Config::parent_gain`](crate::Config::parent_gain)), and of a number of nodes.
const SMALL: Duration = Duration::from_micros(500);
const SMALL_SHARE: f64 = 0.02;
const SMALL_SIZE: f64 = 0.2;
/// An advert is told whole this often in any case, so that small changes do not add up.
const WHOLE_EVERY: Duration = Duration::from_secs(60);

/// What each neighbour was told last.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<NodeId, (Advert, Time)>);

impl Told {
    pub(super) fn forget(&mut self, node: &NodeId) {
        self.0.remove(node);
    }

    /// Whether this neighbour must hear all of it; if so, it is about to.
    fn is_news(&mut self, now: Time, node: NodeId, advert: &Advert) -> bool {
        let known = self.0.get(&node);
        let news = known.is_none_or(|(told, at)| now.since(*at) >= WHOLE_EVERY || !is_like(told, advert));
        if news {
            self.0.insert(node, (advert.clone(), now));
        }
        news
    }
}

impl Group {
    pub(super) fn advertise(&mut self, ctx: &mut Ctx<'_>, to: &[NodeId], advert: Advert) {
        let pulse = Frame::Pulse(Pulse { number: advert.number }).encode(ctx.channel);
        let (mut news, mut olds) = (Vec::new(), Vec::new());
        for node in to {
            let list = if self.told.is_news(ctx.now, *node, &advert) { &mut news } else { &mut olds };
            list.push(*node);
        }
        ctx.send_all(&news, &Frame::Advert(advert));
        for node in olds {
            ctx.send_encoded(&node, Lane::Live, pulse.clone());
        }
    }
}

/// Whether two adverts say the same but for the root's number.
fn is_like(told: &Advert, now: &Advert) -> bool {
    let Advert { root, epoch, number: _, delay_us, path, free, heir, size, plan } = now;
    let same = told.root == *root
        && told.epoch == *epoch
        && told.path == *path
        && (told.free > 0) == (*free > 0)
        && told.heir == *heir
        && told.plan == *plan;
    let small = (told.delay_us as f64 * SMALL_SHARE).max(SMALL.as_micros() as f64);
    let near = told.delay_us.abs_diff(*delay_us) as f64 <= small;
    let differs = f64::from(told.size.abs_diff(*size)) > f64::from(told.size) * SMALL_SIZE;
    same && near && !differs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advert() -> Advert {
        let root = NodeId::from_bytes([1; 32]);
        Advert {
            root,
            epoch: 1,
            number: 5,
            delay_us: 40_000,
            path: vec![1, 2],
            free: 3,
            heir: None,
            size: 50,
            plan: 0,
        }
    }

    #[test]
    fn only_what_is_new_is_told_whole() {
        let (node, other) = (NodeId::from_bytes([2; 32]), NodeId::from_bytes([3; 32]));
        let mut told = Told::default();
        let at = |seconds: u64| Time::from_micros(seconds * 1_000_000);
        assert!(told.is_news(at(0), node, &advert()));
        let later = Advert { number: 6, delay_us: 40_500, size: 52, ..advert() };
        assert!(!told.is_news(at(1), node, &later));
        assert!(told.is_news(at(1), other, &later), "it has heard nothing yet");
        assert!(told.is_news(at(2), node, &Advert { free: 0, ..later.clone() }));
        assert!(told.is_news(at(3), node, &Advert { delay_us: u64::MAX, ..later.clone() }));
        assert!(told.is_news(at(4), node, &Advert { path: vec![1, 4], ..later.clone() }));
        assert!(told.is_news(at(70), node, &Advert { path: vec![1, 4], ..later }), "once in a while");
    }
}
