//! What two nodes say to each other about files, on streams of their own (`/treecast/files/1.0.0`).
//!
//! Whoever opens a stream says [`Frame::Open`] and from then on asks for pieces of that one file; the other tells
//! which it has, and sends what it is asked for, in that order. Or it says [`Frame::Query`] and is told all that the
//! other holds. A frame is its length (four bytes, big-endian), its kind (one byte) and a CBOR array; unknown kinds
//! and trailing elements are ignored.

use serde_bytes::{ByteArray, ByteBuf};

use super::offer::{Ending, FileHash};
use crate::id::GroupId;
use crate::wire::cbor::{self, Malformed, cbor_array};

/// The protocol.
pub const PROTOCOL: &str = "/treecast/files/1.0.0";

/// Bytes of a piece in one frame, at most.
pub const MAX_PART: usize = 64 << 10;

/// The longest frame that is read, its length not counted: the set of a file's pieces, or a part.
pub const MAX_FRAME: usize = 128 << 10;

/// Pieces told in one [`Frame::More`].
pub const MAX_MORE: usize = 4_096;

/// Files told in one [`Frame::Holds`].
pub const MAX_HELD: usize = 1_024;

/// Why pieces of a file are not (or no longer) to be had from a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It has nothing of it.
    NotHeld,
    /// What it had has changed.
    Changed,
    /// Whoever asks is no member of the group as far as the node knows, or the group has no such file.
    NotMember,
    /// It serves too many already.
    Busy,
    /// What it had was removed.
    Removed,
}

/// What a node has of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Which file.
    pub hash: FileHash,
    /// How many of its pieces.
    pub pieces: u32,
    /// It had all of it, and has it no longer.
    pub ending: Option<Ending>,
}

/// Part of a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which piece.
    pub piece: u32,
    /// Where in that, bytes.
    pub offset: u32,
    /// The sender's clock when it went out, microseconds.
    pub stamp_us: u64,
    /// With the first part of a piece: the hashes beside its way to the root, from the bottom up.
    pub proof: Vec<[u8; 32]>,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame {
    /// The first: pieces of this file, which was announced in this group, are wanted.
    Open {
        /// The group.
        group: GroupId,
        /// The file.
        hash: FileHash,
    },
    /// The first: what of this group's files is held?
    Query {
        /// The group.
        group: GroupId,
    },
    /// Send this piece, after those that were asked for before.
    Ask {
        /// Which.
        piece: u32,
    },
    /// It is not wanted any more; it may come all the same.
    Cancel {
        /// Which.
        piece: u32,
    },
    /// So many bytes of parts have come on this stream; the last was under way for so long, by two clocks.
    Took {
        /// Bytes, all in all.
        bytes: u64,
        /// Microseconds.
        delay_us: i64,
    },
    /// Whoever asks has all of it by now.
    Whole,
    /// Which pieces there are: the answer to `Open`.
    Has {
        /// See [`super::Pieces::to_bytes`].
        pieces: Vec<u8>,
    },
    /// These as well, since.
    More {
        /// Which.
        pieces: Vec<u32>,
    },
    /// Part of a piece.
    Part(Part),
    /// There is nothing to be had; the stream ends.
    Not(Refusal),
    /// What is held, and what was. The answer to `Query`.
    Holds {
        /// Of each file.
        files: Vec<Held>,
    },
}

cbor_array! { struct Target { group: GroupId, hash: ByteArray<32> } }
cbor_array! { struct Where { group: GroupId } }
cbor_array! { struct Which { piece: u32 } }
cbor_array! { struct Came { bytes: u64, delay_us: i64 } }
cbor_array! { struct Set { pieces: ByteBuf } }
cbor_array! { struct List { pieces: Vec<u32> } }
cbor_array! { struct Sent { piece: u32, offset: u32, stamp_us: u64, proof: ByteBuf, bytes: ByteBuf } }
cbor_array! { struct Why { code: u8 } }
cbor_array! { struct OneHeld { hash: ByteArray<32>, pieces: u32; or_none ending: u8 } }
cbor_array! { struct AllHeld { files: Vec<OneHeld> } }

