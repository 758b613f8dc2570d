//! Shows what happens in a group, as it comes.

use treecast_node::Failure;
use treecast_node::control::protocol::{Line, MessageLine};

use crate::failure::Stop;
use crate::output::{Names, Screen, event};

/// Where a message stands: its life, batch, and number in it.
pub(crate) type Place = (u64, u64, u32);

/// The place of a message.
pub(crate) fn place(message: &MessageLine) -> Place {
    (message.life, message.seq, message.n)
}

/// Messages go to stdout; for people, the rest goes to stderr, for scripts to stdout too.
pub(crate) struct Follower<'a> {
    screen: &'a Screen,
    names: Names,
}

impl<'a> Follower<'a> {
    /// Nothing shown yet.
    pub(crate) fn new(screen: &'a Screen) -> Self {
        Self { screen, names: Names::default() }
    }

    /// Shows a line of `sub`. `Some` exit code if it was the last one.
    pub(crate) fn take(&mut self, line: &Line) -> Result<Option<u8>, Stop> {
        match line {
            Line::Done { exit } => return Ok(Some(*exit)),
            Line::Error(failure) => return Err(failure.clone().into()),
            Line::Joined { members, node, .. } => {
                self.names.me.clone_from(node);
                self.names.learn(members);
            }
            Line::GroupReady { .. } => {}
            Line::Message(message) if message.tentative && !self.screen.json => {
                let mut lines = self.screen.lines(line, &mut self.names);
                lines.last_mut().into_iter().for_each(|last| last.push_str(" (tentative)"));
                lines.iter().try_for_each(|text| self.screen.say(text))?;
            }
            Line::Message(_) => self.screen.show_with(line, &mut self.names)?,
            Line::Notice { code, what, .. } if self.screen.json => {
                self.screen.warn(&Failure::new(code, 0, what, "", ""))
            }
            line if self.screen.json => self.screen.show(line)?,
            line => {
                if let Some(text) = event(line, &mut self.names) {
                    self.screen.note(&text);
                }
            }
        }
        Ok(None)
    }
}
