//! X25519 identities and their recipients, in the text form of age: `AGE-SECRET-KEY-1…` and `age1…`.
//!
//! An identity is kept by a person; whoever knows its recipient can make a key slot for him. The text is Bech32 (BIP
//! 173) over the 32 bytes of the key; other kinds of age keys (plugins, SSH, post-quantum) have other forms and are
//! refused by what they are.

use super::slots::Recipient;
use super::{Error, hpke};
use crate::base::{Secret, random};
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use std::fmt;

const RECIPIENT_PREFIX: &str = "age";
const IDENTITY_PREFIX: &str = "AGE-SECRET-KEY-";
/// How the line of an identity begins.
const IDENTITY_LINE: &str = "AGE-SECRET-KEY-1";
/// What a file is that age encrypted.
const ENCRYPTED: [&str; 2] = ["age-encryption.org/", "-----BEGIN AGE ENCRYPTED FILE-----"];

/// A new random identity.
pub fn generate_identity() -> Secret<[u8; 32]> {
    let mut identity = Secret::new([0; 32]);
    random::fill(identity.expose_mut());
    identity
}

/// An identity as one line of text, without a line end.
pub fn identity_text(identity: &Secret<[u8; 32]>) -> Secret<String> {
    // Reserved whole, so that no part of the secret is left behind when the text grows.
    let mut text = Secret::new(String::with_capacity(128));
    write_bech32(IDENTITY_PREFIX, identity.expose(), text.expose_mut());
    text.expose_mut().make_ascii_uppercase();
    text
}

