//! Metrics for Prometheus: counters and histograms of all that ever ran, gauges of how things are.
//!
//! Counters only grow, also when old rows of the history are let go: their sums are kept beside it, with the ids of the
//! runs of the last days, so that each run is counted once, whichever of two that end at the same time is counted first.
//!
//! Two forms of text: Prometheus 0.0.4, for the textfile collector and the push gateway, and OpenMetrics 1.0. They differ
//! in the names of counters in comments and in the last line.

use super::landmarks::{Landmarks, ended};
use crate::base::Kind;
use crate::history::{Entry, Outcome, figure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Runs that ended so long before the newest count as counted.
const SURELY_COUNTED_NS: i64 = 2 * 86_400 * 1_000_000_000;
/// So many ids of counted runs are kept however old they are.
const KEPT_IDS: usize = 1000;
/// Success is a share of the runs of so many days.
pub const RATE_DAYS: i64 = 30;
/// The most series of one family: labels come from a config, and somebody may generate one.
const MOST_SERIES: usize = 2000;

const DURATIONS: &[f64] = &[1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 43_200.0];
const TIMES: &[f64] = &[0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0];
/// From a MiB to a TiB, in steps of eight.
const SIZES: &[f64] = &[
    1_048_576.0,
    8_388_608.0,
    67_108_864.0,
    536_870_912.0,
    4_294_967_296.0,
    34_359_738_368.0,
    274_877_906_944.0,
    1_099_511_627_776.0,
];

/// The forms of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Prometheus 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// Names and values of labels.
type Labels = Vec<(String, String)>;

/// All that ever ran, in sums.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sums {
    /// The ids of runs that were counted lately, and when they ended.
    recent: BTreeMap<String, i64>,
    /// When the newest of all counted ones ended.
    newest_ns: i64,
    counters: BTreeMap<String, Vec<(Labels, f64)>>,
    histograms: BTreeMap<String, Vec<(Labels, Histogram)>>,
}

/// How often something was at most so much.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Histogram {
    /// For each bound, how many were at most that and above the one before; the last is for what is above all.
    counts: Vec<u64>,
    sum: f64,
}

struct Family {
    name: &'static str,
    help: &'static str,
    bounds: &'static [f64],
}

const COUNTERS: [Family; 4] = [
    Family { name: "backup", help: "Runs of a profile (type) by how they ended.", bounds: &[] },
    Family { name: "backup_errors", help: "Failures by kind.", bounds: &[] },
    Family { name: "backup_verification", help: "Verifications by how they ended.", bounds: &[] },
    Family { name: "backup_restore", help: "Test restores by how they ended.", bounds: &[] },
];

const HISTOGRAMS: [Family; 4] = [
    Family { name: "backup_duration_seconds", help: "How long runs took.", bounds: DURATIONS },
    Family { name: "backup_size_bytes", help: "What runs added to the repository.", bounds: SIZES },
    Family {
        name: "backup_encryption_time_seconds",
        help: "Time of encryption, of all threads together.",
        bounds: TIMES,
    },
    Family {
        name: "backup_upload_time_seconds",
        help: "Time of storing, of all that went side by side.",
        bounds: TIMES,
    },
];

impl Sums {
    /// Counts the runs that were not counted yet by `now_ns`; `provider` says where the repository of a run lies.
    pub fn take(&mut self, entries: &[Entry], provider: &dyn Fn(&Entry) -> String, now_ns: i64) {
        let is_first = self.newest_ns == 0;
        // A run under a clock that was ahead would make all others old until that time comes.
        let before = self.newest_ns.min(now_ns);
        for entry in entries.iter().filter(|entry| entry.outcome != Outcome::Running) {
            let ended_ns = entry.ended_ns.unwrap_or(entry.begun_ns);
            let is_old = !is_first && ended_ns < before.saturating_sub(SURELY_COUNTED_NS);
            if is_old || self.recent.insert(entry.id.to_string(), ended_ns).is_some() {
                continue;
            }
            self.newest_ns = self.newest_ns.max(ended_ns);
            self.count(entry, &provider(entry));
        }
        // Not by time alone: by a clock that was ahead all others look old, and would be counted twice.
        if self.recent.len() > KEPT_IDS {
            let surely = self.newest_ns.min(now_ns).saturating_sub(SURELY_COUNTED_NS);
            self.recent.retain(|_, ended_ns| *ended_ns >= surely);
        }
    }

