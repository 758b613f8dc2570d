//! Links to neighbours: who is at the other end, how fast, how full.

mod channels;
mod pings;
mod traffic;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::config::Config;
use crate::coordinate::Place;
use crate::id::{GroupId, LinkId, NodeId};
use crate::io::{Lane, Output};
use crate::out::Out;
use crate::time::Time;
use crate::wire::frame::Channel;

use channels::Channels;
use pings::{Asked, Measured, Moments};
use traffic::Traffic;

/// What a group is called on a link until both ends are found to know it: 16 bytes.
pub(crate) type Tag = [u8; 16];

/// The tag under which `from` shows `group` to `to`; it tells nothing to who does not know
/// the group, and differs on every link.
pub(crate) fn tag(group: &GroupId, from: &NodeId, to: &NodeId) -> Tag {
    let mut hasher = blake3::Hasher::new_keyed(group.as_bytes());
    hasher.update(from.as_bytes());
    hasher.update(to.as_bytes());
    hasher.finalize().as_bytes()[..16].try_into().expect("16 of 32 bytes")
}

/// Round trips that count for a distance: so many…
const SAMPLES: usize = 16;
/// …and none older than this. Guess: a node that went farther away is seen to be in half a minute.
const SAMPLES_FOR: Duration = Duration::from_secs(30);

/// A node that has not answered a ping for one and a half round trips and so long is quiet. Guess: what
/// is sent again comes later than that, once in a while.
const QUIET_AFTER: Duration = Duration::from_millis(60);

/// One live connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) node: NodeId,
    /// Frames to the node go on this one: it is the oldest.
    used: bool,
    pub(crate) last_heard: Time,
    pub(crate) next_ping: Time,
    /// The next ping does not wait until the link is quiet.
    pub(crate) questioned: bool,
    /// Since when a ping waits for any sign of life.
    pub(crate) asked: Option<Time>,
    /// Pings that were not answered yet.
    unanswered: Asked,
    /// When the pings went out whose answers somebody waits for.
    awaited: Moments,
    /// Smoothed round trip (RFC 6298 §2: 7/8 old, 1/8 new): for timeouts.
    rtt: Option<Duration>,
    /// Where the node is, as it told, and where we are, as it was told.
    place: Option<Place>,
    told: Option<Place>,
    /// The latest round trips and when they were measured…
    samples: VecDeque<(Time, Duration)>,
    /// …and what follows from them.
    measured: Measured,
    /// The other end's shortest round trip, as it told while it looked for its place, and when.
    told_distance: Option<(Time, Duration)>,
    /// When any group last needed it.
    pub(crate) last_needed: Time,
    queued: [usize; 2],
    /// When its queue last moved or was empty.
    moved: Time,
    /// The peer's channels.
    channels: Channels,
}

impl Link {
    /// Where its node, that shares a group, says that it is, and how far that is, if both are known.
    pub(crate) fn located(&self) -> Option<(Place, Duration)> {
        let told = self.told_distance.map(|(_, distance)| distance);
        self.place.zip(self.measured.distance.or(told)).filter(|_| self.is_shared())
    }

    /// The shortest round trip of late.
    pub(crate) fn measured(&self) -> Option<Duration> {
        self.measured.distance
    }

    /// A group of ours is shared on it.
    pub(crate) fn is_shared(&self) -> bool {
        self.channels.any_known()
    }

    /// Whether an answer should have come by now, and has not.
    pub(crate) fn is_quiet(&self, now: Time) -> bool {
        let patience = || self.rtt.unwrap_or_default().mul_f64(1.5) + QUIET_AFTER;
        self.asked.is_some_and(|asked| now.since(asked) >= patience())
    }

    /// No ping has come back yet.
    pub(crate) fn is_unmeasured(&self) -> bool {
        self.rtt.is_none()
    }
}

/// All links, by number and by node.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// Bytes waiting in the driver on all of them.
    queued: usize,
    /// Bytes that have left it.
    left: u64,
    pub(crate) traffic: Traffic,
    /// Some are to be pinged at once.
    questions: bool,
    /// Where this node is.
    here: Place,
    /// Ascending, and each one's link at the same place: all are looked at again and again.
    ids: Vec<LinkId>,
    all: Vec<Link>,
    /// The heads of their nodes, ascending, and of one node the oldest link first.
    by_node: Vec<(u64, LinkId)>,
}

