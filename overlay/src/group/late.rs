//! Newcomers that were let in by newcomers: nobody could tell them what was before their time, so they take all that
//! is heard of for owed to them, and wait for what is long gone. Whoever has ground to stand on tells them later.
//! And who came after them can only tell what was before its own time, not before theirs: what was said between would
//! not come to them. Such a word counts only if nobody older is found.

use std::time::Duration;

use super::baseline::{First, NOTHING};
use super::ctx::Ctx;
use super::{Group, Phase};
use crate::id::{Life, NodeId, Seq};
use crate::time::Time;
use crate::wire::frame::{Frame, Join, Welcome};

/// Who has been in for so long and lacks nothing is as good as one that was told where to start. Guess: longer
/// than repair takes.
const GROUNDED_AFTER: Duration = Duration::from_secs(5);
/// Between questions, to another neighbour each time. Guess: the first once the tree has had time to bring it.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// A newcomer looks so long for one that came before it. Guess: a few dials, some of them in vain.
const OLDER_WITHIN: Duration = Duration::from_secs(2);

/// Whether this node knows where it starts, and whom it has asked.
#[derive(Debug, Default)]
pub(crate) struct Ground {
    known: bool,
    /// What was published before that, it may not have been told to be owed.
    since: Time,
    /// When one that came later first told where to start.
    seeks_older: Option<Time>,
    asked: Option<NodeId>,
    next: Time,
    turn: usize,
}

impl Ground {
    /// Told by one that knows, or by an earlier run.
    pub(crate) fn found(&mut self) {
        (self.known, self.asked) = (true, None);
    }

    /// It begins anew.
    pub(crate) fn enter(&mut self, now: Time) {
        self.since = now;
    }

    pub(crate) fn awaits(&self, node: &NodeId) -> bool {
        self.asked.as_ref() == Some(node)
    }

    /// When somebody is to be asked; what was due by then waits for something else.
    pub(crate) fn deadline(&self) -> Option<Time> {
        (!self.known).then_some(self.next)
    }
}

impl Group {
    /// Whether newcomers may rely on what this node says of where to start.
    pub(super) fn is_grounded(&self) -> bool {
        self.ground.known
    }

    pub(super) fn poll_ground(&mut self, ctx: &mut Ctx<'_>) {
        if self.ground.known || self.ground.next > ctx.now {
            return;
        }
        if self.total.is_some() {
            // Its order says where it starts.
            self.ground.found();
            return;
        }
        self.ground.next = ctx.now + ASK_EVERY;
        if self.ground.seeks_older.is_some() && matches!(self.phase, Phase::Fresh) {
            self.fill(ctx, None);
            return;
        }
        if self.repair.open() == 0 {
            if matches!(self.phase, Phase::Member) && ctx.now.since(self.entered) >= GROUNDED_AFTER {
                self.ground.found();
            }
            return;
        }
        let begins = |it: &super::sources::LifeState| it.delivered == 0 && it.heard > 1;
        let in_doubt = self.sources.lives().any(|((source, _), it)| source != ctx.me() && begins(it));
        let neighbours = self.views.active();
        if !in_doubt || neighbours.is_empty() || !matches!(self.phase, Phase::Member) {
            return;
        }
        let node = neighbours[self.ground.turn % neighbours.len()];
        (self.ground.asked, self.ground.turn) = (Some(node), self.ground.turn + 1);
        self.ask_where_to_start(ctx, &node);
    }

    /// For how long after a joiner came this node cannot say what is owed to it: if it came later itself, and names
    /// anything that began before.
    pub(super) fn unknown_ms(
        &self,
        ctx: &Ctx<'_>,
        from: &NodeId,
        join: &Join,
        named: &[First],
    ) -> Option<u64> {
        // Not by a point in time: this node's clock may have begun after the joiner came.
        let known_ms = ctx.now.since(self.ground.since).as_millis() as u64;
        let unknown_ms = join.age_ms.saturating_sub(known_ms);
        let began_before = named.iter().any(|(source, _, first)| source != from && *first > 0);
        (join.fresh && unknown_ms > 0 && began_before).then_some(unknown_ms)
    }

    /// Whether a welcome is not to be gone by, as one of those who came before us may say more.
    pub(super) fn waits_for_older(&mut self, ctx: &Ctx<'_>, welcome: &Welcome) -> bool {
        let Some(unknown_ms) = welcome.unknown_ms else { return false };
        let began = *self.ground.seeks_older.get_or_insert(ctx.now);
        let waits = ctx.now.since(began) < OLDER_WITHIN;
        if !waits {
            self.ground.since = self.entered + Duration::from_millis(unknown_ms);
        }
        waits
    }

    /// Asks a neighbour what it would tell one that comes now.
    pub(super) fn ask_where_to_start(&self, ctx: &mut Ctx<'_>, node: &NodeId) {
        let age_ms = ctx.now.since(self.entered).as_millis() as u64;
        let record = self.roster.own().bytes.clone();
        ctx.send(node, &Frame::Join(Join { record, fresh: true, age_ms }));
    }

    /// One that knows says where we start: what is before our time does not come any more. All at once, as causes of
    /// what is owed may be before our time; what was delivered stays.
    pub(super) fn start_late(&mut self, ctx: &mut Ctx<'_>, baseline: &[(NodeId, Life, Seq)]) {
        let mut late = baseline.to_vec();
        late.retain(|&(source, life, first)| {
            let lives = self.sources.get(&source).map(|it| &it.lives);
            let begun = |it: &Life, first: Seq| {
                lives
                    .and_then(|lives| lives.get(it))
                    .is_some_and(|it| it.delivered > 0 && it.delivered >= first)
            };
            match first {
                NOTHING => !lives.is_some_and(|it| it.range(..=life).any(|(it, _)| begun(it, 0))),
                first => !begun(&life, first),
            }
        });
        self.start_from(ctx, &late);
        self.record_all(ctx);
        self.go_on_from(ctx, &late);
    }

    /// What came before it was known where to start may have waited for that.
    pub(super) fn go_on_from(&mut self, ctx: &mut Ctx<'_>, baseline: &[First]) {
        for &(source, life, _) in baseline {
            if self.sources.life((source, life)).is_some() {
                self.want_missing(ctx, (source, life), false);
                self.deliver(ctx, source);
            }
        }
    }
}
