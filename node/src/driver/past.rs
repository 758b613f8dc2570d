//! The driver's side of the history: what is kept, what others are served, where readers begin.

use std::collections::BTreeSet;

use treecast_overlay::io::{Fetch, FetchEarlier, Record, Write};
use treecast_overlay::{BatchId, Event as Core, GroupId, Order, Token};

use super::Driver;
use super::enter::Reply;
use super::groups::Slot;
use super::keeper::Then;
use super::order::OrderPlace;
use crate::clock::unix_ms;
use crate::error::{HistoryError, NoIndex};
use crate::event::Event;
use crate::history::{Pages, Since};
use crate::store::{Piece, SaveError, Span, integer};

/// An answer from the history.
pub(super) enum Found {
    /// What a pull asked for, and the lowest that is kept.
    Batches(Token, Vec<(u64, bytes::Bytes)>, Option<u64>),
    /// What somebody who came later asked for.
    Earlier(Token, Piece),
}

impl Driver {
    /// Something was delivered: it is kept, soon.
    pub(super) fn on_record(&mut self, record: Record) {
        let group = record.group;
        if self.groups.slots.get(&group).is_some_and(Slot::is_left) {
            return;
        }
        let slot = self.groups.slots.get_mut(&group);
        let nick_of = |node: &_| slot.as_ref().map(|it| it.nick_of(node)).unwrap_or_else(|| "".into());
        let places = self.keeper.archive.record(record, unix_ms(), nick_of);
        match (places, slot) {
            (Some(places), Some(slot)) => slot.undelivered.extend(places),
            (None, Some(slot)) => slot.tell(Event::Overloaded { cap: "node/history_waiting" }),
            (_, None) => {}
        }
        self.tell_placed(group);
    }

    /// Tells what has its place in a total order and is kept; all of it, if no more is kept.
    pub(super) fn tell_placed(&mut self, group: GroupId) {
        let Some(order) = self.keeper.archive.order(group) else { return };
        let kept = if order.is_frozen() { u64::MAX } else { order.index() };
        if let Some(slot) = self.groups.slots.get_mut(&group) {
            slot.tell_placed(kept);
        }
    }

    /// What the core waits for.
    pub(super) fn on_persist(&mut self, token: Token, writes: Vec<Write>) {
        // What is promised rests on what was delivered before.
        let is_frozen = |group| self.keeper.archive.order(group).is_some_and(OrderPlace::is_frozen);
        if writes.iter().any(|it| matches!(it, Write::Agreement { group, .. } if is_frozen(*group))) {
            return self.on_not_persisted(token, &writes);
        }
        let nick = self.nick.as_str().into();
        for (group, id, at) in self.keeper.write(token, writes, &nick) {
            if let Some(slot) = self.groups.slots.get_mut(&group) {
                slot.undelivered.insert(id, at);
            }
        }
    }

    /// It was not written: it will not be delivered either.
    pub(super) fn on_not_persisted(&mut self, token: Token, writes: &[Write]) {
        for write in writes {
            if let Write::Batch { group, id, .. } = write
                && let Some(slot) = self.groups.slots.get_mut(group)
            {
                slot.undelivered.remove(id);
                self.keeper.archive.on_not_own(*group, id);
            }
        }
        self.overlay().persist_failed(token);
    }

    /// The history has answered.
    pub(super) fn on_found_past(&mut self, found: Found) {
        match found {
            Found::Batches(token, batches, first) => self.overlay().fetched(token, batches, first),
            Found::Earlier(token, Piece { batches, last, end }) => {
                let now = unix_ms();
                let aged = batches.into_iter().map(|(at, batch)| (now.saturating_sub(at), batch));
                self.overlay().fetched_earlier(token, aged.collect(), last, end);
            }
        }
    }

    /// Somebody gathers what was said before its time.
    pub(super) fn on_fetch_earlier(&mut self, token: Token, fetch: FetchEarlier) {
        let found = self.found_past.0.clone();
        self.shelves.serving.ask(Box::new(move |shelf| {
            let piece = shelf.earlier(&fetch).unwrap_or_else(|error| {
                tracing::warn!(%error, "the history was not read");
                Piece::default()
            });
            // The driver may have ended.
            let _ = found.send(Found::Earlier(token, piece));
        }));
    }

    /// Somebody asks for what is no longer in memory.
    pub(super) fn on_fetch(&mut self, token: Token, fetch: Box<Fetch>) {
        let found = self.found_past.0.clone();
        self.shelves.serving.ask(Box::new(move |shelf| {
            let answer = shelf.fetch(&fetch).unwrap_or_else(|error| {
                tracing::warn!(%error, "the history was not read");
                (Vec::new(), Some(0))
            });
            // The driver may have ended.
            let _ = found.send(Found::Batches(token, answer.0, answer.1));
        }));
    }

