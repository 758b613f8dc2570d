//! Network coordinates: how far apart two nodes are that never met (Vivaldi; Dabek, Cox,
//! Kaashoek, Morris 2004, with the height of §5.4 for the way to a node's own access).
//!
//! They only say whom it is worth to measure: no parent is chosen by them.

use std::time::Duration;

use crate::id::NodeId;
use crate::wire::cbor::cbor_array;

/// How much one sample moves a node, and its idea of its error (§3.4: c_c and c_e).
const TIMESTEP: f64 = 0.25;
const ERROR_WEIGHT: f64 = 0.25;
/// Of what is told; half a millisecond is less than coordinates are off anyway.
const UNITS_A_MS: f64 = 2.0;
/// Below this an error counts as at this distance, in milliseconds: of two that are half a
/// millisecond apart nobody needs to know whether it is one. Deviation from §3.4, where such pairs
/// make good coordinates look bad.
const NEAR: f64 = 5.0;
/// The longest way to the network that is believed, in milliseconds. Heights without a bound take in what
/// sets a whole region apart, and then the nodes of that region seem far from each other: no measurement
/// among them, and all others agree. Guess: about the slowest usual access.
const HIGHEST: f64 = 20.0;
/// Ways differ from distances by a share of their length: of one that is longer than this, in milliseconds,
/// the error counts the less the longer it is, once the map has its form. Guess, by simulation.
const SHORT: f64 = 20.0;
/// What a peer may claim, in milliseconds: nothing on Earth is farther.
const FARTHEST: f64 = 2_000.0;

/// What is no news of a place: half milliseconds on each axis, and percent of its error.
const SMALL_STEP: u32 = 4;

cbor_array! {
    /// A coordinate as it is told: half milliseconds, the error in percent.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Place {
        pub(crate) x: i32,
        pub(crate) y: i32,
        pub(crate) z: i32,
        pub(crate) height: u32,
        pub(crate) error: u32,
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

impl Place {
    /// Of a node of which nothing is known.
    pub(crate) const UNKNOWN: Self = Self { x: 0, y: 0, z: 0, height: 2, error: 100 };

    /// Whether its node has an idea where it is.
    pub(crate) fn is_located(&self) -> bool {
        self.error <= 50
    }

    /// Whether more measurements would not change it much. Guess.
    pub(crate) fn is_precise(&self) -> bool {
        self.error <= 12
    }

    /// Whether the other says nothing new.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        !self.is_away(other, SMALL_STEP) && self.error.abs_diff(other.error) <= SMALL_STEP
    }

    /// Whether they are farther apart than this on any axis, in half milliseconds.
    pub(crate) fn is_away(&self, other: &Self, step: u32) -> bool {
        let axes = [(self.x, other.x), (self.y, other.y), (self.z, other.z)];
        axes.iter().any(|(a, b)| a.abs_diff(*b) > step) || self.height.abs_diff(other.height) > step
    }

    /// Half a round trip between two places.
    pub(crate) fn to(&self, other: &Self) -> Duration {
        Coordinate::told(self).to(other)
    }
}

/// The middle of places, each counted so many times.
pub(crate) fn middle(places: impl Iterator<Item = (Place, u32)>) -> Place {
    let (mut sums, mut all) = ([0.0; 4], 0.0);
    for (place, times) in places {
        let told = Coordinate::told(&place);
        let [x, y, z] = told.at;
        for (sum, value) in sums.iter_mut().zip([x, y, z, told.height]) {
            *sum += value * f64::from(times);
        }
        all += f64::from(times);
    }
    let [x, y, z, height] = sums.map(|sum| if all > 0.0 { sum / all } else { 0.0 });
    Coordinate { at: [x, y, z], height, error: 1.0 }.place()
}

/// Where a node is, in milliseconds of one-way latency.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coordinate {
    at: [f64; 3],
    height: f64,
    /// Relative: 1 knows nothing.
    error: f64,
}

