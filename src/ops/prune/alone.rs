//! Being alone: for what must not happen under somebody's hands, or cannot be told apart in a store that only looks
//! before it puts.
//!
//! Other sessions are listed after our own mark is there, so of two that want to be alone at least one sees the other.

use super::super::{Context, Error, Result};
use super::presence::{Presence, SAFETY_HOURS};

/// Refuses while others are at work; dead ones are fenced.
pub fn check(context: &Context, presence: &mut Presence<'_>) -> Result<()> {
    let others = presence.others(context)?;
    let Some(other) = others.first() else { return Ok(()) };
    let more = if others.len() > 1 { format!(" (and {} more)", others.len() - 1) } else { String::new() };
    Err(Error::Refused(format!(
        "somebody else is at work: {}{more}. Nothing was deleted. Run this again when it has ended; if that process is \
         gone, run it on that host, or wait until the session is {SAFETY_HOURS} hours old: it is then fenced",
        presence.describe(other)
    )))
}
