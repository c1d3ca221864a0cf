//! Owner, mode, extended attributes and times, in the order in which they do not undo each other: a change of
//! owner takes away set-id bits and capabilities, a change of mode alters access lists, and all of them must not
//! come after the times.

use super::Shared;
use crate::base::directory::Directory;
use crate::base::stat::Stat;
use crate::base::xattrs::Subject;
use crate::format::meta::{EntryKind, Meta};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::{Errno, Result};
use std::ffi::{CStr, CString};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;

const DEFAULT_ACL: &CStr = c"system.posix_acl_default";

/// Who we are, as far as permissions are concerned.
pub(super) struct Identity {
    uid: u32,
    gid: u32,
    is_root: bool,
}

impl Identity {
    pub fn of_this_process() -> Identity {
        let uid = rustix::process::geteuid();
        Identity { uid: uid.as_raw(), gid: rustix::process::getegid().as_raw(), is_root: uid.is_root() }
    }

    /// Whether a directory is ours and its own mode keeps us from writing in it.
    pub fn is_kept_out(&self, stat: &Stat) -> bool {
        !self.is_root && stat.uid == self.uid && stat.raw_mode & 0o700 != 0o700
    }

    /// The permission bits that a new file may have from its beginning: everybody's only if it is to belong to us
    /// and has no access list that says more.
    pub fn initial_mode(&self, meta: &Meta) -> Mode {
        let is_ours = meta.uid == self.uid && meta.gid == self.gid && meta.xattrs.is_empty();
        Mode::from_raw_mode(if is_ours { meta.mode & 0o777 | 0o600 } else { 0o600 })
    }
}

/// How often something was refused that only root may do or that the file system does not know.
#[derive(Default)]
pub(super) struct Refused {
    owners: AtomicU64,
    set_ids: AtomicU64,
    xattrs: AtomicU64,
}

impl Refused {
    pub fn notes(&self) -> Vec<String> {
        let lines = [
            (
                &self.owners,
                "entry keeps us as its owner or group: only root may give files away",
                "entries keep us as their owner or group: only root may give files away",
            ),
            (
                &self.set_ids,
                "file lost its set-id bits, because its owner or group could not be set",
                "files lost their set-id bits, because their owner or group could not be set",
            ),
            (
                &self.xattrs,
                "extended attribute was not set: the file system or our permissions do not allow it",
                "extended attributes were not set: the file system or our permissions do not allow them",
            ),
        ];
        let told = lines.iter().filter_map(|(counter, one, several)| match counter.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(format!("1 {one}")),
            count => Some(format!("{count} {several}")),
        });
        told.collect()
    }
}

fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What was tried and what came back.
type Outcome = std::result::Result<(), (&'static str, Errno)>;

/// Something whose metadata are set: open, or a name in an open directory.
enum Place<'a> {
    Open(&'a OwnedFd),
    Named(&'a OwnedFd, &'a CStr),
}

impl Place<'_> {
    fn stat(&self) -> Result<Stat> {
        match self {
            Place::Open(descriptor) => Stat::of_open(descriptor),
            Place::Named(directory, name) => Stat::of_entry(directory, name),
        }
    }

    fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        match self {
            Place::Open(descriptor) => rustix::fs::fchown(descriptor, uid, gid),
            Place::Named(directory, name) => rustix::fs::chownat(directory, *name, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn set_mode(&self, mode: u32) -> Result<()> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Place::Open(descriptor) => rustix::fs::fchmod(descriptor, mode),
            Place::Named(directory, name) => set_mode_of_entry(directory, name, mode),
        }
    }

    fn set_mtime(&self, nanoseconds: i64) -> Result<()> {
        let times = times(nanoseconds);
        match self {
            Place::Open(descriptor) => rustix::fs::futimens(descriptor, &times),
            Place::Named(directory, name) => rustix::fs::utimensat(directory, *name, &times, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn subject(&self) -> Subject<'_> {
        match self {
            Place::Open(descriptor) => Subject::Open(descriptor.as_fd()),
            Place::Named(directory, name) => Subject::entry(directory, name),
        }
    }
}

/// Changes a mode without following a symlink and without opening a device: the call that could do both is newer
/// than the kernels we run on.
fn set_mode_of_entry(directory: &OwnedFd, name: &CStr, mode: Mode) -> Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let entry = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    if EntryKind::of_mode(Stat::of_open(&entry)?.raw_mode) == Some(EntryKind::Symlink) {
        return Err(Errno::LOOP);
    }
    rustix::fs::chmod(format!("/proc/self/fd/{}", entry.as_raw_fd()), mode)
}

fn times(mtime_ns: i64) -> Timestamps {
    const SECOND: i64 = 1_000_000_000;
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime_ns.div_euclid(SECOND), tv_nsec: mtime_ns.rem_euclid(SECOND) },
    }
}

/// Marks an open file as changed long ago, so that nobody takes it for finished.
pub(super) fn set_mtime_to_1970(descriptor: &OwnedFd) -> Result<()> {
    Place::Open(descriptor).set_mtime(0)
}

/// Lets us into a directory of ours that its own mode keeps us out of, until its mode is set again.
pub(super) fn make_accessible(parent: &OwnedFd, name: &CStr) -> io::Result<()> {
    Ok(set_mode_of_entry(parent, name, Mode::RWXU)?)
}

