//! Key slots: ways to the root key.
//!
//! A slot is an X25519 key pair whose private half is guarded: by a passphrase, by a key file or a command's output,
//! or by not being stored at all. The root key is *granted* to the public half with HPKE, so the root can be changed
//! without anybody's passphrase.
//!
//! The grant uses HPKE's PSK mode. In base mode anybody who can write to the store could grant a root key of his own
//! to a slot's public key and present a repository of his own in place of ours; the next backup would be readable by
//! him. The pre-shared key (*grant key*) is known only to the slot's private part and, sealed under the root key, to
//! those who have the root: only they can make a grant that the slot accepts. The limit of this: whoever once had a
//! root key knows the grant keys of its slots, so after a leak the slots themselves must be made anew.
//!
//! A *recipient* has nothing in common with those who make his slot but his public key, so his grant is in base mode:
//! it says nothing about who made it. That is the vault's to tell him, and to remember ([`vouched`]). What of his slot
//! is sealed under the root key has another use: a root key is granted anew only to a public key that holds there.
//!
//! Structs here have plain byte fields; `format` knows how a slot is encoded.

use super::hpke::{self, Sender};
use super::keys::{Class, ClassKey, derive, derive_siv, fill_derived};
use super::{Error, Forged, RootKey, SivKey, same_bytes};
use crate::base::ids::{from_hex, to_hex};
use crate::base::{RepositoryId, Secret, random};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroize;

/// The most memory that a passphrase may cost: the whole process is to stay within 128 MiB.
pub const MAX_STRETCH_KIB: u32 = 64 * 1024;
const MAX_STRETCH_PASSES: u32 = 16;
const MAX_STRETCH_LANES: u32 = 4;

/// Bytes of a key file or of a command's output that are accepted; a caller need not read further than the largest.
pub const KEY_FILE_BYTES: std::ops::RangeInclusive<usize> = 16..=64 * 1024;

/// Private key and grant key, and the synthetic initialisation vector before them.
const SEALED_PRIVATE_BYTES: usize = 16 + 64;
const PRIVATE_HEADER: &[u8] = b"keepstone v1 slot private";
const GRANT_KEY_HEADER: &[u8] = b"keepstone v1 slot grant key";
const GRANT_INFO: &[u8] = b"keepstone v1 grant";
/// Of a grant to a client that may only write: never to be taken for a root key.
const CREDENTIAL_INFO: &[u8] = b"keepstone v1 write-only grant";

/// What the user brings to open a slot.
#[derive(Clone, Debug)]
pub enum Unlock {
    /// What the user typed, without the line end. Its bytes count: no Unicode normalisation is done here.
    Passphrase(Secret<Vec<u8>>),
    /// The content of a key file or the output of a command.
    KeyFile(Secret<Vec<u8>>),
    /// An X25519 private key that the user keeps.
    Identity(Secret<[u8; 32]>),
}

/// What keeps the private part of a slot, with everything that is stored of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Sealed under a stretched passphrase.
    Passphrase {
        /// How it is stretched.
        stretch: Stretch,
        /// The sealed private part, 80 bytes.
        sealed: Vec<u8>,
    },
    /// Sealed under the content of a key file.
    KeyFile {
        /// The sealed private part, 80 bytes.
        sealed: Vec<u8>,
    },
    /// Sealed under the output of a command; the same as a key file with that content.
    Command {
        /// The sealed private part, 80 bytes.
        sealed: Vec<u8>,
    },
    /// Not stored: the user has it.
    Recipient,
}

/// How a new slot is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardKind {
    /// By a passphrase, stretched at this cost.
    Passphrase(StretchCost),
    /// By a key file.
    KeyFile,
    /// By the output of a command.
    Command,
    /// By the user keeping the private key.
    Recipient,
}

/// What argon2id costs whoever tries a passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StretchCost {
    /// Memory in KiB; at most [`MAX_STRETCH_KIB`].
    pub memory_kib: u32,
    /// Passes over the memory; at most 16.
    pub passes: u32,
    /// Lanes; at most 4.
    pub lanes: u32,
}

impl Default for StretchCost {
    /// The second choice of RFC 9106, section 4 (64 MiB, three passes), but with one lane: we compute lanes one after
    /// the other, so more would help only somebody who guesses.
    fn default() -> StretchCost {
        StretchCost { memory_kib: MAX_STRETCH_KIB, passes: 3, lanes: 1 }
    }
}

