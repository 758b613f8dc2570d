//! Where lines stand on the terminal, so that a mark can be put beside one that scrolled up.

use unicode_width::UnicodeWidthChar;

/// Rows at the bottom that are never drawn over: a long line may be being typed there.
const SPARE: u64 = 8;

/// Where a typed line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    /// Counted from the first row that was ever printed.
    row: u64,
    column: usize,
    /// What has been drawn since the terminal was last made anew only.
    era: u64,
}

/// Counts rows as they are printed.
#[derive(Debug, Default)]
pub(super) struct Rows {
    printed: u64,
    era: u64,
    size: (usize, usize),
}

impl Rows {
    /// The terminal has so many columns and rows now. What was drawn on one of another width stands
    /// nobody knows where.
    pub(super) fn resize(&mut self, columns: usize, rows: usize) {
        if self.size.0 != columns {
            self.forget();
        }
        self.size = (columns, rows);
    }

    /// The screen was wiped, or something else wrote on it.
    pub(super) fn forget(&mut self) {
        self.era += 1;
    }

    /// Lines were printed. Where the text of the last ends.
    pub(super) fn on_printed(&mut self, text: &str) -> Spot {
        let mut spot = Spot { row: self.printed, column: 0, era: self.era };
        for line in text.lines() {
            let (rows, column) = self.end_of(line);
            (spot.row, spot.column) = (self.printed + rows, column);
            self.printed += rows + 1;
        }
        spot
    }

    /// A line was typed behind this prompt, and ended. Where its text ends.
    pub(super) fn on_typed(&mut self, prompt: &str, text: &str) -> Spot {
        let (rows, column) = self.end_of(&format!("{prompt}{text}"));
        let spot = Spot { row: self.printed + rows, column, era: self.era };
        // A line that fills its last row leaves the cursor on the next.
        self.printed += rows + 1 + u64::from(column == self.size.0);
        spot
    }

    /// What to print so that a mark stands beside this line; `None` if it cannot be reached, or the mark
    /// has no room there.
    pub(super) fn mark(&self, spot: Spot, mark: &str, width: usize) -> Option<String> {
        let up = self.printed.checked_sub(spot.row).filter(|up| *up > 0)?;
        let (columns, rows) = self.size;
        let is_seen = up + SPARE <= rows as u64 && spot.era == self.era;
        let column = spot.column + 2;
        if !is_seen || column + width > columns {
            return None;
        }
        let down = if up > 1 { format!("\x1b[{}B", up - 1) } else { String::new() };
        // Whoever prints it ends the line, and so comes back to where it began.
        Some(format!("\x1b[{up}A\x1b[{column}G{mark}{down}\r"))
    }

    /// Rows that a text goes down from the one it begins on, and the columns of the last.
    fn end_of(&self, text: &str) -> (u64, usize) {
        let (mut rows, mut column, columns) = (0, 0, self.size.0.max(1));
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let width = match c {
                '\x1b' => {
                    skip_escape(&mut chars);
                    0
                }
                '\t' => TAB - column % TAB,
                '\n' => columns.saturating_sub(column) + 1,
                c => c.width().unwrap_or(0),
            };
            column += width;
            if column > columns {
                rows += 1;
                column = if c == '\n' { 0 } else { width };
            }
        }
        (rows, column)
    }
}

const TAB: usize = 8;

/// Colours: an escape, a bracket, and all up to a letter.
fn skip_escape(chars: &mut std::str::Chars<'_>) {
    for c in chars {
        if c.is_ascii_alphabetic() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows {
        let mut rows = Rows::default();
        rows.resize(20, 24);
        rows
    }

    #[test]
    fn a_mark_goes_up_to_its_line_and_comes_back() {
        let mut rows = rows();
        let spot = rows.on_typed("      ada: ", "hi");
        assert_eq!(rows.mark(spot, "v1/2", 4).as_deref(), Some("\x1b[1A\x1b[15Gv1/2\r"));
        rows.on_printed("12:00 bob: one\n12:00 bob: \x1b[1mtwo\x1b[0m");
        assert_eq!(rows.mark(spot, "v2/2", 4).as_deref(), Some("\x1b[3A\x1b[15Gv2/2\x1b[2B\r"));
    }

    #[test]
    fn a_mark_goes_to_the_end_of_what_was_printed() {
        let mut rows = rows();
        let spot = rows.on_printed("12:00 bob: one\n    and two");
        assert_eq!(rows.mark(spot, "x", 1).as_deref(), Some("\x1b[1A\x1b[13Gx\r"));
    }

    #[test]
    fn lines_that_wrap_take_rows() {
        let mut rows = rows();
        let spot = rows.on_typed("      ada: ", "0123456789abc");
        assert_eq!(rows.mark(spot, "v", 1).as_deref(), Some("\x1b[1A\x1b[6Gv\r"));
        rows.on_printed("0123456789012345678901234");
        assert!(rows.mark(spot, "v", 1).expect("seen").starts_with("\x1b[3A"));
        let full = rows.on_typed("      ada: ", "012345678");
        assert_eq!(rows.mark(full, "v", 1), None, "there is no room");
        assert!(rows.mark(spot, "v", 1).expect("seen").starts_with("\x1b[5A"));
        let wide = rows.on_typed("", "群群群群群群群群群群群");
        assert_eq!((wide.row, wide.column), (7, 2));
    }

    #[test]
    fn what_cannot_be_reached_is_not_drawn_over() {
        let mut rows = rows();
        let spot = rows.on_typed("a: ", "hi");
        rows.on_printed(&"x\n".repeat(15));
        assert!(rows.mark(spot, "v", 1).is_some());
        rows.on_printed("x");
        assert_eq!(rows.mark(spot, "v", 1), None);
        let spot = rows.on_typed("a: ", "hi");
        rows.resize(30, 24);
        assert_eq!(rows.mark(spot, "v", 1), None);
        let spot = rows.on_typed("a: ", "hi");
        rows.forget();
        assert_eq!(rows.mark(spot, "v", 1), None);
    }
}
