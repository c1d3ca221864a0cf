//! The keys of a repository and what hangs on what.
//!
//! ```text
//! root key (random, granted to key slots)
//! ├── proof that `config` was written by a holder of the root key
//! ├── seal of epochs
//! ├── seal of the slots' grant keys
//! └── per class (dedup, index, metadata, data): wrapping key ── wraps ──> class key (random, one per epoch)
//!                                                                         ├── key id
//!                                                                         ├── seal per kind of object
//!                                                                         ├── names, marks, gear (dedup only)
//!                                                                         └── X25519 recipient for session keys
//! ```
//!
//! Everything below a key is derived with BLAKE3 `derive_key` under a context that begins `keepstone v1 `. Class keys
//! are wrapped separately, so that a reader of the index need not be able to read data.

use super::hpke::{self, Sender};
use super::{Error, Forged, SivKey, same_bytes};
use crate::base::{KeyId, Secret, random};
use std::fmt;
use zeroize::Zeroize;

/// What a class key opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Names, marks and the gear table: what says whether two things are the same.
    Dedup = 1,
    /// Index segments and pack directories.
    Index = 2,
    /// Trees, snapshots, runs.
    Metadata = 3,
    /// The content of files and streams.
    Data = 4,
}

impl Class {
    /// Every class, in the order of their numbers.
    pub const ALL: [Class; 4] = [Class::Dedup, Class::Index, Class::Metadata, Class::Data];

    /// The number that stands for the class in stored bytes.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The class with this number, if there is one.
    pub fn from_number(number: u8) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.number() == number)
    }

    /// Its name, as contexts of derived keys and messages say it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Dedup => "dedup",
            Class::Index => "index",
            Class::Metadata => "metadata",
            Class::Data => "data",
        }
    }
}

/// The key at the top: who has it can read everything and make epochs and slots.
#[derive(Clone)]
pub struct RootKey(Secret<[u8; 32]>);

impl RootKey {
    /// A new random root key.
    pub fn generate() -> RootKey {
        RootKey(random_secret())
    }

    /// A root key whose bytes are known: one that was granted or kept elsewhere, or one of the test vectors.
    pub fn from_bytes(bytes: Secret<[u8; 32]>) -> RootKey {
        RootKey(bytes)
    }

    pub(super) fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// Says which root key this is; reveals nothing of it.
    pub fn key_id(&self) -> KeyId {
        key_id(&self.0, "keepstone v1 root key id")
    }

    /// A proof that `config` was written by a holder of this key: its BLAKE3 keyed hash under a derived key.
    pub fn config_proof(&self, config: &[u8]) -> [u8; 32] {
        let key = derive(&self.0, "keepstone v1 config proof");
        *blake3::keyed_hash(key.expose(), config).as_bytes()
    }

    /// Compares the proof of `config` in constant time.
    pub fn verify_config(&self, config: &[u8], proof: &[u8; 32]) -> Result<(), Forged> {
        match same_bytes(&self.config_proof(config), proof) {
            true => Ok(()),
            false => Err(Forged),
        }
    }

    /// The key that wraps class keys of one class.
    pub fn wrap_key(&self, class: Class) -> SivKey {
        derive_siv(&self.0, &format!("keepstone v1 wrap {}", class.name()))
    }

    /// The key that seals epochs.
    pub fn epoch_key(&self) -> SivKey {
        derive_siv(&self.0, "keepstone v1 epoch")
    }

    /// The key that seals the slots' grant keys.
    pub(super) fn grant_psk_key(&self) -> SivKey {
        derive_siv(&self.0, "keepstone v1 grant psk")
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKey({})", self.key_id().short())
    }
}

/// The key of one class in one epoch, or in one session of a client that may only write.
#[derive(Clone)]
pub struct ClassKey {
    class: Class,
    id: KeyId,
    key: Secret<[u8; 32]>,
}

impl ClassKey {
    /// A new random key.
    pub fn generate(class: Class) -> ClassKey {
        ClassKey::new(class, random_secret())
    }

    /// A key as it was unwrapped.
    pub fn new(class: Class, key: Secret<[u8; 32]>) -> ClassKey {
        let id = key_id(&key, "keepstone v1 key id");
        ClassKey { class, id, key }
    }

