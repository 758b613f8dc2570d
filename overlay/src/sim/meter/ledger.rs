//! Who was given which message, when, and whether in order.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::descriptor::Order;
use crate::id::{BatchId, NodeId, PublishId, Seq};
use crate::io::Delivery;
use crate::sim::node::NodeIx;
use crate::time::Time;

/// In [`Message::delays`]: not delivered there.
pub(in crate::sim) const UNDELIVERED: u32 = u32::MAX;

/// One message.
#[derive(Debug)]
pub(in crate::sim) struct Message {
    /// Its author, by place in the ledger's list.
    pub(in crate::sim) source: usize,
    pub(in crate::sim) published: Time,
    /// The batch it travels in; `None` if the engine refused it.
    pub(in crate::sim) batch: Option<BatchId>,
    /// From the publishing to each node's delivery, µs.
    pub(in crate::sim) delays: Vec<u32>,
    /// What its author had delivered since its message before: (source, index), last of each.
    causes: Vec<(usize, u32)>,
}

impl Message {
    pub(in crate::sim) fn is_delivered(&self, node: NodeIx) -> bool {
        self.delay(node).is_some()
    }

    /// From the publishing to the delivery at a node, µs.
    pub(in crate::sim) fn delay(&self, node: NodeIx) -> Option<u32> {
        self.delays.get(node.0).copied().filter(|it| *it != UNDELIVERED)
    }
}

#[derive(Debug)]
struct Source {
    node: NodeIx,
    /// Its messages, by their own index.
    messages: Vec<u32>,
    /// By seq: the own index of each batch's first message.
    batches: BTreeMap<Seq, u32>,
    placed: u32,
    /// What it had delivered when it last published.
    seen: Vec<u32>,
}

/// All messages of a run, and what each node was given.
#[derive(Debug)]
pub(in crate::sim) struct Ledger {
    order: Order,
    pub(in crate::sim) messages: Vec<Message>,
    sources: Vec<Source>,
    by_id: BTreeMap<NodeId, usize>,
    /// For each node and source: the first own index not passed yet.
    next: Vec<Vec<u32>>,
    /// Causes that a node was not given before what they caused: they must not come later.
    passed_over: BTreeMap<(NodeIx, usize), u32>,
    pub(in crate::sim) duplicates: u64,
    pub(in crate::sim) order_violations: u64,
    pub(in crate::sim) rejected: u64,
}

impl Ledger {
    pub(super) fn new(order: Order) -> Self {
        Self {
            order,
            messages: Vec::new(),
            sources: Vec::new(),
            by_id: BTreeMap::new(),
            next: Vec::new(),
            passed_over: BTreeMap::new(),
            duplicates: 0,
            order_violations: 0,
            rejected: 0,
        }
    }

    pub(in crate::sim) fn add_source(&mut self, node: NodeIx, id: NodeId) {
        self.by_id.insert(id, self.sources.len());
        let (messages, batches, seen) = (Vec::new(), BTreeMap::new(), Vec::new());
        self.sources.push(Source { node, messages, batches, placed: 0, seen });
    }

    /// The node of a source.
    pub(in crate::sim) fn node_of(&self, source: usize) -> NodeIx {
        self.sources[source].node
    }

    /// The source's application is about to publish; its message's number.
    pub(in crate::sim) fn publish(&mut self, now: Time, source: usize) -> PublishId {
        let number = u32::try_from(self.messages.len()).expect("fewer than 2^32 messages");
        let causes = self.news_since_last(source);
        self.sources[source].messages.push(number);
        self.messages.push(Message { source, published: now, batch: None, delays: Vec::new(), causes });
        PublishId(u64::from(number))
    }

    /// What an author has delivered of others since it last published.
    fn news_since_last(&mut self, source: usize) -> Vec<(usize, u32)> {
        let node = self.sources[source].node;
        let next = self.next.get(node.0).cloned().unwrap_or_default();
        let seen = std::mem::replace(&mut self.sources[source].seen, next.clone());
        let old = |of: usize| seen.get(of).copied().unwrap_or(0);
        let news = next.iter().enumerate().filter(|(of, next)| *of != source && **next > old(*of));
        news.map(|(of, next)| (of, next - 1)).collect()
    }

    pub(super) fn on_placed(&mut self, id: PublishId, batch: &BatchId) {
        let message = &mut self.messages[id.0 as usize];
        message.batch = Some(*batch);
        let source = &mut self.sources[message.source];
        source.batches.entry(batch.seq).or_insert(source.placed);
        source.placed += 1;
    }

    pub(super) fn on_rejected(&mut self, id: PublishId) {
        self.rejected += 1;
        // It has no own index any more. Refusals come at once, so it is the last.
        let messages = &mut self.sources[self.messages[id.0 as usize].source].messages;
        if let Some(at) = messages.iter().rposition(|it| u64::from(*it) == id.0) {
            messages.remove(at);
        }
    }

    pub(super) fn on_delivered(&mut self, now: Time, node: NodeIx, delivery: &Delivery) {
        let Some(source) = self.by_id.get(&delivery.source).copied() else { return };
        let Some(first) = self.sources[source].batches.get(&delivery.seq).copied() else { return };
        let first = first + delivery.first;
        for index in (first..).take(delivery.payloads.len()) {
            let number = self.sources[source].messages[index as usize];
            self.deliver(now, node, source, index, number);
        }
    }

