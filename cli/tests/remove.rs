//! `group remove`: what founders, members and those who are removed see, with real nodes on loopback.

mod common;

use std::time::Instant;

use common::{PATIENCE, Running, Scratch, code, error, text};
use serde_json::Value;

/// A group with a founder and some who joined by its ticket, each a node that runs.
struct Scene {
    scratch: Scratch,
    nodes: Vec<(&'static str, Option<Running>)>,
    ticket: String,
}

impl Scene {
    fn new(name: &str, others: &[&'static str]) -> Self {
        let scratch = Scratch::telling_json(name);
        let mut scene = Self { scratch, nodes: Vec::new(), ticket: String::new() };
        scene.up("ada");
        scene.ticket =
            scene.ask("ada", &["group", "create", "team"])["ticket"].as_str().expect("one").to_owned();
        for node in others {
            scene.up(node);
            let ticket = scene.ticket.clone();
            scene.ask(node, &["group", "join", &ticket]);
        }
        for node in others {
            scene.until(node, |seen| seen.iter().filter(|it| it.1 == "online").count() == others.len() + 1);
        }
        scene
    }

    fn up(&mut self, node: &'static str) {
        let (running, _) = self.scratch.ready(node, &[]);
        self.nodes.push((node, Some(running)));
        self.ask(node, &["nick", node]);
    }

    fn down(&mut self, node: &str) {
        assert_eq!(code(&self.scratch.run(node, &["down"])), 0);
        self.nodes.retain(|it| it.0 != node);
    }

    fn ask(&self, node: &str, words: &[&str]) -> Value {
        let output = self.scratch.run(node, words);
        assert_eq!(code(&output), 0, "{words:?}: {}", text(&output.stderr));
        let last = text(&output.stdout).lines().last().unwrap_or_default().to_owned();
        serde_json::from_str(&last).unwrap_or_else(|_| panic!("{words:?}: {last}"))
    }

    fn refused(&self, node: &str, words: &[&str], exit: i32, code_told: &str) {
        let output = self.scratch.run(node, words);
        let error = error(&output);
        assert_eq!((code(&output), error["code"].as_str()), (exit, Some(code_told)), "{words:?}: {error}");
        for part in ["what", "why", "fix"] {
            assert!(error[part].as_str().is_some_and(|it| !it.is_empty()), "{part} in {error}");
        }
    }

    /// The members of the group as a node shows them: (nick, state).
    fn members(&self, node: &str) -> Vec<(String, String)> {
        let shown = self.ask(node, &["group", "show", "team"]);
        let text = |it: &Value| it.as_str().expect("text").to_owned();
        let members = shown["members"].as_array().expect("a list").iter();
        members.map(|it| (text(&it["nick"]), text(&it["state"]))).collect()
    }

    fn until(&self, node: &str, is_so: impl Fn(&[(String, String)]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let members = self.members(node);
            if is_so(&members) {
                return;
            }
            assert!(Instant::now() < deadline, "at {node}: {members:?}");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    fn is_removed(&self, at: &str, whom: &str) {
        self.until(at, |seen| seen.iter().any(|it| it.1 == "removed" && (it.0 == whom || it.0.is_empty())));
    }

    fn sub(&self, node: &str) -> Running {
        let mut sub = Running::start(self.scratch.command(node, &["sub", "team", "--since", "start"]));
        // It listens once it has told what was said before.
        let first = sub.next_json();
        assert_eq!(first["type"], "message", "{first}");
        sub
    }
}

fn next_removed(sub: &mut Running) -> Value {
    loop {
        let line = sub.next_json();
        if line["type"] == "member" && line["event"] == "removed" {
            return line;
        }
    }
}

#[test]
fn a_member_is_removed_and_everybody_sees_it() {
    let mut scene = Scene::new("everybody", &["bob", "eve", "zoe"]);
    scene.ask("eve", &["pub", "team", "before", "--wait", "all", "--timeout", "30s"]);
    let eve = scene.ask("eve", &["id"])["node"].clone();
    let (mut at_ada, mut at_bob, mut at_eve) = (scene.sub("ada"), scene.sub("bob"), scene.sub("eve"));
    scene.down("zoe");

    scene.refused("bob", &["group", "remove", "team", "eve"], 6, "not-founder");
    scene.refused("ada", &["group", "remove", "nowhere", "eve"], 5, "unknown-group");
    scene.refused("ada", &["group", "remove", "team", "nobody"], 5, "unknown-node");
    scene.refused("ada", &["group", "remove", "team", "12D3KooWnonsense"], 2, "usage");
    scene.refused("ada", &["group", "remove", "team", "ada"], 2, "founder");
    scene.ask("ada", &["group", "join", "lobby"]);
    scene.refused("ada", &["group", "remove", "lobby", "ada"], 6, "no-founder");

    let group = scene.ask("ada", &["group", "remove", "team", "eve"]);
    assert_eq!((&group["type"], &group["name"]), (&"group".into(), &"team".into()));
    let told = group["members"].as_array().expect("a list").iter().find(|it| it["node"] == eve).cloned();
    assert_eq!(told.expect("listed")["state"], "removed");
    for (sub, nick) in [(&mut at_ada, "eve"), (&mut at_bob, "eve"), (&mut at_eve, "eve")] {
        let line = next_removed(sub);
        assert_eq!((&line["node"], &line["nick"]), (&eve, &nick.into()));
    }
    for node in ["ada", "bob", "eve"] {
        scene.is_removed(node, "eve");
    }
    assert_eq!(scene.ask("eve", &["group", "show", "team"])["state"], "removed");
    scene.refused("eve", &["pub", "team", "hello?"], 6, "removed");
    // Nobody waits for it, and it hears nothing.
    let receipt = scene.ask("bob", &["pub", "team", "after", "--wait", "all", "--timeout", "20s"]);
    assert_eq!((&receipt["have"], &receipt["of"]), (&1.into(), &1.into()));
    let heard = text(&scene.scratch.run("eve", &["history", "team"]).stdout);
    assert!(heard.contains("before") && !heard.contains("after"), "{heard}");

    away_and_again(&mut scene);
}

/// Who was away hears of it, restarts change nothing, and neither does the ticket.
fn away_and_again(scene: &mut Scene) {
    scene.up("zoe");
    scene.is_removed("zoe", "eve");
    for node in ["ada", "eve"] {
        scene.down(node);
        scene.up(node);
        scene.is_removed(node, "eve");
    }
    scene.refused("eve", &["pub", "team", "hello?"], 6, "removed");
    let mut late = Running::start(scene.scratch.command("eve", &["sub", "team"]));
    assert_eq!(next_removed(&mut late)["node"], scene.ask("eve", &["id"])["node"]);
    // The first one names where the founder was before its restart.
    let invited = scene.ask("zoe", &["invite", "team"]);
    let ticket = invited["ticket"].as_str().expect("one").to_owned();
    scene.ask("eve", &["group", "leave", "team"]);
    scene.ask("eve", &["group", "join", &ticket]);
    scene.is_removed("eve", "eve");
    // Others join by the same ticket, whoever it names.
    scene.up("kim");
    scene.ask("kim", &["group", "join", &ticket]);
    scene.is_removed("kim", "eve");
    let receipt = scene.ask("kim", &["pub", "team", "hi", "--wait", "all", "--timeout", "20s"]);
    assert_eq!((&receipt["have"], &receipt["of"]), (&3.into(), &3.into()), "ada, bob and zoe");
}

#[test]
fn people_read_who_was_removed() {
    let scene = Scene::new("people", &["eve"]);
    let mut up = scene.scratch.command("ada", &["group", "remove", "team", "eve"]);
    let told = up.env_remove("TREECAST_JSON").output().expect("it runs");
    assert_eq!(text(&told.stdout), "Removed eve from team. Members hear of it as they are reached.\n");
    scene.is_removed("eve", "eve");
    let mut show = scene.scratch.command("eve", &["group", "ls"]);
    let told = text(&show.env_remove("TREECAST_JSON").output().expect("it runs").stdout);
    assert!(told.contains("this node was removed by the founder"), "{told}");
    let (_, running) = scene.nodes.into_iter().find(|it| it.0 == "eve").expect("it runs");
    let mut running = running.expect("it runs");
    running.signal("-TERM");
    assert_eq!(running.code(), 0);
    let told = running.stderr();
    assert!(told.contains("This node was removed from team."), "{told}");
}
