//! The vectors about files: a file of 300,000 bytes, each its place modulo 251, that is three pieces; and a folder.

use crate::files::wire::{Frame, Held, Part, Refusal};
use crate::files::{Ending, Entry, FileHash, Geometry, HashTree, Manifest, Offer, Retraction};
use crate::id::GroupId;

const SIZE: u64 = 300_000;

fn file() -> Vec<u8> {
    (0..SIZE).map(|at| (at % 251) as u8).collect()
}

fn piece(number: u32) -> Vec<u8> {
    let geometry = Geometry::new(SIZE);
    let start = usize::try_from(geometry.start(number)).expect("small");
    file()[start..start + geometry.len(number)].to_vec()
}

fn tree() -> HashTree {
    let geometry = Geometry::new(SIZE);
    let leaves: Vec<_> = (0..geometry.pieces()).map(|at| HashTree::leaf(geometry, at, &piece(at))).collect();
    HashTree::of_leaves(SIZE, &leaves)
}

fn manifest() -> Manifest {
    let entry =
        |path: &str, size, executable| Entry { path: path.to_owned(), size, executable, folder: None };
    Manifest { entries: vec![entry("a", 3, false), entry("b/run", 0, true)] }
}

/// The same with an empty folder in it.
fn manifest_with_empty() -> Manifest {
    let mut manifest = manifest();
    manifest.entries.push(Entry { path: "c".to_owned(), size: 0, executable: false, folder: Some(true) });
    manifest
}

fn retraction() -> Retraction {
    Retraction { hash: tree().hash(), name: "träume.bin".to_owned(), ending: Ending::Withdrawn }
}

/// A folder whose files are `a` with `one` in it, and `b/run`, empty.
fn folder() -> Vec<u8> {
    [&manifest().to_bytes()[..], b"one"].concat()
}

fn offers() -> [(&'static str, Offer); 2] {
    let hash = FileHash::from_bytes(*blake3::hash(&folder()).as_bytes());
    let (size, manifest) = (folder().len() as u64, Some(manifest().to_bytes().len() as u64));
    [
        ("file", Offer { hash: tree().hash(), name: "träume.bin".to_owned(), size: SIZE, manifest: None }),
        ("folder", Offer { hash, name: "album".to_owned(), size, manifest }),
    ]
}

/// One of each kind.
fn frames(group: &GroupId) -> Vec<(&'static str, Frame)> {
    let (group, hash) = (*group, tree().hash());
    let proof = tree().proof(2).expect("all is known");
    let changed = Held { hash, pieces: 0, ending: Some(Ending::Changed) };
    let part = Part { piece: 2, offset: 0, stamp_us: 1_000_000, proof, bytes: piece(2)[..32].to_vec() };
    vec![
        ("Open", Frame::Open { group, hash }),
        ("Query", Frame::Query { group }),
        ("Ask", Frame::Ask { piece: 2 }),
        ("Cancel", Frame::Cancel { piece: 300 }),
        ("Took", Frame::Took { bytes: 70_000, delay_us: -1_500 }),
        ("Whole", Frame::Whole),
        ("Has", Frame::Has { pieces: vec![0b101] }),
        ("More", Frame::More { pieces: vec![1, 70_000] }),
        ("Part", Frame::Part(part)),
        ("Not", Frame::Not(Refusal::Busy)),
        ("Holds", Frame::Holds { files: vec![Held { hash, pieces: 3, ending: None }] }),
        ("Holds, of one that has changed", Frame::Holds { files: vec![changed] }),
    ]
}

pub(super) fn vectors(group: &GroupId) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![
        ("manifest".to_owned(), manifest().to_bytes()),
        ("manifest with an empty folder".to_owned(), manifest_with_empty().to_bytes()),
        ("end of an announcement".to_owned(), retraction().to_message().into_bytes()),
    ];
    let told = |(kind, offer): (&str, Offer)| {
        [
            (format!("hash of the {kind}"), offer.hash.as_bytes().to_vec()),
            (format!("announcement of the {kind}"), offer.to_message().into_bytes()),
        ]
    };
    all.extend(offers().into_iter().flat_map(told));
    let proof = |at| (format!("proof of piece {at}"), tree().proof(at).expect("known").concat());
    all.extend((0..3).map(proof));
    all.extend(
        frames(group).into_iter().map(|(name, frame)| (format!("file frame {name}"), frame.to_bytes())),
    );
    all
}

pub(super) fn read_back(group: &GroupId, page: impl Fn(&str) -> Vec<u8>) {
    assert_eq!(page("hash of the file"), blake3::hash(&file()).as_bytes());
    for (kind, offer) in offers() {
        assert_eq!(Offer::from_message(&page(&format!("announcement of the {kind}"))), Some(offer));
    }
    assert_eq!(Manifest::from_bytes(&page("manifest"), folder().len() as u64), Ok(manifest()));
    let empty = page("manifest with an empty folder");
    assert_eq!(Manifest::from_bytes(&empty, empty.len() as u64 + 3), Ok(manifest_with_empty()));
    assert_eq!(Retraction::from_message(&page("end of an announcement")), Some(retraction()));
    let mut known = HashTree::new(SIZE, tree().hash());
    for at in 0..3 {
        let bytes = page(&format!("proof of piece {at}"));
        known.verify(at, &piece(at), bytes.as_chunks::<32>().0).expect("it proves the piece");
    }
    for (name, frame) in frames(group) {
        let bytes = page(&format!("file frame {name}"));
        assert_eq!(Frame::from_bytes(&bytes[4..]), Ok(Some(frame)), "{name}");
    }
}
