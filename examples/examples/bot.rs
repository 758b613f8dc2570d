//! A bot on `treecast-node`: it repeats what it is asked to, and a second node asks it.
//!
//! `cargo run -p treecast-examples --example bot`

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::time::Duration;

use treecast_node::{Event, Multiaddr, Node, ReceiptGoal};

/// Answers until it is asked to stop.
async fn serve(bot: Node) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (sender, mut events) = bot.join("lobby").await?;
    while let Some(event) = events.next().await {
        // Our own messages come too; answering them would never end.
        let Event::Message(message) = event else { continue };
        if message.batch.source == bot.id() {
            continue;
        }
        let text = String::from_utf8_lossy(&message.payload).into_owned();
        if let Some(rest) = text.strip_prefix("!say ") {
            let answer = sender.publish(format!("{}: {rest}", message.nick)).await?;
            // Wait until everybody who is online has it.
            sender.receipt(answer.batch, ReceiptGoal::All).await?;
        } else if text == "!stop" {
            break;
        }
    }
    bot.shutdown().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    // A real bot keeps its data directory: that is its identity. It needs neither `listen` nor
    // `mdns(false)`: on a LAN, nodes find each other.
    let data = std::env::temp_dir().join(format!("treecast-bot-{}", std::process::id()));
    let anywhere: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse()?;
    let node = |name: &str| {
        Node::builder().data_dir(data.join(name)).nick(name).mdns(false).listen(anywhere.clone())
    };

    let bot = node("bot").spawn().await?;
    let there = bot.addresses().await?.remove(0);
    let serving = tokio::spawn(serve(bot));

    let ada = node("ada").peer(there).spawn().await?;
    let (sender, mut events) = ada.join("lobby").await?;
    sender.publish("!say hello").await?;
    let conversation = async {
        while let Some(event) = events.next().await {
            let Event::Message(message) = event else { continue };
            println!("{}: {}", message.nick, String::from_utf8_lossy(&message.payload));
            if message.nick == "bot" {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), conversation).await?;
    sender.publish("!stop").await?;
    tokio::time::timeout(Duration::from_secs(20), serving).await???;
    ada.shutdown().await;
    std::fs::remove_dir_all(&data)?;
    Ok(())
}
