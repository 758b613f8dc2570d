//! Experiments: a group on a network, and what its messages cost and how long they take.
//!
//! An [`Experiment`] says what is to be tried; [`Experiment::run`] starts all nodes at once from
//! nothing, waits until the group has settled, publishes, does what is asked for (kills, cuts,
//! churn, joins) and measures on the way. The same experiment gives the same [`Measures`],
//! to the bit, in every process.
//!
//! 1. **Start.** All nodes start at time 0 and each is told of [`CONTACTS`] others at random, as
//!    a ticket names them. Nobody knows anybody else.
//! 2. **Settling** ends when every member is ready and the mean delay along its tree has changed
//!    by less than 1 % over the last 5 s, or after 120 s.
//! 3. **Idle**: 10 s in which nobody publishes, for what a group costs that is silent.
//! 4. **The span**: [`Experiment::span`] of publishing at an even pace. All moments that an
//!    experiment names count from its beginning.
//! 5. **After it**, until all that is owed is delivered, for 60 s at most.
//!
//! ```
//! use std::time::Duration;
//! use treecast_overlay::sim::{Experiment, NetworkModel};
//!
//! let measures = Experiment {
//!     nodes: 5,
//!     network: NetworkModel::lan(),
//!     span: Duration::from_secs(2),
//!     ..Experiment::default()
//! }
//! .run()
//! .expect("the options are in range");
//! assert_eq!((measures.messages, measures.missing), (20, 0));
//! ```

mod calendar;
mod floor;
mod judge;
mod measures;
mod options;
mod runner;
mod settling;

pub use measures::{Measures, Stretch, Tail, Times};
pub use options::{Experiment, ExperimentError, Joiners, Kill, Killed, Liars, Partition, UnreadableOption};
pub use runner::CONTACTS;
