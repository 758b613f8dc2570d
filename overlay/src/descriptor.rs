//! What a group is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{Digest, GroupId, NodeId};
use crate::wire::cbor::{self, cbor_array};

/// In which order a group's messages are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Order {
    /// As they come.
    Unordered,
    /// Each source's in its own order, across its lives.
    Fifo,
    /// After everything their author had delivered; and fifo.
    Causal,
    /// All members the same sequence; and causal.
    Total,
}

/// How a group's batches travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Route {
    /// Shared trees only.
    TreeShared,
    /// A tree a source.
    TreeSource,
    /// Shared trees, busy sources promoted to their own.
    TreeAuto,
    /// Push gossip.
    GossipPush,
    /// Pull gossip.
    GossipPull,
    /// Both.
    GossipPushPull,
    /// The source sends to all.
    Unicast,
}

macro_rules! named {
    ($type:ident, $what:literal, { $($variant:ident = $code:literal $name:literal),+ $(,)? }) => {
        impl $type {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its number on the wire.
            pub const fn code(self) -> u8 {
                match self { $(Self::$variant => $code),+ }
            }

            /// Its name, as people type it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|it| it.name() == text).ok_or(UnknownName($what))
            }
        }

        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u8(self.code())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let code = u8::deserialize(deserializer)?;
                Self::ALL.iter().copied().find(|it| it.code() == code)
                    .ok_or_else(|| serde::de::Error::custom(concat!("unknown ", $what)))
            }
        }
    };
}

named!(Order, "order", { Unordered = 0 "unordered", Fifo = 1 "fifo", Causal = 2 "causal", Total = 3 "total" });
named!(Route, "route", {
    TreeShared = 0 "tree:shared", TreeSource = 1 "tree:source", TreeAuto = 2 "tree:auto",
    GossipPush = 3 "gossip:push", GossipPull = 4 "gossip:pull", GossipPushPull = 5 "gossip:push-pull",
    Unicast = 6 "unicast",
});

/// The text names no known order or route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown {0}")]
pub struct UnknownName(&'static str);

cbor_array! {
    /// What a group keeps at least, so that members that were away can come back. Bounds that
    /// are given hold together: what exceeds any of them may go.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Retention {
        /// Seconds.
        pub age_s: Option<u64>,
        /// Payload bytes.
        pub bytes: Option<u64>,
        /// Messages.
        pub count: Option<u64>,
    }
}

/// Who may join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Whoever knows the name.
    Open,
    /// Whoever has the ticket.
    Ticket,
    /// These only, sorted by id.
    Members(Vec<NodeId>),
}

impl Admission {
    /// Whether this node may be in the group, by the list.
    pub fn admits(&self, node: &NodeId) -> bool {
        match self {
            Self::Open | Self::Ticket => true,
            Self::Members(members) => members.binary_search(node).is_ok(),
        }
    }
}

/// Who may be in the committee of a total order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitteePolicy {
    /// Any member.
    Any,
    /// Those that the founder named, sorted by id.
    Named(Vec<NodeId>),
}

/// On the wire: `[code, list]`, with an empty list for the codes that have none.
macro_rules! listed {
    ($type:ident { $($code:literal => $unit:ident,)+ } $list_code:literal => $list:ident) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let (code, list): (u8, &[NodeId]) = match self {
                    $(Self::$unit => ($code, &[]),)+
                    Self::$list(list) => ($list_code, list),
                };
                (code, list).serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match <(u8, Vec<NodeId>)>::deserialize(deserializer)? {
                    $(($code, list) if list.is_empty() => Ok(Self::$unit),)+
                    ($list_code, list) => Ok(Self::$list(list)),
                    _ => Err(serde::de::Error::custom("unknown policy")),
                }
            }
        }
    };
}

listed!(Admission { 0 => Open, 1 => Ticket, } 2 => Members);
listed!(CommitteePolicy { 0 => Any, } 1 => Named);

cbor_array! {
    /// Where the history of a recovered group began.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Predecessor {
        /// The group whose committee was lost.
        pub group: GroupId,
        /// Messages that had a place in it, as far as its founder knew: the first message of this group has this index.
        pub index: u64,
        /// The digest of the last record of its order that the founder had; zeros if there was none.
        pub digest: Digest,
    }
}

cbor_array! {
    /// What a group *is*. Its hash is the [`GroupId`].
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Descriptor {
        /// 1 to 64 characters of any script.
        pub name: String,
        /// Delivery order.
        pub order: Order,
        /// How batches travel.
        pub route: Route,
        /// Whose signature the group's own records need; open groups have none.
        pub founder: Option<NodeId>,
        /// What members keep.
        pub retention: Retention,
        /// Who may join.
        pub admission: Admission,
        /// Who may order.
        pub committee: CommitteePolicy,
        /// Tells created groups of one name apart; none in open groups.
        pub salt: Option<Digest>,
        /// The group this one recovers.
        pub predecessor: Option<Predecessor>,
    }
}

