//! Texts that programs we start read like files, and that lie in no folder.
//!
//! What holds a password must not stay on a disk when somebody pulls the plug. Such a file is memory with a number; who is
//! killed leaves nothing. A child sees it only if it was given to it: see `Program::with_file`.

use rustix::fs::{MemfdFlags, Mode, fchmod, memfd_create};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

/// A text in memory, for as long as somebody holds it.
#[derive(Clone, Debug)]
pub struct MemoryFile(Arc<OwnedFd>);

impl MemoryFile {
    /// A file with this content.
    pub fn new(content: &[u8]) -> io::Result<MemoryFile> {
        let file = memfd_create("keepstone", MemfdFlags::CLOEXEC)?;
        // Such files begin with rights for all, which client programs distrust.
        fchmod(&file, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(file);
        file.write_all(content)?;
        Ok(MemoryFile(Arc::new(file.into())))
    }

    /// How a program that was given it names it. Each who opens it reads from the beginning.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

impl AsFd for MemoryFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Stop;
    use super::super::child::Program;
    use super::*;
    use std::io::Read;

    fn read(program: Program) -> String {
        let mut child = program.start(&Stop::new()).unwrap();
        let mut text = String::new();
        child.take_output().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn only_a_child_that_was_given_it_reads_it_and_as_often_as_it_likes() {
        let file = MemoryFile::new(b"secret").unwrap();
        let line = format!("cat {0} {0} 2>/dev/null; stat -L -c %a {0} 2>/dev/null", file.path().display());
        assert_eq!(read(Program::shell(&line).with_file(&file)), "secretsecret600\n");
        assert_eq!(read(Program::shell(&line)), "");
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "secret");
    }
}
