//! The keys of an unlocked repository, and sealing and opening with them.

use super::error::{Error, Result};
use super::{epochs, roots};
use crate::base::{EpochId, KeyId, RepositoryId, Secret};
use crate::crypto::keys::{Class, ClassKey, RootKey};
use crate::crypto::names::{MarkKey, NamingKey};
use crate::crypto::siv::SivKey;
use crate::format::cbor::{Bytes, Cbor, Unknown};
use crate::format::envelope::{self, KeyWrap, ObjectKind};
use crate::format::keys::{ClassEntry, Epoch};
use crate::store::ObjectStore;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// All keys of a repository: the root, the class keys of every epoch and what is derived from them.
pub struct Keyring {
    repository: RepositoryId,
    root: RootKey,
    classes: RwLock<HashMap<KeyId, Arc<ClassKey>>>,
    current: RwLock<[KeyId; 4]>,
    dedup: Arc<ClassKey>,
    naming: NamingKey,
    sivs: RwLock<HashMap<(KeyId, ObjectKind), Arc<SivKey>>>,
    /// Where epochs lie that are made while this one is in use; none for a keyring by itself.
    store: Option<Arc<dyn ObjectStore>>,
    /// Keys that were looked for there in vain.
    unknown: Mutex<HashSet<KeyId>>,
}

impl Keyring {
    /// A keyring of all `epochs`; the one with the highest number is current.
    pub fn new(repository: RepositoryId, root: RootKey, epochs: &[Epoch]) -> Result<Keyring> {
        let current = current_of(epochs)?;
        let classes = open_classes(&root, epochs)?;
        let dedup = classes[&current[0]].clone();
        let naming = NamingKey::of(&dedup);
        Ok(Keyring {
            repository,
            root,
            classes: RwLock::new(classes),
            current: RwLock::new(current),
            dedup,
            naming,
            sivs: RwLock::default(),
            store: None,
            unknown: Mutex::default(),
        })
    }

    /// The same, looking for keys that it does not know in `store`: others may open new epochs meanwhile.
    pub fn with_store(self, store: Arc<dyn ObjectStore>) -> Keyring {
        Keyring { store: Some(store), ..self }
    }

    /// Takes in the keys of further epochs, to open with them; what is sealed is sealed under the same keys as before.
    pub fn learn(&self, epochs: &[Epoch]) -> Result<()> {
        let opened = open_classes(&self.root, epochs)?;
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
        let Some(store) = &self.store else { return Ok(None) };
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if unknown.contains(&key) {
            return Ok(None);
        }
        self.learn(&epochs::load(&**store, self.repository, &self.root)?.epochs)?;
        let found = known();
        if found.is_none() {
            roots::refuse_other_root(&**store, &self.root)?;
            unknown.insert(key);
        }
        Ok(found)
    }

    /// The repository's id.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// The root key.
    pub fn root(&self) -> &RootKey {
        &self.root
    }

    /// The key id that new objects of `kind` are sealed under.
    pub fn current(&self, kind: ObjectKind) -> KeyId {
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
            .ok_or_else(|| Error::UnknownKey { object: object.to_string(), key })?;
        let siv = Arc::new(class.sub_key(kind.number()));
        self.sivs.write().unwrap_or_else(PoisonError::into_inner).insert((key, kind), siv.clone());
        Ok(siv)
    }

    /// Whether a key is of an epoch, or of a session and was accepted.
    pub fn knows(&self, key: KeyId) -> bool {
        self.classes.read().unwrap_or_else(PoisonError::into_inner).contains_key(&key)
    }

    /// Takes in a session key that travels with an object or in a directory, so that [`Keyring::siv`] finds it.
    pub fn accept(&self, wrap: &KeyWrap, class: Class, object: &dyn std::fmt::Display) -> Result<()> {
        let recipient = self.class(wrap.recipient)?;
        // What lies in the index and metadata of a repository steers prune: only whoever holds the real keys may say it.
        let recipient = recipient
            .filter(|recipient| recipient.class() == class && class != Class::Index && class != Class::Dedup)
            .ok_or_else(|| Error::UnknownKey { object: object.to_string(), key: wrap.recipient })?;
        let key = recipient.unwrap_session_key(&wrap.wrapped.0, &self.repository.0)?;
        if key.class() != class {
            return Err(Error::damaged(object, "it carries a session key of another class"));
        }
        self.classes.write().unwrap_or_else(PoisonError::into_inner).insert(key.id(), Arc::new(key));
        Ok(())
    }

    /// Seals `content` as an object of `kind` under the current key.
    pub fn seal(&self, kind: ObjectKind, content: &[u8]) -> Result<Vec<u8>> {
        let key = self.current(kind);
        let siv = self.siv(key, kind, &kind.name())?;
        Ok(envelope::seal(kind, self.repository, key, &siv, content))
    }

    /// Opens an object that should be of `kind`; `name` names it in errors.
    pub fn open(&self, kind: ObjectKind, object: Vec<u8>, name: &dyn std::fmt::Display) -> Result<Vec<u8>> {
        let header = envelope::peek(&object, kind).map_err(Error::object(name))?;
        if let Some(wrap) = &header.wrap {
            self.accept(wrap, kind.class(), name)?;
        }
        let siv = self.siv(header.key, kind, name)?;
        envelope::open(object, &header, self.repository, &siv).map_err(Error::object(name))
    }

    /// Opens and decodes an object.
    pub fn load<T: Cbor>(&self, kind: ObjectKind, object: Vec<u8>, name: &dyn std::fmt::Display) -> Result<T> {
        let content = self.open(kind, object, name)?;
        T::from_cbor(&content, kind.name()).map_err(Error::object(name))
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
    Ok(Epoch { id, classes, replaces: Some(epoch.id), ..epoch.clone() })
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
    Epoch { id, number, created_ns, classes, replaces: None, unknown: Unknown::none() }
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
