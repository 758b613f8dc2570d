//! SIGINT, SIGTERM and SIGHUP ask a command to stop; a second one does not ask.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use treecast_node::{Failure, Node};

use crate::failure::{INTERRUPTED, bug};

/// How long a command may take to stop once asked: goodbyes are bounded by the node.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long it may take to notice. Longer means that whoever reads our stdout has stopped
/// reading, and the command waits in the middle of a line.
const NOTICING: Duration = Duration::from_secs(1);

/// Tells when the process is asked to stop.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    asked: watch::Receiver<bool>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    noticed: AtomicBool,
    /// The node that lives in this process, to say its goodbyes if the command cannot.
    node: Mutex<Option<Node>>,
}

impl Signals {
    /// Takes the signals over. Within a runtime.
    pub(crate) fn install() -> Result<Self, Failure> {
        let (tell, asked) = watch::channel(false);
        let shared = Arc::<Shared>::default();
        let mut stream =
            Stream::open().map_err(|error| bug(format!("Signals cannot be watched: {error}.")))?;
        let watching = Arc::clone(&shared);
        tokio::spawn(async move {
            stream.next().await;
            let _ = tell.send(true);
            let again = tokio::time::timeout(PATIENCE, stream.next());
            tokio::select! {
                _ = again => std::process::exit(INTERRUPTED.into()),
                () = watching.stop_if_stuck() => std::process::exit(0),
            }
        });
        Ok(Self { asked, shared })
    }

    /// Waits until the process is asked to stop; may be called again.
    pub(crate) async fn asked(&self) {
        let mut asked = self.asked.clone();
        if asked.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
        self.shared.noticed.store(true, Ordering::Relaxed);
    }

    /// This process has a node.
    pub(crate) fn guard(&self, node: &Node) {
        *self.shared.node.lock().unwrap_or_else(PoisonError::into_inner) = Some(node.clone());
    }
}

impl Shared {
    /// Says the node's goodbyes if the command does not get to it; otherwise never ends.
    async fn stop_if_stuck(&self) {
        tokio::time::sleep(NOTICING).await;
        if self.noticed.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(node) = node {
            node.shutdown().await;
        }
    }
}

#[cfg(unix)]
struct Stream([tokio::signal::unix::Signal; 3]);

#[cfg(unix)]
impl Stream {
    fn open() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let open = |kind| signal(kind);
        Ok(Self([
            open(SignalKind::interrupt())?,
            open(SignalKind::terminate())?,
            open(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Stream;

#[cfg(not(unix))]
impl Stream {
    fn open() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
