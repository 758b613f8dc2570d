//! One running node a data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// Its name in the data directory. The file stays; what counts is the lock on it, which
/// the kernel takes back when its process ends, however that ends.
const FILE: &str = "lock";

/// Whoever looks whether somebody has the lock ([`holder`]) has a share of it for a moment: only
/// one that is still taken after so many looks, so far apart, is taken.
const GLANCES: u32 = 10;
const GLANCE: Duration = Duration::from_millis(5);

/// Why the lock is not ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("held by process {pid:?}")]
    Held { pid: Option<u32> },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Held for as long as the node runs.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock and leaves this process's number for those who come too late.
    pub(crate) fn take(data_dir: &Path) -> Result<Self, LockError> {
        let mut file = open(data_dir)?;
        for glance in 0.. {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if glance < GLANCES => std::thread::sleep(GLANCE),
                Err(TryLockError::WouldBlock) => return Err(LockError::Held { pid: read_pid(&mut file) }),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        file.set_len(0)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
        Ok(Self { _file: file })
    }
}

/// The process whose node holds the data directory: `None` if none does, `Some(None)` if
/// one does that has not said its number.
pub fn holder(data_dir: &Path) -> io::Result<Option<Option<u32>>> {
    let path = data_dir.join(FILE);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(read_pid(&mut file))),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Waits until no node holds the data directory; `false` if one still does in the end.
pub async fn wait_released(data_dir: &Path, patience: Duration) -> bool {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        if matches!(holder(data_dir), Ok(None)) {
            return true;
        }
        if tokio::time::Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn open(data_dir: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(data_dir.join(FILE))
}

/// The holder writes its number right after it has the lock: an empty file is looked at again.
fn read_pid(file: &mut File) -> Option<u32> {
    for _ in 0..20 {
        let mut text = String::new();
        file.rewind().ok()?;
        file.take(32).read_to_string(&mut text).ok()?;
        if let Ok(pid) = text.trim().parse() {
            return Some(pid);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;

    #[test]
    fn the_second_names_the_first() {
        let scratch = Scratch::new();
        let first = Lock::take(scratch.path()).expect("free");
        match Lock::take(scratch.path()) {
            Err(LockError::Held { pid }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        assert_eq!(holder(scratch.path()).expect("readable"), Some(Some(std::process::id())));
        drop(first);
        assert_eq!(holder(scratch.path()).expect("readable"), None);
        Lock::take(scratch.path()).expect("free again");
    }

    #[test]
    fn looking_does_not_take_it_from_anybody() {
        let scratch = Scratch::new();
        drop(Lock::take(scratch.path()).expect("free"));
        let done = std::sync::atomic::AtomicBool::new(false);
        let look = || {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                holder(scratch.path()).expect("readable");
                std::thread::sleep(Duration::from_micros(200));
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(look);
            scope.spawn(look);
            for _ in 0..300 {
                let taken = Lock::take(scratch.path());
                if let Err(error) = &taken {
                    done.store(true, std::sync::atomic::Ordering::Relaxed);
                    panic!("nobody else wants it: {error}");
                }
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    #[test]
    fn a_lock_left_by_a_dead_process_is_no_lock() {
        let scratch = Scratch::new();
        assert_eq!(holder(scratch.path()).expect("no file yet"), None);
        std::fs::write(scratch.path().join(FILE), "1234567890\n").expect("left");
        let lock = Lock::take(scratch.path()).expect("nobody holds it");
        assert_eq!(
            std::fs::read_to_string(scratch.path().join(FILE)).expect("there").trim(),
            std::process::id().to_string()
        );
        drop(lock);
    }
}
