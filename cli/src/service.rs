//! `up` as a service: what systemd, or whoever speaks `sd_notify(3)`, is told.
//!
//! Without `NOTIFY_SOCKET` in the environment nobody is there to be told, and nothing is done.

use std::future::Future;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use treecast_node::{Node, NodeStatus, Stopped};

/// Between looks at how the node is, without a watchdog.
const LOOK: Duration = Duration::from_secs(10);

/// What the service manager is told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    /// It listens.
    Ready,
    /// It says goodbye.
    Stopping,
    /// It is alive.
    Watchdog,
    /// A sentence.
    Status(String),
}

/// How long whoever listens may take to be told, at the end, that the node stops.
pub(crate) const LAST_WORD: Duration = Duration::from_secs(1);

/// Tells the service manager that the node listens; then how it is, and that it is alive; and that it
/// stops. Ends with that, or at once if nobody is there to be told.
pub(crate) async fn accompany(node: Node) {
    if !manager::is_there() {
        return;
    }
    let watchdog = manager::watchdog();
    tell(vec![Word::Ready]).await;
    tokio::select! {
        () = node.stopping() => {}
        () = watch(watchdog, || node.status(), tell) => {}
    }
    tell(vec![Word::Stopping, Word::Status("Saying goodbye.".to_owned())]).await;
}

/// Says again and again that the node is alive, as long as it is: its loop has to turn to answer `look`.
/// Ends when the node has stopped.
async fn watch<Look, Tell>(
    watchdog: Option<Duration>,
    look: impl Fn() -> Look,
    tell: impl Fn(Vec<Word>) -> Tell,
) where
    Look: Future<Output = Result<NodeStatus, Stopped>>,
    Tell: Future<Output = ()>,
{
    // The manual advises half of it; a third leaves room for one that comes late.
    let every = watchdog.map_or(LOOK, |patience| (patience / 3).min(LOOK));
    let mut beat = interval(every);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = String::new();
    loop {
        beat.tick().await;
        let status = match timeout(every, look()).await {
            Ok(Ok(status)) => status,
            Ok(Err(Stopped)) => return,
            Err(_) => {
                tracing::warn!(?every, "the node's loop does not answer");
                continue;
            }
        };
        let sentence = sentence(&status);
        let mut words = Vec::new();
        if sentence != told {
            words.push(Word::Status(sentence.clone()));
            told = sentence;
        }
        if watchdog.is_some() {
            words.push(Word::Watchdog);
        }
        if !words.is_empty() {
            tell(words).await;
        }
    }
}

/// How the node is, in one line.
fn sentence(status: &NodeStatus) -> String {
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut text = format!("{}, {}", count(status.groups.len(), "group"), count(status.peers, "peer"));
    if let Some(failure) = &status.store_failure {
        // One line, whatever the system calls it.
        let failure: String = failure.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        text += &format!("; NOT SAVING: {failure}");
    }
    if !status.same_identity.is_empty() {
        text += "; ANOTHER NODE HAS ITS IDENTITY";
    }
    text + "."
}

/// Off the runtime's threads: a manager that does not read may hold up who speaks to it.
async fn tell(words: Vec<Word>) {
    // A panic in there was reported.
    let _ = tokio::task::spawn_blocking(move || manager::tell(&words)).await;
}

#[cfg(unix)]
mod manager {
    use std::time::Duration;

    use sd_notify::NotifyState;

    use super::Word;

    pub(super) fn is_there() -> bool {
        std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| !path.is_empty())
    }

    /// How long it waits for a sign of life, if it does so for this process.
    pub(super) fn watchdog() -> Option<Duration> {
        sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero())
    }

    pub(super) fn tell(words: &[Word]) {
        let states: Vec<NotifyState<'_>> = words.iter().map(state).collect();
        if let Err(error) = sd_notify::notify(&states) {
            tracing::warn!(%error, ?words, "the service manager could not be told");
        }
    }

    fn state(word: &Word) -> NotifyState<'_> {
        match word {
            Word::Ready => NotifyState::Ready,
            Word::Stopping => NotifyState::Stopping,
            Word::Watchdog => NotifyState::Watchdog,
            Word::Status(text) => NotifyState::Status(text),
        }
    }
}

#[cfg(not(unix))]
mod manager {
    use std::time::Duration;

    use super::Word;

    pub(super) fn is_there() -> bool {
        false
    }

    pub(super) fn watchdog() -> Option<Duration> {
        None
    }

    pub(super) fn tell(_: &[Word]) {}
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::pending;

    use super::*;

    fn status(groups: usize, failure: Option<&str>) -> NodeStatus {
        NodeStatus {
            node: treecast_node::NodeId::from_bytes([1; 32]),
            nick: String::new(),
            uptime: Duration::ZERO,
            addresses: Vec::new(),
            peers: 1,
            groups: vec!["a".to_owned(); groups],
            collections: Vec::new(),
            mdns: true,
            store_failure: failure.map(str::to_owned),
            same_identity: Vec::new(),
            multicast: None,
            kad: true,
        }
    }

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(sentence(&status(2, None)), "2 groups, 1 peer.");
        assert_eq!(sentence(&status(1, Some("disk\nfull"))), "1 group, 1 peer; NOT SAVING: disk full.");
    }

    /// What a watchdog with 300 ms of patience sees in a second and a half of a node that answers `look`.
    async fn told<Look>(look: impl Fn() -> Look) -> Vec<Word>
    where
        Look: Future<Output = Result<NodeStatus, Stopped>>,
    {
        let told = RefCell::new(Vec::new());
        let tell = |words: Vec<Word>| {
            told.borrow_mut().extend(words);
            async {}
        };
        let watching = watch(Some(Duration::from_millis(300)), look, tell);
        let _ = timeout(Duration::from_millis(1_500), watching).await;
        told.into_inner()
    }

    #[tokio::test]
    async fn who_lives_says_so_again_and_again_and_tells_its_status_once() {
        let looks = Cell::new(0);
        let told = told(|| {
            looks.set(looks.get() + 1);
            async { Ok(status(1, None)) }
        });
        let told = told.await;
        assert_eq!(told[0], Word::Status("1 group, 1 peer.".to_owned()));
        assert!(told[1..].iter().all(|word| *word == Word::Watchdog), "{told:?}");
        assert!(told.len() - 1 == looks.get() && looks.get() >= 3, "each look is told: {told:?}");
    }

    #[tokio::test]
    async fn who_hangs_says_nothing_until_it_moves_again() {
        let (looks, answers) = (Cell::new(0), Cell::new(0));
        let told = told(|| {
            looks.set(looks.get() + 1);
            let hangs = (2..5).contains(&looks.get());
            answers.set(answers.get() + usize::from(!hangs));
            async move { if hangs { pending().await } else { Ok(status(1, None)) } }
        });
        let pings = told.await.iter().filter(|word| **word == Word::Watchdog).count();
        assert!(looks.get() > 5, "it is looked at again: {}", looks.get());
        assert_eq!(pings, answers.get());
    }

    #[tokio::test]
    async fn who_is_gone_is_not_watched_any_longer() {
        assert_eq!(told(|| async { Err(Stopped) }).await, []);
    }
}
