//! Which alerts are open: so that each is told once, again after a while, and when it is over.

use super::error::{Error, Result};
use super::message::{Change, Notice, Severity};
use super::rules::{Alert, Judged, Rule};
use crate::base::Kind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// No file of open alerts is larger.
const MOST_BYTES: u64 = 1 << 20;

/// An alert that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct One {
    severity: Severity,
    /// Seconds since 1970.
    since: i64,
    told: i64,
    text: String,
    #[serde(default)]
    causes: Vec<String>,
}

/// The open alerts of a profile, each by its rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Open(BTreeMap<String, One>);

impl Open {
    /// Takes in what rules found at `now`, and says what somebody has to be told. An alert that stays is told again after
    /// `repeat`, and at once where something else caused it too.
    pub fn settle(&mut self, judged: &Judged, now: i64, repeat: Duration) -> Vec<Notice> {
        let mut notices: Vec<Notice> = judged.alerts.iter().filter_map(|alert| self.bad(alert, now, repeat)).collect();
        notices.extend(judged.good.iter().filter_map(|rule| self.good(*rule)));
        notices
    }

    fn bad(&mut self, alert: &Alert, now: i64, repeat: Duration) -> Option<Notice> {
        let notice = |change, since| Notice {
            rule: alert.rule.name().to_owned(),
            severity: alert.severity,
            change,
            since,
            text: alert.text.clone(),
            next: alert.next.clone(),
        };
        if alert.rule.is_event() {
            return Some(notice(Change::New, now));
        }
        let repeat = i64::try_from(repeat.as_secs()).unwrap_or(i64::MAX);
        let before = self.0.get(alert.rule.name());
        let is_other = |one: &One| alert.causes.iter().any(|cause| !one.causes.contains(cause));
        let before = before.filter(|one| !is_other(one));
        let change = match before {
            None => Some(Change::New),
            Some(one) if alert.severity > one.severity => Some(Change::Worse),
            Some(_) if alert.is_damage => Some(Change::Still),
            // A clock that was set back does not silence an alert for ever.
            Some(one) if now.saturating_sub(one.told) >= repeat || now < one.told => Some(Change::Still),
            Some(_) => None,
        };
        let since = before.map_or(now, |one| one.since.min(now));
        let told = if change.is_some() { now } else { before.map_or(now, |one| one.told) };
        let one = One { severity: alert.severity, since, told, text: alert.text.clone(), causes: alert.causes.clone() };
        self.0.insert(alert.rule.name().to_owned(), one);
        change.map(|change| notice(change, since))
    }

    fn good(&mut self, rule: Rule) -> Option<Notice> {
        let One { severity, since, text, .. } = self.0.remove(rule.name())?;
        let (change, rule) = (Change::Recovered, rule.name().to_owned());
        Some(Notice { rule, severity, change, since, text, next: String::new() })
    }

    /// Rules and severities of what is open.
    pub fn list(&self) -> impl Iterator<Item = (&str, Severity)> {
        self.0.iter().map(|(rule, one)| (rule.as_str(), one.severity))
    }

    /// The open alerts of a profile, as they were left. A file that cannot be read counts as none: then everything is told
    /// anew, which is better than not at all.
    pub fn load(folder: &Path, profile: &str) -> Open {
        let mut text = String::new();
        let read = File::open(place(folder, profile)).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text));
        read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Leaves them for the next time.
    pub fn save(&self, folder: &Path, profile: &str) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::new(Kind::Internal, format!("open alerts cannot be written: {error}")))?;
        write_whole(&place(folder, profile), text.as_bytes(), 0o600)
    }
}

/// Held from reading the open alerts of a profile until they are left again: the end of a night and a look between nights
/// would otherwise both tell the same, or forget what the other found. Without a lock people are told all the same.
pub fn hold(folder: &Path, profile: &str) -> Option<File> {
    let path = place(folder, profile).with_extension("lock");
    DirBuilder::new().recursive(true).mode(0o700).create(path.parent()?).ok()?;
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(path).ok()?;
    file.lock().ok()?;
    Some(file)
}

fn place(folder: &Path, profile: &str) -> PathBuf {
    folder.join("alerts").join(format!("{profile}.json"))
}

/// Writes a file that is there whole or not at all, and makes its folder.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let failed = |source: std::io::Error| Error::io(format!("write {}", path.display()), &source);
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // One name for each process: who died in the middle of it leaves at most one file.
    let aside = folder.join(format!(".{name}.{}", std::process::id()));
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(&aside).map_err(failed)?;
    let written = file.write_all(bytes).and_then(|()| set_mode(&file, mode)).and_then(|()| file.sync_all());
    let renamed = written.and_then(|()| fs::rename(&aside, path)).and_then(|()| File::open(folder)?.sync_all());
    renamed.map_err(|error| {
        let _ = fs::remove_file(&aside);
        failed(error)
    })
}

/// Whatever the umask says.
fn set_mode(file: &File, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(mode))
}
