//! Who asks for the metrics over HTTP: a listener that is bounded in connections, request size and
//! time, and that no request of anybody makes wait.
//!
//! HTTP/1 as far as scrapers need it (RFC 9112): one request a connection, `GET` or `HEAD`, no body.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::timeout;

use super::source::Source;

/// Connections at a time. A newer one takes the place of the oldest: who asks and reads is done within
/// milliseconds, so it is whoever dawdles that goes. Guess.
const CONNECTIONS: usize = 32;

/// Bytes of a request's head. Scrapers send a few hundred; 8 KiB is what most servers allow.
const MAX_HEAD: usize = 8 << 10;

/// Header fields of a request.
const MAX_FIELDS: usize = 64;

/// How long a request may take to come, and the answer to be made and to go. Prometheus gives up after
/// 10 s, if nobody says otherwise.
const REQUEST: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);

/// What still comes after the answer is read and thrown away for so long and so far: closing with bytes
/// unread would take the answer back (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_millis(500);
const MAX_LINGER: usize = 64 << 10;

/// After an error of the listener: no file is left, say.
const RECOVER: Duration = Duration::from_millis(100);

/// Answers until it is closed.
pub(crate) struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// Listens; nothing is answered before [`Server::open`].
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

impl Server {
    pub(crate) fn open(listener: TcpListener, source: Source) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(accept(listener, Arc::new(source))) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port is free when this returns.
    pub(crate) async fn close(self) {
        self.task.abort();
        // Cancelled, which is what was asked for.
        let _ = self.task.await;
    }
}

async fn accept(listener: TcpListener, source: Arc<Source>) {
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the metrics' port does not accept");
                tokio::time::sleep(RECOVER).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        oldest_first.retain(|it| !it.is_finished());
        if oldest_first.len() >= CONNECTIONS
            && let Some(oldest) = oldest_first.pop_front()
        {
            tracing::debug!("too many ask for metrics: the oldest goes");
            oldest.abort();
        }
        let source = source.clone();
        oldest_first.push_back(connections.spawn(async move {
            if let Err(error) = serve(stream, &source).await {
                tracing::debug!(%error, "a request for metrics ended early");
            }
        }));
    }
}

async fn serve(mut stream: TcpStream, source: &Source) -> io::Result<()> {
    let asked = timeout(REQUEST, read_request(&mut stream)).await.unwrap_or(Ok(Err(Refusal::TooSlow)))?;
    let answer = async {
        let bytes = match asked {
            Ok(asked) => answer(&asked, source).await,
            Err(refusal) => refusal.response().bytes(false),
        };
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    };
    timeout(ANSWER, answer).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    // The answer has gone; how this ends is of no interest.
    let _ = timeout(LINGER, drain(&mut stream)).await;
    Ok(())
}

async fn answer(asked: &Asked, source: &Source) -> Vec<u8> {
    match asked.path {
        Path::Metrics => match source.page().await {
            Ok(page) => {
                Response { kind: METRICS_TYPE, ..Response::new("200 OK", &page) }.bytes(asked.head_only)
            }
            Err(why) => Response::new("503 Service Unavailable", why.text()).bytes(asked.head_only),
        },
        Path::Root => Response::new("200 OK", "treecast: metrics are at /metrics\n").bytes(asked.head_only),
        Path::Other => Response::new("404 Not Found", "metrics are at /metrics\n").bytes(asked.head_only),
    }
}

async fn drain(stream: &mut TcpStream) -> io::Result<()> {
    let (mut rest, mut waste) = (MAX_LINGER, [0; 1_024]);
    while rest > 0 {
        match stream.read(&mut waste).await? {
            0 => break,
            read => rest = rest.saturating_sub(read),
        }
    }
    Ok(())
}

/// A request that is answered.
#[derive(Debug, PartialEq)]
struct Asked {
    path: Path,
    head_only: bool,
}

#[derive(Debug, PartialEq)]
enum Path {
    Metrics,
    Root,
    Other,
}

/// One that is not.
#[derive(Debug, PartialEq)]
enum Refusal {
    NotHttp,
    Method,
    TooLarge,
    TooSlow,
}

impl Refusal {
    fn response(&self) -> Response<'static> {
        match self {
            Self::NotHttp => Response::new("400 Bad Request", "this is no HTTP/1 request\n"),
            Self::Method => Response {
                field: "Allow: GET, HEAD\r\n",
                ..Response::new("405 Method Not Allowed", "only GET and HEAD\n")
            },
            Self::TooLarge => {
                Response::new("431 Request Header Fields Too Large", "the request is too long\n")
            }
            Self::TooSlow => Response::new("408 Request Timeout", "the request took too long\n"),
        }
    }
}

