//! What went wrong between us and a PostgreSQL server, in words with a remedy.

use super::{Address, Tls, identifier};
use crate::base::Kind;
use crate::db::Error;
use std::error::Error as _;
use std::io;
use tokio_postgres::error::DbError;

/// The failure of an attempt to connect.
pub(super) fn connecting(address: &Address, error: &tokio_postgres::Error, blame: Kind) -> Error {
    match error.as_db_error() {
        Some(refusal) => refused(address, refusal, blame),
        None => unreachable_or_strange(address, error),
    }
}

/// The failure of a statement. `ended` is why the connection ended, if it did.
pub(super) fn statement(address: &Address, error: &tokio_postgres::Error, ended: Option<&str>, blame: Kind) -> Error {
    if let Some(refusal) = error.as_db_error() {
        return refused(address, refusal, blame).database(&address.database);
    }
    let lost = error.is_closed() || io_cause(error).is_some();
    let (kind, message) = match ended {
        Some(ended) if lost => {
            (Kind::Unavailable, format!("the connection was lost: {ended}; the server's log says more"))
        }
        _ if lost => {
            (Kind::Unavailable, format!("the connection was lost: {}; the server's log says more", chain(error)))
        }
        _ => (blame, format!("the server gave an answer that cannot be used: {}", chain(error))),
    };
    address.error(kind, message).database(&address.database)
}

/// What the server itself said.
fn refused(address: &Address, refusal: &DbError, blame: Kind) -> Error {
    let code = refusal.code().code();
    let mut message = refusal.message().to_owned();
    for more in [refusal.detail(), refusal.hint()].into_iter().flatten() {
        message = format!("{message} ({more})");
    }
    let remedy = match code {
        "28P01" => format!("; the password of user {} is wrong, or there is no such role", address.user),
        "28000" if refusal.message().contains("pg_hba") => {
            format!("; pg_hba.conf of the server lets user {} in from here only if a line says so", address.user)
        }
        "3D000" => format!("; look for its name with: psql -l -d postgres -h {} -p {}", address.host, address.port),
        "53300" => {
            let what = match () {
                () if message.contains("for role") => {
                    format!("ALTER ROLE {} CONNECTION LIMIT", identifier(&address.user))
                }
                () if message.contains("for database") => {
                    format!("ALTER DATABASE {} CONNECTION LIMIT", identifier(&address.database))
                }
                () => "raise max_connections of the server".to_owned(),
            };
            format!("; {what}, or use fewer workers")
        }
        "53200" if message.contains("max_locks_per_transaction") || message.contains("shared memory") => {
            "; raise max_locks_per_transaction of the server and start it again".to_owned()
        }
        _ => String::new(),
    };
    let error = address.error(kind_of(code, blame), format!("{message}{remedy} (SQLSTATE {code})")).code(code);
    if matches!(code, "3D000" | "28000" | "28P01") { error.database(&address.database) } else { error }
}

/// The kind that an SQLSTATE amounts to. `blame` is whom an ordinary refusal concerns: source or target.
fn kind_of(code: &str, blame: Kind) -> Kind {
    match code {
        // Lost connections, servers that start or stop, too many sessions, locks, deadlocks: these pass.
        "57P01" | "57P02" | "57P03" | "57P05" | "53300" | "40001" | "40P01" | "55P03" => Kind::Unavailable,
        "28P01" | "28000" | "42501" => Kind::Denied,
        "3D000" => Kind::NotFound,
        "53100" => Kind::Full,
        _ if code.starts_with("08") => Kind::Unavailable,
        _ => blame,
    }
}

fn unreachable_or_strange(address: &Address, error: &tokio_postgres::Error) -> Error {
    let said = chain(error);
    let outer = error.to_string();
    if said.contains("password missing") {
        let remedy = "in the URL, PGPASSWORD, a password file or .pgpass";
        // Perhaps there is one, in a file that is not used.
        let notes: String = address.notes.iter().map(|note| format!("; {note}")).collect();
        let message =
            format!("the server wants a password for user {} and there is none {remedy}{notes}", address.user);
        return address.error(Kind::Denied, message);
    }
    if outer.contains("TLS") || said.contains("certificate") {
        return address.error(Kind::Denied, format!("TLS failed: {said}; {}", tls_remedy(address, &said)));
    }
    if outer.contains("authentication") {
        return address.error(Kind::Denied, format!("cannot log in as {}: {said}", address.user));
    }
    let message = match io_cause(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "connection refused: no server listens there".to_owned(),
        Some(io::ErrorKind::NotFound) if address.is_socket() => {
            format!("there is no socket {}/.s.PGSQL.{}: no server runs there", address.host, address.port)
        }
        _ if said.contains("lookup") => format!("the name {} is not known: {said}", address.host),
        _ if outer.contains("timeout") => timed_out(address),
        _ => format!("cannot connect: {said}"),
    };
    address.error(Kind::Unavailable, message)
}

/// The words for a server that does not answer.
pub(super) fn timed_out(address: &Address) -> String {
    format!("no answer within {} s (connect_timeout)", address.connect_timeout.as_secs())
}

fn tls_remedy(address: &Address, said: &str) -> String {
    if said.contains("does not support TLS") {
        return "the server offers none: turn ssl on there, or say sslmode=disable".to_owned();
    }
    let name = match address.tls {
        Tls::VerifyFull => "its certificate must be signed by a known authority and name this host: ",
        _ => "",
    };
    format!("{name}sslrootcert=FILE trusts other authorities, sslmode=no-verify looks at no certificate")
}

fn io_cause(error: &tokio_postgres::Error) -> Option<&io::Error> {
    error.source().and_then(|cause| cause.downcast_ref())
}

/// The innermost words of an error that has causes: the outer ones say less.
pub(super) fn chain(error: &tokio_postgres::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words = inner.to_string();
        cause = inner.source();
    }
    words
}
