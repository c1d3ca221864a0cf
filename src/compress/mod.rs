//! zstd frames, alone or on bases. Pure computation, no I/O.
//!
//! A [`Compressor`] turns raw bytes into the stored bytes of a frame, either by themselves or *on bases*: older
//! data that resembles them. A [`Decompressor`] turns them back. Each thread has its own. Which data makes a good
//! base, and whether a frame on bases is worth its dependency, is decided elsewhere.
//!
//! Every frame is a standard zstd frame (RFC 8878) with its content size and without a checksum: blob names and
//! seals already prove what it holds. A frame on bases has the bases, joined in order, as *raw content prefix*;
//! any zstd reads it with `--patch-from`.

mod follow;
mod sequences;

use follow::Follower;
use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, ErrorCode, SafeResult, Strategy, compress_bound, get_error_name};

use crate::base::Kind;

/// No frame and no base holds more raw bytes than this, and a [`Decompressor`] gives out no more. It is the
/// largest chunk that any repository may have.
pub const MAX_FRAME_RAW: usize = 16 << 20;

/// A frame stands on at most this many bases.
pub const MAX_BASES: usize = 2;

/// How hard to try.
///
/// One thread, frames of 1 MiB of database rows: `fast` 450 MB/s, `default` 300 MB/s for 1-7 % fewer bytes, 9
/// 60 MB/s for another 5-9 %, `max` 4 MB/s for another 10 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Level {
    /// Store as it is.
    None,
    /// zstd -3: for what is read once or never. Nobody can ask for it.
    Quick,
    /// zstd 1.
    Fast,
    /// zstd 3.
    #[default]
    Default,
    /// zstd 19. Levels above it only differ for frames larger than ours.
    Max,
    /// A zstd level from 1 to 22; [`Level::parse`] makes no other.
    Number(u8),
}

/// How the stored bytes of a frame came from its raw bytes. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// They are the raw bytes.
    Raw = 0,
    /// A zstd frame.
    Zstd = 1,
    /// A zstd frame with one or two bases as prefix.
    ZstdOnBases = 2,
}

/// Why text is no level, or a frame does not give its bytes back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A level that is not offered.
    #[error("`{0}` is not a compression level: use none, fast, default, max or a number from 1 to 22")]
    NotALevel(String),
    /// An encoding that this version does not know.
    #[error("frame encoding {0} is not known to this version: a newer one wrote it")]
    UnknownEncoding(u8),
    /// A raw length that no writer may produce.
    #[error("a frame claims {claimed} raw bytes, more than the {MAX_FRAME_RAW} that one may hold")]
    TooLong {
        /// The raw length that was asked for.
        claimed: usize,
    },
    /// Bases are missing, too many or too long.
    #[error("a frame on bases came with {count} bases of {bytes} bytes: it takes one or two of at most 16 MiB each")]
    WrongBases {
        /// How many were given.
        count: usize,
        /// Their bytes together.
        bytes: usize,
    },
    /// zstd cannot make sense of the stored bytes, with these bases.
    #[error("cannot decompress a frame of {stored} stored and {raw} raw bytes: {reason}")]
    Undecodable {
        /// The stored bytes.
        stored: usize,
        /// The raw bytes that were expected.
        raw: usize,
        /// What zstd says.
        reason: &'static str,
    },
    /// The frame is sound and holds another number of bytes.
    #[error("a frame gave {came} raw bytes instead of {expected}")]
    WrongLength {
        /// The raw bytes that were expected.
        expected: usize,
        /// The raw bytes that came.
        came: usize,
    },
    /// zstd got no memory.
    #[error("no memory for decompressing a frame of {raw} raw bytes")]
    NoMemory {
        /// The raw bytes that were expected.
        raw: usize,
    },
}

impl Error {
    /// What retry, exit code and alarm need to know.
    pub fn kind(&self) -> Kind {
        match self {
            Error::NotALevel(_) => Kind::Usage,
            Error::UnknownEncoding(_) => Kind::Unsupported,
            Error::NoMemory { .. } => Kind::Internal,
            Error::TooLong { .. }
            | Error::WrongBases { .. }
            | Error::Undecodable { .. }
            | Error::WrongLength { .. } => Kind::Damaged,
        }
    }
}

