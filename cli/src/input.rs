//! Reading what people type: group names, durations, waits. Each says what is wrong with
//! what it does not take.

use std::fmt;
use std::io::{BufRead, Read};
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use treecast_node::control::protocol::{Retain, Start, Wait};
use treecast_node::{Descriptor, Failure, Order, Route, Ticket, TicketError, exit};
use treecast_overlay::DescriptorError;
use treecast_overlay::wire::ticket;
use unicode_normalization::UnicodeNormalization;

use crate::failure::usage;

/// A group that is meant: by its name, composed (NFC) so that the same word typed on two keyboards is
/// one group; by a ticket; or by `-`, a ticket that stands on stdin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupName {
    /// What the node is asked for.
    text: String,
    /// What people call it.
    shown: String,
}

impl GroupName {
    /// The name or ticket, as the node takes it.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the ticket is still to be read.
    pub(crate) fn is_on_stdin(&self) -> bool {
        self.text == "-"
    }

    fn ticket(text: &str) -> Result<Self, String> {
        let ticket: Ticket = text.parse().map_err(|error: TicketError| error.to_string())?;
        Ok(Self { text: text.trim().to_owned(), shown: ticket.descriptor.name })
    }

    /// Takes the first line of `input` that is not empty as the ticket, and those after it as far
    /// as it goes on there: mail and terminals wrap long lines.
    pub(crate) fn read(input: &mut impl BufRead) -> Result<Self, Failure> {
        let no_ticket = |why: String| {
            let fix = "Give it one: `treecast invite GROUP` on a machine that is in the group prints it.";
            Failure::new("bad-ticket", exit::USAGE, "No ticket came on stdin.", why, fix)
        };
        let unreadable = |error: std::io::Error| no_ticket(format!("{error}."));
        let mut text = loop {
            match next_line(input).map_err(unreadable)? {
                None => return Err(no_ticket("It is empty.".to_owned())),
                Some(line) if line.is_empty() => {}
                Some(line) => break line,
            }
        };
        if !text.starts_with(TICKET) {
            return Self::ticket(&text)
                .map_err(|why| no_ticket(format!("{}.", crate::settings::capital(&why))));
        }
        while let Err(TicketError::CutShort { .. } | TicketError::Mistyped { .. }) = text.parse::<Ticket>() {
            let goes_on = |line: &String| !line.is_empty() && line.chars().all(|c| c.is_ascii_alphanumeric());
            match next_line(input).map_err(unreadable)?.filter(goes_on) {
                Some(line) if text.len() < ticket::MAX_LEN => text += &line,
                _ => break,
            }
        }
        Self::ticket(&text).map_err(|why| bad_ticket(&why))
    }
}

/// The next line, without what surrounds it; `None` at the end.
fn next_line(input: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    let read = input.by_ref().take(ticket::MAX_LEN as u64 + 2).read_until(b'\n', &mut line)?;
    Ok((read > 0).then(|| String::from_utf8_lossy(&line).trim().to_owned()))
}

/// How tickets begin.
const TICKET: &str = "treecast1";

/// A ticket that is not one.
pub(crate) fn bad_ticket(why: &str) -> Failure {
    let fix = "Copy it again, all of it; or ask for a new one (`treecast invite GROUP` makes it).";
    let why = format!("{}.", crate::settings::capital(why.trim_end_matches('.')));
    Failure::new("bad-ticket", exit::USAGE, "The ticket cannot be used.", why, fix)
}

/// Words that are not longer than this make a name, not a ticket, even one that was cut.
const WORD: usize = 20;

/// Whether what was typed was meant as a ticket.
pub(crate) fn is_ticket(text: &str) -> bool {
    let Some(rest) = text.trim().strip_prefix(TICKET) else { return false };
    let mut words = rest.split(|c: char| !c.is_ascii_alphanumeric());
    text.chars().count() > Descriptor::MAX_NAME || words.any(|word| word.len() > WORD)
}

/// Why a name cannot be one, for people.
fn bad_name(error: DescriptorError) -> String {
    match error {
        DescriptorError::NameIsTicket => format!(
            "a name cannot begin with `{TICKET}`: that is how tickets begin, and this is none; choose another name"
        ),
        error => error.to_string(),
    }
}

