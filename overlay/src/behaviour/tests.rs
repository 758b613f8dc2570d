//! The adapter over real transports, against raw peers that write what no node would.

use std::time::Duration;

use futures::StreamExt;
use libp2p::core::transport::MemoryTransport;
use libp2p::core::upgrade::Version;
use libp2p::swarm::SwarmEvent;
use libp2p::{Swarm, SwarmBuilder, Transport, noise, tcp, yamux};

use super::raw_peer::{Raw, Step};
use super::*;
use crate::io::{CloseReason, Lane};
use crate::wire::MAX_FRAME;

#[derive(Clone, Copy)]
enum Over {
    Tcp,
    Memory,
}

fn swarm_of<B: NetworkBehaviour>(over: Over, behaviour: impl FnOnce(&Keypair) -> B) -> Swarm<B> {
    let builder = SwarmBuilder::with_new_identity().with_tokio();
    match over {
        Over::Tcp => builder
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .expect("a fresh key works")
            .with_behaviour(behaviour)
            .expect("infallible")
            .build(),
        Over::Memory => builder
            .with_other_transport(|key| {
                MemoryTransport::default()
                    .upgrade(Version::V1)
                    .authenticate(noise::Config::new(key).expect("a fresh key works"))
                    .multiplex(yamux::Config::default())
            })
            .expect("infallible")
            .with_behaviour(behaviour)
            .expect("infallible")
            .build(),
    }
}

fn node(over: Over) -> Swarm<Behaviour> {
    let start = Start { seed: 1, unix_ms: 1_700_000_000_000, last_life: 0, ends: Vec::new() };
    swarm_of(over, |key| Behaviour::new(key, Config::default(), start).expect("defaults are in range"))
}

/// Listens and waits for the address.
async fn address<B: NetworkBehaviour>(swarm: &mut Swarm<B>, over: Over) -> Multiaddr {
    let any = match over {
        Over::Tcp => "/ip4/127.0.0.1/tcp/0",
        Over::Memory => "/memory/0",
    };
    swarm.listen_on(any.parse().expect("an address")).expect("the transport listens");
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return address;
        }
    }
}

