//! Who signs, and how signatures are checked.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::id::NodeId;

/// Bytes of an Ed25519 signature.
pub(crate) const SIGNATURE_LEN: usize = 64;

/// Whether an engine makes and checks signatures.
///
/// Always, but in a simulation that says otherwise: a thousand engines in one process would do
/// nothing but Ed25519. The variant exists with feature `sim` only, and only the simulator can
/// start an engine with it ([`Engine::trusting`](crate::Engine)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signatures {
    Checked,
    /// Every signature of the right length counts as good; what is sent has its usual size.
    #[cfg(feature = "sim")]
    Assumed,
}

impl Signatures {
    pub(crate) fn are_checked(self) -> bool {
        self == Self::Checked
    }
}

/// This node's key.
pub(crate) struct Identity {
    key: SigningKey,
    node: NodeId,
    signatures: Signatures,
}

impl Identity {
    pub(crate) fn new(secret_key: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(secret_key);
        let node = NodeId::from_bytes(key.verifying_key().to_bytes());
        Self { key, node, signatures: Signatures::Checked }
    }

    /// An identity that neither signs nor checks.
    #[cfg(feature = "sim")]
    pub(crate) fn trusting(secret_key: &[u8; 32]) -> Self {
        Self { signatures: Signatures::Assumed, ..Self::new(secret_key) }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    pub(crate) fn signatures(&self) -> Signatures {
        self.signatures
    }

    /// Signs a 32-byte hash; deterministic (RFC 8032).
    pub(crate) fn sign(&self, hash: &[u8; 32]) -> [u8; SIGNATURE_LEN] {
        match self.signatures {
            Signatures::Checked => self.key.sign(hash).to_bytes(),
            #[cfg(feature = "sim")]
            Signatures::Assumed => std::array::from_fn(|i| hash[i % hash.len()]),
        }
    }
}

/// A signature does not belong to its signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bad signature")]
pub(crate) struct BadSignature;

/// A node's public key, unpacked once: unpacking costs a tenth of a check.
#[derive(Debug, Clone)]
pub(crate) struct Verifier(VerifyingKey);

impl Verifier {
    pub(crate) fn new(node: &NodeId) -> Result<Self, BadSignature> {
        VerifyingKey::from_bytes(node.as_bytes()).map(Self).map_err(|_| BadSignature)
    }

    /// Checks a signature over a 32-byte hash, strictly: no small-order keys, one
    /// encoding only, so that all members come to the same verdict.
    pub(crate) fn check(&self, hash: &[u8; 32], signature: &[u8]) -> Result<(), BadSignature> {
        let signature = Signature::from_slice(signature).map_err(|_| BadSignature)?;
        self.0.verify_strict(hash, &signature).map_err(|_| BadSignature)
    }
}
