//! Where a file's bytes lie: in one file, or a folder's in many.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use nix::libc::{ELOOP, ENXIO, O_NOFOLLOW, O_NONBLOCK};
use treecast_overlay::files::Manifest;

/// A run of bytes, and the files that it lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Body {
    /// In the order of their bytes, without a hole.
    segments: Vec<Segment>,
    /// Empty folders.
    folders: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    start: u64,
    len: u64,
    path: PathBuf,
    executable: bool,
    /// The file that was found or made there first: what was checked lies in that, and in no other.
    seen: OnceLock<Inode>,
}

/// Device, number, and when it was made, where that is told: numbers of files that went are given anew.
type Inode = (u64, u64, u64);

fn inode(found: &Metadata) -> Inode {
    let made = found.created().ok().and_then(|it| it.duration_since(UNIX_EPOCH).ok());
    (found.dev(), found.ino(), made.map_or(0, |it| it.as_nanos() as u64))
}

/// What cannot be written, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", .path.display())]
pub(super) struct WriteError {
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

impl WriteError {
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self { path: path.to_owned(), source }
    }
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        Self::new(error.source.kind(), error.to_string())
    }
}

impl Body {
    /// All in one file.
    pub(super) fn file(path: PathBuf, len: u64) -> Self {
        Self { segments: vec![Segment::new(0, len, path, false)], folders: Vec::new() }
    }

    /// A manifest, and the files that it names below a folder.
    pub(super) fn folder(manifest_at: PathBuf, manifest_len: u64, root: &Path, manifest: &Manifest) -> Self {
        let mut segments = vec![Segment::new(0, manifest_len, manifest_at, false)];
        let (mut start, mut folders) = (manifest_len, Vec::new());
        for entry in &manifest.entries {
            if entry.is_folder() {
                folders.push(root.join(&entry.path));
                continue;
            }
            segments.push(Segment::new(start, entry.size, root.join(&entry.path), entry.executable));
            start += entry.size;
        }
        Self { segments, folders }
    }

    /// The same, but its first bytes lie there.
    pub(super) fn with_first_at(mut self, path: PathBuf) -> Self {
        if let Some(first) = self.segments.first_mut() {
            first.path = path;
        }
        self
    }

    /// The segments that these bytes lie in, and which part of each.
    fn parts(&self, offset: u64, len: u64) -> impl Iterator<Item = (&Segment, u64, usize)> {
        let first = self.segments.partition_point(|it| it.start + it.len <= offset);
        let end = offset + len;
        self.segments[first..].iter().take_while(move |it| it.start < end).filter_map(move |it| {
            let (from, to) = (offset.max(it.start), end.min(it.start + it.len));
            (from < to).then(|| (it, from - it.start, usize::try_from(to - from).expect("it fits in memory")))
        })
    }

    /// Reads `len` bytes.
    pub(super) fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let mut filled = 0;
        for (segment, at, count) in self.parts(offset, len as u64) {
            segment.open_to_read()?.read_exact_at(&mut bytes[filled..filled + count], at)?;
            filled += count;
        }
        if filled == len { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Writes bytes, and makes files and folders as it goes; none twice: what lay in a file that went is not here.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let mut written = 0;
        for (segment, at, count) in self.parts(offset, bytes.len() as u64) {
            let part = &bytes[written..written + count];
            let done = segment.open_to_write().and_then(|file| file.write_all_at(part, at));
            done.map_err(WriteError::at(&segment.path))?;
            written += count;
        }
        match self.segments.last() {
            Some(last) if written < bytes.len() => {
                Err(WriteError::at(&last.path)(io::ErrorKind::InvalidInput.into()))
            }
            _ => Ok(()),
        }
    }

    /// All is written, into files that are all there still: files of no bytes and empty folders are made, programs are marked, and it is on disk.
    pub(super) fn finish(&self) -> io::Result<()> {
        for folder in &self.folders {
            std::fs::create_dir_all(folder).map_err(WriteError::at(folder))?;
        }
        for segment in &self.segments {
            let file = match segment.len {
                0 => open(&segment.path, true).map_err(WriteError::at(&segment.path))?,
                _ => segment.open_again().map_err(WriteError::at(&segment.path))?,
            };
            let len = file.metadata()?.len();
            if len < segment.len {
                return Err(WriteError::at(&segment.path)(gone()).into());
            }
            if len > segment.len {
                file.set_len(segment.len)?;
            }
            if segment.executable {
                let mode = file.metadata()?.permissions().mode();
                file.set_permissions(std::fs::Permissions::from_mode(mode | (mode & 0o444) >> 2))?;
            }
            if self.segments.len() <= 2 {
                file.sync_data()?;
            }
        }
        match self.segments.last() {
            // One after the other would take very long.
            Some(last) if self.segments.len() > 2 => sync_disk(&last.path),
            _ => Ok(()),
        }
    }
}

/// All that was written to the disk that a file lies on is there.
fn sync_disk(path: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    nix::unistd::syncfs(File::open(path)?)?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = path;
        nix::unistd::sync();
    }
    Ok(())
}

impl Segment {
    fn new(start: u64, len: u64, path: PathBuf, executable: bool) -> Self {
        Self { start, len, path, executable, seen: OnceLock::new() }
    }

