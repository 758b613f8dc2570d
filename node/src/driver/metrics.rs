//! The node in numbers, when metrics are asked for. Copies what is counted anyway: text is made elsewhere.

use std::collections::BTreeMap;

use treecast_overlay::io::CollectionView;
use treecast_overlay::{GroupId, Order};

use super::Driver;
use super::groups::Slot;
use crate::discovery::addresses::transport_of;
use crate::metrics::{GroupSnapshot, Snapshot};

impl Driver {
    pub(crate) fn snapshot(&mut self) -> Snapshot {
        let (own, mut by_scope) = by_scope(self.collections());
        let groups = self.groups.slots.iter().filter_map(|(id, slot)| {
            // As the core calls it: what the group is called here may be something else.
            let scope = format!("{}~{}", slot.descriptor.name, id.short());
            let collections = by_scope.remove(&scope).unwrap_or_default();
            Some((slot.label.clone(), self.group_snapshot(*id, slot, collections)?))
        });
        let groups = groups.collect();
        let overlay = &self.swarm.behaviour().overlay;
        let nodes = self.peers.nodes();
        let (mut links, mut round_trips) = (BTreeMap::new(), Vec::new());
        for (node, connection) in overlay.links() {
            let remote = nodes.get(&node).and_then(|peer| peer.remote(Some(connection)));
            if let Some(remote) = remote {
                *links.entry(transport_of(remote)).or_default() += 1;
            }
            round_trips.extend(overlay.engine().rtt(node));
        }
        round_trips.sort_unstable();
        let mut peers = BTreeMap::new();
        for (node, peer) in &nodes {
            if let Some(remote) = self.remote(*node, peer) {
                *peers.entry(transport_of(remote)).or_default() += 1;
            }
        }
        Snapshot {
            node: self.me,
            uptime: self.started.elapsed(),
            tally: self.tally.clone(),
            frames: overlay.engine().frames(),
            peers,
            links,
            round_trips,
            queued_bytes: overlay.engine().queued_bytes(),
            collections: own,
            store_failed: self.keeper.failure().is_some(),
            store_waiting: self.keeper.waiting(),
            groups,
        }
    }

    fn group_snapshot(
        &self,
        id: GroupId,
        slot: &Slot,
        collections: Vec<CollectionView>,
    ) -> Option<GroupSnapshot> {
        let overlay = &self.swarm.behaviour().overlay;
        Some(GroupSnapshot {
            id: id.to_string(),
            order: slot.descriptor.order.to_string(),
            route: slot.descriptor.route.to_string(),
            tally: slot.tally.clone(),
            counts: overlay.engine().group_counts(id)?,
            tree: overlay.engine().trees(overlay.now(), id).into_iter().next(),
            collections,
            receipts_waiting: slot.receipts_waiting(),
            events_dropped: slot.events_dropped(),
            partitioned: slot.is_partitioned(),
            order_now: (slot.descriptor.order == Order::Total).then(|| slot.placing.snapshot()),
        })
    }
}

type ByScope = BTreeMap<String, Vec<CollectionView>>;

/// The node's own collections, and each group's, which are called `name~ab12/what`.
fn by_scope(all: Vec<CollectionView>) -> (Vec<CollectionView>, ByScope) {
    let (mut own, mut groups) = (Vec::new(), ByScope::new());
    for view in all {
        match view.name.rsplit_once('/') {
            Some((scope, what)) if scope.contains('~') => {
                let (scope, name) = (scope.to_owned(), what.to_owned());
                groups.entry(scope).or_default().push(CollectionView { name, ..view });
            }
            _ => own.push(view),
        }
    }
    (own, groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_collections_are_found_whatever_it_is_called() {
        let view = |name: &str| CollectionView { name: name.into(), len: 1, bytes: 0, cap: 2 };
        let (own, groups) =
            by_scope(vec![view("node/guests"), view("a/b~c~12ab/roster"), view("x~00ff/wants")]);
        assert_eq!(own.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["node/guests"]);
        assert_eq!(groups["a/b~c~12ab"][0].name, "roster");
        assert_eq!(groups["x~00ff"][0].name, "wants");
    }
}
