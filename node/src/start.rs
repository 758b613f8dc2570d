//! From a configuration to a running node.

use std::path::Path;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use treecast_overlay::{Descriptor, NodeId};

use crate::config::{GroupRef, NodeConfig};
use crate::control;
use crate::driver::{Driver, Limits, Parts};
use crate::error::{JoinError, StartError, check_nick};
use crate::handle::Node;
use crate::identity::{self, KeyError};
use crate::listen;
use crate::lock::{Lock, LockError};
use crate::state::{State, StateError};
use crate::{files, swarm};

/// How long a start waits for the listeners' addresses. They come at once, but on a machine
/// whose network is down they may not come at all.
const ADDRESSES: Duration = Duration::from_millis(1_000);

pub(crate) async fn spawn(config: NodeConfig) -> Result<Node, StartError> {
    let data_dir = config.data_dir.clone().ok_or(StartError::NoDataDir)?;
    if let Some(nick) = &config.nick {
        check_nick(nick)?;
    }
    let (lock, mut state) = open(&data_dir)?;
    let key = identity::load_or_create(&data_dir)?;
    let peer = key.public().to_peer_id();
    let me = NodeId::from_peer_id_bytes(&peer.to_bytes()).expect("an Ed25519 key names a node");

    let mut swarm = swarm::build(&key, config.mdns, config.overlay.clone(), state.last_life)?;
    let listening = if config.listen.is_empty() {
        listen::default(&mut swarm, (state.tcp_port, state.quic_port))?
    } else {
        listen::explicit(&mut swarm, &config.listen)?
    };
    if let Some((tcp, quic)) = listening.ports {
        (state.tcp_port, state.quic_port) = (Some(tcp), Some(quic));
    }
    if config.nick.is_some() {
        state.nick.clone_from(&config.nick);
    }
    state
        .save(&data_dir)
        .map_err(|source| StartError::DataDirUnwritable { path: data_dir.clone(), source })?;

    let (commands, inbox) = mpsc::unbounded_channel();
    let kept: Vec<_> = state.groups.iter().map(|kept| GroupRef::from(kept.descriptor.clone())).collect();
    let mut driver = Driver::new(Parts {
        swarm,
        me,
        nick: state.nick.clone().unwrap_or_else(|| me.short()),
        limits: Limits {
            event_bytes: config.event_bytes,
            publish_bytes: config.publish_bytes,
            max_message: config.overlay.max_message,
            max_groups: config.overlay.max_groups,
        },
        commands: inbox,
        data_dir: data_dir.clone(),
        state,
        explicit_peers: config.peers.clone(),
    });
    driver.await_addresses(&listening.listeners, ADDRESSES).await;
    for group in kept.into_iter().chain(config.groups.iter().cloned()) {
        enter(&mut driver, group)?;
    }

    let (end, ended) = watch::channel(false);
    let node = Node { commands, id: me, ended, notices: listening.notices.into() };
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
        // Whoever waits for the end may start the next node at once.
        drop(lock);
        end.send_replace(true);
    });
    Ok(node)
}

fn open(data_dir: &Path) -> Result<(Lock, State), StartError> {
    let unwritable = |source| StartError::DataDirUnwritable { path: data_dir.to_owned(), source };
    files::private_dir(data_dir).map_err(unwritable)?;
    let lock = Lock::take(data_dir).map_err(|error| match error {
        LockError::Held { pid } => StartError::AlreadyRunning { data_dir: data_dir.to_owned(), pid },
        LockError::Io(source) => unwritable(source),
    })?;
    let state = State::load(data_dir).map_err(|error| match error {
        StateError::Bad { path, why } => StartError::BadState { path, why },
        StateError::Io { path, source } => StartError::DataDirUnwritable { path, source },
    })?;
    Ok((lock, state))
}

impl From<KeyError> for StartError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Bad { path, why } => Self::BadKey { path, why },
            KeyError::Io { path, source } => Self::DataDirUnwritable { path, source },
        }
    }
}

/// The groups that the node is in from its start.
fn enter(driver: &mut Driver, group: GroupRef) -> Result<(), StartError> {
    if let GroupRef::Name(name) = &group {
        Descriptor::open(name).map_err(|source| StartError::BadGroup { name: name.clone(), source })?;
    }
    match driver.be_in(group.clone(), true) {
        Ok(_) => Ok(()),
        Err(JoinError::Descriptor(source)) => Err(StartError::BadGroup { name: name_of(&group), source }),
        // The others still work.
        Err(error) => {
            tracing::error!(group = name_of(&group), %error, "a group was not entered");
            Ok(())
        }
    }
}

fn name_of(group: &GroupRef) -> String {
    match group {
        GroupRef::Name(name) => name.clone(),
        GroupRef::Descriptor(descriptor) => descriptor.name.clone(),
    }
}
