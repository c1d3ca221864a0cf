//! Failures of talks with databases: each names server, database and object, says what came back, and the remedy.

use crate::base::Kind;
use std::fmt;

/// The result of a talk with a database.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure that names where it happened. Secrets never get in here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Server and port, or a client program; without secrets.
    pub server: String,
    /// The database, if it concerns one.
    pub database: Option<String>,
    /// The table, stream or other object, if it concerns one.
    pub object: Option<String>,
    /// What was tried, what came back, and the remedy.
    pub message: String,
    /// `Unavailable` if it may pass by itself, `Source` or `Target` for what the server refuses, `Denied`, `NotFound`,
    /// `Unsupported`, `Refused`, `Usage`, `Interrupted`.
    pub kind: Kind,
    /// What the server calls the failure, if it came from there: an SQLSTATE such as `42501`, or a number.
    pub code: Option<Box<str>>,
}

impl Error {
    /// A failure of a whole server.
    pub fn new(server: impl Into<String>, kind: Kind, message: impl Into<String>) -> Error {
        Error { server: server.into(), database: None, object: None, message: message.into(), kind, code: None }
    }

    /// The same, of a database.
    #[must_use]
    pub fn database(self, database: impl Into<String>) -> Error {
        Error { database: Some(database.into()), ..self }
    }

    /// The same, of an object in it.
    #[must_use]
    pub fn object(self, object: impl Into<String>) -> Error {
        Error { object: Some(object.into()), ..self }
    }

    /// The same, with the server's own name of the failure.
    #[must_use]
    pub fn code(self, code: impl Into<String>) -> Error {
        Error { code: Some(code.into().into_boxed_str()), ..self }
    }

    /// The same, of another kind: what a source refuses is something else than what a target refuses.
    #[must_use]
    pub fn of_kind(self, kind: Kind) -> Error {
        Error { kind, ..self }
    }

    /// Whether the server called it `code`.
    pub fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// What retry, exit code and alarm need to know.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.server)?;
        if let Some(database) = &self.database {
            write!(f, ", database {database}")?;
        }
        if let Some(object) = &self.object {
            write!(f, ", {object}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_server_database_and_object() {
        let error = Error::new("db:5432", Kind::Source, "permission denied").database("shop").object("table orders");
        assert_eq!(error.to_string(), "db:5432, database shop, table orders: permission denied");
    }
}
