//! The one buffer that every room writes to.

use std::collections::VecDeque;

use crate::io::{Event, Output};

/// What the core wants done, in order. The caller owns it, hands it to
/// [`Engine::handle`](crate::Engine::handle) and drains it.
#[derive(Debug, Default)]
pub struct Out {
    queue: VecDeque<Output>,
}

impl Out {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the oldest output.
    pub fn pop(&mut self) -> Option<Output> {
        self.queue.pop_front()
    }

    /// How many outputs wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn push(&mut self, output: Output) {
        self.queue.push_back(output);
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.queue.push_back(Output::Event(event));
    }
}
