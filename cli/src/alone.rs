//! Says what was tried when nobody is found.

use std::time::Duration;

use treecast_node::Failure;
use treecast_node::control::protocol::{Contacts, GroupLine, Line, Members, Request};

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
        && is_alone(&found)
    {
        tell(match found.contacts.known {
            0 => nobody_found(settings, &group.to_string(), host.is_own()),
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

/// That nobody was found, and why that may be. No error: the search goes on.
fn nobody_found(settings: &Settings, group: &str, own: bool) -> Failure {
    let peers = &settings.peer.value;
    let lan = own && !settings.no_mdns.value;
    let tried = match (own, lan, peers.is_empty()) {
        (false, ..) => "The running node looks in its own ways (`treecast status` shows them)".to_owned(),
        (true, true, true) => "Asked on the LAN by mDNS".to_owned(),
        (true, true, false) => format!("Asked on the LAN by mDNS, and called {}", peers.join(", ")),
        (true, false, true) => {
            "mDNS is off and there is no --peer, so others have to call this node".to_owned()
        }
        (true, false, false) => format!("Called {}; mDNS is off", peers.join(", ")),
    };
    let fix = if own && settings.no_mdns.value && peers.is_empty() {
        "Without mDNS, name a node: --peer MULTIADDR (`treecast status` there shows its addresses)."
    } else {
        "Check that the others use the same name and the same network, and that no firewall, VPN or guest Wi-Fi \
         blocks UDP port 5353; or join by a ticket (`treecast invite` there prints one), or with --peer MULTIADDR."
    };
    Failure::new(
        "nobody-found",
        0,
        format!("Nobody else was found in {group} yet."),
        format!("{tried}, for {} s; still trying.", LOOKING.as_secs()),
        fix,
    )
}
