//! Metrics: the sums beside the history, the text file for the collector, the push gateway.

use super::night::{Ended, Outcome, Phase};
use super::past::reads_snapshots;
use crate::base::clock::{Clock, Stopwatch};
use crate::base::stat::space;
use crate::base::{Kind, Machine, Problem, Secret};
use crate::config::meant::Metrics;
use crate::config::{Config, secrets};
use crate::history::{Entry, Filter, History};
use crate::notify::alerts::{Open, write_whole};
use crate::notify::rules::Rule;
use crate::notify::{Client, Error, Request, Severity};
use crate::report::metrics::{Disk, Form, Gauges, ProfileGauges, Sums, render};
use crate::store::S3Address;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file of the sums, in the folder of the state.
const FILE_NAME: &str = "metrics.json";
/// No file of sums is larger.
const MOST_BYTES: u64 = 16 << 20;

/// All metrics as they are now, as text.
pub fn text(config: &Config, form: Form) -> Result<String, Error> {
    let folder = folder(config)?;
    Ok(render(&counted(config, &folder)?, &gauges(config, &folder, true)?, form))
}

/// At the end of a night: keeps the sums, writes the text file and tells the push gateway, as far as the config says so. What
/// failed is a phase of the night.
pub(super) fn publish(config: &Config, outcome: &mut Outcome) {
    let since = Stopwatch::start();
    let meant = config.metrics();
    let text = match keep(config) {
        Ok(text) => text,
        // A history or sums that cannot be used make no night a failed one: they are told beside it.
        Err(error) => {
            outcome.unwritten.push(Problem::new("metrics", error.to_string(), error.kind()));
            return;
        }
    };
    let (ended, message) = match publish_text(&meant, &text) {
        Ok(None) => return,
        Ok(Some(message)) => (Ended::Done, message),
        Err(error) => (Ended::Failed(error.kind()), error.to_string()),
    };
    let (figures, problems) = (Vec::new(), Vec::new());
    outcome.phases.push(Phase { name: "metrics", ended, message, figures, problems, duration_ms: since.elapsed_ms() });
}

/// After something that was no night: says again where the config wants it what holds now.
pub fn again(config: &Config) -> Result<(), Error> {
    let meant = config.metrics();
    if meant.textfile.is_none() && meant.push.is_none() {
        return Ok(());
    }
    publish_text(&meant, &keep(config)?).map(drop)
}

/// Counts the runs that were not counted yet, and keeps the sums. The text for a file.
fn keep(config: &Config) -> Result<String, Error> {
    let folder = folder(config)?;
    let _lock = lock(&folder)?;
    let sums = counted(config, &folder)?;
    let json = serde_json::to_vec(&sums)
        .map_err(|error| Error::new(Kind::Internal, format!("sums cannot be written: {error}")))?;
    write_whole(&folder.join(FILE_NAME), &json, 0o600)?;
    Ok(render(&sums, &gauges(config, &folder, false)?, Form::Prometheus))
}

fn publish_text(meant: &Metrics, text: &str) -> Result<Option<String>, Error> {
    let mut done = Vec::new();
    let mut failed = Vec::new();
    if let Some(path) = &meant.textfile {
        match write_textfile(path, text) {
            Ok(()) => done.push(format!("written to {}", path.display())),
            Err(error) => failed.push(error),
        }
    }
    if let Some(url) = &meant.push {
        match push(meant, url, text) {
            Ok(()) => done.push("pushed".to_owned()),
            Err(error) => failed.push(error),
        }
    }
    match failed.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(Some(done.join(" and ")).filter(|done| !done.is_empty())),
    }
}

/// Everybody may read it: the collector is another user. Its folder is not made: a path that is mistyped should be noticed.
fn write_textfile(path: &Path, text: &str) -> Result<(), Error> {
    match path.parent().is_some_and(Path::is_dir) {
        true => write_whole(path, text.as_bytes(), 0o644),
        false => Err(Error::new(
            Kind::NotFound,
            format!(
                "cannot write {}: its folder is not there; is it that of the collector? (`metrics.textfile`)",
                path.display()
            ),
        )),
    }
}

