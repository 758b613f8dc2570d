//! `man`: the manual page, all commands in one.

use std::io;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::args::Typed;
use crate::failure::{Stop, bug};
use crate::output::Screen;

pub(super) fn run(screen: &Screen) -> Result<u8, Stop> {
    let page = page().map_err(|error| bug(format!("The manual page cannot be written: {error}.")))?;
    if screen.json {
        screen.say_json(&serde_json::json!({"type": "man", "text": page}))?;
    } else {
        screen.say(page.trim_end())?;
    }
    Ok(0)
}

fn page() -> io::Result<String> {
    let mut command = Typed::command();
    command.build();
    let mut text = Vec::new();
    Man::new(command.clone()).render(&mut text)?;
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        if verb.has_subcommands() {
            let mut inner = verb.get_subcommands().filter(|inner| inner.get_name() != "help");
            inner.try_for_each(|inner| section(inner, &mut text))?;
        } else {
            section(verb, &mut text)?;
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A command's own section: what would be sections of a page of its own, one level lower.
fn section(command: &Command, text: &mut Vec<u8>) -> io::Result<()> {
    let title = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let global = command.get_arguments().filter(|arg| arg.is_global_set()).map(|arg| arg.get_id().clone());
    let global: Vec<_> = global.collect();
    let command =
        global.into_iter().fold(command.clone(), |command, id| command.mut_arg(id, |arg| arg.hide(true)));
    let man = Man::new(command.display_name(title.clone()));
    let mut part = Vec::new();
    man.render_synopsis_section(&mut part)?;
    man.render_description_section(&mut part)?;
    man.render_options_section(&mut part)?;
    man.render_extra_section(&mut part)?;
    text.extend_from_slice(format!(".SH \"{}\"\n", title.to_uppercase()).as_bytes());
    text.extend_from_slice(String::from_utf8_lossy(&part).replace(".SH ", ".SS ").as_bytes());
    Ok(())
}
