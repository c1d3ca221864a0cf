//! Jobs: from what is meant, by the config or by the command line, to options of verbs and to their repository.
//!
//! `reach` is the way to a repository, `place` where it is, `databases` and `build` make sources and options. A profile and
//! a command that mean the same thing are built by the same code. `night` does all that belongs to a night of a profile; `annals`
//! writes down what became of it; `drills` and `upkeep` are what is done now and then besides. `announce` tells of a night, `alarm`
//! of what time alone brings, `reports` sends reports; `post` brings their messages on the way.

pub mod alarm;
mod annals;
pub mod announce;
pub mod build;
pub mod databases;
mod drills;
mod due;
mod error;
pub mod extent;
mod guard;
pub mod health;
mod load;
mod lock;
pub mod metrics;
pub mod missed;
pub mod night;
pub mod past;
pub mod place;
pub mod post;
pub mod reach;
pub mod reports;
mod upkeep;

pub use annals::rebuild;
pub use error::{Error, Result};
