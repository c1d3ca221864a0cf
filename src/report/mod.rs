//! What the history says, made readable. No I/O, and no look at a repository: what is said of a vault that is gone is
//! what matters most.
//!
//! `landmarks` finds the newest snapshots of a profile that are complete, verified and drilled.

pub mod landmarks;

pub use landmarks::Landmarks;
