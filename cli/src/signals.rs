//! SIGINT, SIGTERM and SIGHUP ask a command to stop; a second one does not ask.

use std::time::Duration;

use tokio::sync::watch;
use treecast_node::Failure;

use crate::failure::{INTERRUPTED, bug};

/// How long a command may take to stop once asked: goodbyes are bounded by the node, so
/// only a reader that blocks our stdout keeps it longer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Tells when the process is asked to stop.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    asked: watch::Receiver<bool>,
}

impl Signals {
    /// Takes the signals over. Within a runtime.
    pub(crate) fn install() -> Result<Self, Failure> {
        let (tell, asked) = watch::channel(false);
        let mut stream =
            Stream::open().map_err(|error| bug(format!("Signals cannot be watched: {error}.")))?;
        tokio::spawn(async move {
            stream.next().await;
            let _ = tell.send(true);
            let _ = tokio::time::timeout(PATIENCE, stream.next()).await;
            std::process::exit(INTERRUPTED.into());
        });
        Ok(Self { asked })
    }

    /// Waits until the process is asked to stop; may be called again.
    pub(crate) async fn asked(&self) {
        let mut asked = self.asked.clone();
        if asked.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
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
