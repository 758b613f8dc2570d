//! Reading the history beside the thread that writes it: each library is a connection of its own on a
//! thread of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use treecast_overlay::io::{Fetch, FetchEarlier, Shown};
use treecast_overlay::{BatchId, GroupId, Seq};

use super::earlier::{self, Piece};
use super::error::SaveError;
use super::fold::Words;
use super::ordered;
use super::work::integer;

/// How long another that has the file locked is waited for.
const BUSY: std::time::Duration = std::time::Duration::from_secs(3);

/// Batches, and their bytes, that are read at once.
pub(super) const PAGE: usize = 256;
pub(super) const PAGE_BYTES: usize = 1 << 20;

/// Something to be done by the reader, who answers by itself.
pub(crate) type Lookup = Box<dyn FnOnce(&Shelf) + Send>;

/// A thread that reads.
#[derive(Debug, Clone)]
pub(crate) struct Library {
    lookups: Sender<Lookup>,
}

impl Library {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let shelf = Shelf::open(path)?;
        let (lookups, queue) = channel();
        let thread = std::thread::Builder::new().name("treecast-read".to_owned());
        thread.spawn(move || serve(&shelf, &queue)).map_err(cannot_start)?;
        Ok(Self { lookups })
    }

    /// Has this looked up; nothing happens if the thread is gone.
    pub(crate) fn ask(&self, lookup: Lookup) {
        let _ = self.lookups.send(lookup);
    }
}

fn cannot_start(error: io::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}

fn serve(shelf: &Shelf, lookups: &Receiver<Lookup>) {
    while let Ok(lookup) = lookups.recv() {
        lookup(shelf);
    }
}

/// The history, for reading.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(super) connection: Connection,
    path: PathBuf,
}

/// What of a group's history is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) group: GroupId,
    /// From this place on…
    pub(crate) from: i64,
    /// …and below this one…
    pub(crate) before: i64,
    /// …if it came at this time or later.
    pub(crate) since_ms: u64,
    /// The group has a total order: places are those in that, and only what has one is read. Below zero
    /// stands what was said before this node's time.
    pub(crate) total: bool,
}

/// Batches of a life, and the lowest of it that is kept.
pub(crate) type Fetched = (Vec<(Seq, Bytes)>, Option<Seq>);

/// A batch of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PastBatch {
    pub(crate) at: i64,
    pub(crate) group: GroupId,
    pub(crate) nick: String,
    /// When it came here, unix milliseconds; of what was said before this node's time, to whoever had it.
    pub(crate) kept_ms: u64,
    /// The place of its first message in a total order.
    pub(crate) index: Option<u64>,
    /// It waits for that.
    pub(crate) tentative: bool,
    pub(crate) shown: Shown,
}

