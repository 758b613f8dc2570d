//! Ways to spoil a frame.

use bytes::Bytes;

use treecast_overlay::wire;

use super::Decisions;

/// Numbers that overflow when something is added, doubled or cast.
const NASTY: [u64; 8] = [0, 1, 0x7f, 1 << 31, u32::MAX as u64, i64::MAX as u64, 1 << 63, u64::MAX];

/// What is sent in place of `frame`: nothing, itself, something like it, something else.
/// `earlier` are frames that were sent before, by anybody.
pub(super) fn mutate(frame: &Bytes, earlier: &[Bytes], decisions: &mut Decisions) -> Vec<Bytes> {
    if decisions.is_empty() {
        return vec![frame.clone()];
    }
    match decisions.byte() {
        0..100 => vec![frame.clone()],
        100..115 => Vec::new(),
        115..130 => vec![frame.clone(), frame.clone()],
        130..150 => vec![flip(frame, decisions)],
        150..160 => vec![frame.slice(..decisions.below(frame.len() + 1))],
        160..168 => vec![[frame.as_ref(), &decisions.bytes(40)].concat().into()],
        168..180 => vec![replay(earlier, decisions), frame.clone()],
        180..215 => vec![number(frame, decisions)],
        215..230 => vec![repeat_element(frame, decisions)],
        230..245 => vec![flip(&replay(earlier, decisions), decisions), frame.clone()],
        245..254 => vec![decisions.bytes(200).into(), frame.clone()],
        _ => vec![oversized(frame)],
    }
}

fn flip(frame: &Bytes, decisions: &mut Decisions) -> Bytes {
    let mut bytes = frame.to_vec();
    if !bytes.is_empty() {
        let at = decisions.below(bytes.len());
        bytes[at] ^= 1 << (decisions.byte() & 7);
    }
    bytes.into()
}

fn replay(earlier: &[Bytes], decisions: &mut Decisions) -> Bytes {
    if earlier.is_empty() { Bytes::new() } else { earlier[decisions.below(earlier.len())].clone() }
}

/// As long as a driver lets through.
fn oversized(frame: &Bytes) -> Bytes {
    let mut bytes = frame.to_vec();
    bytes.resize(wire::MAX_FRAME, 0);
    bytes.into()
}

/// One integer of the frame becomes another, and all around it stays well-formed.
fn number(frame: &Bytes, decisions: &mut Decisions) -> Bytes {
    let heads = heads(frame);
    let numbers: Vec<&Head> = heads.iter().filter(|head| head.major <= 1).collect();
    if numbers.is_empty() {
        return flip(frame, decisions);
    }
    let head = numbers[decisions.below(numbers.len())];
    let value = match decisions.byte() {
        0..8 => head.value.wrapping_add(1),
        8..16 => head.value.wrapping_sub(1),
        16..32 => u64::from(decisions.word()),
        other => NASTY[usize::from(other) % NASTY.len()],
    };
    let mut bytes = frame[..head.at].to_vec();
    bytes.push(head.major << 5 | 27);
    bytes.extend_from_slice(&value.to_be_bytes());
    bytes.extend_from_slice(&frame[head.after..]);
    bytes.into()
}

/// One element of an array comes many times.
fn repeat_element(frame: &Bytes, decisions: &mut Decisions) -> Bytes {
    let heads = heads(frame);
    let arrays: Vec<&Head> = heads.iter().filter(|head| head.major == 4 && head.value > 0).collect();
    if arrays.is_empty() {
        return flip(frame, decisions);
    }
    let head = arrays[decisions.below(arrays.len())];
    let times = 1 + decisions.below(300);
    let Some(element) = item_end(frame, head.after).map(|end| &frame[head.after..end]) else {
        return frame.clone();
    };
    let mut bytes = frame[..head.at].to_vec();
    bytes.push(4 << 5 | 27);
    bytes.extend_from_slice(&(head.value + times as u64).to_be_bytes());
    (0..times).for_each(|_| bytes.extend_from_slice(element));
    bytes.extend_from_slice(&frame[head.after..]);
    bytes.truncate(wire::MAX_FRAME);
    bytes.into()
}

/// The head of a CBOR item (RFC 8949 §3).
struct Head {
    at: usize,
    after: usize,
    major: u8,
    value: u64,
}

/// All heads of the frame, as far as it is well-formed; strings are not looked into.
fn heads(frame: &[u8]) -> Vec<Head> {
    let mut heads = Vec::new();
    let mut at = 0;
    while let Some(head) = head(frame, at) {
        at = head.after;
        if matches!(head.major, 2 | 3) {
            at = at.saturating_add(usize::try_from(head.value).unwrap_or(usize::MAX));
        }
        heads.push(head);
    }
    heads
}

fn head(frame: &[u8], at: usize) -> Option<Head> {
    let first = *frame.get(at)?;
    let (major, low) = (first >> 5, first & 31);
    let len = match low {
        0..24 => return Some(Head { at, after: at + 1, major, value: u64::from(low) }),
        24..28 => 1 << (low - 24),
        _ => return None,
    };
    let argument = frame.get(at + 1..at + 1 + len)?;
    let value = argument.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    Some(Head { at, after: at + 1 + len, major, value })
}

/// Where the item at `at` ends.
fn item_end(frame: &[u8], at: usize) -> Option<usize> {
    let (mut at, mut left) = (at, 1u64);
    while left > 0 {
        let head = head(frame, at)?;
        left -= 1;
        at = head.after;
        match head.major {
            2 | 3 => at = at.checked_add(usize::try_from(head.value).ok()?)?,
            4 => left = left.checked_add(head.value)?,
            5 => left = left.checked_add(head.value.checked_mul(2)?)?,
            6 => left += 1,
            _ => {}
        }
    }
    (at <= frame.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[1, [2, 3], h'aabb', 500]`
    const SAMPLE: &[u8] = &[0x84, 0x01, 0x82, 0x02, 0x03, 0x42, 0xaa, 0xbb, 0x19, 0x01, 0xf4];

    #[test]
    fn heads_and_ends_of_items_are_found() {
        let values: Vec<(u8, u64)> = heads(SAMPLE).iter().map(|head| (head.major, head.value)).collect();
        assert_eq!(values, [(4, 4), (0, 1), (4, 2), (0, 2), (0, 3), (2, 2), (0, 500)]);
        assert_eq!(item_end(SAMPLE, 0), Some(SAMPLE.len()));
        assert_eq!(item_end(SAMPLE, 2), Some(5));
    }

    #[test]
    fn a_changed_number_leaves_a_well_formed_frame() {
        let frame = Bytes::from_static(SAMPLE);
        for data in [[0, 0, 40], [200, 200, 44], [255, 255, 2]] {
            let changed = number(&frame, &mut Decisions::new(&data));
            assert_eq!(item_end(&changed, 0), Some(changed.len()));
        }
        let longer = repeat_element(&frame, &mut Decisions::new(&[255, 255, 0, 10]));
        assert_eq!(item_end(&longer, 0), Some(longer.len()));
    }
}
