//! Archives to be streamed: tar with pax headers, zip.
//!
//! A tar entry has a ustar header (POSIX.1-1988); what does not fit in there comes before it as a pax extended header
//! (POSIX.1-2001): long or unusual names, nanoseconds, large numbers, and extended attributes in the form that star,
//! GNU tar and libarchive share (`SCHILY.xattr.NAME`; access control lists as text, since neither takes them as
//! attributes: `SCHILY.acl.access`). A zip entry has its time in seconds (UTC), its mode and its content, and nothing
//! else.

use super::super::select::civil;
use crate::format::tree::{Node, NodeKind};
use std::cell::Cell;
use std::io::{Error, Read, Result, Write};
use std::rc::Rc;
use std::sync::Arc;
use tar::{Builder, EntryType, Header};
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, ZipWriter};

/// The largest number in seven octal digits: ids and devices in a ustar header.
const OCTAL_7: u64 = 0o7_777_777;
/// The largest number in eleven octal digits: sizes and times.
const OCTAL_11: u64 = 0o77_777_777_777;
/// From this size on a zip entry needs its 64-bit form. Compression may add a little, so not at 4 GiB.
const ZIP64_BYTES: u64 = 0xf000_0000;

/// An entry of an archive.
pub struct Entry {
    /// Its name in the archive, without a slash before it.
    pub path: Vec<u8>,
    /// What it is.
    pub node: Arc<Node>,
    /// The name of its owner; empty if it had none.
    pub user: Vec<u8>,
    /// The name of its group; empty if it had none.
    pub group: Vec<u8>,
    /// For a further name of a file: the name under which it was written. It has no content then.
    pub first: Option<Vec<u8>>,
}

/// An archive on its way into `W`. Dropped without [`Writer::finish`], it has no end, so that nobody takes it for whole.
pub struct Writer<W: Write> {
    /// Dropped first: the libraries end an archive when they are dropped.
    shut: Shut,
    form: Form<Door<W>>,
}

enum Form<W: Write> {
    Tar(Box<Builder<W>>),
    Zip(Box<ZipWriter<StreamWriter<W>>>),
}

/// Shuts a door when dropped.
struct Shut(Rc<Cell<bool>>);

impl Drop for Shut {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

/// Swallows everything once it is shut.
struct Door<W> {
    out: W,
    is_shut: Rc<Cell<bool>>,
}

impl<W: Write> Write for Door<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        if self.is_shut.get() { Ok(bytes.len()) } else { self.out.write(bytes) }
    }
    fn flush(&mut self) -> Result<()> {
        if self.is_shut.get() { Ok(()) } else { self.out.flush() }
    }
}

impl<W: Write> Writer<W> {
    /// Begins a tar archive.
    pub fn tar(out: W) -> Writer<W> {
        Writer::with(out, |door| Form::Tar(Box::new(Builder::new(door))))
    }

    /// Begins a zip archive.
    pub fn zip(out: W) -> Writer<W> {
        Writer::with(out, |door| Form::Zip(Box::new(ZipWriter::new_stream(door))))
    }

    fn with(out: W, form: impl FnOnce(Door<W>) -> Form<Door<W>>) -> Writer<W> {
        let is_shut = Rc::new(Cell::new(false));
        Writer { shut: Shut(is_shut.clone()), form: form(Door { out, is_shut }) }
    }

    /// Adds an entry. False if this kind of archive cannot hold such a one.
    pub fn add(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<bool> {
        match &mut self.form {
            Form::Tar(builder) => add_to_tar(builder, entry, content),
            Form::Zip(writer) => add_to_zip(writer, &entry.path, &entry.node, content),
        }
    }

    /// Whether a name stands in it otherwise than it is.
    pub fn renames(&self, path: &[u8]) -> bool {
        matches!(self.form, Form::Zip(_)) && std::str::from_utf8(path).is_err()
    }

    /// Ends the archive.
    pub fn finish(self) -> Result<()> {
        let Writer { shut, form } = self;
        let finished = match form {
            Form::Tar(builder) => builder.into_inner()?.flush(),
            Form::Zip(writer) => writer.finish()?.into_inner().flush(),
        };
        drop(shut);
        finished
    }
}

fn add_to_tar<W: Write>(builder: &mut Builder<W>, entry: &Entry, content: &mut dyn Read) -> Result<bool> {
    let node = &*entry.node;
    let owners = (entry.user.as_slice(), entry.group.as_slice());
    let Some(mut kind) = entry_type(node.kind) else { return Ok(false) };
    let mut path = entry.path.clone();
    let mut target = node.target.0.clone();
    if node.kind == NodeKind::Directory {
        path.push(b'/');
    } else if let Some(first) = &entry.first {
        kind = EntryType::Link;
        target.clone_from(first);
    }
    let size = if kind == EntryType::Regular { node.size } else { 0 };
    let pax = pax_records(&path, &target, size, node, owners);
    builder.append_pax_extensions(pax.iter().map(|(key, value)| (key.as_str(), value.as_slice())))?;
    let header = header(&path, &target, kind, size, node, owners)?;
    let mut exact = Exact { content, left: size };
    builder.append(&header, &mut exact)?;
    if exact.left > 0 { Err(Error::other("the content is shorter than it should be")) } else { Ok(true) }
}

/// Gives exactly as many bytes as the header says.
struct Exact<'c> {
    content: &'c mut dyn Read,
    left: u64,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = if most == 0 { 0 } else { self.content.read(&mut buffer[..most])? };
        self.left -= count as u64;
        Ok(count)
    }
}

