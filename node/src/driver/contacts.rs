//! Who can be reached where: what is remembered of it, and what others are told.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use libp2p::{Multiaddr, PeerId};
use treecast_overlay::io::{GroupView, MemberState, MemberView};
use treecast_overlay::wire::ticket::{MAX_MEMBERS, Ticket};
use treecast_overlay::{Address, Admission, GroupId, NodeId};

use super::Driver;
use super::peers::{Peer, peer_of};
use crate::discovery::addresses::{is_local, useful};
use crate::discovery::reach::Outcome;
use crate::store::{Contact, KeptGroup, MAX_ADDRESSES};
use crate::view::ContactsView;

/// Addresses of one member in a ticket: TCP and QUIC on two networks.
const TICKET_ADDRESSES: usize = 4;

/// Characters that members may take in a ticket: a terminal hands on lines of up to 4,095, and a
/// ticket has to pass through chats and mails.
const TICKET_CHARACTERS: usize = 1_200;

/// Remembered nodes that are tried at the same time: as many as the core dials at once.
const AT_ONCE: usize = 16;

impl Driver {
    /// Tells the core of nodes that may be members: it connects to them while a group wants some.
    pub(super) fn look_for(&mut self, contacts: &[Contact]) {
        for contact in contacts {
            let addresses = useful(contact.addresses.iter().cloned());
            if let Some(peer) = peer_of(&contact.node).filter(|_| !addresses.is_empty()) {
                self.overlay().discovered(peer, addresses);
            }
        }
    }

    /// Tells the core of some nodes that are known from elsewhere, at each call of the next ones:
    /// those who are not there any more must not keep it from trying those who are. `alone`: there
    /// is no link at all.
    pub(crate) fn remind(&mut self, alone: bool) {
        let known = self.sought(alone);
        let next = next_of(&known, &mut self.reminded, AT_ONCE);
        self.look_for(&next);
        if !alone {
            return;
        }
        let found: Vec<_> = self.found.iter().map(|(peer, addresses)| (*peer, addresses.clone())).collect();
        for (peer, addresses) in found {
            self.overlay().discovered(peer, useful(addresses));
        }
    }

    /// Who is worth looking for, most promising first: members of groups without a neighbour, the
    /// first of each before the second of any; and if there is no link at all, whoever was there
    /// once.
    fn sought(&self, alone: bool) -> Vec<Contact> {
        let engine = self.swarm.behaviour().overlay.engine();
        let lonely = |group: &&KeptGroup| alone || engine.neighbours(group.descriptor.id()) == Some(0);
        let groups = self.keeper.kept().groups.iter().filter(lonely);
        let members = by_turns(groups.map(|group| group.members.as_slice()).collect());
        let peers = self.keeper.kept().peers.iter().filter(|_| alone);
        let mut seen = BTreeSet::new();
        members.into_iter().chain(peers).filter(|contact| seen.insert(contact.node)).cloned().collect()
    }

    /// So that the next start finds its way back in.
    pub(super) fn remember(&mut self, peer: &PeerId) {
        let (Some(node), Some(addresses)) =
            (super::peers::node_of(peer), self.peers.of(peer).map(Peer::addresses))
        else {
            return;
        };
        if !addresses.is_empty() {
            self.keeper.remember(node, addresses);
        }
    }

    /// Looks at the members of groups that have changed, and saves where they are.
    pub(super) fn remember_members(&mut self) {
        for group in self.keeper.take_touched() {
            let Some(view) = self.view(group) else { continue };
            let left = view.members.iter().filter(|member| !member.state.is_member());
            let left: Vec<NodeId> = left.map(|member| member.node).collect();
            let contacts = self.contacts_in(&view);
            self.keeper.learn_members(group, contacts, &left);
        }
    }

