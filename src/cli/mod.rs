//! The front door: arguments, terminal, text and JSON, exit codes.
