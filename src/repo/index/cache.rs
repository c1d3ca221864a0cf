//! The index as a local SQLite file.
