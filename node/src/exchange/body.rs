//! Where a file's bytes lie: in one file, or a folder's in many.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

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
        Self { segments: vec![Segment { start: 0, len, path, executable: false }], folders: Vec::new() }
    }

    /// A manifest, and the files that it names below a folder.
    pub(super) fn folder(manifest_at: PathBuf, manifest_len: u64, root: &Path, manifest: &Manifest) -> Self {
        let mut segments =
            vec![Segment { start: 0, len: manifest_len, path: manifest_at, executable: false }];
        let (mut start, mut folders) = (manifest_len, Vec::new());
        for entry in &manifest.entries {
            if entry.is_folder() {
                folders.push(root.join(&entry.path));
                continue;
            }
            let (len, executable) = (entry.size, entry.executable);
            segments.push(Segment { start, len, path: root.join(&entry.path), executable });
            start += len;
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
            // A pipe that has come in its place would be waited for.
            if !std::fs::symlink_metadata(&segment.path)?.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file any more"));
            }
            File::open(&segment.path)?.read_exact_at(&mut bytes[filled..filled + count], at)?;
            filled += count;
        }
        if filled == len { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Writes bytes, and makes files and folders as it goes.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let mut written = 0;
        for (segment, at, count) in self.parts(offset, bytes.len() as u64) {
            let part = &bytes[written..written + count];
            let done = open(&segment.path).and_then(|file| file.write_all_at(part, at));
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

    /// All is written: files of no bytes and empty folders are made, programs are marked, and it is on disk.
    pub(super) fn finish(&self) -> io::Result<()> {
        for folder in &self.folders {
            std::fs::create_dir_all(folder).map_err(WriteError::at(folder))?;
        }
        for segment in &self.segments {
            let file = open(&segment.path)?;
            if file.metadata()?.len() != segment.len {
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

/// Opens for writing; makes what is missing, and follows no link.
fn open(path: &Path) -> io::Result<File> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else lies there"));
        }
        Ok(_) => {}
        Err(_) => {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
        }
    }
    OpenOptions::new().write(true).create(true).truncate(false).open(path)
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
}
