//! The history: what happened on this machine, one entry for each run of a profile, in one SQLite file.
//!
//! The file is `history.sqlite` in the folder where the machine keeps its state, for all profiles together. What it holds
//! is also sealed in the repositories, as records of the operation `run`, so it comes back when the file or the whole
//! machine is gone. Nothing here decides anything, and a history that cannot be kept costs a backup nothing.
//!
//! How to read it: open it with [`History::read`], which gives none where there is no file yet, and ask for
//! [`History::entries`] with a [`Filter`] (profiles, a stretch of time, outcomes, how many), [`History::newest`] of a
//! profile, or [`History::days`], the sums per calendar day. An [`Entry`] is plain data:
//!
//! - [`Entry::outcome`] says how the whole run ended, each [`Phase`] how a part did, with [`Phase::kind`] naming the kind
//!   of its failure (an error type for a metric). A run of which nobody has heard again is [`Outcome::Vanished`], one that
//!   goes on [`Outcome::Running`].
//! - Numbers are [`Figures`] by name. The names are the constants in [`figure`], the same in entries, phases and sealed
//!   records; one that was not measured is not there, which is another thing than zero. [`Figures::ratios`] makes ratios of
//!   them.
//! - [`Entry::tables`] has rows and bytes per table; [`History::entries`] fills it only where the filter asks for it.
//!
//! Times are nanoseconds since 1970. Days, missed times of a schedule and "newest complete one" are made of entries by
//! whoever needs them; `job::missed` knows schedules.

pub mod days;
mod entry;
mod error;
pub mod figure;
mod file;
pub mod operations;
mod sealed;

pub use days::Day;
pub use entry::{By, Entry, Outcome, Phase, Problem, TableCount, VANISHED};
pub use error::{Error, Result};
pub use figure::{Figures, Ratios};
pub use file::{FILE_NAME, Filter, History, Opened, is_believed};
pub use sealed::OPERATION;
