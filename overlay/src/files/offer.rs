//! What a member announces: a message like others, which those who know no files read as a sentence.

use std::fmt;
use std::str::FromStr;

use serde_bytes::ByteArray;

use super::manifest::MAX_MANIFEST;
use super::name::clean_name;
use crate::wire::cbor::{self, cbor_array};

/// The longest name, bytes: what file systems take.
pub const MAX_NAME: usize = 255;

/// The largest file or folder, bytes: 1 TiB. Its hashes take 16 MiB of memory.
pub const MAX_SIZE: u64 = 1 << 40;

/// Stands before what programs read; a control character that nobody types.
const MARK: &str = "\n\u{1e}treecast-file:1:";

/// The same, where an announcement ends.
const END_MARK: &str = "\n\u{1e}treecast-file-end:1:";

/// What both have behind their first character.
const COMMON: &[u8] = b"\x1etreecast-file";

/// A longer announcement is none.
const MAX_BYTES: usize = 4_096;

/// The BLAKE3 hash of a file's bytes, or of a folder's manifest and files. Prints as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileHash([u8; 32]);

impl FileHash {
    /// These 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileHash({self})")
    }
}

/// The text is no file's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a file's hash has 64 hexadecimal digits")]
pub struct ParseFileHashError;

impl FromStr for FileHash {
    type Err = ParseFileHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(ParseFileHashError);
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            let digits = &text[2 * at..2 * at + 2];
            *byte = u8::from_str_radix(digits, 16).map_err(|_| ParseFileHashError)?;
        }
        Ok(Self(bytes))
    }
}

/// A file, or a folder, that a member has for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The hash over all bytes.
    pub hash: FileHash,
    /// What its announcer calls it: one part of a path, not more than [`MAX_NAME`] bytes. Nothing is done with it
    /// before [`clean_name`].
    pub name: String,
    /// All bytes, a folder's manifest among them.
    pub size: u64,
    /// A folder: so many bytes at the beginning are its [`Manifest`](super::Manifest).
    pub manifest: Option<u64>,
}

cbor_array! {
    struct Told { hash: ByteArray<32>, name: String, size: u64; or_none manifest: u64 }
}

impl Offer {
    /// The message that announces it.
    pub fn to_message(&self) -> String {
        let Self { hash, name, size, manifest } = self.clone();
        let kind = if manifest.is_some() { "folder" } else { "file" };
        let shown = clean_name(&name);
        let told = Told { hash: ByteArray::new(hash.0), name, size, manifest };
        let hex = to_hex(&cbor::to_vec(&told));
        format!("[{kind}] {shown}, {size} bytes: treecast file get {hash}{MARK}{hex}")
    }

    /// Whether a message, or a batch of several, may hold an announcement or the end of one: cheap, and sometimes
    /// wrong.
    pub fn may_be_in(bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| *byte == COMMON[0]) {
            if rest[at..].starts_with(COMMON) {
                return true;
            }
            rest = &rest[at + 1..];
        }
        false
    }

    /// Reads a message; `None` if it is none, or says what cannot be.
    pub fn from_message(message: &[u8]) -> Option<Self> {
        let Told { hash, name, size, manifest } = cbor::from_slice(&after(MARK, message)?).ok()?;
        let fits = size <= MAX_SIZE
            && manifest.is_none_or(|it| it <= size.min(MAX_MANIFEST))
            && name.len() <= MAX_NAME;
        fits.then(|| Self { hash: FileHash(hash.into_array()), name, size, manifest })
    }
}

/// Why a member has a file no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ending {
    /// What lies there is something else by now.
    Changed,
    /// Nothing lies there.
    Removed,
    /// It is not offered any more.
    Withdrawn,
}

impl Ending {
    /// Its number where it is written.
    pub fn code(self) -> u8 {
        match self {
            Self::Changed => 1,
            Self::Removed => 2,
            Self::Withdrawn => 3,
        }
    }

    /// What the number stands for, if it is known.
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Changed, Self::Removed, Self::Withdrawn].into_iter().find(|it| it.code() == code)
    }

    /// Its name in the command line's objects.
    pub fn name(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A member's word that what it announced is not to be had from it any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retraction {
    /// Which file.
    pub hash: FileHash,
    /// What its announcer calls it; see [`Offer::name`].
    pub name: String,
    /// Why.
    pub ending: Ending,
}