impl Coordinate {
    /// Of a node that has measured nothing: a place of its own near the middle, so that no two
    /// push each other in the same direction.
    pub(crate) fn new(node: &NodeId) -> Self {
        let bytes = node.tag().to_le_bytes();
        let at = [bytes[0], bytes[1], bytes[2]].map(|it| (f64::from(it) - 127.5) / 128.0);
        Self { at, height: 1.0, error: 1.0 }
    }

    /// As it is told.
    pub(crate) fn place(&self) -> Place {
        let units = |ms: f64| (ms * UNITS_A_MS).round() as i32;
        let [x, y, z] = self.at.map(units);
        Place { x, y, z, height: units(self.height).unsigned_abs(), error: (self.error * 100.0) as u32 }
    }

    /// Half a round trip to that place, by the coordinates.
    pub(crate) fn to(&self, place: &Place) -> Duration {
        Duration::from_secs_f64(self.distance(&Self::told(place)) / 1_000.0)
    }

    /// By what share of it a way differs from the distance to that place.
    pub(crate) fn wrong(&self, place: &Place, way: Duration) -> f64 {
        let way = way.as_secs_f64() * 1_000.0;
        (self.distance(&Self::told(place)) - way).abs() / way.max(NEAR)
    }

    /// Beside that place, with the same way to the network.
    pub(crate) fn moved_to(&self, place: &Place) -> Self {
        // Two at one point would not know where to push each other.
        let mut at = Self::told(place).at;
        at.iter_mut().zip(self.at).for_each(|(at, from)| *at += (from - *at).clamp(-0.1, 0.1));
        Self { at, ..*self }
    }

    /// A neighbour at that place is half this round trip away. `fine`: the map has its form, and it is about
    /// milliseconds.
    pub(crate) fn measured(&mut self, place: &Place, half_rtt: Duration, fine: bool) {
        let peer = Self::told(place);
        let measured = (half_rtt.as_secs_f64() * 1_000.0).clamp(0.01, FARTHEST);
        let guess = self.distance(&peer);
        let weight = self.error / (self.error + peer.error).max(f64::EPSILON);
        let wrong = self.wrong(place, half_rtt);
        let moment = ERROR_WEIGHT * weight;
        self.error = (wrong * moment + self.error * (1.0 - moment)).clamp(0.01, 1.0);
        let trust = if fine { (SHORT / measured).min(1.0) } else { 1.0 };
        let force = TIMESTEP * weight * trust * (measured - guess);
        let flat = self.flat(&peer);
        let away = if flat > 1e-6 {
            std::array::from_fn(|axis| (self.at[axis] - peer.at[axis]) / flat)
        } else {
            [1.0, 0.0, 0.0]
        };
        let share = flat / (flat + self.height + peer.height).max(1e-6);
        for (at, away) in self.at.iter_mut().zip(away) {
            *at = (*at + force * away * share).clamp(-FARTHEST, FARTHEST);
        }
        // Neither end's own way is longer than the way between both.
        let most = measured.clamp(0.1, HIGHEST);
        self.height = (self.height + force * (1.0 - share)).clamp(0.1, most);
    }

    /// Of a node that told this place.
    pub(crate) fn told(place: &Place) -> Self {
        let ms = |units: f64| (units / UNITS_A_MS).clamp(-FARTHEST, FARTHEST);
        Self {
            at: [place.x, place.y, place.z].map(|it| ms(f64::from(it))),
            height: ms(f64::from(place.height)),
            error: (f64::from(place.error) / 100.0).clamp(0.01, 1.0),
        }
    }

    /// How far apart two are, in milliseconds, without the ways to the network of either.
    pub(crate) fn flat(&self, other: &Self) -> f64 {
        self.at.iter().zip(other.at).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
    }

