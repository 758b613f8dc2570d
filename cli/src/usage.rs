//! What clap says of a command line, in treecast's own way.

use std::ffi::OsString;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use treecast_node::Failure;

use crate::args::Typed;
use crate::failure::usage;
use crate::input::{bad_ticket, is_ticket};
use crate::settings::capital;

/// Whether the person asked for help or the version instead.
pub(crate) fn is_answer(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
}

/// The three parts of a usage error.
pub(crate) fn failure(error: &clap::Error, words: &[OsString]) -> Failure {
    let text = error.render().to_string();
    let command = command(words);
    match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            usage("A command is missing.", "treecast does one thing at a time.", fix(&[], &command))
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => bad_value(error, &command),
        _ => other(error, &text, &command),
    }
}

/// A value that cannot be used, and why.
fn bad_value(error: &clap::Error, command: &str) -> Failure {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let (arg, value) = (context(ContextKind::InvalidArg), context(ContextKind::InvalidValue));
    let takes_tickets = arg.contains("GROUP");
    if let Some(inner) = std::error::Error::source(error).filter(|_| takes_tickets && is_ticket(&value)) {
        return bad_ticket(&inner.to_string());
    }
    let value = shortened(&value);
    // `--wait <sent|N|all>` → `--wait`; `<GROUP>` → `GROUP`
    let arg =
        arg.split_whitespace().next().unwrap_or_default().trim_matches(['<', '>', '[', ']', '.']).to_owned();
    let what = match value.is_empty() {
        true => format!("{arg} needs a value."),
        false => format!("`{value}` cannot be used for {arg}."),
    };
    let names = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(names)) if !names.is_empty() => {
            Some(format!("It can be {}.", names.join(", ")))
        }
        _ => None,
    };
    let inner = std::error::Error::source(error).map(|inner| sentence(&number(&inner.to_string())));
    usage(
        what,
        names.or(inner).unwrap_or_else(|| "It is not what is expected there.".to_owned()),
        fix(&[], command),
    )
}

/// What the standard library and clap say of numbers, in words for people.
fn number(why: &str) -> String {
    match why {
        "invalid digit found in string" => "a whole number is expected, not below 0".to_owned(),
        "number too large to fit in target type" => "that is too large".to_owned(),
        "invalid float literal" => "a number is expected, 0.5 say".to_owned(),
        other => other.replace("is not in 1..=4294967295", "is not a whole number from 1 to 4294967295"),
    }
}

/// A long value by its beginning: whoever typed or pasted it knows the rest.
fn shortened(value: &str) -> String {
    match value.char_indices().nth(48) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

fn other(error: &clap::Error, text: &str, command: &str) -> Failure {
    let text = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
    let mut parts = text.split("\n\n");
    let what = sentence(parts.next().unwrap_or("The command line cannot be read"));
    let tips: Vec<String> = parts.flat_map(str::lines).filter_map(tip).collect();
    let why = match error.kind() {
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => "There is no such thing.",
        ErrorKind::MissingRequiredArgument => "Without it, there is nothing to do.",
        ErrorKind::ArgumentConflict => "They exclude each other.",
        _ => "That is not how it is typed.",
    };
    usage(what, why, fix(&tips, command))
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

/// The tips, and how to learn more.
fn fix(tips: &[String], command: &str) -> String {
    let more = format!("`{command} --help` shows how it is typed.");
    tips.iter().cloned().chain([more]).collect::<Vec<_>>().join(" ")
}

/// The command that was typed, as far as there is one: `treecast group create`.
fn command(words: &[OsString]) -> String {
    let all = Typed::command();
    let mut path = vec![all.get_name()];
    let (mut verbs, mut words) = (&all, words.iter().skip(1).filter_map(|word| word.to_str()));
    while let Some(word) = words.next() {
        if matches!(word, "--data-dir" | "--config" | "--color") {
            words.next();
        } else if let Some(verb) = verbs.find_subcommand(word) {
            path.push(verb.get_name());
            verbs = verb;
        } else if !word.starts_with('-') {
            break;
        }
    }
    path.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_found_among_flags_and_values() {
        for (typed, expected) in [
            ("treecast", "treecast"),
            ("treecast nonsense sim", "treecast"),
            ("treecast sim --loss 7", "treecast sim"),
            ("treecast --json --data-dir up sim --loss 7", "treecast sim"),
            ("treecast group -v create status --order x", "treecast group create"),
            ("treecast pub status -- sub", "treecast pub"),
        ] {
            let words: Vec<OsString> = typed.split(' ').map(OsString::from).collect();
            assert_eq!(command(&words), expected, "{typed}");
        }
    }
}
