//! Files as a program has them: announce, list, fetch, forget.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use treecast_overlay::files::wire::Refusal;
use treecast_overlay::files::{FileHash, Geometry, Offer};
use treecast_overlay::{GroupId, NodeId};

use super::get::{End, Fetching, Job};
use super::holding::{Desk, Holding, Title};
use super::target::{self, OnConflict, Target};
use super::{Exchange, Loading, find, lock, scan};
use crate::clock::unix_ms;
use crate::error::{AnnounceError, DropFileError, GetError, HistoryError, UnknownGroup};
use crate::group::GroupRef;
use crate::handle::Node;
use crate::history::look_up;
use crate::store::{HeldFile, KnownOffer, Work};

/// What the log of a file takes, at most, as a part of it: a proof for each piece.
const LOGGED: u64 = 256;

/// Between looks whether somebody else is done with reading a file.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Peers that want a file which is being fetched, and were not looked at.
const UNHEARD: usize = 64;

/// A file that was announced, and who has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileInfo {
    /// What was announced.
    pub offer: Offer,
    /// What the group is called here.
    pub group: String,
    /// Who announced it.
    pub source: NodeId,
    /// What that called itself.
    pub nick: String,
    /// When the announcement came here, unix milliseconds.
    pub since_ms: u64,
    /// Bytes of it that are here.
    pub held: u64,
    /// Where they lie.
    pub path: Option<PathBuf>,
    /// What lies there is not what was announced any more.
    pub changed: bool,
    /// Members who have all of it and can be asked, this node among them.
    pub holders: Vec<Holder>,
    /// Members, this node among them.
    pub members: usize,
}

/// Who has a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Who.
    pub node: NodeId,
    /// What it calls itself; may be empty.
    pub nick: String,
}

/// How a fetch goes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Of what.
    pub hash: FileHash,
    /// Bytes that are here, checked and written.
    pub done: u64,
    /// Of so many.
    pub size: u64,
    /// Bytes a second, lately.
    pub rate: f64,
    /// How long it takes if that stays so.
    pub eta: Option<Duration>,
    /// Who sent some lately, and what they call themselves.
    pub sources: Vec<(NodeId, String)>,
    /// Who served other bytes than those announced; nothing of that was written.
    pub liars: Vec<(NodeId, String)>,
}

/// What is to be fetched, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetFile {
    /// A name, or a hash, or the first digits of one.
    pub what: String,
    /// A path for it, or a folder to put it in under its own name.
    pub out: PathBuf,
    /// What to do if something lies there.
    pub on_conflict: OnConflict,
    /// If nobody has it, wait for somebody.
    pub wait: bool,
}

/// A file that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Got {
    /// What was announced, and by whom.
    pub info: FileInfo,
    /// Where it lies.
    pub path: PathBuf,
    /// Who served other bytes than those announced.
    pub liars: Vec<(NodeId, String)>,
}

/// A file that is being fetched here, by one at a time, until this is dropped.
struct Claim<'a> {
    exchange: &'a Exchange,
    hash: FileHash,
}

impl<'a> Claim<'a> {
    /// With who opens a stream for the same file from now on.
    fn begin(exchange: &'a Exchange, hash: FileHash) -> Result<(Self, mpsc::Receiver<NodeId>), GetError> {
        let (interest, interested) = mpsc::channel(UNHEARD);
        match lock(&exchange.fetching).entry(hash) {
            Entry::Occupied(_) => return Err(GetError::Busy),
            Entry::Vacant(free) => free.insert(interest),
        };
        Ok((Self { exchange, hash }, interested))
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(&self.exchange.fetching).remove(&self.hash);
    }
}

