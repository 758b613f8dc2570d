//! Entering and leaving groups, nicks, receipts: what handles ask for. Whoever asks for something
//! that is to last is answered when it is on disk.

use tokio::sync::{oneshot, watch};
use treecast_overlay::io::MemberView;
use treecast_overlay::wire::ticket::Ticket;
use treecast_overlay::{BatchId, Descriptor, Digest, GroupId, Life, NodeId, Route, Seq};

use super::Driver;
use super::contacts::contacts_of;
use super::keeper::Then;
use crate::clock::unix_ms;
use crate::error::{GroupError, JoinError, SetNickError, UnknownGroup};
use crate::group::{GroupRef, NewGroup};
use crate::handle::{Entered, Receipt, ReceiptGoal};
use crate::history::{Listen, Since};
use crate::store::{Contact, KeptGroup, SaveError};
use crate::view::GroupInfo;

/// Where an answer goes, now or later. Who asked may have gone by then.
pub(crate) type Reply<T, E> = oneshot::Sender<Result<T, E>>;

impl Driver {
    /// Takes part in a group, with a hold for the caller.
    pub(crate) fn enter(
        &mut self,
        group: GroupRef,
        keep: bool,
        listen: Listen,
        reply: Reply<Entered, JoinError>,
    ) {
        match self.be_in(group) {
            Ok((id, contacts)) => {
                if let Err(error) = self.may_begin(id, listen.since) {
                    self.release_if_idle(id);
                    return drop(reply.send(Err(error.into())));
                }
                let entered = self.hold(id, listen);
                if keep {
                    self.keep(id, contacts, Box::new(|driver, saved| driver.entered(entered, saved, reply)));
                } else {
                    self.entered(entered, Ok(()), reply);
                }
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn hold(&mut self, id: GroupId, listen: Listen) -> Entered {
        let Listen { since, tentative } = listen;
        // What is delivered from here on comes through the queue.
        let past = (since != Since::Now).then(|| Box::new(self.pages(id, since, None)));
        let slot = self.groups.slots.get_mut(&id).expect("the group was just entered");
        slot.holds += 1;
        self.deaf_until = None;
        Entered {
            group: id,
            stay: slot.stay,
            descriptor: slot.descriptor.clone(),
            past,
            queue: slot.subscribe(self.limits.event_bytes, tentative),
            room: slot.room.clone(),
            max_message: self.limits.max_message,
        }
    }

    fn entered(
        &mut self,
        mut entered: Entered,
        saved: Result<(), SaveError>,
        reply: Reply<Entered, JoinError>,
    ) {
        let Some(past) = entered.past.take().filter(|_| saved.is_ok()) else {
            return self.answer_entered(entered, saved, reply);
        };
        self.when_written(Box::new(|driver, written| {
            let dropped = driver.keeper.archive.dropped(entered.group);
            entered.past = Some(Box::new(past.lacking(written, dropped)));
            driver.answer_entered(entered, Ok(()), reply);
        }));
    }

    fn answer_entered(
        &mut self,
        entered: Entered,
        saved: Result<(), SaveError>,
        reply: Reply<Entered, JoinError>,
    ) {
        let (group, stay) = (entered.group, entered.stay);
        let answer = saved.map(|()| entered).map_err(not_saved);
        let is_refused = answer.is_err();
        let is_unheard = reply.send(answer).is_err();
        if is_refused || is_unheard {
            self.release(group, stay);
        }
    }

    /// Takes part in a group until it is left, across restarts.
    pub(crate) fn add(&mut self, group: GroupRef, reply: Reply<GroupInfo, JoinError>) {
        match self.be_in(group) {
            Ok((id, contacts)) => self.keep(id, contacts, answer_info(id, reply)),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Makes a group and takes part in it.
    pub(crate) fn create(&mut self, new: NewGroup, salt: Digest, reply: Reply<GroupInfo, JoinError>) {
        match new.descriptor(self.me, salt) {
            Ok(descriptor) => self.add(descriptor.into(), reply),
            Err(error) => drop(reply.send(Err(error.into()))),
        }
    }

    /// Takes part in a group, and looks for the members that its ticket names.
    pub(super) fn be_in(&mut self, group: GroupRef) -> Result<(GroupId, Vec<Contact>), JoinError> {
        let (descriptor, contacts) = match self.groups.find(group.name()) {
            Some(id) if matches!(group, GroupRef::Name(_)) => {
                ((*self.groups.slots[&id].descriptor).clone(), ticket_contacts(&group))
            }
            _ => resolve(group)?,
        };
        let id = descriptor.id();
        if !self.groups.slots.contains_key(&id) {
            check_joinable(&descriptor, &self.me)?;
            if self.groups.slots.len() >= self.limits.max_groups {
                return Err(JoinError::TooMany(self.limits.max_groups));
            }
            let label = self.groups.free_label(&descriptor, id);
            self.step_in(label, descriptor);
        }
        let me = self.me;
        let contacts: Vec<Contact> = contacts.into_iter().filter(|it| it.node != me).collect();
        self.look_for(&contacts);
        Ok((id, contacts))
    }

    fn step_in(&mut self, label: String, descriptor: Descriptor) {
        let (id, me, nick) = (descriptor.id(), self.me, self.nick.clone());
        self.groups.open(id, label, descriptor.clone(), self.limits.publish_bytes).learn_nick(me, &nick);
        self.join_core(descriptor);
    }

    /// Goes on with a group that is kept; [`Driver::remind`] looks for its members.
    pub(crate) fn go_on(&mut self, group: &KeptGroup) {
        let id = group.descriptor.id();
        self.step_in(group.label.clone(), group.descriptor.clone());
        if let Some(slot) = self.groups.slots.get_mut(&id) {
            (slot.kept, slot.saved) = (true, true);
        }
    }

    /// Stays in a group until it is left. `then` happens once that is saved, or is not.
    pub(super) fn keep(&mut self, id: GroupId, contacts: Vec<Contact>, then: Then) {
        let slot = self.groups.slots.get_mut(&id).expect("only groups that were entered are kept");
        if slot.saved && contacts.is_empty() {
            return then(self, Ok(()));
        }
        slot.kept = true;
        let (stay, label, descriptor) = (slot.stay, slot.label.clone(), (*slot.descriptor).clone());
        let known = self.keeper.kept().groups.iter().find(|group| group.descriptor.id() == id);
        let mut group = known.cloned().unwrap_or_else(|| KeptGroup {
            label,
            descriptor,
            joined_ms: unix_ms(),
            members: Vec::new(),
        });
        group.learn(contacts);
        let after: Then = Box::new(move |driver, result| {
            driver.on_kept(id, stay, result.is_ok());
            then(driver, result);
        });
        self.keeper.keep(group, after);
    }

    fn on_kept(&mut self, id: GroupId, stay: u64, is_saved: bool) {
        // It may have been left meanwhile.
        let Some(slot) = self.groups.slots.get_mut(&id).filter(|slot| slot.stay == stay && slot.kept) else {
            return;
        };
        slot.saved |= is_saved;
        if !slot.saved {
            slot.kept = false;
            self.keeper.drop_group(id);
            self.release_if_idle(id);
        } else if !is_saved {
            self.keeper.retry_members(id);
        }
    }

    /// A handle is gone. A group that nothing holds any longer is left to itself.
    pub(super) fn release(&mut self, group: GroupId, stay: u64) {
        let Some(slot) = self.groups.slots.get_mut(&group).filter(|slot| slot.stay == stay) else { return };
        slot.holds = slot.holds.saturating_sub(1);
        self.release_if_idle(group);
    }

    fn release_if_idle(&mut self, group: GroupId) {
        if self.groups.slots.get(&group).is_some_and(|slot| slot.holds == 0 && !slot.kept) {
            self.step_out(group);
        }
    }

    /// Leaves for good; answers when the group is gone and that is saved.
    pub(crate) fn leave(&mut self, name: &str, reply: Reply<GroupInfo, GroupError>) {
        let found = self.group_info(name);
        let slot = found.as_ref().ok().and_then(|info| self.groups.slots.get_mut(&info.view.id));
        let (Ok(info), Some(slot)) = (&found, slot) else {
            return drop(reply.send(Err(UnknownGroup(name.to_owned()).into())));
        };
        let (id, info) = (info.view.id, info.clone());
        (slot.kept, slot.saved) = (false, false);
        let (left, is_left) = oneshot::channel();
        slot.await_left(left);
        let then: Then = Box::new(move |_, saved| {
            tokio::spawn(async move {
                // An error says that the node has ended; the group is left all the same.
                let _ = is_left.await;
                let answer = saved.map(|()| info).map_err(|error| GroupError::NotSaved(error.to_string()));
                let _ = reply.send(answer);
            });
        });
        self.keeper.forget(id, then);
        self.overlay().leave(id);
    }

    /// A ticket with where members are now.
    pub(crate) fn invite(&self, name: &str) -> Result<(String, Ticket), UnknownGroup> {
        let unknown = || UnknownGroup(name.to_owned());
        let id = self.groups.find(name).ok_or_else(unknown)?;
        let ticket = self.ticket(id).ok_or_else(unknown)?;
        Ok((self.groups.slots[&id].label.clone(), ticket))
    }

    /// Takes another nick and remembers it.
    pub(crate) fn set_nick(&mut self, nick: String, reply: Reply<(), SetNickError>) {
        let remembered = nick.clone();
        self.take_nick(nick);
        let then: Then = Box::new(move |_, saved| {
            // Who asked may have gone.
            let _ = reply.send(saved.map_err(|error| SetNickError::NotSaved(error.to_string())));
        });
        self.keeper.change_node(|node| node.nick = Some(remembered), then);
    }

    pub(super) fn take_nick(&mut self, nick: String) {
        self.nick.clone_from(&nick);
        let me = self.me;
        for slot in self.groups.slots.values_mut() {
            slot.learn_nick(me, &nick);
        }
        self.overlay().set_nick(nick);
    }

    pub(crate) fn await_ready(&mut self, group: GroupId) -> oneshot::Receiver<()> {
        let (reply, ready) = oneshot::channel();
        if let Some(slot) = self.groups.slots.get_mut(&group) {
            slot.await_ready(reply);
        }
        ready
    }

    pub(crate) fn await_receipt(
        &mut self,
        group: GroupId,
        batch: BatchId,
        goal: ReceiptGoal,
    ) -> oneshot::Receiver<Receipt> {
        let (reply, receipt) = oneshot::channel();
        if let Some(slot) = self.groups.slots.get_mut(&group)
            && slot.await_receipt(batch, goal, reply)
        {
            self.overlay().request_receipt(group, batch);
        }
        receipt
    }

    pub(crate) fn watch_receipt(
        &mut self,
        group: GroupId,
        batch: BatchId,
    ) -> watch::Receiver<Option<Receipt>> {
        let (watcher, steps) = watch::channel(None);
        if let Some(slot) = self.groups.slots.get_mut(&group)
            && slot.watch_receipt(batch, watcher)
        {
            self.overlay().request_receipt(group, batch);
        }
        steps
    }

    /// Who did not say that it has a batch of this node.
    pub(crate) fn lacking(&self, name: &str, life: Life, seq: Seq) -> Result<Vec<MemberView>, UnknownGroup> {
        let id = self.groups.find(name).ok_or_else(|| UnknownGroup(name.to_owned()))?;
        let batch = BatchId { source: self.me, life, seq };
        let lacking = self.swarm.behaviour().overlay.engine().lacking(id, &batch);
        let members = self.view(id).map(|it| it.members).unwrap_or_default();
        Ok(members.into_iter().filter(|it| lacking.contains(&it.node)).collect())
    }

    /// Asks the members once more who has it; `None` if this is no batch of the node's present life.
    pub(crate) fn ask_who_has(
        &mut self,
        name: &str,
        life: Life,
        seq: Seq,
    ) -> Option<oneshot::Receiver<Receipt>> {
        let group = self.groups.find(name)?;
        let end = self.keeper.archive.own_end(group)?;
        // What there is not would be asked for as long as the node runs.
        let is_there = end.life == life && seq < end.end;
        let batch = BatchId { source: self.me, life, seq };
        is_there.then(|| self.await_receipt(group, batch, ReceiptGoal::All))
    }

    pub(crate) fn receipt_so_far(&self, group: GroupId, batch: BatchId) -> Receipt {
        let slot = self.groups.slots.get(&group);
        slot.map_or(Receipt { have: 0, of: 0 }, |slot| slot.receipt_so_far(batch))
    }
}

/// What a group is that the node is not in yet, and whom to ask in.
pub(crate) fn resolve(group: GroupRef) -> Result<(Descriptor, Vec<Contact>), JoinError> {
    match group {
        GroupRef::Name(text) if GroupRef::is_ticket(&text) => {
            let ticket: Ticket = text.parse()?;
            resolve(ticket.into())
        }
        GroupRef::Name(name) => Ok((Descriptor::open(&name)?, Vec::new())),
        GroupRef::Descriptor(descriptor) => {
            descriptor.check()?;
            Ok((*descriptor, Vec::new()))
        }
        GroupRef::Ticket(ticket) => {
            ticket.descriptor.check()?;
            let contacts = contacts_of(&ticket);
            Ok((ticket.descriptor, contacts))
        }
    }
}

/// Whom a ticket names; a plain name names nobody.
fn ticket_contacts(group: &GroupRef) -> Vec<Contact> {
    match group {
        GroupRef::Name(text) => text.parse().as_ref().map(contacts_of).unwrap_or_default(),
        GroupRef::Descriptor(_) => Vec::new(),
        GroupRef::Ticket(ticket) => contacts_of(ticket),
    }
}

/// Whether this node may be in the group, and knows how.
pub(crate) fn check_joinable(descriptor: &Descriptor, me: &NodeId) -> Result<(), JoinError> {
    if !matches!(descriptor.route, Route::TreeShared | Route::TreeSource | Route::TreeAuto | Route::Unicast) {
        return Err(JoinError::NotBuilt(format!("the route {}", descriptor.route)));
    }
    if !descriptor.admits(me) {
        return Err(JoinError::NotAdmitted);
    }
    Ok(())
}

fn not_saved(error: SaveError) -> JoinError {
    JoinError::NotSaved(error.to_string())
}

pub(super) fn answer_info<E>(id: GroupId, reply: Reply<GroupInfo, E>) -> Then
where
    E: From<JoinError> + Send + 'static,
{
    Box::new(move |driver, saved| {
        let info = saved.map_err(not_saved).and_then(|()| {
            // It may have been left by somebody else meanwhile.
            driver.group_info(&id.to_string()).map_err(|_| JoinError::Stopped(crate::error::Stopped))
        });
        // Who asked may have gone.
        let _ = reply.send(info.map_err(E::from));
    })
}
