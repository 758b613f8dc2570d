//! Reading what was delivered before.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;
use treecast_overlay::{BatchId, GroupId};

use crate::error::HistoryError;
use crate::event::{Fork, Message};
use crate::handle::Node;
use crate::store::{Library, PastBatch, SaveError, Shelf, Span, Words};

/// From where on messages are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Since {
    /// Those that come from now on.
    #[default]
    Now,
    /// All that are kept.
    Start,
    /// Those that came here in so long a time, whatever their authors' clocks say. In a total order the first of
    /// them, and all after it.
    Last(Duration),
    /// In a total order: from this place on.
    Index(u64),
}

/// What of a group's messages is listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Listen {
    /// From where on.
    pub since: Since,
    /// In a total order also those that have no place yet: they come again when they have.
    pub tentative: bool,
}

impl Node {
    /// What was delivered in a group before, oldest first: since when, and only the last so many.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub async fn history(
        &self,
        group: &str,
        since: Since,
        limit: Option<u64>,
    ) -> Result<Pages, HistoryError> {
        let group = group.to_owned();
        self.ask_for(move |driver, reply| driver.history(&group, since, limit, None, reply)).await
    }

    /// The last so many messages that stand before this one in a group's history, and the message itself
    /// is not among them: for looking back page by page. If more of its batch stands before it, that comes,
    /// too.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub async fn history_before(
        &self,
        group: &str,
        message: (BatchId, u32),
        limit: u64,
    ) -> Result<Pages, HistoryError> {
        let group = group.to_owned();
        let (since, until) = (Since::Start, Some(message));
        self.ask_for(move |driver, reply| driver.history(&group, since, Some(limit), until, reply)).await
    }

    /// The messages that have all words of a query, in all groups that the node is in or in one,
    /// oldest first. Case and accents do not matter, and a word may be part of a longer one.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub async fn search(&self, query: &str, group: Option<&str>) -> Result<Finds, HistoryError> {
        let group = group.map(str::to_owned);
        let catalogue = self.ask_for(move |driver, reply| driver.shelf(group.as_deref(), reply)).await?;
        Finds::new(catalogue, query)
    }
}

/// A part of a group's history, oldest first; see [`Node::history`](crate::Node::history).
#[derive(Debug)]
pub struct Pages {
    library: Library,
    label: String,
    fork: Fork,
    span: Span,
    /// Places that are not in it.
    except: BTreeSet<u64>,
    /// Only the last so many.
    limit: Option<u64>,
    /// It ends before this message.
    until: Option<(BatchId, u32)>,
    /// So many of the first batch's messages are too many.
    skip: u64,
    /// Where it begins in a total order is to be looked up.
    unbegun: bool,
    /// Of a total order: from this place on.
    least: u64,
    page: VecDeque<Message>,
    /// Why what came last is not in it.
    incomplete: Option<String>,
}

impl Pages {
    pub(crate) fn new(
        library: Library,
        (label, fork): (String, Fork),
        span: Span,
        except: BTreeSet<u64>,
        limit: Option<u64>,
    ) -> Self {
        let (skip, page, incomplete) = (0, VecDeque::new(), None);
        let unbegun = span.total && (span.from > i64::MIN || span.since_ms > 0);
        let least = u64::try_from(span.from).unwrap_or(0);
        Self {
            library,
            label,
            fork,
            span,
            except,
            limit,
            until: None,
            skip,
            unbegun,
            least,
            page,
            incomplete,
        }
    }

    /// Only what stands before this message, if there is a limit; nothing if it is not there.
    pub(crate) fn until(mut self, message: Option<(BatchId, u32)>) -> Self {
        self.until = message;
        self
    }

    /// What came last could not be written, or so many batches while that lasted: said at the end.
    pub(crate) fn lacking(mut self, why: Result<(), SaveError>, dropped: u64) -> Self {
        let came = match dropped {
            1 => "1 batch".to_owned(),
            many => format!("{many} batches"),
        };
        let dropped = (dropped > 0).then(|| {
            format!(
                "While the disk could not be written there was no room for {came}; the node fetches what is missing \
                 at its next start"
            )
        });
        self.incomplete = why.err().map(|error| error.to_string()).or(dropped);
        self
    }

    /// What the group is called here.
    pub fn group(&self) -> &str {
        &self.label
    }

    /// The next message; `None` at the end. A call that is dropped loses nothing.
    ///
    /// # Errors
    /// When the store cannot be read; at the end, when what came last is not in it.
    pub async fn next(&mut self) -> Result<Option<Message>, HistoryError> {
        loop {
            if let Some(message) = self.page.pop_front() {
                return Ok(Some(message));
            }
            if !self.turn().await? {
                return self.incomplete.take().map_or(Ok(None), |why| Err(HistoryError::Incomplete(why)));
            }
        }
    }

    /// The next message if it is at hand.
    pub(crate) fn at_hand(&mut self) -> Option<Message> {
        self.page.pop_front()
    }

