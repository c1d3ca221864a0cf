//! PostgreSQL, with a real server.

mod back;
mod connection;
mod dump;
mod taken;
