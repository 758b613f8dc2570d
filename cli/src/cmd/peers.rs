//! `peers`: who is connected.

use treecast_node::control::protocol::{Line, Request};

use crate::args::PeersArgs;
use crate::failure::Stop;
use crate::host;
use crate::output::{PEER_HEAD, Screen, peer_row, table};
use crate::settings::Settings;

pub(super) async fn run(args: PeersArgs, settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    let group = args.group.map(|group| group.as_str().to_owned());
    let mut rows = Vec::new();
    let request = Request::Peers { group };
    let done = host::ask(settings, &request, |_, line| match &line {
        Line::Peer(peer) if !screen.json => {
            rows.push(peer_row(peer));
            Ok(())
        }
        line => screen.show(line),
    });
    let exit = done.await?;
    if rows.is_empty() {
        screen.note("Nobody is connected yet.");
    } else {
        table(&PEER_HEAD, &rows).iter().try_for_each(|line| screen.say(line))?;
    }
    Ok(exit)
}
