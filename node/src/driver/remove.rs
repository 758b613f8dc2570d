//! Members that are removed: by this node, as a founder, or this node itself.

use tokio::sync::oneshot;
use treecast_overlay::io::{MemberState, RemoveError as Core};
use treecast_overlay::{GroupId, NodeId};

use super::Driver;
use super::enter::Reply;
use crate::error::{RemoveError, Stopped};
use crate::view::GroupInfo;

/// How ids begin when they are printed.
const ID_PREFIX: &str = "12D3KooW";

/// Of a group with so many members not all are known here (`Config::roster`): an id is believed.
const WHOLE: usize = 200;

impl Driver {
    /// Removes a member; answers when that is on disk.
    pub(crate) fn remove(&mut self, name: &str, member: &str, reply: Reply<(), RemoveError>) {
        let (group, label, victim) = match self.to_remove(name, member) {
            Ok(found) => found,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let (done, answer) = oneshot::channel();
        if let Some(slot) = self.groups.slots.get_mut(&group) {
            slot.await_removed(victim, done);
        }
        self.overlay().remove(group, victim);
        let why = self.keeper.failure().map(ToString::to_string);
        tokio::spawn(async move {
            let answer = match answer.await {
                Ok(answer) => answer.map_err(|error| refused(error, label, why)),
                Err(_) => Err(Stopped.into()),
            };
            // Who asked may have gone.
            let _ = reply.send(answer);
        });
    }

    fn to_remove(&self, name: &str, member: &str) -> Result<(GroupId, String, NodeId), RemoveError> {
        let info = self.group_info(name)?;
        let (group, label) = (info.view.id, info.label.clone());
        match info.view.descriptor.founder {
            None => return Err(RemoveError::NoFounder(label)),
            Some(founder) if founder != self.me => {
                let founder = called(&info, &founder);
                return Err(RemoveError::NotFounder { group: label, founder });
            }
            Some(_) => {}
        }
        let victim = member_of(&info, member)?;
        if victim == self.me {
            return Err(RemoveError::Founder);
        }
        Ok((group, label, victim))
    }

    /// The founder of a group has removed this node.
    pub(super) fn on_own_removal(&mut self, group: GroupId) {
        let Some(slot) = self.groups.slots.get(&group) else { return };
        let label = slot.label.clone();
        tracing::info!(group = %label, "removed from the group by its founder");
        self.removed.send_if_modified(|all| {
            let is_new = !all.contains(&label);
            all.extend(is_new.then_some(label));
            is_new
        });
    }
}

/// A node's nick, or its id.
pub(super) fn called(info: &GroupInfo, node: &NodeId) -> String {
    let member = info.view.members.iter().find(|it| it.node == *node && !it.nick.is_empty());
    member.map_or_else(|| node.to_string(), |it| it.nick.clone())
}

/// The member of this id or nick. One that is removed already may be named again.
fn member_of(info: &GroupInfo, name: &str) -> Result<NodeId, RemoveError> {
    let unknown = || RemoveError::UnknownMember { name: name.to_owned(), group: info.label.clone() };
    let members = || info.view.members.iter();
    if let Ok(node) = name.parse::<NodeId>() {
        let is_source = || info.view.delivered.iter().any(|it| it.0 == node);
        let is_known = members().any(|it| it.node == node) || is_source() || info.view.members.len() >= WHOLE;
        return if is_known { Ok(node) } else { Err(unknown()) };
    }
    if name.starts_with(ID_PREFIX) {
        return Err(RemoveError::BadNode(name.to_owned()));
    }
    let mut called: Vec<_> = members().filter(|it| it.nick == name).collect();
    if called.iter().any(|it| it.state != MemberState::Removed) {
        called.retain(|it| it.state != MemberState::Removed);
    }
    match called[..] {
        [] => Err(unknown()),
        [one] => Ok(one.node),
        _ => Err(RemoveError::Ambiguous { name: name.to_owned(), count: called.len() }),
    }
}

fn refused(error: Core, group: String, why: Option<String>) -> RemoveError {
    match error {
        Core::NoFounder => RemoveError::NoFounder(group),
        Core::NotFounder => RemoveError::NotFounder { group, founder: "another node".to_owned() },
        Core::Founder => RemoveError::Founder,
        Core::Full(most) => RemoveError::Full(most),
        Core::NotDurable => RemoveError::NotSaved(why.unwrap_or_else(|| "the disk refused it".to_owned())),
        _ => RemoveError::Gone(group),
    }
}