    /// The other members and where they are, those first that are most surely reached.
    fn contacts_in(&self, view: &GroupView) -> Vec<Contact> {
        let nodes = self.peers.nodes();
        let others = view.members.iter().filter(|member| member.node != self.me);
        let mut others: Vec<&MemberView> = others.filter(|it| it.state.is_member()).collect();
        others.sort_by_key(|member| {
            let connected = nodes.contains_key(&member.node);
            (Reverse(connected), member.state, self.rtt_of(&nodes, member.node), member.node)
        });
        let contact = |member: &MemberView| {
            let seen = nodes.get(&member.node).map(|peer| peer.addresses()).unwrap_or_default();
            let mut addresses = useful(seen.into_iter().chain(told_by(member)));
            addresses.truncate(MAX_ADDRESSES);
            Contact { node: member.node, addresses }
        };
        others.into_iter().map(contact).filter(|contact| !contact.addresses.is_empty()).collect()
    }

    fn rtt_of(&self, nodes: &BTreeMap<NodeId, &Peer>, node: NodeId) -> std::time::Duration {
        let rtt = nodes.get(&node).and_then(|peer| self.rtt(node, peer));
        rtt.unwrap_or(std::time::Duration::MAX)
    }

    /// How others can join: this node first, then the members that are most surely reached. Loopback
    /// is named only if there is nothing else: it leads nowhere on other machines.
    pub(super) fn ticket(&self, id: GroupId) -> Option<Ticket> {
        let view = self.view(id)?;
        let own = Contact { node: self.me, addresses: useful(self.addresses()) };
        let mut contacts = vec![own];
        contacts.extend(self.contacts_in(&view));
        contacts.extend(self.remembered(id));
        let far = |contact: &Contact| contact.addresses.iter().any(|address| !is_local(address));
        if contacts.iter().any(far) {
            contacts.retain(far);
        }
        let mut ticket = Ticket { descriptor: view.descriptor, members: Vec::new() };
        let most = ticket.to_string().len() + TICKET_CHARACTERS;
        for contact in contacts {
            let is_named = ticket.members.iter().any(|(node, _)| *node == contact.node);
            let addresses = spread(&contact.addresses, TICKET_ADDRESSES);
            if is_named || addresses.is_empty() || ticket.members.len() == MAX_MEMBERS {
                continue;
            }
            ticket.members.push((contact.node, addresses));
            if ticket.members.len() > 1 && ticket.to_string().len() > most {
                ticket.members.pop();
                break;
            }
        }
        Some(ticket)
    }

    /// Members that are not here now, as they were known.
    fn remembered(&self, id: GroupId) -> Vec<Contact> {
        let kept = self.keeper.kept().groups.iter().find(|group| group.descriptor.id() == id);
        kept.map(|group| group.members.clone()).unwrap_or_default()
    }

    /// How it went with the members whose addresses are known.
    pub(super) fn contacts_view(&self, id: GroupId) -> ContactsView {
        let mut view = ContactsView::default();
        for contact in self.remembered(id) {
            let Some(peer) = peer_of(&contact.node) else { continue };
            view.known += 1;
            match self.reach.last(&peer) {
                Some(Outcome::Answered) => view.answered += 1,
                Some(Outcome::Refused) => view.refused += 1,
                Some(Outcome::Failed) => view.failed += 1,
                Some(Outcome::TimedOut) | None => view.timed_out += 1,
            }
        }
        view
    }
}

/// The first of each list, then the second of each, and so on.
fn by_turns<T>(lists: Vec<&[T]>) -> Vec<&T> {
    let longest = lists.iter().map(|list| list.len()).max().unwrap_or(0);
    (0..longest).flat_map(|turn| lists.iter().filter_map(move |list| list.get(turn))).collect()
}

/// Some after those of the last call, from the first again after the last; none twice.
fn next_of<T: Clone>(all: &[T], cursor: &mut usize, most: usize) -> Vec<T> {
    if all.is_empty() {
        return Vec::new();
    }
    let from = *cursor % all.len();
    let next: Vec<T> = all.iter().cycle().skip(from).take(most.min(all.len())).cloned().collect();
    *cursor = from + next.len();
    next
}

/// Everybody who may be in a static group is a member from the start, seen or not.
pub(super) fn with_listed(mut view: GroupView) -> GroupView {
    if let Admission::Members(listed) = &view.descriptor.admission {
        for node in listed {
            if let Err(place) = view.members.binary_search_by_key(node, |member| member.node) {
                let unseen = MemberView {
                    node: *node,
                    nick: String::new(),
                    state: MemberState::Offline,
                    addresses: Vec::new(),
                    neighbour: false,
                };
                view.members.insert(place, unseen);
            }
        }
    }
    view
}

