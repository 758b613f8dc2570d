//! TLS or Noise: TLS is offered first, as AES-GCM in hardware is half the cost of Noise's
//! ChaCha20-Poly1305 for large messages.

use std::io;

use futures::future::{BoxFuture, Either};
use futures::{AsyncRead, AsyncWrite};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use libp2p::identity::Keypair;
use libp2p::{PeerId, noise, tls};

use super::tls::Server;

/// Both, negotiated by name.
#[derive(Clone)]
pub(super) struct Security {
    /// As who asks.
    tls: tls::Config,
    /// As who is asked.
    server: Server,
    noise: noise::Config,
}

/// What stands on a connection once it is secured.
pub(super) type Secured<C> = Either<tls::TlsStream<C>, noise::Output<C>>;

impl Security {
    pub(super) fn new(key: &Keypair) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self { tls: tls::Config::new(key)?, server: Server::new(key)?, noise: noise::Config::new(key)? })
    }
}

impl UpgradeInfo for Security {
    type Info = &'static str;
    type InfoIter = std::vec::IntoIter<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        let names: Vec<_> = self.tls.protocol_info().chain(self.noise.protocol_info()).collect();
        names.into_iter()
    }
}

impl Security {
    fn is_tls(&self, name: &str) -> bool {
        self.tls.protocol_info().any(|it| it == name)
    }
}

impl<C> InboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Self::Output, io::Error>>;

    fn upgrade_inbound(self, socket: C, name: &'static str) -> Self::Future {
        Box::pin(async move {
            if self.is_tls(name) {
                let (peer, stream) = self.server.accept(socket).await?;
                Ok((peer, Either::Left(stream)))
            } else {
                let (peer, stream) =
                    self.noise.upgrade_inbound(socket, name).await.map_err(io::Error::other)?;
                Ok((peer, Either::Right(stream)))
            }
        })
    }
}

impl<C> OutboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Self::Output, io::Error>>;

    fn upgrade_outbound(self, socket: C, name: &'static str) -> Self::Future {
        Box::pin(async move {
            if self.is_tls(name) {
                let (peer, stream) =
                    self.tls.upgrade_outbound(socket, name).await.map_err(io::Error::other)?;
                Ok((peer, Either::Left(stream)))
            } else {
                let (peer, stream) =
                    self.noise.upgrade_outbound(socket, name).await.map_err(io::Error::other)?;
                Ok((peer, Either::Right(stream)))
            }
        })
    }
}
