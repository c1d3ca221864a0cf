//! What is not wrong in a config, and still cannot be what somebody wants: schedules that cannot keep what is asked for.

use super::error::Complaint;
use super::meant::Profile;
use super::schedule::Schedule;
use super::tree::{At, Table, Value};
use super::{Config, table_of, tables};
use crate::base::clock::{Zoned, span};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// A timer and a change of clocks make a day a little longer.
const SLACK: Duration = Duration::from_secs(2 * 3600);

/// Who may do what with a file; nothing of one that is not there.
fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0, |meta| meta.mode())
}

impl Config {
    /// Profiles whose own schedule leaves their newest snapshot older than their rules allow, and files that others can read or
    /// write, with the place that says so.
    pub fn warnings(&self, now: &Zoned) -> Vec<Complaint> {
        let mut warnings = self.exposed();
        for name in self.profiles() {
            if let (Ok(profile), Ok(table)) = (self.profile(name), self.laid(name)) {
                warnings.extend(self.of_profile(&profile, table, now));
            }
        }
        super::sorted(warnings)
    }

    /// Files that open a repository and that others can read, and files of the config that others can write: they name
    /// commands that run.
    pub fn exposed(&self) -> Vec<Complaint> {
        let mut warnings = Vec::new();
        for (_, repository) in tables(&self.root, "repositories") {
            for entry in
                ["password_file", "key_file", "identity_file"].iter().filter_map(|key| table_of(repository).get(*key))
            {
                if let Value::Text(path) = &entry.item.value
                    && mode(Path::new(path)) & 0o077 != 0
                {
                    let message = format!(
                        "others than its owner can read {path}, which opens the repository: `chmod 600 {path}`"
                    );
                    warnings.push(Complaint::new(&self.files, &entry.item.at, message));
                }
            }
        }
        for (file, path) in self.paths().enumerate().filter(|(_, path)| mode(path) & 0o022 != 0) {
            let path = path.display();
            let message =
                format!("others than its owner can write {path}, which names commands that run: `chmod go-w {path}`");
            warnings.push(Complaint::new(&self.files, &At { file, from: 0, to: 0, via: None }, message));
        }
        warnings
    }

    fn of_profile(&self, profile: &Profile, table: &Table, now: &Zoned) -> Vec<Complaint> {
        let rules =
            [("critical", &profile.rules.critical), ("warning", &profile.rules.warning), ("info", &profile.rules.info)];
        let Some((severity, rpo)) = rules.iter().find_map(|(name, rules)| Some((*name, rules.rpo?))) else {
            return Vec::new();
        };
        let too_long = |schedule: Option<&Schedule>| {
            schedule.and_then(|schedule| schedule.longest(now)).filter(|time| *time > rpo.saturating_add(SLACK))
        };
        let said = |time: Duration| span(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let name = &profile.name;
        let mut warnings = Vec::new();
        if let (Some(time), Some(entry)) = (too_long(profile.schedule.as_ref()), table.get("schedule")) {
            let message = format!(
                "profile `{name}` cannot meet its RPO: this leaves {} between two runs, and `alerts.{severity}.rpo` allows {}; \
                 run it more often, or say how old its newest snapshot may be",
                said(time),
                said(rpo)
            );
            warnings.push(Complaint::new(&self.files, &entry.item.at, message));
        }
        // Where snapshots are read back only those count that were.
        let verify = profile.verify.as_ref().filter(|verify| verify.newer_than.is_some());
        let entry = table.get("verify").and_then(|entry| table_of(entry).get("schedule"));
        if let (Some(time), Some(entry)) = (too_long(verify.and_then(|verify| verify.schedule.as_ref())), entry) {
            let message = format!(
                "profile `{name}` cannot meet its RPO: this leaves {} between two times at which snapshots are read back, and \
                 `alerts.{severity}.rpo` allows {}; read back more often, or say how old the newest good snapshot may be",
                said(time),
                said(rpo)
            );
            warnings.push(Complaint::new(&self.files, &entry.item.at, message));
        }
        warnings
    }
}