/// What came is no frame of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a malformed frame")]
pub struct BadFrame;

impl From<Malformed> for BadFrame {
    fn from(_: Malformed) -> Self {
        Self
    }
}

impl Frame {
    /// The frame as it travels, its length before it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (kind, body) = match self {
            Self::Open { group, hash } => {
                (0, cbor::to_vec(&Target { group: *group, hash: ByteArray::new(*hash.as_bytes()) }))
            }
            Self::Query { group } => (1, cbor::to_vec(&Where { group: *group })),
            Self::Ask { piece } => (2, cbor::to_vec(&Which { piece: *piece })),
            Self::Cancel { piece } => (3, cbor::to_vec(&Which { piece: *piece })),
            Self::Took { bytes, delay_us } => (4, cbor::to_vec(&Came { bytes: *bytes, delay_us: *delay_us })),
            Self::Whole => (5, Vec::new()),
            Self::Has { pieces } => (6, cbor::to_vec(&Set { pieces: ByteBuf::from(pieces.clone()) })),
            Self::More { pieces } => (7, cbor::to_vec(&List { pieces: pieces.clone() })),
            Self::Part(it) => {
                return Part::encode(it.piece, it.offset, it.stamp_us, &it.proof, &it.bytes);
            }
            Self::Not(refusal) => (9, cbor::to_vec(&Why { code: *refusal as u8 })),
            Self::Holds { files } => {
                let held = |it: &Held| OneHeld {
                    hash: ByteArray::new(*it.hash.as_bytes()),
                    pieces: it.pieces,
                    ending: it.ending.map(Ending::code),
                };
                (10, cbor::to_vec(&AllHeld { files: files.iter().take(MAX_HELD).map(held).collect() }))
            }
        };
        framed(kind, &body)
    }

    /// Reads what follows a frame's length; `None` if it is of a kind that is not known.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Option<Self>, BadFrame> {
        let (kind, body) = bytes.split_first().ok_or(BadFrame)?;
        Ok(Some(match kind {
            0 => {
                let Target { group, hash } = cbor::from_slice(body)?;
                Self::Open { group, hash: FileHash::from_bytes(hash.into_array()) }
            }
            1 => Self::Query { group: cbor::from_slice::<Where>(body)?.group },
            2 => Self::Ask { piece: cbor::from_slice::<Which>(body)?.piece },
            3 => Self::Cancel { piece: cbor::from_slice::<Which>(body)?.piece },
            4 => {
                let Came { bytes, delay_us } = cbor::from_slice(body)?;
                Self::Took { bytes, delay_us }
            }
            5 => Self::Whole,
            6 => Self::Has { pieces: cbor::from_slice::<Set>(body)?.pieces.into_vec() },
            7 => {
                let List { pieces } = cbor::from_slice(body)?;
                if pieces.len() > MAX_MORE {
                    return Err(BadFrame);
                }
                Self::More { pieces }
            }
            8 => Self::Part(Part::from_body(body)?),
            9 => Self::Not(match cbor::from_slice::<Why>(body)?.code {
                1 => Refusal::Changed,
                2 => Refusal::NotMember,
                3 => Refusal::Busy,
                4 => Refusal::Removed,
                _ => Refusal::NotHeld,
            }),
            10 => {
                let AllHeld { files } = cbor::from_slice(body)?;
                let held = |it: OneHeld| Held {
                    hash: FileHash::from_bytes(it.hash.into_array()),
                    pieces: it.pieces,
                    ending: it.ending.and_then(Ending::from_code),
                };
                Self::Holds { files: files.into_iter().take(MAX_HELD).map(held).collect() }
            }
            _ => return Ok(None),
        }))
    }
}

