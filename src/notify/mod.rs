//! Telling people: what happened in a night, as alerts and as messages, through the channels that they chose.
//!
//! `rules` judges facts, `alerts` remembers which alerts are open so that nobody is told the same thing all day, `route`
//! says who is told what and when. A `Message` is made into text, HTML, JSON and the shape of each chat by pure
//! functions; a `Channel` sends it, and the `Outbox` keeps it until that has worked. Nothing here knows a profile, reads a
//! secret or decides when a night ends.

pub mod alerts;
mod authorities;
pub mod channel;
mod chats;
mod error;
mod html;
mod http;
mod mail;
pub mod message;
pub mod outbox;
pub mod route;
pub mod rules;
mod run;
pub mod template;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod text;

pub use channel::{Channel, Secrets, Way};
pub use error::{Error, Result};
pub use http::{Client, Request};
pub use message::{Message, Notice, Severity, State};
pub use outbox::Outbox;