    /// Series that say 0 from the first moment on: a rise from nothing at all is none to Prometheus.
    pub fn expect(&mut self, profile: &str) {
        for outcome in Outcome::ALL.iter().filter(|outcome| **outcome != Outcome::Running) {
            self.add("backup", &[("type", profile), ("status", outcome.name())], 0.0);
        }
        for status in ["done", "damage", "failed"] {
            self.add("backup_verification", &[("status", status)], 0.0);
            self.add("backup_restore", &[("status", status)], 0.0);
        }
        for kind in Kind::ALL {
            self.add("backup_errors", &[("error_type", kind.name())], 0.0);
        }
        self.add("backup_errors", &[("error_type", "vanished")], 0.0);
    }

    fn count(&mut self, entry: &Entry, provider: &str) {
        let (profile, status) = (entry.profile.as_str(), entry.outcome.name());
        if entry.is_night() {
            self.add("backup", &[("type", profile), ("status", status)], 1.0);
        }
        for phase in &entry.phases {
            if let Some(kind) = &phase.kind {
                self.add("backup_errors", &[("error_type", kind)], 1.0);
            }
        }
        if entry.outcome == Outcome::Vanished {
            self.add("backup_errors", &[("error_type", "vanished")], 1.0);
        }
        for (phase, name) in [("verify", "backup_verification"), ("drill", "backup_restore")] {
            if let Some(status) = ended(entry, phase) {
                self.add(name, &[("status", status)], 1.0);
            }
        }
        let seconds = |ms: u64| ms as f64 / 1000.0;
        let figure = |name| entry.figures.get(name);
        if let Some(ms) = entry.duration_ms().filter(|_| entry.is_night()) {
            self.observe("backup_duration_seconds", &[("type", profile), ("status", status)], seconds(ms));
        }
        if let Some(bytes) = figure(figure::ADDED_BYTES) {
            self.observe("backup_size_bytes", &[("type", profile)], bytes as f64);
        }
        if let Some(ms) = figure(figure::SEAL_MS) {
            self.observe("backup_encryption_time_seconds", &[], seconds(ms));
        }
        if let Some(ms) = figure(figure::UPLOAD_MS) {
            self.observe("backup_upload_time_seconds", &[("cloud_provider", provider)], seconds(ms));
        }
    }

    fn add(&mut self, name: &str, labels: &[(&str, &str)], by: f64) {
        if let Some(value) = series(self.counters.entry(name.to_owned()).or_default(), labels) {
            *value += by;
        }
    }

    fn observe(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let bounds = HISTOGRAMS.iter().find(|family| family.name == name).map_or(&[][..], |family| family.bounds);
        if let Some(histogram) = series(self.histograms.entry(name.to_owned()).or_default(), labels) {
            // What was written by a version with other bounds keeps its sum and its last count.
            histogram.counts.resize(bounds.len() + 1, 0);
            let at = bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len());
            histogram.counts[at] += 1;
            histogram.sum += value;
        }
    }
}

/// The series with these labels, made where there is none and room for it.
fn series<'s, V: Default>(all: &'s mut Vec<(Labels, V)>, labels: &[(&str, &str)]) -> Option<&'s mut V> {
    let labels: Labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    if let Some(at) = all.iter().position(|(known, _)| *known == labels) {
        return Some(&mut all[at].1);
    }
    if all.len() >= MOST_SERIES {
        return None;
    }
    all.push((labels, V::default()));
    all.last_mut().map(|(_, value)| value)
}

