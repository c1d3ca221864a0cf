//! Records sorted and made unique, however many there are.
//!
//! Some of them lie in memory; when those are too many they are sorted and written to a temporary file that has no
//! name any more, and at the end all files are merged. Memory is bounded whatever the number of records.

use super::{Context, Error, Result};
use crate::base::{ids::to_hex, random};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Bytes of records in memory.
const MEMORY_BYTES: usize = 12 << 20;
/// So few bytes may stay in memory.
const LITTLE_BYTES: usize = 1 << 20;
/// How much of each file is read at once when they are merged.
const BUFFER_BYTES: usize = 64 << 10;
/// The most files that are merged at once; when there are more, they become one first.
const MAX_FILES: usize = 64;
/// Where temporary files go when there is no cache folder: on a disk, for `tmpfs` is memory.
const WITHOUT_CACHE: &str = "/var/tmp";

/// A set of records of `N` bytes in the making.
pub struct Spill<const N: usize> {
    folder: PathBuf,
    records: Vec<[u8; N]>,
    most: usize,
    files: Vec<File>,
}

impl<const N: usize> Spill<N> {
    /// An empty set.
    pub fn new(context: &Context) -> Spill<N> {
        let folder = context.cache_dir.clone().unwrap_or_else(|| PathBuf::from(WITHOUT_CACHE));
        Spill { folder, records: Vec::new(), most: MEMORY_BYTES / N, files: Vec::new() }
    }

    /// Adds a record.
    pub fn add(&mut self, record: &[u8; N]) -> Result<()> {
        self.records.push(*record);
        if self.records.len() < self.most {
            return Ok(());
        }
        self.sort();
        // Often the same comes again and again; then there is room now.
        if self.records.len() * 2 > self.most { self.write_out() } else { Ok(()) }
    }

    fn sort(&mut self) {
        self.records.sort_unstable();
        self.records.dedup();
    }

    fn write_out(&mut self) -> Result<()> {
        let records = std::mem::take(&mut self.records);
        let file = self.new_file(|file| records.iter().try_for_each(|record| file.write_all(record)))?;
        self.files.push(file);
        self.records = records;
        self.records.clear();
        if self.files.len() >= MAX_FILES { self.join_files() } else { Ok(()) }
    }

    fn join_files(&mut self) -> Result<()> {
        let files = std::mem::take(&mut self.files);
        let mut merge = Merge::<N>::new(files, Vec::new()).map_err(failed("read", &self.folder))?;
        let file = self.new_file(|file| {
            while let Some(record) = merge.next()? {
                file.write_all(&record)?;
            }
            Ok(())
        })?;
        self.files.push(file);
        Ok(())
    }

    fn new_file(&self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<File> {
        let path = self.folder.join(format!("keepstone-{}.sorting", to_hex(&random::bytes::<8>())));
        let make = || {
            let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            fs::remove_file(&path)?;
            let mut file = BufWriter::new(file);
            write(&mut file)?;
            let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.rewind()?;
            Ok(file)
        };
        make().map_err(failed("write", &path))
    }

    /// Puts what lies in memory on the disk, unless it is little: while records are handed out others need the room.
    pub fn settle(&mut self) -> Result<()> {
        if self.records.len() * N <= LITTLE_BYTES {
            return Ok(());
        }
        self.sort();
        self.write_out()?;
        self.records = Vec::new();
        Ok(())
    }

    /// Hands out all records in order, each once.
    pub fn finish(mut self, each: &mut dyn FnMut(&[u8; N]) -> Result<()>) -> Result<()> {
        self.sort();
        let mut merge = Merge::new(self.files, self.records).map_err(failed("read", &self.folder))?;
        while let Some(record) = merge.next().map_err(failed("read", &self.folder))? {
            each(&record)?;
        }
        Ok(())
    }
}

fn failed(verb: &'static str, path: &std::path::Path) -> impl Fn(io::Error) -> Error {
    let what = format!("{verb} temporary file {}", path.display());
    move |source| Error::Io { what: what.clone(), source }
}

/// Several sorted runs as one.
struct Merge<const N: usize> {
    files: Vec<BufReader<File>>,
    memory: std::vec::IntoIter<[u8; N]>,
    /// The next record of each run; the run in memory comes after the files.
    heads: BinaryHeap<Reverse<([u8; N], usize)>>,
    last: Option<[u8; N]>,
}

impl<const N: usize> Merge<N> {
    fn new(files: Vec<File>, memory: Vec<[u8; N]>) -> io::Result<Merge<N>> {
        let mut merge = Merge {
            files: files.into_iter().map(|file| BufReader::with_capacity(BUFFER_BYTES, file)).collect(),
            memory: memory.into_iter(),
            heads: BinaryHeap::new(),
            last: None,
        };
        for run in 0..=merge.files.len() {
            merge.pull(run)?;
        }
        Ok(merge)
    }

    fn pull(&mut self, run: usize) -> io::Result<()> {
        let next = match self.files.get_mut(run) {
            Some(file) => read_record(file)?,
            None => self.memory.next(),
        };
        self.heads.extend(next.map(|record| Reverse((record, run))));
        Ok(())
    }

    fn next(&mut self) -> io::Result<Option<[u8; N]>> {
        while let Some(Reverse((record, run))) = self.heads.pop() {
            self.pull(run)?;
            if self.last.replace(record) != Some(record) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

fn read_record<const N: usize>(file: &mut impl Read) -> io::Result<Option<[u8; N]>> {
    let mut record = [0; N];
    match file.read_exact(&mut record) {
        Ok(()) => Ok(Some(record)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn records_come_back_sorted_and_once_from_memory_and_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut spill: Spill<4> =
            Spill { folder: folder.path().to_owned(), records: Vec::new(), most: 10, files: Vec::new() };
        let mut expected = BTreeSet::new();
        let mut state = 1_u32;
        for _ in 0..5000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let record = (state >> 20).to_be_bytes();
            expected.insert(record);
            spill.add(&record).unwrap();
        }
        let mut came = Vec::new();
        let mut take = |record: &[u8; 4]| {
            came.push(*record);
            Ok(())
        };
        spill.finish(&mut take).unwrap();
        assert_eq!(came, expected.into_iter().collect::<Vec<_>>());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
