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
/// needs `scan_at` for. It lies at `out` already if `held`, as far as that is known.
pub(super) fn choose(
    offer: &Offer,
    out: &Path,
    on_conflict: OnConflict,
    held: bool,
    scan_at: &Path,
) -> Result<Target, GetError> {
    // All of any folder would be much to read.
    let may_be_it = || {
        let name = out.canonicalize().ok().and_then(|it| Some(it.file_name()?.to_owned()));
        held || name.is_some_and(|it| it.as_bytes() == clean_name(&offer.name).as_bytes())
    };
    if on_conflict == OnConflict::Resume
        && offer.manifest.is_some()
        && out.is_dir()
        && may_be_it()
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
    if offer.manifest.is_some() {
        restore(&partial(folder, &name, offer), &path);
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
        let _ = fs::remove_dir_all(beside(path, SWAPPED));
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

/// Moves a file or folder, and not over something that has come there, unless it is to. Returns where the folder lies
/// that it has replaced: that is to be removed once the move is on disk.
pub(super) fn move_to(from: &Path, to: &Path, replace: bool) -> io::Result<Option<PathBuf>> {
    if replace && from.is_dir() && to.is_dir() {
        return match swap_folders(from, to)? {
            Some(aside) => Ok(Some(aside)),
            None => exchange_folders(from, to).map(Some),
        };
    }
    if replace {
        return fs::rename(from, to).map(|()| None);
    }
    if from.is_file() {
        match fs::hard_link(from, to) {
            Ok(()) => return fs::remove_file(from).map(|()| None),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            // Some file systems have no links.
            Err(_) => {}
        }
    }
    if fs::symlink_metadata(to).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to).map(|()| None)
}

/// Puts a folder in another's place, all at once; `None` where the system cannot. The new one goes from its own name
/// first: what lies there is never the old one, which would be gone on with after a kill.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn swap_folders(from: &Path, to: &Path) -> io::Result<Option<PathBuf>> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    let aside = beside(from, SWAPPED);
    // Left by a kill; there may be none.
    let _ = fs::remove_dir_all(&aside);
    fs::rename(from, &aside)?;
    if renameat2(AT_FDCWD, &aside, AT_FDCWD, to, RenameFlags::RENAME_EXCHANGE).is_ok() {
        return Ok(Some(aside));
    }
    fs::rename(&aside, from)?;
    Ok(None)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn swap_folders(_: &Path, _: &Path) -> io::Result<Option<PathBuf>> {
    Ok(None)
}

/// Puts a folder in another's place by two renames, and says where that one is. After a kill between them
/// [`restore`] takes it back.
fn exchange_folders(from: &Path, to: &Path) -> io::Result<PathBuf> {
    let names = (1..TRIES).map(|number| match number {
        1 => beside(from, REPLACED),
        _ => beside(from, &format!("{REPLACED}{number}")),
    });
    let mut free = names.filter(|it| fs::symlink_metadata(it).is_err());
    let aside = free.next().ok_or(io::ErrorKind::AlreadyExists)?;
    fs::rename(to, &aside)?;
    if let Err(error) = fs::rename(from, to) {
        // If that fails, too, it is beside it, and is restored when it is tried again.
        let _ = fs::rename(&aside, to);
        return Err(error);
    }
    Ok(aside)
}

/// A folder that was to be replaced, and whose place is empty since a kill in the midst of that, goes back.
fn restore(partial: &Path, path: &Path) {
    if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        // There is none, as a rule.
        let _ = fs::rename(beside(partial, REPLACED), path);
    }
}

/// Removes what a folder has replaced.
pub(super) fn remove_replaced(aside: &Path) {
    // The new one is there: what cannot be removed of the old is in nobody's way.
    if let Err(error) = fs::remove_dir_all(aside) {
        tracing::warn!(path = %aside.display(), %error, "what a folder has replaced was not removed");
    }
}

/// What the folder is called that changes places with another, after what is on its way; then it is the other.
const SWAPPED: &str = ".new";

/// What a folder is called that another replaces, after that.
const REPLACED: &str = ".old";

fn beside(partial: &Path, end: &str) -> PathBuf {
    let mut name = partial.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// Bytes that a folder's files and folders take on a disk for being there, each a block. Guess.
pub(super) fn room_for_names(manifest: &Manifest) -> u64 {
    (manifest.entries.len() + manifest.folders()) as u64 * 4_096
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
        let choose = |out: &Path, how| super::choose(&offer, out, how, false, &scratch.path().join("scan"));
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
        let choose = |how| super::choose(&offer, scratch.path(), how, false, &scratch.path().join("scan"));
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

    /// A folder with one file that says what it is.
    fn folder(path: &Path, what: &str) {
        fs::create_dir_all(path).expect("made");
        fs::write(path.join("what"), what).expect("written");
    }

    fn what(path: &Path) -> String {
        fs::read_to_string(path.join("what")).expect("there")
    }

    #[test]
    fn a_folder_is_replaced_also_where_one_was_killed_at_that() {
        let scratch = Scratch::new();
        let (from, to) = (scratch.path().join(".it.treecast-part"), scratch.path().join("it"));
        for end in [".old", ".new"] {
            folder(&beside(&from, end), "left by a kill");
        }
        folder(&to, "before");
        folder(&from, "one");
        let aside = move_to(&from, &to, true).expect("moved").expect("it replaced one");
        assert_eq!((what(&to), what(&aside)), ("one".to_owned(), "before".to_owned()));
        remove_replaced(&aside);
        assert!(!aside.exists() && !from.exists());
        folder(&from, "two");
        let aside = exchange_folders(&from, &to).expect("another name is free");
        assert_eq!((what(&to), what(&aside)), ("two".to_owned(), "one".to_owned()));
        assert_eq!(what(&beside(&from, ".old")), "left by a kill");
    }

    #[test]
    fn a_folder_comes_back_after_a_kill_between_two_renames() {
        let scratch = Scratch::new();
        let hash = FileHash::from_bytes([7; 32]);
        let offer = Offer { hash, name: "album".to_owned(), size: 1, manifest: Some(1) };
        let choose = |how| super::choose(&offer, scratch.path(), how, false, &scratch.path().join("scan"));
        let there = scratch.path().join("album");
        let aside = beside(&partial(scratch.path(), "album", &offer), ".old");
        folder(&aside, "the user's");
        assert_eq!(choose(OnConflict::Overwrite).expect("replaced").path, there);
        assert_eq!(what(&there), "the user's");
        folder(&aside, "an older one");
        assert_eq!(choose(OnConflict::Overwrite).expect("replaced").path, there);
        assert_eq!(what(&there), "the user's");
    }

    #[test]
    fn a_folder_that_cannot_be_it_is_not_read() {
        let scratch = Scratch::new();
        let scan_at = scratch.path().join("scan");
        let root = scratch.path().join("album");
        folder(&root, "x");
        let scanned = crate::exchange::scan::scan(&root, scan_at.clone()).expect("a folder");
        let choose =
            |out: &Path, held| super::choose(&scanned.offer, out, OnConflict::Resume, held, &scan_at);
        assert!(choose(&root, false).expect("it is this").is_there, "by its name");
        let other = scratch.path().join("other");
        fs::rename(&root, &other).expect("moved");
        assert!(choose(&other, true).expect("it is this").is_there, "it is known to lie there");
        let inside = choose(&other, false).expect("free");
        assert_eq!((inside.path, inside.is_there), (other.join("album"), false));
    }
}
