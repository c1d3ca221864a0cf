//! Messages on their way: laid down before anybody is called, then sent, with the secrets that their channels need.
//!
//! What cannot be laid down is sent at once: a full disk is what people have to hear of, and then there is no outbox, but
//! there is a channel.

use super::night::Ended;
use crate::base::clock::{Clock, Stopwatch, TimeZone, Timestamp};
use crate::base::{Kind, Problem, counted};
use crate::config::meant::{Channel, State};
use crate::config::secrets;
use crate::history::operations::{Details, Line};
use crate::notify::message::{About, Message, Night, Notice};
use crate::notify::outbox::{Outbox, Tried, Waiting, Which};
use crate::notify::route::Route;
use crate::notify::{Error, Secrets, Way};
use std::collections::BTreeMap;
use std::path::Path;

/// Messages and the channels that they go through.
pub struct Post<'c> {
    outbox: Outbox,
    channels: &'c [Channel],
    /// What could not be laid down, and why.
    unkept: Vec<(Waiting, Error)>,
}

impl<'c> Post<'c> {
    /// The outbox below the folder of the state.
    pub fn below(state_dir: &Path, channels: &'c [Channel]) -> Post<'c> {
        Post { outbox: Outbox::below(state_dir), channels, unkept: Vec::new() }
    }

    /// Lays messages down.
    pub fn lay_down(&mut self, messages: Vec<Waiting>, now: Timestamp) {
        let refused = messages.into_iter().filter_map(|one| Some((self.outbox.put(&one, now).err()?, one)));
        self.unkept.extend(refused.map(|(error, one)| (one, error)));
    }

    /// Whether all was laid down.
    pub fn keeps_all(&self) -> bool {
        self.unkept.is_empty()
    }

    /// Sends what was laid down, what waits since earlier and is due, and what could not be laid down.
    pub fn send(self, now: Timestamp) -> Result<Vec<Tried>, Error> {
        let Post { outbox, channels, unkept } = self;
        let mut tried: Vec<Tried> = unkept.into_iter().map(|(one, error)| at_once(channels, one, &error)).collect();
        tried.extend(outbox.send(Which::Due, now, &mut |waiting| send_waiting(channels, waiting))?);
        Ok(tried)
    }
}

/// Sends what could not be kept.
fn at_once(channels: &[Channel], waiting: Waiting, why: &Error) -> Tried {
    let sent = send_waiting(channels, &waiting);
    let error = sent.err().map(|error| format!("{error}; and it is not kept for later: {why}"));
    Tried { channel: waiting.channel, title: waiting.message.title, error }
}

/// A message for each channel that is told something, of a night or of what else is so.
pub fn addressed(
    channels: &[Channel],
    route: &Route,
    about: About<'_>,
    notices: &[Notice],
    night: Option<&Night>,
    now: Timestamp,
) -> Vec<Waiting> {
    let local = now.to_zoned(TimeZone::system());
    let one = |(channel, notices): (String, Vec<Notice>)| {
        let message = Message::new(about, now, notices, night.cloned());
        let is_ping = channels.iter().any(|one| one.told.name == channel && matches!(one.told.way, Way::Ping));
        // A ping wakes nobody.
        let quiet = route.quiet.filter(|_| !is_ping).and_then(|quiet| quiet.until(message.severity(), &local));
        Waiting {
            channel,
            not_before: quiet.map_or(0, Timestamp::as_second),
            quiet: quiet.is_some(),
            attempts: 0,
            error: None,
            superseded: is_ping,
            message,
        }
    };
    route.audience(notices, night.is_some()).into_iter().map(one).collect()
}

/// Sends what waits through its channel.
pub fn send_waiting(channels: &[Channel], waiting: &Waiting) -> Result<(), Error> {
    let channel = channels.iter().find(|channel| channel.told.name == waiting.channel);
    let channel = channel.ok_or_else(|| Error::usage(format!("there is no channel `{}` any more", waiting.channel)))?;
    send(channel, &waiting.message)
}

/// Sends a message through a channel, with the secrets that it needs.
pub fn send(channel: &Channel, message: &Message) -> Result<(), Error> {
    let bring = |origin: &Option<_>| {
        let brought = origin.as_ref().map(secrets::text).transpose();
        brought.map_err(|error| Error::new(error.kind(), error.to_string()))
    };
    let secrets = Secrets { url: bring(&channel.url)?, token: bring(&channel.token)? };
    channel.told.send(message, &secrets)
}

/// What an attempt to tell everybody came to.
pub fn summary(tried: &[Tried]) -> (Ended, String, Vec<Problem>) {
    let failed: Vec<&Tried> = tried.iter().filter(|one| one.error.is_some()).collect();
    let sent = tried.len() - failed.len();
    let why = |one: &Tried| format!("{}: {}", one.channel, one.error.as_deref().unwrap_or_default());
    match failed.first() {
        None if tried.is_empty() => (Ended::Done, "there is nothing to tell".to_owned(), Vec::new()),
        None => {
            let names: BTreeMap<&str, ()> = tried.iter().map(|one| (one.channel.as_str(), ())).collect();
            let names: Vec<&str> = names.into_keys().collect();
            (Ended::Done, format!("{} sent through {}", counted(sent as u64, "message"), names.join(", ")), Vec::new())
        }
        Some(first) => {
            let message = format!(
                "{} of {} not sent, the first: {}; kept for the next run, or `keepstone notify flush`",
                failed.len(),
                counted(tried.len() as u64, "message"),
                why(first)
            );
            let problems = failed
                .iter()
                .map(|one| Problem::new(one.channel.clone(), one.error.clone().unwrap_or_default(), Kind::Unavailable));
            (Ended::Failed(Kind::Unavailable), message, problems.collect())
        }
    }
}

/// Writes into the operation log what was told outside of a night, or could not be: there is no night whose phase would say
/// so. A log that cannot be written keeps nobody from being told.
pub fn write_down(state: &State, operation: &str, tried: &[Tried], since: Stopwatch) {
    let Some(log) = state.operations().filter(|_| !tried.is_empty()) else { return };
    let (ended, message, _) = summary(tried);
    let now = Clock::System.now();
    let line = Line {
        timestamp: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        operation: operation.to_owned(),
        status: ended.name().to_owned(),
        details: Details {
            duration: since.elapsed_ms() as f64 / 1000.0,
            records: Some(tried.len() as u64),
            message,
            ..Details::default()
        },
    };
    let _ = log.add(&[line], now);
}
