//! The only place that knows bytes: frames, batches, records, tickets (`docs/wire.md`).

pub(crate) mod agreement;
pub(crate) mod batch;
pub(crate) mod cbor;
pub(crate) mod compare;
pub(crate) mod earlier;
pub(crate) mod frame;
pub(crate) mod frontier;
pub(crate) mod order;
pub(crate) mod pull;
pub(crate) mod record;
pub(crate) mod removal;
pub mod ticket;
#[cfg(test)]
mod vectors;

pub use frame::is_repairable;

/// Wire version, told in `Hello`.
pub const VERSION: u32 = 1;
/// Largest message, bytes.
pub const MAX_MESSAGE: usize = 1 << 20;
/// Largest frame, bytes: a batch of one message of [`MAX_MESSAGE`] and its header. A
/// longer length prefix closes the link before anything is read.
pub const MAX_FRAME: usize = MAX_MESSAGE + (64 << 10);
