//! The node as a program holds it.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use libp2p::Multiaddr;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use treecast_overlay::wire::ticket::Ticket;
use treecast_overlay::{BatchId, Descriptor, Digest, GroupId, NodeId};

use crate::config::NodeBuilder;
use crate::driver::Driver;
use crate::driver::enter::Reply;
use crate::error::{
    GroupError, JoinError, PingError, PublishError, RecoverError, RemoveError, SetNickError, Stopped,
    check_nick,
};
use crate::event::EventQueue;
use crate::exchange::Exchange;
use crate::failure::Failure;
use crate::group::{GroupRef, NewGroup};
use crate::history::{Listen, Pages, Since};
use crate::receiver::Receiver;
use crate::swarm::entropy;
use crate::view::{GroupInfo, NodeStatus, PeerView, PingReport};

/// Counted for each message that waits, beside its payload.
const MESSAGE_BYTES: usize = 64;

/// After so many looks, 50 ms apart, a connection without a link is not one that is being made.
const LINKING: u32 = 20;

/// What handles ask of the driver.
pub(crate) enum Command {
    /// Do something quick with the driver.
    Ask(Box<dyn FnOnce(&mut Driver) + Send>),
    /// Publish a message.
    Publish {
        group: GroupId,
        payload: Bytes,
        /// Given back when the core has taken the message.
        room: OwnedSemaphorePermit,
        placed: oneshot::Sender<Result<Published, PublishError>>,
    },
    /// A hold on a group was dropped; and which of the group's stays it belonged to.
    Release(GroupId, u64),
    /// Say goodbye and end.
    Shutdown,
}

/// How far a node has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Serving,
    /// It says goodbye.
    Stopping,
    /// Its data directory is free.
    Ended,
}

/// A running node. Clones are the same node; when all are dropped, and all senders and
/// receivers with them, the node says goodbye and ends.
#[derive(Clone)]
pub struct Node {
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) id: NodeId,
    pub(crate) stage: watch::Receiver<Stage>,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) notices: Arc<[String]>,
    pub(crate) removed: watch::Receiver<Vec<String>>,
    pub(crate) exchange: Arc<Exchange>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Node").field(&self.id).finish()
    }
}

/// Where a message was placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// In which batch.
    pub batch: BatchId,
    /// Which message of it.
    pub n: u32,
}

/// How many others have a batch, and all before it of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Other members that said so, signed.
    pub have: usize,
    /// Other members that are online.
    pub of: usize,
}

/// What a receipt is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptGoal {
    /// It is on this node's disk, and will go out whatever happens.
    Stored,
    /// A neighbour has taken it.
    Sent,
    /// So many other members have it.
    Members(usize),
    /// All other members that are online, and at least one.
    All,
}

