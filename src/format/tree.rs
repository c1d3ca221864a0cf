//! Directories and content lists as streams of pieces.
//!
//! A directory is a sequence of nodes sorted by name (byte order), cut only between nodes into pieces; each piece is
//! a blob of kind `tree`. One piece of level 0 is the whole of a small directory. When there are several, a piece of
//! level 1 lists them, each with the first name in it, and so on: a tree of pieces in which a name is found by
//! bisection and which never has to fit in memory. The id of the topmost piece is the id of the directory.
//!
//! A long list of chunks is cut the same way into blobs of kind `list`.

use super::Error;
use super::cbor::{Bytes, Cbor, Reader, Writer, numbered, record};
use super::pack::{MAX_FRAME_RAW_BYTES, expect_items, join_ids, split_ids};
use crate::base::BlobId;

/// Content up to this many bytes lies in its node.
pub const INLINE_BYTES: usize = 512;
/// The longest list of chunks that lies in its node.
pub const NODE_CHUNKS: usize = 256;
/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 4096;
/// The highest level of a piece.
pub const MAX_LEVEL: u32 = 8;
/// The most bytes of one encoded piece.
pub const MAX_PIECE_BYTES: usize = 4 << 20;

/// In place of a chunk's id: a hole, that many zero bytes which were never stored.
pub const HOLE: BlobId = BlobId([0; 32]);

numbered! {
    /// What a node is.
    NodeKind {
        /// A regular file.
        File = 0,
        /// A directory.
        Directory = 1,
        /// A symbolic link.
        Symlink = 2,
        /// A named pipe.
        Fifo = 3,
        /// A socket.
        Socket = 4,
        /// A character device.
        CharDevice = 5,
        /// A block device.
        BlockDevice = 6,
    }
}

/// An extended attribute: `[name, value]`. ACLs and capabilities are extended attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xattr {
    /// Its name with its name space.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

impl Cbor for Xattr {
    fn write(&self, writer: &mut Writer) {
        writer.array(2);
        writer.bytes(&self.name);
        writer.bytes(&self.value);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        expect_items(reader, &[2])?;
        Ok(Xattr { name: reader.bytes()?.to_vec(), value: reader.bytes()?.to_vec() })
    }
}

/// Ids one after another in one byte string; none is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids(pub Vec<BlobId>);

impl Cbor for Ids {
    fn write(&self, writer: &mut Writer) {
        writer.bytes(&join_ids(&self.0));
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        split_ids(reader).map(Ids)
    }
    fn absent() -> Option<Self> {
        Some(Ids::default())
    }
    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }
}

record! {
    /// One name in a directory. Of the content fields 16 to 19 at most one kind is there: inline bytes, chunks with
    /// their lengths (left out for a single chunk, which then is as long as `size`), or a list.
    Node {
        /// The name, raw bytes without `/`.
        1 => name: Bytes,
        /// What it is.
        2 => kind: NodeKind,
        /// Permission bits with set-id and sticky bits (12 bits).
        3 => mode: u32,
        /// Owner.
        4 => uid: u32,
        /// Group.
        5 => gid: u32,
        /// Time of last change of content, nanoseconds since 1970.
        6 => mtime_ns: i64,
        /// Time of last change of the inode, as a difference to `mtime_ns`, modulo 2^64.
        7 => ctime_after_ns: i64,
        /// Bytes of content that were read (for others than files: 0).
        8 => size: u64,
        /// Inode number.
        9 => inode: u64,
        /// Number of the device that holds it.
        10 => device: u64,
        /// Number of hard links; left out when 1.
        11 => links: Option<u64>,
        /// Where a symbolic link points.
        12 => target: Bytes,
        /// Number of the device that a device node stands for.
        13 => rdev: Option<u64>,
        /// Extended attributes, sorted by name.
        14 => xattrs: Vec<Xattr>,
        /// It changed while it was read: distrust it.
        15 => changed: bool,
        /// Content that lies here.
        16 => inline: Bytes,
        /// Chunks of the content, in order.
        17 => chunks: Ids,
        /// Their lengths in bytes.
        18 => lengths: Vec<u64>,
        /// The topmost piece of the list of chunks.
        19 => list: Option<BlobId>,
        /// The directory's tree.
        20 => tree: Option<BlobId>,
    } checked by Node::check
}