/// Runs the swarm until `pick` finds something in one of the behaviour's events.
async fn until<T>(swarm: &mut Swarm<Behaviour>, mut pick: impl FnMut(Event) -> Option<T>) -> T {
    let events = async {
        loop {
            if let SwarmEvent::Behaviour(event) = swarm.select_next_some().await
                && let Some(found) = pick(event)
            {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), events).await.expect("in time")
}

fn opened(event: Event) -> Option<ConnectionId> {
    match event {
        Event::LinkOpened { connection, .. } => Some(connection),
        _ => None,
    }
}

fn closed(event: Event) -> Option<(ConnectionId, LinkClosed)> {
    match event {
        Event::LinkClosed { connection, reason, .. } => Some((connection, reason)),
        _ => None,
    }
}

/// Runs a raw peer against the node in a task of its own.
fn attack(at: &Multiaddr, script: &[Step]) -> tokio::task::JoinHandle<()> {
    let mut swarm = swarm_of(Over::Tcp, |_| Raw::new(script));
    swarm.dial(at.clone()).expect("an address");
    tokio::spawn(async move { while swarm.next().await.is_some() {} })
}

#[tokio::test]
async fn two_swarms_become_one_link() {
    for over in [Over::Tcp, Over::Memory] {
        let (mut one, mut two) = (node(over), node(over));
        let at = address(&mut one, over).await;
        two.dial(at).expect("an address");
        let (a, b) = futures::join!(until(&mut one, opened), until(&mut two, opened));
        assert_eq!((connections(&one), connections(&two)), (vec![a], vec![b]));
    }
}

#[tokio::test]
async fn a_round_trip_is_measured_when_it_is_asked_for() {
    let (mut one, mut two) = (node(Over::Tcp), node(Over::Tcp));
    let at = address(&mut one, Over::Tcp).await;
    let target = one.behaviour().engine().node();
    two.behaviour_mut().ping(target);
    two.dial(at).expect("an address");
    futures::join!(until(&mut one, opened), until(&mut two, opened));
    two.behaviour_mut().ping(target);
    let answer = |event| match event {
        Event::Overlay(crate::Event::RoundTrip { node, rtt }) => Some((node, rtt)),
        _ => None,
    };
    // Nobody drives the other side: it stays silent, whatever was measured before.
    let early = tokio::time::timeout(Duration::from_millis(300), until(&mut two, answer)).await;
    assert!(early.is_err(), "{early:?}");
    let told = tokio::select! {
        told = until(&mut two, answer) => told,
        () = until(&mut one, |_| None) => unreachable!("it never finds anything"),
    };
    assert!(told.0 == target && told.1 >= Duration::from_millis(300), "{told:?}");
}

/// A frame of this length that the core ignores: of a kind it does not know.
fn unknown_frame(length: usize) -> Bytes {
    let body = u32::try_from(length - 9).expect("short").to_be_bytes();
    let mut frame = vec![0x83, 0x18, 200, 0x07, 0x5a];
    frame.extend(body);
    frame.resize(length, 0);
    frame.into()
}

/// The link's bytes as the test sees them: what the core would ask to send.
fn send(swarm: &mut Swarm<Behaviour>, connection: ConnectionId, lane: Lane, frame: Bytes) -> bool {
    let behaviour = swarm.behaviour_mut();
    let link = behaviour.links.link_of(connection).expect("a link");
    behaviour.out.push(Output::Send { link, lane, frame });
    behaviour.apply();
    behaviour.links.link_of(connection).is_some()
}

/// A node with a link to a good peer that runs in a task of its own.
async fn node_with_good_peer() -> (Swarm<Behaviour>, Multiaddr, ConnectionId) {
    let (mut one, mut good) = (node(Over::Tcp), node(Over::Tcp));
    let at = address(&mut one, Over::Tcp).await;
    good.dial(at.clone()).expect("an address");
    tokio::spawn(async move { while good.next().await.is_some() {} });
    let kept = until(&mut one, opened).await;
    (one, at, kept)
}

fn connections(swarm: &Swarm<Behaviour>) -> Vec<ConnectionId> {
    swarm.behaviour().links().map(|(_, connection)| connection).collect()
}

#[tokio::test]
async fn what_breaks_the_framing_closes_its_own_connection_only() {
    let violation = LinkClosed::Protocol;
    let cases: [(&[Step], LinkClosed); 8] = [
        (&[Step::Open(&[0, 0xff, 0xff, 0xff, 0x7f])], violation("a frame over the size cap")),
        (&[Step::Open(&[0, 0])], violation("a malformed length")),
        (&[Step::Open(&[0, 0x81, 0])], violation("a malformed length")),
        (&[Step::OpenAndClose(&[0, 200, 1, 7])], violation("a truncated frame")),
        (&[Step::OpenAndClose(&[0])], LinkClosed::ByPeer),
        (&[Step::Open(&[0]), Step::Wait, Step::Open(&[0])], violation("a lane was opened twice")),
        (&[Step::Open(&[0]), Step::Wait, Step::Open(&[9])], violation("an unknown lane")),
        (&[Step::Open(&[0]), Step::Open(&[1]), Step::Wait, Step::Open(&[1])], violation("a third stream")),
    ];
    let (mut one, at, kept) = node_with_good_peer().await;
    for (script, expected) in cases {
        let attack = attack(&at, script);
        let (bad, reason) = until(&mut one, closed).await;
        assert_eq!(reason, expected);
        assert_ne!(bad, kept);
        assert_eq!(connections(&one), [kept]);
        attack.abort();
    }
}

#[tokio::test]
async fn a_peer_that_never_reads_is_cut_off_and_slows_nobody() {
    let (mut one, at, kept) = node_with_good_peer().await;
    let stuck = attack(&at, &[Step::Open(&[0]), Step::Open(&[1])]);
    let bad = until(&mut one, opened).await;
    let frame = unknown_frame(MAX_FRAME);
    let mut sent = 0;
    while send(&mut one, bad, Lane::Live, frame.clone()) {
        sent += 1;
        assert!(sent < 64, "no cap");
        // Others are served meanwhile: all of theirs leaves.
        assert!(send(&mut one, kept, Lane::Live, frame.clone()));
        let link = one.behaviour().links.link_of(kept).expect("a link");
        while !one.behaviour().links.is_idle(link) {
            let next = tokio::time::timeout(Duration::from_millis(20), one.select_next_some()).await;
            drop(next);
        }
    }
    assert!(sent >= 7, "cut off after {sent} frames");
    assert_eq!(until(&mut one, closed).await, (bad, LinkClosed::QueueFull));
    assert_eq!(connections(&one), [kept]);
    stuck.abort();
}

#[tokio::test]
async fn a_closed_link_sends_what_waits_first() {
    for over in [Over::Tcp, Over::Memory] {
        let (mut one, mut two) = (node(over), node(over));
        let at = address(&mut one, over).await;
        two.dial(at).expect("an address");
        let (connection, _) = futures::join!(until(&mut one, opened), until(&mut two, opened));
        let frame = unknown_frame(100_000);
        for lane in [Lane::Live, Lane::Bulk] {
            for _ in 0..10 {
                assert!(send(&mut one, connection, lane, frame.clone()));
            }
        }
        let link = one.behaviour().links.link_of(connection).expect("a link");
        let output = Output::Close { link, reason: CloseReason::Shutdown };
        one.behaviour_mut().out.push(output);
        one.behaviour_mut().apply();
        let queue = one.behaviour().links.queue_of(link).expect("it stands until all is sent");
        let (closed, by_peer) = futures::join!(until(&mut one, closed), until(&mut two, closed));
        assert_eq!(closed, (connection, LinkClosed::Core(CloseReason::Shutdown)));
        assert_eq!(by_peer.1, LinkClosed::ByPeer);
        let left: usize = queue.drained().iter().map(|(_, bytes)| bytes).sum();
        assert!(left <= 2_000_000 && queue.is_empty(Lane::Live) && queue.is_empty(Lane::Bulk));
    }
}

#[tokio::test]
async fn a_peer_without_the_protocol_is_no_link_and_fails_the_dial() {
    let mut other = swarm_of(Over::Tcp, |_| libp2p::swarm::dummy::Behaviour);
    let at = address(&mut other, Over::Tcp).await;
    let peer = *other.local_peer_id();
    tokio::spawn(async move { while other.next().await.is_some() {} });
    let mut one = node(Over::Tcp);
    let (Some(node), Some(address)) = (node_of(&peer), address_of(at)) else { panic!("an Ed25519 key") };
    one.behaviour_mut().dial(node, vec![address]);
    assert_eq!(one.behaviour().links.dialling(), 1);
    let over = async {
        while one.behaviour().links.dialling() > 0 {
            // What ends the wait may be no event of the swarm's.
            let _ = tokio::time::timeout(Duration::from_millis(20), one.select_next_some()).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), over).await.expect("told in time");
    assert_eq!(connections(&one), []);
}

#[tokio::test]
async fn nobody_at_an_address_fails_the_dial() {
    let mut one = node(Over::Tcp);
    let nowhere = address_of("/ip4/127.0.0.1/tcp/1".parse().expect("an address")).expect("short");
    one.behaviour_mut().dial(NodeId::from_bytes([7; 32]), vec![nowhere]);
    let over = async {
        while one.behaviour().links.dialling() > 0 {
            // What ends the wait may be no event of the swarm's.
            let _ = tokio::time::timeout(Duration::from_millis(20), one.select_next_some()).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), over).await.expect("told in time");
}

#[tokio::test]
async fn a_dead_connection_does_not_stand_in_the_way_of_a_new_one() {
    let mut one = node(Over::Tcp);
    // It reads nothing and closes nothing, as if it were cut off.
    let mut other = swarm_of(Over::Tcp, |_| Raw::new(&[Step::Open(&[0])]));
    let (at, peer) = (address(&mut other, Over::Tcp).await, *other.local_peer_id());
    tokio::spawn(async move { while other.next().await.is_some() {} });
    let (Some(node), Some(address)) = (node_of(&peer), address_of(at)) else { panic!("an Ed25519 key") };
    one.behaviour_mut().dial(node, vec![address.clone()]);
    let dead = until(&mut one, opened).await;
    let link = one.behaviour().links.link_of(dead).expect("a link");
    one.behaviour_mut().out.push(Output::Close { link, reason: CloseReason::Silent });
    one.behaviour_mut().apply();
    assert_eq!(until(&mut one, closed).await, (dead, LinkClosed::Core(CloseReason::Silent)));
    assert!(one.is_connected(&peer), "the swarm does not know yet");
    one.behaviour_mut().dial(node, vec![address]);
    assert_ne!(until(&mut one, opened).await, dead);
}

/// Drives all swarms until each has had `wanted` messages of others.
async fn talk(swarms: Vec<Swarm<Behaviour>>, wanted: usize) -> Vec<Vec<Bytes>> {
    let each = swarms.into_iter().map(|mut swarm| async move {
        let me = swarm.behaviour().engine().node();
        let mut heard = Vec::new();
        while heard.len() < wanted {
            let next = swarm.select_next_some().await;
            if let SwarmEvent::Behaviour(Event::Overlay(crate::Event::Deliver { delivery, .. })) = next
                && delivery.source != me
            {
                heard.extend(delivery.payloads);
            }
        }
        // The others may still need it.
        (heard, tokio::spawn(async move { while swarm.next().await.is_some() {} }))
    });
    let all = tokio::time::timeout(Duration::from_secs(60), futures::future::join_all(each)).await;
    all.expect("in time").into_iter().map(|(heard, _)| heard).collect()
}

#[tokio::test]
async fn a_burst_reaches_all_members_whole_and_in_order() {
    const COUNT: u64 = 2_000;
    for over in [Over::Tcp, Over::Memory] {
        let mut swarms = vec![node(over), node(over), node(over)];
        let group = Descriptor::open("lobby").expect("a good name");
        let first = address(&mut swarms[0], over).await;
        let peer = *swarms[0].local_peer_id();
        for swarm in &mut swarms {
            swarm.behaviour_mut().join(group.clone());
        }
        for swarm in &mut swarms[1..] {
            swarm.behaviour_mut().discovered(peer, vec![first.clone()]);
        }
        let message = |n: u64| Bytes::from([&n.to_le_bytes()[..], &[0; 1_000]].concat());
        for n in 0..COUNT {
            swarms[0].behaviour_mut().publish(group.id(), PublishId(n), message(n));
        }
        let mut source = swarms.remove(0);
        let source = tokio::spawn(async move { while source.next().await.is_some() {} });
        for heard in talk(swarms, COUNT as usize).await {
            assert!(heard.iter().eq((0..COUNT).map(message).collect::<Vec<_>>().iter()));
        }
        source.abort();
    }
}

#[tokio::test]
async fn a_store_is_asked_before_anything_leaves() {
    let over = Over::Memory;
    let start = Start { seed: 1, unix_ms: 1_700_000_000_000, last_life: 0, ends: Vec::new() };
    let mut one = swarm_of(over, |key| {
        Behaviour::new(key, Config::default(), start).expect("defaults are in range").with_store()
    });
    let mut two = node(over);
    let group = Descriptor::open("lobby").expect("a good name");
    let at = address(&mut one, over).await;
    let peer = *one.local_peer_id();
    one.behaviour_mut().join(group.clone());
    two.behaviour_mut().join(group.clone());
    two.behaviour_mut().discovered(peer, vec![at]);
    one.behaviour_mut().publish(group.id(), PublishId(1), Bytes::from_static(b"x"));
    let two = tokio::spawn(talk(vec![two], 1));
    let persist = |event| match event {
        Event::Persist { token, writes } => Some((token, writes)),
        Event::Overlay(crate::Event::Deliver { .. } | crate::Event::Sent { .. }) => panic!("not durable yet"),
        _ => None,
    };
    let (token, writes) = until(&mut one, persist).await;
    assert!(writes.iter().any(|it| matches!(it, Write::Batch { .. })), "{writes:?}");
    one.behaviour_mut().persisted(token);
    tokio::spawn(async move {
        loop {
            if let SwarmEvent::Behaviour(Event::Persist { token, .. }) = one.select_next_some().await {
                one.behaviour_mut().persisted(token);
            }
        }
    });
    assert_eq!(two.await.expect("no panic"), [[Bytes::from_static(b"x")]]);
}
