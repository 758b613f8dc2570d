//! What a data directory remembers, for who looks at it without starting a node.

use std::collections::BTreeMap;
use std::path::Path;

use libp2p::Multiaddr;
use treecast_overlay::NodeId;

use crate::error::StartError;
use crate::failure::Failure;
use crate::store::{Contact, Store};

/// What a data directory remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The default listeners' TCP port, once there were any.
    pub tcp_port: Option<u16>,
    /// Their QUIC port.
    pub quic_port: Option<u16>,
    /// Names of the groups that the node is in.
    pub groups: Vec<String>,
    /// Nodes that are known, members of the groups first.
    pub nodes: Vec<RememberedNode>,
}

/// A node that was met, or that a ticket named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RememberedNode {
    /// Who.
    pub node: NodeId,
    /// Names of the groups it is in, as far as that is remembered.
    pub groups: Vec<String>,
    /// Where it was.
    pub addresses: Vec<Multiaddr>,
}

/// Reads what the data directory remembers, whether a node runs there or not, and changes nothing.
/// `None` if no node was ever started there.
///
/// # Errors
/// When its store cannot be read, in the words that a start would fail with.
pub fn remembered(data_dir: &Path) -> Result<Option<Remembered>, Failure> {
    let Some(kept) = Store::look(data_dir).map_err(StartError::from)? else { return Ok(None) };
    let mut nodes: Vec<RememberedNode> = Vec::new();
    let mut places: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut add = |contact: &Contact, group: Option<&str>| {
        let place = *places.entry(contact.node).or_insert_with(|| {
            nodes.push(RememberedNode { node: contact.node, groups: Vec::new(), addresses: Vec::new() });
            nodes.len() - 1
        });
        let node = &mut nodes[place];
        node.groups.extend(group.map(str::to_owned));
        for address in &contact.addresses {
            if !node.addresses.contains(address) {
                node.addresses.push(address.clone());
            }
        }
    };
    for group in &kept.groups {
        group.members.iter().for_each(|member| add(member, Some(&group.label)));
    }
    kept.peers.iter().for_each(|peer| add(peer, None));
    Ok(Some(Remembered {
        tcp_port: kept.node.tcp_port,
        quic_port: kept.node.quic_port,
        groups: kept.groups.iter().map(|group| group.label.clone()).collect(),
        nodes,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;
    use crate::store::{KeptGroup, KeptNode, Work};
    use treecast_overlay::Descriptor;

    #[test]
    fn looking_changes_nothing_and_goes_on_beside_a_node() {
        let scratch = Scratch::new();
        assert_eq!(remembered(scratch.path()), Ok(None));
        assert_eq!(std::fs::read_dir(scratch.path()).expect("there").count(), 0, "nothing was made");
        let (mut store, _) = Store::open(scratch.path(), 1).expect("opens");
        let at = |text: &str| vec![text.parse().expect("an address")];
        let (ada, ben) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let group = |label: &str| KeptGroup {
            label: label.into(),
            descriptor: Descriptor::open(label).expect("a good name"),
            joined_ms: 1,
            members: vec![Contact { node: ada, addresses: at("/ip4/10.0.0.1/tcp/1") }],
        };
        let node = KeptNode { tcp_port: Some(4001), ..KeptNode::default() };
        let peer = |node, text: &str| Contact { node, addresses: at(text) };
        let peers = vec![peer(ben, "/ip4/10.0.0.2/tcp/1"), peer(ada, "/ip4/10.0.0.1/tcp/2")];
        let keep = |label| Work::Keep(Box::new(group(label)));
        let peers = peers.into_iter().map(|contact| Work::Peer { contact, seen_ms: 2 });
        let all: Vec<Work> = [Work::Node(node), keep("a"), keep("b")].into_iter().chain(peers).collect();
        store.write(&all).expect("written");
        let seen = remembered(scratch.path()).expect("read beside the open store").expect("there");
        assert_eq!((seen.tcp_port, seen.groups.len(), seen.nodes.len()), (Some(4001), 2, 2));
        assert_eq!((seen.nodes[0].node, seen.nodes[0].groups.len()), (ada, 2));
        assert_eq!(seen.nodes[0].addresses.len(), 2, "what both say");
        drop(store);
        std::fs::write(scratch.path().join("treecast.db"), "no database at all, but long enough to be one")
            .expect("damaged");
        assert!(remembered(scratch.path()).is_err());
    }
}
