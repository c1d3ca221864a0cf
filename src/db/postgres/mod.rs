//! Talks with PostgreSQL servers: addresses, connections that block, facts, client programs, temporary databases.
//!
//! Everything asynchronous stays in here; who uses it sees plain functions that wait and that a raised
//! [`Stop`](crate::base::Stop) ends.

pub mod address;
pub mod connection;
pub mod copy;
mod explain;
pub mod facts;
pub mod hosts;
mod lookup;
pub mod probe;
pub mod quote;
pub mod temporary;
pub(super) mod tls;
pub mod tools;

pub use super::tls::Tls;
pub use address::Address;
pub use connection::{Canceller, Connection, Row};
pub use copy::{CopyIn, CopyOut};
pub use quote::{identifier, literal, qualified};
pub use temporary::TemporaryDatabase;
pub use tools::{Tool, Tools};

/// The time zone in which the sessions of a dump write times that know theirs (`timestamptz`). The text of a row depends
/// on it, and checksums on the text; the moment that is meant does not.
pub const ROWS_ZONE: &str = "UTC";
/// The property of a manifest that holds it. Dumps without it were written in the zone of the source's sessions.
pub const ROWS_ZONE_PROPERTY: &str = "time_zone";
/// The locale in which those sessions write amounts of money, and in which they are read again.
pub const ROWS_MONEY: &str = "C";
/// The property of a manifest that holds it. Dumps without it were written in that of the source's sessions.
pub const ROWS_MONEY_PROPERTY: &str = "lc_monetary";
