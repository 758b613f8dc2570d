//! What is said about files, changed on its way; and a fetch that hears whatever comes, in any order.

use std::collections::BTreeSet;

use treecast_overlay::files::wire::{Frame, Held, MAX_FRAME, MAX_HELD, MAX_MORE, MAX_PART, Part, Refusal};
use treecast_overlay::files::{
    Ending, Entry, Fetch, FileHash, Geometry, HashTree, MAX_MANIFEST, MAX_SIZE, Manifest, Offer, Pieces,
    Retraction, Window, check_part, clean_name,
};
use treecast_overlay::{GroupId, Time};

use super::Decisions;

/// Peers of the fetch.
const PEERS: usize = 4;

/// Three pieces, the last of them short.
const SIZE: u64 = 300_000;

/// # Panics
/// When bytes from outside are read as more than they may be, or do not read back; when a name or a path leads
/// elsewhere; when a piece is taken that is not the file's; when a fetch asks for what is here or nobody has.
pub fn files(data: &[u8]) {
    let mut decisions = Decisions::new(data);
    frames(&mut decisions);
    offers(&mut decisions);
    manifests(&mut decisions);
    pieces(&mut decisions);
    fetch(&mut decisions);
}

/// Some bits turned, some bytes cut off or added.
fn change(bytes: &mut Vec<u8>, decisions: &mut Decisions) {
    for _ in 0..decisions.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = decisions.below(bytes.len());
        match decisions.below(4) {
            0 => bytes[at] ^= 1 << decisions.below(8),
            1 => bytes[at] = decisions.byte(),
            2 => bytes.truncate(at),
            _ => bytes.extend(decisions.bytes(40)),
        }
    }
}

fn frames(decisions: &mut Decisions) {
    let (group, hash) = (GroupId::from_bytes([1; 32]), FileHash::from_bytes([2; 32]));
    let part = Part { piece: 1, offset: 0, stamp_us: 7, proof: vec![[3; 32]; 2], bytes: vec![4; 50] };
    let all = [
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
        Frame::Holds { files: vec![Held { hash, pieces: 3, ending: Some(Ending::Changed) }] },
    ];
    for frame in &all {
        let mut bytes = frame.to_bytes()[4..].to_vec();
        change(&mut bytes, decisions);
        let Ok(Some(read)) = Frame::from_bytes(&bytes) else { continue };
        match &read {
            Frame::Part(part) => {
                assert!(part.bytes.len() <= MAX_PART && part.proof.len() * 32 <= bytes.len());
            }
            Frame::More { pieces } => assert!(pieces.len() <= MAX_MORE.min(bytes.len())),
            Frame::Holds { files } => assert!(files.len() <= MAX_HELD),
            Frame::Has { pieces } => {
                let set = Pieces::from_bytes(3, pieces);
                assert!(set.iter().all(|piece| piece < 3) && set.count() as usize == set.iter().count());
            }
            _ => {}
        }
        let again = read.to_bytes();
        assert!(again.len() <= MAX_FRAME + 4);
        assert_eq!(Frame::from_bytes(&again[4..]), Ok(Some(read)));
    }
}

fn offers(decisions: &mut Decisions) {
    let name = String::from_utf8_lossy(&decisions.bytes(60)).into_owned();
    let clean = clean_name(&name);
    assert!(check_part(&clean) && !clean.starts_with('.'), "{name:?} as {clean:?}");
    let hash = FileHash::from_bytes([5; 32]);
    let mut ended =
        Retraction { hash, name: name.clone(), ending: Ending::Removed }.to_message().into_bytes();
    change(&mut ended, decisions);
    if Retraction::from_message(&ended).is_some() {
        assert!(Offer::may_be_in(&ended) && Offer::from_message(&ended).is_none());
    }
    let mut message = Offer { hash, name, size: 9, manifest: None }.to_message().into_bytes();
    change(&mut message, decisions);
    if let Some(read) = Offer::from_message(&message) {
        assert!(Offer::may_be_in(&message));
        assert!(read.size <= MAX_SIZE && read.manifest.is_none_or(|it| it <= read.size.min(MAX_MANIFEST)));
    }
}

