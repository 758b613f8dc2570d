//! What stands between the behaviour and one connection's handler.
//!
//! Frames do not pass through the swarm's command channel: while that of one connection is
//! full, the swarm polls no behaviour. They wait here, bounded, and the handler takes them at
//! its peer's speed; what it has taken is counted back.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use futures::task::AtomicWaker;

use crate::id::LinkId;
use crate::io::Lane;

/// Least cap on what may wait for one link. Eight frames of the largest size: the core holds
/// batches back far below it (`Config::link_high_water`), so who reaches it never reads.
pub(super) const LEAST_CAP: usize = 8 << 20;

/// What a waiting frame costs besides its bytes; a guess that is not too low.
const FRAME_OVERHEAD: usize = 64;

/// Drained bytes are reported when a lane runs empty and each time so many have left.
const REPORT_EVERY: usize = 64 << 10;

/// What the behaviour wants of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wish {
    /// Go on.
    Open,
    /// Send what waits, then tell.
    Finish,
    /// Drop the streams at once.
    Drop,
}

/// The queue is at its cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// The two lanes of one link, shared by the behaviour (which fills) and the handler (which
/// empties).
pub(super) struct LinkQueue {
    link: LinkId,
    cap: usize,
    inner: Mutex<Inner>,
    handler: AtomicWaker,
    reports: Arc<Reports>,
}

struct Inner {
    lanes: [VecDeque<Bytes>; 2],
    cost: usize,
    drained: [usize; 2],
    reported: bool,
    wish: Wish,
}

impl LinkQueue {
    pub(super) fn new(link: LinkId, cap: usize, reports: Arc<Reports>) -> Self {
        let inner = Inner {
            lanes: [VecDeque::new(), VecDeque::new()],
            cost: 0,
            drained: [0; 2],
            reported: false,
            wish: Wish::Open,
        };
        Self { link, cap, inner: Mutex::new(inner), handler: AtomicWaker::new(), reports }
    }

    pub(super) fn link(&self) -> LinkId {
        self.link
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a frame; [`LinkQueue::wake`] after the last one of a round.
    pub(super) fn push(&self, lane: Lane, frame: Bytes) -> Result<(), Full> {
        let mut inner = self.lock();
        let cost = inner.cost + frame.len() + FRAME_OVERHEAD;
        if cost > self.cap {
            return Err(Full);
        }
        inner.cost = cost;
        inner.lanes[index(lane)].push_back(frame);
        Ok(())
    }

    /// Takes the oldest frames of a lane as long as `take` wants more.
    pub(super) fn take(&self, lane: Lane, mut take: impl FnMut(Bytes) -> bool) {
        let mut inner = self.lock();
        while let Some(frame) = inner.lanes[index(lane)].pop_front() {
            inner.cost -= frame.len() + FRAME_OVERHEAD;
            if !take(frame) {
                return;
            }
        }
    }

    pub(super) fn is_empty(&self, lane: Lane) -> bool {
        self.lock().lanes[index(lane)].is_empty()
    }

    /// Counts bytes that were handed to the stream, and tells the behaviour when it is time.
    pub(super) fn on_written(&self, lane: Lane, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let mut inner = self.lock();
        inner.drained[index(lane)] += bytes;
        let due = inner.lanes[index(lane)].is_empty() || inner.drained[index(lane)] >= REPORT_EVERY;
        if due && !inner.reported {
            inner.reported = true;
            drop(inner);
            self.reports.push(self.link);
        }
    }

    /// What has left each lane since the last call.
    pub(super) fn drained(&self) -> [(Lane, usize); 2] {
        let mut inner = self.lock();
        inner.reported = false;
        let [live, bulk] = std::mem::take(&mut inner.drained);
        [(Lane::Live, live), (Lane::Bulk, bulk)]
    }

    /// Wishes only become stronger.
    pub(super) fn wish(&self, wish: Wish) {
        let mut inner = self.lock();
        inner.wish = inner.wish.max(wish);
        if wish == Wish::Drop {
            inner.lanes = Default::default();
            inner.cost = 0;
        }
        drop(inner);
        self.wake();
    }

    pub(super) fn wished(&self) -> Wish {
        self.lock().wish
    }

    /// Lets the handler look.
    pub(super) fn wake(&self) {
        self.handler.wake();
    }

    pub(super) fn register(&self, waker: &Waker) {
        self.handler.register(waker);
    }
}

impl fmt::Debug for LinkQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkQueue({:?}, {} bytes)", self.link, self.lock().cost)
    }
}

