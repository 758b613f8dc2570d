//! Lines from stdin, and whether anybody still reads stdout.

use std::io::{self, BufRead, Read};
use std::time::Duration;

use tokio::sync::mpsc;

/// Longest message, bytes; a longer line is not sent.
pub(crate) const MAX_LINE: usize = 1 << 20;

/// Lines that may wait to be sent; beyond, reading stdin waits.
const QUEUE: usize = 256;

/// What stdin brings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// A line without its line feed; any bytes.
    Line(Vec<u8>),
    /// This line (counted from 1) was longer than [`MAX_LINE`] and is skipped.
    TooLong(u64),
    /// Reading failed.
    Broken(String),
}

/// Reads stdin on a thread of its own, which a blocked terminal or pipe may keep for ever
/// without keeping the process.
pub(crate) fn lines() -> mpsc::Receiver<Typed> {
    let (send, receive) = mpsc::channel(QUEUE);
    std::thread::spawn(move || read_all(io::stdin().lock(), |typed| send.blocking_send(typed).is_ok()));
    receive
}

/// Hands each line to `take` until it wants no more, or the input ends.
fn read_all(mut input: impl BufRead, mut take: impl FnMut(Typed) -> bool) {
    for number in 1.. {
        let next = match read_line(&mut input) {
            Ok(None) => return,
            Ok(Some(Some(line))) => take(Typed::Line(line)),
            Ok(Some(None)) => take(Typed::TooLong(number)),
            Err(error) => {
                take(Typed::Broken(error.to_string()));
                false
            }
        };
        if !next {
            return;
        }
    }
}

/// The next line: `None` at the end, `Some(None)` if it was too long.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Option<Vec<u8>>>> {
    let mut line = Vec::new();
    if input.by_ref().take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > MAX_LINE {
        skip_line(input)?;
        return Ok(Some(None));
    }
    Ok(Some(Some(line)))
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |at| at + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}

/// How often to look whether stdout is still read.
const LOOK: Duration = Duration::from_millis(250);

/// Ends when stdout is a pipe or socket whose reader is gone, even if nothing is written.
pub(crate) async fn stdout_closed() {
    loop {
        tokio::time::sleep(LOOK).await;
        if is_stdout_closed() {
            return;
        }
    }
}

#[cfg(unix)]
fn is_stdout_closed() -> bool {
    use std::os::fd::AsFd;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let stdout = io::stdout();
    let mut look = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    let found = poll(&mut look, PollTimeout::ZERO).unwrap_or(0);
    found > 0
        && look[0].revents().is_some_and(|events| events.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL))
}

#[cfg(not(unix))]
fn is_stdout_closed() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> Vec<Typed> {
        let mut all = Vec::new();
        read_all(input, |typed| {
            all.push(typed);
            true
        });
        all
    }

    #[test]
    fn lines_are_bytes() {
        let expected = [&b"a"[..], b"", b"\xff\r", b"end"].map(|line| Typed::Line(line.to_vec()));
        assert_eq!(read(b"a\n\n\xff\r\nend"), expected);
        assert_eq!(read(b""), []);
    }

    #[test]
    fn a_line_that_is_too_long_is_named_and_the_rest_is_kept() {
        let mut input = vec![b'x'; MAX_LINE];
        input.extend_from_slice(b"\n");
        input.extend(vec![b'y'; 3 * MAX_LINE]);
        input.extend_from_slice(b"\nlast");
        let all = read(&input);
        assert_eq!(all.len(), 3);
        assert!(matches!(&all[0], Typed::Line(line) if line.len() == MAX_LINE));
        assert_eq!(all[1..], [Typed::TooLong(2), Typed::Line(b"last".to_vec())]);
    }
}
