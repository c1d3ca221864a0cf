//! What the history says, made readable: for machines as metrics. No I/O, and no look at a repository: what is said of a
//! vault that is gone is what matters most.
//!
//! `landmarks` finds the newest snapshots of a profile that are complete, verified and drilled; `metrics` writes what
//! Prometheus reads.

pub mod landmarks;
pub mod metrics;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use landmarks::Landmarks;