fn entry_type(kind: NodeKind) -> Option<EntryType> {
    Some(match kind {
        NodeKind::File => EntryType::Regular,
        NodeKind::Directory => EntryType::Directory,
        NodeKind::Symlink => EntryType::Symlink,
        NodeKind::Fifo => EntryType::Fifo,
        NodeKind::CharDevice => EntryType::Char,
        NodeKind::BlockDevice => EntryType::Block,
        // Tar has no sockets: they mean nothing without the process that listens.
        NodeKind::Socket => return None,
    })
}

fn pax_records(path: &[u8], target: &[u8], size: u64, node: &Node, owners: (&[u8], &[u8])) -> Vec<(String, Vec<u8>)> {
    let mut records = Vec::new();
    let mut add = |key: &str, value: &[u8]| records.push((key.to_owned(), value.to_vec()));
    if path.len() > 100 || !path.is_ascii() {
        add("path", path);
    }
    if target.len() > 100 || !target.is_ascii() {
        add("linkpath", target);
    }
    let seconds = node.mtime_ns.div_euclid(1_000_000_000);
    let nanoseconds = node.mtime_ns.rem_euclid(1_000_000_000);
    if nanoseconds != 0 || !(0..=OCTAL_11 as i64).contains(&seconds) {
        add("mtime", decimal_time(node.mtime_ns).as_bytes());
    }
    for (key, number, most) in
        [("size", size, OCTAL_11), ("uid", u64::from(node.uid), OCTAL_7), ("gid", u64::from(node.gid), OCTAL_7)]
    {
        if number > most {
            add(key, number.to_string().as_bytes());
        }
    }
    for (key, name) in [("uname", owners.0), ("gname", owners.1)] {
        if name.len() > 32 || !name.is_ascii() {
            add(key, name);
        }
    }
    for xattr in &node.xattrs {
        let list = ACCESS_LISTS.iter().find(|(name, _)| xattr.name == *name);
        match (list, list.and_then(|_| access_list_text(&xattr.value)), std::str::from_utf8(&xattr.name)) {
            (Some((_, key)), Some(text), _) => add(key, text.as_bytes()),
            (_, _, Ok(name)) => add(&format!("SCHILY.xattr.{name}"), &xattr.value),
            _ => {}
        }
    }
    records
}

/// What Linux calls the two access control lists, and what tar does.
const ACCESS_LISTS: [(&[u8], &str); 2] =
    [(b"system.posix_acl_access", "SCHILY.acl.access"), (b"system.posix_acl_default", "SCHILY.acl.default")];

/// An access control list as text: `user::rw-,user:1000:r--:1000,…`. The number behind the permissions is for those
/// who take what stands before them as a name. (Linux, `posix_acl_xattr.h`: version 2, then tag, permissions and id of
/// each entry.)
fn access_list_text(value: &[u8]) -> Option<String> {
    let entries = value.strip_prefix(&2u32.to_le_bytes())?.chunks_exact(8);
    if !entries.remainder().is_empty() {
        return None;
    }
    let entry = |bytes: &[u8]| {
        let number = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let id = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let allowed: String =
            "rwx".chars().zip([4, 2, 1]).map(|(c, bit)| if number(2) & bit == 0 { '-' } else { c }).collect();
        Some(match number(0) {
            0x01 => format!("user::{allowed}"),
            0x02 => format!("user:{id}:{allowed}:{id}"),
            0x04 => format!("group::{allowed}"),
            0x08 => format!("group:{id}:{allowed}:{id}"),
            0x10 => format!("mask::{allowed}"),
            0x20 => format!("other::{allowed}"),
            _ => return None,
        })
    };
    entries.map(entry).collect::<Option<Vec<_>>>().map(|entries| entries.join(","))
}

