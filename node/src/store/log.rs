//! A look at SQLite's write-ahead log before SQLite sees it. What it finds damaged there it drops without a
//! word, and the log beside a file that is empty it deletes: words that were acknowledged would be gone.
//!
//! The format: <https://www.sqlite.org/fileformat2.html#walformat>, sections 4.1 and 4.2.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// Of a larger log only the beginning is looked at.
const CHECK_UP_TO: u64 = 64 << 20;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// What is found beside the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Log {
    /// As it should be, or none.
    Good,
    /// It is there, and what it belongs to is not.
    Orphan,
    /// Nothing in it can be read.
    Bad,
    /// Whole transactions stand after a page that cannot be read. After a loss of power what was told
    /// nobody may look like this, too.
    Broken { good: u64 },
}

/// Where the log of this file is.
pub(super) fn path(of: &Path) -> PathBuf {
    let mut path = of.as_os_str().to_owned();
    path.push("-wal");
    path.into()
}

/// Looks at the log of this file and changes nothing.
pub(super) fn check(of: &Path) -> io::Result<Log> {
    let file = match File::open(path(of)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Log::Good),
        opened => opened?,
    };
    let size = file.metadata()?.len();
    if size == 0 {
        return Ok(Log::Good);
    }
    if std::fs::metadata(of).map_or(0, |it| it.len()) == 0 {
        return Ok(Log::Orphan);
    }
    read(BufReader::with_capacity(1 << 16, file.take(CHECK_UP_TO)), size)
}

fn read(mut log: impl Read, size: u64) -> io::Result<Log> {
    let mut header = [0; HEADER];
    // It is synced before anything follows: a part of it is no loss.
    if size <= HEADER as u64 || !fill(&mut log, &mut header)? {
        return Ok(Log::Good);
    }
    let magic = word(&header, 0);
    let mut sum = Sum { is_big: magic & 1 == 1, now: (0, 0) };
    sum.add(&header[..24]);
    let page = word(&header, 8);
    let is_size = page.is_power_of_two() && (512..=65_536).contains(&page);
    if magic & !1 != 0x377f_0682 || !is_size || !sum.is_at(&header, 24) {
        return Ok(Log::Bad);
    }
    let mut frame = vec![0; FRAME_HEADER + page as usize];
    let (mut good, mut is_whole) = (0, true);
    while fill(&mut log, &mut frame)? {
        let is_of_this_log = frame[8..16] == header[16..24];
        if is_whole {
            sum.add(&frame[..8]);
            sum.add(&frame[FRAME_HEADER..]);
            is_whole = is_of_this_log && sum.is_at(&frame, 16);
            good += u64::from(is_whole);
        }
        // What was begun and given up leaves such pages, too, but never the last of a transaction.
        if !is_whole && is_of_this_log && word(&frame, 4) != 0 {
            return Ok(Log::Broken { good });
        }
    }
    Ok(Log::Good)
}

/// Whether there was enough to fill it.
fn fill(log: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(buffer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"))
}

/// The checksum that runs through a log.
struct Sum {
    is_big: bool,
    now: (u32, u32),
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks_exact(8) {
            let half = |at: usize| {
                let four = pair[at..at + 4].try_into().expect("four");
                if self.is_big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
            };
            self.now.0 = self.now.0.wrapping_add(half(0)).wrapping_add(self.now.1);
            self.now.1 = self.now.1.wrapping_add(half(4)).wrapping_add(self.now.0);
        }
    }

    fn is_at(&self, bytes: &[u8], at: usize) -> bool {
        self.now == (word(bytes, at), word(bytes, at + 4))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use rusqlite::Connection;

    use super::*;
    use crate::files::tests::Scratch;

    /// A file with ten transactions in its log, as a crash leaves both.
    fn crashed(scratch: &Scratch) -> PathBuf {
        let (running, path) = (scratch.path().join("running.db"), scratch.path().join("crashed.db"));
        let connection = Connection::open(&running).expect("opens");
        connection.pragma_update(None, "journal_mode", "WAL").expect("set");
        connection.execute_batch("CREATE TABLE words (word TEXT)").expect("made");
        for _ in 1..10 {
            connection.execute("INSERT INTO words VALUES (hex(randomblob(3000)))", ()).expect("written");
        }
        std::fs::copy(&running, &path).expect("copied");
        std::fs::copy(super::path(&running), super::path(&path)).expect("copied");
        path
    }

    fn overwrite(of: &Path, at: u64) {
        let log = File::options().write(true).open(path(of)).expect("there");
        log.write_all_at(&[0x5a; 100], at).expect("written");
    }

    #[test]
    fn a_log_that_a_crash_left_is_good() {
        let scratch = Scratch::new();
        assert_eq!(check(&scratch.path().join("none.db")).expect("looked"), Log::Good);
        let of = crashed(&scratch);
        assert_eq!(check(&of).expect("looked"), Log::Good);
        let size = path(&of).metadata().expect("there").len();
        for torn in [size - 1, size - 5_000, size / 2, 40, 32, 10, 0] {
            let log = File::options().write(true).open(path(&of)).expect("there");
            log.set_len(torn).expect("cut");
            assert_eq!(check(&of).expect("looked"), Log::Good, "{torn} bytes");
        }
    }

    #[test]
    fn an_older_log_beneath_is_no_damage() {
        let scratch = Scratch::new();
        let path = scratch.path().join("running.db");
        let connection = Connection::open(&path).expect("opens");
        connection.pragma_update(None, "journal_mode", "WAL").expect("set");
        connection.execute_batch("CREATE TABLE words (word TEXT)").expect("made");
        let say = || connection.execute("INSERT INTO words VALUES ('one')", ()).expect("written");
        (0..9).for_each(|_| assert_eq!(say(), 1));
        connection.pragma_update_and_check(None, "wal_checkpoint", "RESTART", |_| Ok(())).expect("folded");
        say();
        assert_eq!(check(&path).expect("looked"), Log::Good);
    }

    #[test]
    fn damage_is_told_from_what_a_crash_leaves() {
        let scratch = Scratch::new();
        let of = crashed(&scratch);
        overwrite(&of, 5 * 4_120);
        let found = check(&of).expect("looked");
        assert!(matches!(found, Log::Broken { good: 1..=5 }), "{found:?}");
        overwrite(&of, 0);
        assert_eq!(check(&of).expect("looked"), Log::Bad);
        std::fs::write(&of, "").expect("emptied");
        assert_eq!(check(&of).expect("looked"), Log::Orphan);
        std::fs::remove_file(&of).expect("moved away");
        assert_eq!(check(&of).expect("looked"), Log::Orphan);
    }
}
