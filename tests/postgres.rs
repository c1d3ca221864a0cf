//! PostgreSQL, with a real server.

mod connection;
