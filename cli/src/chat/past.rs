//! What was said while nobody looked: the newest screenful first, the rest for whoever asks.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use treecast_node::control::protocol::{Line, MessageLine, Place};

/// A message waits so long for others that come with it; nobody notices that of one.
const GATHER: Duration = Duration::from_millis(30);

/// When many come: until nothing has come for so long…
const QUIET: Duration = Duration::from_millis(150);

/// …or for so long at most.
const LONGEST: Duration = Duration::from_secs(2);

/// Messages that are held back for being shown newest first, at most: older ones are in the history.
const MAX_HELD: usize = 1_000;

/// Shown of the past at once: what a screen has room for, within reason.
pub(super) fn page(rows: usize) -> usize {
    rows.saturating_sub(6).clamp(5, 50)
}

/// Messages that come on their way to the screen. Few are shown as they come; of many that come at once
/// only the newest screenful.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    held: VecDeque<MessageLine>,
    count: usize,
    began: Option<Instant>,
    latest: Option<Instant>,
    /// Shown from the history before they came here.
    known: BTreeSet<Key>,
}

impl Arrivals {
    /// These were shown already, and may come once more.
    pub(super) fn knows(&mut self, shown: &[MessageLine]) {
        self.known = shown.iter().map(key).collect();
    }

    /// A message has come.
    pub(super) fn add(&mut self, now: Instant, message: MessageLine) {
        let key = key(&message);
        // What is tentative comes once more.
        if if message.tentative { self.known.contains(&key) } else { self.known.remove(&key) } {
            return;
        }
        self.began.get_or_insert(now);
        self.latest = Some(now);
        self.count += 1;
        self.held.push_back(message);
        if self.held.len() > MAX_HELD {
            self.held.pop_front();
        }
    }

    /// A message that may wait here has its place: whether it does. It stands before those that have none.
    pub(super) fn settle(&mut self, message: &MessageLine) -> bool {
        let key_of = key(message);
        let Some(at) = self.held.iter().position(|it| it.tentative && key(it) == key_of) else {
            return false;
        };
        self.held.remove(at);
        let first = self.held.iter().position(|it| it.tentative).unwrap_or(self.held.len());
        self.held.insert(first, message.clone());
        true
    }

    /// When they are to be shown.
    pub(super) fn due(&self, page: usize) -> Option<Instant> {
        let (began, latest) = (self.began?, self.latest?);
        Some(if self.count <= page { began + GATHER } else { (latest + QUIET).min(began + LONGEST) })
    }

    /// Those to be shown, and how many that came before them are not.
    pub(super) fn take(&mut self, page: usize) -> (usize, Vec<MessageLine>) {
        (self.began, self.latest) = (None, None);
        let count = std::mem::take(&mut self.count);
        // What nearly fits is shown whole: a second screenful would be no news.
        let shown = if count > page { page } else { count };
        let held = std::mem::take(&mut self.held);
        let newest: Vec<_> = held.into_iter().rev().take(shown).collect();
        (count - newest.len(), newest.into_iter().rev().collect())
    }
}

/// What names a message: source, life, batch, and its number in that.
pub(super) type Key = (String, u64, u64, u32);

pub(super) fn key(message: &MessageLine) -> Key {
    (message.source.clone(), message.life, message.seq, message.n)
}

/// The place of a message, as the node is asked for what stands before it.
pub(super) fn place(message: &MessageLine) -> Place {
    let MessageLine { life, seq, n, .. } = *message;
    Place { source: message.source.clone(), life, seq, n }
}

/// The messages among the lines of an answer.
pub(super) fn messages(lines: Vec<Line>) -> Vec<MessageLine> {
    let message = |line| match line {
        Line::Message(message) => Some(message),
        _ => None,
    };
    lines.into_iter().filter_map(message).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::chat) fn message(seq: u64) -> MessageLine {
        MessageLine {
            group: "g".into(),
            source: "ada".into(),
            nick: "ada".into(),
            life: 1,
            seq,
            n: 0,
            index: None,
            tentative: false,
            forked: false,
            time: 0,
            text: Some(format!("line {seq}")),
            data: None,
            file: None,
            ended: None,
        }
    }

    #[test]
    fn of_what_comes_at_once_the_newest_is_shown_first() {
        let (mut arrivals, now) = (Arrivals::default(), Instant::now());
        assert_eq!(arrivals.due(20), None);
        (0..5_000).for_each(|seq| arrivals.add(now, message(seq)));
        assert_eq!(arrivals.due(20), Some(now + QUIET));
        arrivals.add(now + LONGEST, message(5_000));
        assert_eq!(arrivals.due(20), Some(now + LONGEST));
        let (hidden, shown) = arrivals.take(20);
        assert_eq!((hidden, shown.len()), (4_981, 20));
        assert_eq!((shown[0].seq, shown[19].seq), (4_981, 5_000));
        assert_eq!(arrivals.due(20), None);
    }

    #[test]
    fn what_is_settled_before_it_is_shown_stands_in_its_order() {
        let (mut arrivals, now) = (Arrivals::default(), Instant::now());
        arrivals.knows(&[message(9)]);
        let tentative = |seq| MessageLine { tentative: true, ..message(seq) };
        [1, 2, 3, 9].into_iter().for_each(|seq| arrivals.add(now, tentative(seq)));
        assert!(
            arrivals.settle(&message(3)) && arrivals.settle(&message(1)) && !arrivals.settle(&message(4))
        );
        arrivals.add(now, message(9));
        let shown = arrivals.take(20).1;
        assert_eq!(
            shown.iter().map(|it| (it.seq, it.tentative)).collect::<Vec<_>>(),
            [(3, false), (1, false), (2, true)]
        );
    }

    #[test]
    fn few_are_shown_as_they_come_and_none_twice() {
        let (mut arrivals, now) = (Arrivals::default(), Instant::now());
        arrivals.knows(&[message(1)]);
        (0..3).for_each(|seq| arrivals.add(now, message(seq)));
        assert_eq!(arrivals.due(20), Some(now + GATHER));
        let (hidden, shown) = arrivals.take(20);
        assert_eq!((hidden, shown.iter().map(|it| it.seq).collect::<Vec<_>>()), (0, vec![0, 2]));
        arrivals.add(now, message(1));
        assert_eq!(arrivals.take(20).1.len(), 1, "once is enough");
    }
}