/// For people.
impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl FromStr for GroupName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_ticket(text) {
            return Self::ticket(text);
        }
        let name: String = text.nfc().collect();
        Descriptor::open(&name).map_err(|error| match error {
            DescriptorError::NameLength(length)
                if length > 0 && name.chars().all(|c| c.is_ascii_alphanumeric()) =>
            {
                format!(
                    "with {length} characters it is too long for a name, and tickets begin with `{TICKET}`: \
                     one of another program or version cannot be used"
                )
            }
            error => bad_name(error),
        })?;
        Ok(Self { shown: name.clone(), text: name })
    }
}

/// The name of a group that does not exist yet, composed (NFC).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewName(String);

impl NewName {
    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NewName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Err("`-` stands for a ticket on stdin; choose another name".to_owned());
        }
        let name: String = text.nfc().collect();
        if is_ticket(&name) {
            return Err("that is a ticket: `treecast group join` joins its group; choose a name".to_owned());
        }
        Descriptor::open(&name).map_err(bad_name)?;
        Ok(Self(name))
    }
}

/// A group's order that can be chosen.
pub(crate) fn order(text: &str) -> Result<Order, String> {
    text.parse().map_err(|_| "write unordered, fifo, causal or total".to_owned())
}

/// Who may be in the committee of a total order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Committee {
    /// Any member that serves.
    Any,
    /// Whom the founder has named.
    Named,
}

impl fmt::Display for Committee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::Named => "named",
        })
    }
}

/// A committee that can be chosen.
pub(crate) fn committee(text: &str) -> Result<Committee, String> {
    match text {
        "any" => Ok(Committee::Any),
        "named" => Ok(Committee::Named),
        _ => Err("write any or named".to_owned()),
    }
}

/// A group's route that can be chosen.
pub(crate) fn route(text: &str) -> Result<Route, String> {
    let built = "tree:shared, tree:source, tree:auto or unicast";
    match text.parse() {
        Ok(route @ (Route::TreeShared | Route::TreeSource | Route::TreeAuto | Route::Unicast)) => Ok(route),
        Ok(_) => Err(format!("`{text}` cannot be used yet, it is not built; use {built}")),
        Err(_) => Err(format!("write {built}")),
    }
}

/// A bound on what a group keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Seconds.
    Age(u64),
    /// Bytes.
    Size(u64),
    /// Messages.
    Count(u64),
}

impl FromStr for Bound {
    type Err = String;

    /// Reads an age (`90s`, `12h`, `7d`, `2w`), a size (`100MB`, `1GiB`) or a count (`10000`).
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is no bound: write an age (12h, 7d), a size (100MB, 1GiB) or a count (10000)")
        };
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let (scale, bound): (f64, fn(u64) -> Self) = match unit.to_ascii_lowercase().as_str() {
            "" if !number.contains('.') => (1.0, Self::Count),
            "s" => (1.0, Self::Age),
            "m" | "min" => (60.0, Self::Age),
            "h" => (3_600.0, Self::Age),
            "d" => (86_400.0, Self::Age),
            "w" => (604_800.0, Self::Age),
            "b" => (1.0, Self::Size),
            "kb" => (1e3, Self::Size),
            "mb" => (1e6, Self::Size),
            "gb" => (1e9, Self::Size),
            "tb" => (1e12, Self::Size),
            "kib" => (1_024.0, Self::Size),
            "mib" => (1_048_576.0, Self::Size),
            "gib" => (1_073_741_824.0, Self::Size),
            "tib" => (1_099_511_627_776.0, Self::Size),
            _ => return Err(wrong()),
        };
        let value = number.parse::<f64>().map_err(|_| wrong())? * scale;
        // Up to there every whole number has a floating one.
        if !(1.0..=9_007_199_254_740_992.0).contains(&value) {
            return Err(format!("`{text}` is out of range"));
        }
        Ok(bound(value as u64))
    }
}

