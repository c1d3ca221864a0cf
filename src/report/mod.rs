//! What the history says, made readable: for machines as metrics. No I/O, and no look at a repository: what is said of a
//! vault that is gone is what matters most.
//!
//! `forecast` guesses from sizes of the past, which `growth` finds, how large a repository will be and when a disk is full;
//! `landmarks` finds the newest snapshots of a profile that are complete, verified and drilled; `metrics` writes what
//! Prometheus reads.

pub mod forecast;
pub mod growth;
pub mod landmarks;
pub mod metrics;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use landmarks::Landmarks;
