//! Fetching one file from all who have it: the sessions' ears and the fetch's orders, put together.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use treecast_overlay::files::wire::Refusal;
use treecast_overlay::files::{Ending, Fetch};
use treecast_overlay::{GroupId, NodeId};

use super::body::WriteError;
use super::holding::{Holding, TakeError};
use super::session::{self, Gone, Heard, Order, Wanted};
use super::{Exchange, Progress};
use crate::driver::files::Fellow;
use crate::error::GetError;

/// Between looks at the clock.
const BEAT: Duration = Duration::from_millis(100);

/// Between looks at who else may have it.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Between words about how it goes.
const TELL_EVERY: Duration = Duration::from_millis(1_000);

/// Who had nothing, or was not reached, is asked again after so long.
const AGAIN: Duration = Duration::from_secs(4);

/// Peers that are fetched from at the same time.
const MAX_SESSIONS: usize = 32;

/// Without anybody who has what is missing, for so long, it is given up.
const GIVE_UP: Duration = Duration::from_secs(6);

/// So much longer if somebody said that it is busy: that one may have it.
const BUSY: Duration = Duration::from_secs(120);

/// Rates are those of the last so many seconds.
const RATE_SPAN: Duration = Duration::from_secs(4);

/// What is to be fetched.
pub(super) struct Job {
    pub(super) group: GroupId,
    pub(super) holding: Arc<Holding>,
    /// A folder's files go below this.
    pub(super) root: PathBuf,
    /// Wait for somebody who has it.
    pub(super) wait: bool,
    /// Who opens a stream for the same file.
    pub(super) interest: mpsc::Receiver<NodeId>,
}

/// How a fetch ended.
pub(super) enum End {
    /// All is here.
    Whole,
    /// Nobody has what is missing.
    Nobody,
}

/// A peer that may have some of it.
struct Source {
    node: NodeId,
    orders: mpsc::UnboundedSender<Order>,
    answered: bool,
    /// When bytes came last.
    heard: Option<Instant>,
}

/// See the module.
pub(super) struct Fetching<'a> {
    exchange: &'a Arc<Exchange>,
    job: Job,
    fetch: Fetch,
    /// By their numbers.
    sources: BTreeMap<u64, Source>,
    /// When those who were no source may be asked again.
    later: BTreeMap<NodeId, Instant>,
    fellows: Vec<Fellow>,
    ears: session::Ears,
    heard: mpsc::Receiver<(NodeId, Heard)>,
    /// Peers that served other bytes than the file's.
    liars: Vec<NodeId>,
    /// Peers that had it until it changed there, or was removed.
    former: Vec<(NodeId, Ending)>,
    done: u64,
    rates: VecDeque<(Instant, u64)>,
    fed_at: Instant,
    /// When somebody last said that it has too much to do.
    busy_at: Option<Instant>,
}

impl<'a> Fetching<'a> {
    pub(super) fn new(exchange: &'a Arc<Exchange>, job: Job) -> Self {
        let mut fetch = Fetch::new(job.holding.geometry(), exchange.me.tag(), job.holding.have());
        if let Some(head) = job.holding.head_pieces() {
            fetch.only_first(head);
        }
        let done = fetch.have().iter().map(|piece| job.holding.geometry().len(piece) as u64).sum();
        let (ears, heard) = mpsc::channel(256);
        Self {
            exchange,
            job,
            fetch,
            sources: BTreeMap::new(),
            later: BTreeMap::new(),
            fellows: Vec::new(),
            ears,
            heard,
            liars: Vec::new(),
            former: Vec::new(),
            done,
            rates: VecDeque::new(),
            fed_at: Instant::now(),
            busy_at: None,
        }
    }

    /// Who lied.
    pub(super) fn liars(&self) -> &[NodeId] {
        &self.liars
    }

    /// Who had it, and what has become of it there.
    pub(super) fn former(&self) -> &[(NodeId, Ending)] {
        &self.former
    }

    /// What a member calls itself.
    pub(super) fn nick_of(&self, node: NodeId) -> String {
        let known = self.fellows.iter().find(|it| it.node == node).map(|it| it.nick.clone());
        known.filter(|nick| !nick.is_empty()).unwrap_or_else(|| format!("…{}", node.short()))
    }

