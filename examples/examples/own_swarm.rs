//! Treecast inside somebody's own swarm: two nodes in one process talk over TCP.
//!
//! `cargo run -p treecast-examples --example own_swarm`

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, Swarm, SwarmBuilder, noise, ping, tcp, yamux};
use tokio::sync::mpsc;
use treecast_overlay::behaviour::{self, Start};
use treecast_overlay::{Config, Descriptor, Event, PublishId};

/// Any behaviours beside treecast's.
#[derive(NetworkBehaviour)]
struct Both {
    treecast: behaviour::Behaviour,
    ping: ping::Behaviour,
}

fn swarm(seed: u64) -> Result<Swarm<Both>, Box<dyn Error>> {
    let unix_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as u64;
    // A real node takes its seed from the system's entropy and keeps its key and last life.
    let start = Start { seed, unix_ms, ..Start::default() };
    Ok(SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key| {
            let treecast = behaviour::Behaviour::new(key, Config::lan(), start)?;
            Ok(Both { treecast, ping: ping::Behaviour::default() })
        })?
        .build())
}

async fn listen(swarm: &mut Swarm<Both>) -> Result<Multiaddr, Box<dyn Error>> {
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return Ok(address);
        }
    }
}

/// Drives the swarm for good, and passes on what others say.
async fn run(mut swarm: Swarm<Both>, heard: mpsc::Sender<Bytes>) {
    let me = swarm.behaviour().treecast.engine().node();
    loop {
        if let SwarmEvent::Behaviour(BothEvent::Treecast(behaviour::Event::Overlay(event))) =
            swarm.select_next_some().await
            && let Event::Deliver { delivery, .. } = event
            && delivery.source != me
        {
            for message in delivery.payloads {
                if heard.send(message).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (mut alice, mut bob) = (swarm(1)?, swarm(2)?);
    let address = listen(&mut alice).await?;

    let lobby = Descriptor::open("lobby")?;
    for (swarm, text) in [(&mut alice, "hello, Bob"), (&mut bob, "hello, Alice")] {
        let treecast = &mut swarm.behaviour_mut().treecast;
        treecast.join(lobby.clone());
        // Nobody is there yet: it waits for the first neighbour.
        treecast.publish(lobby.id(), PublishId(1), Bytes::from_static(text.as_bytes()));
    }
    // What mDNS, a ticket or a person would tell. The core decides whom to dial.
    bob.behaviour_mut().treecast.discovered(*alice.local_peer_id(), vec![address]);

    let (to_alice, mut heard_by_alice) = mpsc::channel(16);
    let (to_bob, mut heard_by_bob) = mpsc::channel(16);
    tokio::spawn(run(alice, to_alice));
    tokio::spawn(run(bob, to_bob));
    for (name, heard) in [("Alice", &mut heard_by_alice), ("Bob", &mut heard_by_bob)] {
        let message = tokio::time::timeout(Duration::from_secs(20), heard.recv()).await?;
        println!("{name} hears {:?}", message.ok_or("the swarm ended")?);
    }
    Ok(())
}
