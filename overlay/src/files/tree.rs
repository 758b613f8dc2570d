//! BLAKE3's own tree over a file, down to its pieces: a piece and the hashes beside its way to the root prove
//! that it is the file's (the BLAKE3 paper, §5.4 and §6.4; as Bao does, with larger leaves and each proof whole).

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use super::offer::FileHash;
use super::pieces::Geometry;

/// A hash of a subtree.
type Node = [u8; 32];

/// What is not known.
const UNKNOWN: Node = [0; 32];

/// A piece is not what the file's hash says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not what the file's hash says")]
pub struct Unverified;

/// The hashes over a file's pieces, as far as they are known. Whatever is in it is proven by the root.
///
/// Nodes stand in pre-order: a subtree over `k` pieces has `2k - 1` of them, its left child next to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashTree {
    geometry: Geometry,
    nodes: Vec<Node>,
}

/// A subtree: where it stands, and over which pieces it is.
#[derive(Debug, Clone, Copy)]
struct Span {
    at: usize,
    first: u32,
    count: u32,
}

impl Span {
    /// Both halves: the left one is the largest power of two that leaves something (as BLAKE3's).
    fn halves(self) -> (Self, Self) {
        let left = self.count.next_power_of_two() / 2;
        let right = self.at + 2 * left as usize;
        let one = Self { at: self.at + 1, first: self.first, count: left };
        (one, Self { at: right, first: self.first + left, count: self.count - left })
    }
}

impl HashTree {
    /// Of a file of which only the hash is known.
    pub fn new(size: u64, hash: FileHash) -> Self {
        let geometry = Geometry::new(size);
        let mut nodes = vec![UNKNOWN; 2 * geometry.pieces() as usize - 1];
        nodes[0] = *hash.as_bytes();
        Self { geometry, nodes }
    }

    /// Of a file whose pieces' [leaves](HashTree::leaf) are known.
    ///
    /// # Panics
    /// If there is not one for each piece.
    pub fn of_leaves(size: u64, leaves: &[[u8; 32]]) -> Self {
        let mut tree = Self::new(size, FileHash::from_bytes(UNKNOWN));
        assert_eq!(leaves.len(), tree.geometry.pieces() as usize);
        tree.fill(tree.root(), leaves);
        tree
    }

    fn fill(&mut self, span: Span, leaves: &[Node]) -> Node {
        let node = if span.count == 1 {
            leaves[span.first as usize]
        } else {
            let (left, right) = span.halves();
            let (left, right) = (self.fill(left, leaves), self.fill(right, leaves));
            merge(span, &left, &right)
        };
        self.nodes[span.at] = node;
        node
    }

    fn root(&self) -> Span {
        Span { at: 0, first: 0, count: self.geometry.pieces() }
    }

    /// How the file is cut.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The file's hash.
    pub fn hash(&self) -> FileHash {
        FileHash::from_bytes(self.nodes[0])
    }

    /// The hash of a piece of a file that is cut so.
    pub fn leaf(geometry: Geometry, piece: u32, bytes: &[u8]) -> [u8; 32] {
        if geometry.pieces() == 1 {
            return *blake3::hash(bytes).as_bytes();
        }
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(geometry.start(piece));
        hasher.update(bytes).finalize_non_root()
    }

    /// The subtrees from the root down to a piece, each with its sibling; the root has none.
    fn way(&self, piece: u32) -> Vec<(Span, Option<Span>)> {
        let mut way = vec![(self.root(), None)];
        loop {
            let (span, _) = *way.last().expect("it begins with the root");
            if span.count <= 1 {
                return way;
            }
            let (left, right) = span.halves();
            way.push(if piece < right.first { (left, Some(right)) } else { (right, Some(left)) });
        }
    }

