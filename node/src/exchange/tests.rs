//! Nodes in one process that fetch from each other, and some that lie.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use treecast_overlay::files::Geometry;
use treecast_overlay::files::wire::Part;

use super::serve::Loaded;
use super::*;
use crate::files::tests::Scratch;
use crate::handle::Node;

impl Exchange {
    /// Turns a bit of what was read, if this node lies.
    pub(super) fn lie(&self, loaded: Loaded) -> Loaded {
        let (piece, mut read) = loaded?;
        if self.lies.load(Ordering::Relaxed)
            && let Some(read) = &mut read
            && let Some(last) = read.bytes.last_mut()
        {
            *last ^= 1;
        }
        Some((piece, read))
    }
}

/// Serves a stream in its own way.
pub(super) type Server = Arc<dyn Fn(Stream) + Send + Sync>;

pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn node(dir: &Path, peer: Option<&Node>) -> Node {
    let mut builder = Node::builder().data_dir(dir).mdns(false).kad(false).control(false).group("lobby");
    builder = builder.listen("/ip4/127.0.0.1/tcp/0".parse().expect("an address"));
    if let Some(peer) = peer {
        builder = builder.peer(peer.addresses().await.expect("it runs")[0].clone());
    }
    builder.nick(dir.file_name().expect("a name").to_string_lossy()).spawn().await.expect("it starts")
}

