//! Where the node listens: where it was told to, or everywhere on a port that it keeps.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, Swarm};

use crate::error::StartError;
use crate::swarm::Behaviours;

/// How often a free port is looked for before it is given up.
const ATTEMPTS: usize = 16;

/// Where the node listens now.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    /// Those whose addresses the start waits for.
    pub(crate) listeners: Vec<ListenerId>,
    /// The ports of the default listeners: TCP and QUIC.
    pub(crate) ports: Option<(u16, u16)>,
    /// What a person should know.
    pub(crate) notices: Vec<String>,
}

/// Listens there and nowhere else.
pub(crate) fn explicit(
    swarm: &mut Swarm<Behaviours>,
    addresses: &[Multiaddr],
) -> Result<Listening, StartError> {
    for address in addresses {
        check_free(address)?;
    }
    let listeners = addresses.iter().map(|address| listen(swarm, address)).collect::<Result<_, _>>()?;
    Ok(Listening { listeners, ..Listening::default() })
}

/// Listens on all addresses, TCP and QUIC, on the remembered ports if they are free.
pub(crate) fn default(
    swarm: &mut Swarm<Behaviours>,
    remembered: (Option<u16>, Option<u16>),
) -> Result<Listening, StartError> {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let mut notices = Vec::new();
    let mut note = |what: &str, wanted: Option<u16>, got: u16| {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != got) {
            notices.push(format!(
                "{what} port {wanted}, used the last time, is taken: listening on {got} instead."
            ));
        }
    };
    let tcp = free_port(remembered.0, |port| probe_tcp(SocketAddr::new(any, port)))
        .ok_or_else(|| no_port(tcp_address(any, 0)))?;
    let quic = free_port(remembered.1.or(Some(tcp)), |port| probe_udp(SocketAddr::new(any, port)))
        .ok_or_else(|| no_port(quic_address(any, 0)))?;
    note("TCP", remembered.0, tcp);
    note("QUIC", remembered.1, quic);
    let listeners = vec![listen(swarm, &tcp_address(any, tcp))?, listen(swarm, &quic_address(any, quic))?];
    let any6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    for address in [tcp_address(any6, tcp), quic_address(any6, quic)] {
        // Machines without IPv6 are none the worse.
        if let Err(error) = swarm.listen_on(address) {
            tracing::debug!(%error, "no IPv6 listener");
        }
    }
    Ok(Listening { listeners, ports: Some((tcp, quic)), notices })
}

fn listen(swarm: &mut Swarm<Behaviours>, address: &Multiaddr) -> Result<ListenerId, StartError> {
    let cannot = |why: String| StartError::CannotListen { address: address.clone(), why };
    swarm.listen_on(address.clone()).map_err(|error| cannot(error.to_string()))
}

fn no_port(address: Multiaddr) -> StartError {
    StartError::CannotListen { address, why: "no port is free".to_owned() }
}

fn tcp_address(ip: IpAddr, port: u16) -> Multiaddr {
    Multiaddr::from(ip).with(Protocol::Tcp(port))
}

fn quic_address(ip: IpAddr, port: u16) -> Multiaddr {
    Multiaddr::from(ip).with(Protocol::Udp(port)).with(Protocol::QuicV1)
}

/// The wanted port if it is free, or another.
fn free_port(wanted: Option<u16>, probe: impl Fn(u16) -> std::io::Result<u16>) -> Option<u16> {
    let wanted = wanted.and_then(|port| probe(port).ok());
    wanted.or_else(|| (0..ATTEMPTS).find_map(|_| probe(0).ok()))
}

/// Binds for a moment, without the port sharing that libp2p's listeners allow each other:
/// so a second node on a port shows as an error and not as every second connection.
fn probe_tcp(address: SocketAddr) -> std::io::Result<u16> {
    Ok(TcpListener::bind(address)?.local_addr()?.port())
}

fn probe_udp(address: SocketAddr) -> std::io::Result<u16> {
    Ok(UdpSocket::bind(address)?.local_addr()?.port())
}

fn check_free(address: &Multiaddr) -> Result<(), StartError> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
        // The unspecified IPv6 address would be probed for IPv4 as well.
        Some(Protocol::Ip6(ip)) if !ip.is_unspecified() => IpAddr::V6(ip),
        _ => return Ok(()),
    };
    let probed = match parts.next() {
        Some(Protocol::Tcp(port)) => probe_tcp(SocketAddr::new(ip, port)),
        Some(Protocol::Udp(port)) => probe_udp(SocketAddr::new(ip, port)),
        _ => return Ok(()),
    };
    match probed {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            Err(StartError::PortTaken { address: address.clone() })
        }
        Err(error) => Err(StartError::CannotListen { address: address.clone(), why: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_told() {
        let holder = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = holder.local_addr().expect("bound").port();
        let address = tcp_address(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        assert!(matches!(check_free(&address), Err(StartError::PortTaken { address: it }) if it == address));
        drop(holder);
        assert!(check_free(&address).is_ok());
        let foreign = tcp_address(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 0);
        assert!(matches!(check_free(&foreign), Err(StartError::CannotListen { .. })));
    }

    #[test]
    fn a_remembered_port_that_is_taken_is_replaced() {
        let holder = UdpSocket::bind("0.0.0.0:0").expect("a port");
        let port = holder.local_addr().expect("bound").port();
        let any = |port| probe_udp(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
        let other = free_port(Some(port), any).expect("another");
        assert_ne!(other, port);
        assert_eq!(free_port(Some(other), any), Some(other));
    }
}
