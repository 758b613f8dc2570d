//! The thread that owns the connection: what waits is one transaction, and answered after it.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use treecast_overlay::NodeId;

use super::error::SaveError;
use super::record::Numbers;
use super::upkeep::Upkeep;
use super::work::Work;
use crate::clock::unix_ms;

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
    /// How many failures whoever asks knew of: what was in those is tried again with this, or was before.
    known_failures: u64,
}

impl Job {
    /// Whether it rests on all that was asked for before it.
    fn rests_on_others(&self) -> bool {
        self.works.iter().any(|work| matches!(work, Work::Agreement(_)))
    }
}

/// Takes jobs; never waits. They are done in the order in which they came. What may wait here is
/// bounded by who asks: each caller coalesces, or has one job under way at a time.
#[derive(Debug)]
pub(crate) struct Writer {
    jobs: Sender<Job>,
    next: u64,
    known_failures: u64,
}

impl Writer {
    pub(super) fn spawn(
        connection: Connection,
        path: PathBuf,
        me: NodeId,
    ) -> io::Result<(Self, UnboundedReceiver<Vec<Done>>)> {
        let (numbers, upkeep) = (Numbers::default(), Upkeep::new(me));
        let scribe = Scribe { connection, path, numbers, upkeep, lasting: true, commits: 0, failures: 0 };
        let (jobs, queue) = channel();
        let (answers, done) = unbounded_channel();
        std::thread::Builder::new()
            .name("treecast-store".to_owned())
            .spawn(move || serve(scribe, &queue, &answers))?;
        Ok((Self { jobs, next: 0, known_failures: 0 }, done))
    }

    /// Asks for these changes, all or none of them. The answer comes as a [`Done`]; none comes, and
    /// the receiver is at its end, if the thread is gone.
    pub(crate) fn submit(&mut self, works: Vec<Work>) -> JobId {
        let id = JobId(self.next);
        self.next += 1;
        // A thread that is gone shows at the receiver.
        let _ = self.jobs.send(Job { id, works, known_failures: self.known_failures });
        id
    }

    /// That a job failed is known: those that come now do not count on what was in it.
    pub(crate) fn on_failed(&mut self) {
        self.known_failures += 1;
    }
}

/// How long the thread waits for jobs before it looks whether something else is to be done.
const IDLE: Duration = Duration::from_millis(500);

/// However busy it is, upkeep has a turn so often: disks are not filled by a flood.
const UPKEEP_EVERY: u32 = 16;

/// The thread's things.
struct Scribe {
    connection: Connection,
    path: PathBuf,
    numbers: Numbers,
    upkeep: Upkeep,
    /// Commits wait for the disk.
    lasting: bool,
    /// Commits since upkeep had a turn.
    commits: u32,
    /// Jobs that failed.
    failures: u64,
}

/// Until nobody can ask any more and all is answered. Then the write-ahead log goes into the file: whoever
/// copies or moves it has all of it.
fn serve(mut scribe: Scribe, jobs: &Receiver<Job>, answers: &UnboundedSender<Vec<Done>>) {
    loop {
        let first = match scribe.next(jobs) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => {
                scribe.keep_up();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let together: Vec<Job> = [first].into_iter().chain(jobs.try_iter().take(TOGETHER - 1)).collect();
        let results = scribe.commit(&together);
        let done = together.iter().zip(results).map(|(job, result)| Done { job: job.id, result });
        // Nobody may want to know any more; what was asked for is done all the same.
        let _ = answers.send(done.collect());
        scribe.commits += 1;
        if scribe.commits >= UPKEEP_EVERY {
            scribe.keep_up();
        }
    }
    // Its end does this only if it is the last, and readers may be there for a while.
    if let Err(error) = fold(&scribe.connection) {
        tracing::debug!(%error, "the store's log stays beside it");
    }
    if let Err((_, error)) = scribe.connection.close() {
        tracing::warn!(%error, "the store was not closed in good order; the next start mends it");
    }
}

fn fold(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))
}

impl Scribe {
    /// The next job; not waited for while there is something else to do.
    fn next(&self, jobs: &Receiver<Job>) -> Result<Job, RecvTimeoutError> {
        jobs.recv_timeout(self.upkeep.due_in(unix_ms(), IDLE))
    }

    fn keep_up(&mut self) {
        self.commits = 0;
        let now_ms = unix_ms();
        if !self.upkeep.due_in(now_ms, IDLE).is_zero() {
            return;
        }
        let turn = self.set_lasting(false);
        let turn = turn.and_then(|()| self.upkeep.turn(&mut self.connection, &mut self.numbers, now_ms));
        if let Err(error) = turn {
            tracing::debug!(%error, "the history was not looked after");
            self.numbers.clear();
            self.upkeep.pause(now_ms);
        }
    }

    /// One transaction around all.
    fn commit(&mut self, jobs: &[Job]) -> Vec<Result<(), SaveError>> {
        let began = Instant::now();
        let results = self.try_commit(jobs);
        self.upkeep.on_written(began.elapsed());
        let told = |error: &rusqlite::Error| SaveError::of(&self.path, error);
        let results: Vec<Result<(), SaveError>> = match results {
            Ok(results) => results.into_iter().map(|result| result.map_err(|error| told(&error))).collect(),
            Err(error) => {
                self.failures += jobs.len() as u64;
                vec![Err(told(&error)); jobs.len()]
            }
        };
        if results.iter().any(Result::is_err) {
            // What was looked up in there may not be.
            self.numbers.clear();
        }
        results
    }

    /// A job that fails by itself takes no other with it.
    fn try_commit(&mut self, jobs: &[Job]) -> rusqlite::Result<Vec<rusqlite::Result<()>>> {
        self.set_lasting(jobs.iter().flat_map(|job| &job.works).any(Work::must_last))?;
        let mut transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut results, mut failures) = (Vec::with_capacity(jobs.len()), self.failures);
        for job in jobs {
            // A promise must not be on disk without what it rests on.
            let result = match job.rests_on_others() && job.known_failures < failures {
                true => Err(lacks_ground()),
                false => apply(&mut transaction, &mut self.numbers, &job.works),
            };
            match result {
                // Some failures, a full disk's say, undo the whole transaction.
                Err(error) if transaction.is_autocommit() => return Err(error),
                result => {
                    failures += u64::from(result.is_err());
                    results.push(result);
                }
            }
        }
        transaction.commit()?;
        self.failures = failures;
        Ok(results)
    }

    /// Whether the next commit waits until it would survive the loss of power: with it all before it.
    fn set_lasting(&mut self, lasting: bool) -> rusqlite::Result<()> {
        if self.lasting != lasting {
            self.connection.pragma_update(None, "synchronous", if lasting { "FULL" } else { "NORMAL" })?;
            self.lasting = lasting;
        }
        Ok(())
    }
}

fn lacks_ground() -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure("what came before it could not be written".into())
}

fn apply(transaction: &mut Transaction<'_>, numbers: &mut Numbers, works: &[Work]) -> rusqlite::Result<()> {
    let savepoint = transaction.savepoint()?;
    works.iter().try_for_each(|work| work.apply(&savepoint, numbers))?;
    savepoint.commit()
}
