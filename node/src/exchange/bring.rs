//! Fetching as a program has it: from others, from what lies here already, or beside somebody who fetches the same.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use treecast_overlay::NodeId;
use treecast_overlay::files::wire::Refusal;
use treecast_overlay::files::{Ending, FileHash};

use super::api::{FileInfo, GetFile, Got, Progress};
use super::claim::Claim;
use super::get::{End, Fetching, Job};
use super::holding::{Desk, Holding, Title};
use super::target::{self, OnConflict, Target};
use super::{Exchange, Loading, lock, scan};
use crate::clock::unix_ms;
use crate::error::{GetError, UnknownGroup};
use crate::handle::Node;
use crate::history::look_up;
use crate::store::HeldFile;

/// What the log of a file takes, at most, as a part of it: a proof for each piece.
const LOGGED: u64 = 256;

/// Between looks whether somebody else is done with reading a file.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A fetch that another waits for, and to which nothing comes for so long, has nobody who has the file.
const NOTHING_COMES: Duration = Duration::from_secs(8);

impl Node {
    /// Fetches a file from all who have it, and checks all of it. Tells about each second how it goes. What lies here
    /// already, elsewhere, is copied; while it is being fetched for another, this waits for that one, and tells how that
    /// goes. Dropping the future stops it; the same call goes on with what has come.
    ///
    /// # Errors
    /// See [`GetError`].
    pub async fn get_file(
        &self,
        get: GetFile,
        mut tell: impl FnMut(Progress) + Send,
    ) -> Result<Got, GetError> {
        let (group, info) = self.find_file(&get.what).await?;
        let (claim, interested) = self.claim(&info, get.wait, &mut tell).await?;
        let claim = Arc::new(claim);
        let (hash, on_conflict) = (info.offer.hash, get.on_conflict);
        let title = Title { hash, size: info.offer.size, manifest: info.offer.manifest };
        let target = self.choose(&info, get.out.clone(), on_conflict).await?;
        if target.is_there {
            self.serve_too(&claim, title, &target.path).await?;
        }
        if target.is_there || self.copy_if_here(&claim, title, &target, on_conflict).await? {
            tell(all_of(title));
            return Ok(Got { path: target.path, info, liars: Vec::new() });
        }
        let holding = self.begin(&claim, title, &target).await?;
        let root = target.partial.clone();
        let job = Job { group, holding: holding.clone(), root, wait: get.wait, interest: interested };
        let mut fetching = Fetching::new(&self.exchange, job);
        let mut tell_all = |progress: Progress| {
            claim.tell(progress.clone());
            tell(progress);
        };
        let end = fetching.run(&mut tell_all).await?;
        let liars: Vec<_> = fetching.liars().iter().map(|node| (*node, fetching.nick_of(*node))).collect();
        match end {
            End::Whole => {}
            End::Nobody if !liars.is_empty() => {
                return Err(GetError::Liars(liars.into_iter().map(|(_, nick)| nick).collect()));
            }
            End::Nobody => {
                let nick_of = |node| fetching.nick_of(node);
                return Err(self.nobody_has(&info, fetching.former(), nick_of).await?);
            }
        }
        // From here on it is done also if nobody waits for it any more.
        let ending = finish(self.exchange.clone(), claim, holding, target.clone(), on_conflict);
        tokio::spawn(ending).await.map_err(|error| GetError::NotSaved(error.to_string()))??;
        Ok(Got { path: target.path, info, liars })
    }

    /// The claim to a file, once nobody else fetches it; until then tells how that goes.
    async fn claim(
        &self,
        info: &FileInfo,
        wait: bool,
        tell: &mut (impl FnMut(Progress) + Send),
    ) -> Result<(Claim, mpsc::Receiver<NodeId>), GetError> {
        // Before it is first told of, the other looks at what is here.
        let (mut fed_at, mut done) = (None, 0);
        loop {
            let mut told = match Claim::begin(&self.exchange, info.offer.hash) {
                Ok(claimed) => return Ok(claimed),
                Err(told) => told,
            };
            while told.changed().await.is_ok() {
                let Some(progress) = told.borrow_and_update().clone() else { continue };
                let is_fed = progress.done > done || !progress.sources.is_empty();
                let since = *fed_at.get_or_insert_with(Instant::now);
                if is_fed {
                    (fed_at, done) = (Some(Instant::now()), progress.done);
                }
                tell(progress);
                if !wait && !is_fed && since.elapsed() >= NOTHING_COMES {
                    let nick_of = |node: NodeId| format!("…{}", node.short());
                    return Err(self.nobody_has(info, &[], nick_of).await?);
                }
            }
        }
    }

