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
//! The directory's envelope is padded so that the whole object has a Padmé length and consists of whole steps of
//! [`STEP_BYTES`]. The object's name is the plain BLAKE3 hash of all its bytes.

use super::envelope::{ENVELOPE_OVERHEAD, LENGTH_BYTES, ObjectKind};
use super::{Error, MAGIC, VERSION};
use crate::crypto::padme::padded_length;

/// Random bytes at the beginning.
pub const LEAD_BYTES: usize = 32;
/// Bytes of the trailer.
pub const TRAILER_BYTES: usize = 16;
/// Objects are a multiple of this long. Padmé alone keeps so many bits of a small length that a segment or a pack of
/// lists would tell how many chunks it speaks of, and that number depends on content. Most disks give a file whole
/// blocks of this size anyway.
pub const STEP_BYTES: usize = 4096;
/// The largest directory that is read.
pub const MAX_DIRECTORY_BYTES: usize = 32 << 20;

/// How long the directory's envelope must be for an object whose blocks end at `blocks_end` and whose directory
/// has `content_bytes`.
pub fn directory_bytes(blocks_end: u64, content_bytes: usize) -> usize {
    let least = (content_bytes + LENGTH_BYTES + ENVELOPE_OVERHEAD) as u64;
    let total = padded_length((blocks_end + least + TRAILER_BYTES as u64).next_multiple_of(STEP_BYTES as u64));
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
    // A directory is padded together with its pack: by less than a step and a 32nd of an object as large as this bound.
    // No object is so large that this would be more than the directory itself; a store that says so is not believed.
    let padding = STEP_BYTES as u64 + object_bytes / 32;
    let most = MAX_DIRECTORY_BYTES as u64 + padding.min(MAX_DIRECTORY_BYTES as u64);
    if length < least || length as u64 > room.min(most) {
        return Err(bad(8, format!("a directory of {length} bytes in an object of {object_bytes}")));
    }
    Ok((object_bytes - (TRAILER_BYTES + length) as u64, length))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    const KIND: ObjectKind = ObjectKind::Directory;

    #[test]
    fn a_directory_is_found_where_it_was_put() {
        for (blocks_end, content) in [(32, 0), (32, 5), (1000, 100), (1 << 25, 300_000), (256 << 20, 8 << 20)] {
            let length = directory_bytes(blocks_end, content);
            assert!(length >= content + LENGTH_BYTES + ENVELOPE_OVERHEAD);
            let total = blocks_end + (length + TRAILER_BYTES) as u64;
            assert_eq!(padded_length(total), total, "the whole has a padded length");
            assert!(total.is_multiple_of(STEP_BYTES as u64), "and consists of whole steps");
            let found = find_directory(KIND, total, &trailer(KIND, length)).unwrap();
            assert_eq!(found, (blocks_end, length));
        }
    }

    #[test]
    fn a_directory_at_the_limit_is_found_with_its_padding() {
        for blocks_end in [32, 1 << 20, 200 << 20, 900 << 20] {
            let length = directory_bytes(blocks_end, MAX_DIRECTORY_BYTES - ENVELOPE_OVERHEAD - LENGTH_BYTES);
            let total = blocks_end + (length + TRAILER_BYTES) as u64;
            assert_eq!(find_directory(KIND, total, &trailer(KIND, length)).unwrap().1, length);
        }
    }

    #[test]
    fn every_changed_byte_of_a_trailer_is_refused_or_points_elsewhere() {
        let (good, total) = (trailer(KIND, 100), 1 << 20);
        let place = find_directory(KIND, total, &good).unwrap();
        for byte in 0..TRAILER_BYTES {
            let mut altered = good;
            altered[byte] ^= 1;
            let found = find_directory(KIND, total, &altered);
            // A wrong length is authenticated by the seal of what lies there; everything else is refused here.
            assert!(found.is_err() || ((8..12).contains(&byte) && found.unwrap() != place), "byte {byte}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_is_refused() {
        let find = |object_bytes, length| find_directory(KIND, object_bytes, &trailer(KIND, length));
        let least = ENVELOPE_OVERHEAD + LENGTH_BYTES;
        assert!(find((LEAD_BYTES + least + TRAILER_BYTES) as u64, least).is_ok());
        assert!(find((LEAD_BYTES + least + TRAILER_BYTES) as u64 - 1, least).is_err(), "no room");
        assert!(find(1 << 20, least - 1).is_err(), "too short");
        assert!(find(1 << 30, (32 << 20) + (32 << 20)).is_ok());
        assert!(find(1 << 30, (32 << 20) + (32 << 20) + 1).is_err(), "too long");
        for object_bytes in [0, 1, 47, u64::MAX] {
            assert!(find(object_bytes, u32::MAX as usize).is_err());
        }
        let good = trailer(KIND, 100);
        for length in 0..TRAILER_BYTES {
            assert!(find_directory(KIND, 1 << 20, &good[..length]).is_err());
        }
        assert!(find_directory(ObjectKind::Head, 1 << 20, &good).is_err(), "another kind");
    }
}
