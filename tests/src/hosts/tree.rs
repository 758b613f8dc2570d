//! What `treecast tree` says on each host, put together.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::lab::Host;

/// One node's place, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The node.
    pub node: String,
    /// Whom it takes for the root.
    pub root: String,
    /// Its parent; none at the root.
    pub parent: Option<String>,
    /// Its children.
    pub children: BTreeSet<String>,
}

/// All nodes' places in one tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<String, Place>);

impl Place {
    /// What the node of this host says of its place in the group's only tree; `None` while it has none.
    fn ask(host: &Host, node: &str, group: &str) -> Option<Self> {
        let run = host.run(&["tree", group], b"");
        let trees = run.of_type("tree");
        let [tree] = trees[..] else { return None };
        let name = |value: &Value| value.as_str().map(str::to_owned);
        Some(Self {
            node: node.to_owned(),
            root: name(&tree["root"])?,
            parent: name(&tree["parent"]),
            children: tree["children"].as_array()?.iter().filter_map(child).collect(),
        })
    }
}

/// A child is an id, or an object that has one.
fn child(value: &Value) -> Option<String> {
    value.as_str().or(value["node"].as_str()).map(str::to_owned)
}

impl Tree {
    /// Asks all hosts, given with their nodes' ids; the complaint names one that has no place.
    ///
    /// # Errors
    /// Why there is no tree that all agree on: see [`Tree::check`].
    pub fn ask<'a>(
        hosts: impl IntoIterator<Item = (&'a Host, &'a str)>,
        group: &str,
    ) -> Result<Self, String> {
        let mut places = BTreeMap::new();
        for (host, node) in hosts {
            let place = Place::ask(host, node, group).ok_or_else(|| format!("{node} has no place yet"))?;
            places.insert(node.to_owned(), place);
        }
        let tree = Self(places);
        tree.check()?;
        Ok(tree)
    }

    /// Whether this is one tree: one root, the parents' and the children's words agree, and every node's
    /// parents lead to the root.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        let root = self.root()?;
        for (node, place) in &self.0 {
            if (place.parent.is_none()) != (node == root) {
                return Err(format!("{node}'s parent is {:?}, and the root is {root}", place.parent));
            }
            if let Some(parent) = &place.parent {
                let above = self.0.get(parent).ok_or_else(|| format!("{node}'s parent {parent} is gone"))?;
                if !above.children.contains(node) {
                    return Err(format!("{parent} does not know its child {node}"));
                }
            }
            let strangers = place
                .children
                .iter()
                .find(|child| self.0.get(*child).is_none_or(|below| below.parent.as_deref() != Some(node)));
            if let Some(stranger) = strangers {
                return Err(format!("{node} lists {stranger}, which is no child of it"));
            }
            self.climb(node, root)?;
        }
        Ok(())
    }

    fn root(&self) -> Result<&str, String> {
        let roots: BTreeSet<&str> = self.0.values().map(|place| place.root.as_str()).collect();
        match roots.into_iter().collect::<Vec<_>>()[..] {
            [root] => Ok(root),
            ref roots => Err(format!("there are {} roots: {roots:?}", roots.len())),
        }
    }

    fn climb(&self, from: &str, root: &str) -> Result<(), String> {
        let mut at = from;
        for _ in 0..self.0.len() {
            if at == root {
                return Ok(());
            }
            at = match self.0.get(at).and_then(|place| place.parent.as_deref()) {
                Some(parent) => parent,
                None => return Err(format!("{from} is not below the root")),
            };
        }
        Err(format!("{from} is in a cycle"))
    }

    /// The nodes with children: the root first, then by how many they have.
    pub fn parents(&self) -> Vec<&Place> {
        let mut parents: Vec<&Place> = self.0.values().filter(|place| !place.children.is_empty()).collect();
        parents.sort_by_key(|place| (place.parent.is_some(), std::cmp::Reverse(place.children.len())));
        parents
    }

    /// The longest way from the root, in steps.
    pub fn depth(&self) -> usize {
        let steps = |node: &String| {
            let up = |node: &&Place| self.0.get(node.parent.as_ref()?);
            std::iter::successors(self.0.get(node), up).count() - 1
        };
        self.0.keys().map(steps).max().unwrap_or(0)
    }
}