/// Which links have something to report, and the swarm's task, to be woken for it.
#[derive(Debug, Default)]
pub(super) struct Reports {
    links: Mutex<Vec<LinkId>>,
    behaviour: AtomicWaker,
}

impl Reports {
    /// At most one entry a link: see `Inner::reported`.
    fn push(&self, link: LinkId) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).push(link);
        self.behaviour.wake();
    }

    pub(super) fn take(&self) -> Vec<LinkId> {
        std::mem::take(&mut self.links.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn register(&self, waker: &Waker) {
        self.behaviour.register(waker);
    }

    pub(super) fn wake(&self) {
        self.behaviour.wake();
    }
}

/// Where a lane stands in arrays of two, and the byte that names it on the wire.
pub(super) const fn index(lane: Lane) -> usize {
    match lane {
        Lane::Live => 0,
        Lane::Bulk => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(cap: usize) -> (Arc<Reports>, LinkQueue) {
        let reports = Arc::new(Reports::default());
        (reports.clone(), LinkQueue::new(LinkId(7), cap, reports))
    }

    fn take_all(queue: &LinkQueue, lane: Lane) -> Vec<Bytes> {
        let mut frames = Vec::new();
        queue.take(lane, |frame| {
            frames.push(frame);
            true
        });
        frames
    }

    #[test]
    fn lanes_keep_their_own_order() {
        let (_, queue) = queue(LEAST_CAP);
        for (lane, text) in [(Lane::Live, "a"), (Lane::Bulk, "x"), (Lane::Live, "b")] {
            queue.push(lane, Bytes::from_static(text.as_bytes())).unwrap();
        }
        assert_eq!(take_all(&queue, Lane::Live), ["a", "b"]);
        assert!(!queue.is_empty(Lane::Bulk));
        assert_eq!(take_all(&queue, Lane::Bulk), ["x"]);
    }

    #[test]
    fn the_cap_counts_empty_frames_too_and_frees_as_they_leave() {
        let (_, queue) = queue(3 * FRAME_OVERHEAD);
        for _ in 0..3 {
            queue.push(Lane::Bulk, Bytes::new()).unwrap();
        }
        assert_eq!(queue.push(Lane::Live, Bytes::new()), Err(Full));
        take_all(&queue, Lane::Bulk);
        assert_eq!(queue.push(Lane::Live, Bytes::new()), Ok(()));
    }

    #[test]
    fn a_link_is_reported_once_until_it_is_asked() {
        let (reports, queue) = queue(LEAST_CAP);
        queue.on_written(Lane::Live, 10);
        queue.on_written(Lane::Live, 5);
        assert_eq!(reports.take(), [LinkId(7)]);
        assert_eq!(queue.drained(), [(Lane::Live, 15), (Lane::Bulk, 0)]);
        queue.on_written(Lane::Bulk, 1);
        assert_eq!(reports.take(), [LinkId(7)]);
    }

    #[test]
    fn a_busy_lane_reports_by_volume() {
        let (reports, queue) = queue(LEAST_CAP);
        queue.push(Lane::Live, Bytes::from_static(b"next")).unwrap();
        queue.on_written(Lane::Live, REPORT_EVERY - 1);
        assert!(reports.take().is_empty());
        queue.on_written(Lane::Live, 1);
        assert_eq!(reports.take(), [LinkId(7)]);
    }

    #[test]
    fn wishes_only_become_stronger() {
        let (_, queue) = queue(LEAST_CAP);
        queue.push(Lane::Live, Bytes::from_static(b"x")).unwrap();
        queue.wish(Wish::Drop);
        queue.wish(Wish::Finish);
        assert_eq!(queue.wished(), Wish::Drop);
        assert!(queue.is_empty(Lane::Live));
    }
}
