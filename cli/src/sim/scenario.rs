//! A scenario: a TOML file with the options under the names of their flags.

use std::path::Path;

use clap::Parser;
use clap::error::ContextKind;
use treecast_node::Failure;

use super::SimFlags;
use crate::failure::usage;

/// A file read as if it had been typed.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct File {
    #[command(flatten)]
    flags: SimFlags,
}

/// Reads the file.
pub(crate) fn read(path: &Path) -> Result<SimFlags, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let what = format!("The scenario {} cannot be read.", path.display());
        usage(what, format!("{error}."), "Give the path of a TOML file that you may read.")
    })?;
    parse(&text).map_err(|why| {
        let what = format!("The scenario {} cannot be used.", path.display());
        usage(what, why, "Its keys are the flags' names, as in `nodes = 1000` or `kill = \"30@20\"`.")
    })
}

fn parse(text: &str) -> Result<SimFlags, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        format!("Line {line} is no TOML: {}.", error.message())
    })?;
    let words = table.iter().map(|(key, value)| word(key, value)).collect::<Result<Vec<_>, _>>()?;
    File::try_parse_from(words).map(|file| file.flags).map_err(|error| complaint(&error))
}

fn word(key: &str, value: &toml::Value) -> Result<String, String> {
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(yes) => yes.to_string(),
        _ => return Err(format!("`{key}` is neither a number nor a text nor true or false.")),
    };
    Ok(format!("--{key}={text}"))
}

/// What clap says, by the key instead of the flag.
fn complaint(error: &clap::Error) -> String {
    let context = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    let arg = context(ContextKind::InvalidArg);
    let key = arg.split([' ', '=', '[']).next().unwrap_or_default().trim_start_matches('-');
    let value = context(ContextKind::InvalidValue);
    if value.is_empty() {
        return format!("It has `{key}`, which is no option of a simulation.");
    }
    let why = std::error::Error::source(error).map_or(String::new(), |why| format!(": {why}"));
    format!("`{key}` is `{value}`{why}.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::flags::Network;

    #[test]
    fn a_file_says_what_could_be_typed() {
        let text =
            "nodes = 1000\nnoise = 0\nrate = 2.5\nkill = \"30@20\"\ndatagram = true\nnetwork = \"lan\"\n";
        let flags = parse(text).expect("good");
        let expected = SimFlags {
            nodes: Some(1_000),
            noise: Some(0.0),
            rate: Some(2.5),
            kill: "30@20".parse().ok(),
            datagram: Some(true),
            network: Some(Network::Lan),
            ..SimFlags::default()
        };
        assert_eq!(flags, expected);
        let typed = SimFlags { nodes: Some(5), ..SimFlags::default() };
        let both = typed.or(flags);
        assert_eq!((both.nodes, both.rate), (Some(5), Some(2.5)), "flags win");
        assert_eq!(parse("datagram = false").map(|it| it.datagram), Ok(Some(false)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("nodez = 3", "`nodez`"),
            ("nodes = \"many\"", "`nodes` is `many`"),
            ("nodes = -3", "`nodes` is `-3`"),
            ("kill = 30", "`kill` is `30`"),
            ("nodes = [1]", "`nodes` is neither"),
            ("a = 1\nb = = 2\n", "Line 2"),
        ] {
            let why = parse(text).expect_err(text);
            assert!(why.contains(named), "{text}: {why}");
        }
    }
}
