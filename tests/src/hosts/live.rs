//! Talk that tells when it was said, so that who hears it knows how late it is.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Host;

/// Says so many lines a second until it is over.
///
/// # Panics
/// If `pub` does not take them.
pub fn say_live(host: &Host, group: &str, per_s: u32, began: Instant, over: &AtomicBool) {
    let mut publishing = host.treecast(&["pub", group, "--wait", "stored"]);
    let mut stdin = publishing.take_stdin();
    while !over.load(Ordering::Relaxed) {
        writeln!(stdin, "live {}", began.elapsed().as_micros()).expect("it listens");
        std::thread::sleep(Duration::from_secs(1) / per_s);
    }
    drop(stdin);
    publishing.ended();
}

/// How late such a line is that is heard now. `None` if it is another.
pub fn lateness(text: &str, began: Instant) -> Option<Duration> {
    let micros = text.strip_prefix("live ")?.parse().ok()?;
    Some(began.elapsed().saturating_sub(Duration::from_micros(micros)))
}
