//! Somebody else speaks as us: word of an earlier run of ours that is newer than we are, or another
//! node with our key (a copy of its directory, say).

use std::time::Duration;

use super::Group;
use super::ctx::Ctx;
use crate::io::Event;
use crate::time::Time;
use crate::wire::record::{MemberRecord, Standing};

/// Between two events about it, and, once it is plain that somebody answers, between our own word and
/// the next: two nodes of one key would refute each other for ever. Guess.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What is newer than our start, and so far ahead of our clock, was said by a clock that was set back
/// since; milliseconds. Guess.
const AHEAD_MS: u64 = 60_000;

/// What was heard of ourselves.
#[derive(Debug, Default)]
pub(crate) struct Doubled {
    /// How often somebody was newer than our own word, with other addresses.
    times: u32,
    told: Option<Time>,
}

impl Group {
    /// A record of ours that we did not make now is newer than our word: to be refuted.
    pub(super) fn on_ourselves(&mut self, ctx: &mut Ctx<'_>, record: &MemberRecord) {
        if self.is_over() {
            return;
        }
        let elsewhere = record.standing == Standing::Online && record.addresses != self.addresses;
        self.doubled.times += u32::from(elsewhere);
        // It may be of a run before this one, by a clock that was set back. That does not answer, and is
        // of a time to come.
        let alive = record.incarnation < ctx.unix_ms + AHEAD_MS;
        if elsewhere && (alive || self.doubled.times > 1) {
            if self.doubled.told.is_some_and(|at| ctx.now.since(at) < TOLD_EVERY) {
                return;
            }
            self.doubled.told = Some(ctx.now);
            ctx.event(Event::Doubled { group: self.id, addresses: record.addresses.clone() });
        }
        self.restate_at_least(ctx, record.incarnation.saturating_add(1), Standing::Online);
    }
}