    /// What proves a piece: its siblings' hashes, from the bottom up. `None` if one is not known.
    pub fn proof(&self, piece: u32) -> Option<Vec<[u8; 32]>> {
        let way = self.way(piece);
        let siblings = way.iter().rev().filter_map(|(_, sibling)| *sibling);
        siblings.map(|it| Some(self.nodes[it.at]).filter(|node| *node != UNKNOWN)).collect()
    }

    /// Checks a piece by what is known: the hash of it, if that is.
    ///
    /// # Errors
    /// When the bytes are others, or nothing is known of the piece.
    pub fn check(&self, piece: u32, bytes: &[u8]) -> Result<(), Unverified> {
        let (span, _) = *self.way(piece).last().ok_or(Unverified)?;
        let is_whole = piece < self.geometry.pieces() && bytes.len() == self.geometry.len(piece);
        let leaf = self.nodes[span.at];
        let is_it = is_whole && leaf != UNKNOWN && leaf == Self::leaf(self.geometry, piece, bytes);
        if is_it { Ok(()) } else { Err(Unverified) }
    }

    /// Checks a piece by its proof, and knows what that told afterwards.
    ///
    /// # Errors
    /// When piece and proof do not lead to what is known; nothing is learned then.
    pub fn verify(&mut self, piece: u32, bytes: &[u8], proof: &[[u8; 32]]) -> Result<(), Unverified> {
        let way = self.way(piece);
        if piece >= self.geometry.pieces() || bytes.len() != self.geometry.len(piece) {
            return Err(Unverified);
        }
        if proof.len() + 1 != way.len() {
            return Err(Unverified);
        }
        let mut node = Self::leaf(self.geometry, piece, bytes);
        let mut learned = Vec::new();
        for (depth, (span, sibling)) in way.iter().enumerate().rev() {
            let known = self.nodes[span.at];
            if known != UNKNOWN {
                if known != node {
                    return Err(Unverified);
                }
                learned.into_iter().for_each(|(at, node)| self.nodes[at] = node);
                return Ok(());
            }
            learned.push((span.at, node));
            let (Some(sibling), Some((parent, _))) = (sibling, way.get(depth.wrapping_sub(1))) else { break };
            let beside = proof[way.len() - 1 - depth];
            learned.push((sibling.at, beside));
            node = match sibling.at > span.at {
                true => merge(*parent, &node, &beside),
                false => merge(*parent, &beside, &node),
            };
        }
        Err(Unverified)
    }

    /// What is known, to be kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.nodes.concat()
    }

    /// Reads [`HashTree::to_bytes`]. What the root does not prove counts as not known.
    pub fn from_bytes(size: u64, hash: FileHash, bytes: &[u8]) -> Self {
        let mut tree = Self::new(size, hash);
        for (node, kept) in tree.nodes.iter_mut().zip(bytes.chunks_exact(32)).skip(1) {
            node.copy_from_slice(kept);
        }
        tree.prune(tree.root(), true);
        tree
    }

    /// Forgets what is below a node that is not proven, or does not make it.
    fn prune(&mut self, span: Span, proven: bool) {
        if !proven {
            self.nodes[span.at] = UNKNOWN;
        }
        if span.count > 1 {
            let (left, right) = span.halves();
            let both = (self.nodes[left.at], self.nodes[right.at]);
            let known = both.0 != UNKNOWN && both.1 != UNKNOWN;
            let proves = proven && known && merge(span, &both.0, &both.1) == self.nodes[span.at];
            self.prune(left, proves);
            self.prune(right, proves);
        }
    }
}

