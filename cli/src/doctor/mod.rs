//! What `doctor` looks at: one thing after the other, each with what mends it.

mod clock;
mod disk;
mod network;
mod reach;

use std::path::Path;
use std::time::Duration;

use treecast_node::control::protocol::{Line, Request, Status};
use treecast_node::control::{Client, ClientError};
use treecast_node::{Failure, Remembered, holder, identity, remembered};

use crate::failure::Stop;
use crate::output::counted;
use crate::settings::Settings;

/// How long a node that has greeted may take to say how it is. Guess.
const ANSWERING: Duration = Duration::from_secs(5);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Check {
    /// A short fixed word.
    pub(crate) name: &'static str,
    /// Nothing is to be done here.
    pub(crate) ok: bool,
    /// What was found, as a sentence.
    pub(crate) what: String,
    /// How that is known, or where it may come from; may be empty.
    pub(crate) why: String,
    /// What mends it; empty if nothing is to be mended.
    pub(crate) fix: String,
    /// The command that goes on from here, if this is what is wrong.
    #[serde(skip)]
    pub(crate) command: String,
}

impl Check {
    fn good(name: &'static str, what: impl Into<String>, why: impl Into<String>) -> Self {
        let (what, why) = (what.into(), why.into());
        Self { name, ok: true, what, why, fix: String::new(), command: String::new() }
    }

    fn bad(name: &'static str, failure: Failure, command: impl Into<String>) -> Self {
        let Failure { what, why, fix, .. } = failure;
        Self { name, ok: false, what, why, fix, command: command.into() }
    }
}

/// Three parts that no command fails with.
fn finding(what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Failure {
    Failure::new("doctor", 0, what, why, fix)
}

/// What it comes to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Verdict {
    /// All is well.
    pub(crate) ok: bool,
    /// All of it in one sentence.
    pub(crate) sentence: String,
    /// What to type next.
    pub(crate) command: String,
}

/// What is known before the looking begins.
struct Patient<'a> {
    settings: &'a Settings,
    /// The node that runs, by its own word.
    status: Option<Status>,
    remembered: Option<Remembered>,
}

/// Looks at everything, and hands each finding to `tell` as it is made.
pub(crate) async fn examine(
    settings: &Settings,
    mut tell: impl FnMut(&Check) -> Result<(), Stop>,
) -> Result<Verdict, Stop> {
    let data_dir: &Path = &settings.data_dir.value;
    let mut wrong: Option<Check> = None;
    let mut note = |check: Check| {
        tell(&check)?;
        if !check.ok && wrong.is_none() {
            wrong = Some(check);
        }
        Ok::<(), Stop>(())
    };
    note(disk::directory(data_dir))?;
    note(disk::space(data_dir))?;
    note(key(data_dir))?;
    let (remembered, store) = store(data_dir);
    note(store)?;
    note(clock::check(data_dir))?;
    let (status, node) = node(data_dir).await;
    note(node)?;
    let patient = Patient { settings, status, remembered };
    note(network::addresses())?;
    note(network::multicast(&patient).await)?;
    note(network::ports(&patient).await)?;
    note(network::kademlia(&patient))?;
    note(reach::members(&patient).await)?;
    Ok(verdict(wrong, &patient))
}

fn verdict(wrong: Option<Check>, patient: &Patient<'_>) -> Verdict {
    if let Some(check) = wrong {
        let command = if check.command.is_empty() { "treecast doctor".to_owned() } else { check.command };
        return Verdict { ok: false, sentence: check.what, command };
    }
    let (sentence, command) = match &patient.status {
        None => ("All is well, and no node runs yet.", "treecast up"),
        Some(status) if status.groups.is_empty() => {
            ("All is well, and the node is in no group yet.", "treecast chat lobby")
        }
        Some(status) if status.peers == 0 => {
            ("All is well here, but the node is connected to nobody yet.", "treecast peers")
        }
        Some(_) => ("All is well.", "treecast status"),
    };
    Verdict { ok: true, sentence: sentence.to_owned(), command: command.to_owned() }
}

/// What the data directory remembers.
fn store(data_dir: &Path) -> (Option<Remembered>, Check) {
    match remembered(data_dir) {
        Ok(None) => (None, Check::good("store", "Nothing is remembered yet.", "")),
        Ok(Some(all)) => {
            let (groups, nodes) = (all.groups.len(), all.nodes.len());
            let what = format!("The store can be read. Groups: {groups}. Other nodes: {nodes}.");
            (Some(all), Check::good("store", what, ""))
        }
        Err(failure) => {
            let failure = Failure { what: "The node's store cannot be used.".to_owned(), ..failure };
            (None, Check::bad("store", failure, "treecast up --data-dir DIR"))
        }
    }
}

