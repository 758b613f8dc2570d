//! Serving others: one task a stream.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use libp2p::Stream;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use treecast_overlay::files::wire::{Frame, MAX_MORE, Part, Refusal};
use treecast_overlay::files::{FileHash, Window};
use treecast_overlay::{GroupId, NodeId};

use super::Exchange;
use super::holding::Holding;
use super::seats::Seat;
use super::stream::{Frames, Outbox, STUCK, Sink, split};

/// Streams that are served at the same time. Guess: of many more each would have little.
pub(super) const SEATS: usize = 128;

/// Streams of which nobody knows yet what they are for, and those that only ask what there is.
pub(super) const DOORS: usize = 128;

/// KiB of pieces that stand in memory at the same time, read and not sent. The largest pieces have 4 MiB, so that one
/// of them a seat would be half a GiB. Guess.
pub(super) const ROOM: usize = if cfg!(test) { 1 << 10 } else { 64 << 10 };

/// Whoever opens a stream says for so long what for.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// Pieces that one stream may have asked for.
const MAX_ASKED: usize = 1_024;

/// Frames that were read and not looked at.
const UNREAD: usize = 64;

/// What came is told so often: each piece by itself would cost more than it brings.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Streams that have parts under way at the same time, while they wait for answers: what waits before a link is
/// bounded by them, however many fetch. Who fetches is sent to by as many on average, and by nobody for a share of
/// e^-4 of the time: with 2 at a time links stood idle for the seventh of it that e^-2 is.
pub(super) const SENDING: usize = 4;

/// A stream lets another go first after so long.
const TURN: Duration = Duration::from_millis(100);

/// Answers whoever opened a stream.
pub(super) async fn serve(exchange: Arc<Exchange>, node: NodeId, stream: Stream) {
    let Some(door) = exchange.doors.take(node) else {
        return refuse(Sink::new(stream), Refusal::Busy).await;
    };
    let (mut frames, mut sink) = split(stream);
    match tokio::time::timeout(FIRST_WORD, frames.next()).await {
        Ok(Ok(Some(Frame::Query { group }))) => {
            let files = match exchange.may_fetch(group, node).await {
                true => exchange.held_in(group).await,
                false => Vec::new(),
            };
            // The other side may have gone.
            let _ = sink.send(&Frame::Holds { files }).await;
            sink.close().await;
        }
        Ok(Ok(Some(Frame::Open { group, hash }))) => match admit(&exchange, group, hash, node).await {
            Ok((seat, holding)) => {
                drop(door);
                let session = Session::new(&exchange, hash, node, holding, sink);
                session.run(frames).await;
                drop(seat);
            }
            Err(refusal) => refuse(sink, refusal).await,
        },
        _ => sink.close().await,
    }
}

/// Whether a member may fetch a file now.
async fn admit(
    exchange: &Arc<Exchange>,
    group: GroupId,
    hash: FileHash,
    node: NodeId,
) -> Result<(Seat, Arc<Holding>), Refusal> {
    if !exchange.may_fetch(group, node).await || !exchange.is_offered(group, hash).await {
        return Err(Refusal::NotMember);
    }
    exchange.on_interest(hash, node);
    let seat = exchange.seats.take(node).ok_or(Refusal::Busy)?;
    let holding = exchange.holding(hash).await?;
    match holding.refusal() {
        Some(refusal) => Err(refusal),
        None => Ok((seat, holding)),
    }
}

async fn refuse(mut sink: Sink, refusal: Refusal) {
    // The other side may have gone.
    let _ = sink.send(&Frame::Not(refusal)).await;
    sink.close().await;
}

/// A piece that is being sent.
struct Load {
    piece: u32,
    read: Read,
    sent: usize,
}

/// A piece in memory.
pub(super) struct Read {
    pub(super) bytes: Vec<u8>,
    proof: Vec<[u8; 32]>,
    /// It counts for as long as it is there.
    _room: Seat,
}

/// Whether a piece is there, and it.
type Loading = JoinHandle<Option<Read>>;

/// Which piece was read, and it.
pub(super) type Loaded = Option<(u32, Option<Read>)>;

