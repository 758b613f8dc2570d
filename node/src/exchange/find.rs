//! Which file is meant by what somebody typed.

use treecast_overlay::GroupId;
use treecast_overlay::files::{FileHash, Offer, clean_name};

use super::FileInfo;
use crate::error::GetError;

/// Digits of a hash that name a file, at least.
pub(super) const LEAST_DIGITS: usize = 6;

/// Files that are told when several are meant.
const TOLD: usize = 5;

/// A file that was announced in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) group: GroupId,
    /// Its place in the history of the node when it was first announced so, by whomever.
    pub(super) first: i64,
    /// By whoever announced it last.
    pub(super) info: FileInfo,
}

/// The newest announcement of what is meant, of `known` in the order of their coming. A whole hash means that file,
/// whatever others are called. A name means the newest that its announcer calls so; if other members call other files
/// so, or the name of one is the beginning of another's hash, nobody can tell which is meant. `held` tells the shape of
/// what lies here whole.
pub(super) fn find(
    known: &[Known],
    what: &str,
    held: impl Fn(FileHash) -> Option<Shape>,
) -> Result<(GroupId, FileInfo), GetError> {
    let unknown = || GetError::Unknown(what.to_owned());
    let digits = what.to_ascii_lowercase();
    if let Ok(hash) = digits.parse::<FileHash>() {
        return by_hash(known, hash, held(hash)).ok_or_else(unknown);
    }
    let is_named = |it: &FileInfo| it.offer.name == what || clean_name(&it.offer.name) == what;
    let begins =
        |it: &FileInfo| digits.len() >= LEAST_DIGITS && it.offer.hash.to_string().starts_with(&digits);
    let mut meant: Vec<&Known> = Vec::new();
    for it in known.iter().rev().filter(|it| is_named(&it.info) || begins(&it.info)) {
        // Of one that was announced anew, the newest is meant.
        let is_older = |newer: &&Known| {
            let is_again = newer.group == it.group && newer.info.source == it.info.source;
            let is_same = newer.info.offer.hash == it.info.offer.hash && shape(newer) == shape(it);
            is_same || (is_again && is_named(&newer.info) && is_named(&it.info))
        };
        if !meant.iter().any(is_older) {
            meant.push(it);
        }
    }
    let hash = meant.first().ok_or_else(unknown)?.info.offer.hash;
    let is_one = meant.iter().all(|it| it.info.offer.hash == hash);
    match meant[..] {
        _ if is_one && !known.iter().any(|it| is_named(&it.info)) => {
            by_hash(known, hash, held(hash)).ok_or_else(unknown)
        }
        [one] => Ok((one.group, one.info.clone())),
        _ => Err(ambiguous(what, &meant)),
    }
}

fn ambiguous(what: &str, meant: &[&Known]) -> GetError {
    let each = |it: &&Known| {
        let info = &it.info;
        let who = match info.nick.is_empty() {
            true => format!("…{}", info.source.short()),
            false => info.nick.clone(),
        };
        // One of them says what is not so.
        let is_twice = meant.iter().filter(|other| other.info.offer.hash == info.offer.hash).count() > 1;
        let size = if is_twice { format!(" of {} bytes", info.offer.size) } else { String::new() };
        format!("{}{size} by {who} in {}", info.offer.hash, info.group)
    };
    let files = meant.iter().take(TOLD).map(each).collect();
    GetError::Ambiguous { what: what.to_owned(), files }
}

/// A file's size, and that of its manifest: with its hash that is all of what it is.
pub(super) type Shape = (u64, Option<u64>);

fn shape(it: &Known) -> Shape {
    (it.info.offer.size, it.info.offer.manifest)
}

/// A file by its hash, where it was announced last. Anybody may announce another's file as something else: it is of the
/// shape in which it lies here, or was announced first, and is called as it was then.
fn by_hash(known: &[Known], hash: FileHash, held: Option<Shape>) -> Option<(GroupId, FileInfo)> {
    let all = || known.iter().filter(|it| it.info.offer.hash == hash);
    let is_held = |it: &&Known| Some(shape(it)) == held;
    let oldest = all().filter(is_held).min_by_key(|it| it.first).or(all().min_by_key(|it| it.first))?;
    let newest = all().rfind(|it| shape(it) == shape(oldest))?;
    let offer: Offer = oldest.info.offer.clone();
    Some((newest.group, FileInfo { offer, ..newest.info.clone() }))
}

