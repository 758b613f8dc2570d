//! `tree`: this node's place in a group's trees.

use treecast_node::control::protocol::{Line, Request};

use crate::args::TreeArgs;
use crate::failure::{Stop, interrupted};
use crate::host;
use crate::output::{Names, Screen};
use crate::settings::Settings;
use crate::signals::Signals;
use crate::stdio::stdout_closed;

pub(super) async fn run(
    args: TreeArgs,
    settings: &Settings,
    screen: &Screen,
    signals: &Signals,
) -> Result<u8, Stop> {
    let watch = args.watch;
    let request = Request::Tree { group: args.group.as_str().to_owned(), watch };
    let mut round = Vec::new();
    let shown = host::ask(settings, &request, |me, line| match line {
        Line::TreeEnd { .. } => show_round(me, &std::mem::take(&mut round), watch, screen),
        line if screen.json => screen.show(&line),
        line => {
            round.push(line);
            Ok(())
        }
    });
    tokio::select! {
        done = shown => done,
        () = signals.asked(), if watch => Ok(0),
        () = signals.asked() => Err(interrupted("The command was interrupted.", "Type it again, and let it end.").into()),
        () = stdout_closed() => Err(Stop::PipeClosed),
    }
}

/// Draws all trees of one moment; when watching on a terminal, over the ones before.
fn show_round(me: &str, trees: &[Line], watch: bool, screen: &Screen) -> Result<(), Stop> {
    if screen.json {
        return Ok(());
    }
    if watch && screen.terminal {
        screen.say("\u{1b}[H\u{1b}[2J\u{1b}[A")?;
    }
    if trees.is_empty() {
        screen.note("This node has no place in a tree of this group yet.");
    }
    let mut names = Names::of(me);
    trees.iter().try_for_each(|tree| screen.show_with(tree, &mut names))
}
