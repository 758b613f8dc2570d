//! `up`: a node in the foreground.

use treecast_node::control::protocol::Line;
use treecast_node::control::{Client, ClientError};
use treecast_node::{Failure, StartError};

use crate::failure::Stop;
use crate::host::{Addresses, builder};
use crate::input::{GroupName, bad_ticket, is_ticket};
use crate::output::Screen;
use crate::service;
use crate::settings::Settings;
use crate::signals::Signals;

pub(super) async fn run(settings: &Settings, screen: &Screen, signals: &Signals) -> Result<u8, Stop> {
    let addresses = Addresses::read(settings)?;
    let mut builder = builder(settings, &addresses).serve_after(settings.serve_after.value);
    for group in groups(settings)? {
        builder = builder.group(group.as_str());
    }
    let node = tokio::select! {
        started = builder.spawn() => match started {
            Ok(node) => node,
            Err(error) => return Err(refused(error).await.into()),
        },
        () = signals.asked() => return Ok(0),
    };
    let told = tell(&node, screen).await;
    let service = told.is_ok().then(|| tokio::spawn(service::accompany(node.clone())));
    if told.is_ok() {
        tokio::select! {
            () = signals.asked() => screen.note("Saying goodbye…"),
            () = node.ended() => {}
            never = tell_removals(&node, screen) => match never {},
        }
    }
    node.shutdown().await;
    if let Some(service) = service {
        // It has told that the node stops, or whom it tells does not listen.
        let _ = tokio::time::timeout(service::LAST_WORD, service).await;
    }
    // Whoever started us may close our stdout once it has read that we are ready.
    match told {
        Err(Stop::PipeClosed) | Ok(()) => Ok(0),
        Err(stop) => Err(stop),
    }
}

/// Says from which groups the node was removed, those of earlier runs included.
async fn tell_removals(node: &treecast_node::Node, screen: &Screen) -> std::convert::Infallible {
    let (mut removed, mut told) = (node.removed_from(), 0);
    loop {
        let groups = removed.borrow_and_update()[told..].to_vec();
        told += groups.len();
        groups.iter().for_each(|group| screen.warn(&removed_from(group)));
        if removed.changed().await.is_err() {
            // The node ends, and that is seen elsewhere.
            std::future::pending().await
        }
    }
}

fn removed_from(group: &str) -> Failure {
    Failure::new(
        "removed",
        0,
        format!("This node was removed from {group}."),
        "Its founder has said so: nobody there takes anything from this node or sends to it any more.",
        format!("Ask the founder; `treecast group leave {group}` takes the group off this node's list."),
    )
}

/// Why the node did not start. One that runs already is of no use if it is stopped.
async fn refused(error: StartError) -> Failure {
    let StartError::AlreadyRunning { data_dir, .. } = &error else { return error.into() };
    match Client::connect(data_dir).await {
        Err(silent @ ClientError::Silent { .. }) => {
            let Failure { why, fix, .. } = Failure::from(silent);
            let already = Failure::from(error);
            Failure { why: format!("{} {why}", already.why), fix, ..already }
        }
        _ => error.into(),
    }
}

/// The groups to be in: those of the flags are checked already, those of the file are not.
fn groups(settings: &Settings) -> Result<Vec<GroupName>, Failure> {
    let read = |name: &String| {
        name.parse().map_err(|why: String| {
            if is_ticket(name) {
                return bad_ticket(&why);
            }
            let place = settings.group.from.detail().unwrap_or_else(|| "--group".to_owned());
            let why = format!("{}.", crate::settings::capital(&why));
            crate::failure::usage(format!("{place}: `{name}` cannot be a group."), why, "Correct it there.")
        })
    };
    settings.group.value.iter().map(read).collect()
}

async fn tell(node: &treecast_node::Node, screen: &Screen) -> Result<(), Stop> {
    let gone = |_| Stop::from(crate::failure::bug("The node ended as soon as it had started."));
    let nick = node.nick().await.map_err(gone)?;
    let addresses = node.addresses().await.map_err(gone)?;
    let addresses = addresses.iter().map(ToString::to_string).collect();
    let metrics = node.metrics().map(|address| address.to_string());
    screen.show(&Line::Ready { node: node.id().to_string(), nick, addresses, metrics })
}
