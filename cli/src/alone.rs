//! Says what was tried when nobody is found.

use std::time::Duration;

use treecast_node::Failure;
use treecast_node::control::protocol::{Contacts, GroupLine, Line, Members, MulticastEntry, Request, Status};

use crate::failure::Stop;
use crate::host::Host;
use crate::input::GroupName;
use crate::settings::Settings;

/// How long to look before saying so.
const LOOKING: Duration = Duration::from_secs(10);

/// Looks, after a while, whether the group has anybody else, and tells if not. Never ends, so that it
/// can stand beside the work.
pub(crate) async fn watch(
    settings: &Settings,
    group: &GroupName,
    host: &Host<'_>,
    tell: impl FnOnce(Failure),
) -> std::convert::Infallible {
    tokio::time::sleep(LOOKING).await;
    if let Ok(Some(found)) = look(group, host).await
        && found.state != "removed"
        && is_alone(&found)
    {
        tell(match found.contacts.known {
            0 => {
                let peers = if host.is_own() { &settings.peer.value[..] } else { &[] };
                match status(host).await {
                    Ok(Some(status)) => nobody_found(&found, peers, &status),
                    // It ends: whoever reads its lines says so.
                    _ => return std::future::pending().await,
                }
            }
            _ => nobody_answers(&found),
        });
    }
    std::future::pending().await
}

async fn look(group: &GroupName, host: &Host<'_>) -> Result<Option<Box<GroupLine>>, Stop> {
    let mut client = host.ask(&Request::GroupShow { group: group.as_str().to_owned() }).await?;
    Ok(match client.next().await? {
        Line::Group(group) => Some(group),
        _ => None,
    })
}

async fn status(host: &Host<'_>) -> Result<Option<Status>, Stop> {
    let mut client = host.ask(&Request::Status).await?;
    Ok(match client.next().await? {
        Line::Status(status) => Some(status),
        _ => None,
    })
}

fn is_alone(group: &GroupLine) -> bool {
    match &group.members {
        Members::List(members) => members.iter().filter(|member| member.state == "online").count() < 2,
        Members::Count(count) => *count < 2,
    }
}

/// That those whom the ticket names do not answer. No error: the search goes on.
fn nobody_answers(group: &GroupLine) -> Failure {
    let Contacts { known, answered, refused, timed_out, failed } = group.contacts;
    let parts = [
        (timed_out, "timed out"),
        (refused, "refused"),
        (failed, "cannot be reached at all, or somebody else is there"),
        (answered, "answered, but not in this group"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, how)| format!("{count} {how}"));
    Failure::new(
        "ticket-unanswered",
        0,
        format!("No member of {} answers yet.", group.name),
        format!(
            "Of {known} whose addresses are known, {} within {} s; still trying.",
            parts.collect::<Vec<_>>().join(", "),
            LOOKING.as_secs()
        ),
        "See that one of them runs and that no firewall lies between; or join with a new ticket \
         (`treecast invite` there), which says where members are now.",
    )
}

/// That nobody was found, what was tried, and what may stand in the way. No error: the search goes on.
fn nobody_found(group: &GroupLine, peers: &[String], status: &Status) -> Failure {
    let tried = [Some(on_the_lan(status)), in_kademlia(group, status), by_hand(peers)];
    let tried: Vec<String> = tried.into_iter().flatten().collect();
    let obstacle = match &status.multicast {
        _ if !status.mdns && peers.is_empty() => {
            "Without mDNS, name a node: --peer MULTIADDR (`treecast status` there shows its addresses)"
                .to_owned()
        }
        Some(heard) if !deaf(heard).is_empty() => {
            "Let UDP port 5353 and multicast through this machine's firewall and VPN".to_owned()
        }
        Some(heard) if heard.others == 0 => {
            "Check that the others run, and on the same network: guest Wi-Fi and many access points keep \
             devices apart"
                .to_owned()
        }
        _ => "Check that the others use the same name, and that no firewall stands between".to_owned(),
    };
    Failure::new(
        "nobody-found",
        0,
        format!("Nobody else was found in {} yet.", group.name),
        format!("{}, for {} s; still trying.", tried.join("; "), LOOKING.as_secs()),
        format!(
            "{obstacle}. Or join by a ticket (`treecast invite` there prints one), or with --peer MULTIADDR. \
             `treecast doctor` looks at more."
        ),
    )
}

