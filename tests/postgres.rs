//! PostgreSQL, with a real server.

mod connection;
mod dump;
mod taken;
