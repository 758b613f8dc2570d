//! Asking for batches that are missing.

use super::cbor::cbor_array;
use crate::id::{Life, NodeId, Seq};

cbor_array! {
    /// Names batches of one (source, life): ranges of (first, first after).
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Pull {
        pub(crate) source: NodeId,
        pub(crate) life: Life,
        pub(crate) ranges: Vec<(Seq, Seq)>,
    }
}

cbor_array! {
    /// Ends the answer to a pull: what was asked for and not sent.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct PullEnd {
        pub(crate) source: NodeId,
        pub(crate) life: Life,
        /// Not held here.
        pub(crate) absent: Vec<(Seq, Seq)>,
        /// All below this was held and has been dropped.
        pub(crate) dropped_below: Seq,
    }
}

cbor_array! {
    /// From a parent: it lacks batches of this life below `end`, and has asked for them; its children are not to
    /// ask, too.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Hold {
        pub(crate) source: NodeId,
        pub(crate) life: Life,
        pub(crate) end: Seq,
    }
}
