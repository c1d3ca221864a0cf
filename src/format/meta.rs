//! What is known of a file besides its name and content.
//!
//! Plain values as POSIX has them. `source` fills them in, `target` applies them, and the tree encoder stores them.

use crate::base::Stat;

/// What kind of thing a directory entry is. The numbers are those of the format and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum EntryKind {
    /// A regular file.
    File = 0,
    /// A directory.
    Directory = 1,
    /// A symbolic link.
    Symlink = 2,
    /// A named pipe.
    Fifo = 3,
    /// A socket's place in the file system.
    Socket = 4,
    /// A character device.
    CharDevice = 5,
    /// A block device.
    BlockDevice = 6,
}

impl EntryKind {
    /// The kind with a number, or `None` for a number nobody has given out yet.
    pub fn from_number(number: u8) -> Option<EntryKind> {
        Some(match number {
            0 => EntryKind::File,
            1 => EntryKind::Directory,
            2 => EntryKind::Symlink,
            3 => EntryKind::Fifo,
            4 => EntryKind::Socket,
            5 => EntryKind::CharDevice,
            6 => EntryKind::BlockDevice,
            _ => return None,
        })
    }

    /// The kind in the file type bits of a mode (POSIX `S_IFMT`; the values are the same on every Linux), or `None`
    /// for a type that POSIX does not know.
    pub fn of_mode(raw_mode: u32) -> Option<EntryKind> {
        Some(match raw_mode & 0o170_000 {
            0o100_000 => EntryKind::File,
            0o040_000 => EntryKind::Directory,
            0o120_000 => EntryKind::Symlink,
            0o010_000 => EntryKind::Fifo,
            0o140_000 => EntryKind::Socket,
            0o020_000 => EntryKind::CharDevice,
            0o060_000 => EntryKind::BlockDevice,
            _ => return None,
        })
    }

    /// What a person calls it.
    pub fn name(self) -> &'static str {
        match self {
            EntryKind::File => "file",
            EntryKind::Directory => "directory",
            EntryKind::Symlink => "symlink",
            EntryKind::Fifo => "fifo",
            EntryKind::Socket => "socket",
            EntryKind::CharDevice => "character device",
            EntryKind::BlockDevice => "block device",
        }
    }
}

/// Extended attributes: names, each with its value.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What is known of a file besides its name and content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// What kind of thing it is.
    pub kind: EntryKind,
    /// The twelve permission bits, with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Number of the owning user.
    pub uid: u32,
    /// Number of the owning group.
    pub gid: u32,
    /// Last change of the content, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of the inode, in nanoseconds since 1970.
    pub ctime_ns: i64,
    /// Size in bytes.
    pub size: u64,
    /// Inode number, unique on its device.
    pub inode: u64,
    /// Number of the device it lies on.
    pub device: u64,
    /// Number of names it has (hard links).
    pub links: u64,
    /// For device files: the number of the device they stand for.
    pub rdev: u64,
    /// For symlinks: where they point to, byte for byte.
    pub symlink_target: Vec<u8>,
    /// Extended attributes, names with values, sorted by name; ACLs and capabilities are among them.
    pub xattrs: Xattrs,
}

impl Meta {
    /// What a `stat` call says; symlink target and extended attributes stay empty. `None` for a file type that
    /// POSIX does not know.
    pub fn of_stat(stat: &Stat) -> Option<Meta> {
        Some(Meta {
            kind: EntryKind::of_mode(stat.raw_mode)?,
            mode: stat.raw_mode & 0o7777,
            uid: stat.uid,
            gid: stat.gid,
            mtime_ns: stat.mtime_ns,
            ctime_ns: stat.ctime_ns,
            size: stat.size,
            inode: stat.inode,
            device: stat.device,
            links: stat.links,
            rdev: stat.rdev,
            symlink_target: Vec::new(),
            xattrs: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_number_it_always_had() {
        for number in 0..=6 {
            let kind = EntryKind::from_number(number).expect("numbers 0 to 6 are given out");
            assert_eq!(kind as u8, number);
        }
        assert_eq!(EntryKind::from_number(7), None);
    }
}
