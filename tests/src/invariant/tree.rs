//! The shared trees are trees: one root each, every member reached, no cycle, and parents
//! and children agree. (A spanning tree's definition; Perlman 1985 for the distributed one.)
//! To be asked after quiescence only: before that a tree may be anything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use treecast_overlay::io::{TreeId, TreeView};
use treecast_overlay::sim::World;
use treecast_overlay::{GroupId, NodeId};

use super::{Violation, violation};

/// One node's places.
type Places = BTreeMap<NodeId, Vec<TreeView>>;

/// # Errors
/// The first thing that makes the running members' places no tree.
pub fn check(world: &World, group: GroupId) -> Result<(), Violation> {
    let views = world.running().into_iter().filter_map(|node| Some((node, world.view(node, group)?)));
    let places: Places = views.map(|(node, view)| (world.id(node), view.trees)).collect();
    check_places(&places).map_err(|it| {
        let names = places.keys().filter_map(|id| Some((id.short(), world.ix(id)?.0)));
        let names: BTreeMap<String, usize> = names.collect();
        format!("{it} (nodes: {names:?})")
    })
}

/// As [`check`], at a moment when nobody is between two places: a move takes two trips, and until
/// then the old parent does not know.
///
/// # Errors
/// What was wrong last, if it was wrong at every look for five seconds.
pub fn check_at_rest(world: &mut World, group: GroupId) -> Result<(), Violation> {
    for _ in 0..20 {
        if check(world, group).is_ok() {
            break;
        }
        world.run_until(world.now() + Duration::from_millis(250));
    }
    check(world, group)
}

fn check_places(places: &Places) -> Result<(), Violation> {
    let mut trees: BTreeMap<TreeId, BTreeMap<NodeId, &TreeView>> = BTreeMap::new();
    for (node, views) in places {
        if !views.iter().any(|view| matches!(view.tree, TreeId::Core(_))) {
            violation!("{node:?} is in no shared tree");
        }
        for view in views {
            trees.entry(view.tree).or_default().insert(*node, view);
        }
    }
    let cores: Vec<_> = trees.keys().filter(|tree| matches!(tree, TreeId::Core(_))).collect();
    if cores.len() > 1 {
        violation!("{} shared trees where one is wanted: {cores:?}", cores.len());
    }
    trees.iter().try_for_each(|(tree, members)| check_tree(*tree, members))
}

fn check_tree(tree: TreeId, members: &BTreeMap<NodeId, &TreeView>) -> Result<(), Violation> {
    let (TreeId::Core(root) | TreeId::Source(root)) = tree else { return Ok(()) };
    for (node, view) in members {
        if view.root != root || view.parent.is_none() != (*node == root) {
            violation!("{node:?} in {tree}: root {:?}, parent {:?}", view.root, view.parent);
        }
        if let Some(parent) = view.parent {
            match members.get(&parent) {
                None => violation!("{node:?} in {tree}: parent {parent:?} is not in it"),
                Some(it) if !it.children.contains(node) => {
                    violation!("{node:?} in {tree}: parent {parent:?} does not know it as a child");
                }
                Some(_) => {}
            }
        }
        for child in &view.children {
            if members.get(child).is_none_or(|it| it.parent != Some(*node)) {
                violation!("{node:?} in {tree}: child {child:?} has another parent");
            }
        }
        check_path(tree, *node, root, members)?;
    }
    Ok(())
}

fn check_path(
    tree: TreeId,
    from: NodeId,
    root: NodeId,
    members: &BTreeMap<NodeId, &TreeView>,
) -> Result<(), Violation> {
    let mut seen = BTreeSet::new();
    let mut at = from;
    while at != root {
        if !seen.insert(at) {
            violation!("{from:?} in {tree}: its path to the root is a loop");
        }
        match members.get(&at).and_then(|view| view.parent) {
            Some(parent) => at = parent,
            None => violation!("{from:?} in {tree}: its path to the root ends at {at:?}"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn place(root: u8, parent: Option<u8>, children: &[u8]) -> Vec<TreeView> {
        vec![TreeView {
            tree: TreeId::Core(id(root)),
            root: id(root),
            parent: parent.map(id),
            backups: Vec::new(),
            children: children.iter().map(|it| id(*it)).collect(),
            depth: 0,
            delay: Duration::ZERO,
            age: Duration::ZERO,
        }]
    }

    fn places<const N: usize>(them: [(u8, Vec<TreeView>); N]) -> Places {
        them.into_iter().map(|(node, views)| (id(node), views)).collect()
    }

    #[test]
    fn a_tree_passes() {
        let tree =
            places([(1, place(1, None, &[2, 3])), (2, place(1, Some(1), &[])), (3, place(1, Some(1), &[]))]);
        assert_eq!(check_places(&tree), Ok(()));
    }

    #[test]
    fn what_is_no_tree_does_not() {
        let root = || (1, place(1, None, &[]));
        for bad in [
            places([root(), (2, Vec::new())]),
            places([root(), (2, place(2, None, &[]))]),
            places([(1, place(1, None, &[2])), (2, place(1, None, &[]))]),
            places([root(), (2, place(1, Some(1), &[]))]),
            places([(1, place(1, None, &[2]))]),
            places([root(), (2, place(1, Some(9), &[]))]),
            places([root(), (2, place(1, Some(3), &[3])), (3, place(1, Some(2), &[2]))]),
        ] {
            assert!(check_places(&bad).is_err(), "{bad:?}");
        }
    }
}
