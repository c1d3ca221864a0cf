//! What a full client says of what it wrote, so that others need not read the content to rely on it.
//!
//! Clients that may only write hold the index key. So in a repository that has such clients index segments, directories of
//! packs and condemned records are believed only when a holder of a metadata key signed them. What is signed:
//!
//! ```text
//! 20  "keepstone v1 vouched"
//!  1  kind of the object
//! 32  repository id
//! 32  BLAKE3 of the bytes that lie before the directory or head in the object; of nothing for a condemned record
//! 32  BLAKE3 of the CBOR without the voucher
//! ```

use super::cbor::{Bytes, Cbor, record};
use super::envelope::ObjectKind;
use super::pack::Directory;
use super::segment::Head;
use super::session::Condemned;
use crate::base::{KeyId, RepositoryId};
use crate::crypto::names::hash;
use crate::crypto::vouch::SIGNATURE_BYTES;

record! {
    /// Says who wrote it: a holder of a metadata key.
    Voucher {
        /// The metadata key.
        1 => key: KeyId,
        /// The signature (Ed25519).
        2 => signature: Bytes,
    } checked by Voucher::check
}

impl Voucher {
    fn check(&self) -> Result<(), String> {
        let bytes = self.signature.0.len();
        if bytes == SIGNATURE_BYTES { Ok(()) } else { Err(format!("a signature of {bytes} bytes")) }
    }
}

/// What can be vouched for.
pub trait Vouched: Cbor + Clone {
    /// What it is.
    const KIND: ObjectKind;
    /// Where the voucher is.
    fn voucher(&mut self) -> &mut Option<Voucher>;
    /// The hash of what is vouched for in it.
    fn content_hash(&self) -> [u8; 32] {
        let mut bare = self.clone();
        *bare.voucher() = None;
        bare_hash(&bare)
    }
}

/// The hash of what is said by something that has no voucher yet, or none any more.
pub fn bare_hash(content: &impl Vouched) -> [u8; 32] {
    hash(&content.to_cbor())
}

impl Vouched for Directory {
    const KIND: ObjectKind = ObjectKind::Directory;
    fn voucher(&mut self) -> &mut Option<Voucher> {
        &mut self.voucher
    }
}

impl Vouched for Head {
    const KIND: ObjectKind = ObjectKind::Head;
    fn voucher(&mut self) -> &mut Option<Voucher> {
        &mut self.voucher
    }
}

impl Vouched for Condemned {
    const KIND: ObjectKind = ObjectKind::Condemned;
    fn voucher(&mut self) -> &mut Option<Voucher> {
        &mut self.voucher
    }
}

/// The hash of what lies before an object that stands alone.
pub fn nothing_before() -> [u8; 32] {
    hash(b"")
}

/// What is signed.
pub fn message(kind: ObjectKind, repository: RepositoryId, before: &[u8; 32], content: &[u8; 32]) -> Vec<u8> {
    [b"keepstone v1 vouched".as_slice(), &[kind.number()], &repository.0, before, content].concat()
}
