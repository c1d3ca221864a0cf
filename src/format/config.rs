//! The repository's public description.
//!
//! ```text
//! offset size
//!      0    4  magic "KEEP"
//!      4    2  format version, little-endian
//!      6    1  kind 1
//!      7    1  0
//!      8   16  key id of the root key
//!     24   32  proof: BLAKE3 keyed hash, under a key derived from the root key, of bytes 0-23 and the CBOR
//!     56    4  length n of the CBOR, little-endian
//!     60    n  CBOR
//! ```
//!
//! It can be read by anybody and changed by nobody who does not hold the root key: features cannot be downgraded.

use super::cbor::{Cbor, Unknown, record};
use super::envelope::{HEADER_BYTES, ObjectKind, read_header};
use super::{Error, MAGIC, VERSION};
use crate::base::{KeyId, RepositoryId};
use crate::crypto::keys::RootKey;
use crate::crypto::names::hash;

/// The largest config that is read.
pub const MAX_BYTES: usize = 64 << 10;
/// The chunker of format 1: FastCDC 2020 with normalisation level 1 and a keyed gear table, and a cut at the lowest hash
/// where it finds none. (1 cut by force there, in earlier drafts.)
pub const CHUNKER_FASTCDC: u32 = 2;

const PROOF_AT: usize = HEADER_BYTES;
const LENGTH_AT: usize = PROOF_AT + 32;
const CBOR_AT: usize = LENGTH_AT + 4;

record! {
    /// How streams are cut; fixed for the life of a repository.
    ChunkerConfig {
        /// Which chunker: [`CHUNKER_FASTCDC`].
        1 => id: u32,
        /// Smallest chunk in bytes.
        2 => min_bytes: u32,
        /// Average chunk in bytes.
        3 => average_bytes: u32,
        /// Largest chunk in bytes.
        4 => max_bytes: u32,
    }
}

record! {
    /// What the store was found to honour at `init`.
    StoreConfig {
        /// Put-if-absent is atomic.
        1 => put_if_absent: bool,
        /// A listing shows everything stored before it began.
        2 => list_after_write: bool,
        /// A part of an object can be read.
        3 => range_reads: bool,
        /// How far the store's clock was ahead of the maker's, in milliseconds; none if the store did not tell.
        4 => skew_ms: Option<i64>,
    }
}

record! {
    /// The repository's public description.
    Config {
        /// The repository's name.
        1 => repository: RepositoryId,
        /// When it was made, nanoseconds since 1970.
        2 => created_ns: i64,
        /// How streams are cut.
        3 => chunker: ChunkerConfig,
        /// Features without which nobody may read.
        4 => reader_features: Vec<String>,
        /// Features without which nobody may write.
        5 => writer_features: Vec<String>,
        /// What the store honours.
        6 => store: StoreConfig,
        /// 1 at first; one more each time the config is replaced. Who has seen a higher one refuses this one.
        7 => revision: u64,
        /// How much of a pack its parity sidecar can make anew, in hundredths of a per cent; none for no sidecars.
        8 => parity: Option<u32>,
    }
}

impl Config {
    /// The hash of what a client has to rely on that has no key to prove it: all but the revision and settings that may
    /// change. Whoever adds a field that must not be exchanged unnoticed adds a feature with it.
    pub fn digest(&self) -> [u8; 32] {
        let relied_on = Config {
            repository: self.repository,
            created_ns: self.created_ns,
            chunker: self.chunker.clone(),
            reader_features: self.reader_features.clone(),
            writer_features: self.writer_features.clone(),
            store: self.store.clone(),
            revision: 0,
            parity: None,
            unknown: Unknown::none(),
        };
        hash(&relied_on.to_cbor())
    }
}

/// A config as it was stored, not proven yet.
#[derive(Clone, Debug)]
pub struct StoredConfig {
    /// What it says.
    pub config: Config,
    /// The root key that it is proven under.
    pub root: KeyId,
    proof: [u8; 32],
    proven: Vec<u8>,
}

/// The bytes of `config`, proven under `root`.
pub fn encode(config: &Config, root: &RootKey) -> Vec<u8> {
    let mut object = Vec::new();
    object.extend_from_slice(&MAGIC);
    object.extend_from_slice(&VERSION.to_le_bytes());
    object.extend_from_slice(&[ObjectKind::Config.number(), 0]);
    object.extend_from_slice(&root.key_id().0);
    let cbor = config.to_cbor();
    let proof = root.config_proof(&[&object[..], &cbor].concat());
    object.extend_from_slice(&proof);
    object.extend_from_slice(&u32::try_from(cbor.len()).expect("a config is small").to_le_bytes());
    object.extend_from_slice(&cbor);
    object
}

