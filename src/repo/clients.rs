//! Clients that may only write: what they hold, and how it is given and renewed.
//!
//! Such a client has a key slot like everybody else. What its slot grants is no root key but a [`Credential`]: the dedup
//! key, the index keys of all epochs, and of metadata and data keys the public halves alone. It is granted under the slot's
//! grant key, which only the client and those with the root key know, so that no client can put one in the place of
//! another's.
//!
//! A new epoch has other keys. Whoever opens one gives each client its credential anew, in a slot of a new name with the
//! same secret: clients need not be asked, since slots are key pairs. The order is new slots, epoch, old slots away: a
//! client does without the keys of an epoch that is not there yet, and refuses to work beside one of which it has none.
//! A client that is removed gets nothing of the epoch that is opened then.

use super::error::{Error, Result};
use super::keyring::class_of;
use super::slots::{self, StoredSlot};
use super::{Repository, epochs, roots};
use crate::base::{EpochId, KeyId, Kind, RepositoryId, Secret, SlotId};
use crate::crypto::keys::{Class, ClassKey, RootKey};
use crate::crypto::slots::{GuardKind, Unlock};
use crate::format::cbor::{Bytes, Cbor, Unknown};
use crate::format::config::Config;
use crate::format::keys::{self, ClientEpoch, Epoch, MAX_CLIENT_EPOCHS};
use crate::store::ObjectStore;
use std::collections::{BTreeMap, BTreeSet};

/// The feature of a repository with such clients: who does not know it must not write there, or it would vouch for what
/// nobody has looked at.
pub const FEATURE: &str = "write-only-clients";

/// What a client holds of an epoch.
pub struct EpochKeys {
    /// The epoch.
    pub id: EpochId,
    /// Its place in the order of generations.
    pub number: u64,
    /// The index key.
    pub index: ClassKey,
    /// The metadata key and its recipient.
    pub metadata: (KeyId, [u8; 32]),
    /// The data key and its recipient.
    pub data: (KeyId, [u8; 32]),
    /// The public half of signatures under the metadata key.
    pub voucher: [u8; 32],
}

/// What a client holds.
pub struct Credential {
    /// The dedup key.
    pub dedup: ClassKey,
    /// What it holds of each epoch.
    pub epochs: Vec<EpochKeys>,
    /// The digest of the config.
    pub config: [u8; 32],
}

fn take_key(class: Class, bytes: Bytes) -> ClassKey {
    let bytes = Secret::new(bytes.0);
    let mut key = Secret::new([0; 32]);
    // Their lengths were compared when they were decoded.
    key.expose_mut().copy_from_slice(bytes.expose());
    ClassKey::new(class, key)
}

impl Credential {
    /// What the bytes in a grant say.
    pub fn decode(granted: &Secret<Vec<u8>>) -> Result<Credential> {
        let stored = keys::Credential::from_cbor(granted.expose(), "credential").map_err(Error::object("key slot"))?;
        let epochs = stored.epochs.into_iter().map(|epoch| EpochKeys {
            id: epoch.id,
            number: epoch.number,
            index: take_key(Class::Index, epoch.index),
            metadata: (epoch.metadata, epoch.metadata_recipient),
            data: (epoch.data, epoch.data_recipient),
            voucher: epoch.voucher,
        });
        let epochs = epochs.collect();
        Ok(Credential { dedup: take_key(Class::Dedup, stored.dedup), epochs, config: stored.config })
    }

    /// The credential of a client of the repository with this config, from the epochs that `root` opens: the bytes for its
    /// grant.
    fn encode(root: &RootKey, epochs: &[Epoch], config: &Config) -> Result<Secret<Vec<u8>>> {
        let mut sorted: Vec<&Epoch> = epochs.iter().collect();
        sorted.sort_by_key(|epoch| (epoch.number, epoch.id));
        let newest = sorted.split_off(sorted.len().saturating_sub(MAX_CLIENT_EPOCHS));
        let dedup = class_of(root, epochs::newest(epochs)?, Class::Dedup)?;
        let stored = keys::Credential {
            dedup: Bytes(dedup.expose().to_vec()),
            epochs: newest.into_iter().map(|epoch| client_epoch(root, epoch)).collect::<Result<_>>()?,
            config: config.digest(),
            unknown: Unknown::none(),
        };
        let granted = Secret::new(stored.to_cbor());
        stored.epochs.into_iter().for_each(|epoch| drop(Secret::new(epoch.index.0)));
        drop(Secret::new(stored.dedup.0));
        Ok(granted)
    }

