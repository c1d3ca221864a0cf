//! Dumps of a real MariaDB server, restored and compared.
//!
//! One server for all tests, started by the first and stopped with the test program; each test has databases of its own.

mod bad_days;
mod dumps;
mod killed;
mod program;
mod restores;
pub mod server;