    /// The class it was made for.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Says in stored bytes which key this is; reveals nothing of it.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The bytes, to be wrapped.
    pub fn expose(&self) -> &[u8; 32] {
        self.key.expose()
    }

    /// The key that seals objects of one kind, by the kind's number in the envelope.
    pub fn sub_key(&self, kind: u8) -> SivKey {
        let class = self.class.name();
        derive_siv(&self.key, &format!("keepstone v1 {class} object {kind}"))
    }

    pub(super) fn derive(&self, context: &str) -> Secret<[u8; 32]> {
        derive(&self.key, context)
    }

    /// The X25519 public key to which a client without this key wraps its session keys.
    pub fn recipient_public(&self) -> [u8; 32] {
        hpke::public_of(&self.recipient_private())
    }

    /// Opens a session key that [`wrap_to`] wrapped to this key's recipient. `aad` is what was given there.
    pub fn unwrap_session_key(&self, wrapped: &[u8], aad: &[u8]) -> Result<ClassKey, Error> {
        let (enc, sealed) = wrapped.split_first_chunk().ok_or(Error::Altered { what: "wrapped session key" })?;
        let opened = hpke::open(&self.recipient_private(), Sender::Anybody, SESSION_KEY_INFO, aad, enc, sealed);
        let plain = opened.map_err(|Forged| Error::Altered { what: "wrapped session key" })?;
        session_key_from(plain.expose())
    }

    fn recipient_private(&self) -> Secret<[u8; 32]> {
        self.derive("keepstone v1 session key recipient")
    }
}

impl fmt::Debug for ClassKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClassKey({:?}, {})", self.class, self.id.short())
    }
}

const SESSION_KEY_INFO: &[u8] = b"keepstone v1 session key";

/// Wraps a session key to the recipient of a class key: HPKE in base mode. Anybody may do so and that is the point;
/// what a session key seals is no better authenticated than the store is.
///
/// ```text
/// 32  encapsulated key
/// 33  sealed: class number (1), key (32)
/// 16  authentication tag
/// ```
pub fn wrap_to(recipient_public: &[u8; 32], session_key: &ClassKey, aad: &[u8]) -> Result<Vec<u8>, Error> {
    let mut plain = Secret::new([0; 33]);
    let (class, key) = plain.expose_mut().split_at_mut(1);
    class[0] = session_key.class.number();
    key.copy_from_slice(session_key.expose());
    let (enc, sealed) = hpke::seal(recipient_public, Sender::Anybody, SESSION_KEY_INFO, aad, plain.expose())?;
    Ok([&enc[..], &sealed].concat())
}

fn session_key_from(plain: &[u8]) -> Result<ClassKey, Error> {
    let parts = plain.split_first().and_then(|(class, key)| {
        let key: &[u8; 32] = key.try_into().ok()?;
        Some((Class::from_number(*class)?, Secret::new(*key)))
    });
    let (class, key) = parts.ok_or(Error::Unknown { what: "wrapped session key" })?;
    Ok(ClassKey::new(class, key))
}

fn random_secret() -> Secret<[u8; 32]> {
    let mut secret = Secret::new([0; 32]);
    random::fill(secret.expose_mut());
    secret
}

fn key_id(key: &Secret<[u8; 32]>, context: &str) -> KeyId {
    let derived = derive(key, context);
    let (first, _) = derived.expose().split_first_chunk().expect("32 bytes begin with 16");
    KeyId(*first)
}

/// BLAKE3 `derive_key`.
pub(super) fn derive(key: &Secret<[u8; 32]>, context: &str) -> Secret<[u8; 32]> {
    let mut derived = Secret::new([0; 32]);
    fill_derived(key.expose(), context, derived.expose_mut());
    derived
}

/// BLAKE3 `derive_key`, extended to the 64 bytes of a SIV key.
pub(super) fn derive_siv(key: &Secret<[u8; 32]>, context: &str) -> SivKey {
    let mut derived = Secret::new([0; 64]);
    fill_derived(key.expose(), context, derived.expose_mut());
    SivKey::new(derived.expose())
}

