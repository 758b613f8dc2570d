//! Whether multicast comes through. mDNS says nothing when it is not heard: a firewall, a VPN, a
//! Wi-Fi that keeps its guests apart look like a LAN with nobody on it. So we listen to the mDNS
//! group ourselves: for our own questions, which the system hands back to us, and for anybody
//! else's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::twin::Twin;

/// RFC 6762 §3.
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const PORT: u16 = 5353;

/// What was heard counts for so long: six of our own questions.
const FRESH: Duration = Duration::from_secs(60);

/// Other hosts remembered.
const MAX_OTHERS: usize = 256;

/// Between questions of a probe: one may be lost.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// "Who speaks libp2p here?": a query (RFC 1035 §4.1) for PTR records of `_p2p._udp.local`, as
/// libp2p asks it. Nodes answer it.
const QUESTION: &[u8] = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x04_p2p\x04_udp\x05local\0\0\x0c\0\x01";

/// What a packet has at most (RFC 6762 §17).
const MAX_PACKET: usize = 9_000;

/// What came of multicast.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Multicast {
    /// This machine's interfaces by address, and how long ago its own mDNS was heard there; `None`
    /// if it was not, lately.
    pub own: BTreeMap<Ipv4Addr, Option<Duration>>,
    /// Other hosts whose mDNS was heard lately, whatever they are.
    pub others: usize,
}

impl Multicast {
    /// The interfaces on which this machine does not hear itself.
    pub fn deaf(&self) -> Vec<Ipv4Addr> {
        self.own.iter().filter(|(_, heard)| heard.is_none()).map(|(address, _)| *address).collect()
    }
}

#[derive(Debug, Default)]
struct Heard {
    own: BTreeMap<Ipv4Addr, Option<Instant>>,
    others: HashMap<IpAddr, Instant>,
}

impl Heard {
    fn note(&mut self, from: IpAddr, now: Instant) {
        if let IpAddr::V4(from) = from
            && let Some(own) = self.own.get_mut(&from)
        {
            *own = Some(now);
            return;
        }
        if from.is_loopback() {
            return;
        }
        if self.others.len() >= MAX_OTHERS {
            self.others.retain(|_, at| now.duration_since(*at) < FRESH);
        }
        if self.others.len() < MAX_OTHERS || self.others.contains_key(&from) {
            self.others.insert(from, now);
        }
    }

    fn view(&self, now: Instant) -> Multicast {
        let age = |at: &Instant| Some(now.duration_since(*at)).filter(|age| *age < FRESH);
        Multicast {
            own: self.own.iter().map(|(address, at)| (*address, at.as_ref().and_then(age))).collect(),
            others: self.others.values().filter(|at| age(at).is_some()).count(),
        }
    }
}

/// Listens to the mDNS group until it is dropped.
#[derive(Debug)]
pub(crate) struct Ear {
    socket: Arc<UdpSocket>,
    heard: Arc<Mutex<Heard>>,
    /// Only a node has a name that others may answer to.
    twin: Option<Arc<Mutex<Twin>>>,
    task: AbortHandle,
}

