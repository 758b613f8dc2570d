//! Round trips that are measured because somebody asks.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use tokio::sync::oneshot;
use tokio::time::Instant;
use treecast_overlay::NodeId;

use super::Driver;
use super::peers::peer_of;
use crate::discovery::addresses::{is_direct, transport_of};
use crate::view::PingReport;

/// Who waits for which node's answer.
#[derive(Default)]
pub(super) struct Pings {
    waiting: HashMap<NodeId, Vec<Waiting>>,
}

struct Waiting {
    asked: Instant,
    reply: oneshot::Sender<PingReport>,
}

impl Pings {
    fn wait(&mut self, node: NodeId) -> oneshot::Receiver<PingReport> {
        self.waiting.retain(|_, all| {
            all.retain(|it| !it.reply.is_closed());
            !all.is_empty()
        });
        let (reply, answer) = oneshot::channel();
        self.waiting.entry(node).or_default().push(Waiting { asked: Instant::now(), reply });
        answer
    }

    /// A node has answered: tells those who had asked by the time that its ping was sent.
    fn on_round_trip(&mut self, report: &PingReport) {
        let Some(all) = self.waiting.get_mut(&report.node) else { return };
        for answered in all.extract_if(.., |it| it.asked.elapsed() >= report.rtt) {
            // Who asked may have given up.
            let _ = answered.reply.send(report.clone());
        }
    }

    /// Answers do not come any more on a link that is gone: who waits asks again.
    pub(super) fn on_link_closed(&mut self, node: NodeId) {
        self.waiting.remove(&node);
    }
}

impl Driver {
    /// Pings a node now. `None` while there is no link to it; it is dialled then, with `anew` even
    /// if it is connected: its link may have been closed as of no use.
    pub(crate) fn ping(&mut self, node: NodeId, anew: bool) -> Option<oneshot::Receiver<PingReport>> {
        if node == self.me {
            let answer = self.pings.wait(node);
            let (rtt, transport, direct) = (Duration::ZERO, "local", true);
            self.pings.on_round_trip(&PingReport { node, rtt, transport, direct });
            return Some(answer);
        }
        let peer = peer_of(&node)?;
        if self.is_linked(&peer) {
            let answer = self.pings.wait(node);
            self.overlay().ping(node);
            return Some(answer);
        }
        let condition =
            if anew { PeerCondition::NotDialing } else { PeerCondition::DisconnectedAndNotDialing };
        let addresses = self.known_addresses(node);
        let opts = DialOpts::peer_id(peer).condition(condition).addresses(addresses);
        // Already dialling, or nowhere to dial: the caller asks again or gives up.
        let _ = self.swarm.dial(opts.build());
        None
    }

    pub(super) fn on_round_trip(&mut self, node: NodeId, rtt: Duration) {
        let connected = peer_of(&node).and_then(|peer| self.peers.of(&peer));
        let Some(remote) = connected.and_then(|peer| self.remote(node, peer)) else { return };
        let (transport, direct) = (transport_of(remote), is_direct(remote));
        self.pings.on_round_trip(&PingReport { node, rtt, transport, direct });
    }
}
