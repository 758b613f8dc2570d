//! Text as it is searched: without case and accents, wide forms as narrow ones.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Characters of which the index is made.
const GRAM: usize = 3;

/// What two texts have in common that a person would call the same.
pub(super) fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let plain = text.nfkd().filter(|c| !is_accent(*c)).flat_map(char::to_lowercase);
    // One letter of two shapes, of which the lower case of a capital is but one.
    plain.map(|c| if c == 'ς' { 'σ' } else { c }).nfc().collect()
}

/// Accents on letters of the scripts that have them beside the letter; marks that make another
/// letter (of kana, say) are none.
fn is_accent(c: char) -> bool {
    is_combining_mark(c) && ('\u{300}'..='\u{36f}').contains(&c)
}

/// A query: all its words must be in a message, anywhere.
#[derive(Debug, Clone)]
pub(crate) struct Words(Vec<String>);

impl Words {
    pub(crate) fn of(query: &str) -> Self {
        Self(query.split_whitespace().map(fold).filter(|word| !word.is_empty()).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the message has them all.
    pub(crate) fn are_in(&self, text: &str) -> bool {
        let text = fold(text);
        self.0.iter().all(|word| text.contains(word.as_str()))
    }

    /// What the index is asked for; `None` if no word is long enough. It finds all batches that have
    /// the words, and some that only have their pieces.
    pub(crate) fn to_match(&self) -> Option<String> {
        let mut grams: Vec<String> = self.0.iter().flat_map(|word| grams(word)).collect();
        grams.sort_unstable();
        grams.dedup();
        let quoted: Vec<String> =
            grams.iter().map(|gram| format!("\"{}\"", gram.replace('"', "\"\""))).collect();
        (!quoted.is_empty()).then(|| quoted.join(" AND "))
    }
}

/// A word's sequences of three characters.
fn grams(word: &str) -> Vec<String> {
    let chars: Vec<char> = word.chars().collect();
    chars.windows(GRAM).map(|gram| gram.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_call_the_same_is() {
        for (one, two) in [
            ("CAFÉ", "cafe\u{301}"),
            ("Ärger", "arger"),
            ("ＴＲＥＥ", "tree"),
            ("ΟΔΟΣ", "οδός"),
            ("ﬁn", "FIN"),
            ("ガ", "ｶﾞ"),
        ] {
            assert_eq!(fold(one), fold(two), "{one} {two}");
        }
        assert_ne!(fold("か"), fold("が"));
        assert_ne!(fold("가"), fold("각"));
    }

    #[test]
    fn all_words_must_be_there_anywhere() {
        let words = Words::of("tree  CAST");
        assert!(words.are_in("we broadcast over Trees") && !words.are_in("trees only"));
        assert_eq!(words.to_match().as_deref(), Some("\"ast\" AND \"cas\" AND \"ree\" AND \"tre\""));
        assert!(Words::of("茶").are_in("抹茶ラテ"));
        assert_eq!(Words::of("茶 a\"").to_match(), None);
        assert!(Words::of(" \n").is_empty());
        assert_eq!(Words::of("a\"bc").to_match().as_deref(), Some("\"\"\"bc\" AND \"a\"\"b\""));
    }
}
