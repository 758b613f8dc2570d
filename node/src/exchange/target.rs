//! Where a fetched file goes: never over another unasked, never through a link, never onto a disk that is too full.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use treecast_overlay::files::{Manifest, ManifestError, Offer, clean_name};
use unicode_normalization::UnicodeNormalization;

use super::scan::{is_file_with, is_folder_with};
use crate::error::GetError;

/// What to do if something lies where a file is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// Go on with what came of this file before; if another lies there, fail.
    #[default]
    Resume,
    /// Take a name that is free: `name (2).txt`.
    Rename,
    /// Replace it, once all of the new one is here; a folder with all that is in it. A folder never takes the place of
    /// a file, nor a file that of a folder.
    Overwrite,
    /// Fail, whatever it is.
    Fail,
}

/// Names that are tried before none is free.
const TRIES: u32 = 10_000;

/// Left free on the disk beside the file, bytes: for the node's own things. Guess.
const SPARE: u64 = 16 << 20;

/// Where to write, and where it is in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) partial: PathBuf,
    pub(super) path: PathBuf,
    /// It is there already.
    pub(super) is_there: bool,
}

/// Chooses where a file goes: `out` is a path, or a folder to put it in. What lies there may be read, which a folder
/// needs `scan_at` for.
pub(super) fn choose(
    offer: &Offer,
    out: &Path,
    on_conflict: OnConflict,
    scan_at: &Path,
) -> Result<Target, GetError> {
    if on_conflict == OnConflict::Resume
        && offer.manifest.is_some()
        && out.is_dir()
        && is_it(offer, out, scan_at)
    {
        // Typed once more: it is not put into itself.
        return Ok(Target { partial: PathBuf::new(), path: out.to_owned(), is_there: true });
    }
    let path = if out.is_dir() { out.join(clean_name(&offer.name)) } else { out.to_owned() };
    if !out.is_dir() && out.as_os_str().as_bytes().ends_with(b"/") {
        return Err(GetError::Target { path, why: "there is no such folder".to_owned() });
    }
    let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else {
        return Err(GetError::Target { path, why: "it is no name of a file".to_owned() });
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let folder = folder.as_path();
    if !folder.is_dir() {
        return Err(GetError::Target { path: folder.to_owned(), why: "there is no such folder".to_owned() });
    }
    let exists = fs::symlink_metadata(&path);
    let path = match (exists, on_conflict) {
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => path,
        (Err(error), _) => return Err(GetError::Target { path, why: error.to_string() }),
        (Ok(_), OnConflict::Rename) => free_name(folder, &name, offer.manifest.is_some())?,
        (Ok(found), OnConflict::Overwrite) if is_same_kind(offer, &found) => path,
        (Ok(found), OnConflict::Resume) if is_same_kind(offer, &found) && is_it(offer, &path, scan_at) => {
            return Ok(Target { partial: partial(folder, &name, offer), path, is_there: true });
        }
        (Ok(_), _) => return Err(GetError::Exists(path)),
    };
    Ok(Target { partial: partial(folder, &name, offer), path, is_there: false })
}

fn is_same_kind(offer: &Offer, found: &fs::Metadata) -> bool {
    if offer.manifest.is_some() { found.is_dir() } else { found.is_file() }
}

fn is_it(offer: &Offer, path: &Path, scan_at: &Path) -> bool {
    match offer.manifest {
        None => is_file_with(path, offer.size, offer.hash),
        Some(_) => is_folder_with(path, offer.size, offer.hash, scan_at),
    }
}

/// How the name ends of what is on its way.
const PARTIAL: &str = ".treecast-part";

/// What came of a file goes where it is to come now, if it lay elsewhere on the same disk.
pub(super) fn carry(from: &Path, to: &Path) {
    let is_ours = from.file_name().is_some_and(|name| name.as_bytes().ends_with(PARTIAL.as_bytes()));
    if is_ours && from != to && fs::symlink_metadata(to).is_err() {
        // If it cannot, it is fetched again.
        let _ = fs::rename(from, to);
    }
}

/// Removes what came of a file that nobody wants any more.
pub(super) fn remove_partial(path: &Path) {
    let is_ours = path.file_name().is_some_and(|name| name.as_bytes().ends_with(PARTIAL.as_bytes()));
    if is_ours {
        // What is not there need not go.
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
    }
}

/// What comes is written here; hidden, and the same each time.
fn partial(folder: &Path, name: &str, offer: &Offer) -> PathBuf {
    let hash = offer.hash.to_string();
    let mut name = name.to_owned();
    while name.len() > 200 {
        name.pop();
    }
    folder.join(format!(".{name}.{}{PARTIAL}", &hash[..12]))
}

fn free_name(folder: &Path, name: &str, is_folder: bool) -> Result<PathBuf, GetError> {
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && !is_folder => (stem, format!(".{extension}")),
        _ => (name, String::new()),
    };
    let named = |number: u32| folder.join(format!("{stem} ({number}){extension}"));
    let free = |path: &PathBuf| fs::symlink_metadata(path).is_err();
    (2..TRIES).map(named).find(free).ok_or_else(|| GetError::Exists(folder.join(name)))
}

