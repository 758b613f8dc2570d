//! What is in a folder: the files, in the order in which their bytes follow.

use super::name::check_part;
use super::offer::MAX_SIZE;
use crate::wire::cbor::{self, cbor_array};

/// Files in one folder and folders below it, at most.
pub const MAX_ENTRIES: usize = 1_000_000;

/// The longest manifest, bytes: it stands in memory. A million files with paths of a hundred bytes have one.
pub const MAX_MANIFEST: u64 = 128 << 20;

/// Bytes of a path, at most: with that of the folder that it comes into it has to be one that systems take.
const MAX_PATH: usize = 2_048;

/// Parts of a path, at most.
const MAX_DEPTH: usize = 64;

cbor_array! {
    /// A file of a folder, or an empty folder in it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Entry {
        /// Where it is below the folder, parts divided by `/`.
        pub path: String,
        /// Its bytes.
        pub size: u64,
        /// It is a program.
        pub executable: bool;
        or_none
        /// It is no file, but a folder in which nothing is.
        pub folder: bool,
    }
}

impl Entry {
    /// Whether it is an empty folder.
    pub fn is_folder(&self) -> bool {
        self.folder == Some(true)
    }
}

/// A folder's files, and the empty folders in it. Links, devices and pipes are not among them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// In the order of their bytes; no path twice, and none that is another's folder.
    pub entries: Vec<Entry>,
}

/// Why a manifest is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It is no CBOR of ours.
    #[error("it cannot be read")]
    Malformed,
    /// There are more than [`MAX_ENTRIES`] files and folders, or its paths take more than [`MAX_MANIFEST`].
    #[error("it has too many files")]
    TooMany,
    /// A path leads elsewhere, or stands twice.
    #[error("the path {0:?} cannot be used")]
    Path(String),
    /// Its sizes do not make the folder's.
    #[error("its sizes do not add up to the folder's")]
    Size,
}

impl Manifest {
    /// The bytes at the folder's beginning.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::to_vec_with_capacity(64 * self.entries.len(), &self.entries)
    }

    /// Reads and checks the manifest of a folder of `size` bytes, the manifest's own among them.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn from_bytes(bytes: &[u8], size: u64) -> Result<Self, ManifestError> {
        // Short entries take much more memory than bytes.
        if bytes.len() as u64 > MAX_MANIFEST || count(bytes).is_none_or(|it| it > MAX_ENTRIES as u64) {
            return Err(ManifestError::TooMany);
        }
        let entries: Vec<Entry> = cbor::from_slice(bytes).map_err(|_| ManifestError::Malformed)?;
        let manifest = Self { entries };
        manifest.check()?;
        let sum = manifest.entries.iter().try_fold(bytes.len() as u64, |sum, it| sum.checked_add(it.size));
        if sum == Some(size) && size <= MAX_SIZE { Ok(manifest) } else { Err(ManifestError::Size) }
    }

    /// Whether all paths stay in the folder and out of each other's way.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.entries.len() > MAX_ENTRIES {
            return Err(ManifestError::TooMany);
        }
        let mut paths: Vec<&str> = self.entries.iter().map(|it| it.path.as_str()).collect();
        for path in &paths {
            if path.len() > MAX_PATH
                || path.split('/').count() > MAX_DEPTH
                || !path.split('/').all(check_part)
            {
                return Err(ManifestError::Path((*path).to_owned()));
            }
        }
        if let Some(it) = self.entries.iter().find(|it| it.is_folder() && it.size > 0) {
            return Err(ManifestError::Path(it.path.clone()));
        }
        // With the divider before all else, what is in a folder follows that.
        paths.sort_unstable_by(|one, other| one.split('/').cmp(other.split('/')));
        let in_the_way = paths
            .windows(2)
            .find(|two| two[1].strip_prefix(two[0]).is_some_and(|it| it.is_empty() || it.starts_with('/')));
        match in_the_way {
            Some(two) => Err(ManifestError::Path(two[1].to_owned())),
            // A path may need as many folders as it has parts.
            None if paths.len() + folders(&paths) > MAX_ENTRIES => Err(ManifestError::TooMany),
            None => Ok(()),
        }
    }

    /// Folders that its entries lie in, below its own.
    pub fn folders(&self) -> usize {
        let mut paths: Vec<&str> = self.entries.iter().map(|it| it.path.as_str()).collect();
        paths.sort_unstable_by(|one, other| one.split('/').cmp(other.split('/')));
        folders(&paths)
    }
}

