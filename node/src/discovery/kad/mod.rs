//! Kademlia (libp2p's, under a protocol name of our own), for two things: where a node is whose
//! remembered addresses fail, and who is in a group.
//!
//! Every node serves, whatever groups it is in: it keeps routing entries and provider records for
//! others. Members of created groups announce themselves under
//! [`GroupId::rendezvous`](treecast_overlay::GroupId::rendezvous), which does not tell the group;
//! open groups are announced nowhere.

use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::kad::{self, BucketInserts, Caching, Config, Mode};
use libp2p::swarm::{ConnectionId, NetworkBehaviour};
use libp2p::{Multiaddr, PeerId, StreamProtocol};

pub(crate) use self::store::Providers;
use super::addresses::useful;

pub(crate) mod plan;
mod store;

/// The behaviour, with our store.
pub(crate) type Kademlia = kad::Behaviour<Providers>;

/// Nodes only: no other network's table is ours.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/treecast/kad/1.0.0");

/// How long a provider record is believed. A few announcements may be lost, see [`plan`].
const RECORD_TTL: Duration = Duration::from_secs(3_600);

/// Between looks at the far parts of the table. libp2p's five minutes cost an idle node more
/// than all else that it does; new entries trigger a look of their own.
const REFRESH_EVERY: Duration = Duration::from_secs(1_800);

/// How long a query, and one answer to it, may take.
const QUERY: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(5);

/// Nodes asked at the same time (Kademlia's α). More than the paper's 3: tables are small, and
/// after a cut or a restart many entries are silent.
const PARALLEL: NonZeroUsize = NonZeroUsize::new(6).expect("it is not zero");

/// Routing entries: k = 20 in each of 256 buckets, of which log2(nodes) have any.
pub(crate) const TABLE_CAP: usize = 20 * 256;

/// A table with nobody in it.
pub(crate) fn fresh(me: PeerId) -> Kademlia {
    let mut config = Config::new(PROTOCOL);
    config
        .set_query_timeout(QUERY)
        .set_substreams_timeout(ANSWER)
        .set_parallelism(PARALLEL)
        .set_periodic_bootstrap_interval(Some(REFRESH_EVERY))
        // Values are refused by the store, so there is nothing to replicate.
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_caching(Caching::Disabled)
        .set_provider_record_ttl(Some(RECORD_TTL))
        // The plan announces, more often than libp2p and when it helps.
        .set_provider_publication_interval(None)
        .set_kbucket_inserts(BucketInserts::OnConnected);
    let mut kademlia = Kademlia::with_config(me, Providers::new(me), config);
    // On its own it serves only once somebody confirmed an address from outside, which on a
    // private network nobody does.
    kademlia.set_mode(Some(Mode::Server));
    kademlia
}

/// Where the table and the running queries have a node: what the swarm would be told if it
/// dialled. What a query found is known only while it runs.
pub(crate) fn addresses_of(kademlia: &mut Kademlia, peer: PeerId) -> Vec<Multiaddr> {
    let never = ConnectionId::new_unchecked(usize::MAX);
    let known = kademlia.handle_pending_outbound_connection(never, Some(peer), &[], Endpoint::Dialer);
    useful(known.unwrap_or_default())
}

/// The node has said itself where it listens: that, and nothing else, goes into the table.
pub(crate) fn learn(kademlia: &mut Kademlia, peer: &PeerId, listens: &[Multiaddr]) {
    for address in listens {
        kademlia.add_address(peer, address.clone());
    }
    if listens.is_empty() {
        return;
    }
    let stale: Vec<Multiaddr> = kademlia
        .kbucket(*peer)
        .into_iter()
        .flat_map(|bucket| {
            let entries = bucket.iter().filter(|entry| entry.node.key.preimage() == peer);
            entries.flat_map(|entry| entry.node.value.iter().cloned().collect::<Vec<_>>()).collect::<Vec<_>>()
        })
        .filter(|address| !listens.contains(address))
        .collect();
    for address in stale {
        kademlia.remove_address(peer, &address);
    }
}

/// Routing entries, and those of them that are connected is not told: all.
pub(crate) fn table_len(kademlia: &mut Kademlia) -> usize {
    kademlia.kbuckets().map(|bucket| bucket.num_entries()).sum()
}