/// Whether all of a folder's files can lie below `root`: some disks take `a` and `A` for one file.
pub(super) fn check_cases(root: &Path, manifest: &Manifest) -> io::Result<()> {
    let Some(path) = same_but_for_case(manifest) else { return Ok(()) };
    let (probe, other) = (root.join(".treecast-probe"), root.join(".TREECAST-PROBE"));
    fs::write(&probe, "")?;
    let is_one = fs::symlink_metadata(other).is_ok();
    fs::remove_file(probe)?;
    match is_one {
        true => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("this disk takes {path:?} and another of its files for the same"),
        )),
        false => Ok(()),
    }
}

/// A path that differs from another by case or by how its accents are written only.
fn same_but_for_case(manifest: &Manifest) -> Option<String> {
    let fold = |path: &str| path.nfd().flat_map(char::to_lowercase).collect::<String>();
    let mut entries = manifest.entries.clone();
    entries.iter_mut().for_each(|it| it.path = fold(&it.path));
    match (Manifest { entries }).check() {
        Err(ManifestError::Path(path)) => Some(path),
        _ => None,
    }
}

/// Whether there is room for so many more bytes.
pub(super) fn check_space(folder: &Path, needed: u64) -> Result<(), GetError> {
    let Ok(disk) = nix::sys::statvfs::statvfs(folder) else { return Ok(()) };
    #[expect(clippy::useless_conversion, reason = "the types differ between systems")]
    let free = u64::from(disk.blocks_available()).saturating_mul(u64::from(disk.fragment_size()));
    let needed = needed.saturating_add(if needed > 0 { SPARE } else { 0 });
    if free < needed {
        return Err(GetError::NoSpace { path: folder.to_owned(), needed, free });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use treecast_overlay::files::{Entry, FileHash};

    use super::*;
    use crate::files::tests::Scratch;

    #[test]
    fn nothing_is_overwritten_unasked_nor_written_elsewhere() {
        let scratch = Scratch::new();
        let hash = FileHash::from_bytes(*blake3::hash(b"it").as_bytes());
        let offer = Offer { hash, name: "../../up.txt".to_owned(), size: 2, manifest: None };
        let choose = |out: &Path, how| super::choose(&offer, out, how, &scratch.path().join("scan"));
        let there = scratch.path().join("up.txt");
        let fresh = choose(scratch.path(), OnConflict::Resume).expect("free");
        assert_eq!((&fresh.path, fresh.partial.parent()), (&there, Some(scratch.path())));
        fs::write(&there, "other").expect("written");
        for how in [OnConflict::Resume, OnConflict::Fail] {
            assert!(matches!(choose(scratch.path(), how), Err(GetError::Exists(path)) if path == there));
        }
        let renamed = choose(scratch.path(), OnConflict::Rename).expect("another name");
        assert_eq!(renamed.path, scratch.path().join("up (2).txt"));
        assert_eq!(choose(scratch.path(), OnConflict::Overwrite).expect("replaced").path, there);
        fs::write(&there, "it").expect("written");
        assert!(choose(scratch.path(), OnConflict::Resume).expect("it is this file").is_there);
        assert!(matches!(choose(scratch.path(), OnConflict::Fail), Err(GetError::Exists(_))));
        for slashed in ["none/", "up.txt/"] {
            let slashed = scratch.path().join(slashed);
            assert!(matches!(choose(&slashed, OnConflict::Resume), Err(GetError::Target { .. })));
        }
        let nowhere = scratch.path().join("none/x");
        assert!(matches!(choose(&nowhere, OnConflict::Resume), Err(GetError::Target { .. })));
        assert!(matches!(check_space(scratch.path(), 1 << 60), Err(GetError::NoSpace { .. })));
        assert!(check_space(scratch.path(), 0).is_ok());
    }

    #[test]
    fn a_folder_takes_the_place_of_a_folder_only() {
        let scratch = Scratch::new();
        let hash = FileHash::from_bytes([7; 32]);
        let offer = Offer { hash, name: "album.v1".to_owned(), size: 1, manifest: Some(1) };
        let choose = |how| super::choose(&offer, scratch.path(), how, &scratch.path().join("scan"));
        let there = scratch.path().join("album.v1");
        fs::write(&there, "a file").expect("written");
        for how in [OnConflict::Overwrite, OnConflict::Resume, OnConflict::Fail] {
            assert!(matches!(choose(how), Err(GetError::Exists(path)) if path == there));
        }
        fs::remove_file(&there).expect("removed");
        fs::create_dir(&there).expect("made");
        assert_eq!(choose(OnConflict::Overwrite).expect("replaced").path, there);
        assert_eq!(choose(OnConflict::Rename).expect("renamed").path, scratch.path().join("album.v1 (2)"));
        for how in [OnConflict::Resume, OnConflict::Fail] {
            assert!(matches!(choose(how), Err(GetError::Exists(path)) if path == there));
        }
    }

    #[test]
    fn names_that_some_disks_take_for_one_are_seen() {
        let of = |paths: &[&str]| {
            let entry =
                |path: &&str| Entry { path: (*path).to_owned(), size: 0, executable: false, folder: None };
            Manifest { entries: paths.iter().map(entry).collect() }
        };
        assert_eq!(same_but_for_case(&of(&["a/b", "A/B2", "c"])), None);
        for alike in [["a", "A"], ["Dir/x", "dir"], ["\u{e9}", "E\u{301}"]] {
            assert!(of(&alike).check().is_ok() && same_but_for_case(&of(&alike)).is_some(), "{alike:?}");
        }
        let scratch = Scratch::new();
        check_cases(scratch.path(), &of(&["a", "A"])).expect("here they are two");
        assert_eq!(fs::read_dir(scratch.path()).expect("there").count(), 0);
    }
}
