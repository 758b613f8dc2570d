//! The line at the bottom of the terminal: editing, history, and printing above it.

use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustyline::error::ReadlineError;
use rustyline::{
    Cmd, ConditionalEventHandler, Config, DefaultEditor, Event, EventContext, EventHandler, ExternalPrinter,
    KeyEvent, RepeatCount,
};
use tokio::sync::mpsc;

use super::past::Key;
use super::rows::{Rows, Spot};
use crate::output::terminal_size;

/// Lines kept for the arrow keys.
const HISTORY: usize = 1_000;

/// Messages printed at once when many come.
const AT_ONCE: usize = 256;

/// What a person did.
#[derive(Debug)]
pub(super) enum Entry {
    /// Typed a line, and where it stands.
    Line(String, Spot),
    /// Wants to go (Ctrl-C, Ctrl-D).
    Quit,
}

/// What is printed above the prompt.
enum Print {
    Line(String),
    /// One that a mark is put beside now, and another later.
    Open(Key, String, Beside),
    /// The last mark beside such a line.
    Close(Key, Beside),
    /// Beside a line that stands there: as painted, and its columns.
    Mark(Spot, String, usize),
}

/// A mark as painted, and its columns.
pub(super) type Beside = (String, usize);

/// Lines with a mark that is to change, at most; of older ones it stays. Guess: more than a terminal shows.
const MAX_OPEN: usize = 256;

/// Shared by those who write on the terminal.
type SharedRows = Arc<Mutex<Rows>>;

/// The prompt: as text, and as painted.
pub(super) type Prompt = (String, String);

/// The editor, on a thread of its own.
pub(super) struct Editor {
    /// What is typed.
    pub(super) entries: mpsc::Receiver<Entry>,
    prompt: Arc<Mutex<Prompt>>,
    go_on: std_mpsc::Sender<()>,
    print: Option<std_mpsc::Sender<Print>>,
    printing: Option<JoinHandle<()>>,
    terminal: Saved,
}

impl Editor {
    /// Starts it; history is read from and kept in `history` (mode 0600).
    pub(super) fn start(history: PathBuf, prompt: Prompt) -> rustyline::Result<Self> {
        let terminal = Saved::take();
        let config = Config::builder().max_history_size(HISTORY)?.history_ignore_dups(true)?.build();
        let mut editor = DefaultEditor::with_config(config)?;
        let printer = editor.create_external_printer()?;
        let rows = SharedRows::default();
        watch_keys(&mut editor, &rows);
        let prompt = Arc::new(Mutex::new(prompt));
        let (tell, entries) = mpsc::channel(16);
        let (print, lines) = std_mpsc::channel();
        let (go_on, next) = std_mpsc::channel();
        let (shown, typed) = (Arc::clone(&prompt), Arc::clone(&rows));
        std::thread::spawn(move || edit(editor, &history, (&shown, &typed), &tell, &next));
        let printing = std::thread::spawn(move || print_all(&lines, &rows, printer));
        Ok(Self { entries, prompt, go_on, print: Some(print), printing: Some(printing), terminal })
    }

    /// Prints a line above the prompt.
    pub(super) fn print(&self, line: String) {
        self.hand_over(Print::Line(line));
    }

    /// Prints a line with a mark beside it, which [`close`](Self::close) changes.
    pub(super) fn open(&self, key: Key, line: String, mark: Beside) {
        self.hand_over(Print::Open(key, line, mark));
    }

    /// Changes the mark beside a line for good, if that can still be seen.
    pub(super) fn close(&self, key: Key, mark: Beside) {
        self.hand_over(Print::Close(key, mark));
    }

    /// Puts a mark beside a line, if that can still be seen; its columns are given, as it may be painted.
    pub(super) fn mark(&self, spot: Spot, mark: String, width: usize) {
        self.hand_over(Print::Mark(spot, mark, width));
    }

    fn hand_over(&self, what: Print) {
        if let Some(print) = &self.print {
            // Ignored: the thread ends only with us.
            let _ = print.send(what);
        }
    }

    /// An entry was seen to: the next may be typed.
    pub(super) fn go_on(&self) {
        // Ignored: the thread has ended if the person is going.
        let _ = self.go_on.send(());
    }

    /// The prompt from the next line on.
    pub(super) fn set_prompt(&self, prompt: Prompt) {
        *self.prompt.lock().unwrap_or_else(PoisonError::into_inner) = prompt;
    }

    /// Ends after [`Entry::Quit`]: prints what is left.
    pub(super) fn finish(mut self) {
        self.print = None;
        if let Some(printing) = self.printing.take() {
            // Ignored: a panic there is shown already.
            let _ = printing.join();
        }
    }

