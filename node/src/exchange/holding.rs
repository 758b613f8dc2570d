//! A file that lies here, all of it or part: pieces are checked whenever they come or go.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

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

    /// Where copies are made, with a log and a manifest of their own.
    pub(super) fn copies(&self) -> Self {
        Self(self.0.join("copies"))
    }

    /// At the start: what was under way when the node was killed, and is not gone on with.
    pub(super) fn clear(&self) {
        let all = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|it| it.path());
        let ends = |path: &Path, end: &str| path.extension().is_some_and(|it| it == end);
        let copies = self.copies();
        for at in all(&copies.0).filter(|it| ends(it, "copy")) {
            let copy = std::fs::read(&at).unwrap_or_default();
            target::remove_partial(Path::new(OsStr::from_bytes(&copy)));
        }
        // There may be none.
        let _ = std::fs::remove_dir_all(&copies.0);
        for at in all(&self.0).filter(|it| ends(it, "scan") || ends(it, "new")) {
            let _ = std::fs::remove_file(at);
        }
    }

    pub(super) fn forget(&self, hash: FileHash) {
        for kind in ["tree", "log", "manifest", "copy"] {
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

/// A piece, and what proves it.
type Proven = (Vec<u8>, Vec<[u8; 32]>);

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
    /// Tasks wait for it: never held while a disk is waited for.
    inner: Mutex<Inner>,
    /// Held for writing while all of it goes from one place to another, and for reading by threads that read it.
    place: RwLock<()>,
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
        let (inner, place) = (Mutex::new(inner), RwLock::new(()));
        Self { title, desk, inner, place, arrived, ending, withdrawn }
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

    /// A piece and what proves it, read and checked; `None` if it is not here (any more), or cannot be read now.
    pub(super) fn piece(&self, piece: u32) -> Option<Proven> {
        let read = self.read_piece(piece);
        read.inspect_err(|error| tracing::warn!(hash = %self.title.hash, piece, %error, "not read")).ok()?
    }

    /// As [`Holding::piece`]. An error says nothing of the file: it may be read later.
    pub(super) fn read_piece(&self, piece: u32) -> io::Result<Option<Proven>> {
        let place = self.place.read().unwrap_or_else(PoisonError::into_inner);
        let (body, proof) = {
            let inner = self.lock();
            if !inner.have.contains(piece) {
                return Ok(None);
            }
            (inner.body.clone(), inner.tree.proof(piece))
        };
        let geometry = self.geometry();
        let read = body.read(geometry.start(piece), geometry.len(piece));
        drop(place);
        let ending = match read {
            Ok(bytes) => {
                let is_it = self.lock().tree.check(piece, &bytes).is_ok();
                match proof {
                    Some(proof) if is_it => return Ok(Some((bytes, proof))),
                    _ => Ending::Changed,
                }
            }
            Err(error) => self.ending_of(&error).ok_or(error)?,
        };
        self.end(ending);
        Ok(None)
    }

    /// What has become of it if that is why it was not read.
    fn ending_of(&self, error: &io::Error) -> Option<Ending> {
        match error.kind() {
            io::ErrorKind::NotFound if self.title.manifest.is_none() => Some(Ending::Removed),
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData => Some(Ending::Changed),
            _ => None,
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
        let (before, left) = {
            let inner = self.lock();
            let geometry = inner.tree.geometry();
            let here: u64 = inner.have.iter().map(|piece| geometry.len(piece) as u64).sum();
            (inner.body.clone(), self.title.size.saturating_sub(here))
        };
        let bytes = before.read(0, usize::try_from(head(self.title)).map_err(io::Error::other)?)?;
        let cut = usize::try_from(self.title.manifest.unwrap_or(0)).unwrap_or(usize::MAX).min(bytes.len());
        let manifest = Manifest::from_bytes(&bytes[..cut], self.title.size)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let parent = root.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        target::check_space(parent, left.saturating_add(target::room_for_names(&manifest)))
            .map_err(|error| io::Error::new(io::ErrorKind::StorageFull, error.to_string()))?;
        let at = self.desk.at(self.title.hash, "manifest");
        let body = Body::folder(at.clone(), cut as u64, root, &manifest);
        std::fs::create_dir_all(root).map_err(WriteError::at(root))?;
        target::check_cases(root, &manifest)?;
        body.write(0, &bytes)?;
        OpenOptions::new().write(true).open(&at)?.set_len(cut as u64)?;
        let mut inner = self.lock();
        (inner.body, inner.open) = (Arc::new(body), true);
        Ok(())
    }

    /// All is here: it is on disk, goes to its place, and is served from there.
    /// With `replace` it takes the place of what lies there.
    pub(super) fn finish(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        if self.ending().is_some() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "what had come of it was changed or removed",
            ));
        }
        let (body, tree) = {
            let inner = self.lock();
            (inner.body.clone(), inner.tree.to_bytes())
        };
        body.finish()?;
        crate::files::replace(&self.desk.0, &format!("{}.tree", self.title.hash), &tree)?;
        let moved = body_at(self.title, &self.desk, to)?;
        let place = self.place.write().unwrap_or_else(PoisonError::into_inner);
        let aside = target::move_to(from, to, replace)?;
        {
            let mut inner = self.lock();
            (inner.body, inner.log) = (Arc::new(moved), None);
        }
        drop(place);
        if let Some(folder) = to.parent() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            File::open(folder)?.sync_all()?;
        }
        let _ = std::fs::remove_file(self.desk.at(self.title.hash, "log"));
        if let Some(aside) = aside {
            target::remove_replaced(&aside);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;

    /// A file of three pieces, its hashes, and a desk and places for it.
    struct Case {
        scratch: Scratch,
        bytes: Vec<u8>,
        tree: HashTree,
        title: Title,
        desk: Desk,
        partial: PathBuf,
        to: PathBuf,
    }

    impl Case {
        fn new() -> Self {
            let (scratch, bytes) = (Scratch::new(), crate::exchange::tests::content(300_000));
            let size = bytes.len() as u64;
            let geometry = Geometry::new(size);
            let of = |piece: u32| &bytes[geometry.start(piece) as usize..][..geometry.len(piece)];
            let leaves: Vec<_> =
                (0..geometry.pieces()).map(|it| HashTree::leaf(geometry, it, of(it))).collect();
            let tree = HashTree::of_leaves(size, &leaves);
            let title = Title { hash: tree.hash(), size, manifest: None };
            let desk = Desk(scratch.path().join("desk"));
            crate::files::private_dir(&desk.0).expect("made");
            let (partial, to) = (scratch.path().join(".it.treecast-part"), scratch.path().join("it"));
            Self { scratch, bytes, tree, title, desk, partial, to }
        }

        fn resumed(&self) -> Holding {
            Holding::resumed(self.title, self.desk.clone(), &self.partial).expect("it can be gone on with")
        }

        fn give(&self, holding: &Holding, piece: u32) -> Result<(), TakeError> {
            let geometry = holding.geometry();
            let bytes = &self.bytes[geometry.start(piece) as usize..][..geometry.len(piece)];
            holding.take(piece, bytes, &self.tree.proof(piece).expect("all is known"))
        }

        fn is_there(&self) -> bool {
            std::fs::read(&self.to).expect("there") == self.bytes
        }
    }

    #[test]
    fn who_comes_second_puts_no_zeros_over_what_the_first_has_finished() {
        let case = Case::new();
        let first = case.resumed();
        (0..3).for_each(|piece| case.give(&first, piece).expect("written"));
        let second = case.resumed();
        assert_eq!(second.have().count(), 3);
        first.finish(&case.partial, &case.to, true).expect("finished");
        assert!(second.finish(&case.partial, &case.to, true).is_err() && case.is_there());
        assert!(!case.partial.exists());
    }

    #[test]
    fn what_goes_while_it_comes_is_fetched_again() {
        let case = Case::new();
        let holding = case.resumed();
        case.give(&holding, 0).expect("written");
        std::fs::remove_file(&case.partial).expect("removed");
        let Err(TakeError::Disk(error)) = case.give(&holding, 1) else { panic!("the first piece is gone") };
        assert_eq!(error.source.kind(), io::ErrorKind::NotFound);
        let again = case.resumed();
        assert_eq!(again.have().count(), 0);
        (0..3).for_each(|piece| case.give(&again, piece).expect("written"));
        again.finish(&case.partial, &case.to, false).expect("finished");
        assert!(case.is_there());
    }

    #[test]
    fn nobody_waits_for_a_disk_to_hear_what_is_here() {
        let case = Case::new();
        let holding = case.resumed();
        (0..3).for_each(|piece| case.give(&holding, piece).expect("written"));
        let place = holding.place.read().expect("nobody panicked");
        std::thread::scope(|scope| {
            let finishing = scope.spawn(|| holding.finish(&case.partial, &case.to, false));
            // From here on it waits to move it.
            while !case.desk.at(case.title.hash, "tree").exists() {
                std::thread::yield_now();
            }
            assert_eq!((holding.since(0).0.len(), holding.have().count()), (3, 3));
            assert!(!case.to.exists());
            drop(place);
            finishing.join().expect("no panic").expect("finished");
        });
        assert!(case.is_there() && holding.piece(2).is_some());
    }

    #[test]
    fn what_cannot_be_read_now_has_not_ended() {
        let case = Case::new();
        let holding = case.resumed();
        (0..3).for_each(|piece| case.give(&holding, piece).expect("written"));
        holding.finish(&case.partial, &case.to, false).expect("finished");
        let kept = |path: &Path| Holding::kept(case.title, case.desk.clone(), path).expect("all is known");
        let unreadable = kept(&case.scratch.path().join("x".repeat(1_000)));
        assert!(unreadable.piece(0).is_none() && unreadable.read_piece(0).is_err());
        assert_eq!((unreadable.ending(), unreadable.refusal()), (None, None));
        let there = kept(&case.to);
        assert!(there.piece(0).is_some());
        std::fs::OpenOptions::new().write(true).open(&case.to).expect("there").set_len(9).expect("cut");
        assert_eq!((there.piece(0), there.ending()), (None, Some(Ending::Changed)));
        std::fs::remove_file(&case.to).expect("removed");
        let gone = kept(&case.to);
        assert_eq!((gone.piece(0), gone.ending()), (None, Some(Ending::Removed)));
    }

    #[test]
    fn what_a_kill_has_left_goes_at_the_start() {
        let case = Case::new();
        let copies = case.desk.copies();
        crate::files::private_dir(&copies.0).expect("made");
        let mine = case.scratch.path().join("my own");
        for path in
            [&case.partial, &mine, &case.desk.0.join("7-0.scan"), &case.desk.at(case.title.hash, "log")]
        {
            std::fs::write(path, "x").expect("written");
        }
        std::fs::write(copies.at(case.title.hash, "copy"), case.partial.as_os_str().as_bytes())
            .expect("written");
        std::fs::write(copies.0.join("other.copy"), mine.as_os_str().as_bytes()).expect("written");
        case.desk.clear();
        assert!(!case.partial.exists() && !copies.0.exists() && !case.desk.0.join("7-0.scan").exists());
        assert!(mine.exists() && case.desk.at(case.title.hash, "log").exists());
    }
}
