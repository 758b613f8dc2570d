//! `--metrics` as a scraper sees it, and as somebody sees it who means harm.
#![cfg(unix)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::{PATIENCE, Running, Scratch, error};
use serde_json::Value;

impl Scratch {
    /// A node with metrics on a free port, and what it says once it is ready.
    fn up(&self, node: &str, words: &[&str]) -> (Running, Value) {
        let words: Vec<&str> = ["--metrics", "127.0.0.1:0"].iter().chain(words).copied().collect();
        self.ready(node, &words)
    }
}

fn text<'a>(ready: &'a Value, key: &str) -> &'a str {
    ready[key].as_str().unwrap_or_else(|| panic!("no {key}: {ready}"))
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Sends this and reads all that comes back, until the other end closes.
fn exchange(address: &str, request: &[u8]) -> String {
    let mut stream = connect(address);
    // It may have answered before all was sent.
    let _ = stream.write_all(request);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap_or_else(|error| panic!("{error} after {answer:?}"));
    answer
}

fn status_of(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("no status: {answer:?}"))
}

/// A page of metrics, as read.
struct Page {
    /// What kind each family is of.
    families: BTreeMap<String, String>,
    series: BTreeMap<(String, Labels), f64>,
}

type Labels = BTreeMap<String, String>;

fn scrape(address: &str) -> Page {
    let answer = exchange(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    Page::read(body)
}

impl Page {
    /// Reads the text format as strictly as its description allows: families in one piece, each with help
    /// and type before its samples, no series twice.
    fn read(body: &str) -> Self {
        assert!(body.ends_with('\n') && !body.contains("\n\n"), "lines end with a line feed");
        let mut page = Self { families: BTreeMap::new(), series: BTreeMap::new() };
        let (mut family, mut helped) = (String::new(), None);
        for line in body.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a name and a help");
                assert!(helped.is_none() && !help.is_empty() && is_name(name), "{line}");
                helped = Some(name.to_owned());
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a name and a kind");
                assert_eq!(helped.take().as_deref(), Some(name), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(["counter", "gauge"].contains(&kind), "{line}");
                family = name.to_owned();
                assert!(page.families.insert(family.clone(), kind.to_owned()).is_none(), "twice: {line}");
            } else {
                page.read_sample(line, &family);
            }
        }
        page
    }

    fn read_sample(&mut self, line: &str, family: &str) {
        let (series, value) = line.rsplit_once(' ').expect("a series and a value");
        let (name, labels) = match series.split_once('{') {
            Some((name, rest)) => (name, read_labels(rest)),
            None => (series, Labels::new()),
        };
        assert_eq!(name, family, "{line}");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(value.is_finite() && value >= 0.0, "{line}");
        assert!(self.series.insert((name.to_owned(), labels), value).is_none(), "twice: {line}");
    }

    fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Labels = labels.iter().map(|(it, text)| ((*it).to_owned(), (*text).to_owned())).collect();
        let found = self.series.get(&(name.to_owned(), labels));
        *found.unwrap_or_else(|| panic!("no {name} of these labels"))
    }
}

/// `a="…",b="…"}` with `\\`, `\"` and `\n` for what they stand for.
fn read_labels(text: &str) -> Labels {
    let (mut labels, mut chars) = (Labels::new(), text.chars());
    loop {
        let name: String = chars.by_ref().take_while(|c| *c != '=').collect();
        assert!(is_name(&name) && !name.starts_with("__") && chars.next() == Some('"'), "{text}");
        let mut value = String::new();
        loop {
            match chars.next().unwrap_or_else(|| panic!("not closed: {text}")) {
                '"' => break,
                '\\' => value.push(match chars.next() {
                    Some('n') => '\n',
                    Some(c @ ('\\' | '"')) => c,
                    other => panic!("\\{other:?} in {text}"),
                }),
                c => value.push(c),
            }
        }
        assert!(labels.insert(name, value).is_none(), "twice: {text}");
        match chars.next() {
            Some(',') => {}
            Some('}') => break,
            other => panic!("{other:?} in {text}"),
        }
    }
    assert_eq!(chars.next(), None, "{text}");
    labels
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(fits) && name.chars().next().is_some_and(|c| !c.is_ascii_digit())
}

