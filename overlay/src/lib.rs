//! Application-level multicast: nodes that can only send to each other one at a time form
//! groups, build spanning trees among themselves, pass every message down the trees once,
//! repair what is missed by gossip, and deliver in the order the group asked for.
//!
//! This crate is the protocol. Its core, [`Engine`], does no I/O, reads no clock and draws
//! no entropy: a run is a function of its inputs and its seed.
//!
//! With feature `libp2p` there is a `NetworkBehaviour` that adapts it to a swarm; with
//! feature `sim`, a simulator that runs hundreds of engines on virtual time.

mod config;
mod coordinate;
mod descriptor;
mod dialer;
mod engine;
pub mod files;
mod group;
mod id;
mod identity;
pub mod io;
mod joined;
mod links;
mod locator;
#[cfg(not(feature = "mutants"))]
mod mutants;
#[cfg(feature = "mutants")]
pub mod mutants;
mod out;
mod rng;
mod time;
pub mod wire;

#[cfg(feature = "libp2p")]
pub mod behaviour;
#[cfg(feature = "sim")]
pub mod sim;

pub use config::{Config, ConfigError};
pub use descriptor::{
    Admission, CommitteePolicy, Descriptor, DescriptorError, Order, Predecessor, Retention, Route,
    UnknownName,
};
pub use engine::{Engine, PastLife, Start};
pub use id::{
    Address, BatchId, Digest, GroupId, Life, LinkId, NodeId, ParseNodeIdError, PublishId, Seq, Token,
};
pub use io::{Delivery, Event, Input, Lane, Output, PublishError};
pub use out::Out;
pub use rng::Rng;
pub use time::Time;
