//! A tree as this node sees it, drawn: root, parent, here, children. What others reported
//! is told apart from what was measured here.

use treecast_node::control::protocol::TreeLine;

use super::Screen;
use super::clean;
use super::color::{Style, paint};
use super::human::{millis, short, span};

/// `core:ID` or `source:ID` in words.
pub(super) fn name(tree: &str) -> String {
    match tree.split_once(':') {
        Some(("core", root)) => format!("the shared tree of {}", short(root)),
        Some((_, root)) => format!("the tree of source {}", short(root)),
        None => clean::line(tree).into_owned(),
    }
}

/// The drawing; `me` is this node.
pub(super) fn lines(tree: &TreeLine, me: &str, screen: &Screen) -> Vec<String> {
    let mut drawing = Drawing { tree, color: screen.color, lines: Vec::new(), depth: 1 };
    let title = crate::settings::capital(&name(&tree.tree));
    drawing.lines.push(paint(screen.color, Style::Bold, &title));
    drawing.above(me);
    drawing.below();
    drawing.aside();
    drawing.lines
}

struct Drawing<'a> {
    tree: &'a TreeLine,
    color: bool,
    lines: Vec<String>,
    depth: usize,
}

impl Drawing<'_> {
    fn call(&self, node: &str) -> String {
        match self.tree.nicks.get(node).map(|nick| clean::line(nick)).filter(|nick| !nick.trim().is_empty()) {
            Some(nick) if !node.ends_with(nick.as_ref()) => format!("{nick} ({})", short(node)),
            _ => short(node),
        }
    }

    fn put(&mut self, who: &str, remark: &str) {
        let branch = if self.depth > 1 { "└─ " } else { "" };
        let indent = " ".repeat(self.depth.saturating_sub(2) * 3 + 2);
        let remark = paint(self.color, Style::Dim, remark);
        self.lines.push(format!("{indent}{branch}{who}  {remark}").trim_end().to_owned());
    }

    /// From the root down to this node.
    fn above(&mut self, me: &str) {
        let tree = self.tree;
        let Some(parent) = &tree.parent else {
            let remark = if tree.root == me {
                "root".to_owned()
            } else {
                format!("no parent now; the root is {}", self.call(&tree.root))
            };
            return self.put("this node", &remark);
        };
        let reported = format!("reported {} ago", ago(tree.age_ms));
        if *parent != tree.root {
            self.put(&self.call(&tree.root), "root");
            self.depth += 1;
        }
        if tree.depth > 2 {
            self.put("…", &format!("{} between, {reported}", tree.depth - 2));
            self.depth += 1;
        }
        let role = if *parent == tree.root { "root, parent" } else { "parent" };
        let rtt =
            tree.parent_rtt_ms.map_or("not measured yet".to_owned(), |ms| format!("{} measured", millis(ms)));
        self.put(&self.call(parent), &format!("{role}; round trip {rtt}"));
        self.depth += 1;
        let hops = if tree.depth == 1 { "1 hop".to_owned() } else { format!("{} hops", tree.depth) };
        self.put("this node", &format!("{hops}, {} from the root; {reported}", millis(tree.delay_ms)));
    }

    fn below(&mut self) {
        self.depth += 1;
        for child in &self.tree.children {
            self.put(&self.call(child), "child");
        }
    }

    fn aside(&mut self) {
        let backups: Vec<String> = self.tree.backups.iter().map(|node| self.call(node)).collect();
        if !backups.is_empty() {
            self.lines.push(paint(self.color, Style::Dim, &format!("  backups: {}", backups.join(", "))));
        }
        if let Some(rmr) = self.tree.rmr {
            let text = format!("  copies: {rmr:.2} more for each batch, measured");
            self.lines.push(paint(self.color, Style::Dim, &text));
        }
    }
}

fn ago(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { span(ms / 1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_parent_here_children() {
        let mut tree = TreeLine {
            group: "g".into(),
            tree: "core:12D3rrrrrr".into(),
            root: "12D3rrrrrr".into(),
            parent: Some("12D3pppppp".into()),
            backups: vec!["12D3bbbbbb".into()],
            children: vec!["12D3cccccc".into()],
            depth: 2,
            delay_ms: 3.25,
            rmr: Some(0.0),
            age_ms: 1500,
            parent_rtt_ms: Some(1.5),
            reported: vec![],
            measured: vec![],
            nicks: [("12D3rrrrrr".to_owned(), "ro\u{1b}ot".to_owned())].into(),
        };
        let screen = Screen::early(false);
        assert_eq!(
            lines(&tree, "12D3me", &screen),
            [
                "The shared tree of …rrrrrr",
                "  root (…rrrrrr)  root",
                "  └─ …pppppp  parent; round trip 1.50 ms measured",
                "     └─ this node  2 hops, 3.25 ms from the root; reported 1 s ago",
                "        └─ …cccccc  child",
                "  backups: …bbbbbb",
                "  copies: 0.00 more for each batch, measured",
            ]
        );
        tree.parent = None;
        assert_eq!(lines(&tree, "12D3rrrrrr", &screen)[1], "  this node  root");
        assert!(lines(&tree, "12D3me", &screen)[1].contains("no parent now"));
    }
}
