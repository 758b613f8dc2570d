//! What goes wrong: crashes, cuts, slow nodes.

use std::time::Duration;

use super::link::{ConnIx, Side};
use super::network::NetworkModel;
use super::node::{Host, NodeIx};
use super::queue::Happening;
use super::record::{Stop, What};
use super::world::World;

/// How a node crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process dies; its operating system closes the connections, so peers hear of it.
    Process,
    /// The host goes silent; peers hear nothing until their own timeouts.
    Host,
}

/// Frames from these nodes to those do not pass.
pub(super) struct Cut {
    pub(super) id: u64,
    from: Vec<bool>,
    to: Vec<bool>,
}

impl Cut {
    fn blocks(&self, from: NodeIx, to: NodeIx) -> bool {
        let within = |side: &[bool], node: NodeIx| side.get(node.0).copied().unwrap_or(false);
        within(&self.from, from) && within(&self.to, to)
    }
}

impl World {
    /// The node crashes. Nothing if it does not run.
    pub fn crash(&mut self, node: NodeIx, how: Crash) {
        let stop = match how {
            Crash::Process => Stop::Killed,
            Crash::Host => Stop::HostLost,
        };
        self.halt(node, stop);
    }

    /// Ends the node's run.
    pub(super) fn halt(&mut self, node: NodeIx, stop: Stop) {
        if self.nodes[node.0].engine.take().is_none() {
            return;
        }
        if stop == Stop::HostLost {
            self.nodes[node.0].host = Host::Down;
        }
        if self.config.history {
            self.nodes[node.0].disk.on_stop(stop, &mut self.rng);
        }
        self.record(node, What::Stopped(stop));
        for (conn, side) in self.nodes[node.0].links.clone() {
            self.end_of_run(conn, side, stop);
        }
    }

    fn end_of_run(&mut self, conn: ConnIx, side: Side, stop: Stop) {
        let now = self.now;
        let end = &mut self.conns[conn].ends[side];
        let was_open = end.open;
        end.shut();
        end.told_down = true;
        if stop != Stop::Goodbye {
            end.killed = Some(now);
        }
        if !was_open {
            return;
        }
        if stop == Stop::HostLost {
            self.conns[conn].ends[1 - side].unheard = true;
            let timeout = self.network.link_timeout.mul_f64(0.75 + 0.5 * self.rng.unit());
            self.queue.push(now + timeout, Happening::Down { conn, side: 1 - side });
        } else {
            self.tell_peer_of_end(conn, side);
        }
    }

    /// A host that is back resets the connections of its former run.
    pub(super) fn reset_former_links(&mut self, node: NodeIx) {
        for (conn, side) in std::mem::take(&mut self.nodes[node.0].links) {
            if self.conns[conn].ends[1 - side].open {
                let at = self.now + self.conns[conn].one_way;
                self.queue.push(at, Happening::Down { conn, side: 1 - side });
            }
        }
    }

    /// Nothing passes between two sets of nodes any more, either way. Connections across
    /// stall, and go down after [`NetworkModel::link_timeout`].
    pub fn cut(&mut self, a: &[NodeIx], b: &[NodeIx]) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Nothing passes from some nodes to some others any more.
    pub fn cut_one_way(&mut self, from: &[NodeIx], to: &[NodeIx]) {
        let mark = |side: &[NodeIx]| {
            let mut marked = vec![false; self.nodes.len()];
            side.iter().for_each(|node| marked[node.0] = true);
            marked
        };
        self.cuts_made += 1;
        let cut = Cut { id: self.cuts_made, from: mark(from), to: mark(to) };
        for (conn, link) in self.conns.iter().enumerate() {
            let [a, b] = [link.ends[0].node, link.ends[1].node];
            let open = link.ends[0].open || link.ends[1].open;
            if open && (cut.blocks(a, b) || cut.blocks(b, a)) {
                let timeout = self.network.link_timeout.mul_f64(0.75 + 0.5 * self.rng.unit());
                self.queue.push(self.now + timeout, Happening::CutTimeout { conn, cut: cut.id });
            }
        }
        self.cuts.push(cut);
    }

    /// All cuts heal: what stalled goes on after a retransmission.
    pub fn heal(&mut self) {
        self.cuts.clear();
        for conn in 0..self.conns.len() {
            for side in [0, 1] {
                let end = &mut self.conns[conn].ends[side];
                if !end.unheard {
                    let stalled = std::mem::take(&mut end.stalled);
                    let late = NetworkModel::retransmission(self.conns[conn].one_way);
                    for (lane, frame) in stalled {
                        self.transmit(conn, side, lane, frame, late);
                    }
                }
            }
        }
    }

    pub(super) fn on_cut_timeout(&mut self, conn: ConnIx, cut: u64) {
        if self.cuts.iter().any(|it| it.id == cut) {
            self.on_down(conn, 0);
            self.on_down(conn, 1);
        }
    }

    pub(super) fn blocked(&self, from: NodeIx, to: NodeIx) -> bool {
        self.cuts.iter().any(|cut| cut.blocks(from, to))
    }

    pub(super) fn blocked_either_way(&self, a: NodeIx, b: NodeIx) -> bool {
        self.blocked(a, b) || self.blocked(b, a)
    }

    /// The node's uplink has this many bytes a second from now on.
    pub fn set_uplink(&mut self, node: NodeIx, bytes_per_s: u64) {
        self.nodes[node.0].site.bytes_per_s = bytes_per_s;
    }

    /// How many bytes a second the node's uplink takes.
    pub fn uplink(&self, node: NodeIx) -> u64 {
        self.nodes[node.0].site.bytes_per_s
    }

    /// By how much the node's wall clock is ahead, from its next start on.
    pub fn set_clock_skew_ms(&mut self, node: NodeIx, ahead: i64) {
        self.nodes[node.0].clock_skew_ms = ahead;
    }

    /// The chance that a transmission is lost, from now on.
    pub fn set_loss(&mut self, loss: f64) {
        self.network.loss = loss.clamp(0.0, 0.95);
    }

    /// The chance that a transmission is lost on a node's own link, either way, from now on. There the wait
    /// for the next one doubles each time (RFC 6298 §5.5).
    pub fn set_loss_at(&mut self, node: NodeIx, loss: f64) {
        self.nodes[node.0].site.loss = loss.clamp(0.0, 0.95);
    }

    /// Loses a node's links without either end having failed: each end hears of it after one
    /// way, and the engines may dial again.
    pub fn drop_links(&mut self, node: NodeIx) {
        for (conn, side) in self.nodes[node.0].links.clone() {
            if self.conns[conn].ends[side].open {
                self.conns[conn].ends[side].killed = Some(self.now);
                self.conns[conn].ends[1 - side].killed = Some(self.now);
                self.queue.push(self.now, Happening::Down { conn, side });
                let at = self.now + self.conns[conn].one_way.max(Duration::from_micros(1));
                self.queue.push(at, Happening::Down { conn, side: 1 - side });
            }
        }
    }
}
