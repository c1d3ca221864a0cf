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
/// The most items of one piece: nodes, children, owners, or lengths of a list. Small nodes take a few bytes in a piece
/// and hundreds in memory.
pub const MAX_PIECE_ITEMS: usize = 32_768;

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
        decode_piece(bytes, "tree")
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

fn decode_piece<T: Cbor>(bytes: &[u8], what: &'static str) -> Result<T, Error> {
    if bytes.len() > MAX_PIECE_BYTES {
        return Err(Error::Malformed { what, position: 0, reason: format!("a piece of {} bytes", bytes.len()) });
    }
    let mut reader = Reader::new(bytes, what).with_at_most(MAX_PIECE_ITEMS);
    let piece = T::read(&mut reader)?;
    reader.end()?;
    Ok(piece)
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
        decode_piece(bytes, "content list")
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::format::cbor::Unknown;

    fn node(name: &[u8], kind: NodeKind) -> Node {
        let mut unknown = Unknown::none();
        unknown.keep(30, &[0x01]);
        Node {
            name: Bytes(name.to_vec()),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime_ns: 5,
            ctime_after_ns: 0,
            size: 0,
            inode: 1,
            device: 1,
            links: None,
            target: Bytes::default(),
            rdev: None,
            xattrs: Vec::new(),
            changed: false,
            inline: Bytes::default(),
            chunks: Ids::default(),
            lengths: Vec::new(),
            list: None,
            tree: None,
            unknown,
        }
    }

    fn file(size: u64) -> Node {
        Node { size, ..node(b"name", NodeKind::File) }
    }

    fn ids(count: u8) -> Ids {
        Ids((1..=count).map(|byte| BlobId([byte; 32])).collect())
    }

    fn piece(level: u32, nodes: Vec<Node>, children: Vec<Child>) -> TreePiece {
        TreePiece { level, nodes, children, users: Vec::new(), groups: Vec::new(), unknown: Unknown::none() }
    }

    fn child(first: &[u8]) -> Child {
        Child { first: Bytes(first.to_vec()), piece: BlobId([7; 32]), unknown: Unknown::none() }
    }

    #[test]
    fn a_piece_has_at_most_so_many_items_whatever_they_are() {
        let name = |number: usize| Bytes(format!("{number:05}").into_bytes());
        let nodes = |count: usize| {
            (0..count).map(|number| Node { name: name(number), unknown: Unknown::none(), ..file(0) }).collect()
        };
        for (count, fits) in [(MAX_PIECE_ITEMS, true), (MAX_PIECE_ITEMS + 1, false)] {
            let encoded = piece(0, nodes(count), Vec::new()).to_cbor();
            assert!(encoded.len() <= MAX_PIECE_BYTES);
            assert_eq!(TreePiece::decode(&encoded).is_ok(), fits, "{count} nodes");
            let owners =
                (0..count).map(|id| Owner { id: id as u32, name: name(id), unknown: Unknown::none() }).collect();
            let owned = TreePiece { users: owners, ..piece(0, nodes(1), Vec::new()) };
            assert_eq!(TreePiece::decode(&owned.to_cbor()).is_ok(), fits, "{count} owners");
        }
    }

    /// Whether a node is read, and if so comes back the same.
    fn read(node: Node) -> bool {
        let read = Node::from_cbor(&node.to_cbor(), "node");
        assert!(read.as_ref().map_or(true, |read| *read == node));
        read.is_ok()
    }

    #[test]
    fn content_lies_in_one_place_and_has_the_length_of_its_node() {
        let big = MAX_FRAME_RAW_BYTES as u64;
        assert!(read(file(0)));
        assert!(!read(file(1)), "content that is nowhere");
        let inline = |bytes: usize, size| read(Node { inline: Bytes(vec![1; bytes]), ..file(size) });
        assert!(inline(INLINE_BYTES, INLINE_BYTES as u64));
        assert!(!inline(5, 6));
        assert!(!inline(INLINE_BYTES + 1, INLINE_BYTES as u64 + 1));
        let alone = |size| Node { chunks: ids(1), ..file(size) };
        assert!(read(alone(big)) && !read(alone(big + 1)) && !read(alone(0)));
        assert!(!read(Node { lengths: vec![9], ..alone(9) }), "a length that is the size");
        let two = |lengths: &[u64], size| read(Node { chunks: ids(2), lengths: lengths.to_vec(), ..file(size) });
        assert!(two(&[4, 5], 9));
        assert!(!two(&[4, 5], 10) && !two(&[9], 9) && !two(&[], 9) && !two(&[0, 9], 9));
        assert!(!two(&[u64::MAX, 1], 0), "overflow");
        let hole = Ids(vec![BlobId([1; 32]), HOLE]);
        assert!(read(Node { chunks: hole, lengths: vec![1, 1 << 50], ..file((1 << 50) + 1) }));
        let list = Node { list: Some(BlobId([1; 32])), ..file(1 << 60) };
        assert!(read(list.clone()));
        assert!(!read(Node { list: Some(HOLE), ..list.clone() }));
        assert!(!read(Node { inline: Bytes(vec![1]), ..list.clone() }));
        assert!(!read(Node { lengths: vec![1], ..list }));
    }

    #[test]
    fn a_node_holds_so_many_chunks_and_no_more() {
        let with = |count: usize| {
            let chunks = Ids(vec![BlobId([1; 32]); count]);
            read(Node { chunks, lengths: vec![2; count], ..file(2 * count as u64) })
        };
        assert!(with(NODE_CHUNKS) && !with(NODE_CHUNKS + 1));
    }

    #[test]
    fn chunks_of_a_node_come_with_their_lengths() {
        let alone = Node { chunks: ids(1), ..file(70_000) };
        assert_eq!(alone.chunks().collect::<Vec<_>>(), [(BlobId([1; 32]), 70_000)]);
        let two = Node { chunks: ids(2), lengths: vec![4, 5], ..file(9) };
        assert_eq!(two.chunks().collect::<Vec<_>>(), [(BlobId([1; 32]), 4), (BlobId([2; 32]), 5)]);
    }

    #[test]
    fn a_node_is_what_it_says_it_is() {
        let directory = Node { tree: Some(BlobId([1; 32])), ..node(b"d", NodeKind::Directory) };
        assert!(read(directory.clone()));
        assert!(!read(Node { tree: None, ..directory.clone() }));
        assert!(!read(Node { tree: Some(HOLE), ..directory.clone() }));
        assert!(!read(Node { kind: NodeKind::File, ..directory.clone() }));
        assert!(!read(Node { size: 4096, ..directory }));
        let link = Node { target: Bytes(b"there".to_vec()), ..node(b"l", NodeKind::Symlink) };
        assert!(read(link.clone()));
        assert!(!read(Node { target: Bytes::default(), ..link.clone() }));
        assert!(!read(Node { kind: NodeKind::Fifo, ..link }));
        let device = Node { rdev: Some(1), ..node(b"n", NodeKind::CharDevice) };
        assert!(read(device.clone()));
        assert!(!read(Node { kind: NodeKind::Socket, ..device }));
        assert!(!read(Node { mode: 0o10_000, ..file(0) }));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b", &[b'x'; MAX_NAME_BYTES + 1]] {
            assert!(!is_name(name) && !read(Node { name: Bytes(name.to_vec()), ..file(0) }));
        }
        for name in [&b"..."[..], b"..a", b"\xff\n", &[b'x'; MAX_NAME_BYTES]] {
            assert!(is_name(name) && read(Node { name: Bytes(name.to_vec()), ..file(0) }));
        }
    }

    #[test]
    fn a_piece_has_nodes_or_children_in_order() {
        let accepted = |piece: TreePiece| {
            let read = TreePiece::decode(&piece.to_cbor());
            assert!(read.as_ref().map_or(true, |read| *read == piece));
            read.is_ok()
        };
        let named = |name: &[u8]| node(name, NodeKind::File);
        assert!(accepted(piece(0, vec![], vec![])), "an empty directory");
        assert!(accepted(piece(0, vec![named(b"a"), named(b"b")], vec![])));
        assert!(!accepted(piece(0, vec![named(b"b"), named(b"a")], vec![])));
        assert!(!accepted(piece(0, vec![named(b"a"), named(b"a")], vec![])), "a name twice");
        assert!(!accepted(piece(0, vec![], vec![child(b"a")])));
        assert!(!accepted(piece(0, vec![named(b"a")], vec![child(b"a")])));
        assert!(accepted(piece(1, vec![], vec![child(b"a"), child(b"b")])));
        assert!(accepted(piece(MAX_LEVEL, vec![], vec![child(b"a")])));
        assert!(!accepted(piece(MAX_LEVEL + 1, vec![], vec![child(b"a")])));
        assert!(!accepted(piece(1, vec![], vec![])));
        assert!(!accepted(piece(1, vec![named(b"a")], vec![])));
        assert!(!accepted(piece(1, vec![], vec![child(b"b"), child(b"a")])));
        assert!(!accepted(piece(1, vec![], vec![child(b"..")])));
        assert!(!accepted(piece(1, vec![], vec![Child { piece: HOLE, ..child(b"a") }])));
    }

    #[test]
    fn a_piece_beyond_its_limit_is_refused_before_it_is_read() {
        let long = vec![0; MAX_PIECE_BYTES + 1];
        assert!(TreePiece::decode(&long).unwrap_err().to_string().contains("a piece of"));
        assert!(ListPiece::decode(&long).unwrap_err().to_string().contains("a piece of"));
    }

    #[test]
    fn every_id_of_a_list_has_a_length_that_it_can_have() {
        let accepted = |level, ids: Ids, lengths: &[u64]| {
            let piece = ListPiece { level, ids, lengths: lengths.to_vec(), unknown: Unknown::none() };
            let read = ListPiece::decode(&piece.to_cbor());
            assert!(read.as_ref().map_or(true, |read| *read == piece));
            read.is_ok()
        };
        let big = MAX_FRAME_RAW_BYTES as u64;
        assert!(accepted(0, ids(2), &[1, big]));
        assert!(!accepted(0, ids(2), &[1, big + 1]));
        assert!(!accepted(0, ids(2), &[1, 0]) && !accepted(0, ids(2), &[1]) && !accepted(0, ids(0), &[]));
        assert!(accepted(0, Ids(vec![HOLE]), &[1 << 60]));
        assert!(accepted(MAX_LEVEL, ids(2), &[1 << 60, 1 << 60]));
        assert!(!accepted(MAX_LEVEL + 1, ids(1), &[1]));
        assert!(!accepted(1, Ids(vec![HOLE]), &[1]));
        assert!(!accepted(1, ids(2), &[u64::MAX, 1]), "overflow");
    }

    #[test]
    fn every_pair_of_times_has_a_distance() {
        for (mtime, ctime) in [(0, 5), (5, 0), (i64::MIN, i64::MAX), (i64::MAX, i64::MIN)] {
            let node = Node { mtime_ns: mtime, ctime_after_ns: Node::ctime_after(mtime, ctime), ..file(0) };
            assert_eq!(node.ctime_ns(), ctime);
        }
    }
}
