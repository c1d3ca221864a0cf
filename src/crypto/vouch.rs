//! Who wrote it: signatures of those who hold a metadata key.
//!
//! A client that may only write holds the index key, so what is sealed under that key may come from any such client. What
//! others rely on without reading the content (index segments, directories of packs, condemned records) is therefore
//! signed besides, with Ed25519 (RFC 8032), under a key that hangs on the metadata key. A client gets the public half: it
//! can tell who wrote it and cannot write it.

use super::{ClassKey, Forged};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

impl ClassKey {
    fn signing_key(&self) -> SigningKey {
        SigningKey::from_bytes(self.derive("keepstone v1 voucher").expose())
    }

    /// The public half with which others tell what a holder of this key has signed.
    pub fn voucher_public(&self) -> [u8; 32] {
        self.signing_key().verifying_key().to_bytes()
    }

    /// Signs `message` as a holder of this key.
    pub fn vouch(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.signing_key().sign(message).to_bytes()
    }
}

/// Whether `message` was signed by a holder of the key whose public half this is.
pub fn check_voucher(public: &[u8; 32], message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> Result<(), Forged> {
    let public = VerifyingKey::from_bytes(public).map_err(|_| Forged)?;
    public.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| Forged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Secret;
    use crate::crypto::Class;

    fn key(byte: u8) -> ClassKey {
        ClassKey::new(Class::Metadata, Secret::new([byte; 32]))
    }

    #[test]
    fn what_one_key_signed_no_other_has_and_nobody_can_change() {
        let signature = key(2).vouch(b"these blobs lie there");
        let public = key(2).voucher_public();
        assert_eq!(check_voucher(&public, b"these blobs lie there", &signature), Ok(()));
        assert_eq!(check_voucher(&public, b"those blobs lie there", &signature), Err(Forged));
        assert_eq!(check_voucher(&key(3).voucher_public(), b"these blobs lie there", &signature), Err(Forged));
        for byte in 0..SIGNATURE_BYTES {
            let mut altered = signature;
            altered[byte] ^= 1;
            assert_eq!(check_voucher(&public, b"these blobs lie there", &altered), Err(Forged), "byte {byte}");
        }
    }

    #[test]
    fn a_public_half_that_is_none_vouches_for_nothing() {
        let signature = key(2).vouch(b"text");
        for byte in [0, 1, 2, 255] {
            assert_eq!(check_voucher(&[byte; 32], b"text", &signature), Err(Forged));
        }
    }
}
