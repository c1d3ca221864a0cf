//! Requests to servers: ureq's only door.
//!
//! Every request has an end: one time limit for all of it, from the name's look-up to the last byte of an answer, of which
//! no more than a few KiB are read. A proxy that the environment names (`HTTPS_PROXY` and the like, but for what `NO_PROXY`
//! names) is asked for a tunnel; what stays on this machine never goes through one. No redirect is followed, since it would carry a secret to another host. An error names
//! the host and what it said, never the address: addresses of chats are secrets.

use super::authorities;
use super::error::{Error, Result};
use crate::base::Kind;
use rustls::crypto::ring;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

/// What is read of an answer.
const MOST_ANSWER_BYTES: u64 = 16 << 10;
/// What of an answer is shown in an error.
const SHOWN_CHARACTERS: usize = 200;

/// Talks to servers.
pub struct Client {
    agent: Agent,
    plain_http: bool,
}

/// What is asked of a server.
pub struct Request<'a> {
    /// `POST`, `PUT`.
    pub method: &'a str,
    /// Where; a secret.
    pub url: &'a str,
    /// Names and values; some are secrets.
    pub headers: Vec<(&'a str, &'a str)>,
    /// The type of the body.
    pub content_type: &'a str,
    /// The body.
    pub body: &'a [u8],
}

impl Client {
    /// A client whose requests end within `timeout`. It trusts the authorities of the system and those in a file.
    pub fn new(timeout: Duration, authorities: Option<&Path>, plain_http: bool) -> Result<Client> {
        let mut roots: Vec<Certificate<'static>> = rustls_native_certs::load_native_certs()
            .certs
            .iter()
            .map(|certificate| Certificate::from_der(certificate).to_owned())
            .collect();
        if let Some(path) = authorities {
            roots.extend(in_file(path)?);
        }
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .root_certs(RootCerts::new_with_certs(&roots))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(timeout))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("keepstone/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Client { agent: Agent::new_with_config(config), plain_http })
    }

    /// Sends a request; the answer has to say that it was taken.
    pub fn send(&self, request: &Request<'_>) -> Result<String> {
        let host = self.allowed(request.url)?;
        let mut builder = ureq::http::Request::builder().method(request.method).uri(request.url);
        for (name, value) in &request.headers {
            builder = builder.header(*name, *value);
        }
        let built = builder.header("content-type", request.content_type).body(request.body);
        // What is wrong with it may hold a part of it.
        let built =
            built.map_err(|_| Error::usage(format!("the request to {host} cannot be written: look at its headers")))?;
        // What may go without encryption since it stays here would leave the machine by a proxy.
        let answer = match is_here(&host) {
            true => self.agent.run(self.agent.configure_request(built).proxy(None).build()),
            false => self.agent.run(built),
        };
        let mut answer = answer.map_err(|error| failed(&host, &error))?;
        let status = answer.status();
        let said = answer.body_mut().with_config().limit(MOST_ANSWER_BYTES).lossy_utf8(true).read_to_string();
        if status.is_success() {
            return Ok(said.unwrap_or_default());
        }
        let said = super::message::shortened(said.unwrap_or_default().trim().to_owned(), SHOWN_CHARACTERS);
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        let (kind, why) = match status.as_u16() {
            300..=399 => (Kind::Denied, " (an answer that points elsewhere is not followed)"),
            401 | 403 | 404 | 410 => (Kind::Denied, " (look at its address and token)"),
            400..=499 if status.as_u16() != 408 && status.as_u16() != 429 => (Kind::Denied, ""),
            _ => (Kind::Unavailable, ""),
        };
        Err(Error::new(kind, format!("{host} answered with {}{why}{said}", status.as_u16())))
    }

    /// The host, if it may be talked to.
    fn allowed(&self, url: &str) -> Result<String> {
        let no_address = || Error::usage("this is not the address of a server: it begins with https:// and a host");
        let uri: Uri = url.parse().map_err(|_| no_address())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(no_address)?.to_owned();
        match uri.scheme_str() {
            Some("https") => Ok(host),
            Some("http") if self.plain_http || is_here(&host) => Ok(host),
            Some("http") => Err(Error::usage(format!(
                "{host} is to be told without encryption: write https://, or say `allow_plain_http = true`"
            ))),
            _ => Err(no_address()),
        }
    }
}

/// Whether a host is this machine.
fn is_here(host: &str) -> bool {
    crate::db::probe::is_here(host.trim_start_matches('[').trim_end_matches(']'))
}

fn in_file(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let pem = authorities::read(path)?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    match certificates.is_empty() {
        true => Err(Error::usage(format!("{} holds no certificate: it has to be a PEM file", path.display()))),
        false => Ok(certificates),
    }
}

/// What went wrong, in words that hold nothing of the address.
fn failed(host: &str, error: &ureq::Error) -> Error {
    let why = match error {
        ureq::Error::Timeout(_) => "did not answer in time".to_owned(),
        ureq::Error::HostNotFound => "is not known by name".to_owned(),
        ureq::Error::Io(error) => format!("cannot be reached: {error}"),
        ureq::Error::Rustls(error) => format!("is not trusted, or talks no TLS that we know: {error}"),
        ureq::Error::Tls(why) => format!("talks no TLS that we know: {why}"),
        ureq::Error::ConnectionFailed => "cannot be reached".to_owned(),
        ureq::Error::ConnectProxyFailed(_) => {
            "cannot be reached: the proxy of the environment opens no way to it".to_owned()
        }
        ureq::Error::Protocol(_) => "answered with what is no HTTP".to_owned(),
        _ => "could not be asked".to_owned(),
    };
    Error::unavailable(format!("{host} {why}"))
}
