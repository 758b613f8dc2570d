//! Addresses, multicast, ports: what a node needs of this machine to be found.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use treecast_node::{Multiaddr, Multicast, holder, probe_multicast};

use super::reach::{Answer, dial, tcp_socket};
use super::{Check, Patient, finding};

/// How long own multicast may take to come back.
const LISTENING: Duration = Duration::from_secs(2);

/// This machine's addresses on networks that are up.
fn own_addresses() -> Vec<(String, IpAddr)> {
    let Ok(all) = getifaddrs() else { return Vec::new() };
    let up = all.filter(|it| it.flags.contains(InterfaceFlags::IFF_UP));
    let ip = up.filter_map(|it| {
        let address = it.address?;
        let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))?;
        Some((it.interface_name, ip))
    });
    ip.filter(|(_, ip)| !ip.is_loopback() && !is_link_local(ip)).collect()
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
    }
}

pub(super) fn addresses() -> Check {
    const NAME: &str = "addresses";
    let all = own_addresses();
    if all.is_empty() {
        let why = "No interface that is up has an address but loopback.";
        let fix = "Connect it to a network; `ip address` shows what there is.";
        return Check::bad(NAME, finding("This machine is on no network.", why, fix), "ip address");
    }
    let shown: Vec<String> = all.iter().map(|(interface, ip)| format!("{ip} ({interface})")).collect();
    Check::good(NAME, format!("This machine is {}.", shown.join(", ")), "")
}

/// Whether mDNS can work.
pub(super) async fn multicast(patient: &Patient<'_>) -> Check {
    const NAME: &str = "multicast";
    let is_off = patient.status.as_ref().map_or(patient.settings.no_mdns.value, |status| !status.mdns);
    if is_off {
        return Check::good(NAME, "mDNS is off, so multicast is not needed.", "");
    }
    let interfaces: BTreeSet<Ipv4Addr> = own_addresses()
        .into_iter()
        .filter_map(|(_, ip)| match ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        })
        .collect();
    match probe_multicast(&interfaces, LISTENING).await {
        Ok(heard) => judge(&heard),
        Err(error) => Check::bad(
            NAME,
            finding(
                "mDNS cannot be listened to.",
                format!("UDP port 5353: {error}."),
                "Some other mDNS service has the port for itself: let it share, or use --peer MULTIADDR.",
            ),
            "ss -lunp 'sport = :5353'",
        ),
    }
}

fn judge(heard: &Multicast) -> Check {
    const NAME: &str = "multicast";
    let list = |all: Vec<Ipv4Addr>| all.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ");
    let deaf = heard.deaf();
    if !deaf.is_empty() {
        return Check::bad(
            NAME,
            finding(
                format!("Own multicast is not heard on {}.", list(deaf)),
                "It was asked there by mDNS, and the question did not come back: a firewall or VPN takes it.",
                "Let UDP port 5353 and 224.0.0.251 through; or name a node with --peer MULTIADDR, or join by a \
                 ticket.",
            ),
            "treecast up --peer MULTIADDR",
        );
    }
    let own: Vec<Ipv4Addr> = heard.own.keys().copied().collect();
    if own.is_empty() {
        return Check::good(NAME, "There is no IPv4 network to ask on.", "");
    }
    let others = match heard.others {
        0 => "no other host's, which may be so, or an access point keeps devices apart".to_owned(),
        1 => "one other host's".to_owned(),
        many => format!("{many} other hosts'"),
    };
    Check::good(NAME, format!("Own multicast is heard on {}; {others}.", list(own)), "")
}

/// Whether a node listens, or could.
pub(super) async fn ports(patient: &Patient<'_>) -> Check {
    match &patient.status {
        Some(status) => listening(&status.addresses).await,
        None if matches!(holder(&patient.settings.data_dir.value), Ok(Some(_))) => {
            Check::good("ports", "The process that holds the data directory has its ports, too.", "")
        }
        None => bindable(patient),
    }
}