    /// The number of the newest epoch that it holds keys of.
    pub fn newest(&self) -> u64 {
        self.epochs.iter().map(|epoch| epoch.number).max().unwrap_or(0)
    }

    /// The epochs that it holds keys of, each with its number.
    pub fn known_epochs(&self) -> Vec<(u64, EpochId)> {
        self.epochs.iter().map(|epoch| (epoch.number, epoch.id)).collect()
    }

    /// Fails if one of the epochs that are in the store is not among those that it holds keys of.
    pub fn check_epochs(&self, there: &BTreeSet<EpochId>, location: &str) -> Result<()> {
        let known: BTreeSet<EpochId> = self.epochs.iter().map(|epoch| epoch.id).collect();
        // Of very many epochs it holds the newest.
        if known.len() >= MAX_CLIENT_EPOCHS || there.is_subset(&known) {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "the keys of {location} were renewed and this write-only key was not told, because that was interrupted: \
             run `keepstone key repair` with a password or key that opens the whole repository, then this again"
        )))
    }
}

fn client_epoch(root: &RootKey, epoch: &Epoch) -> Result<ClientEpoch> {
    let metadata = class_of(root, epoch, Class::Metadata)?;
    let data = class_of(root, epoch, Class::Data)?;
    Ok(ClientEpoch {
        id: epoch.id,
        number: epoch.number,
        index: Bytes(class_of(root, epoch, Class::Index)?.expose().to_vec()),
        metadata: metadata.id(),
        metadata_recipient: metadata.recipient_public(),
        data: data.id(),
        data_recipient: data.recipient_public(),
        voucher: metadata.voucher_public(),
        unknown: Unknown::none(),
    })
}

/// What a root key gives to clients.
pub struct Giver<'g> {
    /// The store.
    pub store: &'g dyn ObjectStore,
    /// The repository.
    pub repository: RepositoryId,
    /// Its config.
    pub config: &'g Config,
    /// The root key whose holders made the slots so far.
    pub from: &'g RootKey,
    /// The root key that the new slots belong to.
    pub to: &'g RootKey,
}

impl Giver<'_> {
    /// Gives every client of the root key `from` its credential for `epochs` anew, but those whose slots are in `but`;
    /// gives the slots that are replaced, each with the one in its place. A slot that was not made by somebody with the root
    /// key gets nothing, and one that is damaged cannot: its client will say so.
    pub fn renew(&self, epochs: &[Epoch], but: &BTreeSet<SlotId>) -> Result<BTreeMap<SlotId, SlotId>> {
        let stored = slots::list(self.store)?;
        let clients: Vec<&StoredSlot> = of_clients(&stored, self.from).collect();
        let mut renewed = BTreeMap::new();
        if clients.is_empty() {
            return Ok(renewed);
        }
        let credential = Credential::encode(self.to, epochs, self.config)?;
        // Where somebody was stopped there may be a slot and the one that was to take its place.
        let replaced: BTreeSet<SlotId> = clients.iter().filter_map(|stored| stored.slot.replaces).collect();
        for old in clients.iter().filter(|old| !replaced.contains(&old.slot.id)) {
            if but.contains(&old.slot.id) || renewed.contains_key(&old.slot.id) {
                continue;
            }
            let roots = (self.from, self.to);
            match slots::grant_credential_anew(self.store, self.repository, roots, old, &credential) {
                Ok(new) => {
                    let same = clients.iter().filter(|other| other.slot.public == old.slot.public);
                    renewed.extend(same.map(|other| (other.slot.id, new)));
                }
                Err(error) if error.kind() == Kind::Damaged => {}
                Err(error) => return Err(error),
            }
        }
        Ok(renewed)
    }
}

/// The slots of clients of a root key.
pub fn of_clients<'s>(slots: &'s [StoredSlot], root: &RootKey) -> impl Iterator<Item = &'s StoredSlot> + use<'s> {
    let root = root.key_id();
    slots.iter().filter(move |stored| stored.root == root && stored.slot.access.is_some())
}

fn renew(repository: &Repository, epochs: &[Epoch], but: &BTreeSet<SlotId>) -> Result<BTreeMap<SlotId, SlotId>> {
    let (store, root) = (&**repository.store(), repository.keyring().root()?);
    // It may have been replaced since the repository was opened.
    let config = &roots::proven_config(repository)?;
    Giver { store, repository: repository.id(), config, from: root, to: root }.renew(epochs, but)
}

