//! One node of a bench: its swarm, in a task of its own.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::StreamExt;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, MemoryTransport, Transport as Sockets};
use libp2p::identity::Keypair;
use libp2p::swarm::{Config as SwarmConfig, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, tcp};
use tokio::sync::{mpsc, oneshot};
use treecast_node::transport::{quic, secured};
use treecast_overlay::behaviour::{Behaviour, Event, Start};
use treecast_overlay::io::MemberState;
use treecast_overlay::{Config, Descriptor, GroupId, NodeId, PublishId};

use super::counted::{Counted, Meter};
use super::tally::Tally;
use super::{BenchError, Transport};

/// What waits at the source at most, so that what is measured is the overlay and not its queue.
const QUEUE: usize = 1 << 20;

/// The time that messages carry counts from here.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How the source publishes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Plan {
    /// As much as the overlay takes.
    Flood { size: usize, time: Duration },
    /// At this rate; receivers note how long each took.
    Paced { size: usize, time: Duration, per_s: f64, pace: Pace },
}

/// What a rate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Some work for all.
    Easy,
    /// One message at a time.
    Idle,
}

impl Plan {
    pub(super) fn size(self) -> usize {
        let (Self::Flood { size, .. } | Self::Paced { size, .. }) = self;
        size
    }

    pub(super) fn time(self) -> Duration {
        let (Self::Flood { time, .. } | Self::Paced { time, .. }) = self;
        time
    }

    /// How many are to be published by then.
    pub(super) fn due(self, elapsed: Duration) -> u64 {
        match self {
            Self::Flood { .. } => u64::MAX,
            Self::Paced { per_s, .. } => (elapsed.as_secs_f64() * per_s) as u64,
        }
    }

    pub(super) fn tag(self) -> u64 {
        match self {
            Self::Flood { .. } => 0,
            Self::Paced { pace: Pace::Easy, .. } => EASY_TAG,
            Self::Paced { pace: Pace::Idle, .. } => IDLE_TAG,
        }
    }
}

/// What a node sees of the group.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) online: usize,
    pub(super) root: Option<NodeId>,
    pub(super) parent: Option<NodeId>,
    /// Nodes in the committee of a total order.
    pub(super) committee: usize,
}

enum Command {
    Introduce(PeerId, Multiaddr),
    Look(oneshot::Sender<Look>),
    Publish(Plan, oneshot::Sender<u64>),
    Stop(oneshot::Sender<Tally>),
}

/// A running node.
pub(super) struct Member {
    peer: PeerId,
    address: Multiaddr,
    commands: mpsc::Sender<Command>,
    received: Arc<AtomicU64>,
}

impl Member {
    /// Starts a node that has joined the group, and waits until it listens.
    pub(super) async fn start(
        transport: Transport,
        group: &mut Descriptor,
        serve_after: Option<Duration>,
        meter: &Meter,
    ) -> Result<Self, BenchError> {
        let key = Keypair::generate_ed25519();
        let peer = key.public().to_peer_id();
        let config = Config { serve_after, ..Config::lan() };
        let behaviour = Behaviour::new(&key, config, begin(&peer))?;
        super::found(group, behaviour.engine().node());
        let sockets =
            sockets(transport, &key, meter).map_err(|error| BenchError::Listen(error.to_string()))?;
        let mut swarm = Swarm::new(sockets, behaviour, peer, SwarmConfig::with_tokio_executor());
        let address = listen(&mut swarm, transport).await?;
        swarm.behaviour_mut().set_own_addresses(vec![address.clone()]);
        swarm.behaviour_mut().join(group.clone());
        let (commands, inbox) = mpsc::channel(8);
        let received = Arc::new(AtomicU64::new(0));
        let task = Task {
            group: group.id(),
            me: swarm.behaviour().engine().node(),
            swarm,
            tally: Tally::default(),
            received: received.clone(),
            published: 0,
            work: None,
        };
        tokio::spawn(task.run(inbox));
        Ok(Self { peer, address, commands, received })
    }

    /// Tells it of another.
    pub(super) async fn introduce(&self, other: &Self) -> Result<(), BenchError> {
        let command = Command::Introduce(other.peer, other.address.clone());
        self.commands.send(command).await.map_err(|_| BenchError::Ended)
    }

    pub(super) async fn look(&self) -> Result<Look, BenchError> {
        self.ask(Command::Look).await
    }

    /// Messages received so far, each counted once.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Publishes by plan; how many it were.
    pub(super) async fn publish(&self, plan: Plan) -> Result<u64, BenchError> {
        self.ask(|answer| Command::Publish(plan, answer)).await
    }

    pub(super) async fn stop(&self) -> Result<Tally, BenchError> {
        self.ask(Command::Stop).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, BenchError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| BenchError::Ended)?;
        answered.await.map_err(|_| BenchError::Ended)
    }
}

fn begin(peer: &PeerId) -> Start {
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    // The key is fresh, so it serves as the seed.
    let bytes = peer.to_bytes();
    let seed = bytes
        .rchunks(8)
        .next()
        .map_or(0, |end| end.iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte)));
    Start { seed, unix_ms, ..Start::default() }
}

fn sockets(
    transport: Transport,
    key: &Keypair,
    meter: &Meter,
) -> std::io::Result<Boxed<(PeerId, StreamMuxerBox)>> {
    let meter = meter.clone();
    match transport {
        Transport::Tcp => {
            let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true));
            secured(tcp.map(move |socket, _| Counted::new(socket, &meter)), key)
        }
        Transport::Memory => {
            secured(MemoryTransport::new().map(move |socket, _| Counted::new(socket, &meter)), key)
        }
        Transport::Quic => {
            let counted = Sockets::map(quic(key), move |(peer, muxer), _| {
                (peer, StreamMuxerBox::new(Counted::new(muxer, &meter)))
            });
            Ok(counted.boxed())
        }
    }
}

