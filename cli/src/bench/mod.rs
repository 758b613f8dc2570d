//! `treecast bench`: real nodes in one process, over real transports.
//!
//! One node publishes as fast as the overlay takes it, the others count. The nodes are swarms
//! with the node's transports and nothing but the overlay in them.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::Serialize;
use treecast_overlay::behaviour::NewError;
use treecast_overlay::{Descriptor, DescriptorError, NodeId, Order};

use self::counted::Meter;
use self::member::{Look, Member, Pace, Plan};
use self::stored::Stored;
use self::tally::{Latency, Tally, cpu_time, percentiles};

mod counted;
mod member;
mod stored;
mod tally;

/// How long the nodes may take to become one tree.
const SETTLE: Duration = Duration::from_secs(60);

/// What does not arrive for so long counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long messages are sent at an easy pace, to measure latency.
const PACED: Duration = Duration::from_secs(2);

/// After so long a node may be in the committee: this one has just been started to measure.
const SERVE_AFTER: Duration = Duration::from_secs(1);

/// That pace, as a share of the throughput.
const PACE: f64 = 0.1;

/// Messages a second when there is next to nothing to do: each is everywhere long before the next.
const IDLE_PER_S: f64 = 50.0;

/// What nodes talk over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// TCP, encrypted and multiplexed as a node does.
    Tcp,
    /// QUIC.
    Quic,
    /// Channels in memory, encrypted and multiplexed all the same.
    Memory,
}

impl Transport {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Tcp, "tcp"), (Self::Quic, "quic"), (Self::Memory, "memory")];

    /// Any address of this process.
    fn any(self) -> &'static str {
        match self {
            Self::Tcp => "/ip4/127.0.0.1/tcp/0",
            Self::Quic => "/ip4/127.0.0.1/udp/0/quic-v1",
            Self::Memory => "/memory/0",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name) = Self::ALL.into_iter().find(|(it, _)| it == self).expect("all are listed");
        f.write_str(name)
    }
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|(_, name)| *name == text);
        found.map(|(it, _)| it).ok_or_else(|| format!("unknown transport `{text}`: tcp, quic or memory"))
    }
}

/// What to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BenchOptions {
    /// Nodes, at least 2; one of them publishes.
    pub(crate) nodes: usize,
    /// What they talk over.
    pub(crate) transport: Transport,
    /// Bytes of a message, at least [`BenchOptions::LEAST_SIZE`].
    pub(crate) size: usize,
    /// For how long it publishes.
    pub(crate) seconds: f64,
    /// The group's order.
    pub(crate) order: Order,
    /// Nodes that agree on a total order.
    pub(crate) committee: usize,
    /// Whole nodes that keep all of it, each in a directory of its own.
    pub(crate) storage: bool,
}

