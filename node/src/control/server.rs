//! The server's side of the control socket.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use treecast_overlay::NodeId;

use super::connection::{Incoming, Outgoing, split};
use super::protocol::{Line, Request};
use super::{files, groups, history, lines, publish, socket, socket_path, subscribe};
use crate::exchange::Exchange;
use crate::failure::Failure;
use crate::handle::{Command, Node, Stage};
use crate::history::Listen;

/// Commands served at the same time; more wait. Guess.
const CONNECTIONS: usize = 256;

/// How long commands that are being answered may go on once the node has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Between pings.
const PING_EVERY: Duration = Duration::from_secs(1);

/// How long a node may take to answer a ping, and to be dialled for it if need be.
const PING_PATIENCE: Duration = Duration::from_secs(5);

/// Listens for commands until it is closed.
pub(crate) struct Server {
    path: PathBuf,
    close: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

/// A node that is not kept alive by this.
#[derive(Clone)]
struct WeakNode {
    commands: mpsc::WeakUnboundedSender<Command>,
    id: NodeId,
    stage: watch::Receiver<Stage>,
    metrics: Option<SocketAddr>,
    notices: Arc<[String]>,
    removed: watch::Receiver<Vec<String>>,
    exchange: Arc<Exchange>,
}

impl WeakNode {
    fn upgrade(&self) -> Option<Node> {
        let commands = self.commands.upgrade()?;
        let Self { id, metrics, .. } = *self;
        let (stage, notices, removed) = (self.stage.clone(), self.notices.clone(), self.removed.clone());
        let exchange = self.exchange.clone();
        Some(Node { commands, id, stage, metrics, notices, removed, exchange })
    }
}

impl Server {
    /// Opens the socket. Whoever calls this holds the data directory's lock, so a socket
    /// that is there is a dead node's.
    pub(crate) fn open(data_dir: &Path, node: &Node) -> io::Result<Self> {
        let path = socket_path(data_dir);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = socket::bind(data_dir)?;
        let (close, closing) = watch::channel(false);
        let weak = WeakNode {
            commands: node.commands.downgrade(),
            id: node.id,
            stage: node.stage.clone(),
            metrics: node.metrics,
            notices: node.notices.clone(),
            removed: node.removed.clone(),
            exchange: node.exchange.clone(),
        };
        let data_dir: Arc<Path> = data_dir.into();
        let task = tokio::spawn(accept(listener, weak, data_dir, closing));
        Ok(Self { path, close, task })
    }

