//! When to announce, and when to look for whom. Bookkeeping only: the driver asks it at each beat
//! and does what it says.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;
use treecast_overlay::{GroupId, Rng};

/// Between announcements of one group; records live three times as long.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1_200);

/// What gathers before an announcement that news asks for: entries come in swarms.
const SETTLE: Duration = Duration::from_millis(200);

/// Pauses between announcements because the table has grown: the first one, doubled up to the
/// longest. The nodes nearest to the key, who ought to have it, become known one by one.
const GROWTH: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));

/// Pauses between looks for members while there is no neighbour.
const ALONE: (Duration, Duration) = (Duration::from_millis(2_500), Duration::from_secs(60));

/// The same while there are few, and while all is well: what joins islands that never met.
const FEW: Duration = Duration::from_secs(300);
const WELL: Duration = Duration::from_secs(1_200);

/// With fewer neighbours than this, there may well be more to be had. Guess.
const FEW_NEIGHBOURS: usize = 3;

/// New entries while we are alone are worth a look; not oftener than this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Pauses between looks for one node that does not answer where it was.
const ASTRAY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));

/// Nodes looked for at a time, and looks begun in one beat.
pub(crate) const MAX_ASTRAY: usize = 64;
const LOOKS_AT_ONCE: usize = 4;

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Say that this node is in the group.
    Announce(GroupId),
    /// Ask who else is.
    FindMembers(GroupId),
    /// Say it no longer.
    Withdraw(GroupId),
    /// Ask where this node is.
    FindPeer(PeerId),
}

/// How a group is off for neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Alone,
    Few,
    Well,
}

impl Need {
    fn of(neighbours: usize) -> Self {
        match neighbours {
            0 => Self::Alone,
            1..FEW_NEIGHBOURS => Self::Few,
            _ => Self::Well,
        }
    }
}

#[derive(Debug)]
struct Group {
    need: Need,
    next_look: Instant,
    last_look: Option<Instant>,
    /// The pause after the next look, while alone.
    pause: Duration,
    next_announcement: Instant,
    last_announcement: Option<Instant>,
    /// How soon after the last announcement growth asks for another.
    growth: Duration,
}

impl Group {
    fn new(now: Instant) -> Self {
        Self {
            need: Need::Alone,
            next_look: now,
            last_look: None,
            pause: ALONE.0,
            next_announcement: now,
            last_announcement: None,
            growth: GROWTH.0,
        }
    }

    fn take_need(&mut self, need: Need, now: Instant, rng: &mut Rng) {
        if need == self.need {
            return;
        }
        self.need = need;
        self.pause = ALONE.0;
        self.next_look = match need {
            Need::Alone => now,
            Need::Few => now + rng.jitter(FEW),
            Need::Well => now + rng.jitter(WELL),
        };
    }

    fn is_look_due(&mut self, now: Instant, rng: &mut Rng) -> bool {
        if now < self.next_look {
            return false;
        }
        self.last_look = Some(now);
        let pause = match self.need {
            Need::Alone => self.pause,
            Need::Few => FEW,
            Need::Well => WELL,
        };
        self.pause = (self.pause * 2).min(ALONE.1);
        self.next_look = now + rng.jitter(pause);
        true
    }

    fn is_announcement_due(&mut self, now: Instant, rng: &mut Rng) -> bool {
        let due = now >= self.next_announcement;
        if due {
            self.last_announcement = Some(now);
            self.next_announcement = now + rng.jitter(ANNOUNCE_EVERY);
        }
        due
    }

    fn on_growth(&mut self, now: Instant) {
        let soonest = self.last_announcement.map_or(now, |last| last + self.growth);
        let at = soonest.max(now + SETTLE);
        if at < self.next_announcement {
            self.next_announcement = at;
            self.growth = (self.growth * 2).min(GROWTH.1);
        }
        if self.need == Need::Alone {
            let soonest = self.last_look.map_or(now, |last| last + LOOK_AGAIN);
            self.next_look = self.next_look.min(soonest.max(now + SETTLE));
        }
    }
}

/// A node that does not answer where it was.
#[derive(Debug)]
struct Astray {
    next: Instant,
    pause: Duration,
    /// It was dialled in vain since the last look.
    missed: bool,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Plan {
    groups: BTreeMap<GroupId, Group>,
    astray: HashMap<PeerId, Astray>,
    rng: Rng,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        Self { groups: BTreeMap::new(), astray: HashMap::new(), rng: Rng::new(seed) }
    }

