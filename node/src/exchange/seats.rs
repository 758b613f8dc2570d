//! Who is served at the same time: all have their share, and nobody has all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use treecast_overlay::NodeId;

/// A node may hold this share of what is free, and always one if any is: the dynamic thresholds that switches share
/// their memory by (Choudhury and Hahne 1998). One alone comes to an eighth, eight to half of all.
const SHARE: usize = 8;

/// So many seats, and who has them.
pub(super) struct Seats {
    all: usize,
    taken: Mutex<HashMap<NodeId, usize>>,
    /// Changes whenever one is free again.
    freed: watch::Sender<()>,
}

/// One of them, or several that were taken at once.
pub(super) struct Seat {
    seats: Arc<Seats>,
    node: NodeId,
    count: usize,
}

impl Seats {
    pub(super) fn new(all: usize) -> Arc<Self> {
        Arc::new(Self { all, taken: Mutex::default(), freed: watch::channel(()).0 })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat for a node; none if all are taken, or the node has its share.
    pub(super) fn take(self: &Arc<Self>, node: NodeId) -> Option<Seat> {
        self.take_some(node, 1)
    }

    /// So many seats at once, which a node that has none gets also if they are more than its share.
    pub(super) fn take_some(self: &Arc<Self>, node: NodeId, count: usize) -> Option<Seat> {
        let mut taken = self.lock();
        let free = self.all.saturating_sub(taken.values().sum());
        let own = taken.get(&node).copied().unwrap_or(0);
        if count > free || own + count > (free / SHARE).max(count) {
            return None;
        }
        taken.insert(node, own + count);
        Some(Seat { seats: self.clone(), node, count })
    }

    /// Changes whenever there may be room for somebody who found none.
    pub(super) fn freed(&self) -> watch::Receiver<()> {
        self.freed.subscribe()
    }

    /// How many are taken.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.lock().values().sum()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        if let Some(own) = taken.get_mut(&self.node) {
            *own -= self.count;
            if *own == 0 {
                taken.remove(&self.node);
            }
        }
        drop(taken);
        self.seats.freed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_its_share_and_others_always_find_a_seat() {
        let seats = Seats::new(128);
        let node = |number: u8| NodeId::from_bytes([number; 32]);
        let mut held: Vec<Seat> = Vec::new();
        for greedy in 0..20 {
            let before = held.len();
            held.extend(std::iter::from_fn(|| seats.take(node(greedy))));
            assert!((1..=16).contains(&(held.len() - before)), "{}", held.len() - before);
        }
        assert_eq!(seats.taken(), held.len());
        // Whoever has none gets one until there is none.
        held.extend((20..).map_while(|late| seats.take(node(late))));
        assert_eq!(held.len(), 128);
        held.clear();
        assert_eq!(seats.taken(), 0);
        assert!(seats.take(node(0)).is_some());
    }

    #[test]
    fn who_has_nothing_gets_more_than_its_share_and_who_waits_hears_of_room() {
        let seats = Seats::new(64);
        let node = |number: u8| NodeId::from_bytes([number; 32]);
        let two = (seats.take_some(node(0), 3), seats.take_some(node(0), 3));
        assert!(two.0.is_some() && two.1.is_some() && seats.take_some(node(0), 3).is_none());
        let large = seats.take_some(node(1), 50).expect("its first");
        let freed = seats.freed();
        assert!(seats.take_some(node(2), 9).is_none() && !freed.has_changed().expect("it is there"));
        drop(large);
        assert!(freed.has_changed().expect("it is there") && seats.take_some(node(2), 9).is_some());
        assert_eq!(seats.taken(), 6);
    }
}
