//! Which seeds a test runs.

/// The seeds of a test that runs `default` of them unless the environment says otherwise.
///
/// # Panics
/// When `TREECAST_SEED` or `TREECAST_SEEDS` is no number.
pub fn seeds(default: u64) -> Vec<u64> {
    if let Some(seed) = number("TREECAST_SEED") {
        return vec![seed];
    }
    (0..number("TREECAST_SEEDS").unwrap_or(default)).collect()
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is no number: {value}")))
}
