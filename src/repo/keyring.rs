//! The keys of an unlocked repository, and sealing and opening with them.
//!
//! A keyring may be partial: that of a client that may only write holds the dedup key and the index keys, and session keys
//! of its own in the place of metadata and data keys. What it lacks decides what it cannot do: there is no list of what is
//! allowed.

use super::clients::Credential;
use super::error::{Error, Result};
use super::{epochs, roots};
use crate::base::{EpochId, KeyId, RepositoryId, Secret};
use crate::crypto::keys::{Class, ClassKey, RootKey};
use crate::crypto::names::{MarkKey, NamingKey};
use crate::crypto::siv::SivKey;
use crate::crypto::vouch::{SIGNATURE_BYTES, check_voucher};
use crate::crypto::wrap_to;
use crate::format::cbor::{Bytes, Cbor, Unknown};
use crate::format::envelope::{self, KeyWrap, ObjectKind};
use crate::format::keys::{ClassEntry, Epoch};
use crate::format::vouch::{self, Vouched, Voucher};
use crate::store::ObjectStore;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Who made an object, as far as its seal tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// Somebody who holds the repository's own keys.
    Full,
    /// A client that may only write, or anybody else who knows the public recipients.
    Client,
}

/// All keys of a repository: the root, the class keys of every epoch and what is derived from them. Or those of a client
/// that may only write.
pub struct Keyring {
    repository: RepositoryId,
    /// None for a client that may only write.
    root: Option<RootKey>,
    classes: RwLock<HashMap<KeyId, Arc<ClassKey>>>,
    current: RwLock<[KeyId; 4]>,
    dedup: Arc<ClassKey>,
    naming: NamingKey,
    sivs: RwLock<HashMap<(KeyId, ObjectKind), Arc<SivKey>>>,
    /// Where epochs lie that are made while this one is in use; none for a keyring by itself.
    store: Option<Arc<dyn ObjectStore>>,
    /// Keys that were looked for there in vain.
    unknown: Mutex<HashSet<KeyId>>,
    /// The session keys of a client that may only write, each wrapped to its recipient.
    wraps: HashMap<KeyId, KeyWrap>,
    /// Session keys that were taken in: whoever knows a recipient could have made them.
    sessions: RwLock<HashSet<KeyId>>,
    /// What such a client seals its local caches under.
    cache: Option<KeyId>,
    /// With what it is told who wrote something, by the metadata key of an epoch. Session keys are none.
    vouchers: RwLock<HashMap<KeyId, [u8; 32]>>,
    /// There are clients that may only write: what nobody vouches for is not relied on.
    guarded: AtomicBool,
}

impl Keyring {
    /// A keyring of all `epochs`; the one with the highest number is current.
    pub fn new(repository: RepositoryId, root: RootKey, epochs: &[Epoch]) -> Result<Keyring> {
        let current = current_of(epochs)?;
        let classes = open_classes(&root, epochs)?;
        let dedup = classes[&current[0]].clone();
        let ring = Keyring::with(repository, Some(root), classes, current, dedup);
        ring.learn_vouchers();
        Ok(ring)
    }

    fn with(
        repository: RepositoryId,
        root: Option<RootKey>,
        classes: HashMap<KeyId, Arc<ClassKey>>,
        current: [KeyId; 4],
        dedup: Arc<ClassKey>,
    ) -> Keyring {
        Keyring {
            repository,
            root,
            classes: RwLock::new(classes),
            current: RwLock::new(current),
            naming: NamingKey::of(&dedup),
            dedup,
            sivs: RwLock::default(),
            store: None,
            unknown: Mutex::default(),
            wraps: HashMap::new(),
            sessions: RwLock::default(),
            cache: None,
            vouchers: RwLock::default(),
            guarded: AtomicBool::new(false),
        }
    }

