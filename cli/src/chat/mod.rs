//! The two ways to chat.

mod editor;
mod marks;
mod past;
pub(crate) mod piped;
mod room;
mod rows;
pub(crate) mod terminal;
mod unsettled;

use std::time::Duration;

use treecast_node::control::protocol::Line;
use treecast_node::{Failure, exit};

use crate::failure::Stop;
use crate::follow::Place;

/// How long the last lines may take to reach a neighbour once there are no more.
const LAST_LINES: Duration = Duration::from_secs(10);

/// The last lines did not go out.
fn not_sent(lines: u64) -> Failure {
    let what = match lines {
        1 => "1 line was not sent.".to_owned(),
        lines => format!("{lines} lines were not sent."),
    };
    let why = format!("No neighbour took them within {} s.", LAST_LINES.as_secs());
    Failure::new("not-sent", exit::TIMEOUT, what, why, "See with `treecast peers` whether anybody is there.")
}

/// What the node said of our lines.
#[derive(Debug, Default)]
struct Told {
    receipts: u64,
    last: Option<Place>,
    exit: u8,
    done: bool,
}

impl Told {
    /// Whether that was the last word.
    fn take(&mut self, line: Line, mut refused: impl FnMut(&Failure)) -> Result<bool, Stop> {
        match line {
            Line::Receipt { life, seq, n, .. } => {
                self.receipts += 1;
                self.last = Some((life, seq, n));
            }
            Line::Refused { failure, .. } => {
                refused(&failure);
                self.exit = failure.exit;
            }
            Line::Error(failure) => return Err(failure.into()),
            Line::Done { exit } => {
                self.done = true;
                self.exit = if self.exit == 0 { exit } else { self.exit };
            }
            _ => {}
        }
        Ok(self.done)
    }
}