/// The node's identity.
fn key(data_dir: &Path) -> Check {
    const NAME: &str = "key";
    match identity(data_dir) {
        Ok(None) => Check::good(NAME, "There is no key yet; the first start makes one.", ""),
        Ok(Some(node)) => Check::good(NAME, format!("The key is that of {node}."), ""),
        Err(failure) if failure.code == "no-key" => {
            let failure = Failure { what: "The node's key is gone.".to_owned(), ..failure };
            Check::bad(NAME, failure, "treecast up --data-dir DIR")
        }
        Err(failure) => {
            let failure = Failure { what: "The node's key cannot be used.".to_owned(), ..failure };
            let file = data_dir.join("identity.key").display().to_string();
            let quote = if file.contains(char::is_whitespace) { "'" } else { "" };
            Check::bad(NAME, failure, format!("mv {quote}{file}{quote} {quote}{file}.bad{quote}"))
        }
    }
}

/// The node that runs, if one does.
async fn node(data_dir: &Path) -> (Option<Status>, Check) {
    let status = match ask(data_dir).await {
        Ok(status) => status,
        Err(ClientError::NoNode { .. }) => return (None, no_node(data_dir)),
        Err(error @ ClientError::Silent { pid: Some(pid), .. }) => {
            return (None, Check::bad("node", error.into(), format!("kill -CONT {pid}")));
        }
        Err(error) => return (None, Check::bad("node", error.into(), "treecast down")),
    };
    let ours = env!("CARGO_PKG_VERSION");
    let check = match &status {
        status if status.version != ours => Check::bad(
            "node",
            finding(
                format!("The node that runs is version {}, this command {ours}.", status.version),
                format!("Process {} was started before the program was replaced.", status.pid),
                "Stop it with `treecast down` and start it again.",
            ),
            "treecast down",
        ),
        Status { store_failure: Some(why), .. } => Check::bad(
            "node",
            finding(
                "The node cannot save what it should remember.",
                format!("{}.", crate::settings::capital(why)),
                "Make room on the disk, or mend its permissions: the node tries again by itself.",
            ),
            "df -h",
        ),
        status if !status.same_identity.is_empty() => Check::bad(
            "node",
            finding(
                "Another node runs with this node's identity.",
                format!(
                    "It is at {}: a copy of this data directory, or this is one of that.",
                    status.same_identity.join(", ")
                ),
                "Stop one of them, or rename identity.key in the copy's directory to identity.key.bad: it becomes a node \
                 of its own.",
            ),
            "treecast status",
        ),
        status => {
            let what = format!(
                "A node runs: process {}, {}.",
                status.pid,
                counted(status.peers as u64, "peer", "peers")
            );
            Check::good("node", what, "")
        }
    };
    (Some(status), check)
}

async fn ask(data_dir: &Path) -> Result<Status, ClientError> {
    let mut client = Client::ask(data_dir, &Request::Status).await?;
    match client.next_within(ANSWERING).await? {
        Line::Status(status) => Ok(status),
        other => Err(ClientError::Malformed(format!("expected a status, got {other:?}"))),
    }
}

fn no_node(data_dir: &Path) -> Check {
    let Ok(Some(pid)) = holder(data_dir) else {
        return Check::good("node", "No node runs for this data directory.", "");
    };
    let who = pid.map_or("Some process".to_owned(), |pid| format!("Process {pid}"));
    let kill = pid.map_or("treecast up".to_owned(), |pid| format!("kill {pid}"));
    Check::bad(
        "node",
        finding(
            "A node holds the data directory, but does not answer.",
            format!("{who} has its lock; it is starting or ending, or it hangs."),
            format!("Wait a moment and look again; if it stays so, end it with `{kill}`."),
        ),
        kill,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_key_is_found_and_the_command_moves_it_away() {
        let dir = std::env::temp_dir().join(format!("treecast doctor key {}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("made");
        assert!(key(&dir).ok, "there is none yet");
        let file = dir.join("identity.key");
        for bad in [&b""[..], b"treecast-key-1 CAESQ", b"\xff\xfe\x00random"] {
            std::fs::write(&file, bad).expect("written");
            let check = key(&dir);
            let why = check.why.contains("identity.key");
            assert!(!check.ok && why && check.command.starts_with("mv '"), "{check:?}");
        }
        std::fs::remove_dir_all(&dir).expect("there");
    }

    #[test]
    fn the_first_thing_that_is_wrong_is_what_it_comes_to() {
        let settings = Settings::resolve(&Default::default(), &Default::default()).expect("defaults");
        let patient = Patient { settings: &settings, status: None, remembered: None };
        let well = verdict(None, &patient);
        assert_eq!((well.ok, well.command.as_str()), (true, "treecast up"));
        let wrong = Check::bad("ports", finding("It is taken.", "why", "fix"), "treecast up --listen X");
        let ill = verdict(Some(wrong), &patient);
        let expected = (false, "It is taken.", "treecast up --listen X");
        assert_eq!((ill.ok, ill.sentence.as_str(), ill.command.as_str()), expected);
    }
}
