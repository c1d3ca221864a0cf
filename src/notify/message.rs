//! What somebody is told: one type, whatever channel it goes through.

use crate::base::clock::{Timestamp, span};
use crate::base::ids::to_hex;
use crate::base::random;
use crate::db::probe::amount;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The longest text of a notice or problem, in characters: what a server says may be a page.
const MOST_CHARACTERS: usize = 600;
/// So many problems are named.
pub const MOST_PROBLEMS: usize = 20;

/// How grave an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Look at it soon.
    Warning,
    /// Look at it now.
    Critical,
}

impl Severity {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// What a message comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Something has begun.
    Begun,
    /// All is well.
    Ok,
    /// Good to know.
    Info,
    /// Look at it soon.
    Warning,
    /// Look at it now.
    Critical,
    /// What was wrong is right again.
    Recovered,
    /// Only to see whether messages arrive.
    Test,
}

impl State {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            State::Begun => "begun",
            State::Ok => "ok",
            State::Info => "info",
            State::Warning => "warning",
            State::Critical => "critical",
            State::Recovered => "recovered",
            State::Test => "test",
        }
    }

    /// The colour for it, as three bytes.
    pub fn colour(self) -> u32 {
        match self {
            State::Ok | State::Recovered => 0x002e_7d32,
            State::Begun | State::Info | State::Test => 0x0015_65c0,
            State::Warning => 0x00ed_6c02,
            State::Critical => 0x00c6_2828,
        }
    }
}

/// How an alert changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It was not there before.
    New,
    /// It became graver.
    Worse,
    /// It is still there, and was told some time ago.
    Still,
    /// It is over.
    Recovered,
}

impl Change {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Change::New => "new",
            Change::Worse => "worse",
            Change::Still => "still",
            Change::Recovered => "recovered",
        }
    }
}

/// An alert, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The rule: `duration`.
    pub rule: String,
    /// How grave it is, or was.
    pub severity: Severity,
    /// How it changed.
    pub change: Change,
    /// Since when it is there, in seconds since 1970.
    pub since: i64,
    /// What is so.
    pub text: String,
    /// What to do.
    pub next: String,
}

/// What a night came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Night {
    /// `done`, `partial`, `damage`, `failed`, …
    pub outcome: String,
    /// Whether it was done without any failure.
    pub good: bool,
    /// What started it: `schedule` or `hand`.
    pub by: String,
    /// Its id in the history.
    pub run: Option<String>,
    /// The snapshot that it made.
    pub snapshot: Option<String>,
    /// How long it took.
    pub duration_ms: u64,
    /// The bytes of all content.
    pub content_bytes: Option<u64>,
    /// The bytes that were read.
    pub read_bytes: Option<u64>,
    /// The bytes that were added to the repository.
    pub added_bytes: Option<u64>,
    /// The time that sealing took, of all threads together.
    pub encryption_ms: Option<u64>,
    /// The time that storing took.
    pub upload_ms: Option<u64>,
    /// What was free before, for the repository.
    pub free_before_bytes: Option<u64>,
    /// What is free after.
    pub free_after_bytes: Option<u64>,
    /// What went wrong, the first few.
    pub problems: Vec<String>,
}

impl Night {
    /// How many bytes of content each added byte stands for.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.content_bytes? as f64 / self.added_bytes?.max(1) as f64)
    }

    /// What did not have to be stored of the content, in per cent.
    pub fn savings(&self) -> Option<f64> {
        savings(self.content_bytes?, self.added_bytes?)
    }
}

/// What did not have to be stored, in per cent; none without content.
pub fn savings(content_bytes: u64, added_bytes: u64) -> Option<f64> {
    (content_bytes > 0).then(|| (1.0 - added_bytes as f64 / content_bytes as f64) * 100.0)
}

/// What somebody is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Names it, also when it is sent twice.
    pub id: String,
    /// When it was written, in seconds since 1970.
    pub time: i64,
    /// What it comes to.
    pub state: State,
    /// The profile it is about.
    pub profile: String,
    /// The machine.
    pub host: String,
    /// The repository, as the config calls it.
    pub repository: String,
    /// In a line.
    pub title: String,
    /// Alerts, the gravest first.
    #[serde(default)]
    pub notices: Vec<Notice>,
    /// The night that it is about.
    #[serde(default)]
    pub night: Option<Night>,
    /// The next thing to do.
    pub next: String,
    /// A text of its own, in place of alerts and night: a report.
    #[serde(default)]
    pub body: Option<Body>,
}

