//! Carrying frames: dialling, serialising on the uplink, losing, delivering, closing.

use std::time::Duration;

use bytes::Bytes;

use super::link::{Conn, ConnIx, End, Side};
use super::meter::BatchIx;
use super::network::NetworkModel;
use super::node::{self, Host, Leaving, NodeIx};
use super::queue::{Cargo, Happening};
use super::record::{Captured, What};
use super::world::World;
use crate::id::{Address, LinkId, NodeId};
use crate::io::{CloseReason, Input, Lane};
use crate::time::Time;
use crate::wire::frame::is_repairable;

/// How long a driver gathers before it reports what has left its queues.
const DRAIN_QUANTUM: Duration = Duration::from_micros(200);

impl World {
    /// One way between two nodes, without queueing.
    pub fn one_way(&self, a: NodeIx, b: NodeIx) -> Duration {
        let (low, high) = (a.min(b).0 as u64, a.max(b).0 as u64);
        let pair = self.pair_seed ^ (low << 32 | high).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.network.one_way(&self.nodes[a.0].site, &self.nodes[b.0].site, pair)
    }

    /// What a frame takes from one node to another at least: one way and the processing there,
    /// as if the uplink were infinitely wide.
    pub(super) fn direct(&self, from: NodeIx, to: NodeIx) -> Duration {
        self.one_way(from, to) + self.network.processing
    }

    pub(super) fn dial(&mut self, dialler: NodeIx, target: NodeId, addresses: &[Address]) {
        let run = self.nodes[dialler.0].run;
        let failed = Happening::DialFailed { node: dialler, run, target };
        let found = self.index.get(&target).copied().filter(|ix| {
            *ix != dialler
                && (self.nodes[dialler.0].known.contains(ix) || addresses.contains(&node::address(*ix)))
        });
        let Some(ix) = found else {
            // No address leads there: the driver knows at once.
            return self.queue.push(self.now + Duration::from_millis(1), failed);
        };
        let round_trip = self.one_way(dialler, ix) * 2;
        if self.blocked_either_way(dialler, ix) || self.nodes[ix.0].host == Host::Down {
            self.queue.push(self.now + self.network.dial_timeout, failed);
        } else if !self.nodes[ix.0].listens() {
            self.queue.push(self.now + round_trip, failed);
        } else {
            let open = Happening::Open { dialler, run, target: ix };
            self.queue.push(self.now + round_trip.mul_f64(1.5), open);
        }
    }

    pub(super) fn on_open(&mut self, dialler: NodeIx, run: u32, target: NodeIx) {
        if !self.runs(dialler, run) {
            return;
        }
        if !self.nodes[target.0].listens() || self.blocked_either_way(dialler, target) {
            let target = self.nodes[target.0].id;
            self.feed(dialler, Input::DialFailed { node: target });
            return;
        }
        let conn = self.connect(dialler, target);
        for side in [1, 0] {
            let end = &self.conns[conn].ends[side];
            let (node, link) = (end.node, end.link);
            let peer = self.conns[conn].ends[1 - side].node;
            self.nodes[node.0].disk.met.insert(peer);
            self.nodes[node.0].known.insert(peer);
            let up = Input::LinkUp { link, node: self.nodes[peer.0].id };
            self.feed(node, up);
        }
    }

    pub(super) fn connect(&mut self, dialler: NodeIx, target: NodeIx) -> ConnIx {
        let conn = self.conns.len();
        let one_way = self.one_way(dialler, target);
        let ends = [dialler, target];
        let ends = std::array::from_fn(|side| {
            let node = &mut self.nodes[ends[side].0];
            let link = LinkId(node.links.len() as u64);
            node.links.push((conn, side));
            End::new(ends[side], node.run, link)
        });
        self.conns.push(Conn { ends, one_way });
        conn
    }

    /// What an engine sends, unless somebody tampers with it.
    pub(super) fn send(&mut self, from: NodeIx, link: LinkId, lane: Lane, frame: Bytes) {
        if let Some(liar) = self.liars.get_mut(&from) {
            for told in liar.tell(frame) {
                self.send_frame(from, link, lane, told);
            }
            return;
        }
        match self.tamper.take() {
            Some((liar, mut change)) if liar == from => {
                for changed in change(frame) {
                    self.send_frame(from, link, lane, changed);
                }
                self.tamper = Some((liar, change));
            }
            other => {
                self.tamper = other;
                self.send_frame(from, link, lane, frame);
            }
        }
    }

