//! One at a time fetches a file here; whoever asks for it meanwhile hears how that goes.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use treecast_overlay::NodeId;
use treecast_overlay::files::FileHash;

use super::{Exchange, Progress, lock};

/// Peers that want a file which is being fetched, and were not looked at.
const UNHEARD: usize = 64;

/// A file that is being fetched here.
pub(super) struct Running {
    interest: mpsc::Sender<NodeId>,
    told: watch::Receiver<Option<Progress>>,
}

impl Running {
    /// Somebody else wants it.
    pub(super) fn on_interest(&self, node: NodeId) {
        // Whoever is not heard of now is when it is looked for.
        let _ = self.interest.try_send(node);
    }
}

/// A file that is being fetched here, by one at a time, until this is dropped: not while a thread still writes what is
/// to be that file.
pub(super) struct Claim {
    exchange: Arc<Exchange>,
    hash: FileHash,
    told: watch::Sender<Option<Progress>>,
}

impl Claim {
    /// With who opens a stream for the same file from now on. If another has the claim: how that goes; it ends when
    /// that one's claim does.
    pub(super) fn begin(
        exchange: &Arc<Exchange>,
        hash: FileHash,
    ) -> Result<(Self, mpsc::Receiver<NodeId>), watch::Receiver<Option<Progress>>> {
        let (interest, interested) = mpsc::channel(UNHEARD);
        let (told, hearing) = watch::channel(None);
        match lock(&exchange.fetching).entry(hash) {
            Entry::Occupied(running) => return Err(running.get().told.clone()),
            Entry::Vacant(free) => free.insert(Running { interest, told: hearing }),
        };
        Ok((Self { exchange: exchange.clone(), hash, told }, interested))
    }

    /// How it goes, for those who wait.
    pub(super) fn tell(&self, progress: Progress) {
        self.told.send_replace(Some(progress));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.exchange.fetching).remove(&self.hash);
    }
}
