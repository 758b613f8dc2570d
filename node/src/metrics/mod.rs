//! Metrics for Prometheus: what an operator sees of a node without asking it anything.
//!
//! ```text
//! scraper ──HTTP──► server ──► source ──Command::Ask──► driver: counters, views ──► Snapshot
//!                     ▲                                                               │
//!                     └────────────── page: text ◄────────────────────────────────────┘
//! ```
//!
//! The driver counts (`driver/tally.rs`) and copies numbers; all text is made outside of it. What each
//! metric means is in `docs/metrics.md`, which a test compares with what is served. Labels are names of
//! groups that the node is in, and fixed words: nobody else can make series.

mod page;
mod process;
mod server;
mod snapshot;
mod source;
mod text;

pub(crate) use server::{Server, bind};
pub(crate) use snapshot::{GroupSnapshot, OrderSnapshot, Snapshot};
pub(crate) use source::Source;
