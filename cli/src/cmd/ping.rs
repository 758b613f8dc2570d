//! `ping`: the way to a node, measured.

use treecast_node::control::protocol::Request;

use crate::args::PingArgs;
use crate::failure::Stop;
use crate::host;
use crate::output::Screen;
use crate::settings::Settings;

pub(super) async fn run(args: PingArgs, settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    let request = Request::Ping { node: args.node, count: args.count };
    host::ask(settings, &request, |_, line| screen.show(&line)).await
}