/// Looks again and again until it is so.
fn until(address: &str, what: &str, is_so: impl Fn(&Page) -> bool) -> Page {
    let begun = Instant::now();
    loop {
        let page = scrape(address);
        if is_so(&page) {
            return page;
        }
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_happens_in_a_group_is_counted_at_both_ends() {
    let scratch = Scratch::telling_json("counts");
    let (_a, one) = scratch.up("a", &["--group", "say \"hi\"\\"]);
    let (_b, two) = scratch
        .up("b", &["--group", "say \"hi\"\\", "--peer", one["addresses"][0].as_str().expect("an address")]);
    let (one, two) = (text(&one, "metrics"), text(&two, "metrics"));
    let group = ("group", "say \"hi\"\\");
    let online = |page: &Page| page.get("treecast_members", &[group, ("state", "online")]) == 2.0;
    until(one, "both are members", online);
    let before = until(two, "both are members", online);
    assert_eq!(before.get("treecast_group_ready", &[group]), 1.0);
    assert_eq!(before.get("treecast_messages_delivered_total", &[group]), 0.0);
    for text in ["one", "two", "three"] {
        let said = scratch.run("a", &["pub", "say \"hi\"\\", text, "--wait", "all"]);
        assert_eq!(said.status.code(), Some(0), "{said:?}");
    }
    let sent = scrape(one);
    assert_eq!(sent.get("treecast_messages_published_total", &[group]), 3.0);
    assert_eq!(sent.get("treecast_batches_published_total", &[group]), 3.0);
    assert!(sent.get("treecast_batches_sent_bytes_total", &[group]) > 11.0);
    assert!(sent.get("treecast_frames_sent_total", &[("kind", "batch")]) >= 3.0);
    assert_eq!(sent.get("treecast_receipts_waiting", &[group]), 0.0);
    let came = until(two, "all came", |page| page.get("treecast_messages_delivered_total", &[group]) == 3.0);
    assert_eq!(came.get("treecast_delivered_bytes_total", &[group]), 11.0);
    assert_eq!(came.get("treecast_batches_received_total", &[group]), 3.0);
    assert_eq!(came.get("treecast_messages_published_total", &[group]), 0.0);
    assert!(came.get("treecast_frame_received_bytes_total", &[("kind", "batch")]) > 11.0);
    assert_eq!(came.get("treecast_frames_received_total", &[("kind", "unknown")]), 0.0);
    assert_eq!(came.get("treecast_links", &[("transport", "tcp")]), 1.0);
    let edges = |page: &Page| {
        page.get("treecast_tree_parents", &[group]) + page.get("treecast_tree_children", &[group])
    };
    assert_eq!((edges(&sent), edges(&came)), (1.0, 1.0), "one is the other's parent");
    assert!(came.get("treecast_loop_turns_total", &[]) > before.get("treecast_loop_turns_total", &[]));
    counters_only_grow(&before, &came);
    nothing_names_a_peer(&came);
}

fn counters_only_grow(before: &Page, after: &Page) {
    for (series, was) in &before.series {
        if before.families[&series.0] == "counter" {
            assert!(after.series.get(series).is_some_and(|is| is >= was), "{series:?}");
        }
    }
}

/// Nobody outside can make series: labels are the node's own id, its groups, and fixed words.
fn nothing_names_a_peer(page: &Page) {
    for (name, labels) in page.series.keys() {
        for (label, value) in labels {
            let is_id = value.contains("12D3KooW") || value.contains("/ip4/");
            assert!(!is_id || name == "treecast_node_info", "{name} has {label}={value}");
        }
    }
    assert!(page.series.len() < 1_000, "{} series for one group", page.series.len());
}

#[test]
fn the_documentation_names_each_metric_and_no_other() {
    let scratch = Scratch::telling_json("docs");
    let (_a, one) = scratch.up("a", &["--group", "lobby"]);
    let peer = one["addresses"][0].as_str().expect("an address");
    let (_b, two) = scratch.up("b", &["--group", "lobby", "--peer", peer]);
    let has_link = |page: &Page| page.families.contains_key("treecast_link_rtt_max_seconds");
    let page = until(text(&two, "metrics"), "a round trip is measured", has_link);
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let docs = std::fs::read_to_string(file).expect("the page is there");
    let rows = docs.lines().filter(|line| line.starts_with("| `"));
    let told: BTreeSet<String> =
        rows.map(|line| line.split('`').nth(1).unwrap_or_default().to_owned()).collect();
    let told: BTreeSet<&str> = told.iter().map(|name| name.split('{').next().unwrap_or_default()).collect();
    let served: BTreeSet<&str> = page.families.keys().map(String::as_str).collect();
    // What the system says of a process is told on Linux only.
    let optional = |name: &&str| cfg!(target_os = "linux") || !name.starts_with("process_");
    let told: BTreeSet<&str> = told.into_iter().filter(optional).collect();
    assert_eq!(told, served);
}

#[test]
fn who_dawdles_or_floods_keeps_nobody_from_the_metrics() {
    let scratch = Scratch::telling_json("loris");
    let (_node, ready) = scratch.up("a", &[]);
    let address = text(&ready, "metrics");
    let dawdlers: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = connect(address);
            // It may be shown the door at once.
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow: ");
            stream
        })
        .collect();
    for _ in 0..20 {
        let begun = Instant::now();
        let page = scrape(address);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert!(page.get("process_open_fds", &[]) < 120.0, "most were let go");
    }
    let begun = Instant::now();
    for mut dawdler in dawdlers {
        let mut answer = Vec::new();
        // Reset, or closed with an answer: but closed.
        let _ = dawdler.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408 "), "{answer:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn requests_of_other_kinds_are_answered_as_http_says() {
    let scratch = Scratch::telling_json("http");
    let (_node, ready) = scratch.up("a", &[]);
    let address = text(&ready, "metrics");
    let ask = |request: &str| exchange(address, request.as_bytes());
    assert_eq!(status_of(&ask("GET /metrics?name[]=up HTTP/1.0\r\n\r\n")), "200");
    assert_eq!(status_of(&ask("GET / HTTP/1.1\r\n\r\n")), "200");
    assert_eq!(status_of(&ask("GET /metrics/../../etc/passwd HTTP/1.1\r\n\r\n")), "404");
    let refused = ask("POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello");
    assert!(status_of(&refused) == "405" && refused.contains("Allow: GET, HEAD\r\n"), "{refused}");
    assert_eq!(status_of(&ask("\x16\x03\x01\x02\x00\x01\x00")), "400");
    let head = ask("HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(status_of(&head) == "200" && head.ends_with("\r\n\r\n"), "{head}");
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(100_000));
    assert_eq!(status_of(&ask(&long)), "431");
    scrape(address);
}

#[test]
fn an_address_that_cannot_be_used_is_named_with_the_flag_that_changes_it() {
    let scratch = Scratch::telling_json("taken");
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("bound").to_string();
    for (address, code) in
        [(taken.as_str(), "port-taken"), ("192.0.2.1:9464", "cannot-listen"), ("9464", "usage")]
    {
        let output = scratch.run("a", &["up", "--metrics", address]);
        let error = error(&output);
        assert_eq!((output.status.code(), error["code"].as_str()), (Some(2), Some(code)), "{error}");
        let all = error.to_string();
        assert!(all.contains(address) && all.contains("--metrics"), "{error}");
        assert!(output.stdout.is_empty(), "it was never ready");
    }
    let output = scratch.command("a", &["up"]).env("TREECAST_METRICS", "nowhere").output().expect("runs");
    let error = error(&output);
    assert_eq!(output.status.code(), Some(2));
    assert!(error["what"].as_str().is_some_and(|what| what.contains("TREECAST_METRICS")), "{error}");
}

#[test]
fn the_address_comes_from_flag_environment_or_file_and_is_free_again_afterwards() {
    let scratch = Scratch::telling_json("settings");
    let file = scratch.dir.join("settings.toml");
    std::fs::write(&file, "metrics = \"localhost:0\"").expect("written");
    let file = file.to_str().expect("UTF-8").to_owned();
    let (node, ready) = scratch.ready("a", &["--config", &file]);
    let address = text(&ready, "metrics").to_owned();
    scrape(&address);
    let status = scratch.run("a", &["status"]);
    let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(status["metrics"], ready["metrics"]);
    let attached = scratch.run("a", &["pub", "lobby", "x", "--metrics", "127.0.0.1:0"]);
    assert_eq!(attached.status.code(), Some(2), "that node runs as it is");
    assert_eq!(scratch.run("a", &["down"]).status.code(), Some(0));
    drop(node);
    let mut again = scratch.command("a", &["up"]);
    again.env("TREECAST_METRICS", &address);
    let mut again = Running::start(again);
    let ready = again.next_json();
    assert_eq!(text(&ready, "metrics"), address);
    scrape(&address);
}