/// Whether what is made in a directory gets an access list from it.
pub(super) fn has_default_acl(directory: &Directory) -> io::Result<bool> {
    let descriptor = directory.descriptor()?;
    Ok(Subject::Open(descriptor.as_fd()).get(DEFAULT_ACL).is_ok())
}

impl Shared {
    /// Sets everything of an open file or directory. `is_clean`: it has no extended attributes yet.
    pub(super) fn set_open(&self, descriptor: &OwnedFd, meta: &Meta, is_clean: bool) -> Outcome {
        self.set_all(&Place::Open(descriptor), meta, is_clean)
    }

    /// Sets everything of an entry, whatever it is.
    pub(super) fn set_named(&self, directory: &OwnedFd, name: &CStr, meta: &Meta, is_clean: bool) -> Outcome {
        self.set_all(&Place::Named(directory, name), meta, is_clean)
    }

    fn set_all(&self, place: &Place<'_>, meta: &Meta, is_clean: bool) -> Outcome {
        let now = place.stat().map_err(|e| ("stat", e))?;
        let (uid, gid) = self.set_owner(place, meta, &now).map_err(|e| ("set the owner of", e))?;
        let owner_changed = (uid, gid) != (now.uid, now.gid);
        let mode = self.permitted_mode(meta, uid, gid);
        // A change of owner may have taken bits away without a `stat` since.
        let mode_differs = now.raw_mode & 0o7777 != mode || owner_changed && mode & (SET_USER_ID | SET_GROUP_ID) != 0;
        if meta.kind != EntryKind::Symlink && mode_differs {
            place.set_mode(mode).map_err(|e| ("set the mode of", e))?;
        }
        if !is_clean {
            self.remove_other_xattrs(place, meta);
        }
        if !meta.xattrs.is_empty() {
            self.set_xattrs(place, meta, is_clean).map_err(|e| ("set extended attributes of", e))?;
        }
        if meta.kind != EntryKind::Symlink && !is_clean {
            // Removing an access list leaves the mode that it stood for.
            self.set_mode_again(place, mode).map_err(|e| ("set the mode of", e))?;
        }
        // What is as it should be is not touched: the next backup would take a new change time for a change.
        if now.mtime_ns == meta.mtime_ns {
            return Ok(());
        }
        place.set_mtime(meta.mtime_ns).map_err(|e| ("set the times of", e))
    }

    /// Sets owner and group as far as we may, and answers with what they are now.
    fn set_owner(&self, place: &Place<'_>, meta: &Meta, now: &Stat) -> Result<(u32, u32)> {
        let (uid, gid) = (now.uid, now.gid);
        if (uid, gid) == (meta.uid, meta.gid) {
            return Ok((uid, gid));
        }
        if self.identity.is_root || uid == meta.uid {
            match place.set_owner(Some(meta.uid), Some(meta.gid)) {
                Ok(()) => return Ok((meta.uid, meta.gid)),
                // Root of a container or on a network file system is not everywhere root.
                Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        add_one(&self.refused.owners);
        match place.set_owner(None, Some(meta.gid)) {
            Ok(()) => Ok((uid, meta.gid)),
            Err(_) => Ok((uid, gid)),
        }
    }

    /// The mode, without the bits that would lend somebody else's rights.
    fn permitted_mode(&self, meta: &Meta, uid: u32, gid: u32) -> u32 {
        let mut mode = meta.mode & 0o7777;
        let wanted = mode;
        if uid != meta.uid {
            mode &= !SET_USER_ID;
        }
        if gid != meta.gid || uid != meta.uid {
            mode &= !SET_GROUP_ID;
        }
        if mode != wanted {
            add_one(&self.refused.set_ids);
        }
        mode
    }

    fn set_mode_again(&self, place: &Place<'_>, mode: u32) -> Result<()> {
        if place.stat()?.raw_mode & 0o7777 == mode {
            return Ok(());
        }
        place.set_mode(mode)
    }

    fn set_xattrs(&self, place: &Place<'_>, meta: &Meta, is_clean: bool) -> Result<()> {
        let subject = place.subject();
        for (name, value) in &meta.xattrs {
            let Ok(name) = CString::new(name.as_slice()) else {
                add_one(&self.refused.xattrs);
                continue;
            };
            if !is_clean && subject.get(&name).is_ok_and(|there| there == *value) {
                continue;
            }
            match subject.set(&name, value) {
                Ok(()) => {}
                Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::IO)) => return Err(error),
                Err(_) => add_one(&self.refused.xattrs),
            }
        }
        Ok(())
    }

    /// Removes attributes that the snapshot does not have; those that the system keeps for itself stay.
    fn remove_other_xattrs(&self, place: &Place<'_>, meta: &Meta) {
        let subject = place.subject();
        for name in subject.names().unwrap_or_default() {
            let bytes = name.to_bytes();
            let is_ours = bytes.starts_with(b"user.")
                || bytes.starts_with(b"system.posix_acl_")
                || bytes == b"security.capability"
                || bytes.starts_with(b"trusted.") && self.identity.is_root;
            let is_wanted = meta.xattrs.iter().any(|(wanted, _)| wanted == bytes);
            if is_ours && !is_wanted && subject.remove(&name).is_err() {
                add_one(&self.refused.xattrs);
            }
        }
    }
}
