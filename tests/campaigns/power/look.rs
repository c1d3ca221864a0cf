//! A repository as it is found after a power cut: what was told of is there, all of it restores, nothing is damaged, and
//! the interrupted command goes well.

use super::cuts::{Cut, Loss};
use super::disk::{Image, Item, beneath, unpack};
use crate::vault::{Files, prune_all, restore, verify_all};
use keepstone::base::monitor::Silent;
use keepstone::base::{Clock, SnapshotId, Stop};
use keepstone::crypto::slots::Unlock;
use keepstone::ops::verify::Damage;
use keepstone::ops::{Context, keys};
use keepstone::repo::{Repository, SealedRepository, snapshots};
use keepstone::store::{Area, Key, Local, Memory, ObjectStore};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What was lost, or nothing.
pub type Verdict = Result<(), String>;

/// Snapshots that were made, and of what.
pub type Made = Vec<(SnapshotId, Files)>;

/// An error as what was lost.
pub fn told<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}

/// What was lost, unless something holds.
pub fn demand(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// What is expected of a repository after a power cut.
pub struct Look<'l> {
    /// Where it lies in an image.
    pub area: &'static str,
    /// One of them opens it; when the command was done, the last, and no other.
    pub keys: Vec<Unlock>,
    /// The folder that was backed up.
    pub source: PathBuf,
    /// Whatever is listed is one of these and restores to this.
    pub known: BTreeMap<SnapshotId, Files>,
    /// Listed in any case.
    pub always: BTreeSet<SnapshotId>,
    /// Listed when the command was done.
    pub when_done: BTreeSet<SnapshotId>,
    /// Not listed when it was done.
    pub gone_when_done: BTreeSet<SnapshotId>,
    /// Until the command has been run again.
    pub is_damaged: bool,
    /// Runs the command again; gives the snapshot that it made.
    pub again: &'l dyn Fn(&Context) -> Result<Made, String>,
}

/// A repository of an image, opened as often as one likes.
pub struct Found {
    /// Its objects.
    pub store: Arc<dyn ObjectStore>,
    /// What time it is.
    pub clock: Clock,
    unlock: Unlock,
    cache: Option<PathBuf>,
    is_on_disk: bool,
    _folder: tempfile::TempDir,
}

impl Found {
    /// Mostly in memory and with an empty cache, which is fast; sometimes in a folder, or with the cache of the image.
    pub fn new(image: &Image, area: &str, unlock: &Unlock, cut: Cut) -> Found {
        let folder = tempfile::tempdir().unwrap();
        let is_on_disk = cut.seed.is_multiple_of(5);
        let (store, clock): (Arc<dyn ObjectStore>, Clock) = if is_on_disk {
            unpack(image, area, &folder.path().join("repository"));
            (Arc::new(Local::open(folder.path().join("repository")).unwrap()), Clock::System)
        } else {
            let clock = Clock::manual(Clock::System.now());
            clock.advance(Duration::from_secs(60));
            (Arc::new(in_memory(image, area, &clock)), clock)
        };
        let with_cache = cut.seed.is_multiple_of(3) || matches!(cut.loss, Loss::EverythingButTheCache | Loss::TheCache);
        let cache = with_cache.then(|| folder.path().join("cache"));
        if let Some(cache) = &cache {
            unpack(image, "cache", cache);
        }
        Found { store, clock, unlock: unlock.clone(), cache, is_on_disk, _folder: folder }
    }

    fn repository(&self) -> Result<Repository, String> {
        let sealed = SealedRepository::open(self.store.clone()).map_err(told("opening"))?;
        sealed.unlock(&self.unlock, self.clock.clone()).map_err(told("unlocking"))
    }

    /// Opens it and its index, in which nothing is missing.
    pub fn open(&self) -> Result<Context, String> {
        let repository = self.repository()?;
        let cache = self.cache.as_ref().map(|top| top.join(repository.id().to_string()));
        cache.iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
        let (context, opened) =
            Context::open(repository, cache, Arc::new(Silent), Stop::new()).map_err(told("opening the index"))?;
        demand(opened.damaged.is_empty(), || format!("damaged on opening: {:?}", opened.damaged))?;
        Ok(context)
    }
}

/// The objects of an image; what lies in other places or has other names is none, as in a folder.
fn in_memory(image: &Image, area: &str, clock: &Clock) -> Memory {
    let memory = Memory::with_clock(clock.clone());
    for (path, item) in beneath(image, area) {
        let Item::File(bytes, _) = item else { continue };
        let name = path.rsplit('/').next().unwrap();
        let of_that_path = |area: &Area| Key::is_name(name) && Key::new(*area, name).path() == path;
        if let Some(area) = Area::ALL.into_iter().find(of_that_path)
            && (area != Area::Config || name.starts_with("config"))
        {
            memory.put(&Key::new(area, name), bytes).unwrap();
        }
    }
    memory
}

