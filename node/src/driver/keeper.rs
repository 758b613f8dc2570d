//! Saves the state file off the loop, and answers the core's writes once they are on disk.

use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use libp2p::Multiaddr;
use tokio::task::JoinHandle;
use treecast_overlay::io::Write;
use treecast_overlay::{NodeId, Token};

use crate::state::State;

/// What has become of the writes that waited for a save.
pub(super) struct Saved {
    pub(super) tokens: Vec<Token>,
    pub(super) result: io::Result<()>,
}

/// Owns what the node remembers.
pub(super) struct Keeper {
    file: Arc<StateFile>,
    state: State,
    version: u64,
    dirty: bool,
    /// The highest life that is surely on disk.
    durable_life: u64,
    /// Wait for the next save.
    waiting: Vec<Token>,
    /// Wait for the save that is under way.
    saving: Option<Saving>,
}

/// Writers take turns, and an older state never replaces a newer one.
struct StateFile {
    data_dir: PathBuf,
    written: Mutex<u64>,
}

impl StateFile {
    fn write(&self, version: u64, state: &State) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if version >= *written {
            state.save(&self.data_dir)?;
            *written = version;
        }
        Ok(())
    }
}

struct Saving {
    task: JoinHandle<io::Result<()>>,
    tokens: Vec<Token>,
    life: u64,
}

impl Keeper {
    pub(super) fn new(data_dir: PathBuf, state: State) -> Self {
        let durable_life = state.last_life;
        let file = Arc::new(StateFile { data_dir, written: Mutex::new(0) });
        Self { file, state, version: 0, dirty: false, durable_life, waiting: Vec::new(), saving: None }
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Changes what is remembered; it is saved with the next save.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut State)) {
        change(&mut self.state);
        self.dirty = true;
    }

    /// Where a node was reached.
    pub(super) fn remember(&mut self, node: NodeId, addresses: Vec<Multiaddr>) {
        self.dirty |= self.state.remember_peer(node, addresses);
    }

    /// Says whether these writes are done already. (Batches are kept in memory only: a node
    /// without storage has them acknowledged at once.)
    pub(super) fn write(&mut self, token: Token, writes: &[Write]) -> bool {
        let highest = writes.iter().filter_map(life_of).max();
        let Some(life) = highest.filter(|life| *life > self.durable_life) else { return true };
        self.state.last_life = self.state.last_life.max(life);
        self.waiting.push(token);
        self.save();
        false
    }

    /// Saves what has changed, if no save is under way; otherwise the next [`Keeper::saved`] does.
    pub(super) fn save(&mut self) {
        if self.saving.is_some() || (!self.dirty && self.waiting.is_empty()) {
            return;
        }
        self.dirty = false;
        self.version += 1;
        let (version, state, file, life) =
            (self.version, self.state.clone(), self.file.clone(), self.state.last_life);
        let task = tokio::task::spawn_blocking(move || file.write(version, &state));
        self.saving = Some(Saving { task, tokens: std::mem::take(&mut self.waiting), life });
    }

    /// Waits for the save that is under way (forever, if none is). May be dropped.
    pub(super) async fn saved(&mut self) -> Saved {
        let Some(saving) = &mut self.saving else { return pending().await };
        let result = (&mut saving.task).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let (tokens, life) = (std::mem::take(&mut saving.tokens), saving.life);
        self.saving = None;
        match &result {
            Ok(()) => self.durable_life = self.durable_life.max(life),
            Err(_) => self.dirty = true,
        }
        // What was asked for meanwhile does not wait for the clock.
        if !self.waiting.is_empty() {
            self.save();
        }
        Saved { tokens, result }
    }

    /// Changes what is remembered, and returns when that is on disk.
    pub(super) fn change_now(&mut self, change: impl FnOnce(&mut State)) -> io::Result<()> {
        self.change(change);
        self.save_now()
    }

    fn save_now(&mut self) -> io::Result<()> {
        self.version += 1;
        self.file.write(self.version, &self.state)?;
        self.dirty = false;
        Ok(())
    }

    /// Lets the save that is under way end.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        if let Some(saving) = self.saving.take() {
            saving.task.await.unwrap_or_else(|error| Err(io::Error::other(error)))?;
        }
        self.save_now()
    }
}

fn life_of(write: &Write) -> Option<u64> {
    match write {
        Write::Life { life, .. } => Some(*life),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;
    use treecast_overlay::GroupId;

    #[tokio::test]
    async fn a_life_is_on_disk_before_it_is_acknowledged() {
        let scratch = Scratch::new();
        let mut keeper = Keeper::new(scratch.path().to_owned(), State::default());
        let group = GroupId::from_bytes([1; 32]);
        assert!(!keeper.write(Token(1), &[Write::Life { group, life: 9 }]));
        assert!(!keeper.write(Token(2), &[Write::Life { group, life: 10 }]));
        let first = keeper.saved().await;
        assert_eq!((first.tokens, first.result.is_ok()), (vec![Token(1)], true));
        assert_eq!(State::load(scratch.path()).expect("read").last_life, 9);
        assert_eq!(keeper.saved().await.tokens, vec![Token(2)]);
        assert_eq!(State::load(scratch.path()).expect("read").last_life, 10);
        assert!(keeper.write(Token(3), &[Write::Life { group, life: 10 }]), "a life that is saved already");
    }

    #[tokio::test]
    async fn a_failed_write_is_told() {
        let scratch = Scratch::new();
        let mut keeper = Keeper::new(scratch.path().join("gone"), State::default());
        let group = GroupId::from_bytes([1; 32]);
        assert!(!keeper.write(Token(1), &[Write::Life { group, life: 9 }]));
        let saved = keeper.saved().await;
        assert_eq!(saved.tokens, vec![Token(1)]);
        assert!(saved.result.is_err());
        assert!(!keeper.write(Token(2), &[Write::Life { group, life: 9 }]), "it is still not on disk");
    }
}
