//! Key slots and epochs.
//!
//! An epoch is an envelope sealed under the root key's epoch key. A **slot** can be read before any key is known:
//!
//! ```text
//! offset size
//!      0    4  magic "KEEP"
//!      4    2  format version, little-endian
//!      6    1  kind 2
//!      7    1  0
//!      8   16  key id of the root key that it grants
//!     24    4  length n of the CBOR, little-endian
//!     28    n  CBOR
//! ```
//!
//! Everything in it is authenticated when its grant is accepted: the grant's associated data is bytes 0 to 23, then
//! the CBOR of the slot without the grant.

use super::cbor::{Bytes, Cbor, numbered, record};
use super::envelope::{HEADER_BYTES, ObjectKind, read_header};
use super::{Error, MAGIC, VERSION};
use crate::base::{EpochId, KeyId, SlotId};

/// The largest slot that is read.
pub const MAX_SLOT_BYTES: usize = 64 << 10;
/// The largest epoch that is read.
pub const MAX_EPOCH_BYTES: usize = 64 << 10;
/// The longest label of a slot, in bytes.
pub const MAX_LABEL_BYTES: usize = 1024;
/// The most epochs of which a client that may only write gets the keys.
pub const MAX_CLIENT_EPOCHS: usize = 240;
/// A sealed private half with its pre-shared key: synthetic IV, 32 bytes, 32 bytes.
pub const SEALED_PRIVATE_BYTES: usize = 80;
/// A sealed key of 32 bytes, a synthetic IV or an authentication tag included.
pub const SEALED_KEY_BYTES: usize = 48;

numbered! {
    /// How a slot's private half is guarded.
    GuardKind {
        /// By a passphrase, stretched with argon2id.
        Passphrase = 1,
        /// By the content of a file.
        KeyFile = 2,
        /// By the output of a command.
        Command = 3,
        /// Not stored: somebody holds it.
        Recipient = 4,
    }
}

numbered! {
    /// What a slot grants besides or instead of the root key.
    Access {
        /// No root key: a `Credential`, with which one can back up and not read.
        WriteOnly = 1,
    }
}

record! {
    /// The guard of a slot's private half.
    Guard {
        /// How.
        1 => kind: GuardKind,
        /// Salt for argon2id.
        2 => salt: Bytes,
        /// Memory for argon2id in KiB.
        3 => memory_kib: Option<u32>,
        /// Passes of argon2id.
        4 => passes: Option<u32>,
        /// Lanes of argon2id.
        5 => lanes: Option<u32>,
        /// The private half and the grant's pre-shared key, sealed: synthetic IV, ciphertext.
        6 => sealed: Bytes,
    } checked by Guard::check
}

impl Guard {
    /// Whether it has the fields that its kind needs and no others.
    fn check(&self) -> Result<(), String> {
        let stretched =
            [self.memory_kib.is_some(), self.passes.is_some(), self.lanes.is_some(), self.salt.0.len() == 16];
        let fits = match self.kind {
            GuardKind::Passphrase => stretched == [true; 4] && self.sealed.0.len() == SEALED_PRIVATE_BYTES,
            GuardKind::KeyFile | GuardKind::Command => {
                stretched == [false; 4] && self.salt.0.is_empty() && self.sealed.0.len() == SEALED_PRIVATE_BYTES
            }
            GuardKind::Recipient => stretched == [false; 4] && self.salt.0.is_empty() && self.sealed.0.is_empty(),
        };
        if fits { Ok(()) } else { Err(format!("the fields of a {:?} guard do not fit", self.kind)) }
    }
}

record! {
    /// The root key or a credential, wrapped with HPKE (RFC 9180) to a slot's public half: in PSK mode, for recipients in
    /// base mode.
    StoredGrant {
        /// The encapsulated key.
        1 => encapsulated: [u8; 32],
        /// The ciphertext.
        2 => sealed: Bytes,
    } checked by StoredGrant::check
}

impl StoredGrant {
    fn check(&self) -> Result<(), String> {
        if self.sealed.0.len() >= SEALED_KEY_BYTES { Ok(()) } else { Err("a grant of the wrong length".to_owned()) }
    }
}

