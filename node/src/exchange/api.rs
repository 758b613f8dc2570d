//! Files as a program has them: announce and forget. Listing is in `list.rs`, fetching in `bring.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use treecast_overlay::files::{Ending, FileHash, Offer};
use treecast_overlay::{GroupId, NodeId};

use super::claim::Claim;
use super::find::LEAST_DIGITS;
use super::target::{self, OnConflict};
use super::{Exchange, lock, scan};
use crate::clock::unix_ms;
use crate::error::{AnnounceError, DropFileError, GetError};
use crate::group::GroupRef;
use crate::handle::Node;
use crate::store::{HeldFile, Work};

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
    /// What lay there is not what was announced any more: it is not served.
    pub ending: Option<Ending>,
    /// Members who have all of it and can be asked, this node among them.
    pub holders: Vec<Holder>,
    /// Members who had it and have it no longer, by their own word, this node among them.
    pub former: Vec<FormerHolder>,
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

/// Who had a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FormerHolder {
    /// Who.
    pub node: NodeId,
    /// What it calls itself; may be empty.
    pub nick: String,
    /// What has become of it there.
    pub ending: Ending,
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

/// A file that is not served any more.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dropped {
    /// What was announced, and by whom.
    pub info: FileInfo,
    /// The groups that were told, as they are called here: where this node had announced it.
    pub withdrawn_in: Vec<String>,
}

/// An announcement waits for so long for another of the same, or for a copy that is being made.
const AWAIT_CLAIM: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

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
        let (found, desk) = (path.to_owned(), exchange.desk.clone());
        let manifest_at = exchange.scan_at();
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
        let served = path.to_owned();
        let Some(claim) = await_claim(exchange, offer.hash).await else {
            scanned.discard();
            return Err(AnnounceError::Busy);
        };
        let claim = Arc::new(claim);
        let keeping = claim.clone();
        let keep = move || {
            let kept = scanned.keep(desk);
            drop(keeping);
            kept
        };
        let kept = tokio::task::spawn_blocking(keep).await;
        let not_saved = |error: &dyn std::fmt::Display| AnnounceError::NotSaved(error.to_string());
        let holding = kept.map_err(|error| not_saved(&error))?.map_err(|error| not_saved(&error))?;
        let Offer { hash, size, manifest, .. } = offer;
        let file = HeldFile { hash, path: served.clone(), size, manifest, whole: true, ending: None };
        exchange.hold(file).await.map_err(AnnounceError::NotSaved)?;
        exchange.supersede_but_in(&served, hash, info.view.id);
        exchange.load(hash, Arc::new(holding));
        drop(claim);
        let (sender, _) = self.enter(GroupRef::Name(info.view.id.to_string()), true).await?;
        sender.publish(offer.to_message()).await?;
        Ok(FileInfo {
            group: info.label,
            source: self.id,
            nick: self.nick().await?,
            since_ms: unix_ms(),
            held: size,
            path: Some(served),
            ending: None,
            holders: Vec::new(),
            former: Vec::new(),
            members: info.view.members.iter().filter(|it| it.state.is_member()).count(),
            offer,
        })
    }

    /// Serves a file no longer, and forgets it. Groups where this node announced it are told that it is withdrawn; whoever
    /// has it by then may serve it on. What lies on the disk stays, but for what came of one that is not whole. `what` is
    /// a hash, the beginning of one, or a name. Of a file whose group was left there is the hash only: its announcer is not
    /// known any more, and this node stands for it.
    ///
    /// # Errors
    /// See [`DropFileError`].
    pub async fn drop_file(&self, what: &str) -> Result<Dropped, DropFileError> {
        let info = match self.find_file(what).await {
            Ok((_, info)) => info,
            Err(GetError::Unknown(_)) => self.find_held(what)?,
            Err(GetError::Store(error)) => return Err(DropFileError::Store(error)),
            Err(GetError::Stopped(stopped)) => return Err(DropFileError::Stopped(stopped)),
            Err(error @ GetError::Ambiguous { .. }) => return Err(DropFileError::Ambiguous(Box::new(error))),
            Err(_) => return Err(DropFileError::Unknown(what.to_owned())),
        };
        let hash = info.offer.hash;
        let exchange = &self.exchange;
        let (_claim, _) = Claim::begin(exchange, hash).map_err(|_| DropFileError::Busy)?;
        let held = lock(&exchange.held).get(&hash).cloned();
        if let Some(held) = &held {
            self.release(held.clone()).await?;
        }
        let told = exchange.retract(hash, Ending::Withdrawn).await;
        let told = told.map_err(|error| DropFileError::NotTold(error.to_string()))?;
        if held.is_none() && told.is_empty() {
            return Err(DropFileError::Unknown(what.to_owned()));
        }
        let groups = self.groups().await?;
        let label =
            |group: &GroupId| groups.iter().find(|it| it.view.id == *group).map(|it| it.label.clone());
        Ok(Dropped { info, withdrawn_in: told.iter().filter_map(label).collect() })
    }

    /// A file that lies here, by its hash or the beginning of one: the group may have been left where it was announced.
    fn find_held(&self, what: &str) -> Result<FileInfo, DropFileError> {
        let digits = what.to_ascii_lowercase();
        let is_it = |it: &&HeldFile| digits.len() >= LEAST_DIGITS && it.hash.to_string().starts_with(&digits);
        let found: Vec<HeldFile> = lock(&self.exchange.held).values().filter(is_it).cloned().collect();
        let held = match &found[..] {
            [] => return Err(DropFileError::Unknown(what.to_owned())),
            [held] => held,
            several => {
                let files =
                    several.iter().map(|it| format!("{} at {}", it.hash, it.path.display())).collect();
                let error = GetError::Ambiguous { what: what.to_owned(), files };
                return Err(DropFileError::Ambiguous(Box::new(error)));
            }
        };
        let name = held.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let HeldFile { hash, size, manifest, .. } = *held;
        Ok(FileInfo {
            offer: Offer { hash, name, size, manifest },
            group: String::new(),
            source: self.id,
            nick: String::new(),
            since_ms: 0,
            held: if held.whole { size } else { 0 },
            path: Some(held.path.clone()),
            ending: held.ending,
            holders: Vec::new(),
            former: Vec::new(),
            members: 0,
        })
    }

    /// What is known here of a file is forgotten.
    async fn release(&self, held: HeldFile) -> Result<(), DropFileError> {
        let (hash, exchange) = (held.hash, &self.exchange);
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
        let forgotten = tokio::task::spawn_blocking(forget).await;
        forgotten.map_err(|error| DropFileError::NotSaved(error.to_string()))
    }
}

/// The claim to a file that is announced; none if another has it for long.
async fn await_claim(exchange: &Arc<Exchange>, hash: FileHash) -> Option<Claim> {
    let claimed = async {
        loop {
            match Claim::begin(exchange, hash) {
                Ok((claim, _)) => return claim,
                // It ends with that one's claim.
                Err(mut told) => while told.changed().await.is_ok() {},
            }
        }
    };
    tokio::time::timeout(AWAIT_CLAIM, claimed).await.ok()
}