/// Reads a config; call [`StoredConfig::prove`] once the root key is known.
pub fn decode(object: &[u8]) -> Result<StoredConfig, Error> {
    const WHAT: &str = "config";
    let bad = |position: usize, reason: &str| Error::Malformed { what: WHAT, position, reason: reason.to_owned() };
    let (kind, flags, root) = read_header(object, WHAT)?;
    if kind != ObjectKind::Config || flags != 0 {
        return Err(bad(6, "it is another kind of object"));
    }
    if object.len() < CBOR_AT || object.len() > MAX_BYTES {
        return Err(bad(object.len(), "truncated or too long"));
    }
    let length = u32::from_le_bytes(object[LENGTH_AT..CBOR_AT].try_into().expect("four bytes")) as usize;
    if length != object.len() - CBOR_AT {
        return Err(bad(LENGTH_AT, "its length is not what it says: truncated or overwritten"));
    }
    Ok(StoredConfig {
        config: Config::from_cbor(&object[CBOR_AT..], WHAT)?,
        root,
        proof: object[PROOF_AT..LENGTH_AT].try_into().expect("32 bytes"),
        proven: [&object[..PROOF_AT], &object[CBOR_AT..]].concat(),
    })
}

impl StoredConfig {
    /// Whether it was written by a holder of the root key.
    pub fn prove(&self, root: &RootKey) -> Result<(), Error> {
        root.verify_config(&self.proven, &self.proof).map_err(|_| Error::Forged { what: "config" })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::{Kind, Secret};

    fn root(byte: u8) -> RootKey {
        RootKey::from_bytes(Secret::new([byte; 32]))
    }

    fn config() -> Config {
        let chunker = ChunkerConfig {
            id: CHUNKER_FASTCDC,
            min_bytes: 1 << 16,
            average_bytes: 1 << 18,
            max_bytes: 1 << 20,
            unknown: Unknown::none(),
        };
        let mut unknown = Unknown::none();
        unknown.keep(99, &[0x61, b'x']);
        Config {
            repository: RepositoryId([4; 32]),
            created_ns: 7,
            chunker,
            reader_features: vec!["reader".into()],
            writer_features: vec!["writer".into()],
            store: StoreConfig {
                put_if_absent: true,
                list_after_write: false,
                range_reads: true,
                skew_ms: Some(-3),
                unknown: Unknown::none(),
            },
            revision: 1,
            parity: Some(500),
            unknown,
        }
    }

    #[test]
    fn the_digest_tells_of_all_that_a_client_relies_on() {
        let digest = config().digest();
        assert_eq!(Config { revision: 9, unknown: Unknown::none(), ..config() }.digest(), digest);
        assert_ne!(Config { created_ns: 8, ..config() }.digest(), digest);
        assert_ne!(Config { writer_features: Vec::new(), ..config() }.digest(), digest);
        assert_ne!(Config { reader_features: Vec::new(), ..config() }.digest(), digest);
    }

    #[test]
    fn a_config_comes_back_with_what_is_unknown_in_it() {
        let stored = decode(&encode(&config(), &root(1))).unwrap();
        stored.prove(&root(1)).unwrap();
        assert_eq!((stored.config, stored.root), (config(), root(1).key_id()));
    }

    #[test]
    fn a_config_of_another_root_key_is_not_proven() {
        let stored = decode(&encode(&config(), &root(1))).unwrap();
        assert!(matches!(stored.prove(&root(2)), Err(Error::Forged { .. })));
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let object = encode(&config(), &root(1));
        for bit in 0..object.len() * 8 {
            let mut altered = object.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            let accepted = decode(&altered).is_ok_and(|stored| stored.prove(&root(1)).is_ok());
            assert!(!accepted, "bit {bit}");
        }
    }

    #[test]
    fn a_feature_cannot_be_taken_out() {
        let object = encode(&config(), &root(1));
        let weaker = Config { reader_features: Vec::new(), ..config() };
        let mut forged = encode(&weaker, &root(9));
        // The best a forger can do: the old key id and the old proof.
        forged[..LENGTH_AT].copy_from_slice(&object[..LENGTH_AT]);
        let stored = decode(&forged).unwrap();
        assert_eq!(stored.root, root(1).key_id());
        assert!(matches!(stored.prove(&root(1)), Err(Error::Forged { .. })));
    }

    #[test]
    fn a_config_cut_or_continued_is_refused() {
        let object = encode(&config(), &root(1));
        for length in 0..object.len() {
            assert_eq!(decode(&object[..length]).unwrap_err().kind(), Kind::Damaged, "{length}");
        }
        assert!(decode(&[&object[..], &[0]].concat()).is_err());
        assert!(decode(&vec![0; MAX_BYTES + 1]).is_err());
    }

    #[test]
    fn a_newer_config_asks_for_a_newer_program() {
        let mut object = encode(&config(), &root(1));
        object[4] = 2;
        assert_eq!(decode(&object).unwrap_err().kind(), Kind::Unsupported);
        object[4] = 0;
        assert_eq!(decode(&object).unwrap_err().kind(), Kind::Damaged);
    }
}
