//! Mail through a server that takes it: lettre's only door.

use super::authorities;
use super::channel::{Encryption, Mail};
use super::error::{Error, Result};
use super::message::{Message, shortened};
use super::{html, text};
use crate::base::{Kind, Secret};
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{SmtpTransport, Transport};
use std::path::Path;
use std::time::Duration;

/// The longest subject, in characters.
const SUBJECT_CHARACTERS: usize = 200;
/// What of a server's answer is shown.
const SHOWN_CHARACTERS: usize = 300;

/// An address, alone or with a name: `Ann <ann@example.org>`.
pub fn check_address(text: &str) -> Result<(), String> {
    let parsed: Result<Mailbox, _> = text.parse();
    parsed
        .map(drop)
        .map_err(|_| format!("`{text}` is not an address of mail: write ann@example.org or Ann <ann@example.org>"))
}

/// Sends a message.
pub fn send(
    mail: &Mail,
    password: Option<&Secret<String>>,
    timeout: Duration,
    authorities: Option<&Path>,
    message: &Message,
) -> Result<()> {
    let written = written(mail, message)?;
    let transport = transport(mail, password, timeout, authorities, &message.host)?;
    transport.send(&written).map(drop).map_err(|error| failed(mail, &error))
}

/// The mail itself: text and HTML, of which a mail program shows the better one that it can.
fn written(mail: &Mail, message: &Message) -> Result<lettre::Message> {
    let mailbox = |text: &String| {
        text.parse::<Mailbox>().map_err(|_| Error::usage(format!("`{text}` is not an address of mail")))
    };
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    let mut builder = lettre::Message::builder()
        .from(mailbox(&mail.from)?)
        .subject(shortened(message.title.clone(), SUBJECT_CHARACTERS))
        // The same when it is sent twice: mail programs then show it once.
        .message_id(Some(format!("<{}.keepstone@{}>", message.id, host_word(&message.host))))
        .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()));
    for to in &mail.to {
        builder = builder.to(mailbox(to)?);
    }
    let body = MultiPart::alternative_plain_html(text::text(message), html::html(message));
    builder.multipart(body).map_err(|error| Error::usage(format!("the mail cannot be written: {error}")))
}

/// What may stand behind the `@` of a mail's id.
fn host_word(host: &str) -> String {
    let plain: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || ".-".contains(*c)).collect();
    if plain.is_empty() { "localhost".to_owned() } else { plain }
}

fn transport(
    mail: &Mail,
    password: Option<&Secret<String>>,
    timeout: Duration,
    authorities: Option<&Path>,
    host: &str,
) -> Result<SmtpTransport> {
    let (server, port) = mail.address();
    let tls = match mail.encryption {
        Encryption::None => Tls::None,
        encryption => {
            let mut builder = TlsParameters::builder(server.clone());
            if let Some(path) = authorities {
                let unusable =
                    |_| Error::usage(format!("{} holds no certificate: it has to be a PEM file", path.display()));
                builder =
                    builder.add_root_certificate(Certificate::from_pem(&authorities::read(path)?).map_err(unusable)?);
            }
            let parameters = builder.build().map_err(|error| Error::usage(format!("TLS cannot be used: {error}")))?;
            if encryption == Encryption::Tls { Tls::Wrapper(parameters) } else { Tls::Required(parameters) }
        }
    };
    let mut builder = SmtpTransport::builder_dangerous(server)
        .port(port)
        .tls(tls)
        .timeout(Some(timeout))
        .hello_name(ClientId::Domain(host_word(host)));
    if let (Some(user), Some(password)) = (&mail.user, password) {
        builder = builder.credentials(Credentials::new(user.clone(), password.expose().clone()));
    }
    Ok(builder.build())
}

fn failed(mail: &Mail, error: &lettre::transport::smtp::Error) -> Error {
    use std::error::Error as _;
    let server = mail.address().0;
    let mut why = error.to_string();
    // The outer error often says no more than that there is an inner one.
    if let Some(source) = error.source().map(ToString::to_string).filter(|source| !why.contains(source.as_str())) {
        why.push_str(&format!(": {source}"));
    }
    let kind = if error.is_permanent() { Kind::Denied } else { Kind::Unavailable };
    let why = if error.is_timeout() { "it did not answer in time".to_owned() } else { why };
    Error::new(kind, format!("the mail server {server} did not take the mail: {}", shortened(why, SHOWN_CHARACTERS)))
}
