//! `sim`: what was typed, what a scenario file says, and how a run is shown.

pub(crate) mod flags;
mod scenario;
pub(crate) mod show;

pub(crate) use flags::SimFlags;
pub(crate) use scenario::read as read_scenario;