    /// Reads on; whether there was more.
    async fn turn(&mut self) -> Result<bool, HistoryError> {
        let span = self.span;
        if self.unbegun {
            self.span = look_up(&self.library, move |shelf| shelf.begin(&span)).await?;
            self.unbegun = false;
            return Ok(true);
        }
        if let Some((batch, n)) = self.until.filter(|_| self.limit.is_some()) {
            let limit = self.limit.take().unwrap_or(u64::MAX);
            let found =
                look_up(&self.library, move |shelf| shelf.last_before(&span, limit, &batch, n)).await?;
            let Some((bounded, skip)) = found else { return Ok(false) };
            (self.span, self.skip) = (bounded, skip);
            return Ok(true);
        }
        if let Some(limit) = self.limit {
            let (from, skip) = look_up(&self.library, move |shelf| shelf.last(&span, limit)).await?;
            (self.span.from, self.skip, self.limit) = (from, skip, None);
            return Ok(true);
        }
        let batches = look_up(&self.library, move |shelf| shelf.page(&span)).await?;
        let Some(last) = batches.last() else { return Ok(false) };
        self.span.from = last.at + 1;
        let except = |at: i64| u64::try_from(at).is_ok_and(|at| self.except.contains(&at));
        let wanted = batches.into_iter().filter(|it| !except(it.at));
        for message in wanted.flat_map(|batch| messages(batch, &self.fork)) {
            let is_after = self.until.is_some_and(|(batch, n)| message.batch == batch && message.n >= n);
            if is_after || message.index.is_some_and(|index| index < self.least) {
                continue;
            }
            if self.skip > 0 {
                self.skip -= 1;
            } else {
                self.page.push_back(message);
            }
        }
        Ok(true)
    }
}

/// What can be searched.
#[derive(Debug)]
pub(crate) struct Catalogue {
    pub(crate) library: Library,
    /// What each is called here, and where it forks.
    pub(crate) groups: BTreeMap<GroupId, (String, Fork)>,
    pub(crate) only: Option<GroupId>,
    /// Why what came last is not in it.
    pub(crate) incomplete: Option<String>,
}

/// Messages that were found, oldest first; see [`Node::search`](crate::Node::search).
#[derive(Debug)]
pub struct Finds {
    library: Library,
    words: Words,
    groups: Vec<Found>,
    /// Why what came last is not in it.
    incomplete: Option<String>,
}

/// What is found in one group, in the order of its history.
#[derive(Debug)]
struct Found {
    group: GroupId,
    label: String,
    fork: Fork,
    /// Where to look on.
    from: Option<i64>,
    /// When each came, and it.
    page: VecDeque<(u64, Message)>,
}

impl Finds {
    pub(crate) fn new(catalogue: Catalogue, query: &str) -> Result<Self, HistoryError> {
        let words = Words::of(query);
        if words.is_empty() {
            return Err(HistoryError::EmptyQuery);
        }
        let Catalogue { library, groups, only, incomplete } = catalogue;
        let groups = groups.into_iter().filter(|(id, _)| only.is_none_or(|only| only == *id));
        let found = |(group, (label, fork))| Found {
            group,
            label,
            fork,
            from: Some(i64::MIN),
            page: VecDeque::new(),
        };
        Ok(Self { library, words, groups: groups.map(found).collect(), incomplete })
    }

    /// The next message, and what its group is called here; `None` at the end. A call that is dropped
    /// loses nothing.
    ///
    /// # Errors
    /// When the store cannot be read; at the end, when what came last is not in it.
    pub async fn next(&mut self) -> Result<Option<(String, Message)>, HistoryError> {
        for found in &mut self.groups {
            found.fill(&self.library, &self.words).await?;
        }
        // Places order one group's history; what was said before this node's time stands below all that it
        // heard itself in whatever group. Between groups it counts when each came.
        let first = |it: &Found| it.page.front().map(|(kept_ms, _)| *kept_ms);
        let next = self.groups.iter_mut().filter(|it| !it.page.is_empty()).min_by_key(|it| first(it));
        let found = next.and_then(|it| Some((it.label.clone(), it.page.pop_front()?.1)));
        match self.incomplete.take_if(|_| found.is_none()) {
            Some(why) => Err(HistoryError::Incomplete(why)),
            None => Ok(found),
        }
    }
}

impl Found {
    /// Reads on, if nothing is at hand.
    async fn fill(&mut self, library: &Library, all: &Words) -> Result<(), HistoryError> {
        while let Some(from) = self.from.filter(|_| self.page.is_empty()) {
            let (words, group) = (all.clone(), Some(self.group));
            let search = move |shelf: &Shelf| shelf.search(&words, group, from);
            let (batches, next) = look_up(library, search).await?;
            self.from = next;
            for batch in batches {
                let kept_ms = batch.kept_ms;
                let those = messages(batch, &self.fork).filter(|it| is_match(all, it));
                self.page.extend(those.map(|message| (kept_ms, message)));
            }
        }
        Ok(())
    }
}

/// Only text is searched.
fn is_match(words: &Words, message: &Message) -> bool {
    std::str::from_utf8(&message.payload).is_ok_and(|text| words.are_in(text))
}

fn messages(batch: PastBatch, fork: &Fork) -> impl Iterator<Item = Message> {
    let PastBatch { nick, shown, index: first, tentative, .. } = batch;
    let (batch, time_unix_ms) = (shown.id, shown.time_unix_ms);
    shown.messages.into_iter().map(move |(n, payload)| {
        let nick = nick.clone();
        let index = first.map(|first| first + u64::from(n));
        let forked = fork.has(index);
        Message { batch, n, nick, time_unix_ms, index, tentative, forked, payload }
    })
}

/// Has something looked up on the reader's thread.
pub(crate) async fn look_up<T: Send + 'static>(
    library: &Library,
    lookup: impl FnOnce(&Shelf) -> Result<T, SaveError> + Send + 'static,
) -> Result<T, HistoryError> {
    let (reply, answer) = oneshot::channel();
    library.ask(Box::new(move |shelf| {
        // Who asked may have gone.
        let _ = reply.send(lookup(shelf));
    }));
    match answer.await {
        Ok(found) => found.map_err(HistoryError::of),
        Err(_) => Err(HistoryError::Stopped(crate::error::Stopped)),
    }
}
