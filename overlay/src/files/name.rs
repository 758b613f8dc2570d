//! Names that peers chose, before anything is made of them.

use super::offer::MAX_NAME;

/// Bytes of a name that are kept: room for what is put behind it, ` (2)` say.
const KEPT: usize = MAX_NAME - 40;

/// What a file with this name is called here: its last part, without control characters, those that turn the
/// direction of text, and those that some system takes for something else. It is never empty, hidden, `.` or `..`,
/// never has a `/`, and never is too long.
pub fn clean_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).find(|part| !part.trim_matches(['.', ' ']).is_empty());
    let mut clean: String = last.unwrap_or_default().chars().map(plain).collect();
    let start = clean.len() - clean.trim_start_matches(['.', ' ', '-', '~']).len();
    clean.drain(..start);
    let keep = clean.trim_end_matches(['.', ' ']).len();
    clean.truncate(keep);
    while clean.len() > KEPT {
        clean.pop();
    }
    if clean.is_empty() { "file".to_owned() } else { clean }
}

fn plain(c: char) -> char {
    if is_unfit(c) || matches!(c, ':' | '*' | '?' | '"' | '<' | '>' | '|') { '_' } else { c }
}

/// Control characters, and those that turn the direction of text around them or cannot be seen.
fn is_unfit(c: char) -> bool {
    let turns =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    c.is_control() || turns
}

/// Whether a part of a path in a folder's manifest may be used as it is.
pub fn check_part(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= MAX_NAME
        && !matches!(part, "." | "..")
        && !part.chars().any(|c| c == '/' || c == '\\' || c.is_control() || is_unfit(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder_and_are_what_they_look_like() {
        for (name, clean) in [
            ("report.pdf", "report.pdf"),
            ("../../etc/passwd", "passwd"),
            ("/etc/shadow", "shadow"),
            ("..", "file"),
            ("", "file"),
            ("a/..", "a"),
            ("C:\\x\\y.txt", "y.txt"),
            (".bashrc", "bashrc"),
            ("-rf", "rf"),
            ("a\u{202e}fdp.exe", "a_fdp.exe"),
            ("line\nbreak", "line_break"),
            ("Ελλάδα 日本 🎉.txt", "Ελλάδα 日本 🎉.txt"),
            ("x.", "x"),
        ] {
            assert_eq!(clean_name(name), clean, "{name:?}");
        }
        let long = clean_name(&"é".repeat(400));
        assert!(long.len() <= KEPT && long.starts_with('é'));
    }

    #[test]
    fn parts_of_paths() {
        assert!(check_part("a.b") && check_part(".hidden") && check_part("日本"));
        assert!(!["", ".", "..", "a/b", "a\\b", "a\0", "\u{202e}"].iter().any(|part| check_part(part)));
    }
}
