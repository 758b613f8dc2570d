//! Where this node is: its network coordinate, and the pings that tell it.
//!
//! A coordinate is as good as the round trips it rests on: those to a handful of neighbours leave
//! half of all other distances off by a third, those to a dozen and some near ones come to a tenth
//! within ten exchanges (simulated on MODEL.md's network). So a node that does not know well where it
//! is has links to some more members for a while, and pings often.

use std::time::Duration;

use crate::coordinate::{Coordinate, Place};
use crate::id::{LinkId, NodeId};
use crate::links::{Link, Links};
use crate::rng::Rng;
use crate::time::Time;

/// Between pings on each link while this node looks for its place.
pub(crate) const EVERY: Duration = Duration::from_millis(600);
/// Links that are wanted until then. Guess, by simulation.
const LINKS: usize = 14;
/// It need not become so: where round trips are no distances there is no coordinate. Guess.
const AT_MOST: Duration = Duration::from_secs(20);
/// The nearest links count: a place that agrees with the far members that a node met at first does not tell
/// one corner of a region from another. It goes on while nearer ones are found, and so long after. Guess, by
/// simulation.
pub(crate) const NEAREST: usize = 10;
const NEARER_AFTER: Duration = Duration::from_secs(5);
/// In the place of a link that there is none of.
const NOBODY: Duration = Duration::from_secs(10);
/// Where ways differ from distances, more pings do not help: it is enough once the error has not come
/// down by a tenth for so long. Guess.
const STUCK_AFTER: Duration = Duration::from_secs(4);
const BETTER: f64 = 0.9;
/// Neighbours are looked at this often meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Before that the map takes its form, and long ways count like short ones. Guess, by simulation.
const FINE_AFTER: Duration = Duration::from_secs(8);
/// A place that was found stands, since all who know it build on it, and between few links it would drift…
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// …until ways differ from distances by so much more, as a share of them, than they did. Guess.
const ELSEWHERE: f64 = 0.4;
/// Between looks for it at the least.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// A node may go to where one of so many is that are not farther away, if its error is less by this factor there.
/// Guess, by simulation.
const JUMP_TO: usize = 3;
const JUMP_WITHIN: Duration = Duration::from_millis(15);
const JUMP_GAIN: f64 = 0.8;
/// The nearest count so many times anew with each answer: to them a millisecond is much. Simulated on MODEL.md's
/// network: nodes of one region are off by 1 ms then, after six seconds, and by 5 ms without.
const OTHERS: usize = 6;

/// This node's coordinate in the making.
#[derive(Debug)]
pub(crate) struct Locator {
    coordinate: Coordinate,
    /// By what share ways differed from distances when it was found.
    usual: Option<f64>,
    /// When there was a first link that a group shares.
    began: Option<Time>,
    next: Time,
    /// The least error so far, and since when.
    least_error: u32,
    improved: Time,
    /// The ways to the nearest links together, at the least so far, and since when.
    least_way: Duration,
    nearer: Time,
    /// All that are linked and say where they are, nearest first, as they were a moment ago.
    located: Vec<(Place, Duration)>,
    looked: Time,
}

impl Locator {
    pub(crate) fn new(me: &NodeId) -> Self {
        Self::at(Coordinate::new(me))
    }

    fn at(coordinate: Coordinate) -> Self {
        Self {
            coordinate,
            usual: None,
            began: None,
            next: Time::ZERO,
            least_error: u32::MAX,
            improved: Time::ZERO,
            least_way: NOBODY * NEAREST as u32,
            nearer: Time::ZERO,
            located: Vec::new(),
            looked: Time::ZERO,
        }
    }

    pub(crate) fn place(&self) -> Place {
        self.coordinate.place()
    }

    pub(crate) fn on_link(&mut self, now: Time) {
        self.began.get_or_insert(now);
    }

    /// Whether more measurements would say much more.
    pub(crate) fn is_settling(&self, now: Time) -> bool {
        let Some(began) = self.began else { return false };
        let improves = now < began + AT_MOST && now < self.improved.max(began) + STUCK_AFTER;
        let comes_nearer = now < began + AT_MOST && now < self.nearer.max(began) + NEARER_AFTER;
        comes_nearer || (improves && !self.place().is_precise())
    }

    /// How many more links would help.
    pub(crate) fn missing(&self, now: Time, links: &Links) -> usize {
        if self.is_settling(now) { LINKS.saturating_sub(links.shared_len()) } else { 0 }
    }

