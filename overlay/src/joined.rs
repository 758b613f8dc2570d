//! A group that this node is in, and what its engine keeps beside it.

use std::cell::Cell;

use crate::config::Config;
use crate::group::Group;
use crate::io::TrafficView;
use crate::time::Time;

/// One group of an engine's.
pub(crate) struct Joined {
    pub(crate) group: Group,
    pub(crate) traffic: TrafficView,
    /// When it is due, as long as nobody has touched it: asking is most of what a quiet group costs.
    due: Cell<Option<Option<Time>>>,
}

impl Joined {
    pub(crate) fn new(group: Group, traffic: TrafficView) -> Self {
        Self { group, traffic, due: Cell::new(None) }
    }

    /// Something is about to change in it.
    pub(crate) fn touch(&mut self) {
        self.due.set(None);
    }

    /// When it wants to be polled.
    pub(crate) fn deadline(&self, config: &Config) -> Option<Time> {
        if self.due.get().is_none() {
            self.due.set(Some(self.group.deadline(config)));
        }
        self.due.get().flatten()
    }
}
