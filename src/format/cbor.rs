//! CBOR (RFC 8949) as Keepstone writes it: deterministic, with integer keys, and forgiving to the future.
//!
//! Every structure is a map with small integer keys in ascending order, shortest-form integers and definite
//! lengths (RFC 8949 section 4.2.1). A key that this version does not know is kept verbatim and written back, so
//! that copying or repacking never drops what a newer version stored. A reader refuses anything that is not in
//! deterministic form: two byte strings can then never mean the same structure.

use super::Error;
use minicbor::data::Type;
use std::ops::RangeBounds;

/// Fields of a newer version: key and encoded value, kept as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown(Vec<(u64, Vec<u8>)>);

impl Unknown {
    /// No unknown fields.
    pub const fn none() -> Unknown {
        Unknown(Vec::new())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Keeps a field. Keys arrive in ascending order.
    pub fn keep(&mut self, key: u64, value: &[u8]) {
        self.0.push((key, value.to_vec()));
    }

    /// Writes the fields whose keys lie in `keys`.
    pub fn write_those(&self, keys: impl RangeBounds<u64>, writer: &mut Writer) {
        for (key, value) in self.0.iter().filter(|(key, _)| keys.contains(key)) {
            writer.uint(*key);
            writer.verbatim(value);
        }
    }
}

/// Writes CBOR into memory.
pub struct Writer(minicbor::Encoder<Vec<u8>>);

impl Default for Writer {
    fn default() -> Self {
        Writer(minicbor::Encoder::new(Vec::new()))
    }
}

/// Writing into memory has no way to fail.
fn sure<T>(result: Result<T, minicbor::encode::Error<core::convert::Infallible>>) {
    if result.is_err() {
        unreachable!("writing CBOR into memory cannot fail");
    }
}

impl Writer {
    /// An empty writer that continues `bytes`.
    pub fn after(bytes: Vec<u8>) -> Writer {
        Writer(minicbor::Encoder::new(bytes))
    }

    /// The bytes written so far.
    pub fn finish(self) -> Vec<u8> {
        self.0.into_writer()
    }

    /// How many bytes there are.
    pub fn length(&self) -> usize {
        self.0.writer().len()
    }

    /// Begins a map of `pairs` pairs.
    pub fn map(&mut self, pairs: usize) {
        sure(self.0.map(pairs as u64));
    }

    /// Begins an array of `items` items.
    pub fn array(&mut self, items: usize) {
        sure(self.0.array(items as u64));
    }

    /// A number that is not negative.
    pub fn uint(&mut self, number: u64) {
        sure(self.0.u64(number));
    }

    /// A number.
    pub fn int(&mut self, number: i64) {
        sure(self.0.i64(number));
    }

    /// A byte string.
    pub fn bytes(&mut self, bytes: &[u8]) {
        sure(self.0.bytes(bytes));
    }

    /// A text.
    pub fn text(&mut self, text: &str) {
        sure(self.0.str(text));
    }

    /// True or false.
    pub fn bool(&mut self, value: bool) {
        sure(self.0.bool(value));
    }

    /// Nothing.
    pub fn null(&mut self) {
        sure(self.0.null());
    }

    /// An encoded value, as it is.
    pub fn verbatim(&mut self, value: &[u8]) {
        self.0.writer_mut().extend_from_slice(value);
    }
}

/// Reads CBOR from memory; never allocates more than the input holds.
pub struct Reader<'a> {
    decoder: minicbor::Decoder<'a>,
    what: &'static str,
    most_items: usize,
}

