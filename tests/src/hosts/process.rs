//! A process under test: its lines as they come, its end, and what it used.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::lab::signal;
use super::said::Said;
use super::{PATIENCE, until};

/// A running process; dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    out: Stream,
    err: Stream,
    what: String,
    started: Instant,
}

/// How a process ended, and all it said.
#[derive(Debug)]
pub struct Run {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Its stdout.
    pub out: Vec<Value>,
    /// Its stderr.
    pub err: Vec<Value>,
    /// How long it ran.
    pub took: Duration,
}

/// Lines that a thread reads.
#[derive(Debug)]
struct Stream {
    read: Arc<Lines>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Lines {
    lines: Mutex<Vec<(Instant, Value)>>,
    more: Condvar,
}

impl Process {
    pub(super) fn start(command: Command, what: String) -> Self {
        Self::start_watched(command, what, |_| false)
    }

    /// `take` sees each line of stdout as it comes; what it takes is not kept here.
    pub(super) fn start_watched(
        mut command: Command,
        what: String,
        take: impl FnMut(&Value) -> bool + Send + 'static,
    ) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let out = Stream::read(child.stdout.take().expect("piped"), take);
        let err = Stream::read(child.stderr.take().expect("piped"), |_| false);
        let stdin = child.stdin.take();
        Self { child, stdin, out, err, what, started: Instant::now() }
    }

    /// Types a line; what reads no more is no concern here.
    pub fn say(&mut self, line: &str) {
        if let Some(stdin) = &mut self.stdin {
            let _ = writeln!(stdin, "{line}");
        }
    }

    /// The other end of its stdin, for a thread to write to.
    ///
    /// # Panics
    /// If it was taken or closed before.
    pub fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().expect("stdin is there")
    }

    /// Ends its stdin.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends it a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        signal(name, &self.pid().to_string());
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Ends it as a power cut does.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Ignored: it may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop, and waits until it has; what it said.
    pub fn stop(self) -> Run {
        self.signal("TERM");
        self.ended()
    }

    /// Gives it this as stdin, to the end, and waits for its own.
    pub fn finish(mut self, stdin: &[u8]) -> Run {
        let mut writer = self.take_stdin();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // Ignored: it may want no more.
                let _ = writer.write_all(stdin);
            });
            self.ended()
        })
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// If it does not within [`PATIENCE`].
    pub fn ended(mut self) -> Run {
        let what = format!("the end of `{}`; it said {}", self.what, self.tail());
        let status = until(PATIENCE, &what, || self.child.try_wait().expect("a child can be waited for"));
        Run { code: status.code(), out: self.out.all(), err: self.err.all(), took: self.started.elapsed() }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_some()
    }

    /// All of stdout so far: when each line was read, and what it is.
    pub fn said(&self) -> Vec<(Instant, Value)> {
        self.out.read.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All of stderr so far.
    pub fn complained(&self) -> Vec<(Instant, Value)> {
        self.err.read.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The messages on stdout so far.
    pub fn messages(&self) -> Vec<Said> {
        let lines = self.out.read.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter_map(|(at, line)| Said::read(*at, line)).collect()
    }

    /// Waits for a line on stdout, from the `from`-th on: its number, when it came, and what it is.
    ///
    /// # Panics
    /// If none comes within [`PATIENCE`].
    pub fn wait_from(
        &self,
        from: usize,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> (usize, Instant, Value) {
        self.out.read.wait(from, wanted).unwrap_or_else(|| {
            panic!("`{}` did not say {what} within {PATIENCE:?}; it said {}", self.what, self.tail())
        })
    }

    /// Waits for a line on stdout, said already or not: when it came, and what it is.
    ///
    /// # Panics
    /// As [`Process::wait_from`].
    pub fn wait(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> (Instant, Value) {
        let (_, at, line) = self.wait_from(0, what, wanted);
        (at, line)
    }

    /// Waits for a line on stderr.
    ///
    /// # Panics
    /// If none comes within [`PATIENCE`].
    pub fn wait_complaint(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> (Instant, Value) {
        let found = self.err.read.wait(0, wanted);
        let (_, at, line) = found
            .unwrap_or_else(|| panic!("`{}` did not complain of {what}; it said {}", self.what, self.tail()));
        (at, line)
    }

    /// Waits until this text has come as a message; when it did.
    ///
    /// # Panics
    /// As [`Process::wait_from`].
    pub fn wait_text(&self, text: &str) -> Instant {
        self.wait(&format!("the message {text:?}"), |line| line["type"] == "message" && line["text"] == text)
            .0
    }

    /// Resident memory, KiB, and processor time so far.
    pub fn used(&self) -> (u64, Duration) {
        let read =
            |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.pid())).unwrap_or_default();
        let status = read("status");
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss = rss.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        let stat = read("stat");
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        // utime and stime are the 14th and 15th fields, in hundredths of a second on Linux.
        let ticks: u64 = after_name.split(' ').skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum();
        (rss, Duration::from_millis(ticks * 10))
    }

    /// How many descriptors it holds open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// The last lines of both streams, for whoever has to find out what went wrong: of messages and
    /// receipts, which come in droves, only the last.
    fn tail(&self) -> String {
        let droves = |line: &Value| line["type"] == "message" || line["type"] == "receipt";
        let (droves, mut rest): (Vec<_>, Vec<_>) =
            self.said().into_iter().partition(|(_, line)| droves(line));
        rest.extend(self.complained());
        let last = rest.iter().skip(rest.len().saturating_sub(12)).chain(droves.last());
        last.map(|(at, line)| format!("\n  {:?} {line}", at.duration_since(self.started))).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

impl Run {
    /// The line on stderr that is the error, with this code.
    ///
    /// # Panics
    /// If there is none.
    pub fn error(&self, code: &str) -> &Value {
        let found = self.err.iter().find(|line| line["type"] == "error" && line["code"] == code);
        found.unwrap_or_else(|| panic!("no error `{code}`: {self:?}"))
    }

    /// Lines of this type on stdout.
    pub fn of_type(&self, kind: &str) -> Vec<&Value> {
        self.out.iter().filter(|line| line["type"] == kind).collect()
    }
}

impl Stream {
    fn read(from: impl Read + Send + 'static, take: impl FnMut(&Value) -> bool + Send + 'static) -> Self {
        let read = Arc::new(Lines::default());
        let thread = std::thread::spawn({
            let read = read.clone();
            move || read.fill(BufReader::with_capacity(1 << 16, from), take)
        });
        Self { read, thread: Some(thread) }
    }

    /// Everything, once the process has ended.
    fn all(&mut self) -> Vec<Value> {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the reader does not panic");
        }
        let mut lines = self.read.lines.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *lines).into_iter().map(|(_, line)| line).collect()
    }
}

impl Lines {
    /// Until the end, all but what is taken. A line that is no JSON becomes a string.
    fn fill(&self, mut from: impl BufRead, mut take: impl FnMut(&Value) -> bool) {
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let value = serde_json::from_slice(&line)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&line).trim_end().to_owned()));
            if !take(&value) {
                self.lines.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), value));
                self.more.notify_all();
            }
            line.clear();
        }
        self.more.notify_all();
    }

    fn wait(&self, from: usize, wanted: impl Fn(&Value) -> bool) -> Option<(usize, Instant, Value)> {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = from;
        loop {
            while let Some((at, line)) = lines.get(seen) {
                if wanted(line) {
                    return Some((seen, *at, line.clone()));
                }
                seen += 1;
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            lines = self.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
