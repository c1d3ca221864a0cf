//! The `keepstone` program: hands its arguments to the front door and ends with its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(keepstone::cli::run())
}