    fn deliver(&mut self, now: Time, node: NodeIx, source: usize, index: u32, number: u32) {
        let message = &mut self.messages[number as usize];
        if message.is_delivered(node) {
            self.duplicates += 1;
            return;
        }
        if message.delays.len() <= node.0 {
            message.delays.resize(node.0 + 1, UNDELIVERED);
        }
        message.delays[node.0] = micros(now.since(message.published));
        if self.order >= Order::Causal {
            self.check_causes(node, number);
        }
        if self.order >= Order::Fifo {
            self.check_fifo(node, source, index);
        }
        let next = self.next_of(node, source);
        *next = (*next).max(index + 1);
    }

    fn check_fifo(&mut self, node: NodeIx, source: usize, index: u32) {
        let late = self.passed_over.get(&(node, source)).is_some_and(|passed| index <= *passed);
        if late || index < *self.next_of(node, source) {
            self.order_violations += 1;
        }
    }

    /// What the author had been given before it published must have been given here too, or
    /// never come: it may lie before a newcomer's time, or be lost for good.
    fn check_causes(&mut self, node: NodeIx, number: u32) {
        for at in 0..self.messages[number as usize].causes.len() {
            let (source, index) = self.messages[number as usize].causes[at];
            if self.sources[source].node != node && *self.next_of(node, source) <= index {
                let passed = self.passed_over.entry((node, source)).or_insert(index);
                *passed = (*passed).max(index);
            }
        }
    }

    fn next_of(&mut self, node: NodeIx, source: usize) -> &mut u32 {
        let sources = self.sources.len();
        if self.next.len() <= node.0 {
            self.next.resize(node.0 + 1, Vec::new());
        }
        let next = &mut self.next[node.0];
        if next.len() < sources {
            next.resize(sources, 0);
        }
        &mut next[source]
    }
}

/// A delay as it is kept: up to an hour.
fn micros(delay: Duration) -> u32 {
    u32::try_from(delay.as_micros()).unwrap_or(u32::MAX).min(UNDELIVERED - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const A: NodeIx = NodeIx(0);
    const B: NodeIx = NodeIx(1);
    const C: NodeIx = NodeIx(2);

    fn id(node: NodeIx) -> NodeId {
        NodeId::from_bytes([node.0 as u8 + 1; 32])
    }

    fn ledger(order: Order) -> Ledger {
        let mut ledger = Ledger::new(order);
        ledger.add_source(A, id(A));
        ledger.add_source(B, id(B));
        ledger
    }

    /// Publishes a batch of one, which its author is given at once.
    fn publish(ledger: &mut Ledger, source: usize, seq: Seq) {
        let node = ledger.node_of(source);
        let message = ledger.publish(Time::ZERO, source);
        ledger.on_placed(message, &BatchId { source: id(node), life: 1, seq });
        deliver(ledger, node, source, seq);
    }

    fn deliver(ledger: &mut Ledger, at: NodeIx, source: usize, seq: Seq) {
        let source = id(ledger.node_of(source));
        let payloads = vec![Bytes::new()];
        let delivery = Delivery { source, life: 1, seq, time_unix_ms: 0, first: 0, payloads };
        ledger.on_delivered(Time::from_micros(700), at, &delivery);
    }

    #[test]
    fn what_comes_before_what_came_before_it_breaks_fifo() {
        for (order, violations) in [(Order::Unordered, 0), (Order::Fifo, 1), (Order::Causal, 1)] {
            let mut ledger = ledger(order);
            publish(&mut ledger, 0, 0);
            publish(&mut ledger, 0, 1);
            deliver(&mut ledger, C, 0, 1);
            deliver(&mut ledger, C, 0, 0);
            assert_eq!(ledger.order_violations, violations, "{order}");
            assert_eq!(ledger.messages[0].delay(C), Some(700));
        }
    }

    #[test]
    fn an_answer_before_the_question_breaks_causal_order_if_the_question_comes() {
        for (order, violations) in [(Order::Fifo, 0), (Order::Causal, 1)] {
            let mut ledger = ledger(order);
            publish(&mut ledger, 0, 0);
            deliver(&mut ledger, B, 0, 0);
            publish(&mut ledger, 1, 0);
            deliver(&mut ledger, C, 1, 0);
            assert_eq!(ledger.order_violations, 0, "the question may be lost, or before our time");
            deliver(&mut ledger, C, 0, 0);
            assert_eq!(ledger.order_violations, violations, "{order}");
        }
    }

    #[test]
    fn what_comes_twice_is_counted_once() {
        let mut ledger = ledger(Order::Fifo);
        publish(&mut ledger, 0, 0);
        deliver(&mut ledger, B, 0, 0);
        deliver(&mut ledger, B, 0, 0);
        assert_eq!((ledger.duplicates, ledger.order_violations), (1, 0));
        assert_eq!(ledger.messages[0].delay(B), Some(700));
    }

    #[test]
    fn refused_messages_leave_no_hole() {
        let mut ledger = ledger(Order::Fifo);
        let refused = ledger.publish(Time::ZERO, 0);
        ledger.on_rejected(refused);
        publish(&mut ledger, 0, 0);
        deliver(&mut ledger, C, 0, 0);
        assert_eq!((ledger.rejected, ledger.order_violations), (1, 0));
        assert!(ledger.messages[1].is_delivered(C) && !ledger.messages[0].is_delivered(C));
    }
}