    /// Until it is all here, or nobody has it.
    pub(super) async fn run(&mut self, tell: &mut (dyn FnMut(Progress) + Send)) -> Result<End, GetError> {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut look_at, mut tell_at) = (Instant::now(), Instant::now() + TELL_EVERY);
        self.open_folder().await?;
        while !self.fetch.is_done() {
            tokio::select! {
                Some((node, heard)) = self.heard.recv() => self.on_heard(node, heard).await?,
                Some(node) = self.job.interest.recv() => self.on_interest(node),
                _ = beat.tick() => {
                    let now = Instant::now();
                    if now >= look_at {
                        look_at = now + LOOK_EVERY;
                        self.look_around().await?;
                    }
                    self.on_beat(now);
                    if now >= tell_at {
                        tell_at = now + TELL_EVERY;
                        tell(self.progress());
                    }
                    if self.is_hopeless(now) {
                        return Ok(End::Nobody);
                    }
                }
            }
            self.ask();
        }
        tell(self.progress());
        self.sources.keys().for_each(|number| self.order(*number, Order::Whole));
        Ok(End::Whole)
    }

    /// Those who are here and may have it are asked.
    async fn look_around(&mut self) -> Result<(), GetError> {
        let group = self.job.group;
        self.fellows = self.exchange.ask(move |driver| driver.fellows(group)).await?;
        let here: Vec<NodeId> = self.fellows.iter().filter(|it| it.is_here).map(|it| it.node).collect();
        here.into_iter().for_each(|node| self.approach(node));
        Ok(())
    }

    fn approach(&mut self, node: NodeId) {
        let now = Instant::now();
        let is_late = self.later.get(&node).is_some_and(|at| *at > now);
        let is_asked = self.sources.contains_key(&node.tag()) || self.sources.len() >= MAX_SESSIONS;
        if is_late || is_asked || self.liars.contains(&node) || node == self.exchange.me {
            return;
        }
        let (orders, taken) = mpsc::unbounded_channel();
        let (holding, ears) = (self.job.holding.clone(), self.ears.clone());
        let wanted = Wanted { group: self.job.group, hash: holding.title.hash, node, holding, ears };
        tokio::spawn(session::run(self.exchange.clone(), wanted, taken));
        self.sources.insert(node.tag(), Source { node, orders, answered: false, heard: None });
    }

    /// A peer fetches it, too: it will have some.
    fn on_interest(&mut self, node: NodeId) {
        self.later.remove(&node);
        self.approach(node);
    }

    async fn on_heard(&mut self, node: NodeId, heard: Heard) -> Result<(), GetError> {
        let (number, now) = (node.tag(), self.exchange.now());
        match heard {
            Heard::Has(has) => {
                if let Some(source) = self.sources.get_mut(&number) {
                    source.answered = true;
                    self.former.retain(|(it, _)| *it != node);
                    if has.is_full() {
                        self.exchange.saw_holder(self.job.holding.title.hash, node);
                    }
                    self.fetch.on_peer(now, number, has);
                }
            }
            Heard::More(pieces) => self.fetch.on_more(number, &pieces),
            Heard::Bytes(bytes) => {
                self.fetch.on_bytes(now, number, bytes);
                if let Some(source) = self.sources.get_mut(&number) {
                    source.heard = Some(Instant::now());
                }
            }
            Heard::Piece(piece, Ok(())) => self.on_piece(number, piece).await?,
            Heard::Piece(piece, Err(TakeError::Bad)) => {
                tracing::warn!(%node, piece, "a peer served other bytes than the file's");
                if !self.liars.contains(&node) {
                    self.liars.push(node);
                }
                self.drop_source(number);
            }
            Heard::Piece(_, Err(TakeError::Disk(WriteError { path, source }))) => {
                return Err(GetError::Disk { path, source });
            }
            Heard::Gone(gone) => {
                if gone == Gone::Refused(Refusal::Busy) {
                    self.busy_at = Some(Instant::now());
                }
                let ending = match gone {
                    Gone::Refused(Refusal::Changed) => Some(Ending::Changed),
                    Gone::Refused(Refusal::Removed) => Some(Ending::Removed),
                    _ => None,
                };
                if let Some(ending) = ending {
                    self.former.retain(|(it, _)| *it != node);
                    self.former.push((node, ending));
                }
                if self.sources.contains_key(&number) {
                    tracing::debug!(%node, ?gone, "no source of a file (any more)");
                    let wait = if ending.is_some() { AGAIN * 15 } else { AGAIN };
                    self.later.insert(node, Instant::now() + wait);
                    self.drop_source(number);
                }
            }
        }
        Ok(())
    }

    fn drop_source(&mut self, number: u64) {
        self.fetch.on_gone(number);
        self.sources.remove(&number);
    }

    async fn on_piece(&mut self, from: u64, piece: u32) -> Result<(), GetError> {
        let taken = self.fetch.on_piece(piece);
        if taken.fresh {
            self.done += self.job.holding.geometry().len(piece) as u64;
        }
        for late in taken.cancel.iter().filter(|late| late.peer != from) {
            self.order(late.peer, Order::Cancel(late.piece));
        }
        self.open_folder().await
    }

    /// Once a folder's manifest is here, the rest is wanted, too.
    async fn open_folder(&mut self) -> Result<(), GetError> {
        let Some(head) = self.job.holding.head_pieces() else { return Ok(()) };
        if !(0..head).all(|piece| self.fetch.have().contains(piece)) {
            return Ok(());
        }
        let (holding, root) = (self.job.holding.clone(), self.job.root.clone());
        let opened = tokio::task::spawn_blocking(move || holding.open_folder(&root)).await;
        match opened {
            Ok(Ok(())) => {
                self.fetch.only_first(u32::MAX);
                Ok(())
            }
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                Err(GetError::Manifest(error.to_string()))
            }
            Ok(Err(source)) => Err(GetError::Disk { path: self.job.root.clone(), source }),
            Err(error) => Err(GetError::NotSaved(error.to_string())),
        }
    }

    fn order(&self, number: u64, order: Order) {
        if let Some(source) = self.sources.get(&number) {
            // A session that has ended says so.
            let _ = source.orders.send(order);
        }
    }

    fn ask(&mut self) {
        for ask in self.fetch.ask(self.exchange.now()) {
            self.order(ask.peer, Order::Ask(ask.piece));
        }
    }

    fn on_beat(&mut self, now: Instant) {
        for late in self.fetch.late(self.exchange.now()) {
            self.order(late.peer, Order::Cancel(late.piece));
        }
        for silent in self.fetch.silent() {
            if let Some(source) = self.sources.get(&silent) {
                tracing::debug!(node = %source.node, "a source of a file does not answer");
                self.later.insert(source.node, now + 15 * AGAIN);
            }
            self.drop_source(silent);
        }
        if self.fetch.is_fed() {
            self.fed_at = now;
        }
        self.rates.push_back((now, self.done));
        while self.rates.front().is_some_and(|(at, _)| now - *at > RATE_SPAN) {
            self.rates.pop_front();
        }
    }

    fn is_hopeless(&self, now: Instant) -> bool {
        let is_asking = self.sources.values().any(|source| !source.answered);
        let is_busy = self.busy_at.is_some_and(|at| now - at < 2 * AGAIN);
        let patience = if is_busy { BUSY } else { GIVE_UP };
        !self.job.wait && !is_asking && now - self.fed_at >= patience
    }

    fn progress(&self) -> Progress {
        let now = Instant::now();
        let title = self.job.holding.title;
        let rate = self.rates.front().map_or(0.0, |(at, done)| {
            let span = (now - *at).as_secs_f64();
            if span > 0.0 { (self.done - done) as f64 / span } else { 0.0 }
        });
        let left = title.size.saturating_sub(self.done) as f64;
        let recent = |source: &&Source| source.heard.is_some_and(|at| now - at < RATE_SPAN);
        let sources = self.sources.values().filter(recent).map(|it| (it.node, self.nick_of(it.node)));
        Progress {
            hash: title.hash,
            done: self.done,
            size: title.size,
            rate,
            eta: (rate > 0.0 && left / rate < 1e9).then(|| Duration::from_secs_f64(left / rate)),
            sources: sources.collect(),
            liars: self.liars.iter().map(|node| (*node, self.nick_of(*node))).collect(),
        }
    }
}