/// How things are.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    /// Now, in nanoseconds since 1970.
    pub now_ns: i64,
    /// Profiles.
    pub profiles: Vec<ProfileGauges>,
    /// Disks of repositories on this machine.
    pub disks: Vec<Disk>,
    /// Whether the text is read now: then ages make sense. In a file they would stand still.
    pub is_live: bool,
}

/// How a profile is.
#[derive(Clone, Debug, Default)]
pub struct ProfileGauges {
    /// Its name.
    pub name: String,
    /// Its newest snapshots.
    pub marks: Landmarks,
    /// The share of good runs; none without any.
    pub success_rate: Option<f64>,
    /// What its repository holds, when the last run ended.
    pub total_bytes: Option<u64>,
    /// Checks and how they are: 0 ok, 1 warning, 2 critical.
    pub health: Vec<(String, u8)>,
}

/// The disk of a repository.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The repository, as the config calls it.
    pub repository: String,
    /// What is free.
    pub free_bytes: u64,
    /// What there is in all.
    pub total_bytes: u64,
}

impl ProfileGauges {
    /// What the entries of a profile say, which are given oldest first. `reads_snapshots`: see [`Landmarks::of`].
    pub fn of(name: &str, entries: &[Entry], reads_snapshots: bool, now_ns: i64) -> ProfileGauges {
        let since = now_ns.saturating_sub(RATE_DAYS * 86_400 * 1_000_000_000);
        let lately: Vec<&Entry> = entries.iter().filter(|entry| entry.begun_ns >= since && counts(entry)).collect();
        let good = lately.iter().filter(|entry| entry.outcome.is_good()).count();
        ProfileGauges {
            name: name.to_owned(),
            marks: Landmarks::of(entries, reads_snapshots),
            success_rate: (!lately.is_empty()).then(|| good as f64 / lately.len() as f64),
            total_bytes: entries.iter().rev().find_map(|entry| entry.figures.get(figure::REPOSITORY_BYTES)),
            health: Vec::new(),
        }
    }
}

/// A night of which it is known how it ended.
fn counts(entry: &Entry) -> bool {
    entry.is_night() && entry.outcome != Outcome::Running
}

/// All metrics as text.
pub fn render(sums: &Sums, gauges: &Gauges, form: Form) -> String {
    let mut text = Text { text: String::new(), form };
    for family in &COUNTERS {
        text.counter(family, sums.counters.get(family.name).map_or(&[][..], Vec::as_slice));
    }
    for family in &HISTOGRAMS {
        text.histogram(family, sums.histograms.get(family.name).map_or(&[][..], Vec::as_slice));
    }
    text.gauges(gauges);
    if form == Form::OpenMetrics {
        text.text.push_str("# EOF\n");
    }
    text.text
}

struct Text {
    text: String,
    form: Form,
}