    /// Whether to ping all links now.
    pub(crate) fn is_due(&mut self, now: Time) -> bool {
        let due = self.next <= now;
        if due {
            self.next = now + EVERY;
        }
        due && self.is_settling(now)
    }

    /// The links to ping now that it is due.
    pub(crate) fn to_measure(&self, now: Time, me: &NodeId, links: &Links) -> Vec<LinkId> {
        links.to_measure(now, me, EVERY * 2)
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        Some(self.next).filter(|next| self.is_settling(*next))
    }

    /// A link was measured: this node finds its place anew, among its neighbours while it does not
    /// know it well.
    pub(crate) fn on_round_trip(&mut self, now: Time, links: &Links, link: LinkId, rng: &mut Rng) {
        let fine = self.began.is_some_and(|began| now.since(began) >= FINE_AFTER);
        if self.is_settling(now) {
            if now.since(self.looked) >= LOOK_EVERY {
                self.looked = now;
                let all = links.nearest(usize::MAX);
                self.located = all.into_iter().map(|(way, _, place)| (place, way)).collect();
                self.look_for_nearer(now);
                self.jump();
            }
            let nearest = &self.located[..self.located.len().min(NEAREST)];
            for (place, way) in (0..OTHERS).filter_map(|_| rng.pick(nearest)) {
                self.coordinate.measured(place, *way, fine);
            }
        }
        if !self.is_settling(now) && self.place().is_located() {
            return self.check(now, links);
        }
        if let Some((place, rtt)) = links.get(link).and_then(Link::located) {
            self.coordinate.measured(&place, rtt / 2, fine);
        }
        let error = self.place().error;
        if f64::from(error) <= f64::from(self.least_error) * BETTER {
            (self.least_error, self.improved) = (error, now);
        }
    }

    /// Whether the place that was found still agrees with round trips as well as it did.
    fn check(&mut self, now: Time, links: &Links) {
        if now.since(self.looked) < CHECK_EVERY {
            return;
        }
        self.looked = now;
        let wrong = links.located().map(|(way, _, place)| self.coordinate.wrong(&place, way).min(1.0));
        let (count, sum) = wrong.fold((0, 0.0), |(count, sum), it| (count + 1, sum + it));
        let wrong = sum / f64::from(count.max(1));
        let usual = *self.usual.get_or_insert(wrong);
        if wrong > usual + ELSEWHERE && self.began.is_some_and(|at| now.since(at) >= LOOK_AGAIN_AFTER) {
            *self = Self { began: Some(now), next: self.next, ..Self::at(self.coordinate) };
        }
    }

    /// Goes to where a near neighbour says that it is if that agrees much better with what was measured. Step by
    /// step a node does not come past what is in between, and the map of a far town stays folded.
    fn jump(&mut self) {
        let located = &self.located;
        let wrong =
            |it: &Coordinate| located.iter().map(|(place, way)| it.wrong(place, *way).min(1.0)).sum::<f64>();
        let near = located.iter().take_while(|it| it.1 <= JUMP_WITHIN).take(JUMP_TO);
        let there = near.map(|(place, _)| self.coordinate.moved_to(place)).map(|it| (wrong(&it), it));
        let best = there.min_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((_, there)) = best.filter(|it| it.0 < wrong(&self.coordinate) * JUMP_GAIN) {
            self.coordinate = there;
        }
    }

