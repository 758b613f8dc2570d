//! Finding others: whom to dial, where, and when again.

pub(crate) mod addresses;
pub(crate) mod ear;
pub(crate) mod kad;
pub(crate) mod mdns;
pub(crate) mod reach;
pub(crate) mod redial;
mod twin;