/// Takes away slots that have a successor.
pub fn remove_replaced(store: &dyn ObjectStore, renewed: &BTreeMap<SlotId, SlotId>) -> Result<()> {
    renewed.keys().try_for_each(|old| slots::remove(store, *old))
}

/// Gives every client what it needs of the epochs that are there, but those whose slots are in `but`; gives the slots that
/// were renewed.
pub fn renew_all(repository: &Repository, but: &BTreeSet<SlotId>) -> Result<BTreeMap<SlotId, SlotId>> {
    let (store, root) = (&**repository.store(), repository.keyring().root()?);
    let epochs = epochs::load(store, repository.id(), root)?.epochs;
    let renewed = renew(repository, &epochs, but)?;
    remove_replaced(store, &renewed)?;
    Ok(renewed)
}

/// Gives every client what it needs of `epochs`, the newest of which is not in the store yet.
pub(super) fn renew_before(
    repository: &Repository,
    epochs: &[Epoch],
    but: &BTreeSet<SlotId>,
) -> Result<BTreeMap<SlotId, SlotId>> {
    renew(repository, epochs, but)
}

/// Adds a slot for a client that may only write, which `unlock` opens. The repository must have been prepared for such
/// clients: [`roots::prepare_for_clients`].
pub fn add(repository: &Repository, unlock: &Unlock, kind: GuardKind, label: &str) -> Result<SlotId> {
    let (store, root) = (&**repository.store(), repository.keyring().root()?);
    let before = epochs::load(store, repository.id(), root)?.epochs;
    let credential = Credential::encode(root, &before, &roots::proven_config(repository)?)?;
    let new = slots::NewSlot { unlock, kind, label, clock: repository.clock() };
    let id = slots::add_client(store, repository.id(), root, &new, &credential)?;
    // An epoch that was opened meanwhile may have come without it.
    let known: BTreeSet<EpochId> = before.iter().map(|epoch| epoch.id).collect();
    let after = epochs::load(store, repository.id(), root)?.epochs;
    if after.iter().all(|epoch| known.contains(&epoch.id)) {
        return Ok(id);
    }
    let others = slots::list(store)?.into_iter().map(|stored| stored.slot.id).filter(|other| *other != id).collect();
    let renewed = renew_all(repository, &others)?;
    Ok(renewed.get(&id).copied().unwrap_or(id))
}

/// Whether a repository is ready for clients that may only write.
pub fn is_prepared(config: &Config) -> bool {
    config.writer_features.iter().any(|feature| feature == FEATURE)
}

/// The config of a repository that is ready for clients that may only write.
pub(super) fn prepared(config: &Config) -> Config {
    let mut next = Config { revision: config.revision + 1, ..config.clone() };
    next.writer_features.push(FEATURE.to_owned());
    next
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::crypto::names::NamingKey;
    use crate::repo::keyring::{Keyring, new_epoch};

    #[test]
    fn a_credential_holds_what_one_needs_to_write_and_nothing_to_read_with() {
        let root = RootKey::generate();
        let first = new_epoch(&root, None, 1).unwrap();
        let repository = RepositoryId([4; 32]);
        let sizes = crate::chunk::Sizes::new(4 << 10, 16 << 10, 64 << 10).unwrap();
        let store = crate::store::Memory::new();
        let honoured = crate::repo::probe(&store, &crate::base::Clock::System).unwrap();
        let config = crate::repo::new_config(repository, 1, sizes, honoured);
        let full = Keyring::new(repository, root.clone(), std::slice::from_ref(&first)).unwrap();
        let second = new_epoch(&root, Some((&first, &full)), 2).unwrap();
        let epochs = [first, second];
        let full = Keyring::new(repository, root.clone(), &epochs).unwrap();
        let granted = Credential::encode(&root, &epochs, &config).unwrap();
        for secret in epochs.iter().flat_map(|epoch| {
            [Class::Metadata, Class::Data].map(|class| class_of(&root, epoch, class).unwrap().expose().to_vec())
        }) {
            assert!(granted.expose().windows(32).all(|window| window != secret));
        }
        let credential = Credential::decode(&granted).unwrap();
        assert_eq!(NamingKey::of(&credential.dedup).blob_id(b"x"), full.naming().blob_id(b"x"));
        let numbers: Vec<u64> = credential.epochs.iter().map(|epoch| epoch.number).collect();
        assert_eq!(numbers, [1, 2]);
    }
}