    /// Ends while a line is being typed: gives the terminal back as it was.
    pub(super) fn abandon(self) {
        self.terminal.give_back();
    }
}

/// Keys that wipe the screen, or let others write on it: what stood there is not where it was.
struct Wipes(SharedRows);

impl ConditionalEventHandler for Wipes {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, _: &EventContext<'_>) -> Option<Cmd> {
        now(&self.0).forget();
        None
    }
}

fn watch_keys(editor: &mut DefaultEditor, rows: &SharedRows) {
    for key in ['L', 'Z'] {
        let wipes = Box::new(Wipes(Arc::clone(rows)));
        editor.bind_sequence(KeyEvent::ctrl(key), EventHandler::Conditional(wipes));
    }
}

fn edit(
    mut editor: DefaultEditor,
    history: &PathBuf,
    (prompt, rows): (&Mutex<Prompt>, &Mutex<Rows>),
    tell: &mpsc::Sender<Entry>,
    next: &std_mpsc::Receiver<()>,
) {
    // Ignored, here and below: a chat without its history is still a chat.
    let _ = editor.load_history(history);
    loop {
        let prompt = prompt.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let entry = match editor.readline(&prompt) {
            Ok(line) => {
                let spot = now(rows).on_typed(&prompt.0, &line);
                if line.trim().is_empty() {
                    continue;
                }
                let _ = editor.add_history_entry(&line);
                let _ = editor.append_history(history);
                Entry::Line(line, spot)
            }
            Err(ReadlineError::Signal(_)) => {
                now(rows).forget();
                continue;
            }
            Err(_) => Entry::Quit,
        };
        let last = matches!(entry, Entry::Quit);
        if tell.blocking_send(entry).is_err() || last || next.recv().is_err() {
            return;
        }
    }
}

/// The rows, as the terminal is now.
fn now(rows: &Mutex<Rows>) -> std::sync::MutexGuard<'_, Rows> {
    let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
    let (columns, lines) = terminal_size();
    rows.resize(columns, lines);
    rows
}

fn print_all(lines: &std_mpsc::Receiver<Print>, rows: &Mutex<Rows>, mut printer: impl ExternalPrinter) {
    let mut open: VecDeque<(Key, Spot)> = VecDeque::new();
    while let Ok(first) = lines.recv() {
        let mut text = String::new();
        let mut rows = now(rows);
        for what in std::iter::once(first).chain(lines.try_iter().take(AT_ONCE)) {
            match what {
                Print::Line(line) => {
                    let _ = rows.on_printed(&line);
                    text.push_str(&line);
                }
                Print::Open(key, line, (mark, width)) => {
                    open.push_back((key, rows.on_printed(&line)));
                    open.drain(..open.len().saturating_sub(MAX_OPEN));
                    text.push_str(&line);
                    let spot = open.back().map(|it| it.1);
                    if let Some(mark) = spot.and_then(|spot| rows.mark(spot, &mark, width)) {
                        text.extend(["\n", &mark]);
                    }
                }
                Print::Close(key, (mark, width)) => {
                    let at = open.iter().position(|it| it.0 == key);
                    let spot = at.and_then(|at| open.remove(at)).map(|it| it.1);
                    match spot.and_then(|spot| rows.mark(spot, &mark, width)) {
                        Some(mark) => text.push_str(&mark),
                        None => continue,
                    }
                }
                Print::Mark(spot, mark, width) => match rows.mark(spot, &mark, width) {
                    Some(mark) => text.push_str(&mark),
                    None => continue,
                },
            }
            text.push('\n');
        }
        drop(rows);
        if text.is_empty() {
            continue;
        }
        if printer.print(text).is_err() {
            return;
        }
    }
}

/// The terminal's mode before we touched it.
struct Saved {
    #[cfg(unix)]
    mode: Option<nix::sys::termios::Termios>,
}

impl Saved {
    #[cfg(unix)]
    fn take() -> Self {
        Self { mode: nix::sys::termios::tcgetattr(std::io::stdin()).ok() }
    }

    #[cfg(unix)]
    fn give_back(self) {
        use nix::sys::termios::{SetArg, tcsetattr};
        let mut out = std::io::stdout();
        // Bracketed paste off, which the editor had switched on; then a fresh line.
        let _ = out.write_all(b"\x1b[?2004l\r\n");
        let _ = out.flush();
        if let Some(mode) = self.mode {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &mode);
        }
    }

    #[cfg(not(unix))]
    fn take() -> Self {
        Self {}
    }

    #[cfg(not(unix))]
    fn give_back(self) {
        let _ = std::io::stdout().write_all(b"\r\n");
    }
}
