//! Reading the history of a group with a total order: by place, and before that what was said before this
//! node's time, which has none that is known here.

use rusqlite::{Connection, OptionalExtension, params};

use super::earlier::EARLIER;
use super::library::{PAGE, PAGE_BYTES, PastBatch, Span, gather};
use super::work::integer;

/// The next batches of a span.
pub(super) fn page(connection: &Connection, span: &Span) -> rusqlite::Result<Vec<PastBatch>> {
    let key = &span.group.as_bytes()[..];
    if span.from < 0 {
        let sql = format!(
            "SELECT at, ?1, nick, body, kept_ms, NULL, 0 {EARLIER} AND at >= ?2 AND at < ?3 ORDER BY at"
        );
        let mut select = connection.prepare_cached(&sql)?;
        let found = gather(select.query(params![key, span.from, span.before])?, PAGE, PAGE_BYTES)?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let mut select = connection.prepare_cached(
        "SELECT place, ?1, nick, body, kept_ms, place, 0 FROM places JOIN batches USING (at)
         WHERE places.room = (SELECT room FROM rooms WHERE group_id = ?1)
         AND place >= ?2 AND place < ?3 ORDER BY place",
    )?;
    gather(select.query(params![key, span.from, span.before])?, PAGE, PAGE_BYTES)
}

/// The same span from the batch on in which it begins: the first that came at its time or later, or the one
/// with the message that has its place.
pub(super) fn begin(connection: &Connection, span: &Span) -> rusqlite::Result<Span> {
    let key = &span.group.as_bytes()[..];
    if span.since_ms > 0 {
        let since = integer(span.since_ms);
        let earlier = format!("SELECT min(at) {EARLIER} AND kept_ms >= ?2");
        let first: Option<i64> =
            connection.prepare_cached(&earlier)?.query_row(params![key, since], |row| row.get(0))?;
        let placed = "SELECT min(place) FROM places JOIN batches USING (at)
                      WHERE places.room = (SELECT room FROM rooms WHERE group_id = ?1) AND kept_ms >= ?2";
        let first = match first {
            Some(first) => Some(first),
            None => connection.prepare_cached(placed)?.query_row(params![key, since], |row| row.get(0))?,
        };
        return Ok(Span { from: first.unwrap_or(span.before), since_ms: 0, ..*span });
    }
    let first: Option<i64> = connection
        .prepare_cached(
            "SELECT max(place) FROM places
             WHERE room = (SELECT room FROM rooms WHERE group_id = ?1) AND place <= ?2",
        )?
        .query_row(params![key, span.from], |row| row.get(0))?;
    Ok(Span { from: first.unwrap_or(span.from), ..*span })
}

/// Where the last `messages` of a span begin, and how many of the first batch are too many.
pub(super) fn last(connection: &Connection, span: &Span, messages: u64) -> rusqlite::Result<(i64, u64)> {
    let placed = "SELECT place, messages FROM places JOIN batches USING (at)
                  WHERE places.room = (SELECT room FROM rooms WHERE group_id = ?1)
                  AND place >= ?2 AND place < ?3 ORDER BY place DESC";
    let earlier = format!("SELECT at, messages {EARLIER} AND at >= ?2 AND at < ?3 ORDER BY at DESC");
    let (mut from, mut count) = (span.before, 0);
    for sql in [placed, &earlier] {
        let mut select = connection.prepare_cached(sql)?;
        let mut rows = select.query(params![&span.group.as_bytes()[..], span.from, span.before])?;
        while count < messages {
            let Some(row) = rows.next()? else { break };
            from = row.get(0)?;
            count += u64::from(row.get::<_, u32>(1)?);
        }
    }
    Ok((from, count.saturating_sub(messages)))
}

/// Where the batch at this place of the store is read: behind all that have a place, if it has none.
pub(super) fn place(connection: &Connection, at: i64) -> rusqlite::Result<i64> {
    let place: Option<i64> = connection
        .prepare_cached("SELECT place FROM places WHERE at = ?1")?
        .query_row([at], |row| row.get(0))
        .optional()?;
    let behind = if at < 0 { at } else { i64::MAX };
    Ok(place.unwrap_or(behind))
}
