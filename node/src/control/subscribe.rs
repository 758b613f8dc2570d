//! `sub` and `tree --watch`: lines for as long as the client listens.

use std::io;
use std::time::Duration;

use super::connection::{Incoming, Outgoing};
use super::lines;
use super::protocol::{Line, TreeLine};
use crate::error::{Stopped, UnknownGroup};
use crate::event::{Event, MemberChange};
use crate::failure::Failure;
use crate::group::GroupRef;
use crate::handle::Node;
use crate::history::Listen;
use crate::receiver::Receiver;

/// Between looks at the trees.
const WATCH_EVERY: Duration = Duration::from_millis(250);

pub(super) async fn run(
    node: Node,
    incoming: &mut Incoming,
    outgoing: &mut Outgoing,
    group: String,
    verbose: bool,
    listen: Listen,
) -> io::Result<()> {
    let (mut receiver, joined, label) = match enter(&node, &group, listen).await {
        Ok(entered) => entered,
        Err(failure) => return outgoing.end(Err(failure)).await,
    };
    for line in &joined {
        outgoing.send(line).await?;
    }
    let mut left = false;
    loop {
        let event = tokio::select! {
            event = receiver.next() => event,
            () = incoming.closed() => return Ok(()),
        };
        let mut next = Some(event);
        while let Some(event) = next {
            let Some(event) = event else {
                outgoing.flush().await?;
                let failure = if left { UnknownGroup(label).into() } else { Stopped.into() };
                return outgoing.end(Err(failure)).await;
            };
            left |= event == Event::Left;
            if let Some(line) = lines::event(&label, event, verbose) {
                outgoing.gather(&line).await?;
            }
            next = receiver.at_hand();
        }
        outgoing.flush().await?;
    }
}

async fn enter(node: &Node, group: &str, listen: Listen) -> Result<(Receiver, Vec<Line>, String), Failure> {
    let (sender, receiver) = node.listen(GroupRef::from(group), true, listen).await?;
    let info = node.group_view(&sender.group().to_string()).await?;
    let joined = Line::Joined {
        group: info.label.clone(),
        id: info.view.id.to_string(),
        node: node.id().to_string(),
        ready: info.view.ready,
        members: lines::members(&info),
    };
    let mut lines = vec![joined];
    if info.removed {
        // It was told before anybody listened.
        let me = info.view.members.iter().find(|it| it.node == node.id());
        lines.extend(me.map(|me| Line::Member {
            group: info.label.clone(),
            event: MemberChange::Removed.name().to_owned(),
            node: me.node.to_string(),
            nick: me.nick.clone(),
        }));
    }
    Ok((receiver, lines, info.label))
}

pub(super) async fn trees(
    node: &Node,
    incoming: &mut Incoming,
    outgoing: &mut Outgoing,
    group: &str,
    watch: bool,
) -> io::Result<()> {
    let mut shown: Option<Vec<TreeLine>> = None;
    loop {
        let info = match node.group_view(group).await {
            Ok(info) => info,
            Err(error) => return outgoing.end(Err(error.into())).await,
        };
        let trees = lines::trees(&info);
        if shown.as_ref().is_none_or(|shown| !same_shape(shown, &trees)) {
            for tree in &trees {
                outgoing.gather(&Line::Tree(tree.clone())).await?;
            }
            outgoing.send(&Line::TreeEnd { group: info.label }).await?;
            shown = Some(trees);
        }
        if !watch {
            return outgoing.end(Ok(0)).await;
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH_EVERY) => {}
            () = incoming.closed() => return Ok(()),
        }
    }
}

/// Whether the trees differ in numbers that always move only.
fn same_shape(one: &[TreeLine], two: &[TreeLine]) -> bool {
    let shape = |tree: &TreeLine| {
        (
            tree.tree.clone(),
            tree.root.clone(),
            tree.parent.clone(),
            tree.backups.clone(),
            tree.children.clone(),
            tree.depth,
        )
    };
    one.len() == two.len() && one.iter().zip(two).all(|(one, two)| shape(one) == shape(two))
}
