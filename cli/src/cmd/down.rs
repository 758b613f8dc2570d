//! `down`: stops the node, and ends once it has ended.

use std::path::Path;
use std::time::Duration;

use treecast_node::control::protocol::Request;
use treecast_node::{Failure, exit};

use crate::failure::Stop;
use crate::host;
use crate::output::Screen;
use crate::settings::Settings;

/// How long the node may take to end after its goodbyes.
const ENDING: Duration = Duration::from_secs(10);

pub(super) async fn run(settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    let answered = host::ask(settings, &Request::Down, |_, _| Ok(())).await;
    match answered {
        // A node that is gone before it has said so is what was wanted.
        Err(Stop::Failed(failure)) if failure.code == "node-gone" => {}
        Err(stop) => return Err(stop),
        Ok(_) => {}
    }
    if !treecast_node::wait_released(&settings.data_dir.value, ENDING).await {
        return Err(still_running(&settings.data_dir.value).into());
    }
    screen.note("The node has ended.");
    Ok(0)
}

fn still_running(data_dir: &Path) -> Failure {
    let pid = treecast_node::holder(data_dir).ok().flatten().flatten();
    let (who, pid) =
        pid.map_or(("It".to_owned(), "PID".to_owned()), |pid| (format!("Process {pid}"), pid.to_string()));
    Failure::new(
        "still-running",
        exit::TIMEOUT,
        "The node has not ended yet.",
        format!("{who} was asked to, and still holds the data directory after {} s.", ENDING.as_secs()),
        format!("Look at its output; if nothing moves there, end it with `kill -9 {pid}`."),
    )
}
