//! Reading what is to be announced.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use treecast_overlay::files::{
    Entry, FileHash, Geometry, HashTree, MAX_ENTRIES, MAX_MANIFEST, MAX_NAME, MAX_SIZE, Manifest,
    ManifestError, Offer, check_part,
};

use super::body::Body;
use super::holding::{Desk, Holding, Title};
use crate::error::AnnounceError;

/// What is to be announced, read.
pub(super) struct Scanned {
    pub(super) offer: Offer,
    pub(super) tree: HashTree,
    pub(super) body: Body,
    /// A folder's manifest lies here for now.
    pub(super) manifest_at: Option<PathBuf>,
}

impl Scanned {
    /// Keeps what is needed to serve it.
    pub(super) fn keep(self, desk: Desk) -> io::Result<Holding> {
        let Offer { hash, size, manifest, .. } = self.offer;
        let mut body = self.body;
        if let Some(from) = self.manifest_at {
            let to = desk.at(hash, "manifest");
            body = body.with_first_at(to.clone());
            fs::rename(from, to)?;
        }
        Holding::announced(Title { hash, size, manifest }, desk, body, self.tree)
    }
}

impl Scanned {
    /// It is not announced after all.
    pub(super) fn discard(self) {
        if let Some(at) = self.manifest_at {
            // The next start removes it, too.
            let _ = fs::remove_file(at);
        }
    }
}

/// Reads a file or folder, and hashes all of it. A folder's manifest is written to `manifest_at`.
pub(super) fn scan(path: &Path, manifest_at: PathBuf) -> Result<Scanned, AnnounceError> {
    let unreadable = |source: io::Error| AnnounceError::of(path, source);
    let found = fs::symlink_metadata(path).map_err(unreadable)?;
    let name = path.canonicalize().map_err(unreadable)?;
    let name = name.file_name().ok_or_else(|| AnnounceError::kind(path, "the root of the file system"))?;
    let Some(name) = name.to_str().filter(|name| name.len() <= MAX_NAME) else {
        return Err(AnnounceError::Name(path.to_owned()));
    };
    if found.is_dir() {
        return scan_folder(path, name, manifest_at);
    }
    check_kind(path, &found)?;
    if found.len() > MAX_SIZE {
        return Err(AnnounceError::TooLarge(path.to_owned()));
    }
    let body = Body::file(path.to_owned(), found.len());
    let tree = hash(&body, found.len()).map_err(unreadable)?;
    check_same(path, &found)?;
    let offer = Offer { hash: tree.hash(), name: name.to_owned(), size: found.len(), manifest: None };
    Ok(Scanned { offer, tree, body, manifest_at: None })
}

fn scan_folder(path: &Path, name: &str, manifest_at: PathBuf) -> Result<Scanned, AnnounceError> {
    let (manifest, seen) = list(path, MAX_SIZE)?;
    let bytes = manifest.to_bytes();
    let size = size_of(&manifest, &bytes);
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err(AnnounceError::TooMany(path.to_owned()));
    }
    if size > MAX_SIZE {
        return Err(AnnounceError::TooLarge(path.to_owned()));
    }
    fs::write(&manifest_at, &bytes).map_err(|source| AnnounceError::of(&manifest_at, source))?;
    let body = Body::folder(manifest_at.clone(), bytes.len() as u64, path, &manifest);
    let tree = hash(&body, size).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound => AnnounceError::Changed(path.to_owned()),
        _ => AnnounceError::of(path, source),
    })?;
    for (below, found) in &seen {
        check_same(&path.join(below), found)?;
    }
    let manifest = Some(bytes.len() as u64);
    let offer = Offer { hash: tree.hash(), name: name.to_owned(), size, manifest };
    Ok(Scanned { offer, tree, body, manifest_at: Some(manifest_at) })
}

/// What a folder has, and what the system says of each.
type Listed = (Manifest, Vec<(String, Metadata)>);

/// What is in a folder of so many bytes at most, without reading it.
fn list(path: &Path, most: u64) -> Result<Listed, AnnounceError> {
    let (mut seen, mut room) = (Vec::new(), most);
    walk(path, "", &mut room, &mut seen)?;
    let entry = |(path, found): &(String, Metadata)| {
        let (path, is_folder) = (path.clone(), found.is_dir());
        let size = if is_folder { 0 } else { found.len() };
        let executable = !is_folder && found.permissions().mode() & 0o100 != 0;
        Entry { path, size, executable, folder: is_folder.then_some(true) }
    };
    let manifest = Manifest { entries: seen.iter().map(entry).collect() };
    manifest.check().map_err(|error| match error {
        ManifestError::TooMany => AnnounceError::TooMany(path.to_owned()),
        ManifestError::Path(below) => AnnounceError::Name(path.join(below)),
        _ => AnnounceError::Name(path.to_owned()),
    })?;
    Ok((manifest, seen))
}

/// Bytes of a folder with this manifest, its own among them.
fn size_of(manifest: &Manifest, bytes: &[u8]) -> u64 {
    manifest.entries.iter().fold(bytes.len() as u64, |sum, it| sum.saturating_add(it.size))
}

