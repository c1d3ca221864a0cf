//! What of a night a run does: all of it, or single tasks at times of their own.
//!
//! A run of tasks backs nothing up. It counts as no night: it meets no time of the schedule, is not among the runs whose share
//! is good, and those who want to hear of every night do not hear of it. What it finds is told all the same.

use crate::config::meant::Profile;
use crate::history;

/// What of a night is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All that belongs to it.
    Night {
        /// Everything is read, also what looks unchanged, whether that is due or not.
        whole: bool,
    },
    /// Only these tasks: each when it is due, or at once if somebody starts them by hand.
    Only(Vec<Task>),
}

/// Something of a night that can be done alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Reading back.
    Verify,
    /// Test restores.
    Drill,
}

impl Task {
    /// The word for it, which is also its table in a profile.
    pub fn name(self) -> &'static str {
        match self {
            Task::Verify => "verify",
            Task::Drill => "drill",
        }
    }

    /// The phases that it is in a run of the profile; none if the profile says nothing of it.
    pub(super) fn phases(self, profile: &Profile) -> Vec<&'static str> {
        match self {
            Task::Verify => profile.verify.iter().map(|_| self.name()).collect(),
            Task::Drill => profile.drills.iter().map(|drill| drill.scenario.phase()).collect(),
        }
    }
}

impl Extent {
    /// Whether it is a night, and not single tasks.
    pub fn is_night(&self) -> bool {
        matches!(self, Extent::Night { .. })
    }

    /// What is asked for although the profile says nothing of it.
    pub(super) fn unknown(&self, profile: &Profile) -> Option<Task> {
        match self {
            Extent::Night { .. } => None,
            Extent::Only(tasks) => tasks.iter().copied().find(|task| task.phases(profile).is_empty()),
        }
    }

    /// What the entry of a run of tasks says as long as it has no end: that it was no night.
    pub(super) fn begun(&self, profile: &Profile) -> Vec<history::Phase> {
        let begun = |name: &'static str| history::Phase {
            name: name.to_owned(),
            outcome: "skipped".to_owned(),
            message: "what became of it was never said".to_owned(),
            ..history::Phase::default()
        };
        match self {
            Extent::Night { .. } => Vec::new(),
            Extent::Only(tasks) => tasks.iter().flat_map(|task| task.phases(profile)).map(begun).collect(),
        }
    }
}
