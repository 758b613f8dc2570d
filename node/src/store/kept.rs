//! What is kept, as the node has it in memory: small, read whole at the start.

use std::collections::BTreeMap;

use libp2p::Multiaddr;
use treecast_overlay::{Descriptor, Digest, GroupId, Life, NodeId, PastLife, Seq};

/// Nodes whose addresses are remembered. Guess: enough to find a way back in.
pub(crate) const MAX_PEERS: usize = 256;

/// Members remembered of one group. Guess: a few of them will be where they were.
pub(crate) const MAX_MEMBERS: usize = 64;

/// Addresses remembered of one node.
pub(crate) const MAX_ADDRESSES: usize = 8;

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The node itself.
    pub(crate) node: KeptNode,
    /// Groups to go on with, in the order of joining.
    pub(crate) groups: Vec<KeptGroup>,
    /// The highest life used in each group, also of those that were left.
    pub(crate) lives: BTreeMap<GroupId, KeptLife>,
    /// Who was connected, latest first.
    pub(crate) peers: Vec<Contact>,
}

/// The node itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeptNode {
    /// What it calls itself, if it was ever told.
    pub(crate) nick: Option<String>,
    /// The port of the default TCP listeners.
    pub(crate) tcp_port: Option<u16>,
    /// The port of the default QUIC listeners.
    pub(crate) quic_port: Option<u16>,
}

/// A group the node is in until it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptGroup {
    /// What it is called here; no two are called the same.
    pub(crate) label: String,
    /// What it is.
    pub(crate) descriptor: Descriptor,
    /// Since when.
    pub(crate) joined_ms: u64,
    /// Other members and where they were, or where a ticket says they are.
    pub(crate) members: Vec<Contact>,
}

/// A node and where it can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contact {
    /// Who.
    pub(crate) node: NodeId,
    /// Where, best first.
    pub(crate) addresses: Vec<Multiaddr>,
}

/// The last life in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeptLife {
    /// Which.
    pub(crate) life: Life,
    /// The first seq it did not use and the digest before that, if it ended in good order.
    pub(crate) end: Option<(Seq, Digest)>,
}

impl KeptGroup {
    /// These members are there, it is said just now.
    pub(crate) fn learn(&mut self, contacts: Vec<Contact>) {
        for contact in contacts.into_iter().rev() {
            self.members.retain(|known| known.node != contact.node);
            self.members.insert(0, contact);
        }
        self.members.truncate(MAX_MEMBERS);
    }
}

impl Kept {
    /// The highest life used in any group; 0 if none.
    pub(crate) fn last_life(&self) -> Life {
        self.lives.values().map(|it| it.life).max().unwrap_or(0)
    }

    /// Where lives ended, as far as that is surely known.
    pub(crate) fn ends(&self) -> Vec<PastLife> {
        let end = |(group, it): (&GroupId, &KeptLife)| {
            let (end, digest) = it.end?;
            Some(PastLife { group: *group, life: it.life, end, digest })
        };
        self.lives.iter().filter_map(end).collect()
    }

    /// The group of this id.
    pub(crate) fn group_mut(&mut self, id: GroupId) -> Option<&mut KeptGroup> {
        self.groups.iter_mut().find(|it| it.descriptor.id() == id)
    }

    /// Puts a node first among those remembered. Says whether anything changed but the order.
    pub(crate) fn remember_peer(&mut self, mut contact: Contact) -> bool {
        contact.addresses.truncate(MAX_ADDRESSES);
        let changed = !self.peers.contains(&contact);
        self.peers.retain(|kept| kept.node != contact.node);
        self.peers.insert(0, contact);
        self.peers.truncate(MAX_PEERS);
        changed
    }
}

/// Characters of a group's name, at most.
const LONGEST_NAME: usize = 64;

/// A name for a group that no other has here: its own, or `name~ab12` with as much of its id as it
/// takes.
pub(crate) fn free_label(descriptor: &Descriptor, is_taken: impl Fn(&str) -> bool) -> String {
    if !is_taken(&descriptor.name) {
        return descriptor.name.clone();
    }
    let digits = descriptor.id().to_string();
    // A name that is given here can be typed like any other: it is no longer than names may be.
    let mut longer = (4..=LONGEST_NAME / 2).map(|length| {
        let stem: String = descriptor.name.chars().take(LONGEST_NAME - 1 - length).collect();
        format!("{stem}~{}", &digits[..length])
    });
    longer.find(|label| !is_taken(label)).unwrap_or(digits.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_that_is_taken_gives_way() {
        let long = Descriptor::open(&"茶".repeat(LONGEST_NAME)).expect("as long as may be");
        let label = free_label(&long, |label| label == long.name);
        assert_eq!(label.chars().count(), LONGEST_NAME);
        assert!(label.ends_with(&format!("~{}", long.id().short())), "{label}");
        Descriptor::open(&label).expect("it can be typed");
    }

    #[test]
    fn a_name_that_is_taken_gets_some_of_the_id() {
        let tea = Descriptor::open("茶 room").expect("a good name");
        let digits = tea.id().to_string();
        assert_eq!(free_label(&tea, |_| false), "茶 room");
        let mut taken = vec!["茶 room".to_owned()];
        let short = free_label(&tea, |label| taken.iter().any(|it| it == label));
        assert_eq!(short, format!("茶 room~{}", tea.id().short()));
        taken.push(short);
        let longer = free_label(&tea, |label| taken.iter().any(|it| it == label));
        assert_eq!(longer, format!("茶 room~{}", &digits[..5]));
    }

    #[test]
    fn the_latest_peers_are_remembered() {
        let mut kept = Kept::default();
        let address: Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().expect("an address");
        let contact = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            Contact { node: NodeId::from_bytes(bytes), addresses: vec![address.clone(); 99] }
        };
        assert!(kept.remember_peer(contact(0)));
        assert!(!kept.remember_peer(contact(0)));
        for n in 0..MAX_PEERS {
            kept.remember_peer(contact(n + 1));
        }
        assert_eq!(kept.peers.len(), MAX_PEERS);
        assert!(!kept.peers.iter().any(|it| it.node == contact(0).node));
        assert_eq!(kept.peers[0].addresses.len(), MAX_ADDRESSES);
    }
}
