//! What is damaged.

use super::super::verify::{self, segments};
use super::super::{Context, Result};
use super::examine::{Examined, examine};
use super::{Item, Options, Plan, Way};
use crate::base::{Event, KeyId, Kind, PackId, SnapshotId};
use crate::crypto::slots::Unlock;
use crate::repo::index::Opened;
use crate::repo::pack_reader::pack_key;
use crate::repo::{self, ledger, parity, snapshots, twice};
use crate::store::{Area, Key};
use std::collections::{BTreeMap, BTreeSet};

/// Looks at the packs that are known to be damaged or missing, or at all of them, and at their sidecars.
pub(super) fn packs(context: &Context, options: &Options<'_>, plan: &mut Plan) -> Result<()> {
    context.monitor.event(Event::Phase("looking for damage"));
    let store = &**context.repository.store();
    let sidecars = parity::list(store)?;
    let mut listed = BTreeMap::new();
    store.list(Area::Packs, &mut |entry| {
        listed.extend(entry.name.parse::<PackId>().ok().map(|pack| (pack, entry.size_bytes)));
    })?;
    let noted = noted(context, &listed)?;
    let keyless = keyless(context)?;
    let mut suspects: BTreeSet<PackId> = noted.iter().chain(keyless.keys()).copied().collect();
    if options.all {
        suspects.extend(listed.keys());
    }
    let bytes = suspects.iter().filter_map(|pack| listed.get(pack)).sum();
    context.monitor.event(Event::Total { items: suspects.len() as u64, bytes, complete: true });
    for pack in suspects {
        context.check_stop()?;
        let (there, sidecar) = (listed.get(&pack).copied(), sidecars.get(&pack).copied());
        plan.packs_read += u64::from(there.is_some());
        plan.bytes_read += there.unwrap_or(0);
        let Examined { pack: found, sidecar } = examine(context, options, pack, there, sidecar)?;
        let again = || Item { key: pack_key(pack), reason: "its bytes are whole".to_owned(), way: Way::Again };
        let closed = |key: &KeyId| {
            let object = format!("a part of {}", pack_key(pack));
            let reason = repo::Error::UnknownKey { object, key: *key }.to_string();
            Item { key: pack_key(pack), reason, way: Way::Nothing }
        };
        let found = found.or_else(|| keyless.get(&pack).map(closed));
        plan.items.extend(found.or_else(|| noted.contains(&pack).then(again)));
        plan.items.extend(sidecar);
        context.monitor.event(Event::Done { items: 1, bytes: there.unwrap_or(0) });
    }
    Ok(())
}

/// Packs of which something is sealed under a key that no epoch holds, each with one such key: whole or not, they cannot be
/// opened.
fn keyless(context: &Context) -> Result<BTreeMap<PackId, KeyId>> {
    let keyring = context.repository.keyring();
    let parts = context.index.sealed_parts()?.into_iter();
    Ok(parts.filter(|part| !keyring.knows(part.key)).map(|part| (part.pack.id, part.key)).collect())
}

/// Packs that the index counts on and that are gone or have another size, and those that somebody found damaged: this
/// machine, or any whose record lies in the repository.
fn noted(context: &Context, listed: &BTreeMap<PackId, u64>) -> Result<BTreeSet<PackId>> {
    let known = ledger::load(&context.repository)?;
    let mut noted = context.index.damaged_packs()?;
    for pack in context.index.packs()?.into_iter().filter(|pack| !pack.void) {
        if listed.get(&pack.id) != Some(&pack.size_bytes) || known.is_damaged(&pack.id) {
            noted.insert(pack.id);
        }
    }
    // Of what no segment names the ledger alone tells. For want of an epoch that is what nobody can open.
    if !context.repository.keyring().lacks_any() {
        noted.extend(listed.keys().filter(|pack| known.is_damaged(pack)));
    }
    // What is void and gone was swept.
    let void: BTreeSet<PackId> =
        context.index.packs()?.into_iter().filter(|pack| pack.void).map(|pack| pack.id).collect();
    noted.retain(|pack| !void.contains(pack) || listed.contains_key(pack));
    Ok(noted)
}

/// What lies there twice, segments and snapshots.
pub(super) fn small_objects(
    context: &Context,
    options: &Options<'_>,
    (opened, secret): (&Opened, &Unlock),
    plan: &mut Plan,
) -> Result<()> {
    let left = twice::beyond_mending(&context.repository, secret)?;
    for damage in verify::copies(context)? {
        let Some(key) = key_of(&damage.object) else { continue };
        let plain = twice::plain_name(key.area(), key.name()).map(|name| Key::new(key.area(), name));
        let item = match plain.and_then(|plain| left.get_key_value(&plain)) {
            Some((plain, reason)) => beyond_mending(plain, reason),
            None => Item { key, reason: damage.message, way: Way::Copy },
        };
        // Of two that differ both are named; what a mirror has of them is among them already.
        if !plan.items.iter().any(|known| known.key == item.key) {
            plan.items.push(item);
        }
    }
    let (snapshots, unreadable) = snapshots::list_stored(&context.repository)?;
    let mut wrong = opened.damaged.clone();
    wrong.extend(context.missing_segments(&snapshots)?);
    wrong.extend(segments::look(context, opened)?.damaged);
    for problem in &wrong {
        let Some(key) = key_of(&problem.subject) else { continue };
        if !plan.items.iter().any(|item| item.key == key) {
            plan.items.push(Item { key, reason: problem.message.clone(), way: Way::Nothing });
        }
    }
    // What is in a record of damage is found again only by reading every pack.
    for area in [Area::Runs, Area::Damage].into_iter().filter(|area| *area == Area::Runs || options.all) {
        let damaged = verify::damaged_records(context, area)?;
        plan.items.extend(damaged.into_iter().map(|(key, reason)| Item { key, reason, way: Way::Aside }));
    }
    for (id, error) in unreadable {
        plan.items.push(unreadable_snapshot(options, context, id, &error)?);
    }
    Ok(())
}

/// A key slot or an epoch that neither its copy nor any other repository that was asked gives back.
fn beyond_mending(key: &Key, reason: &str) -> Item {
    let besides = match key.area() {
        Area::Keys => {
            "; or give its holder a new one with `keepstone key add`, and delete it and its copy from the store"
        }
        _ => "",
    };
    let reason = format!("{reason}; a mirror of the repository may have it (--from){besides}");
    Item { key: key.clone(), reason, way: Way::Nothing }
}

/// A snapshot that is damaged: a mirror of this repository may have it.
fn unreadable_snapshot(options: &Options<'_>, context: &Context, id: SnapshotId, error: &repo::Error) -> Result<Item> {
    let (key, reason) = (Key::new(Area::Snapshots, id), error.to_string());
    let found = options.mirror(context).map(|from| snapshots::load(&from.repository, id)).transpose();
    let way = match found {
        Ok(Some(snapshots::Found::Snapshot(_))) => Way::Mirror,
        Err(error) if !matches!(error.kind(), Kind::Damaged | Kind::NotFound) => return Err(error.into()),
        _ => Way::Nothing,
    };
    let remedy =
        format!("put its object back from a mirror (--from), or let it go with `keepstone forget {}`", id.short());
    let reason = if way == Way::Nothing { error.advising(&remedy) } else { reason };
    Ok(Item { key, reason, way })
}

/// The key that a path in the store says.
fn key_of(path: &str) -> Option<Key> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let folder = folder.split('/').next().unwrap_or_default();
    let area = Area::ALL.into_iter().find(|area| area.folder() == folder)?;
    Key::is_name(name).then(|| Key::new(area, name))
}
