//! One property a file, with the source of its definition. Each judges a history or a
//! world and names the first violation it finds.

pub mod acknowledged;
pub mod agreement;
pub mod bounds;
pub mod causality;
pub mod committees;
pub mod fifo;
pub mod goodbye;
pub mod honesty;
pub mod index;
pub mod integrity;
pub mod losses;
pub mod majority;
pub mod membership;
pub mod progress;
pub mod settled;
pub mod stored;
pub mod total_order;
pub mod tree;
pub mod uniformity;
pub mod validity;

#[cfg(test)]
mod bad_history;

/// What does not hold, in words.
pub type Violation = String;

/// Shorthand for a checker's `Err`.
macro_rules! violation {
    ($($text:tt)*) => { return Err(format!($($text)*)) };
}
use violation;
