//! Gzip (RFC 1952) as it comes: what is in it, and whether it is whole.
//!
//! Members may follow each other, and zero bytes may fill up the end, as `gzip` itself has it. Each member's length and
//! CRC are compared with what came out.

use super::report::Complaint;
use flate2::{Crc, Decompress, FlushDecompress, Status};

const OUTPUT_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 10;
const TRAILER_BYTES: usize = 8;
/// The header says that such a field follows.
const HAS_HEADER_CRC: u8 = 2;
const HAS_EXTRA: u8 = 4;
const HAS_NAME: u8 = 8;
const HAS_COMMENT: u8 = 16;

/// Where in the file we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Header,
    ExtraLength,
    Extra(usize),
    Name,
    Comment,
    HeaderCrc,
    Body,
    Trailer,
    Between,
    Padding,
}

/// Unpacks.
pub struct Gunzip {
    place: Place,
    /// Bytes of the present field of fixed length.
    field: Vec<u8>,
    flags: u8,
    inflate: Decompress,
    crc: Crc,
    output: Box<[u8]>,
    complaint: Option<Complaint>,
}

impl Default for Gunzip {
    fn default() -> Gunzip {
        Gunzip {
            place: Place::Header,
            field: Vec::with_capacity(HEADER_BYTES),
            flags: 0,
            inflate: Decompress::new(false),
            crc: Crc::new(),
            output: vec![0; OUTPUT_BYTES].into_boxed_slice(),
            complaint: None,
        }
    }
}

impl Gunzip {
    /// Takes the next bytes and hands out what was in them.
    pub fn push(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(&[u8])) {
        while !bytes.is_empty() && self.complaint.is_none() {
            let used = match self.place {
                Place::Header => self.header(bytes),
                Place::ExtraLength => self.extra_length(bytes),
                Place::Extra(left) => self.extra(bytes, left),
                Place::Name | Place::Comment => self.zero_ended(bytes),
                Place::HeaderCrc => self.header_crc(bytes),
                Place::Body => self.body(bytes, each),
                Place::Trailer => self.trailer(bytes),
                Place::Between => self.between(bytes[0]),
                Place::Padding => self.padding(bytes),
            };
            bytes = &bytes[used..];
        }
    }

    /// What was wrong, if anything. After the last byte.
    pub fn finish(self) -> Option<Complaint> {
        let whole = matches!(self.place, Place::Between | Place::Padding);
        self.complaint.or_else(|| (!whole).then(|| Complaint::truncated("its gzip stream ends too early")))
    }

    fn damaged(&mut self, reason: &str) {
        self.complaint = Some(Complaint::damaged(reason));
    }

    /// Fills the present field up to `length` bytes; says how many it took.
    fn fill(&mut self, bytes: &[u8], length: usize) -> usize {
        let used = bytes.len().min(length - self.field.len());
        self.field.extend_from_slice(&bytes[..used]);
        used
    }

    fn header(&mut self, bytes: &[u8]) -> usize {
        let used = self.fill(bytes, HEADER_BYTES);
        if self.field.len() == HEADER_BYTES {
            if self.field[..3] != [0x1f, 0x8b, 8] || self.field[3] & 0xe0 != 0 {
                self.damaged("its gzip header is not valid");
            }
            self.flags = self.field[3];
            self.field.clear();
            self.next_field();
        }
        used
    }

    /// Goes to the next part of the header that its flags announce, or to the body.
    fn next_field(&mut self) {
        let parts = [
            (HAS_EXTRA, Place::ExtraLength),
            (HAS_NAME, Place::Name),
            (HAS_COMMENT, Place::Comment),
            (HAS_HEADER_CRC, Place::HeaderCrc),
        ];
        self.place = Place::Body;
        if let Some((flag, place)) = parts.into_iter().find(|(flag, _)| self.flags & flag != 0) {
            self.flags &= !flag;
            self.place = place;
        }
    }

    fn extra_length(&mut self, bytes: &[u8]) -> usize {
        let used = self.fill(bytes, 2);
        if self.field.len() == 2 {
            self.place = Place::Extra(usize::from(u16::from_le_bytes([self.field[0], self.field[1]])));
            self.field.clear();
        }
        used
    }

    fn extra(&mut self, bytes: &[u8], left: usize) -> usize {
        let used = bytes.len().min(left);
        self.place = Place::Extra(left - used);
        if left == used {
            self.next_field();
        }
        used
    }