    /// The keyring of a client that may only write. It seals under session keys that it makes here and that go with it,
    /// wrapped to the recipients of the newest epoch for which `is_there` says that it is in the store.
    pub fn of_client(
        repository: RepositoryId,
        credential: &Credential,
        is_there: &dyn Fn(EpochId) -> bool,
        cache: ClassKey,
    ) -> Result<Keyring> {
        let there = credential.epochs.iter().filter(|epoch| is_there(epoch.id));
        let newest = there.max_by_key(|epoch| (epoch.number, epoch.id));
        let newest = newest.ok_or_else(|| Error::damaged("the repository", "no key epoch of this key is there"))?;
        let dedup = Arc::new(credential.dedup.clone());
        let mut classes = HashMap::new();
        let mut take = |key: ClassKey| {
            let id = key.id();
            classes.insert(id, Arc::new(key));
            id
        };
        take(credential.dedup.clone());
        let cache = take(cache);
        let mut wraps = HashMap::new();
        let mut session_key = |class, (recipient, public): &(KeyId, [u8; 32])| {
            let key = ClassKey::generate(class);
            let wrapped = Bytes(wrap_to(public, &key, &repository.0)?);
            wraps.insert(key.id(), KeyWrap { recipient: *recipient, wrapped, unknown: Unknown::none() });
            Ok::<_, Error>(key)
        };
        let metadata = take(session_key(Class::Metadata, &newest.metadata)?);
        let data = take(session_key(Class::Data, &newest.data)?);
        for epoch in &credential.epochs {
            take(epoch.index.clone());
        }
        let current = [dedup.id(), newest.index.id(), metadata, data];
        let vouchers = credential.epochs.iter().map(|epoch| (epoch.metadata.0, epoch.voucher)).collect();
        let ring = Keyring::with(repository, None, classes, current, dedup);
        let guarded = AtomicBool::new(true);
        Ok(Keyring { wraps, cache: Some(cache), vouchers: RwLock::new(vouchers), guarded, ..ring })
    }

    /// Takes in with what it is told who wrote something: called while all keys are those of epochs.
    fn learn_vouchers(&self) {
        let classes = self.classes.read().unwrap_or_else(PoisonError::into_inner);
        let metadata = classes.values().filter(|key| key.class() == Class::Metadata);
        let public: HashMap<KeyId, [u8; 32]> = metadata.map(|key| (key.id(), key.voucher_public())).collect();
        *self.vouchers.write().unwrap_or_else(PoisonError::into_inner) = public;
    }

    /// The same, looking for keys that it does not know in `store`: others may open new epochs meanwhile.
    pub fn with_store(self, store: Arc<dyn ObjectStore>) -> Keyring {
        Keyring { store: Some(store), ..self }
    }

    /// Takes in the keys of further epochs, to open with them; what is sealed is sealed under the same keys as before.
    pub fn learn(&self, epochs: &[Epoch]) -> Result<()> {
        let opened = open_classes(self.root()?, epochs)?;
        let metadata = opened.values().filter(|key| key.class() == Class::Metadata);
        let public: Vec<(KeyId, [u8; 32])> = metadata.map(|key| (key.id(), key.voucher_public())).collect();
        self.vouchers.write().unwrap_or_else(PoisonError::into_inner).extend(public);
        self.classes.write().unwrap_or_else(PoisonError::into_inner).extend(opened);
        Ok(())
    }

    /// Takes in these epochs, and seals under the newest of them from here on.
    pub fn adopt(&self, epochs: &[Epoch]) -> Result<()> {
        let current = current_of(epochs)?;
        self.learn(epochs)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        Ok(())
    }

    /// The class key of this id. One that is not known may be of an epoch that somebody opened meanwhile: it is looked
    /// for once.
    fn class(&self, key: KeyId) -> Result<Option<Arc<ClassKey>>> {
        let known = || self.classes.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(class) = known() {
            return Ok(Some(class));
        }
        let (Some(store), Some(root)) = (&self.store, &self.root) else { return Ok(None) };
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if unknown.contains(&key) {
            return Ok(None);
        }
        self.learn(&epochs::load(&**store, self.repository, root)?.epochs)?;
        let found = known();
        if found.is_none() {
            roots::refuse_other_root(&**store, root)?;
            unknown.insert(key);
        }
        Ok(found)
    }

