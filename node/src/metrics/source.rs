//! Where pages come from: the driver is asked for a snapshot, between two events; the rest is done here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::page::{self, Around};
use super::process::Process;
use super::snapshot::Snapshot;
use crate::handle::Command;

/// How long the driver may take to answer. It does so within milliseconds.
const PATIENCE: Duration = Duration::from_secs(4);

/// The driver is not asked again before, however many ask: those who come meanwhile share the next page.
/// Nobody gets one from before they asked.
const PAUSE: Duration = Duration::from_millis(50);

/// Makes pages, one at a time. Does not keep the node alive.
pub(crate) struct Source {
    commands: mpsc::WeakUnboundedSender<Command>,
    data_dir: PathBuf,
    /// Bytes of files that went out.
    file_bytes: Arc<AtomicU64>,
    /// The last page, and when the driver was asked for it.
    last: Mutex<Option<(Instant, Arc<str>)>>,
}

/// Why there is no page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unavailable {
    Stopping,
    Stuck,
}

impl Unavailable {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Stopping => "the node is stopping\n",
            Self::Stuck => "the node does not answer: its loop hangs, or the machine is overloaded\n",
        }
    }
}

impl Source {
    pub(crate) fn new(
        commands: mpsc::WeakUnboundedSender<Command>,
        data_dir: PathBuf,
        file_bytes: Arc<AtomicU64>,
    ) -> Self {
        Self { commands, data_dir, file_bytes, last: Mutex::new(None) }
    }

    pub(super) async fn page(&self) -> Result<Arc<str>, Unavailable> {
        let came = Instant::now();
        let mut last = self.last.lock().await;
        if let Some((asked, page)) = &*last {
            if *asked >= came {
                return Ok(page.clone());
            }
            sleep_until(*asked + PAUSE).await;
        }
        let asked = Instant::now();
        let snapshot = match timeout(PATIENCE, self.ask()).await {
            Ok(answer) => answer.ok_or(Unavailable::Stopping)?,
            Err(_) => return Err(Unavailable::Stuck),
        };
        let around = Around {
            waited: asked.elapsed(),
            file_bytes: self.file_bytes.load(Ordering::Relaxed),
            disk_bytes: disk_bytes(&self.data_dir).await.unwrap_or_default(),
            process: Process::read(),
        };
        let page: Arc<str> = page::write(&snapshot, &around).into();
        *last = Some((asked, page.clone()));
        Ok(page)
    }

    async fn ask(&self) -> Option<Box<Snapshot>> {
        let (reply, answer) = oneshot::channel();
        let ask = Command::Ask(Box::new(move |driver| {
            // Who asked may have gone.
            let _ = reply.send(Box::new(driver.snapshot()));
        }));
        self.commands.upgrade()?.send(ask).ok()?;
        answer.await.ok()
    }
}

/// How large the files of the data directory are, all together.
async fn disk_bytes(dir: &Path) -> std::io::Result<u64> {
    let (mut files, mut bytes) = (tokio::fs::read_dir(dir).await?, 0);
    while let Some(file) = files.next_entry().await? {
        // One that has just gone has no size.
        bytes += file.metadata().await.map_or(0, |it| if it.is_file() { it.len() } else { 0 });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_driver_that_is_gone_is_not_waited_for() {
        let (commands, inbox) = mpsc::unbounded_channel();
        let source = Source::new(commands.downgrade(), PathBuf::new(), Arc::default());
        drop(inbox);
        assert_eq!(source.page().await, Err(Unavailable::Stopping));
        drop(commands);
        assert_eq!(source.page().await, Err(Unavailable::Stopping));
    }
}
