//! What counts of sources that were removed (`docs/decisions/020-removal.md`).

use super::{LifeId, Sources};
use crate::id::{BatchId, Digest, Life, NodeId, Seq};

impl Sources {
    /// The source was removed: nothing of it counts from `end` of this life on, which comes after the batch
    /// of this digest. What is no longer looked for: lives, and from where on.
    pub(crate) fn cut(&mut self, (source, life): LifeId, end: Seq, digest: Digest) -> Vec<(Life, Seq)> {
        self.cuts.insert(source, (life, end));
        self.hashes.touch(&source);
        let Some(state) = self.map.get_mut(&source) else { return Vec::new() };
        let beyond = |it: Life| it > life || (it == life && end == 0);
        let mut gone: Vec<_> = state.lives.keys().filter(|it| beyond(**it)).map(|it| (*it, 0)).collect();
        state.lives.retain(|it, _| !beyond(*it));
        if let Some(last) = state.lives.get_mut(&life) {
            if last.held.end() > end {
                last.held.truncate(end);
                last.head = Some(digest).filter(|it| *it != Digest::ZERO && last.held.next() == end);
            }
            (last.end, last.disowned) = (Some(end), false);
            gone.push((life, end));
        }
        gone
    }

    /// Whether the source was removed.
    pub(crate) fn is_cut(&self, source: &NodeId) -> bool {
        self.cuts.contains_key(source)
    }

    /// Where what counts of a life ends, as far as its source was removed.
    pub(crate) fn cut_of(&self, (source, life): LifeId) -> Seq {
        match self.cuts.get(&source) {
            Some((last, _)) if life > *last => 0,
            Some((last, end)) if life == *last => *end,
            _ => Seq::MAX,
        }
    }

    /// Whether nothing waits for what is missing of the source, or only for what comes before an end.
    pub(crate) fn is_settled(&self, source: &NodeId) -> bool {
        self.is_cut(source) || self.map.get(source).is_some_and(|it| it.forked)
    }

    /// Whether the source was removed before this.
    pub(crate) fn is_beyond(&self, id: &BatchId) -> bool {
        id.seq >= self.cut_of((id.source, id.life))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// Somebody who has not heard of the removal tells of more, in lives that were closed, that come too late,
    /// or that would be new.
    #[test]
    fn of_who_was_removed_nothing_above_its_end_is_missed_or_opened() {
        let (source, config) = (NodeId::from_bytes([1; 32]), Config::default());
        let mut sources = Sources::default();
        for (life, end) in [(3, 8), (7, 2)] {
            sources.open((source, life), &config).expect("there is room").delivered = end;
        }
        sources.get_mut(&source).expect("it is there").close(3, 8, true);
        sources.cut((source, 7), 4, Digest::ZERO);
        assert_eq!(sources.misses((source, 9), 1), None, "a later life");
        assert_eq!(sources.open((source, 9), &config).map(drop), Err(""));
        assert_eq!(sources.life((source, 7)).and_then(|it| it.end), Some(4));
        sources.get_mut(&source).expect("it is there").close(7, 2, true);
        assert_eq!(sources.misses((source, 7), 9), Some(2), "what counts of the last is missed");
        assert_eq!(sources.misses((source, 7), 9), None, "and no more than that");
        assert_eq!(sources.misses((source, 3), 9), Some(8), "before it all counts");
    }
}