impl<'a> Reader<'a> {
    /// Reads `input`, which should be `what` (named in errors).
    pub fn new(input: &'a [u8], what: &'static str) -> Reader<'a> {
        Reader { decoder: minicbor::Decoder::new(input), what, most_items: usize::MAX }
    }

    /// Refuses arrays of more items than this.
    pub fn with_at_most(self, most_items: usize) -> Reader<'a> {
        Reader { most_items, ..self }
    }

    /// A complaint about what is being read.
    pub fn bad(&self, reason: impl ToString) -> Error {
        Error::Malformed { what: self.what, position: self.decoder.position(), reason: reason.to_string() }
    }

    fn checked<T>(&self, result: Result<T, minicbor::decode::Error>) -> Result<T, Error> {
        result.map_err(|error| self.bad(error))
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.decoder.input().len().saturating_sub(self.decoder.position())
    }

    /// The position in the input.
    pub fn position(&self) -> usize {
        self.decoder.position()
    }

    /// The bytes from `start` up to here.
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.decoder.input()[start..self.decoder.position()]
    }

    /// Ends the reading: nothing may be left.
    pub fn end(self) -> Result<(), Error> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(self.bad(format!("{left} bytes follow where nothing should"))),
        }
    }

    /// Refuses a head that is longer than its number needs. `start` is where the head begins.
    fn shortest(&self, start: usize, number: u64) -> Result<(), Error> {
        let head = self.decoder.input().get(start).copied().unwrap_or(0) & 0x1f;
        let wanted = match number {
            0..=23 => number as u8,
            24..=0xff => 24,
            0x100..=0xffff => 25,
            0x1_0000..=0xffff_ffff => 26,
            _ => 27,
        };
        if head == wanted { Ok(()) } else { Err(self.bad("a number is not in its shortest form")) }
    }

    /// The length of a map or array, each item of which takes at least one byte.
    fn counted(&mut self, start: usize, count: Option<u64>) -> Result<usize, Error> {
        let count = count.ok_or_else(|| self.bad("indefinite length"))?;
        self.shortest(start, count)?;
        if count > self.remaining() as u64 {
            return Err(self.bad(format!("{count} items announced, {} bytes left", self.remaining())));
        }
        Ok(count as usize)
    }

    /// Enters a map and gives the number of its pairs.
    pub fn map(&mut self) -> Result<usize, Error> {
        let start = self.position();
        let count = self.decoder.map();
        let count = self.checked(count)?;
        self.counted(start, count)
    }

    /// Enters an array and gives the number of its items.
    pub fn array(&mut self) -> Result<usize, Error> {
        let start = self.position();
        let count = self.decoder.array();
        let count = self.checked(count)?;
        let count = self.counted(start, count)?;
        if count > self.most_items {
            return Err(self.bad(format!("{count} items, more than {}", self.most_items)));
        }
        Ok(count)
    }

    /// A map key, which must be larger than the one before.
    pub fn key(&mut self, last: &mut Option<u64>) -> Result<u64, Error> {
        let key = self.uint()?;
        if last.is_some_and(|last| key <= last) {
            return Err(self.bad(format!("key {key} is out of order")));
        }
        *last = Some(key);
        Ok(key)
    }

    /// A number that is not negative.
    pub fn uint(&mut self) -> Result<u64, Error> {
        let start = self.position();
        let number = self.decoder.u64();
        let number = self.checked(number)?;
        self.shortest(start, number)?;
        Ok(number)
    }

    /// A number.
    pub fn int(&mut self) -> Result<i64, Error> {
        let start = self.position();
        let number = self.decoder.i64();
        let number = self.checked(number)?;
        self.shortest(start, if number < 0 { !(number as u64) } else { number as u64 })?;
        Ok(number)
    }

    /// A byte string.
    pub fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let start = self.position();
        let bytes = self.decoder.bytes();
        let bytes = self.checked(bytes)?;
        self.shortest(start, bytes.len() as u64)?;
        Ok(bytes)
    }

    /// A text.
    pub fn text(&mut self) -> Result<&'a str, Error> {
        let start = self.position();
        let text = self.decoder.str();
        let text = self.checked(text)?;
        self.shortest(start, text.len() as u64)?;
        Ok(text)
    }

    /// True or false.
    pub fn bool(&mut self) -> Result<bool, Error> {
        let value = self.decoder.bool();
        self.checked(value)
    }

    /// Whether nothing stands here; steps over it if so.
    pub fn null(&mut self) -> Result<bool, Error> {
        let kind = self.decoder.datatype();
        if self.checked(kind)? != Type::Null {
            return Ok(false);
        }
        let nothing = self.decoder.null();
        self.checked(nothing)?;
        Ok(true)
    }

    /// Steps over one value of any shape that a newer version may use and gives its bytes. It may be a number, a
    /// byte string, a text, true, false, null, or an array or map of such; deterministic throughout, and nested at
    /// most [`MAX_NESTING`] deep.
    pub fn verbatim(&mut self) -> Result<&'a [u8], Error> {
        let start = self.position();
        self.step_over(MAX_NESTING)?;
        Ok(self.since(start))
    }

    fn step_over(&mut self, nesting_left: usize) -> Result<(), Error> {
        let kind = self.decoder.datatype();
        match self.checked(kind)? {
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => self.uint().map(drop),
            Type::I8 | Type::I16 | Type::I32 | Type::I64 => self.int().map(drop),
            Type::Bytes => self.bytes().map(drop),
            Type::String => self.text().map(drop),
            Type::Bool => self.bool().map(drop),
            Type::Null => self.null().map(drop),
            Type::Array | Type::Map if nesting_left == 0 => Err(self.bad("values are nested too deep")),
            Type::Array => {
                let count = self.array()?;
                (0..count).try_for_each(|_| self.step_over(nesting_left - 1))
            }
            Type::Map => {
                let count = self.map()?;
                self.step_over_pairs(count, nesting_left - 1)
            }
            other => Err(self.bad(format!("{other} has no place in this format"))),
        }
    }

    fn step_over_pairs(&mut self, count: usize, nesting_left: usize) -> Result<(), Error> {
        let mut last: Option<&[u8]> = None;
        for _ in 0..count {
            let start = self.position();
            self.step_over(nesting_left)?;
            let key = self.since(start);
            if last.is_some_and(|last| key <= last) {
                return Err(self.bad("a key is out of order"));
            }
            last = Some(key);
            self.step_over(nesting_left)?;
        }
        Ok(())
    }
}