/// A text that was made elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// As plain text.
    pub text: String,
    /// As a whole page.
    pub html: String,
    /// In a few lines, for chats; the whole text where there is none.
    #[serde(default)]
    pub short: Option<String>,
}

/// Whom a message is about.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The profile.
    pub profile: &'a str,
    /// The machine.
    pub host: &'a str,
    /// The repository.
    pub repository: &'a str,
}

impl Message {
    /// About a night, or about what else is so without one.
    pub fn new(about: About<'_>, now: Timestamp, notices: Vec<Notice>, night: Option<Night>) -> Message {
        let mut notices: Vec<Notice> = notices.into_iter().map(Notice::shortened).collect();
        notices.sort_by_key(|notice| (notice.change == Change::Recovered, std::cmp::Reverse(notice.severity)));
        let night = night.map(Night::shortened);
        let (state, what) = sum(&notices, night.as_ref());
        let first = notices.first().filter(|notice| !notice.next.is_empty());
        let next = match (first, &night) {
            (Some(notice), _) => notice.next.clone(),
            (None, Some(Night { snapshot: Some(id), .. })) => {
                format!("nothing; `keepstone --profile {} show {id}` shows the snapshot", about.profile)
            }
            _ => format!("nothing; `keepstone --profile {} snapshots` lists what is stored", about.profile),
        };
        Message { state, notices, night, next, ..Message::bare(about, now, state, what) }
    }

    /// Only a line.
    pub fn bare(about: About<'_>, now: Timestamp, state: State, what: String) -> Message {
        Message {
            id: to_hex(&random::bytes::<8>()),
            time: now.as_second(),
            state,
            profile: about.profile.to_owned(),
            host: about.host.to_owned(),
            repository: about.repository.to_owned(),
            title: format!("{}: {} on {}: {what}", state.name().to_uppercase(), about.profile, about.host),
            notices: Vec::new(),
            night: None,
            next: "nothing".to_owned(),
            body: None,
        }
    }

    /// To see whether messages arrive.
    pub fn test(host: &str, channel: &str, now: Timestamp) -> Message {
        let about = About { profile: channel, host, repository: "" };
        Message {
            next: format!("nothing: messages through `{channel}` arrive"),
            ..Message::bare(about, now, State::Test, "this is a test".to_owned())
        }
    }

    /// The gravest alert that is not over; whether critical messages may wait depends on it.
    pub fn severity(&self) -> Option<Severity> {
        let lasting = self.notices.iter().filter(|notice| notice.change != Change::Recovered);
        lasting.map(|notice| notice.severity).max()
    }

    /// When it was written, as programs read it.
    pub fn moment(&self) -> String {
        Timestamp::from_second(self.time).unwrap_or_default().to_string()
    }