record! {
    /// A piece of level 1 or more knows its children like this.
    Child {
        /// The first name beneath.
        1 => first: Bytes,
        /// The piece.
        2 => piece: BlobId,
    } checked by Child::check
}

record! {
    /// A numeric id and the name it had.
    Owner {
        /// uid or gid.
        1 => id: u32,
        /// The name.
        2 => name: Bytes,
    }
}

record! {
    /// A piece of a directory.
    TreePiece {
        /// 0: nodes; more: pieces of one level less.
        1 => level: u32,
        /// The nodes, sorted by name.
        2 => nodes: Vec<Node>,
        /// The pieces beneath, in order.
        3 => children: Vec<Child>,
        /// Names of the users that own nodes of this piece, sorted by id.
        4 => users: Vec<Owner>,
        /// Names of the groups, sorted by id.
        5 => groups: Vec<Owner>,
    } checked by TreePiece::check
}

record! {
    /// A piece of a list of chunks.
    ListPiece {
        /// 0: chunks; more: pieces of one level less.
        1 => level: u32,
        /// The chunks or pieces, in order.
        2 => ids: Ids,
        /// How many bytes of content each holds.
        3 => lengths: Vec<u64>,
    } checked by ListPiece::check
}

impl TreePiece {
    /// Reads a piece and checks what every reader relies on: nodes or children but not both, in strictly ascending
    /// order, names fit for a directory.
    pub fn decode(bytes: &[u8]) -> Result<TreePiece, Error> {
        bounded_piece(bytes, "tree")?;
        TreePiece::from_cbor(bytes, "tree")
    }

    fn check(&self) -> Result<(), String> {
        // A piece of level 0 without nodes is an empty directory; a higher piece has something beneath.
        let fits = match self.level {
            0 => self.children.is_empty(),
            1..=MAX_LEVEL => self.nodes.is_empty() && !self.children.is_empty(),
            _ => false,
        };
        if !fits {
            return Err(format!("level {} does not fit what it holds", self.level));
        }
        let ascending =
            self.nodes.is_sorted_by(|a, b| a.name < b.name) && self.children.is_sorted_by(|a, b| a.first < b.first);
        if ascending { Ok(()) } else { Err("names are not in order".to_owned()) }
    }
}

impl Child {
    fn check(&self) -> Result<(), String> {
        if is_name(&self.first.0) && self.piece != HOLE {
            return Ok(());
        }
        Err(format!("no piece can begin with {}", shown(&self.first)))
    }
}

/// A name in a message: quoted, escaped and cut to a length that a terminal can bear.
fn shown(name: &Bytes) -> String {
    const SHOWN_BYTES: usize = 255;
    let beginning = &name.0[..name.0.len().min(SHOWN_BYTES)];
    format!("{:?}", String::from_utf8_lossy(beginning))
}

fn bounded_piece(bytes: &[u8], what: &'static str) -> Result<(), Error> {
    if bytes.len() <= MAX_PIECE_BYTES {
        return Ok(());
    }
    Err(Error::Malformed { what, position: 0, reason: format!("a piece of {} bytes", bytes.len()) })
}

/// Whether something that `id` names can hold `length` bytes of content: a chunk fits in a frame, a hole has no
/// limit, nothing is empty.
fn is_chunk(id: BlobId, length: u64) -> bool {
    length > 0 && (id == HOLE || length <= MAX_FRAME_RAW_BYTES as u64)
}