fn on_the_lan(status: &Status) -> String {
    let Some(heard) = &status.multicast else {
        return if status.mdns { "Asked on the LAN by mDNS".to_owned() } else { "mDNS is off".to_owned() };
    };
    let (deaf, all): (_, Vec<&str>) = (deaf(heard), heard.own.keys().map(String::as_str).collect());
    if all.is_empty() {
        "Asked nobody by mDNS, for this machine has no network address".to_owned()
    } else if !deaf.is_empty() {
        format!(
            "Asked on the LAN by mDNS, but this node's own multicast does not come back on {}",
            deaf.join(", ")
        )
    } else {
        let others = match heard.others {
            0 => "no other host's is heard".to_owned(),
            1 => "so is one other host's, without an answer".to_owned(),
            many => format!("so are {many} other hosts', without an answer"),
        };
        format!(
            "Asked on the LAN by mDNS (this node's own multicast is heard on {}; {others})",
            all.join(", ")
        )
    }
}

fn deaf(heard: &MulticastEntry) -> Vec<&str> {
    let deaf = heard.own.iter().filter(|(_, ago)| ago.is_none());
    deaf.map(|(address, _)| address.as_str()).collect()
}

/// Open groups are not there, whatever this node knows.
fn in_kademlia(group: &GroupLine, status: &Status) -> Option<String> {
    group.founder.as_ref()?;
    if !status.kad {
        return Some("Kademlia is off".to_owned());
    }
    let known = status.collections.get("kad/table").map_or(0, |table| table.len);
    Some(match known {
        0 => "knows no node to ask in Kademlia".to_owned(),
        1 => "asked in Kademlia, where one node is known".to_owned(),
        many => format!("asked in Kademlia, where {many} nodes are known"),
    })
}

fn by_hand(peers: &[String]) -> Option<String> {
    (!peers.is_empty()).then(|| format!("called {}", peers.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use treecast_node::control::protocol::Collection;

    fn status(multicast: Option<MulticastEntry>) -> Status {
        let text = r#"{"node":"n","nick":"n","uptime_s":1,"addresses":[],"peers":0,"groups":[],"collections":{},
            "pid":1,"version":"1","data_dir":"/d","mdns":true,"kad":true}"#;
        Status { multicast, ..serde_json::from_str(text).expect("a status") }
    }

    fn group(founder: Option<&str>) -> GroupLine {
        let text = r#"{"name":"lobby","id":"x","ticket":null,"order":"causal","route":"tree:auto","founder":null,
            "members":1,"state":"waiting"}"#;
        let group: GroupLine = serde_json::from_str(text).expect("a group");
        GroupLine { founder: founder.map(str::to_owned), ..group }
    }

    fn heard(own: Option<u64>, others: usize) -> Option<MulticastEntry> {
        Some(MulticastEntry { own: [("10.0.0.7".to_owned(), own)].into(), others })
    }

    #[test]
    fn what_was_heard_decides_what_is_advised() {
        let tell = |multicast| nobody_found(&group(None), &[], &status(multicast));
        let deaf = tell(heard(None, 0));
        assert!(
            deaf.why.contains("does not come back on 10.0.0.7") && deaf.fix.contains("firewall"),
            "{deaf}"
        );
        let alone = tell(heard(Some(3), 0));
        assert!(alone.why.contains("is heard on 10.0.0.7") && alone.fix.contains("access points"), "{alone}");
        let others = tell(heard(Some(3), 2));
        assert!(others.why.contains("so are 2 other hosts'") && others.fix.contains("same name"), "{others}");
        for failure in [deaf, alone, others] {
            assert!(failure.fix.contains("treecast invite"), "{failure}");
        }
    }

    #[test]
    fn all_that_was_tried_is_named() {
        let mut status = status(None);
        status.mdns = false;
        let off = nobody_found(&group(None), &[], &status);
        assert!(off.why.starts_with("mDNS is off, for") && off.fix.contains("--peer"), "{off}");
        status.collections.insert("kad/table".into(), Collection { len: 3, bytes: 0, cap: 9 });
        let called = nobody_found(&group(Some("f")), &["/ip4/192.0.2.1/tcp/1".to_owned()], &status);
        assert!(called.why.contains("3 nodes are known; called /ip4/192.0.2.1/tcp/1"), "{called}");
        status.kad = false;
        assert!(nobody_found(&group(Some("f")), &[], &status).why.contains("Kademlia is off"));
    }
}
