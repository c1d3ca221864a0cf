//! Mending: each object written aside and proven, the damaged one kept, the good one put in its place.

use super::super::record::Record;
use super::super::verify;
use super::super::{Context, Error, Result};
use super::{Healed, Item, Options, Plan, Way, heal};
use crate::base::{Event, Kind, PackId, Problem, SnapshotId};
use crate::crypto::names::PackHasher;
use crate::crypto::slots::Unlock;
use crate::format::envelope::ObjectKind;
use crate::format::parity::Shape;
use crate::format::run::Outcome as Ended;
use crate::repo::pack_reader::pack_key;
use crate::repo::parity::{self, Spool};
use crate::repo::{self, damage, ledger, snapshots, twice};
use crate::store::{Area, Key, ObjectStore, Put, Upload};
use std::collections::BTreeSet;

/// An object that is whole again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    /// What was to be mended.
    pub item: Item,
    /// Where the damaged one is kept; none if there was none, or if it was nothing of its own.
    pub quarantine: Option<Key>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// What was planned.
    pub plan: Plan,
    /// What is whole again.
    pub mended: Vec<Mended>,
    /// What could not be mended, or not after all, and why.
    pub left: Vec<Item>,
    /// Blobs that nothing in the repository gave any more.
    pub blobs_lost: u64,
    /// Of those, blobs that were stored anew.
    pub healed: Healed,
    /// Packs of which it is recorded from now on what is damaged in them.
    pub recorded: u64,
    /// What is still damaged, with the files that it hurts.
    pub damages: Vec<verify::Damage>,
    /// Snapshots that are still hurt.
    pub hurt: Vec<verify::HurtSnapshot>,
}

impl Applied {
    /// Whether anything is still damaged.
    pub fn is_damage(&self) -> bool {
        !self.left.is_empty() || !self.damages.is_empty()
    }

    /// Whether every file of every snapshot can be restored all the same.
    pub fn saves_all(&self) -> bool {
        self.left.iter().all(|item| item.pack().is_some()) && self.hurt.is_empty()
    }
}

/// Plans, then mends. `secret` is what opened the repository: it shows which of two copies of its own slot is right.
pub fn apply(context: &Context, options: &Options<'_>, secret: &Unlock) -> Result<Applied> {
    let mut record = Record::begin(context, "repair apply");
    let mut applied = Applied::default();
    let done = run(context, options, secret, &mut record, &mut applied);
    record.figure("mended", applied.mended.len() as u64);
    record.figure("left", applied.left.len() as u64);
    record.figure("blobs_lost", applied.blobs_lost);
    record.figure("blobs_healed", applied.healed.blobs());
    let problem = |item: &Item| Problem::new(item.key.to_string(), &item.reason, Kind::Damaged);
    record.problems(&applied.left.iter().map(problem).collect::<Vec<_>>());
    match done {
        Ok(()) => {
            record.save(context, if applied.is_damage() { Ended::Damage } else { Ended::Done })?;
            Ok(applied)
        }
        Err(error) => {
            record.save_failure(context, &error);
            Err(error)
        }
    }
}

fn run(
    context: &Context,
    options: &Options<'_>,
    secret: &Unlock,
    record: &mut Record,
    applied: &mut Applied,
) -> Result<()> {
    context.repository.check_writable()?;
    let returned = super::returned(context, options, secret)?;
    // Under it nothing is swept.
    let (session, opened) = context.read_session("repair apply")?;
    if let Some(session) = &session {
        record.session(session.id());
    }
    applied.plan = super::make(context, options, secret, (&opened, returned))?;
    context.monitor.event(Event::Phase("mending"));
    // What mends a pack comes before what is made from it.
    for item in applied.plan.items.clone() {
        context.check_stop()?;
        match mend(context, options, &applied.plan, &item) {
            Ok(Some(quarantine)) => applied.mended.push(Mended { item, quarantine }),
            Ok(None) => {}
            Err(error) if error.kind() == Kind::Damaged => {
                applied.left.push(Item { reason: error.to_string(), way: Way::Nothing, ..item });
            }
            Err(error) => return Err(error),
        }
    }
    applied.left.extend(applied.plan.items.iter().filter(|item| item.way == Way::Nothing).cloned());
    if applied.plan.items.iter().any(|item| item.way == Way::Copy) {
        mend_copies(context, secret, applied)?;
    }
    look_again(context, options, record, applied)
}

