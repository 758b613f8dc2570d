//! Our place, as we tell it: to whom, how often, and what while there is none.

use super::candidate;
use super::{ADVERT_GAP, Act, POISON_AFTER, SHORTLY, Sight, TO_ALL_EVERY, Tree};
use crate::time::Time;
use crate::wire::frame::Advert;

impl Tree {
    /// Whether those below are to look for another way than through us.
    pub(super) fn is_to_poison(&self, now: Time) -> bool {
        let patience = if self.grafting.is_some() { POISON_AFTER } else { SHORTLY };
        self.orphan_since.is_some_and(|at| now.since(at) >= patience)
    }

    pub(super) fn advertise(&mut self, sight: &Sight<'_>, acts: &mut Vec<Act>) {
        let now = sight.now;
        let poison = !self.poisoned && self.is_to_poison(now);
        let due = self.next_advert <= now || (self.changed && now.since(self.last_advert) >= ADVERT_GAP);
        if !due && !poison {
            return;
        }
        self.poisoned |= poison;
        let to_all =
            self.changed || poison || now.since(self.last_to_all) >= sight.config.advert_every * TO_ALL_EVERY;
        self.changed = false;
        self.last_advert = now;
        let every = sight.config.advert_every;
        self.next_advert = now + if self.parent.is_some() { every.mul_f64(1.5) } else { every };
        let Some(advert) = self.advert(sight) else { return };
        if !to_all {
            let children = self.children.keys().copied().collect();
            acts.push(Act::AdvertiseTo(children, advert));
            return;
        }
        self.last_to_all = now;
        acts.push(Act::Advertise(advert));
    }

    /// Our place as we tell it; while orphaned and not yet poisoned, nothing.
    pub(super) fn advert(&self, sight: &Sight<'_>) -> Option<Advert> {
        let free = self.free(sight.config) as u32;
        if self.root.is(&self.me) {
            let advert = self.root.advert(vec![self.tag], 0, free, self.size());
            return Some(Advert { plan: self.cores.plan, ..advert });
        }
        let Some(heard) = self.parent.and_then(|it| self.heard.get(&it)) else {
            return self.poisoned.then(|| self.root.advert(Vec::new(), u64::MAX, 0, 0));
        };
        let parent = self.parent.expect("heard of");
        let mut path = heard.advert.path.clone();
        path.push(self.tag);
        let delay = match heard.advert.delay_us {
            _ if self.is_core() => 0,
            u64::MAX => u64::MAX,
            _ => candidate::cost_of(sight, &parent, heard).as_micros() as u64,
        };
        Some(self.root.relay(&heard.advert, path, delay, free))
    }
}
