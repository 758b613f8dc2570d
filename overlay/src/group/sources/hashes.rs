//! A hash tree over (source → frontier), so that two who hold the same of 100,000 sources see it at once,
//! and two who differ find where (Merkle 1987; anti-entropy by it as in Dynamo, DeCandia 2007 §4.7).
//!
//! Only what costs something to compute again is kept, and forgotten when a source below is touched: a touch costs
//! as many look-ups as the tree is deep, and the hash is made when somebody asks for it.

use std::collections::BTreeMap;

use super::{LifeId, LifeState, Source, Sources};
use crate::id::NodeId;
use crate::wire::compare::{DEEPEST, Prefix};

/// Up to so many sources are one hash over all of them; of more, it is one over the parts. Part of the wire.
pub(crate) const FEW: usize = 8;

/// What is under a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) hash: u64,
    /// At most [`FEW`] sources, or no part to look into.
    pub(crate) is_few: bool,
}

/// Hashes that were computed, of prefixes with more than a few sources: one for each few of them.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    known: BTreeMap<Prefix, Node>,
    deepest: u8,
}

impl Hashes {
    /// Something of this source may change.
    pub(super) fn touch(&mut self, source: &NodeId) {
        if self.known.is_empty() {
            return;
        }
        for depth in 0..=self.deepest {
            self.known.remove(&Prefix::of(source, depth));
        }
    }

    fn keep(&mut self, at: Prefix, node: Node) {
        self.deepest = self.deepest.max(at.depth);
        self.known.insert(at, node);
    }
}

impl Source {
    /// What of it enters hashes: not what is only rumoured, and not what is disowned, which is told once and
    /// then known or too late. Of a source that was set aside nothing.
    fn hashed(&self) -> impl Iterator<Item = (&u64, &LifeState)> {
        self.lives.iter().filter(|(_, it)| !self.forked && it.held.end() > 0 && !it.disowned)
    }
}

impl Sources {
    /// A hash over all that is held: two nodes with the same frontiers have the same.
    pub(crate) fn summary(&mut self) -> u64 {
        self.hash(Prefix::ROOT).hash
    }

    /// What is held of all sources under a prefix. (Digests do not enter: not everybody that holds a batch
    /// knows its digest.)
    pub(crate) fn hash(&mut self, at: Prefix) -> Node {
        if let Some(known) = self.hashes.known.get(&at) {
            return *known;
        }
        let (few, looked_at) = self.few_under(at);
        let node = match few {
            Some(few) => Node { hash: hash_of(few.into_iter()), is_few: true },
            None => {
                let mut hasher = blake3::Hasher::new();
                for part in at.parts() {
                    hasher.update(&self.hash(part).hash.to_le_bytes());
                }
                Node { hash: short(&hasher), is_few: false }
            }
        };
        if looked_at > FEW {
            self.hashes.keep(at, node);
        }
        node
    }

    /// Those that count under a prefix, if they are few, and how many were looked at.
    fn few_under(&self, at: Prefix) -> (Option<Vec<(&NodeId, &Source)>>, usize) {
        let (first, last) = at.keys();
        let most = if at.depth == DEEPEST { usize::MAX } else { FEW };
        let (mut few, mut looked_at) = (Vec::new(), 0);
        for (node, source) in self.map.range(first..=last) {
            looked_at += 1;
            if source.hashed().next().is_some() {
                if few.len() >= most {
                    return (None, looked_at);
                }
                few.push((node, source));
            }
        }
        (Some(few), looked_at)
    }

    /// The sources under a prefix that were not set aside, with their lives.
    pub(crate) fn under(&self, at: Prefix) -> impl Iterator<Item = (NodeId, &Source)> {
        let (first, last) = at.keys();
        self.map.range(first..=last).filter(|(_, it)| !it.forked).map(|(node, it)| (*node, it))
    }

    /// The lives that their sources have forgotten.
    pub(crate) fn disowned(&self) -> impl Iterator<Item = LifeId> {
        self.trusted_lives().filter(|(_, it)| it.disowned).map(|(id, _)| id)
    }