/// Everything that argon2id (version 0x13) needs besides the passphrase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// What it costs.
    pub cost: StretchCost,
    /// 16 random bytes.
    pub salt: Vec<u8>,
}

/// What of a slot is stored, besides its name and its grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotParts {
    /// The X25519 public key to which the root key is granted.
    pub public: [u8; 32],
    /// What keeps the private half.
    pub guard: Guard,
}

/// Whether the grant of a slot like this says that it was made by somebody who had the root key: all but recipients'.
pub fn vouched(guard: &Guard) -> bool {
    *guard != Guard::Recipient
}

/// The private part of a slot, opened.
#[derive(Clone, Debug)]
pub struct SlotPrivate {
    private: Secret<[u8; 32]>,
    /// None for an identity: its grants are in base mode.
    grant_key: Option<Secret<[u8; 32]>>,
}

/// The root key, sealed to a slot; or, to a client that may only write, some of the keys beneath it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// HPKE's encapsulated key.
    pub enc: [u8; 32],
    /// The sealed root key with its authentication tag, 48 bytes; more for a credential.
    pub sealed: Vec<u8>,
}

/// Makes a slot that `unlock` opens. `kind` must fit what `unlock` is.
///
/// An identity is the private half itself; for the other kinds it is random, and so is the grant key.
pub fn create_slot(unlock: &Unlock, kind: GuardKind) -> Result<(SlotPrivate, SlotParts), Error> {
    let private = match unlock {
        Unlock::Identity(identity) => SlotPrivate::of_identity(identity),
        Unlock::Passphrase(_) | Unlock::KeyFile(_) => SlotPrivate::generate(),
    };
    let guard = match (kind, unlock) {
        (GuardKind::Passphrase(cost), Unlock::Passphrase(passphrase)) => {
            let salt = random::bytes::<16>().to_vec();
            let stretch = Stretch { cost, salt };
            let sealed = private.seal(&stretched_key(passphrase, &stretch)?);
            Guard::Passphrase { stretch, sealed }
        }
        (GuardKind::KeyFile, Unlock::KeyFile(content)) => {
            Guard::KeyFile { sealed: private.seal(&key_of_file(content)?) }
        }
        (GuardKind::Command, Unlock::KeyFile(output)) => Guard::Command { sealed: private.seal(&key_of_file(output)?) },
        (GuardKind::Recipient, Unlock::Identity(_)) => Guard::Recipient,
        _ => return Err(Error::OtherUnlock),
    };
    let public = private.public();
    Ok((private, SlotParts { public, guard }))
}

/// Opens the private part of a slot.
///
/// Fails with [`Error::WrongSecret`] when the secret is not this slot's, with [`Error::OtherUnlock`] when the slot is
/// opened by something else (a passphrase was given, it takes a key file), with [`Error::StretchTooCostly`] before
/// anything is allocated when the stored cost is beyond what a slot may ask for.
pub fn open_private(parts: &SlotParts, unlock: &Unlock) -> Result<SlotPrivate, Error> {
    let private = match (&parts.guard, unlock) {
        (Guard::Passphrase { stretch, sealed }, Unlock::Passphrase(passphrase)) => {
            let sealed = checked_length(sealed)?;
            SlotPrivate::open(&stretched_key(passphrase, stretch)?, sealed)?
        }
        (Guard::KeyFile { sealed } | Guard::Command { sealed }, Unlock::KeyFile(content)) => {
            SlotPrivate::open(&key_of_file(content)?, checked_length(sealed)?)?
        }
        (Guard::Recipient, Unlock::Identity(identity)) => {
            return SlotPrivate::of_identity(identity).for_recipient(&parts.public);
        }
        _ => return Err(Error::OtherUnlock),
    };
    if same_bytes(&private.public(), &parts.public) {
        Ok(private)
    } else {
        Err(Error::Altered { what: "public key of the key slot" })
    }
}

/// Grants the root key to a slot. `aad` is everything else that is stored of the slot and must not be changed. A
/// recipient has no grant key.
pub fn grant(
    public: &[u8; 32],
    grant_key: Option<&Secret<[u8; 32]>>,
    repository: &RepositoryId,
    aad: &[u8],
    root: &RootKey,
) -> Result<Grant, Error> {
    let info = grant_info(GRANT_INFO, repository);
    let (enc, sealed) = hpke::seal(public, sender(grant_key), &info, aad, root.expose())?;
    Ok(Grant { enc, sealed })
}

