//! HPKE (RFC 9180) with the one suite that is used here, and the room's only door to it.
//!
//! DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305; one message per encapsulated key.

use super::{Error, Forged};
use crate::base::Secret;
use ::hpke::aead::ChaCha20Poly1305;
use ::hpke::kdf::HkdfSha256;
use ::hpke::kem::X25519HkdfSha256;
use ::hpke::{
    Deserializable, HpkeError, Kem, OpModeR, OpModeS, PskBundle, Serializable, single_shot_open, single_shot_seal,
};

type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;

/// Names the pre-shared key to HPKE, which wants a name where there is a key.
const PSK_ID: &[u8] = b"keepstone v1 grant psk";

/// Who can have sealed a message.
#[derive(Clone, Copy)]
pub(super) enum Sender<'a> {
    /// Whoever knows the public key: base mode.
    Anybody,
    /// Whoever also knows this key: PSK mode.
    HolderOf(&'a Secret<[u8; 32]>),
}

/// The public half of an X25519 key.
pub(super) fn public_of(private: &Secret<[u8; 32]>) -> [u8; 32] {
    X25519HkdfSha256::sk_to_pk(&private_key(private)).to_bytes().into()
}

/// Whether anything can be sealed to this public key: some points agree with nobody.
pub(super) fn is_usable(public: &[u8; 32]) -> bool {
    seal(public, Sender::Anybody, b"", b"", b"").is_ok()
}

/// Seals `plain` to the holder of a public key; answers with the encapsulated key and the sealed bytes. Fails when
/// `public` is a point that agrees with nobody.
pub(super) fn seal(
    public: &[u8; 32],
    sender: Sender<'_>,
    info: &[u8],
    aad: &[u8],
    plain: &[u8],
) -> Result<([u8; 32], Vec<u8>), Error> {
    let mode = match sender {
        Sender::Anybody => OpModeS::Base,
        Sender::HolderOf(psk) => OpModeS::Psk(bundle(psk)),
    };
    let seal = || {
        let public = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(public)?;
        single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(&mode, &public, info, plain, aad)
    };
    let (enc, sealed) = seal().map_err(|_: HpkeError| Error::Altered { what: "public key" })?;
    Ok((enc.to_bytes().into(), sealed))
}

/// Opens what [`seal`] sealed with the same sender, info and associated data.
pub(super) fn open(
    private: &Secret<[u8; 32]>,
    sender: Sender<'_>,
    info: &[u8],
    aad: &[u8],
    enc: &[u8; 32],
    sealed: &[u8],
) -> Result<Secret<Vec<u8>>, Forged> {
    let mode = match sender {
        Sender::Anybody => OpModeR::Base,
        Sender::HolderOf(psk) => OpModeR::Psk(bundle(psk)),
    };
    let open = || {
        let enc = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(enc)?;
        let private = private_key(private);
        single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(&mode, &private, &enc, info, sealed, aad)
    };
    open().map(Secret::new).map_err(|_: HpkeError| Forged)
}

fn private_key(private: &Secret<[u8; 32]>) -> PrivateKey {
    PrivateKey::from_bytes(private.expose()).expect("any 32 bytes are an X25519 private key")
}

fn bundle(psk: &Secret<[u8; 32]>) -> PskBundle<'_> {
    PskBundle::new(psk.expose(), PSK_ID).expect("neither the key nor its name is empty")
}
