//! `treecast sim` from outside: what scripts read, and what is refused.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn sim(args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_treecast"));
    command.arg("sim").args(args.split_whitespace()).output().expect("treecast runs")
}

fn lines(args: &str) -> Vec<Value> {
    let output = sim(&format!("{args} --json"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_line_has_every_key() {
    let [line] = lines("--nodes 10 --seconds 4 --kill 20@2").try_into().expect("one line");
    for key in [
        "seed",
        "nodes",
        "members",
        "messages",
        "deliveries",
        "owed",
        "missing",
        "duplicates",
        "order_violations",
        "settled_s",
        "stretch",
        "rmr",
        "ldh",
        "header_bytes",
        "control_bytes",
        "idle_bytes_per_s",
        "border_crossings",
        "max_node_sends",
        "latency_ms",
        "settled_last_ms",
        "first_after_kill_ms",
        "extra_ms",
        "trace_hash",
        "wall_s",
    ] {
        assert!(!line[key].is_null(), "{key} in {line}");
    }
    for (of, keys) in [
        ("stretch", &["mean", "p99", "max"][..]),
        ("latency_ms", &["mean", "p50", "p99", "max"]),
        ("first_after_kill_ms", &["p50", "p99", "max"]),
        ("extra_ms", &["p50", "p99", "max"]),
    ] {
        assert!(keys.iter().all(|key| line[of][key].is_number()), "{of} in {line}");
    }
    assert_eq!((&line["type"], &line["nodes"], &line["members"]), (&"sim".into(), &10.into(), &8.into()));
    assert_eq!((&line["messages"], &line["owed"], &line["missing"]), (&40.into(), &320.into(), &0.into()));
}

#[test]
fn two_processes_tell_the_same() {
    let run = || {
        let mut lines = lines("--nodes 12 --seconds 3 --seed 5 --seeds 2 --churn 5");
        lines.iter_mut().for_each(|line| line["wall_s"] = Value::Null);
        lines
    };
    let first = run();
    assert_eq!(first.iter().map(|line| &line["seed"]).collect::<Vec<_>>(), [5, 6]);
    assert_ne!(first[0]["trace_hash"], first[1]["trace_hash"]);
    assert_eq!(first, run());
}

#[test]
fn a_scenario_is_a_file_and_what_is_typed_wins() {
    let path = std::env::temp_dir().join(format!("treecast-sim-{}.toml", std::process::id()));
    std::fs::write(&path, "nodes = 6\nseconds = 2\nnetwork = \"lan\"\nkill = \"relay@1\"\n")
        .expect("written");
    let [line] = lines(&format!("--scenario {} --nodes 7", path.display())).try_into().expect("one line");
    assert_eq!((&line["nodes"], &line["members"], &line["messages"]), (&7.into(), &6.into(), &20.into()));
    std::fs::write(&path, "nodez = 6\n").expect("written");
    let refused = sim(&format!("--scenario {}", path.display()));
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("`nodez`"));
}

#[test]
fn one_that_is_interrupted_says_so_with_what_why_and_fix() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_treecast"));
    command.args(["sim", "--nodes", "1000", "--seconds", "3000", "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    std::thread::sleep(std::time::Duration::from_millis(700));
    let told = Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
    assert!(told.success());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let error: Value = serde_json::from_slice(&output.stderr).expect("one JSON object");
    for part in ["code", "what", "why", "fix"] {
        assert!(error[part].as_str().is_some_and(|text| !text.is_empty()), "{part}: {error}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_what_why_and_fix() {
    for args in [
        "--nodes 1",
        "--committee 3",
        "--cores 0",
        "--route gossip:push",
        "--network wan",
        "--kill 30",
        "--kill 30@30",
        "--partition 1:1@9-3",
        "--loss 5",
        "--seconds 0",
        "--rate -1",
        "--size 0",
        "--seeds 0",
        "--scenario /nowhere.toml",
        "--plot x",
    ] {
        let output = sim(&format!("{args} --json"));
        assert_eq!(output.status.code(), Some(2), "{args}");
        assert!(output.stdout.is_empty(), "{args}");
        let error: Value = serde_json::from_slice(&output.stderr).expect("one JSON object");
        for part in ["what", "why", "fix"] {
            assert!(error[part].as_str().is_some_and(|it| !it.is_empty()), "{args}: {error}");
        }
    }
}