pub(super) async fn nodes(scratch: &Scratch, names: &[&str]) -> Vec<Node> {
    let mut all: Vec<Node> = Vec::new();
    for name in names {
        let made = node(&scratch.path().join(name), all.first()).await;
        all.push(made);
    }
    let deadline = Instant::now() + PATIENCE;
    for node in &all {
        while node.group_view("lobby").await.expect("it is in it").view.members.len() < names.len() {
            assert!(Instant::now() < deadline, "they do not meet");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    all
}

pub(super) fn content(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

pub(super) async fn get(node: &Node, out: PathBuf) -> Result<Got, crate::error::GetError> {
    let get = GetFile { what: "it".to_owned(), out, on_conflict: OnConflict::Resume, wait: false };
    node.get_file(get, |_| ()).await
}

fn held(info: &FileInfo, pieces: u32) -> Held {
    Held { hash: info.offer.hash, pieces, ending: None }
}

pub(super) async fn await_file(node: &Node) {
    let deadline = Instant::now() + PATIENCE;
    while node.files(None).await.expect("it runs").is_empty() {
        assert!(Instant::now() < deadline, "no announcement comes");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_serves_wrong_bytes_is_named_and_nothing_of_them_is_written() {
    let scratch = Scratch::new();
    let all = nodes(&scratch, &["source", "liar", "fibber", "reader"]).await;
    let [source, liar, fibber, reader] = &all[..] else { unreachable!("four nodes") };
    let (path, bytes) = (scratch.path().join("it"), content(5_000_000));
    std::fs::write(&path, &bytes).expect("written");
    source.announce(&path, "lobby").await.expect("announced");
    for node in [liar, fibber] {
        await_file(node).await;
        let out = scratch.path().join(format!("{}-copy", node.nick().await.expect("it runs")));
        get(node, out).await.expect("fetched");
        node.exchange.lies.store(true, Ordering::Relaxed);
    }
    await_file(reader).await;
    let got = get(reader, scratch.path().join("copy")).await.expect("the source is honest");
    assert_eq!(std::fs::read(&got.path).expect("there"), bytes);
    let mut named: Vec<&str> = got.liars.iter().map(|(_, nick)| nick.as_str()).collect();
    named.sort_unstable();
    assert_eq!(named, ["fibber", "liar"]);
    // Without anybody honest nothing comes, and that is said.
    source.drop_file("it").await.expect("it had it");
    reader.drop_file("it").await.expect("it had it");
    let failed = get(reader, scratch.path().join("again")).await;
    assert!(matches!(failed, Err(crate::error::GetError::Liars(names)) if names.len() == 2));
    assert!(!scratch.path().join("again").exists());
    for node in all {
        node.shutdown().await;
    }
}

/// Asks for all of it, says that it came, and reads nothing.
async fn choke(reader: &Node, source: &Node, open: &Frame) -> (Frames, Sink) {
    let (has, frames, mut sink) =
        reader.exchange.first_word(source.id(), open).await.expect("it is a member");
    assert!(matches!(has, Frame::Has { .. }), "{has:?}");
    for piece in 0..200 {
        sink.send(&Frame::Ask { piece }).await.expect("sent");
    }
    for count in 1..400_u64 {
        let took = Frame::Took { bytes: count * (1 << 17), delay_us: 0 };
        // It may have been dropped by now.
        let _ = sink.send(&took).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (frames, sink)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_nothing_keeps_neither_a_turn_nor_a_seat() {
    let scratch = Scratch::new();
    let all = nodes(&scratch, &["source", "one", "two", "reader"]).await;
    let [source, one, two, reader] = &all[..] else { unreachable!("four nodes") };
    let (path, bytes) = (scratch.path().join("it"), content(30_000_000));
    std::fs::write(&path, &bytes).expect("written");
    let info = source.announce(&path, "lobby").await.expect("announced");
    let group = source.group_view("lobby").await.expect("it is in it").view.id;
    await_file(reader).await;
    let open = Frame::Open { group, hash: info.offer.hash };
    let choked = futures::future::join_all([one, two, one, two].map(|it| choke(it, source, &open))).await;
    let room = source.exchange.room.taken();
    assert!((1..=serve::ROOM / 2).contains(&room), "{room} KiB of {}", serve::ROOM);
    let began = Instant::now();
    let got = get(reader, scratch.path().join("copy")).await.expect("the source is there");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(std::fs::read(&got.path).expect("there") == bytes);
    let deadline = Instant::now() + PATIENCE;
    while source.exchange.seats.taken() > 0 || source.exchange.room.taken() > 0 {
        assert!(Instant::now() < deadline, "who takes nothing is dropped");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(choked);
    for node in all {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_cannot_take_all_seats_and_a_crowd_is_heard_all_the_same() {
    let scratch = Scratch::new();
    let all = nodes(&scratch, &["source", "greedy", "reader"]).await;
    let [source, greedy, reader] = &all[..] else { unreachable!("three nodes") };
    let (path, bytes) = (scratch.path().join("it"), content(1_000_000));
    std::fs::write(&path, &bytes).expect("written");
    let info = source.announce(&path, "lobby").await.expect("announced");
    let group = source.group_view("lobby").await.expect("it is in it").view.id;
    await_file(reader).await;
    let open = Frame::Open { group, hash: info.offer.hash };
    let opened = (0..60).map(|_| greedy.exchange.first_word(source.id(), &open));
    let opened = futures::future::join_all(opened).await;
    // Some may have gone with a second connection that was closed: it is counted where they are.
    let seated = source.exchange.seats.taken();
    assert!((1..=serve::SEATS / 8).contains(&seated), "{seated} of {}", serve::SEATS);
    let busy = |it: &&io::Result<(Frame, Frames, Sink)>| matches!(it, Ok((Frame::Not(Refusal::Busy), ..)));
    assert!(opened.iter().filter(busy).count() > 0, "the others are told");
    // Streams that say nothing are at the door, and not in the way of others either.
    let mut silent = Vec::new();
    for _ in 0..60 {
        silent.push(greedy.exchange.open_stream(source.id()).await);
    }
    let asked = (0..20).map(|_| reader.exchange.query(group, source.id()));
    for answer in futures::future::join_all(asked).await {
        assert_eq!(answer, [held(&info, Geometry::new(1_000_000).pieces())]);
    }
    let got = get(reader, scratch.path().join("copy")).await.expect("there are seats");
    assert!(std::fs::read(&got.path).expect("there") == bytes);
    // What is forgotten is not served to those either who have a seat.
    source.drop_file("it").await.expect("it had it");
    let deadline = Instant::now() + PATIENCE;
    while source.exchange.seats.taken() > 0 {
        assert!(Instant::now() < deadline, "it is served no more");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop((opened, silent));
    for node in all {
        node.shutdown().await;
    }
}

/// Serves at `node` what `answer` says to each word, instead of files.
fn serve_instead(node: &Node, answer: impl Fn(Frame) -> Vec<Frame> + Send + Sync + 'static) {
    let answer = Arc::new(answer);
    *lock(&node.exchange.instead) = Some(Arc::new(move |stream| {
        let answer = answer.clone();
        tokio::spawn(async move {
            let (mut frames, mut sink) = stream::split(stream);
            while let Ok(Some(frame)) = frames.next().await {
                for frame in answer(frame) {
                    // The other side may have enough of it.
                    let _ = sink.send(&frame).await;
                }
            }
        });
    }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_member_answers_the_file_comes_or_an_error_says_why_not() {
    let scratch = Scratch::new();
    let all = nodes(&scratch, &["source", "liar", "reader"]).await;
    let [source, liar, reader] = &all[..] else { unreachable!("three nodes") };
    let (path, bytes) = (scratch.path().join("it"), content(1_000_000));
    std::fs::write(&path, &bytes).expect("written");
    source.announce(&path, "lobby").await.expect("announced");
    await_file(reader).await;
    let part = |piece, offset, proof: usize, len: usize| {
        let (proof, bytes) = (vec![[0; 32]; proof], vec![0; len]);
        Frame::Part(Part { piece, offset, stamp_us: u64::MAX, proof, bytes })
    };
    let all_bits = || Frame::Has { pieces: vec![0xff; 100_000] };
    // Has it all and says nothing; pieces that nobody asked for, or beyond the file; proofs of any length; parts
    // that do not fit; the same again and again.
    let answers: Vec<Box<dyn Fn(Frame) -> Vec<Frame> + Send + Sync>> = vec![
        Box::new(move |frame| if let Frame::Open { .. } = frame { vec![all_bits()] } else { vec![] }),
        Box::new(move |frame| match frame {
            Frame::Open { .. } => {
                vec![Frame::Has { pieces: vec![] }, Frame::More { pieces: vec![u32::MAX; 4_096] }]
            }
            Frame::Took { .. } => vec![],
            _ => vec![all_bits(), part(u32::MAX, 0, 0, 65_536), part(3, 7, 4, 9)],
        }),
        Box::new(move |frame| match frame {
            Frame::Open { .. } => vec![all_bits()],
            Frame::Ask { piece } => (0..300).map(|at| part(piece, at * 65_536, 2_000, 60)).collect(),
            _ => vec![],
        }),
        Box::new(move |frame| match frame {
            Frame::Open { .. } => vec![all_bits()],
            Frame::Ask { piece } => vec![part(piece, 0, 1_900, 65_536), part(piece, 65_536, 0, 65_536)],
            _ => vec![all_bits(); 3],
        }),
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        serve_instead(liar, answer);
        let got = get(reader, scratch.path().join(format!("copy{number}"))).await.expect("the source has it");
        assert!(std::fs::read(&got.path).expect("there") == bytes, "{number}");
        reader.drop_file("it").await.expect("it had it");
    }
    // Alone it is found out, in time that somebody waits.
    source.drop_file("it").await.expect("it had it");
    serve_instead(liar, move |frame| if let Frame::Open { .. } = frame { vec![all_bits()] } else { vec![] });
    let began = Instant::now();
    let failed = get(reader, scratch.path().join("never")).await;
    assert!(matches!(failed, Err(crate::error::GetError::NobodyHas { .. })), "{failed:?}");
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    for node in all {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_member_gets_nothing() {
    let scratch = Scratch::new();
    let all = nodes(&scratch, &["source", "reader"]).await;
    let [source, reader] = &all[..] else { unreachable!("two nodes") };
    let path = scratch.path().join("it");
    std::fs::write(&path, content(1_000)).expect("written");
    let info = source.announce(&path, "lobby").await.expect("announced");
    let group = source.group_view("lobby").await.expect("it is in it").view.id;
    assert_eq!(reader.exchange.query(group, source.id()).await, [held(&info, 1)]);
    let other = GroupId::from_bytes([9; 32]);
    assert_eq!(reader.exchange.query(other, source.id()).await, []);
    assert!(!source.exchange.is_offered(other, info.offer.hash).await);
    reader.leave("lobby").await.expect("left");
    let deadline = Instant::now() + PATIENCE;
    while source.exchange.may_fetch(group, reader.id()).await {
        assert!(Instant::now() < deadline, "a leave is heard of");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(reader.exchange.query(group, source.id()).await, []);
    for node in all {
        node.shutdown().await;
    }
}
