//! The one test binary: every story that needs more than one room, and the checks of the sources themselves.
//!
//! Each module is a file or folder beside this one. A test that cannot run here prints `skipped: REASON` and
//! returns; `./test` counts such lines, and under CI a skip is a failure.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod campaigns;
mod cli;
mod cluster;
mod config;
mod copy;
mod copy_program;
mod crash;
mod damage;
mod decoders;
mod dumps;
mod format_document;
mod formats;
mod founder;
mod ghosts;
mod handbook;
mod hardship;
mod health;
mod held_epochs;
mod history;
mod imported;
mod keep;
mod keys;
mod latency;
mod ledger;
mod log;
mod memory;
mod metrics;
mod nights;
mod notify;
mod packaging;
mod pictures;
mod postgres;
mod predict;
mod probe;
mod program;
mod prune_hurt;
mod reader;
mod readme;
mod remote_cache;
mod repair;
mod repairs;
mod reports;
mod requests;
mod roster;
mod s3;
mod servers;
mod servers_mysql;
mod side_channel;
mod simulation;
mod store_contract;
mod surroundings;
mod synthetic;
mod tidy;
mod upkeep;
mod vault;
mod write_only;