/// How deep arrays and maps may lie in one another in a value that is kept verbatim.
pub const MAX_NESTING: usize = 16;

/// Something with a CBOR form.
pub trait Cbor: Sized {
    /// Writes it.
    fn write(&self, writer: &mut Writer);
    /// Reads it.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error>;
    /// What stands for it when its field is not there; `None` where a field is required.
    fn absent() -> Option<Self> {
        None
    }
    /// Whether its field is left out.
    fn is_absent(&self) -> bool {
        false
    }

    /// Its CBOR form on its own.
    fn to_cbor(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.write(&mut writer);
        writer.finish()
    }

    /// Reads it from `input`, of which nothing may be left over. `what` names it in errors.
    fn from_cbor(input: &[u8], what: &'static str) -> Result<Self, Error> {
        let mut reader = Reader::new(input, what);
        let value = Self::read(&mut reader)?;
        reader.end()?;
        Ok(value)
    }
}

macro_rules! unsigned {
    ($($type:ty),*) => {$(
        impl Cbor for $type {
            fn write(&self, writer: &mut Writer) {
                writer.uint(u64::from(*self));
            }
            fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
                let number = reader.uint()?;
                <$type>::try_from(number).map_err(|_| reader.bad(format!("{number} is too large")))
            }
        }
    )*};
}
unsigned!(u16, u32, u64);

impl Cbor for i64 {
    fn write(&self, writer: &mut Writer) {
        writer.int(*self);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.int()
    }
}

impl Cbor for String {
    fn write(&self, writer: &mut Writer) {
        writer.text(self);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.text().map(str::to_owned)
    }
}

/// False is left out.
impl Cbor for bool {
    fn write(&self, writer: &mut Writer) {
        writer.bool(*self);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.bool()
    }
    fn absent() -> Option<Self> {
        Some(false)
    }
    fn is_absent(&self) -> bool {
        !*self
    }
}

