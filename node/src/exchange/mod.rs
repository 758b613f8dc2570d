//! Files: announced, served from where they lie, fetched from all who have them.
//!
//! An [`Exchange`] stands beside the driver: it asks that who is a member and what was announced, and moves bytes
//! over streams of its own. Disk work is done on threads for that; whatever comes or goes is checked against the
//! file's hash ([`holding`]).

mod api;
mod body;
mod bring;
mod claim;
mod ending;
#[cfg(test)]
mod ending_tests;
mod find;
mod get;
mod holding;
mod list;
mod scan;
mod seats;
mod serve;
mod session;
mod stream;
mod target;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::{PeerId, Stream, StreamProtocol};
use libp2p_stream::OpenStreamError;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use treecast_overlay::files::FileHash;
use treecast_overlay::files::wire::{Frame, Held, PROTOCOL, Refusal};
use treecast_overlay::{GroupId, NodeId, Time};

pub use self::api::{Dropped, FileInfo, FormerHolder, GetFile, Got, Holder, Progress};
pub use self::target::OnConflict;

use self::claim::Running;
use self::holding::{Desk, Holding, Title};
use self::seats::Seats;
use self::stream::{Frames, Sink};
use crate::clock::unix_ms;
use crate::driver::Driver;
use crate::driver::enter::Reply;
use crate::error::Stopped;
use crate::handle::{Command, Stage};
use crate::history::look_up;
use crate::store::{HeldFile, Work};

/// How long others may take to say what they hold.
const ANSWERS: Duration = Duration::from_millis(1_500);

/// Between looks whether a node is connected, and before a stream is tried again; twice as long each time…
const AGAIN: Duration = Duration::from_millis(50);

/// …up to this.
const AGAIN_AT_MOST: Duration = Duration::from_millis(800);

/// Files whose hashes are in memory while nobody needs them. Guess.
const MAX_LOADED: usize = 64;

/// See the module.
pub(crate) struct Exchange {
    me: NodeId,
    began: Instant,
    desk: Desk,
    commands: mpsc::WeakUnboundedSender<Command>,
    control: libp2p_stream::Control,
    held: Mutex<HashMap<FileHash, HeldFile>>,
    loaded: Mutex<HashMap<FileHash, Arc<Holding>>>,
    /// The disk that each file lay on when it was last seen there, since the start.
    disks: Mutex<HashMap<PathBuf, u64>>,
    /// Files that are being read by somebody so that they can be served.
    loading: Mutex<HashSet<FileHash>>,
    fetching: Mutex<HashMap<FileHash, Running>>,
    /// Words to groups that wait for their places.
    words: Arc<Semaphore>,
    /// One looks where all files lie.
    looking: Arc<Semaphore>,
    doors: Arc<Seats>,
    seats: Arc<Seats>,
    /// KiB of pieces in memory.
    room: Arc<Seats>,
    turns: Arc<Semaphore>,
    served: Arc<AtomicU64>,
    scans: AtomicU64,
    /// What is served is wrong on purpose.
    #[cfg(test)]
    lies: std::sync::atomic::AtomicBool,
    /// Who serves instead.
    #[cfg(test)]
    instead: Mutex<Option<tests::Server>>,
}

/// Somebody reads a file so that it can be served.
struct Loading {
    exchange: Arc<Exchange>,
    hash: FileHash,
}

impl Loading {
    fn begin(exchange: &Arc<Exchange>, hash: FileHash) -> Option<Self> {
        lock(&exchange.loading).insert(hash).then(|| Self { exchange: exchange.clone(), hash })
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        lock(&self.exchange.loading).remove(&self.hash);
    }
}

fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Exchange {
    /// Serves from now on, until the node ends.
    pub(crate) fn open(
        me: NodeId,
        data_dir: &Path,
        commands: mpsc::WeakUnboundedSender<Command>,
        mut control: libp2p_stream::Control,
        held: Vec<HeldFile>,
        mut stage: watch::Receiver<Stage>,
    ) -> io::Result<Arc<Self>> {
        let desk = Desk(data_dir.join("files"));
        crate::files::private_dir(&desk.0)?;
        desk.clear();
        let incoming = control.accept(StreamProtocol::new(PROTOCOL));
        let mut incoming = incoming.map_err(|error| io::Error::other(error.to_string()))?;
        let exchange = Arc::new(Self {
            me,
            began: Instant::now(),
            desk,
            commands,
            control,
            held: Mutex::new(held.into_iter().map(|file| (file.hash, file)).collect()),
            loaded: Mutex::default(),
            disks: Mutex::default(),
            loading: Mutex::default(),
            fetching: Mutex::default(),
            words: Arc::new(Semaphore::new(ending::WORDS)),
            looking: Arc::new(Semaphore::new(1)),
            doors: Seats::new(serve::DOORS),
            seats: Seats::new(serve::SEATS),
            room: Seats::new(serve::ROOM),
            turns: Arc::new(Semaphore::new(serve::SENDING)),
            served: Arc::default(),
            scans: AtomicU64::new(0),
            #[cfg(test)]
            lies: std::sync::atomic::AtomicBool::new(false),
            #[cfg(test)]
            instead: Mutex::default(),
        });
        let (serving, telling) = (exchange.clone(), exchange.clone());
        tokio::spawn(async move { telling.retract_ended().await });
        tokio::spawn(async move {
            let mut look = tokio::time::interval(ending::LOOK_EVERY);
            loop {
                let (peer, stream) = tokio::select! {
                    Some(came) = incoming.next() => came,
                    _ = look.tick() => {
                        serving.look_at_all();
                        continue;
                    }
                    // An error says that the node is gone, which is an end as well.
                    _ = stage.wait_for(|stage| *stage >= Stage::Ended) => return,
                };
                #[cfg(test)]
                if let Some(server) = lock(&serving.instead).clone() {
                    server(stream);
                    continue;
                }
                if let Some(node) = NodeId::from_peer_id_bytes(&peer.to_bytes()) {
                    tokio::spawn(serve::serve(serving.clone(), node, stream));
                }
            }
        });
        Ok(exchange)
    }

    /// Since the start.
    fn now(&self) -> Time {
        Time::from_micros(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// As [`Node::ask`], without keeping the node alive.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Driver) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        let ask = Command::Ask(Box::new(move |driver| drop(reply.send(question(driver)))));
        let commands = self.commands.upgrade().ok_or(Stopped)?;
        commands.send(ask).map_err(|_| Stopped)?;
        drop(commands);
        answer.await.map_err(|_| Stopped)
    }

    async fn ask_for<T: Send + 'static, E: From<Stopped> + Send + 'static>(
        &self,
        request: impl FnOnce(&mut Driver, Reply<T, E>) + Send + 'static,
    ) -> Result<T, E> {
        let (reply, answer) = oneshot::channel();
        let asked = self.ask(move |driver| request(driver, reply)).await;
        asked?;
        answer.await.map_err(|_| Stopped)?
    }

    async fn write(&self, works: Vec<Work>) -> Result<Result<(), String>, Stopped> {
        self.ask_for(move |driver, reply| driver.write_files(works, reply)).await
    }

    /// Whether a node is connected; it is dialled if not.
    async fn reach(&self, node: NodeId) -> io::Result<bool> {
        self.ask(move |driver| driver.reach(node)).await.map_err(io::Error::other)
    }

    async fn open_stream(&self, node: NodeId) -> io::Result<Stream> {
        let peer = PeerId::from_bytes(&node.to_peer_id_bytes()).map_err(io::Error::other)?;
        let opened = self.control.clone().open_stream(peer, StreamProtocol::new(PROTOCOL)).await;
        opened.map_err(|error| match error {
            // Of an older version: asking again does not help.
            OpenStreamError::UnsupportedProtocol(_) => io::ErrorKind::Unsupported.into(),
            OpenStreamError::Io(error) => error,
            error => io::Error::other(error.to_string()),
        })
    }

    /// Opens a stream, says this, and returns with the first word of the other side. Until that has come it is tried
    /// again and again: a stream may be dropped unseen where many come at once. The caller sets the limit.
    async fn first_word(&self, node: NodeId, say: &Frame) -> io::Result<(Frame, Frames, Sink)> {
        let mut pause = AGAIN;
        loop {
            if self.reach(node).await? {
                match self.try_first_word(node, say).await {
                    Ok(Some(heard)) => return Ok(heard),
                    Err(error) if error.kind() == io::ErrorKind::Unsupported => return Err(error),
                    Ok(None) | Err(_) => {}
                }
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(AGAIN_AT_MOST);
        }
    }

    async fn try_first_word(&self, node: NodeId, say: &Frame) -> io::Result<Option<(Frame, Frames, Sink)>> {
        let (mut frames, mut sink) = stream::split(self.open_stream(node).await?);
        sink.send(say).await?;
        Ok(frames.next().await?.map(|word| (word, frames, sink)))
    }

    async fn may_fetch(&self, group: GroupId, node: NodeId) -> bool {
        self.ask(move |driver| driver.may_fetch(group, node)).await.unwrap_or(false)
    }

    async fn is_offered(&self, group: GroupId, hash: FileHash) -> bool {
        let Ok(library) = self.ask(|driver| driver.library()).await else { return false };
        look_up(&library, move |shelf| shelf.is_offered(group, hash)).await.unwrap_or(false)
    }

    /// Bytes of files that went out since the start.
    pub(crate) fn served_bytes(&self) -> Arc<AtomicU64> {
        self.served.clone()
    }

    /// Bytes went out.
    fn served(&self, bytes: u64) {
        self.served.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Somebody else wants this: if it is being fetched here, that is a peer to fetch from.
    fn on_interest(&self, hash: FileHash, node: NodeId) {
        if let Some(running) = lock(&self.fetching).get(&hash) {
            running.on_interest(node);
        }
    }

    /// Another node has all of it, as was just seen.
    fn saw_holder(self: &Arc<Self>, hash: FileHash, node: NodeId) {
        self.saw_holders(vec![(hash, node)]);
    }

    fn saw_holders(self: &Arc<Self>, all: Vec<(FileHash, NodeId)>) {
        if all.is_empty() {
            return;
        }
        let (exchange, seen_ms) = (self.clone(), unix_ms());
        let works = all.into_iter().map(|(hash, node)| Work::Holder { hash, node, seen_ms }).collect();
        tokio::spawn(async move {
            // It is hearsay for later; the node may be ending.
            let _ = exchange.write(works).await;
        });
    }

    /// What lies here of a file, ready to be served. One reads it at a time: the others come again.
    async fn holding(self: &Arc<Self>, hash: FileHash) -> Result<Arc<Holding>, Refusal> {
        if let Some(holding) = lock(&self.loaded).get(&hash) {
            return Ok(holding.clone());
        }
        let held = lock(&self.held).get(&hash).cloned();
        let HeldFile { path, size, manifest, whole, ending, .. } = held.ok_or(Refusal::NotHeld)?;
        if let Some(ending) = ending {
            return Err(holding::refusal(ending));
        }
        let loading = Loading::begin(self, hash).ok_or(Refusal::Busy)?;
        let (title, desk) = (Title { hash, size, manifest }, self.desk.clone());
        let load = move || {
            let _loading = loading;
            match whole {
                true => Holding::kept(title, desk, &path),
                false => Holding::resumed(title, desk, &path),
            }
        };
        let holding = tokio::task::spawn_blocking(load).await.map_err(|_| Refusal::NotHeld)?;
        let holding = holding.inspect_err(|error| tracing::warn!(%hash, %error, "not served"));
        let holding = Arc::new(holding.map_err(|_| Refusal::NotHeld)?);
        let mut loaded = lock(&self.loaded);
        if loaded.len() >= MAX_LOADED {
            let fetching = lock(&self.fetching);
            loaded.retain(|hash, it| Arc::strong_count(it) > 1 || fetching.contains_key(hash));
        }
        // What was just announced is newer.
        Ok(loaded.entry(hash).or_insert(holding).clone())
    }

    /// A file is served as it is now; who is being served from what was known before comes again.
    fn load(&self, hash: FileHash, holding: Arc<Holding>) {
        if let Some(stale) = lock(&self.loaded).insert(hash, holding) {
            stale.withdraw();
        }
    }

    /// What another holds of a group's files; nothing if it does not say so in time.
    async fn query(&self, group: GroupId, node: NodeId) -> Vec<Held> {
        let asked = async {
            loop {
                let (answer, _, mut sink) = self.first_word(node, &Frame::Query { group }).await?;
                sink.close().await;
                match answer {
                    Frame::Holds { files } => return Ok::<_, io::Error>(files),
                    Frame::Not(Refusal::Busy) => tokio::time::sleep(4 * AGAIN).await,
                    _ => return Ok(Vec::new()),
                }
            }
        };
        tokio::time::timeout(ANSWERS, asked).await.map_or_else(|_| Vec::new(), Result::unwrap_or_default)
    }

    /// Where the manifest of a folder that is being read is written.
    fn scan_at(&self) -> PathBuf {
        let number = self.scans.fetch_add(1, Ordering::Relaxed);
        self.desk.0.join(format!("{}-{number}.scan", std::process::id()))
    }

    /// Remembers that a file lies here, on disk and in memory.
    async fn hold(&self, file: HeldFile) -> Result<(), String> {
        let saved = self.write(vec![Work::Hold(Box::new(file.clone()))]).await;
        saved.map_err(|stopped| stopped.to_string())??;
        lock(&self.held).insert(file.hash, file);
        Ok(())
    }
}
