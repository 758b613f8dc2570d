//! Nothing unbounded: "every queue, map, counter and duration that a peer can influence has
//! a cap" (the design's §3.8). To be asked at any moment.

use treecast_overlay::io::CollectionView;
use treecast_overlay::sim::World;

use super::{Violation, violation};

/// # Errors
/// The first collection of a running node that is past its cap.
pub fn check(world: &World) -> Result<(), Violation> {
    for node in world.running() {
        check_collections(&world.collections(node)).map_err(|it| format!("{node:?}: {it}"))?;
    }
    Ok(())
}

fn check_collections(collections: &[CollectionView]) -> Result<(), Violation> {
    if collections.is_empty() {
        violation!("an engine shows no collections");
    }
    match collections.iter().find(|it| !it.within()) {
        Some(past) => violation!("past its cap: {past:?}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_collection_passes_and_an_overfull_one_does_not() {
        let of = |len, bytes| CollectionView { name: "x".to_owned(), len, bytes, cap: 10 };
        assert_eq!(check_collections(&[of(10, 0), of(99, 10)]), Ok(()));
        assert!(check_collections(&[of(10, 0), of(11, 0)]).is_err());
        assert!(check_collections(&[of(1, 11)]).is_err());
        assert!(check_collections(&[]).is_err());
    }
}
