//! A byte through backup.
