//! The node a command talks to: one that runs, or one of its own.

use std::path::Path;
use std::time::Duration;

use treecast_node::control::protocol::{Line, Request};
use treecast_node::control::{Client, ClientError};
use treecast_node::{Failure, Multiaddr, Node, NodeBuilder, StartError};

use crate::args::NodeArgs;
use crate::failure::{Stop, attached, usage};
use crate::settings::{Origin, Setting, Settings};
use crate::signals::Signals;

/// How long a node that holds the directory may take to answer: it is starting or ending.
const SETTLING: Duration = Duration::from_secs(5);

/// How long a node may take for one line of an answer: to save something on a slow disk, or to say
/// its goodbyes. Guess.
const ANSWERING: Duration = Duration::from_secs(30);

/// A node, reached over its control socket; ours to stop if we started it.
#[derive(Debug)]
pub(crate) struct Host<'a> {
    settings: &'a Settings,
    own: Option<Node>,
}

impl<'a> Host<'a> {
    /// The node that runs; if none does, one in this process.
    pub(crate) async fn attach_or_start(
        settings: &'a Settings,
        typed: &NodeArgs,
        signals: &Signals,
    ) -> Result<Self, Stop> {
        let deadline = tokio::time::Instant::now() + SETTLING;
        let addresses = Addresses::read(settings)?;
        loop {
            match Client::connect(data_dir(settings)).await {
                Ok(client) => {
                    return match typed.first_typed() {
                        Some(option) => Err(attached(option, client.pid()).into()),
                        None => Ok(Self { settings, own: None }),
                    };
                }
                Err(ClientError::NoNode { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            match builder(settings, &addresses).listener_first(true).spawn().await {
                Ok(node) => {
                    signals.guard(&node);
                    return Ok(Self { settings, own: Some(node) });
                }
                Err(StartError::AlreadyRunning { .. }) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(Failure::from(error).into()),
            }
        }
    }

    /// A connection with this request under way.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Client, Stop> {
        Ok(Client::ask(data_dir(self.settings), request).await?)
    }

    /// Whether the node lives in this process.
    pub(crate) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Says goodbye, if the node is ours.
    pub(crate) async fn close(self) {
        if let Some(node) = self.own {
            node.shutdown().await;
        }
    }
}

/// Where the node to use keeps its things.
fn data_dir(settings: &Settings) -> &Path {
    &settings.data_dir.value
}

/// Asks the node that runs, and gives each line of its answer to `take`.
pub(crate) async fn ask(
    settings: &Settings,
    request: &Request,
    mut take: impl FnMut(&str, Line) -> Result<(), Stop>,
) -> Result<u8, Stop> {
    let mut client = Client::ask(data_dir(settings), request).await?;
    let me = client.node().to_owned();
    // What lasts as long as it takes is not to be hurried.
    let lasts = matches!(
        request,
        Request::Tree { watch: true, .. } | Request::FileGet(_) | Request::FileAnnounce { .. }
    );
    loop {
        let line = if lasts { client.next().await } else { client.next_within(ANSWERING).await };
        match line? {
            Line::Done { exit } => return Ok(exit),
            Line::Error(failure) => return Err(failure.into()),
            line => take(&me, line)?,
        }
    }
}

/// The addresses of the node options, read.
pub(crate) struct Addresses {
    listen: Vec<Multiaddr>,
    peers: Vec<Multiaddr>,
}

impl Addresses {
    /// Reads them; says which is none.
    pub(crate) fn read(settings: &Settings) -> Result<Self, Failure> {
        Ok(Self {
            listen: multiaddrs("--listen", &settings.listen)?,
            peers: multiaddrs("--peer", &settings.peer)?,
        })
    }
}

fn multiaddrs(option: &str, setting: &Setting<Vec<String>>) -> Result<Vec<Multiaddr>, Failure> {
    let read = |text: &String| {
        text.parse().map_err(|_| {
            let place = match &setting.from {
                Origin::Flag => option.to_owned(),
                from => from.detail().unwrap_or_else(|| option.to_owned()),
            };
            usage(
                format!("{place}: `{text}` is not an address."),
                "Addresses are multiaddrs, such as /ip4/192.0.2.7/tcp/4001 or /ip4/192.0.2.7/udp/4001/quic-v1.",
                "`treecast status` on the other machine shows its addresses.",
            )
        })
    };
    setting.value.iter().map(read).collect()
}

/// A builder as the settings say.
pub(crate) fn builder(settings: &Settings, addresses: &Addresses) -> NodeBuilder {
    let builder = Node::builder().data_dir(data_dir(settings));
    let mut builder = builder.mdns(!settings.no_mdns.value).kad(!settings.no_kad.value);
    if let Some(address) = settings.metrics.value {
        builder = builder.metrics(address);
    }
    for address in &addresses.listen {
        builder = builder.listen(address.clone());
    }
    for address in &addresses.peers {
        builder = builder.peer(address.clone());
    }
    builder
}
