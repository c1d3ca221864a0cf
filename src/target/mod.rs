//! Where bytes go back to.

pub mod files;
