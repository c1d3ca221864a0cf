//! A command that is told: the message comes as JSON on its standard input, the most important of it in its environment.

use super::error::{Error, Result};
use super::message::{Message, Severity, shortened};
use super::text;
use crate::base::child::Program;
use crate::base::{Kind, Stop};
use crate::ops::backup::TimeLimit;
use std::io::{self, Write};
use std::time::Duration;

/// What of its last words is shown.
const SHOWN_CHARACTERS: usize = 200;

/// Runs it; it has to end well within `timeout`.
pub fn send(command: &str, timeout: Duration, message: &Message) -> Result<()> {
    let failed = |error: io::Error| Error::new(Kind::Unavailable, format!("the command cannot be run: {error}"));
    let stop = Stop::new();
    let limit = TimeLimit::start(&stop, timeout).map_err(failed)?;
    let snapshot = message.night.as_ref().and_then(|night| night.snapshot.clone()).unwrap_or_default();
    let program = Program::shell(command)
        .env("KEEPSTONE_MESSAGE_ID", &message.id)
        .env("KEEPSTONE_STATE", message.state.name())
        .env("KEEPSTONE_SEVERITY", message.severity().map_or("", Severity::name))
        .env("KEEPSTONE_PROFILE", &message.profile)
        .env("KEEPSTONE_TITLE", &message.title)
        .env("KEEPSTONE_TEXT", text::text(message))
        .env("KEEPSTONE_SNAPSHOT", snapshot)
        .env("KEEPSTONE_NEXT", &message.next);
    let mut child = program.with_input().start(&stop).map_err(failed)?;
    let (input, output) = (child.take_input(), child.take_output());
    let json = format!("{}\n", message.json());
    // Aside, since a command need not read it, and may say more than a pipe holds.
    let writer = std::thread::Builder::new().name("tell".to_owned()).spawn(move || {
        // One that does not read its input is none of our business.
        input.map(|mut input| input.write_all(json.as_bytes()))
    });
    let writer = writer.map_err(failed)?;
    let _ = output.map(|mut output| io::copy(&mut output, &mut io::sink()));
    let ended = child.finish().map_err(failed)?;
    // It has ended, so that its end of the pipe is closed.
    let _ = writer.join();
    if limit.ran_out() {
        return Err(Error::unavailable(format!(
            "the command had not ended after {} s and was ended",
            timeout.as_secs_f32()
        )));
    }
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.errors);
    let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    let said =
        if said.is_empty() { String::new() } else { format!(": {}", shortened(said.to_owned(), SHOWN_CHARACTERS)) };
    Err(Error::unavailable(format!("the command failed ({}){said}", ended.status)))
}
