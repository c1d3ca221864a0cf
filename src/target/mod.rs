//! Where bytes go back to.

pub mod dump;
pub mod files;
pub mod mysql;
pub mod postgres;
