//! The swarm: transports and behaviours put together.

use std::num::NonZeroU8;
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{Swarm, connection_limits, identify, mdns, ping};
use treecast_overlay::Config;
use treecast_overlay::behaviour::{self, NewError, Start};

use crate::clock::unix_ms;
use crate::discovery;
use crate::discovery::kad::Kademlia;
use crate::error::StartError;
use crate::store::Kept;
use crate::transport;

/// All that a node does on its connections.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviours {
    /// First, so that a connection over the limit costs the others nothing.
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) overlay: behaviour::Behaviour,
    pub(crate) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(crate) kad: Toggle<Kademlia>,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
    /// Files travel on streams of their own.
    pub(crate) streams: libp2p_stream::Behaviour,
}

/// Two nodes that dial each other at once have two connections for a while; a third lets a
/// node that was killed come back before its old connection is known to be dead.
const CONNECTIONS_PER_PEER: u32 = 3;

/// Handshakes under way. Guess.
const PENDING_INCOMING: u32 = 128;

/// Addresses of one node that are dialled at the same time: all of them.
const DIALS_AT_ONCE: NonZeroU8 = NonZeroU8::new(16).expect("it is not zero");

/// Lives of one source that are taken at once, at least. Guess.
const MAX_LIVES: usize = 64;

/// Connections that nothing uses are closed after so long.
const IDLE: Duration = Duration::from_secs(20);

/// Connections of all kinds, at most.
pub(crate) fn connections_cap(max_links: usize) -> usize {
    max_links.saturating_mul(2)
}

/// Which ways of finding others are used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ways {
    pub(crate) mdns: bool,
    pub(crate) kad: bool,
}

/// Makes the swarm; it does not listen yet.
pub(crate) fn build(
    key: &Keypair,
    ways: Ways,
    overlay: Config,
    kept: &Kept,
) -> Result<Swarm<Behaviours>, StartError> {
    let me = key.public().to_peer_id();
    let transport =
        transport::build(key).map_err(|source| StartError::System { what: "transports", source })?;
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_INCOMING))
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER))
        .with_max_established(Some(u32::try_from(connections_cap(overlay.max_links)).unwrap_or(u32::MAX)));
    let mdns = if ways.mdns {
        Some(discovery::mdns::fresh(me, &[]).map_err(|source| StartError::System { what: "mDNS", source })?)
    } else {
        None
    };
    let behaviours = Behaviours {
        limits: connection_limits::Behaviour::new(limits),
        overlay: overlay_behaviour(key, overlay, kept)?,
        mdns: mdns.into(),
        kad: ways.kad.then(|| discovery::kad::fresh(me)).into(),
        identify: identify::Behaviour::new(
            identify::Config::new("/treecast/1.0.0".to_owned(), key.public())
                .with_agent_version(concat!("treecast/", env!("CARGO_PKG_VERSION")).to_owned())
                .with_push_listen_addr_updates(true),
        ),
        ping: ping::Behaviour::default(),
        streams: libp2p_stream::Behaviour::new(),
    };
    let config = libp2p::swarm::Config::with_tokio_executor()
        .with_dial_concurrency_factor(DIALS_AT_ONCE)
        .with_idle_connection_timeout(IDLE);
    Ok(Swarm::new(transport, behaviours, me, config))
}

fn overlay_behaviour(key: &Keypair, config: Config, kept: &Kept) -> Result<behaviour::Behaviour, StartError> {
    let seed = seed().map_err(|source| StartError::System { what: "randomness", source })?;
    let start = Start { seed, unix_ms: unix_ms(), last_life: kept.last_life(), ends: kept.ends() };
    // A publisher that was killed again and again while nobody was there has as many lives to tell of.
    let config = Config { history: true, max_lives: config.max_lives.max(MAX_LIVES), ..config };
    match behaviour::Behaviour::new(key, config, start) {
        Ok(behaviour) => Ok(behaviour.with_store()),
        Err(NewError::Config(error)) => Err(error.into()),
        Err(other) => Err(StartError::System { what: "the overlay", source: std::io::Error::other(other) }),
    }
}

/// For choices that nobody should foresee.
pub(crate) fn seed() -> std::io::Result<u64> {
    entropy().map(u64::from_le_bytes)
}

/// From the system.
pub(crate) fn entropy<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes)
}