    /// The repository's id.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// The root key; fails for a client that may only write.
    pub fn root(&self) -> Result<&RootKey> {
        self.root.as_ref().ok_or_else(|| Error::WriteOnly("do this".to_owned()))
    }

    /// Whether it is that of a client that may only write.
    pub fn is_write_only(&self) -> bool {
        self.root.is_none()
    }

    /// Fails with a key that only writes; `what` says what cannot be done, as "prune".
    pub fn check_full(&self, what: &str) -> Result<()> {
        if self.is_write_only() { Err(Error::WriteOnly(what.to_owned())) } else { Ok(()) }
    }

    /// From here on what nobody vouches for is not relied on: there are clients that may only write.
    pub fn guard(&self) {
        self.guarded.store(true, Ordering::Relaxed);
    }

    /// Whether there are clients that may only write.
    pub fn is_guarded(&self) -> bool {
        self.guarded.load(Ordering::Relaxed)
    }

    /// The wrap that has to travel with what is sealed under `key`, if it is a session key of this keyring.
    pub fn wrap_of(&self, key: KeyId) -> Option<&KeyWrap> {
        self.wraps.get(&key)
    }

    /// Signs for `content`, before which the bytes with the hash `before` lie in its object. A client that may only write
    /// vouches for nothing.
    pub fn vouch<T: Vouched>(&self, before: &[u8; 32], content: &mut T) -> Result<()> {
        *content.voucher() = None;
        if self.is_write_only() {
            return Ok(());
        }
        let key = self.current(ObjectKind::Metadata);
        let class = self.class(key)?.ok_or_else(|| Error::UnknownKey { object: T::KIND.name().to_owned(), key })?;
        let signature = class.vouch(&vouch::message(T::KIND, self.repository, before, &vouch::bare_hash(content)));
        *content.voucher() = Some(Voucher { key, signature: Bytes(signature.to_vec()), unknown: Unknown::none() });
        Ok(())
    }

    /// What tells whether a voucher holds; none if its key is that of no epoch: then it counts for nothing.
    pub fn voucher(&self, voucher: &Voucher) -> Option<VoucherCheck> {
        let public = *self.vouchers.read().unwrap_or_else(PoisonError::into_inner).get(&voucher.key)?;
        let signature = voucher.signature.0.as_slice().try_into().ok()?;
        Some(VoucherCheck { repository: self.repository, public, signature })
    }

    /// Whether somebody who holds a metadata key signed for `content`, before which the bytes with the hash `before` lie.
    pub fn is_vouched<T: Vouched>(&self, before: &[u8; 32], content: &T) -> bool {
        let mut bare = content.clone();
        let check = bare.voucher().take().and_then(|voucher| self.voucher(&voucher));
        check.is_some_and(|check| check.holds(T::KIND, before, &vouch::bare_hash(&bare)))
    }

    /// The key id that new objects of `kind` are sealed under.
    pub fn current(&self, kind: ObjectKind) -> KeyId {
        if let (ObjectKind::Cached, Some(cache)) = (kind, self.cache) {
            return cache;
        }
        self.current.read().unwrap_or_else(PoisonError::into_inner)[usize::from(kind.class().number()) - 1]
    }

    /// Whether blobs have the same names under `other`: both hold the same dedup key.
    pub fn names_like(&self, other: &Keyring) -> bool {
        self.dedup.id() == other.dedup.id()
    }

    /// The key that names blobs.
    pub fn naming(&self) -> &NamingKey {
        &self.naming
    }

    /// The key of cut marks.
    pub fn marks(&self) -> MarkKey {
        MarkKey::of(&self.dedup)
    }

    /// The seed of the chunker's gear table.
    pub fn gear_seed(&self) -> u64 {
        crate::crypto::names::gear_seed(&self.dedup)
    }