    fn open_to_read(&self) -> io::Result<File> {
        let no_file = || io::Error::new(io::ErrorKind::InvalidData, "it is no file any more");
        let opened = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(&self.path);
        let file = opened.map_err(|error| if is_of_another_kind(&error) { no_file() } else { error })?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(no_file());
        }
        self.seen.get_or_init(|| inode(&found));
        Ok(file)
    }

    /// The first time, what is missing is made.
    fn open_to_write(&self) -> io::Result<File> {
        if self.seen.get().is_some() {
            return self.open_again();
        }
        let file = open(&self.path, true)?;
        let found = inode(&file.metadata()?);
        if *self.seen.get_or_init(|| found) == found { Ok(file) } else { Err(gone()) }
    }

    /// The same file as before.
    fn open_again(&self) -> io::Result<File> {
        let file = match open(&self.path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(gone()),
            opened => opened?,
        };
        if self.seen.get() == Some(&inode(&file.metadata()?)) { Ok(file) } else { Err(gone()) }
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "what had come of it was moved, replaced or removed")
}

/// A link, or a pipe or socket that nobody reads.
fn is_of_another_kind(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(ELOOP | ENXIO))
}

/// Opens for writing, and with `make` makes what is missing. Follows no link, and waits for no pipe.
fn open(path: &Path, make: bool) -> io::Result<File> {
    let other = || io::Error::new(io::ErrorKind::AlreadyExists, "something else lies there");
    let mut options = OpenOptions::new();
    options.write(true).create(make).truncate(false).custom_flags(O_NOFOLLOW | O_NONBLOCK);
    let file = match options.open(path) {
        Err(error) if make && error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            options.open(path)?
        }
        Err(error) if is_of_another_kind(&error) => return Err(other()),
        opened => opened?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(other()) }
}

#[cfg(test)]
mod tests {
    use treecast_overlay::files::Entry;

    use super::*;
    use crate::files::tests::Scratch;

    #[test]
    fn bytes_go_where_they_belong_and_come_back() {
        let scratch = Scratch::new();
        let entry = |path: &str, size| {
            let folder = path.ends_with("none").then_some(true);
            Entry { path: path.to_owned(), size, executable: path == "b/run", folder }
        };
        let entries = vec![entry("a", 3), entry("empty", 0), entry("b/none", 0), entry("b/run", 4)];
        let manifest = Manifest { entries };
        let root = scratch.path().join("root");
        let body = Body::folder(scratch.path().join("m"), 2, &root, &manifest);
        body.write(1, b"Maaabb").expect("written");
        body.write(7, b"bb").expect("written");
        body.write(0, b"M").expect("written");
        body.finish().expect("finished");
        assert_eq!(body.read(0, 9).expect("read"), b"MMaaabbbb");
        assert_eq!(body.read(4, 2).expect("read"), b"ab");
        assert_eq!(std::fs::read(root.join("b/run")).expect("there"), b"bbbb");
        assert_eq!(std::fs::read(root.join("empty")).expect("there"), b"");
        assert_eq!(std::fs::read_dir(root.join("b/none")).expect("there").count(), 0);
        assert!(std::fs::metadata(root.join("b/run")).expect("there").permissions().mode() & 0o100 > 0);
        assert!(body.read(8, 2).is_err() && body.write(8, b"xx").is_err());
        std::fs::remove_file(root.join("a")).expect("removed");
        std::os::unix::fs::symlink("/etc/hostname", root.join("a")).expect("linked");
        assert!(body.read(2, 1).is_err() && body.write(2, b"x").is_err());
    }

    #[test]
    fn what_went_or_was_replaced_is_not_made_anew_with_holes() {
        let scratch = Scratch::new();
        let path = scratch.path().join("it");
        let body = Body::file(path.clone(), 4);
        body.write(0, b"ab").expect("written");
        std::fs::remove_file(&path).expect("removed");
        let gone = body.write(2, b"cd").expect_err("the first half is gone");
        assert_eq!(gone.source.kind(), io::ErrorKind::NotFound);
        assert!(body.finish().is_err() && !path.exists());
        let body = Body::file(path.clone(), 4);
        body.write(0, b"ab").expect("written");
        std::fs::rename(&path, scratch.path().join("away")).expect("moved");
        std::fs::write(&path, "1234").expect("written");
        assert!(body.write(2, b"cd").is_err() && body.finish().is_err(), "another");
        assert_eq!(std::fs::read(&path).expect("there"), b"1234");
        // What nobody has written is not finished, and what is too short neither.
        assert!(Body::file(path.clone(), 4).finish().is_err());
        let cut = Body::file(path.clone(), 4);
        assert_eq!(cut.read(0, 4).expect("read"), b"1234");
        File::options().write(true).open(&path).expect("there").set_len(2).expect("cut");
        assert!(cut.finish().is_err() && cut.read(0, 4).is_err());
        assert_eq!(std::fs::read(&path).expect("there"), b"12");
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let scratch = Scratch::new();
        let path = scratch.path().join("it");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("made");
        let body = Body::file(path, 4);
        assert_eq!(body.read(0, 1).expect_err("no file").kind(), io::ErrorKind::InvalidData);
        assert!(body.write(0, b"abcd").is_err());
    }
}
