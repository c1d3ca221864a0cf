//! What is known of a file besides its name and content.
//!
//! Plain values as POSIX has them. `source` fills them in, `target` applies them, and the tree encoder stores them.

use rustix::fs::{FileType, Stat};

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

    /// The kind in the file type bits of a mode, or `None` for a type that POSIX does not know.
    pub fn of_mode(raw_mode: u32) -> Option<EntryKind> {
        Some(match FileType::from_raw_mode(raw_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink,
            FileType::Fifo => EntryKind::Fifo,
            FileType::Socket => EntryKind::Socket,
            FileType::CharacterDevice => EntryKind::CharDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
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
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Meta {
    /// What a `stat` call says; symlink target and extended attributes stay empty. `None` for a file type that
    /// POSIX does not know.
    // The widths of the fields differ between architectures; on some of them a conversion does nothing.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    pub fn of_stat(stat: &Stat) -> Option<Meta> {
        let raw_mode = stat.st_mode as u32;
        Some(Meta {
            kind: EntryKind::of_mode(raw_mode)?,
            mode: raw_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime_ns: nanoseconds(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime_ns: nanoseconds(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            inode: u64::from(stat.st_ino),
            device: u64::from(stat.st_dev),
            links: u64::from(stat.st_nlink),
            rdev: u64::from(stat.st_rdev),
            symlink_target: Vec::new(),
            xattrs: Vec::new(),
        })
    }
}

/// Times outside of the years 1677 to 2262 are moved to the nearest one that fits.
fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
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

    #[test]
    fn times_before_1970_and_out_of_range_do_not_wrap() {
        assert_eq!(nanoseconds(-1, 999_999_999), -1);
        assert_eq!(nanoseconds(i64::MAX, 5), i64::MAX);
        assert_eq!(nanoseconds(i64::MIN, 0), i64::MIN);
    }
}
