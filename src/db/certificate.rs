//! When the certificate of a server ends: somebody should know before it does.
//!
//! It is asked for by a handshake that trusts anybody and sends nothing: whether a server is the right one is the business of
//! those who talk with it.

use super::postgres::tls::anybody;
use crate::base::Timestamp;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// What PostgreSQL wants to hear before TLS begins: the length of the message and the number of the request.
const POSTGRES_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What comes before the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// PostgreSQL is asked whether it speaks TLS.
    Postgres,
}

/// Host and port of a URL that means TLS; none for others.
pub fn place_of(url: &str) -> Option<(String, u16)> {
    let url = Url::parse(url).ok().filter(|url| url.scheme() == "https")?;
    Some((url.host_str()?.trim_matches(['[', ']']).to_owned(), url.port_or_known_default()?))
}

/// When the certificate of a server ends; none if it does not speak TLS or its certificate makes no sense.
pub fn ends(host: &str, port: u16, before: Before, timeout: Duration) -> io::Result<Option<Timestamp>> {
    let address = (host, port).to_socket_addrs()?.next();
    let address = address.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    if before == Before::Postgres {
        stream.write_all(&POSTGRES_REQUEST)?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        if answer != *b"S" {
            return Ok(None);
        }
    }
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let mut client = ClientConnection::new(Arc::new(trusting_anybody()?), name).map_err(io::Error::other)?;
    while client.is_handshaking() {
        client.complete_io(&mut stream)?;
    }
    Ok(client.peer_certificates().and_then(|chain| not_after(chain.first()?)))
}

fn trusting_anybody() -> io::Result<ClientConfig> {
    let (provider, verifier) = anybody();
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(io::Error::other)?.dangerous().with_custom_certificate_verifier(verifier);
    Ok(builder.with_no_client_auth())
}

/// The end of the validity of a certificate (RFC 5280, section 4.1).
fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    const SEQUENCE: u8 = 0x30;
    let (_, certificate, _) = part(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, mut fields, _) = part(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    // The version is there or not; then come serial number, algorithm and issuer.
    let (tag, _, rest) = part(fields)?;
    if tag == 0xa0 {
        fields = rest;
    }
    for _ in 0..3 {
        (_, _, fields) = part(fields)?;
    }
    let (_, validity, _) = part(fields).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, _, rest) = part(validity)?;
    let (tag, time, _) = part(rest)?;
    moment(tag, std::str::from_utf8(time).ok()?)
}

/// The first part of some DER: its tag, its content and what follows.
fn part(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// `UTCTime`, which has two digits of the year, or `GeneralizedTime`, which has four.
fn moment(tag: u8, text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix('Z').filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (year, rest) = match (tag, text.len()) {
        (0x17, 12) => {
            let (year, rest) = text.split_at(2);
            (format!("{}{year}", if year < "50" { "20" } else { "19" }), rest)
        }
        (0x18, 14) => (text[..4].to_owned(), &text[4..]),
        _ => return None,
    };
    let two = |at: usize| &rest[at..at + 2];
    format!("{year}-{}-{}T{}:{}:{}Z", two(0), two(2), two(4), two(6), two(8)).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some DER.
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let head = match length {
            0..0x80 => vec![tag, length as u8],
            _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        };
        [head, content.to_vec()].concat()
    }

    fn certificate(version: bool, end: (u8, &str)) -> Vec<u8> {
        let version = if version { der(0xa0, &der(2, &[2])) } else { Vec::new() };
        let validity = [der(0x17, b"260101000000Z"), der(end.0, end.1.as_bytes())].concat();
        // An issuer so long that its length needs more than a byte.
        let fields =
            [version, der(2, &[1]), der(0x30, &[]), der(0x30, &[7; 300]), der(0x30, &validity), der(0x30, &[])];
        der(0x30, &[der(0x30, &fields.concat()), der(0x30, &[])].concat())
    }

    #[test]
    fn the_end_of_a_certificate_is_read_in_either_form_and_nonsense_is_none() {
        let at = |text: &str| text.parse().ok();
        assert_eq!(not_after(&certificate(true, (0x17, "270301123456Z"))), at("2027-03-01T12:34:56Z"));
        assert_eq!(not_after(&certificate(false, (0x17, "991231235959Z"))), at("1999-12-31T23:59:59Z"));
        assert_eq!(not_after(&certificate(true, (0x18, "20511231235959Z"))), at("2051-12-31T23:59:59Z"));
        for wrong in
            [(0x17, "20511231235959Z"), (0x18, "270301123456Z"), (0x17, "2703011234é6Z"), (0x17, "279901123456Z")]
        {
            assert_eq!(not_after(&certificate(true, wrong)), None, "{wrong:?}");
        }
        let whole = certificate(true, (0x17, "270301123456Z"));
        (0..whole.len()).for_each(|length| assert_eq!(not_after(&whole[..length]), None, "cut at {length}"));
    }

    #[test]
    fn only_urls_that_mean_tls_have_a_certificate() {
        assert_eq!(place_of("https://s3.example.org/x"), Some(("s3.example.org".to_owned(), 443)));
        assert_eq!(place_of("https://[::1]:9000"), Some(("::1".to_owned(), 9000)));
        assert_eq!(place_of("http://127.0.0.1:9000"), None);
        assert_eq!(place_of("s3.example.org"), None);
    }
}
