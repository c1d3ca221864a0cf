//! Where bytes come from.

pub mod files;
