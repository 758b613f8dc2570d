//! Faults of our own making, for tests that must find them: a test that passes whatever the core does proves nothing
//! (mutation testing; DeMillo, Lipton, Sayward 1978).
//!
//! Only with feature `mutants`, and then only in the thread that asks for one and as long as it asks. Without the
//! feature `is_on` is a constant, and nothing of this is left.

/// A fault in the total order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "mutants", non_exhaustive)]
#[cfg_attr(not(feature = "mutants"), expect(unreachable_pub, reason = "public with the feature"))]
pub enum Mutant {
    /// A member of the committee accepts cuts although it does not have what they name.
    AcceptWithoutPayload,
    /// What a member of the committee promises and accepts leaves it before it is on disk, and is never written.
    SkipPersist,
    /// Who starts again goes on in its last life, from zero.
    ReuseLife,
    /// A cut is expanded in the order in which its batches came.
    #[cfg(feature = "mutants")]
    ExpandInArrivalOrder,
    /// What was said in one epoch counts in another.
    VoteAcrossEpochs,
}

#[cfg(feature = "mutants")]
thread_local! {
    static ON: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Runs something with a fault in all engines that this thread drives.
#[cfg(feature = "mutants")]
pub fn with<T>(mutant: Mutant, run: impl FnOnce() -> T) -> T {
    /// Also after a panic.
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            ON.set(None);
        }
    }
    let _off = Off;
    ON.set(Some(mutant));
    run()
}

#[cfg(feature = "mutants")]
pub(crate) fn is_on(mutant: Mutant) -> bool {
    ON.get() == Some(mutant)
}

#[cfg(not(feature = "mutants"))]
pub(crate) const fn is_on(_: Mutant) -> bool {
    false
}
