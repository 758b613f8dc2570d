//! Addresses given by hand: dialled again and again, with back-off, until their node is
//! connected, and from then on whenever it is not.

use std::time::Duration;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;
use treecast_overlay::Rng;

use super::addresses::{peer_of, without_peer};

/// After the first failure; doubled each time. Guess.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Longest pause while the node was there not long ago, or this node has just started: a network
/// that comes back is used within so long.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Longest pause later.
const PATIENT_PAUSE: Duration = Duration::from_secs(60);

/// When later begins.
const IMPATIENT_FOR: Duration = Duration::from_secs(300);

/// A connection that lasted so long was worth having: the next dials start without pauses.
const WORTHWHILE: Duration = Duration::from_secs(30);

/// A dial that has not come back for so long does not hold up the next: what was sent into a cut
/// is sent again later than the cut may heal.
const HANGS: Duration = Duration::from_secs(2);

/// Dials of one address under way at once.
const AT_ONCE: usize = 3;

/// One address given by hand.
#[derive(Debug)]
struct Target {
    address: Multiaddr,
    /// Who is there: given, or learnt when it answered.
    peer: Option<PeerId>,
    next: Instant,
    pause: Duration,
    dialling: Vec<ConnectionId>,
    connected_at: Option<Instant>,
    /// Since when it is not there.
    missing_since: Instant,
}

/// A dial that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) address: Multiaddr,
    pub(crate) peer: Option<PeerId>,
    /// Which target; to be given back to [`Redial::started`].
    pub(crate) target: usize,
}

/// When to dial which address again.
#[derive(Debug)]
pub(crate) struct Redial {
    targets: Vec<Target>,
    rng: Rng,
}

impl Redial {
    pub(crate) fn new(addresses: impl IntoIterator<Item = Multiaddr>, now: Instant, seed: u64) -> Self {
        let target = |address: Multiaddr| Target {
            peer: peer_of(&address),
            address: without_peer(address),
            next: now,
            pause: FIRST_PAUSE,
            dialling: Vec::new(),
            connected_at: None,
            missing_since: now,
        };
        Self { targets: addresses.into_iter().map(target).collect(), rng: Rng::new(seed) }
    }

    /// How many addresses were given.
    pub(crate) fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether this node was named by hand.
    pub(crate) fn names(&self, peer: &PeerId) -> bool {
        self.targets.iter().any(|target| target.peer.as_ref() == Some(peer))
    }

    /// What to dial now.
    pub(crate) fn due(&mut self, now: Instant, is_connected: impl Fn(&PeerId) -> bool) -> Vec<Due> {
        let mut due = Vec::new();
        for (index, target) in self.targets.iter_mut().enumerate() {
            let connected = target.peer.as_ref().is_some_and(&is_connected);
            target.note_connected(connected, now, &mut self.rng);
            if connected || now < target.next || target.dialling.len() >= AT_ONCE {
                continue;
            }
            due.push(Due { address: target.address.clone(), peer: target.peer, target: index });
        }
        due
    }

    /// The dial is under way.
    pub(crate) fn started(&mut self, target: usize, connection: ConnectionId, now: Instant) {
        if let Some(target) = self.targets.get_mut(target) {
            target.dialling.push(connection);
            target.next = now + HANGS.max(target.pause);
        }
    }

    /// A dial succeeded: now we know who is there.
    pub(crate) fn on_connected(&mut self, connection: ConnectionId, peer: PeerId) {
        if let Some(target) = self.of(connection) {
            target.dialling.retain(|it| *it != connection);
            target.peer = Some(peer);
        }
    }

    /// A dial failed, or did not even start.
    pub(crate) fn on_failed(&mut self, connection: ConnectionId, now: Instant) {
        let Some(at) = self.targets.iter().position(|it| it.dialling.contains(&connection)) else { return };
        let target = &mut self.targets[at];
        target.dialling.retain(|it| *it != connection);
        target.fail(now, &mut self.rng);
    }

    fn of(&mut self, connection: ConnectionId) -> Option<&mut Target> {
        self.targets.iter_mut().find(|target| target.dialling.contains(&connection))
    }
}