    /// How many nodes are looked for.
    pub(crate) fn astray(&self) -> usize {
        self.astray.len()
    }

    /// What is due; `groups` are those to be announced, with their neighbours. With nobody in the
    /// table there is nobody to ask: all waits until there is, and until there is room for queries.
    pub(crate) fn due(
        &mut self,
        now: Instant,
        groups: &BTreeMap<GroupId, usize>,
        table: usize,
        room: usize,
    ) -> Vec<Act> {
        let mut room = if table == 0 { 0 } else { room };
        let mut acts: Vec<Act> =
            self.groups.keys().filter(|id| !groups.contains_key(id)).copied().map(Act::Withdraw).collect();
        self.groups.retain(|id, _| groups.contains_key(id));
        for (id, neighbours) in groups {
            let group = self.groups.entry(*id).or_insert_with(|| Group::new(now));
            group.take_need(Need::of(*neighbours), now, &mut self.rng);
            // First, so that of two who come at the same time one finds the other.
            if room > 0 && group.is_announcement_due(now, &mut self.rng) {
                acts.push(Act::Announce(*id));
                room -= 1;
            }
            if room > 0 && group.is_look_due(now, &mut self.rng) {
                acts.push(Act::FindMembers(*id));
                room -= 1;
            }
        }
        acts.extend(self.due_peers(now, room).into_iter().map(Act::FindPeer));
        acts
    }

    fn due_peers(&mut self, now: Instant, room: usize) -> Vec<PeerId> {
        self.astray.retain(|_, it| it.missed || now < it.next + ASTRAY.1);
        let due = self.astray.iter_mut().filter(|(_, it)| it.missed && it.next <= now);
        due.take(LOOKS_AT_ONCE.min(room))
            .map(|(peer, it)| {
                it.missed = false;
                it.next = now + self.rng.jitter(it.pause);
                it.pause = (it.pause * 2).min(ASTRAY.1);
                *peer
            })
            .collect()
    }

    /// There is a new entry in the table: it may be nearer to a group's key than those who were
    /// told, and it may know who is there.
    pub(crate) fn on_growth(&mut self, now: Instant) {
        for group in self.groups.values_mut() {
            group.on_growth(now);
        }
    }

    /// Where this node listens has changed; records tell the old place.
    pub(crate) fn on_moved(&mut self, now: Instant) {
        for group in self.groups.values_mut() {
            group.next_announcement = group.next_announcement.min(now + SETTLE);
        }
    }

    /// A node that matters was dialled in vain.
    pub(crate) fn on_missed(&mut self, now: Instant, peer: PeerId) {
        if let Some(astray) = self.astray.get_mut(&peer) {
            astray.missed = true;
        } else if self.astray.len() < MAX_ASTRAY {
            self.astray.insert(peer, Astray { next: now, pause: ASTRAY.0, missed: true });
        }
    }

