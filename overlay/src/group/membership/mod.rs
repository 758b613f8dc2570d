//! Who is in the group, who is near, who is silent.

pub(crate) mod detector;
pub(crate) mod removal;
pub(crate) mod roster;
pub(crate) mod views;
