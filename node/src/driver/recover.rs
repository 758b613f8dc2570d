//! A group whose committee is lost goes on as another: its founder's.

use treecast_overlay::io::MemberState;
use treecast_overlay::{Descriptor, Digest, Order, Predecessor};

use super::Driver;
use super::enter::{Reply, answer_info};
use super::remove::called;
use crate::error::RecoverError;
use crate::view::GroupInfo;

impl Driver {
    /// Makes the successor of a group, and takes part in it.
    pub(crate) fn recover(&mut self, name: &str, salt: Digest, reply: Reply<GroupInfo, RecoverError>) {
        let successor = self.successor(name, salt);
        let entered = successor.and_then(|it| Ok(self.be_in(it.into())?));
        match entered {
            Ok((id, contacts)) => self.keep(id, contacts, answer_info(id, reply)),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// What the group after this one is: as this one, from where its order is here.
    fn successor(&self, name: &str, salt: Digest) -> Result<Descriptor, RecoverError> {
        let info = self.group_info(name)?;
        let (group, descriptor) = (info.label.clone(), &info.view.descriptor);
        if descriptor.order != Order::Total {
            return Err(RecoverError::NotTotal { group, order: descriptor.order });
        }
        if let Some(founder) = descriptor.founder.filter(|it| *it != self.me) {
            return Err(RecoverError::NotFounder { founder: called(&info, &founder), group });
        }
        let Some(order) = info.view.order.as_ref().filter(|it| !it.committee.is_empty()) else {
            return Err(RecoverError::Unfounded(group));
        };
        let is_online = |node: &treecast_overlay::NodeId| {
            let state = info.view.members.iter().find(|it| it.node == *node).map(|it| it.state);
            *node == self.me || state == Some(MemberState::Online)
        };
        let seats = order.committee.len();
        let live = order.committee.iter().filter(|it| is_online(it)).count();
        if live * 2 > seats {
            return Err(RecoverError::GoesOn { group, live, seats });
        }
        let digest = order.digest.unwrap_or(Digest::ZERO);
        let predecessor = Some(Predecessor { group: info.view.id, index: order.index, digest });
        Ok(Descriptor { salt: Some(salt), predecessor, ..descriptor.clone() })
    }
}