/// Mends an object; says where the damaged one is kept. None if that is done otherwise, or not at all.
fn mend(context: &Context, options: &Options<'_>, plan: &Plan, item: &Item) -> Result<Option<Option<Key>>> {
    let store = &**context.repository.store();
    let pack: Option<PackId> = item.key.name().parse().ok();
    let snapshot: Option<SnapshotId> = item.key.name().parse().ok().filter(|_| item.key.area() == Area::Snapshots);
    if let (Way::Mirror, Some(id), Some(from)) = (&item.way, snapshot, options.from) {
        return put_snapshot(context, from, id).map(Some);
    }
    if let Some(bytes) = plan.returned.get(&item.key) {
        return put_twice(store, &item.key, bytes).map(Some);
    }
    match (&item.way, pack, options.from) {
        (Way::Aside, ..) => set_aside(store, &item.key).map(Some),
        (Way::Parity { .. }, Some(pack), _) => mend_by_parity(store, pack).map(Some),
        (Way::Mirror, Some(pack), Some(from)) => mend_by_mirror(store, &**from.repository.store(), pack).map(Some),
        (Way::FromPack, Some(pack), _) => make_sidecar(context, pack).map(Some),
        _ => Ok(None),
    }
}

fn mend_by_parity(store: &dyn ObjectStore, pack: PackId) -> Result<Option<Key>> {
    let sidecar_bytes = store.size(&parity::sidecar_key(pack))?;
    let mended = parity::mend(store, pack, store.size(&pack_key(pack))?, sidecar_bytes)?;
    let kept = quarantine(store, &pack_key(pack), mended.damaged.into_upload())?;
    put_in_place(store, pack, mended.upload, mended.bytes)?;
    Ok(Some(kept))
}

fn mend_by_mirror(store: &dyn ObjectStore, mirror: &dyn ObjectStore, pack: PackId) -> Result<Option<Key>> {
    let key = pack_key(pack);
    let bytes = mirror.size(&key)?;
    let mut upload = store.begin()?;
    let hash = stream(mirror, pack, bytes, &mut |piece| upload.write_all(piece))?;
    if hash != pack.0 {
        return Err(repo::Error::damaged(&key, format!("in {} it is damaged too", mirror.location())).into());
    }
    let kept = keep_damaged(store, &key)?;
    put_in_place(store, pack, upload, bytes)?;
    Ok(kept)
}

/// Takes over a key slot or an epoch and its copy from a mirror.
fn put_twice(store: &dyn ObjectStore, key: &Key, bytes: &[u8]) -> Result<Option<Key>> {
    let kept = keep_damaged(store, key)?;
    let kept_copy = keep_damaged(store, &Key::new(key.area(), format!("{}.copy", key.name())))?;
    twice::put_back(store, key, bytes)?;
    Ok(kept.or(kept_copy))
}

/// Takes away what nothing needs, and keeps it as it was.
fn set_aside(store: &dyn ObjectStore, key: &Key) -> Result<Option<Key>> {
    let kept = keep_damaged(store, key)?;
    store.delete(key)?;
    Ok(kept)
}

/// Takes over a snapshot from a mirror of this repository, whose keys seal it alike.
fn put_snapshot(context: &Context, from: &Context, id: SnapshotId) -> Result<Option<Key>> {
    let (store, key) = (&**context.repository.store(), Key::new(Area::Snapshots, id));
    let bytes = from.repository.store().get(&key, ObjectKind::Snapshot.max_bytes() as u64)?;
    let mut upload = store.begin()?;
    upload.write_all(&bytes).map_err(|source| Error::Io { what: format!("write snapshot {id} aside"), source })?;
    let kept = keep_damaged(store, &key)?;
    upload.replace(&key)?;
    match snapshots::load(&context.repository, id)? {
        snapshots::Found::Snapshot(_) => Ok(kept),
        _ => Err(repo::Error::damaged(&key, "what was read back is not what was written: check the disk").into()),
    }
}

/// Makes a sidecar anew from its pack, as large as it should be by now, or as it was if nobody says so any more.
fn make_sidecar(context: &Context, pack: PackId) -> Result<Option<Key>> {
    let store = &**context.repository.store();
    let (key, bytes) = (parity::sidecar_key(pack), store.size(&pack_key(pack))?);
    let shape = match parity::share(context.repository.config()) {
        Some(share) => Shape::new(bytes, share),
        None => parity::Sidecar::read(store, pack, store.size(&key)?).ok().map(|old| old.shape),
    };
    let Some(shape) = shape else {
        return Err(
            repo::Error::damaged(&key, "packs get no sidecars any more: `keepstone parity off` takes it away").into()
        );
    };
    let made = parity::make_for(store, pack, bytes, shape)?;
    let kept = keep_damaged(store, &key)?;
    made.replace(&key)?;
    let made = parity::Sidecar::read(store, pack, store.size(&key)?)?;
    made.check(pack)?;
    Ok(kept)
}