    /// All that it says of the night, each with its name, for people. What nobody measured says so.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let Some(night) = &self.night else { return Vec::new() };
        let bytes = |bytes: Option<u64>| bytes.map_or("not measured".to_owned(), amount);
        let time = |ms: Option<u64>| ms.map_or("not measured".to_owned(), span);
        let ratio = match (night.ratio(), night.savings()) {
            (Some(ratio), Some(savings)) => format!("{ratio:.1} to 1, {savings:.1} % saved"),
            _ => "not measured".to_owned(),
        };
        let disk = match (night.free_before_bytes, night.free_after_bytes) {
            (None, None) => "not measured".to_owned(),
            (before, after) => format!("{} -> {} free", bytes(before), bytes(after)),
        };
        vec![
            ("outcome", format!("{}, started by {}", night.outcome, night.by)),
            ("run", night.run.clone().unwrap_or_else(|| "not written down".to_owned())),
            ("snapshot", night.snapshot.clone().unwrap_or_else(|| "none".to_owned())),
            ("duration", span(night.duration_ms)),
            ("size", format!("{}, {} read", bytes(night.content_bytes), bytes(night.read_bytes))),
            ("added", bytes(night.added_bytes)),
            ("ratio", ratio),
            ("encryption", time(night.encryption_ms)),
            ("upload", time(night.upload_ms)),
            ("disk", disk),
        ]
    }

    /// The value behind a name in a template, as JSON; none for a name that there is not.
    pub fn value(&self, name: &str) -> Option<Value> {
        let night = self.night.clone().unwrap_or_default();
        let is_there = self.night.is_some();
        let share = |value: Option<f64>| json!(value.map(|value| (value * 100.0).round() / 100.0));
        Some(match name {
            "id" => json!(self.id),
            "time" => json!(self.moment()),
            "state" => json!(self.state.name()),
            "severity" => json!(self.severity().map(Severity::name)),
            "profile" => json!(self.profile),
            "host" => json!(self.host),
            "repository" => json!(self.repository),
            "title" => json!(self.title),
            "text" => json!(super::text::text(self)),
            "alerts" => json!(self.notices),
            "next" => json!(self.next),
            "outcome" => json!(is_there.then_some(night.outcome)),
            "run" => json!(night.run),
            "snapshot" => json!(night.snapshot),
            "duration_ms" => json!(is_there.then_some(night.duration_ms)),
            "content_bytes" => json!(night.content_bytes),
            "read_bytes" => json!(night.read_bytes),
            "added_bytes" => json!(night.added_bytes),
            "ratio" => share(night.ratio()),
            "savings" => share(night.savings()),
            "encryption_ms" => json!(night.encryption_ms),
            "upload_ms" => json!(night.upload_ms),
            "free_before_bytes" => json!(night.free_before_bytes),
            "free_after_bytes" => json!(night.free_after_bytes),
            "problems" => json!(night.problems),
            _ => return None,
        })
    }

    /// The whole message as one JSON object, every name of [`NAMES`] but the text for people in it.
    pub fn json(&self) -> Value {
        let names = NAMES.iter().filter(|name| **name != "text");
        let mut object: serde_json::Map<String, Value> =
            names.filter_map(|name| Some(((*name).to_owned(), self.value(name)?))).collect();
        if let Some(body) = &self.body {
            object.insert("body".to_owned(), json!(body.text));
        }
        Value::Object(object)
    }
}

/// The names that a template may hold.
pub const NAMES: [&str; 25] = [
    "id",
    "time",
    "state",
    "severity",
    "profile",
    "host",
    "repository",
    "title",
    "text",
    "alerts",
    "next",
    "outcome",
    "run",
    "snapshot",
    "duration_ms",
    "content_bytes",
    "read_bytes",
    "added_bytes",
    "ratio",
    "savings",
    "encryption_ms",
    "upload_ms",
    "free_before_bytes",
    "free_after_bytes",
    "problems",
];

/// What notices and night come to, and in a few words.
fn sum(notices: &[Notice], night: Option<&Night>) -> (State, String) {
    let lasting = notices.iter().filter(|notice| notice.change != Change::Recovered).count();
    let more = |count: usize| if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
    match (notices.first(), night) {
        (Some(notice), _) if lasting > 0 => {
            let state = match notice.severity {
                Severity::Info => State::Info,
                Severity::Warning => State::Warning,
                Severity::Critical => State::Critical,
            };
            (state, format!("{}{}", notice.text, more(lasting)))
        }
        // Alerts may be switched off, or known for long: a night that went wrong is none that is well.
        (_, Some(night)) if !night.good => {
            let first = night.problems.first().map_or(String::new(), |problem| format!(": {problem}"));
            (State::Warning, format!("the night ended as {}{first}", night.outcome))
        }
        (Some(notice), _) => (State::Recovered, format!("{}{}", notice.text, more(notices.len()))),
        (None, Some(night)) => {
            let added = night.added_bytes.map_or(String::new(), |added| format!(", {} added", amount(added)));
            (State::Ok, format!("a good night in {}{added}", span(night.duration_ms)))
        }
        (None, None) => (State::Ok, "nothing is wrong".to_owned()),
    }
}

impl Notice {
    fn shortened(self) -> Notice {
        Notice { text: shortened(self.text, MOST_CHARACTERS), next: shortened(self.next, MOST_CHARACTERS), ..self }
    }
}

impl Night {
    fn shortened(self) -> Night {
        let problems =
            self.problems.into_iter().take(MOST_PROBLEMS).map(|problem| shortened(problem, MOST_CHARACTERS)).collect();
        Night { problems, ..self }
    }
}

/// At most so many characters, in one line. What lies in a file's name is not to play tricks with a mail or a terminal.
pub fn shortened(text: String, most: usize) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = plain.take(most + 1).collect();
    if short.chars().count() > most {
        short.pop();
        short.pop();
        short.push('…');
    }
    short
}