impl Part {
    /// [`Frame::Part`] as it travels, its bytes taken from where they are.
    pub fn encode(piece: u32, offset: u32, stamp_us: u64, proof: &[[u8; 32]], bytes: &[u8]) -> Vec<u8> {
        let proof = proof.concat();
        let sent = (piece, offset, stamp_us, serde_bytes::Bytes::new(&proof), serde_bytes::Bytes::new(bytes));
        let mut begun = Vec::with_capacity(bytes.len() + proof.len() + 64);
        begun.extend_from_slice(&[0, 0, 0, 0, 8]);
        let mut frame = cbor4ii::serde::to_vec(begun, &sent).expect("it encodes");
        let length = u32::try_from(frame.len() - 4).expect("frames are short");
        frame[..4].copy_from_slice(&length.to_be_bytes());
        frame
    }

    fn from_body(body: &[u8]) -> Result<Self, BadFrame> {
        let Sent { piece, offset, stamp_us, proof, bytes } = cbor::from_slice(body)?;
        let (proof, rest) = proof.as_chunks::<32>();
        if !rest.is_empty() || bytes.len() > MAX_PART {
            return Err(BadFrame);
        }
        Ok(Self { piece, offset, stamp_us, proof: proof.to_vec(), bytes: bytes.into_vec() })
    }
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 1).expect("frames are short");
    let mut bytes = Vec::with_capacity(body.len() + 5);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Frame> {
        let (group, hash) = (GroupId::from_bytes([1; 32]), FileHash::from_bytes([2; 32]));
        let part =
            Part { piece: 7, offset: 65_536, stamp_us: 9, proof: vec![[3; 32]; 2], bytes: vec![4; 300] };
        vec![
            Frame::Open { group, hash },
            Frame::Query { group },
            Frame::Ask { piece: 70_000 },
            Frame::Cancel { piece: 1 },
            Frame::Took { bytes: 1 << 40, delay_us: -5 },
            Frame::Whole,
            Frame::Has { pieces: vec![0xff, 1] },
            Frame::More { pieces: vec![1, 2, 70_000] },
            Frame::Part(part),
            Frame::Not(Refusal::Changed),
            Frame::Not(Refusal::Removed),
            Frame::Holds {
                files: vec![
                    Held { hash, pieces: 3, ending: None },
                    Held { hash, pieces: 0, ending: Some(Ending::Removed) },
                ],
            },
        ]
    }

    #[test]
    fn frames_read_back_whatever_follows() {
        for frame in all() {
            let bytes = frame.to_bytes();
            let length = u32::from_be_bytes(bytes[..4].try_into().expect("four")) as usize;
            assert!(length == bytes.len() - 4 && length <= MAX_FRAME);
            assert_eq!(Frame::from_bytes(&bytes[4..]), Ok(Some(frame)));
        }
        assert_eq!(Frame::from_bytes(&[99, 1, 2]), Ok(None));
        assert!(Frame::from_bytes(&[]).is_err());
    }

    #[test]
    fn what_is_cut_or_flipped_is_refused_or_read_but_never_more() {
        for frame in all() {
            let bytes = frame.to_bytes();
            for at in 4..bytes.len().min(60) {
                let _ = Frame::from_bytes(&bytes[4..at]);
                let mut flipped = bytes.clone();
                flipped[at] ^= 0x55;
                let _ = Frame::from_bytes(&flipped[4..]);
            }
        }
        let long = Part { piece: 0, offset: 0, stamp_us: 0, proof: vec![], bytes: vec![0; MAX_PART + 1] };
        assert_eq!(Frame::from_bytes(&Frame::Part(long).to_bytes()[4..]), Err(BadFrame));
        let many = Frame::More { pieces: vec![1; MAX_MORE + 1] };
        assert_eq!(Frame::from_bytes(&many.to_bytes()[4..]), Err(BadFrame));
    }
}
