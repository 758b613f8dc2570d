//! Total order (`DESIGN.md` §5): a committee agrees on cuts, everybody expands them to the same sequence.
//!
//! Rooms that know nothing of each other: [`cut`] what is agreed on, [`ledger`] from causal deliveries and cuts
//! to one sequence, [`consensus`] the seam to agreement, with [`solo`] and [`paxos`] behind it,
//! [`delegate`] this node's part in a committee.

mod consensus;
mod cut;
mod delegate;
mod ledger;
mod mirror;
mod paxos;
mod solo;
