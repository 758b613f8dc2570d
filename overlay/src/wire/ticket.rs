//! A ticket: a group and ways to its members, as one pasteable string.
//!
//! ```text
//! treecast1 ‖ block ‖ block ‖ …      lower-case base32 (RFC 4648, no padding)
//! block    = 25 bytes of data (40 characters) ‖ 2 check characters
//! data     = CBOR [descriptor bytes, [[node, [address, …]], …]] ‖ BLAKE3(data)[..4]
//! ```
//! A block's check characters are 10 bits of BLAKE3 over (block number, data), so a
//! mistyped character is found in its block; the end's four bytes notice what was cut.

use std::fmt;
use std::str::FromStr;

use serde_bytes::ByteBuf;

use super::cbor;
use crate::descriptor::{Descriptor, DescriptorError};
use crate::id::{Address, NodeId};

const PREFIX: &str = "treecast1";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const BLOCK_BYTES: usize = 25;
const BLOCK_CHARS: usize = 40;
const CHECK_CHARS: usize = 2;

/// How to join a group from anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// What the group is.
    pub descriptor: Descriptor,
    /// Some of its members and where they were last.
    pub members: Vec<(NodeId, Vec<Address>)>,
}

/// Members in a ticket, at most; those after are not read.
pub const MAX_MEMBERS: usize = 8;
/// Characters of a ticket, at most.
pub const MAX_LEN: usize = 128 << 10;

/// Not a ticket, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// It does not begin as tickets do.
    #[error("a ticket begins with `treecast1`")]
    NotATicket,
    /// A character no ticket has.
    #[error("character {at} is `{found}`, which no ticket contains")]
    Character {
        /// Its place, from 1.
        at: usize,
        /// What stands there.
        found: char,
    },
    /// The check of a block fails.
    #[error("something is mistyped between characters {from} and {to}: `{text}`")]
    Mistyped {
        /// First character of the block, from 1.
        from: usize,
        /// Its last.
        to: usize,
        /// What stands there.
        text: String,
    },
    /// The end is missing.
    #[error("the ticket is cut short after character {at}")]
    CutShort {
        /// How many characters there are.
        at: usize,
    },
    /// It is whole, and then more follows.
    #[error("the ticket ends with character {at}, but goes on: `{text}` does not belong to it")]
    AfterEnd {
        /// Its last character, from 1.
        at: usize,
        /// What follows; of a long one, the beginning.
        text: String,
    },
    /// More than [`MAX_LEN`] characters.
    #[error("a ticket has at most {MAX_LEN} characters")]
    TooLong,
    /// It is whole, but what it holds is not what this version's tickets hold.
    #[error("the ticket is whole, but of a kind that this version does not know")]
    Foreign,
    /// Its group may not be.
    #[error("the ticket's group is not valid: {0}")]
    Descriptor(DescriptorError),
}

impl From<DescriptorError> for TicketError {
    fn from(error: DescriptorError) -> Self {
        match error {
            // Its bytes are as they were made: somebody else made something else.
            DescriptorError::Malformed => Self::Foreign,
            error => Self::Descriptor(error),
        }
    }
}

type Body = (ByteBuf, Vec<(NodeId, Vec<Address>)>);

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body: Body = (ByteBuf::from(self.descriptor.to_bytes()), self.members.clone());
        f.write_str(&seal(cbor::to_vec(&body)))
    }
}

/// The text of these bytes, with all its checks.
fn seal(mut data: Vec<u8>) -> String {
    let end = blake3::hash(&data);
    data.extend_from_slice(&end.as_bytes()[..4]);
    let block = |(number, block): (usize, &[u8])| encode(block) + &check_chars(number, block);
    let blocks: String = data.chunks(BLOCK_BYTES).enumerate().map(block).collect();
    format!("{PREFIX}{blocks}")
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_LEN {
            return Err(TicketError::TooLong);
        }
        let text = text.trim();
        let cut = TicketError::CutShort { at: text.chars().count() };
        let whole = read_blocks(text).and_then(|data| if ends_right(&data) { Ok(data) } else { Err(cut) });
        let data = whole.map_err(|error| after_end(text).unwrap_or(error))?;
        let (descriptor, mut members): Body =
            cbor::from_slice(&data[..data.len() - 4]).map_err(|_| TicketError::Foreign)?;
        members.truncate(MAX_MEMBERS);
        Ok(Self { descriptor: Descriptor::from_bytes(&descriptor)?, members })
    }
}

