//! Who is told what, and when: channels by severity, and hours in which nobody is to be woken.

use super::message::{Notice, Severity};
use crate::base::clock::{Timestamp, Zoned};
use std::collections::BTreeMap;
use std::time::Duration;

/// Whom a profile tells.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// Channels for critical alerts and for their end.
    pub critical: Vec<String>,
    /// The same for warnings.
    pub warning: Vec<String>,
    /// What is good to know.
    pub info: Vec<String>,
    /// Channels that are told of every night, however it ended.
    pub night: Vec<String>,
    /// An alert that stays is told again after so long.
    pub repeat: Duration,
    /// When nobody is to be woken.
    pub quiet: Option<Quiet>,
}

/// Hours in which nobody is to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// They begin at this minute of the day.
    pub from: u32,
    /// And end at this one.
    pub to: u32,
    /// Whether critical alerts pass all the same.
    pub critical_passes: bool,
}

impl Route {
    /// Each channel that is told something, and of what: those of every night of everything, the others of what is theirs.
    pub fn audience(&self, notices: &[Notice], is_night: bool) -> BTreeMap<String, Vec<Notice>> {
        let mut audience: BTreeMap<String, Vec<Notice>> = BTreeMap::new();
        for notice in notices {
            let channels = match notice.severity {
                Severity::Critical => &self.critical,
                Severity::Warning => &self.warning,
                Severity::Info => &self.info,
            };
            for channel in channels {
                let told = audience.entry(channel.clone()).or_default();
                if !told.contains(notice) {
                    told.push(notice.clone());
                }
            }
        }
        if is_night {
            audience.extend(self.night.iter().map(|channel| (channel.clone(), notices.to_vec())));
        }
        audience
    }

    /// All channels that are named.
    pub fn channels(&self) -> impl Iterator<Item = &String> {
        [&self.critical, &self.warning, &self.info, &self.night].into_iter().flatten()
    }
}

impl Quiet {
    /// Reads `22:00-07:00`.
    pub fn parse(text: &str, critical_passes: bool) -> Result<Quiet, String> {
        let wrong = || format!("`{text}` are no hours: write 22:00-07:00");
        let minute = |text: &str| {
            let (hour, minute) = text.trim().split_once(':')?;
            let is_number = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            let (hour, minute) =
                (Some(hour).filter(|hour| is_number(hour))?, Some(minute).filter(|one| is_number(one))?);
            let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
            (hour < 24 && minute < 60).then_some(hour * 60 + minute)
        };
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let (from, to) = (minute(from).ok_or_else(wrong)?, minute(to).ok_or_else(wrong)?);
        if from == to { Err(wrong()) } else { Ok(Quiet { from, to, critical_passes }) }
    }

    /// Until when something of this severity has to wait; none if it need not.
    pub fn until(&self, severity: Option<Severity>, now: &Zoned) -> Option<Timestamp> {
        if self.critical_passes && severity == Some(Severity::Critical) {
            return None;
        }
        let minute = u32::try_from(now.hour()).ok()? * 60 + u32::try_from(now.minute()).ok()?;
        let is_quiet = match self.from < self.to {
            true => (self.from..self.to).contains(&minute),
            false => minute >= self.from || minute < self.to,
        };
        if !is_quiet {
            return None;
        }
        let day = if minute < self.to { now.date() } else { now.date().tomorrow().ok()? };
        let (hour, minute) = (i8::try_from(self.to / 60).ok()?, i8::try_from(self.to % 60).ok()?);
        day.at(hour, minute, 0, 0).to_zoned(now.time_zone().clone()).ok().map(|end| end.timestamp())
    }
}