pub(super) fn fill_derived(material: &[u8], context: &str, derived: &mut [u8]) {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(material);
    let mut output = hasher.finalize_xof();
    output.fill(derived);
    output.zeroize();
    hasher.zeroize();
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::Kind;
    use crate::base::ids::to_hex;
    use std::collections::HashSet;

    fn root() -> RootKey {
        RootKey::from_bytes(Secret::new([1; 32]))
    }

    fn class_key(class: Class) -> ClassKey {
        ClassKey::new(class, Secret::new([2; 32]))
    }

    /// What a seal key makes of a fixed text: tells keys apart without showing them.
    fn fingerprint(key: &SivKey) -> String {
        to_hex(&key.seal_in_place(&[], &mut []))
    }

    #[test]
    fn no_two_derived_keys_are_the_same() {
        let mut seen = HashSet::new();
        for class in Class::ALL {
            assert!(seen.insert(fingerprint(&root().wrap_key(class))));
            for kind in 0..=255 {
                assert!(seen.insert(fingerprint(&class_key(class).sub_key(kind))));
            }
        }
        assert!(seen.insert(fingerprint(&root().epoch_key())));
        assert!(seen.insert(fingerprint(&root().grant_psk_key())));
    }

    #[test]
    fn the_derivations_stay_as_they_are() {
        // Repositories in the world depend on these bytes; they never change.
        assert_eq!(root().key_id().to_string(), "7d2cd0e5f53f7cfb56dee69e724ad8cc");
        assert_eq!(
            to_hex(&root().config_proof(b"config")),
            "6ace9a2a57814f0f0bea19ad79a213c2ac102c048c620559720b0e9f3ceb119f"
        );
        assert_eq!(fingerprint(&root().wrap_key(Class::Index)), "f2f7ec2a7f261759026babec3cd05e57");
        assert_eq!(fingerprint(&root().epoch_key()), "b27199c88af7d0aa91cdd608b1064f7e");
        assert_eq!(fingerprint(&root().grant_psk_key()), "c495fab1bd05787b6a55581d2deee4b9");
        let key = class_key(Class::Data);
        assert_eq!(key.id().to_string(), "d582a97a9b60650acc33b0858cf15584");
        assert_eq!(fingerprint(&key.sub_key(3)), "ebe26adbeb6c80162429a7235be6acc6");
        assert_eq!(to_hex(&key.recipient_public()), "7552a6cd6e42b9deb597f88293c6d514dc3dc9fb2cc9ee7fd932c4edd58e911b");
    }

    #[test]
    fn class_numbers_are_one_to_four() {
        assert_eq!(Class::ALL.map(Class::number), [1, 2, 3, 4]);
        assert_eq!(Class::ALL.map(|class| Class::from_number(class.number())), Class::ALL.map(Some));
        assert_eq!(Class::from_number(0), None);
        assert_eq!(Class::from_number(5), None);
    }

    #[test]
    fn a_changed_config_is_refused() {
        let proof = root().config_proof(b"config");
        assert_eq!(root().verify_config(b"config", &proof), Ok(()));
        assert_eq!(root().verify_config(b"confid", &proof), Err(Forged));
        assert_eq!(RootKey::generate().verify_config(b"config", &proof), Err(Forged));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let printed = format!("{:?} {:?} {:?}", root(), class_key(Class::Data), root().epoch_key());
        assert!(!printed.contains("0101") && !printed.contains("0202"), "{printed}");
    }

    #[test]
    fn a_session_key_comes_back_only_to_its_recipient_and_unaltered() {
        let holder = class_key(Class::Data);
        let session_key = ClassKey::generate(Class::Data);
        let wrapped = wrap_to(&holder.recipient_public(), &session_key, b"aad").unwrap();
        let unwrapped = holder.unwrap_session_key(&wrapped, b"aad").unwrap();
        assert_eq!((unwrapped.class(), unwrapped.id()), (Class::Data, session_key.id()));

        let stranger = ClassKey::generate(Class::Data);
        let refused = [
            stranger.unwrap_session_key(&wrapped, b"aad"),
            holder.unwrap_session_key(&wrapped, b"other"),
            holder.unwrap_session_key(&wrapped[..31], b"aad"),
            holder.unwrap_session_key(&wrapped[..80], b"aad"),
        ];
        for answer in refused {
            assert_eq!(answer.unwrap_err().kind(), Kind::Damaged);
        }
    }
}