impl Node {
    /// A builder with the defaults.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::new()
    }

    /// Who this node is.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// What a person should know about the start: a port that changed, say.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Where the metrics are served, if they are.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Asks the driver something; it answers between two events.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Driver) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        let ask = Command::Ask(Box::new(move |driver| {
            // Who asked may have gone.
            let _ = reply.send(question(driver));
        }));
        self.commands.send(ask).map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Asks the driver something that it answers when it is done: when something is on disk, say.
    pub(crate) async fn ask_for<T: Send + 'static, E: From<Stopped> + Send + 'static>(
        &self,
        request: impl FnOnce(&mut Driver, Reply<T, E>) + Send + 'static,
    ) -> Result<T, E> {
        let (reply, answer) = oneshot::channel();
        let ask = Command::Ask(Box::new(move |driver| request(driver, reply)));
        self.commands.send(ask).map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)?
    }

    /// What the node calls itself.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn nick(&self) -> Result<String, Stopped> {
        self.ask(|driver| driver.nick().to_owned()).await
    }

    /// Takes another nick, and tells the members of its groups. It is saved when this returns.
    ///
    /// # Errors
    /// See [`SetNickError`].
    pub async fn set_nick(&self, nick: &str) -> Result<(), SetNickError> {
        check_nick(nick)?;
        let nick = nick.to_owned();
        let request = |driver: &mut Driver, reply| driver.set_nick(nick, reply);
        self.ask_for(request).await
    }

    /// Where the node listens.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn addresses(&self) -> Result<Vec<Multiaddr>, Stopped> {
        self.ask(|driver| driver.addresses()).await
    }

    /// Enters a group, or takes part again in one that the node is in. When both halves are
    /// dropped, the node goes offline in the group unless something else holds it.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub async fn join(&self, group: impl Into<GroupRef>) -> Result<(Sender, Receiver), JoinError> {
        self.enter(group.into(), false).await
    }

    /// As [`Node::join`]; with `keep` the node stays in the group until [`Node::leave`], and
    /// goes on with it at its next start.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub async fn enter(&self, group: GroupRef, keep: bool) -> Result<(Sender, Receiver), JoinError> {
        self.enter_since(group, keep, Since::Now).await
    }

    /// As [`Node::enter`]; the receiver begins with what was delivered before, as far as it is kept,
    /// and goes on with what comes, without gap or repeat.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub async fn enter_since(
        &self,
        group: GroupRef,
        keep: bool,
        since: Since,
    ) -> Result<(Sender, Receiver), JoinError> {
        self.listen(group, keep, Listen { since, ..Listen::default() }).await
    }

    /// As [`Node::enter_since`]; in a total order also with messages that have no place yet, if they are
    /// asked for.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub async fn listen(
        &self,
        group: GroupRef,
        keep: bool,
        listen: Listen,
    ) -> Result<(Sender, Receiver), JoinError> {
        let entered = self.ask_for(move |driver, reply| driver.enter(group, keep, listen, reply)).await?;
        let hold = Arc::new(Hold { node: self.clone(), group: entered.group, stay: entered.stay });
        let least = if let Since::Index(index) = listen.since { index } else { 0 };
        let receiver = Receiver { past: entered.past, queue: entered.queue, least, hold: hold.clone() };
        let sender =
            Sender { hold, descriptor: entered.descriptor, room: entered.room, max: entered.max_message };
        Ok((sender, receiver))
    }

    /// Makes a group and is in it until [`Node::leave`], as its founder. It is saved when this
    /// returns.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub async fn create(&self, group: NewGroup) -> Result<GroupInfo, JoinError> {
        let salt = entropy().map_err(|error| JoinError::NotSaved(error.to_string()))?;
        let salt = Digest::from_bytes(salt);
        self.ask_for(move |driver, reply| driver.create(group, salt, reply)).await
    }

    /// Is in a group until [`Node::leave`], across restarts; it is saved when this returns, whether
    /// members were found or not. If another group has its name here, it is called `name~ab12`.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub async fn add(&self, group: impl Into<GroupRef>) -> Result<GroupInfo, JoinError> {
        let group = group.into();
        self.ask_for(move |driver, reply| driver.add(group, reply)).await
    }

    /// A ticket for a group, with where several of its members are now. Whoever has it may join.
    ///
    /// # Errors
    /// When the node is in no such group, or has stopped.
    pub async fn invite(&self, group: &str) -> Result<Ticket, GroupError> {
        Ok(self.invite_to(group).await?.1)
    }

    /// [`Node::invite`], and what the group is called here.
    pub(crate) async fn invite_to(&self, group: &str) -> Result<(String, Ticket), GroupError> {
        let group = group.to_owned();
        Ok(self.ask(move |driver| driver.invite(&group)).await??)
    }

    /// The node of this id or nick, if it is known here.
    pub(crate) async fn find(&self, name: &str) -> Result<NodeId, PingError> {
        let name = name.to_owned();
        self.ask(move |driver| driver.find_node(&name)).await?
    }

    /// Leaves a group for good, with a signed record that all members see. Returns the
    /// group as it was, once that is saved.
    ///
    /// # Errors
    /// When the node is in no such group, cannot save that it left, or has stopped.
    pub async fn leave(&self, group: &str) -> Result<GroupInfo, GroupError> {
        let group = group.to_owned();
        self.ask_for(move |driver, reply| driver.leave(&group, reply)).await
    }

    /// Removes a member, named by its id or nick, from a group that this node has founded. Returns the group
    /// as it is then, once the removal is saved; members hear of it as they are reached.
    ///
    /// # Errors
    /// See [`RemoveError`].
    pub async fn remove(&self, group: &str, member: &str) -> Result<GroupInfo, RemoveError> {
        let (name, member) = (group.to_owned(), member.to_owned());
        self.ask_for(move |driver, reply| driver.remove(&name, &member, reply)).await?;
        let name = group.to_owned();
        Ok(self.ask(move |driver| driver.group_info(&name)).await??)
    }

    /// Goes on with a group with a total order whose committee has lost its majority for good, in another that
    /// follows it: with the same name, and the index where the order is here. What has no place in the
    /// order of the group before has none in the new one; it stays readable there. Whoever is in the old group and
    /// is reached is told the new one's ticket, by a message. Returns the new group, once it is saved.
    ///
    /// # Errors
    /// See [`RecoverError`].
    pub async fn recover(&self, group: &str) -> Result<GroupInfo, RecoverError> {
        let salt = entropy().map_err(|error| JoinError::NotSaved(error.to_string()))?;
        let (name, salt) = (group.to_owned(), Digest::from_bytes(salt));
        let new: GroupInfo = self.ask_for(move |driver, reply| driver.recover(&name, salt, reply)).await?;
        let told = async {
            let old = self.group_view(group).await.ok()?.label;
            let (old, _) = self.join(GroupRef::Name(old)).await.ok()?;
            let (_, ticket) = self.invite_to(&new.view.id.to_string()).await.ok()?;
            let text = format!("This group goes on in another: treecast group join {ticket}");
            old.submit(text).await.ok()
        };
        if told.await.is_none() {
            tracing::warn!(group, "who is in the group was not told which one follows it");
        }
        Ok(new)
    }

    /// The groups that this node was removed from, in the order in which it heard so; changes when it hears
    /// of another.
    pub fn removed_from(&self) -> watch::Receiver<Vec<String>> {
        self.removed.clone()
    }

    /// How the node is.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn status(&self) -> Result<NodeStatus, Stopped> {
        self.ask(|driver| driver.status()).await
    }

    /// The connected peers; of one group if named.
    ///
    /// # Errors
    /// When the node is in no such group, or has stopped.
    pub async fn peers(&self, group: Option<&str>) -> Result<Vec<PeerView>, GroupError> {
        let group = group.map(str::to_owned);
        Ok(self.ask(move |driver| driver.peers(group.as_deref())).await??)
    }

    /// All groups of the node, by name.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn groups(&self) -> Result<Vec<GroupInfo>, Stopped> {
        self.ask(|driver| driver.groups()).await
    }

    /// One group: its members, its trees.
    ///
    /// # Errors
    /// When the node is in no such group, or has stopped.
    pub async fn group_view(&self, group: &str) -> Result<GroupInfo, GroupError> {
        let group = group.to_owned();
        Ok(self.ask(move |driver| driver.group_info(&group)).await??)
    }

    /// The round trip to a node, named by its id or nick, measured now; connects to it if need be.
    ///
    /// # Errors
    /// See [`PingError`].
    pub async fn ping(&self, node: &str, patience: Duration) -> Result<PingReport, PingError> {
        let target = self.find(node).await?;
        let mut asked = false;
        let measured = async {
            for attempt in 1_u32.. {
                let anew = attempt == LINKING;
                if let Some(answer) = self.ask(move |driver| driver.ping(target, anew)).await? {
                    asked = true;
                    // If the link goes, there may be another.
                    if let Ok(report) = answer.await {
                        return Ok(report);
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(PingError::Unreachable(node.to_owned()))
        };
        match tokio::time::timeout(patience, measured).await {
            Ok(measured) => measured,
            Err(_) if asked => Err(PingError::Silent { name: node.to_owned(), patience }),
            Err(_) => Err(PingError::Unreachable(node.to_owned())),
        }
    }

    /// Says goodbye in every group, waits (bounded) until neighbours hold this node's
    /// messages, and ends. Returns when it has ended.
    pub async fn shutdown(&self) {
        // If the driver is gone, it has ended.
        let _ = self.commands.send(Command::Shutdown);
        self.ended().await;
    }

    /// As [`Node::shutdown`], but returns once all goodbyes are said.
    pub(crate) async fn shutdown_begins(&self) {
        let _ = self.commands.send(Command::Shutdown);
        // The driver's end closes the channel; the lock is given back a moment later.
        self.commands.closed().await;
    }

    /// Returns when the node begins to stop, for whatever reason; or has ended.
    pub async fn stopping(&self) {
        self.reach(Stage::Stopping).await;
    }

    /// Returns when the node has ended, for whatever reason.
    pub async fn ended(&self) {
        self.reach(Stage::Ended).await;
    }

    async fn reach(&self, stage: Stage) {
        let mut now = self.stage.clone();
        // An error says that the driver is gone, which is an end as well.
        let _ = now.wait_for(|now| *now >= stage).await;
    }
}

/// Keeps the node online in a group.
pub(crate) struct Hold {
    pub(crate) node: Node,
    pub(crate) group: GroupId,
    stay: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        // A driver that is gone holds nothing.
        let _ = self.node.commands.send(Command::Release(self.group, self.stay));
    }
}

/// Publishes to a group. Clones share one bound on what waits.
#[derive(Clone)]
pub struct Sender {
    hold: Arc<Hold>,
    descriptor: Arc<Descriptor>,
    room: Arc<Semaphore>,
    max: usize,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sender").field(&self.hold.group).finish()
    }
}

