//! Who is told of a night: pings when it begins, and at its end what rules make of it, through the outbox to each channel.
//!
//! Messages are laid into the outbox before anybody is called, so that what cannot be sent tonight is sent later, and a
//! message waits there from an earlier night until its channel works again. What failed is a phase of the night.

use super::due::local;
use super::night::{Ended, Night, Outcome, Phase};
use super::past;
use super::post::{Post, addressed, send, summary};
use crate::base::clock::{Clock, Stopwatch};
use crate::base::stat::free_bytes;
use crate::base::{Machine, Problem, counted};
use crate::config::meant::Channel;
use crate::history::{Entry, VANISHED, figure};
use crate::notify::alerts::{self, Open};
use crate::notify::message::{self, About, Message, State};
use crate::notify::outbox::{Outbox, Tried};
use crate::notify::rules::{self, Facts, Ran};
use crate::notify::{Error, Way};
use std::time::Duration;

/// A night that has begun and will be told of.
pub struct Announcer<'n> {
    night: &'n Night<'n>,
    channels: &'n [Channel],
    host: String,
    free_before: Option<u64>,
}

impl<'n> Announcer<'n> {
    /// Calls those who want to know that a night begins. Whether they answer is no matter: they will miss its end.
    pub fn begin(night: &'n Night<'n>) -> Announcer<'n> {
        let channels = night.channels;
        let host = night.profile.host.clone().unwrap_or_else(|| Machine::this().host);
        let announcer = Announcer { night, channels, host, free_before: free(night) };
        let message =
            Message::bare(announcer.about(), Clock::System.now(), State::Begun, "the night begins".to_owned());
        let is_night = night.extent.is_night();
        for channel in channels.iter().filter(|channel| is_night && matches!(channel.told.way, Way::Ping)) {
            if night.profile.route.night.contains(&channel.told.name) {
                let _ = send(channel, &message);
            }
        }
        announcer
    }

    fn about(&self) -> About<'_> {
        let profile = self.night.profile;
        About { profile: &profile.name, host: &self.host, repository: &profile.repository.name }
    }

    /// Tells what became of it, and what waited since earlier nights.
    pub fn end(&self, outcome: &mut Outcome) {
        let profile = self.night.profile;
        let since = Stopwatch::start();
        let told = self.tell(outcome);
        // Also where nobody is told, rules are judged: metrics say what they found.
        if told.is_ok() && profile.route.channels().next().is_none() {
            return;
        }
        let (ended, message, problems) = match told {
            Ok(tried) => {
                let (ended, message, problems) = summary(&tried);
                (ended, self.with_waiting(message, !tried.is_empty()), problems)
            }
            Err(error) => (Ended::Failed(error.kind()), error.to_string(), Vec::new()),
        };
        let (figures, duration_ms) = (Vec::new(), since.elapsed_ms());
        outcome.phases.push(Phase { name: "announce", ended, message, figures, problems, duration_ms });
    }

    /// With what waits for the end of quiet hours, which is something to tell too.
    fn with_waiting(&self, message: String, is_sent: bool) -> String {
        let profile = self.night.profile;
        let waiting =
            profile.state.place().ok().and_then(|folder| Outbox::below(folder).list().ok()).unwrap_or_default();
        let quiet = waiting.iter().filter(|one| one.quiet && one.message.profile == profile.name).count();
        match (quiet, is_sent) {
            (0, _) => message,
            (quiet, true) => {
                format!("{message}; {} waiting for the end of quiet hours", counted(quiet as u64, "message"))
            }
            (quiet, false) => format!("{} waiting for the end of quiet hours", counted(quiet as u64, "message")),
        }
    }

    fn tell(&self, outcome: &Outcome) -> Result<Vec<Tried>, Error> {
        let profile = self.night.profile;
        let now = Clock::System.now();
        let state_dir = profile.state.place().map_err(|error| Error::new(error.kind(), error.to_string()))?;
        let free_now = figure(outcome, figure::REPOSITORY_FREE_AFTER_BYTES).or_else(|| free(self.night));
        let past = past::facts(profile, outcome, now);
        let is_night = self.night.extent.is_night();
        let facts =
            facts(is_night, outcome, Facts { profile: profile.name.clone(), now, free_bytes: free_now, ..past });
        let held = alerts::hold(state_dir, &profile.name);
        let mut open = Open::load(state_dir, &profile.name);
        let judged = rules::judge(&facts, &profile.rules);
        let notices = open.settle(&judged, now.as_second(), profile.route.repeat);
        let night = is_night.then(|| self.told_night(outcome, free_now));
        let mut post = Post::below(state_dir, self.channels);
        post.lay_down(addressed(self.channels, &profile.route, self.about(), &notices, night.as_ref(), now), now);
        // Messages that go out count more than what is remembered of them.
        open.save(state_dir, &profile.name).or_else(|error| if post.keeps_all() { Err(error) } else { Ok(()) })?;
        drop(held);
        post.send(now)
    }

    fn told_night(&self, outcome: &Outcome, free_after_bytes: Option<u64>) -> message::Night {
        let ended = outcome.ended();
        let figure = |name| figure(outcome, name);
        message::Night {
            outcome: ended.name().to_owned(),
            good: matches!(ended, Ended::Done | Ended::Skipped),
            by: self.night.by.name().to_owned(),
            run: outcome.entry.as_ref().map(|entry| entry.id.short()),
            snapshot: outcome.snapshot.as_ref().map(|snapshot| snapshot.id.short()),
            duration_ms: outcome.duration_ms,
            content_bytes: figure(figure::CONTENT_BYTES),
            read_bytes: figure(figure::READ_BYTES),
            added_bytes: figure(figure::ADDED_BYTES),
            encryption_ms: figure(figure::SEAL_MS),
            upload_ms: figure(figure::UPLOAD_MS),
            free_before_bytes: figure(figure::REPOSITORY_FREE_BEFORE_BYTES).or(self.free_before),
            free_after_bytes,
            problems: problems(outcome),
        }
    }
}

