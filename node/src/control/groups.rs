//! `group create|join|ls|show|leave` and `invite`.

use treecast_overlay::{NodeId, Retention};

use super::lines;
use super::protocol::{CreateGroup, Line};
use crate::error::PingError;
use crate::failure::{Failure, exit};
use crate::group::NewGroup;
use crate::handle::Node;

pub(super) async fn create(node: &Node, asked: CreateGroup) -> Result<Line, Failure> {
    let mut members = Vec::new();
    for name in &asked.members {
        members.push(member(node, name).await?);
    }
    let retention =
        Retention { age_s: asked.retain.age_s, bytes: asked.retain.bytes, count: asked.retain.count };
    let mut new = NewGroup::new(asked.name).retention(retention).members(members);
    if let Some(order) = &asked.order {
        new = new.order(order.parse().map_err(|_| unusable("order", order))?);
    }
    if let Some(route) = &asked.route {
        new = new.route(route.parse().map_err(|_| unusable("route", route))?);
    }
    match asked.committee.as_deref() {
        None | Some("any") => {}
        Some("named") if new.is_total() => new = new.named_committee(true),
        Some("named") => {
            let why = "A committee agrees on a total order, and this group is to have none.";
            let fix = "Leave --committee out, or choose --order total.";
            return Err(Failure::new("usage", exit::USAGE, "The group was not created.", why, fix));
        }
        Some(other) => return Err(unusable("committee", other)),
    }
    let info = node
        .create(new)
        .await
        .map_err(|error| Failure { what: "The group was not created.".to_owned(), ..Failure::from(error) })?;
    Ok(lines::group(&info, false, false))
}

/// A member by its id, or by the nick of a node that is known here.
async fn member(node: &Node, name: &str) -> Result<NodeId, Failure> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    if name.starts_with("12D3KooW") {
        let why = format!("`{name}` begins like a node's id, but is none.");
        let fix = "Copy it again, all of it: `treecast id` shows it on that node.";
        return Err(Failure::new("usage", exit::USAGE, "The group was not created.", why, fix));
    }
    node.find(name).await.map_err(|error: PingError| Failure {
        what: "The group was not created.".to_owned(),
        fix: "Give the node's id: `treecast id` shows it there.".to_owned(),
        ..Failure::from(error)
    })
}

fn unusable(what: &str, value: &str) -> Failure {
    let why = format!("There is no {what} called `{value}`.");
    let fix = "`treecast group create --help` shows what there is.";
    Failure::new("usage", exit::USAGE, "The group was not created.", why, fix)
}

pub(super) async fn join(node: &Node, group: String) -> Result<Line, Failure> {
    Ok(lines::group(&node.add(group).await?, false, false))
}

pub(super) async fn list(node: &Node) -> Result<Vec<Line>, Failure> {
    Ok(node.groups().await?.iter().map(|info| lines::group(info, false, false)).collect())
}

pub(super) async fn show(node: &Node, group: &str) -> Result<Line, Failure> {
    Ok(lines::group(&node.group_view(group).await?, true, false))
}

pub(super) async fn leave(node: &Node, group: &str) -> Result<Line, Failure> {
    Ok(lines::group(&node.leave(group).await?, false, true))
}

pub(super) async fn remove(node: &Node, group: &str, member: &str) -> Result<Line, Failure> {
    Ok(lines::group(&node.remove(group, member).await?, true, false))
}

pub(super) async fn recover(node: &Node, group: &str) -> Result<Line, Failure> {
    Ok(lines::group(&node.recover(group).await?, false, false))
}

pub(super) async fn invite(node: &Node, group: &str) -> Result<Line, Failure> {
    let (group, ticket) = node.invite_to(group).await?;
    Ok(Line::Ticket { group, ticket: ticket.to_string() })
}
