//! Where files may lie for a moment.

use super::error::{Error, Result};
use crate::base::Scratch;
use std::env;
use std::path::Path;

/// A folder for a moment that only we can read, in `parent` or else where the system keeps such things.
pub fn scratch(parent: Option<&Path>) -> Result<Scratch> {
    let parent = parent.map_or_else(env::temp_dir, Path::to_owned);
    Scratch::new(&parent).map_err(|source| {
        Error::io(format!("make a folder for a moment in {} (--temp-dir names another)", parent.display()), source)
    })
}
