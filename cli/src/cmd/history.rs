//! `history` and `search`: what is kept.

use treecast_node::control::protocol::{Line, Request};

use crate::args::{HistoryArgs, SearchArgs};
use crate::failure::{Stop, interrupted};
use crate::host;
use crate::output::{Names, Screen};
use crate::settings::Settings;
use crate::signals::Signals;
use crate::stdio::stdout_closed;

pub(super) async fn run(
    args: &HistoryArgs,
    settings: &Settings,
    screen: &Screen,
    signals: &Signals,
) -> Result<u8, Stop> {
    let (group, since) = (args.group.as_str().to_owned(), Some(args.since.0));
    let shown =
        show(Request::History { group, limit: args.limit, since, before: None }, settings, screen, signals)
            .await?;
    if shown.messages == 0 {
        screen.note("Nothing is kept of that.");
    }
    Ok(shown.exit)
}

pub(super) async fn search(
    args: &SearchArgs,
    settings: &Settings,
    screen: &Screen,
    signals: &Signals,
) -> Result<u8, Stop> {
    let group = args.group.as_ref().map(|group| group.as_str().to_owned());
    let shown =
        show(Request::Search { query: args.query.join(" "), group }, settings, screen, signals).await?;
    if shown.messages == 0 {
        screen.note("No message that is kept has all these words.");
    }
    Ok(shown.exit)
}

struct Shown {
    messages: u64,
    exit: u8,
}

/// Prints all messages of the answer.
async fn show(
    request: Request,
    settings: &Settings,
    screen: &Screen,
    signals: &Signals,
) -> Result<Shown, Stop> {
    let (mut names, mut messages) = (Names::default(), 0);
    let telling = host::ask(settings, &request, |_, line| {
        messages += u64::from(matches!(line, Line::Message(_)));
        screen.show_with(&line, &mut names)
    });
    let exit = tokio::select! {
        done = telling => done?,
        () = signals.asked() => return Err(interrupted("The command was interrupted.", "Type it again, and let it end.").into()),
        () = stdout_closed() => return Err(Stop::PipeClosed),
    };
    Ok(Shown { messages, exit })
}