    fn send_frame(&mut self, from: NodeIx, link: LinkId, lane: Lane, frame: Bytes) {
        let Some((conn, side)) = self.nodes[from.0].end(link) else { return };
        let to = self.conns[conn].ends[1 - side].node;
        if let Some(captured) = &mut self.captured
            && captured.len() < self.capture_max
        {
            captured.push(Captured { from, to, lane, frame: frame.clone() });
        }
        let blocked = self.blocked(from, to);
        let end = &mut self.conns[conn].ends[side];
        if !end.open {
            return;
        }
        if blocked || end.unheard || !end.stalled.is_empty() {
            end.stalled.push_back((lane, frame));
            return;
        }
        self.transmit(conn, side, lane, frame, Duration::ZERO);
    }

    /// Puts a frame on the uplink; `late` is what it waited besides.
    pub(super) fn transmit(
        &mut self,
        conn: ConnIx,
        side: Side,
        lane: Lane,
        mut frame: Bytes,
        late: Duration,
    ) {
        let one_way = self.conns[conn].one_way;
        let batch = self.measure(conn, side, &mut frame);
        let (from, link) = (self.conns[conn].ends[side].node, self.conns[conn].ends[side].link);
        let from = &mut self.nodes[from.0];
        let on_wire = frame.len() + self.network.overhead;
        let start = from.uplink_free_ns.max(self.now.as_micros().saturating_mul(1_000));
        from.uplink_free_ns = start.saturating_add(from.serialisation_ns(on_wire));
        let leaves = Time::from_micros(from.uplink_free_ns.div_ceil(1_000));

        let (lost, mut delay) = self.misfortune(one_way, &frame);
        delay += self.misfortune_there(conn, one_way);
        delay += late + self.network.jitter.mul_f64(self.rng.unit());
        let twice = !lost && self.comes_twice(&frame);
        self.traffic.frames += 1;
        self.traffic.bytes += on_wire as u64;
        self.traffic.lost += u64::from(lost);

        self.occupy_uplink(conn, side, Leaving { at: leaves, link, lane, bytes: frame.len() });
        if lost {
            return;
        }
        let end = &mut self.conns[conn].ends[side];
        let at = end.arrival(lane, leaves + one_way + self.network.processing + delay);
        let arrive = |frame| Happening::Arrive {
            conn,
            to: 1 - side,
            lane,
            departed: leaves,
            cargo: Cargo { frame, batch },
        };
        if twice {
            self.queue.push(at, arrive(frame.clone()));
        }
        self.queue.push(at, arrive(frame));
    }

    /// Tells the meter, if there is one; the batch in the frame.
    fn measure(&mut self, conn: ConnIx, side: Side, frame: &mut Bytes) -> Option<BatchIx> {
        let meter = self.meter.as_mut()?;
        let [from, to] = [side, 1 - side].map(|side| self.conns[conn].ends[side].node);
        let region = |node: NodeIx| self.nodes[node.0].site.region;
        meter.on_send(from, region(from) != region(to), frame)
    }

    /// Whether the frame is lost for good, and by how much its losses delay it.
    fn misfortune(&mut self, one_way: Duration, frame: &[u8]) -> (bool, Duration) {
        let mut delay = Duration::ZERO;
        while self.network.loss > 0.0 && self.rng.unit() < self.network.loss {
            if self.network.datagram.is_some_and(|is_datagram| is_datagram(frame)) {
                return (true, delay);
            }
            delay += NetworkModel::retransmission(one_way);
        }
        (false, delay)
    }

    /// By how much it is late for being lost on the links of the nodes at its ends.
    fn misfortune_there(&mut self, conn: ConnIx, one_way: Duration) -> Duration {
        let mut delay = Duration::ZERO;
        for end in [0, 1] {
            let loss = self.nodes[self.conns[conn].ends[end].node.0].site.loss;
            let mut again = NetworkModel::retransmission(one_way);
            while loss > 0.0 && self.rng.unit() < loss {
                delay += again;
                again *= 2;
            }
        }
        delay
    }

