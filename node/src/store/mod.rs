//! What outlives the process: one SQLite file in the data directory.
//!
//! A start opens it, brings its tables up to date and reads them ([`Store::open`]), and writes what
//! the start itself changes ([`Store::write`]): all before anything else runs, so a store that is
//! damaged, newer than this program or cannot be written stops the start with nothing half done.
//! From then on a thread of its own has the connection ([`Store::serve`]): it takes [`Work`] over a
//! channel, commits whatever waits as one transaction, and only then answers, so that nobody who
//! has an answer can lose by a crash what it is about.
//!
//! The file is in WAL mode with `synchronous=FULL`: a commit that was answered survives SIGKILL and,
//! as far as the disk is honest, the loss of power.

mod causes;
mod earlier;
mod error;
mod fold;
mod kept;
mod library;
mod log;
mod offers;
mod open;
mod order;
mod ordered;
mod past;
mod read;
mod record;
mod schema;
mod thread;
mod upkeep;
mod work;

pub(crate) use earlier::Piece;
pub(crate) use error::{SaveError, StoreError};
pub(crate) use fold::Words;
pub(crate) use kept::{
    Contact, Kept, KeptGroup, KeptNode, MAX_ADDRESSES, MAX_MEMBERS, MAX_PEERS, free_label,
};
pub(crate) use library::{Library, PastBatch, Shelf, Span};
pub(crate) use offers::{HeldFile, KnownOffer};
pub(crate) use open::Store;
pub(crate) use order::Agreement;
pub(crate) use record::KeptBatch;
pub(crate) use thread::{Done, JobId, Writer};
pub(crate) use work::{Work, integer};

#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod offers_tests;
#[cfg(test)]
mod order_tests;
#[cfg(test)]
mod tests;