impl BenchOptions {
    /// A message carries its number and the time it was published.
    pub(crate) const LEAST_SIZE: usize = 16;
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct BenchReport {
    /// Messages that reached each receiver, a second, until the last had the last.
    pub(crate) messages_per_s: f64,
    /// The same in payload bytes, 10⁶ of them.
    pub(crate) mb_per_s: f64,
    /// Processor time of all nodes together for each message at each receiver. `None` where the
    /// system does not tell.
    pub(crate) cpu_us_per_delivery: Option<f64>,
    /// Bytes written to sockets by all nodes for each payload byte delivered to a receiver, while busy. For
    /// QUIC, bytes written to its streams: what its packets add is not seen from here. `None` for whole
    /// nodes, whose sockets are their own.
    pub(crate) wire_per_payload: Option<f64>,
    /// From publication to delivery, at a tenth of that rate.
    pub(crate) latency_us: Latency,
    /// The same with 50 messages a second, each alone.
    pub(crate) idle_latency_us: Latency,
    /// Messages times receivers that did not arrive.
    pub(crate) lost: u64,
    /// Messages that a receiver was given twice.
    pub(crate) duplicates: u64,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error("a bench needs at least 2 nodes")]
    TooFewNodes,
    #[error("a message has {least} to {most} bytes", least = BenchOptions::LEAST_SIZE, most = 1 << 20)]
    BadSize,
    #[error("a committee has 1, 3 or 5 nodes, and no more than there are")]
    BadCommittee,
    #[error("nodes with storage talk over tcp or quic")]
    NoMemory,
    #[error(transparent)]
    Group(#[from] DescriptorError),
    #[error(transparent)]
    Node(#[from] NewError),
    #[error("cannot listen: {0}")]
    Listen(String),
    #[error("the nodes did not become one tree within {limit} s: {0}", limit = SETTLE.as_secs())]
    Unsettled(String),
    #[error("a node ended before its time")]
    Ended,
}

/// Starts the nodes, waits until they are one tree, measures, and stops them.
pub(crate) async fn run(options: BenchOptions) -> Result<BenchReport, BenchError> {
    if options.nodes < 2 {
        return Err(BenchError::TooFewNodes);
    }
    if options.storage && options.transport == Transport::Memory {
        return Err(BenchError::NoMemory);
    }
    if options.size < BenchOptions::LEAST_SIZE || options.size > 1 << 20 {
        return Err(BenchError::BadSize);
    }
    if ![1, 3, 5].contains(&options.committee) || options.committee > options.nodes {
        return Err(BenchError::BadCommittee);
    }
    let mut group = Descriptor::open("bench")?;
    group.order = options.order;
    let meter = Meter::default();
    let members = start(&options, group, &meter).await?;
    let committee = (options.order == Order::Total).then_some(options.committee);
    settle(&members, committee).await?;
    measure(&options, &members, &meter).await
}

/// One of the nodes, with a store or without.
enum Runner {
    Bare(Member),
    Stored(Box<Stored>),
}

impl Runner {
    async fn look(&self) -> Result<Look, BenchError> {
        match self {
            Self::Bare(member) => member.look().await,
            Self::Stored(node) => node.look().await,
        }
    }

    fn received(&self) -> u64 {
        match self {
            Self::Bare(member) => member.received(),
            Self::Stored(node) => node.received(),
        }
    }

    async fn publish(&self, plan: Plan) -> Result<u64, BenchError> {
        match self {
            Self::Bare(member) => member.publish(plan).await,
            Self::Stored(node) => node.publish(plan).await,
        }
    }

    async fn stop(&self) -> Result<Tally, BenchError> {
        match self {
            Self::Bare(member) => member.stop().await,
            Self::Stored(node) => node.stop().await,
        }
    }
}

/// All nodes; all but the first know where that is.
async fn start(
    options: &BenchOptions,
    mut group: Descriptor,
    meter: &Meter,
) -> Result<Vec<Runner>, BenchError> {
    let mut runners: Vec<Runner> = Vec::with_capacity(options.nodes);
    for number in 0..options.nodes {
        let serve_after = (number < options.committee).then_some(SERVE_AFTER);
        let runner = match runners.first() {
            first if options.storage => {
                let first =
                    first.and_then(|it| if let Runner::Stored(node) = it { Some(&**node) } else { None });
                Runner::Stored(Box::new(
                    Stored::start(options.transport, &mut group, serve_after, first).await?,
                ))
            }
            first => {
                let member = Member::start(options.transport, &mut group, serve_after, meter).await?;
                if let Some(Runner::Bare(first)) = first {
                    member.introduce(first).await?;
                }
                Runner::Bare(member)
            }
        };
        runners.push(runner);
    }
    Ok(runners)
}

/// Who founds a group with a total order: the first that starts.
fn found(group: &mut Descriptor, node: NodeId) {
    if group.order == Order::Total {
        group.founder.get_or_insert(node);
    }
}

async fn settle(members: &[Runner], committee: Option<usize>) -> Result<(), BenchError> {
    let began = Instant::now();
    let mut calm = 0;
    while calm < 4 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let mut views = Vec::with_capacity(members.len());
        for member in members {
            views.push(member.look().await?);
        }
        let root = views[0].root;
        let roots = views.iter().filter(|view| view.parent.is_none()).count();
        let met = views.iter().filter(|view| view.online == members.len()).count();
        let agreed = views.iter().filter(|view| view.root == root).count();
        let seated = views.iter().filter(|view| committee.is_none_or(|all| view.committee == all)).count();
        let one_tree = seated == members.len()
            && roots == 1
            && root.is_some()
            && met == members.len()
            && agreed == members.len();
        calm = if one_tree { calm + 1 } else { 0 };
        if began.elapsed() > SETTLE {
            let all = members.len();
            let what = format!(
                "{met} of {all} know all others, {agreed} of {all} agree on a root, {roots} have no parent, {seated} of \
                 {all} see the committee"
            );
            return Err(BenchError::Unsettled(what));
        }
    }
    tracing::debug!(after = ?began.elapsed(), "the nodes are one tree");
    Ok(())
}

async fn measure(
    options: &BenchOptions,
    members: &[Runner],
    meter: &Meter,
) -> Result<BenchReport, BenchError> {
    let receivers = (members.len() - 1) as f64;
    let (cpu_before, wire_before) = (cpu_time(), meter.written());
    let began = Instant::now();
    let flood = Plan::Flood { size: options.size, time: Duration::from_secs_f64(options.seconds) };
    let published = members[0].publish(flood).await?;
    let took = all_received(members, published).await.duration_since(began).as_secs_f64();
    let (cpu_after, wire_after) = (cpu_time(), meter.written());

    let rate = published as f64 / took;
    let deliveries = published as f64 * receivers;
    let mut published = published;
    for (per_s, pace) in [((rate * PACE).max(10.0), Pace::Easy), (IDLE_PER_S, Pace::Idle)] {
        let plan = Plan::Paced { size: options.size, time: PACED, per_s, pace };
        published += members[0].publish(plan).await?;
        all_received(members, published).await;
    }

    let (mut lost, mut duplicates, mut easy_us, mut idle_us) = (0, 0, Vec::new(), Vec::new());
    for member in &members[1..] {
        let tally = member.stop().await?;
        lost += published - tally.received;
        duplicates += tally.duplicates;
        easy_us.extend(tally.easy_us);
        idle_us.extend(tally.idle_us);
    }
    let cpu = cpu_before.zip(cpu_after).map(|(before, after)| (after - before).as_secs_f64() * 1e6);
    Ok(BenchReport {
        messages_per_s: rate,
        mb_per_s: rate * options.size as f64 / 1e6,
        cpu_us_per_delivery: cpu.map(|us| us / deliveries),
        wire_per_payload: (!options.storage)
            .then(|| (wire_after - wire_before) as f64 / (deliveries * options.size as f64)),
        latency_us: percentiles(easy_us),
        idle_latency_us: percentiles(idle_us),
        lost,
        duplicates,
    })
}

/// When the last receiver had all, or when anything came last.
async fn all_received(members: &[Runner], published: u64) -> Instant {
    let (mut had, mut since) = (0, Instant::now());
    loop {
        let now: u64 = members[1..].iter().map(Runner::received).sum();
        if now != had {
            (had, since) = (now, Instant::now());
        }
        let all = published * (members.len() as u64 - 1);
        if now >= all || since.elapsed() > PATIENCE {
            return since;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
