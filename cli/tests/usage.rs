//! What the binary says without a node: help, usage errors, settings, the missing node.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A directory of this test's own, gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("treecast-usage-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary folder can be written");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn treecast(scratch: &Scratch, words: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_treecast"));
    command.env_clear().env("HOME", &scratch.0).env("TREECAST_DATA_DIR", scratch.0.join("data"));
    command.envs(env.iter().copied()).args(words).stdin(Stdio::null());
    command.output().expect("the binary runs")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

fn stderr_json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    for key in ["code", "what", "why", "fix"] {
        assert!(value[key].is_string(), "{key} in {text}");
    }
    assert_eq!(value["type"], "error");
    value
}

/// All that is built.
const COMMANDS: [&str; 31] = [
    "up",
    "down",
    "status",
    "id",
    "nick",
    "chat",
    "pub",
    "sub",
    "peers",
    "tree",
    "ping",
    "group create",
    "group join",
    "group ls",
    "group show",
    "group leave",
    "group remove",
    "group recover",
    "file announce",
    "file ls",
    "file get",
    "file rm",
    "invite",
    "config",
    "doctor",
    "sim",
    "history",
    "search",
    "completions",
    "bench",
    "man",
];

#[test]
fn help_offers_what_is_built_and_nothing_else() {
    let scratch = Scratch::new("help");
    let output = treecast(&scratch, &["--help"], &[]);
    assert_eq!(code(&output), 0);
    let text = String::from_utf8_lossy(&output.stdout);
    let commands = text.lines().skip_while(|line| *line != "Commands:").skip(1);
    let mut offered: Vec<&str> =
        commands.map_while(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    offered.sort_unstable();
    let mut built: Vec<&str> =
        COMMANDS.iter().filter_map(|it| it.split(' ').next()).chain(["help"]).collect();
    built.sort_unstable();
    built.dedup();
    assert_eq!(offered, built, "{text}");
}

#[test]
fn every_command_has_help_with_an_example() {
    let scratch = Scratch::new("examples");
    for verb in COMMANDS {
        let words: Vec<&str> = verb.split(' ').chain(["--help"]).collect();
        let output = treecast(&scratch, &words, &[]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(code(&output), 0, "{verb}");
        assert!(text.contains("Example") && text.contains(&format!("treecast {verb}")), "{verb}: {text}");
    }
}

#[test]
fn usage_errors_have_three_parts_and_exit_2() {
    let scratch = Scratch::new("wrong");
    let wrong: [&[&str]; 37] = [
        &[],
        &["nonsense"],
        &["chat"],
        &["chat", ""],
        &["chat", "-"],
        &["chat", "treecast1abc"],
        &["chat", "lobby", "--nonsense"],
        &["pub", "lobby", "x", "--wait", "soon"],
        &["pub", "lobby", "x", "--wait", "0"],
        &["pub", "lobby", "x", "--timeout", "soon"],
        &["sub", "lobby", "--since", "ever"],
        &["history", "lobby", "--since", "5 m"],
        &["history", "lobby", "--limit", "0"],
        &["search"],
        &["sub", "lobby", "--count", "many"],
        &["up", "--metrics", "9464"],
        &["up", "--listen", "nowhere"],
        &["chat", "lobby", "--peer", "nowhere"],
        &["group", "create"],
        &["group", "create", ""],
        &["group", "create", "-"],
        &["group", "create", "treecast1x"],
        &["group", "create", "x", "--order", "best"],
        &["group", "create", "x", "--route", "gossip:push"],
        &["group", "create", "x", "--retain", "for ever"],
        &["group", "create", "x", "--retain", "7d", "--retain", "1h"],
        &["group", "create", "x", "--committee", "some"],
        &["group", "create", "x", "--committee", "named", "--order", "causal"],
        &["chat", "treecast1foo"],
        &["pub", "lobby", "x", "--wait", "-1"],
        &["sim", "--loss", "-0.1"],
        &["group", "join"],
        &["group", "join", "-"],
        &["group", "join", "treecast1abc"],
        &["invite"],
        &["ping", "x", "--count", "0"],
        &["--color", "pink", "id"],
    ];
    for words in wrong {
        let output = treecast(&scratch, words, &[]);
        assert_eq!(code(&output), 2, "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.is_empty(), "{words:?}");
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        let output = treecast(&scratch, &words, &[]);
        assert_eq!(code(&output), 2, "{words:?}");
        stderr_json(&output);
    }
}

#[test]
fn a_settings_file_decides_how_errors_are_told_as_far_as_it_can_be_read() {
    let scratch = Scratch::new("json");
    let file = scratch.0.join("c.toml");
    std::fs::write(&file, "json = true\n").expect("written");
    let file = file.to_str().expect("UTF-8");
    let wrong: [&[&str]; 4] = [&["sim", "--loss", "7"], &["bogus"], &["chat", ""], &["group", "create"]];
    for words in wrong {
        let named: Vec<&str> = ["--config", file].iter().chain(words).copied().collect();
        stderr_json(&treecast(&scratch, &named, &[]));
        let joined = format!("--config={file}");
        let joined: Vec<&str> = [joined.as_str()].iter().chain(words).copied().collect();
        stderr_json(&treecast(&scratch, &joined, &[]));
        stderr_json(&treecast(&scratch, words, &[("TREECAST_CONFIG", file)]));
        let told = treecast(&scratch, words, &[("TREECAST_CONFIG", file), ("TREECAST_JSON", "0")]);
        assert!(!told.stderr.starts_with(b"{"), "the environment wins: {words:?}");
    }
    std::fs::write(file, "json = true\nbogus = 1\n").expect("written");
    stderr_json(&treecast(&scratch, &["--config", file, "id"], &[]));
}

#[test]
fn a_bad_value_names_the_help_of_its_command() {
    let scratch = Scratch::new("help");
    for (words, help) in [
        (&["sim", "--nodes", "x"][..], "`treecast sim --help`"),
        (&["group", "create", "x", "--order", "best"], "`treecast group create --help`"),
        (&["chat", ""], "`treecast chat --help`"),
        (&["--color", "pink"], "`treecast --help`"),
    ] {
        let words: Vec<&str> = ["--json"].iter().chain(words).copied().collect();
        let error = stderr_json(&treecast(&scratch, &words, &[]));
        assert!(error["fix"].as_str().is_some_and(|fix| fix.contains(help)), "{words:?}: {error}");
    }
    let error = stderr_json(&treecast(&scratch, &["sim", "--loss", "-0.1", "--json"], &[]));
    assert!(error["why"].as_str().is_some_and(|why| why.contains("from 0 to")), "{error}");
}

#[test]
fn no_node_is_exit_3_and_says_what_to_do() {
    let scratch = Scratch::new("no-node");
    let commands: [&[&str]; 14] = [
        &["down"],
        &["status"],
        &["id"],
        &["nick", "ada"],
        &["peers"],
        &["peers", "lobby"],
        &["tree", "lobby"],
        &["ping", "12D3KooW"],
        &["group", "ls"],
        &["group", "create", "garden"],
        &["group", "join", "lobby"],
        &["invite", "lobby"],
        &["group", "show", "lobby"],
        &["group", "leave", "lobby"],
    ];
    for words in commands {
        let output = treecast(&scratch, words, &[]);
        assert_eq!(code(&output), 3, "{words:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("No treecast node runs for this data directory."), "{words:?}: {text}");
        assert!(text.contains("Start one with `treecast up`."), "{words:?}: {text}");
        let json: Vec<&str> = ["--json"].iter().chain(words).copied().collect();
        let error = stderr_json(&treecast(&scratch, &json, &[]));
        assert_eq!(error["code"], "no-node");
    }
    assert!(!scratch.0.join("data").exists(), "asking makes no data directory");
}

#[test]
fn settings_say_where_they_come_from() {
    let scratch = Scratch::new("settings");
    let file = scratch.0.join("c.toml");
    std::fs::write(&file, "no-mdns = true\npeer = [\"/ip4/192.0.2.1/tcp/1\"]\ncolor = \"never\"\n")
        .expect("written");
    let file = file.to_str().expect("UTF-8");
    let words = ["config", "--json", "--config", file, "--listen", "/ip4/127.0.0.1/tcp/0"];
    let output = treecast(
        &scratch,
        &words,
        &[("TREECAST_PEER", "/ip4/192.0.2.2/tcp/2"), ("TREECAST_LISTEN", "/ip4/1.2.3.4/tcp/5")],
    );
    assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let row =
        |key: &str| rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("{key} in {text}"));
    assert!(rows.iter().all(|row| row["type"] == "config"));
    assert_eq!(
        (&row("listen")["source"], &row("listen")["value"][0]),
        (&"flag".into(), &"/ip4/127.0.0.1/tcp/0".into())
    );
    assert_eq!((&row("peer")["source"], &row("peer")["origin"]), (&"env".into(), &"TREECAST_PEER".into()));
    assert_eq!((&row("no-mdns")["source"], &row("no-mdns")["value"]), (&"file".into(), &true.into()));
    assert_eq!(row("group")["source"], "default");
    assert_eq!(row("data-dir")["source"], "env");
    let people = treecast(&scratch, &["config", "--config", file], &[]);
    let text = String::from_utf8_lossy(&people.stdout);
    assert!(text.lines().any(|line| line.starts_with("no-mdns") && line.contains("file")), "{text}");
}

#[test]
fn a_settings_file_that_is_wrong_is_named() {
    let scratch = Scratch::new("badfile");
    let missing = treecast(&scratch, &["--json", "--config", "/nonexistent/x.toml", "config"], &[]);
    assert_eq!(code(&missing), 2);
    assert!(stderr_json(&missing)["what"].as_str().is_some_and(|what| what.contains("/nonexistent/x.toml")));
    let unknown = scratch.0.join("u.toml");
    std::fs::write(&unknown, "colour = \"never\"").expect("written");
    let output = treecast(&scratch, &["--json", "--config", unknown.to_str().expect("UTF-8"), "status"], &[]);
    assert_eq!(code(&output), 2);
    let bad = treecast(&scratch, &["--json", "config"], &[("TREECAST_NO_MDNS", "perhaps")]);
    assert_eq!(code(&bad), 2);
    assert!(stderr_json(&bad)["what"].as_str().is_some_and(|what| what.contains("TREECAST_NO_MDNS")));
}

#[test]
fn colours_only_where_wanted() {
    let scratch = Scratch::new("colour");
    let plain = treecast(&scratch, &["status"], &[]);
    assert!(!plain.stderr.contains(&0x1b));
    let always = treecast(&scratch, &["--color", "always", "status"], &[]);
    assert!(always.stderr.contains(&0x1b));
    let no_color = treecast(&scratch, &["status"], &[("NO_COLOR", "1")]);
    assert!(!no_color.stderr.contains(&0x1b));
}

#[test]
fn completions_and_the_manual_are_there() {
    let scratch = Scratch::new("man");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = treecast(&scratch, &["completions", shell], &[]);
        assert_eq!(code(&output), 0);
        assert!(String::from_utf8_lossy(&output.stdout).contains("treecast"), "{shell}");
    }
    let man = treecast(&scratch, &["man"], &[]);
    let text = String::from_utf8_lossy(&man.stdout);
    assert!(text.contains(".TH") && text.contains("TREECAST GROUP LEAVE"), "{text}");
    assert_eq!(code(&treecast(&scratch, &["--version"], &[])), 0);
}
