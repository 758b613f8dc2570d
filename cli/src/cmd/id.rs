//! `id` and `nick`: who this node is, and what it calls itself.

use treecast_node::control::protocol::Request;

use crate::args::NickArgs;
use crate::failure::Stop;
use crate::host;
use crate::output::Screen;
use crate::settings::Settings;

pub(super) async fn show(settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    host::ask(settings, &Request::Id, |_, line| screen.show(&line)).await
}

pub(super) async fn rename(args: NickArgs, settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    host::ask(settings, &Request::Nick { name: args.name }, |_, line| screen.show(&line)).await
}