/// Grants a credential to the slot of a client that may only write: some keys beneath the root key, encoded. There is
/// none for a recipient, who could not tell who made it.
pub fn grant_credential(
    public: &[u8; 32],
    grant_key: &Secret<[u8; 32]>,
    repository: &RepositoryId,
    aad: &[u8],
    credential: &Secret<Vec<u8>>,
) -> Result<Grant, Error> {
    let info = grant_info(CREDENTIAL_INFO, repository);
    let (enc, sealed) = hpke::seal(public, Sender::HolderOf(grant_key), &info, aad, credential.expose())?;
    Ok(Grant { enc, sealed })
}

/// Takes the root key out of a slot's grant. Fails with [`Error::Altered`] for a grant to another slot, of another
/// repository, with other `aad`, or by somebody who does not know the slot's grant key.
pub fn accept(private: &SlotPrivate, grant: &Grant, repository: &RepositoryId, aad: &[u8]) -> Result<RootKey, Error> {
    let altered = Error::Altered { what: "root key in the key slot" };
    let info = grant_info(GRANT_INFO, repository);
    let sender = sender(private.grant_key());
    let opened = hpke::open(&private.private, sender, &info, aad, &grant.enc, &grant.sealed);
    let opened = opened.map_err(|Forged| altered.clone())?;
    let root = opened.expose().as_slice().try_into().map_err(|_| altered)?;
    Ok(RootKey::from_bytes(Secret::new(root)))
}

/// Takes the credential out of the grant of a slot for a client that may only write. Fails as [`accept`] does.
pub fn accept_credential(
    private: &SlotPrivate,
    grant: &Grant,
    repository: &RepositoryId,
    aad: &[u8],
) -> Result<Secret<Vec<u8>>, Error> {
    let altered = Error::Altered { what: "credential in the key slot" };
    let grant_key = private.grant_key().ok_or_else(|| altered.clone())?;
    let info = grant_info(CREDENTIAL_INFO, repository);
    let sender = Sender::HolderOf(grant_key);
    hpke::open(&private.private, sender, &info, aad, &grant.enc, &grant.sealed).map_err(|Forged| altered)
}

/// Seals a slot's grant key under the root key, so that a holder of the root can grant the next one; 48 bytes. For a
/// recipient, who has none, any random bytes do.
///
/// It holds together with the public key only: a public key that somebody put in the slot gets nothing.
pub fn seal_grant_key(
    root: &RootKey,
    repository: &RepositoryId,
    public: &[u8; 32],
    grant_key: &Secret<[u8; 32]>,
) -> Vec<u8> {
    let mut text = grant_key.clone();
    let associated = [GRANT_KEY_HEADER, repository.as_bytes(), public];
    let iv = root.grant_psk_key().seal_in_place(&associated, text.expose_mut());
    [iv.as_slice(), text.expose()].concat()
}

/// Opens what [`seal_grant_key`] sealed for the same root key, repository and public key.
pub fn open_grant_key(
    root: &RootKey,
    repository: &RepositoryId,
    public: &[u8; 32],
    sealed: &[u8],
) -> Result<Secret<[u8; 32]>, Error> {
    let altered = Error::Altered { what: "grant key of the key slot" };
    let (iv, text) = sealed.split_first_chunk::<16>().ok_or(altered.clone())?;
    let mut text = Secret::new(<[u8; 32]>::try_from(text).map_err(|_| altered.clone())?);
    let associated = [GRANT_KEY_HEADER, repository.as_bytes(), public];
    let opened = root.grant_psk_key().open_in_place(&associated, iv, text.expose_mut());
    opened.map_err(|Forged| altered)?;
    Ok(text)
}

fn sender(grant_key: Option<&Secret<[u8; 32]>>) -> Sender<'_> {
    grant_key.map_or(Sender::Anybody, Sender::HolderOf)
}

fn grant_info(of: &[u8], repository: &RepositoryId) -> Vec<u8> {
    [of, repository.as_bytes()].concat()
}

