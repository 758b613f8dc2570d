//! Who else answers to our name on the LAN: a copy of this node's data directory that runs on another host.
//! Neighbours take its connection for one more of ours, and tell it nothing. But it answers mDNS questions
//! as we do.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

/// Answers this far apart are not what was under way while our own addresses changed. Guess; there is a
/// question every ten seconds.
const TWICE_WITHIN: Duration = Duration::from_secs(5);

/// A twin that has not answered for so long is gone: six questions.
const FRESH: Duration = Duration::from_secs(60);

/// Addresses of it that are remembered.
const MAX_ADDRESSES: usize = 8;

/// What stands before an address in the text of an answer.
const KEY: &[u8] = b"dnsaddr=";

/// Answers to our name that are not ours.
#[derive(Debug)]
pub(super) struct Twin {
    me: PeerId,
    own: BTreeSet<Multiaddr>,
    addresses: BTreeSet<Multiaddr>,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Twin {
    pub(super) fn new(me: PeerId) -> Self {
        Self { me, own: BTreeSet::new(), addresses: BTreeSet::new(), first: None, last: None }
    }

    /// We listen at these now; what was heard before may have been about others of ours.
    pub(super) fn set_own(&mut self, own: impl IntoIterator<Item = Multiaddr>) {
        *self = Self { own: own.into_iter().collect(), ..Self::new(self.me) };
    }

    /// A packet of the mDNS group. What it says of us counts if it came from where it says that we are, and
    /// we are not there: who repeats answers of ours on another network is no twin.
    pub(super) fn hear(&mut self, from: IpAddr, packet: &[u8], now: Instant) {
        if self.own.is_empty() {
            return;
        }
        let there: Vec<Multiaddr> = addresses_of(&self.me, packet)
            .filter(|it| ip(it) == Some(from) && !self.own.contains(it))
            .collect();
        if there.is_empty() {
            return;
        }
        if self.last.is_none_or(|at| now.duration_since(at) >= FRESH) {
            self.addresses.clear();
            self.first = Some(now);
        }
        self.last = Some(now);
        self.addresses.extend(there);
        while self.addresses.len() > MAX_ADDRESSES {
            self.addresses.pop_last();
        }
    }

    /// Where it is, if there is one.
    pub(super) fn view(&self, now: Instant) -> Vec<Multiaddr> {
        let (Some(first), Some(last)) = (self.first, self.last) else { return Vec::new() };
        let is_sure = last.duration_since(first) >= TWICE_WITHIN && now.duration_since(last) < FRESH;
        if is_sure { self.addresses.iter().cloned().collect() } else { Vec::new() }
    }
}

fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// The addresses of a peer that an answer names: character strings (RFC 1035 §3.3.14) as libp2p's mDNS
/// specification has them. Enough of DNS is understood to find those.
fn addresses_of<'a>(peer: &'a PeerId, packet: &'a [u8]) -> impl Iterator<Item = Multiaddr> + 'a {
    let starts = (1..packet.len()).filter(|at| packet[*at..].starts_with(KEY));
    starts.filter_map(|at| {
        let text = packet.get(at + KEY.len()..at + usize::from(packet[at - 1]))?;
        let mut address = Multiaddr::from_str(std::str::from_utf8(text).ok()?).ok()?;
        let is_its = address.pop() == Some(Protocol::P2p(*peer));
        is_its.then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(peer: &PeerId, addresses: &[&str]) -> Vec<u8> {
        let mut packet = b"\0\0\x84\0\0\0\0\x01\0\0\0\x02".to_vec();
        for address in addresses {
            let text = format!("dnsaddr={address}/p2p/{peer}");
            packet.extend([0, 16, 0x80, 1, 0, 0, 0, 120, 0, text.len() as u8 + 1, text.len() as u8]);
            packet.extend(text.as_bytes());
            // The next name begins with a length that is a digit as well.
            packet.extend(b"0123");
        }
        packet
    }

    fn at(host: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, host])
    }

    const OURS: &str = "/ip4/10.0.0.1/tcp/4001";
    const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/4001";
    const THEIRS: &str = "/ip4/10.0.0.2/tcp/4001";

    fn twin(me: PeerId) -> Twin {
        let mut twin = Twin::new(me);
        twin.set_own([OURS, LOOPBACK].map(|it| it.parse().expect("an address")));
        twin
    }

    #[test]
    fn who_answers_to_our_name_elsewhere_is_found_and_forgotten() {
        let (me, start) = (PeerId::random(), Instant::now());
        let mut twin = twin(me);
        let packet = answer(&me, &[LOOPBACK, THEIRS]);
        twin.hear(at(2), &packet, start);
        assert!(twin.view(start).is_empty(), "once is not enough");
        let later = start + Duration::from_secs(10);
        twin.hear(at(2), &packet, later);
        assert_eq!(twin.view(later), [THEIRS.parse().expect("an address")]);
        assert!(twin.view(later + FRESH).is_empty(), "it was stopped");
        twin.hear(at(2), &packet, later + FRESH);
        assert!(twin.view(later + FRESH).is_empty());
    }

    #[test]
    fn our_own_answers_are_no_twin_whoever_repeats_them() {
        let (me, start) = (PeerId::random(), Instant::now());
        let mut twin = twin(me);
        let other = answer(&PeerId::random(), &[THEIRS]);
        let own = answer(&me, &[LOOPBACK, OURS]);
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            twin.hear(at(1), &own, now);
            twin.hear(at(254), &own, now);
            twin.hear(at(2), &other, now);
            assert!(twin.view(now).is_empty());
        }
    }

    #[test]
    fn packets_that_are_none_say_nothing_and_many_addresses_fill_no_memory() {
        let (me, start) = (PeerId::random(), Instant::now());
        let mut twin = twin(me);
        let whole = answer(&me, &[THEIRS]);
        for cut in 0..whole.len() - 5 {
            twin.hear(at(2), &whole[..cut], start);
        }
        assert!(twin.last.is_none());
        for port in 0..1_000 {
            twin.hear(at(2), &answer(&me, &[&format!("/ip4/10.0.0.2/tcp/{port}")]), start);
        }
        assert_eq!(twin.addresses.len(), MAX_ADDRESSES);
    }
}