impl Level {
    /// The level that a text names: `none`, `fast`, `default`, `max` or a number from 1 to 22.
    ///
    /// # Errors
    ///
    /// [`Error::NotALevel`] for any other text.
    pub fn parse(text: &str) -> Result<Level, Error> {
        match text {
            "none" => Ok(Level::None),
            "fast" => Ok(Level::Fast),
            "default" => Ok(Level::Default),
            "max" => Ok(Level::Max),
            _ => match text.parse() {
                Ok(number @ 1..=22) => Ok(Level::Number(number)),
                _ => Err(Error::NotALevel(text.to_owned())),
            },
        }
    }

    /// zstd's number for it; `None` when nothing is to be compressed.
    fn number(self) -> Option<i32> {
        match self {
            Level::None => None,
            Level::Quick => Some(-3),
            Level::Fast => Some(1),
            Level::Default => Some(DEFAULT_LEVEL),
            Level::Max => Some(19),
            Level::Number(number) => Some(i32::from(number.clamp(1, 22))),
        }
    }
}

impl std::str::FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Level, Error> {
        Level::parse(text)
    }
}

impl TryFrom<u8> for Encoding {
    type Error = Error;

    fn try_from(number: u8) -> Result<Encoding, Error> {
        match number {
            0 => Ok(Encoding::Raw),
            1 => Ok(Encoding::Zstd),
            2 => Ok(Encoding::ZstdOnBases),
            _ => Err(Error::UnknownEncoding(number)),
        }
    }
}

/// From this level on zstd spends 60 ms and more on 1 MiB that cannot be compressed, instead of 0.1 to 0.4 ms.
const SLOW_LEVEL: i32 = 13;

/// The cheap level that says whether a slow one is worth trying.
const PROBE_LEVEL: i32 = 1;

/// Smaller frames are not probed: they are over soon.
const PROBE_FROM_BYTES: usize = 64 << 10;

/// zstd's number for [`Level::Default`].
const DEFAULT_LEVEL: i32 = 3;
/// Frames of more bytes get smaller tables than zstd would give them …
const LEAN_FROM_BYTES: usize = 256 << 10;
/// … of this many entries, as a power of two …
const LEAN_TABLE_LOG: u32 = 16;
/// … up to this many bytes: what is larger is small files together, and is looked at from end to end.
const WIDE_FROM_BYTES: usize = 2 << 20;
/// The long-match table of such frames.
const WIDE_TABLE_LOG: u32 = 17;

/// How many samples say that there is nothing to save, and how long each is.
const SAMPLES: usize = 4;
const SAMPLE_BYTES: usize = 4 << 10;

/// Compresses frames; one per thread.
///
/// Memory between calls, with frames of 1 MiB: 0.6 MiB at `fast`, 1.3 at `default`, 3 at 6, 11 at 9, 18 at `max`
/// ([`Compressor::memory_bytes`] tells), and the bytes of the largest bases and frame that were joined so far
/// (3 MiB with chunks of format 1), and up to 2 MiB with the places in bases. While it compresses on bases that it does
/// not resemble closely, a table of 0.6 to 5 MiB comes on top (20 MiB when bases and frame are more than 4 MiB), and
/// 0.8 MiB.
pub struct Compressor {
    level: Option<i32>,
    plain: CCtx<'static>,
    joined: Vec<u8>,
    follower: Follower,
}

impl Compressor {
    /// A compressor of that level.
    pub fn new(level: Level) -> Compressor {
        Compressor { level: level.number(), plain: CCtx::create(), joined: Vec::new(), follower: Follower::default() }
    }