/// Keeps what lies at `key`, as far as it can be read; none if nothing does.
fn keep_damaged(store: &dyn ObjectStore, key: &Key) -> Result<Option<Key>> {
    match store.size(key) {
        Ok(bytes) => {
            let damaged = Spool::fill(store, key, bytes, &mut |_, _| Ok(()))?;
            quarantine(store, key, damaged.into_upload()).map(Some)
        }
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Stores what was damaged under a name of its own.
fn quarantine(store: &dyn ObjectStore, key: &Key, damaged: Box<dyn Upload>) -> Result<Key> {
    let mut taken = BTreeSet::new();
    store.list(Area::Quarantine, &mut |listed| {
        taken.insert(listed.name);
    })?;
    let name = |number: usize| format!("{}.{}.{number}", key.area().name(), key.name());
    let free = (1..).map(name).find(|name| !taken.contains(name)).expect("some number is free");
    let kept = Key::new(Area::Quarantine, free);
    match damaged.finish(&kept)? {
        Put::Stored => Ok(kept),
        Put::Existed => {
            Err(Error::Refused(format!("somebody else repairs {key} just now: run this again when that is done")))
        }
    }
}

/// Puts a pack in the place of a damaged one, and reads it back.
fn put_in_place(store: &dyn ObjectStore, pack: PackId, upload: Box<dyn Upload>, bytes: u64) -> Result<()> {
    let key = pack_key(pack);
    upload.replace(&key)?;
    match stream(store, pack, bytes, &mut |_| Ok(()))? == pack.0 && store.size(&key)? == bytes {
        true => Ok(()),
        false => Err(repo::Error::damaged(&key, "what was read back is not what was written: check the disk").into()),
    }
}

/// Reads a pack; gives its BLAKE3.
fn stream(
    store: &dyn ObjectStore,
    pack: PackId,
    bytes: u64,
    each: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<[u8; 32]> {
    let (mut hasher, mut failure) = (PackHasher::new(), None);
    store.stream(&pack_key(pack), 0, bytes, &mut |piece| {
        hasher.update(piece);
        failure = each(piece).err();
        failure.is_none()
    })?;
    match failure {
        Some(source) => Err(Error::Io { what: format!("write pack {pack} aside"), source }),
        None => Ok(hasher.finish()),
    }
}

fn mend_copies(context: &Context, secret: &Unlock, applied: &mut Applied) -> Result<()> {
    let (written, left) = repo::mend_copies(&context.repository, secret)?;
    let item = |key: Key, reason: String, way: Way| Item { key, reason, way };
    let mended = written.into_iter().map(|key| item(key, "it was not what its other copy is".to_owned(), Way::Copy));
    applied.mended.extend(mended.map(|item| Mended { item, quarantine: None }));
    let is_new = |(key, _): &(Key, String)| !applied.left.iter().any(|item| item.key == *key);
    let left: Vec<_> = left.into_iter().filter(is_new).collect();
    applied.left.extend(left.into_iter().map(|(key, reason)| item(key, reason, Way::Nothing)));
    Ok(())
}

/// Forgets what was noted down as damaged, and reads it anew: what is mended counts again, and what hangs on something
/// that is not, does not.
fn look_again(context: &Context, options: &Options<'_>, record: &mut Record, applied: &mut Applied) -> Result<()> {
    let planned: BTreeSet<PackId> = applied.plan.packs().map(|(pack, _)| pack).collect();
    if planned.is_empty() {
        return Ok(());
    }
    context.monitor.event(Event::Phase("reading what was damaged"));
    // Only of packs whose bytes are whole by now. What of them stands on bases that are still unknown is unknown as soon
    // as the packs are compared, here and when the next backup begins, so being killed in between does no harm.
    let left: BTreeSet<PackId> = applied.left.iter().filter_map(|item| item.pack()).collect();
    let mended: BTreeSet<PackId> = planned.difference(&left).copied().collect();
    damage::clear(&**context.repository.store(), &|pack| mended.contains(pack))?;
    context.index.forget_damage(&mended)?;
    context.index.check_packs(&**context.repository.store(), true)?;
    let packs: BTreeSet<PackId> = context.index.damaged_packs()?.union(&planned).copied().collect();
    let (mut lost, news) = super::lost_in(context, &packs)?;
    applied.blobs_lost = lost.len() as u64;
    // Before anything is stored anew: what is recorded counts no more, for nobody.
    for pack in &left {
        let blocks = context.index.damaged_blocks(pack)?;
        if !blocks.is_empty() {
            applied.recorded += u64::from(damage::save(&context.repository, *pack, &blocks)?);
        }
    }
    applied.healed = heal::heal(context, options, &mut lost)?;
    // What stands on a base that is there again can be read again.
    context.index.check_packs(&**context.repository.store(), true)?;
    let mut still = verify::Lost::new();
    for (id, place) in lost {
        if context.index.places(&id)?.is_empty() {
            still.insert(id, place);
        }
    }
    let lost = still;
    let read = verify::hurt_by(context, &lost)?;
    (applied.damages, applied.hurt) = (read.damages, read.hurt);
    let mut known = ledger::load(&context.repository)?;
    if let Err(error) = record.ledger(context, &mut known, &news) {
        context.monitor.event(Event::Note(&format!("what was read could not be noted down: {error}")));
    }
    Ok(())
}