/// All that this machine says takes the place of what it said before.
fn push(meant: &Metrics, url: &crate::config::meant::Origin, text: &str) -> Result<(), Error> {
    let bring = |origin| secrets::text(origin).map_err(|error| Error::new(error.kind(), error.to_string()));
    let url = bring(url)?;
    let host: String =
        Machine::this().host.chars().filter(|c| c.is_ascii_alphanumeric() || "-._".contains(*c)).collect();
    let url = Secret::new(format!("{}/metrics/job/keepstone/instance/{host}", url.expose().trim_end_matches('/')));
    let bearer = meant.token.as_ref().map(bring).transpose()?;
    let bearer = bearer.map(|token| Secret::new(format!("Bearer {}", token.expose())));
    let headers = bearer.iter().map(|bearer| ("authorization", bearer.expose().as_str())).collect();
    let client = Client::new(meant.timeout, meant.authorities.as_deref(), meant.plain_http)?;
    let (method, content_type) = ("PUT", "text/plain; version=0.0.4; charset=utf-8");
    client.send(&Request { method, url: url.expose(), headers, content_type, body: text.as_bytes() }).map(drop)
}

fn folder(config: &Config) -> Result<PathBuf, Error> {
    let said = |error: crate::config::Error| Error::new(error.kind(), error.to_string());
    Ok(config.state().place().map_err(said)?.to_owned())
}

/// Held while sums are read and written.
fn lock(folder: &Path) -> Result<File, Error> {
    let failed = |error: std::io::Error| Error::io(format!("lock the metrics in {}", folder.display()), &error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    // No profile has a name that begins with a dot, and so none has this lock.
    let file = options.open(folder.join(".metrics.lock")).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

/// The sums with all that the history knows. A file of them that cannot be read begins anew with what the history has.
fn counted(config: &Config, folder: &Path) -> Result<Sums, Error> {
    let mut text = String::new();
    let read = File::open(folder.join(FILE_NAME)).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text));
    let mut sums: Sums = read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default();
    let providers: BTreeMap<String, String> = config
        .profiles()
        .into_iter()
        .filter_map(|name| config.profile(name).ok())
        .map(|profile| (profile.repository.name.clone(), provider(&profile.repository.place)))
        .collect();
    config.profiles().into_iter().for_each(|name| sums.expect(name));
    let provider = |entry: &Entry| providers.get(&entry.repository).map_or("unknown", String::as_str).to_owned();
    sums.take(&entries(folder, &Filter::default())?, &provider, now_ns());
    Ok(sums)
}

fn entries(folder: &Path, filter: &Filter) -> Result<Vec<Entry>, Error> {
    let history = History::read(folder).and_then(|history| history.map_or(Ok(Vec::new()), |one| one.entries(filter)));
    history.map_err(|error| Error::new(error.kind(), error.to_string()))
}

/// Who keeps a repository: `local`, `aws`, or the host of another store.
fn provider(place: &Path) -> String {
    let text = place.to_string_lossy();
    if !S3Address::is_meant(&text) {
        return "local".to_owned();
    }
    let host = text.split_once("://").map_or("", |(_, rest)| rest.split(['/', ':']).next().unwrap_or_default());
    if text.starts_with("s3://") || host.ends_with(".amazonaws.com") { "aws".to_owned() } else { host.to_owned() }
}

fn now_ns() -> i64 {
    i64::try_from(Clock::System.now().as_nanosecond()).unwrap_or(i64::MAX)
}

fn gauges(config: &Config, folder: &Path, is_live: bool) -> Result<Gauges, Error> {
    let now_ns = now_ns();
    let all = entries(folder, &Filter::default().believed(now_ns))?;
    let mut gauges = Gauges { now_ns, is_live, ..Gauges::default() };
    let mut places: BTreeMap<String, PathBuf> = BTreeMap::new();
    for profile in config.profiles().into_iter().filter_map(|name| config.profile(name).ok()) {
        let own: Vec<Entry> = all.iter().filter(|entry| entry.profile == profile.name).cloned().collect();
        let mut one = ProfileGauges::of(&profile.name, &own, reads_snapshots(&profile), now_ns);
        one.health = health(&Open::load(folder, &profile.name));
        gauges.profiles.push(one);
        places.insert(profile.repository.name.clone(), profile.repository.place.clone());
    }
    gauges.disks = places.into_iter().filter_map(|(repository, place)| disk(repository, &place)).collect();
    Ok(gauges)
}

/// What every rule that lasts said at the end of the last night.
fn health(open: &Open) -> Vec<(String, u8)> {
    let open: BTreeMap<&str, Severity> = open.list().collect();
    let level = |rule: &Rule| match open.get(rule.name()) {
        None => 0,
        Some(Severity::Info | Severity::Warning) => 1,
        Some(Severity::Critical) => 2,
    };
    let lasting = Rule::ALL.iter().filter(|rule| !rule.is_event());
    lasting.map(|rule| (rule.name().to_owned(), level(rule))).collect()
}

fn disk(repository: String, place: &Path) -> Option<Disk> {
    let place = fs::canonicalize(place).ok()?;
    let (free_bytes, total_bytes) = space(&place)?;
    Some(Disk { repository, free_bytes, total_bytes })
}
