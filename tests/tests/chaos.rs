//! Many seeds of generated misfortune; after each, all that must hold is demanded.
//! `TREECAST_SEED=N` repeats one run, `TREECAST_SEEDS=K` sets how many there are.

use treecast_tests::chaos::{Size, storm, survives};

#[test]
fn tiny_groups() {
    storm(Size::Tiny, 100);
}

/// Nodes with disks. By night: `./scripts/nasty`.
#[test]
fn nasty_groups() {
    storm(Size::Nasty, 30);
}

#[test]
fn small_groups() {
    storm(Size::Small, 15);
}

/// Runs that went wrong once: a joiner whose contact had closed a life that others still had open; a
/// life that became known when the one after it had begun; a child that was let go as it was taken in; a
/// life whose second batch came before its first, which tells where the life before it ended.
///
/// With disks: who came back gave up what only those had who were off (31, 1855); lives that were missed
/// before the last one, or before a restart, were missed in silence (396, 449, 757); a newcomer was owed a
/// cause and not what named it, as that was out of memory (130), or an own batch of its contact that was
/// answered long ago (1784); a cause that came too late went unsaid (729); own words of an earlier life came
/// back while the first of a new one was being written (1401); own words that had come back and waited for
/// their causes were told as lost, twice (472).
#[test]
fn once_failed() {
    let runs = [(Size::Small, 33), (Size::Small, 48), (Size::Tiny, 114), (Size::Tiny, 159), (Size::Tiny, 71)];
    let nasty = [31, 130, 396, 449, 472, 729, 757, 1401, 1784, 1855].map(|seed| (Size::Nasty, seed));
    let runs = runs.into_iter().chain(nasty);
    let failed: Vec<_> = runs.filter(|(size, seed)| !survives(*size, *seed)).collect();
    assert!(failed.is_empty(), "runs failed: {failed:?}");
}

#[test]
fn large_groups() {
    storm(Size::Large, 1);
}
