//! `treecast`: talk on your own network, from the command line.

mod alone;
mod args;
mod bench;
mod chat;
mod cmd;
mod doctor;
mod failure;
mod feed;
mod follow;
mod host;
mod input;
mod logs;
mod output;
mod service;
mod settings;
mod signals;
mod sim;
mod stdio;
mod usage;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use treecast_node::{Failure, exit};

use crate::args::Typed;
use crate::failure::{Stop, bug};
use crate::input::GroupName;
use crate::output::Screen;
use crate::settings::Settings;

/// A node moves many small buffers between tasks, and a simulator holds thousands of nodes: an
/// eighth of the simulator's time is saved.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long background work may take to end when the command is done.
const WINDING_DOWN: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let typed: Vec<OsString> = std::env::args_os().collect();
    let early = Screen::early(wants_json(&typed));
    // A panic is a bug, and bugs have their own exit code.
    let code = std::panic::catch_unwind(|| run(&typed, &early)).unwrap_or(exit::BUG);
    ExitCode::from(code)
}

/// Whether errors are to be JSON, however wrong the rest of the command line is.
fn wants_json(typed: &[OsString]) -> bool {
    let words: Vec<&str> = typed.iter().skip(1).map_while(|word| word.to_str()).collect();
    let words = words.split(|word| *word == "--").next().unwrap_or_default();
    let config = words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix("--config")? {
        "" => words.get(at + 1).copied(),
        value => value.strip_prefix('='),
    });
    words.contains(&"--json") || settings::json_untyped(config.map(PathBuf::from))
}

fn run(words: &[OsString], early: &Screen) -> u8 {
    let mut typed = match Typed::try_parse_from(words) {
        Ok(typed) => typed,
        Err(error) => return answer_or_refuse(&error, words, early),
    };
    if let Err(failure) = read_ticket(&mut typed) {
        early.failure(&failure);
        return failure.exit;
    }
    let settings = match Settings::resolve(&typed.global, &cmd::local_flags(&typed.verb)) {
        Ok(settings) => settings,
        Err(failure) => {
            early.failure(&failure);
            return failure.exit;
        }
    };
    logs::start(&settings, &typed.verb);
    let screen = Screen::new(&settings);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            early.failure(&bug(format!("No threads can be started: {error}.")));
            return exit::BUG;
        }
    };
    let done = runtime.block_on(cmd::run(typed, &settings, &screen));
    runtime.shutdown_timeout(WINDING_DOWN);
    match done {
        Ok(code) => code,
        Err(Stop::PipeClosed) => 0,
        Err(Stop::Failed(failure)) => {
            screen.failure(&failure);
            failure.exit
        }
    }
}

/// Puts the ticket on stdin where `-` was typed.
fn read_ticket(typed: &mut Typed) -> Result<(), Failure> {
    for group in typed.verb.groups_mut() {
        if group.is_on_stdin() {
            *group = GroupName::read(&mut std::io::stdin().lock())?;
        }
    }
    Ok(())
}

/// Help and version are answers; the rest are errors.
fn answer_or_refuse(error: &clap::Error, words: &[OsString], early: &Screen) -> u8 {
    if usage::is_answer(error) {
        // Ignored: whoever closed the pipe has read enough.
        let _ = error.print();
        return 0;
    }
    let failure = usage::failure(error, words);
    early.failure(&failure);
    failure.exit
}
