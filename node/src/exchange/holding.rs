//! A file that lies here, all of it or part: pieces are checked whenever they come or go.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;
use treecast_overlay::files::wire::Refusal;
use treecast_overlay::files::{Ending, FileHash, Geometry, HashTree, Manifest, Pieces};

use super::body::{Body, WriteError};
use super::target;

/// Where the node keeps what it knows of files: `HASH.tree` of whole ones, `HASH.log` of those that come,
/// `HASH.manifest` of folders.
#[derive(Debug, Clone)]
pub(super) struct Desk(pub(super) PathBuf);

impl Desk {
    pub(super) fn at(&self, hash: FileHash, kind: &str) -> PathBuf {
        self.0.join(format!("{hash}.{kind}"))
    }

    /// The pieces that have come of a file, by its log; whether they are sound is seen when it is gone on with.
    pub(super) fn logged(&self, hash: FileHash) -> BTreeSet<u32> {
        let log = std::fs::read(self.at(hash, "log")).unwrap_or_default();
        let (mut rest, mut pieces) = (&log[..], BTreeSet::new());
        while let Some((piece, _, after)) = read_entry(rest) {
            pieces.insert(piece);
            rest = after;
        }
        pieces
    }

    pub(super) fn forget(&self, hash: FileHash) {
        for kind in ["tree", "log", "manifest"] {
            // What is not there need not go.
            let _ = std::fs::remove_file(self.at(hash, kind));
        }
    }
}

/// What a file is, as its announcement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Title {
    pub(super) hash: FileHash,
    pub(super) size: u64,
    pub(super) manifest: Option<u64>,
}

/// Why a piece was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum TakeError {
    /// It is not the file's.
    #[error("the bytes are not the file's")]
    Bad,
    /// It cannot be written.
    #[error(transparent)]
    Disk(#[from] WriteError),
}

impl From<TakeError> for io::Error {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Bad => Self::new(io::ErrorKind::InvalidData, error),
            TakeError::Disk(error) => error.into(),
        }
    }
}

/// See the module.
pub(super) struct Holding {
    pub(super) title: Title,
    desk: Desk,
    inner: Mutex<Inner>,
    /// How many pieces have come, for those who tell others.
    arrived: watch::Sender<usize>,
    /// It is not what it was.
    ending: OnceLock<Ending>,
    /// It is served no more.
    withdrawn: AtomicBool,
}

struct Inner {
    body: Arc<Body>,
    tree: HashTree,
    have: Pieces,
    /// It is known where all bytes go: of a folder, once its manifest is here.
    open: bool,
    /// Pieces in the order in which they came.
    came: Vec<u32>,
    log: Option<Log>,
}

/// The log of what has come, open at its end.
struct Log {
    file: File,
    len: u64,
}

impl Log {
    /// A line, or nothing of it: what is half written would hide what follows.
    fn add(&mut self, line: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(line) {
            // If that fails, too, what follows is fetched again.
            let _ = self.file.set_len(self.len);
            return Err(error);
        }
        self.len += line.len() as u64;
        Ok(())
    }
}

