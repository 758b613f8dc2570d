//! One node of a bench with its store: a whole node, as `up` runs it, in a directory of its own that
//! is gone afterwards.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::sync::{mpsc, oneshot};
use treecast_node::{Config, Descriptor, Event, GroupRef, Node, Receiver, Sender};
use treecast_overlay::io::MemberState;

use super::member::{Look, Plan, note, payload};
use super::tally::Tally;
use super::{BenchError, Transport};

/// Numbers the directories of one process.
static DIRECTORIES: AtomicU32 = AtomicU32::new(0);

/// As without a store, so that what is measured is not a queue.
const QUEUE: usize = 1 << 20;

/// A directory that is removed with this.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("treecast-bench-{}-{number}", std::process::id())))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running node.
pub(super) struct Stored {
    node: Node,
    sender: Sender,
    label: String,
    address: Multiaddr,
    received: Arc<AtomicU64>,
    /// How many were published.
    published: AtomicU64,
    stop: mpsc::Sender<oneshot::Sender<Tally>>,
    _directory: Directory,
}

impl Stored {
    /// Starts a node that is in the group, and dials the other if there is one.
    pub(super) async fn start(
        transport: Transport,
        group: &mut Descriptor,
        serve_after: Option<Duration>,
        other: Option<&Self>,
    ) -> Result<Self, BenchError> {
        let failed = |error: &dyn std::fmt::Display| BenchError::Listen(error.to_string());
        let directory = Directory::new();
        let overlay = Config { publish_queue_bytes: QUEUE, serve_after, ..Config::lan() };
        let mut builder = Node::builder().data_dir(&directory.0).overlay(overlay);
        builder = builder.mdns(false).kad(false).control(false).listen(transport.any().parse().expect("one"));
        if let Some(other) = other {
            builder = builder.peer(other.address.clone());
        }
        let node = builder.spawn().await.map_err(|error| failed(&error))?;
        super::found(group, node.id());
        let (sender, receiver) =
            node.join(GroupRef::from(group.clone())).await.map_err(|error| failed(&error))?;
        let address = loop {
            let found = node.addresses().await.map_err(|_| BenchError::Ended)?;
            match found.into_iter().next() {
                Some(address) => break address,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let has_peer = address.iter().any(|part| matches!(part, Protocol::P2p(_)));
        let address = if has_peer { address } else { address.with(Protocol::P2p(peer(&node))) };
        let label = node.groups().await.map_err(|_| BenchError::Ended)?.remove(0).label;
        let received = Arc::new(AtomicU64::new(0));
        let (stop, stops) = mpsc::channel(1);
        tokio::spawn(count(receiver, node.id(), received.clone(), stops));
        let published = AtomicU64::new(0);
        Ok(Self { node, sender, label, address, received, published, stop, _directory: directory })
    }

    pub(super) async fn look(&self) -> Result<Look, BenchError> {
        let group = self.node.group_view(&self.label).await.map_err(|_| BenchError::Ended)?;
        let online = group.view.members.iter().filter(|it| it.state == MemberState::Online).count();
        let tree = group.view.trees.first();
        let committee = group.view.order.as_ref().map_or(0, |it| it.committee.len());
        Ok(Look { online, root: tree.map(|it| it.root), parent: tree.and_then(|it| it.parent), committee })
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Publishes by plan; how many it were.
    pub(super) async fn publish(&self, plan: Plan) -> Result<u64, BenchError> {
        let (began, mut count) = (Instant::now(), 0);
        let mut pace = tokio::time::interval(Duration::from_millis(1));
        while began.elapsed() < plan.time() {
            if count >= plan.due(began.elapsed()) {
                pace.tick().await;
                continue;
            }
            let number = self.published.fetch_add(1, Ordering::Relaxed);
            let message = payload(number, plan.tag(), plan.size());
            // Its place is nobody's concern.
            drop(self.sender.submit(message).await.map_err(|_| BenchError::Ended)?);
            count += 1;
        }
        Ok(count)
    }

    pub(super) async fn stop(&self) -> Result<Tally, BenchError> {
        let (answer, answered) = oneshot::channel();
        self.stop.send(answer).await.map_err(|_| BenchError::Ended)?;
        let tally = answered.await.map_err(|_| BenchError::Ended)?;
        self.node.shutdown().await;
        Ok(tally)
    }
}

fn peer(node: &Node) -> libp2p::PeerId {
    node.id().to_string().parse().expect("printed as such")
}

/// Counts what others published.
async fn count(
    mut receiver: Receiver,
    me: treecast_node::NodeId,
    received: Arc<AtomicU64>,
    mut stops: mpsc::Receiver<oneshot::Sender<Tally>>,
) {
    let mut tally = Tally::default();
    loop {
        tokio::select! {
            event = receiver.next() => match event {
                Some(Event::Message(message)) if message.batch.source != me => {
                    note(&mut tally, &message.payload);
                    received.store(tally.received, Ordering::Relaxed);
                }
                Some(_) => {}
                None => return,
            },
            answer = stops.recv() => {
                if let Some(answer) = answer {
                    let _ = answer.send(tally);
                }
                return;
            }
        }
    }
}
