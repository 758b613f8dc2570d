//! What comes from a group, as a program holds it.

use std::sync::Arc;

use futures::FutureExt;

use crate::error::Stopped;
use crate::event::{Event, EventQueue};
use crate::handle::Hold;
use crate::history::Pages;

/// The events of a group, from the moment of joining; with [`Node::enter_since`](crate::Node::enter_since), messages from before
/// come first.
pub struct Receiver {
    pub(crate) past: Option<Box<Pages>>,
    pub(crate) queue: Arc<EventQueue>,
    /// Places below were not asked for: they may be still to come.
    pub(crate) least: u64,
    pub(crate) hold: Arc<Hold>,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Receiver").field(&self.hold.group).finish()
    }
}

impl Receiver {
    /// The next event; `None` once the node has stopped or left the group. A call that is
    /// dropped loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        if let Some(past) = &mut self.past {
            match past.next().await {
                Ok(Some(message)) => return Some(message.into()),
                Ok(None) => {}
                // What was to be read is on disk, and cannot be read: that is told, and no reason to
                // keep back what comes.
                Err(error) => {
                    self.past = None;
                    return Some(Event::NotSaved { why: error.to_string() });
                }
            }
            self.past = None;
        }
        loop {
            let event = self.queue.next().await;
            if !self.is_before(event.as_ref()) {
                return event.map(named);
            }
        }
    }

    fn is_before(&self, event: Option<&Event>) -> bool {
        matches!(event, Some(Event::Message(it)) if it.index.is_some_and(|index| index < self.least))
    }

    /// The next event if it is at hand; as [`Receiver::next`].
    pub(crate) fn at_hand(&mut self) -> Option<Option<Event>> {
        match &mut self.past {
            Some(past) => past.at_hand().map(|message| Some(message.into())),
            None => loop {
                let next = self.queue.next().now_or_never();
                if !self.is_before(next.as_ref().and_then(Option::as_ref)) {
                    return next.map(|event| event.map(named));
                }
            },
        }
    }

    /// Waits until the group has a neighbour. Swallows no event: they are still there for
    /// [`Receiver::next`].
    ///
    /// # Errors
    /// When the node has stopped or left the group.
    pub async fn ready(&self) -> Result<(), Stopped> {
        let group = self.hold.group;
        let ready = self.hold.node.ask(move |driver| driver.await_ready(group)).await?;
        ready.await.map_err(|_| Stopped)
    }
}

/// A message that is a word about a file is told as that.
fn named(event: Event) -> Event {
    match event {
        Event::Message(message) => message.into(),
        other => other,
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Its queue takes no more; the driver forgets it at its next event.
        self.queue.close();
    }
}
