//! Talks with MySQL and MariaDB servers, through their own client programs.
//!
//! The programs are needed for dumps anyway and know every way of logging in. They get host, user and password from an
//! option file that only we can read, never from a command line.
//!
//! | file | what it is for |
//! | --- | --- |
//! | [`address`] | where a server is and how to get in |
//! | [`tools`] | which client programs there are |
//! | [`session`] | asking a server and starting the programs on it |
//! | [`claim`] | the lock of a name that somebody works under |
//! | [`facts`] | what a server and a database are, and what we may do there |
//! | [`feed`] | SQL into the client program |
//! | [`locks`] | tables that somebody else has locked |
//! | [`mark`] | the mark of a database that is not whole yet |
//! | [`probe`] | a look whether a backup would work |
//! | [`run`] | the rows of tables, as one run of the dump program gives them |
//! | [`rows`] | the rows of a dump as its bytes come |
//! | [`script`] | SQL texts cut into statements |

pub mod address;
pub mod claim;
mod explain;
pub mod facts;
pub mod feed;
pub mod locks;
mod login;
pub mod mark;
pub mod probe;
pub mod quote;
pub mod rights;
pub mod rows;
pub mod run;
pub mod script;
pub mod session;
pub mod tools;

pub use super::tls::Tls;
pub use address::Address;
pub use claim::Claim;
pub use facts::{Facts, ServerFacts, TableFacts, TableKind};
pub use quote::{identifier, literal};
pub use run::{Run, Step};
pub use session::Session;
pub use tools::{Family, Tools};
