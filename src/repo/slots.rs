//! Key slots in the store: made, listed, opened, removed.

use super::ahead::Ahead;
use super::clients::Credential;
use super::copies::Verdict;
use super::error::{Error, Result};
use super::{copy_of, twice, write_twice};
use crate::base::{Clock, KeyId, Kind, RepositoryId, Secret, SlotId, random};
use crate::crypto::keys::{ClassKey, RootKey};
use crate::crypto::slots::{self, Grant, GuardKind, Recipient, SlotParts, Stretch, StretchCost, Unlock};
use crate::format::cbor::{Bytes, Unknown};
use crate::format::keys::{Access, Guard, GuardKind as StoredKind, MAX_LABEL_BYTES, MAX_SLOT_BYTES, Slot, StoredGrant};
use crate::store::{Area, Key, ObjectStore};

/// Slots of which both copies are read at once.
const ASKED_SLOTS: usize = 64;

/// A slot as it lies in the store, and the root key that it grants.
pub struct StoredSlot {
    /// What it says.
    pub slot: Slot,
    /// The root key it grants.
    pub root: KeyId,
    /// How its two copies stand to each other.
    pub copies: Copies,
}

/// How the two copies of a slot stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// They are alike.
    Alike,
    /// They differ, and this is the object itself. One of them is damaged; which, shows when they are opened.
    First,
    /// They differ, and this is its `.copy`.
    Second,
    /// The other one is missing, makes no sense or was not looked at.
    Alone,
}

impl StoredSlot {
    /// Whether another copy of it says something else.
    pub fn has_other(&self) -> bool {
        matches!(self.copies, Copies::First | Copies::Second)
    }
}

/// All slots, readable without any key, sorted by when they were made. Slots that cannot be read are left out when
/// others can: one damaged slot must not lock out those who hold another. A slot whose two copies differ is there
/// twice, since which of them is damaged shows only when it is opened.
pub fn list(store: &dyn ObjectStore) -> Result<Vec<StoredSlot>> {
    let mut names = Vec::new();
    store.list(Area::Keys, &mut |listed| {
        names.extend(twice::plain_name(Area::Keys, &listed.name).map(str::to_owned));
    })?;
    names.sort();
    names.dedup();
    let keys: Vec<Key> = names.iter().map(|name| Key::new(Area::Keys, name)).collect();
    let mut found = Vec::new();
    let mut first_error = None;
    let store = &Ahead::new(store);
    for (number, key) in keys.iter().enumerate() {
        if number % ASKED_SLOTS == 0 {
            let both = keys[number..].iter().take(ASKED_SLOTS).flat_map(|key| [key.clone(), copy_of(key)]);
            store.ask(&both.map(|key| (key, MAX_SLOT_BYTES as u64)).collect::<Vec<_>>(), &[]);
        }
        match read_both(store, key) {
            (Ok(first), Ok(second)) if first.bytes == second.bytes => found.push(first.says(Copies::Alike)),
            (Ok(first), Ok(second)) => found.extend([first.says(Copies::First), second.says(Copies::Second)]),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => found.push(one.says(Copies::Alone)),
            (Err(first), Err(second)) => {
                // That one of the two is missing says less than what is wrong with the other.
                let error = if first.kind() == Kind::NotFound { second } else { first };
                first_error.get_or_insert(error);
            }
        }
    }
    match (found.is_empty(), first_error) {
        (true, Some(error)) => Err(error),
        _ => {
            found.sort_by_key(|stored| (stored.slot.created_ns, stored.slot.id));
            Ok(found)
        }
    }
}

/// One of the copies of a slot.
struct One {
    bytes: Vec<u8>,
    slot: Slot,
    root: KeyId,
}

impl One {
    fn says(self, copies: Copies) -> StoredSlot {
        StoredSlot { slot: self.slot, root: self.root, copies }
    }
}