record! {
    /// One way to the keys.
    Slot {
        /// Its name.
        1 => id: SlotId,
        /// When it was made, nanoseconds since 1970.
        2 => created_ns: i64,
        /// What people call it.
        3 => label: String,
        /// The X25519 public half.
        4 => public: [u8; 32],
        /// What guards the private half.
        5 => guard: Guard,
        /// The grant's pre-shared key, sealed under the root key.
        6 => psk_under_root: Bytes,
        /// The root key, wrapped; or a credential. Not part of what it authenticates.
        7 => grant: Option<StoredGrant>,
        /// When the private half was last shown to open, nanoseconds since 1970; 0 for never.
        8 => proven_ns: i64,
        /// The slot whose place it took when the root key was exchanged, or the credential renewed.
        9 => replaces: Option<SlotId>,
        /// What it grants, if that is not the root key.
        10 => access: Option<Access>,
    } checked by Slot::check
}

fn slot_header(root: KeyId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[ObjectKind::Slot.number(), 0]);
    bytes.extend_from_slice(&root.0);
    bytes
}

impl Slot {
    fn check(&self) -> Result<(), String> {
        let bytes = self.label.len();
        if bytes > MAX_LABEL_BYTES {
            return Err(format!("a label of {bytes} bytes"));
        }
        let grants_root = |grant: &StoredGrant| self.access.is_some() || grant.sealed.0.len() == SEALED_KEY_BYTES;
        if !self.grant.as_ref().is_none_or(grants_root) {
            return Err("a grant of the wrong length".to_owned());
        }
        match (self.access, self.guard.kind) {
            (Some(Access::WriteOnly), GuardKind::Recipient) => Err("a credential for a recipient".to_owned()),
            _ => Ok(()),
        }
    }

    /// What the grant authenticates.
    pub fn associated(&self, root: KeyId) -> Vec<u8> {
        let bare = Slot { grant: None, ..self.clone() };
        [slot_header(root), bare.to_cbor()].concat()
    }

    /// The object's bytes.
    pub fn encode(&self, root: KeyId) -> Vec<u8> {
        let cbor = self.to_cbor();
        let length = u32::try_from(cbor.len()).expect("a slot is small");
        [&slot_header(root)[..], &length.to_le_bytes(), &cbor].concat()
    }

    /// Reads a slot and the id of the root key that it grants.
    pub fn decode(object: &[u8]) -> Result<(Slot, KeyId), Error> {
        const WHAT: &str = "key slot";
        let bad = |position: usize, reason: &str| Error::Malformed { what: WHAT, position, reason: reason.to_owned() };
        let (kind, flags, root) = read_header(object, WHAT)?;
        if kind != ObjectKind::Slot || flags != 0 {
            return Err(bad(6, "it is another kind of object"));
        }
        if object.len() > MAX_SLOT_BYTES {
            return Err(bad(object.len(), "it is too long"));
        }
        let length = object.get(HEADER_BYTES..HEADER_BYTES + 4).ok_or_else(|| bad(object.len(), "truncated"))?;
        let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        if length != object.len() - HEADER_BYTES - 4 {
            return Err(bad(HEADER_BYTES, "its length is not what it says: truncated or overwritten"));
        }
        Ok((Slot::from_cbor(&object[HEADER_BYTES + 4..], WHAT)?, root))
    }
}

record! {
    /// One class key of an epoch.
    ClassEntry {
        /// Class: 1 dedup, 2 index, 3 metadata, 4 data.
        1 => class: u32,
        /// The key's number in its class, from 1; the dedup key keeps its own when data keys change.
        2 => number: u32,
        /// The key's id.
        3 => id: KeyId,
        /// The key, sealed under the root's wrapping key of its class: synthetic IV, ciphertext.
        4 => sealed: Bytes,
    } checked by ClassEntry::check
}

impl ClassEntry {
    fn check(&self) -> Result<(), String> {
        let fits = self.sealed.0.len() == SEALED_KEY_BYTES && self.number > 0;
        if fits { Ok(()) } else { Err(format!("the key of class {} cannot be like this", self.class)) }
    }
}

