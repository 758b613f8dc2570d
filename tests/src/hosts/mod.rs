//! Real processes on hosts of their own: network namespaces on one bridge, with real multicast.
//!
//! A [`Lab`] makes the hosts and takes everything away again when it is dropped, also after a
//! panic. On a [`Host`] the binary under test runs as a [`Process`] whose lines are read as they
//! come. Needs root, `ip` (iproute2) and `nft` (nftables); without them [`Lab::new`] says so and gives `None`.
//! [`Lab::wide`] puts them far from each other, and needs `tc` (iproute2) and `/dev/net/tun` as well.
//!
//! `TREECAST_BIN` names another binary than the workspace's own. `TREECAST_HOSTS=require` makes a
//! lab that cannot be made a failure.

mod binary;
mod killed;
mod lab;
mod live;
mod process;
mod said;
mod tree;
mod wide;

use std::io::Write;
use std::time::{Duration, Instant};

pub use killed::{Node, Spoken, talk};
pub use lab::{Host, Lab};
pub use live::{lateness, say_live};
pub use process::{Process, Run};
pub use said::{Said, lines_of, numbered};
pub use tree::{Place, Tree};
pub use wide::{Lateness, Wide};

/// For what needs seconds at most; a loaded machine gets a minute.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Writes a line to stderr past the test harness, which hides what passing tests print.
pub fn tell(line: &str) {
    // Ignored: whoever closed stderr does not want to know.
    let _ = writeln!(std::io::stderr(), "    {line}");
}

/// Looks again and again until `look` finds something.
///
/// # Panics
/// When `patience` is over, with `what` was waited for.
pub fn until<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
