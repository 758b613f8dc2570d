//! Messages of a total order that stand on the terminal before they have their place.

use std::collections::{BTreeSet, VecDeque};

use treecast_node::control::protocol::{Line, MessageLine};

use super::past::{Key, key};

/// Such messages that are remembered; older ones are printed again when they are settled. Guess: more than are
/// said before somebody asks why.
const MAX_UNSETTLED: usize = 10_000;

/// What became of a message that is settled.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Firm {
    /// It stands where it was typed here.
    Typed,
    /// It stands where it was printed.
    Printed,
    /// It does not stand there yet.
    New,
}

/// Which they are.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    typed: BTreeSet<Key>,
    printed: BTreeSet<Key>,
    order: VecDeque<Key>,
}

impl Unsettled {
    /// It stands where it was typed.
    pub(super) fn on_typed(&mut self, message: &MessageLine) {
        self.typed.insert(key(message));
        self.remember(key(message));
    }

    /// It was printed.
    pub(super) fn on_printed(&mut self, message: &MessageLine) {
        self.printed.insert(key(message));
        self.remember(key(message));
    }

    fn remember(&mut self, key: Key) {
        self.order.push_back(key);
        if self.order.len() > MAX_UNSETTLED
            && let Some(oldest) = self.order.pop_front()
        {
            self.typed.remove(&oldest);
            self.printed.remove(&oldest);
        }
    }

    /// It has its place.
    pub(super) fn settle(&mut self, message: &MessageLine) -> Firm {
        let key = key(message);
        let (typed, printed) = (self.typed.remove(&key), self.printed.remove(&key));
        if typed || printed {
            self.order.retain(|it| *it != key);
        }
        match (typed, printed) {
            (true, _) => Firm::Typed,
            (false, true) => Firm::Printed,
            (false, false) => Firm::New,
        }
    }

    /// Those that are lost, and so never get a place: the order goes on without them.
    pub(super) fn lost(&mut self, line: &Line) -> Vec<Key> {
        let Line::Gap { event, source, life, from, to, .. } = line else { return Vec::new() };
        if event != "lost" {
            return Vec::new();
        }
        let (first, end) = ((source.clone(), *life, *from, 0), (source.clone(), *life, (*to).max(*from), 0));
        let gone: Vec<Key> = self.printed.range(first..end).cloned().collect();
        for key in &gone {
            self.printed.remove(key);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::past::tests::message;

    #[test]
    fn each_is_settled_where_it_stands_once() {
        let mut unsettled = Unsettled::default();
        unsettled.on_typed(&message(1));
        unsettled.on_printed(&message(2));
        unsettled.on_printed(&message(7));
        assert_eq!(unsettled.settle(&message(1)), Firm::Typed);
        assert_eq!(unsettled.settle(&message(2)), Firm::Printed);
        assert_eq!(unsettled.settle(&message(2)), Firm::New);
        let (group, event, source) = ("g".to_owned(), "lost".to_owned(), "ada".to_owned());
        let gap = Line::Gap { group, event, source, life: 1, from: 5, to: 9 };
        assert_eq!(unsettled.lost(&gap), [key(&message(7))]);
        assert_eq!(unsettled.settle(&message(7)), Firm::New);
    }
}