impl Holding {
    fn new(title: Title, desk: Desk, body: Body, tree: HashTree, have: Pieces) -> Self {
        let inner = Inner { body: Arc::new(body), tree, have, open: true, came: Vec::new(), log: None };
        let (arrived, _) = watch::channel(0);
        let (ending, withdrawn) = (OnceLock::new(), AtomicBool::new(false));
        Self { title, desk, inner: Mutex::new(inner), arrived, ending, withdrawn }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of it, just announced; its hashes are kept.
    pub(super) fn announced(title: Title, desk: Desk, body: Body, tree: HashTree) -> io::Result<Self> {
        crate::files::replace(&desk.0, &format!("{}.tree", title.hash), &tree.to_bytes())?;
        let have = Pieces::all(tree.geometry().pieces());
        Ok(Self::new(title, desk, body, tree, have))
    }

    /// All of it, as it was when it was announced or fetched.
    pub(super) fn kept(title: Title, desk: Desk, path: &Path) -> io::Result<Self> {
        let bytes = std::fs::read(desk.at(title.hash, "tree"))?;
        let tree = HashTree::from_bytes(title.size, title.hash, &bytes);
        let body = body_at(title, &desk, path)?;
        let have = Pieces::all(tree.geometry().pieces());
        Ok(Self::new(title, desk, body, tree, have))
    }

    /// What came of it until now, checked piece by piece; at `path` it goes on.
    pub(super) fn resumed(title: Title, desk: Desk, path: &Path) -> io::Result<Self> {
        let geometry = Geometry::new(title.size);
        let found = body_at(title, &desk, path).ok();
        let is_open = found.is_some();
        let body = found.unwrap_or_else(|| Body::file(desk.at(title.hash, "manifest"), head(title)));
        let tree = HashTree::new(title.size, title.hash);
        let holding = Self::new(title, desk, body, tree, Pieces::none(geometry.pieces()));
        holding.lock().open = is_open;
        holding.replay()?;
        Ok(holding)
    }

    /// Reads the log: each piece that it names, and that lies there as it should, is here.
    fn replay(&self) -> io::Result<()> {
        let path = self.desk.at(self.title.hash, "log");
        let mut log = Vec::new();
        match File::open(&path) {
            Ok(mut file) => file.read_to_end(&mut log)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let (mut rest, mut sound) = (&log[..], 0);
        let mut inner = self.lock();
        let geometry = inner.tree.geometry();
        while let Some((piece, proof, after)) = read_entry(rest) {
            sound = log.len() - after.len();
            rest = after;
            let bytes = inner.body.read(geometry.start(piece), geometry.len(piece));
            if bytes.is_ok_and(|bytes| inner.tree.verify(piece, &bytes, proof).is_ok()) {
                inner.have.insert(piece);
            }
        }
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        // What was half written is not the beginning of the next.
        file.set_len(sound as u64)?;
        inner.log = Some(Log { file, len: sound as u64 });
        Ok(())
    }

    pub(super) fn geometry(&self) -> Geometry {
        Geometry::new(self.title.size)
    }

    /// What is here.
    pub(super) fn have(&self) -> Pieces {
        self.lock().have.clone()
    }

    /// What is here, and a number for [`Holding::since`].
    pub(super) fn have_now(&self) -> (Pieces, usize) {
        let inner = self.lock();
        (inner.have.clone(), inner.came.len())
    }

    /// What came after that, and the next number.
    pub(super) fn since(&self, from: usize) -> (Vec<u32>, usize) {
        let inner = self.lock();
        (inner.came.get(from..).unwrap_or_default().to_vec(), inner.came.len())
    }

    /// Changes whenever a piece comes.
    pub(super) fn news(&self) -> watch::Receiver<usize> {
        self.arrived.subscribe()
    }

    /// What has become of it, if it is not what it was: it is served no more.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.ending.get().copied()
    }

    /// It is not what it was; those who are being served are told.
    pub(super) fn end(&self, ending: Ending) {
        if self.ending.set(ending).is_ok() {
            tracing::warn!(hash = %self.title.hash, why = ending.name(), "a file is not served any more");
            self.arrived.send_modify(|_| ());
        }
    }

    /// It is served no more; those who are being served are told.
    pub(super) fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::Relaxed);
        self.arrived.send_modify(|_| ());
    }

    /// Why it is not served any more, if so.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match () {
            () if self.withdrawn.load(Ordering::Relaxed) => Some(Refusal::NotHeld),
            () => self.ending().map(refusal),
        }
    }

    /// A piece and what proves it, read and checked; `None` if it is not here (any more).
    pub(super) fn piece(&self, piece: u32) -> Option<(Vec<u8>, Vec<[u8; 32]>)> {
        let (body, tree) = {
            let inner = self.lock();
            if !inner.have.contains(piece) {
                return None;
            }
            (inner.body.clone(), inner.tree.proof(piece))
        };
        let geometry = self.geometry();
        let read = body.read(geometry.start(piece), geometry.len(piece));
        let is_gone = self.title.manifest.is_none()
            && read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let checked = read.ok().filter(|bytes| self.lock().tree.check(piece, bytes).is_ok());
        match (checked, tree) {
            (Some(bytes), Some(proof)) => Some((bytes, proof)),
            _ => {
                self.end(if is_gone { Ending::Removed } else { Ending::Changed });
                None
            }
        }
    }

    /// A piece has come: it is written if it is the file's.
    pub(super) fn take(&self, piece: u32, bytes: &[u8], proof: &[[u8; 32]]) -> Result<(), TakeError> {
        let mut inner = self.lock();
        if inner.have.contains(piece) {
            return Ok(());
        }
        inner.tree.verify(piece, bytes, proof).map_err(|_| TakeError::Bad)?;
        let (body, start) = (inner.body.clone(), inner.tree.geometry().start(piece));
        drop(inner);
        body.write(start, bytes)?;
        let mut inner = self.lock();
        if let Some(log) = &mut inner.log {
            let written = log.add(&entry(piece, proof));
            written.map_err(|source| WriteError { path: self.desk.at(self.title.hash, "log"), source })?;
        }
        inner.have.insert(piece);
        inner.came.push(piece);
        let count = inner.came.len();
        drop(inner);
        self.arrived.send_replace(count);
        Ok(())
    }

    /// How many of the first pieces have to be here before it is known where the others go; none, once it is.
    pub(super) fn head_pieces(&self) -> Option<u32> {
        let geometry = self.geometry();
        let head = u32::try_from(head(self.title).div_ceil(geometry.piece_len())).unwrap_or(u32::MAX);
        (!self.lock().open).then_some(head.max(1))
    }

    /// Of a folder, the manifest is here: from now on its files are written below `root`.
    pub(super) fn open_folder(&self, root: &Path) -> io::Result<()> {
        let at = self.desk.at(self.title.hash, "manifest");
        let bytes = std::fs::read(&at)?;
        let cut = usize::try_from(self.title.manifest.unwrap_or(0)).unwrap_or(usize::MAX).min(bytes.len());
        let manifest = Manifest::from_bytes(&bytes[..cut], self.title.size)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let body = Body::folder(at.clone(), cut as u64, root, &manifest);
        std::fs::create_dir_all(root).map_err(WriteError::at(root))?;
        target::check_cases(root, &manifest)?;
        body.write(cut as u64, &bytes[cut..])?;
        OpenOptions::new().write(true).open(&at)?.set_len(cut as u64)?;
        let mut inner = self.lock();
        (inner.body, inner.open) = (Arc::new(body), true);
        Ok(())
    }

    /// All is here: it is on disk, goes to its place, and is served from there.
    /// With `replace` it takes the place of what lies there.
    pub(super) fn finish(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        self.lock().body.clone().finish()?;
        let mut inner = self.lock();
        crate::files::replace(&self.desk.0, &format!("{}.tree", self.title.hash), &inner.tree.to_bytes())?;
        move_to(from, to, replace)?;
        if let Some(folder) = to.parent() {
            File::open(folder)?.sync_all()?;
        }
        inner.log = None;
        inner.body = Arc::new(body_at(self.title, &self.desk, to)?);
        drop(inner);
        let _ = std::fs::remove_file(self.desk.at(self.title.hash, "log"));
        Ok(())
    }
}