/// All slots, each as its object says, or its copy where that cannot be read: what is needed to open one of them. Whether
/// the two are alike is not looked at.
pub fn list_once(store: &dyn ObjectStore) -> Result<Vec<StoredSlot>> {
    let (mut found, mut first_error) = (Vec::new(), None);
    for key in twice::names_twice(store, Area::Keys)? {
        match read_one(store, &key, &key).or_else(|error| read_one(store, &key, &copy_of(&key)).map_err(|_| error)) {
            Ok(one) => found.push(one.says(Copies::Alone)),
            Err(error) => drop(first_error.get_or_insert(error)),
        }
    }
    found.sort_by_key(|stored| (stored.slot.created_ns, stored.slot.id));
    match first_error {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}

/// A slot's object and its copy, each as it is or why it is not.
fn read_both(store: &dyn ObjectStore, key: &Key) -> (Result<One>, Result<One>) {
    (read_one(store, key, key), read_one(store, key, &copy_of(key)))
}

/// The slot `key` as the object says that lies `at`.
fn read_one(store: &dyn ObjectStore, key: &Key, at: &Key) -> Result<One> {
    decode_slot(key, store.get(at, MAX_SLOT_BYTES as u64)?)
}

fn decode_slot(key: &Key, bytes: Vec<u8>) -> Result<One> {
    let (slot, root) = Slot::decode(&bytes).map_err(Error::object(key))?;
    match slot.id.to_string() == key.name() {
        true => Ok(One { bytes, slot, root }),
        false => Err(Error::damaged(key, "it is the slot of another name")),
    }
}

/// What can be said of one copy of the slot at `key` when `unlock` may be its secret.
pub fn judge(key: &Key, bytes: &[u8], repository: RepositoryId, root: KeyId, unlock: &Unlock) -> Verdict {
    let opens = |one: One| open(&one.says(Copies::Alone), repository, unlock).is_ok();
    match judge_unopened(key, bytes, root) {
        // If not it is somebody else's, or damaged where only its own secret shows it.
        Verdict::Sound if decode_slot(key, bytes.to_vec()).is_ok_and(opens) => Verdict::Proven(0),
        verdict => verdict,
    }
}

/// The same, for somebody who has no secret of it.
pub fn judge_unopened(key: &Key, bytes: &[u8], root: KeyId) -> Verdict {
    match decode_slot(key, bytes.to_vec()) {
        Err(error) if error.kind() == Kind::Unsupported => Verdict::Foreign,
        Err(error) => Verdict::Damaged(error.to_string()),
        Ok(one) if one.root != root => Verdict::Foreign,
        Ok(_) => Verdict::Sound,
    }
}

/// Where a slot lies.
pub fn slot_key(id: SlotId) -> Key {
    Key::new(Area::Keys, id)
}

/// Makes a slot that `unlock` opens, stores it and proves that it opens before it is relied on.
pub fn add(
    store: &dyn ObjectStore,
    repository: RepositoryId,
    root: &RootKey,
    unlock: &Unlock,
    kind: GuardKind,
    label: &str,
    clock: &Clock,
) -> Result<SlotId> {
    let (private, parts) = slots::create_slot(unlock, kind)?;
    let now_ns = clock.now().as_nanosecond() as i64;
    let slot = Slot { proven_ns: now_ns, ..new_slot(&parts, label, now_ns)? };
    let id = slot.id;
    let stored = save(store, repository, root, private.grant_key(), slot)?;
    open(&stored, repository, unlock)?;
    Ok(id)
}

/// A slot to be made.
pub struct NewSlot<'s> {
    /// What is to open it.
    pub unlock: &'s Unlock,
    /// How it is guarded.
    pub kind: GuardKind,
    /// What people call it.
    pub label: &'s str,
    /// What time it is.
    pub clock: &'s Clock,
}

/// Makes a slot for a client that may only write, which grants it `credential`; stores it and proves that it opens.
pub fn add_client(
    store: &dyn ObjectStore,
    repository: RepositoryId,
    root: &RootKey,
    new: &NewSlot<'_>,
    credential: &Secret<Vec<u8>>,
) -> Result<SlotId> {
    let (private, parts) = slots::create_slot(new.unlock, new.kind)?;
    let now_ns = new.clock.now().as_nanosecond() as i64;
    let access = Some(Access::WriteOnly);
    let slot = Slot { proven_ns: now_ns, access, ..new_slot(&parts, new.label, now_ns)? };
    let id = slot.id;
    let stored = save_credential(store, repository, root, private.grant_key(), slot, credential)?;
    open(&stored, repository, new.unlock)?;
    Ok(id)
}

/// Makes a slot of the same client, with the same public half and guard, that grants `credential` and belongs to the root
/// key `to`. Fails with [`Kind::Damaged`] for a slot that was not made by somebody who had the root key `from`.
pub fn grant_credential_anew(
    store: &dyn ObjectStore,
    repository: RepositoryId,
    (from, to): (&RootKey, &RootKey),
    old: &StoredSlot,
    credential: &Secret<Vec<u8>>,
) -> Result<SlotId> {
    let old = &old.slot;
    let grant_key = slots::open_grant_key(from, &repository, &old.public, &old.psk_under_root.0)?;
    let slot = Slot { id: SlotId(random::bytes()), replaces: Some(old.id), ..old.clone() };
    let id = slot.id;
    save_credential(store, repository, to, Some(&grant_key), slot, credential)?;
    Ok(id)
}