    /// Goes on in a group where this node left it.
    pub(super) fn join_core(&mut self, descriptor: treecast_overlay::Descriptor) {
        let id = descriptor.id();
        self.keeper.retain(id, descriptor.retention);
        if descriptor.order == Order::Total {
            self.keeper.archive.has_order(id);
            let kept = self.keeper.archive.order(id).map_or(0, OrderPlace::index);
            if let Some(slot) = self.groups.slots.get_mut(&id) {
                slot.placing.begin(kept);
            }
        }
        if let Some(past) = self.keeper.archive.past(id) {
            self.overlay().resume(past);
        }
        self.overlay().join(descriptor);
    }

    /// Why what should be on disk is not, if that is how it is.
    pub(crate) fn store_failure(&self) -> Option<String> {
        self.keeper.failure().map(ToString::to_string)
    }

    /// What is delivered goes to subscribers, and is no longer on its way there.
    pub(super) fn note_history(&mut self, event: &Core) {
        match event {
            Core::Deliver { group, delivery, .. } => {
                if let Some(slot) = self.groups.slots.get_mut(group) {
                    slot.undelivered.remove(&delivery.batch());
                }
            }
            // With what was still published meanwhile.
            Core::LeftGroup { group } if self.groups.slots.get(group).is_some_and(Slot::is_left) => {
                self.keeper.forget(*group, Box::new(|_, _| {}));
            }
            Core::Doubled { group, addresses } => self.on_doubled(*group, addresses),
            Core::Sent { group, batch } => self.keeper.archive.on_taken(*group, batch.life, batch.seq + 1),
            _ => {}
        }
    }

    /// All of a group's history that was delivered by now. What comes from now on is not in it.
    pub(super) fn pages(&self, group: GroupId, since: Since, limit: Option<u64>) -> Pages {
        let called = self.groups.slots.get(&group).map(|it| (it.label.clone(), it.fork.clone()));
        let (mut from, mut since_ms) = (i64::MIN, 0);
        match since {
            Since::Start => {}
            Since::Index(index) => from = integer(index),
            Since::Last(age) => {
                since_ms = unix_ms().saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
            }
            Since::Now => since_ms = u64::MAX >> 1,
        }
        let slot = self.groups.slots.get(&group);
        let total = slot.filter(|it| it.descriptor.order == Order::Total);
        let before = total.map_or(self.keeper.archive.next_at(), |it| it.placing.told());
        // Of a total order only what was told is read.
        let undelivered = slot.filter(|_| total.is_none()).into_iter().flat_map(|it| it.undelivered.values());
        let except: BTreeSet<u64> = undelivered.copied().collect();
        let span = Span { group, from, before: integer(before), since_ms, total: total.is_some() };
        Pages::new(self.shelves.reading.clone(), called.unwrap_or_default(), span, except, limit)
    }

    /// Whether this group has messages with a place to begin at, if one is named.
    pub(super) fn may_begin(&self, group: GroupId, since: Since) -> Result<(), NoIndex> {
        let order = self.groups.slots.get(&group).map(|it| it.descriptor.order);
        match since {
            Since::Index(index) if order != Some(Order::Total) => Err(NoIndex(index)),
            _ => Ok(()),
        }
    }

    /// A group's history, once all of it is on disk.
    pub(crate) fn history(
        &mut self,
        name: &str,
        since: Since,
        limit: Option<u64>,
        until: Option<(BatchId, u32)>,
        reply: Reply<Pages, HistoryError>,
    ) {
        let Some(group) = self.groups.find(name) else {
            return drop(reply.send(Err(crate::error::UnknownGroup(name.to_owned()).into())));
        };
        if let Err(error) = self.may_begin(group, since) {
            return drop(reply.send(Err(error.into())));
        }
        let pages = self.pages(group, since, limit).until(until);
        self.when_written(Box::new(move |driver, saved| {
            let dropped = driver.keeper.archive.dropped(group);
            // Who asked may have gone.
            let _ = reply.send(Ok(pages.lacking(saved, dropped)));
        }));
    }

    /// What this node calls its groups, once all their history is on disk.
    pub(crate) fn shelf(
        &mut self,
        name: Option<&str>,
        reply: Reply<crate::history::Catalogue, HistoryError>,
    ) {
        let only = match name.map(|name| self.groups.find(name).ok_or(name)) {
            Some(Err(name)) => {
                return drop(reply.send(Err(crate::error::UnknownGroup(name.to_owned()).into())));
            }
            found => found.and_then(Result::ok),
        };
        let called = |slot: &Slot| (slot.label.clone(), slot.fork.clone());
        let groups = self.groups.slots.iter().map(|(id, slot)| (*id, called(slot))).collect();
        let library = self.shelves.reading.clone();
        let mut catalogue = crate::history::Catalogue { library, groups, only, incomplete: None };
        self.when_written(Box::new(move |_, saved| {
            catalogue.incomplete = saved.err().map(|error| error.to_string());
            // Who asked may have gone.
            let _ = reply.send(Ok(catalogue));
        }));
    }

    /// Does something once all that was delivered by now is on disk, or is not.
    pub(super) fn when_written(&mut self, then: Then) {
        self.keeper.flush(Box::new(|driver, saved| {
            let failure = driver.keeper.failure().cloned();
            then(driver, failure.map_or(saved, Err::<(), SaveError>));
        }));
    }
}
