//! Commands through the control socket.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use treecast_node::control::protocol::{Feed, Line, Place, Request, Start, Wait};
use treecast_node::control::{Client, ClientError, socket_path};
use treecast_node::{Failure, Node, wait_released};

const PATIENCE: Duration = Duration::from_secs(20);

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("treecast-control-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn start(dir: &Path, peer: Option<&Node>) -> Node {
    let mut builder =
        Node::builder().data_dir(dir).mdns(false).listen("/ip4/127.0.0.1/tcp/0".parse().expect("good"));
    if let Some(peer) = peer {
        builder = builder.peer(peer.addresses().await.expect("it runs").remove(0));
    }
    builder.spawn().await.expect("starts")
}

/// All lines up to the last, and that.
async fn ask(dir: &Path, request: Request) -> (Vec<Line>, Result<u8, Failure>) {
    let mut client = Client::ask(dir, &request).await.expect("a node answers");
    let mut lines = Vec::new();
    loop {
        match tokio::time::timeout(PATIENCE, client.next()).await.expect("in time").expect("the node stays") {
            Line::Done { exit } => return (lines, Ok(exit)),
            Line::Error(failure) => return (lines, Err(failure)),
            line => lines.push(line),
        }
    }
}

async fn publish(
    dir: &Path,
    wait: Wait,
    timeout_ms: Option<u64>,
    texts: &[&str],
) -> (Vec<Line>, Result<u8, Failure>) {
    let request = Request::Pub { group: "lobby".into(), wait, timeout_ms, follow: false };
    let mut client = Client::ask(dir, &request).await.expect("a node answers");
    let feeds = texts.iter().map(|text| Feed::Text((*text).to_owned())).chain([Feed::End(true)]);
    for feed in feeds {
        // A request that is refused takes no more: its last line says why.
        if client.feed(&feed).await.is_err() {
            break;
        }
    }
    let mut lines = Vec::new();
    loop {
        match tokio::time::timeout(PATIENCE, client.next()).await.expect("in time").expect("the node stays") {
            Line::Done { exit } => return (lines, Ok(exit)),
            Line::Error(failure) => return (lines, Err(failure)),
            line => lines.push(line),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lonely_node_answers_and_stops_when_told() {
    let scratch = Scratch::new("alone");
    let dir = scratch.0.as_path();
    assert!(matches!(Client::connect(dir).await, Err(ClientError::NoNode { .. })));
    let node = start(dir, None).await;
    let mode = std::fs::metadata(socket_path(dir)).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let (lines, end) = ask(dir, Request::Status).await;
    assert_eq!(end, Ok(0));
    assert!(
        matches!(&lines[..], [Line::Status(status)] if status.node == node.id().to_string() && status.peers == 0)
    );
    let (lines, _) = ask(dir, Request::Nick { name: "ada".into() }).await;
    assert!(matches!(&lines[..], [Line::Id { nick, .. }] if nick == "ada"));
    let (_, end) = ask(dir, Request::Nick { name: "a\nb".into() }).await;
    assert_eq!(end.expect_err("refused").exit, 2);
    let (_, end) = ask(dir, Request::GroupShow { group: "nowhere".into() }).await;
    assert_eq!(end.expect_err("unknown").exit, 5);
    let (_, end) = ask(dir, Request::Ping { node: "nobody".into(), count: 1 }).await;
    assert_eq!(end.expect_err("unknown").exit, 5);
    let (lines, end) = publish(dir, Wait::Stored, None, &["x"]).await;
    assert_eq!(end, Ok(0));
    assert!(matches!(&lines[..], [Line::Receipt { have: 0, of: 0, .. }]), "{lines:?}");
    let history = Request::History { group: "lobby".into(), limit: None, since: None, before: None };
    let (lines, end) = ask(dir, history).await;
    assert_eq!(end, Ok(0));
    assert!(matches!(&lines[..], [Line::Message(it)] if it.text.as_deref() == Some("x")), "{lines:?}");
    let (_, end) = publish(dir, Wait::Sent, Some(300), &["nobody hears"]).await;
    assert_eq!(end.expect_err("nobody is there").exit, 4);

    let (_, end) = ask(dir, Request::Down).await;
    assert_eq!(end, Ok(0));
    assert!(wait_released(dir, PATIENCE).await);
    assert!(!socket_path(dir).exists());
    let again = start(dir, None).await;
    assert_eq!(again.id(), node.id());
    assert_eq!(again.nick().await.expect("it runs"), "ada");
    let groups = again.groups().await.expect("it runs");
    assert_eq!(groups.iter().map(|info| info.label.as_str()).collect::<Vec<_>>(), ["lobby"], "kept");
    again.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_publishes_the_other_is_told() {
    let scratch = Scratch::new("pair");
    let (one, two) = (scratch.0.join("one"), scratch.0.join("two"));
    let node_one = start(&one, None).await;
    let node_two = start(&two, Some(&node_one)).await;
    let mut sub = Client::ask(
        &two,
        &Request::Sub { group: "lobby".into(), verbose: false, since: Start::Now, tentative: false },
    )
    .await
    .expect("answers");
    assert!(matches!(sub.next().await, Ok(Line::Joined { group, .. }) if group == "lobby"));

    let texts: Vec<String> = (0..2_000).map(|number| format!("line {number}")).collect();
    let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (lines, end) = publish(&one, Wait::All, Some(15_000), &refs).await;
    assert_eq!(end, Ok(0), "{:?}", lines.last());
    let places: Vec<(u64, u32)> = lines
        .iter()
        .map(|line| match line {
            Line::Receipt { seq, n, have: 1, of: 1, .. } => (*seq, *n),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(places.len(), texts.len());
    assert!(places.is_sorted(), "receipts come in order");

    let mut heard = Vec::new();
    while heard.len() < texts.len() {
        let line =
            tokio::time::timeout(PATIENCE, sub.next()).await.expect("in time").expect("the node stays");
        if let Line::Message(message) = line {
            heard.push(message.text.expect("it is text"));
        }
    }
    assert_eq!(heard, texts);

    let (lines, _) = ask(&one, Request::GroupShow { group: "lobby".into() }).await;
    assert!(matches!(&lines[..], [Line::Group(group)] if group.state == "ready"), "{lines:?}");
    let (lines, _) = ask(&one, Request::Tree { group: "lobby".into(), watch: false }).await;
    assert!(matches!(lines.first(), Some(Line::Tree(_))), "{lines:?}");
    let (lines, end) = ask(&one, Request::Ping { node: node_two.id().to_string(), count: 1 }).await;
    assert_eq!(end, Ok(0));
    assert!(matches!(&lines[..], [Line::Ping { transport, direct: true, .. }] if transport == "tcp"));
    let (lines, end) = ask(&one, Request::Ping { node: node_one.id().to_string(), count: 1 }).await;
    assert_eq!(end, Ok(0));
    assert!(matches!(&lines[..], [Line::Ping { rtt_ms: 0.0, transport, .. }] if transport == "local"));

    node_two.shutdown().await;
    loop {
        match tokio::time::timeout(PATIENCE, sub.next()).await.expect("in time") {
            Ok(Line::Error(failure)) => break assert_eq!(failure.exit, 3),
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
    node_one.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_and_has_it_by_now_lacks_it_no_more() {
    let scratch = Scratch::new("away");
    let (one, two, three) = (scratch.0.join("one"), scratch.0.join("two"), scratch.0.join("three"));
    let node_one = start(&one, None).await;
    let node_two = start(&two, Some(&node_one)).await;
    let node_three = start(&three, Some(&node_one)).await;
    for dir in [&one, &two, &three] {
        let (_, end) = ask(dir, Request::GroupJoin { group: "lobby".into() }).await;
        assert_eq!(end, Ok(0));
    }
    let (_, end) = publish(&one, Wait::Members(2), None, &["all are here"]).await;
    assert_eq!(end, Ok(0));
    node_three.shutdown().await;

    let (lines, end) = publish(&one, Wait::All, None, &["one is away"]).await;
    assert_eq!(end, Ok(0));
    let Some(&Line::Receipt { life, seq, of: 1, .. }) = lines.first() else { panic!("{lines:?}") };
    let lacking = || ask(&one, Request::Lacking { group: "lobby".into(), life, seq });
    let (lines, _) = lacking().await;
    assert!(matches!(&lines[..], [Line::Lacking { members }] if members[0].state == "offline"), "{lines:?}");

    // Nobody says anything that it could have seen.
    let node_three = start(&three, Some(&node_one)).await;
    let began = std::time::Instant::now();
    loop {
        let (lines, _) = lacking().await;
        if matches!(&lines[..], [Line::Lacking { members }] if members.is_empty()) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{lines:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for node in [node_one, node_two, node_three] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_is_told_where_a_message_is_and_who_lacks_it() {
    let scratch = Scratch::new("follow");
    let (one, two) = (scratch.0.join("one"), scratch.0.join("two"));
    let node_one = start(&one, None).await;
    let node_two = start(&two, Some(&node_one)).await;
    let (_, end) = publish(&two, Wait::Sent, Some(1_000), &["hello"]).await;
    assert_eq!(end.map_err(|failure| failure.code), Err("timeout".to_owned()), "nobody else is in it yet");
    let request = Request::Pub { group: "lobby".into(), wait: Wait::Stored, timeout_ms: None, follow: true };
    let mut client = Client::ask(&one, &request).await.expect("a node answers");
    client.feed(&Feed::Text("hi".into())).await.expect("taken");
    let mut told = Vec::new();
    loop {
        let line =
            tokio::time::timeout(PATIENCE, client.next()).await.expect("in time").expect("the node stays");
        told.push(line);
        if matches!(told.last(), Some(Line::Held { have: 1, of: 1, .. })) {
            break;
        }
    }
    let place = told.iter().find_map(|line| match line {
        Line::Placed { line: 1, life, seq } => Some((*life, *seq)),
        _ => None,
    });
    let (life, seq) = place.expect("placed");
    let lacking = |seq| Request::Lacking { group: "lobby".into(), life, seq };
    let (lines, _) = ask(&one, lacking(seq)).await;
    assert!(matches!(&lines[..], [Line::Lacking { members }] if members.is_empty()), "{lines:?}");
    let (lines, _) = ask(&one, lacking(seq + 1)).await;
    let two_id = node_two.id().to_string();
    assert!(matches!(&lines[..], [Line::Lacking { members }] if members[0].node == two_id), "{lines:?}");

    let before = Some(Place { source: node_one.id().to_string(), life, seq, n: 0 });
    let history = Request::History { group: "lobby".into(), limit: Some(5), since: None, before };
    let (lines, end) = ask(&one, history).await;
    assert_eq!(end, Ok(0));
    let texts: Vec<_> = lines
        .iter()
        .map(|line| match line {
            Line::Message(message) => message.text.as_deref().expect("text"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(texts, ["hello"], "what was said before");
    node_one.shutdown().await;
    node_two.shutdown().await;
}