/// All bounds together; each kind once.
pub(crate) fn retain(bounds: &[Bound]) -> Result<Retain, Failure> {
    let mut all = Retain::default();
    for bound in bounds {
        let (place, value) = match *bound {
            Bound::Age(value) => (&mut all.age_s, value),
            Bound::Size(value) => (&mut all.bytes, value),
            Bound::Count(value) => (&mut all.count, value),
        };
        if place.replace(value).is_some() {
            let why =
                "An age, a size and a count may be given, one of each; what exceeds any of them may go.";
            return Err(usage("--retain was given twice for the same kind of bound.", why, "Leave one out."));
        }
    }
    Ok(all)
}

/// Reads `127.0.0.1:9464`, `[::1]:9464`, `localhost:9464`.
pub(crate) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let numbers = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let wrong = |_| "it is not an IP address and a port: write 127.0.0.1:9464, say".to_owned();
    numbers.as_deref().unwrap_or(text).parse().map_err(wrong)
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

/// Until when `pub` waits.
pub(crate) fn wait(text: &str) -> Result<Wait, String> {
    text.parse().map_err(|_| "write sent, stored, a number of members from 1, or all".to_owned())
}

/// Where `sub` and `history` begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Since(pub(crate) Start);

impl FromStr for Since {
    type Err = String;

