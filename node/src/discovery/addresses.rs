//! Which addresses are worth dialling, and worth telling others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::PeerId;
use libp2p::multiaddr::{Multiaddr, Protocol};

/// Addresses of one node that are dialled or told; all are tried in parallel.
pub(crate) const MAX_ADDRESSES: usize = 16;

/// What an address is good for, worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// Reachable from other machines, as far as it shows.
    Good,
    /// A bridge that container runtimes give every machine alike: 172.17.0.0/16.
    Container,
    /// Without an interface's name, link-local leads nowhere.
    LinkLocal,
    /// This machine only.
    Loopback,
    /// Nothing to dial.
    Useless,
}

fn worth(address: &Multiaddr) -> Worth {
    let ip = match address.iter().next() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
        Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_)) => {
            return Worth::Good;
        }
        _ => return Worth::Useless,
    };
    let has_port = address.iter().any(|part| matches!(part, Protocol::Tcp(1..) | Protocol::Udp(1..)));
    if !has_port || ip.is_unspecified() || ip.is_multicast() {
        return Worth::Useless;
    }
    if ip.is_loopback() {
        return Worth::Loopback;
    }
    match ip {
        IpAddr::V4(ip) if ip.is_link_local() => Worth::LinkLocal,
        IpAddr::V6(ip) if is_link_local_v6(&ip) => Worth::LinkLocal,
        IpAddr::V4(ip) if is_container(&ip) => Worth::Container,
        _ => Worth::Good,
    }
}

fn is_link_local_v6(ip: &Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

fn is_container(ip: &Ipv4Addr) -> bool {
    ip.octets()[..2] == [172, 17]
}

/// The addresses of the best kind that there is, without the ending `/p2p/…`, each once,
/// at most [`MAX_ADDRESSES`]. Loopback stays only if there is nothing better, and so on.
pub(crate) fn useful(addresses: impl IntoIterator<Item = Multiaddr>) -> Vec<Multiaddr> {
    let mut kept: Vec<(Worth, Multiaddr)> = Vec::new();
    for address in addresses {
        let address = without_peer(address);
        let worth = worth(&address);
        if worth != Worth::Useless && !kept.iter().any(|(_, other)| *other == address) {
            kept.push((worth, address));
        }
    }
    let best = kept.iter().map(|(worth, _)| *worth).min();
    kept.retain(|(worth, _)| Some(*worth) == best);
    kept.truncate(MAX_ADDRESSES);
    kept.into_iter().map(|(_, address)| address).collect()
}

/// The address without an ending `/p2p/…`.
pub(crate) fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

/// The interface that the address is of, unless it is of this machine alone or of none.
pub(crate) fn interface_v4(address: &Multiaddr) -> Option<Ipv4Addr> {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) if !ip.is_loopback() && !ip.is_unspecified() => Some(ip),
        _ => None,
    }
}

/// Who the address says is there.
pub(crate) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// Whether the address leads nowhere but to this machine.
pub(crate) fn is_local(address: &Multiaddr) -> bool {
    worth(address) >= Worth::Loopback
}

/// `quic` or `tcp`.
pub(crate) fn transport_of(address: &Multiaddr) -> &'static str {
    let quic = address.iter().any(|part| matches!(part, Protocol::QuicV1 | Protocol::Quic));
    if quic { "quic" } else { "tcp" }
}

/// Whether no relay lies between.
pub(crate) fn is_direct(address: &Multiaddr) -> bool {
    !address.iter().any(|part| matches!(part, Protocol::P2pCircuit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn only_the_best_kind_is_kept() {
        let all = [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/172.17.0.1/tcp/1",
            "/ip6/fe80::1/tcp/1",
            "/ip4/10.0.0.7/tcp/1",
            "/ip4/10.0.0.7/udp/1/quic-v1",
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/10.0.0.7/tcp/0",
            "/ip4/10.0.0.7/tcp/1",
        ];
        assert_eq!(useful(parse(&all)), parse(&["/ip4/10.0.0.7/tcp/1", "/ip4/10.0.0.7/udp/1/quic-v1"]));
        assert_eq!(useful(parse(&all[..3])), parse(&["/ip4/172.17.0.1/tcp/1"]));
        assert_eq!(useful(parse(&all[..1])), parse(&["/ip4/127.0.0.1/tcp/1"]));
        assert_eq!(useful(parse(&["/ip4/0.0.0.0/tcp/1"])), parse(&[]));
    }

    #[test]
    fn the_peer_is_cut_off() {
        let peer = PeerId::random();
        let address: Multiaddr = format!("/dns/example.org/tcp/9/p2p/{peer}").parse().expect("an address");
        assert_eq!(peer_of(&address), Some(peer));
        assert_eq!(useful([address]), parse(&["/dns/example.org/tcp/9"]));
    }

    #[test]
    fn transports_are_told_apart() {
        let both = parse(&["/ip4/1.2.3.4/udp/1/quic-v1", "/ip4/1.2.3.4/tcp/1"]);
        assert_eq!(both.iter().map(transport_of).collect::<Vec<_>>(), ["quic", "tcp"]);
    }
}
