//! What comes from another repository, where it is stored already.
//!
//! A frame whose blobs are all new here keeps its compressed form: it is sealed, opened, decoded and named again like
//! any other, only not compressed. A blob on bases is compressed anew on the bases that its copier chose, which costs no
//! more than that, for its chain here may be another.

use super::super::blob_reader::BlobBytes;
use super::super::error::Result;
use super::super::index::{Claim, Marks};
use super::super::pack_writer::PlacedBlob;
use super::bases::{Chosen, depth_limit, depth_of, whole_bytes};
use super::{BlobWriter, Counters, FrameJob, placed};
use crate::base::BlobId;
use crate::compress::Encoding;
use crate::format::pack::{BlobKind, MAX_BASES, Role};

/// The compressed form of a frame.
pub(super) struct Taken {
    pub encoding: Encoding,
    /// Empty if the frame is stored as it is.
    pub stored: Vec<u8>,
}

/// A frame of data blobs on no bases, from another repository.
pub struct TakenFrame<'f> {
    /// Its bytes, decoded.
    pub raw: &'f [u8],
    /// How it is stored there.
    pub encoding: Encoding,
    /// The bytes that it is stored as.
    pub stored: &'f [u8],
    /// The blobs that are wanted of it, by their places, under their names here.
    pub blobs: Vec<PlacedBlob>,
}

impl TakenFrame<'_> {
    /// Whether its blobs are all of it, one after the other.
    fn is_whole(&self) -> bool {
        let mut end = 0;
        let joined =
            self.blobs.iter().all(|blob| blob.offset == std::mem::replace(&mut end, blob.offset + blob.length));
        joined && end as usize == self.raw.len()
    }
}

impl BlobWriter {
    /// Stores the blobs of a frame, those that are not here; all of it as it is if none is. Says how many were new.
    pub fn put_frame(&mut self, mut frame: TakenFrame<'_>) -> Result<u64> {
        let is_whole = frame.is_whole();
        let wanted = frame.blobs.len();
        let mut new = Vec::with_capacity(wanted);
        for blob in std::mem::take(&mut frame.blobs) {
            if self.index.claim(&blob.id)? == Claim::Yours {
                Counters::add(&self.counters.data_new, blob.length as usize);
                Counters::add(&self.counters.blobs_new, 1);
                new.push(blob);
            }
        }
        let count = new.len() as u64;
        if is_whole && new.len() == wanted {
            let stored = if frame.encoding == Encoding::Raw { Vec::new() } else { frame.stored.to_vec() };
            let taken = Some(Taken { encoding: frame.encoding, stored });
            self.data.push(FrameJob { raw: frame.raw.to_vec(), blobs: new, chosen: None, keep: false, taken });
        } else {
            for blob in new {
                let bytes = &frame.raw[blob.offset as usize..(blob.offset + blob.length) as usize];
                self.data.add(blob.id, blob.kind, bytes, Marks { start: blob.start, end: blob.end });
            }
        }
        self.submit_if_full(Role::Data)?;
        Ok(count)
    }

    /// Stores a chunk of a series unless it is here, on these bases if that is worth it: blobs that are here, with their
    /// bytes. Says whether it was new.
    pub fn put_on(&mut self, id: BlobId, bytes: &[u8], marks: Marks, bases: Vec<(BlobId, BlobBytes)>) -> Result<bool> {
        if self.index.claim(&id)? != Claim::Yours {
            return Ok(false);
        }
        Counters::add(&self.counters.data_new, bytes.len());
        Counters::add(&self.counters.blobs_new, 1);
        let chosen = self.choose_given(&id, bytes.len(), marks, bases)?;
        let blobs = vec![placed(id, BlobKind::Data, 0, bytes.len(), marks)];
        self.data.push(FrameJob { raw: bytes.to_vec(), blobs, chosen, keep: true, taken: None });
        self.submit_if_full(Role::Data)?;
        Ok(true)
    }

    /// The bases, unless there are none or the chain of one is at its end: then the blob begins a new one.
    fn choose_given(
        &self,
        id: &BlobId,
        length: usize,
        marks: Marks,
        bases: Vec<(BlobId, BlobBytes)>,
    ) -> Result<Option<Chosen>> {
        let mut chosen = Chosen { ids: Vec::new(), bytes: Vec::new(), depth: 0, delta_bytes: 0, whole_bytes: 0 };
        let mut whole_per_byte: f64 = 0.0;
        for (base, bytes) in bases.into_iter().take(MAX_BASES) {
            let Some(place) = self.index.places(&base)?.into_iter().next() else { continue };
            if depth_of(&place) >= depth_limit(id, &marks) {
                return Ok(None);
            }
            chosen.depth = chosen.depth.max(depth_of(&place) + 1);
            chosen.delta_bytes = chosen.delta_bytes.max(place.chain.as_ref().map_or(0, |chain| chain.delta_bytes));
            whole_per_byte = whole_per_byte.max(whole_bytes(&place) / bytes.len().max(1) as f64);
            chosen.ids.push(base);
            chosen.bytes.push(bytes);
        }
        chosen.whole_bytes = (whole_per_byte * length as f64) as u64;
        Ok((!chosen.ids.is_empty()).then_some(chosen))
    }
}