    /// Reads `now`, `start`, a duration, or a bare number: an index.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |_| {
            format!("`{text}` is no beginning: write `now`, `start`, a time such as 10m or 2h, or an index")
        };
        Ok(Self(match text {
            "now" => Start::Now,
            "start" => Start::Start,
            number if number.bytes().all(|it| it.is_ascii_digit()) && !number.is_empty() => {
                Start::Index(number.parse().map_err(|_| wrong(String::new()))?)
            }
            _ => {
                let age = duration(text).map_err(wrong)?;
                Start::LastMs(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
            }
        }))
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
        for wrong in ["", "treecast1abc", "a\u{7}", " a"] {
            assert!(wrong.parse::<GroupName>().is_err(), "{wrong:?}");
        }
        assert!("x".repeat(65).parse::<GroupName>().is_err());
        assert!("lobby~ab12".parse::<GroupName>().is_ok());
    }

    fn a_ticket() -> String {
        let descriptor = Descriptor::open("茶 room").expect("a good name");
        Ticket { descriptor, members: Vec::new() }.to_string()
    }

    #[test]
    fn tickets_are_checked_and_shown_by_name() {
        let text = a_ticket();
        let group: GroupName = text.parse().expect("a good ticket");
        assert_eq!((group.as_str(), group.to_string().as_str()), (text.as_str(), "茶 room"));
        let cut = text[..text.len() - 3].parse::<GroupName>().expect_err("cut");
        assert!(cut.contains("cut short after character"), "{cut}");
        let foreign = format!("docaa{}", "b7".repeat(60)).parse::<GroupName>().expect_err("foreign");
        assert!(foreign.contains("another program"), "{foreign}");
    }

    #[test]
    fn a_name_that_begins_like_a_ticket_is_no_ticket() {
        let text = a_ticket();
        for name in ["treecast1", "treecast1foo", "treecast1-users-of-berlin", "treecast1 in the garden"] {
            assert!(!is_ticket(name), "{name}");
            let why = name.parse::<GroupName>().expect_err(name);
            assert!(why.contains("choose another name"), "{why}");
            assert_eq!(name.parse::<NewName>().expect_err(name), why);
        }
        for ticket in [&text[..40], &text, &format!("{text}!")] {
            assert!(is_ticket(ticket), "{ticket}");
            assert!(ticket.parse::<NewName>().expect_err(ticket).contains("group join"));
        }
    }

    #[test]
    fn a_ticket_on_stdin_may_be_wrapped() {
        let text = a_ticket();
        for (first, second) in [(20, 30), (50, 60), (9, 51), (text.len() - 1, text.len())] {
            let wrapped =
                format!("{}\r\n  {}\n{}\nhello\n", &text[..first], &text[first..second], &text[second..]);
            let mut input = std::io::Cursor::new(wrapped.replace("\n\n", "\n"));
            assert_eq!(GroupName::read(&mut input).expect("a ticket").as_str(), text, "{first}");
            let mut rest = String::new();
            input.read_line(&mut rest).expect("read");
            assert_eq!(rest, "hello\n", "the rest is left for others");
        }
        let cut = format!("{}\n\nhello\n", &text[..40]);
        let failure = GroupName::read(&mut std::io::Cursor::new(cut)).expect_err("cut");
        assert!(failure.why.contains("cut short after character 40"), "{failure}");
    }

    #[test]
    fn a_ticket_is_the_first_line_of_stdin() {
        let text = a_ticket();
        let mut input = std::io::Cursor::new(format!("\n  {text}\r\nhello\n"));
        assert_eq!(GroupName::read(&mut input).expect("a ticket").as_str(), text);
        let mut rest = String::new();
        input.read_line(&mut rest).expect("read");
        assert_eq!(rest, "hello\n", "the rest is left for others");
        for (wrong, word) in [("", "empty"), ("lobby\n", "treecast1"), (&text[..40], "cut")] {
            let failure = GroupName::read(&mut std::io::Cursor::new(wrong)).expect_err("no ticket");
            assert_eq!((failure.code.as_str(), failure.exit), ("bad-ticket", 2), "{wrong:?}");
            assert!(failure.why.contains(word), "{failure}");
        }
    }

    #[test]
    fn new_names_are_names() {
        assert_eq!("cafe\u{301} 2".parse::<NewName>().expect("good").as_str(), "caf\u{e9} 2");
        for wrong in ["-", "", "treecast1x"] {
            assert!(wrong.parse::<NewName>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn only_what_is_built_can_be_chosen() {
        assert_eq!(order("fifo"), Ok(Order::Fifo));
        assert_eq!(order("total"), Ok(Order::Total));
        assert!(order("best").is_err());
        assert_eq!((committee("any"), committee("named")), (Ok(Committee::Any), Ok(Committee::Named)));
        assert!(committee("some").is_err());
        assert_eq!(route("tree:shared"), Ok(Route::TreeShared));
        assert_eq!(route("unicast"), Ok(Route::Unicast));
        for wrong in ["gossip:push", "gossip:pull", "gossip:push-pull"] {
            assert!(route(wrong).expect_err("not built").contains("not built"), "{wrong}");
        }
        assert!(route("pigeon").is_err());
    }

    #[test]
    fn bounds_are_ages_sizes_and_counts() {
        for (text, bound) in [
            ("90s", Bound::Age(90)),
            ("7d", Bound::Age(604_800)),
            ("2w", Bound::Age(1_209_600)),
            ("1.5h", Bound::Age(5_400)),
            ("100MB", Bound::Size(100_000_000)),
            ("1GiB", Bound::Size(1 << 30)),
            ("0.5kib", Bound::Size(512)),
            ("10000", Bound::Count(10_000)),
        ] {
            assert_eq!(text.parse(), Ok(bound), "{text}");
        }
        for wrong in ["", "0", "-1", "1.5", "7y", "1G", "0s", "9999999TB", "d", "NaNs", "1..2d"] {
            assert!(wrong.parse::<Bound>().is_err(), "{wrong}");
        }
        let both = retain(&[Bound::Count(5), Bound::Age(60)]).expect("different kinds");
        assert_eq!(both, Retain { age_s: Some(60), bytes: None, count: Some(5) });
        assert_eq!(retain(&[Bound::Count(5), Bound::Count(6)]).expect_err("twice").exit, 2);
    }

    #[test]
    fn beginnings() {
        let read = |text: &str| text.parse::<Since>().map(|it| it.0);
        assert_eq!(read("now"), Ok(Start::Now));
        assert_eq!(read("start"), Ok(Start::Start));
        assert_eq!(read("10m"), Ok(Start::LastMs(600_000)));
        assert_eq!(read("7"), Ok(Start::Index(7)), "a bare number is no time here");
        for wrong in ["", "-5", "yesterday", "99999999999999999999", "5x"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn waits() {
        assert_eq!(wait("sent"), Ok(Wait::Sent));
        assert_eq!(wait("3"), Ok(Wait::Members(3)));
        assert_eq!(wait("all"), Ok(Wait::All));
        assert_eq!(wait("stored"), Ok(Wait::Stored));
        for wrong in ["0", "-1", "some"] {
            assert!(wait(wrong).is_err(), "{wrong}");
        }
    }
}
