//! When a parent that is merely nearer is worth a move.
//!
//! Each move costs two frames, a handful of batches that come twice or late, and news to the whole
//! subtree; latencies measured on a busy machine differ by more than those of two neighbours on
//! a LAN. So a gain must last, and the longer the more often this node has moved of late (cf. the
//! damping of flapping routes, RFC 2439 §4).

use std::time::Duration;

use crate::id::NodeId;
use crate::time::Time;

/// How long a great gain must last. Guess: what is measured at a link's beginning may be wrong.
const LASTS_IF_GREAT: Duration = Duration::from_millis(500);
/// How long a gain must last: several round trips are measured meanwhile. Guess.
const LASTS: Duration = Duration::from_secs(4);
/// While a tree is young, or its cores are, all move anyway: for so long a gain must last but a moment.
/// Guess.
const YOUNG: Duration = Duration::from_secs(15);
const LASTS_WHILE_YOUNG: Duration = Duration::from_millis(750);
const LASTS_IF_GREAT_WHILE_YOUNG: Duration = Duration::from_millis(100);
/// Doubled with every move, so many times at most: four minutes.
const MAX_DOUBLINGS: u32 = 6;
/// One move is forgotten this often. Guess.
const FORGIVEN_EVERY: Duration = Duration::from_secs(300);

/// Watches candidates that are clearly nearer than the parent.
#[derive(Debug, Default)]
pub(super) struct Optimiser {
    /// The one that is watched, and since when it has been nearer at every look.
    nearer: Option<(NodeId, Time)>,
    moves: u32,
    forgiven: Time,
    /// When the tree changed as a whole.
    renewed: Option<Time>,
}

impl Optimiser {
    /// Looks at those that are clearly nearer now, nearest first; names one that has been so for
    /// long enough. A `great` gain need not last as long.
    pub(super) fn look(&mut self, now: Time, nearer: &[NodeId], great: bool) -> Option<NodeId> {
        let kept = self.nearer.filter(|(node, _)| nearer.contains(node));
        let (node, since) = kept.or_else(|| nearer.first().map(|node| (*node, now))).unzip();
        self.nearer = node.zip(since);
        let patience = match (self.is_young(now), great) {
            (true, true) => LASTS_IF_GREAT_WHILE_YOUNG,
            (true, false) => LASTS_WHILE_YOUNG,
            (false, true) => LASTS_IF_GREAT,
            (false, false) => self.patience(now),
        };
        node.filter(|_| since.is_some_and(|since| now.since(since) >= patience))
    }

    /// The node has moved for being nearer. Great gains come to an end by themselves, and do not
    /// make it slower to move.
    pub(super) fn on_moved(&mut self, now: Time, great: bool) {
        self.nearer = None;
        if !great && !self.is_young(now) {
            self.moves = (self.moves + 1).min(MAX_DOUBLINGS);
            self.forgiven = now;
        }
    }

    /// There is another root, or there are other cores.
    pub(super) fn renew(&mut self, now: Time) {
        self.renewed = Some(now);
    }

    fn is_young(&self, now: Time) -> bool {
        self.renewed.is_some_and(|at| now.since(at) < YOUNG)
    }

    /// There is another parent, for whatever reason: what was measured against the old one is void.
    pub(super) fn begin_anew(&mut self) {
        self.nearer = None;
    }

    fn patience(&mut self, now: Time) -> Duration {
        while self.moves > 0 && now.since(self.forgiven) >= FORGIVEN_EVERY {
            self.moves -= 1;
            self.forgiven = self.forgiven + FORGIVEN_EVERY;
        }
        LASTS * (1 << self.moves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_gain_must_last() {
        let [a, b] = [1, 2].map(|it| NodeId::from_bytes([it; 32]));
        let mut optimiser = Optimiser::default();
        assert_eq!(optimiser.look(at(0), &[a], false), None);
        assert_eq!(optimiser.look(at(3), &[b, a], false), None);
        assert_eq!(
            optimiser.look(at(4), &[b, a], false),
            Some(a),
            "nearer at every look, if not the nearest"
        );
        assert_eq!(optimiser.look(at(5), &[b], false), None);
        assert_eq!(optimiser.look(at(8), &[], false), None);
        assert_eq!(optimiser.look(at(9), &[b], false), None, "it was not at the look before");
    }

    #[test]
    fn who_has_moved_often_is_slow_to_move_and_is_forgiven() {
        let node = NodeId::from_bytes([1; 32]);
        let mut optimiser = Optimiser::default();
        let mut lasted = |from: u64| {
            let until = (from..).find(|second| optimiser.look(at(*second), &[node], false).is_some());
            let until = until.expect("in the end");
            optimiser.on_moved(at(until), false);
            until - from
        };
        assert_eq!([lasted(10), lasted(100), lasted(200)], [4, 8, 16]);
        assert_eq!(lasted(216 + 700), 8, "two moves are forgiven by then");
    }
}
