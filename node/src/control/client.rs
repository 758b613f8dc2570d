//! The client's side of the control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::protocol::{Feed, Line, MAX_LINE, Request};
use super::{socket, socket_path};
use crate::failure::{Failure, exit};

/// How long a node may take to greet.
const GREETING: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("no treecast node runs for {}", .data_dir.display())]
    NoNode {
        /// Whose node was looked for.
        data_dir: PathBuf,
    },
    /// The socket belongs to somebody else, or its path is too long.
    #[error("the control socket {} cannot be opened: {source}", .path.display())]
    Unusable {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The node went away before it had answered.
    #[error("the node went away")]
    Gone,
    /// What came is no line of this protocol.
    #[error("the node's answer makes no sense: {0}")]
    Malformed(String),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::NoNode { data_dir } => Self::new(
                "no-node",
                exit::NO_NODE,
                "No treecast node runs for this data directory.",
                format!("Nothing answers on {}.", socket_path(&data_dir).display()),
                "Start one with `treecast up`.",
            ),
            ClientError::Unusable { path, source } => Self::new(
                "socket-unusable",
                exit::NO_NODE,
                "The node's control socket cannot be opened.",
                format!("{}: {source}.", path.display()),
                "Run as the user who owns the data directory, or choose another with `--data-dir`.",
            ),
            ClientError::Gone => Self::new(
                "node-gone",
                exit::NO_NODE,
                "The node went away before it had answered.",
                "It was stopped, or it crashed.",
                "Start it again with `treecast up`.",
            ),
            ClientError::Malformed(what) => Self::new(
                "bad-answer",
                exit::BUG,
                "The node's answer cannot be read.",
                format!("{what}."),
                "Stop the node with `treecast down` and start it with the same version as this command.",
            ),
        }
    }
}

/// A connection to the node that runs for a data directory.
#[derive(Debug)]
pub struct Client {
    reader: ClientReader,
    writer: ClientWriter,
}

/// The half that receives.
#[derive(Debug)]
pub struct ClientReader {
    inner: BufReader<OwnedReadHalf>,
    line: Vec<u8>,
    /// Who answers: `(node, version, pid)`.
    hello: (String, String, u32),
}

/// The half that sends.
#[derive(Debug)]
pub struct ClientWriter {
    inner: OwnedWriteHalf,
}

impl Client {
    /// Connects and reads the greeting.
    ///
    /// # Errors
    /// [`ClientError::NoNode`] if nobody listens, [`ClientError::Gone`] if it does not greet.
    pub async fn connect(data_dir: &Path) -> Result<Self, ClientError> {
        let path = socket_path(data_dir);
        let stream = socket::connect(data_dir).await.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoNode { data_dir: data_dir.to_owned() }
            }
            _ => ClientError::Unusable { path: path.clone(), source },
        })?;
        let (read, write) = stream.into_split();
        let mut reader =
            ClientReader { inner: BufReader::new(read), line: Vec::new(), hello: Default::default() };
        let greeting =
            tokio::time::timeout(GREETING, reader.next()).await.map_err(|_| ClientError::Gone)??;
        match greeting {
            Line::Hello { node, version, pid } => reader.hello = (node, version, pid),
            other => return Err(ClientError::Malformed(format!("expected a greeting, got {other:?}"))),
        }
        Ok(Self { reader, writer: ClientWriter { inner: write } })
    }

    /// Connects and asks.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn ask(data_dir: &Path, request: &Request) -> Result<Self, ClientError> {
        let mut client = Self::connect(data_dir).await?;
        client.request(request).await?;
        Ok(client)
    }

    /// The node that answers.
    pub fn node(&self) -> &str {
        &self.reader.hello.0
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.reader.hello.1
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.reader.hello.2
    }

    /// Sends the connection's one request.
    ///
    /// # Errors
    /// When the node went away.
    pub async fn request(&mut self, request: &Request) -> Result<(), ClientError> {
        self.writer.send(request).await
    }

    /// One message (or the end) for `pub`.
    ///
    /// # Errors
    /// [`ClientError::Gone`] when nobody takes it: the node went away, or has ended the request
    /// already. Which of them is what [`Client::next`] says, so go on reading.
    pub async fn feed(&mut self, feed: &Feed) -> Result<(), ClientError> {
        self.writer.feed(feed).await
    }

    /// The next line. [`Line::Done`] and [`Line::Error`] are the last ones.
    ///
    /// # Errors
    /// [`ClientError::Gone`] if the node ends without one.
    pub async fn next(&mut self) -> Result<Line, ClientError> {
        self.reader.next().await
    }

    /// Both halves, for sending and receiving at the same time.
    pub fn split(self) -> (ClientReader, ClientWriter) {
        (self.reader, self.writer)
    }
}

impl ClientReader {
    /// See [`Client::next`]. Not to be dropped half-way: what was read of a line stays for
    /// the next call, so it may be.
    ///
    /// # Errors
    /// As [`Client::next`].
    pub async fn next(&mut self) -> Result<Line, ClientError> {
        let room = (MAX_LINE + 1).saturating_sub(self.line.len()) as u64;
        let mut limited = (&mut self.inner).take(room);
        // `read_until` appends to the buffer as it goes, so a call that is dropped loses nothing.
        limited.read_until(b'\n', &mut self.line).await.map_err(|_| ClientError::Gone)?;
        if self.line.last() != Some(&b'\n') {
            return Err(if self.line.len() > MAX_LINE {
                ClientError::Malformed("a line is too long".to_owned())
            } else {
                ClientError::Gone
            });
        }
        let line =
            serde_json::from_slice(&self.line).map_err(|error| ClientError::Malformed(error.to_string()));
        self.line.clear();
        line
    }
}

impl ClientWriter {
    /// See [`Client::feed`].
    ///
    /// # Errors
    /// As there.
    pub async fn feed(&mut self, feed: &Feed) -> Result<(), ClientError> {
        self.send(feed).await
    }

    async fn send(&mut self, value: &impl serde::Serialize) -> Result<(), ClientError> {
        let mut bytes =
            serde_json::to_vec(value).map_err(|error| ClientError::Malformed(error.to_string()))?;
        bytes.push(b'\n');
        self.inner.write_all(&bytes).await.map_err(|_| ClientError::Gone)
    }
}
