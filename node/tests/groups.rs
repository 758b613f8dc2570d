//! Groups that are made, shared by ticket and kept; over loopback.

use std::path::{Path, PathBuf};
use std::time::Duration;

use treecast_node::{
    Event, GroupRef, JoinError, Multiaddr, NewGroup, Node, NodeBuilder, Order, Receiver, Ticket,
};
use treecast_overlay::io::MemberState;

const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of its own that goes when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let dir = std::env::temp_dir().join(format!("treecast-groups-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("the temporary folder can be written");
        Self(dir)
    }

    fn node(&self, name: &str) -> NodeBuilder {
        builder(&self.0.join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A node that nobody finds, and that finds nobody, by itself.
fn builder(dir: &Path) -> NodeBuilder {
    let listen: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
    Node::builder().data_dir(dir).mdns(false).listen(listen)
}

async fn heard(receiver: &mut Receiver, text: &str) {
    let heard = async {
        while let Some(event) = receiver.next().await {
            if matches!(event, Event::Message(message) if message.payload == text.as_bytes()) {
                return;
            }
        }
        panic!("the node ended");
    };
    assert!(tokio::time::timeout(PATIENCE, heard).await.is_ok(), "{text:?} was not heard");
}

/// Waits until `look` finds it so.
async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !look().await {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn ticket(text: Option<String>) -> Ticket {
    text.expect("created groups have tickets").parse().expect("our own tickets read back")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_all_it_takes_also_after_a_restart() {
    let scratch = Scratch::new("ticket");
    let one = scratch.node("one").spawn().await.expect("starts");
    let created = one.create(NewGroup::new("茶 room").order(Order::Fifo)).await.expect("created");
    assert_eq!((created.label.as_str(), created.view.descriptor.founder), ("茶 room", Some(one.id())));
    let ticket = ticket(created.ticket);
    assert_eq!(ticket.members.len(), 1, "the founder is the only one who is there");

    let two = scratch.node("two").spawn().await.expect("starts");
    let joined = two.add(ticket.clone()).await.expect("joined");
    assert_eq!((joined.view.id, joined.label.as_str()), (created.view.id, "茶 room"));
    let (say, _) = one.join("茶 room").await.expect("it is in it");
    let (_, mut hear) = two.join("茶 room").await.expect("it is in it");
    until("the two to meet", async || two.group_view("茶 room").await.is_ok_and(|info| info.view.ready))
        .await;
    say.publish("first").await.expect("published");
    heard(&mut hear, "first").await;
    let fresh = two.invite("茶 room").await.expect("it is in it");
    assert_eq!(fresh.members.len(), 2, "both are there now");
    assert_eq!(fresh.members[0].0, two.id(), "who invites stands first");
    drop(hear);
    two.shutdown().await;

    // Nothing but its own data directory tells it where the others are.
    let two = scratch.node("two").spawn().await.expect("starts again");
    let (_, mut hear) = two.join("茶 room").await.expect("it is still in it");
    until("the two to meet again", async || {
        two.group_view("茶 room").await.is_ok_and(|info| info.view.ready)
    })
    .await;
    say.publish("second").await.expect("published");
    heard(&mut hear, "second").await;
    two.shutdown().await;
    one.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_one_name_are_told_apart_and_keep_their_labels() {
    let scratch = Scratch::new("labels");
    let one = scratch.node("one").spawn().await.expect("starts");
    let other = scratch.node("other").spawn().await.expect("starts");
    let theirs = other.create(NewGroup::new("team")).await.expect("created");
    let first = one.create(NewGroup::new("team")).await.expect("created");
    let second = one.create(NewGroup::new("team")).await.expect("created again");
    let third = one.add(ticket(theirs.ticket)).await.expect("joined");
    let open = one.add("team").await.expect("a name that is known is that group");
    assert_eq!(open.view.id, first.view.id);
    let expected: Vec<String> = std::iter::once("team".to_owned())
        .chain([&second, &third].map(|info| format!("team~{}", info.view.id.short())))
        .collect();
    assert_eq!([first.label, second.label.clone(), third.label], expected[..]);
    one.leave("team").await.expect("left");
    one.shutdown().await;

    let one = scratch.node("one").spawn().await.expect("starts again");
    let mut labels: Vec<String> =
        one.groups().await.expect("it runs").into_iter().map(|info| info.label).collect();
    labels.sort_unstable();
    let mut rest = expected[1..].to_vec();
    rest.sort_unstable();
    assert_eq!(labels, rest);
    let again = one.group_view(&second.label).await.expect("known by its label");
    assert_eq!(again.view.id, second.view.id);
    assert!(one.group_view(&second.view.id.to_string()).await.is_ok(), "and by its id");
    let by_ticket = one.group_view(&second.ticket.expect("created")).await.expect("and by its ticket");
    assert_eq!(by_ticket.view.id, second.view.id);
    one.shutdown().await;
    other.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_group_knows_from_the_start_who_is_to_come() {
    let scratch = Scratch::new("static");
    let one = scratch.node("one").spawn().await.expect("starts");
    let two = scratch.node("two").spawn().await.expect("starts");
    let three = scratch.node("three").spawn().await.expect("starts");
    let created = one.create(NewGroup::new("board").members([two.id()])).await.expect("created");
    let state_of_two = async || {
        let info = one.group_view("board").await.expect("it is in it");
        assert_eq!(info.view.members.len(), 2, "who is listed is a member");
        info.view.members.iter().find(|member| member.node == two.id()).map(|member| member.state)
    };
    assert_eq!(state_of_two().await, Some(MemberState::Offline), "never seen yet");
    let ticket = ticket(created.ticket);
    let refused = three.add(ticket.clone()).await.expect_err("it is not listed");
    assert_eq!(refused, JoinError::NotAdmitted);
    assert!(three.groups().await.expect("it runs").is_empty());
    two.add(ticket).await.expect("it is listed");
    until("the second to be online", async || state_of_two().await == Some(MemberState::Online)).await;
    for node in [one, two, three] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_ticket_leads_to_is_counted() {
    let scratch = Scratch::new("stale");
    let gone = scratch.node("gone").spawn().await.expect("starts");
    let stale = ticket(gone.create(NewGroup::new("past")).await.expect("created").ticket);
    gone.shutdown().await;
    let late = scratch.node("late").spawn().await.expect("starts");
    let joined = late.add(stale).await.expect("joined, members found or not");
    assert_eq!(joined.contacts.known, 1);
    until("the refusal", async || late.group_view("past").await.is_ok_and(|info| info.contacts.refused == 1))
        .await;
    late.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_and_nothing_is_kept() {
    let scratch = Scratch::new("refused");
    let node = scratch.node("one").spawn().await.expect("starts");
    let gossip = NewGroup::new("x").route(treecast_node::Route::GossipPush);
    assert!(matches!(node.create(gossip).await.expect_err("not built"), JoinError::NotBuilt(_)));
    assert!(matches!(node.create(NewGroup::new("")).await, Err(JoinError::Descriptor(_))));
    assert!(matches!(node.add("treecast1oops").await, Err(JoinError::Ticket(_))));
    assert!(node.groups().await.expect("it runs").is_empty());
    node.shutdown().await;
    let asked = scratch.node("one").group(GroupRef::from("treecast1oops")).spawn().await;
    assert!(asked.is_err(), "a start does not go on without what it was asked for");
    let node = scratch.node("one").spawn().await.expect("starts");
    assert!(node.groups().await.expect("it runs").is_empty());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_names_no_loopback_beside_better_addresses() {
    let scratch = Scratch::new("loopback");
    let anywhere: Multiaddr = "/ip4/0.0.0.0/tcp/0".parse().expect("an address");
    let node = Node::builder().data_dir(scratch.0.join("one")).mdns(false).listen(anywhere);
    let node = node.spawn().await.expect("starts");
    let addresses = node.addresses().await.expect("it runs");
    let has_better = addresses.iter().any(|it| !it.to_string().contains("/127."));
    let ticket = ticket(node.create(NewGroup::new("x")).await.expect("created").ticket);
    let told: Vec<String> = ticket.members[0]
        .1
        .iter()
        .map(|it| Multiaddr::try_from(it.as_bytes().to_vec()).expect("an address").to_string())
        .collect();
    assert!(!told.is_empty());
    assert_eq!(told.iter().any(|it| it.contains("/127.")), !has_better, "{told:?}");
    node.shutdown().await;
}
