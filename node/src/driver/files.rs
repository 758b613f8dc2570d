//! The driver's side of files: who may fetch, who may have them, what is remembered.

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use treecast_overlay::io::MemberState;
use treecast_overlay::{GroupId, NodeId};

use super::Driver;
use super::enter::Reply;
use super::peers::peer_of;
use crate::error::Stopped;
use crate::store::{Library, Work};

/// A member who may have a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fellow {
    pub(crate) node: NodeId,
    pub(crate) nick: String,
    /// It is online, as far as is known, or a connection to it stands.
    pub(crate) is_here: bool,
}

/// More members than are known one by one: whoever asks may be one of them.
const FULL_ROSTER: usize = 200;

impl Driver {
    /// Members of a group that have not left, without this node.
    pub(crate) fn fellows(&self, group: GroupId) -> Vec<Fellow> {
        let members = self.view(group).map(|view| view.members).unwrap_or_default();
        let others = members.into_iter().filter(|it| it.node != self.me && it.state.is_member());
        let fellow = |it: treecast_overlay::io::MemberView| {
            let is_connected = peer_of(&it.node).is_some_and(|peer| self.peers.is_connected(&peer));
            Fellow { node: it.node, nick: it.nick, is_here: is_connected || it.state == MemberState::Online }
        };
        others.map(fellow).collect()
    }

    /// Whether a node is a member, as far as this node knows.
    pub(crate) fn may_fetch(&self, group: GroupId, node: NodeId) -> bool {
        let Some(view) = self.view(group) else { return false };
        match view.members.iter().find(|it| it.node == node) {
            Some(member) => member.state.is_member(),
            None => view.members.len() >= FULL_ROSTER,
        }
    }

    /// Whether a node is connected; it is dialled if not.
    pub(crate) fn reach(&mut self, node: NodeId) -> bool {
        let Some(peer) = peer_of(&node) else { return false };
        if self.peers.is_connected(&peer) {
            return true;
        }
        let addresses = self.known_addresses(node);
        let opts = DialOpts::peer_id(peer).condition(PeerCondition::DisconnectedAndNotDialing);
        // Already dialling, or nowhere to dial: the caller asks again or gives up.
        let _ = self.swarm.dial(opts.addresses(addresses).build());
        false
    }

    /// Has this written.
    pub(crate) fn write_files(&mut self, works: Vec<Work>, reply: Reply<Result<(), String>, Stopped>) {
        self.keeper.write_files(
            works,
            Box::new(move |_, saved| {
                // Who asked may have gone.
                let _ = reply.send(Ok(saved.map_err(|error| error.to_string())));
            }),
        );
    }

    /// Where what was announced is looked up while others are served.
    pub(crate) fn library(&self) -> Library {
        self.shelves.reading.clone()
    }
}