    /// The sealing key for `kind` under the class key `key`; `object` names what is being opened, for the error.
    pub fn siv(&self, key: KeyId, kind: ObjectKind, object: &dyn std::fmt::Display) -> Result<Arc<SivKey>> {
        if let Some(siv) = self.sivs.read().unwrap_or_else(PoisonError::into_inner).get(&(key, kind)) {
            return Ok(siv.clone());
        }
        let class = self
            .class(key)?
            .filter(|class| class.class() == kind.class())
            .ok_or_else(|| self.lacks(key, kind.class(), object))?;
        let siv = Arc::new(class.sub_key(kind.number()));
        self.sivs.write().unwrap_or_else(PoisonError::into_inner).insert((key, kind), siv.clone());
        Ok(siv)
    }

    fn lacks(&self, key: KeyId, class: Class, object: &dyn std::fmt::Display) -> Error {
        let object = object.to_string();
        match class {
            Class::Metadata | Class::Data if self.is_write_only() => Error::NotGranted { object, class: class.name() },
            _ => Error::UnknownKey { object, key },
        }
    }

    /// Whether a key is of an epoch, or of a session and was accepted.
    pub fn knows(&self, key: KeyId) -> bool {
        self.classes.read().unwrap_or_else(PoisonError::into_inner).contains_key(&key)
    }

    /// Whether something was to be opened that is sealed under a key which no epoch of the repository holds.
    pub fn lacks_any(&self) -> bool {
        let unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        unknown.iter().any(|key| !self.knows(*key))
    }

    /// Takes in a session key that travels with an object or in a directory, so that [`Keyring::siv`] finds it.
    pub fn accept(&self, wrap: &KeyWrap, class: Class, object: &dyn std::fmt::Display) -> Result<()> {
        let recipient = self.class(wrap.recipient)?;
        // What lies in the index and metadata of a repository steers prune: only whoever holds the real keys may say it.
        let recipient = recipient
            .filter(|recipient| recipient.class() == class && class != Class::Index && class != Class::Dedup)
            .ok_or_else(|| self.lacks(wrap.recipient, class, object))?;
        let key = recipient.unwrap_session_key(&wrap.wrapped.0, &self.repository.0)?;
        if key.class() != class {
            return Err(Error::damaged(object, "it carries a session key of another class"));
        }
        // One that is of an epoch stays what it is, whoever wraps it.
        if !self.knows(key.id()) {
            self.sessions.write().unwrap_or_else(PoisonError::into_inner).insert(key.id());
            self.classes.write().unwrap_or_else(PoisonError::into_inner).insert(key.id(), Arc::new(key));
        }
        Ok(())
    }

    fn is_session_key(&self, key: KeyId) -> bool {
        self.wraps.contains_key(&key) || self.sessions.read().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }

    /// Seals `content` as an object of `kind` under the current key.
    pub fn seal(&self, kind: ObjectKind, content: &[u8]) -> Result<Vec<u8>> {
        let key = self.current(kind);
        let siv = self.siv(key, kind, &kind.name())?;
        Ok(match self.wraps.get(&key) {
            Some(wrap) => envelope::seal_wrapped(kind, self.repository, key, &siv, content, wrap),
            None => envelope::seal(kind, self.repository, key, &siv, content),
        })
    }

    /// Opens an object that should be of `kind`; `name` names it in errors.
    pub fn open(&self, kind: ObjectKind, object: Vec<u8>, name: &dyn std::fmt::Display) -> Result<Vec<u8>> {
        Ok(self.open_of(kind, object, name)?.0)
    }

