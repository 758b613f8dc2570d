//! How a node is made.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use libp2p::Multiaddr;
use treecast_overlay::Config;

use crate::error::StartError;
use crate::group::GroupRef;
use crate::handle::Node;
use crate::start;

/// What a node is started with.
#[derive(Debug, Clone)]
pub(crate) struct NodeConfig {
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) listen: Vec<Multiaddr>,
    pub(crate) peers: Vec<Multiaddr>,
    pub(crate) mdns: bool,
    pub(crate) kad: bool,
    pub(crate) groups: Vec<GroupRef>,
    pub(crate) nick: Option<String>,
    pub(crate) control: bool,
    pub(crate) listener_first: bool,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) overlay: Config,
    pub(crate) event_bytes: usize,
    pub(crate) publish_bytes: usize,
}

/// Builds a [`Node`]; see [`Node::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct NodeBuilder {
    config: NodeConfig,
}

impl NodeBuilder {
    pub(crate) fn new() -> Self {
        Self {
            config: NodeConfig {
                data_dir: None,
                listen: Vec::new(),
                peers: Vec::new(),
                mdns: true,
                kad: true,
                groups: Vec::new(),
                nick: None,
                control: true,
                listener_first: false,
                metrics: None,
                overlay: Config::default(),
                // A burst of 20,000 messages of 1 KiB fits three times.
                event_bytes: 64 << 20,
                // Enough to keep the core busy while it makes room.
                publish_bytes: 8 << 20,
            },
        }
    }

    /// Where the node keeps its key and what it remembers. One running node each. Made if
    /// missing; only its owner may enter. Required.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.data_dir = Some(path.into());
        self
    }

    /// Listen here, and only on what is named so. A port that is taken is an error.
    /// Default: TCP and QUIC on all addresses, on a free port that is remembered.
    pub fn listen(mut self, address: Multiaddr) -> Self {
        self.config.listen.push(address);
        self
    }

    /// Connect here, again and again until it succeeds and whenever the connection is
    /// lost. With or without an ending `/p2p/…`.
    pub fn peer(mut self, address: Multiaddr) -> Self {
        self.config.peers.push(address);
        self
    }

    /// Find others on the LAN. Default: yes.
    pub fn mdns(mut self, on: bool) -> Self {
        self.config.mdns = on;
        self
    }

    /// Take part in Kademlia: be found by members of created groups beyond the LAN, find them, and
    /// help others meet. Open groups are never announced. Default: yes.
    pub fn kad(mut self, on: bool) -> Self {
        self.config.kad = on;
        self
    }

    /// Be in this group for as long as the node runs, and at its next starts, until
    /// [`Node::leave`].
    pub fn group(mut self, group: impl Into<GroupRef>) -> Self {
        self.config.groups.push(group.into());
        self
    }

    /// What the node calls itself: 1 to 32 characters. Default: as the last time; at first
    /// the end of its id.
    pub fn nick(mut self, nick: impl Into<String>) -> Self {
        self.config.nick = Some(nick.into());
        self
    }

    /// Open the control socket in the data directory, for `treecast` commands. Default: yes.
    pub fn control(mut self, on: bool) -> Self {
        self.config.control = on;
        self
    }

    /// Hear nothing from the network before somebody has entered a group here to listen or publish, for a second at
    /// most: for a node that is started for one who listens, to whom nothing may be lost meanwhile. Default: no.
    pub fn listener_first(mut self, on: bool) -> Self {
        self.config.listener_first = on;
        self
    }

    /// Serve metrics for Prometheus over HTTP here, at `/metrics`; port 0 takes a free one, see
    /// [`Node::metrics`]. Whoever can connect reads them. A port that is taken is an error. Default: none.
    pub fn metrics(mut self, address: SocketAddr) -> Self {
        self.config.metrics = Some(address);
        self
    }

    /// Caps and durations of the overlay. Default: [`Config::wan`].
    pub fn overlay(mut self, overlay: Config) -> Self {
        self.config.overlay = overlay;
        self
    }

    /// In groups with a total order the node may be asked into the committee, once it has been in the group for
    /// so long; for nodes that run as a service. Default: never.
    pub fn serve_after(mut self, after: Duration) -> Self {
        self.config.overlay.serve_after = Some(after);
        self
    }

    /// Bytes of events that wait for one subscriber before it misses some. Default: 64 MiB.
    pub fn event_bytes(mut self, bytes: usize) -> Self {
        self.config.event_bytes = bytes;
        self
    }

    /// Starts the node. It listens when this returns. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub async fn spawn(self) -> Result<Node, StartError> {
        start::spawn(self.config).await
    }
}
