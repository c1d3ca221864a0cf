//! Alerts that time alone brings: a run that did not happen, a snapshot that grows too old, a disk that will be full.
//!
//! A night that does not happen tells nobody. A timer looks here between nights: from the history, without opening a
//! repository. Rules about a night itself (its duration, what failed in it) are left as that night left them.

use super::announce::gone;
use super::error::{Error, Result};
use super::night::Outcome;
use super::past;
use super::post::{Post, addressed, write_down};
use crate::base::Machine;
use crate::base::clock::{Clock, Stopwatch, Timestamp};
use crate::base::stat::free_bytes;
use crate::config::Config;
use crate::config::meant::{Channel, Profile, State};
use crate::notify::alerts::{self, Open};
use crate::notify::message::{About, Notice};
use crate::notify::outbox::{Tried, Waiting};
use crate::notify::rules::{self, Facts, Judged, Ran};
use crate::store::S3Address;
use std::path::{Path, PathBuf};

/// What was found of a profile.
#[derive(Debug)]
pub struct Looked {
    /// The profile.
    pub profile: String,
    /// What rules found.
    pub judged: Judged,
    /// What of it is told now: what is new, graver, there for long, or over.
    pub notices: Vec<Notice>,
}

/// Looks at all profiles, or at one, and tells what has to be told. What waits to be sent since earlier goes out too.
pub fn check(config: &Config, only: Option<&str>) -> Result<(Vec<Looked>, Vec<Tried>)> {
    let (since, now) = (Stopwatch::start(), Clock::System.now());
    let names: Vec<&str> = only.map_or_else(|| config.profiles(), |name| vec![name]);
    let state = config.state();
    let state_dir = folder(&state)?;
    let channels = config.channels();
    let mut post = Post::below(&state_dir, &channels);
    let mut all = Vec::new();
    for name in names {
        let profile = config.profile(name)?;
        let held = alerts::hold(&state_dir, name);
        let (looked, open) = look(&profile, &state_dir, now);
        post.lay_down(messages(&profile, &channels, &looked.notices, now), now);
        open.save(&state_dir, name).or_else(|error| if post.keeps_all() { Err(lowered(error)) } else { Ok(()) })?;
        drop(held);
        all.push(looked);
    }
    let tried = post.send(now).map_err(lowered)?;
    write_down(&state, "notify", &tried, since);
    Ok((all, tried))
}

/// Where what is remembered lies.
pub(super) fn folder(state: &State) -> Result<PathBuf> {
    Ok(state.place()?.to_owned())
}

fn look(profile: &Profile, state_dir: &Path, now: Timestamp) -> (Looked, Open) {
    let place = &profile.repository.place;
    let free = if S3Address::is_meant(&place.to_string_lossy()) { None } else { free_bytes(place) };
    // No night has run: nothing is known of one, but that the last one may have vanished.
    let past = past::facts(profile, &Outcome::default(), now);
    let now_ns = i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX);
    let unreadable = past::unreadable(profile).map(|error| {
        let name = &profile.name;
        format!("{error}: what it says of earlier runs is not known; `keepstone --profile {name} history rebuild` makes it anew")
    });
    let wrong = unreadable.or_else(|| past::vanished(profile, now_ns).as_ref().map(gone));
    let ran = wrong.map(|text| Ran { errors: vec![text], ..Ran::default() });
    let facts = Facts { profile: profile.name.clone(), now, free_bytes: free, ran, ..past };
    let judged = rules::judge(&facts, &profile.rules);
    let mut open = Open::load(state_dir, &profile.name);
    let notices = open.settle(&judged, now.as_second(), profile.route.repeat);
    (Looked { profile: profile.name.clone(), judged, notices }, open)
}

fn messages(profile: &Profile, channels: &[Channel], notices: &[Notice], now: Timestamp) -> Vec<Waiting> {
    let host = profile.host.clone().unwrap_or_else(|| Machine::this().host);
    let about = About { profile: &profile.name, host: &host, repository: &profile.repository.name };
    addressed(channels, &profile.route, about, notices, None, now)
}

/// A failure of telling as one of a job.
pub(super) fn lowered(error: crate::notify::Error) -> Error {
    Error::Said(error.kind(), error.to_string())
}