    /// The same; says who made it.
    fn open_of(&self, kind: ObjectKind, object: Vec<u8>, name: &dyn std::fmt::Display) -> Result<(Vec<u8>, Writer)> {
        let header = envelope::peek(&object, kind).map_err(Error::object(name))?;
        // What others rely on is said only by who holds the repository's own keys. A session key that travelled with
        // something else is known by now: what is sealed under it without its wrap is no better.
        let is_session = header.wrap.is_some() || self.is_session_key(header.key);
        if is_session && !matches!(kind, ObjectKind::Snapshot | ObjectKind::Run) {
            return Err(Error::damaged(name, "it is sealed under a session key: anybody could have made it"));
        }
        let writer = if is_session { Writer::Client } else { Writer::Full };
        if let Some(wrap) = header.wrap.as_ref().filter(|_| !self.knows(header.key)) {
            self.accept(wrap, kind.class(), name)?;
        }
        let siv = self.siv(header.key, kind, name)?;
        let content = envelope::open(object, &header, self.repository, &siv).map_err(Error::object(name))?;
        Ok((content, writer))
    }

    /// Opens and decodes an object; says who made it.
    pub fn load_of<T: Cbor>(
        &self,
        kind: ObjectKind,
        object: Vec<u8>,
        name: &dyn std::fmt::Display,
    ) -> Result<(T, Writer)> {
        let (content, writer) = self.open_of(kind, object, name)?;
        Ok((T::from_cbor(&content, kind.name()).map_err(Error::object(name))?, writer))
    }

    /// Opens and decodes an object.
    pub fn load<T: Cbor>(&self, kind: ObjectKind, object: Vec<u8>, name: &dyn std::fmt::Display) -> Result<T> {
        let content = self.open(kind, object, name)?;
        T::from_cbor(&content, kind.name()).map_err(Error::object(name))
    }
}

/// Tells whether a voucher holds.
pub struct VoucherCheck {
    repository: RepositoryId,
    public: [u8; 32],
    signature: [u8; SIGNATURE_BYTES],
}

impl VoucherCheck {
    /// Whether it was made for an object of `kind` with these hashes.
    pub fn holds(&self, kind: ObjectKind, before: &[u8; 32], content: &[u8; 32]) -> bool {
        let message = vouch::message(kind, self.repository, before, content);
        check_voucher(&self.public, &message, &self.signature).is_ok()
    }
}

/// The keys of the newest epoch, by class.
fn current_of(epochs: &[Epoch]) -> Result<[KeyId; 4]> {
    let newest = epochs::newest(epochs)?;
    let id_of = |class: Class| {
        let entry = newest.classes.iter().find(|entry| entry.class == u32::from(class.number()));
        entry
            .map(|entry| entry.id)
            .ok_or_else(|| Error::damaged(format!("key epoch {}", newest.id), format!("it lacks the {class:?} key")))
    };
    Ok([id_of(Class::Dedup)?, id_of(Class::Index)?, id_of(Class::Metadata)?, id_of(Class::Data)?])
}

fn open_classes(root: &RootKey, epochs: &[Epoch]) -> Result<HashMap<KeyId, Arc<ClassKey>>> {
    let mut classes = HashMap::new();
    for epoch in epochs {
        for entry in &epoch.classes {
            let key = open_class(root, epoch, entry)?;
            classes.insert(key.id(), Arc::new(key));
        }
    }
    Ok(classes)
}

/// An epoch with the same keys, sealed under another root key: an object of its own that takes the place of the first.
pub fn reseal_epoch(from: &RootKey, to: &RootKey, epoch: &Epoch) -> Result<Epoch> {
    let id = EpochId(crate::base::random::bytes());
    let mut classes = Vec::with_capacity(epoch.classes.len());
    for entry in &epoch.classes {
        let key = open_class(from, epoch, entry)?;
        classes.push(ClassEntry { unknown: entry.unknown.clone(), ..seal_class(to, id, entry.number, &key) });
    }
    // What it holds of earlier ones is sealed under the old root key.
    Ok(Epoch { id, classes, replaces: Some(epoch.id), before: Vec::new(), ..epoch.clone() })
}

/// Whether the keys of an epoch are sealed under this root key.
pub(super) fn opens(root: &RootKey, epoch: &Epoch) -> bool {
    epoch.classes.iter().all(|entry| open_class(root, epoch, entry).is_ok())
}