/// One peer that fetches one file.
struct Session<'a> {
    exchange: &'a Arc<Exchange>,
    hash: FileHash,
    node: NodeId,
    holding: Arc<Holding>,
    out: Outbox,
    window: Window,
    /// When the peer last told that something came, or had nothing to tell of.
    answered: Instant,
    asked: VecDeque<u32>,
    /// There may be room for a piece again.
    freed: watch::Receiver<()>,
    loading: Option<(u32, Loading)>,
    load: Option<Load>,
    /// It is its turn to send, since when.
    turn: Option<(OwnedSemaphorePermit, Instant)>,
    /// Its place among those who wait for theirs.
    queueing: Option<Queueing>,
    /// The peer has all of it.
    is_whole: bool,
}

/// A place in the queue for a turn.
type Queueing = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// The turn, once it comes; who asks again has kept its place.
async fn next_turn(
    queueing: &mut Option<Queueing>,
    turns: &Arc<Semaphore>,
) -> Result<OwnedSemaphorePermit, AcquireError> {
    queueing.get_or_insert_with(|| Box::pin(turns.clone().acquire_owned())).await
}

impl<'a> Session<'a> {
    fn new(
        exchange: &'a Arc<Exchange>,
        hash: FileHash,
        node: NodeId,
        holding: Arc<Holding>,
        sink: Sink,
    ) -> Self {
        Self {
            exchange,
            hash,
            node,
            holding,
            out: Outbox::new(sink),
            window: Window::default(),
            answered: Instant::now(),
            asked: VecDeque::new(),
            freed: exchange.room.freed(),
            loading: None,
            load: None,
            turn: None,
            queueing: None,
            is_whole: false,
        }
    }