/// What is free for a repository on this machine.
fn free(night: &Night<'_>) -> Option<u64> {
    free_bytes(night.reach.location().ok()?.folder()?)
}

/// Phases that did not end as they should.
fn bad_phases(outcome: &Outcome) -> impl Iterator<Item = &Phase> {
    outcome.phases.iter().filter(|phase| !matches!(phase.ended, Ended::Done | Ended::Skipped))
}

/// What is not as it should be, damage first, one text for each phase: what went wrong first in it, else what it says.
fn errors(outcome: &Outcome) -> Vec<String> {
    let mut grave: Vec<&Phase> = bad_phases(outcome).filter(|phase| phase.name != UPKEEP).collect();
    grave.sort_by_key(|phase| phase.ended != Ended::Damage);
    grave.into_iter().map(text).chain(vanished(outcome)).chain(outcome.unwritten.iter().map(Problem::told)).collect()
}

fn is_damaged(outcome: &Outcome) -> bool {
    outcome.phases.iter().any(|phase| phase.ended == Ended::Damage)
}

/// The phase whose failure has a rule of its own.
const UPKEEP: &str = "maintenance";

/// What of the upkeep of databases is not as it should be; none if there was none.
fn upkeep(outcome: &Outcome) -> Option<Vec<String>> {
    let phase = outcome.phase(UPKEEP).filter(|phase| phase.ended != Ended::Skipped)?;
    Some((phase.ended != Ended::Done).then(|| text(phase)).into_iter().collect())
}

fn text(phase: &Phase) -> String {
    let more = match phase.problems.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let why = phase.problems.first().map_or(phase.message.clone(), |first| format!("{}{more}", first.told()));
    format!("{} {}: {why}", phase.name, phase.ended.name())
}

/// All that went wrong.
fn problems(outcome: &Outcome) -> Vec<String> {
    let of_phase = |phase: &Phase| match phase.problems.is_empty() {
        true => vec![format!("{}: {}", phase.name, phase.message)],
        false => phase.problems.iter().take(message::MOST_PROBLEMS).map(Problem::told).collect(),
    };
    let of_phases = bad_phases(outcome).flat_map(of_phase);
    of_phases.chain(vanished(outcome)).chain(outcome.unwritten.iter().map(Problem::told)).collect()
}

/// Earlier runs of which nobody has heard again.
fn vanished(outcome: &Outcome) -> impl Iterator<Item = String> {
    outcome.vanished.iter().map(gone)
}

/// That a run vanished.
pub(super) fn gone(entry: &Entry) -> String {
    format!("the run of {:.0} vanished: {VANISHED}", local(entry.begun_ns))
}

/// A figure of the night: of its entry, or of its backup where it left none.
fn figure(outcome: &Outcome, name: &str) -> Option<u64> {
    let of_entry = outcome.entry.as_ref().and_then(|entry| entry.figures.get(name));
    of_entry.or_else(|| outcome.phase("backup")?.figure(name))
}

/// What is known of earlier nights, and what this one did. Single tasks say what went wrong in them; that nothing did says
/// nothing of the night before.
fn facts(is_night: bool, outcome: &Outcome, past: Facts) -> Facts {
    if !is_night {
        let errors = errors(outcome);
        let ran = (!errors.is_empty()).then(|| Ran { errors, is_damaged: is_damaged(outcome), ..Ran::default() });
        return Facts { ran, ..past };
    }
    let ran = Ran {
        errors: errors(outcome),
        is_damaged: is_damaged(outcome),
        upkeep: upkeep(outcome),
        duration: Some(Duration::from_millis(outcome.duration_ms)),
        content_bytes: figure(outcome, figure::CONTENT_BYTES),
        added_bytes: figure(outcome, figure::ADDED_BYTES),
    };
    Facts { ran: Some(ran), ..past }
}