record! {
    /// One generation of keys.
    Epoch {
        /// Its name.
        1 => id: EpochId,
        /// Its place in the order of generations, from 1.
        2 => number: u64,
        /// When it was made, nanoseconds since 1970.
        3 => created_ns: i64,
        /// The four class keys, by class.
        4 => classes: Vec<ClassEntry>,
        /// The epoch with the same keys whose place it took when the root key was exchanged.
        5 => replaces: Option<EpochId>,
        /// Earlier epochs, each the CBOR of an `Epoch` without this field: whoever opens this one need not read theirs.
        6 => before: Vec<Bytes>,
    } checked by Epoch::check
}

impl Epoch {
    fn check(&self) -> Result<(), String> {
        let ascending = self.classes.is_sorted_by(|a, b| a.class < b.class);
        if ascending && self.number > 0 {
            Ok(())
        } else {
            Err("its classes are not in order, or it has no number".to_owned())
        }
    }

    /// The earlier epochs that it holds. What makes no sense is passed over: each has an object of its own.
    pub fn held(&self) -> impl Iterator<Item = Epoch> + use<'_> {
        let decoded = self.before.iter().map(|bytes| Epoch::from_cbor(&bytes.0, "key epoch"));
        decoded.flatten().filter(|epoch| epoch.before.is_empty())
    }

    /// What a later one holds of it.
    pub fn to_hold(&self) -> Bytes {
        Bytes(Epoch { before: Vec::new(), ..self.clone() }.to_cbor())
    }
}

record! {
    /// What a client gets that may only write: what its slot's grant holds in place of the root key.
    Credential {
        /// The dedup key.
        1 => dedup: Bytes,
        /// What it needs of each epoch, at most [`MAX_CLIENT_EPOCHS`], the newest.
        2 => epochs: Vec<ClientEpoch>,
        /// The digest of the config, which it cannot prove otherwise.
        3 => config: [u8; 32],
    } checked by Credential::check
}

record! {
    /// What such a client needs of an epoch.
    ClientEpoch {
        /// The epoch.
        1 => id: EpochId,
        /// Its place in the order of generations.
        2 => number: u64,
        /// The index key.
        3 => index: Bytes,
        /// The id of the metadata key.
        4 => metadata: KeyId,
        /// Its recipient.
        5 => metadata_recipient: [u8; 32],
        /// The id of the data key.
        6 => data: KeyId,
        /// Its recipient.
        7 => data_recipient: [u8; 32],
        /// The public half of the signatures under the metadata key.
        8 => voucher: [u8; 32],
    } checked by ClientEpoch::check
}

impl Credential {
    fn check(&self) -> Result<(), String> {
        if self.dedup.0.len() == 32 && !self.epochs.is_empty() && self.epochs.len() <= MAX_CLIENT_EPOCHS {
            return Ok(());
        }
        Err("a key of another length, or no epoch".to_owned())
    }
}