/// Folders that these lie in; paths with the same folder stand together.
fn folders(paths: &[&str]) -> usize {
    let (mut count, mut before) = (0, "");
    for path in paths {
        let parents = path.split('/').count() - 1;
        let shared = path.split('/').zip(before.split('/')).take_while(|(one, other)| one == other).count();
        count += parents.saturating_sub(shared);
        before = path;
    }
    count
}

/// How many entries the manifest says it has: the head of a CBOR array (RFC 8949, §3) of a length that is told.
fn count(bytes: &[u8]) -> Option<u64> {
    let (head, rest) = bytes.split_first()?;
    let follow = match head {
        0x80..=0x97 => return Some(u64::from(head & 0x1f)),
        0x98..=0x9b => 1 << (head & 0x03),
        _ => return None,
    };
    Some(rest.get(..follow)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(paths: &[&str]) -> Manifest {
        let entry =
            |path: &&str| Entry { path: (*path).to_owned(), size: 3, executable: false, folder: None };
        Manifest { entries: paths.iter().map(entry).collect() }
    }

    #[test]
    fn a_manifest_reads_back() {
        let manifest = of(&["b", "a/x", "a/y", "a-b"]);
        let bytes = manifest.to_bytes();
        let size = bytes.len() as u64 + 12;
        assert_eq!(Manifest::from_bytes(&bytes, size), Ok(manifest));
        assert_eq!(Manifest::from_bytes(&bytes, size + 1), Err(ManifestError::Size));
        assert_eq!(Manifest::from_bytes(&bytes[1..], size), Err(ManifestError::Malformed));
    }

    #[test]
    fn an_empty_folder_is_kept_and_has_nothing_in_it() {
        let folder =
            |path: &str| Entry { path: path.to_owned(), size: 0, executable: false, folder: Some(true) };
        let mut manifest = of(&["a/x"]);
        manifest.entries.push(folder("a/none"));
        let bytes = manifest.to_bytes();
        assert_eq!(Manifest::from_bytes(&bytes, bytes.len() as u64 + 3), Ok(manifest.clone()));
        manifest.entries.push(folder("a"));
        assert_eq!(manifest.check(), Err(ManifestError::Path("a/none".to_owned())));
        let full = Manifest { entries: vec![Entry { size: 1, ..folder("a") }] };
        assert_eq!(full.check(), Err(ManifestError::Path("a".to_owned())));
    }

    #[test]
    fn what_would_fill_the_memory_is_not_read() {
        for entries in [0, 1, 23, 24, 300, 70_000] {
            let all = Manifest { entries: vec![of(&["x"]).entries[0].clone(); entries] };
            assert_eq!(count(&all.to_bytes()), Some(entries as u64));
        }
        // A million and one, of four bytes each.
        let mut bytes = vec![0x9a];
        bytes.extend_from_slice(&1_000_001_u32.to_be_bytes());
        bytes.resize(4_000_009, 0x80);
        assert_eq!(Manifest::from_bytes(&bytes, 1 << 30), Err(ManifestError::TooMany));
        assert_eq!(Manifest::from_bytes(&[0x9f, 0xff], 2), Err(ManifestError::TooMany));
        let long = format!("{}x", "y/".repeat(20)).replace('y', &"y".repeat(110));
        assert!(matches!(of(&[&long]).check(), Err(ManifestError::Path(_))));
    }

    #[test]
    fn no_path_leads_elsewhere_or_into_another() {
        for bad in ["../x", "/x", "a//b", "", ".", "a/../b", "a\\b"] {
            assert_eq!(of(&["fine", bad]).check(), Err(ManifestError::Path(bad.to_owned())), "{bad}");
        }
        assert!(of(&["a", "b", "a"]).check().is_err() && of(&["a/b", "a-b", "a"]).check().is_err());
        assert!(of(&["a.b/c", "a/b", "a-b", "ab"]).check().is_ok());
    }

    #[test]
    fn folders_count_as_files_do() {
        assert_eq!(of(&["a"]).folders(), 0);
        assert_eq!(of(&["a/b/x", "c", "a/b/y", "a/c/x", "a-b/x", "a/x"]).folders(), 4);
        // Each with 50 folders of its own.
        let deep = |number: usize| format!("{number:05}/{}x", "a/".repeat(49));
        let paths: Vec<String> = (0..19_700).map(deep).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        assert_eq!(of(&paths).check(), Err(ManifestError::TooMany));
        assert!(of(&paths[..19_600]).check().is_ok());
    }
}
