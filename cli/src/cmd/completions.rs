//! `completions`: what makes a shell complete treecast's commands.

use clap::CommandFactory;

use crate::args::{CompletionsArgs, Typed};
use crate::failure::Stop;
use crate::output::Screen;

pub(super) fn run(args: &CompletionsArgs, screen: &Screen) -> Result<u8, Stop> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Typed::command(), "treecast", &mut text);
    let text = String::from_utf8_lossy(&text);
    if screen.json {
        let line = serde_json::json!({"type": "completions", "shell": args.shell.to_string(), "text": text});
        screen.say_json(&line)?;
    } else {
        screen.say(text.trim_end())?;
    }
    Ok(0)
}
