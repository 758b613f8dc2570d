//! Measuring while it happens, so that a long run of many nodes need not be recorded.
//!
//! A [`World`](super::World) with a meter keeps no records. What it would record is counted
//! here: frames as they are sent and arrive ([`batches`]), messages as they are delivered
//! ([`ledger`]).

mod batches;
mod ledger;
mod stats;

use bytes::Bytes;

pub(super) use batches::{BatchIx, Batches, Sums};
pub(super) use ledger::{Ledger, Message, UNDELIVERED};
pub(super) use stats::{Histogram, Stats};

use super::node::NodeIx;
use crate::descriptor::Order;
use crate::id::GroupId;
use crate::io::Event;
use crate::time::Time;
use crate::wire::frame;

/// What is measured of one group.
pub(super) struct Meter {
    pub(super) batches: Batches,
    pub(super) ledger: Ledger,
    /// Bytes of all frames so far that carry no batch.
    pub(super) control: u64,
    /// Joins that have come to a neighbour and a place in the tree.
    pub(super) ready: usize,
}

impl Meter {
    pub(super) fn new(group: GroupId, order: Order) -> Self {
        Self { batches: Batches::new(group), ledger: Ledger::new(order), control: 0, ready: 0 }
    }

    /// A frame goes onto an uplink. Names the batch in it; equal batches share their bytes
    /// from here on, in all nodes' stores.
    pub(super) fn on_send(&mut self, from: NodeIx, border: bool, frame: &mut Bytes) -> Option<BatchIx> {
        if !frame::is_batch(frame) {
            self.control += frame.len() as u64;
            return None;
        }
        let batch = self.batches.recognise(frame)?;
        self.batches.on_send(batch, from, border);
        Some(batch)
    }

    /// A batch has arrived at a node that runs.
    pub(super) fn on_arrive(&mut self, batch: BatchIx, from: NodeIx, to: NodeIx) {
        self.batches.on_arrive(batch, from, to);
    }

    pub(super) fn on_event(&mut self, now: Time, node: NodeIx, event: &Event) {
        match event {
            Event::Ready { .. } => self.ready += 1,
            Event::Published { id, batch, .. } => self.ledger.on_placed(*id, batch),
            Event::Rejected { id, .. } => self.ledger.on_rejected(*id),
            Event::Deliver { delivery, tentative: false, .. } | Event::Ordered { delivery, .. } => {
                self.ledger.on_delivered(now, node, delivery);
            }
            _ => {}
        }
    }
}