impl Shelf {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        Ok(Self { connection, path: path.to_owned() })
    }

    pub(super) fn told<T>(&self, result: rusqlite::Result<T>) -> Result<T, SaveError> {
        result.map_err(|error| SaveError::unread(&self.path, &error))
    }

    /// What others may be served of a life, and what is the lowest of it that is kept.
    pub(crate) fn fetch(&self, fetch: &Fetch) -> Result<Fetched, SaveError> {
        self.told(self.try_fetch(fetch))
    }

    fn try_fetch(&self, fetch: &Fetch) -> rusqlite::Result<Fetched> {
        let key = params![&fetch.group.as_bytes()[..], &fetch.source.as_bytes()[..], integer(fetch.life)];
        let mut chain = self.connection.prepare_cached(
            "SELECT chain FROM chains JOIN rooms USING (room) WHERE group_id = ?1 AND source = ?2 AND life = ?3",
        )?;
        let Some(chain) = chain.query_row(key, |row| row.get::<_, i64>(0)).optional()? else {
            return Ok((Vec::new(), None));
        };
        let mut lowest = self.connection.prepare_cached("SELECT min(seq) FROM batches WHERE chain = ?1")?;
        let first: Option<i64> = lowest.query_row([chain], |row| row.get(0))?;
        let mut select = self.connection.prepare_cached(
            "SELECT seq, body FROM batches WHERE chain = ?1 AND seq >= ?2 AND seq < ?3 ORDER BY seq",
        )?;
        let (mut found, mut bytes) = (Vec::new(), 0);
        for (from, to) in &fetch.ranges {
            let mut rows = select.query([chain, integer(*from), integer(*to)])?;
            while let Some(row) = rows.next()? {
                if found.len() as u64 >= fetch.batches || bytes >= fetch.bytes {
                    return Ok((found, first.map(i64::unsigned_abs)));
                }
                let body = Bytes::from(row.get::<_, Vec<u8>>(1)?);
                bytes += body.len();
                found.push((row.get::<_, i64>(0)?.unsigned_abs(), body));
            }
        }
        Ok((found, first.map(i64::unsigned_abs)))
    }

    /// A piece for somebody who came later.
    pub(crate) fn earlier(&self, fetch: &FetchEarlier) -> Result<Piece, SaveError> {
        self.told(earlier::piece(&self.connection, fetch))
    }

    /// The next batches of a group's history; none are left if it is empty.
    pub(crate) fn page(&self, span: &Span) -> Result<Vec<PastBatch>, SaveError> {
        self.told(self.try_page(span))
    }

    fn try_page(&self, span: &Span) -> rusqlite::Result<Vec<PastBatch>> {
        if span.total {
            return ordered::page(&self.connection, span);
        }
        let mut select = self.connection.prepare_cached(
            "SELECT at, group_id, nick, body, kept_ms, NULL, 0 FROM batches JOIN rooms USING (room)
             WHERE room = (SELECT room FROM rooms WHERE group_id = ?1)
             AND at >= ?2 AND at < ?3 AND kept_ms >= ?4 ORDER BY at",
        )?;
        let key = &span.group.as_bytes()[..];
        let rows = select.query(params![key, span.from, span.before, integer(span.since_ms)])?;
        gather(rows, PAGE, PAGE_BYTES)
    }

    /// Where a part of a total order begins that was asked for by its time, or by the place of a message.
    pub(crate) fn begin(&self, span: &Span) -> Result<Span, SaveError> {
        self.told(ordered::begin(&self.connection, span))
    }

    /// Where the last `messages` of a span begin, and how many of the first batch are too many.
    pub(crate) fn last(&self, span: &Span, messages: u64) -> Result<(i64, u64), SaveError> {
        self.told(self.try_last(span, messages))
    }

    fn try_last(&self, span: &Span, messages: u64) -> rusqlite::Result<(i64, u64)> {
        if span.total {
            return ordered::last(&self.connection, span, messages);
        }
        let mut select = self.connection.prepare_cached(
            "SELECT at, messages FROM batches WHERE room = (SELECT room FROM rooms WHERE group_id = ?1)
             AND at >= ?2 AND at < ?3 AND kept_ms >= ?4 ORDER BY at DESC",
        )?;
        let key = &span.group.as_bytes()[..];
        let mut rows = select.query(params![key, span.from, span.before, integer(span.since_ms)])?;
        let (mut from, mut count) = (span.before, 0);
        while count < messages {
            let Some(row) = rows.next()? else { return Ok((from, 0)) };
            from = row.get(0)?;
            count += u64::from(row.get::<_, u32>(1)?);
        }
        Ok((from, count - messages))
    }

    /// The last `messages` of a span that stand before message `n` of a batch, and how many of the first
    /// batch are too many; the rest of that batch is in it. `None` if the batch is not kept.
    pub(crate) fn last_before(
        &self,
        span: &Span,
        messages: u64,
        batch: &BatchId,
        n: u32,
    ) -> Result<Option<(Span, u64)>, SaveError> {
        let Some(at) = self.told(self.try_place(span, batch))? else { return Ok(None) };
        if at >= span.before {
            // It waits for its place: all that have one stand before it.
            let (from, skip) = self.last(span, messages)?;
            return Ok(Some((Span { from, ..*span }, skip)));
        }
        // Those before it in its batch come first.
        let (from, skip) = match messages.checked_sub(n.into()) {
            Some(rest) if rest > 0 => self.last(&Span { before: at, ..*span }, rest)?,
            _ => (at, u64::from(n) - messages),
        };
        Ok(Some((Span { from, before: at + 1, ..*span }, skip)))
    }

    fn try_place(&self, span: &Span, batch: &BatchId) -> rusqlite::Result<Option<i64>> {
        let mut select = self.connection.prepare_cached(
            "SELECT at FROM batches JOIN chains USING (chain) JOIN rooms ON rooms.room = chains.room
             WHERE group_id = ?1 AND source = ?2 AND life = ?3 AND seq = ?4",
        )?;
        let (group, source) = (&span.group.as_bytes()[..], &batch.source.as_bytes()[..]);
        let key = params![group, source, integer(batch.life), integer(batch.seq)];
        let at: Option<i64> = select.query_row(key, |row| row.get(0)).optional()?;
        at.filter(|_| span.total).map_or(Ok(at), |at| ordered::place(&self.connection, at).map(Some))
    }

    /// The next batches from `from` on that may have all the words, and where to go on; `None` at the
    /// end.
    pub(crate) fn search(
        &self,
        words: &Words,
        group: Option<GroupId>,
        from: i64,
    ) -> Result<(Vec<PastBatch>, Option<i64>), SaveError> {
        self.told(self.try_search(words, group, from))
    }

    fn try_search(
        &self,
        words: &Words,
        group: Option<GroupId>,
        from: i64,
    ) -> rusqlite::Result<(Vec<PastBatch>, Option<i64>)> {
        let upto: i64 = self.connection.query_row("SELECT upto FROM indexed", (), |row| row.get(0))?;
        let group = group.map(|it| it.as_bytes().to_vec());
        let found = match words.to_match() {
            Some(grams) if from <= upto => self.by_index(&grams, group, from, upto)?,
            // What is not in the index yet, and words that are too short for it.
            _ => self.one_by_one(group, from, i64::MAX)?,
        };
        let next = match found.last() {
            Some(last) => Some(last.at + 1),
            None if words.to_match().is_some() && from <= upto => Some(upto + 1),
            None => None,
        };
        Ok((found, next))
    }

    fn by_index(
        &self,
        grams: &str,
        group: Option<Vec<u8>>,
        from: i64,
        upto: i64,
    ) -> rusqlite::Result<Vec<PastBatch>> {
        let mut select = self.connection.prepare_cached(
            "SELECT batches.at, group_id, nick, body, kept_ms, place, unsettled.at NOT NULL
             FROM words JOIN batches ON batches.at = words.rowid JOIN rooms USING (room)
             LEFT JOIN places ON places.at = batches.at LEFT JOIN unsettled ON unsettled.at = batches.at
             WHERE words MATCH ?1 AND words.rowid >= ?2 AND words.rowid <= ?3
             AND group_id NOT NULL AND (?4 IS NULL OR group_id = ?4) ORDER BY words.rowid",
        )?;
        gather(select.query(params![grams, from, upto, group])?, PAGE, PAGE_BYTES)
    }

    fn one_by_one(&self, group: Option<Vec<u8>>, from: i64, upto: i64) -> rusqlite::Result<Vec<PastBatch>> {
        let mut select = self.connection.prepare_cached(
            "SELECT batches.at, group_id, nick, body, kept_ms, place, unsettled.at NOT NULL
             FROM batches JOIN rooms USING (room)
             LEFT JOIN places ON places.at = batches.at LEFT JOIN unsettled ON unsettled.at = batches.at
             WHERE batches.at >= ?1 AND batches.at <= ?2 AND batches.messages > 0
             AND group_id NOT NULL AND (?3 IS NULL OR group_id = ?3) ORDER BY batches.at",
        )?;
        gather(select.query(params![from, upto, group])?, PAGE, PAGE_BYTES)
    }
}

/// Reads rows until there are many.
pub(super) fn gather(
    mut rows: rusqlite::Rows<'_>,
    most: usize,
    most_bytes: usize,
) -> rusqlite::Result<Vec<PastBatch>> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let group: [u8; 32] = row.get(1)?;
        let (group, body) = (GroupId::from_bytes(group), Bytes::from(row.get::<_, Vec<u8>>(3)?));
        bytes += body.len();
        let at: i64 = row.get(0)?;
        // What was written is what was checked when it came; the disk may have changed it since.
        let Some(shown) = Shown::read(&group, body) else {
            tracing::warn!(?group, at, "something in the history is damaged, and not shown");
            continue;
        };
        found.push(PastBatch {
            at,
            group,
            nick: row.get(2)?,
            kept_ms: row.get::<_, i64>(4)?.unsigned_abs(),
            index: row.get::<_, Option<i64>>(5)?.map(i64::unsigned_abs),
            tentative: row.get(6)?,
            shown,
        });
        if found.len() >= most || bytes >= most_bytes {
            break;
        }
    }
    Ok(found)
}
