//! Peers that dialled us and share no group with us (yet): they use this node to find others, and
//! know better than we how long. Their links stay until they go, or too many others come.

use std::collections::VecDeque;

use libp2p::PeerId;

/// Guests whose links are kept; half of the core's `max_links` by default.
pub(super) const MAX_GUESTS: usize = 256;

/// Whose links are kept, oldest first.
#[derive(Debug, Default)]
pub(super) struct Guests {
    kept: VecDeque<PeerId>,
}

impl Guests {
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// One has dialled us: whose link is kept no longer for it.
    pub(super) fn come(&mut self, peer: PeerId) -> Option<PeerId> {
        if self.kept.contains(&peer) {
            return None;
        }
        self.kept.push_back(peer);
        if self.kept.len() > MAX_GUESTS { self.kept.pop_front() } else { None }
    }

    /// One is gone.
    pub(super) fn go(&mut self, peer: &PeerId) {
        self.kept.retain(|kept| kept != peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_guest_makes_room() {
        let mut guests = Guests::default();
        let first = PeerId::random();
        assert_eq!((guests.come(first), guests.come(first)), (None, None));
        for _ in 1..MAX_GUESTS {
            assert_eq!(guests.come(PeerId::random()), None);
        }
        assert_eq!(guests.come(PeerId::random()), Some(first));
        assert_eq!(guests.len(), MAX_GUESTS);
        guests.go(&first);
        assert_eq!(guests.len(), MAX_GUESTS);
    }
}