/// The sum, if it is not beyond any file.
fn total(lengths: &[u64]) -> Option<u64> {
    lengths.iter().try_fold(0u64, |sum, length| sum.checked_add(*length))
}

impl Node {
    /// Whether its name can be a name in a directory and its fields agree.
    pub fn check(&self) -> Result<(), String> {
        if !is_name(&self.name.0) {
            return Err(format!("{} cannot be a name", shown(&self.name)));
        }
        if self.mode > 0o7777 {
            return Err(format!("{} has mode {:o}", shown(&self.name), self.mode));
        }
        let is_device = matches!(self.kind, NodeKind::CharDevice | NodeKind::BlockDevice);
        let fits = (self.kind == NodeKind::Directory) == self.tree.is_some()
            && (self.kind == NodeKind::Symlink) != self.target.0.is_empty()
            && (is_device || self.rdev.is_none())
            && self.tree != Some(HOLE);
        if !fits {
            return Err(format!("{} is not what it says it is", shown(&self.name)));
        }
        if !self.content_fits() {
            return Err(format!("the content of {} contradicts itself", shown(&self.name)));
        }
        Ok(())
    }

    fn content_fits(&self) -> bool {
        let (inline, chunks) = (self.inline.0.len(), self.chunks.0.len());
        let kinds = usize::from(inline > 0) + usize::from(chunks > 0) + usize::from(self.list.is_some());
        if self.kind != NodeKind::File || kinds != 1 {
            return kinds == 0 && self.size == 0 && self.lengths.is_empty();
        }
        // The length of a single chunk is not written: it is the size.
        let lengths_written = if chunks == 1 { 0 } else { chunks };
        if self.lengths.len() != lengths_written || !self.chunks().all(|(id, length)| is_chunk(id, length)) {
            return false;
        }
        if chunks > 1 {
            return chunks <= NODE_CHUNKS && total(&self.lengths) == Some(self.size);
        }
        chunks == 1
            || self.list.is_some_and(|list| list != HOLE)
            || (inline <= INLINE_BYTES && inline as u64 == self.size)
    }

    /// Time of last change of the inode, nanoseconds since 1970.
    pub fn ctime_ns(&self) -> i64 {
        self.mtime_ns.wrapping_add(self.ctime_after_ns)
    }

    /// What stands for `ctime_ns` in a node whose content changed at `mtime_ns`: the difference, modulo 2^64, so
    /// that no pair of times is without one.
    pub fn ctime_after(mtime_ns: i64, ctime_ns: i64) -> i64 {
        ctime_ns.wrapping_sub(mtime_ns)
    }

    /// The chunks that lie in the node, with their lengths.
    pub fn chunks(&self) -> impl Iterator<Item = (BlobId, u64)> + '_ {
        let alone = (self.lengths.is_empty()).then_some(self.size);
        self.chunks.0.iter().enumerate().map(move |(place, id)| (*id, alone.unwrap_or_else(|| self.lengths[place])))
    }
}

/// Whether `name` may stand in a directory.
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

impl ListPiece {
    /// Reads a piece and checks that every id has a length that it can have.
    pub fn decode(bytes: &[u8]) -> Result<ListPiece, Error> {
        bounded_piece(bytes, "content list")?;
        ListPiece::from_cbor(bytes, "content list")
    }

    fn check(&self) -> Result<(), String> {
        let ids = &self.ids.0;
        if self.level > MAX_LEVEL || ids.is_empty() || ids.len() != self.lengths.len() || total(&self.lengths).is_none()
        {
            return Err("ids and lengths do not fit each other".to_owned());
        }
        let fits = |(id, length): (&BlobId, &u64)| match self.level {
            0 => is_chunk(*id, *length),
            _ => *id != HOLE && *length > 0,
        };
        if ids.iter().zip(&self.lengths).all(fits) { Ok(()) } else { Err("a length that no chunk can have".to_owned()) }
    }
}
