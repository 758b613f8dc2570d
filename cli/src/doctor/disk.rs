//! The data directory and the disk below it.

use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use super::{Check, finding};

/// Below this, a burst of messages and a file or two fill the disk. Guess.
const LITTLE: u64 = 64 << 20;

/// Whether a node can keep its things there.
pub(super) fn directory(data_dir: &Path) -> Check {
    const NAME: &str = "data-dir";
    let shown = data_dir.display();
    let (there, tried) = match data_dir.exists() {
        true => (data_dir, write_something(data_dir)),
        false => {
            let above = above(data_dir);
            (above, may_make_something(above))
        }
    };
    match tried {
        Ok(()) if there == data_dir => Check::good(NAME, format!("{shown} can be written."), ""),
        Ok(()) => Check::good(NAME, format!("{shown} does not exist yet; the first start makes it."), ""),
        Err(error) => Check::bad(
            NAME,
            finding(
                format!("{shown} cannot be written."),
                format!("{}: {error}.", there.display()),
                "Mend its permissions, or choose another directory with --data-dir.",
            ),
            "treecast up --data-dir DIR",
        ),
    }
}

fn may_make_something(dir: &Path) -> std::io::Result<()> {
    if !dir.is_dir() {
        return Err(std::io::ErrorKind::NotADirectory.into());
    }
    Ok(access(dir, AccessFlags::W_OK | AccessFlags::X_OK)?)
}

/// The nearest directory above that exists.
fn above(path: &Path) -> &Path {
    path.ancestors().skip(1).find(|above| above.exists()).unwrap_or(Path::new("/"))
}

fn write_something(data_dir: &Path) -> std::io::Result<()> {
    let file = data_dir.join(format!(".doctor-{}", std::process::id()));
    std::fs::write(&file, b"x")?;
    std::fs::remove_file(&file)
}

/// Whether there is room.
pub(super) fn space(data_dir: &Path) -> Check {
    const NAME: &str = "disk";
    let place = if data_dir.exists() { data_dir } else { above(data_dir) };
    match statvfs(place) {
        Ok(found) => {
            let free = found.blocks_available().saturating_mul(found.fragment_size());
            room(&place.display().to_string(), free)
        }
        Err(error) => Check::bad(
            NAME,
            finding(
                "How much room is left on the disk cannot be seen.",
                format!("{}: {error}.", place.display()),
                "Look with `df`.",
            ),
            "df -h",
        ),
    }
}

fn room(place: &str, free: u64) -> Check {
    let mib = free >> 20;
    let shown = if mib >= 10_240 { format!("{} GiB", mib >> 10) } else { format!("{mib} MiB") };
    if free >= LITTLE {
        return Check::good("disk", format!("{shown} are free."), "");
    }
    Check::bad(
        "disk",
        finding(
            "The disk is nearly full.",
            format!("{shown} are left on the disk of {place}."),
            "Make room, or choose a directory on another disk with --data-dir.",
        ),
        "df -h",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_told_in_words_that_fit() {
        assert_eq!(room("/x", 3 << 30).what, "3072 MiB are free.");
        assert_eq!(room("/x", 30 << 30).what, "30 GiB are free.");
        let full = room("/x", 5 << 20);
        assert!(!full.ok && full.why.contains("5 MiB"), "{full:?}");
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_judged_by_the_one_above() {
        let dir = std::env::temp_dir().join(format!("treecast-doctor-{}", std::process::id()));
        let check = directory(&dir.join("a/b"));
        assert!(check.ok && check.what.contains("the first start makes it"), "{check:?}");
        assert!(!dir.exists(), "looking makes nothing");
        assert!(space(&dir).ok);
        std::fs::write(&dir, "a file").expect("written");
        let check = directory(&dir.join("below"));
        std::fs::remove_file(&dir).expect("there");
        assert!(!check.ok && check.fix.contains("--data-dir"), "{check:?}");
    }
}