impl SlotPrivate {
    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        hpke::public_of(&self.private)
    }

    /// The key that proves that a grant was made by somebody who may: to be given to [`grant`] and
    /// [`seal_grant_key`]. None for an identity.
    pub fn grant_key(&self) -> Option<&Secret<[u8; 32]>> {
        self.grant_key.as_ref()
    }

    /// The key of local caches of a client that may only write: its own, which nobody else has, not even those with the
    /// root key.
    pub fn cache_key(&self) -> ClassKey {
        ClassKey::new(Class::Data, derive(&self.private, "keepstone v1 client cache"))
    }

    fn generate() -> SlotPrivate {
        let mut private = Secret::new([0; 32]);
        let mut grant_key = Secret::new([0; 32]);
        random::fill(private.expose_mut());
        random::fill(grant_key.expose_mut());
        SlotPrivate { private, grant_key: Some(grant_key) }
    }

    /// The identity is the private key as it is, so that an X25519 key that the user already has will do.
    fn of_identity(identity: &Secret<[u8; 32]>) -> SlotPrivate {
        SlotPrivate { private: identity.clone(), grant_key: None }
    }

    fn for_recipient(self, public: &[u8; 32]) -> Result<SlotPrivate, Error> {
        match same_bytes(&self.public(), public) {
            true => Ok(self),
            false => Err(Error::WrongSecret),
        }
    }

    /// ```text
    /// 16  synthetic initialisation vector
    /// 32  X25519 private key
    /// 32  grant key
    /// ```
    fn seal(&self, key: &SivKey) -> Vec<u8> {
        let mut text = Secret::new([0; 64]);
        let (private, grant_key) = text.expose_mut().split_at_mut(32);
        private.copy_from_slice(self.private.expose());
        grant_key.copy_from_slice(self.grant_key.as_ref().expect("what is sealed was generated").expose());
        let iv = key.seal_in_place(&[PRIVATE_HEADER], text.expose_mut());
        [iv.as_slice(), text.expose()].concat()
    }

    fn open(key: &SivKey, sealed: &[u8; SEALED_PRIVATE_BYTES]) -> Result<SlotPrivate, Error> {
        let (iv, text) = sealed.split_first_chunk().expect("80 bytes begin with 16");
        let mut text = Secret::new(<[u8; 64]>::try_from(text).expect("64 bytes are left of 80"));
        key.open_in_place(&[PRIVATE_HEADER], iv, text.expose_mut()).map_err(|Forged| Error::WrongSecret)?;
        let mut private = Secret::new([0; 32]);
        let mut grant_key = Secret::new([0; 32]);
        private.expose_mut().copy_from_slice(&text.expose()[..32]);
        grant_key.expose_mut().copy_from_slice(&text.expose()[32..]);
        Ok(SlotPrivate { private, grant_key: Some(grant_key) })
    }
}

/// The public side of an identity: all that somebody needs who makes a slot for its owner. No secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The X25519 public key.
    pub public: [u8; 32],
}

impl Recipient {
    /// The recipient that an identity opens.
    pub fn of(identity: &Secret<[u8; 32]>) -> Recipient {
        Recipient { public: hpke::public_of(identity) }
    }

    /// The slot of this recipient.
    pub fn slot(&self) -> SlotParts {
        SlotParts { public: self.public, guard: Guard::Recipient }
    }
}

fn checked_length(sealed: &[u8]) -> Result<&[u8; SEALED_PRIVATE_BYTES], Error> {
    sealed.try_into().map_err(|_| Error::Altered { what: "private part of the key slot" })
}

impl Stretch {
    /// Refuses what would cost more than a slot may ask for, before anything is allocated.
    fn check(&self) -> Result<Params, Error> {
        let StretchCost { memory_kib, passes, lanes } = self.cost;
        let limits = [
            ("memory in KiB", memory_kib, MAX_STRETCH_KIB),
            ("passes", passes, MAX_STRETCH_PASSES),
            ("lanes", lanes, MAX_STRETCH_LANES),
        ];
        for (what, got, most) in limits {
            if got > most {
                return Err(Error::StretchTooCostly { what, got, most });
            }
        }
        let altered = Error::Altered { what: "passphrase parameters of the key slot" };
        if self.salt.len() != 16 {
            return Err(altered);
        }
        Params::new(memory_kib, passes, lanes, Some(64)).map_err(|_| altered)
    }

    /// Memory that stretching takes while it runs, in bytes; at most 64 MiB once the slot was accepted.
    pub fn memory_bytes(&self) -> usize {
        self.cost.memory_kib.min(MAX_STRETCH_KIB) as usize * 1024
    }
}