/// Reads the head of a request. An error is a connection that is of no use any more.
async fn read_request(stream: &mut TcpStream) -> io::Result<Result<Asked, Refusal>> {
    let mut head = Vec::with_capacity(1_024);
    loop {
        if let Some(asked) = parse(&head) {
            return Ok(asked);
        }
        if head.len() >= MAX_HEAD {
            return Ok(Err(Refusal::TooLarge));
        }
        let left = (MAX_HEAD - head.len()) as u64;
        if (&mut *stream).take(left).read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// What is asked for, once the head is complete, or surely wrong.
fn parse(head: &[u8]) -> Option<Result<Asked, Refusal>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Some(Err(Refusal::TooLarge)),
        Err(_) => return Some(Err(Refusal::NotHttp)),
    }
    let head_only = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Some(Err(Refusal::Method)),
    };
    let target = request.path.unwrap_or_default();
    let path = match target.split(['?', '#']).next() {
        Some("/metrics") => Path::Metrics,
        Some("/") => Path::Root,
        _ => Path::Other,
    };
    Some(Ok(Asked { path, head_only }))
}

const PLAIN: &str = "text/plain; charset=utf-8";

/// Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// An answer.
struct Response<'a> {
    status: &'static str,
    kind: &'static str,
    /// One more field, with its line's end.
    field: &'static str,
    body: &'a str,
}

impl<'a> Response<'a> {
    fn new(status: &'static str, body: &'a str) -> Self {
        Self { status, kind: PLAIN, field: "", body }
    }

    /// An answer to `HEAD` says how long the body would be (RFC 9110 §9.3.2).
    fn bytes(&self, head_only: bool) -> Vec<u8> {
        let Self { status, kind, field, body } = self;
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             {field}Connection: close\r\n\r\n",
            body.len()
        );
        let mut bytes = head.into_bytes();
        if !head_only {
            bytes.extend_from_slice(body.as_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;
    use crate::handle::Command;

    #[test]
    fn requests_are_read_once_they_are_whole() {
        let head = b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
        for cut in 0..head.len() {
            assert_eq!(parse(&head[..cut]), None, "cut at {cut}");
        }
        assert_eq!(parse(head), Some(Ok(Asked { path: Path::Metrics, head_only: false })));
        let asked = |text: &str| parse(format!("{text} HTTP/1.0\r\n\r\n").as_bytes());
        assert_eq!(asked("HEAD /"), Some(Ok(Asked { path: Path::Root, head_only: true })));
        assert_eq!(asked("GET /metrics/.."), Some(Ok(Asked { path: Path::Other, head_only: false })));
        assert_eq!(asked("POST /metrics"), Some(Err(Refusal::Method)));
        assert_eq!(asked("GET"), Some(Err(Refusal::NotHttp)));
    }

    #[test]
    fn what_is_no_request_is_refused_before_its_end() {
        assert_eq!(parse(b"\x16\x03\x01\x02\x00"), Some(Err(Refusal::NotHttp)), "TLS");
        let fields = "X: y\r\n".repeat(MAX_FIELDS + 1);
        let many = format!("GET /metrics HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(parse(many.as_bytes()), Some(Err(Refusal::TooLarge)));
    }

    async fn get(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        answer
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_loop_that_hangs_is_told_and_shows_as_soon_as_it_turns_again() {
        let scratch = Scratch::new();
        let free: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let here = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
        let builder = crate::Node::builder().data_dir(scratch.path()).mdns(false).kad(false).control(false);
        let node = builder.listen(here).metrics(free).spawn().await.expect("a node");
        let address = node.metrics().expect("it serves them");
        assert!(get(address).await.starts_with("HTTP/1.1 200 "));
        let (go_on, held) = std::sync::mpsc::channel::<()>();
        let hang = Command::Ask(Box::new(move |_| {
            // An error says: go on.
            let _ = held.recv();
        }));
        node.commands.send(hang).expect("it runs");
        let look = timeout(Duration::from_millis(300), node.status()).await;
        assert!(look.is_err(), "what feeds the watchdog gets no answer");
        assert!(get(address).await.starts_with("HTTP/1.1 503 "));
        drop(go_on);
        assert!(get(address).await.starts_with("HTTP/1.1 200 "));
        node.status().await.expect("it answers");
        node.shutdown().await;
        assert!(TcpStream::connect(address).await.is_err(), "the port is free");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn pages_are_never_older_than_the_question() {
        let scratch = Scratch::new();
        let free: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let here = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
        let builder = crate::Node::builder().data_dir(scratch.path()).mdns(false).kad(false).control(false);
        let node = builder.listen(here).metrics(free).spawn().await.expect("a node");
        let address = node.metrics().expect("it serves them");
        let (sender, _events) = node.join("lobby").await.expect("joined");
        for count in 1..=5 {
            sender.publish("x").await.expect("published");
            let line = format!("treecast_messages_published_total{{group=\"lobby\"}} {count}\n");
            let (one, two) = tokio::join!(get(address), get(address));
            assert!(one.contains(&line) && two.contains(&line), "{one}");
        }
        node.shutdown().await;
    }
}
