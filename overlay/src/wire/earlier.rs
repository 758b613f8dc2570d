//! History from before a member's time, as its neighbours have it.

use serde_bytes::ByteBuf;

use super::cbor::cbor_array;

cbor_array! {
    /// Asks for a piece of the receiver's history, latest first.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct PullEarlier {
        /// What stands before this place of it; the whole if absent. A place is the receiver's own number.
        pub(crate) before: Option<i64>,
    }
}

cbor_array! {
    /// Answers that.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Earlier {
        /// How long each has been there, milliseconds, and itself; latest first.
        pub(crate) batches: Vec<(u64, ByteBuf)>,
        /// The place of the last of them.
        pub(crate) last: Option<i64>,
        /// Nothing stands before it.
        pub(crate) end: bool,
        /// The sender does not lack anything from before its own time.
        pub(crate) whole: bool,
    }
}