#[cfg(test)]
mod tests {
    use treecast_overlay::NodeId;

    use super::*;

    fn file(name: &str, hash: u8, source: u8, group: u8) -> Known {
        let hash = FileHash::from_bytes([hash; 32]);
        let info = FileInfo {
            offer: Offer { hash, name: name.to_owned(), size: 1, manifest: None },
            group: format!("g{group}"),
            source: NodeId::from_bytes([source; 32]),
            nick: format!("n{source}"),
            since_ms: 0,
            held: 0,
            path: None,
            ending: None,
            holders: Vec::new(),
            former: Vec::new(),
            members: 0,
        };
        Known { group: GroupId::from_bytes([group; 32]), first: 0, info }
    }

    #[test]
    fn what_is_typed_means_one_file_or_is_refused() {
        let known = [
            file("plan", 1, 1, 1),
            file("plan", 2, 1, 1),
            file("../../up.txt", 3, 1, 1),
            file("same", 4, 1, 1),
            file("same", 4, 2, 2),
            file("taken", 5, 1, 1),
            file("taken", 6, 2, 1),
            // Called as other files are meant.
            file(&"05".repeat(32), 7, 2, 1),
            file("050505", 8, 2, 1),
        ];
        let find = |what: &str| find(&known, what, |_| None);
        let hash = |what: &str| find(what).map(|(_, it)| it.offer.hash.as_bytes()[0]).ok();
        assert_eq!(hash("plan"), Some(2), "its newest");
        assert_eq!(hash("010101"), Some(1));
        assert_eq!(hash(&"01".repeat(32)), Some(1));
        assert_eq!((hash("up.txt"), hash("../../up.txt")), (Some(3), Some(3)));
        assert_eq!(find("same").map(|(group, _)| group).ok(), Some(GroupId::from_bytes([2; 32])));
        assert_eq!(hash(&"05".repeat(32)), Some(5), "a whole hash is no name");
        for several in ["taken", "050505"] {
            let told = find(several).expect_err("two are meant");
            assert!(matches!(told, GetError::Ambiguous { files, .. } if files.len() == 2), "{several}");
        }
        for none in ["", "0", "01010", "nothing", "x".repeat(64).as_str(), "g1"] {
            assert!(matches!(find(none), Err(GetError::Unknown(_))), "{none:?}");
        }
    }

    #[test]
    fn who_announces_anothers_file_as_something_else_changes_neither_its_size_nor_its_name() {
        let mut known = vec![file("plan", 1, 1, 1), file("plan", 1, 2, 1), file("Documents", 1, 2, 1)];
        known[1].info.offer.size = 1 << 40;
        for (first, it) in (7..).zip(&mut known) {
            it.first = first;
        }
        let whole = "01".repeat(32);
        let found = |known: &[Known], what: &str, held| {
            let (_, info) = find(known, what, |_| held).expect("one is meant");
            (info.offer.name, info.offer.size)
        };
        for what in [whole.as_str(), &whole[..8]] {
            assert_eq!(found(&known, what, None), ("plan".to_owned(), 1));
        }
        let Err(GetError::Ambiguous { files, .. }) = find(&known, "plan", |_| None) else {
            panic!("two are")
        };
        assert_eq!(files.len(), 2);
        assert!(files[0].contains("1099511627776 bytes by n2") && files[1].contains("1 bytes by n1"));
        assert_eq!(found(&known, "Documents", None).0, "Documents", "whoever types that means it");
        // Announced again it stands behind the other, and was first all the same.
        known.rotate_left(1);
        assert_eq!(found(&known, &whole, None), ("plan".to_owned(), 1));
        // What lies here is what it is, whoever said so first.
        known[0].first = 1;
        assert_eq!(found(&known, &whole, None).1, 1 << 40);
        assert_eq!(found(&known, &whole, Some((1, None))), ("plan".to_owned(), 1));
        assert_eq!(found(&known, &whole, Some((2, None))).1, 1 << 40);
    }
}