    fn distance(&self, other: &Self) -> f64 {
        self.flat(other) + self.height + other.height
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Nodes on a map with access delays learn each other's distance from a few neighbours each.
    #[test]
    fn distances_are_learnt_from_few_neighbours() {
        const NODES: usize = 100;
        let mut rng = Rng::new(7);
        let true_at: Vec<(f64, f64, f64)> =
            (0..NODES).map(|_| (rng.unit() * 100.0, rng.unit() * 60.0, 0.5 + rng.unit() * 5.0)).collect();
        let latency = |a: usize, b: usize| {
            let ((ax, ay, ah), (bx, by, bh)) = (true_at[a], true_at[b]);
            Duration::from_secs_f64(((ax - bx).hypot(ay - by) + ah + bh) / 1_000.0)
        };
        let node = |it: usize| NodeId::from_bytes([it as u8 + 1; 32]);
        let mut all: Vec<Coordinate> = (0..NODES).map(|it| Coordinate::new(&node(it))).collect();
        let neighbours: Vec<Vec<usize>> =
            (0..NODES).map(|_| (0..6).map(|_| rng.below(NODES)).collect()).collect();
        for _ in 0..60 {
            for me in 0..NODES {
                for &other in neighbours[me].iter().filter(|it| **it != me) {
                    let place = all[other].place();
                    all[me].measured(&place, latency(me, other), false);
                }
            }
        }
        let mut wrong: Vec<f64> = Vec::new();
        for (a, coordinate) in all.iter().enumerate() {
            for b in (0..NODES).filter(|b| *b != a) {
                let (is, guess) = (latency(a, b).as_secs_f64(), coordinate.to(&all[b].place()).as_secs_f64());
                wrong.push((guess - is).abs() / is);
            }
        }
        wrong.sort_by(f64::total_cmp);
        let median = wrong[wrong.len() / 2];
        assert!(median < 0.2, "half of all distances are off by more than {median:.3}");
    }

    /// Most of a far town's nodes know nobody there: still, they are not as far from each other as from
    /// everybody else.
    #[test]
    fn the_nodes_of_a_far_town_are_near_each_other() {
        const NODES: usize = 120;
        let mut rng = Rng::new(3);
        let is_far = |it: usize| it < NODES / 15;
        let at: Vec<(f64, f64)> = (0..NODES).map(|_| (rng.unit() * 80.0, rng.unit() * 80.0)).collect();
        let latency = |a: usize, b: usize| {
            let ms = match (is_far(a), is_far(b)) {
                (true, true) => 5.0,
                (false, false) => (at[a].0 - at[b].0).hypot(at[a].1 - at[b].1) + 2.0,
                _ => 110.0 + (at[a].0 + at[b].0) / 10.0,
            };
            Duration::from_secs_f64(ms / 1_000.0)
        };
        let node = |it: usize| NodeId::from_bytes([it as u8 + 1; 32]);
        let mut all: Vec<Coordinate> = (0..NODES).map(|it| Coordinate::new(&node(it))).collect();
        let neighbours: Vec<Vec<usize>> =
            (0..NODES).map(|_| (0..14).map(|_| rng.below(NODES)).collect()).collect();
        for _ in 0..60 {
            for me in 0..NODES {
                for &other in neighbours[me].iter().filter(|it| **it != me) {
                    let place = all[other].place();
                    all[me].measured(&place, latency(me, other), false);
                }
            }
        }
        let far = all.iter().take(NODES / 15);
        let ways = far.clone().flat_map(|a| far.clone().map(|b| a.to(&b.place()).as_millis()));
        let mut ways: Vec<_> = ways.collect();
        ways.sort_unstable();
        let median = ways[ways.len() / 2];
        assert!(median < 60, "half of them believe that they are more than {median} ms apart");
    }

    #[test]
    fn no_claim_breaks_them() {
        let mut coordinate = Coordinate::new(&NodeId::from_bytes([3; 32]));
        let wild = Place { x: i32::MAX, y: i32::MIN, z: 0, height: u32::MAX, error: 0 };
        for _ in 0..100 {
            coordinate.measured(&wild, Duration::ZERO, false);
            coordinate.measured(&wild, Duration::from_secs(3_600), false);
            coordinate.measured(&coordinate.place(), Duration::from_millis(1), false);
        }
        let far = coordinate.to(&wild);
        assert!(far < Duration::from_secs(60) && coordinate.at.iter().all(|it| it.is_finite()), "{far:?}");
    }
}