impl Links {
    /// Adds a link; `false` if the number is taken.
    pub(crate) fn insert(&mut self, now: Time, link: LinkId, node: NodeId) -> bool {
        let Err(at) = self.ids.binary_search(&link) else { return false };
        let new = Link {
            node,
            used: !self.connected(&node),
            last_heard: now,
            next_ping: now,
            questioned: false,
            asked: None,
            unanswered: Asked::default(),
            awaited: Moments::default(),
            rtt: self.rtt(&node),
            place: self.place(&node),
            told: None,
            samples: self.used(&node).map(|it| it.samples.clone()).unwrap_or_default(),
            measured: self.used(&node).map(|it| it.measured).unwrap_or_default(),
            told_distance: None,
            last_needed: now,
            queued: [0; 2],
            moved: now,
            channels: Channels::default(),
        };
        self.ids.insert(at, link);
        self.all.insert(at, new);
        let last = self.by_node.partition_point(|it| it.0 <= node.head());
        self.by_node.insert(last, (node.head(), link));
        true
    }

    /// Forgets a link and names its node.
    pub(crate) fn remove(&mut self, link: LinkId) -> Option<NodeId> {
        let at = self.at(link)?;
        self.ids.remove(at);
        let gone = self.all.remove(at);
        self.queued -= gone.queued.iter().sum::<usize>();
        let node = gone.node;
        self.by_node.retain(|it| it.1 != link);
        let oldest = self.places(&node).next();
        oldest.into_iter().for_each(|at| self.all[at].used = true);
        Some(node)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// How many a group shares.
    pub(crate) fn shared_len(&self) -> usize {
        self.all.iter().filter(|it| it.is_shared()).count()
    }

    pub(crate) fn ids(&self) -> Vec<LinkId> {
        self.ids.clone()
    }

    fn at(&self, link: LinkId) -> Option<usize> {
        self.ids.binary_search(&link).ok()
    }

    pub(crate) fn get(&self, link: LinkId) -> Option<&Link> {
        self.at(link).map(|at| &self.all[at])
    }

    pub(crate) fn get_mut(&mut self, link: LinkId) -> Option<&mut Link> {
        self.at(link).map(|at| &mut self.all[at])
    }

    /// Links to nodes with this node's head, the oldest of each first.
    fn alike(&self, node: &NodeId) -> &[(u64, LinkId)] {
        let first = self.by_node.partition_point(|it| it.0 < node.head());
        let rest = &self.by_node[first..];
        &rest[..rest.partition_point(|it| it.0 == node.head())]
    }

    /// Where the links to this node are, the oldest first.
    fn places(&self, node: &NodeId) -> impl Iterator<Item = usize> {
        let alike = self.alike(node).iter().filter_map(|it| self.at(it.1));
        alike.filter(|at| self.all[*at].node == *node)
    }

    /// The link that frames to this node go on: the oldest.
    pub(crate) fn to(&self, node: &NodeId) -> Option<LinkId> {
        self.places(node).next().map(|at| self.ids[at])
    }

    pub(crate) fn used(&self, node: &NodeId) -> Option<&Link> {
        self.places(node).next().map(|at| &self.all[at])
    }

    pub(crate) fn connected(&self, node: &NodeId) -> bool {
        self.places(node).next().is_some()
    }

    /// Round trip to a node, once a ping has come back.
    pub(crate) fn rtt(&self, node: &NodeId) -> Option<Duration> {
        self.used(node).and_then(|link| link.rtt)
    }

    /// Somebody waits for the answer to a ping that goes out now, on the link that is named.
    pub(crate) fn await_round_trip(&mut self, now: Time, node: &NodeId) -> Option<LinkId> {
        let id = self.to(node)?;
        self.get_mut(id)?.awaited.push(now);
        Some(id)
    }

    /// A ping with this nonce goes out.
    pub(crate) fn on_asked(&mut self, now: Time, link: LinkId, nonce: u16) {
        if let Some(link) = self.get_mut(link) {
            link.unanswered.push(nonce, now);
        }
    }

    /// An answer came; when the ping went out, if there was one without an answer.
    pub(crate) fn on_answered(&mut self, link: LinkId, nonce: u64) -> Option<Time> {
        self.get_mut(link)?.unanswered.take(nonce)
    }

    /// A ping came back; whether somebody waits for it.
    pub(crate) fn on_round_trip(&mut self, now: Time, link: LinkId, sample: Duration) -> bool {
        let Some(link) = self.get_mut(link) else { return false };
        link.rtt = Some(link.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
        link.samples.push_back((now, sample));
        let old = |it: &(Time, Duration)| now.since(it.0) > SAMPLES_FOR;
        while link.samples.len() > SAMPLES || link.samples.front().is_some_and(old) {
            link.samples.pop_front();
        }
        link.measured = Measured::of(&link.samples);
        link.told_distance.take_if(|(at, _)| now.since(*at) > SAMPLES_FOR);
        link.awaited.remove(now - sample)
    }

    /// The other end told how long its round trips are; whether that is worth a look. It may lie: it
    /// counts as long as there is no round trip of ours, and not more often than pings come.
    pub(crate) fn on_told_round_trip(
        &mut self,
        now: Time,
        link: LinkId,
        distance: Duration,
        every: Duration,
    ) -> bool {
        let Some(link) = self.get_mut(link) else { return false };
        let due = link.told_distance.is_none_or(|(at, _)| now.since(at) >= every);
        if due {
            link.told_distance = Some((now, distance));
        }
        due
    }

    /// Links that share a group and that we are to ping, to find our place: of two ends that look for
    /// theirs only one does.
    pub(crate) fn to_measure(&self, now: Time, me: &NodeId, lately: Duration) -> Vec<LinkId> {
        let told = |it: &Link| it.told_distance.is_some_and(|(at, _)| now.since(at) < lately);
        let ours = |it: &Link| it.is_shared() && (*me < it.node || it.is_unmeasured() || !told(it));
        self.ids.iter().zip(&self.all).filter(|(_, it)| ours(it)).map(|(id, _)| *id).collect()
    }

    /// How far a node is: the shortest round trip of late. What is longer waited somewhere, in a
    /// queue or for a processor (cf. BBR's RTprop, Cardwell et al. 2016).
    pub(crate) fn distance(&self, node: &NodeId) -> Option<Duration> {
        self.used(node)?.measured.distance
    }

    /// Where this node is.
    pub(crate) fn here(&self) -> Place {
        self.here
    }

    pub(crate) fn set_here(&mut self, here: Place) {
        self.here = here;
    }

    /// Where a node says that it is.
    pub(crate) fn place(&self, node: &NodeId) -> Option<Place> {
        self.used(node)?.place
    }

    /// The node at the other end says that it is there.
    pub(crate) fn on_place(&mut self, link: LinkId, place: Option<Place>) {
        if let Some(node) = self.get(link).filter(|_| place.is_some()).map(|it| it.node) {
            self.each_to(&node, |_, link| link.place = place);
        }
    }

    /// Does something with all links to a node.
    fn each_to(&mut self, node: &NodeId, mut act: impl FnMut(LinkId, &mut Link)) {
        let first = self.by_node.partition_point(|it| it.0 < node.head());
        for (_, id) in self.by_node[first..].iter().take_while(|it| it.0 == node.head()) {
            let at = self.ids.binary_search(id).expect("listed");
            if self.all[at].node == *node {
                act(*id, &mut self.all[at]);
            }
        }
    }

    /// Where this node is, if that is news on this link, where it is told now; nothing to who shares
    /// no group.
    pub(crate) fn tell_place(&mut self, link: LinkId) -> Option<Place> {
        let here = self.here;
        let link = self.get_mut(link).filter(|it| it.is_shared())?;
        let news = link.told.is_none_or(|told| !told.is_like(&here));
        news.then(|| link.told = Some(here)).map(|()| here)
    }

    /// The nodes that are linked and say where they are, and how far they are.
    pub(crate) fn located(&self) -> impl Iterator<Item = (Duration, NodeId, Place)> {
        self.all.iter().filter(|it| it.used).filter_map(|link| {
            let (place, rtt) = link.located()?;
            Some((rtt / 2, link.node, place))
        })
    }

    /// So many of them, nearest first.
    pub(crate) fn nearest(&self, most: usize) -> Vec<(Duration, NodeId, Place)> {
        let key = |(way, node, _): &(Duration, NodeId, Place)| (*way, *node);
        let mut nearest: Vec<_> = self.located().collect();
        if nearest.len() > most {
            nearest.select_nth_unstable_by_key(most, key);
            nearest.truncate(most);
        }
        nearest.sort_unstable_by_key(key);
        nearest
    }

    /// How much round trips to a node differ: mean deviation of late.
    pub(crate) fn jitter(&self, node: &NodeId) -> Duration {
        self.used(node).map_or(Duration::ZERO, |it| it.measured.jitter)
    }

    /// Whether this link is dead, as it seems: it did not answer for `patience`, and the node
    /// was heard on another meanwhile. (A node that was killed and came back opens a new
    /// connection long before the old one times out.)
    pub(crate) fn is_superseded(&self, now: Time, link: LinkId, patience: Duration) -> bool {
        let Some(state) = self.get(link) else { return false };
        let Some(asked) = state.asked.filter(|asked| now.since(*asked) >= patience) else { return false };
        self.last_heard(&state.node).is_some_and(|heard| heard > asked)
    }

    /// Has the node's other links pinged, now that there is a new one.
    pub(crate) fn question_siblings(&mut self, now: Time, node: &NodeId, new: LinkId) {
        self.each_to(node, |id, link| {
            if id != new {
                (link.next_ping, link.questioned) = (now, true);
            }
        });
    }

    /// Has these pinged at once.
    pub(crate) fn question(&mut self, now: Time, nodes: &[NodeId]) {
        for node in nodes {
            let Some(link) = self.to(node).and_then(|it| self.get_mut(it)) else { continue };
            if link.asked.is_none() {
                (link.next_ping, link.questioned) = (now, true);
                self.questions = true;
            }
        }
    }

    /// Whether somebody is to be pinged at once.
    pub(crate) fn take_questions(&mut self) -> bool {
        std::mem::take(&mut self.questions)
    }

    /// Whether a ping waits for any sign of life of the node.
    pub(crate) fn is_asked(&self, node: &NodeId) -> bool {
        self.used(node).is_none_or(|it| it.asked.is_some())
    }

    /// Whether a node should have answered by now, and has not: it may be gone.
    pub(crate) fn is_quiet(&self, now: Time, node: &NodeId) -> bool {
        self.used(node).is_none_or(|it| it.is_quiet(now))
    }

    /// When the node was last heard of, on any link.
    pub(crate) fn last_heard(&self, node: &NodeId) -> Option<Time> {
        self.places(node).map(|at| self.all[at].last_heard).max()
    }

    /// Notes that a group needs this node.
    pub(crate) fn touch(&mut self, now: Time, node: &NodeId) {
        self.each_to(node, |_, link| link.last_needed = now);
    }

    /// Puts a frame on the node's link; `false` if there is none.
    pub(crate) fn send(&mut self, now: Time, node: &NodeId, lane: Lane, frame: Bytes, out: &mut Out) -> bool {
        let Some(link) = self.to(node) else { return false };
        self.send_on(now, link, lane, frame, out)
    }

    /// Puts a frame on this very link.
    pub(crate) fn send_on(
        &mut self,
        now: Time,
        link: LinkId,
        lane: Lane,
        frame: Bytes,
        out: &mut Out,
    ) -> bool {
        let Some(state) = self.get_mut(link) else { return false };
        if state.queued == [0, 0] {
            state.moved = now;
        }
        state.queued[lane as usize] += frame.len();
        self.queued += frame.len();
        self.traffic.on_sent(&frame);
        out.push(Output::Send { link, lane, frame });
        true
    }

    /// Takes note that bytes have left; names the node, if frames to it go on this link.
    pub(crate) fn drained(&mut self, now: Time, link: LinkId, lane: Lane, bytes: usize) -> Option<NodeId> {
        let at = self.at(link)?;
        let state = &mut self.all[at];
        let queued = &mut state.queued[lane as usize];
        let left = bytes.min(*queued);
        *queued -= left;
        self.queued -= left;
        self.left += left as u64;
        state.moved = now;
        state.used.then_some(state.node)
    }

    /// Bytes that have left so far.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Bytes waiting in the driver for all nodes.
    pub(crate) fn queued_in_all(&self) -> usize {
        self.queued
    }

    /// Bytes waiting in the driver for this node.
    pub(crate) fn queued(&self, node: &NodeId, lane: Lane) -> usize {
        self.used(node).map_or(0, |link| link.queued[lane as usize])
    }

    /// The queue has not moved for so long that nobody waits for this node.
    pub(crate) fn stalled(&self, now: Time, node: &NodeId, config: &Config) -> bool {
        self.used(node).is_none_or(|link| link.queued != [0, 0] && now.since(link.moved) > config.stall_after)
    }

    /// The peer opened a channel; `Err` when there are too many.
    pub(crate) fn open(&mut self, link: LinkId, channel: Channel, tag: Tag, cap: usize) -> Result<(), ()> {
        self.get_mut(link).map_or(Ok(()), |it| it.channels.open(channel, tag, cap))
    }

    /// The peer closed a channel; names the group it was.
    pub(crate) fn close(&mut self, link: LinkId, channel: Channel) -> Option<GroupId> {
        self.get_mut(link)?.channels.close(channel)
    }

    /// Finds this group among what peers told; names the nodes that are newly seen to share it. For
    /// a node that the group does not admit there is no channel, whatever it knows.
    pub(crate) fn recognise(
        &mut self,
        me: &NodeId,
        group: &GroupId,
        admits: impl Fn(&NodeId) -> bool,
    ) -> Vec<NodeId> {
        let mut found = Vec::new();
        for link in self.all.iter_mut().filter(|link| !link.channels.all_known() && admits(&link.node)) {
            let wanted = tag(group, &link.node, me);
            let times = link.channels.recognise(&wanted, group);
            found.extend(std::iter::repeat_n(link.node, times));
        }
        found
    }

    /// Forgets what we know of a group that we leave: a later join recognises it anew.
    pub(crate) fn forget_group(&mut self, group: &GroupId) {
        self.all.iter_mut().for_each(|link| link.channels.forget(group));
    }

    /// Ends a group's part of all links to a node; which links those are.
    pub(crate) fn part(&mut self, node: &NodeId, group: &GroupId) -> Vec<LinkId> {
        let mut parted = Vec::new();
        self.each_to(node, |id, link| {
            link.channels.drop_group(group);
            parted.push(id);
        });
        parted
    }

    /// The group behind a peer's channel.
    pub(crate) fn group(&self, link: LinkId, channel: Channel) -> Option<GroupId> {
        self.get(link)?.channels.group(channel)
    }

    /// Whether the node is known, on the link that frames go on, to share the group.
    pub(crate) fn shares(&self, node: &NodeId, group: &GroupId) -> bool {
        self.places(node).any(|at| self.all[at].channels.has(group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pings_that_are_awaited_are_told_and_each_once() {
        let (mut links, node) = (Links::default(), NodeId::from_bytes([1; 32]));
        let at = |ms: u64| Time::from_micros(ms * 1_000);
        let ms = Duration::from_millis;
        assert_eq!(links.await_round_trip(at(0), &node), None, "no link");
        links.insert(at(0), LinkId(1), node);
        assert!(!links.on_round_trip(at(5), LinkId(1), ms(5)), "one of the link's own");
        assert_eq!(links.await_round_trip(at(10), &node), Some(LinkId(1)));
        assert_eq!(links.await_round_trip(at(20), &node), Some(LinkId(1)));
        assert!(!links.on_round_trip(at(21), LinkId(1), ms(2)));
        assert!(links.on_round_trip(at(22), LinkId(1), ms(2)));
        assert!(!links.on_round_trip(at(22), LinkId(1), ms(2)), "told before");
        assert!(links.on_round_trip(at(30), LinkId(1), ms(20)), "late, but an answer");
        for sent in 100..1_100 {
            links.await_round_trip(at(sent), &node);
        }
        assert_eq!(links.get(LinkId(1)).expect("inserted").awaited.len(), pings::MAX_AWAITED);
    }

    #[test]
    fn a_distance_is_the_shortest_round_trip_of_late() {
        let (mut links, node) = (Links::default(), NodeId::from_bytes([1; 32]));
        let at = |ms: u64| Time::from_micros(ms * 1_000);
        links.insert(at(0), LinkId(1), node);
        assert_eq!((links.distance(&node), links.jitter(&node)), (None, Duration::ZERO));
        for (second, ms) in [4, 2, 6, 8].into_iter().enumerate() {
            links.on_round_trip(at(second as u64 * 1_000), LinkId(1), Duration::from_millis(ms));
        }
        assert_eq!(links.distance(&node), Some(Duration::from_millis(2)));
        assert_eq!(links.jitter(&node), Duration::from_millis(2));
        for second in 4..40 {
            links.on_round_trip(at(second * 1_000), LinkId(1), Duration::from_millis(9));
        }
        assert_eq!(links.distance(&node), Some(Duration::from_millis(9)), "it went away");
        assert_eq!(links.jitter(&node), Duration::ZERO);
    }

    #[test]
    fn a_silent_link_is_dead_once_the_node_speaks_on_another() {
        let (mut links, node) = (Links::default(), NodeId::from_bytes([1; 32]));
        let (old, new, patience) = (LinkId(1), LinkId(2), Duration::from_millis(400));
        let at = |ms: u64| Time::from_micros(ms * 1_000);
        links.insert(at(0), old, node);
        links.insert(at(1_000), new, node);
        links.question_siblings(at(1_000), &node, new);
        assert!(
            links.get(old).is_some_and(|it| it.questioned) && links.get(new).is_some_and(|it| !it.questioned)
        );
        links.get_mut(old).expect("inserted").asked = Some(at(1_000));
        assert!(!links.is_superseded(at(1_500), old, patience), "nobody was heard since");
        links.get_mut(new).expect("inserted").last_heard = at(1_010);
        assert!(!links.is_superseded(at(1_300), old, patience), "it may still answer");
        assert!(links.is_superseded(at(1_400), old, patience));
        assert!(!links.is_superseded(at(1_400), new, patience));
    }
}