impl Target {
    fn fail(&mut self, now: Instant, rng: &mut Rng) {
        self.next = now + rng.jitter(self.pause);
        let impatient = now.duration_since(self.missing_since) < IMPATIENT_FOR;
        let longest = if impatient { LONGEST_PAUSE } else { PATIENT_PAUSE };
        self.pause = (self.pause * 2).min(longest);
    }

    /// Connections that are closed again soon (nothing in common, both sides dialled) count as failures.
    fn note_connected(&mut self, connected: bool, now: Instant, rng: &mut Rng) {
        match (connected, self.connected_at) {
            (true, None) => self.connected_at = Some(now),
            (false, Some(since)) => {
                self.connected_at = None;
                if now.duration_since(since) >= WORTHWHILE {
                    self.missing_since = now;
                    self.pause = FIRST_PAUSE;
                    self.next = now;
                } else {
                    self.fail(now, rng);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Multiaddr {
        "/ip4/10.0.0.1/tcp/1".parse().expect("an address")
    }

    fn dial(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn pauses_double_up_to_a_bound_that_grows_later() {
        let start = Instant::now();
        let mut now = start;
        let mut redial = Redial::new([address()], now, 1);
        let mut pauses = Vec::new();
        for attempt in 0..90 {
            assert_eq!(redial.due(now, |_| false).len(), 1);
            redial.started(0, dial(attempt), now);
            assert!(redial.due(now, |_| false).is_empty(), "one dial at a time");
            redial.on_failed(dial(attempt), now);
            let began = now;
            while redial.due(now, |_| false).is_empty() {
                now += Duration::from_millis(50);
            }
            pauses.push((began.duration_since(start), now.duration_since(began).as_secs_f64()));
        }
        for ((_, pause), expected) in pauses.iter().zip([0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]) {
            assert!((expected * 0.79..expected * 1.21 + 0.05).contains(pause), "{pauses:?}");
        }
        assert!(pauses.iter().filter(|(at, _)| at.as_secs() < 300).all(|(_, pause)| *pause < 6.1));
        assert!(pauses.last().is_some_and(|(_, pause)| (48.0..73.0).contains(pause)), "{pauses:?}");
    }

    #[test]
    fn a_dial_that_hangs_does_not_hold_up_the_next() {
        let mut now = Instant::now();
        let mut redial = Redial::new([address()], now, 1);
        for attempt in 0..AT_ONCE {
            assert_eq!(redial.due(now, |_| false).len(), 1);
            redial.started(0, dial(attempt), now);
            now += Duration::from_millis(1_900);
            assert!(redial.due(now, |_| false).is_empty());
            now += Duration::from_millis(200);
        }
        assert!(redial.due(now, |_| false).is_empty(), "not more than a few at once");
        redial.on_failed(dial(1), now);
        now += Duration::from_secs(1);
        assert_eq!(redial.due(now, |_| false).len(), 1);
    }

    #[test]
    fn who_answered_is_remembered_and_redialled_when_lost() {
        let mut now = Instant::now();
        let mut redial = Redial::new([address()], now, 1);
        let peer = PeerId::random();
        redial.started(0, dial(1), now);
        assert!(!redial.names(&peer));
        redial.on_connected(dial(1), peer);
        assert!(redial.names(&peer));
        assert!(redial.due(now, |it| *it == peer).is_empty());
        now += Duration::from_secs(60);
        let due = redial.due(now, |_| false);
        assert_eq!(due, [Due { address: address(), peer: Some(peer), target: 0 }]);
    }

    #[test]
    fn a_connection_that_does_not_last_is_a_failure() {
        let mut now = Instant::now();
        let mut redial = Redial::new([address()], now, 1);
        redial.started(0, dial(1), now);
        redial.on_connected(dial(1), PeerId::random());
        assert!(redial.due(now, |_| true).is_empty());
        now += Duration::from_secs(1);
        assert!(redial.due(now, |_| false).is_empty());
        now += FIRST_PAUSE.mul_f64(1.2);
        assert_eq!(redial.due(now, |_| false).len(), 1);
    }
}
