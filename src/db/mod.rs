//! What talks to database servers: errors that name the thing, and the watch that ends a talk.

pub mod certificate;
mod error;
pub mod mysql;
pub mod postgres;
pub mod probe;
mod surroundings;
pub mod tls;
pub mod upkeep;

pub use error::{Error, Result};
pub use surroundings::Surroundings;

use crate::base::{Monitor, Stop};
use std::sync::Arc;

/// What goes with every longer talk with a server.
#[derive(Clone)]
pub struct Watch {
    /// Asks to stop: the user, or a time limit. Whoever waits for a server looks at it a few times a second, ends its
    /// children and connections and answers with a failure of kind `Interrupted`.
    pub stop: Stop,
    /// Hears notes and retries.
    pub monitor: Arc<dyn Monitor>,
}
