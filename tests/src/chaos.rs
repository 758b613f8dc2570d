//! Runs made from a seed: some nodes, a network, an hour's worth of misfortune in twenty
//! seconds; then faults are lifted and everything that must hold is demanded.

mod nasty;
mod ordered;
mod plan;
mod run;
mod storm;

pub use plan::{Act, Plan, Size};
pub use run::{Outcome, run};
pub use storm::{storm, survives};
