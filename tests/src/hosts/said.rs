//! What was delivered, and whether that is right.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

/// A message as `sub` or `chat` showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// When it was read here.
    pub at: Instant,
    /// Its author.
    pub source: String,
    /// Its author's life, its batch, and its number in that.
    pub place: (u64, u64, u64),
    /// What it says; base64 if it is no text.
    pub text: String,
}

impl Said {
    pub(super) fn read(at: Instant, line: &Value) -> Option<Self> {
        if line["type"] != "message" {
            return None;
        }
        let number = |key: &str| line[key].as_u64().unwrap_or_else(|| panic!("no `{key}` in {line}"));
        let text = line["text"].as_str().or(line["data"].as_str());
        Some(Self {
            at,
            source: line["source"].as_str().expect("every message has a source").to_owned(),
            place: (number("life"), number("seq"), number("n")),
            text: text.unwrap_or_else(|| panic!("no payload in {line}")).to_owned(),
        })
    }
}

/// The lines `PREFIX-0`, `PREFIX-1`, … as stdin.
pub fn numbered(prefix: &str, count: usize) -> String {
    (0..count).map(|number| format!("{prefix}-{number}\n")).collect()
}

/// Each author's texts, in the order they were shown.
///
/// # Panics
/// If one was shown twice, or one author's places do not ascend: `who` saw it.
pub fn lines_of(who: &str, messages: &[Said]) -> BTreeMap<String, Vec<String>> {
    let mut by_author: BTreeMap<String, Vec<&Said>> = BTreeMap::new();
    for message in messages {
        let earlier = by_author.entry(message.source.clone()).or_default();
        if let Some(last) = earlier.last() {
            assert!(
                last.place < message.place,
                "{who} was shown {message:?} after {last:?}: twice, or out of order"
            );
        }
        earlier.push(message);
    }
    let texts = |messages: Vec<&Said>| messages.into_iter().map(|message| message.text.clone()).collect();
    by_author.into_iter().map(|(author, messages)| (author, texts(messages))).collect()
}