    #[cfg(test)]
    pub(crate) fn hashes_len(&self) -> usize {
        self.hashes.known.len()
    }
}

fn hash_of<'a>(sources: impl Iterator<Item = (&'a NodeId, &'a Source)>) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for (source, it) in sources {
        for (life, state) in it.hashed() {
            hasher.update(source.as_bytes());
            hasher.update(&life.to_le_bytes());
            hasher.update(&state.held.next().to_le_bytes());
            for (from, to) in state.held.above() {
                hasher.update(&from.to_le_bytes());
                hasher.update(&to.to_le_bytes());
            }
        }
    }
    short(&hasher)
}

fn short(hasher: &blake3::Hasher) -> u64 {
    u64::from_le_bytes(hasher.finalize().as_bytes()[..8].try_into().expect("8 of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::id::Digest;
    use crate::rng::Rng;

    fn source(rng: &mut Rng) -> NodeId {
        let mut key = [0; 32];
        key.chunks_mut(8).for_each(|part| part.copy_from_slice(&rng.next_u64().to_le_bytes()));
        // A third of the keys was made to begin alike.
        if key[31] % 3 == 0 {
            key[..5].fill(7);
        }
        NodeId::from_bytes(key)
    }

    fn hold(sources: &mut Sources, id: LifeId, seq: u64) {
        let state = sources.open(id, &Config::default()).expect("there is room");
        state.hold(seq, Digest::ZERO, |_| None);
    }

    fn fresh(of: &Sources) -> Sources {
        let mut other = Sources::default();
        let ids: Vec<_> = of.lives().map(|(id, state)| (id, state.held.clone())).collect();
        for (id, held) in ids.into_iter().rev() {
            other.open(id, &Config::default()).expect("there is room").held = held;
        }
        other
    }

    #[test]
    fn the_hash_is_of_what_is_held_however_it_came() {
        for seed in 0..20 {
            let mut rng = Rng::new(seed);
            let names: Vec<_> = (0..200).map(|_| source(&mut rng)).collect();
            let mut sources = Sources::default();
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..300 {
                let id = (names[rng.below(names.len())], 1 + rng.below(2) as u64);
                let seq = rng.below(6) as u64;
                let news = sources.life(id).is_none_or(|it| !it.held.contains(seq));
                let before = sources.summary();
                hold(&mut sources, id, seq);
                let after = sources.summary();
                assert_eq!(after != before, news, "seed {seed}");
                assert_eq!(seen.insert(after), news, "seed {seed}: no two sets have one hash");
                assert_eq!(after, fresh(&sources).summary(), "seed {seed}");
            }
        }
    }

    #[test]
    fn what_does_not_count_does_not_show() {
        let mut rng = Rng::new(3);
        let mut sources = Sources::default();
        let names: Vec<_> = (0..40).map(|_| source(&mut rng)).collect();
        names.iter().for_each(|name| hold(&mut sources, (*name, 1), 0));
        let summary = sources.summary();
        for _ in 0..40 {
            // Rumours.
            sources.open((source(&mut rng), 1), &Config::default()).expect("there is room").heard = 9;
        }
        assert_eq!(sources.summary(), summary);
        sources.open((names[0], 2), &Config::default()).expect("there is room").held.insert(4);
        sources.life_mut((names[0], 2)).expect("open").disowned = true;
        assert_eq!(sources.summary(), summary);
        sources.get_mut(&names[1]).expect("known").forked = true;
        assert_ne!(sources.summary(), summary);
    }

    #[test]
    fn a_hash_is_kept_for_each_few_sources_only() {
        let mut rng = Rng::new(4);
        let mut sources = Sources::default();
        for _ in 0..20_000 {
            hold(&mut sources, (source(&mut rng), 1), 0);
        }
        sources.summary();
        assert!(sources.hashes_len() <= 20_000 / FEW, "{}", sources.hashes_len());
        let before = sources.hashes_len();
        hold(&mut sources, (source(&mut rng), 1), 0);
        assert!(before - sources.hashes_len() <= 1 + usize::from(sources.hashes.deepest));
    }
}