fn read_blocks(text: &str) -> Result<Vec<u8>, TicketError> {
    let body = text.strip_prefix(PREFIX).ok_or(TicketError::NotATicket)?;
    let mut values = Vec::with_capacity(body.len());
    for (i, found) in body.chars().enumerate() {
        let at = PREFIX.len() + i + 1;
        values.push(value(found).ok_or(TicketError::Character { at, found })?);
    }
    let mut data = Vec::with_capacity(values.len() * 5 / 8);
    for (number, block) in values.chunks(BLOCK_CHARS + CHECK_CHARS).enumerate() {
        let start = PREFIX.len() + number * (BLOCK_CHARS + CHECK_CHARS);
        let last = (number + 1) * (BLOCK_CHARS + CHECK_CHARS) >= values.len();
        let bytes = decode(&block[..block.len().saturating_sub(CHECK_CHARS)]);
        let given = &block[block.len().saturating_sub(CHECK_CHARS)..];
        if given != check_values(number, &bytes) {
            let at = start + block.len();
            // A cut leaves a short last block: most likely that, not a typing error.
            let short = last && block.len() < BLOCK_CHARS + CHECK_CHARS;
            return Err(if short && !is_one_off(&data, number, block) {
                TicketError::CutShort { at }
            } else {
                let text = text.chars().skip(start).take(block.len()).collect();
                TicketError::Mistyped { from: start + 1, to: at, text }
            });
        }
        data.extend_from_slice(&bytes);
    }
    Ok(data)
}

fn value(found: char) -> Option<u8> {
    let lower = found.to_ascii_lowercase();
    ALPHABET.iter().position(|it| char::from(*it) == lower).map(|value| value as u8)
}

/// That a ticket is whole before the text ends, if that is what is wrong: at the end of the blocks
/// that are good, or within the one after them.
fn after_end(text: &str) -> Option<TicketError> {
    let values: Vec<u8> = text.strip_prefix(PREFIX)?.chars().map_while(value).collect();
    let mut data = Vec::new();
    let mut good = 0;
    for (number, block) in values.chunks(BLOCK_CHARS + CHECK_CHARS).enumerate() {
        let Some(bytes) = checked(number, block) else { break };
        data.extend_from_slice(&bytes);
        good += block.len();
    }
    let number = good.div_ceil(BLOCK_CHARS + CHECK_CHARS);
    let next = &values[good..(good + BLOCK_CHARS + CHECK_CHARS).min(values.len())];
    let ends = |len: &usize| {
        let bytes = if *len == 0 { Some(Vec::new()) } else { checked(number, &next[..*len]) };
        bytes.is_some_and(|bytes| ends_right(&[&data[..], &bytes].concat()))
    };
    let at = PREFIX.len() + good + (0..=next.len()).find(ends)?;
    let mut rest = text.chars().skip(at);
    let mut text: String = rest.by_ref().take(24).collect();
    if rest.next().is_some() {
        text.push('…');
    }
    Some(TicketError::AfterEnd { at, text })
}

/// What a block holds, if its check characters are right.
fn checked(number: usize, block: &[u8]) -> Option<Vec<u8>> {
    let (body, given) = block.split_at(block.len().checked_sub(CHECK_CHARS)?);
    let bytes = decode(body);
    (given == check_values(number, &bytes)).then_some(bytes)
}

/// Whether changing one character would mend a short last block, and with it the whole ticket:
/// then it was mistyped rather than cut.
fn is_one_off(before: &[u8], number: usize, block: &[u8]) -> bool {
    let mut changed = block.to_vec();
    (0..block.len()).any(|i| {
        let kept = changed[i];
        let mends = (0..32).any(|value| {
            changed[i] = value;
            checked(number, &changed).is_some_and(|bytes| ends_right(&[before, &bytes].concat()))
        });
        changed[i] = kept;
        mends
    })
}

/// Whether the last four bytes are what the end of a ticket has to be.
fn ends_right(data: &[u8]) -> bool {
    let split = data.len().checked_sub(4);
    split.is_some_and(|split| blake3::hash(&data[..split]).as_bytes()[..4] == data[split..])
}

fn check_values(number: usize, block: &[u8]) -> [u8; CHECK_CHARS] {
    let mut hasher = blake3::Hasher::new_derive_key("treecast 1 ticket block");
    hasher.update(&(number as u64).to_le_bytes());
    hasher.update(block);
    let hash = hasher.finalize();
    [hash.as_bytes()[0] & 31, hash.as_bytes()[1] & 31]
}