    fn comes_twice(&mut self, frame: &[u8]) -> bool {
        self.network.duplicate > 0.0
            && self.network.datagram.unwrap_or(is_repairable)(frame)
            && self.rng.unit() < self.network.duplicate
    }

    pub(super) fn on_arrive(&mut self, conn: ConnIx, to: Side, lane: Lane, departed: Time, cargo: Cargo) {
        let Cargo { frame, batch } = cargo;
        let ends = &self.conns[conn].ends;
        let never_left = ends[1 - to].killed.is_some_and(|killed| departed > killed);
        let (node, link, run) = (ends[to].node, ends[to].link, ends[to].run);
        let from = ends[1 - to].node;
        if ends[to].open && !never_left && self.runs(node, run) {
            if let (Some(meter), Some(batch)) = (&mut self.meter, batch) {
                meter.on_arrive(batch, from, node);
            }
            self.feed(node, Input::Frame { link, lane, frame });
        }
    }

    /// Notes what is on an uplink, and has its engine told when it is out.
    fn occupy_uplink(&mut self, conn: ConnIx, side: Side, leaving: Leaving) {
        let (ix, run) = (self.conns[conn].ends[side].node, self.conns[conn].ends[side].run);
        let node = &mut self.nodes[ix.0];
        node.leaving.push_back(leaving);
        if !node.drain_scheduled {
            node.drain_scheduled = true;
            self.queue.push(leaving.at + DRAIN_QUANTUM, Happening::Drain { node: ix, run });
        }
    }

    pub(super) fn on_drain(&mut self, ix: NodeIx, run: u32) {
        if !self.runs(ix, run) {
            return;
        }
        let node = &mut self.nodes[ix.0];
        node.drain_scheduled = false;
        for (link, lane, bytes) in node.left(self.now) {
            let open =
                self.nodes[ix.0].end(link).is_some_and(|(conn, side)| self.conns[conn].ends[side].open);
            if open {
                self.feed(ix, Input::Drained { link, lane, bytes });
            }
        }
        let node = &mut self.nodes[ix.0];
        // Feeding may have put more on the uplink, and stopped the node.
        if let Some(next) = node.leaving.front().filter(|_| !node.drain_scheduled) {
            let at = next.at.max(self.now + DRAIN_QUANTUM);
            node.drain_scheduled = true;
            self.queue.push(at, Happening::Drain { node: ix, run });
        }
    }

    /// The engine closes a link.
    pub(super) fn close(&mut self, node: NodeIx, link: LinkId, reason: CloseReason) {
        let Some((conn, side)) = self.nodes[node.0].end(link) else { return };
        if self.conns[conn].ends[side].open {
            let peer = self.conns[conn].ends[1 - side].node;
            self.record(node, What::Closed { peer, reason });
            self.conns[conn].ends[side].shut();
            self.queue.push(self.now, Happening::Down { conn, side });
            self.tell_peer_of_end(conn, side);
        }
    }

    /// The other end of a closed end hears of it behind all that was sent before; or, across
    /// a cut, only by its own timeout.
    pub(super) fn tell_peer_of_end(&mut self, conn: ConnIx, side: Side) {
        let (ends, one_way) = (&self.conns[conn].ends, self.conns[conn].one_way);
        let at = if self.blocked(ends[side].node, ends[1 - side].node) {
            self.now + self.network.link_timeout
        } else {
            (self.now + one_way + self.network.processing).max(ends[side].all_arrived())
        };
        self.queue.push(at, Happening::Down { conn, side: 1 - side });
    }

    pub(super) fn on_down(&mut self, conn: ConnIx, side: Side) {
        let end = &mut self.conns[conn].ends[side];
        if end.told_down {
            return;
        }
        end.told_down = true;
        end.shut();
        let (node, link, run) = (end.node, end.link, end.run);
        if self.runs(node, run) {
            self.feed(node, Input::LinkDown { link });
        }
    }
}