impl Node {
    /// Tells a group of a file or folder, which is served from where it lies from now on. It is saved when this
    /// returns.
    ///
    /// # Errors
    /// See [`AnnounceError`].
    pub async fn announce(&self, path: &Path, group: &str) -> Result<FileInfo, AnnounceError> {
        let name = group.to_owned();
        let info = self.ask(move |driver| driver.group_info(&name)).await??;
        let path = std::path::absolute(path).map_err(|source| AnnounceError::of(path, source))?;
        let path = path.as_path();
        let exchange = &self.exchange;
        let number = exchange.scans.fetch_add(1, Ordering::Relaxed);
        let (found, desk) = (path.to_owned(), exchange.desk.clone());
        let manifest_at = desk.0.join(format!("{}-{number}.scan", std::process::id()));
        let scanned = tokio::task::spawn_blocking(move || {
            let scanned = scan::scan(&found, manifest_at.clone());
            if scanned.is_err() {
                // There may be none.
                let _ = std::fs::remove_file(manifest_at);
            }
            scanned
        });
        let scanned = scanned.await.map_err(|error| AnnounceError::NotSaved(error.to_string()))??;
        let offer = scanned.offer.clone();
        let title = Title { hash: offer.hash, size: offer.size, manifest: offer.manifest };
        let served = path.to_owned();
        let keep = move || {
            let mut body = scanned.body;
            if let Some(from) = scanned.manifest_at {
                let to = desk.at(title.hash, "manifest");
                body = body.with_first_at(to.clone());
                std::fs::rename(from, to)?;
            }
            Holding::announced(title, desk, body, scanned.tree)
        };
        let kept = tokio::task::spawn_blocking(keep).await;
        let not_saved = |error: &dyn std::fmt::Display| AnnounceError::NotSaved(error.to_string());
        let holding = kept.map_err(|error| not_saved(&error))?.map_err(|error| not_saved(&error))?;
        let Title { hash, size, manifest } = title;
        let file = HeldFile { hash, path: served.clone(), size, manifest, whole: true };
        exchange.hold(file).await.map_err(AnnounceError::NotSaved)?;
        lock(&exchange.loaded).insert(hash, Arc::new(holding));
        let (sender, _) = self.enter(GroupRef::Name(info.view.id.to_string()), true).await?;
        sender.publish(offer.to_message()).await?;
        Ok(FileInfo {
            group: info.label,
            source: self.id,
            nick: self.nick().await?,
            since_ms: unix_ms(),
            held: size,
            path: Some(served),
            changed: false,
            holders: Vec::new(),
            members: info.view.members.iter().filter(|it| it.state.is_member()).count(),
            offer,
        })
    }