    /// Where it goes.
    async fn choose(
        &self,
        info: &FileInfo,
        out: PathBuf,
        on_conflict: OnConflict,
    ) -> Result<Target, GetError> {
        let offer = info.offer.clone();
        let scan_at = self.exchange.scan_at();
        let path = std::path::absolute(&out).unwrap_or_else(|_| out.clone());
        let is_held = lock(&self.exchange.held).get(&offer.hash).is_some_and(|it| it.path == path);
        let choose = move || target::choose(&offer, &out, on_conflict, is_held, &scan_at);
        let chosen = tokio::task::spawn_blocking(choose);
        chosen.await.map_err(|error| GetError::NotSaved(error.to_string()))?
    }

    /// What lies there already is served from there, if this node has nothing whole of it yet.
    async fn serve_too(&self, claim: &Arc<Claim>, title: Title, path: &Path) -> Result<(), GetError> {
        let is_whole = |held: &HeldFile| held.whole && held.ending.is_none();
        if lock(&self.exchange.held).get(&title.hash).is_some_and(is_whole) {
            return Ok(());
        }
        let (desk, scan_at) = (self.exchange.desk.clone(), self.exchange.scan_at());
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let (found, claim) = (path.clone(), claim.clone());
        let keep = move || {
            let _claim = claim;
            let scanned = scan::scan(&found, scan_at.clone());
            let kept = scanned.ok().filter(|it| it.offer.hash == title.hash).map(|it| it.keep(desk));
            // There may be none, or none any more.
            let _ = std::fs::remove_file(scan_at);
            kept.transpose()
        };
        let kept = tokio::task::spawn_blocking(keep).await;
        let not_saved = |error: &dyn std::fmt::Display| GetError::NotSaved(error.to_string());
        let Some(holding) = kept.map_err(|error| not_saved(&error))?.map_err(|error| not_saved(&error))?
        else {
            return Ok(());
        };
        let Title { hash, size, manifest } = title;
        let before = lock(&self.exchange.held).get(&hash).filter(|it| !it.whole).map(|it| it.path.clone());
        let file = HeldFile { hash, path: path.clone(), size, manifest, whole: true, ending: None };
        self.exchange.hold(file).await.map_err(GetError::NotSaved)?;
        self.exchange.supersede(&path, hash);
        self.exchange.load(hash, Arc::new(holding));
        // What came of it elsewhere is not needed any more.
        if let Some(before) = before {
            let desk = self.exchange.desk.clone();
            let clear = move || {
                target::remove_partial(&before);
                let _ = std::fs::remove_file(desk.at(hash, "log"));
            };
            // If it stays it is in nobody's way.
            let _ = tokio::task::spawn_blocking(clear).await;
        }
        Ok(())
    }

