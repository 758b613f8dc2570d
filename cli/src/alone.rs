//! Says what was tried when nobody is found.

use std::time::Duration;

use treecast_node::Failure;
use treecast_node::control::protocol::{Line, Members, Request};

use crate::failure::Stop;
use crate::host::Host;
use crate::settings::Settings;

/// How long to look before saying so.
const LOOKING: Duration = Duration::from_secs(10);

/// Looks, after a while, whether the group has anybody else, and tells if not. Never ends, so that it
/// can stand beside the work.
pub(crate) async fn watch(
    settings: &Settings,
    group: &str,
    host: &Host<'_>,
    tell: impl FnOnce(Failure),
) -> std::convert::Infallible {
    tokio::time::sleep(LOOKING).await;
    if matches!(is_alone(group, host).await, Ok(true)) {
        tell(nobody_found(settings, group, host.is_own()));
    }
    std::future::pending().await
}

async fn is_alone(group: &str, host: &Host<'_>) -> Result<bool, Stop> {
    let mut client = host.ask(&Request::GroupShow { group: group.to_owned() }).await?;
    Ok(match client.next().await? {
        Line::Group(group) => match group.members {
            Members::List(members) => members.len() < 2,
            Members::Count(count) => count < 2,
        },
        _ => false,
    })
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
         blocks UDP port 5353; or name one of them with --peer MULTIADDR."
    };
    Failure::new(
        "nobody-found",
        0,
        format!("Nobody else was found in {group} yet."),
        format!("{tried}, for {} s; still trying.", LOOKING.as_secs()),
        fix,
    )
}