    async fn run(mut self, mut frames: Frames) {
        let (tell, mut told) = mpsc::channel(UNREAD);
        let reading = tokio::spawn(async move {
            while let Ok(Some(frame)) = frames.next().await {
                if tell.send(frame).await.is_err() {
                    return;
                }
            }
        });
        let node = self.node;
        let done = self.talk(&mut told).await;
        (self.turn, self.queueing, self.load) = (None, None, None);
        let done = match done {
            Ok(None) => Ok(()),
            Ok(Some(refusal)) => {
                self.out.add(Frame::Not(refusal).to_bytes());
                self.out.finish().await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::debug!(%node, %error, "a stream for files ended early");
        }
        reading.abort();
    }

    /// Until the peer goes, or there is nothing more to be had here.
    async fn talk(&mut self, told: &mut mpsc::Receiver<Frame>) -> io::Result<Option<Refusal>> {
        let mut news = self.holding.news();
        let (have, mut known) = self.holding.have_now();
        self.out.add(Frame::Has { pieces: have.to_bytes() }.to_bytes());
        let mut tell_at: Option<Instant> = None;
        loop {
            self.load_next();
            self.pass_on();
            let wants_room = self.loading.is_none() && !self.asked.is_empty();
            let may_send = self.out.is_free() && self.load.is_some() && self.window.room() > 0;
            let wants_turn = may_send && self.turn.is_none();
            if !wants_turn {
                // A turn that comes to somebody who does not look is nobody's.
                self.queueing = None;
            }
            let turn_ends = self.turn.as_ref().map(|(_, since)| *since + TURN);
            let gone_at = (self.window.under_way() > 0).then(|| self.answered + STUCK);
            tokio::select! {
                biased;
                frame = told.recv() => {
                    let Some(frame) = frame else { return Ok(None) };
                    self.on_frame(frame);
                }
                sent = self.out.sent() => sent?,
                loaded = wait(&mut self.loading), if self.load.is_none() && self.loading.is_some() => {
                    self.on_loaded(loaded);
                }
                Ok(()) = self.freed.changed(), if wants_room => {}
                Ok(()) = news.changed(), if tell_at.is_none() && !self.is_whole => {
                    news.borrow_and_update();
                    tell_at = Some(Instant::now() + TELL_EVERY);
                }
                () = until(tell_at), if tell_at.is_some() && self.out.is_free() => {
                    tell_at = None;
                    let (pieces, next) = self.holding.since(known);
                    known = next;
                    for some in pieces.chunks(MAX_MORE) {
                        self.out.add(Frame::More { pieces: some.to_vec() }.to_bytes());
                    }
                }
                () = until(gone_at), if gone_at.is_some() => return Err(io::ErrorKind::TimedOut.into()),
                Ok(turn) = next_turn(&mut self.queueing, &self.exchange.turns), if wants_turn => {
                    self.queueing = None;
                    self.turn = Some((turn, Instant::now()));
                }
                // Who takes or tells nothing keeps nobody waiting for longer than a turn.
                () = until(turn_ends), if turn_ends.is_some() && !may_send => {}
                () = std::future::ready(()), if may_send && !wants_turn => self.send_part(),
            }
            if let Some(refusal) = self.holding.refusal() {
                if self.holding.ending().is_some() {
                    self.exchange.on_bad_piece(self.hash);
                }
                return Ok(Some(refusal));
            }
        }
    }

    /// Another may send if this one has nothing to, or has sent for long.
    fn pass_on(&mut self) {
        let is_idle = self.load.is_none() && self.window.under_way() == 0;
        if self.turn.as_ref().is_some_and(|(_, since)| is_idle || since.elapsed() >= TURN) {
            self.turn = None;
        }
    }

    fn on_frame(&mut self, frame: Frame) {
        match frame {
            Frame::Ask { piece } if self.asked.len() < MAX_ASKED => self.asked.push_back(piece),
            Frame::Cancel { piece } => self.asked.retain(|it| *it != piece),
            Frame::Took { bytes, delay_us } => {
                let before = self.window.under_way();
                self.window.on_taken(self.exchange.now(), bytes, delay_us);
                if self.window.under_way() < before {
                    self.answered = Instant::now();
                }
            }
            Frame::Whole if !self.is_whole => {
                self.is_whole = true;
                self.exchange.saw_holder(self.hash, self.node);
            }
            _ => {}
        }
    }

    /// Has the next piece read while this one goes out, once there is room for it.
    fn load_next(&mut self) {
        let (None, Some(piece)) = (&self.loading, self.asked.front().copied()) else { return };
        self.freed.mark_unchanged();
        let kib = self.holding.geometry().len(piece).div_ceil(1 << 10).max(1);
        let Some(room) = self.exchange.room.take_some(self.node, kib) else { return };
        self.asked.pop_front();
        let holding = self.holding.clone();
        let read = move || {
            let (bytes, proof) = holding.piece(piece)?;
            Some(Read { bytes, proof, _room: room })
        };
        self.loading = Some((piece, tokio::task::spawn_blocking(read)));
    }

    fn on_loaded(&mut self, loaded: Loaded) {
        #[cfg(test)]
        let loaded = self.exchange.lie(loaded);
        if let Some((piece, Some(read))) = loaded {
            self.load = Some(Load { piece, read, sent: 0 });
        }
    }

    fn send_part(&mut self) {
        let Some(load) = &mut self.load else { return };
        let read = &mut load.read;
        let end = read.bytes.len().min(load.sent + self.window.part());
        let proof = if load.sent == 0 { std::mem::take(&mut read.proof) } else { Vec::new() };
        let (offset, now) = (u32::try_from(load.sent).unwrap_or(u32::MAX), self.exchange.now());
        let frame = Part::encode(load.piece, offset, now.as_micros(), &proof, &read.bytes[load.sent..end]);
        let count = end - load.sent;
        load.sent = end;
        if load.sent == read.bytes.len() {
            self.load = None;
        }
        if self.window.under_way() == 0 {
            self.answered = Instant::now();
        }
        self.window.on_sent(now, count);
        self.out.add(frame);
        self.exchange.served(count as u64);
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The piece that is being read, once it is.
async fn wait(loading: &mut Option<(u32, Loading)>) -> Loaded {
    let (piece, task) = loading.as_mut()?;
    let (piece, read) = (*piece, task.await.ok().flatten());
    *loading = None;
    Some((piece, read))
}
