//! Addresses given by hand: dialled again and again, with back-off, until their node is
//! connected, and from then on whenever it is not.

use std::time::Duration;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::addresses::{peer_of, without_peer};

/// After the first failure; doubled each time. Guess.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Longest pause: a network that comes back is used within so long.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A connection that lasted so long was worth having: the next dials start without pauses.
const WORTHWHILE: Duration = Duration::from_secs(30);

/// One address given by hand.
#[derive(Debug)]
struct Target {
    address: Multiaddr,
    /// Who is there: given, or learnt when it answered.
    peer: Option<PeerId>,
    next: Instant,
    pause: Duration,
    dialling: Option<ConnectionId>,
    connected_at: Option<Instant>,
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
#[derive(Debug, Default)]
pub(crate) struct Redial {
    targets: Vec<Target>,
}

impl Redial {
    pub(crate) fn new(addresses: impl IntoIterator<Item = Multiaddr>, now: Instant) -> Self {
        let target = |address: Multiaddr| Target {
            peer: peer_of(&address),
            address: without_peer(address),
            next: now,
            pause: FIRST_PAUSE,
            dialling: None,
            connected_at: None,
        };
        Self { targets: addresses.into_iter().map(target).collect() }
    }

    /// What to dial now.
    pub(crate) fn due(&mut self, now: Instant, is_connected: impl Fn(&PeerId) -> bool) -> Vec<Due> {
        let mut due = Vec::new();
        for (index, target) in self.targets.iter_mut().enumerate() {
            let connected = target.peer.as_ref().is_some_and(&is_connected);
            target.note_connected(connected, now);
            if connected || target.dialling.is_some() || now < target.next {
                continue;
            }
            due.push(Due { address: target.address.clone(), peer: target.peer, target: index });
        }
        due
    }

    /// The dial is under way.
    pub(crate) fn started(&mut self, target: usize, connection: ConnectionId) {
        if let Some(target) = self.targets.get_mut(target) {
            target.dialling = Some(connection);
        }
    }

    /// A dial succeeded: now we know who is there.
    pub(crate) fn on_connected(&mut self, connection: ConnectionId, peer: PeerId) {
        if let Some(target) = self.of(connection) {
            target.dialling = None;
            target.peer = Some(peer);
        }
    }

    /// A dial failed, or did not even start.
    pub(crate) fn on_failed(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(target) = self.of(connection) {
            target.fail(now);
        }
    }

    fn of(&mut self, connection: ConnectionId) -> Option<&mut Target> {
        self.targets.iter_mut().find(|target| target.dialling == Some(connection))
    }
}

impl Target {
    fn fail(&mut self, now: Instant) {
        self.dialling = None;
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Connections that are closed again soon (nothing in common, both sides dialled) count as failures.
    fn note_connected(&mut self, connected: bool, now: Instant) {
        match (connected, self.connected_at) {
            (true, None) => self.connected_at = Some(now),
            (false, Some(since)) => {
                self.connected_at = None;
                if now.duration_since(since) >= WORTHWHILE {
                    self.pause = FIRST_PAUSE;
                    self.next = now;
                } else {
                    self.fail(now);
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

    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut now = Instant::now();
        let mut redial = Redial::new([address()], now);
        let mut pauses = Vec::new();
        for attempt in 0..8 {
            assert_eq!(redial.due(now, |_| false).len(), 1);
            redial.started(0, ConnectionId::new_unchecked(attempt));
            assert!(redial.due(now, |_| false).is_empty(), "one dial at a time");
            redial.on_failed(ConnectionId::new_unchecked(attempt), now);
            let began = now;
            while redial.due(now, |_| false).is_empty() {
                now += Duration::from_millis(100);
            }
            pauses.push(now.duration_since(began).as_millis());
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
    }

    #[test]
    fn who_answered_is_remembered_and_redialled_when_lost() {
        let mut now = Instant::now();
        let mut redial = Redial::new([address()], now);
        let peer = PeerId::random();
        redial.started(0, ConnectionId::new_unchecked(1));
        redial.on_connected(ConnectionId::new_unchecked(1), peer);
        assert!(redial.due(now, |it| *it == peer).is_empty());
        now += Duration::from_secs(60);
        let due = redial.due(now, |_| false);
        assert_eq!(due, [Due { address: address(), peer: Some(peer), target: 0 }]);
    }

    #[test]
    fn a_connection_that_does_not_last_is_a_failure() {
        let mut now = Instant::now();
        let mut redial = Redial::new([address()], now);
        redial.started(0, ConnectionId::new_unchecked(1));
        redial.on_connected(ConnectionId::new_unchecked(1), PeerId::random());
        assert!(redial.due(now, |_| true).is_empty());
        now += Duration::from_secs(1);
        assert!(redial.due(now, |_| false).is_empty());
        now += FIRST_PAUSE;
        assert_eq!(redial.due(now, |_| false).len(), 1);
    }
}
