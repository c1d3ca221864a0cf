//! Content out of a snapshot into a stream: one file as it is, a directory as an archive.
//!
//! An archive that is short of a file would look whole, so the first chunk that cannot be read ends the dump.

use super::super::walk::{Step, Walk, show};
use super::super::{Context, Error, Result};
use super::ahead::{Feeder, Stream, ahead, repo_error};
use super::archive::{Entry, Writer};
use super::{components, normal, reader, resolve_with};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Node, NodeKind};
use crate::repo::blob_reader::BlobReader;
use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

/// The most files with several names that are remembered; further ones are written as files of their own.
const MAX_LINKED: usize = 100_000;

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
    /// Entries whose names are not UTF-8 and stand in a zip with `\xNN` for each byte that is no text.
    pub renamed: u64,
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
        NodeKind::File => dump_file(context, &mut trees, &path, &node, out),
        NodeKind::Directory => {
            let writer = match archive {
                Archive::Tar => Writer::tar(out),
                Archive::Zip => Writer::zip(out),
            };
            dump_directory(context, &path, node, archive, writer)
        }
        _ => Err(Error::Usage(format!("{} is neither a file nor a directory: there is nothing to dump", show(&path)))),
    }
}

fn dump_file(
    context: &Context,
    lists: &mut BlobReader,
    path: &[u8],
    node: &Node,
    out: &mut dyn Write,
) -> Result<Dumped> {
    let feed = |feeder: &mut Feeder<()>| feeder.content(context, node, lists);
    ahead(context, feed, |stream| {
        let bytes = std::io::copy(stream, out).map_err(failed(path))?;
        out.flush().map_err(failed(path))?;
        Ok(Dumped { entries: 1, bytes, ..Dumped::default() })
    })
}

fn dump_directory(
    context: &Context,
    path: &[u8],
    node: Node,
    archive: Archive,
    writer: Writer<&mut dyn Write>,
) -> Result<Dumped> {
    let feed = |feeder: &mut Feeder<Entry>| Feeding::new(context, archive, feeder).directory(path, node);
    ahead(context, feed, |stream| write(writer, path, stream))
}

fn write(mut writer: Writer<&mut dyn Write>, path: &[u8], stream: &mut Stream<Entry>) -> Result<Dumped> {
    let mut dumped = Dumped::default();
    while let Some(entry) = stream.entry()? {
        match writer.add(&entry, stream).map_err(failed(&entry.path))? {
            true => {
                dumped.entries += 1;
                dumped.renamed += u64::from(writer.renames(&entry.path));
                dumped.bytes = dumped.bytes.saturating_add(entry.node.size);
            }
            false => dumped.left_out += 1,
        }
    }
    writer.finish().map_err(failed(path))?;
    Ok(dumped)
}

/// Walks a directory and says what comes into its archive.
struct Feeding<'f> {
    context: &'f Context,
    feeder: &'f mut Feeder<Entry>,
    lists: BlobReader,
    /// Where each file with several names was written first; none in an archive that knows no further names.
    linked: Option<HashMap<(u64, u64), Vec<u8>>>,
}

impl<'f> Feeding<'f> {
    fn new(context: &'f Context, archive: Archive, feeder: &'f mut Feeder<Entry>) -> Feeding<'f> {
        let linked = (archive == Archive::Tar).then(HashMap::new);
        Feeding { context, feeder, lists: reader(context), linked }
    }

    fn directory(mut self, path: &[u8], node: Node) -> Result<()> {
        let mut trees = reader(self.context).walking();
        let Some(tree) = node.tree else { return Ok(()) };
        // Names in the archive begin with the directory's own name, so that unpacking makes one entry.
        let above = path.len() - components(path).last().map_or(0, <[u8]>::len);
        let mut walk = Walk::begin(tree, path, &mut trees)?;
        if above > 0 {
            self.entry(&path[above..], Box::new(node), (b"", b""))?;
        }
        while let Some(step) = walk.next(&mut trees)? {
            self.context.check_stop()?;
            let Step::Entry(node) = step else { continue };
            let tree = node.tree;
            let owners = walk.owners(&node);
            self.entry(&walk.path()[above.max(1)..], node, owners)?;
            if let Some(tree) = tree {
                walk.enter(tree, &mut trees)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &[u8], node: Box<Node>, (user, group): (&[u8], &[u8])) -> Result<()> {
        let first = self.first_name(path, &node);
        let has_content = node.kind == NodeKind::File && first.is_none();
        let node: Arc<Node> = Arc::from(node);
        let (path, user, group) = (path.to_vec(), user.to_vec(), group.to_vec());
        self.feeder.entry(Entry { path, node: node.clone(), user, group, first })?;
        if has_content { self.feeder.content(self.context, &node, &mut self.lists) } else { Ok(()) }
    }

    /// The name under which this file was written already.
    fn first_name(&mut self, path: &[u8], node: &Node) -> Option<Vec<u8>> {
        let linked = self.linked.as_mut()?;
        let is_alone = node.links.is_none_or(|links| links < 2);
        if is_alone || matches!(node.kind, NodeKind::Directory | NodeKind::Socket) {
            return None;
        }
        let file = (node.device, node.inode);
        let first = linked.get(&file).cloned();
        if first.is_none() && linked.len() < MAX_LINKED {
            linked.insert(file, path.to_vec());
        }
        first
    }
}

fn failed(path: &[u8]) -> impl Fn(std::io::Error) -> Error {
    let path = show(path);
    move |error| match repo_error(error) {
        Ok(error) => Error::Repo(error),
        Err(source) => Error::Io { what: format!("write {path} to the output"), source },
    }
}
