//! A ready treecast node: swarm, transports, discovery, control socket.

pub mod control;
mod discovery;
mod failure;
mod files;
mod identity;
mod lock;
mod state;
mod transport;

pub use failure::{Failure, exit};
pub use lock::{holder, wait_released};
