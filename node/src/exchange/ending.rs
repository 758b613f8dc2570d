//! What lies here, and what does so no longer: found out, remembered, told to the group.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use treecast_overlay::GroupId;
use treecast_overlay::files::wire::{Held, MAX_HELD};
use treecast_overlay::files::{Ending, FileHash, Geometry, Retraction};

use super::{Exchange, lock};
use crate::error::{PublishError, Stopped};
use crate::handle::Command;
use crate::history::look_up;
use crate::store::{HeldFile, KnownOffer, Work};

/// Words to groups that wait for their places at the same time. Guess.
pub(super) const WORDS: usize = 16;

/// Between looks whether what is served lies where it did. Guess.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What a look at its place says of a file, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// On this disk.
    Fine(Option<u64>),
    /// Its folder is not there either, or cannot be read: a disk that is not plugged in, say.
    Away,
    Ended(Ending),
}

/// With the disk that it was last seen on, if it was: where that is not plugged in, a folder that it comes into may be
/// there all the same.
fn look(held: &HeldFile, disk: Option<u64>) -> Look {
    let is_elsewhere = |found: &fs::Metadata| disk.is_some_and(|disk| disk != found.dev());
    // Some systems say of a file another disk than of its folder.
    let folder = || held.path.parent().map(fs::metadata).and_then(Result::ok).filter(fs::Metadata::is_dir);
    match fs::symlink_metadata(&held.path) {
        Ok(found) if held.manifest.is_some() && found.is_dir() => {
            match is_elsewhere(&found) && fs::read_dir(&held.path).is_ok_and(|mut it| it.next().is_none()) {
                true => Look::Away,
                false => Look::Fine(Some(found.dev())),
            }
        }
        Ok(found) if held.manifest.is_none() && found.is_file() && found.len() == held.size => {
            Look::Fine(folder().map(|it| it.dev()))
        }
        Ok(_) => Look::Ended(Ending::Changed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match folder() {
            Some(folder) if !is_elsewhere(&folder) => Look::Ended(Ending::Removed),
            _ => Look::Away,
        },
        Err(_) => Look::Away,
    }
}

impl Exchange {
    /// What of a group's files lies here, or did until it changed.
    pub(super) async fn held_in(self: &Arc<Self>, group: GroupId) -> Vec<Held> {
        let hashes: Vec<FileHash> = lock(&self.held).keys().copied().collect();
        if hashes.is_empty() {
            return Vec::new();
        }
        let Ok(library) = self.ask(|driver| driver.library()).await else { return Vec::new() };
        let me = self.me;
        let offered = look_up(&library, move |shelf| shelf.offered(group, me, &hashes)).await;
        let (offered, exchange) = (offered.unwrap_or_default(), self.clone());
        let look = move || {
            let held = offered.into_iter().filter_map(|(hash, is_own)| exchange.held_of(hash, is_own));
            held.take(MAX_HELD).collect()
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }

    fn held_of(self: &Arc<Self>, hash: FileHash, is_own: bool) -> Option<Held> {
        match self.pieces_of(hash) {
            Some(pieces) => Some(Held { hash, pieces, ending: None }),
            None => {
                let ending = lock(&self.held).get(&hash)?.ending?;
                // Nobody waits for a copy that somebody fetched and removed.
                let is_news = ending != Ending::Removed || is_own;
                is_news.then_some(Held { hash, pieces: 0, ending: Some(ending) })
            }
        }
    }

    /// Pieces of a file that lie here, as far as that is known without reading it.
    pub(super) fn pieces_of(self: &Arc<Self>, hash: FileHash) -> Option<u32> {
        let held = lock(&self.held).get(&hash)?.clone();
        if held.ending.is_some() {
            return None;
        }
        if held.whole {
            match self.look(&held) {
                Look::Fine(_) => {}
                Look::Away => return None,
                Look::Ended(ending) => {
                    self.on_ended(hash, ending, true);
                    return None;
                }
            }
        }
        // It is not locked while one of them is waited for.
        let loaded = lock(&self.loaded).get(&hash).cloned();
        if let Some(holding) = loaded {
            return holding.ending().is_none().then(|| holding.have().count());
        }
        held.whole.then(|| Geometry::new(held.size).pieces())
    }

    /// Looks where a file lies, and remembers on which disk. That is in memory only: the store has no place for it, and
    /// the first look after a start tells it anew.
    fn look(&self, held: &HeldFile) -> Look {
        let disk = lock(&self.disks).get(&held.path).copied();
        let look = look(held, disk);
        if let Look::Fine(Some(now)) = look
            && disk != Some(now)
        {
            lock(&self.disks).insert(held.path.clone(), now);
        }
        look
    }

    /// Looks where all files lie, beside what goes on, if nobody does so yet: a disk may take its time.
    pub(super) fn look_at_all(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        let all: Vec<FileHash> = lock(&self.held).keys().copied().collect();
        if all.is_empty() {
            return None;
        }
        let looking = self.looking.clone().try_acquire_owned().ok()?;
        let exchange = self.clone();
        Some(tokio::task::spawn_blocking(move || {
            for hash in all {
                // What it finds out is told as it does.
                let _ = exchange.pieces_of(hash);
            }
            drop(looking);
        }))
    }

    /// Something else lies at a path by now: what lay there before is not served any more.
    pub(super) fn supersede(self: &Arc<Self>, path: &Path, by: FileHash) {
        for hash in self.others_at(path, by) {
            self.on_ended(hash, Ending::Changed, true);
        }
    }

    /// As [`Exchange::supersede`]. The group that hears of the new one need not hear of that, too.
    pub(super) fn supersede_but_in(self: &Arc<Self>, path: &Path, by: FileHash, group: GroupId) {
        for hash in self.others_at(path, by) {
            self.on_ended(hash, Ending::Changed, false);
            let exchange = self.clone();
            tokio::spawn(async move {
                let told = exchange.retract_where(hash, Ending::Changed, |it| it.group != group).await;
                if let Err(error) = told {
                    tracing::warn!(%hash, %error, "a group was not told that a file has changed");
                }
            });
        }
    }

    fn others_at(&self, path: &Path, by: FileHash) -> Vec<FileHash> {
        let is_it = |it: &&HeldFile| it.path == path && it.hash != by && it.whole && it.ending.is_none();
        lock(&self.held).values().filter(is_it).map(|it| it.hash).collect()
    }

    /// A piece of a file was not what it was, or not there.
    pub(super) fn on_bad_piece(self: &Arc<Self>, hash: FileHash) {
        let Some(held) = lock(&self.held).get(&hash).cloned() else { return };
        match self.look(&held) {
            Look::Fine(_) => self.on_ended(hash, Ending::Changed, true),
            Look::Ended(ending) => self.on_ended(hash, ending, true),
            // It may come back with its disk.
            Look::Away => drop(lock(&self.loaded).remove(&hash)),
        }
    }

    /// What lies here of a whole file is not what it was: that is remembered and, with `tell`, told where this node
    /// announced it.
    fn on_ended(self: &Arc<Self>, hash: FileHash, ending: Ending, tell: bool) {
        match lock(&self.held).get_mut(&hash) {
            Some(file) if file.whole && file.ending.is_none() => file.ending = Some(ending),
            _ => return,
        }
        if let Some(loaded) = lock(&self.loaded).get(&hash) {
            loaded.end(ending);
        }
        let exchange = self.clone();
        tokio::spawn(async move {
            // It may have been announced anew since.
            let file = lock(&exchange.held).get(&hash).filter(|it| it.ending.is_some()).cloned();
            let Some(file) = file else { return };
            let saved = exchange.write(vec![Work::Hold(Box::new(file))]).await;
            if !matches!(saved, Ok(Ok(()))) {
                tracing::warn!(%hash, "that a file has changed could not be saved");
            }
            if tell && let Err(error) = exchange.retract(hash, ending).await {
                tracing::warn!(%hash, %error, "a group was not told that a file has changed");
            }
        });
    }

    /// Tells once more what has ended and was not told: the node may have stopped before it could.
    pub(super) async fn retract_ended(&self) {
        let ended = |it: &HeldFile| it.ending.map(|ending| (it.hash, ending));
        let ended: Vec<(FileHash, Ending)> = lock(&self.held).values().filter_map(ended).collect();
        if ended.is_empty() {
            return;
        }
        let Ok(library) = self.ask(|driver| driver.library()).await else { return };
        let me = self.me;
        let offers = look_up(&library, move |shelf| shelf.offers_by(me)).await.unwrap_or_default();
        let newest: HashMap<(GroupId, String), FileHash> =
            offers.into_iter().map(|it| ((it.group, it.offer.name), it.offer.hash)).collect();
        for (hash, ending) in ended {
            // Where another was announced in its place since, that was heard of.
            let is_newest =
                |it: &KnownOffer| newest.get(&(it.group, it.offer.name.clone())) == Some(&it.offer.hash);
            if let Err(error) = self.retract_where(hash, ending, is_newest).await {
                tracing::warn!(%hash, %error, "a group was not told that a file has changed");
            }
        }
    }

    /// Tells the groups where this node announced a file that it is not to be had here any more. Returns which.
    pub(super) async fn retract(&self, hash: FileHash, ending: Ending) -> Result<Vec<GroupId>, PublishError> {
        self.retract_where(hash, ending, |_| true).await
    }

    /// All of them are tried, also if one cannot be told: then that is the result.
    async fn retract_where(
        &self,
        hash: FileHash,
        ending: Ending,
        is_meant: impl Fn(&KnownOffer) -> bool,
    ) -> Result<Vec<GroupId>, PublishError> {
        let (library, me) = (self.ask(|driver| driver.library()).await?, self.me);
        let offers = look_up(&library, move |shelf| shelf.offers_by(me)).await.unwrap_or_default();
        let mut names: BTreeMap<GroupId, String> = BTreeMap::new();
        for it in offers {
            // What has changed, and then is withdrawn, is told again.
            if it.offer.hash == hash && it.ending != Some(ending) && is_meant(&it) {
                names.entry(it.group).or_insert(it.offer.name);
            }
        }
        let words = names.into_iter().map(async |(group, name)| {
            let retraction = Retraction { hash, name, ending };
            self.say(group, retraction.to_message()).await.map(|()| group)
        });
        futures::future::join_all(words).await.into_iter().collect()
    }

    /// Publishes a message, without keeping the node alive.
    async fn say(&self, group: GroupId, text: String) -> Result<(), PublishError> {
        let room = self.words.clone().acquire_owned().await.map_err(|_| Stopped)?;
        let (placed, placement) = oneshot::channel();
        let publish = Command::Publish { group, payload: text.into(), room, placed };
        let commands = self.commands.upgrade().ok_or(Stopped)?;
        commands.send(publish).map_err(|_| Stopped)?;
        drop(commands);
        placement.await.map_err(|_| Stopped)?.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;

    #[test]
    fn what_is_gone_or_has_another_length_has_ended_and_a_disk_that_is_away_has_not() {
        let scratch = Scratch::new();
        let hash = FileHash::from_bytes([1; 32]);
        let path = scratch.path().join("disk/it");
        let held = HeldFile { hash, path: path.clone(), size: 2, manifest: None, whole: true, ending: None };
        assert_eq!(look(&held, None), Look::Away);
        fs::create_dir(scratch.path().join("disk")).expect("made");
        assert_eq!(look(&held, None), Look::Ended(Ending::Removed));
        fs::write(&path, "it").expect("written");
        let disk = fs::metadata(&path).expect("there").dev();
        let fine = Look::Fine(Some(disk));
        assert_eq!(look(&held, None), fine);
        assert_eq!(look(&HeldFile { manifest: Some(1), ..held.clone() }, None), Look::Ended(Ending::Changed));
        fs::write(&path, "more").expect("written");
        assert_eq!(look(&held, None), Look::Ended(Ending::Changed));
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        assert_eq!(look(&held, None), Look::Ended(Ending::Changed));
        assert_eq!(look(&HeldFile { manifest: Some(1), ..held }, None), fine);
    }

    #[test]
    fn an_empty_mount_point_is_a_disk_that_is_away() {
        let scratch = Scratch::new();
        let hash = FileHash::from_bytes([1; 32]);
        let path = scratch.path().join("it");
        let file = HeldFile { hash, path: path.clone(), size: 2, manifest: None, whole: true, ending: None };
        let folder = HeldFile { manifest: Some(1), ..file.clone() };
        let here = fs::metadata(scratch.path()).expect("there").dev();
        let other = Some(here.wrapping_add(1));
        assert_eq!(look(&file, other), Look::Away);
        assert_eq!(look(&file, Some(here)), Look::Ended(Ending::Removed));
        fs::create_dir(&path).expect("made");
        assert_eq!(look(&folder, other), Look::Away);
        assert_eq!(look(&folder, Some(here)), Look::Fine(Some(here)));
        fs::write(path.join("x"), "x").expect("written");
        assert_eq!(look(&folder, other), Look::Fine(Some(here)), "the disk has another number");
    }
}
