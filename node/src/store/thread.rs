//! The thread that owns the connection: what waits is one transaction, and answered after it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::error::SaveError;
use super::work::Work;

/// Jobs in one transaction. Guess: so many small ones cost little more than one.
const TOGETHER: usize = 1_024;

/// Names a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct JobId(u64);

/// What has become of a job.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) job: JobId,
    /// If it is `Ok`, it is on disk.
    pub(crate) result: Result<(), SaveError>,
}

/// Works that are done together or not at all.
struct Job {
    id: JobId,
    works: Vec<Work>,
}

/// Takes jobs; never waits. They are done in the order in which they came. What may wait here is
/// bounded by who asks: each caller coalesces, or has one job under way at a time.
#[derive(Debug)]
pub(crate) struct Writer {
    jobs: Sender<Job>,
    next: u64,
}

impl Writer {
    pub(super) fn spawn(
        connection: Connection,
        path: PathBuf,
    ) -> io::Result<(Self, UnboundedReceiver<Vec<Done>>)> {
        let (jobs, queue) = channel();
        let (answers, done) = unbounded_channel();
        std::thread::Builder::new()
            .name("treecast-store".to_owned())
            .spawn(move || serve(connection, &path, &queue, &answers))?;
        Ok((Self { jobs, next: 0 }, done))
    }

    /// Asks for these changes, all or none of them. The answer comes as a [`Done`]; none comes, and
    /// the receiver is at its end, if the thread is gone.
    pub(crate) fn submit(&mut self, works: Vec<Work>) -> JobId {
        let id = JobId(self.next);
        self.next += 1;
        // A thread that is gone shows at the receiver.
        let _ = self.jobs.send(Job { id, works });
        id
    }
}

/// Until nobody can ask any more and all is answered. The connection's end folds the write-ahead
/// log into the file.
fn serve(
    mut connection: Connection,
    path: &Path,
    jobs: &Receiver<Job>,
    answers: &UnboundedSender<Vec<Done>>,
) {
    while let Ok(first) = jobs.recv() {
        let together: Vec<Job> = [first].into_iter().chain(jobs.try_iter().take(TOGETHER - 1)).collect();
        let results = commit(&mut connection, path, &together);
        let done = together.iter().zip(results).map(|(job, result)| Done { job: job.id, result });
        // Nobody may want to know any more; what was asked for is done all the same.
        let _ = answers.send(done.collect());
    }
    if let Err((_, error)) = connection.close() {
        tracing::warn!(%error, "the store was not closed in good order; the next start mends it");
    }
}

/// One transaction around all.
fn commit(connection: &mut Connection, path: &Path, jobs: &[Job]) -> Vec<Result<(), SaveError>> {
    let told = |error: &rusqlite::Error| SaveError::of(path, error);
    match try_commit(connection, jobs) {
        Ok(results) => results.into_iter().map(|result| result.map_err(|error| told(&error))).collect(),
        Err(error) => vec![Err(told(&error)); jobs.len()],
    }
}

/// A job that fails by itself takes no other with it.
fn try_commit(connection: &mut Connection, jobs: &[Job]) -> rusqlite::Result<Vec<rusqlite::Result<()>>> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut results = Vec::with_capacity(jobs.len());
    for job in jobs {
        match apply(&mut transaction, &job.works) {
            // Some failures, a full disk's say, undo the whole transaction.
            Err(error) if transaction.is_autocommit() => return Err(error),
            result => results.push(result),
        }
    }
    transaction.commit()?;
    Ok(results)
}

fn apply(transaction: &mut Transaction<'_>, works: &[Work]) -> rusqlite::Result<()> {
    let savepoint = transaction.savepoint()?;
    works.iter().try_for_each(|work| work.apply(&savepoint))?;
    savepoint.commit()
}
