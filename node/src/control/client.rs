//! The client's side of the control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::protocol::{Feed, Line, MAX_LINE, Request};
use super::{socket, socket_path};
use crate::failure::{Failure, exit};
use crate::lock::holder;

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
    /// A node holds the data directory and says nothing: it is stopped, or it hangs.
    #[error("the node that runs does not answer")]
    Silent {
        /// Its process, if it has said so.
        pid: Option<u32>,
        /// How long was waited.
        waited: Duration,
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
            ClientError::NoNode { data_dir } if holder(&data_dir).is_ok_and(|held| held.is_some()) => {
                Self::new(
                    "no-node",
                    exit::NO_NODE,
                    "The treecast node of this data directory cannot be asked.",
                    format!(
                        "{} holds it, but nothing answers on {}: it is starting or ending.",
                        process(&data_dir),
                        socket_path(&data_dir).display()
                    ),
                    "Try again in a moment; `treecast doctor` says more if it stays so.",
                )
            }
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
            ClientError::Silent { pid, waited } => {
                let who = pid.map_or_else(|| "Its process".to_owned(), |pid| format!("Process {pid}"));
                let pid = pid.map_or_else(|| "PID".to_owned(), |pid| pid.to_string());
                Self::new(
                    "node-silent",
                    exit::TIMEOUT,
                    "The node that runs does not answer.",
                    format!(
                        "{who} has said nothing for {} s: it is stopped (Ctrl-Z does that), or it hangs.",
                        waited.as_secs()
                    ),
                    format!(
                        "Let it go on with `kill -CONT {pid}`; if that is not it, end it with `kill -9 {pid}`: nothing that was acknowledged is lost."
                    ),
                )
            }
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

/// Who holds the data directory, as a sentence begins.
fn process(data_dir: &Path) -> String {
    let pid = holder(data_dir).ok().flatten().flatten();
    pid.map_or_else(|| "A process".to_owned(), |pid| format!("Process {pid}"))
}

fn silent(data_dir: &Path) -> ClientError {
    ClientError::Silent { pid: holder(data_dir).ok().flatten().flatten(), waited: GREETING }
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
    /// [`ClientError::NoNode`] if nobody listens, [`ClientError::Silent`] if it does not greet
    /// within 5 s.
    pub async fn connect(data_dir: &Path) -> Result<Self, ClientError> {
        let greeted = tokio::time::timeout(GREETING, Self::be_greeted(data_dir)).await;
        greeted.unwrap_or_else(|_| Err(silent(data_dir)))
    }

    async fn be_greeted(data_dir: &Path) -> Result<Self, ClientError> {
        let stream = socket::connect(data_dir).await.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoNode { data_dir: data_dir.to_owned() }
            }
            // Those who came before fill the queue, and nobody takes them out.
            io::ErrorKind::WouldBlock => silent(data_dir),
            _ => ClientError::Unusable { path: socket_path(data_dir), source },
        })?;
        let (read, write) = stream.into_split();
        let mut reader =
            ClientReader { inner: BufReader::new(read), line: Vec::new(), hello: Default::default() };
        match reader.next().await? {
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

    /// As [`Client::next`], but not for longer than `patience`.
    ///
    /// # Errors
    /// As there; [`ClientError::Silent`] when the time is over.
    pub async fn next_within(&mut self, patience: Duration) -> Result<Line, ClientError> {
        let pid = Some(self.pid());
        let next = tokio::time::timeout(patience, self.next()).await;
        next.unwrap_or(Err(ClientError::Silent { pid, waited: patience }))
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
