//! Frames on a stream: an unsigned varint (multiformats) with the length, then the bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures::{AsyncRead, AsyncWrite};

use crate::wire::MAX_FRAME;

/// Bytes gathered for one write, and read at once. Yamux cuts writes at 16 KiB and flushes
/// each, so more would bring nothing and less would cost system calls.
const CHUNK: usize = 16 << 10;

/// Bytes of the prefix of a frame of [`MAX_FRAME`] bytes.
const LONGEST_PREFIX: usize = 3;

/// What is set aside for a frame before any of it beyond the chunk has come: a length prefix
/// alone must not cost a megabyte.
const FIRST_ALLOCATION: usize = 128 << 10;

/// Bytes of frames handed to the behaviour at once.
const READ_BUDGET: usize = 64 << 10;

/// Frames handed to the behaviour at once (checked once a chunk).
const READ_FRAMES: usize = 256;

/// Why a stream of frames ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("a frame of more than {MAX_FRAME} bytes was announced")]
    TooLong,
    #[error("an empty frame or a length not in its shortest form")]
    BadLength,
    #[error("the stream ended inside a frame")]
    Truncated,
    #[error("the stream ended")]
    Ended,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads a length prefix: the length and the bytes it took, or `None` if it goes on.
fn read_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, ReadError> {
    let mut length = 0;
    for (i, byte) in bytes.iter().enumerate().take(4) {
        length |= usize::from(byte & 0x7f) << (7 * i);
        if length > MAX_FRAME {
            return Err(ReadError::TooLong);
        }
        if byte & 0x80 == 0 {
            // A last byte of zero: an empty frame, or an overlong form.
            return if *byte == 0 { Err(ReadError::BadLength) } else { Ok(Some((length, i + 1))) };
        }
    }
    // MAX_FRAME needs three bytes; a fourth could only add to it, or be overlong.
    if bytes.len() >= 4 { Err(ReadError::TooLong) } else { Ok(None) }
}

fn write_length(mut length: usize, to: &mut Vec<u8>) {
    while length >= 0x80 {
        to.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    to.push(length as u8);
}

/// Cuts one lane's incoming bytes into frames.
///
/// Every frame gets a buffer of its own size: what the core keeps of one pins nothing of its
/// neighbours. Large ones are read straight into it but for the part that came with the chunk.
pub(super) struct Reader {
    chunk: Box<[u8]>,
    start: usize,
    end: usize,
    large: Option<Large>,
}

struct Large {
    buffer: BytesMut,
    filled: usize,
    length: usize,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { chunk: vec![0; CHUNK].into_boxed_slice(), start: 0, end: 0, large: None }
    }

    /// Adds whole frames to `frames` until there are enough for one round or the stream has
    /// no more. `Ready(Ok)` if any came.
    pub(super) fn poll_frames<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut R,
        frames: &mut Vec<Bytes>,
    ) -> Poll<Result<(), ReadError>> {
        let mut bytes = 0;
        loop {
            match self.split(frames) {
                Ok(()) => {}
                // What came whole before an error counts; the error comes again.
                Err(_) if !frames.is_empty() => break,
                Err(error) => return Poll::Ready(Err(error)),
            }
            if !frames.is_empty() && (bytes >= READ_BUDGET || frames.len() >= READ_FRAMES) {
                break;
            }
            match self.poll_fill(cx, stream) {
                Poll::Ready(Ok(read)) => bytes += read,
                Poll::Ready(Err(_)) | Poll::Pending if !frames.is_empty() => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut R,
    ) -> Poll<Result<usize, ReadError>> {
        let between_frames = self.large.is_none() && self.start == self.end;
        let room = match &mut self.large {
            Some(large) => large.room(),
            None => {
                self.chunk.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
                &mut self.chunk[self.end..]
            }
        };
        let read = ready!(Pin::new(stream).poll_read(cx, room))?;
        if read == 0 {
            let error = if between_frames { ReadError::Ended } else { ReadError::Truncated };
            return Poll::Ready(Err(error));
        }
        match &mut self.large {
            Some(large) => large.filled += read,
            None => self.end += read,
        }
        Poll::Ready(Ok(read))
    }

    fn split(&mut self, frames: &mut Vec<Bytes>) -> Result<(), ReadError> {
        if self.large.as_ref().is_some_and(|large| large.filled == large.length) {
            let large = self.large.take().expect("looked at above");
            frames.push(large.buffer.freeze());
        }
        while self.large.is_none()
            && let Some((length, prefix)) = read_length(&self.chunk[self.start..self.end])?
        {
            self.start += prefix;
            let here = length.min(self.end - self.start);
            let bytes = &self.chunk[self.start..self.start + here];
            if here == length {
                frames.push(Bytes::copy_from_slice(bytes));
            } else {
                self.large = Some(Large::new(bytes, length));
            }
            self.start += here;
        }
        Ok(())
    }
}

impl Large {
    fn new(begun: &[u8], length: usize) -> Self {
        let mut buffer = BytesMut::zeroed(length.min(FIRST_ALLOCATION));
        buffer[..begun.len()].copy_from_slice(begun);
        Self { buffer, filled: begun.len(), length }
    }

    /// What is still to be read, as far as memory was set aside: that doubles as it fills.
    fn room(&mut self) -> &mut [u8] {
        if self.filled == self.buffer.len() {
            let size = self.length.min(self.filled * 2);
            self.buffer.resize(size, 0);
        }
        &mut self.buffer[self.filled..]
    }
}

/// How a round of writing ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Nothing waits, and all is flushed.
    All,
    /// The budget is used up; call again.
    Budget,
}

