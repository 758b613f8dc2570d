//! The ways to other nodes: TCP (TLS or Noise, then Yamux) and QUIC, by name or number.

use std::io;
use std::time::Duration;

use futures::io::BufReader;
use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport, dns, quic, tcp};

use self::dialling::Dialling;
use self::security::Security;

mod dialling;
mod security;
mod tls;
mod yamux;

/// Connecting takes no longer, handshakes included. Guess: three losses of a first packet.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// How much earlier than QUIC, TCP is tried. Both lead to the same node; a TCP connection
/// says at once that its other end was killed, where QUIC is silent until a timeout.
/// RFC 8305 §5 wants 100 ms to 2 s between attempts.
const TCP_HEAD_START: Duration = Duration::from_millis(100);

/// Bytes that are read of a TCP connection at once: TLS by itself asks for 4 KiB, a fourth of a record.
const AT_ONCE: usize = 64 << 10;

/// Bytes a peer may have under way on one QUIC stream, and on one connection.
const QUIC_STREAM_WINDOW: u32 = 4 << 20;
const QUIC_CONNECTION_WINDOW: u32 = 8 << 20;

/// Streams of one QUIC connection; an overlay link has four, identify and ping a few.
const QUIC_STREAMS: u32 = 64;

/// All transports as one. Names are resolved as the system says; a machine without a
/// resolver still has numbers.
pub(crate) fn build(key: &Keypair) -> io::Result<Boxed<(PeerId, StreamMuxerBox)>> {
    match dns::tokio::Transport::system(by_number(key)?) {
        Ok(named) => Ok(TransportTimeout::new(named, CONNECT_TIMEOUT).boxed()),
        Err(error) => {
            tracing::warn!(%error, "no DNS: only numeric addresses can be dialled");
            Ok(TransportTimeout::new(by_number(key)?, CONNECT_TIMEOUT).boxed())
        }
    }
}

fn by_number(key: &Keypair) -> io::Result<Boxed<(PeerId, StreamMuxerBox)>> {
    // Dialling from the listener's port would make two nodes that dial each other at once
    // meet in one socket, where both believe to be the dialler.
    let sockets = Dialling::from_new_ports(tcp::tokio::Transport::new(tcp::Config::new().nodelay(true)));
    let both = OrTransport::new(secured(sockets, key)?, Dialling::after(quic(key), TCP_HEAD_START));
    Ok(both.map(|either, _| either.into_inner()).boxed())
}

/// Any sockets, secured (TLS or Noise) and multiplexed (Yamux) as a node does with TCP's.
///
/// # Errors
/// When no certificate can be made of the key.
pub fn secured<T>(sockets: T, key: &Keypair) -> io::Result<Boxed<(PeerId, StreamMuxerBox)>>
where
    T: Transport<Error: Send + Sync, Dial: Send, ListenerUpgrade: Send> + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let security = Security::new(key).map_err(io::Error::other)?;
    let gathered = sockets.map(|socket, _| BufReader::with_capacity(AT_ONCE, socket));
    let muxed = gathered.upgrade(Version::V1Lazy).authenticate(security).multiplex(yamux::Upgrade);
    Ok(muxed.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed())
}

/// QUIC as a node speaks it.
pub fn quic(key: &Keypair) -> Boxed<(PeerId, StreamMuxerBox)> {
    let quic = quic::tokio::Transport::new(quic_config(key));
    quic.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed()
}

fn quic_config(key: &Keypair) -> quic::Config {
    let mut config = quic::Config::new(key);
    config.max_stream_data = QUIC_STREAM_WINDOW;
    config.max_connection_data = QUIC_CONNECTION_WINDOW;
    config.max_concurrent_stream_limit = QUIC_STREAMS;
    config.handshake_timeout = CONNECT_TIMEOUT;
    config
}