/// The node above two; the root is made in a way of its own.
fn merge(span: Span, left: &Node, right: &Node) -> Node {
    if span.at == 0 {
        *merge_subtrees_root(left, right, Mode::Hash).as_bytes()
    } else {
        merge_subtrees_non_root(left, right, Mode::Hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(size: u64) -> Vec<u8> {
        (0..size).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
    }

    fn piece(geometry: Geometry, bytes: &[u8], piece: u32) -> &[u8] {
        let start = usize::try_from(geometry.start(piece)).expect("small");
        &bytes[start..start + geometry.len(piece)]
    }

    fn whole(bytes: &[u8]) -> HashTree {
        let geometry = Geometry::new(bytes.len() as u64);
        let leaf = |it| HashTree::leaf(geometry, it, piece(geometry, bytes, it));
        HashTree::of_leaves(bytes.len() as u64, &(0..geometry.pieces()).map(leaf).collect::<Vec<_>>())
    }

    const P: u64 = 128 << 10;

    #[test]
    fn the_root_is_the_files_hash() {
        for size in [0, 1, P, P + 1, 2 * P, 2 * P + 5, 3 * P, 5 * P - 1, 7 * P + 1, 8 * P] {
            let bytes = bytes(size);
            assert_eq!(whole(&bytes).hash().as_bytes(), blake3::hash(&bytes).as_bytes(), "{size}");
        }
    }

    #[test]
    fn pieces_prove_themselves_in_any_order_and_serve_on() {
        for size in [0, 3, P + 1, 5 * P + 9, 8 * P] {
            let bytes = bytes(size);
            let (full, mut tree) = (whole(&bytes), HashTree::new(size, whole(&bytes).hash()));
            let geometry = full.geometry();
            for at in (0..geometry.pieces()).rev() {
                let proof = full.proof(at).expect("all is known");
                tree.verify(at, piece(geometry, &bytes, at), &proof).expect("it is the file's");
                assert_eq!(tree.proof(at), Some(proof));
                assert!(tree.check(at, piece(geometry, &bytes, at)).is_ok());
            }
            assert_eq!(tree, full);
            assert_eq!(HashTree::from_bytes(size, full.hash(), &full.to_bytes()), full);
        }
    }

    #[test]
    fn what_is_changed_is_not_taken_and_teaches_nothing() {
        let bytes = bytes(5 * P + 9);
        let full = whole(&bytes);
        let (geometry, fresh) = (full.geometry(), HashTree::new(bytes.len() as u64, full.hash()));
        let (mut tree, proof) = (fresh.clone(), full.proof(2).expect("known"));
        let good = piece(geometry, &bytes, 2);
        let mut bad = good.to_vec();
        bad[77] ^= 1;
        let mut wrong = proof.clone();
        wrong[1][0] ^= 1;
        assert_eq!(tree.verify(2, &bad, &proof), Err(Unverified));
        assert_eq!(tree.verify(2, good, &wrong), Err(Unverified));
        assert_eq!(tree.verify(3, good, &proof), Err(Unverified));
        assert_eq!(tree.verify(2, &good[1..], &proof), Err(Unverified));
        assert_eq!(tree.verify(2, good, &proof[1..]), Err(Unverified));
        assert_eq!(tree.verify(99, good, &proof), Err(Unverified));
        assert_eq!(tree, fresh);
        assert!(tree.check(2, good).is_err() && tree.proof(2).is_none());
    }

    #[test]
    fn what_was_kept_and_is_damaged_is_not_known() {
        let bytes = bytes(8 * P);
        let full = whole(&bytes);
        let mut kept = full.to_bytes();
        // The right child of the root: its half goes, and with it what its sibling rests on.
        kept[8 * 32] ^= 1;
        let read = HashTree::from_bytes(8 * P, full.hash(), &kept);
        assert_eq!(read, HashTree::new(8 * P, full.hash()));
        let mut kept = full.to_bytes();
        let last = kept.len() - 1;
        kept[last] ^= 1;
        let read = HashTree::from_bytes(8 * P, full.hash(), &kept);
        assert!(read.check(7, piece(full.geometry(), &bytes, 7)).is_err());
        assert!(read.check(5, piece(full.geometry(), &bytes, 5)).is_ok());
        assert!(HashTree::from_bytes(8 * P, full.hash(), &[1, 2]).proof(0).is_none());
    }
}