fn manifests(decisions: &mut Decisions) {
    let parts = ["a", "b", "..", ".", "", "A", "\0", "a\\b", "\u{202e}", "nul"];
    let path = |decisions: &mut Decisions| {
        let some = (0..=decisions.below(3)).map(|_| parts[decisions.below(parts.len())]);
        some.collect::<Vec<_>>().join("/")
    };
    let count = decisions.below(6);
    let entries: Vec<Entry> = (0..count)
        .map(|_| {
            let (size, folder) = (u64::from(decisions.byte()) << 56, decisions.byte() < 32);
            Entry { path: path(decisions), size, executable: false, folder: folder.then_some(true) }
        })
        .collect();
    let mut bytes = Manifest { entries }.to_bytes();
    change(&mut bytes, decisions);
    let size = bytes.len() as u64 + u64::from(decisions.byte());
    let Ok(read) = Manifest::from_bytes(&bytes, size) else { return };
    assert!(read.entries.iter().all(|it| it.size == 0 || !it.is_folder()), "a folder has no bytes");
    let paths: BTreeSet<Vec<&str>> = read.entries.iter().map(|it| it.path.split('/').collect()).collect();
    assert_eq!(paths.len(), read.entries.len(), "none twice");
    for path in &paths {
        assert!(path.iter().all(|part| check_part(part)), "{path:?}");
        assert!((1..path.len()).all(|len| !paths.contains(&path[..len])), "{path:?} is below a file");
    }
    assert_eq!(read.entries.iter().map(|it| it.size).sum::<u64>() + bytes.len() as u64, size);
}

fn pieces(decisions: &mut Decisions) {
    let geometry = Geometry::new(SIZE);
    let content = |piece: u32| vec![piece as u8 + 1; geometry.len(piece)];
    let leaves: Vec<_> =
        (0..geometry.pieces()).map(|it| HashTree::leaf(geometry, it, &content(it))).collect();
    let whole = HashTree::of_leaves(SIZE, &leaves);
    let mut tree = HashTree::new(SIZE, whole.hash());
    for _ in 0..4 {
        let piece = decisions.below(4) as u32;
        let mut bytes = content(piece);
        let mut proof = whole.proof(piece.min(2)).expect("all is known").concat();
        if decisions.byte() < 128 {
            change(&mut bytes, decisions);
        }
        if decisions.byte() < 128 {
            change(&mut proof, decisions);
        }
        let taken = tree.verify(piece, &bytes, proof.as_chunks::<32>().0);
        assert!(taken.is_err() || (piece < 3 && bytes == content(piece)), "what is taken is the file's");
    }
    let mut kept = whole.to_bytes();
    change(&mut kept, decisions);
    let read = HashTree::from_bytes(SIZE, whole.hash(), &kept);
    for piece in 0..geometry.pieces() {
        assert!(read.check(piece, &vec![0; geometry.len(piece)]).is_err());
    }
}

fn fetch(decisions: &mut Decisions) {
    let geometry = Geometry::new(20 << 17);
    let mut fetch = Fetch::new(geometry, 0, Pieces::none(geometry.pieces()));
    let mut has = vec![Pieces::none(geometry.pieces()); PEERS];
    let (mut window, mut now) = (Window::default(), 0);
    while !decisions.is_empty() {
        now += u64::from(decisions.word()) * 100;
        let (time, peer) = (Time::from_micros(now), decisions.below(PEERS));
        let number = peer as u64 + 1;
        match decisions.below(8) {
            0 => {
                has[peer] = Pieces::from_bytes(geometry.pieces(), &decisions.bytes(5));
                fetch.on_peer(time, number, has[peer].clone());
            }
            1 => {
                let more: Vec<u32> = decisions.bytes(6).into_iter().map(u32::from).collect();
                if fetch.peers().any(|it| it == number) {
                    for piece in &more {
                        has[peer].insert(*piece);
                    }
                }
                fetch.on_more(number, &more);
            }
            2 => {
                fetch.on_gone(number);
                has[peer] = Pieces::none(geometry.pieces());
            }
            3 => drop(fetch.on_piece(decisions.below(20) as u32)),
            4 => fetch.on_bytes(time, number, decisions.below(1 << 16)),
            5 => drop((fetch.late(time), fetch.silent())),
            6 => {
                window.on_sent(time, window.part());
                let delay = i64::from(decisions.word()) << decisions.below(48);
                window.on_taken(time, u64::from(decisions.word()) << decisions.below(48), delay);
                assert!(window.room() <= 8 << 20);
            }
            _ => {}
        }
        for ask in fetch.ask(time) {
            let peer = usize::try_from(ask.peer).expect("small") - 1;
            assert!(has[peer].contains(ask.piece) && !fetch.have().contains(ask.piece), "{ask:?}");
        }
    }
}
