//! A ready treecast node: swarm, transports, discovery, control socket.

pub mod control;
mod failure;

pub use failure::{Failure, exit};
