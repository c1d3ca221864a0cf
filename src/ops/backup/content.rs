//! The content of one file in the making, chunk by chunk, beside that of its namesake in the parent.

use super::build::Sink;
use super::read::Named;
use crate::format::tree::{HOLE, Node, NodeKind};
use crate::repo::blob_reader::BlobReader;
use crate::repo::blob_writer::{Hint, Near, Next};
use crate::repo::trees::{Chunks, Content, ListBuilder};
use std::collections::VecDeque;

use super::super::Result;

/// How many of the parent's chunks before and after the present place are near.
const NEAR: usize = 16;
/// How far back and ahead is looked to find the place again when it was lost.
const FAR_BEHIND: usize = 512;
const FAR_AHEAD: usize = 1024;

/// The content of a file in the making, beside that of the parent's.
pub struct FileContent {
    list: ListBuilder,
    beside: Beside,
    first: bool,
}

impl FileContent {
    /// Nothing yet. `before` is what the file was in the parent.
    pub fn begin(before: Option<&Node>) -> FileContent {
        FileContent { list: ListBuilder::new(), beside: Beside::of(before), first: true }
    }

    /// The same for a stream whose node stays in memory: a list of more than `node_chunks` chunks lies outside of it.
    pub fn begin_small(before: Option<&Node>, node_chunks: usize) -> FileContent {
        FileContent { list: ListBuilder::with_node_chunks(node_chunks), ..FileContent::begin(before) }
    }

    /// The next chunk; says whether it was new.
    pub fn chunk(&mut self, data: &[u8], named: Named, sink: &mut Sink, reader: &mut BlobReader) -> Result<bool> {
        self.beside.fill(reader, NEAR);
        let (window, at) = self.beside.window();
        let hint = Hint { window, at, first: std::mem::take(&mut self.first) };
        let put = sink.put_chunk(named.id, data, named.marks, hint)?;
        self.beside.advance(put.next, reader);
        self.list.add(named.id, data.len() as u64, sink)?;
        Ok(put.new)
    }

    /// So many zero bytes that are not stored.
    pub fn hole(&mut self, bytes: u64, sink: &mut Sink) -> Result<()> {
        Ok(self.list.add(HOLE, bytes, sink)?)
    }

    /// Stores what is left and puts the content into `node`.
    pub fn finish(self, node: &mut Node, sink: &mut Sink) -> Result<()> {
        match self.list.finish(sink)? {
            Content::List(list) => node.list = Some(list),
            Content::Chunks(chunks) => {
                if chunks.len() > 1 {
                    node.lengths = chunks.iter().map(|(_, length)| *length).collect();
                }
                node.chunks.0 = chunks.into_iter().map(|(id, _)| id).collect();
            }
        }
        Ok(())
    }
}

/// The parent's chunks about the present place.
struct Beside {
    chunks: Option<Chunks>,
    window: VecDeque<Near>,
    at: usize,
}

impl Beside {
    fn of(before: Option<&Node>) -> Beside {
        let chunks = before.filter(|before| before.kind == NodeKind::File).map(Chunks::of);
        Beside { chunks, window: VecDeque::new(), at: 0 }
    }

    /// Reads on until there are so many chunks from the present place on.
    fn fill(&mut self, reader: &mut BlobReader, ahead: usize) {
        while let Some(chunks) = self.chunks.as_mut().filter(|_| self.window.len() < self.at + ahead) {
            match chunks.next(reader) {
                Ok(Some((HOLE, _))) => {}
                Ok(Some((id, _))) => {
                    let marks = reader.marks(&id).unwrap_or_default();
                    self.window.push_back(Near { id, marks });
                }
                // A parent that cannot be read is no help, and no harm.
                Ok(None) | Err(_) => self.chunks = None,
            }
        }
    }

    /// The chunks that are near, and the present place among them.
    fn window(&mut self) -> (&[Near], usize) {
        let from = self.at.saturating_sub(NEAR);
        let to = (self.at + NEAR).min(self.window.len());
        (&self.window.make_contiguous()[from..to], self.at - from)
    }

    /// Finds the place of the next chunk. If nobody knows it, one chunk has probably taken the place of one.
    fn advance(&mut self, next: Next, reader: &mut BlobReader) {
        let find = |window: &VecDeque<Near>, id| window.iter().position(|near| near.id == id);
        let near = |place: &usize| place.abs_diff(self.at) <= NEAR;
        let at = match next {
            Next::Behind(id) => {
                if find(&self.window, id).is_none() {
                    self.fill(reader, FAR_AHEAD);
                }
                find(&self.window, id).map(|place| place + 1)
            }
            Next::Probably(id) => find(&self.window, id).filter(near).map(|place| place + 1),
            Next::Within(id) => find(&self.window, id).filter(near),
            Next::Unknown => None,
        };
        self.at = at.unwrap_or(self.at + 1).min(self.window.len());
        let passed = self.at.saturating_sub(FAR_BEHIND);
        self.window.drain(..passed);
        self.at -= passed;
    }
}
