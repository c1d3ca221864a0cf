//! Records of damage in the store: put, listed, taken away.

use super::error::{Error, Result};
use super::{Keyring, Repository};
use crate::base::PackId;
use crate::format::cbor::{Cbor, Unknown};
use crate::format::damage::{DamageRecord, MAX_BLOCKS};
use crate::format::envelope::ObjectKind;
use crate::store::{self, Area, Key, ObjectStore, Put};
use std::collections::{BTreeMap, BTreeSet};

/// The most bytes of a record.
const MAX_BYTES: u64 = ObjectKind::Damage.max_bytes() as u64;

/// The pack that a record of this name is about; none for names that nobody gives.
pub fn pack_of(name: &str) -> Option<PackId> {
    let (pack, number) = name.split_once('.')?;
    number.parse::<u32>().ok().filter(|parsed| parsed.to_string() == number)?;
    pack.parse().ok()
}

/// The records in the store, by name.
pub fn list(store: &dyn ObjectStore) -> Result<BTreeMap<String, PackId>> {
    let mut records = BTreeMap::new();
    store.list(Area::Damage, &mut |listed| {
        records.extend(pack_of(&listed.name).map(|pack| (listed.name, pack)));
    })?;
    Ok(records)
}

/// Reads a record.
pub fn load(store: &dyn ObjectStore, keyring: &Keyring, name: &str) -> Result<DamageRecord> {
    let key = Key::new(Area::Damage, name);
    let object = store.get(&key, MAX_BYTES)?;
    let record: DamageRecord = keyring.load(ObjectKind::Damage, object, &key)?;
    match pack_of(name) == Some(record.pack) {
        true => Ok(record),
        false => Err(Error::damaged(key, "it is the record of another pack")),
    }
}

/// Records that these blocks of a pack cannot be read, as far as that is not recorded. Gives whether anything was put.
pub fn save(repository: &Repository, pack: PackId, blocks: &BTreeSet<u64>) -> Result<bool> {
    let (store, keyring) = (&**repository.store(), repository.keyring());
    let names: BTreeSet<String> =
        list(store)?.into_iter().filter(|(_, of)| *of == pack).map(|(name, _)| name).collect();
    let mut recorded = BTreeSet::new();
    for name in &names {
        // One that cannot be read says nothing.
        recorded.extend(load(store, keyring, name).map(|record| record.blocks).unwrap_or_default());
    }
    let more: Vec<u64> = blocks.difference(&recorded).copied().take(MAX_BLOCKS).collect();
    if more.is_empty() {
        return Ok(false);
    }
    let record = DamageRecord { pack, blocks: more, at_ns: repository.now_ns(), unknown: Unknown::none() };
    let sealed = keyring.seal(ObjectKind::Damage, &record.to_cbor())?;
    for number in 1u32.. {
        let name = format!("{pack}.{number}");
        // Somebody else may put one at the very same time; two that say the same do no harm.
        if !names.contains(&name) && store.put(&Key::new(Area::Damage, name), &sealed)? == Put::Stored {
            break;
        }
    }
    Ok(true)
}

/// Takes away the records of packs that are `over`: mended, or gone. Says how many.
pub fn clear(store: &dyn ObjectStore, over: &dyn Fn(&PackId) -> bool) -> Result<u64> {
    let records = list(store)?;
    let keys: Vec<Key> =
        records.iter().filter(|(_, pack)| over(pack)).map(|(name, _)| Key::new(Area::Damage, name)).collect();
    let mut locked = 0;
    if !keys.is_empty() {
        // One that is locked makes a whole pack unknown for longer, which costs only room.
        locked = store::delete_unlocked(store, &keys)?.into_iter().flatten().count();
        store.flush(Area::Damage)?;
    }
    Ok((keys.len() - locked) as u64)
}
