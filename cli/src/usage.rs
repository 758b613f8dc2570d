//! What clap says of a command line, in treecast's own way.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use treecast_node::Failure;

use crate::failure::usage;
use crate::settings::capital;

/// Whether the person asked for help or the version instead.
pub(crate) fn is_answer(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
}

/// The three parts of a usage error.
pub(crate) fn failure(error: &clap::Error) -> Failure {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        || error.kind() == ErrorKind::MissingSubcommand
    {
        return usage("A command is missing.", "treecast does one thing at a time.", "`treecast --help` lists the commands.");
    }
    let text = error.render().to_string();
    let text = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
    let mut parts = text.split("\n\n");
    let what = sentence(parts.next().unwrap_or("The command line cannot be read"));
    let tips: Vec<String> = parts.flat_map(str::lines).filter_map(tip).collect();
    usage(what, why(error), fix(&tips, text))
}

/// One line that ends as a sentence.
fn sentence(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = capital(line.trim_end_matches(['.', ':']));
    format!("{line}.")
}

fn tip(line: &str) -> Option<String> {
    line.trim().strip_prefix("tip: ").map(sentence)
}

fn why(error: &clap::Error) -> String {
    match error.kind() {
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => "There is no such thing.".to_owned(),
        ErrorKind::MissingRequiredArgument => "Without it, there is nothing to do.".to_owned(),
        ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(names)) if !names.is_empty() => format!("It can be {}.", names.join(", ")),
            _ => "The value cannot be used.".to_owned(),
        },
        ErrorKind::ArgumentConflict => "They exclude each other.".to_owned(),
        _ => "The value cannot be used.".to_owned(),
    }
}

/// The tips, and how to learn more.
fn fix(tips: &[String], text: &str) -> String {
    let usage = text.lines().find_map(|line| line.trim().strip_prefix("Usage: "));
    let words = usage.map(|usage| usage.split_whitespace().take_while(|word| word.starts_with(char::is_lowercase)));
    let command = words.map_or("treecast".to_owned(), |words| words.collect::<Vec<_>>().join(" "));
    let more = format!("`{command} --help` shows how it is typed.");
    tips.iter().cloned().chain([more]).collect::<Vec<_>>().join(" ")
}
