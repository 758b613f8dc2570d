//! Reading what people type: group names, durations, waits. Each says what is wrong with
//! what it does not take.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use treecast_node::Descriptor;
use treecast_node::control::protocol::Wait;
use unicode_normalization::UnicodeNormalization;

/// A group's name, composed (NFC), so that the same word typed on two keyboards is one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupName(String);

impl GroupName {
    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for GroupName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" || text.starts_with("treecast1") {
            return Err("tickets cannot be used yet, they are not built; use an open group's name".to_owned());
        }
        let name: String = text.nfc().collect();
        Descriptor::open(&name).map_err(|error| error.to_string())?;
        Ok(Self(name))
    }
}

/// Reads `500ms`, `10s`, `2m`, `1h`, `1.5s`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration: write 500ms, 10s, 2m or 1h");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| wrong())
}

/// Until when `pub` waits: as the node knows it, but for what is not built.
pub(crate) fn wait(text: &str) -> Result<Wait, String> {
    match text.parse() {
        Ok(Wait::Stored) => {
            Err("`stored` cannot be used yet, it is not built; use sent, a number or all".to_owned())
        }
        Ok(wait) => Ok(wait),
        Err(_) => Err("write sent, a number of members from 1, or all".to_owned()),
    }
}

/// Where `sub` begins: only now, until there is history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Since;

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "now" => Ok(Self),
            _ => Err("only `now` can be used yet: history is not built".to_owned()),
        }
    }
}

/// A time to fill, in seconds: 0.1 to 3600.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    let time = duration(text)?.as_secs_f64();
    if (0.1..=3_600.0).contains(&time) { Ok(time) } else { Err("expected 0.1 to 3600 seconds".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        for wrong in ["", "s", "10x", "-1s", "1e9h", "99999999999999999999999h", "1..2s", "nan"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_composed_and_checked() {
        let composed: GroupName = "caf\u{e9}".parse().expect("a good name");
        assert_eq!("cafe\u{301}".parse(), Ok(composed));
        for wrong in ["", "-", "treecast1abc", "a\u{7}", " a"] {
            assert!(wrong.parse::<GroupName>().is_err(), "{wrong:?}");
        }
        assert!("x".repeat(65).parse::<GroupName>().is_err());
        assert!("lobby~ab12".parse::<GroupName>().is_ok());
    }

    #[test]
    fn waits() {
        assert_eq!(wait("sent"), Ok(Wait::Sent));
        assert_eq!(wait("3"), Ok(Wait::Members(3)));
        assert_eq!(wait("all"), Ok(Wait::All));
        for wrong in ["stored", "0", "-1", "some"] {
            assert!(wait(wrong).is_err(), "{wrong}");
        }
    }
}