impl Text {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        // A unit has to be the end of the name.
        if self.form == Form::OpenMetrics
            && let Some(unit) = ["seconds", "bytes"].iter().find(|unit| name.ends_with(&format!("_{unit}")))
        {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        for (number, (label, value)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"{}\"", if number == 0 { '{' } else { ',' }, escaped(value));
        }
        let _ = writeln!(self.text, "{} {}", if labels.is_empty() { "" } else { "}" }, number(value));
    }

    fn counter(&mut self, family: &Family, series: &[(Labels, f64)]) {
        let name = format!("{}_total", family.name);
        let head = if self.form == Form::OpenMetrics { family.name } else { &name };
        self.head(head, family.help, "counter");
        for (labels, value) in series {
            self.sample(&name, &borrowed(labels), *value);
        }
    }

    fn histogram(&mut self, family: &Family, series: &[(Labels, Histogram)]) {
        self.head(family.name, family.help, "histogram");
        let bucket = format!("{}_bucket", family.name);
        for (labels, histogram) in series {
            let mut so_far = 0;
            let bounds = family.bounds.iter().map(|bound| number(*bound)).chain(["+Inf".to_owned()]);
            for (at, bound) in bounds.enumerate() {
                so_far += histogram.counts.get(at).copied().unwrap_or(0);
                let mut labels = borrowed(labels);
                labels.push(("le", &bound));
                self.sample(&bucket, &labels, so_far as f64);
            }
            self.sample(&format!("{}_sum", family.name), &borrowed(labels), histogram.sum);
            self.sample(&format!("{}_count", family.name), &borrowed(labels), so_far as f64);
        }
    }

    fn gauge<'v>(&mut self, name: &str, help: &str, samples: impl Iterator<Item = (Vec<(&'v str, &'v str)>, f64)>) {
        let mut is_first = true;
        for (labels, value) in samples {
            if std::mem::take(&mut is_first) {
                self.head(name, help, "gauge");
            }
            self.sample(name, &labels, value);
        }
    }

    fn gauges(&mut self, gauges: &Gauges) {
        let profiles = &gauges.profiles;
        self.gauge(
            "backup_success_rate",
            "Share of good runs of the last 30 days, from 0 to 1.",
            profiles.iter().filter_map(|one| Some((vec![("type", one.name.as_str())], one.success_rate?))),
        );
        self.gauge(
            "backup_total_size_bytes",
            "What the repository held when the last run ended.",
            profiles.iter().filter_map(|one| Some((vec![("type", one.name.as_str())], one.total_bytes? as f64))),
        );
        let checks = profiles.iter().flat_map(|one| {
            let labels = |check| vec![("type", one.name.as_str()), ("check_type", check)];
            one.health.iter().map(move |(check, level)| (labels(check.as_str()), f64::from(*level)))
        });
        self.gauge("backup_health_status", "Checks: 0 ok, 1 warning, 2 critical.", checks);
        self.marks(gauges);
        let disk = |value: fn(&Disk) -> f64| {
            gauges.disks.iter().map(move |disk| (vec![("repository", disk.repository.as_str())], value(disk)))
        };
        self.gauge(
            "backup_disk_usage_percent",
            "What is used of the disk of the repository.",
            disk(Disk::used_percent),
        );
        self.gauge("backup_disk_free_bytes", "What is free for the repository.", disk(|disk| disk.free_bytes as f64));
    }

    fn marks(&mut self, gauges: &Gauges) {
        type Mark = fn(&Landmarks) -> Option<i64>;
        let marks: [(&str, &str, Mark); 4] = [
            ("run", "The last run, however it ended", |marks| marks.run),
            ("complete", "The newest complete snapshot", |marks| marks.complete),
            ("verified", "The newest complete snapshot that was read back whole", |marks| marks.verified),
            ("drilled", "The newest complete snapshot that came back in a test restore", |marks| marks.drilled),
        ];
        for (word, what, mark) in marks {
            let samples = |value: fn(i64, i64) -> f64| {
                gauges.profiles.iter().filter_map(move |one| {
                    Some((vec![("type", one.name.as_str())], value(mark(&one.marks)?, gauges.now_ns)))
                })
            };
            self.gauge(
                &format!("backup_last_{word}_timestamp_seconds"),
                &format!("{what}: when it was begun, in seconds since 1970."),
                samples(|at, _| at as f64 / 1e9),
            );
            if gauges.is_live {
                self.gauge(
                    &format!("backup_last_{word}_age_seconds"),
                    &format!("{what}: how long ago it was begun."),
                    samples(|at, now| now.saturating_sub(at).max(0) as f64 / 1e9),
                );
            }
        }
    }
}

impl Disk {
    fn used_percent(&self) -> f64 {
        let used = self.total_bytes.saturating_sub(self.free_bytes);
        used as f64 / self.total_bytes.max(1) as f64 * 100.0
    }
}

fn borrowed(labels: &Labels) -> Vec<(&str, &str)> {
    labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// A number as both forms take it.
fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 { format!("{value:.1}") } else { format!("{value}") }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