cbor_array! {
    struct Ended { hash: ByteArray<32>, name: String, ending: u8 }
}

impl Retraction {
    /// The message that says so.
    pub fn to_message(&self) -> String {
        let Self { hash, name, ending } = self.clone();
        let shown = clean_name(&name);
        let hex = to_hex(&cbor::to_vec(&Ended { hash: ByteArray::new(hash.0), name, ending: ending.code() }));
        let what = match ending {
            Ending::Changed => "has changed since it was announced, and is not served any more",
            Ending::Removed => "was removed, and is not served any more",
            Ending::Withdrawn => "is not offered any more",
        };
        format!("[file] {shown} {what}{END_MARK}{hex}")
    }

    /// Reads a message; `None` if it is none, or says what cannot be.
    pub fn from_message(message: &[u8]) -> Option<Self> {
        let Ended { hash, name, ending } = cbor::from_slice(&after(END_MARK, message)?).ok()?;
        let ending = Ending::from_code(ending).filter(|_| name.len() <= MAX_NAME)?;
        Some(Self { hash: FileHash(hash.into_array()), name, ending })
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a message holds for programs behind a mark.
fn after(mark: &str, message: &[u8]) -> Option<Vec<u8>> {
    if message.len() > MAX_BYTES {
        return None;
    }
    let (_, hex) = std::str::from_utf8(message).ok()?.rsplit_once(mark)?;
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    hex.as_bytes().chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Offer {
        let (hash, name) = (FileHash([7; 32]), "Übersicht 二.pdf".to_owned());
        Offer { hash, name, size: 12, manifest: None }
    }

    #[test]
    fn an_announcement_reads_back_and_reads_well() {
        for manifest in [None, Some(4)] {
            let offer = Offer { manifest, ..offer() };
            let message = offer.to_message();
            assert!(Offer::may_be_in(message.as_bytes()));
            assert_eq!(Offer::from_message(message.as_bytes()), Some(offer));
            let first = message.lines().next().expect("a sentence");
            assert!(
                first.contains("Übersicht 二.pdf, 12 bytes") && first.contains("file get 0707"),
                "{first}"
            );
        }
    }

    #[test]
    fn the_end_of_one_reads_back_and_is_no_announcement() {
        for (ending, words) in [
            (Ending::Changed, "二.pdf has changed since"),
            (Ending::Removed, "二.pdf was removed"),
            (Ending::Withdrawn, "二.pdf is not offered any more"),
        ] {
            let ended = Retraction { hash: offer().hash, name: offer().name, ending };
            let message = ended.to_message();
            assert!(message.lines().next().is_some_and(|it| it.contains(words)), "{message}");
            assert!(Offer::may_be_in(message.as_bytes()));
            assert_eq!(Offer::from_message(message.as_bytes()), None);
            assert_eq!(Retraction::from_message(message.as_bytes()), Some(ended));
        }
        assert_eq!(Retraction::from_message(offer().to_message().as_bytes()), None);
        let long = Retraction { hash: offer().hash, name: "x".repeat(256), ending: Ending::Changed };
        assert_eq!(Retraction::from_message(long.to_message().as_bytes()), None);
        assert_eq!((Ending::from_code(0), Ending::from_code(4)), (None, None));
    }

    #[test]
    fn talk_is_no_announcement_nor_is_what_cannot_be() {
        let huge = Offer { size: MAX_SIZE + 1, ..offer() };
        let beyond = Offer { manifest: Some(13), ..offer() };
        let long = Offer { name: "x".repeat(MAX_NAME + 1), ..offer() };
        let listed = Offer { manifest: Some(MAX_MANIFEST + 1), size: MAX_SIZE, ..offer() };
        for bad in [huge, beyond, long, listed] {
            assert_eq!(Offer::from_message(bad.to_message().as_bytes()), None);
        }
        assert!(!Offer::may_be_in(b"[file] x \x1etree"));
        for bad in [
            "",
            "hi",
            "x\n\u{1e}treecast-file:1:zz",
            "x\n\u{1e}treecast-file:1:",
            "x\n\u{1e}treecast-file:1:8",
        ] {
            assert_eq!(Offer::from_message(bad.as_bytes()), None);
        }
    }

    #[test]
    fn a_hash_reads_back() {
        let hash = FileHash([0xa5; 32]);
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert!("a5".parse::<FileHash>().is_err() && "é".repeat(32).parse::<FileHash>().is_err());
    }
}
