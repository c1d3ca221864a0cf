//! PostgreSQL, with a real server.

mod back;
mod back_program;
mod back_settings;
mod back_verbs;
mod bad_days;
mod connection;
mod dump;
mod taken;
mod versions;
