//! The simulator: real engines and real encoded frames on virtual time.
//!
//! [`World`] is the driver of all its nodes at once. It owns the clock, the queue of what is
//! to happen, the links and the faults; [`NetworkModel`] says how long things take;
//! [`Scenario`] is a timed list of [`Step`]s; [`Report`] sums up what was seen. A run is a
//! function of its seed: [`World::trace_hash`] is the same in every process.
//!
//! ```
//! use treecast_overlay::sim::{Contacts, NetworkModel, World};
//! use treecast_overlay::{Descriptor, Time};
//!
//! let mut world = World::new(7, NetworkModel::lan());
//! world.contacts = Contacts::All;
//! let lobby = Descriptor::open("lobby").expect("a good name");
//! for _ in 0..3 {
//!     let node = world.add_node(&[lobby.clone()]);
//!     world.start(node, true);
//! }
//! world.run_until(Time::from_micros(1_000_000));
//! ```

mod disk;
mod experiment;
mod faults;
mod forger;
mod lie;
mod link;
mod meter;
mod network;
mod node;
mod queue;
mod record;
mod report;
mod scenario;
mod storage;
mod trace;
mod transport;
mod world;

pub use experiment::{
    CONTACTS, Experiment, ExperimentError, Joiners, Kill, Killed, Liars, Measures, Partition, Stretch, Tail,
    Times, UnreadableOption,
};
pub use faults::Crash;
pub use lie::Lie;
pub use network::{Latency, NetworkModel};
pub use node::NodeIx;
pub use record::{Captured, Record, Stop, What};
pub use report::{Report, Spread};
pub use scenario::{Scenario, Step};
pub use storage::OrderKept;
pub use world::{Contacts, Tamper, Traffic, World};
