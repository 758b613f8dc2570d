//! How fast a file goes from one node to another on this machine, and how fast the same bytes go over a bare libp2p
//! stream on the same transports, in turns.
//!
//! `cargo bench -p treecast-node --bench file [-- MIB]`; 512 MiB by itself.

#![expect(clippy::print_stdout, reason = "a bench says what it measured")]

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::identity::Keypair;
use libp2p::swarm::SwarmEvent;
use libp2p::{PeerId, StreamProtocol, Swarm, tcp};
use treecast_node::transport::secured;
use treecast_node::{GetFile, Multiaddr, Node, OnConflict};

type Failed = Box<dyn Error + Send + Sync>;

/// Each way is measured so often.
const ROUNDS: usize = 3;

/// Bytes that are written to the bare stream at once.
const CHUNK: usize = 64 << 10;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/bytes/1");

#[tokio::main]
async fn main() -> Result<(), Failed> {
    // `cargo bench` adds a flag of its own.
    let mib = std::env::args().skip(1).find(|it| !it.starts_with("--"));
    let bytes = mib.map_or(Ok(512), |it| it.parse::<u64>())? << 20;
    let data = std::env::temp_dir().join(format!("treecast-bench-file-{}", std::process::id()));
    std::fs::create_dir_all(&data)?;
    make(&data.join("big"), bytes)?;
    for round in 1..=ROUNDS {
        let bare = rate(bytes, bare(bytes).await?);
        let file = rate(bytes, file(&data, round).await?);
        println!("bare stream {bare:.0} MiB/s, file {file:.0} MiB/s: {:.2}", file / bare);
    }
    std::fs::remove_dir_all(&data)?;
    Ok(())
}

/// MiB a second.
fn rate(bytes: u64, span: Duration) -> f64 {
    bytes as f64 / f64::from(1 << 20) / span.as_secs_f64()
}

/// Bytes that are not all alike.
fn make(path: &Path, bytes: u64) -> std::io::Result<()> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"a file");
    let file = std::fs::File::create(path)?;
    std::io::copy(&mut std::io::Read::take(hasher.finalize_xof(), bytes), &mut &file)?;
    Ok(())
}

fn swarm() -> Result<Swarm<libp2p_stream::Behaviour>, Failed> {
    let key = Keypair::generate_ed25519();
    let sockets = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true));
    let config =
        libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(60));
    Ok(Swarm::new(
        secured(sockets, &key)?,
        libp2p_stream::Behaviour::new(),
        key.public().to_peer_id(),
        config,
    ))
}

/// How long so many bytes take over a stream, from the first to the last.
async fn bare(bytes: u64) -> Result<Duration, Failed> {
    let (mut taker, mut giver) = (swarm()?, swarm()?);
    let mut incoming = taker.behaviour().new_control().accept(PROTOCOL)?;
    taker.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = taker.select_next_some().await {
            break address;
        }
    };
    let there: PeerId = *taker.local_peer_id();
    giver.dial(address.with_p2p(there).map_err(|_| "an address")?)?;
    let mut control = giver.behaviour().new_control();
    let swarms = [taker, giver].map(|mut swarm| {
        tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        })
    });
    let taking = tokio::spawn(async move {
        let (_, mut stream) = incoming.next().await.ok_or("no stream came")?;
        let (mut buffer, mut taken) = (vec![0; CHUNK], 0);
        while taken < bytes {
            match stream.read(&mut buffer).await? {
                0 => return Err("it ended early".into()),
                count => taken += count as u64,
            }
        }
        Ok::<Instant, Failed>(Instant::now())
    });
    let mut stream = loop {
        match control.open_stream(there, PROTOCOL).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let (chunk, began) = (vec![7; CHUNK], Instant::now());
    for _ in 0..bytes / CHUNK as u64 {
        stream.write_all(&chunk).await?;
    }
    stream.flush().await?;
    let ended = taking.await??;
    swarms.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(ended - began)
}

/// How long a file takes from one node to another, checked and on disk.
async fn file(data: &Path, round: usize) -> Result<Duration, Failed> {
    let anywhere: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse()?;
    let node = |name: &str| {
        let node = Node::builder().data_dir(data.join(format!("{name}{round}"))).nick(name).mdns(false);
        node.listen(anywhere.clone()).group("files")
    };
    let giver = node("giver").spawn().await?;
    let taker = node("taker").peer(giver.addresses().await?.remove(0)).spawn().await?;
    let info = giver.announce(&data.join("big"), "files").await?;
    let what = info.offer.hash.to_string();
    while taker.files(None).await?.iter().all(|it| it.offer.hash != info.offer.hash || it.holders.is_empty())
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let out = data.join(format!("copy{round}"));
    let get = GetFile { what, out: out.clone(), on_conflict: OnConflict::Fail, wait: false };
    let began = Instant::now();
    taker.get_file(get, |_| ()).await?;
    let took = began.elapsed();
    taker.shutdown().await;
    giver.shutdown().await;
    std::fs::remove_file(out)?;
    Ok(took)
}