fn stretched_key(passphrase: &Secret<Vec<u8>>, stretch: &Stretch) -> Result<SivKey, Error> {
    let params = stretch.check()?;
    if passphrase.expose().is_empty() {
        return Err(Error::EmptyPassphrase);
    }
    let mut memory = vec![Block::new(); params.block_count()];
    let mut key = Secret::new([0; 64]);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let stretched =
        argon2.hash_password_into_with_memory(passphrase.expose(), &stretch.salt, key.expose_mut(), &mut memory);
    memory.zeroize();
    stretched.map_err(|error| Error::Stretch { message: error.to_string() })?;
    Ok(SivKey::new(key.expose()))
}

const KEY_LINE: &str = "KEEPSTONE-KEY-1";

/// A new key file: one line `KEEPSTONE-KEY-1-…` of 32 random bytes and four check bytes in hexadecimal groups, fit to
/// be printed and typed in again.
pub fn generate_key_file() -> Secret<String> {
    let mut bytes = Secret::new([0; 36]);
    let (secret, check) = bytes.expose_mut().split_at_mut(32);
    random::fill(secret);
    check.copy_from_slice(&check_bytes(secret));
    let mut digits = to_hex(bytes.expose());
    // Reserved whole, so that no part of the secret is left behind when the text grows.
    let mut text = String::with_capacity(KEY_LINE.len() + digits.len() + 10);
    text.push_str(KEY_LINE);
    for (place, digit) in digits.chars().enumerate() {
        if place % 8 == 0 {
            text.push('-');
        }
        text.push(digit);
    }
    text.push('\n');
    digits.zeroize();
    Secret::new(text)
}

/// The key that a key file's content stands for.
///
/// A key line made by [`generate_key_file`] counts by its digits, whatever stands around them. Any other content
/// counts byte by byte, apart from line ends at its end.
fn key_of_file(content: &Secret<Vec<u8>>) -> Result<SivKey, Error> {
    let content = content.expose();
    let content = &content[..content.len() - content.iter().rev().take_while(|byte| is_line_end(**byte)).count()];
    if !KEY_FILE_BYTES.contains(&content.len()) {
        return Err(Error::UnfitKeyFile { bytes: content.len() });
    }
    let material = match std::str::from_utf8(content).ok().and_then(key_digits) {
        Some(digits) => secret_of_line(digits)?,
        None => {
            let mut material = Secret::new([0; 32]);
            fill_derived(content, "keepstone v1 key file content", material.expose_mut());
            material
        }
    };
    Ok(derive_siv(&material, "keepstone v1 key file"))
}

fn is_line_end(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}

/// What follows the mark of a key line, if there is such a line.
fn key_digits(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.trim().strip_prefix(KEY_LINE))
}

fn secret_of_line(digits: &str) -> Result<Secret<[u8; 32]>, Error> {
    let mut plain = Secret::new(String::with_capacity(digits.len()));
    plain.expose_mut().extend(digits.chars().filter(|c| !matches!(c, '-' | ' ')));
    let bytes = Secret::new(from_hex(plain.expose()).ok_or(Error::MistypedKey)?);
    let (secret, check) = bytes.expose().split_first_chunk::<32>().ok_or(Error::MistypedKey)?;
    if check != check_bytes(secret) {
        return Err(Error::MistypedKey);
    }
    Ok(Secret::new(*secret))
}