    /// The files that were announced in a group, or in all, oldest first; each once a group. Members that can be
    /// reached are asked what they have.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub async fn files(&self, group: Option<&str>) -> Result<Vec<FileInfo>, HistoryError> {
        let (mut infos, exchange) = (self.known_files(group).await?, &self.exchange);
        let mut groups: HashMap<GroupId, Vec<usize>> = HashMap::new();
        for (at, (id, _)) in infos.iter().enumerate() {
            groups.entry(*id).or_default().push(at);
        }
        let mut seen = Vec::new();
        let me = Holder { node: self.id, nick: self.nick().await? };
        for (group, places) in groups {
            let fellows = self.ask(move |driver| driver.fellows(group)).await?;
            let here = fellows.iter().filter(|it| it.is_here).take(64);
            let asked = here.map(async |it| (it, exchange.query(group, it.node).await));
            let answers = futures::future::join_all(asked).await;
            for at in places {
                let info = &mut infos[at].1;
                let all = Geometry::new(info.offer.size).pieces();
                let is_whole = |files: &[(FileHash, u32)]| files.contains(&(info.offer.hash, all));
                let others = answers
                    .iter()
                    .filter(|(_, files)| is_whole(files))
                    .map(|(it, _)| Holder { node: it.node, nick: it.nick.clone() });
                let own = (exchange.pieces_of(info.offer.hash) == Some(all)).then(|| me.clone());
                info.holders = own.into_iter().chain(others).collect();
                info.members = fellows.len() + 1;
                let others = info.holders.iter().filter(|it| it.node != self.id);
                seen.extend(others.map(|it| (info.offer.hash, it.node)));
            }
        }
        exchange.saw_holders(seen);
        Ok(infos.into_iter().map(|(_, info)| info).collect())
    }

    /// What was announced, without asking anybody.
    async fn known_files(&self, group: Option<&str>) -> Result<Vec<(GroupId, FileInfo)>, HistoryError> {
        let group = group.map(str::to_owned);
        let catalogue = self.ask_for(move |driver, reply| driver.shelf(group.as_deref(), reply)).await?;
        let only = catalogue.only;
        let offers = look_up(&catalogue.library, move |shelf| shelf.offers(only)).await?;
        let mut infos: Vec<(GroupId, FileInfo)> = Vec::new();
        for KnownOffer { group, source, nick, kept_ms, offer } in offers {
            let Some(label) = catalogue.labels.get(&group) else { continue };
            let hash = offer.hash;
            let geometry = Geometry::new(offer.size);
            let held = lock(&self.exchange.held).get(&hash).cloned();
            let loaded = lock(&self.exchange.loaded).get(&hash).cloned();
            let changed = loaded.is_some_and(|it| it.is_changed());
            let pieces = self.exchange.pieces_of(hash).unwrap_or(0);
            let bytes = (u64::from(pieces) * geometry.piece_len()).min(offer.size);
            // Another announcement of the same is no other file.
            infos.retain(|(id, it)| *id != group || it.offer.hash != hash);
            let info = FileInfo {
                offer,
                group: label.clone(),
                source,
                nick,
                since_ms: kept_ms,
                held: bytes,
                path: held.map(|it| it.path),
                changed,
                holders: Vec::new(),
                members: 0,
            };
            infos.push((group, info));
        }
        Ok(infos)
    }

    /// What is meant by a name, a hash or the beginning of one.
    async fn find_file(&self, what: &str) -> Result<(GroupId, FileInfo), GetError> {
        let known = self.known_files(None).await?;
        find::find(&known, what).cloned()
    }

    /// Fetches a file from all who have it, and checks all of it. Tells about each second how it goes. Dropping the
    /// future stops it; the same call goes on with what has come.
    ///
    /// # Errors
    /// See [`GetError`].
    pub async fn get_file(
        &self,
        get: GetFile,
        mut tell: impl FnMut(Progress) + Send,
    ) -> Result<Got, GetError> {
        let (group, info) = self.find_file(&get.what).await?;
        let (offer, out, on_conflict) = (info.offer.clone(), get.out.clone(), get.on_conflict);
        let Offer { hash, size, manifest, .. } = info.offer;
        let title = Title { hash, size, manifest };
        let (_claim, interested) = Claim::begin(&self.exchange, hash)?;
        let chosen = tokio::task::spawn_blocking(move || target::choose(&offer, &out, on_conflict));
        let target = match chosen.await.map_err(|error| GetError::NotSaved(error.to_string()))? {
            Err(GetError::Exists(path)) if on_conflict == OnConflict::Resume => {
                return match self.is_folder_at(title, &path).await {
                    true => Ok(Got { path, info, liars: Vec::new() }),
                    false => Err(GetError::Exists(path)),
                };
            }
            chosen => chosen?,
        };
        if target.is_there {
            return Ok(Got { path: target.path.clone(), info, liars: Vec::new() });
        }
        let is_whole = lock(&self.exchange.held).get(&hash).is_some_and(|it| it.whole);
        let own = match is_whole {
            true => self.own(hash).await,
            false => None,
        };
        if let Some(own) = own
            && self.copy_own(&own, title, &target, on_conflict).await?
        {
            return Ok(Got { path: target.path.clone(), info, liars: Vec::new() });
        }
        let holding = self.begin(title, &target).await?;
        let root = target.partial.clone();
        let job = Job { group, holding: holding.clone(), root, wait: get.wait, interest: interested };
        let mut fetching = Fetching::new(&self.exchange, job);
        let end = fetching.run(&mut tell).await?;
        let liars: Vec<_> = fetching.liars().iter().map(|node| (*node, fetching.nick_of(*node))).collect();
        match end {
            End::Whole => {}
            End::Nobody if !liars.is_empty() => {
                return Err(GetError::Liars(liars.into_iter().map(|(_, nick)| nick).collect()));
            }
            End::Nobody => {
                let had = self.who_had(&info, |node| fetching.nick_of(node)).await?;
                return Err(GetError::NobodyHas { had });
            }
        }
        finish(&holding, &target, on_conflict).await?;
        let file = HeldFile { hash, path: target.path.clone(), size, manifest, whole: true };
        self.exchange.hold(file).await.map_err(GetError::NotSaved)?;
        Ok(Got { path: target.path, info, liars })
    }

    /// What lies here of a file, also if somebody reads it at this moment.
    async fn own(&self, hash: FileHash) -> Option<Arc<Holding>> {
        loop {
            match self.exchange.holding(hash).await {
                Err(Refusal::Busy) => tokio::time::sleep(LOOK_EVERY).await,
                held => return held.ok(),
            }
        }
    }

    /// Whether a folder that was fetched or announced lies there as it was.
    async fn is_folder_at(&self, title: Title, path: &Path) -> bool {
        let is_it = |held: &HeldFile| held.whole && held.manifest.is_some() && held.path == path;
        if !lock(&self.exchange.held).get(&title.hash).is_some_and(is_it) {
            return false;
        }
        let Some(own) = self.own(title.hash).await else { return false };
        let check = move || (0..own.geometry().pieces()).all(|piece| own.piece(piece).is_some());
        tokio::task::spawn_blocking(check).await.unwrap_or(false)
    }

    /// Makes ready what is to be fetched, with what came of it before.
    async fn begin(&self, title: Title, target: &Target) -> Result<Arc<Holding>, GetError> {
        let (desk, partial) = (self.exchange.desk.clone(), target.partial.clone());
        let loading = loop {
            match Loading::begin(&self.exchange, title.hash) {
                Some(loading) => break loading,
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        };
        let before = lock(&self.exchange.held).get(&title.hash).filter(|it| !it.whole).cloned();
        let ready = tokio::task::spawn_blocking(move || {
            let _loading = loading;
            if let Some(before) = before {
                target::carry(&before.path, &partial);
            }
            let list = title.manifest.unwrap_or(0).saturating_add(title.size / LOGGED);
            target::check_space(&desk.0, list)?;
            let holding = Holding::resumed(title, desk, &partial)
                .map_err(|source| GetError::Disk { path: partial.clone(), source })?;
            let geometry = holding.geometry();
            let here: u64 = holding.have().iter().map(|piece| geometry.len(piece) as u64).sum();
            let folder = partial.parent().unwrap_or(Path::new("."));
            target::check_space(folder, title.size.saturating_sub(here))?;
            Ok(Arc::new(holding))
        });
        let holding: Result<_, GetError> =
            ready.await.map_err(|error| GetError::NotSaved(error.to_string()))?;
        let holding = holding?;
        let Title { hash, size, manifest } = title;
        let file = HeldFile { hash, path: target.partial.clone(), size, manifest, whole: false };
        self.exchange.hold(file).await.map_err(GetError::NotSaved)?;
        if let Some(stale) = lock(&self.exchange.loaded).insert(hash, holding.clone()) {
            // Who is being served from it comes again, and hears of what comes from now on.
            stale.withdraw();
        }
        Ok(holding)
    }

    /// Copies what this node serves itself; whether that was all of it.
    async fn copy_own(
        &self,
        own: &Arc<Holding>,
        title: Title,
        target: &Target,
        on_conflict: OnConflict,
    ) -> Result<bool, GetError> {
        let (own, target) = (own.clone(), target.clone());
        let desk = Desk(self.exchange.desk.0.join("copies"));
        let copy = tokio::task::spawn_blocking(move || {
            let folder = target.partial.parent().unwrap_or(Path::new("."));
            target::check_space(folder, title.size)?;
            let copied = || {
                crate::files::private_dir(&desk.0)?;
                desk.forget(title.hash);
                let copy = Holding::resumed(title, desk.clone(), &target.partial)?;
                for piece in 0..copy.geometry().pieces() {
                    let Some((bytes, proof)) = own.piece(piece) else { return Ok(false) };
                    copy.take(piece, &bytes, &proof)?;
                    if copy.head_pieces() == Some(piece + 1) {
                        copy.open_folder(&target.partial)?;
                    }
                }
                copy.finish(&target.partial, &target.path, on_conflict == OnConflict::Overwrite)?;
                desk.forget(title.hash);
                Ok(true)
            };
            copied().map_err(|source: io::Error| GetError::Disk { path: target.path.clone(), source })
        });
        copy.await.map_err(|error| GetError::NotSaved(error.to_string()))?
    }

    /// Who had a file, and when that was known last, as people say it.
    async fn who_had(
        &self,
        info: &FileInfo,
        nick_of: impl Fn(NodeId) -> String,
    ) -> Result<Vec<(String, String)>, GetError> {
        let (hash, library) = (info.offer.hash, self.ask(|driver| driver.library()).await?);
        let mut had = look_up(&library, move |shelf| shelf.holders(hash)).await?;
        if !had.iter().any(|(node, _)| *node == info.source) {
            had.push((info.source, info.since_ms));
        }
        let now = unix_ms();
        had.retain(|(node, _)| *node != self.id);
        Ok(had.into_iter().map(|(node, at)| (nick_of(node), ago(now.saturating_sub(at)))).collect())
    }

    /// Serves a file no longer, and forgets it; what lies on the disk stays, but for what came of one that is not whole. `what` is a hash, the beginning of one,
    /// or a name.
    ///
    /// # Errors
    /// See [`DropFileError`].
    pub async fn drop_file(&self, what: &str) -> Result<FileInfo, DropFileError> {
        let found = self.find_file(what).await;
        let (_, info) = found.map_err(|error| match error {
            GetError::Store(error) => DropFileError::Store(error),
            GetError::Stopped(stopped) => DropFileError::Stopped(stopped),
            error @ GetError::Ambiguous { .. } => DropFileError::Ambiguous(Box::new(error)),
            _ => DropFileError::Unknown(what.to_owned()),
        })?;
        let hash = info.offer.hash;
        let exchange = &self.exchange;
        let held = lock(&exchange.held).get(&hash).cloned();
        let held = held.ok_or_else(|| DropFileError::Unknown(what.to_owned()))?;
        let _claim = Claim::begin(exchange, hash).map_err(|_| DropFileError::Busy)?;
        exchange.write(vec![Work::Release(hash)]).await?.map_err(DropFileError::NotSaved)?;
        lock(&exchange.held).remove(&hash);
        if let Some(loaded) = lock(&exchange.loaded).remove(&hash) {
            loaded.withdraw();
        }
        let desk = exchange.desk.clone();
        let forget = move || {
            desk.forget(hash);
            if !held.whole {
                target::remove_partial(&held.path);
            }
        };
        tokio::task::spawn_blocking(forget)
            .await
            .map_err(|error| DropFileError::NotSaved(error.to_string()))?;
        Ok(info)
    }
}

async fn finish(holding: &Arc<Holding>, target: &Target, on_conflict: OnConflict) -> Result<(), GetError> {
    let (holding, target) = (holding.clone(), target.clone());
    let finish = move || {
        let replace = on_conflict == OnConflict::Overwrite;
        holding.finish(&target.partial, &target.path, replace).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => GetError::Exists(target.path.clone()),
            _ => GetError::Disk { path: target.path.clone(), source },
        })
    };
    tokio::task::spawn_blocking(finish).await.map_err(|error| GetError::NotSaved(error.to_string()))?
}

/// So long ago.
fn ago(ms: u64) -> String {
    let (minute, hour, day) = (60_000, 3_600_000, 86_400_000);
    match ms {
        _ if ms < 2 * minute => format!("{} s ago", ms / 1_000),
        _ if ms < 2 * hour => format!("{} min ago", ms / minute),
        _ if ms < 2 * day => format!("{} h ago", ms / hour),
        _ => format!("{} days ago", ms / day),
    }
}

impl From<UnknownGroup> for GetError {
    fn from(error: UnknownGroup) -> Self {
        Self::Store(error.into())
    }
}
