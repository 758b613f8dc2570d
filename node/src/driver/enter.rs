//! Entering and leaving groups, nicks, receipts: what handles ask for.

use tokio::sync::oneshot;
use treecast_overlay::{BatchId, Descriptor, GroupId, Order};

use super::Driver;
use crate::config::GroupRef;
use crate::error::{JoinError, UnknownGroup};
use crate::handle::{Entered, Receipt, ReceiptGoal};
use crate::state::KeptGroup;
use crate::view::GroupInfo;

impl Driver {
    /// Takes part in a group, with a hold for the caller.
    pub(crate) fn enter(&mut self, group: GroupRef, keep: bool) -> Result<Entered, JoinError> {
        let id = self.be_in(group, keep)?;
        let slot = self.groups.slots.get_mut(&id).expect("the group was just entered");
        slot.holds += 1;
        Ok(Entered {
            group: id,
            stay: slot.stay,
            descriptor: slot.descriptor.clone(),
            queue: slot.subscribe(self.limits.event_bytes),
            room: slot.room.clone(),
            max_message: self.limits.max_message,
        })
    }

    /// Takes part in a group; with `keep`, until told otherwise, across restarts.
    pub(crate) fn be_in(&mut self, group: GroupRef, keep: bool) -> Result<GroupId, JoinError> {
        let descriptor = match group {
            GroupRef::Name(name) => match self.groups.find(&name) {
                Some(id) => (*self.groups.slots[&id].descriptor).clone(),
                None => Descriptor::open(&name)?,
            },
            GroupRef::Descriptor(descriptor) => {
                descriptor.check()?;
                *descriptor
            }
        };
        let id = descriptor.id();
        if !self.groups.slots.contains_key(&id) {
            self.check_joinable(&descriptor)?;
            let (me, nick) = (self.me, self.nick.clone());
            self.overlay().join(descriptor.clone());
            self.groups.open(id, descriptor, self.limits.publish_bytes).learn_nick(me, &nick);
        }
        if keep {
            self.keep(id)?;
        }
        Ok(id)
    }

    fn check_joinable(&self, descriptor: &Descriptor) -> Result<(), JoinError> {
        if descriptor.order == Order::Total {
            return Err(JoinError::NotBuilt("total order"));
        }
        if !descriptor.admits(&self.me) {
            return Err(JoinError::NotAdmitted);
        }
        if self.groups.slots.len() >= self.limits.max_groups {
            return Err(JoinError::TooMany(self.limits.max_groups));
        }
        Ok(())
    }

    fn keep(&mut self, id: GroupId) -> Result<(), JoinError> {
        let slot = self.groups.slots.get_mut(&id).expect("only groups that were entered are kept");
        if slot.kept {
            return Ok(());
        }
        let kept = KeptGroup { label: slot.label.clone(), descriptor: (*slot.descriptor).clone() };
        let known = self.keeper.state().groups.iter().any(|other| other.descriptor.id() == id);
        slot.kept = true;
        if !known {
            let saved = self.keeper.change_now(|state| state.groups.push(kept));
            saved.map_err(|error| JoinError::NotSaved(error.to_string()))?;
        }
        Ok(())
    }

    /// A handle is gone. A group that nothing holds any longer is left to itself.
    pub(super) fn release(&mut self, group: GroupId, stay: u64) {
        let Some(slot) = self.groups.slots.get_mut(&group).filter(|slot| slot.stay == stay) else { return };
        slot.holds = slot.holds.saturating_sub(1);
        if slot.holds == 0 && !slot.kept {
            self.step_out(group);
        }
    }

    /// Leaves for good. The receiver hears when the group is gone.
    pub(crate) fn leave(&mut self, name: &str) -> Result<(GroupInfo, oneshot::Receiver<()>), UnknownGroup> {
        let info = self.group_info(name)?;
        let id = info.view.id;
        let (reply, left) = oneshot::channel();
        let slot = self.groups.slots.get_mut(&id).ok_or_else(|| UnknownGroup(name.to_owned()))?;
        slot.kept = false;
        slot.await_left(reply);
        let saved = self.keeper.change_now(|state| state.groups.retain(|kept| kept.descriptor.id() != id));
        if let Err(error) = saved {
            tracing::error!(%error, "that the group is left could not be saved");
        }
        self.overlay().leave(id);
        Ok((info, left))
    }

    /// Takes another nick and remembers it.
    pub(crate) fn set_nick(&mut self, nick: String) {
        let remembered = nick.clone();
        self.take_nick(nick);
        if let Err(error) = self.keeper.change_now(|state| state.nick = Some(remembered)) {
            tracing::error!(%error, "the nick could not be saved");
        }
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
}
