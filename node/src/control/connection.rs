//! Both directions of one control connection, line by line.

use std::io;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::protocol::{Line, MAX_LINE};
use crate::failure::{Failure, exit};

/// Bytes gathered before they are written.
const GATHER: usize = 64 << 10;

/// What a client sends.
pub(super) struct Incoming {
    inner: BufReader<OwnedReadHalf>,
    line: Vec<u8>,
}

/// What a client is sent.
pub(super) struct Outgoing {
    inner: OwnedWriteHalf,
    gathered: Vec<u8>,
}

pub(super) fn split(stream: UnixStream) -> (Incoming, Outgoing) {
    let (read, write) = stream.into_split();
    let incoming = Incoming { inner: BufReader::with_capacity(GATHER, read), line: Vec::new() };
    (incoming, Outgoing { inner: write, gathered: Vec::new() })
}

impl Incoming {
    /// The next line; `None` at the end. A call that is dropped loses nothing.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<Result<T, Failure>>> {
        let room = (MAX_LINE + 1).saturating_sub(self.line.len()) as u64;
        (&mut self.inner).take(room).read_until(b'\n', &mut self.line).await?;
        if self.line.len() > MAX_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
        }
        if self.line.is_empty() {
            return Ok(None);
        }
        let read = serde_json::from_slice(&self.line).map_err(|error| bad_line(&error));
        self.line.clear();
        Ok(Some(read))
    }

    /// Returns when the client has closed. What it sends until then is ignored.
    pub(super) async fn closed(&mut self) {
        loop {
            match self.inner.fill_buf().await {
                Ok([]) | Err(_) => return,
                Ok(bytes) => {
                    let read = bytes.len();
                    self.inner.consume(read);
                }
            }
        }
    }
}

fn bad_line(error: &serde_json::Error) -> Failure {
    Failure::new(
        "bad-request",
        exit::USAGE,
        "The request was not understood.",
        format!("{error}."),
        "Use a `treecast` of the node's version.",
    )
}

impl Outgoing {
    /// Writes the line at once.
    pub(super) async fn send(&mut self, line: &Line) -> io::Result<()> {
        self.gather(line).await?;
        self.flush().await
    }

    /// Writes the line with the next flush, or before that if much has gathered.
    pub(super) async fn gather(&mut self, line: &Line) -> io::Result<()> {
        self.gathered.extend_from_slice(&line.to_line());
        if self.gathered.len() >= GATHER { self.flush().await } else { Ok(()) }
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.inner.write_all(&self.gathered).await?;
        self.gathered.clear();
        Ok(())
    }

    /// The last line.
    pub(super) async fn end(&mut self, result: Result<u8, Failure>) -> io::Result<()> {
        match result {
            Ok(exit) => self.send(&Line::Done { exit }).await,
            Err(failure) => self.send(&Line::Error(failure)).await,
        }
    }
}
