//! Laying text out on a terminal, by what its characters are wide.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns that `text` takes.
pub(crate) fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// Breaks `text` into pieces of at most `columns`, at spaces where there are any; wide
/// characters are never cut in two, and nothing is dropped but the space broken at.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(4);
    let mut rest = text;
    let mut pieces = Vec::new();
    while width(rest) > columns {
        let (cut, skip) = break_at(rest, columns);
        pieces.push(rest[..cut].to_owned());
        rest = &rest[cut + skip..];
    }
    pieces.push(rest.to_owned());
    pieces
}

/// Where to break the first piece off: its length in bytes, and the bytes to skip after it.
fn break_at(text: &str, columns: usize) -> (usize, usize) {
    let (mut used, mut fits, mut space) = (0, 0, None);
    for (at, c) in text.char_indices() {
        if c == ' ' && at > 0 {
            space = Some(at);
        }
        used += c.width().unwrap_or(0);
        if used > columns {
            break;
        }
        fits = at + c.len_utf8();
    }
    match space {
        Some(at) if at <= fits => (at, 1),
        _ => (fits.max(text.chars().next().map_or(0, char::len_utf8)), 0),
    }
}

/// `text` and spaces up to `columns`.
pub(crate) fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// A table: columns as wide as their widest cell, two spaces between, the last one ragged.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let wide = |i: usize| {
        let cells = rows.iter().filter_map(|row| row.get(i)).map(|cell| width(cell));
        cells.chain([width(head[i])]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(wide).collect();
    let join = |cells: Vec<&str>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, w)| pad(cell, *w)).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let body = rows.iter().map(|row| join(row.iter().map(String::as_str).collect()));
    [join(head.to_vec())].into_iter().chain(body).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_at_spaces_and_inside_long_words() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("", 10), [""]);
    }

    #[test]
    fn wide_characters_are_never_cut() {
        assert_eq!(wrap("群群群群群", 5), ["群群", "群群", "群"]);
        for piece in wrap("早上好 hello 世界 👋👋👋 wörld", 7) {
            assert!(width(&piece) <= 7, "{piece}");
        }
    }

    #[test]
    fn tables_line_up() {
        let rows = vec![vec!["群".to_owned(), "x".to_owned()], vec!["abc".to_owned(), "y".to_owned()]];
        assert_eq!(table(&["A", "B"], &rows), ["A    B", "群   x", "abc  y"]);
    }
}