/// All files and empty folders below a folder, in the order of their names, while there is room for their bytes.
fn walk(
    folder: &Path,
    below: &str,
    room: &mut u64,
    seen: &mut Vec<(String, Metadata)>,
) -> Result<(), AnnounceError> {
    let unreadable = |source: io::Error| AnnounceError::of(folder, source);
    let mut entries: Vec<_> =
        fs::read_dir(folder).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| check_part(name)) else {
            return Err(AnnounceError::Name(path));
        };
        let below = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        let found = fs::symlink_metadata(&path).map_err(|source| AnnounceError::of(&path, source))?;
        if found.is_dir() {
            let before = seen.len();
            walk(&path, &below, room, seen)?;
            if seen.len() > before {
                continue;
            }
        } else {
            check_kind(&path, &found)?;
            let left = room.checked_sub(found.len());
            *room = left.ok_or_else(|| AnnounceError::TooLarge(folder.to_owned()))?;
        }
        if seen.len() >= MAX_ENTRIES {
            return Err(AnnounceError::TooMany(folder.to_owned()));
        }
        seen.push((below, found));
    }
    Ok(())
}

fn check_kind(path: &Path, found: &Metadata) -> Result<(), AnnounceError> {
    let kind = found.file_type();
    let refused = |what| Err(AnnounceError::kind(path, what));
    match () {
        () if kind.is_file() => Ok(()),
        () if kind.is_symlink() => refused("a symbolic link"),
        () if kind.is_fifo() => refused("a pipe"),
        () if kind.is_socket() => refused("a socket"),
        () => refused("a device"),
    }
}

fn check_same(path: &Path, before: &Metadata) -> Result<(), AnnounceError> {
    let now = fs::symlink_metadata(path).map_err(|source| AnnounceError::of(path, source))?;
    let key = |it: &Metadata| (it.len(), it.mtime(), it.mtime_nsec(), it.ino());
    if key(&now) == key(before) { Ok(()) } else { Err(AnnounceError::Changed(path.to_owned())) }
}

/// The hashes over all pieces.
fn hash(body: &Body, size: u64) -> io::Result<HashTree> {
    let geometry = Geometry::new(size);
    let leaf = |piece| {
        let bytes = body.read(geometry.start(piece), geometry.len(piece))?;
        Ok(HashTree::leaf(geometry, piece, &bytes))
    };
    let leaves = (0..geometry.pieces()).map(leaf).collect::<io::Result<Vec<_>>>()?;
    Ok(HashTree::of_leaves(size, &leaves))
}

/// Whether a file that lies there is the one with this hash.
pub(super) fn is_file_with(path: &Path, size: u64, wanted: FileHash) -> bool {
    let is_candidate = fs::symlink_metadata(path).is_ok_and(|it| it.is_file() && it.len() == size);
    is_candidate && hash(&Body::file(path.to_owned(), size), size).is_ok_and(|tree| tree.hash() == wanted)
}

/// Whether a folder that lies there is the one with this hash. Its manifest is written to `scan_at` for the moment.
pub(super) fn is_folder_with(path: &Path, size: u64, wanted: FileHash, scan_at: &Path) -> bool {
    // All of it is read only where its names and lengths may be right.
    let is_candidate =
        list(path, size).is_ok_and(|(manifest, _)| size_of(&manifest, &manifest.to_bytes()) == size);
    let is_it = is_candidate
        && scan(path, scan_at.to_owned())
            .is_ok_and(|it| it.offer.manifest.is_some() && it.offer.hash == wanted);
    // There may be none.
    let _ = fs::remove_file(scan_at);
    is_it
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;

    #[test]
    fn files_and_folders_are_read_and_all_else_is_refused() {
        let scratch = Scratch::new();
        let (root, manifest_at) = (scratch.path().join("álbum"), scratch.path().join("m"));
        let scan = |path: &Path| super::scan(path, manifest_at.clone());
        fs::create_dir_all(root.join("sub")).expect("made");
        fs::write(root.join("one"), "1").expect("written");
        fs::write(root.join("sub/日本"), "").expect("written");
        let one = scan(&root.join("one")).expect("a file");
        assert_eq!(one.offer.hash.as_bytes(), blake3::hash(b"1").as_bytes());
        let all = scan(&root).expect("a folder");
        let manifest = fs::read(&manifest_at).expect("written");
        assert_eq!((all.offer.name.as_str(), all.offer.manifest), ("álbum", Some(manifest.len() as u64)));
        let is_it = |size, hash| is_folder_with(&root, size, hash, &scratch.path().join("s"));
        assert!(is_it(all.offer.size, all.offer.hash) && !is_it(all.offer.size, one.offer.hash));
        assert!(matches!(list(&root, 0), Err(AnnounceError::TooLarge(_))) && list(&root, 1).is_ok());
        assert!(!is_it(all.offer.size + 1, all.offer.hash) && !scratch.path().join("s").exists());
        let whole = [&manifest[..], b"1"].concat();
        assert_eq!(all.offer.hash.as_bytes(), blake3::hash(&whole).as_bytes());
        assert_eq!(all.body.read(0, whole.len()).expect("read"), whole);
        fs::create_dir_all(root.join("x/empty")).expect("made");
        let with_empty = scan(&root).expect("a folder");
        let manifest = fs::read(&manifest_at).expect("written");
        let read = Manifest::from_bytes(&manifest, with_empty.offer.size).expect("a manifest");
        let told: Vec<_> = read.entries.iter().map(|it| (it.path.as_str(), it.is_folder())).collect();
        assert_eq!(told, [("one", false), ("sub/日本", false), ("x/empty", true)]);
        assert_ne!(with_empty.offer.hash, all.offer.hash);
        std::os::unix::fs::symlink("one", root.join("link")).expect("linked");
        for bad in [root.join("link"), root.clone()] {
            assert!(matches!(scan(&bad), Err(AnnounceError::Kind { kind: "a symbolic link", .. })));
        }
        assert!(matches!(scan(Path::new("/dev/null")), Err(AnnounceError::Kind { kind: "a device", .. })));
        assert!(matches!(scan(&root.join("none")), Err(AnnounceError::NotFound(_))));
    }
}