    /// Compresses `raw` by itself. `out` is replaced by the stored bytes, which are `raw` itself when zstd saves
    /// less than 3 %. No caller has more than [`MAX_FRAME_RAW`]: nobody could read it back.
    pub fn compress(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Encoding {
        let encoding = self.try_compress(raw, out);
        if encoding == Encoding::Raw {
            out.extend_from_slice(raw);
        }
        encoding
    }

    /// As [`Compressor::compress`], but leaves `out` empty when `raw` itself is what is to be stored: whoever has it
    /// at hand need not copy it.
    pub fn try_compress(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Encoding {
        assert!(raw.len() <= MAX_FRAME_RAW, "a frame of {} raw bytes could not be read back", raw.len());
        let smaller = match self.level {
            None => false,
            Some(level) => self.is_worth(level, raw, out) && self.plain_frame(level, raw, out),
        };
        if smaller {
            return Encoding::Zstd;
        }
        out.clear();
        Encoding::Raw
    }

    /// Compresses `raw` on one or two bases, joined in order; `out` is replaced by the stored bytes, whose length
    /// is returned. The level plays no part: what resembles its bases is small at any.
    ///
    /// `None`, with `out` left empty, when that saves less than 3 %, when `raw` is empty, or when bases are
    /// missing, too many or longer than [`MAX_FRAME_RAW`].
    pub fn compress_on(&mut self, bases: &[&[u8]], raw: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        out.clear();
        let prefix_bytes = check_bases(bases).ok()?;
        if raw.is_empty() || raw.len() > MAX_FRAME_RAW {
            return None;
        }
        // Prefix and content side by side in memory: zstd then searches both as one and is a fifth faster.
        self.joined.clear();
        self.joined.reserve_exact(prefix_bytes + raw.len());
        bases.iter().for_each(|base| self.joined.extend_from_slice(base));
        self.joined.extend_from_slice(raw);
        let (prefix, raw) = self.joined.split_at(prefix_bytes);
        let window_log = window_log(self.joined.len());
        let done = match self.follower.steps(&self.joined, prefix_bytes) {
            Some(steps) => sequences::encode(prefix, raw, window_log, steps, out),
            None => frame_on(prefix, raw, out),
        };
        keep_if_smaller(done, raw, out).then_some(out.len())
    }

    /// Whether a quick level finds nothing to save in samples from all over `raw`: then it is not worth reading all of
    /// it. Never of less than 64 KiB, which is over soon. `out` is replaced.
    pub fn finds_nothing(&mut self, raw: &[u8], out: &mut Vec<u8>) -> bool {
        if raw.len() < PROBE_FROM_BYTES {
            return false;
        }
        self.joined.clear();
        for sample in 0..SAMPLES {
            let start = (raw.len() - SAMPLE_BYTES) / (SAMPLES - 1) * sample;
            self.joined.extend_from_slice(&raw[start..start + SAMPLE_BYTES]);
        }
        out.clear();
        out.reserve_exact(compress_bound(self.joined.len()));
        let stored = self.plain.compress(out, &self.joined, PROBE_LEVEL);
        stored.is_ok_and(|stored| stored >= self.joined.len() - self.joined.len() / 64)
    }

    /// The bytes it holds now, between calls.
    pub fn memory_bytes(&self) -> usize {
        self.plain.sizeof() + self.joined.capacity() + self.follower.memory_bytes()
    }

    /// Whether a slow level has a chance: a quick one finds something to save.
    fn is_worth(&mut self, level: i32, raw: &[u8], out: &mut Vec<u8>) -> bool {
        if level < SLOW_LEVEL || raw.len() < PROBE_FROM_BYTES {
            return true;
        }
        out.clear();
        out.reserve_exact(compress_bound(raw.len()));
        self.plain.compress(out, raw, PROBE_LEVEL).is_ok_and(|stored| stored < raw.len())
    }

    /// Level 3 with a long-match table half as large as its own, so that tables and frame stay in a processor's second
    /// cache: 5 % quicker for 0.3 % more bytes. Frames of small files, in which a file may resemble one that lies
    /// megabytes back, have its whole table and a window that reaches so far: 1.5 % fewer bytes in the same time.
    fn default_frame(&mut self, raw: &[u8], out: &mut Vec<u8>) -> SafeResult {
        let table_log = if raw.len() > WIDE_FROM_BYTES { WIDE_TABLE_LOG } else { LEAN_TABLE_LOG };
        for parameter in [
            CParameter::CompressionLevel(DEFAULT_LEVEL),
            CParameter::WindowLog(raw.len().next_power_of_two().ilog2()),
            CParameter::HashLog(table_log),
            CParameter::ChainLog(LEAN_TABLE_LOG),
        ] {
            self.plain.set_parameter(parameter)?;
        }
        self.plain.compress2(out, raw)
    }

    fn plain_frame(&mut self, level: i32, raw: &[u8], out: &mut Vec<u8>) -> bool {
        out.clear();
        out.reserve_exact(compress_bound(raw.len()));
        // A standard frame with content size and without checksum; the context keeps its tables.
        let done = match level {
            DEFAULT_LEVEL if raw.len() > LEAN_FROM_BYTES => self.default_frame(raw, out),
            _ => self.plain.compress(out, raw, level),
        };
        keep_if_smaller(done, raw, out)
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").field("level", &self.level).finish_non_exhaustive()
    }
}

/// Whether `out` is worth keeping; empties it when not. Failing to compress is no failure: raw is always right.
fn keep_if_smaller(done: SafeResult, raw: &[u8], out: &mut Vec<u8>) -> bool {
    // Less than 3 % is not worth the reader's time.
    let keep = done.is_ok() && out.len() < raw.len() - raw.len() / 32;
    if !keep {
        out.clear();
    }
    keep
}

/// One frame on a prefix, with zstd's own search.
///
/// The context is made anew for each frame, because a context may not outlive a prefix that it refers to. That
/// costs 8 % with glibc, which hands the same memory out again. An allocator that returns it to the system each
/// time makes this seven times slower (1190 against 155 MB/s), and slower than a plain frame.
fn frame_on(prefix: &[u8], raw: &[u8], out: &mut Vec<u8>) -> SafeResult {
    let mut context = CCtx::try_create().ok_or_else(no_memory)?;
    for parameter in prefix_parameters(prefix.len() + raw.len()) {
        context.set_parameter(parameter)?;
    }
    context.ref_prefix(prefix)?;
    out.reserve_exact(compress_bound(raw.len()));
    context.compress2(out, raw)
}

/// The window must reach from the last byte of the frame back to the first of the bases.
fn window_log(total_bytes: usize) -> u32 {
    total_bytes.next_power_of_two().ilog2().clamp(17, 26)
}

/// For data that does not follow its bases from place to place.
///
/// What decides between 3 % and 38 % of a dump: a table that has room for (nearly) every place in the bases. And what
/// decides between 3 % and 1 %: looking at several places before one is taken. Rows resemble each other, and the first
/// place that agrees in six bytes is seldom the one where the old row goes on; each wrong one costs a sequence here and
/// another to come back.
///
/// Measured on nights of two dumps, 1 % of rows changed (stored bytes for each MiB, processor time as a multiple of the
/// first):
///
/// | | wide rows, padded | narrow rows |
/// | --- | --- | --- |
/// | double fast, tables of 2^20 | 7,470, 1.0 | 4,230, 1.0 |
/// | greedy, 8 places | 3,120, 1.8 | 3,400, 1.6 |
/// | lazy, 16 places | 2,220, 1.9 | 3,070, 1.8 |
/// | lazy, 32 places | 2,020, 1.8 | 2,950, 1.8 |
/// | lazy, 64 places (this) | 1,720, 1.9 | 2,910, 1.7 |
/// | lazy with two steps, 32 places | 3,960, 2.1 | 2,870, 1.9 |
/// | optimal (`btopt`) | 1,160 to 1,300, 5 | |
///
/// Entering the bases in the table is a third of a night's processor time, and tables of 2^18 and 2^19 entries take 6 % less
/// of it. On the dumps above they cost no bytes, but a database with 600 MiB of narrow rows then added 19.7 MiB a night
/// instead of 1.5. Beyond 4 MiB the table would outgrow the memory budget; 2^22 is what chunks of 4 MiB need.
fn prefix_parameters(total_bytes: usize) -> [CParameter; 7] {
    let window_log = window_log(total_bytes);
    let table_log = if window_log <= 22 { (window_log - 1).clamp(17, 20) } else { 22 };
    [
        CParameter::CompressionLevel(3),
        CParameter::Strategy(Strategy::ZSTD_lazy),
        CParameter::WindowLog(window_log),
        CParameter::HashLog(table_log),
        // Not used where the table has rows, which is wherever it can.
        CParameter::ChainLog(table_log),
        CParameter::SearchLog(6),
        CParameter::MinMatch(6),
    ]
}

/// The bytes of the bases together, if a frame can stand on them.
fn check_bases(bases: &[&[u8]]) -> Result<usize, Error> {
    // Saturating: only an error message ever sees a sum that large.
    let bytes = bases.iter().fold(0_usize, |sum, base| sum.saturating_add(base.len()));
    let sound =
        (1..=MAX_BASES).contains(&bases.len()) && bytes > 0 && bases.iter().all(|base| base.len() <= MAX_FRAME_RAW);
    if sound { Ok(bytes) } else { Err(Error::WrongBases { count: bases.len(), bytes }) }
}

/// Decompresses frames; one per thread.
///
/// Memory between calls: 94 KiB, and the bytes of the largest two bases that were joined so far (2 MiB with chunks
/// of format 1); a frame on bases takes another 94 KiB while it is decoded. No window is held: it writes straight
/// into `out`.
pub struct Decompressor {
    plain: DCtx<'static>,
    joined: Vec<u8>,
}

impl Default for Decompressor {
    fn default() -> Self {
        Decompressor::new()
    }
}

impl Decompressor {
    /// A decompressor.
    pub fn new() -> Decompressor {
        Decompressor { plain: DCtx::create(), joined: Vec::new() }
    }

    /// Replaces `out` by the raw bytes of a frame: exactly `raw_length` of them. `bases` are those that it was
    /// compressed on, in the same order; other encodings do not look at them.
    ///
    /// Allocates no more than `raw_length` bytes, and the joined bases. A frame carries no checksum: altered
    /// stored bytes or other bases may also give other raw bytes, which their names will tell.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`] when `raw_length` exceeds [`MAX_FRAME_RAW`], [`Error::WrongBases`] when they are
    /// missing, too many or too long, [`Error::Undecodable`] and [`Error::WrongLength`] when the stored bytes are
    /// not such a frame. `out` is empty after an error.
    pub fn decompress(
        &mut self,
        encoding: Encoding,
        stored: &[u8],
        bases: &[&[u8]],
        raw_length: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        out.clear();
        if raw_length > MAX_FRAME_RAW {
            return Err(Error::TooLong { claimed: raw_length });
        }
        out.reserve_exact(raw_length);
        let done = match encoding {
            Encoding::Raw => copy_raw(stored, raw_length, out),
            Encoding::Zstd => self.plain.decompress(out, stored),
            Encoding::ZstdOnBases => self.decompress_on(bases, stored, out)?,
        };
        let checked = match done {
            Ok(came) if came == raw_length => return Ok(()),
            Ok(came) => Error::WrongLength { expected: raw_length, came },
            Err(code) => explain(code, stored.len(), raw_length),
        };
        out.clear();
        Err(checked)
    }

    /// The bytes it holds now, between calls.
    pub fn memory_bytes(&self) -> usize {
        self.plain.sizeof() + self.joined.capacity()
    }

    fn decompress_on(&mut self, bases: &[&[u8]], stored: &[u8], out: &mut Vec<u8>) -> Result<SafeResult, Error> {
        let bytes = check_bases(bases)?;
        let prefix = match bases {
            [base] => base,
            _ => {
                self.joined.clear();
                self.joined.reserve_exact(bytes);
                bases.iter().for_each(|base| self.joined.extend_from_slice(base));
                &self.joined[..]
            }
        };
        Ok(decode_on(prefix, stored, out))
    }
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

/// Raw bytes are their own frame; no more than was promised is copied.
fn copy_raw(stored: &[u8], raw_length: usize, out: &mut Vec<u8>) -> SafeResult {
    if stored.len() == raw_length {
        out.extend_from_slice(stored);
    }
    Ok(stored.len())
}

/// A context of its own for each frame, as in [`frame_on`]; 13 µs. Not the simpler call that takes a dictionary:
/// it would interpret a base that happens to begin like one.
fn decode_on(prefix: &[u8], stored: &[u8], out: &mut Vec<u8>) -> SafeResult {
    let mut context = DCtx::try_create().ok_or_else(no_memory)?;
    context.ref_prefix(prefix)?;
    context.decompress(out, stored)
}

fn no_memory() -> ErrorCode {
    // Error codes are the negated numbers of zstd_errors.h.
    (ZSTD_ErrorCode::ZSTD_error_memory_allocation as usize).wrapping_neg()
}

fn explain(code: ErrorCode, stored: usize, raw: usize) -> Error {
    if zstd_safe::is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_memory_allocation) {
        return Error::NoMemory { raw };
    }
    Error::Undecodable { stored, raw, reason: get_error_name(code) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
        crate::base::random::Lot::of(seed).bytes(length)
    }

    /// Rows with some content that cannot be guessed; `night` changes one row in a hundred.
    fn rows(night: u64, length: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(length + 64);
        let mut row = 0_u64;
        while text.len() < length {
            let version = if row % 100 == night * 7 % 100 { night } else { 0 };
            let secret = crate::base::to_hex(&random_bytes(row * 1000 + version, 8));
            text.extend_from_slice(format!("{row}\tcustomer {}\topen\t{secret}\n", row % 77).as_bytes());
            row += 1;
        }
        text.truncate(length);
        text
    }

    const SIZES: [usize; 9] = [0, 1, 2, 100, 4095, 65_536, 100_001, 262_144, 1_500_000];

    fn decoded(encoding: Encoding, stored: &[u8], bases: &[&[u8]], length: usize) -> Result<Vec<u8>, Error> {
        let mut out = b"left over".to_vec();
        let done = Decompressor::new().decompress(encoding, stored, bases, length, &mut out);
        assert_eq!(out.len(), if done.is_ok() { length } else { 0 });
        done.map(|()| out)
    }

    #[test]
    fn a_plain_frame_gives_its_bytes_back() {
        let mut out = Vec::new();
        for level in ["none", "fast", "default", "6", "max"] {
            let mut compressor = Compressor::new(Level::parse(level).unwrap());
            // The slow level has been convincing by then.
            let largest = if level == "max" { 100_001 } else { usize::MAX };
            for size in SIZES.into_iter().filter(|size| *size <= largest) {
                for (raw, shrinks) in [(rows(0, size), level != "none" && size >= 100), (random_bytes(3, size), false)]
                {
                    let encoding = compressor.compress(&raw, &mut out);
                    assert_eq!(encoding == Encoding::Zstd, shrinks, "{size} at {level}");
                    assert!(out.len() <= raw.len());
                    assert!(decoded(encoding, &out, &[], size).unwrap() == raw, "{size} at {level}");
                }
            }
        }
    }

    #[test]
    fn a_frame_on_bases_gives_its_bytes_back_and_is_small() {
        let (mut compressor, mut out) = (Compressor::new(Level::Default), Vec::new());
        for size in &SIZES[5..] {
            let (old, new) = (rows(1, *size), rows(2, *size));
            let (front, back) = old.split_at(size / 3);
            for bases in [&[&old[..]][..], &[front, back][..]] {
                let stored = compressor.compress_on(bases, &new, &mut out).unwrap();
                assert_eq!(stored, out.len());
                assert!(stored * 20 < *size, "{stored} of {size}");
                assert!(decoded(Encoding::ZstdOnBases, &out, bases, *size).unwrap() == new);
            }
        }
    }

    /// A table of one number a row, of which `night` changed one in a hundred: a MiB has 60,000 rows.
    fn narrow_rows(night: usize) -> Vec<u8> {
        let value = |row: usize| row * 7919 % 99_991 + if row % 100 == night * 31 % 100 { night * 77 } else { 0 };
        (100_000..160_000).flat_map(|row| format!("{row}\t{}\t{:06}\n", row % 30, value(row)).into_bytes()).collect()
    }

    #[test]
    fn narrow_rows_of_which_few_changed_cost_a_few_bytes_each() {
        let (old, new) = (narrow_rows(1), narrow_rows(2));
        let (mut compressor, mut out) = (Compressor::new(Level::Default), Vec::new());
        compressor.compress_on(&[&old], &new, &mut out).unwrap();
        // 1,200 rows differ, those of either night. A table that forgets most places gives ten times as much.
        assert!(out.len() < 1_200 * 8, "{}", out.len());
        assert!(decoded(Encoding::ZstdOnBases, &out, &[&old], new.len()).unwrap() == new);
        // So does zstd's own search, for data that does not follow its bases.
        let (joined, mut by_search) = ([&old[..], &new].concat(), Vec::new());
        let (prefix, raw) = joined.split_at(old.len());
        frame_on(prefix, raw, &mut by_search).unwrap();
        assert!(by_search.len() < 1_200 * 8, "{}", by_search.len());
    }

    #[test]
    fn samples_tell_noise_from_rows() {
        let mut compressor = Compressor::new(Level::Default);
        let mut out = Vec::new();
        assert!(compressor.finds_nothing(&random_bytes(1, 200_000), &mut out));
        assert!(!compressor.finds_nothing(&rows(1, 200_000), &mut out));
        assert!(!compressor.finds_nothing(&random_bytes(1, 20_000), &mut out), "too short to be worth a look");
        let half = [random_bytes(2, 100_000), rows(2, 100_000)].concat();
        assert!(!compressor.finds_nothing(&half, &mut out));
    }

    #[test]
    fn a_base_that_begins_like_a_dictionary_is_still_plain_bytes() {
        let mut base = vec![0x37, 0xa4, 0x30, 0xec];
        base.extend_from_slice(&rows(1, 50_000));
        let (raw, mut out) = (rows(2, 50_000), Vec::new());
        Compressor::new(Level::Fast).compress_on(&[&base], &raw, &mut out).unwrap();
        assert!(decoded(Encoding::ZstdOnBases, &out, &[&base], raw.len()).unwrap() == raw);
    }

    #[test]
    fn bases_that_do_not_help_or_do_not_fit_make_no_frame() {
        let (mut compressor, mut out) = (Compressor::new(Level::Default), vec![1]);
        let (raw, base) = (random_bytes(1, 70_000), random_bytes(2, 70_000));
        let huge = vec![0_u8; MAX_FRAME_RAW + 1];
        for (bases, raw) in [
            (&[&base[..]][..], &raw[..]),
            (&[], &base),
            (&[&[]], &base),
            (&[&base], &[]),
            (&[&base, &base, &base], &base),
            (&[&huge], &base),
            (&[&base], &huge),
        ] {
            assert_eq!(compressor.compress_on(bases, raw, &mut out), None);
            assert!(out.is_empty());
        }
    }

    #[test]
    fn slow_levels_leave_random_data_alone() {
        let mut compressor = Compressor::new(Level::Max);
        let (raw, mut out) = (random_bytes(8, 1 << 20), Vec::new());
        assert_eq!(compressor.compress(&raw, &mut out), Encoding::Raw);
        // The tables of level 19 take 17 MiB: they were never asked for.
        assert!(compressor.memory_bytes() < 2 << 20, "{}", compressor.memory_bytes());
        let twice = [&raw[..100_000], &raw[..100_000]].concat();
        assert_eq!(compressor.compress(&twice, &mut out), Encoding::Zstd);
        assert!(out.len() < 101_000);
    }

    #[test]
    fn damaged_frames_never_give_more_than_was_promised() {
        let (old, new, other) = (rows(1, 30_000), rows(2, 30_000), random_bytes(9, 30_000));
        let (mut compressor, mut plain, mut on) = (Compressor::new(Level::Default), Vec::new(), Vec::new());
        compressor.compress(&new, &mut plain);
        compressor.compress_on(&[&old], &new, &mut on).unwrap();
        for (encoding, stored) in [(Encoding::Zstd, &plain), (Encoding::ZstdOnBases, &on)] {
            for cut in (0..stored.len()).step_by(97) {
                assert_eq!(decoded(encoding, &stored[..cut], &[&old], 30_000).unwrap_err().kind(), Kind::Damaged);
            }
            for seed in 0..600_u64 {
                let noise = random_bytes(seed, 8);
                let place = usize::from(u16::from_le_bytes([noise[0], noise[1]])) % stored.len();
                let mut flipped = stored.clone();
                flipped[place] ^= 1 << (noise[2] % 8);
                // Either is fine, `decoded` checks the length; a panic would name the seed's place.
                let _ = decoded(encoding, &flipped, &[&old], 30_000);
            }
            for wrong in [0, 1, 29_999, 30_001] {
                assert_eq!(decoded(encoding, stored, &[&old], wrong).unwrap_err().kind(), Kind::Damaged);
            }
        }
        assert!(!matches!(decoded(Encoding::ZstdOnBases, &on, &[&other], 30_000), Ok(raw) if raw == new));
        assert!(decoded(Encoding::ZstdOnBases, &on, &[&old[..100]], 30_000).is_err());
        assert!(decoded(Encoding::Zstd, &random_bytes(1, 500), &[], 30_000).is_err());
    }

    #[test]
    fn absurd_requests_are_refused_before_memory_is_taken() {
        let (mut decompressor, mut out) = (Decompressor::new(), Vec::new());
        for length in [MAX_FRAME_RAW + 1, usize::MAX] {
            let refused = decompressor.decompress(Encoding::Zstd, b"", &[], length, &mut out);
            assert_eq!(refused, Err(Error::TooLong { claimed: length }));
        }
        let base = &b"base"[..];
        for bases in [&[][..], &[&[][..]], &[base, base, base]] {
            let refused = decompressor.decompress(Encoding::ZstdOnBases, b"", bases, 10, &mut out).unwrap_err();
            assert!(matches!(refused, Error::WrongBases { .. }), "{refused}");
        }
        let refused = decompressor.decompress(Encoding::Raw, b"123", &[], 2, &mut out);
        assert_eq!(refused, Err(Error::WrongLength { expected: 2, came: 3 }));
        assert!(out.capacity() < 100);
    }

    #[test]
    fn a_frame_that_would_outgrow_its_length_is_stopped() {
        let (raw, mut stored) = (vec![0_u8; 10 << 20], Vec::new());
        Compressor::new(Level::Fast).compress(&raw, &mut stored);
        let mut out = Vec::new();
        let refused = Decompressor::new().decompress(Encoding::Zstd, &stored, &[], 1000, &mut out);
        assert_eq!(refused.unwrap_err().kind(), Kind::Damaged);
        assert!(out.capacity() < 2000);
    }

    #[test]
    fn what_is_held_between_calls_is_bounded_by_what_passed_through() {
        let (mut compressor, mut out) = (Compressor::new(Level::Default), Vec::new());
        let (old, new) = (rows(1, 1 << 20), rows(2, 1 << 20));
        compressor.compress(&new, &mut out);
        compressor.compress_on(&[&old, &old], &new, &mut out).unwrap();
        assert!(compressor.memory_bytes() < 6 << 20, "{}", compressor.memory_bytes());
        let (mut decompressor, mut raw) = (Decompressor::new(), Vec::new());
        decompressor.decompress(Encoding::ZstdOnBases, &out, &[&old, &old], new.len(), &mut raw).unwrap();
        assert!(raw == new && decompressor.memory_bytes() < 3 << 20, "{}", decompressor.memory_bytes());
    }

    #[test]
    fn levels_and_encodings_have_their_names_and_numbers() {
        for (text, level) in [
            ("none", Level::None),
            ("fast", Level::Fast),
            ("default", Level::Default),
            ("max", Level::Max),
            ("1", Level::Number(1)),
            ("22", Level::Number(22)),
        ] {
            assert_eq!(text.parse(), Ok(level));
        }
        for text in ["", "0", "23", "-1", "best", "Fast", "3.5", "999999999999"] {
            assert_eq!(Level::parse(text).unwrap_err().kind(), Kind::Usage, "{text}");
        }
        for encoding in [Encoding::Raw, Encoding::Zstd, Encoding::ZstdOnBases] {
            assert_eq!(Encoding::try_from(encoding as u8), Ok(encoding));
        }
        assert_eq!(Encoding::try_from(3).unwrap_err().kind(), Kind::Unsupported);
    }
}
