//! A committee of one: what it has on disk is decided.

use bytes::Bytes;

use super::consensus::{Consensus, Saved, Saving, Seat, Turn, Vows};
use crate::wire::agreement::Claim;
use crate::wire::cbor::Malformed;

/// The founder alone, or whoever is left of a group of two.
#[derive(Debug, Default)]
pub(crate) struct Solo {
    compacted: u64,
    /// From `compacted` on.
    log: Vec<Bytes>,
    /// Entries below were handed out.
    told: u64,
    /// Entries below are in a [`Saving`].
    saved: u64,
}

impl Solo {
    /// Goes on from what was on disk: all of that is decided, and is told again.
    pub(crate) fn resume(saved: Saved) -> Self {
        let end = saved.compacted + saved.entries.len() as u64;
        Self { compacted: saved.compacted, log: saved.entries, told: saved.compacted, saved: end }
    }

    fn end(&self) -> u64 {
        self.compacted + self.log.len() as u64
    }

    fn entries(&self, from: u64) -> impl Iterator<Item = (u64, Bytes)> {
        let skipped = from.saturating_sub(self.compacted);
        (self.compacted..).zip(&self.log).skip(skipped as usize).map(|(index, entry)| (index, entry.clone()))
    }
}

impl Consensus for Solo {
    fn propose(&mut self, entry: Bytes) {
        self.log.push(entry);
    }

    fn handle(&mut self, _: Seat, _: &[u8]) -> Result<(), Malformed> {
        Err(Malformed)
    }

    fn is_heartbeat(&self, _: &[u8]) -> bool {
        false
    }

    fn appends(&self, _: &[u8]) -> Vec<Bytes> {
        Vec::new()
    }

    fn tick(&mut self) {}

    fn on_reconnected(&mut self, _: Seat) {}

    fn compact(&mut self, below: u64) {
        let below = below.min(self.told).max(self.compacted);
        self.log.drain(..(below - self.compacted) as usize);
        self.compacted = below;
    }

    fn take_turn(&mut self) -> Turn {
        let decided = self.entries(self.told).collect();
        let from = self.saved;
        let saving = (self.end() > from).then(|| Saving {
            vows: Vows { decided: self.end(), ..Vows::default() },
            from,
            entries: self.entries(from).map(|(_, entry)| entry).collect(),
            compacted: self.compacted,
        });
        (self.told, self.saved) = (self.end(), self.end());
        Turn { saving, decided, ..Turn::default() }
    }

    fn save_all(&self) -> Saving {
        let vows = Vows { decided: self.end(), ..Vows::default() };
        Saving { vows, from: self.compacted, entries: self.log.clone(), compacted: self.compacted }
    }

    fn leader(&self) -> Option<Seat> {
        Some(0)
    }

    fn term(&self) -> u64 {
        0
    }

    fn leads(&self) -> bool {
        true
    }

    fn log_end(&self) -> u64 {
        self.end()
    }

    fn accepted(&self) -> Claim {
        Claim::default()
    }

    fn is_alone(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_writes_is_decided_and_what_it_wrote_is_told_again() {
        let entry = |n: u8| Bytes::from(vec![n]);
        let mut solo = Solo::default();
        solo.propose(entry(0));
        solo.propose(entry(1));
        let turn = solo.take_turn();
        assert_eq!(turn.decided, [(0, entry(0)), (1, entry(1))]);
        let saving = turn.saving.expect("it is written first");
        assert_eq!((saving.from, &saving.entries[..]), (0, &[entry(0), entry(1)][..]));
        solo.compact(1);
        solo.propose(entry(2));
        let turn = solo.take_turn();
        assert_eq!(turn.decided, [(2, entry(2))]);
        let saving = turn.saving.expect("it is written first");
        assert_eq!((saving.from, saving.compacted, &saving.entries[..]), (2, 1, &[entry(2)][..]));

        let saved = Saved { compacted: 1, entries: vec![entry(1), entry(2)], ..Saved::default() };
        let mut again = Solo::resume(saved);
        let turn = again.take_turn();
        assert_eq!((turn.saving, turn.decided), (None, vec![(1, entry(1)), (2, entry(2))]));
    }
}