/// Grants a credential to `slot`, stores it twice and reads it back.
fn save_credential(
    store: &dyn ObjectStore,
    repository: RepositoryId,
    root: &RootKey,
    grant_key: Option<&Secret<[u8; 32]>>,
    mut slot: Slot,
    credential: &Secret<Vec<u8>>,
) -> Result<StoredSlot> {
    let refused =
        || Error::Refused("a write-only key is a password, a key file or a command, never a recipient".to_owned());
    let grant_key = grant_key.ok_or_else(refused)?;
    slot.psk_under_root = Bytes(slots::seal_grant_key(root, &repository, &slot.public, grant_key));
    slot.grant = None;
    let associated = slot.associated(root.key_id());
    let grant = slots::grant_credential(&slot.public, grant_key, &repository, &associated, credential)?;
    put(store, root, slot, grant)
}

/// Makes a slot for a recipient and stores it. Whether it opens shows only when he tries: nobody here can.
pub fn add_recipient(
    store: &dyn ObjectStore,
    repository: RepositoryId,
    root: &RootKey,
    recipient: &Recipient,
    label: &str,
    clock: &Clock,
) -> Result<SlotId> {
    let slot = new_slot(&recipient.slot(), label, clock.now().as_nanosecond() as i64)?;
    let id = slot.id;
    save(store, repository, root, None, slot)?;
    Ok(id)
}

/// Makes a slot with the same public half and guard that grants the root key `to` in place of `from`. Fails with
/// [`Kind::Damaged`] for a slot that was not made by somebody who had the root key `from`.
pub fn grant_anew(
    store: &dyn ObjectStore,
    repository: RepositoryId,
    (from, to): (&RootKey, &RootKey),
    old: &StoredSlot,
    proven_ns: Option<i64>,
) -> Result<()> {
    let old = &old.slot;
    let grant_key = slots::open_grant_key(from, &repository, &old.public, &old.psk_under_root.0)?;
    let grant_key = slots::vouched(&load_guard(old)?).then_some(grant_key);
    let slot = Slot {
        id: SlotId(random::bytes()),
        proven_ns: old.proven_ns.max(proven_ns.unwrap_or(0)),
        replaces: Some(old.id),
        ..old.clone()
    };
    save(store, repository, to, grant_key.as_ref(), slot).map(drop)
}

/// A slot that grants nothing yet.
fn new_slot(parts: &SlotParts, label: &str, now_ns: i64) -> Result<Slot> {
    if label.len() > MAX_LABEL_BYTES {
        let text = format!("a label of {} bytes is too long: {MAX_LABEL_BYTES} are the most", label.len());
        return Err(Error::Refused(text));
    }
    Ok(Slot {
        id: SlotId(random::bytes()),
        created_ns: now_ns,
        label: label.to_owned(),
        public: parts.public,
        guard: store_guard(&parts.guard),
        psk_under_root: Bytes::default(),
        grant: None,
        proven_ns: 0,
        replaces: None,
        access: None,
        unknown: Unknown::none(),
    })
}

/// Grants the root key to `slot`, stores it twice and reads it back. A recipient has no grant key: what is sealed in
/// its place says only that somebody with the root key made the slot.
fn save(
    store: &dyn ObjectStore,
    repository: RepositoryId,
    root: &RootKey,
    grant_key: Option<&Secret<[u8; 32]>>,
    mut slot: Slot,
) -> Result<StoredSlot> {
    let nobodys = Secret::new(random::bytes());
    let vouching = grant_key.unwrap_or(&nobodys);
    slot.psk_under_root = Bytes(slots::seal_grant_key(root, &repository, &slot.public, vouching));
    let associated = slot.associated(root.key_id());
    let grant = slots::grant(&slot.public, grant_key, &repository, &associated, root)?;
    put(store, root, slot, grant)
}