/// The key of one class of an epoch.
pub(super) fn class_of(root: &RootKey, epoch: &Epoch, class: Class) -> Result<ClassKey> {
    let entry = epoch.classes.iter().find(|entry| entry.class == u32::from(class.number()));
    let entry = entry.ok_or_else(|| Error::damaged(format!("key epoch {}", epoch.id), "it lacks a class key"))?;
    open_class(root, epoch, entry)
}

/// A new generation of keys. `before` is the newest so far, whose dedup key is kept: names must not change.
pub fn new_epoch(root: &RootKey, before: Option<(&Epoch, &Keyring)>, created_ns: i64) -> Result<Epoch> {
    let number = before.map_or(1, |(epoch, _)| epoch.number + 1);
    let kept = before.and_then(|(epoch, ring)| {
        let of_dedup = |entry: &&ClassEntry| entry.class == u32::from(Class::Dedup.number());
        epoch.classes.iter().find(of_dedup).map(|entry| (entry.number, ring.dedup.clone()))
    });
    Ok(epoch_of(root, number, kept, created_ns))
}

/// The first generation of keys of a repository that names blobs, and cuts and marks them, as the one of `like` does.
/// All other keys are new.
pub fn first_epoch_like(root: &RootKey, like: &Keyring, created_ns: i64) -> Epoch {
    epoch_of(root, 1, Some((1, like.dedup.clone())), created_ns)
}

/// A generation of keys with this dedup key and its number, or a new one; all others are new.
fn epoch_of(root: &RootKey, number: u64, mut dedup: Option<(u32, Arc<ClassKey>)>, created_ns: i64) -> Epoch {
    let id = EpochId(crate::base::random::bytes());
    let mut classes = Vec::new();
    for class in Class::ALL {
        let kept = dedup.take_if(|(_, key)| key.class() == class);
        let (key_number, key) = kept.unwrap_or_else(|| (number as u32, Arc::new(ClassKey::generate(class))));
        classes.push(seal_class(root, id, key_number, &key));
    }
    Epoch { id, number, created_ns, classes, replaces: None, before: Vec::new(), unknown: Unknown::none() }
}

fn class_associated(epoch: EpochId, class: Class, number: u32, key: KeyId) -> Vec<u8> {
    [b"keepstone v1 class".as_slice(), &epoch.0, &[class.number()], &number.to_le_bytes(), &key.0].concat()
}

fn seal_class(root: &RootKey, epoch: EpochId, number: u32, key: &ClassKey) -> ClassEntry {
    let mut sealed = Secret::new(key.expose().to_vec());
    let associated = class_associated(epoch, key.class(), number, key.id());
    let iv = root.wrap_key(key.class()).seal_in_place(&[&associated], sealed.expose_mut());
    ClassEntry {
        class: u32::from(key.class().number()),
        number,
        id: key.id(),
        sealed: Bytes([&iv[..], sealed.expose()].concat()),
        unknown: Unknown::none(),
    }
}

