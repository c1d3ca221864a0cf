//! The dump of a database out of a snapshot as one stream that its own family's programs read.

use super::restore_database::{Heard, find_any};
use super::{Context, Error, Result, dumps};
use crate::db::Watch;
use crate::format::dump::DumpKind;
use crate::format::snapshot::Snapshot;
use crate::target::dump::Exported;
use crate::target::mysql;
use crate::target::postgres::{self, Programs};
use std::io::Write;

/// What a dump is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Plain SQL.
    Sql,
    /// An archive in PostgreSQL's custom format.
    Archive,
}

/// Writes the dump that `name` means, or the only one, to `out`.
pub fn export(
    context: &Context,
    snapshot: &Snapshot,
    name: Option<&str>,
    shape: Shape,
    programs: &Programs,
    out: &mut dyn Write,
) -> Result<Exported> {
    let (_session, _) = context.read_session("dump")?;
    let entry = find_any(context, snapshot, name)?;
    let kind = entry.manifest.kind;
    let stored = Heard::new(dumps::stored(context, snapshot, entry)?);
    let watch = Watch { stop: context.stop.clone(), monitor: context.monitor.clone() };
    let exported = match (kind, shape) {
        (DumpKind::Postgres, Shape::Sql) => postgres::export_sql(&stored, programs, out, &watch),
        (DumpKind::Postgres, Shape::Archive) => postgres::export_archive(&stored, out, &watch),
        (DumpKind::Mysql, Shape::Sql) => mysql::export_sql(&stored, out, &watch),
        (DumpKind::Mysql, Shape::Archive) => {
            return Err(Error::Usage("archives are for PostgreSQL: write this dump with --as sql".to_owned()));
        }
    };
    stored.judge(exported)
}