    /// Copies what this node has of a file, if that is all of it; whether it did.
    async fn copy_if_here(
        &self,
        claim: &Arc<Claim>,
        title: Title,
        target: &Target,
        on_conflict: OnConflict,
    ) -> Result<bool, GetError> {
        let is_whole = |held: &HeldFile| held.whole && held.ending.is_none();
        if !lock(&self.exchange.held).get(&title.hash).is_some_and(is_whole) {
            return Ok(false);
        }
        let Some(own) = self.own(title.hash).await else { return Ok(false) };
        let copied = self.copy_own(claim, &own, title, target, on_conflict).await?;
        match copied {
            true => self.exchange.supersede(&target.path, title.hash),
            false => self.exchange.on_bad_piece(title.hash),
        }
        Ok(copied)
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

    /// Makes ready what is to be fetched, with what came of it before.
    async fn begin(
        &self,
        claim: &Arc<Claim>,
        title: Title,
        target: &Target,
    ) -> Result<Arc<Holding>, GetError> {
        let (desk, partial, claim) = (self.exchange.desk.clone(), target.partial.clone(), claim.clone());
        let loading = loop {
            match Loading::begin(&self.exchange, title.hash) {
                Some(loading) => break loading,
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        };
        let before = lock(&self.exchange.held).get(&title.hash).filter(|it| !it.whole).cloned();
        let ready = tokio::task::spawn_blocking(move || {
            let _held = (loading, claim);
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
        let file =
            HeldFile { hash, path: target.partial.clone(), size, manifest, whole: false, ending: None };
        self.exchange.hold(file).await.map_err(GetError::NotSaved)?;
        self.exchange.load(hash, holding.clone());
        Ok(holding)
    }

    /// Copies what this node serves itself; whether that was all of it.
    async fn copy_own(
        &self,
        claim: &Arc<Claim>,
        own: &Arc<Holding>,
        title: Title,
        target: &Target,
        on_conflict: OnConflict,
    ) -> Result<bool, GetError> {
        let (claim, own, target) = (claim.clone(), own.clone(), target.clone());
        let desk = self.exchange.desk.copies();
        let copy = tokio::task::spawn_blocking(move || {
            let _claim = claim;
            let folder = target.partial.parent().unwrap_or(Path::new("."));
            target::check_space(folder, title.size)?;
            let copied = copy(&own, &desk, &target, on_conflict == OnConflict::Overwrite);
            if copied.is_err() {
                // What lies here whole need not be gone on with.
                target::remove_partial(&target.partial);
            }
            desk.forget(title.hash);
            copied.map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => GetError::Exists(target.path.clone()),
                _ => GetError::Disk { path: target.path.clone(), source },
            })
        });
        copy.await.map_err(|error| GetError::NotSaved(error.to_string()))?
    }

    /// Who has changed or removed a file, who had it, and when that was known last, as people say it.
    async fn nobody_has(
        &self,
        info: &FileInfo,
        said: &[(NodeId, Ending)],
        nick_of: impl Fn(NodeId) -> String,
    ) -> Result<GetError, GetError> {
        let (hash, library) = (info.offer.hash, self.ask(|driver| driver.library()).await?);
        let mut had = look_up(&library, move |shelf| shelf.holders(hash)).await?;
        if !had.iter().any(|(node, _)| *node == info.source) {
            had.push((info.source, info.since_ms));
        }
        let now = unix_ms();
        let words = info.former.iter().map(|it| (it.node, it.ending));
        let words = words.filter(|(node, _)| !said.iter().any(|(it, _)| it == node));
        let former: Vec<(NodeId, Ending)> = said.iter().copied().chain(words).collect();
        had.retain(|(node, _)| *node != self.id && !former.iter().any(|(it, _)| it == node));
        let name = |node: NodeId| match info.nick_of_former(node) {
            _ if node == self.id => "this node".to_owned(),
            Some(nick) => nick.to_owned(),
            None if node == info.source && !info.nick.is_empty() => info.nick.clone(),
            None => nick_of(node),
        };
        Ok(GetError::NobodyHas {
            had: had.into_iter().map(|(node, at)| (name(node), ago(now.saturating_sub(at)))).collect(),
            former: former.into_iter().map(|(node, ending)| (name(node), ending)).collect(),
        })
    }
}

/// All of it is here.
fn all_of(title: Title) -> Progress {
    let Title { hash, size, .. } = title;
    Progress { hash, done: size, size, rate: 0.0, eta: None, sources: Vec::new(), liars: Vec::new() }
}

/// Copies a file piece by piece to where it is to go; whether that was all of it.
fn copy(own: &Holding, desk: &Desk, target: &Target, replace: bool) -> io::Result<bool> {
    let (title, partial) = (own.title, &target.partial);
    crate::files::private_dir(&desk.0)?;
    desk.forget(title.hash);
    // The next start removes it if this one is killed.
    let at = std::path::absolute(partial)?;
    std::fs::write(desk.at(title.hash, "copy"), at.as_os_str().as_bytes())?;
    let copy = Holding::resumed(title, desk.clone(), partial)?;
    for piece in 0..copy.geometry().pieces() {
        let Some((bytes, proof)) = own.read_piece(piece)? else { return Ok(false) };
        copy.take(piece, &bytes, &proof)?;
        if copy.head_pieces() == Some(piece + 1) {
            copy.open_folder(partial)?;
        }
    }
    copy.finish(partial, &target.path, replace)?;
    Ok(true)
}

/// All of it has come: it goes to its place and is served from there. Nobody else fetches it until that is saved.
async fn finish(
    exchange: Arc<Exchange>,
    claim: Arc<Claim>,
    holding: Arc<Holding>,
    target: Target,
    on_conflict: OnConflict,
) -> Result<(), GetError> {
    let (Title { hash, size, manifest }, path) = (holding.title, target.path.clone());
    let (keeping, replace) = (claim.clone(), on_conflict == OnConflict::Overwrite);
    let finish = move || {
        // The node may end meanwhile, and this not.
        let _claim = keeping;
        holding.finish(&target.partial, &target.path, replace).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => GetError::Exists(target.path.clone()),
            _ => GetError::Disk { path: target.path.clone(), source },
        })
    };
    let finished = tokio::task::spawn_blocking(finish).await;
    finished.map_err(|error| GetError::NotSaved(error.to_string()))??;
    let file = HeldFile { hash, path: path.clone(), size, manifest, whole: true, ending: None };
    exchange.hold(file).await.map_err(GetError::NotSaved)?;
    exchange.supersede(&path, hash);
    drop(claim);
    Ok(())
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
