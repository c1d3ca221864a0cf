//! Databases as they are named on the command line, made into sources of a backup.

use super::app::App;
use super::args::{Databases, Named};
use super::error::{Error, Result};
use crate::ops::backup::Source;

/// The databases to back up.
pub fn sources(_app: &App, given: &Databases) -> Result<Vec<Source>> {
    let named: Vec<&Named> = given.postgres.iter().chain(&given.mysql).collect();
    match named.is_empty() {
        true => Ok(Vec::new()),
        false => Err(Error::usage("this build talks to no database servers")),
    }
}