    /// It is connected.
    pub(crate) fn on_connected(&mut self, peer: &PeerId) {
        self.astray.remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Course {
        plan: Plan,
        now: Instant,
        groups: BTreeMap<GroupId, usize>,
        table: usize,
    }

    const STEP: Duration = Duration::from_millis(100);

    impl Course {
        fn new(neighbours: usize, table: usize) -> Self {
            let groups = BTreeMap::from([(group(), neighbours)]);
            Self { plan: Plan::new(7), now: Instant::now(), groups, table }
        }

        /// Seconds from now at which this was done, in so many seconds.
        fn watch(&mut self, seconds: u64, wanted: Act) -> Vec<f64> {
            let start = self.now;
            let mut seen = Vec::new();
            while self.now < start + Duration::from_secs(seconds) {
                if self.plan.due(self.now, &self.groups, self.table, 9).contains(&wanted) {
                    seen.push(self.now.duration_since(start).as_secs_f64());
                }
                self.now += STEP;
            }
            seen
        }
    }

    fn group() -> GroupId {
        GroupId::from_bytes([1; 32])
    }

    #[test]
    fn a_lonely_member_looks_less_and_less_often() {
        let looks = Course::new(0, 1).watch(300, Act::FindMembers(group()));
        assert_eq!(looks[0], 0.0);
        let pauses: Vec<f64> = looks.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let expected = [2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0];
        assert!(pauses.len() >= 6, "{pauses:?}");
        for (pause, expected) in pauses.iter().zip(expected) {
            assert!((expected * 0.79..expected * 1.21 + 0.1).contains(pause), "{pauses:?}");
        }
    }

    #[test]
    fn a_member_with_neighbours_is_calm_and_one_that_lost_them_looks_at_once() {
        let mut course = Course::new(5, 3);
        assert!(course.watch(900, Act::FindMembers(group())).is_empty());
        course.groups.insert(group(), 0);
        assert_eq!(course.watch(1, Act::FindMembers(group())), [0.0]);
        course.groups.insert(group(), 1);
        assert!(course.watch(200, Act::FindMembers(group())).is_empty());
        assert_eq!(course.watch(200, Act::FindMembers(group())).len(), 1);
    }

    #[test]
    fn nothing_is_asked_of_an_empty_table_and_the_first_entry_is_asked_soon() {
        let mut course = Course::new(0, 0);
        assert_eq!(course.plan.due(course.now, &course.groups, 0, 9), []);
        course.now += Duration::from_secs(100);
        course.table = 1;
        course.plan.on_growth(course.now);
        let acts = course.plan.due(course.now, &course.groups, 1, 9);
        assert_eq!(acts, [Act::Announce(group()), Act::FindMembers(group())]);
    }

    #[test]
    fn many_groups_take_turns() {
        let mut course = Course::new(0, 1);
        course.groups = (0..30).map(|number| (GroupId::from_bytes([number; 32]), 0)).collect();
        let mut announced = std::collections::BTreeSet::new();
        for _ in 0..10 {
            let acts = course.plan.due(course.now, &course.groups, 1, 8);
            assert!(acts.len() <= 8);
            announced.extend(acts.into_iter().filter_map(|act| match act {
                Act::Announce(group) => Some(group),
                _ => None,
            }));
        }
        assert_eq!(announced.len(), 30);
    }

    #[test]
    fn announcements_follow_growth_with_growing_pauses_and_end_with_the_group() {
        let mut course = Course::new(4, 1);
        assert_eq!(course.watch(1, Act::Announce(group())), [0.0]);
        let mut count = 0;
        for _ in 0..600 {
            course.plan.on_growth(course.now);
            count += course.watch(1, Act::Announce(group())).len();
        }
        assert!((5..=9).contains(&count), "{count} announcements in ten minutes of growth");
        let calm = course.watch(7_200, Act::Announce(group()));
        assert!((5..=8).contains(&calm.len()), "{calm:?}");
        course.plan.on_moved(course.now);
        assert_eq!(course.watch(1, Act::Announce(group())).len(), 1);
        course.groups.clear();
        assert_eq!(course.plan.due(course.now, &course.groups, 1, 9), [Act::Withdraw(group())]);
        assert_eq!(course.plan.due(course.now, &course.groups, 1, 9), []);
    }

    #[test]
    fn a_node_is_looked_for_only_after_it_was_missed_again() {
        let mut course = Course::new(4, 1);
        let peer = PeerId::random();
        course.plan.on_missed(course.now, peer);
        assert_eq!(course.watch(60, Act::FindPeer(peer)), [0.0]);
        course.plan.on_missed(course.now, peer);
        assert_eq!(course.watch(60, Act::FindPeer(peer)), [0.0]);
        course.plan.on_missed(course.now, peer);
        course.plan.on_connected(&peer);
        assert!(course.watch(60, Act::FindPeer(peer)).is_empty());
        for _ in 0..1_000 {
            course.plan.on_missed(course.now, PeerId::random());
        }
        assert_eq!(course.plan.astray(), MAX_ASTRAY);
        course.plan.due(course.now, &course.groups, 1, 9);
        course.now += ASTRAY.1 * 3;
        for _ in 0..MAX_ASTRAY {
            course.plan.due(course.now, &course.groups, 1, 9);
        }
        course.now += ASTRAY.1 * 3;
        course.plan.due(course.now, &course.groups, 1, 9);
        assert_eq!(course.plan.astray(), 0, "they are forgotten");
    }
}
