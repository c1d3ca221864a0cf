//! Packs and segments: many sealed blocks and, at the end, a sealed directory of them.
//!
//! ```text
//! offset       size
//!      0         32  random bytes, so that no two packs or segments ever have one name
//!     32          …  blocks, one after another without gaps or marks
//!      …          d  the directory: an envelope of kind `pack directory` or `index segment`
//!    end-16       4  magic "KEEP"
//!    end-12       2  format version, little-endian
//!    end-10       1  kind of the directory
//!    end-9        1  0
//!    end-8        4  d, little-endian
//!    end-4        4  0
//! ```
//!
//! The directory's envelope is padded so that the whole object has a Padmé length. The object's name is the plain
//! BLAKE3 hash of all its bytes.

use super::envelope::{ENVELOPE_OVERHEAD, LENGTH_BYTES, ObjectKind};
use super::{Error, MAGIC, VERSION};
use crate::crypto::padme::padded_length;

/// Random bytes at the beginning.
pub const LEAD_BYTES: usize = 32;
/// Bytes of the trailer.
pub const TRAILER_BYTES: usize = 16;
/// The largest directory that is read.
pub const MAX_DIRECTORY_BYTES: usize = 32 << 20;

/// How long the directory's envelope must be for an object whose blocks end at `blocks_end` and whose directory
/// has `content_bytes`.
pub fn directory_bytes(blocks_end: u64, content_bytes: usize) -> usize {
    let least = (content_bytes + LENGTH_BYTES + ENVELOPE_OVERHEAD) as u64;
    let total = padded_length(blocks_end + least + TRAILER_BYTES as u64);
    (total - blocks_end - TRAILER_BYTES as u64) as usize
}

/// The last bytes of an object whose directory has `directory_bytes`.
pub fn trailer(kind: ObjectKind, directory_bytes: usize) -> [u8; TRAILER_BYTES] {
    let length = u32::try_from(directory_bytes).expect("a directory is far below 4 GiB");
    let mut bytes = [0; TRAILER_BYTES];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
    bytes[6] = kind.number();
    bytes[8..12].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// Where the directory lies in an object of `object_bytes` that ends with `trailer`: offset and length.
pub fn find_directory(kind: ObjectKind, object_bytes: u64, trailer: &[u8]) -> Result<(u64, usize), Error> {
    let what = kind.name();
    let bad = |position: usize, reason: String| Error::Malformed { what, position, reason };
    if trailer.len() != TRAILER_BYTES || trailer[..4] != MAGIC {
        return Err(bad(0, "its trailer is not there: truncated or overwritten".to_owned()));
    }
    match u16::from_le_bytes([trailer[4], trailer[5]]) {
        VERSION => {}
        0 => return Err(bad(4, "format version 0 does not exist".to_owned())),
        found => return Err(Error::Newer { what, found }),
    }
    if trailer[6] != kind.number() {
        return Err(bad(6, "its trailer is that of another kind of object".to_owned()));
    }
    if trailer[7] != 0 || trailer[12..] != [0; 4] {
        return Err(bad(7, "its trailer has bytes set that should be zero".to_owned()));
    }
    let length = u32::from_le_bytes([trailer[8], trailer[9], trailer[10], trailer[11]]) as usize;
    let least = ENVELOPE_OVERHEAD + LENGTH_BYTES;
    let room = object_bytes.saturating_sub((LEAD_BYTES + TRAILER_BYTES) as u64);
    // A directory is padded together with its pack: by less than a 32nd of an object as large as this bound.
    let most = MAX_DIRECTORY_BYTES as u64 + object_bytes / 32;
    if length < least || length as u64 > room.min(most) {
        return Err(bad(8, format!("a directory of {length} bytes in an object of {object_bytes}")));
    }
    Ok((object_bytes - (TRAILER_BYTES + length) as u64, length))
}
