//! `group ls|show|leave`: the groups this node is in.

use treecast_node::control::protocol::{Line, Request};

use crate::args::GroupVerb;
use crate::failure::Stop;
use crate::host;
use crate::output::{GROUP_HEAD, Screen, group_row, table};
use crate::settings::Settings;

pub(super) async fn run(verb: GroupVerb, settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    match verb {
        GroupVerb::Ls => list(settings, screen).await,
        GroupVerb::Show(arg) => {
            let request = Request::GroupShow { group: arg.group.to_string() };
            host::ask(settings, &request, |_, line| screen.show(&line)).await
        }
        GroupVerb::Leave(arg) => {
            let request = Request::GroupLeave { group: arg.group.to_string() };
            let exit = host::ask(
                settings,
                &request,
                |_, line| if screen.json { screen.show(&line) } else { Ok(()) },
            );
            let exit = exit.await?;
            screen.note(&format!("Left {}.", arg.group));
            Ok(exit)
        }
    }
}

async fn list(settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    let mut rows = Vec::new();
    let done = host::ask(settings, &Request::GroupLs, |_, line| match &line {
        Line::Group(group) if !screen.json => {
            rows.push(group_row(group));
            Ok(())
        }
        line => screen.show(line),
    });
    let exit = done.await?;
    if rows.is_empty() {
        screen.note("This node is in no group. `treecast chat lobby` enters one.");
    } else {
        table(&GROUP_HEAD, &rows).iter().try_for_each(|line| screen.say(line))?;
    }
    Ok(exit)
}
