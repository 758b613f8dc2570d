//! From a configuration to a running node.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use treecast_overlay::NodeId;

use crate::clock::unix_ms;
use crate::config::NodeConfig;
use crate::control;
use crate::driver::enter::{check_joinable, resolve};
use crate::driver::{Driver, Limits, Parts, Shelves};
use crate::error::{JoinError, StartError, check_nick};
use crate::exchange::Exchange;
use crate::group::GroupRef;
use crate::handle::{Node, Stage};
use crate::identity::{self, KeyError};
use crate::listen;
use crate::lock::{Lock, LockError};
use crate::metrics::{self, Source};
use crate::store::{Kept, KeptGroup, Store, StoreError, Work, free_label};
use crate::{files, swarm};

/// How long a start waits for the listeners' addresses. They come at once, but on a machine
/// whose network is down they may not come at all.
const ADDRESSES: Duration = Duration::from_millis(1_000);

pub(crate) async fn spawn(config: NodeConfig) -> Result<Node, StartError> {
    let data_dir = config.data_dir.clone().ok_or(StartError::NoDataDir)?;
    if let Some(nick) = &config.nick {
        check_nick(nick)?;
    }
    let (lock, mut store, mut kept) = open(&data_dir)?;
    let is_used = !kept.groups.is_empty() || kept.last_life() > 0;
    let key = identity::load_or_create(&data_dir, is_used)?;
    let peer = key.public().to_peer_id();
    let me = NodeId::from_peer_id_bytes(&peer.to_bytes()).expect("an Ed25519 key names a node");

    let metrics = match config.metrics {
        Some(address) => Some(metrics::bind(address).await.map_err(|error| metrics_refused(address, error))?),
        None => None,
    };
    let ways = swarm::Ways { mdns: config.mdns, kad: config.kad };
    let mut swarm = swarm::build(&key, ways, config.overlay.clone(), &kept)?;
    let seed = swarm::seed().map_err(|source| StartError::System { what: "randomness", source })?;
    let listening = if config.listen.is_empty() {
        listen::default(&mut swarm, (kept.node.tcp_port, kept.node.quic_port))?
    } else {
        listen::explicit(&mut swarm, &config.listen)?
    };
    if let Some((tcp, quic)) = listening.ports {
        (kept.node.tcp_port, kept.node.quic_port) = (Some(tcp), Some(quic));
    }
    if config.nick.is_some() {
        kept.node.nick.clone_from(&config.nick);
    }
    let mut works = vec![Work::Node(kept.node.clone())];
    for group in &config.groups {
        let name = group.name().to_owned();
        let joined = add(&mut kept, group.clone(), &me, config.overlay.max_groups);
        let joined = joined.map_err(|source| StartError::BadGroup { name, source })?;
        works.push(Work::Keep(Box::new(joined)));
    }
    let unsaved = |source| StartError::DataDirUnwritable { path: data_dir.clone(), source };
    store.write(&works).map_err(|error| unsaved(std::io::Error::other(error)))?;
    let (pasts, next_at) = store.history(&me)?;
    let shelves = Shelves { serving: store.library()?, reading: store.library()? };
    let held = store.held()?;
    let streams = swarm.behaviour().streams.new_control();
    let (writer, done) = store.serve(me).map_err(|source| StartError::System { what: "a thread", source })?;

    let (commands, inbox) = mpsc::unbounded_channel();
    let (stage, stages) = watch::channel(Stage::Serving);
    let (removed, removed_from) = watch::channel(Vec::new());
    let exchange = Exchange::open(me, &data_dir, commands.downgrade(), streams, held, stages.clone())
        .map_err(|source| StartError::DataDirUnwritable { path: data_dir.clone(), source })?;
    let groups = kept.groups.clone();
    let mut driver = Driver::new(Parts {
        swarm,
        me,
        nick: kept.node.nick.clone().unwrap_or_else(|| me.short()),
        limits: Limits {
            event_bytes: config.event_bytes,
            publish_bytes: config.publish_bytes,
            max_message: config.overlay.max_message,
            max_groups: config.overlay.max_groups,
            max_links: config.overlay.max_links,
        },
        commands: inbox,
        kept,
        pasts,
        next_at,
        shelves,
        writer,
        done,
        explicit_peers: config.peers.clone(),
        seed,
        stage: stage.clone(),
        removed,
        listener_first: config.listener_first,
    });
    driver.await_addresses(&listening.listeners, ADDRESSES).await;
    groups.iter().for_each(|group| driver.go_on(group));
    driver.remind(true);

    let metrics = match metrics {
        Some(listener) => {
            let source = Source::new(commands.downgrade(), data_dir.clone(), exchange.served_bytes());
            let unknown = |source| StartError::System { what: "a listener for metrics", source };
            Some(metrics::Server::open(listener, source).map_err(unknown)?)
        }
        None => None,
    };
    let served = metrics.as_ref().map(metrics::Server::address);
    let notices = listening.notices.into();
    let removed = removed_from;
    let node = Node { commands, id: me, stage: stages, metrics: served, notices, removed, exchange };
    let server = if config.control {
        let server = control::Server::open(&data_dir, &node).map_err(|source| {
            StartError::DataDirUnwritable { path: control::socket_path(&data_dir), source }
        })?;
        Some(server)
    } else {
        None
    };
    tokio::spawn(async move {
        driver.run().await;
        if let Some(server) = server {
            server.close().await;
        }
        if let Some(metrics) = metrics {
            metrics.close().await;
        }
        // Whoever waits for the end may start the next node at once.
        drop(lock);
        stage.send_replace(Stage::Ended);
    });
    Ok(node)
}

