//! What the node knows, as the command line's objects.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use data_encoding::BASE64;
use treecast_overlay::files::{Offer, Retraction};
use treecast_overlay::io::TreeView;
use treecast_overlay::{Admission, NodeId, Retention};

use super::protocol::{
    Announced, Collection, Contacts, Ended, GroupLine, Line, MemberEntry, Members, MessageLine,
    MulticastEntry, PeerLine, Retain, Status, TotalEntry, TreeLine,
};
use crate::event::{Event, Message, Range};
use crate::view::{ContactsView, GroupInfo, NodeStatus, PeerView, PingReport};

pub(super) fn status(status: NodeStatus, metrics: Option<SocketAddr>, data_dir: &Path) -> Line {
    let collections = status.collections.into_iter();
    Line::Status(Status {
        node: status.node.to_string(),
        nick: status.nick,
        uptime_s: status.uptime.as_secs(),
        addresses: status.addresses.iter().map(ToString::to_string).collect(),
        peers: status.peers,
        groups: status.groups,
        collections: collections
            .map(|view| (view.name, Collection { len: view.len, bytes: view.bytes, cap: view.cap }))
            .collect(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        data_dir: data_dir.display().to_string(),
        mdns: status.mdns,
        store_failure: status.store_failure,
        same_identity: status.same_identity,
        metrics: metrics.map(|address| address.to_string()),
        multicast: status.multicast.map(|heard| MulticastEntry {
            own: heard.own.iter().map(|(it, ago)| (it.to_string(), ago.map(|ago| ago.as_secs()))).collect(),
            others: heard.others,
        }),
        kad: status.kad,
    })
}

pub(super) fn peer(peer: PeerView) -> Line {
    Line::Peer(PeerLine {
        node: peer.node.to_string(),
        nick: peer.nick,
        addresses: peer.addresses.iter().map(ToString::to_string).collect(),
        transport: peer.transport.to_owned(),
        direct: peer.direct,
        rtt_ms: peer.rtt.map(millis),
        groups: peer.groups,
    })
}

pub(super) fn ping(report: &PingReport) -> Line {
    Line::Ping {
        node: report.node.to_string(),
        rtt_ms: millis(report.rtt),
        transport: report.transport.to_owned(),
        direct: report.direct,
    }
}

/// With `who`, all members and what only total orders have.
pub(super) fn group(info: &GroupInfo, who: bool, left: bool) -> Line {
    let descriptor = &info.view.descriptor;
    let count_members = info.view.members.iter().filter(|member| member.state.is_member()).count();
    let state = match (left, info.view.ready) {
        (true, _) => "left",
        _ if info.removed => "removed",
        (false, true) => "ready",
        (false, false) => "waiting",
    };
    let Retention { age_s, bytes, count } = descriptor.retention;
    let ContactsView { known, answered, refused, timed_out, failed } = info.contacts;
    Line::Group(Box::new(GroupLine {
        name: info.label.clone(),
        id: info.view.id.to_string(),
        ticket: info.ticket.clone(),
        order: descriptor.order.to_string(),
        route: descriptor.route.to_string(),
        founder: descriptor.founder.map(|node| node.to_string()),
        members: if who { Members::List(members(info)) } else { Members::Count(count_members) },
        state: state.to_owned(),
        admission: match &descriptor.admission {
            Admission::Open => "open",
            Admission::Ticket => "ticket",
            Admission::Members(_) => "members",
        }
        .to_owned(),
        retain: (descriptor.retention != Retention::default()).then_some(Retain { age_s, bytes, count }),
        contacts: Contacts { known, answered, refused, timed_out, failed },
        total: who.then(|| total(info)),
    }))
}

fn total(info: &GroupInfo) -> TotalEntry {
    let order = info.view.order.as_ref();
    let text = |nodes: &[NodeId]| nodes.iter().map(ToString::to_string).collect();
    TotalEntry {
        committee: order.map(|it| text(&it.committee)),
        epoch: order.map(|it| it.epoch),
        leader: order.and_then(|it| it.leader).map(|it| it.to_string()),
        stalled: order.and_then(|it| it.stalled).map(|it| it.to_string()),
        index: order.map(|it| it.index),
        tentative: order.map(|it| it.tentative),
    }
}

/// A member, without what was delivered of it.
pub(super) fn member(member: &treecast_overlay::io::MemberView) -> MemberEntry {
    MemberEntry {
        node: member.node.to_string(),
        nick: member.nick.clone(),
        state: member.state.to_string(),
        frontier: BTreeMap::new(),
        neighbour: member.neighbour,
    }
}

pub(super) fn members(info: &GroupInfo) -> Vec<MemberEntry> {
    let mut frontiers: BTreeMap<NodeId, BTreeMap<String, u64>> = BTreeMap::new();
    for (node, life, next) in &info.view.delivered {
        frontiers.entry(*node).or_default().insert(life.to_string(), *next);
    }
    let entry = |it: &treecast_overlay::io::MemberView| {
        let frontier = frontiers.get(&it.node).cloned().unwrap_or_default();
        MemberEntry { frontier, ..member(it) }
    };
    info.view.members.iter().map(entry).collect()
}

pub(super) fn trees(info: &GroupInfo) -> Vec<TreeLine> {
    info.view.trees.iter().map(|view| tree(info, view)).collect()
}

fn tree(info: &GroupInfo, view: &TreeView) -> TreeLine {
    let text = |nodes: &[NodeId]| nodes.iter().map(ToString::to_string).collect();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let named =
        [&view.backups[..], &view.children[..]].concat().into_iter().chain(view.parent).chain([view.root]);
    let named: Vec<NodeId> = named.collect();
    let nicks =
        info.view.members.iter().filter(|member| named.contains(&member.node) && !member.nick.is_empty());
    let received = info.view.received;
    TreeLine {
        group: info.label.clone(),
        tree: view.tree.to_string(),
        root: view.root.to_string(),
        parent: view.parent.map(|node| node.to_string()),
        backups: text(&view.backups),
        children: text(&view.children),
        depth: view.depth,
        delay_ms: millis(view.delay),
        rmr: (received > 0).then(|| round(info.view.duplicates as f64 / received as f64)),
        age_ms: u64::try_from(view.age.as_millis()).unwrap_or(u64::MAX),
        parent_rtt_ms: view.parent.and_then(|parent| info.rtts.get(&parent)).copied().map(millis),
        reported: names(&["root", "depth", "delay_ms"]),
        measured: names(&["parent", "backups", "children", "rmr", "parent_rtt_ms"]),
        nicks: nicks.map(|member| (member.node.to_string(), member.nick.clone())).collect(),
    }
}

/// The line of an event; none for those that only verbose readers are told.
pub(super) fn event(group: &str, event: Event, verbose: bool) -> Option<Line> {
    let group = group.to_owned();
    Some(match event {
        Event::Ready => Line::GroupReady { group },
        Event::Message(it) | Event::FileEnded { message: it, .. } => Line::Message(message(group, it)),
        Event::Member { change, node, nick } => {
            Line::Member { group, event: change.name().to_owned(), node: node.to_string(), nick }
        }
        Event::Partition(change) => Line::Partition { group, event: change.name().to_owned() },
        Event::OrderStalled { reason } => {
            Line::Order { group, event: "stalled".to_owned(), reason: Some(reason.to_string()) }
        }
        Event::OrderResumed => Line::Order { group, event: "resumed".to_owned(), reason: None },
        Event::ParentChanged { tree, from, to, reason } if verbose => Line::Parent {
            group,
            tree: tree.to_string(),
            from: from.map(|node| node.to_string()),
            to: to.map(|node| node.to_string()),
            reason: reason.to_string(),
        },
        Event::Gap { range, lost: true } => gap(group, "lost", range),
        Event::Gap { range, lost: false } if verbose => gap(group, "missing", range),
        Event::Repaired(range) if verbose => gap(group, "repaired", range),
        Event::Lagged { missed } => Line::Lagged { group, missed },
        Event::Overloaded { cap } => {
            let what = format!("The cap {cap} was hit: something was refused or dropped.");
            Line::Notice { group, code: "overloaded".to_owned(), what }
        }
        Event::Forked { source } => {
            let what = format!("{source} signed two different messages for one place, and is set aside.");
            Line::Notice { group, code: "forked".to_owned(), what }
        }
        Event::Doubled { here, there } => {
            let what = format!(
                "Another node runs with this node's identity: this one is at {}, the other at {}. Stop one of them, \
                 or rename identity.key in the copy's data directory to identity.key.bad: it becomes a node of its own.",
                here.join(", "),
                there.join(", ")
            );
            Line::Notice { group, code: "same-identity".to_owned(), what }
        }
        Event::NotSaved { why } => {
            let what = format!("What comes is not saved: {why}.");
            Line::Notice { group, code: "not-saved".to_owned(), what }
        }
        Event::ParentChanged { .. } | Event::Gap { .. } | Event::Repaired(_) | Event::Left => return None,
    })
}

fn gap(group: String, event: &str, range: Range) -> Line {
    let Range { source, life, from, to } = range;
    Line::Gap { group, event: event.to_owned(), source: source.to_string(), life, from, to }
}

pub(super) fn message(group: String, message: Message) -> MessageLine {
    let text = std::str::from_utf8(&message.payload).ok().map(str::to_owned);
    let data = text.is_none().then(|| BASE64.encode(&message.payload));
    let offer = Offer::from_message(&message.payload);
    let file = offer.map(|it| Announced {
        hash: it.hash.to_string(),
        name: it.name,
        size: it.size,
        folder: it.manifest.is_some(),
    });
    let retraction = Retraction::from_message(&message.payload);
    let ended = retraction.map(|it| Ended {
        hash: it.hash.to_string(),
        name: it.name,
        event: it.ending.name().to_owned(),
    });
    MessageLine {
        group,
        file,
        ended,
        source: message.batch.source.to_string(),
        nick: message.nick,
        life: message.batch.life,
        seq: message.batch.seq,
        n: message.n,
        index: message.index,
        tentative: message.tentative,
        forked: message.forked,
        time: message.time_unix_ms,
        text,
        data,
    }
}

/// Milliseconds, to the microsecond.
fn millis(span: Duration) -> f64 {
    round(span.as_secs_f64() * 1_000.0)
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use treecast_overlay::BatchId;

    fn line(payload: &'static [u8]) -> MessageLine {
        let batch = BatchId { source: NodeId::from_bytes([1; 32]), life: 1, seq: 0 };
        let payload = Bytes::from_static(payload);
        let (nick, time_unix_ms, index, tentative, forked) = (String::new(), 0, Some(7), false, false);
        message("g".into(), Message { batch, n: 0, nick, time_unix_ms, index, tentative, forked, payload })
    }

    #[test]
    fn utf8_is_text_and_all_else_data() {
        let text = line("grüß\u{7}".as_bytes());
        assert_eq!((text.text.as_deref(), text.data), (Some("grüß\u{7}"), None));
        assert_eq!((text.index, text.tentative), (Some(7), false));
        let data = line(&[0xff, 0x00]);
        assert_eq!((data.text, data.data.as_deref()), (None, Some("/wA=")));
        assert_eq!(line(b"").text.as_deref(), Some(""));
    }
}
