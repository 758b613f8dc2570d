//! `sub`: a group's messages as they come.

use treecast_node::control::Client;
use treecast_node::control::protocol::{Line, Request};
use treecast_node::{Failure, exit};

use crate::alone;
use crate::args::SubArgs;
use crate::failure::Stop;
use crate::follow::Follower;
use crate::host::Host;
use crate::output::Screen;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::stdio::stdout_closed;

pub(super) async fn run(
    args: SubArgs,
    settings: &Settings,
    screen: &Screen,
    signals: &Signals,
) -> Result<u8, Stop> {
    let deadline = args.timeout.map(|timeout| tokio::time::Instant::now() + timeout);
    let host = tokio::select! {
        host = Host::attach_or_start(settings, &args.node, signals) => host?,
        () = signals.asked() => return Ok(0),
    };
    let request = Request::Sub {
        group: args.group.as_str().to_owned(),
        verbose: screen.verbose > 0,
        since: args.since.0,
        tentative: args.tentative,
    };
    let (mut follower, mut seen) = (Follower::new(screen), 0);
    let done = async {
        let client = host.ask(&request).await?;
        tokio::select! {
            done = listen(client, args.count, &mut seen, &mut follower) => done,
            () = signals.asked() => Ok(0),
            () = stdout_closed() => Err(Stop::PipeClosed),
            () = until(deadline) => Ok(exit::TIMEOUT),
            never = alone::watch(settings, &args.group, &host, |alone| screen.warn(&alone)) => match never {},
        }
    };
    let done = done.await;
    host.close().await;
    match (done, args.count) {
        (Ok(exit::TIMEOUT), None) => Ok(0),
        (Ok(exit::TIMEOUT), Some(count)) => Err(too_few(seen, count).into()),
        (done, _) => done,
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn too_few(seen: u64, count: u64) -> Failure {
    Failure::new(
        "timeout",
        exit::TIMEOUT,
        format!("{seen} of {count} messages came in time."),
        "The time of --timeout is over.",
        "Give it more time, or look with `treecast peers` whether anybody is there.",
    )
}

/// Until so many messages were shown, or the node ends it.
async fn listen(
    mut client: Client,
    wanted: Option<u64>,
    seen: &mut u64,
    follower: &mut Follower<'_>,
) -> Result<u8, Stop> {
    while wanted.is_none_or(|wanted| *seen < wanted) {
        let line = client.next().await?;
        if let Some(exit) = follower.take(&line)? {
            return Ok(exit);
        }
        *seen += u64::from(matches!(line, Line::Message(message) if !message.tentative));
    }
    Ok(0)
}