fn metrics_refused(address: SocketAddr, source: std::io::Error) -> StartError {
    match source.kind() {
        std::io::ErrorKind::AddrInUse => StartError::MetricsPortTaken { address },
        _ => StartError::CannotServeMetrics { address, source },
    }
}

fn open(data_dir: &Path) -> Result<(Lock, Store, Kept), StartError> {
    let unwritable = |source| StartError::DataDirUnwritable { path: data_dir.to_owned(), source };
    files::private_dir(data_dir).map_err(unwritable)?;
    let lock = Lock::take(data_dir).map_err(|error| match error {
        LockError::Held { pid } => StartError::AlreadyRunning { data_dir: data_dir.to_owned(), pid },
        LockError::Io(source) => unwritable(source),
    })?;
    let (store, kept) = Store::open(data_dir, unix_ms())?;
    Ok((lock, store, kept))
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Bad { path, why } => Self::BadStore { path, why },
            StoreError::Newer { path, found, known } => Self::NewerStore { path, found, known },
            StoreError::Io { path, source } => Self::DataDirUnwritable { path, source },
        }
    }
}

impl From<KeyError> for StartError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Bad { path, why } => Self::BadKey { path, why },
            KeyError::Io { path, source } => Self::DataDirUnwritable { path, source },
            KeyError::Gone { path } => Self::KeyGone { path },
        }
    }
}

/// A group that the node is to be in from its start, as it is kept.
fn add(kept: &mut Kept, group: GroupRef, me: &NodeId, max_groups: usize) -> Result<KeptGroup, JoinError> {
    let known = match &group {
        GroupRef::Name(name) => kept.groups.iter().find(|it| it.label == *name).cloned(),
        _ => None,
    };
    if let Some(known) = known {
        return Ok(known);
    }
    let (descriptor, contacts) = resolve(group)?;
    check_joinable(&descriptor, me)?;
    let id = descriptor.id();
    if kept.group_mut(id).is_none() {
        if kept.groups.len() >= max_groups {
            return Err(JoinError::TooMany(max_groups));
        }
        let label = free_label(&descriptor, |label| kept.groups.iter().any(|it| it.label == label));
        kept.groups.push(KeptGroup { label, descriptor, joined_ms: unix_ms(), members: Vec::new() });
    }
    let group = kept.group_mut(id).expect("it was just looked for, or added");
    group.learn(contacts.into_iter().filter(|contact| contact.node != *me).collect());
    Ok(group.clone())
}
