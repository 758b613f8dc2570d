//! Real nodes over real transports on loopback.

use std::path::{Path, PathBuf};
use std::time::Duration;

use treecast_node::{Event, MemberChange, Multiaddr, Node, NodeBuilder, ReceiptGoal, Receiver};

const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of its own that goes when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        // With RUST_LOG set, a failing test tells its story. Only the first test installs it.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let dir = std::env::temp_dir().join(format!("treecast-talk-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("the temporary folder can be written");
        Self(dir)
    }

    fn of(&self, node: &str) -> PathBuf {
        self.0.join(node)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn local(dir: &Path, transport: &str) -> NodeBuilder {
    let listen = match transport {
        "quic" => "/ip4/127.0.0.1/udp/0/quic-v1",
        _ => "/ip4/127.0.0.1/tcp/0",
    };
    Node::builder().data_dir(dir).mdns(false).listen(listen.parse().expect("an address"))
}

async fn address(node: &Node) -> Multiaddr {
    node.addresses().await.expect("it runs").first().expect("it listens").clone()
}

/// The next messages, as text; events in between are skipped.
async fn messages(receiver: &mut Receiver, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    let all = async {
        while seen.len() < count {
            match receiver.next().await.expect("the node runs") {
                Event::Message(message) => seen.push(String::from_utf8_lossy(&message.payload).into_owned()),
                Event::Lagged { missed } => panic!("{missed} missed"),
                _ => {}
            }
        }
    };
    let done = tokio::time::timeout(PATIENCE, all).await.is_ok();
    assert!(done, "only {} of {count} came: {:?}", seen.len(), seen.last());
    seen
}

async fn pair(scratch: &Scratch, transport: &str) -> (Node, Node) {
    let one = local(&scratch.of("one"), transport).spawn().await.expect("one starts");
    let there = address(&one).await;
    let two = local(&scratch.of("two"), transport).peer(there).spawn().await.expect("two starts");
    (one, two)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_talk_over_tcp_and_over_quic() {
    for transport in ["tcp", "quic"] {
        let scratch = Scratch::new(&format!("two-{transport}"));
        let (one, two) = pair(&scratch, transport).await;
        let (say_one, mut hear_one) = one.join("lobby").await.expect("joined");
        let (say_two, mut hear_two) = two.join("lobby").await.expect("joined");
        let early = say_one.publish("hello").await.expect("published before the first neighbour");
        assert_eq!(messages(&mut hear_two, 1).await, ["hello"]);
        assert_eq!(messages(&mut hear_one, 1).await, ["hello"]);
        say_two.publish("hi").await.expect("published");
        assert_eq!(messages(&mut hear_one, 1).await, ["hi"]);
        for goal in [ReceiptGoal::Sent, ReceiptGoal::Members(1), ReceiptGoal::All] {
            let receipt = tokio::time::timeout(PATIENCE, say_one.receipt(early.batch, goal)).await;
            let receipt = receipt.expect("in time").expect("it runs");
            if goal != ReceiptGoal::Sent {
                assert_eq!((receipt.have, receipt.of), (1, 1));
            }
        }
        let peers = one.peers(Some("lobby")).await.expect("it runs");
        assert_eq!(peers.len(), 1, "{peers:?}");
        assert_eq!((peers[0].node, peers[0].transport, peers[0].direct), (two.id(), transport, true));
        one.shutdown().await;
        two.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_comes_whole_and_in_order() {
    let scratch = Scratch::new("burst");
    let (one, two) = pair(&scratch, "tcp").await;
    let (say, _hear) = one.join("lobby").await.expect("joined");
    let (_say, mut hear) = two.join("lobby").await.expect("joined");
    let lines: Vec<String> = (0..5_000).map(|number| format!("line {number}")).collect();
    let mut last = None;
    for line in &lines {
        last = Some(say.submit(line.clone()).await.expect("room"));
    }
    assert_eq!(messages(&mut hear, lines.len()).await, lines);
    let last = last.expect("there were some").await.expect("placed");
    tokio::time::timeout(PATIENCE, say.receipt(last.batch, ReceiptGoal::All))
        .await
        .expect("in time")
        .expect("runs");
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_two_goes_on_when_either_comes_back() {
    let scratch = Scratch::new("back");
    let (mut one, two) = pair(&scratch, "tcp").await;
    let there = address(&one).await;
    let (say_two, mut hear_two) = two.join("lobby").await.expect("joined");
    for round in 0..3 {
        let (say_one, mut hear_one) = one.join("lobby").await.expect("joined");
        let text = format!("round {round}");
        say_one.publish(text.clone()).await.expect("published");
        assert_eq!(messages(&mut hear_two, 1).await, std::slice::from_ref(&text), "round {round}");
        assert_eq!(messages(&mut hear_one, 1).await, [text], "its own");
        let answer = format!("answer {round}");
        let answered = say_two.publish(answer.clone()).await.expect("published");
        assert_eq!(messages(&mut hear_one, 1).await, std::slice::from_ref(&answer), "round {round}");
        assert_eq!(messages(&mut hear_two, 1).await, [answer]);
        // What it has not acknowledged it gets again.
        let acknowledged = say_two.receipt(answered.batch, ReceiptGoal::All);
        tokio::time::timeout(PATIENCE, acknowledged).await.expect("in time").expect("it runs");
        drop((say_one, hear_one));
        one.shutdown().await;
        one = local(&scratch.of("one"), "tcp").listen(there.clone()).spawn().await.expect("starts again");
    }
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_one_a_directory_and_goes_when_nobody_holds_it() {
    let scratch = Scratch::new("single");
    let dir = scratch.of("one");
    let one = local(&dir, "tcp").spawn().await.expect("starts");
    match local(&dir, "tcp").spawn().await {
        Err(treecast_node::StartError::AlreadyRunning { pid, .. }) => {
            assert_eq!(pid, Some(std::process::id()))
        }
        other => panic!("{other:?}"),
    }
    drop(one);
    assert!(treecast_node::wait_released(&dir, PATIENCE).await, "it ends by itself");
    local(&dir, "tcp").spawn().await.expect("starts again").shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_and_an_unwritable_directory_are_errors() {
    let scratch = Scratch::new("taken");
    let one = local(&scratch.of("one"), "tcp").spawn().await.expect("starts");
    let taken = address(&one).await;
    match Node::builder().data_dir(scratch.of("two")).mdns(false).listen(taken.clone()).spawn().await {
        Err(treecast_node::StartError::PortTaken { address }) => assert_eq!(address, taken),
        other => panic!("{other:?}"),
    }
    one.shutdown().await;
    std::fs::write(scratch.of("file"), "").expect("written");
    match local(&scratch.of("file").join("dir"), "tcp").spawn().await {
        Err(treecast_node::StartError::DataDirUnwritable { path, .. }) => {
            assert!(path.starts_with(&scratch.0))
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_ports_are_kept_across_restarts() {
    let scratch = Scratch::new("ports");
    let start = || Node::builder().data_dir(scratch.of("one")).mdns(false).spawn();
    let ports = |addresses: Vec<Multiaddr>| -> std::collections::BTreeSet<String> {
        addresses.iter().map(|address| address.iter().nth(1).expect("a port").to_string()).collect()
    };
    let node = start().await.expect("starts");
    let first = ports(node.addresses().await.expect("it runs"));
    node.shutdown().await;
    let node = start().await.expect("starts again");
    assert_eq!(ports(node.addresses().await.expect("it runs")), first);
    assert!(node.notices().is_empty());
    node.shutdown().await;
    let port = first.iter().find_map(|part| part.strip_prefix("/tcp/")).expect("TCP is among them");
    let _thief = std::net::TcpListener::bind(format!("0.0.0.0:{port}")).expect("it is free now");
    let node = start().await.expect("starts on another port");
    assert_ne!(ports(node.addresses().await.expect("it runs")), first);
    assert_eq!(node.notices().len(), 1);
    node.shutdown().await;
}

/// Waits for a change of a member.
async fn member(receiver: &mut Receiver, wanted: MemberChange) {
    let seen = async {
        loop {
            match receiver.next().await.expect("the node runs") {
                Event::Member { change, .. } if change == wanted => return,
                _ => {}
            }
        }
    };
    let done = tokio::time::timeout(PATIENCE, seen).await.is_ok();
    assert!(done, "no {wanted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_both_halves_is_going_offline_and_leaving_is_final() {
    let scratch = Scratch::new("drop");
    let (one, two) = pair(&scratch, "tcp").await;
    let (_say_one, mut hear_one) = one.join("lobby").await.expect("joined");
    let (say_two, hear_two) = two.join("lobby").await.expect("joined");
    hear_two.ready().await.expect("it runs");
    member(&mut hear_one, MemberChange::Joined).await;
    drop(hear_two);
    assert_eq!(two.groups().await.expect("it runs").len(), 1, "one half holds");
    drop(say_two);
    member(&mut hear_one, MemberChange::Offline).await;
    let (say_two, mut hear_two) = two.join("lobby").await.expect("joined again");
    member(&mut hear_one, MemberChange::Online).await;
    say_two.publish("back").await.expect("published");
    assert_eq!(messages(&mut hear_one, 1).await, ["back"]);
    assert_eq!(messages(&mut hear_two, 1).await, ["back"]);
    two.leave("lobby").await.expect("left");
    member(&mut hear_one, MemberChange::Left).await;
    assert_eq!(hear_two.next().await, Some(Event::Left));
    assert_eq!(hear_two.next().await, None);
    assert!(two.groups().await.expect("it runs").is_empty());
    one.shutdown().await;
    two.shutdown().await;
}