/// Calls the node that runs at its own addresses.
async fn listening(addresses: &[String]) -> Check {
    const NAME: &str = "ports";
    let sockets: Vec<SocketAddr> = addresses
        .iter()
        .filter_map(|address| tcp_socket(&address.parse::<Multiaddr>().ok()?))
        .filter(|socket| !is_link_local(&socket.ip()))
        .collect();
    let answers = futures::future::join_all(sockets.iter().map(|socket| dial(*socket))).await;
    let silent: Vec<String> = sockets
        .iter()
        .zip(&answers)
        .filter(|(_, answer)| **answer != Answer::Connected)
        .map(|(socket, answer)| format!("{socket} {}", answer.words()))
        .collect();
    if sockets.is_empty() {
        return Check::good(NAME, "The node listens at no TCP address that could be called from here.", "");
    }
    if silent.is_empty() {
        let what = format!("The node answers at its own addresses ({}).", sockets.len());
        return Check::good(NAME, what, "");
    }
    Check::bad(
        NAME,
        finding(
            "The node does not answer at all of its own addresses.",
            format!("{}.", silent.join("; ")),
            "See that this machine's firewall lets its port in, for TCP and UDP.",
        ),
        "treecast status",
    )
}

/// Whether the ports that the next start wants are free.
fn bindable(patient: &Patient<'_>) -> Check {
    const NAME: &str = "ports";
    let remembered = patient.remembered.as_ref();
    let (tcp, quic) = remembered.map_or((None, None), |all| (all.tcp_port, all.quic_port));
    let any = |port: Option<u16>| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.unwrap_or(0)));
    let tried = TcpListener::bind(any(tcp)).map(drop).map_err(|error| ("TCP", tcp, error));
    let tried =
        tried.and_then(|()| UdpSocket::bind(any(quic)).map(drop).map_err(|error| ("UDP", quic, error)));
    match tried {
        Ok(()) => {
            let what = match (tcp, quic) {
                (Some(tcp), Some(quic)) => format!("The ports used last (TCP {tcp}, UDP {quic}) are free."),
                _ => "A port can be listened on.".to_owned(),
            };
            Check::good(NAME, what, "")
        }
        Err((kind, port, error)) => {
            let port = port.map_or_else(|| "No port".to_owned(), |port| format!("Port {port}"));
            Check::bad(
                NAME,
                finding(
                    format!("{port} cannot be listened on ({kind})."),
                    format!("{}.", crate::settings::capital(&error.to_string())),
                    "The next start takes another port; name one with --listen MULTIADDR, or end what has it.",
                ),
                "treecast up",
            )
        }
    }
}

/// Whether others beyond the LAN can be found.
pub(super) fn kademlia(patient: &Patient<'_>) -> Check {
    const NAME: &str = "kademlia";
    let is_off = patient.status.as_ref().map_or(patient.settings.no_kad.value, |status| !status.kad);
    let table = patient.status.as_ref().and_then(|status| status.collections.get("kad/table"));
    let what = match (is_off, table.map(|table| table.len)) {
        (true, _) => "Kademlia is off: created groups are found on the LAN and by address only.".to_owned(),
        (false, None) => "Kademlia is on once a node runs.".to_owned(),
        (false, Some(0)) => {
            "Kademlia is on, and knows nobody: --peer MULTIADDR names a first node.".to_owned()
        }
        (false, Some(1)) => "Kademlia is on, and knows one node.".to_owned(),
        (false, Some(many)) => format!("Kademlia is on, and knows {many} nodes."),
    };
    Check::good(NAME, what, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(own: Option<Duration>, others: usize) -> Multicast {
        Multicast { own: [(Ipv4Addr::new(10, 0, 0, 7), own)].into(), others }
    }

    #[test]
    fn silence_of_our_own_is_wrong_and_that_of_others_is_not() {
        let deaf = judge(&heard(None, 3));
        assert!(!deaf.ok && deaf.what.contains("10.0.0.7") && deaf.fix.contains("5353"), "{deaf:?}");
        let alone = judge(&heard(Some(Duration::ZERO), 0));
        assert!(alone.ok && alone.what.contains("no other host's"), "{alone:?}");
        assert!(judge(&heard(Some(Duration::ZERO), 2)).what.contains("2 other hosts'"));
        assert!(judge(&Multicast::default()).ok, "no network is another check's matter");
    }

    #[tokio::test]
    async fn a_node_that_does_not_answer_at_home_is_told() {
        let holder = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = holder.local_addr().expect("bound").port();
        let at = |port: u16| format!("/ip4/127.0.0.1/tcp/{port}");
        assert!(listening(&[at(port), format!("/ip4/127.0.0.1/udp/{port}/quic-v1")]).await.ok);
        drop(holder);
        let check = listening(&[at(port)]).await;
        assert!(!check.ok && check.why.contains("refused"), "{check:?}");
    }
}
