//! Files that survive a crash: written beside, synced, renamed, the directory synced.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Makes the directory and its parents; in the end only its owner may enter it.
pub(crate) fn private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    if std::fs::metadata(dir)?.permissions().mode() & 0o077 != 0 {
        std::fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Replaces `dir/name` by these bytes, mode 0600: after a crash there is either the old
/// file or the new one.
pub(crate) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = dir.join(format!("{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    // A file left by a crash keeps the mode that it had.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&beside, dir.join(name))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A directory of its own that goes when the test ends.
    pub(crate) struct Scratch(PathBuf);

    impl Scratch {
        pub(crate) fn new() -> Self {
            static COUNT: AtomicU64 = AtomicU64::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let dir = std::env::temp_dir().join(format!("treecast-node-{}-{number}", std::process::id()));
            private_dir(&dir).expect("the temporary folder can be written");
            Self(dir)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_directory_is_closed_to_others_even_if_it_was_open() {
        let scratch = Scratch::new();
        let dir = scratch.path().join("a/b");
        std::fs::create_dir_all(&dir).expect("made");
        std::fs::set_permissions(&dir, Permissions::from_mode(0o755)).expect("opened");
        private_dir(&dir).expect("closed");
        assert_eq!(std::fs::metadata(&dir).expect("there").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let scratch = Scratch::new();
        std::fs::write(scratch.path().join("x.new"), "half of something").expect("left by a crash");
        replace(scratch.path(), "x", b"one").expect("written");
        replace(scratch.path(), "x", b"two").expect("written again");
        let path = scratch.path().join("x");
        assert_eq!(std::fs::read(&path).expect("there"), b"two");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(!scratch.path().join("x.new").exists());
    }
}