/// A byte string of any length; the empty one is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub Vec<u8>);

impl Cbor for Bytes {
    fn write(&self, writer: &mut Writer) {
        writer.bytes(&self.0);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.bytes().map(|bytes| Bytes(bytes.to_vec()))
    }
    fn absent() -> Option<Self> {
        Some(Bytes::default())
    }
    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }
}

impl<const N: usize> Cbor for [u8; N] {
    fn write(&self, writer: &mut Writer) {
        writer.bytes(self);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let bytes = reader.bytes()?;
        bytes.try_into().map_err(|_| reader.bad(format!("{} bytes where {N} belong", bytes.len())))
    }
}

macro_rules! ids {
    ($($type:ident),*) => {$(
        impl Cbor for crate::base::$type {
            fn write(&self, writer: &mut Writer) {
                writer.bytes(&self.0);
            }
            fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
                <[u8; crate::base::$type::SIZE]>::read(reader).map(crate::base::$type)
            }
        }
    )*};
}
ids!(BlobId, PackId, SegmentId, RepositoryId, SessionId, RunId, EpochId, SlotId, KeyId, Mark);

/// Nothing is left out.
impl<T: Cbor> Cbor for Option<T> {
    fn write(&self, writer: &mut Writer) {
        match self {
            Some(value) => value.write(writer),
            None => writer.null(),
        }
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        if reader.null()? { Ok(None) } else { T::read(reader).map(Some) }
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

/// The empty list is left out.
impl<T: Cbor> Cbor for Vec<T> {
    fn write(&self, writer: &mut Writer) {
        writer.array(self.len());
        for item in self {
            item.write(writer);
        }
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let count = reader.array()?;
        // An item takes at least a byte of input but may take much more memory: start small and let it grow.
        let mut items = Vec::with_capacity(count.min(256));
        for _ in 0..count {
            items.push(T::read(reader)?);
        }
        Ok(items)
    }
    fn absent() -> Option<Self> {
        Some(Vec::new())
    }
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// A field that is there. What stands for an absent field must not be written, or one structure had two encodings.
pub(super) fn present<T: Cbor>(reader: &mut Reader<'_>, field: &str) -> Result<Option<T>, Error> {
    let value = T::read(reader)?;
    if value.is_absent() {
        return Err(reader.bad(format!("{field} is written although there is nothing to say")));
    }
    Ok(Some(value))
}

/// Declares a structure with its CBOR keys: this is the format document in code. `checked by` names a function that
/// every structure has to pass that is read.
macro_rules! record {
    (
        $(#[$meta:meta])* $name:ident {
            $( $(#[$field_meta:meta])* $key:literal => $field:ident : $type:ty ),* $(,)?
        } $(checked by $check:path)?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $type, )*
            /// Fields of newer versions, kept verbatim.
            pub unknown: $crate::format::cbor::Unknown,
        }

        impl $crate::format::cbor::Cbor for $name {
            #[allow(unused_assignments)]
            fn write(&self, writer: &mut $crate::format::cbor::Writer) {
                let pairs = self.unknown.count() $( + usize::from(!$crate::format::cbor::Cbor::is_absent(&self.$field)) )*;
                writer.map(pairs);
                let mut next = 0;
                $(
                    self.unknown.write_those(next..$key, writer);
                    if !$crate::format::cbor::Cbor::is_absent(&self.$field) {
                        writer.uint($key);
                        $crate::format::cbor::Cbor::write(&self.$field, writer);
                    }
                    next = $key + 1;
                )*
                self.unknown.write_those(next.., writer);
            }

            fn read(reader: &mut $crate::format::cbor::Reader<'_>) -> Result<Self, $crate::format::Error> {
                use $crate::format::cbor::{Cbor, Unknown, present};
                let pairs = reader.map()?;
                $( let mut $field: Option<$type> = None; )*
                let mut unknown = Unknown::none();
                let mut last = None;
                for _ in 0..pairs {
                    match reader.key(&mut last)? {
                        $( $key => $field = present(reader, stringify!($field))?, )*
                        key => unknown.keep(key, reader.verbatim()?),
                    }
                }
                let record = Self {
                    $( $field: match $field.or_else(<$type as Cbor>::absent) {
                        Some(value) => value,
                        None => return Err(reader.bad(concat!("no ", stringify!($field), " in ", stringify!($name)))),
                    }, )*
                    unknown,
                };
                $( $check(&record).map_err(|reason: String| reader.bad(reason))?; )?
                Ok(record)
            }
        }
    };
}
pub(crate) use record;

/// Declares an enumeration with its stable numbers; an unknown number is refused.
macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $number:literal ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $( $(#[$variant_meta])* $variant = $number, )* }

        impl $name {
            /// The stable number at rest.
            pub fn number(self) -> u8 {
                self as u8
            }

            /// The meaning of a number, where this version knows it.
            pub fn from_number(number: u64) -> Option<$name> {
                match number {
                    $( $number => Some($name::$variant), )*
                    _ => None,
                }
            }
        }

        impl $crate::format::cbor::Cbor for $name {
            fn write(&self, writer: &mut $crate::format::cbor::Writer) {
                writer.uint(u64::from(self.number()));
            }
            fn read(reader: &mut $crate::format::cbor::Reader<'_>) -> Result<Self, $crate::format::Error> {
                let number = reader.uint()?;
                $name::from_number(number)
                    .ok_or_else(|| reader.bad(format!("{} number {number} is unknown to this version", stringify!($name))))
            }
        }
    };
}
pub(crate) use numbered;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    record! {
        /// An example of today.
        Today {
            /// One.
            1 => one: u64,
            /// Four.
            4 => four: Option<String>,
        }
    }
    record! {
        /// The same, tomorrow.
        Tomorrow {
            /// One.
            1 => one: u64,
            /// Two.
            2 => two: Vec<u32>,
            /// Four.
            4 => four: Option<String>,
            /// Nine.
            9 => nine: Bytes,
        }
    }

    #[test]
    fn fields_of_a_newer_version_come_back_verbatim() {
        let tomorrow = Tomorrow {
            one: 1,
            two: vec![2, 300],
            four: Some("vier".into()),
            nine: Bytes(vec![9; 30]),
            unknown: Unknown::none(),
        };
        let bytes = tomorrow.to_cbor();
        let today = Today::from_cbor(&bytes, "test").expect("today reads tomorrow");
        assert_eq!(today.unknown.count(), 2);
        assert_eq!(today.to_cbor(), bytes);
    }

    #[test]
    fn what_is_not_deterministic_is_refused() {
        for (bytes, why) in [
            (&[0xa2, 1, 1, 1, 1][..], "a key twice"),
            (&[0xa2, 4, 0x61, b'x', 1, 1], "keys out of order"),
            (&[0xa1, 1, 0x18, 1], "a long form of a small number"),
            (&[0xbf, 1, 1, 0xff], "an indefinite map"),
            (&[0xa1, 1, 1, 0], "bytes after the end"),
            (&[0xa0], "a missing field"),
            (&[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "an absurd count"),
        ] {
            assert!(Today::from_cbor(bytes, "test").is_err(), "{why}");
        }
        assert!(Today::from_cbor(&[0xa1, 1, 1], "test").is_ok());
    }

    #[test]
    fn what_says_nothing_is_left_out_and_refused_when_written() {
        let empty = Tomorrow { one: 1, two: Vec::new(), four: None, nine: Bytes::default(), unknown: Unknown::none() };
        assert_eq!(empty.to_cbor(), [0xa1, 1, 1]);
        for (bytes, why) in [
            (&[0xa2, 1, 1, 2, 0x80][..], "an empty list"),
            (&[0xa2, 1, 1, 4, 0xf6], "null"),
            (&[0xa2, 1, 1, 9, 0x40], "an empty byte string"),
        ] {
            assert!(Tomorrow::from_cbor(bytes, "test").is_err(), "{why}");
        }
    }

    #[test]
    fn unknown_values_are_deterministic_too() {
        let with = |value: &[u8]| Today::from_cbor(&[&[0xa2, 1, 1, 0x18, 60], value].concat(), "test");
        for good in [
            &[0x00][..],
            &[0x20],
            &[0x3b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x61, b'x'],
            &[0xf4],
            &[0xf6],
            &[0x82, 0x40, 0x80],
            &[0xa2, 0x01, 0xf5, 0x61, b'k', 0xa0],
        ] {
            let read = with(good).unwrap();
            assert_eq!(read.to_cbor()[5..], *good);
        }
        for (bad, why) in [
            (&[0x18, 5][..], "a long form"),
            (&[0x58, 1, 0], "a long length"),
            (&[0x5f, 0x41, 0, 0xff], "indefinite bytes"),
            (&[0x9f, 0xff], "an indefinite array"),
            (&[0xbf, 0xff], "an indefinite map"),
            (&[0xa2, 2, 0, 1, 0], "keys out of order"),
            (&[0xa2, 1, 0, 1, 0], "a key twice"),
            (&[0x61, 0xff], "a text that is not UTF-8"),
            (&[0xf7], "undefined"),
            (&[0xf9, 0, 0], "a float"),
            (&[0xc1, 0], "a tag"),
            (&[0xe0], "a simple value"),
            (&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "an absurd count"),
            (&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "an absurd length"),
        ] {
            assert!(with(bad).is_err(), "{why}");
        }
    }

    #[test]
    fn unknown_values_nest_only_so_deep() {
        let nested = |depth: usize| [&[0xa2, 1, 1, 0x18, 60], &vec![0x81; depth][..], &[0]].concat();
        assert!(Today::from_cbor(&nested(MAX_NESTING), "test").is_ok());
        assert!(Today::from_cbor(&nested(MAX_NESTING + 1), "test").is_err());
        assert!(Today::from_cbor(&nested(1_000_000), "test").is_err());
    }

    #[test]
    fn the_largest_key_comes_back() {
        let bytes = [&[0xa2, 1, 1, 0x1b][..], &[0xff; 8], &[0xf5]].concat();
        assert_eq!(Today::from_cbor(&bytes, "test").unwrap().to_cbor(), bytes);
    }

    #[test]
    fn numbers_come_back_in_their_shortest_form() {
        for number in [0, 23, 24, 255, 256, 65_535, 65_536, 1 << 32, i64::MAX, -1, -24, -25, -257, i64::MIN] {
            let bytes = number.to_cbor();
            assert_eq!(i64::from_cbor(&bytes, "number").unwrap(), number);
            assert_eq!(bytes.len() == 1, (-24..24).contains(&number));
        }
        assert!(u32::from_cbor(&u64::MAX.to_cbor(), "number").is_err());
        assert!(i64::from_cbor(&u64::MAX.to_cbor(), "number").is_err());
        assert!(u64::from_cbor(&(-1i64).to_cbor(), "number").is_err());
    }

    record! {
        /// A structure with a rule.
        Ruled {
            /// Below ten.
            1 => digit: u64,
        } checked by Ruled::check
    }

    impl Ruled {
        fn check(&self) -> Result<(), String> {
            if self.digit < 10 { Ok(()) } else { Err("two digits".to_owned()) }
        }
    }

    #[test]
    fn a_structure_s_own_check_is_never_passed_by() {
        let ruled = |digit| Ruled { digit, unknown: Unknown::none() };
        assert!(Ruled::from_cbor(&ruled(9).to_cbor(), "test").is_ok());
        let list = vec![ruled(9), ruled(10)].to_cbor();
        let error = Vec::<Ruled>::from_cbor(&list, "test").unwrap_err();
        assert!(error.to_string().contains("two digits"));
    }
}
