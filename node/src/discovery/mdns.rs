//! mDNS that does not fall asleep.
//!
//! libp2p's does not try an interface again that was not ready, and ends an interface's task
//! silently on an error. So a node that stays alone makes it anew now and then. Not often: what
//! is replaced goes on answering until it hears somebody.

use std::io;
use std::time::Duration;

use libp2p::core::transport::ListenerId;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::{FromSwarm, NewListenAddr, NewListener};
use libp2p::{Multiaddr, PeerId, mdns};
use tokio::time::Instant;

/// How long an answer is believed.
const TTL: Duration = Duration::from_secs(120);

/// Between questions; any answer on the LAN puts them off, so there is about one in so long
/// whatever the number of nodes. libp2p's five minutes leave halves apart for as long.
const QUERY_EVERY: Duration = Duration::from_secs(10);

/// How long a node is alone before all is made anew; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

/// A new behaviour that knows where the node listens.
pub(crate) fn fresh(me: PeerId, listens: &[(ListenerId, Multiaddr)]) -> io::Result<mdns::tokio::Behaviour> {
    let config = mdns::Config { ttl: TTL, query_interval: QUERY_EVERY, enable_ipv6: false };
    let mut behaviour = mdns::tokio::Behaviour::new(config, me)?;
    for (listener_id, addr) in listens {
        let listener_id = *listener_id;
        behaviour.on_swarm_event(FromSwarm::NewListener(NewListener { listener_id }));
        behaviour.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr }));
    }
    Ok(behaviour)
}

/// When a lonely node makes its mDNS anew.
#[derive(Debug)]
pub(crate) struct Patience {
    next: Instant,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new(now: Instant) -> Self {
        Self { next: now + FIRST_PAUSE, pause: FIRST_PAUSE }
    }

    /// Whether it is time; `alone`: nobody is connected.
    pub(crate) fn is_over(&mut self, now: Instant, alone: bool) -> bool {
        if !alone {
            *self = Self::new(now);
            return false;
        }
        if now < self.next {
            return false;
        }
        self.pause = self.pause.saturating_mul(2);
        self.next = now + self.pause;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lonely_node_begins_anew_less_and_less_often() {
        let start = Instant::now();
        let minutes = |count: u64| start + Duration::from_secs(60 * count);
        let mut patience = Patience::new(start);
        let anew: Vec<u64> = (0..40).filter(|minute| patience.is_over(minutes(*minute), true)).collect();
        assert_eq!(anew, [1, 3, 7, 15, 31]);
        assert!(!patience.is_over(minutes(70), false));
        assert!(patience.is_over(minutes(71), true));
    }
}