fn check_chars(number: usize, block: &[u8]) -> String {
    check_values(number, block).iter().map(|value| char::from(ALPHABET[usize::from(*value)])).collect()
}

fn encode(bytes: &[u8]) -> String {
    let (mut text, mut held, mut bits) = (String::new(), 0u32, 0);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(held >> bits & 31) as usize]));
        }
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(held << (5 - bits) & 31) as usize]));
    }
    text
}

fn decode(values: &[u8]) -> Vec<u8> {
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0u32, 0);
    for value in values {
        held = held << 5 | u32::from(*value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 255) as u8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Ticket {
        let address = Address::new(vec![4, 10, 0, 0, 1, 6, 1, 187]).expect("a good length");
        Ticket {
            descriptor: Descriptor::open("garden").expect("a good name"),
            members: vec![
                (NodeId::from_bytes([1; 32]), vec![address.clone()]),
                (NodeId::from_bytes([2; 32]), vec![address]),
            ],
        }
    }

    #[test]
    fn a_ticket_reads_back_in_either_case() {
        let text = sample().to_string();
        assert_eq!(text.parse(), Ok(sample()));
        let upper = format!("treecast1{}", text[9..].to_uppercase());
        assert_eq!(upper.parse(), Ok(sample()));
    }

    #[test]
    fn a_mistyped_character_is_found_in_its_block() {
        let text = sample().to_string();
        for at in PREFIX.len()..text.len() {
            let wrong = if &text[at..=at] == "a" { "b" } else { "a" };
            let mistyped = format!("{}{wrong}{}", &text[..at], &text[at + 1..]);
            match mistyped.parse::<Ticket>() {
                Err(TicketError::Mistyped { from, to, .. }) => assert!(from <= at + 1 && at < to, "{at}"),
                other => panic!("character {at}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_cut_ticket_says_so() {
        let text = sample().to_string();
        for at in PREFIX.len()..text.len() {
            assert_eq!(text[..at].parse::<Ticket>(), Err(TicketError::CutShort { at }), "cut at {at}");
        }
        assert_eq!("treecast1!".parse::<Ticket>(), Err(TicketError::Character { at: 10, found: '!' }));
        assert_eq!("lobby".parse::<Ticket>(), Err(TicketError::NotATicket));
    }

    #[test]
    fn what_follows_a_whole_ticket_is_told_from_it() {
        // Last blocks of all lengths, full ones too.
        for members in 0..6 {
            let mut ticket = sample();
            ticket.members = (0..members).map(|n| (NodeId::from_bytes([n; 32]), Vec::new())).collect();
            let whole = ticket.to_string();
            let long = "x".repeat(300);
            for tail in ["a", "aa", "treecast1aaaa", ".", "!abc", "-hello", long.as_str()] {
                match format!("{whole}{tail}").parse::<Ticket>() {
                    Err(TicketError::AfterEnd { at, text }) => {
                        assert_eq!(at, whole.len(), "{tail}");
                        assert!(tail.starts_with(text.trim_end_matches('…')), "{tail}: {text}");
                    }
                    other => panic!("{tail}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn what_is_whole_but_no_ticket_of_ours_says_so() {
        for data in [cbor::to_vec(&("file", 7u8)), b"not even CBOR".to_vec(), Vec::new()] {
            assert_eq!(seal(data).parse::<Ticket>(), Err(TicketError::Foreign));
        }
        let mut descriptor = sample().descriptor.to_bytes();
        // Its order: one of the future.
        let order = descriptor.iter().position(|byte| *byte == 2).expect("causal");
        descriptor[order] = 23;
        let body: Body = (ByteBuf::from(descriptor), Vec::new());
        assert_eq!(seal(cbor::to_vec(&body)).parse::<Ticket>(), Err(TicketError::Foreign));
        let mut nameless = sample().descriptor;
        nameless.name.clear();
        let body: Body = (ByteBuf::from(nameless.to_bytes()), Vec::new());
        let expected = TicketError::Descriptor(DescriptorError::NameLength(0));
        assert_eq!(seal(cbor::to_vec(&body)).parse::<Ticket>(), Err(expected));
    }

    #[test]
    fn only_so_many_members_are_read() {
        let mut crowded = sample();
        crowded.members = (0..99).map(|n| (NodeId::from_bytes([n; 32]), Vec::new())).collect();
        let read: Ticket = crowded.to_string().parse().expect("a ticket");
        assert_eq!(read.members, crowded.members[..MAX_MEMBERS]);
    }
}