async fn listen(swarm: &mut Swarm<Behaviour>, transport: Transport) -> Result<Multiaddr, BenchError> {
    let any = transport.any();
    let failed = |error: &dyn std::fmt::Display| BenchError::Listen(format!("{any}: {error}"));
    swarm.listen_on(any.parse().expect("a multiaddr")).map_err(|error| failed(&error))?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => return Ok(address),
            SwarmEvent::ListenerError { error, .. } => return Err(failed(&error)),
            _ => {}
        }
    }
}

struct Task {
    swarm: Swarm<Behaviour>,
    group: GroupId,
    me: NodeId,
    tally: Tally,
    received: Arc<AtomicU64>,
    /// Numbers the messages.
    published: u64,
    work: Option<Work>,
}

struct Work {
    plan: Plan,
    began: Instant,
    count: u64,
    done: oneshot::Sender<u64>,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        let mut pace = tokio::time::interval(Duration::from_millis(1));
        loop {
            self.work();
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                command = inbox.recv() => match command {
                    None => return,
                    Some(Command::Stop(answer)) => {
                        self.explain();
                        let _ = answer.send(self.tally);
                        return;
                    }
                    Some(command) => self.on_command(command),
                },
                _ = pace.tick(), if self.work.is_some() => {}
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Introduce(peer, address) => self.swarm.behaviour_mut().discovered(peer, vec![address]),
            Command::Look(answer) => {
                let _ = answer.send(self.look());
            }
            Command::Publish(plan, done) => {
                self.work = Some(Work { plan, began: Instant::now(), count: 0, done });
            }
            Command::Stop(_) => unreachable!("it ends the loop"),
        }
    }

    fn look(&self) -> Look {
        let behaviour = self.swarm.behaviour();
        let view = behaviour.engine().group(behaviour.now(), self.group);
        let Some(view) = view else { return Look { online: 0, root: None, parent: None, committee: 0 } };
        let online = view.members.iter().filter(|it| it.state == MemberState::Online).count();
        let tree = view.trees.first();
        let committee = view.order.as_ref().map_or(0, |it| it.committee.len());
        Look { online, root: tree.map(|it| it.root), parent: tree.and_then(|it| it.parent), committee }
    }

    /// For who asks why: `TREECAST_LOG=treecast=debug` or `-vv`.
    fn explain(&self) {
        let behaviour = self.swarm.behaviour();
        let Some(view) = behaviour.engine().group(behaviour.now(), self.group) else { return };
        let children = view.trees.first().map_or(0, |tree| tree.children.len());
        tracing::debug!(
            me = %self.me.short(), view.received, view.duplicates, children,
            batch_bytes = view.sent_bytes.batches, control_bytes = view.sent_bytes.control,
        );
    }

    /// Publishes what is due.
    fn work(&mut self) {
        let Some(mut work) = self.work.take() else { return };
        let elapsed = work.began.elapsed();
        if elapsed >= work.plan.time() {
            let _ = work.done.send(work.count);
            return;
        }
        let (due, tag, size) = (work.plan.due(elapsed), work.plan.tag(), work.plan.size());
        let full = Config::lan().publish_queue_bytes - QUEUE;
        while work.count < due && self.swarm.behaviour().publish_room(self.group) > full {
            let payload = payload(self.published, tag, size);
            self.swarm.behaviour_mut().publish(self.group, PublishId(self.published), payload);
            self.published += 1;
            work.count += 1;
        }
        self.work = Some(work);
    }

    fn on_event(&mut self, event: SwarmEvent<Event>) {
        let SwarmEvent::Behaviour(Event::Overlay(event)) = event else { return };
        match event {
            treecast_overlay::Event::Deliver { delivery, tentative: false, .. }
            | treecast_overlay::Event::Ordered { delivery, .. }
                if delivery.source != self.me =>
            {
                for payload in delivery.payloads {
                    note(&mut self.tally, &payload);
                }
                self.received.store(self.tally.received, Ordering::Relaxed);
            }
            treecast_overlay::Event::Deliver { .. } | treecast_overlay::Event::Ordered { .. } => {}
            other => tracing::trace!(me = %self.me.short(), ?other),
        }
    }
}

/// Counts a message.
pub(super) fn note(tally: &mut Tally, payload: &[u8]) {
    let number = |at: usize| payload[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    let (number, sent) = (number(0), number(8));
    if !tally.note(number) {
        return;
    }
    let latencies_us = match sent & (EASY_TAG | IDLE_TAG) {
        EASY_TAG => &mut tally.easy_us,
        IDLE_TAG => &mut tally.idle_us,
        _ => return,
    };
    latencies_us.push((EPOCH.elapsed().as_micros() as u64).saturating_sub(sent & !(EASY_TAG | IDLE_TAG)));
}

/// Set in the time of a message whose latency counts.
const EASY_TAG: u64 = 1 << 63;

/// The same, of one that is alone.
const IDLE_TAG: u64 = 1 << 62;

pub(super) fn payload(number: u64, tag: u64, size: usize) -> Bytes {
    let mut payload = vec![0; size];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    let now = EPOCH.elapsed().as_micros() as u64 | tag;
    payload[8..16].copy_from_slice(&now.to_le_bytes());
    payload.into()
}