/// Puts one lane's frames on its stream: small ones gathered into one write, large ones
/// written from where they lie but for what fills up the chunk.
pub(super) struct Writer {
    chunk: Vec<u8>,
    at: usize,
    /// The rest of the frame that did not fit the chunk, and that frame's length.
    rest: Bytes,
    rest_of: usize,
    /// Lengths of the frames that end in the chunk.
    ending: usize,
    unflushed: bool,
}

impl Writer {
    /// A writer whose stream begins with `lane`, the byte that names it.
    pub(super) fn new(lane: u8) -> Self {
        Self { chunk: vec![lane], at: 0, rest: Bytes::new(), rest_of: 0, ending: 0, unflushed: false }
    }

    /// Writes until `source` is empty or the budget is used up. `source` gives frames as long as
    /// it is answered `true`; `written` is told the lengths of frames that have left.
    pub(super) fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut W,
        mut budget: usize,
        source: impl Fn(&mut dyn FnMut(Bytes) -> bool),
        written: impl Fn(usize),
    ) -> Poll<io::Result<Written>> {
        loop {
            let bytes = match self.next_bytes(&source) {
                [] => break,
                _ if budget == 0 => return Poll::Ready(Ok(Written::Budget)),
                bytes => bytes,
            };
            let n = ready!(Pin::new(&mut *stream).poll_write(cx, bytes))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            budget = budget.saturating_sub(n);
            self.unflushed = true;
            written(self.advance(n));
        }
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(Written::All))
    }

    /// What to write now.
    fn next_bytes(&mut self, source: impl Fn(&mut dyn FnMut(Bytes) -> bool)) -> &[u8] {
        if self.at == self.chunk.len() && self.rest.len() < CHUNK {
            self.chunk.clear();
            self.at = 0;
            self.gather(source);
        }
        if self.at < self.chunk.len() { &self.chunk[self.at..] } else { &self.rest }
    }

    /// Fills the empty chunk.
    fn gather(&mut self, source: impl Fn(&mut dyn FnMut(Bytes) -> bool)) {
        self.put_rest();
        if self.chunk.len() + LONGEST_PREFIX >= CHUNK {
            return;
        }
        source(&mut |frame| {
            write_length(frame.len(), &mut self.chunk);
            self.rest_of = frame.len();
            self.rest = frame;
            self.put_rest();
            self.chunk.len() + LONGEST_PREFIX < CHUNK
        });
    }

    fn put_rest(&mut self) {
        if self.rest_of == 0 {
            return;
        }
        let n = self.rest.len().min(CHUNK.saturating_sub(self.chunk.len()));
        self.chunk.extend_from_slice(&self.rest[..n]);
        self.rest.advance(n);
        if self.rest.is_empty() {
            self.ending += std::mem::take(&mut self.rest_of);
            self.rest = Bytes::new();
        }
    }

    /// Counts `n` written bytes off; the lengths of the frames whose last byte was among them.
    fn advance(&mut self, n: usize) -> usize {
        if self.at < self.chunk.len() {
            self.at += n;
            return if self.at == self.chunk.len() { std::mem::take(&mut self.ending) } else { 0 };
        }
        self.rest.advance(n);
        if self.rest.is_empty() { std::mem::take(&mut self.rest_of) } else { 0 }
    }
}

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