impl Sender {
    /// The group's id.
    pub fn group(&self) -> GroupId {
        self.hold.group
    }

    /// What the group is.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Publishes a message: waits until there is room for it, and until it has its place.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing was sent then.
    pub async fn publish(&self, payload: impl Into<Bytes>) -> Result<Published, PublishError> {
        self.submit(payload).await?.await
    }

    /// Waits until there is room and hands the message over; the result is a future that is
    /// done when the message has its place. Messages are placed in the order of these calls.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing was sent then.
    pub async fn submit(&self, payload: impl Into<Bytes>) -> Result<Placement, PublishError> {
        let payload: Bytes = payload.into();
        if payload.len() > self.max {
            let (len, max) = (payload.len(), self.max);
            return Err(treecast_overlay::PublishError::TooLarge { len, max }.into());
        }
        let cost = u32::try_from(payload.len() + MESSAGE_BYTES).expect("a message has at most 1 MiB");
        let room = self.room.clone().acquire_many_owned(cost).await.map_err(|_| Stopped)?;
        let (placed, placement) = oneshot::channel();
        let publish = Command::Publish { group: self.hold.group, payload, room, placed };
        self.hold.node.commands.send(publish).map_err(|_| Stopped)?;
        Ok(Placement(placement))
    }

    /// Waits until this batch of ours (and so all before it) has come that far. There is no
    /// bound: put a timeout around it. Nothing is lost by giving up.
    ///
    /// # Errors
    /// When the node has stopped or left the group.
    pub async fn receipt(&self, batch: BatchId, goal: ReceiptGoal) -> Result<Receipt, Stopped> {
        let group = self.hold.group;
        let receipt = self.hold.node.ask(move |driver| driver.await_receipt(group, batch, goal)).await?;
        receipt.await.map_err(|_| Stopped)
    }

