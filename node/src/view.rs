//! What a node says about itself.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::Multiaddr;
use treecast_overlay::io::{CollectionView, GroupView, MemberState, MemberView};
use treecast_overlay::{Life, NodeId, Seq};

use crate::discovery::ear::Multicast;
use crate::error::GroupError;
use crate::handle::Node;

/// How long those who are online may take to say what they have: longer than one round of the core's
/// questions takes to the next. Guess.
const ANSWERS: Duration = Duration::from_millis(1_000);

/// How a node is.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeStatus {
    /// Who.
    pub node: NodeId,
    /// What it calls itself.
    pub nick: String,
    /// Since its start.
    pub uptime: Duration,
    /// Where it listens.
    pub addresses: Vec<Multiaddr>,
    /// Connected peers.
    pub peers: usize,
    /// Names of its groups.
    pub groups: Vec<String>,
    /// How full each bounded collection is.
    pub collections: Vec<CollectionView>,
    /// mDNS is on.
    pub mdns: bool,
    /// Why what should be remembered is not saved, if that is how it is.
    pub store_failure: Option<String>,
    /// Where another node runs with this one's identity, as was heard lately; empty if none does.
    pub same_identity: Vec<String>,
    /// What came of multicast; `None` without mDNS, or if it cannot be listened to.
    pub multicast: Option<Multicast>,
    /// Kademlia is on.
    pub kad: bool,
}

/// A connected peer.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerView {
    /// Who.
    pub node: NodeId,
    /// What it calls itself; empty if not known.
    pub nick: String,
    /// Where it can be reached.
    pub addresses: Vec<Multiaddr>,
    /// `tcp` or `quic`.
    pub transport: &'static str,
    /// No relay lies between.
    pub direct: bool,
    /// Round trip; `None` before the first ping.
    pub rtt: Option<Duration>,
    /// Names of the groups it shares with this node.
    pub groups: Vec<String>,
}

/// A group, as this node sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupInfo {
    /// What it is called here.
    pub label: String,
    /// This node was removed from it.
    pub removed: bool,
    /// The core's view.
    pub view: GroupView,
    /// Round trips to neighbours, measured here.
    pub rtts: BTreeMap<NodeId, Duration>,
    /// How others can join it now; none for open groups, whose name is enough. (See
    /// [`Node::invite`](crate::Node::invite) for those.)
    pub ticket: Option<String>,
    /// How it went with the members whose addresses are known from a ticket or from before.
    pub contacts: ContactsView,
}

/// How the last attempts to reach some nodes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContactsView {
    /// How many there are.
    pub known: usize,
    /// They answered.
    pub answered: usize,
    /// Their machines answered that nobody listens there.
    pub refused: usize,
    /// Nothing came back, or not yet.
    pub timed_out: usize,
    /// Somebody else answers there, or no way leads there.
    pub failed: usize,
}

/// A ping's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct PingReport {
    /// Who answered.
    pub node: NodeId,
    /// Round trip.
    pub rtt: Duration,
    /// `tcp` or `quic`.
    pub transport: &'static str,
    /// No relay lies between.
    pub direct: bool,
}

impl Node {
    /// The members of a group that do not say that they have this batch of the node, those that left
    /// aside. Who is online is given a second to say so.
    ///
    /// # Errors
    /// When the node is in no such group, or has stopped.
    pub async fn lacking(&self, group: &str, life: Life, seq: Seq) -> Result<Vec<MemberView>, GroupError> {
        let lacking = || {
            let group = group.to_owned();
            self.ask(move |driver| driver.lacking(&group, life, seq))
        };
        let known = lacking().await??;
        if known.iter().all(|it| it.state != MemberState::Online) {
            return Ok(known);
        }
        // Once all that were online had it nobody was asked any more: not who has come back since, either.
        let name = group.to_owned();
        if let Some(all) = self.ask(move |driver| driver.ask_who_has(&name, life, seq)).await? {
            let _ = tokio::time::timeout(ANSWERS, all).await;
        }
        Ok(lacking().await??)
    }
}
