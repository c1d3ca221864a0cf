//! What the history says, made readable: for machines as metrics, for people as reports. No I/O, and no look at a
//! repository: what is said of a vault that is gone is what matters most.
//!
//! `forecast` guesses from sizes of the past, which `growth` finds, how large a repository will be and when a disk is full;
//! `landmarks` finds the newest snapshots of a profile that are complete, verified and drilled; `metrics` writes what
//! Prometheus reads; `summary` gathers the figures of a `period`, and `render` makes text, Markdown, CSV or a page of them.

mod chart;
pub mod forecast;
pub mod growth;
pub mod landmarks;
pub mod metrics;
pub mod period;
pub mod render;
pub mod summary;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use landmarks::Landmarks;
pub use period::Period;