fn open_class(root: &RootKey, epoch: &Epoch, entry: &ClassEntry) -> Result<ClassKey> {
    let name = format!("key epoch {}", epoch.id);
    let class = u8::try_from(entry.class)
        .ok()
        .and_then(Class::from_number)
        .ok_or_else(|| Error::damaged(&name, format!("class {} is unknown", entry.class)))?;
    if entry.sealed.0.len() != 48 {
        return Err(Error::damaged(&name, "a wrapped key has a wrong length"));
    }
    let (iv, sealed) = entry.sealed.0.split_at(16);
    let mut key = Secret::new(<[u8; 32]>::try_from(sealed).expect("48 - 16 bytes"));
    let associated = class_associated(epoch.id, class, entry.number, entry.id);
    root.wrap_key(class)
        .open_in_place(&[&associated], &iv.try_into().expect("16 bytes"), key.expose_mut())
        .map_err(|_| Error::damaged(&name, "a wrapped key fails its authentication"))?;
    let key = ClassKey::new(class, key);
    if key.id() == entry.id { Ok(key) } else { Err(Error::damaged(&name, "a key has another id than it should")) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::{Kind, SessionId};
    use crate::format::session::Condemned;

    const REPOSITORY: RepositoryId = RepositoryId([4; 32]);

    fn record() -> Condemned {
        Condemned {
            number: 1,
            session: SessionId([1; 16]),
            at_ns: 2,
            packs: Vec::new(),
            segments: Vec::new(),
            snapshots: Vec::new(),
            kept_segments: Vec::new(),
            voucher: None,
            unknown: Unknown::none(),
        }
    }

    #[test]
    fn a_session_key_that_was_taken_in_opens_and_vouches_for_nothing() {
        let root = RootKey::generate();
        let epoch = new_epoch(&root, None, 1).unwrap();
        let metadata = class_of(&root, &epoch, Class::Metadata).unwrap();
        let ring = Keyring::new(REPOSITORY, root, &[epoch]).unwrap();
        let session = ClassKey::generate(Class::Metadata);
        let wrapped = Bytes(wrap_to(&metadata.recipient_public(), &session, &REPOSITORY.0).unwrap());
        let wrap = KeyWrap { recipient: metadata.id(), wrapped, unknown: Unknown::none() };
        ring.accept(&wrap, Class::Metadata, &"a snapshot").unwrap();
        assert!(ring.knows(session.id()));

        let nothing = vouch::nothing_before();
        let sign = |key: &ClassKey| {
            let message = vouch::message(ObjectKind::Condemned, REPOSITORY, &nothing, &record().content_hash());
            let signature = Bytes(key.vouch(&message).to_vec());
            Condemned { voucher: Some(Voucher { key: key.id(), signature, unknown: Unknown::none() }), ..record() }
        };
        assert!(ring.is_vouched(&nothing, &sign(&metadata)));
        assert!(!ring.is_vouched(&nothing, &sign(&session)));
        assert!(!ring.is_vouched(&nothing, &record()));
        let mut own = record();
        ring.vouch(&nothing, &mut own).unwrap();
        assert!(ring.is_vouched(&nothing, &own));
        assert!(!ring.is_vouched(&nothing, &Condemned { number: 2, ..own }));
    }

    #[test]
    fn a_session_key_seals_snapshots_and_runs_and_nothing_that_others_rely_on() {
        let root = RootKey::generate();
        let epoch = new_epoch(&root, None, 1).unwrap();
        let ring = Keyring::new(REPOSITORY, root.clone(), std::slice::from_ref(&epoch)).unwrap();
        let metadata = class_of(&root, &epoch, Class::Metadata).unwrap();
        let session = ClassKey::generate(Class::Metadata);
        let wrapped = Bytes(wrap_to(&metadata.recipient_public(), &session, &REPOSITORY.0).unwrap());
        let wrap = KeyWrap { recipient: metadata.id(), wrapped, unknown: Unknown::none() };
        let sealed = |kind: ObjectKind| {
            let siv = session.sub_key(kind.number());
            envelope::seal_wrapped(kind, REPOSITORY, session.id(), &siv, b"content", &wrap)
        };
        for kind in [ObjectKind::Ledger, ObjectKind::History] {
            assert_eq!(ring.open(kind, sealed(kind), &"it").unwrap_err().kind(), Kind::Damaged);
        }
        for kind in [ObjectKind::Snapshot, ObjectKind::Run] {
            assert_eq!(ring.open_of(kind, sealed(kind), &"it").unwrap(), (b"content".to_vec(), Writer::Client));
        }
        // Known by now, it is still that of a client, also where nothing says so.
        let siv = session.sub_key(ObjectKind::Snapshot.number());
        let bare = envelope::seal(ObjectKind::Snapshot, REPOSITORY, session.id(), &siv, b"content");
        assert_eq!(ring.open_of(ObjectKind::Snapshot, bare, &"it").unwrap().1, Writer::Client);
        for kind in [ObjectKind::Ledger, ObjectKind::History] {
            assert_eq!(ring.open(kind, sealed(kind), &"it").unwrap_err().kind(), Kind::Damaged);
        }
    }
}