    /// How far this batch of ours (and so all before it) has come, as it goes on: at an end once all
    /// members that are online have it.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn watch_receipt(&self, batch: BatchId) -> Result<watch::Receiver<Option<Receipt>>, Stopped> {
        let group = self.hold.group;
        self.hold.node.ask(move |driver| driver.watch_receipt(group, batch)).await
    }

    /// A failure to publish, with what the store says if that is why.
    pub(crate) async fn told_why(&self, failure: Failure) -> Failure {
        if failure.code != "not-durable" {
            return failure;
        }
        let said = self.hold.node.ask(|driver| driver.store_failure()).await;
        let Ok(Some(said)) = said else { return failure };
        let fix =
            "Free some space there or mend its permissions, or choose another directory with `--data-dir`.";
        Failure { why: format!("{said}."), fix: fix.to_owned(), ..failure }
    }

    /// How far a batch has come whose [`Sender::receipt`] was given up just now.
    pub(crate) async fn receipt_so_far(&self, batch: BatchId) -> Result<Receipt, Stopped> {
        let group = self.hold.group;
        self.hold.node.ask(move |driver| driver.receipt_so_far(group, batch)).await
    }
}

/// A message on its way to its place; see [`Sender::submit`].
#[derive(Debug)]
pub struct Placement(oneshot::Receiver<Result<Published, PublishError>>);

impl Future for Placement {
    type Output = Result<Published, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|result| result.unwrap_or(Err(Stopped.into())))
    }
}

/// What [`Node::enter`] gets from the driver.
pub(crate) struct Entered {
    pub(crate) group: GroupId,
    pub(crate) stay: u64,
    pub(crate) descriptor: Arc<Descriptor>,
    /// What the receiver begins with.
    pub(crate) past: Option<Box<Pages>>,
    pub(crate) queue: Arc<EventQueue>,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) max_message: usize,
}
