//! What goes to stdout and stderr, for people or for scripts.

mod clean;
mod color;
mod files;
mod human;
mod layout;
mod tree;

use std::io::{self, IsTerminal, Write};

use serde_json::Value;
use treecast_node::Failure;
use treecast_node::control::protocol::Line;

use crate::failure::{Stop, bug};
use crate::settings::Settings;

pub(crate) use clean::line as clean_line;
pub(crate) use color::{ColorChoice, Style, of_node as style_of, paint};
pub(crate) use files::{ended_texts, file_line, progress_text, short_hash, size_text};
pub(crate) use human::{
    GROUP_HEAD, Names, PEER_HEAD, columns, event, group_row, has_it, new_group_lines, peer_row, terminal_size,
};
pub(crate) use layout::{table, wrap};

/// Where a command writes.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    /// JSON lines instead of text.
    pub(crate) json: bool,
    /// Nothing but results and errors.
    pub(crate) quiet: bool,
    /// How much more to say.
    pub(crate) verbose: u8,
    /// Colours on stdout.
    pub(crate) color: bool,
    /// Stdout is a terminal.
    pub(crate) terminal: bool,
    color_err: bool,
}

impl Screen {
    /// As the settings say.
    pub(crate) fn new(settings: &Settings) -> Self {
        let color = settings.color.value;
        let terminal = io::stdout().is_terminal();
        Self {
            json: settings.json.value,
            quiet: settings.quiet.value,
            verbose: settings.verbose.value,
            color: color.applies(terminal),
            terminal,
            color_err: color.applies(io::stderr().is_terminal()),
        }
    }

    /// For errors found before the settings are known.
    pub(crate) fn early(json: bool) -> Self {
        let color_err = ColorChoice::Auto.applies(io::stderr().is_terminal());
        Self { json, quiet: false, verbose: 0, color: false, terminal: false, color_err }
    }

    /// A line on stdout, at once.
    pub(crate) fn say(&self, text: &str) -> Result<(), Stop> {
        write_line(&mut io::stdout().lock(), text).map_err(stdout_failed)
    }

    /// A JSON object on stdout.
    pub(crate) fn say_json(&self, value: &Value) -> Result<(), Stop> {
        self.say(&value.to_string())
    }

    /// What a node answered: as it is for scripts, laid out for people.
    pub(crate) fn show(&self, line: &Line) -> Result<(), Stop> {
        self.show_with(line, &mut Names::default())
    }

    /// [`Screen::show`], with what is known of the members' names.
    pub(crate) fn show_with(&self, line: &Line, names: &mut Names) -> Result<(), Stop> {
        if self.json {
            let file = match line {
                Line::Message(message) => message.of_file(),
                _ => None,
            };
            let line = file.as_ref().unwrap_or(line);
            return self.say(String::from_utf8_lossy(&line.to_line()).trim_end());
        }
        self.lines(line, names).iter().try_for_each(|text| self.say(text))
    }

    /// The lines that show an answer to people.
    pub(crate) fn lines(&self, line: &Line, names: &mut Names) -> Vec<String> {
        human::render(line, names, self)
    }

    /// Something worth knowing that is no result: to stderr, unless `-q`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet && !self.json {
            let _ = write_line(&mut io::stderr().lock(), &paint(self.color_err, Style::Dim, text));
        }
    }

    /// A three-part warning that ends nothing.
    pub(crate) fn warn(&self, warning: &Failure) {
        if !self.quiet {
            self.tell("warning", warning);
        }
    }

    /// An error, to stderr.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.tell("error", failure);
    }

    fn tell(&self, kind: &str, failure: &Failure) {
        let text = if self.json {
            as_json(kind, failure)
        } else {
            self.three_parts(failure, if kind == "error" { Style::Red } else { Style::Bold })
        };
        let _ = write_line(&mut io::stderr().lock(), &text);
    }

    /// What, why and fix as sentences: the first stands out, each begins its own line.
    pub(crate) fn three_parts(&self, failure: &Failure, style: Style) -> String {
        let what = paint(self.color_err, style, &clean::line(&failure.what));
        let rest = [&failure.why, &failure.fix].into_iter().filter(|part| !part.is_empty());
        let rest = rest.map(|part| format!("  {}", clean::line(part)));
        [what].into_iter().chain(rest).collect::<Vec<_>>().join("\n")
    }
}

/// So many of something.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The object that scripts read, its keys in the order of the documentation.
fn as_json(kind: &str, failure: &Failure) -> String {
    #[derive(serde::Serialize)]
    struct Told<'a> {
        r#type: &'a str,
        code: &'a str,
        what: &'a str,
        // A warning may only tell what happened.
        #[serde(skip_serializing_if = "str::is_empty")]
        why: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        fix: &'a str,
    }
    let Failure { code, what, why, fix, .. } = failure;
    serde_json::to_string(&Told { r#type: kind, code, what, why, fix }).unwrap_or_default()
}

fn write_line(out: &mut impl Write, text: &str) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(text.len() + 1);
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(b'\n');
    out.write_all(&bytes)?;
    out.flush()
}

fn stdout_failed(error: io::Error) -> Stop {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Stop::PipeClosed,
        io::ErrorKind::StorageFull => Stop::Failed(Failure::new(
            "disk-full",
            treecast_node::exit::PARTLY,
            "The output could not be written.",
            "The disk that stdout goes to is full.",
            "Make room there, or send the output elsewhere.",
        )),
        _ => Stop::Failed(bug(format!("Stdout could not be written: {error}."))),
    }
}