/// Whom a ticket names, and where.
pub(super) fn contacts_of(ticket: &Ticket) -> Vec<Contact> {
    let contact = |(node, addresses): &(NodeId, Vec<Address>)| {
        let mut addresses = useful(addresses.iter().filter_map(multiaddr));
        addresses.truncate(MAX_ADDRESSES);
        Contact { node: *node, addresses }
    };
    let contacts = ticket.members.iter().take(MAX_MEMBERS).map(contact);
    contacts.filter(|contact| !contact.addresses.is_empty()).collect()
}

/// Where a member says that it can be reached.
pub(super) fn told_by(member: &MemberView) -> impl Iterator<Item = Multiaddr> {
    member.addresses.iter().filter_map(multiaddr)
}

fn multiaddr(address: &Address) -> Option<Multiaddr> {
    Multiaddr::try_from(address.as_bytes().to_vec()).ok()
}

/// The first addresses, not all of one transport if there are several.
fn spread(addresses: &[Multiaddr], most: usize) -> Vec<Address> {
    use crate::discovery::addresses::transport_of;
    let (one, other): (Vec<_>, Vec<_>) =
        addresses.iter().partition(|address| transport_of(address) == transport_of(&addresses[0]));
    let mut turns: Vec<&Multiaddr> = Vec::new();
    for turn in 0..one.len().max(other.len()) {
        turns.extend(one.get(turn).into_iter().chain(other.get(turn)));
    }
    turns.into_iter().filter_map(|address| Address::new(address.to_vec())).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use treecast_overlay::Descriptor;

    fn parse(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn each_group_has_its_turn_and_nobody_is_left_out() {
        assert_eq!(by_turns(vec![&[1, 2, 3][..], &[], &[7]]), [&1, &7, &2, &3]);
        let (all, mut cursor) = ([1, 2, 3, 4, 5], 0);
        let mut turn = || next_of(&all, &mut cursor, 2);
        assert_eq!([turn(), turn(), turn()], [[1, 2], [3, 4], [5, 1]]);
        assert_eq!(next_of(&all[..1], &mut cursor, 2), [1], "the list may have become shorter");
        assert!(next_of::<u8>(&[], &mut cursor, 2).is_empty());
    }

    #[test]
    fn a_ticket_names_both_transports() {
        let all = parse(&[
            "/ip4/10.0.0.1/tcp/1",
            "/ip4/10.0.1.1/tcp/1",
            "/ip4/10.0.2.1/tcp/1",
            "/ip4/10.0.3.1/tcp/1",
            "/ip4/10.0.0.1/udp/1/quic-v1",
            "/ip4/10.0.1.1/udp/1/quic-v1",
        ]);
        let read: Vec<_> = spread(&all, 4).iter().filter_map(multiaddr).collect();
        let expected = parse(&[
            "/ip4/10.0.0.1/tcp/1",
            "/ip4/10.0.0.1/udp/1/quic-v1",
            "/ip4/10.0.1.1/tcp/1",
            "/ip4/10.0.1.1/udp/1/quic-v1",
        ]);
        assert_eq!(read, expected);
        assert!(spread(&[], 4).is_empty());
    }

    #[test]
    fn a_tickets_useless_addresses_are_dropped() {
        let bytes = |text: &str| Address::new(parse(&[text])[0].to_vec()).expect("short");
        let junk = Address::new(vec![0xff; 9]).expect("short");
        let node = |n| NodeId::from_bytes([n; 32]);
        let ticket = Ticket {
            descriptor: Descriptor::open("lobby").expect("a good name"),
            members: vec![
                (node(1), vec![junk.clone(), bytes("/ip4/127.0.0.1/tcp/1"), bytes("/ip4/10.0.0.1/tcp/1")]),
                (node(2), vec![junk]),
            ],
        };
        let contacts = contacts_of(&ticket);
        assert_eq!(contacts, [Contact { node: node(1), addresses: parse(&["/ip4/10.0.0.1/tcp/1"]) }]);
    }
}
