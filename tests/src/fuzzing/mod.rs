//! The bodies of the fuzz targets: a byte string decides everything. They run on stable
//! under a seeded generator (`tests/tests/fuzz.rs`), and under a coverage-guided fuzzer
//! (`tests/fuzz/`).

mod files;
mod frames;
mod mutate;
mod operations;

pub use files::files;
pub use frames::frames;
pub use operations::operations;

/// Reads decisions off a byte string; where it ends, they are all zero.
#[derive(Debug, Clone)]
pub(crate) struct Decisions {
    data: Vec<u8>,
    at: usize,
}

impl Decisions {
    pub(crate) fn new(data: &[u8]) -> Self {
        Self { data: data.to_vec(), at: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.data.len()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let byte = self.data.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }

    pub(crate) fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (usize::from(self.word()) * bound) >> 16
    }

    /// At most `max` bytes.
    pub(crate) fn bytes(&mut self, max: usize) -> Vec<u8> {
        let len = self.below(max + 1);
        (0..len).map(|_| self.byte()).collect()
    }
}
