//! `status`: how the running node is.

use treecast_node::control::protocol::Request;

use crate::failure::Stop;
use crate::host;
use crate::output::Screen;
use crate::settings::Settings;

pub(super) async fn run(settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    host::ask(settings, &Request::Status, |_, line| screen.show(&line)).await
}
