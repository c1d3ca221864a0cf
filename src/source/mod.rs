//! Where bytes come from.

pub mod dump;
pub mod files;
pub mod imported;
pub mod mysql;
pub mod postgres;
