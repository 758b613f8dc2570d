//! What became of the lines that were typed: who has them, beside them where they still can be seen.

use std::collections::{BTreeSet, VecDeque};

use treecast_node::control::protocol::{Line, MemberEntry, MessageLine};

use super::rows::Spot;
use crate::output::{Names, Style};

/// Own lines whose receipts are watched; of older ones nothing is told any more.
const WATCHED: usize = 256;

/// A line that was said here.
#[derive(Debug)]
struct Said {
    /// Counted from 1.
    number: u64,
    spot: Option<Spot>,
    /// Its life and batch, once it has them.
    place: Option<(u64, u64)>,
    /// Others that have it, of those that are online.
    held: Option<(usize, usize)>,
    /// It has no place in a total order yet.
    unsettled: bool,
    /// Columns of the mark that stands beside it.
    drawn: usize,
}

/// A mark to be drawn.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) spot: Spot,
    pub(super) text: String,
    pub(super) width: usize,
    pub(super) style: Style,
}

/// The lines that were said here, the latest last.
#[derive(Debug, Default)]
pub(super) struct Marks {
    said: VecDeque<Said>,
    count: u64,
    /// Own batches that have no place in a total order yet, whether it is known which lines are in them or not.
    unsettled: BTreeSet<(u64, u64)>,
}

impl Marks {
    /// A line is said; it stands there on the terminal.
    pub(super) fn on_said(&mut self, spot: Option<Spot>) {
        self.count += 1;
        if self.said.len() >= WATCHED {
            self.said.pop_front();
        }
        let (number, unsettled) = (self.count, false);
        self.said.push_back(Said { number, spot, place: None, held: None, unsettled, drawn: 0 });
    }

    /// A message of this node has a place in a total order, or none yet: the marks that change.
    pub(super) fn on_own(&mut self, message: &MessageLine) -> Vec<Mark> {
        let place = (message.life, message.seq);
        if !message.tentative {
            self.unsettled.remove(&place);
        } else if self.unsettled.len() < WATCHED {
            self.unsettled.insert(place);
        }
        let said = self.said.iter_mut().filter(|it| it.place == Some(place));
        said.filter_map(|it| {
            let changes = std::mem::replace(&mut it.unsettled, message.tentative) != message.tentative;
            it.held.filter(|_| changes).and_then(|held| it.redraw(held))
        })
        .collect()
    }