/// The identity in the content of an identity file: the only line that is not empty and no comment (`#`).
pub fn identity_from_file(content: &Secret<Vec<u8>>) -> Result<Secret<[u8; 32]>, Error> {
    let text = std::str::from_utf8(content.expose()).map_err(|_| Error::NoIdentity)?;
    if ENCRYPTED.iter().any(|start| text.trim_start().starts_with(start)) {
        return Err(Error::EncryptedIdentity);
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let line = lines.next().ok_or(Error::NoIdentity)?;
    match lines.count() {
        0 if line.to_ascii_uppercase().starts_with(IDENTITY_LINE) => {
            read_bech32(IDENTITY_PREFIX, line).ok_or(Error::MistypedIdentity)
        }
        0 => Err(Error::NoIdentity),
        more => Err(Error::ManyIdentities { count: more + 1 }),
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(64);
        write_bech32(RECIPIENT_PREFIX, &self.public, &mut text);
        f.write_str(&text)
    }
}

impl std::str::FromStr for Recipient {
    type Err = Error;

    fn from_str(text: &str) -> Result<Recipient, Error> {
        let text = text.trim();
        if text.to_ascii_uppercase().starts_with(IDENTITY_LINE) {
            return Err(Error::IdentityNotRecipient);
        }
        let public = read_bech32(RECIPIENT_PREFIX, text).ok_or(Error::MistypedRecipient)?;
        // A point that agrees with nobody would make a slot that nobody opens.
        match hpke::is_usable(public.expose()) {
            true => Ok(Recipient { public: *public.expose() }),
            false => Err(Error::MistypedRecipient),
        }
    }
}

fn write_bech32(prefix: &str, bytes: &[u8; 32], text: &mut String) {
    let prefix = Hrp::parse(prefix).expect("the prefixes above are well formed");
    bech32::encode_lower_to_fmt::<Bech32, _>(text, prefix, bytes).expect("32 bytes fit, and a text takes all");
}

/// None if it is not Bech32 of 32 bytes with this prefix.
fn read_bech32(prefix: &str, text: &str) -> Option<Secret<[u8; 32]>> {
    let checked = CheckedHrpstring::new::<Bech32>(text).ok()?;
    if !checked.hrp().as_str().eq_ignore_ascii_case(prefix) {
        return None;
    }
    checked.validate_segwit_padding().ok()?;
    let mut bytes = Secret::new([0; 32]);
    let mut given = checked.byte_iter();
    for byte in bytes.expose_mut() {
        *byte = given.next()?;
    }
    given.next().is_none().then_some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    // Made by `age-keygen`.
    const IDENTITY: &str = "AGE-SECRET-KEY-13UTY7SFH703NJ3ADG7DFQMSMCZLEK57C4RN04P2FX668GLYU3CLQEJQZRG";
    const RECIPIENT: &str = "age1xsclgmepfvu828tfyvk3w0v3cv5cq8720em8sjd75ycdp8f4c9mqx302yh";

    fn file(text: &str) -> Result<Secret<[u8; 32]>, Error> {
        identity_from_file(&Secret::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn what_age_made_is_understood_and_written_the_same() {
        let content = format!("# created: 2025-03-01T12:00:00Z\n# public key: {RECIPIENT}\r\n\n{IDENTITY}\r\n");
        let identity = file(&content).unwrap();
        assert_eq!(identity_text(&identity).expose(), IDENTITY);
        assert_eq!(Recipient::of(&identity).to_string(), RECIPIENT);
        let recipient: Recipient = format!(" {RECIPIENT}\n").parse().unwrap();
        assert_eq!(recipient, Recipient::of(&identity));
        assert_eq!(RECIPIENT.to_uppercase().parse::<Recipient>().unwrap(), recipient);
        assert_eq!(file(&IDENTITY.to_lowercase()).unwrap().expose(), identity.expose());
    }

    #[test]
    fn every_identity_comes_back_from_its_text() {
        for _ in 0..50 {
            let identity = generate_identity();
            assert_eq!(file(identity_text(&identity).expose()).unwrap().expose(), identity.expose());
            let recipient = Recipient::of(&identity);
            assert_eq!(recipient.to_string().parse::<Recipient>().unwrap(), recipient);
        }
    }

    #[test]
    fn one_wrong_letter_is_noticed() {
        for place in "age1".len()..RECIPIENT.len() {
            let other = if RECIPIENT.as_bytes()[place] == b'q' { "p" } else { "q" };
            let mut typed = RECIPIENT.to_owned();
            typed.replace_range(place..=place, other);
            assert_eq!(typed.parse::<Recipient>(), Err(Error::MistypedRecipient), "{typed}");
        }
        let mut typed = IDENTITY.to_owned();
        let other = if IDENTITY.ends_with('Q') { "P" } else { "Q" };
        typed.replace_range(IDENTITY.len() - 1.., other);
        assert_eq!(file(&typed).unwrap_err(), Error::MistypedIdentity);
        assert_eq!(file(&IDENTITY[..IDENTITY.len() - 1]).unwrap_err(), Error::MistypedIdentity);
    }

    #[test]
    fn what_is_something_else_is_told_by_what_it_is() {
        assert_eq!(IDENTITY.parse::<Recipient>(), Err(Error::IdentityNotRecipient));
        for text in
            ["", "ssh-ed25519 AAAA", "age1pq1xyz", "age1yubikey1qqqq", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"]
        {
            assert_eq!(text.parse::<Recipient>(), Err(Error::MistypedRecipient), "{text}");
        }
        for text in ["", "# only a comment\n", "KEEPSTONE-KEY-1-00", RECIPIENT, "AGE-PLUGIN-YUBIKEY-1QQ"] {
            assert_eq!(file(text).unwrap_err(), Error::NoIdentity, "{text}");
        }
        assert_eq!(file(&format!("{IDENTITY}\n{IDENTITY}\n")).unwrap_err(), Error::ManyIdentities { count: 2 });
        assert_eq!(file("age-encryption.org/v1\n-> scrypt").unwrap_err(), Error::EncryptedIdentity);
        assert_eq!(file("-----BEGIN AGE ENCRYPTED FILE-----\n").unwrap_err(), Error::EncryptedIdentity);
    }

    #[test]
    fn a_recipient_that_nobody_can_be_is_refused() {
        // The point of order one: whatever it agrees on is known to everybody.
        let text = Recipient { public: [0; 32] }.to_string();
        assert_eq!(text.parse::<Recipient>(), Err(Error::MistypedRecipient));
    }

    #[test]
    fn no_error_shows_the_secret() {
        let secret = &IDENTITY[IDENTITY_LINE.len()..IDENTITY.len() - 1];
        for text in [secret, &format!("{IDENTITY}x"), &format!("{IDENTITY}\n{IDENTITY}")] {
            let error = file(text).unwrap_err();
            assert!(!error.to_string().to_uppercase().contains(&secret[..8]), "{error}");
        }
    }
}
