//! Honest nodes look honest: whatever happens to them and their disks, none signs two batches for one
//! place, and none is shut out for breaking the protocol. (The design's §4: "a lost store or a
//! restored backup starts a new life instead of reusing numbers".)

use treecast_overlay::io::CloseReason;

use super::{Violation, violation};
use crate::oracle::{Fact, History};

/// To be asked where all nodes are honest.
///
/// # Errors
/// The first that was taken for a forger, or for one that breaks the protocol.
pub fn check(history: &History) -> Result<(), Violation> {
    for entry in &history.entries {
        match entry.fact {
            Fact::Forked { .. } => violation!("a fork by an honest node: {entry:?}"),
            Fact::Closed { reason: CloseReason::Protocol(_), .. } => violation!("shut out: {entry:?}"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::bad_history::Tale;
    use super::*;
    use treecast_overlay::sim::NodeIx;

    #[test]
    fn both_breaches_are_seen() {
        let closed = |reason| Tale::default().fact(0, 1, Fact::Closed { peer: NodeIx(1), reason }).told();
        assert_eq!(check(&closed(CloseReason::Redundant)), Ok(()));
        assert!(check(&closed(CloseReason::Protocol("bad signature"))).is_err());
        assert!(check(&Tale::default().fact(0, 1, Fact::Forked { source: None }).told()).is_err());
    }
}
