//! A short run of each fuzz target, on stable. `TREECAST_SEEDS=K` makes it longer;
//! `tests/fuzz/` runs the same bodies guided by coverage.

use treecast_overlay::Rng;
use treecast_tests::fuzzing;
use treecast_tests::seeds::seeds;

/// Tells the seed when the target panics.
struct Tell(&'static str, u64);

impl Drop for Tell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("fuzz target {}: TREECAST_SEED={} repeats it", self.0, self.1);
        }
    }
}

/// `once_failed` are run besides.
fn fuzz(name: &'static str, default_iterations: u64, once_failed: &[u64], max_len: usize, target: fn(&[u8])) {
    for seed in seeds(default_iterations).into_iter().chain(once_failed.iter().copied()) {
        let _tell = Tell(name, seed);
        let mut rng = Rng::new(seed);
        let len = rng.below(max_len);
        let data: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
        target(&data);
    }
}

#[test]
fn frames() {
    // Replayed batches whose causes nobody has, one named by the other; a made-up life of one who comes back
    // and says that it had no messages.
    fuzz("frames", 40, &[27, 211], 4_000, fuzzing::frames);
}

#[test]
fn operations() {
    // A member that has just come in, among others that have: they know no older lives.
    fuzz("operations", 30, &[44], 600, fuzzing::operations);
}

#[test]
fn files() {
    fuzz("files", 300, &[], 2_000, fuzzing::files);
}
