//! Content out of a snapshot into a stream: one file as it is, a directory as an archive.
//!
//! An archive that is short of a file would look whole, so the first chunk that cannot be read ends the dump.

use super::super::walk::{Step, Walk, show};
use super::super::{Context, Error, Result};
use super::archive::Writer;
use super::content::{Content, repo_error};
use super::{components, normal, reader, resolve_with};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Node, NodeKind};
use crate::repo::blob_reader::BlobReader;
use std::io::Write;

/// What a directory is dumped as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Archive {
    /// Tar with pax headers.
    #[default]
    Tar,
    /// Zip.
    Zip,
}

/// What was dumped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dumped {
    /// Entries written; 1 for a single file.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Entries that the archive cannot hold: sockets, and in a zip also fifos and devices.
    pub left_out: u64,
}

/// Writes the file at `path`, or the directory at `path` as an archive whose names begin with the directory's own.
pub fn dump(
    context: &Context,
    snapshot: &Snapshot,
    path: &[u8],
    archive: Archive,
    out: &mut dyn Write,
) -> Result<Dumped> {
    let (_session, _) = context.read_session("dump")?;
    let mut trees = reader(context);
    let path = normal(path);
    let node = resolve_with(&mut trees, snapshot, &path)?;
    match node.kind {
        NodeKind::File => {
            let bytes = std::io::copy(&mut Content::of(&node, &mut trees), out).map_err(failed(&path))?;
            out.flush().map_err(failed(&path))?;
            Ok(Dumped { entries: 1, bytes, left_out: 0 })
        }
        NodeKind::Directory => {
            let writer = match archive {
                Archive::Tar => Writer::tar(out),
                Archive::Zip => Writer::zip(out),
            };
            dump_directory(context, &mut trees, &path, &node, writer)
        }
        _ => Err(Error::Usage(format!("{} is neither a file nor a directory: there is nothing to dump", show(&path)))),
    }
}

fn dump_directory(
    context: &Context,
    trees: &mut BlobReader,
    path: &[u8],
    node: &Node,
    mut writer: Writer<&mut dyn Write>,
) -> Result<Dumped> {
    let mut files = reader(context);
    let mut dumped = Dumped::default();
    let Some(tree) = node.tree else { return Ok(dumped) };
    // Names in the archive begin with the directory's own name, so that unpacking makes one entry.
    let above = path.len() - components(path).last().map_or(0, <[u8]>::len);
    let mut walk = Walk::begin(tree, path, trees)?;
    if above > 0 {
        let added = writer.add(&path[above..], node, (b"", b""), &mut std::io::empty());
        dumped.entries += u64::from(added.map_err(failed(path))?);
    }
    while let Some(step) = walk.next(trees)? {
        context.check_stop()?;
        let Step::Entry(node) = step else { continue };
        let path = walk.path();
        let owners = walk.owners(&node);
        let added = writer.add(&path[above.max(1)..], &node, owners, &mut Content::of(&node, &mut files));
        match added.map_err(failed(path))? {
            true => {
                dumped.entries += 1;
                dumped.bytes = dumped.bytes.saturating_add(node.size);
            }
            false => dumped.left_out += 1,
        }
        if let Some(tree) = node.tree {
            walk.enter(tree, trees)?;
        }
    }
    writer.finish().map_err(failed(path))?;
    Ok(dumped)
}

fn failed(path: &[u8]) -> impl Fn(std::io::Error) -> Error {
    let path = show(path);
    move |error| match repo_error(error) {
        Ok(error) => Error::Repo(error),
        Err(source) => Error::Io { what: format!("write {path} to the output"), source },
    }
}
