//! Keepstone: backups of databases and file trees that are deduplicated, delta-compressed, encrypted, verified
//! and proven restorable.
//!
//! The rooms, from the ground up; every arrow between them leads down:
//!
//! | floor | room | what it is for |
//! | --- | --- | --- |
//! | 0 | [`base`] | ids, kinds of failure, clock, progress, budget, secrets |
//! | 1 | [`store`] | objects: put if absent, get, list, delete; on a disk or in memory |
//! | 1 | [`crypto`] | names, seals, key slots |
//! | 1 | [`chunk`] | streams into chunks, with cut marks |
//! | 1 | [`compress`] | zstd frames, alone or on bases |
//! | 1 | [`parity`] | Reed-Solomon: lost cells made anew |
//! | 1 | [`db`] | talks with database servers |
//! | 2 | [`format`](mod@format) | the bytes of every object; no I/O |
//! | 3 | [`repo`] | the vault: keyring, sessions, packs, index, trees, snapshots |
//! | 3 | [`source`] | where bytes come from |
//! | 3 | [`target`] | where bytes go back to |
//! | 3 | [`history`] | what happened: runs, day sums, the operation log |
//! | 4 | [`ops`] | the verbs: backup, restore, verify, forget, prune, … |
//! | 5 | [`report`] | what the history says, made readable; no I/O |
//! | 5 | [`notify`] | who is told what happened: alerts, messages, channels |
//! | 6 | [`config`] | TOML as written into profiles as meant; secrets |
//! | 7 | [`job`] | one job from what is meant to its record |
//! | 9 | [`cli`] | the front door: arguments, terminal, text and JSON, exit codes |
//!
//! Deliberately absent: below `cli` nobody prints or asks; below `config` nobody reads the environment. `source` and `target` do not
//! know a repository; `repo` does not know a file or a database. `format`, `chunk`, `crypto`, `compress` and `parity` do
//! no I/O. Rooms on one floor do not see each other.

pub mod base;
pub mod chunk;
pub mod cli;
pub mod compress;
pub mod config;
pub mod crypto;
pub mod db;
pub mod format;
pub mod history;
pub mod job;
pub mod notify;
pub mod ops;
pub mod parity;
pub mod repo;
pub mod report;
pub mod source;
pub mod store;
pub mod target;
