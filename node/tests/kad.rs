//! Members of a created group that know nobody but a node that is not in it.

use std::path::PathBuf;
use std::time::Duration;

use treecast_node::{Descriptor, Event, Multiaddr, Node, NodeId};
use treecast_overlay::Admission;

/// Generous: what is tested is that it happens.
const PATIENCE: Duration = Duration::from_secs(60);

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("treecast-kad-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Self(dir)
    }

    async fn node(&self, name: &str, peers: &[Multiaddr]) -> Node {
        let anywhere = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
        let mut builder = Node::builder().data_dir(self.0.join(name)).mdns(false).listen(anywhere);
        for peer in peers {
            builder = builder.peer(peer.clone());
        }
        builder.spawn().await.expect("starts")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn created_by(founder: NodeId) -> Descriptor {
    let open = Descriptor::open("club").expect("a good name");
    Descriptor { founder: Some(founder), admission: Admission::Ticket, ..open }
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

async fn hears(events: &mut treecast_node::Receiver, text: &str) {
    loop {
        match within(text, events.next()).await {
            Some(Event::Message(message)) if message.payload == text.as_bytes() => return,
            Some(_) => {}
            None => panic!("the group ended"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_meet_through_a_node_that_is_in_no_group() {
    let scratch = Scratch::new("meet");
    let helper = scratch.node("helper", &[]).await;
    let at_helper = helper.addresses().await.expect("it runs");
    let ada = scratch.node("ada", &at_helper).await;
    let club = created_by(ada.id());
    let (_said, mut of_ada) = ada.join(club.clone()).await.expect("joined");
    let before = ada.addresses().await.expect("it runs");

    // Announced at its old port, then at the new one.
    let ben = scratch.node("ben", &at_helper).await;
    let (said, of_ben) = ben.join(club.clone()).await.expect("joined");
    within("a neighbour", of_ben.ready()).await.expect("it runs");
    said.publish("hello").await.expect("placed");
    hears(&mut of_ada, "hello").await;
    drop((_said, of_ada));
    ada.shutdown().await;
    drop((said, of_ben));
    ben.shutdown().await;
    let _taken = std::net::TcpListener::bind(socket_of(&before[0]));
    let ada = scratch.node("ada", &at_helper).await;
    assert_ne!(ada.addresses().await.expect("it runs"), before);
    let (_said, mut of_ada) = ada.join(club.clone()).await.expect("joined");
    let cleo = scratch.node("cleo", &at_helper).await;
    let (said, of_cleo) = cleo.join(club.clone()).await.expect("joined");
    within("a neighbour", of_cleo.ready()).await.expect("it runs");
    said.publish("hello again").await.expect("placed");
    hears(&mut of_ada, "hello again").await;

    assert_eq!(helper.groups().await.expect("it runs"), [], "the helper is in no group");
    let status = helper.status().await.expect("it runs");
    let records = status.collections.iter().find(|it| it.name == "kad/provider_records").expect("listed");
    assert!(records.len >= 2 && status.collections.iter().all(|it| it.within()), "{:?}", status.collections);
}

fn socket_of(address: &Multiaddr) -> std::net::SocketAddr {
    let text = address.to_string();
    let parts: Vec<&str> = text.split('/').collect();
    format!("{}:{}", parts[2], parts[4]).parse().expect("an IPv4 address with a port")
}

#[tokio::test(flavor = "multi_thread")]
async fn open_groups_are_not_announced() {
    let scratch = Scratch::new("open");
    let helper = scratch.node("helper", &[]).await;
    let at_helper = helper.addresses().await.expect("it runs");
    let ada = scratch.node("ada", &at_helper).await;
    let (_open, _events) = ada.join("lobby").await.expect("joined");
    let (_said, _created) = ada.join(created_by(ada.id())).await.expect("joined");
    let records = || async {
        let status = helper.status().await.expect("it runs");
        status.collections.iter().find(|it| it.name == "kad/provider_records").expect("listed").len
    };
    within("the created group's record", async {
        while records().await == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    // What is announced is announced in one go.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(records().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_node_stays_connected_although_no_group_is_shared() {
    let scratch = Scratch::new("kept");
    let helper = scratch.node("helper", &[]).await;
    let at_helper = helper.addresses().await.expect("it runs");
    let ada = scratch.node("ada", &at_helper).await;
    let peers = || async { ada.status().await.expect("it runs").peers };
    within("the connection", async {
        while peers().await == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    // Longer than the core keeps a link that nobody needs.
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(peers().await, 1);
    }
}
