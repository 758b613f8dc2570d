//! Frames over a stream.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use futures::io::{BufReader, ReadHalf, WriteHalf};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use treecast_overlay::files::wire::{Frame, MAX_FRAME};

/// Bytes that are read at once.
const GATHER: usize = 64 << 10;

/// A peer that takes nothing for so long is gone.
pub(super) const STUCK: Duration = Duration::from_secs(if cfg!(test) { 3 } else { 30 });

/// What comes.
pub(super) struct Frames(BufReader<ReadHalf<Stream>>);

/// What goes.
pub(super) struct Sink(WriteHalf<Stream>);

pub(super) fn split(stream: Stream) -> (Frames, Sink) {
    let (read, write) = stream.split();
    (Frames(BufReader::with_capacity(GATHER, read)), Sink(write))
}

impl Frames {
    /// The next frame that is understood; `None` at the end. Not to be dropped half-way.
    pub(super) async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let mut length = [0; 4];
            match self.0.read_exact(&mut length).await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            }
            let length = u32::from_be_bytes(length) as usize;
            if length > MAX_FRAME {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
            }
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).await?;
            let frame = Frame::from_bytes(&body);
            if let Some(frame) = frame.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
                return Ok(Some(frame));
            }
        }
    }
}

impl Sink {
    /// Of a stream from which nothing is read.
    pub(super) fn new(stream: Stream) -> Self {
        Self(stream.split().1)
    }

    /// Sends a frame: it is in the muxer's hands when this returns.
    pub(super) async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.send_bytes(&frame.to_bytes()).await
    }

    /// Sends a frame that is encoded already.
    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sending = async {
            self.0.write_all(bytes).await?;
            self.0.flush().await
        };
        tokio::time::timeout(STUCK, sending).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }

    /// No more will come.
    pub(super) async fn close(&mut self) {
        // The other side may have gone.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.0.close()).await;
    }
}

/// A frame on its way into the muxer.
type Writing = Pin<Box<dyn Future<Output = (Sink, io::Result<()>)> + Send>>;

/// What goes, one frame at a time, beside all else that a task waits for.
pub(super) struct Outbox {
    /// Nothing is on its way.
    idle: Option<Sink>,
    writing: Option<Writing>,
    waiting: VecDeque<Vec<u8>>,
}

impl Outbox {
    pub(super) fn new(sink: Sink) -> Self {
        Self { idle: Some(sink), writing: None, waiting: VecDeque::new() }
    }

    /// Whether nothing is on its way: what is added now goes out at once. Whoever adds more than a few frames waits
    /// for it.
    pub(super) fn is_free(&self) -> bool {
        self.idle.is_some()
    }

    pub(super) fn add(&mut self, bytes: Vec<u8>) {
        self.waiting.push_back(bytes);
        self.begin();
    }

    fn begin(&mut self) {
        if !self.waiting.is_empty()
            && let Some(mut sink) = self.idle.take()
            && let Some(bytes) = self.waiting.pop_front()
        {
            self.writing = Some(Box::pin(async move {
                let sent = sink.send_bytes(&bytes).await;
                (sink, sent)
            }));
        }
    }

    /// Once a frame is in the muxer's hands; never if none is on its way. May be dropped half-way.
    pub(super) async fn sent(&mut self) -> io::Result<()> {
        let Some(writing) = &mut self.writing else { return std::future::pending().await };
        let (sink, sent) = writing.await;
        (self.writing, self.idle) = (None, Some(sink));
        sent?;
        self.begin();
        Ok(())
    }

    /// All that was added goes out, and no more will come.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        while !self.is_free() {
            self.sent().await?;
        }
        if let Some(sink) = &mut self.idle {
            sink.close().await;
        }
        Ok(())
    }
}