/// What whoever asks is told of it.
pub(super) fn refusal(ending: Ending) -> Refusal {
    match ending {
        Ending::Changed => Refusal::Changed,
        Ending::Removed => Refusal::Removed,
        _ => Refusal::NotHeld,
    }
}

/// Moves a file or folder, and not over something that has come there, unless it is to.
fn move_to(from: &Path, to: &Path, replace: bool) -> io::Result<()> {
    if replace && from.is_dir() && to.is_dir() {
        return exchange_folders(from, to);
    }
    if replace {
        return std::fs::rename(from, to);
    }
    if from.is_file() {
        match std::fs::hard_link(from, to) {
            Ok(()) => return std::fs::remove_file(from),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            // Some file systems have no links.
            Err(_) => {}
        }
    }
    if std::fs::symlink_metadata(to).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    std::fs::rename(from, to)
}

/// Puts a folder in another's place, and removes that one.
fn exchange_folders(from: &Path, to: &Path) -> io::Result<()> {
    let mut aside = from.as_os_str().to_owned();
    aside.push(".old");
    let aside = PathBuf::from(aside);
    std::fs::rename(to, &aside)?;
    if let Err(error) = std::fs::rename(from, to) {
        // If that fails, too, it is beside it, under a hidden name.
        let _ = std::fs::rename(&aside, to);
        return Err(error);
    }
    // The new one is there: what cannot be removed of the old is in nobody's way.
    if let Err(error) = std::fs::remove_dir_all(&aside) {
        tracing::warn!(path = %aside.display(), %error, "what a folder has replaced was not removed");
    }
    Ok(())
}

/// Bytes of the pieces that a folder's manifest lies in.
fn head(title: Title) -> u64 {
    let piece = Geometry::new(title.size).piece_len();
    title.manifest.unwrap_or(0).div_ceil(piece).saturating_mul(piece).min(title.size)
}

/// Where a file's bytes lie if it lies at `path`; of a folder, once its manifest is here.
fn body_at(title: Title, desk: &Desk, path: &Path) -> io::Result<Body> {
    let Some(len) = title.manifest else { return Ok(Body::file(path.to_owned(), title.size)) };
    let at = desk.at(title.hash, "manifest");
    let bytes = std::fs::read(&at)?;
    if bytes.len() as u64 != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let manifest = Manifest::from_bytes(&bytes, title.size)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Body::folder(at, len, path, &manifest))
}

/// A line of the log: which piece, and what proves it.
fn entry(piece: u32, proof: &[[u8; 32]]) -> Vec<u8> {
    let count = u32::try_from(proof.len()).unwrap_or(u32::MAX);
    [&piece.to_le_bytes()[..], &count.to_le_bytes(), &proof.concat()].concat()
}

/// A piece, what proves it, and what follows.
type Entry<'a> = (u32, &'a [[u8; 32]], &'a [u8]);

/// The first line, and what follows it.
fn read_entry(bytes: &[u8]) -> Option<Entry<'_>> {
    let (piece, rest) = bytes.split_first_chunk::<4>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(32)?;
    let (proof, rest) = rest.split_at_checked(len)?;
    Some((u32::from_le_bytes(*piece), proof.as_chunks::<32>().0, rest))
}
