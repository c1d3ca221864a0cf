//! Reads of one pack of a remote store, several by one request, each decoded as soon as its bytes have come.

use super::decode::decode;
use super::plan::Run;
use super::{Message, Shared, give_back, is_damage, learn_keys, read_range};
use crate::base::Kind;
use crate::base::budget::Permit;
use crate::repo::pack_reader::pack_key;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

/// Reads `runs`, which lie one after the other in a pack. If the stream ends in damage, what did not come is read by itself.
pub(super) fn read<T: Send + 'static>(shared: &Arc<Shared<T>>, runs: Vec<Run<T>>, to_takers: &Sender<Message<T>>) {
    let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return };
    let (pack, offset, length) = (first.pack, first.offset, last.end() - first.offset);
    let mut cutting = Cutting::new(shared, runs.into_iter(), offset, to_takers);
    let store = shared.repository.store();
    match store.stream(&pack_key(pack), offset, length, &mut |bytes| cutting.take(bytes)) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotFound) => {
            cutting.left().for_each(|run| read_range(shared, run, to_takers));
        }
        Err(error) => shared.fail(error.into()),
    }
}

/// A stream of a pack's bytes on its way into reads.
pub(super) struct Cutting<'s, T, I> {
    shared: &'s Arc<Shared<T>>,
    to_takers: &'s Sender<Message<T>>,
    runs: I,
    /// The read whose bytes come.
    run: Option<Filling<T>>,
    offset: u64,
    /// What comes behind the last read is kept from here on.
    keep_from: u64,
    kept: Vec<u8>,
}

struct Filling<T> {
    run: Run<T>,
    bytes: Vec<u8>,
    permit: Permit,
}

impl<'s, T: Send + 'static, I: Iterator<Item = Run<T>>> Cutting<'s, T, I> {
    /// The stream begins at `offset` of the pack; reads that end before it are none.
    pub(super) fn new(
        shared: &'s Arc<Shared<T>>,
        runs: I,
        offset: u64,
        to_takers: &'s Sender<Message<T>>,
    ) -> Cutting<'s, T, I> {
        Cutting { shared, to_takers, runs, run: None, offset, keep_from: u64::MAX, kept: Vec::new() }
    }

    /// What lies behind the last read is kept, from `offset` on.
    pub(super) fn keeping_from(self, offset: u64) -> Cutting<'s, T, I> {
        Cutting { keep_from: offset, ..self }
    }

    /// Takes the next bytes of the stream; false when nobody wants more.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> bool {
        self.shared.stored_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        while !bytes.is_empty() {
            if self.shared.is_abandoned() {
                return false;
            }
            let Some(mut filling) = self.run.take().or_else(|| self.begin()) else {
                self.keep(bytes);
                return !self.shared.is_abandoned();
            };
            let gap = filling.run.offset.saturating_sub(self.offset).min(bytes.len() as u64) as usize;
            let wanted = filling.run.length - filling.bytes.len();
            let end = gap + wanted.min(bytes.len() - gap);
            filling.bytes.extend_from_slice(&bytes[gap..end]);
            self.offset += end as u64;
            bytes = &bytes[end..];
            match filling.bytes.len() == filling.run.length {
                true => self.hand_on(filling),
                false => self.run = Some(filling),
            }
        }
        true
    }

    /// What comes behind the last read.
    fn keep(&mut self, bytes: &[u8]) {
        let left_out = self.keep_from.saturating_sub(self.offset).min(bytes.len() as u64) as usize;
        self.kept.extend_from_slice(&bytes[left_out..]);
        self.offset += bytes.len() as u64;
    }

    /// The next read that can be opened. The keys of its blocks are brought here: opening them is pure work.
    fn begin(&mut self) -> Option<Filling<T>> {
        loop {
            let run = self.runs.next()?;
            match learn_keys(self.shared, &run) {
                Ok(()) => {
                    let permit = self.shared.budget.take(run.length + run.raw_bytes);
                    return Some(Filling { bytes: Vec::with_capacity(run.length), run, permit });
                }
                Err(error) if is_damage(&error) => give_back(run, &error, self.to_takers),
                Err(error) => {
                    self.shared.fail(error);
                    return None;
                }
            }
        }
    }

    fn hand_on(&self, filling: Filling<T>) {
        let Filling { run, bytes, permit } = filling;
        let (shared, to_takers, permit, offset) =
            (self.shared.clone(), self.to_takers.clone(), Arc::new(permit), run.offset);
        rayon::spawn(move || decode(&shared, run, offset, bytes, &permit, &to_takers));
    }

    /// What was kept.
    pub(super) fn take_kept(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept)
    }

    /// The reads that are not complete.
    pub(super) fn left(self) -> impl Iterator<Item = Run<T>> {
        self.run.map(|filling| filling.run).into_iter().chain(self.runs)
    }
}