impl Ear {
    /// Opens it; it hears nothing before it is told where. `me` is whom to listen for on other hosts.
    pub(crate) fn open(me: Option<PeerId>) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        // The group's own address: what is sent to this host alone is for others on the port.
        socket.bind(&SocketAddr::V4(SocketAddrV4::new(GROUP, PORT)).into())?;
        let socket = Arc::new(UdpSocket::from_std(socket.into())?);
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let twin = me.map(|me| Arc::new(Mutex::new(Twin::new(me))));
        let task = tokio::spawn(listen(socket.clone(), heard.clone(), twin.clone())).abort_handle();
        Ok(Self { socket, heard, twin, task })
    }

    /// These are this machine's addresses now.
    pub(crate) fn listen_on(&self, interfaces: &BTreeSet<Ipv4Addr>) {
        let mut heard = lock(&self.heard);
        for gone in heard.own.keys().filter(|address| !interfaces.contains(*address)) {
            // With the interface, its membership went.
            let _ = self.socket.leave_multicast_v4(GROUP, *gone);
        }
        heard.own.retain(|address, _| interfaces.contains(address));
        for address in interfaces {
            if heard.own.contains_key(address) {
                continue;
            }
            if let Err(error) = self.socket.join_multicast_v4(GROUP, *address) {
                tracing::debug!(%address, %error, "no multicast here");
            }
            heard.own.insert(*address, None);
        }
    }

    /// This node listens there now.
    pub(crate) fn set_own(&self, own: impl IntoIterator<Item = Multiaddr>) {
        if let Some(twin) = &self.twin {
            lock(twin).set_own(own);
        }
    }

    /// Where another node answers to this one's name, if one does.
    pub(crate) fn twin(&self) -> Vec<Multiaddr> {
        self.twin.as_ref().map(|twin| lock(twin).view(Instant::now())).unwrap_or_default()
    }

    /// What was heard lately.
    pub(crate) fn view(&self) -> Multicast {
        lock(&self.heard).view(Instant::now())
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(heard: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held.
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn listen(socket: Arc<UdpSocket>, heard: Arc<Mutex<Heard>>, twin: Option<Arc<Mutex<Twin>>>) {
    let mut packet = vec![0; MAX_PACKET];
    loop {
        match socket.recv_from(&mut packet).await {
            Ok((len, from)) => {
                let now = Instant::now();
                lock(&heard).note(from.ip(), now);
                if let Some(twin) = &twin {
                    lock(twin).hear(from.ip(), &packet[..len], now);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "multicast cannot be heard now");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Asks on each of these interfaces, and listens until all have heard it, but not longer than
/// `patience`. Must be called in a tokio runtime.
///
/// # Errors
/// When the mDNS port cannot be listened to at all.
pub async fn probe(interfaces: &BTreeSet<Ipv4Addr>, patience: Duration) -> io::Result<Multicast> {
    let ear = Ear::open(None)?;
    ear.listen_on(interfaces);
    let deadline = Instant::now() + patience;
    loop {
        for address in interfaces {
            if let Err(error) = ask(*address).await {
                tracing::debug!(%address, %error, "nothing can be asked here");
            }
        }
        let next = deadline.min(Instant::now() + ASK_EVERY);
        while Instant::now() < next {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let view = ear.view();
        // Others answer a moment later than we hear ourselves.
        if Instant::now() >= deadline || (view.deaf().is_empty() && view.others > 0) {
            return Ok(view);
        }
    }
}

async fn ask(from: Ipv4Addr) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_multicast_if_v4(&from)?;
    socket.bind(&SocketAddr::V4(SocketAddrV4::new(from, 0)).into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    socket.send_to(QUESTION, (GROUP, PORT)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    #[test]
    fn our_own_voice_is_told_from_others() {
        let now = Instant::now();
        let own = BTreeMap::from([(ip(1), None), (ip(2), None)]);
        let mut heard = Heard { own, ..Heard::default() };
        heard.note(ip(1).into(), now);
        heard.note(ip(9).into(), now);
        heard.note(Ipv4Addr::LOCALHOST.into(), now);
        let view = heard.view(now + Duration::from_secs(1));
        assert_eq!((view.deaf(), view.others), (vec![ip(2)], 1));
        assert_eq!(view.own[&ip(1)], Some(Duration::from_secs(1)));
        let later = heard.view(now + FRESH);
        assert_eq!((later.deaf().len(), later.others), (2, 0), "it was heard too long ago");
    }

    #[test]
    fn a_loud_network_fills_no_memory() {
        let now = Instant::now();
        let mut heard = Heard::default();
        for number in 0..10_000_u32 {
            heard.note(Ipv4Addr::from(0x0b00_0000 + number).into(), now);
        }
        assert_eq!(heard.others.len(), MAX_OTHERS);
        heard.note(ip(7).into(), now + FRESH);
        assert_eq!(heard.others.len(), 1, "the old ones made room");
    }

    #[test]
    fn the_question_is_well_formed() {
        assert_eq!(QUESTION.len(), 12 + 17 + 4);
        assert_eq!(&QUESTION[4..6], [0, 1], "one question");
    }
}