impl ClientEpoch {
    fn check(&self) -> Result<(), String> {
        if self.index.0.len() == 32 && self.number > 0 { Ok(()) } else { Err("an index key like no other".to_owned()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::Kind;
    use crate::format::cbor::Unknown;

    const ROOT: KeyId = KeyId([1; 16]);

    fn guard(kind: GuardKind) -> Guard {
        let stretched = kind == GuardKind::Passphrase;
        let sealed = if kind == GuardKind::Recipient { 0 } else { SEALED_PRIVATE_BYTES };
        Guard {
            kind,
            salt: Bytes(vec![7; if stretched { 16 } else { 0 }]),
            memory_kib: stretched.then_some(65_536),
            passes: stretched.then_some(3),
            lanes: stretched.then_some(1),
            sealed: Bytes(vec![9; sealed]),
            unknown: Unknown::none(),
        }
    }

    fn slot() -> Slot {
        let mut unknown = Unknown::none();
        unknown.keep(40, &[0x05]);
        Slot {
            id: SlotId([5; 16]),
            created_ns: 1,
            label: "safe".into(),
            public: [3; 32],
            guard: guard(GuardKind::Passphrase),
            psk_under_root: Bytes(vec![1; 48]),
            grant: Some(StoredGrant {
                encapsulated: [8; 32],
                sealed: Bytes(vec![2; SEALED_KEY_BYTES]),
                unknown: Unknown::none(),
            }),
            proven_ns: 4,
            replaces: Some(SlotId([6; 16])),
            access: None,
            unknown,
        }
    }

    #[test]
    fn a_slot_comes_back_with_what_is_unknown_in_it() {
        assert_eq!(Slot::decode(&slot().encode(ROOT)).unwrap(), (slot(), ROOT));
    }

    #[test]
    fn a_label_has_a_longest_length() {
        let labelled = |bytes: usize| Slot { label: "é".repeat(bytes / 2), ..slot() };
        assert!(Slot::decode(&labelled(MAX_LABEL_BYTES).encode(ROOT)).is_ok());
        assert!(Slot::decode(&labelled(MAX_LABEL_BYTES + 2).encode(ROOT)).is_err());
    }

    #[test]
    fn a_grant_vouches_for_every_field_but_itself() {
        let base = slot().associated(ROOT);
        let mut more = Unknown::none();
        more.keep(40, &[0x06]);
        let changed = |change: &dyn Fn(&mut Slot)| {
            let mut slot = slot();
            change(&mut slot);
            slot.associated(ROOT) != base
        };
        assert!(changed(&|slot| slot.id.0[0] ^= 1));
        assert!(changed(&|slot| slot.created_ns += 1));
        assert!(changed(&|slot| slot.label.push('r')));
        assert!(changed(&|slot| slot.public[0] ^= 1));
        assert!(changed(&|slot| slot.guard.kind = GuardKind::KeyFile));
        assert!(changed(&|slot| slot.guard.salt.0[0] ^= 1));
        assert!(changed(&|slot| slot.guard.memory_kib = Some(8)));
        assert!(changed(&|slot| slot.guard.passes = Some(1)));
        assert!(changed(&|slot| slot.guard.lanes = Some(2)));
        assert!(changed(&|slot| slot.guard.sealed.0[0] ^= 1));
        assert!(changed(&|slot| slot.guard.unknown = more.clone()));
        assert!(changed(&|slot| slot.psk_under_root.0[0] ^= 1));
        assert!(changed(&|slot| slot.proven_ns += 1));
        assert!(changed(&|slot| slot.replaces = None));
        assert!(changed(&|slot| slot.access = Some(Access::WriteOnly)));
        assert!(changed(&|slot| slot.unknown = more.clone()));
        assert!(!changed(&|slot| slot.grant = None));
        assert_ne!(slot().associated(KeyId([2; 16])), base);
    }

    #[test]
    fn a_slot_cut_continued_or_altered_in_its_header_is_refused() {
        let object = slot().encode(ROOT);
        for length in 0..object.len() {
            assert_eq!(Slot::decode(&object[..length]).unwrap_err().kind(), Kind::Damaged, "{length}");
        }
        assert!(Slot::decode(&[&object[..], &[0]].concat()).is_err());
        for byte in (0..8).chain(HEADER_BYTES..HEADER_BYTES + 4) {
            let mut altered = object.clone();
            altered[byte] ^= 1;
            assert!(Slot::decode(&altered).is_err(), "byte {byte}");
        }
        let long = Slot { label: "x".repeat(MAX_SLOT_BYTES), ..slot() };
        assert!(Slot::decode(&long.encode(ROOT)).is_err());
    }

    #[test]
    fn a_guard_has_the_fields_of_its_kind_and_no_others() {
        let kinds = [GuardKind::Passphrase, GuardKind::KeyFile, GuardKind::Command, GuardKind::Recipient];
        for kind in kinds {
            let read = |guard: Guard| Guard::from_cbor(&guard.to_cbor(), "guard").is_ok();
            assert!(read(guard(kind)));
            let is_passphrase = kind == GuardKind::Passphrase;
            assert_eq!(read(Guard { salt: Bytes(vec![7; 16]), ..guard(kind) }), is_passphrase);
            assert_eq!(read(Guard { passes: Some(1), ..guard(kind) }), is_passphrase);
            assert!(!read(Guard { salt: Bytes(vec![7; 15]), ..guard(kind) }));
            assert!(!read(Guard { sealed: Bytes(vec![9; 79]), ..guard(kind) }));
        }
    }

    #[test]
    fn a_grant_that_is_no_root_key_belongs_to_who_only_writes_and_has_a_secret() {
        let longer = || StoredGrant {
            encapsulated: [8; 32],
            sealed: Bytes(vec![2; SEALED_KEY_BYTES + 1]),
            unknown: Unknown::none(),
        };
        let read = |slot: Slot| Slot::decode(&slot.encode(ROOT)).is_ok();
        assert!(!read(Slot { grant: Some(longer()), ..slot() }));
        let access = Some(Access::WriteOnly);
        assert!(read(Slot { grant: Some(longer()), access, ..slot() }));
        assert!(!read(Slot { guard: guard(GuardKind::Recipient), access, ..slot() }));
    }

    #[test]
    fn a_credential_has_whole_keys_and_at_least_one_epoch() {
        let epoch = || ClientEpoch {
            id: EpochId([1; 16]),
            number: 1,
            index: Bytes(vec![1; 32]),
            metadata: KeyId([2; 16]),
            metadata_recipient: [3; 32],
            data: KeyId([4; 16]),
            data_recipient: [5; 32],
            voucher: [6; 32],
            unknown: Unknown::none(),
        };
        let credential = |dedup, epochs| Credential {
            dedup: Bytes(vec![7; dedup]),
            epochs,
            config: [8; 32],
            unknown: Unknown::none(),
        };
        let read = |credential: &Credential| Credential::from_cbor(&credential.to_cbor(), "credential");
        let good = credential(32, vec![epoch()]);
        assert_eq!(read(&good).unwrap(), good);
        assert!(read(&credential(31, vec![epoch()])).is_err());
        assert!(read(&credential(32, Vec::new())).is_err());
        assert!(read(&credential(32, vec![epoch(); MAX_CLIENT_EPOCHS + 1])).is_err());
        assert!(read(&credential(32, vec![ClientEpoch { index: Bytes(vec![1; 31]), ..epoch() }])).is_err());
        // The largest fits into a slot.
        let largest = credential(32, vec![epoch(); MAX_CLIENT_EPOCHS]).to_cbor().len();
        assert!(largest + MAX_LABEL_BYTES + 1024 < MAX_SLOT_BYTES, "{largest} bytes");
    }

    fn entry(class: u32) -> ClassEntry {
        let sealed = Bytes(vec![1; SEALED_KEY_BYTES]);
        ClassEntry { class, number: 1, id: KeyId([6; 16]), sealed, unknown: Unknown::none() }
    }

    #[test]
    fn an_epoch_has_each_class_once_and_whole_keys() {
        let epoch = |classes| Epoch {
            id: EpochId([2; 16]),
            number: 1,
            created_ns: 5,
            classes,
            replaces: None,
            before: Vec::new(),
            unknown: Unknown::none(),
        };
        let read = |epoch: &Epoch| Epoch::from_cbor(&epoch.to_cbor(), "epoch");
        let good = epoch(vec![entry(1), entry(2), entry(3), entry(4)]);
        assert_eq!(read(&good).unwrap(), good);
        assert!(read(&epoch(vec![entry(1), entry(1)])).is_err());
        assert!(read(&epoch(vec![entry(2), entry(1)])).is_err());
        assert!(read(&Epoch { number: 0, ..good }).is_err());
        assert!(read(&epoch(vec![ClassEntry { number: 0, ..entry(1) }])).is_err());
        assert!(read(&epoch(vec![ClassEntry { sealed: Bytes(vec![1; 47]), ..entry(1) }])).is_err());
    }

    #[test]
    fn an_epoch_gives_back_what_it_holds_of_earlier_ones_and_passes_over_the_rest() {
        let mut unknown = Unknown::none();
        unknown.keep(40, &[0x05]);
        let classes = vec![entry(1), entry(2)];
        let bare = |id: u8| Epoch {
            id: EpochId([id; 16]),
            number: u64::from(id),
            created_ns: 5,
            classes: classes.clone(),
            replaces: None,
            before: Vec::new(),
            unknown: unknown.clone(),
        };
        let second = Epoch { before: vec![bare(1).to_hold()], ..bare(2) };
        // One within one within one is nothing that anybody writes.
        let nested = Bytes(second.to_cbor());
        let third = Epoch { before: vec![bare(1).to_hold(), second.to_hold(), Bytes(vec![0xff]), nested], ..bare(3) };
        let read = Epoch::from_cbor(&third.to_cbor(), "epoch").unwrap();
        assert_eq!(read.held().collect::<Vec<_>>(), [bare(1), bare(2)]);
    }
}