    /// Takes no more commands, and lets those that are being answered end.
    pub(crate) async fn close(self) {
        // Still under the lock: the next node's socket cannot be meant.
        let _ = std::fs::remove_file(&self.path);
        self.close.send_replace(true);
        // A panic in there was reported by its task.
        let _ = self.task.await;
    }
}

async fn accept(
    listener: UnixListener,
    node: WeakNode,
    data_dir: Arc<Path>,
    mut closing: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.changed() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let (Some(node), data_dir) = (node.upgrade(), data_dir.clone()) else { continue };
                connections.spawn(async move {
                    if let Err(error) = serve(stream, node, &data_dir).await {
                        tracing::debug!(%error, "a command's connection ended early");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket does not accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // What has not ended by then goes with the set.
    let _ = tokio::time::timeout(LAST_WORDS, all).await;
}

async fn serve(stream: UnixStream, node: Node, data_dir: &Path) -> io::Result<()> {
    let (mut incoming, mut outgoing) = split(stream);
    let (version, pid) = (env!("CARGO_PKG_VERSION").to_owned(), std::process::id());
    outgoing.send(&Line::Hello { node: node.id().to_string(), version, pid }).await?;
    let request = match incoming.next::<Request>().await? {
        None => return Ok(()),
        Some(Err(failure)) => return outgoing.end(Err(failure)).await,
        Some(Ok(request)) => request,
    };
    match request {
        Request::Pub { group, wait, timeout_ms, follow } => {
            let asked = publish::Asked { wait, timeout_ms, follow };
            publish::run(&node, &mut incoming, &mut outgoing, group, asked).await
        }
        Request::Sub { group, verbose, since, tentative } => {
            let listen = Listen { since: history::since(since), tentative };
            subscribe::run(node, &mut incoming, &mut outgoing, group, verbose, listen).await
        }
        Request::History { group, limit, since, before } => {
            let asked = history::Asked { limit, since, before };
            history::tell(&node, &mut incoming, &mut outgoing, &group, asked).await
        }
        Request::Search { query, group } => {
            history::search(&node, &mut incoming, &mut outgoing, &query, group.as_deref()).await
        }
        Request::Tree { group, watch } => {
            subscribe::trees(&node, &mut incoming, &mut outgoing, &group, watch).await
        }
        Request::Ping { node: target, count } => {
            ping(&node, &mut incoming, &mut outgoing, &target, count).await
        }
        Request::FileGet(request) => files::get(&node, &mut incoming, &mut outgoing, request).await,
        Request::Down => {
            node.shutdown_begins().await;
            outgoing.end(Ok(0)).await
        }
        short => {
            let answer = answer(&node, short, data_dir).await;
            let result = match answer {
                Ok(lines) => {
                    for line in &lines {
                        outgoing.gather(line).await?;
                    }
                    Ok(0)
                }
                Err(failure) => Err(failure),
            };
            outgoing.end(result).await
        }
    }
}

/// Requests that are answered by a few lines at once.
async fn answer(node: &Node, request: Request, data_dir: &Path) -> Result<Vec<Line>, Failure> {
    Ok(match request {
        Request::Status => vec![lines::status(node.status().await?, node.metrics(), data_dir)],
        Request::Id => vec![id(node).await?],
        Request::Nick { name } => {
            node.set_nick(&name).await?;
            vec![id(node).await?]
        }
        Request::Peers { group } => {
            node.peers(group.as_deref()).await?.into_iter().map(lines::peer).collect()
        }
        Request::GroupCreate(asked) => vec![groups::create(node, asked).await?],
        Request::GroupJoin { group } => vec![groups::join(node, group).await?],
        Request::GroupLs => groups::list(node).await?,
        Request::GroupShow { group } => vec![groups::show(node, &group).await?],
        Request::GroupRecover { group } => vec![groups::recover(node, &group).await?],
        Request::GroupRemove { group, node: member } => vec![groups::remove(node, &group, &member).await?],
        Request::GroupLeave { group } => vec![groups::leave(node, &group).await?],
        Request::Lacking { group, life, seq } => {
            let members = node.lacking(&group, life, seq).await?;
            vec![Line::Lacking { members: members.iter().map(lines::member).collect() }]
        }
        Request::FileAnnounce { path, group } => vec![files::announce(node, &path, &group).await?],
        Request::FileLs { group } => files::list(node, group.as_deref()).await?,
        Request::FileRm { what } => vec![files::remove(node, &what).await?],
        Request::Invite { group } => vec![groups::invite(node, &group).await?],
        _ => Vec::new(),
    })
}

async fn id(node: &Node) -> Result<Line, Failure> {
    Ok(Line::Id { node: node.id().to_string(), nick: node.nick().await? })
}

async fn ping(
    node: &Node,
    incoming: &mut Incoming,
    outgoing: &mut Outgoing,
    target: &str,
    count: u32,
) -> io::Result<()> {
    for number in 0..count.max(1) {
        if number > 0 {
            tokio::select! {
                () = tokio::time::sleep(PING_EVERY) => {}
                () = incoming.closed() => return Ok(()),
            }
        }
        match node.ping(target, PING_PATIENCE).await {
            Ok(report) => outgoing.send(&lines::ping(&report)).await?,
            Err(error) => return outgoing.end(Err(error.into())).await,
        }
    }
    outgoing.end(Ok(0)).await
}
