//! What the kernel says of a file system entry, in the same widths on every architecture.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::AtFlags;
use std::ffi::CStr;
use std::path::Path;

/// The answer of a `stat` call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// File type and permission bits.
    pub raw_mode: u32,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Last change of the content, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of the inode, in nanoseconds since 1970.
    pub ctime_ns: i64,
    /// Size in bytes.
    pub size: u64,
    /// Bytes that are allocated for it.
    pub allocated_bytes: u64,
    /// Inode number.
    pub inode: u64,
    /// The device it lies on.
    pub device: u64,
    /// The number of its names.
    pub links: u64,
    /// The device that a device file stands for.
    pub rdev: u64,
}

/// What may still be written where `path` lies, in bytes; none if the system does not say.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let figures = rustix::fs::statvfs(path).ok()?;
    figures.f_bavail.checked_mul(figures.f_frsize)
}

/// The same, and how much there is in all.
pub fn space(path: &Path) -> Option<(u64, u64)> {
    let figures = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.checked_mul(figures.f_frsize);
    Some((bytes(figures.f_bavail)?, bytes(figures.f_blocks)?))
}

impl Stat {
    /// Asks for the entry `name` of an open directory; a symlink is meant itself, and nothing is mounted for it.
    pub fn of_entry(directory: &OwnedFd, name: &CStr) -> rustix::io::Result<Stat> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        rustix::fs::statat(directory, name, flags).map(Stat::from_raw)
    }

    /// Asks for what is open.
    pub fn of_open(descriptor: impl AsFd) -> rustix::io::Result<Stat> {
        rustix::fs::fstat(descriptor).map(Stat::from_raw)
    }

    // The widths of the fields differ between architectures; on some of them a conversion does nothing.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    fn from_raw(stat: rustix::fs::Stat) -> Stat {
        Stat {
            raw_mode: stat.st_mode as u32,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime_ns: nanoseconds(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime_ns: nanoseconds(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            // Counted in units of 512 bytes whatever the file system's own block size is.
            allocated_bytes: (stat.st_blocks as u64).saturating_mul(512),
            inode: u64::from(stat.st_ino),
            device: u64::from(stat.st_dev),
            links: u64::from(stat.st_nlink),
            rdev: u64::from(stat.st_rdev),
        }
    }

    /// Device and inode: two entries with the same are the same file.
    pub fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// Whether a time may be one outside of the years 1677 to 2262, which was moved to the nearest that fits.
pub fn is_moved(time_ns: i64) -> bool {
    matches!(time_ns, i64::MIN | i64::MAX)
}

/// Times outside of the years 1677 to 2262 are moved to the nearest one that fits.
fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_and_out_of_range_do_not_wrap() {
        assert_eq!(nanoseconds(-1, 999_999_999), -1);
        assert_eq!(nanoseconds(i64::MAX, 5), i64::MAX);
        assert_eq!(nanoseconds(i64::MIN, 0), i64::MIN);
        assert!(is_moved(nanoseconds(14_831_769_600, 0)) && !is_moved(nanoseconds(9_223_372_036, 0)));
    }
}