fn put(store: &dyn ObjectStore, root: &RootKey, mut slot: Slot, grant: Grant) -> Result<StoredSlot> {
    slot.grant = Some(StoredGrant { encapsulated: grant.enc, sealed: Bytes(grant.sealed), unknown: Unknown::none() });
    let key = slot_key(slot.id);
    write_twice(store, &key, &slot.encode(root.key_id()))?;
    let (slot, root) = Slot::decode(&store.get(&key, MAX_SLOT_BYTES as u64)?).map_err(Error::object(&key))?;
    Ok(StoredSlot { slot, root, copies: Copies::Alike })
}

/// What a slot grants.
pub enum Granted {
    /// The root key.
    Root(RootKey),
    /// What a client needs that may only write.
    Client(Box<Client>),
}

/// What a client gets from its slot.
pub struct Client {
    /// What it was granted.
    pub credential: Credential,
    /// The key of its local caches.
    pub cache: ClassKey,
}

/// Opens a slot: what it grants.
pub fn open(stored: &StoredSlot, repository: RepositoryId, unlock: &Unlock) -> Result<Granted> {
    let slot = &stored.slot;
    let parts = SlotParts { public: slot.public, guard: load_guard(slot)? };
    let private = slots::open_private(&parts, unlock)?;
    let grant =
        slot.grant.as_ref().ok_or_else(|| Error::damaged(format!("key slot {}", slot.id), "it grants no key"))?;
    let grant = Grant { enc: grant.encapsulated, sealed: grant.sealed.0.clone() };
    let associated = slot.associated(stored.root);
    Ok(match slot.access {
        None => Granted::Root(slots::accept(&private, &grant, &repository, &associated)?),
        Some(Access::WriteOnly) => {
            let granted = slots::accept_credential(&private, &grant, &repository, &associated)?;
            let credential = Credential::decode(&granted)?;
            Granted::Client(Box::new(Client { credential, cache: private.cache_key() }))
        }
    })
}

/// Whether the grant of this slot says that somebody who had the root key made it.
pub fn is_vouched(stored: &StoredSlot) -> bool {
    stored.slot.guard.kind != StoredKind::Recipient
}

/// Removes a slot. Never the last one: that is the caller's to see to.
pub fn remove(store: &dyn ObjectStore, id: SlotId) -> Result<()> {
    let key = Key::new(Area::Keys, id);
    store.delete(&copy_of(&key))?;
    store.delete(&key)?;
    // A key that was taken away must not open anything again after a power cut.
    store.flush(Area::Keys)?;
    Ok(())
}

/// Whether an attempt that failed like this says that the secret is not this slot's, rather than that the slot is
/// broken.
pub fn is_wrong_secret(error: &Error) -> bool {
    error.kind() == Kind::WrongKey || matches!(error, Error::Crypto(crate::crypto::Error::OtherUnlock))
}

fn store_guard(guard: &slots::Guard) -> Guard {
    let plain = |kind, sealed: &[u8]| Guard {
        kind,
        salt: Bytes::default(),
        memory_kib: None,
        passes: None,
        lanes: None,
        sealed: Bytes(sealed.to_vec()),
        unknown: Unknown::none(),
    };
    match guard {
        slots::Guard::Passphrase { stretch, sealed } => Guard {
            salt: Bytes(stretch.salt.clone()),
            memory_kib: Some(stretch.cost.memory_kib),
            passes: Some(stretch.cost.passes),
            lanes: Some(stretch.cost.lanes),
            ..plain(StoredKind::Passphrase, sealed)
        },
        slots::Guard::KeyFile { sealed } => plain(StoredKind::KeyFile, sealed),
        slots::Guard::Command { sealed } => plain(StoredKind::Command, sealed),
        slots::Guard::Recipient => plain(StoredKind::Recipient, &[]),
    }
}

fn load_guard(slot: &Slot) -> Result<slots::Guard> {
    let guard = &slot.guard;
    let sealed = guard.sealed.0.clone();
    Ok(match guard.kind {
        StoredKind::Passphrase => {
            let (Some(memory_kib), Some(passes), Some(lanes)) = (guard.memory_kib, guard.passes, guard.lanes) else {
                return Err(Error::damaged(format!("key slot {}", slot.id), "it does not say how to stretch"));
            };
            let cost = StretchCost { memory_kib, passes, lanes };
            slots::Guard::Passphrase { stretch: Stretch { cost, salt: guard.salt.0.clone() }, sealed }
        }
        StoredKind::KeyFile => slots::Guard::KeyFile { sealed },
        StoredKind::Command => slots::Guard::Command { sealed },
        StoredKind::Recipient => slots::Guard::Recipient,
    })
}
