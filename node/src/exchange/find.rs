//! Which file is meant by what somebody typed.

use treecast_overlay::GroupId;
use treecast_overlay::files::{FileHash, clean_name};

use super::FileInfo;
use crate::error::GetError;

/// Digits of a hash that name a file, at least.
const LEAST_DIGITS: usize = 6;

/// Files that are told when several are meant.
const TOLD: usize = 5;

/// The newest announcement of what is meant, of `known` in the order of their coming. A whole hash means that file,
/// whatever others are called. A name means the newest that its announcer calls so; if other members call other files
/// so, or the name of one is the beginning of another's hash, nobody can tell which is meant.
pub(super) fn find<'a>(
    known: &'a [(GroupId, FileInfo)],
    what: &str,
) -> Result<&'a (GroupId, FileInfo), GetError> {
    let unknown = || GetError::Unknown(what.to_owned());
    if let Ok(hash) = what.to_ascii_lowercase().parse::<FileHash>() {
        return known.iter().rev().find(|(_, it)| it.offer.hash == hash).ok_or_else(unknown);
    }
    let digits = what.to_ascii_lowercase();
    let is_named = |it: &FileInfo| it.offer.name == what || clean_name(&it.offer.name) == what;
    let begins =
        |it: &FileInfo| digits.len() >= LEAST_DIGITS && it.offer.hash.to_string().starts_with(&digits);
    let mut meant: Vec<&(GroupId, FileInfo)> = Vec::new();
    for it in known.iter().rev().filter(|(_, it)| is_named(it) || begins(it)) {
        // Of one that was announced anew, the newest is meant.
        let is_older = |newer: &&(GroupId, FileInfo)| {
            let is_again = newer.0 == it.0 && newer.1.source == it.1.source;
            newer.1.offer.hash == it.1.offer.hash || (is_again && is_named(&newer.1) && is_named(&it.1))
        };
        if !meant.iter().any(is_older) {
            meant.push(it);
        }
    }
    match meant[..] {
        [] => Err(unknown()),
        [one] => Ok(one),
        _ => {
            let each = |it: &&(GroupId, FileInfo)| {
                let info = &it.1;
                let who = match info.nick.is_empty() {
                    true => format!("…{}", info.source.short()),
                    false => info.nick.clone(),
                };
                format!("{} by {who} in {}", info.offer.hash, info.group)
            };
            let files = meant.iter().take(TOLD).map(each).collect();
            Err(GetError::Ambiguous { what: what.to_owned(), files })
        }
    }
}

#[cfg(test)]
mod tests {
    use treecast_overlay::NodeId;
    use treecast_overlay::files::Offer;

    use super::*;

    fn file(name: &str, hash: u8, source: u8, group: u8) -> (GroupId, FileInfo) {
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
        (GroupId::from_bytes([group; 32]), info)
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
        let hash = |what: &str| find(&known, what).map(|(_, it)| it.offer.hash.as_bytes()[0]).ok();
        assert_eq!(hash("plan"), Some(2), "its newest");
        assert_eq!(hash("010101"), Some(1));
        assert_eq!(hash(&"01".repeat(32)), Some(1));
        assert_eq!((hash("up.txt"), hash("../../up.txt")), (Some(3), Some(3)));
        assert_eq!(find(&known, "same").map(|(group, _)| *group).ok(), Some(GroupId::from_bytes([2; 32])));
        assert_eq!(hash(&"05".repeat(32)), Some(5), "a whole hash is no name");
        for several in ["taken", "050505"] {
            let told = find(&known, several).expect_err("two are meant");
            assert!(matches!(told, GetError::Ambiguous { files, .. } if files.len() == 2), "{several}");
        }
        for none in ["", "0", "01010", "nothing", "x".repeat(64).as_str(), "g1"] {
            assert!(matches!(find(&known, none), Err(GetError::Unknown(_))), "{none:?}");
        }
    }
}