    /// What the node says of lines: the marks that change.
    pub(super) fn take(&mut self, line: &Line) -> Vec<Mark> {
        let unsettled = &self.unsettled;
        match *line {
            Line::Placed { line, life, seq } => {
                let said = self.said.iter_mut().filter(|it| it.number == line);
                said.filter_map(|it| {
                    it.place = Some((life, seq));
                    it.unsettled = unsettled.contains(&(life, seq));
                    it.draw((0, 0))
                })
                .collect()
            }
            Line::Held { life, seq, have, of } => {
                let is_it = |it: &&mut Said| it.place.is_some_and(|place| place.0 == life && place.1 <= seq);
                let behind = |it: &&mut Said| it.held.is_none_or(|held| held < (have, of) || held.1 > held.0);
                let said = self.said.iter_mut().filter(is_it).filter(behind);
                said.filter_map(|it| it.draw((have, of))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The batch of the last line that was said and has one.
    pub(super) fn last_place(&self) -> Option<(u64, u64)> {
        self.said.iter().rev().find_map(|it| it.place)
    }
}

impl Said {
    /// So many have it now; the mark, if that shows.
    fn draw(&mut self, held: (usize, usize)) -> Option<Mark> {
        if self.held == Some(held) {
            return None;
        }
        self.redraw(held)
    }

    fn redraw(&mut self, held: (usize, usize)) -> Option<Mark> {
        self.held = Some(held);
        let (mut text, is_whole) = mark(held);
        if self.unsettled {
            text.push_str(UNSETTLED);
        }
        let width = text.chars().count().max(self.drawn);
        text.extend(std::iter::repeat_n(' ', width - text.chars().count()));
        self.drawn = width;
        let style = if is_whole && !self.unsettled { Style::Green } else { Style::Dim };
        self.spot.map(|spot| Mark { spot, text, width, style })
    }
}

/// Beside a line that has no place in the group's order yet.
pub(super) const UNSETTLED: &str = "…";

/// `✓5/6`; with nobody else online only that it is kept here and will go out. And whether all have it.
fn mark((have, of): (usize, usize)) -> (String, bool) {
    match of {
        0 => ("✓".to_owned(), false),
        of => (format!("✓{have}/{of}"), have >= of),
    }
}

/// Who has not said that it has our last line, as a sentence.
pub(super) fn who_lacks(names: &mut Names, lacking: &[MemberEntry]) -> String {
    let mut called = |is_here: bool| -> Vec<String> {
        let those = lacking.iter().filter(|it| (it.state == "online") == is_here);
        those.map(|it| names.call(&it.node, &it.nick)).collect()
    };
    match (called(true), called(false)) {
        (here, away) if here.is_empty() && away.is_empty() => "* everybody has your last line".to_owned(),
        (here, away) if away.is_empty() => {
            format!("* your last line is still missing at {}", here.join(", "))
        }
        (here, away) if here.is_empty() => {
            format!("* all who are here have your last line; {} will get it when back", away.join(", "))
        }
        (here, away) => format!(
            "* your last line is still missing at {}; {} will get it when back",
            here.join(", "),
            away.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::rows::Rows;

    fn spot() -> Option<Spot> {
        let mut rows = Rows::default();
        rows.resize(80, 24);
        Some(rows.on_typed("a: ", "hi"))
    }

    fn texts(marks: &[Mark]) -> Vec<(&str, Style)> {
        marks.iter().map(|it| (it.text.as_str(), it.style)).collect()
    }

    #[test]
    fn marks_tell_who_has_a_line_and_all_before_it() {
        let mut marks = Marks::default();
        marks.on_said(spot());
        marks.on_said(spot());
        assert_eq!(texts(&marks.take(&Line::Placed { line: 1, life: 7, seq: 0 })), [("✓", Style::Dim)]);
        marks.take(&Line::Placed { line: 2, life: 7, seq: 1 });
        let held = |seq, have, of| Line::Held { life: 7, seq, have, of };
        assert_eq!(texts(&marks.take(&held(0, 1, 2))), [("✓1/2", Style::Dim)]);
        let both = [("✓2/2", Style::Green), ("✓2/2", Style::Green)];
        assert_eq!(texts(&marks.take(&held(1, 2, 2))), both);
        assert_eq!(marks.take(&held(1, 2, 2)), []);
        assert_eq!(marks.take(&held(0, 1, 2)), [], "what all had all have");
        assert_eq!(marks.last_place(), Some((7, 1)));
    }

    #[test]
    fn a_shorter_mark_covers_the_one_before() {
        let mut marks = Marks::default();
        marks.on_said(spot());
        marks.take(&Line::Placed { line: 1, life: 7, seq: 0 });
        marks.take(&Line::Held { life: 7, seq: 0, have: 8, of: 10 });
        let less = marks.take(&Line::Held { life: 7, seq: 0, have: 9, of: 9 });
        assert_eq!(texts(&less), [("✓9/9 ", Style::Green)]);
    }

    #[test]
    fn what_has_no_place_yet_is_marked_until_it_has() {
        let mut marks = Marks::default();
        marks.on_said(spot());
        let own = |tentative| MessageLine { tentative, ..crate::chat::past::tests::message(3) };
        assert_eq!(marks.on_own(&own(true)), [], "it is not known yet which line that is");
        assert_eq!(texts(&marks.take(&Line::Placed { line: 1, life: 1, seq: 3 })), [("✓…", Style::Dim)]);
        let held = Line::Held { life: 1, seq: 3, have: 2, of: 2 };
        assert_eq!(texts(&marks.take(&held)), [("✓2/2…", Style::Dim)]);
        assert_eq!(texts(&marks.on_own(&own(false))), [("✓2/2 ", Style::Green)]);
        assert_eq!(marks.on_own(&own(false)), []);
    }

    #[test]
    fn who_is_missing_is_named_and_who_is_away_told_apart() {
        let member = |node: &str, state: &str| MemberEntry {
            node: node.into(),
            nick: node.into(),
            state: state.into(),
            frontier: Default::default(),
            neighbour: false,
        };
        let mut names = Names::of("me");
        assert_eq!(who_lacks(&mut names, &[]), "* everybody has your last line");
        let lacking = [member("bob", "online"), member("eve", "offline")];
        assert_eq!(
            who_lacks(&mut names, &lacking),
            "* your last line is still missing at bob; eve will get it when back"
        );
    }
}
