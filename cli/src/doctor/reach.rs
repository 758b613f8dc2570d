//! Who can be reached.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::join_all;
use libp2p::multiaddr::Protocol;
use treecast_node::{Multiaddr, RememberedNode};

use super::{Check, Patient, finding};

/// How long each address may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Nodes that are called, those in groups of ours first.
const MAX_NODES: usize = 64;

/// How a call ended. Better is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Answer {
    /// There was no address that can be called by TCP.
    NotTried,
    TimedOut,
    Unreachable,
    Refused,
    Connected,
}

impl Answer {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::NotTried => "cannot be called by TCP",
            Self::TimedOut => "timed out",
            Self::Unreachable => "cannot be reached",
            Self::Refused => "refused",
            Self::Connected => "answered",
        }
    }
}

/// The socket behind a TCP address that has a number.
pub(super) fn tcp_socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) if !ip.is_unspecified() => Some((ip, port).into()),
        _ => None,
    }
}

/// Whether somebody listens there; not who.
pub(super) async fn dial(socket: SocketAddr) -> Answer {
    match tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect(socket)).await {
        Ok(Ok(_)) => Answer::Connected,
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Answer::Refused,
        Ok(Err(error)) if error.kind() == ErrorKind::TimedOut => Answer::TimedOut,
        Ok(Err(_)) => Answer::Unreachable,
        Err(_) => Answer::TimedOut,
    }
}

/// The best answer of all addresses, called at once.
async fn call(addresses: &[Multiaddr]) -> Answer {
    let answers = join_all(addresses.iter().filter_map(tcp_socket).map(dial)).await;
    answers.into_iter().max().unwrap_or(Answer::NotTried)
}

/// Calls the nodes that are known, and those named by hand.
pub(super) async fn members(patient: &Patient<'_>) -> Check {
    let known: &[RememberedNode] = patient.remembered.as_ref().map_or(&[], |all| &all.nodes);
    let mut names: Vec<String> = Vec::new();
    let mut places: Vec<Vec<Multiaddr>> = Vec::new();
    for node in known.iter().take(MAX_NODES) {
        let id = node.node.to_string();
        names.push(format!("…{}", &id[id.len().saturating_sub(6)..]));
        places.push(node.addresses.clone());
    }
    for text in &patient.settings.peer.value {
        names.push(text.clone());
        places.push(text.parse().into_iter().collect());
    }
    let answers = join_all(places.iter().map(|addresses| call(addresses))).await;
    judge(&names.into_iter().zip(answers).collect::<Vec<_>>())
}

fn judge(answers: &[(String, Answer)]) -> Check {
    const NAME: &str = "members";
    if answers.is_empty() {
        return Check::good(NAME, "No other node is known yet.", "");
    }
    let of = |wanted: Answer| {
        let names: Vec<&str> =
            answers.iter().filter(|(_, answer)| *answer == wanted).map(|(name, _)| name.as_str()).collect();
        names
    };
    let count = |wanted| of(wanted).len();
    let why: Vec<String> = [Answer::Refused, Answer::Unreachable, Answer::TimedOut, Answer::NotTried]
        .into_iter()
        .filter(|answer| count(*answer) > 0)
        .map(|answer| format!("{} {} ({})", count(answer), answer.words(), of(answer).join(", ")))
        .collect();
    let why = if why.is_empty() { String::new() } else { format!("{}.", why.join("; ")) };
    let (answered, all) = (count(Answer::Connected), answers.len());
    let what = match (answered, all) {
        (1, 1) => "The one node that is known answers.".to_owned(),
        (0, 1) => "The one node that is known does not answer.".to_owned(),
        (1, all) => format!("1 of {all} nodes that are known answers."),
        (answered, all) => format!("{answered} of {all} nodes that are known answer."),
    };
    if answered > 0 || count(Answer::NotTried) == all {
        return Check::good(NAME, what, why);
    }
    let fix = "See that one of them runs and that no firewall lies between; `treecast invite` there prints a ticket \
               that says where members are now.";
    Check::bad(NAME, finding(what, why, fix), "treecast group join TICKET")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_answers_is_enough() {
        let answer = |name: &str, answer| (name.to_owned(), answer);
        assert!(judge(&[]).ok);
        let some = judge(&[answer("a", Answer::TimedOut), answer("b", Answer::Connected)]);
        assert_eq!((some.ok, some.what.as_str()), (true, "1 of 2 nodes that are known answers."));
        let none = judge(&[answer("a", Answer::TimedOut), answer("b", Answer::Refused)]);
        assert!(!none.ok && none.why == "1 refused (b); 1 timed out (a).", "{none:?}");
        assert!(judge(&[answer("a", Answer::NotTried)]).ok, "who cannot be asked is not blamed");
    }

    #[test]
    fn only_numeric_tcp_addresses_are_called() {
        let parse = |text: &str| tcp_socket(&text.parse().expect("an address"));
        assert_eq!(parse("/ip4/10.0.0.1/tcp/7"), Some(([10, 0, 0, 1], 7).into()));
        assert_eq!(parse("/ip4/10.0.0.1/udp/7/quic-v1"), None);
        assert_eq!(parse("/ip4/0.0.0.0/tcp/7"), None);
        assert_eq!(parse("/dns/example.org/tcp/7"), None);
    }

    #[tokio::test]
    async fn the_best_answer_counts() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let open = holder.local_addr().expect("bound").port();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let shut = closed.local_addr().expect("bound").port();
        drop(closed);
        let at = |port: u16| format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address");
        assert_eq!(call(&[at(shut), at(open)]).await, Answer::Connected);
        assert_eq!(call(&[at(shut)]).await, Answer::Refused);
        assert_eq!(call(&[]).await, Answer::NotTried);
    }
}
