//! A transport whose dials are a little different.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use libp2p::core::transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent};
use libp2p::{Multiaddr, Transport};

/// Wraps a transport: its dials begin later, or never from the listener's port.
#[derive(Debug)]
pub(super) struct Dialling<T> {
    inner: T,
    delay: Duration,
    new_ports: bool,
}

impl<T> Dialling<T> {
    /// Dials begin this much later, so that another transport's come first.
    pub(super) fn after(inner: T, delay: Duration) -> Self {
        Self { inner, delay, new_ports: false }
    }

    /// Each dial gets a port of its own.
    pub(super) fn from_new_ports(inner: T) -> Self {
        Self { inner, delay: Duration::ZERO, new_ports: true }
    }
}

impl<T> Transport for Dialling<T>
where
    T: Transport + Unpin,
    T::Dial: Send + 'static,
    T::Output: 'static,
    T::Error: 'static,
{
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, Result<T::Output, T::Error>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        mut opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<T::Error>> {
        if self.new_ports {
            opts.port_use = PortUse::New;
        }
        let dial = self.inner.dial(address, opts)?;
        let delay = self.delay;
        Ok(Box::pin(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            dial.await
        }))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}
