//! HOLD: who has asked for what the tree did not bring tells its children, so that one of a subtree asks and
//! not all (DESIGN.md §4; the suppression of SRM §3, along the tree instead of by chance).
//!
//! What is held back is held back once, and for no longer than the tree is late anyway: a parent that
//! says so of everything costs that much, and no message.

use std::collections::BTreeMap;

use crate::group::sources::LifeId;
use crate::id::Seq;
use crate::time::Time;

/// So often a parent's word stands for a batch: then it is as silent as any.
const EXCUSES: u32 = 2;

/// What the parent asked us not to ask for.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// What is below was named before.
    from: Seq,
    end: Seq,
    until: Time,
}

/// The holds of a group.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    heard: BTreeMap<LifeId, Held>,
    /// What our children were told of.
    told: BTreeMap<LifeId, Seq>,
    /// Holds since the parent last brought a batch.
    excuses: u32,
}

impl Holds {
    /// The parent has asked for what it lacks below `end`: whether it is the first to say so, and not one
    /// that only ever says so.
    pub(super) fn on_hold(&mut self, life: LifeId, end: Seq, until: Time) -> bool {
        let new = self.heard.get(&life).is_none_or(|it| it.end < end);
        self.excuses = self.excuses.saturating_add(u32::from(new));
        let waits = new && self.excuses <= EXCUSES;
        if waits {
            let from = self.heard.get(&life).map_or(0, |it| it.end);
            self.heard.insert(life, Held { from, end, until });
        }
        waits
    }

    pub(super) fn on_parent_speaks(&mut self) {
        self.excuses = 0;
    }

    /// Until when `first` of a life is not asked for.
    pub(super) fn until(&self, now: Time, life: &LifeId, first: Seq) -> Option<Time> {
        self.heard
            .get(life)
            .filter(|it| (it.from..it.end).contains(&first) && it.until > now)
            .map(|it| it.until)
    }

    /// Whether the parent once had to ask for this, or for what is after it.
    pub(super) fn named(&self, life: &LifeId, seq: Seq) -> bool {
        self.heard.get(life).is_some_and(|it| seq < it.end)
    }

    /// Whether our children are to be told that what is below `end` was asked for.
    pub(super) fn is_to_tell(&mut self, life: LifeId, end: Seq) -> bool {
        let told = self.told.entry(life).or_default();
        let new = *told < end;
        *told = end.max(*told);
        new
    }

    pub(super) fn forget_life(&mut self, life: &LifeId) {
        self.heard.remove(life);
        self.told.remove(life);
    }

    pub(super) fn retain(&mut self, open: impl Fn(LifeId) -> bool) {
        self.heard.retain(|life, _| open(*life));
        self.told.retain(|life, _| open(*life));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    #[test]
    fn a_range_is_held_back_once() {
        let life = (NodeId::from_bytes([1; 32]), 1);
        let at = Time::from_micros;
        let mut holds = Holds::default();
        assert!(holds.on_hold(life, 5, at(100)));
        assert_eq!(holds.until(at(50), &life, 4), Some(at(100)));
        assert_eq!(holds.until(at(50), &life, 5), None, "beyond what was named");
        assert!(!holds.on_hold(life, 5, at(300)), "said before");
        assert_eq!(holds.until(at(100), &life, 4), None, "no longer than that");
        assert!(holds.on_hold(life, 6, at(300)));
        assert_eq!(holds.until(at(200), &life, 5), Some(at(300)));
        assert_eq!(holds.until(at(200), &life, 4), None, "once, however far the parent counts");
    }

    #[test]
    fn who_only_ever_holds_is_excused_twice() {
        let mut holds = Holds::default();
        let life = (NodeId::from_bytes([1; 32]), 1);
        let mut hold = |end| holds.on_hold(life, end, Time::from_micros(100));
        assert_eq!([hold(1), hold(2), hold(3)], [true, true, false]);
        holds.on_parent_speaks();
        assert!(holds.on_hold(life, 4, Time::from_micros(100)));
    }
}