/// Finds typing errors; reveals four bytes of a one-way function of the secret to those who see the secret anyway.
fn check_bytes(secret: &[u8]) -> [u8; 4] {
    let mut check = [0; 4];
    fill_derived(secret, "keepstone v1 key file check", &mut check);
    check
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::Kind;

    const CHEAP: StretchCost = StretchCost { memory_kib: 8, passes: 1, lanes: 1 };
    const REPOSITORY: RepositoryId = RepositoryId([4; 32]);

    fn passphrase(text: &str) -> Unlock {
        Unlock::Passphrase(Secret::from(text.to_owned()))
    }

    fn key_file(content: &[u8]) -> Unlock {
        Unlock::KeyFile(Secret::new(content.to_vec()))
    }

    fn identity(byte: u8) -> Unlock {
        Unlock::Identity(Secret::new([byte; 32]))
    }

    fn ways() -> [(Unlock, GuardKind, Unlock); 4] {
        let file = key_file(b"sixteen bytes of secret");
        [
            (passphrase("right"), GuardKind::Passphrase(CHEAP), passphrase("wrong")),
            (file.clone(), GuardKind::KeyFile, key_file(b"sixteen bytes of sekret")),
            (file, GuardKind::Command, key_file(b"another sixteen bytes")),
            (identity(3), GuardKind::Recipient, identity(4)),
        ]
    }

    fn grant_to(private: &SlotPrivate, root: &RootKey) -> Grant {
        grant(&private.public(), private.grant_key(), &REPOSITORY, b"aad", root).unwrap()
    }

    #[test]
    fn every_kind_of_slot_leads_to_the_root_key() {
        let root = RootKey::generate();
        for (unlock, kind, _) in ways() {
            let (private, parts) = create_slot(&unlock, kind).unwrap();
            let granted = grant_to(&private, &root);
            let private = open_private(&parts, &unlock).unwrap();
            let accepted = accept(&private, &granted, &REPOSITORY, b"aad").unwrap();
            assert_eq!(accepted.key_id(), root.key_id(), "{kind:?}");
        }
    }

    #[test]
    fn a_wrong_secret_is_told_apart_from_damage() {
        for (unlock, kind, wrong) in ways() {
            let (_, parts) = create_slot(&unlock, kind).unwrap();
            let error = open_private(&parts, &wrong).unwrap_err();
            assert_eq!(error.kind(), Kind::WrongKey, "{kind:?}");
        }
    }

    #[test]
    fn a_secret_of_another_kind_is_refused() {
        for (unlock, kind, _) in ways() {
            let (_, parts) = create_slot(&unlock, kind).unwrap();
            for (other, _, _) in ways() {
                let fits = std::mem::discriminant(&other) == std::mem::discriminant(&unlock);
                let refused = matches!(open_private(&parts, &other), Err(Error::OtherUnlock));
                assert_eq!(refused, !fits, "{kind:?}");
            }
        }
        assert_eq!(create_slot(&identity(1), GuardKind::KeyFile).unwrap_err(), Error::OtherUnlock);
    }

    fn guarded(parts: &mut SlotParts) -> (&mut Stretch, &mut Vec<u8>) {
        match &mut parts.guard {
            Guard::Passphrase { stretch, sealed } => (stretch, sealed),
            other => panic!("not guarded by a passphrase: {other:?}"),
        }
    }

    #[test]
    fn an_altered_slot_is_refused() {
        let unlock = passphrase("right");
        let (_, parts) = create_slot(&unlock, GuardKind::Passphrase(CHEAP)).unwrap();
        let after = |alter: fn(&mut SlotParts)| {
            let mut parts = parts.clone();
            alter(&mut parts);
            open_private(&parts, &unlock).map(|_| ()).map_err(|error| error.kind())
        };
        assert_eq!(after(|_| ()), Ok(()));
        let damaged = Err(Kind::Damaged);
        assert_eq!(after(|parts| parts.public[0] ^= 1), damaged);
        assert_eq!(after(|parts| guarded(parts).0.salt.truncate(15)), damaged);
        assert_eq!(after(|parts| guarded(parts).0.cost.lanes = 0), damaged);
        assert_eq!(after(|parts| guarded(parts).1.truncate(79)), damaged);
        // From here on nobody can tell whether the slot or the passphrase is another one.
        let wrong_key = Err(Kind::WrongKey);
        assert_eq!(after(|parts| guarded(parts).0.salt[0] ^= 1), wrong_key);
        assert_eq!(after(|parts| guarded(parts).0.cost.passes = 2), wrong_key);
        assert_eq!(after(|parts| guarded(parts).1[50] ^= 1), wrong_key);
    }

    #[test]
    fn absurd_costs_are_refused_before_they_are_paid() {
        let unlock = passphrase("right");
        let absurd = [
            StretchCost { memory_kib: u32::MAX, ..CHEAP },
            StretchCost { memory_kib: MAX_STRETCH_KIB + 1, ..CHEAP },
            StretchCost { passes: u32::MAX, ..CHEAP },
            StretchCost { passes: 17, ..CHEAP },
            StretchCost { lanes: 5, memory_kib: 64, ..CHEAP },
        ];
        for cost in absurd {
            let error = create_slot(&unlock, GuardKind::Passphrase(cost)).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported, "{cost:?}");
        }
    }

    #[test]
    fn a_grant_holds_in_its_place_only() {
        let root = RootKey::generate();
        let (private, _) = create_slot(&identity(3), GuardKind::Recipient).unwrap();
        let (other, _) = create_slot(&identity(4), GuardKind::Recipient).unwrap();
        let good = grant_to(&private, &root);
        let refused = |private: &SlotPrivate, grant: &Grant, repository: &RepositoryId, aad: &[u8]| {
            accept(private, grant, repository, aad).unwrap_err().kind() == Kind::Damaged
        };
        assert!(refused(&other, &good, &REPOSITORY, b"aad"));
        assert!(refused(&private, &good, &RepositoryId([5; 32]), b"aad"));
        assert!(refused(&private, &good, &REPOSITORY, b"add"));
        for byte in 0..good.sealed.len() {
            let mut altered = good.clone();
            altered.sealed[byte] ^= 1;
            assert!(refused(&private, &altered, &REPOSITORY, b"aad"));
        }
        let mut altered = good.clone();
        altered.enc[0] ^= 1;
        assert!(refused(&private, &altered, &REPOSITORY, b"aad"));
        altered.enc = [0; 32];
        assert!(refused(&private, &altered, &REPOSITORY, b"aad"));
        altered = good.clone();
        altered.sealed.clear();
        assert!(refused(&private, &altered, &REPOSITORY, b"aad"));
    }

    #[test]
    fn whoever_knows_only_the_public_key_cannot_grant_a_root_key_of_his_own() {
        let foreign = RootKey::generate();
        let (private, parts) = create_slot(&key_file(b"sixteen bytes of secret"), GuardKind::KeyFile).unwrap();
        let in_base_mode = grant(&parts.public, None, &REPOSITORY, b"aad", &foreign).unwrap();
        let guessed = Secret::new([0; 32]);
        let with_other_key = grant(&parts.public, Some(&guessed), &REPOSITORY, b"aad", &foreign).unwrap();
        for grant in [in_base_mode, with_other_key] {
            let error = accept(&private, &grant, &REPOSITORY, b"aad").unwrap_err();
            assert_eq!(error.kind(), Kind::Damaged);
        }
    }

    #[test]
    fn a_holder_of_the_root_grants_the_next_one_without_the_passphrase() {
        let unlock = passphrase("right");
        let old_root = RootKey::generate();
        let (private, parts) = create_slot(&unlock, GuardKind::Passphrase(CHEAP)).unwrap();
        let sealed = seal_grant_key(&old_root, &REPOSITORY, &parts.public, private.grant_key().unwrap());
        drop(private);

        let new_root = RootKey::generate();
        let grant_key = open_grant_key(&old_root, &REPOSITORY, &parts.public, &sealed).unwrap();
        let granted = grant(&parts.public, Some(&grant_key), &REPOSITORY, b"aad", &new_root).unwrap();

        let private = open_private(&parts, &unlock).unwrap();
        let accepted = accept(&private, &granted, &REPOSITORY, b"aad").unwrap();
        assert_eq!(accepted.key_id(), new_root.key_id());
    }

    #[test]
    fn a_public_key_that_was_put_in_gets_no_grant() {
        let root = RootKey::generate();
        let (private, parts) = create_slot(&key_file(b"sixteen bytes of secret"), GuardKind::KeyFile).unwrap();
        let sealed = seal_grant_key(&root, &REPOSITORY, &parts.public, private.grant_key().unwrap());
        let put_in = hpke::public_of(&Secret::new([9; 32]));
        let other = RepositoryId([5; 32]);
        for answer in [
            open_grant_key(&root, &REPOSITORY, &put_in, &sealed),
            open_grant_key(&root, &other, &parts.public, &sealed),
            open_grant_key(&RootKey::generate(), &REPOSITORY, &parts.public, &sealed),
            open_grant_key(&root, &REPOSITORY, &parts.public, &sealed[..47]),
            open_grant_key(&root, &REPOSITORY, &parts.public, &[]),
        ] {
            assert_eq!(answer.unwrap_err().kind(), Kind::Damaged);
        }
    }

    #[test]
    fn a_slot_can_be_made_for_somebody_else() {
        let identity = Secret::new([8; 32]);
        let recipient = Recipient::of(&identity);
        let root = RootKey::generate();
        let granted = grant(&recipient.public, None, &REPOSITORY, b"aad", &root).unwrap();
        let private = open_private(&recipient.slot(), &Unlock::Identity(identity)).unwrap();
        let accepted = accept(&private, &granted, &REPOSITORY, b"aad").unwrap();
        assert_eq!(accepted.key_id(), root.key_id());
    }

    #[test]
    fn a_generated_key_opens_however_it_is_written_down() {
        let text = generate_key_file();
        let text = text.expose();
        let (_, parts) = create_slot(&key_file(text.as_bytes()), GuardKind::KeyFile).unwrap();
        let (mark, digits) = text.trim().split_at(KEY_LINE.len());
        for written in [
            text.trim().to_owned(),
            format!("# found in the safe\r\n  {}\r\n\r\n", text.trim()),
            format!("{mark} {}", digits.replace('-', "").to_uppercase()),
            format!("{mark} {}", digits.replace('-', " ")),
        ] {
            assert!(open_private(&parts, &key_file(written.as_bytes())).is_ok(), "{written:?}");
        }
    }

    #[test]
    fn a_mistyped_key_is_told_apart_from_a_wrong_one() {
        let text = generate_key_file().expose().trim().to_owned();
        let (_, parts) = create_slot(&key_file(text.as_bytes()), GuardKind::KeyFile).unwrap();
        let other_digit = if text.ends_with('0') { "1" } else { "0" };
        let mistyped = [
            format!("{}{other_digit}", &text[..text.len() - 1]),
            text[..text.len() - 2].to_owned(),
            format!("{text}00"),
            text.replace("-1-", "-1-x"),
        ];
        for typed in mistyped {
            let error = open_private(&parts, &key_file(typed.as_bytes())).unwrap_err();
            assert_eq!(error, Error::MistypedKey, "{typed}");
        }
        let other = generate_key_file();
        let error = open_private(&parts, &key_file(other.expose().as_bytes())).unwrap_err();
        assert_eq!(error, Error::WrongSecret);
    }

    #[test]
    fn unfit_secrets_are_refused() {
        let short = create_slot(&key_file(b"fifteen bytes!!\n\n\n"), GuardKind::KeyFile);
        assert_eq!(short.unwrap_err(), Error::UnfitKeyFile { bytes: 15 });
        let long = create_slot(&key_file(&[1; 64 * 1024 + 1]), GuardKind::Command);
        assert_eq!(long.unwrap_err().kind(), Kind::Usage);
        let empty = create_slot(&passphrase(""), GuardKind::Passphrase(CHEAP));
        assert_eq!(empty.unwrap_err().kind(), Kind::Usage);
    }

    #[test]
    fn the_derivations_stay_as_they_are() {
        // Repositories in the world depend on these bytes; they never change.
        let fingerprint = |key: SivKey| to_hex(&key.seal_in_place(&[], &mut []));
        let stretch = Stretch { cost: CHEAP, salt: vec![7; 16] };
        let stretched = stretched_key(&Secret::new(b"passphrase".to_vec()), &stretch).unwrap();
        assert_eq!(fingerprint(stretched), "c3ebe4c28ac965eb9a712153e746ec97");
        let of_content = key_of_file(&Secret::new(b"sixteen bytes of secret\n".to_vec())).unwrap();
        assert_eq!(fingerprint(of_content), "b9eeeec0239a2571316c61cb096ebf71");
        assert_eq!(to_hex(&check_bytes(&[5; 32])), "4566a3ed");
        let line = [KEY_LINE, &"05".repeat(32), "4566a3ed"].concat();
        let of_line = key_of_file(&Secret::new(line.into_bytes())).unwrap();
        assert_eq!(fingerprint(of_line), "1b7b91ddf535329c5b666482b529a956");
        let recipient = Recipient::of(&Secret::new([8; 32]));
        assert_eq!(to_hex(&recipient.public), "31d4ab6aceec961137917037936e60716fac573afe94d9da84a8020448dfc112");
    }

    #[test]
    fn nothing_secret_is_printed() {
        let (private, _) = create_slot(&identity(0xab), GuardKind::Recipient).unwrap();
        let printed = format!("{private:?} {:?}", identity(0xab));
        assert!(!printed.contains("171") && !printed.to_lowercase().contains("abab"), "{printed}");
    }
}
