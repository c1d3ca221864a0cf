//! `version` and `completions`: commands that need no repository.

use crate::cli::app::App;
use crate::cli::args::{self, Completions};
use crate::cli::error::Result;
use crate::cli::exit::Exit;
use serde::Serialize;

#[derive(Serialize)]
struct JsonVersion {
    message_type: &'static str,
    version: &'static str,
    format: u16,
}

/// Prints the version.
pub fn version(app: &App) -> Result<Exit> {
    let version = env!("CARGO_PKG_VERSION");
    let format = crate::format::VERSION;
    if app.out.is_json() {
        app.out.object(&JsonVersion { message_type: "version", version, format });
    } else {
        app.out.line(format!("keepstone {version} (repository format {format})"));
    }
    Ok(Exit::Done)
}

/// Prints completions for a shell.
pub fn completions(app: &App, given: &Completions) -> Result<Exit> {
    let mut script = Vec::new();
    args::completions(given.shell, &mut script);
    app.out.line(String::from_utf8_lossy(&script).trim_end());
    Ok(Exit::Done)
}
