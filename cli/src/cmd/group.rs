//! `group create|join|ls|show|leave|remove|recover`, `invite`: the groups this node is in.

use treecast_node::Order;
use treecast_node::control::protocol::{CreateGroup, GroupLine, Line, Request};

use crate::args::{CreateArgs, GroupArg, GroupVerb, RemoveArgs};
use crate::failure::{Stop, usage};
use crate::host;
use crate::input::{Committee, retain};
use crate::output::{GROUP_HEAD, Screen, clean_line, group_row, new_group_lines, table};
use crate::settings::Settings;

pub(super) async fn run(verb: GroupVerb, settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    match verb {
        GroupVerb::Create(args) => create(args, settings, screen).await,
        GroupVerb::Join(arg) => join(&arg, settings, screen).await,
        GroupVerb::Ls => list(settings, screen).await,
        GroupVerb::Show(arg) => {
            let request = Request::GroupShow { group: arg.group.as_str().to_owned() };
            host::ask(settings, &request, |_, line| screen.show(&line)).await
        }
        GroupVerb::Remove(args) => remove(&args, settings, screen).await,
        GroupVerb::Recover(arg) => recover(&arg, settings, screen).await,
        GroupVerb::Leave(arg) => {
            let request = Request::GroupLeave { group: arg.group.as_str().to_owned() };
            let mut left = arg.group.to_string();
            let exit = ask_group(settings, &request, screen, |group| {
                left.clone_from(&group.name);
                Ok(())
            });
            let exit = exit.await?;
            screen.note(&format!("Left {}.", clean_line(&left)));
            Ok(exit)
        }
    }
}

/// Asks for a group: as it is for scripts, `show`n for people.
async fn ask_group(
    settings: &Settings,
    request: &Request,
    screen: &Screen,
    mut show: impl FnMut(&GroupLine) -> Result<(), Stop>,
) -> Result<u8, Stop> {
    let take = |_: &str, line| match &line {
        Line::Group(group) if !screen.json => show(group),
        line => screen.show(line),
    };
    host::ask(settings, request, take).await
}

async fn create(args: CreateArgs, settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    if args.committee == Committee::Named && args.order != Order::Total {
        return Err(usage(
            "The group was not created.",
            "A committee agrees on a total order, and this group is to have none.",
            "Leave --committee out, or choose --order total.",
        )
        .into());
    }
    let request = Request::GroupCreate(CreateGroup {
        name: args.name.as_str().to_owned(),
        order: Some(args.order.to_string()),
        route: Some(args.route.to_string()),
        retain: retain(&args.retain)?,
        committee: Some(args.committee.to_string()),
        members: args.members.iter().map(|node| node.trim().to_owned()).collect(),
    });
    let show = |group: &GroupLine| {
        if group.name != args.name.as_str() {
            screen.note(&taken(args.name.as_str(), &group.name));
        }
        new_group_lines(group, screen).iter().try_for_each(|line| screen.say(line))
    };
    ask_group(settings, &request, screen, show).await
}

/// That a group is not called as it is named.
fn taken(name: &str, label: &str) -> String {
    let (name, label) = (clean_line(name), clean_line(label));
    format!("Another group is called {name} on this node: this one is called {label} here.")
}

async fn join(arg: &GroupArg, settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    let request = Request::GroupJoin { group: arg.group.as_str().to_owned() };
    let show = |group: &GroupLine| {
        let name = arg.group.to_string();
        if group.name.strip_prefix(&name).is_some_and(|rest| rest.starts_with('~')) {
            screen.note(&taken(&name, &group.name));
        }
        screen.say(&format!("Joined {}.", clean_line(&group.name)))
    };
    ask_group(settings, &request, screen, show).await
}

async fn remove(args: &RemoveArgs, settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    let (group, node) = (args.group.as_str().to_owned(), args.node.trim().to_owned());
    let request = Request::GroupRemove { group, node };
    ask_group(settings, &request, screen, |group| {
        let (who, name) = (clean_line(args.node.trim()).into_owned(), clean_line(&group.name));
        screen.say(&format!("Removed {who} from {name}. Members hear of it as they are reached."))
    })
    .await
}

async fn recover(arg: &GroupArg, settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    let request = Request::GroupRecover { group: arg.group.as_str().to_owned() };
    let show = |group: &GroupLine| {
        let name = arg.group.to_string();
        screen.note(&taken(&name, &group.name));
        new_group_lines(group, screen).iter().try_for_each(|line| screen.say(line))
    };
    ask_group(settings, &request, screen, show).await
}

pub(super) async fn invite(arg: &GroupArg, settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    let request = Request::Invite { group: arg.group.as_str().to_owned() };
    host::ask(settings, &request, |_, line| screen.show(&line)).await
}

async fn list(settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    let mut rows = Vec::new();
    let exit = ask_group(settings, &Request::GroupLs, screen, |group| {
        rows.push(group_row(group));
        Ok(())
    });
    let exit = exit.await?;
    if rows.is_empty() {
        screen.note("This node is in no group. `treecast chat lobby` enters one.");
    } else {
        table(&GROUP_HEAD, &rows).iter().try_for_each(|line| screen.say(line))?;
    }
    Ok(exit)
}