/// A descriptor that no group may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptorError {
    /// The name is empty or longer than 64 characters.
    #[error("a group's name has 1 to 64 characters; this one has {0}")]
    NameLength(usize),
    /// The name has a control character, or begins or ends with a space.
    #[error("a group's name has no control characters and no space at its ends")]
    NameCharacters,
    /// The name looks like a ticket.
    #[error("a group's name does not begin with `treecast1`: that is how tickets begin")]
    NameIsTicket,
    /// More than 1,000 members or committee candidates, or not sorted.
    #[error("the descriptor's {0} is out of range")]
    OutOfRange(&'static str),
    /// The bytes are no descriptor.
    #[error("not a group descriptor")]
    Malformed,
}

impl Descriptor {
    /// Longest name, in characters.
    pub const MAX_NAME: usize = 64;
    /// Most members or committee candidates that a descriptor lists.
    pub const MAX_LISTED: usize = 1_000;

    /// The open group of this name with the defaults (`causal`, `tree:auto`): the same on
    /// every node, so the name alone is enough to meet.
    ///
    /// # Errors
    /// When the name is not allowed.
    pub fn open(name: &str) -> Result<Self, DescriptorError> {
        let descriptor = Self {
            name: name.to_owned(),
            order: Order::Causal,
            route: Route::TreeAuto,
            founder: None,
            retention: Retention::default(),
            admission: Admission::Open,
            committee: CommitteePolicy::Any,
            salt: None,
            predecessor: None,
        };
        descriptor.check()?;
        Ok(descriptor)
    }

    /// Whether its fields are in their ranges.
    ///
    /// # Errors
    /// Names the first that is not.
    pub fn check(&self) -> Result<(), DescriptorError> {
        let length = self.name.chars().count();
        if length == 0 || length > Self::MAX_NAME {
            return Err(DescriptorError::NameLength(length));
        }
        if self.name.chars().any(char::is_control) || self.name.trim() != self.name {
            return Err(DescriptorError::NameCharacters);
        }
        if self.name.starts_with("treecast1") {
            return Err(DescriptorError::NameIsTicket);
        }
        if let Admission::Members(members) = &self.admission {
            check_list(members, "member list")?;
        }
        if let CommitteePolicy::Named(members) = &self.committee {
            check_list(members, "committee list")?;
        }
        Ok(())
    }

    /// Whether this node may be in the group (by the list; tickets are the transport's matter).
    pub fn admits(&self, node: &NodeId) -> bool {
        self.admission.admits(node)
    }

    /// Whether somebody created it, for those who have its ticket. The open group of a name is
    /// anybody's, and there is one on every LAN: it is announced nowhere.
    pub fn is_created(&self) -> bool {
        self.founder.is_some() || self.admission != Admission::Open
    }

    /// Its canonical bytes: CBOR, arrays for structs.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// Reads and checks what [`Descriptor::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are malformed, not canonical, or describe a group that may not be.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DescriptorError> {
        let descriptor: Self = cbor::from_slice(bytes).map_err(|_| DescriptorError::Malformed)?;
        descriptor.check()?;
        if descriptor.to_bytes() != bytes {
            return Err(DescriptorError::Malformed);
        }
        Ok(descriptor)
    }

    /// The group's identity: BLAKE3 (derive-key context `treecast 1 group`) of
    /// [`Descriptor::to_bytes`].
    pub fn id(&self) -> GroupId {
        GroupId::from_bytes(blake3::derive_key("treecast 1 group", &self.to_bytes()))
    }
}

fn check_list(members: &[NodeId], what: &'static str) -> Result<(), DescriptorError> {
    let sorted = members.windows(2).all(|pair| pair[0] < pair[1]);
    if members.is_empty() || members.len() > Descriptor::MAX_LISTED || !sorted {
        return Err(DescriptorError::OutOfRange(what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_alone_makes_the_same_open_group() {
        let one = Descriptor::open("lobby").expect("a good name");
        assert_eq!(one.id(), Descriptor::open("lobby").expect("a good name").id());
        assert_ne!(one.id(), Descriptor::open("lobby2").expect("a good name").id());
        assert_eq!(Descriptor::from_bytes(&one.to_bytes()), Ok(one));
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(Descriptor::open(""), Err(DescriptorError::NameLength(0)));
        assert_eq!(Descriptor::open(&"é".repeat(65)), Err(DescriptorError::NameLength(65)));
        assert!(Descriptor::open(&"群".repeat(64)).is_ok());
        assert_eq!(Descriptor::open("a\u{7}b"), Err(DescriptorError::NameCharacters));
        assert_eq!(Descriptor::open("treecast1xyz"), Err(DescriptorError::NameIsTicket));
    }
}