    fn look_for_nearer(&mut self, now: Time) {
        let ways = self.located.iter().map(|(_, way)| *way);
        let way: Duration = ways.chain([NOBODY; NEAREST]).take(NEAREST).sum();
        if way < self.least_way.mul_f64(BETTER) {
            (self.least_way, self.nearer) = (way, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::GroupId;
    use crate::links::tag;

    #[test]
    fn pings_end_when_the_place_is_known_and_after_a_while_in_any_case() {
        let at = |ms: u64| Time::from_micros(ms * 1_000);
        let node = |it: u8| NodeId::from_bytes([it; 32]);
        let mut locator = Locator::new(&node(1));
        assert_eq!((locator.deadline(), locator.is_due(at(0))), (None, false), "there is no link");
        locator.on_link(at(100));
        let mut pings = 0;
        let mut now = at(100);
        while let Some(next) = locator.deadline() {
            assert!(next > now || locator.next <= now, "the deadline advances");
            now = next.max(now);
            pings += usize::from(locator.is_due(now));
        }
        assert!((8..=10).contains(&pings), "{pings} pings in 5 s that brought nothing");
        assert_eq!(locator.missing(now + EVERY, &Links::default()), 0);

        let mut links = Links::default();
        let place = Place { x: 100, y: 0, z: 0, height: 2, error: 2 };
        links.insert(at(0), LinkId(1), node(2));
        let group = GroupId::from_bytes([7; 32]);
        links.open(LinkId(1), 1, tag(&group, &node(2), &node(1)), 8).expect("one of eight");
        assert_eq!(links.recognise(&node(1), &group, |_| true), [node(2)]);
        links.on_place(LinkId(1), Some(place));
        links.on_round_trip(at(100), LinkId(1), Duration::from_millis(60));
        let (mut locator, mut rng) = (Locator::new(&node(1)), Rng::new(1));
        locator.on_link(at(0));
        assert_eq!(locator.missing(at(100), &links), LINKS - 1);
        for _ in 0..40 {
            locator.on_round_trip(at(100), &links, LinkId(1), &mut rng);
        }
        let way = locator.place().to(&place).as_millis();
        assert!(locator.place().is_precise() && (27..=33).contains(&way), "{way} ms to who is 30 ms away");
        assert_eq!(locator.missing(at(200), &links), LINKS - 1, "there may be nearer ones");
        locator.next = at(5_200);
        assert_eq!((locator.deadline(), locator.missing(at(5_200), &links)), (None, 0));
    }

    /// Links to a member at each of these places, with half a round trip of so many milliseconds.
    fn linked(now: Time, others: &[(Place, u64)]) -> Links {
        let group = GroupId::from_bytes([7; 32]);
        let mut links = Links::default();
        for (at, (place, _)) in others.iter().enumerate() {
            let (id, node) = (LinkId(at as u64), NodeId::from_bytes([at as u8 + 2; 32]));
            links.insert(now, id, node);
            links.open(id, 1, tag(&group, &node, &NodeId::from_bytes([1; 32])), 8).expect("one of eight");
            links.on_place(id, Some(*place));
        }
        links.recognise(&NodeId::from_bytes([1; 32]), &group, |_| true);
        measure(&mut links, now, others);
        links
    }

    fn measure(links: &mut Links, now: Time, others: &[(Place, u64)]) {
        for (at, (_, way)) in others.iter().enumerate() {
            links.on_round_trip(now, LinkId(at as u64), Duration::from_millis(way * 2));
        }
    }

    fn place(x: i32, y: i32) -> Place {
        Place { x, y, z: 0, height: 2, error: 5 }
    }

    #[test]
    fn a_node_on_the_wrong_side_of_a_fold_goes_to_who_is_near() {
        let now = Time::from_micros(1_000_000);
        // Two far ones fit on both sides; the near ones are on the other.
        let others = [(place(0, 0), 102), (place(60, 0), 102), (place(30, 196), 4), (place(34, 200), 4)];
        let links = linked(now, &others);
        let mut locator = Locator::at(Coordinate::told(&place(30, -200)));
        locator.on_link(now);
        locator.on_round_trip(now, &links, LinkId(0), &mut Rng::new(1));
        assert!(locator.place().y > 150, "{:?}", locator.place());
    }

    #[test]
    fn a_found_place_stands_until_ways_are_others() {
        let at = |seconds: u64| Time::from_micros(seconds * 1_000_000);
        let near = [(place(4, 0), 4), (place(0, 4), 4), (place(100, 0), 52)];
        let mut links = linked(at(0), &near);
        let (mut locator, mut rng) = (Locator::at(Coordinate::told(&place(0, 0))), Rng::new(1));
        locator.on_link(at(0));
        // A little longer ways are no other place.
        for (second, more) in [(40, 0), (50, 0), (60, 1), (70, 1)] {
            assert!(!locator.is_settling(at(second)));
            measure(&mut links, at(second), &near.map(|(place, way)| (place, way + more)));
            locator.on_round_trip(at(second), &links, LinkId(0), &mut rng);
            assert_eq!(locator.place(), place(0, 0), "after {second} s");
        }
        measure(&mut links, at(110), &near.map(|(place, way)| (place, way + 60)));
        locator.on_round_trip(at(110), &links, LinkId(0), &mut rng);
        assert!(locator.is_settling(at(111)), "it is somewhere else");
    }
}
