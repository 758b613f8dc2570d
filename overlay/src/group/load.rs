//! Load: whether this node's way out keeps up with what it passes on.
//!
//! A relay feeds all its children over one uplink. If batches come faster than that takes them, each
//! waits longer than the one before, and all below it with them. So how long what waits will take is
//! measured, by what left of late, and while that is long children are sent to others, one at a time;
//! room for another comes back ever more slowly (cf. TCP's additive increase, multiplicative decrease,
//! RFC 5681 §3.1).

use std::time::Duration;

use super::Group;
use super::ctx::Ctx;
use crate::io::Lane;
use crate::time::Time;

/// What leaves is counted over so long.
const WINDOW: Duration = Duration::from_millis(200);
/// What waits for longer than this waits too long. Guess: as long as a way around the world.
const TOO_LONG: Duration = Duration::from_millis(100);

/// What has left while something waited all the time.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Since when, and how many bytes had left by then.
    window: Option<(Time, u64)>,
}

impl Load {
    /// So many bytes wait, and so many have left ever; whether those that wait will do so for too long.
    fn is_too_much(&mut self, now: Time, waiting: usize, left: u64) -> bool {
        if waiting == 0 {
            self.window = None;
            return false;
        }
        let (since, before) = *self.window.get_or_insert((now, left));
        let span = now.since(since);
        if span < WINDOW {
            return false;
        }
        self.window = Some((now, left));
        if span > WINDOW * 2 {
            // Nobody looked for a while: it may have been empty meanwhile.
            return false;
        }
        let rate = (left - before) as f64 / span.as_secs_f64();
        rate > 0.0 && waiting as f64 / rate > TOO_LONG.as_secs_f64()
    }
}

impl Group {
    /// Before a batch is passed on.
    pub(super) fn watch_load(&mut self, ctx: &mut Ctx<'_>) {
        if ctx.links.queued_in_all() == 0 {
            self.load.window = None;
            return;
        }
        // Children only: the others are not for this node to send away. One that stands still is not
        // this node's fault.
        let children = self.tree.staying_children();
        let moving = children.filter(|it| !ctx.links.stalled(ctx.now, it, ctx.config));
        let queues: Vec<_> = moving.map(|it| (ctx.links.queued(&it, Lane::Live), it)).collect();
        let waiting = queues.iter().map(|it| it.0).sum();
        if self.load.is_too_much(ctx.now, waiting, ctx.links.left()) {
            self.with_tree(ctx, |tree, sight, acts| tree.shed(sight, &queues, acts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1_000)
    }

    #[test]
    fn a_queue_that_drains_soon_is_no_load_and_one_that_does_not_is() {
        let mut load = Load::default();
        assert!(!load.is_too_much(at(0), 50_000, 0));
        assert!(!load.is_too_much(at(100), 500_000, 200_000), "too early to say");
        assert!(!load.is_too_much(at(200), 50_000, 1_000_000), "10 ms of waiting");
        assert!(load.is_too_much(at(400), 900_000, 2_000_000), "180 ms");
        assert!(!load.is_too_much(at(500), 0, 2_900_000));
        assert!(!load.is_too_much(at(700), 900_000, 2_900_000), "all had left meanwhile");
    }
}