/// Seconds with nine decimals; a time before 1970 has its sign before the whole number.
fn decimal_time(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let whole = ns.unsigned_abs();
    format!("{sign}{}.{:09}", whole / 1_000_000_000, whole % 1_000_000_000)
}

fn header(
    path: &[u8],
    target: &[u8],
    kind: EntryType,
    size: u64,
    node: &Node,
    owners: (&[u8], &[u8]),
) -> Result<Header> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(node.mode);
    header.set_uid(u64::from(node.uid).min(OCTAL_7));
    header.set_gid(u64::from(node.gid).min(OCTAL_7));
    header.set_size(size.min(OCTAL_11));
    header.set_mtime(node.mtime_ns.div_euclid(1_000_000_000).clamp(0, OCTAL_11 as i64) as u64);
    if let (EntryType::Char | EntryType::Block, Some(rdev)) = (kind, node.rdev) {
        header.set_device_major(major(rdev))?;
        header.set_device_minor(minor(rdev))?;
    }
    let fields = header.as_ustar_mut().ok_or_else(|| Error::other("a ustar header is no ustar header"))?;
    // What does not fit stands in the pax header, which wins.
    fill(&mut fields.name, path);
    fill(&mut fields.linkname, target);
    fill(&mut fields.uname, owners.0);
    fill(&mut fields.gname, owners.1);
    header.set_cksum();
    // The size of an entry larger than the field is told by pax; the builder needs it for nothing but padding.
    Ok(header)
}

fn fill(field: &mut [u8], bytes: &[u8]) {
    let count = bytes.len().min(field.len());
    field[..count].copy_from_slice(&bytes[..count]);
}

/// As Linux joins major and minor numbers (`gnu_dev_major` of glibc).
fn major(rdev: u64) -> u32 {
    (((rdev >> 8) & 0xfff) | ((rdev >> 32) & 0xffff_f000)) as u32
}

fn minor(rdev: u64) -> u32 {
    ((rdev & 0xff) | ((rdev >> 12) & 0xffff_ff00)) as u32
}

/// A name as text, for names in a zip are text: bytes that are none stand as `\xNN`, so that different names stay
/// different.
fn text_of(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

fn add_to_zip<W: Write>(
    writer: &mut ZipWriter<StreamWriter<W>>,
    path: &[u8],
    node: &Node,
    content: &mut dyn Read,
) -> Result<bool> {
    let name = text_of(path);
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .unix_permissions(node.mode)
        .large_file(node.size >= ZIP64_BYTES)
        .last_modified_time(zip_time(node.mtime_ns));
    match node.kind {
        NodeKind::Directory => writer.add_directory(name, options)?,
        NodeKind::Symlink => writer.add_symlink(name, text_of(&node.target.0), options)?,
        NodeKind::File => {
            writer.start_file(name, options)?;
            std::io::copy(content, writer)?;
        }
        NodeKind::Fifo | NodeKind::Socket | NodeKind::CharDevice | NodeKind::BlockDevice => return Ok(false),
    }
    Ok(true)
}

/// The time in two-second steps that zip can express: 1980 to 2107.
fn zip_time(mtime_ns: i64) -> DateTime {
    let seconds = mtime_ns.div_euclid(1_000_000_000);
    let (day, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, date) = civil(day);
    let small = |number: i64| u8::try_from(number).unwrap_or(0);
    let time = u16::try_from(year).ok().and_then(|year| {
        let (hour, minute, second) = (small(of_day / 3600), small(of_day / 60 % 60), small(of_day % 60));
        DateTime::from_date_and_time(year, small(month), small(date), hour, minute, second).ok()
    });
    time.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_control_list_is_written_as_tar_reads_it() {
        let entry = |tag: u16, allowed: u16, id: u32| {
            [&tag.to_le_bytes()[..], &allowed.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let nobody = u32::MAX;
        let entries =
            [(1, 6, nobody), (2, 7, 1000), (4, 4, nobody), (8, 1, 2000), (0x10, 7, nobody), (0x20, 0, nobody)];
        let list = entries.iter().flat_map(|(tag, allowed, id)| entry(*tag, *allowed, *id));
        let list: Vec<u8> = 2u32.to_le_bytes().into_iter().chain(list).collect();
        let text = "user::rw-,user:1000:rwx:1000,group::r--,group:2000:--x:2000,mask::rwx,other::---";
        assert_eq!(access_list_text(&list).as_deref(), Some(text));
        assert_eq!(access_list_text(&list[..list.len() - 1]), None, "cut off");
        assert_eq!(access_list_text(b"\x01\0\0\0"), None, "another version");
        assert_eq!(access_list_text(&[&list[..], &entry(3, 0, 0)].concat()), None, "an unknown tag");
    }
}