    fn zero_ended(&mut self, bytes: &[u8]) -> usize {
        match bytes.iter().position(|byte| *byte == 0) {
            Some(at) => {
                self.next_field();
                at + 1
            }
            None => bytes.len(),
        }
    }

    fn header_crc(&mut self, bytes: &[u8]) -> usize {
        let used = self.fill(bytes, 2);
        if self.field.len() == 2 {
            self.field.clear();
            self.next_field();
        }
        used
    }

    fn body(&mut self, bytes: &[u8], each: &mut dyn FnMut(&[u8])) -> usize {
        let mut used = 0;
        loop {
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(&bytes[used..], &mut self.output, FlushDecompress::None);
            let read = (self.inflate.total_in() - read) as usize;
            let written = (self.inflate.total_out() - written) as usize;
            used += read;
            self.crc.update(&self.output[..written]);
            each(&self.output[..written]);
            match status {
                Ok(Status::StreamEnd) => {
                    self.place = Place::Trailer;
                    return used;
                }
                Err(_) => {
                    self.damaged("its gzip stream cannot be unpacked");
                    return used;
                }
                Ok(_) if read == 0 && written == 0 => return bytes.len(),
                Ok(_) => {}
            }
        }
    }

    fn trailer(&mut self, bytes: &[u8]) -> usize {
        let used = self.fill(bytes, TRAILER_BYTES);
        if let Ok([a, b, c, d, e, f, g, h]) = <[u8; TRAILER_BYTES]>::try_from(self.field.as_slice()) {
            let (crc, length) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
            if crc != self.crc.sum() {
                self.damaged("the checksum of its gzip stream differs from what is in it");
            } else if length != self.crc.amount() {
                self.damaged("the length that its gzip stream ends with differs from what is in it");
            }
            self.field.clear();
            self.crc.reset();
            self.inflate.reset(false);
            self.place = Place::Between;
        }
        used
    }

    fn between(&mut self, first: u8) -> usize {
        match first {
            0x1f => self.place = Place::Header,
            0 => self.place = Place::Padding,
            _ => self.damaged("something follows the end of its gzip stream"),
        }
        0
    }

    fn padding(&mut self, bytes: &[u8]) -> usize {
        if bytes.iter().any(|byte| *byte != 0) {
            self.damaged("something follows the end of its gzip stream");
        }
        bytes.len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::report::State;
    use super::*;
    use flate2::{Compression, GzBuilder};
    use std::io::Write;

    fn packed(content: &[u8]) -> Vec<u8> {
        let builder = GzBuilder::new().filename("shop.sql").comment("nightly").extra(vec![1, 2, 3]);
        let mut writer = builder.write(Vec::new(), Compression::fast());
        writer.write_all(content).unwrap();
        writer.finish().unwrap()
    }

    fn unpacked(bytes: &[u8], step: usize) -> (Vec<u8>, Option<State>) {
        let mut gunzip = Gunzip::default();
        let mut content = Vec::new();
        bytes.chunks(step).for_each(|part| gunzip.push(part, &mut |out| content.extend_from_slice(out)));
        (content, gunzip.finish().map(|complaint| complaint.state))
    }

    #[test]
    fn members_and_padding_are_unpacked_however_they_are_cut() {
        let content: Vec<u8> = (0..100_000u32).flat_map(|number| number.wrapping_mul(number).to_le_bytes()).collect();
        let file = [packed(&content), packed(b""), packed(b"end"), vec![0; 9]].concat();
        let wanted = [&content[..], b"end"].concat();
        for step in [1, 7, 4096, file.len()] {
            assert_eq!(unpacked(&file, step), (wanted.clone(), None), "step {step}");
        }
    }

    #[test]
    fn a_stream_that_ends_early_or_is_altered_or_followed_is_told() {
        let file = packed(&b"some rows\n".repeat(50));
        for length in 0..file.len() {
            assert_eq!(unpacked(&file[..length], 9).1, Some(State::Truncated), "{length} of {}", file.len());
        }
        for at in file.len() - 8..file.len() {
            let mut altered = file.clone();
            altered[at] ^= 1;
            assert_eq!(unpacked(&altered, 9).1, Some(State::Damaged), "byte {at}");
        }
        assert_eq!(unpacked(&[&file[..], b"x"].concat(), 9).1, Some(State::Damaged));
        assert_eq!(unpacked(&[&file[..], b"\0x"].concat(), 9).1, Some(State::Damaged));
    }
}
