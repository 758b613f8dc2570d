//! `history`, `search`, and where `sub` begins.

use std::io;
use std::time::Duration;

use libp2p::PeerId;
use treecast_overlay::{BatchId, NodeId};

use super::connection::{Incoming, Outgoing};
use super::lines;
use super::protocol::{Line, Place, Start};
use crate::error::HistoryError;
use crate::failure::Failure;
use crate::handle::Node;
use crate::history::{Finds, Pages, Since};

/// From where on messages are wanted.
pub(super) fn since(start: Start) -> Since {
    match start {
        Start::Now => Since::Now,
        Start::Start => Since::Start,
        Start::LastMs(ms) => Since::Last(Duration::from_millis(ms)),
        Start::Index(index) => Since::Index(index),
    }
}

/// What of a group's history is wanted.
pub(super) struct Asked {
    pub(super) limit: Option<u64>,
    pub(super) since: Option<Start>,
    pub(super) before: Option<Place>,
}

fn batch_of(place: &Place) -> Option<BatchId> {
    let source: PeerId = place.source.parse().ok()?;
    let source = NodeId::from_peer_id_bytes(&source.to_bytes())?;
    Some(BatchId { source, life: place.life, seq: place.seq })
}

/// What is kept of a group, oldest first.
pub(super) async fn tell(
    node: &Node,
    incoming: &mut Incoming,
    outgoing: &mut Outgoing,
    group: &str,
    Asked { limit, since: start, before }: Asked,
) -> io::Result<()> {
    let since = since(start.unwrap_or(Start::Start));
    let told = async {
        let pages = match before {
            Some(place) => match batch_of(&place) {
                Some(batch) => node.history_before(group, (batch, place.n), limit.unwrap_or(u64::MAX)).await,
                None => return Ok(Ok(())),
            },
            None => node.history(group, since, limit).await,
        };
        match pages {
            Ok(pages) => all(pages, outgoing).await,
            Err(error) => Ok(Err(error)),
        }
    };
    let result = tokio::select! {
        told = told => told?,
        () = incoming.closed() => return Ok(()),
    };
    outgoing.end(result.map(|()| 0).map_err(Failure::from)).await
}

async fn all(mut pages: Pages, outgoing: &mut Outgoing) -> io::Result<Result<(), HistoryError>> {
    let label = pages.group().to_owned();
    loop {
        match pages.next().await {
            Ok(Some(message)) => {
                outgoing.gather(&Line::Message(lines::message(label.clone(), message))).await?
            }
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// What of all that is kept has these words.
pub(super) async fn search(
    node: &Node,
    incoming: &mut Incoming,
    outgoing: &mut Outgoing,
    query: &str,
    group: Option<&str>,
) -> io::Result<()> {
    let told = async {
        match node.search(query, group).await {
            Ok(finds) => all_found(finds, outgoing).await,
            Err(error) => Ok(Err(error)),
        }
    };
    let result = tokio::select! {
        told = told => told?,
        () = incoming.closed() => return Ok(()),
    };
    outgoing.end(result.map(|()| 0).map_err(Failure::from)).await
}

async fn all_found(mut finds: Finds, outgoing: &mut Outgoing) -> io::Result<Result<(), HistoryError>> {
    loop {
        match finds.next().await {
            Ok(Some((label, message))) => {
                outgoing.gather(&Line::Message(lines::message(label, message))).await?;
            }
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        }
    }
}
