//! `chat`: talk. With line editing on a terminal; lines in, messages out elsewhere.

use std::io::{self, IsTerminal};

use crate::args::ChatArgs;
use crate::chat::{piped, terminal};
use crate::failure::Stop;
use crate::host::Host;
use crate::output::Screen;
use crate::settings::Settings;
use crate::signals::Signals;

pub(super) async fn run(
    args: ChatArgs,
    settings: &Settings,
    screen: &Screen,
    signals: &Signals,
) -> Result<u8, Stop> {
    let host = tokio::select! {
        host = Host::attach_or_start(settings, &args.node, signals) => host?,
        () = signals.asked() => return Ok(0),
    };
    let group = &args.group;
    let done = if io::stdin().is_terminal() && screen.terminal && !screen.json {
        terminal::talk(group, &host, settings, screen, signals).await
    } else {
        piped::talk(group, &host, settings, screen, signals).await
    };
    host.close().await;
    done
}
