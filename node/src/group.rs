//! Which group is meant, and what a new one is to be.

use treecast_overlay::wire::ticket::Ticket;
use treecast_overlay::{
    Admission, CommitteePolicy, Descriptor, DescriptorError, Digest, NodeId, Order, Retention, Route,
};

/// How tickets begin, and no name does.
const TICKET_PREFIX: &str = "treecast1";

/// A group to be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupRef {
    /// By name: a group this node is in already, by its name here; or the open group of that name.
    /// A ticket's text is a ticket.
    Name(String),
    /// By what it is.
    Descriptor(Box<Descriptor>),
    /// By a ticket, which also says where some members are.
    Ticket(Box<Ticket>),
}

impl GroupRef {
    /// Whether this text is a ticket, right or wrong, and no name.
    pub(crate) fn is_ticket(text: &str) -> bool {
        text.starts_with(TICKET_PREFIX)
    }

    /// For people.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Descriptor(descriptor) => &descriptor.name,
            Self::Ticket(ticket) => &ticket.descriptor.name,
        }
    }
}

impl From<&str> for GroupRef {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<String> for GroupRef {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl From<Descriptor> for GroupRef {
    fn from(descriptor: Descriptor) -> Self {
        Self::Descriptor(Box::new(descriptor))
    }
}

impl From<Ticket> for GroupRef {
    fn from(ticket: Ticket) -> Self {
        Self::Ticket(Box::new(ticket))
    }
}

/// A group to be created: `total` and `tree:auto` unless told otherwise, for whoever has its
/// ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct NewGroup {
    name: String,
    order: Order,
    route: Route,
    retention: Retention,
    named_committee: bool,
    members: Vec<NodeId>,
}

impl NewGroup {
    /// A group of this name: 1 to 64 characters of any script.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            order: Order::Total,
            route: Route::TreeAuto,
            retention: Retention::default(),
            named_committee: false,
            members: Vec::new(),
        }
    }

    /// In which order its messages are delivered.
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Whether it is to have a total order.
    pub(crate) fn is_total(&self) -> bool {
        self.order == Order::Total
    }

    /// How its messages travel.
    pub fn route(mut self, route: Route) -> Self {
        self.route = route;
        self
    }

    /// What its members keep at least.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// The committee of a total order is whom the founder names (the members listed here, if any
    /// are, and the founder), not any member. Without meaning in other orders, and not kept there.
    pub fn named_committee(mut self, named: bool) -> Self {
        self.named_committee = named;
        self
    }

    /// A static group: these nodes only, and the founder.
    pub fn members(mut self, members: impl IntoIterator<Item = NodeId>) -> Self {
        self.members.extend(members);
        self
    }

    /// What the group is, with a salt that no other group has.
    pub(crate) fn descriptor(self, founder: NodeId, salt: Digest) -> Result<Descriptor, DescriptorError> {
        let mut listed = self.members;
        let is_static = !listed.is_empty();
        listed.push(founder);
        listed.sort_unstable();
        listed.dedup();
        let descriptor = Descriptor {
            name: self.name,
            order: self.order,
            route: self.route,
            founder: Some(founder),
            retention: self.retention,
            committee: match self.named_committee && self.order == Order::Total {
                true => CommitteePolicy::Named(listed.clone()),
                false => CommitteePolicy::Any,
            },
            admission: if is_static { Admission::Members(listed) } else { Admission::Ticket },
            salt: Some(salt),
            predecessor: None,
        };
        descriptor.check()?;
        Ok(descriptor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    #[test]
    fn the_founder_is_a_member_of_a_static_group() {
        let new = NewGroup::new("three").members([node(9), node(1), node(9)]);
        let descriptor = new.descriptor(node(5), Digest::from_bytes([1; 20])).expect("a good group");
        assert_eq!(descriptor.admission, Admission::Members(vec![node(1), node(5), node(9)]));
        assert_eq!((descriptor.founder, descriptor.order), (Some(node(5)), Order::Total));
    }

    #[test]
    fn two_groups_of_one_name_and_founder_differ() {
        let of = |salt| NewGroup::new("x").descriptor(node(1), Digest::from_bytes([salt; 20])).expect("good");
        assert_ne!(of(1).id(), of(2).id());
        assert_eq!(of(1).admission, Admission::Ticket);
        assert!(NewGroup::new("").descriptor(node(1), Digest::ZERO).is_err());
    }

    #[test]
    fn a_named_committee_is_the_members_or_the_founder() {
        let of = |new: NewGroup| {
            let new = new.named_committee(true).order(Order::Total);
            new.descriptor(node(5), Digest::ZERO).expect("a good group").committee
        };
        assert_eq!(of(NewGroup::new("x")), CommitteePolicy::Named(vec![node(5)]));
        let causal =
            NewGroup::new("x").named_committee(true).order(Order::Causal).descriptor(node(5), Digest::ZERO);
        assert_eq!(causal.expect("a good group").committee, CommitteePolicy::Any);
        assert_eq!(of(NewGroup::new("x").members([node(7)])), CommitteePolicy::Named(vec![node(5), node(7)]));
    }
}
