//! Archives to be streamed: tar with pax headers, zip.
//!
//! A tar entry has a ustar header (POSIX.1-1988); what does not fit in there comes before it as a pax extended header
//! (POSIX.1-2001): long or unusual names, nanoseconds, large numbers, and extended attributes in the form that star,
//! GNU tar and libarchive share (`SCHILY.xattr.NAME`). A zip entry has its time in seconds (UTC), its mode and its content, and nothing
//! else.

use super::super::select::civil;
use crate::format::tree::{Node, NodeKind};
use std::collections::HashMap;
use std::io::{Error, Read, Result, Write};
use tar::{Builder, EntryType, Header};
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, ZipWriter};

/// The largest number in seven octal digits: ids and devices in a ustar header.
const OCTAL_7: u64 = 0o7_777_777;
/// The largest number in eleven octal digits: sizes and times.
const OCTAL_11: u64 = 0o77_777_777_777;
/// The most files with several names that are remembered; further ones are written as files of their own.
const MAX_LINKED: usize = 100_000;
/// From this size on a zip entry needs its 64-bit form. Compression may add a little, so not at 4 GiB.
const ZIP64_BYTES: u64 = 0xf000_0000;

/// An archive on its way into `W`.
pub enum Writer<W: Write> {
    /// Tar, and where each file with several names was written first.
    Tar(Box<Builder<W>>, HashMap<(u64, u64), Vec<u8>>),
    /// Zip.
    Zip(Box<ZipWriter<StreamWriter<W>>>),
}

impl<W: Write> Writer<W> {
    /// Begins a tar archive.
    pub fn tar(out: W) -> Writer<W> {
        Writer::Tar(Box::new(Builder::new(out)), HashMap::new())
    }

    /// Begins a zip archive.
    pub fn zip(out: W) -> Writer<W> {
        Writer::Zip(Box::new(ZipWriter::new_stream(out)))
    }

    /// Adds an entry called `path`, without a slash before it. False if this kind of archive cannot hold such an
    /// entry.
    pub fn add(&mut self, path: &[u8], node: &Node, owners: (&[u8], &[u8]), content: &mut dyn Read) -> Result<bool> {
        match self {
            Writer::Tar(builder, linked) => add_to_tar(builder, linked, path, node, owners, content),
            Writer::Zip(writer) => add_to_zip(writer, path, node, content),
        }
    }

    /// Ends the archive.
    pub fn finish(self) -> Result<()> {
        match self {
            Writer::Tar(builder, _) => builder.into_inner()?.flush(),
            Writer::Zip(writer) => writer.finish()?.into_inner().flush(),
        }
    }
}

fn add_to_tar<W: Write>(
    builder: &mut Builder<W>,
    linked: &mut HashMap<(u64, u64), Vec<u8>>,
    path: &[u8],
    node: &Node,
    owners: (&[u8], &[u8]),
    content: &mut dyn Read,
) -> Result<bool> {
    let Some(mut kind) = entry_type(node.kind) else { return Ok(false) };
    let mut path = path.to_vec();
    let mut target = node.target.0.clone();
    if node.kind == NodeKind::Directory {
        path.push(b'/');
    } else if node.links.is_some_and(|links| links > 1) && node.kind == NodeKind::File {
        match linked.get(&(node.device, node.inode)) {
            Some(first) => {
                kind = EntryType::Link;
                target.clone_from(first);
            }
            None if linked.len() < MAX_LINKED => drop(linked.insert((node.device, node.inode), path.clone())),
            None => {}
        }
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
        if let Ok(name) = std::str::from_utf8(&xattr.name) {
            add(&format!("SCHILY.xattr.{name}"), &xattr.value);
        }
    }
    records
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

fn add_to_zip<W: Write>(
    writer: &mut ZipWriter<StreamWriter<W>>,
    path: &[u8],
    node: &Node,
    content: &mut dyn Read,
) -> Result<bool> {
    let name = String::from_utf8_lossy(path).into_owned();
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .unix_permissions(node.mode)
        .large_file(node.size >= ZIP64_BYTES)
        .last_modified_time(zip_time(node.mtime_ns));
    match node.kind {
        NodeKind::Directory => writer.add_directory(name, options)?,
        NodeKind::Symlink => writer.add_symlink(name, String::from_utf8_lossy(&node.target.0).into_owned(), options)?,
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
