//! Membership is complete and accurate: after quiescence every running member of a small
//! group knows every other as online, and none that stopped is thought to run. (Chandra and
//! Toueg 1996, §2.2: strong completeness and eventual strong accuracy.)

use std::collections::{BTreeMap, BTreeSet};

use treecast_overlay::io::MemberState;
use treecast_overlay::sim::{NodeIx, World};
use treecast_overlay::{GroupId, NodeId};

use super::{Violation, violation};

/// # Errors
/// The first running member that is not ready, does not know another running member as
/// online, or takes a stopped one to be. Those in `left` have left for good.
pub fn check(world: &World, group: GroupId, left: &BTreeSet<NodeIx>) -> Result<(), Violation> {
    // One that has left the group may run on.
    let members = world.running().into_iter().filter(|node| !left.contains(node));
    let running: BTreeMap<NodeId, NodeIx> = members.map(|node| (world.id(node), node)).collect();
    for node in running.values() {
        let Some(view) = world.view(*node, group) else { violation!("{node:?} is not in the group") };
        if !view.ready && running.len() > 1 {
            violation!("{node:?} is not ready");
        }
        let known: BTreeMap<NodeId, MemberState> =
            view.members.iter().map(|member| (member.node, member.state)).collect();
        check_roster(&known, &running).map_err(|it| format!("{node:?}: {it}"))?;
    }
    Ok(())
}

fn check_roster(
    known: &BTreeMap<NodeId, MemberState>,
    running: &BTreeMap<NodeId, NodeIx>,
) -> Result<(), Violation> {
    for (id, ix) in running {
        match known.get(id) {
            Some(MemberState::Online) => {}
            other => violation!("takes running {ix:?} to be {other:?}"),
        }
    }
    match known.iter().find(|(id, state)| **state == MemberState::Online && !running.contains_key(*id)) {
        Some((id, _)) => violation!("takes stopped {id:?} to be online"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_and_a_ghost_are_seen() {
        let id = |n| NodeId::from_bytes([n; 32]);
        let running = BTreeMap::from([(id(1), NodeIx(0)), (id(2), NodeIx(1))]);
        let roster =
            |states: &[(u8, MemberState)]| states.iter().map(|(n, state)| (id(*n), *state)).collect();
        use MemberState::{Failed, Online};
        assert_eq!(check_roster(&roster(&[(1, Online), (2, Online), (3, Failed)]), &running), Ok(()));
        assert!(check_roster(&roster(&[(1, Online), (2, Failed)]), &running).is_err());
        assert!(check_roster(&roster(&[(1, Online)]), &running).is_err());
        assert!(check_roster(&roster(&[(1, Online), (2, Online), (3, Online)]), &running).is_err());
    }
}
