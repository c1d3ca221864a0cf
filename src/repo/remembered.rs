//! What this machine remembers of a repository that it has opened: how often its config had been replaced, and its root
//! key's id.
//!
//! Whoever can write to the store can put an older config back, proof and all, and with it features and settings that
//! were given up for a reason. The revision in the config only grows, so who has seen a later one notices. It lies in
//! the folder of the local caches; without such a folder nothing is remembered.
//!
//! A recipient's slot does not say who made it, so whoever can write to the store could put a repository of his own in
//! the place of this one. Who opens with an identity therefore compares the root key's id with the one that he saw the
//! last time; where he sees it for the first time, he is told. It is remembered for the repository and for the place where
//! it lies: the repository's own id is chosen by whoever makes one.

use super::error::{Error, Result};
use super::{Repository, random};
use crate::base::KeyId;
use crate::base::ids::to_hex;
use crate::crypto::names;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The file's name in the folder of the local caches.
pub const FILE_NAME: &str = "config-revision";
/// The name of the file with the root key's id.
const ROOT_NAME: &str = "root-key-id";
/// The folder beside those of repositories with a file for each place, called after the hash of its name.
const PLACES_NAME: &str = "places";
/// Digits of a key id, and a line end.
const ROOT_BYTES: u64 = 33;
/// Digits of the largest revision, and a line end.
const MOST_BYTES: u64 = 21;

/// Refuses a config that is older than one seen before, and remembers this one.
pub fn check_config(repository: &Repository, folder: &Path) -> Result<()> {
    let path = folder.join(FILE_NAME);
    let revision = repository.config().revision;
    match read_number(&path) {
        Some(seen) if seen > revision => Err(Error::Refused(format!(
            "the config of {} is older than it was: it is revision {revision}, and this machine has seen {seen}. \
             Somebody put an old one back, or the whole repository was taken back to an older state. If that was you, \
             delete {} and run this again; if not, keep away from it until you know who it was",
            repository.store().location(),
            path.display()
        ))),
        Some(seen) if seen == revision => Ok(()),
        // It is a help and no promise: where it cannot be kept the next run sees what this one did.
        _ => {
            let _ = write(&path, &revision.to_string());
            Ok(())
        }
    }
}

/// Refuses another root key than the one seen before, if nothing but the store vouches for it; otherwise remembers it.
/// Gives what somebody should know who opens it like this for the first time.
pub fn check_root(repository: &Repository, folder: Option<&Path>) -> Result<Option<String>> {
    let id = repository.root_id().to_string();
    let location = repository.store().location();
    let paths = folder.map(|folder| root_files(repository, folder)).unwrap_or_default();
    let seen: Vec<Option<String>> = paths.iter().map(|path| read(path, ROOT_BYTES)).collect();
    let others = paths.iter().zip(&seen).filter(|(_, seen)| seen.as_ref().is_some_and(|seen| *seen != id));
    let others: Vec<String> = others.map(|(path, _)| path.display().to_string()).collect();
    if !others.is_empty() && !repository.is_vouched() {
        return Err(Error::Refused(format!(
            "the root key of {location} is another one than this machine has seen: its id is {id}. If it was \
             exchanged (`keepstone key rotate --root`), or you made the repository anew, delete {} and run this again; if \
             not, somebody has put another repository in its place, and an identity cannot tell: keep away from it",
            others.join(" and ")
        )));
    }
    keep(&paths, &id);
    if seen.first().is_some_and(Option::is_some) && others.is_empty() {
        return Ok(None);
    }
    let note = format!(
        "opened with an identity: that {location} is the right repository is said by nobody but the store. Its root key's \
         id is {id}; compare it with your recovery sheet, or with `keepstone key list` of somebody who has a password"
    );
    Ok((!repository.is_vouched()).then_some(note))
}

/// Remembers the root key that this machine has made itself: an identity finds it in place of the one before.
pub fn keep_root(repository: &Repository, folder: &Path, id: KeyId) {
    keep(&root_files(repository, folder), &id.to_string());
}

/// Where the id of a root key is remembered: in the repository's folder, and for the place where the repository lies.
fn root_files(repository: &Repository, folder: &Path) -> Vec<PathBuf> {
    let id = repository.id().to_string();
    let own = folder.ancestors().find(|folder| folder.file_name().is_some_and(|name| *name == *id));
    let location = repository.store().location();
    let location = fs::canonicalize(&location).map_or(location, |path| path.display().to_string());
    let place =
        own.and_then(Path::parent).map(|top| top.join(PLACES_NAME).join(to_hex(&names::hash(location.as_bytes()))));
    std::iter::once(folder.join(ROOT_NAME)).chain(place).collect()
}

/// As well as it can: what could not be written is seen for the first time once more.
fn keep(files: &[PathBuf], id: &str) {
    for path in files.iter().filter(|path| read(path, ROOT_BYTES).as_deref() != Some(id)) {
        let _ = path.parent().map_or(Ok(()), fs::create_dir_all);
        let _ = write(path, id);
    }
}

fn read_number(path: &Path) -> Option<u64> {
    read(path, MOST_BYTES)?.parse().ok()
}

/// What was remembered; none if there is nothing that makes sense.
fn read(path: &Path, most: u64) -> Option<String> {
    read_text(path, most)
}

/// The text of a file of at most `most` bytes; none if there is nothing that makes sense.
pub(super) fn read_text(path: &Path, most: u64) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(most).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    write_text(path, text)
}

/// Puts a text in the place of what a file says.
pub(super) fn write_text(path: &Path, text: &str) -> io::Result<()> {
    let aside = path.with_extension(to_hex(&random::bytes::<8>()));
    let written = File::create_new(&aside).and_then(|mut file| writeln!(file, "{text}"));
    let placed = written.and_then(|()| fs::rename(&aside, path));
    placed.inspect_err(|_| {
        let _ = fs::remove_file(&aside);
    })
}