impl Look<'_> {
    /// Looks at one image.
    pub fn check(&self, image: &Image, cut: Cut) -> Verdict {
        let mut found = self.find(image, cut)?;
        let mut known = self.known.clone();
        let mut must = self.always.clone();
        if cut.done {
            must.extend(&self.when_done);
        }
        let context = found.open()?;
        let listed = self.listed(&context, &known, &must)?;
        if cut.done {
            let still = self.gone_when_done.intersection(&listed).next();
            demand(still.is_none(), || format!("{} came back", still.unwrap()))?;
        }
        if !self.is_damaged {
            self.whole(&context, &known, &is_half).map_err(|lost| format!("after the cut: {lost}"))?;
        }
        drop(context);
        for (id, files) in (self.again)(&found.open()?).map_err(|error| format!("run again: {error}"))? {
            known.insert(id, files);
            must.insert(id);
        }
        found.unlock.clone_from(self.keys.last().expect("there is one"));
        // What was interrupted may have left two copies that are not alike, or one.
        keys::repair(&found.open()?, &found.unlock).map_err(told("key repair"))?;
        if !found.is_on_disk {
            found.clock.advance(Duration::from_secs(25 * 3600));
            prune_all(&found.open()?).map_err(told("the next prune"))?;
        }
        let context = found.open()?;
        self.listed(&context, &known, &must)?;
        self.whole(&context, &known, &|_| false).map_err(|lost| format!("run again and pruned: {lost}"))
    }

    /// Opens it with the first key that does; when all is done, the old ones do not any more.
    fn find(&self, image: &Image, cut: Cut) -> Result<Found, String> {
        let mut reasons = Vec::new();
        for (number, key) in self.keys.iter().enumerate() {
            let found = Found::new(image, self.area, key, cut);
            match found.repository() {
                Ok(_) if cut.done && number + 1 < self.keys.len() => return Err("the old key came back".to_owned()),
                Ok(_) => return Ok(found),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
    }

    /// Those that are listed: all that must be, and none that nobody made.
    fn listed(
        &self,
        context: &Context,
        known: &BTreeMap<SnapshotId, Files>,
        must: &BTreeSet<SnapshotId>,
    ) -> Result<BTreeSet<SnapshotId>, String> {
        let (there, damaged) = snapshots::list(&context.repository).map_err(told("listing"))?;
        demand(damaged.is_empty(), || format!("damaged: {damaged:?}"))?;
        let there: BTreeSet<SnapshotId> = there.iter().map(|snapshot| snapshot.id).collect();
        let missing = must.difference(&there).next();
        demand(missing.is_none(), || format!("{} is not listed", missing.unwrap()))?;
        let strange = there.iter().find(|id| !known.contains_key(id));
        demand(strange.is_none(), || format!("nobody made {}", strange.unwrap()))?;
        Ok(there)
    }

    /// Nothing is damaged, and everything that is listed restores bit for bit.
    fn whole(
        &self,
        context: &Context,
        known: &BTreeMap<SnapshotId, Files>,
        is_allowed: &dyn Fn(&Damage) -> bool,
    ) -> Verdict {
        let found = verify_all(context).map_err(told("verify"))?;
        let harmless = found.damages.iter().all(is_allowed);
        demand(!found.damage || harmless, || format!("damage: {:?}", found.damages))?;
        for snapshot in snapshots::list(&context.repository).map_err(told("listing"))?.0 {
            let (outcome, restored) = restore(context, snapshot.id, &self.source).map_err(told("restore"))?;
            demand(outcome.problem_count == 0, || format!("{}: {:?}", snapshot.id, outcome.problems))?;
            let same = known.get(&snapshot.id) == Some(&restored);
            demand(same, || format!("{} restores to something else", snapshot.id))?;
        }
        Ok(())
    }
}

/// The config, a slot or an epoch was being written, and of its two copies one is missing or still the old one: whoever
/// needs it reads the other, and the message says what makes them alike.
fn is_half(damage: &Damage) -> bool {
    let says = |text: &str| damage.message.contains(text);
    let is_half = match damage.object.split('/').next() {
        Some("keys" | "epochs") => says("only the other copy is left"),
        Some("config" | "config.copy") => true,
        _ => false,
    };
    is_half && damage.file_count == 0 && says("run `keepstone key repair`")
}
