//! What peers send is shown as text only: nothing in it may move the cursor, change
//! colours, or make a line read in another order than it was written.

use std::borrow::Cow;

/// Characters that reorder or hide text: bidirectional controls (Unicode TR 9), zero-width
/// ones that serve to imitate, and the line and paragraph separators.
fn misleads(c: char) -> bool {
    matches!(c,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{00ad}' | '\u{e0000}'..='\u{e007f}')
}

/// One line of text, without control and bidirectional characters; tabs and line breaks
/// become spaces.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c.is_control() || misleads(c)) {
        return Cow::Borrowed(text);
    }
    let clean = text.replace("\r\n", "\n");
    Cow::Owned(clean.chars().filter_map(kept).collect())
}

fn kept(c: char) -> Option<char> {
    match c {
        '\t' | '\n' | '\r' => Some(' '),
        c if c.is_control() || misleads(c) => None,
        c => Some(c),
    }
}

/// Several lines: each cleaned, their breaks kept.
pub(crate) fn lines(text: &str) -> Vec<Cow<'_, str>> {
    let body = text.strip_suffix('\n').unwrap_or(text);
    body.split('\n').map(|part| line(part.strip_suffix('\r').unwrap_or(part))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_bidi_are_stripped() {
        assert_eq!(line("\u{1b}[31mred\u{1b}[0m"), "[31mred[0m");
        assert_eq!(line("a\u{202e}b\u{2066}c\u{200f}"), "abc");
        assert_eq!(line("a\tb\r\nc\u{9b}d"), "a b cd");
        assert!(matches!(line("héllo 群 👩\u{200d}🚀"), Cow::Borrowed(_)));
    }

    #[test]
    fn lines_are_kept_apart() {
        assert_eq!(lines("one\r\ntwo\u{7}\n"), ["one", "two"]);
        assert_eq!(lines(""), [""]);
    }
}
