//! Many at once on one repository: what `repo/session.rs` promises, tried.

mod crowd;
pub mod hook;
mod mutations;
mod pairs;
mod scheduler;
