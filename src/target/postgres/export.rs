//! A whole dump as one file that PostgreSQL's own programs read: plain SQL for `psql`, or an archive for `pg_restore`.
//!
//! The SQL is what `pg_restore` makes of the definitions, with the rows between them. `psql` takes lines that begin with a
//! backslash for commands of its own, and a COPY that fails makes it read rows as SQL: all stands between `\restrict` and
//! `\unrestrict` with a key that nobody can guess, which `psql` heeds since 18.0, 17.6, 16.10, 15.14 and 14.19
//! (CVE-2025-8714). A dump that breaks off ends with an error for the server, so that no transaction commits half of it.
//!
//! The archive is put together without a server: the definitions are entries of two archives of `pg_dump` already, the
//! rows are blocks between them. An empty statement stands between rows and indexes: several sessions of `pg_restore` wait
//! there until all rows are in.

use super::Programs;
use super::archive::{Archive, Entry, Piece, Section};
use super::partitions::Routes;
use super::plan::{archive as contents, client_version, is_of_database};
use super::programs::From;
use super::restore::set_sequence;
use super::rows::in_money_of;
use crate::base::child::Program;
use crate::base::{Event, Kind, random};
use crate::db::postgres::{Tool, Tools, identifier, literal, qualified};
use crate::db::{Error, Result, Watch};
use crate::format::dump::{Manifest, StreamRole, Table};
use crate::target::dump::{Exported, StoredDump};
use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::thread;

/// What every dump says that breaks off.
const BROKEN_OFF: &[u8] =
    b"\n\\.\n;\nDO $$BEGIN RAISE EXCEPTION 'keepstone: the dump broke off here, nothing of it may be kept'; END$$;\n";

/// What an export is made from, for messages.
struct Source<'s> {
    stored: &'s dyn StoredDump,
    watch: &'s Watch,
}

impl<'s> Source<'s> {
    fn manifest(&self) -> &'s Manifest {
        self.stored.manifest()
    }

    fn error(&self, kind: Kind, message: impl Into<String>) -> Error {
        Error::new("the dump in the snapshot", kind, message).database(&self.manifest().database)
    }

    fn open(&self, stream: &str) -> Result<Box<dyn Read + Send + 's>> {
        let unreadable =
            |error: io::Error| self.error(Kind::of_io(&error), format!("stream {stream} cannot be read: {error}"));
        self.stored.open(stream).map_err(unreadable)
    }

    /// Tables with rows.
    fn tables(&self) -> impl Iterator<Item = (&'s Table, &'s str)> {
        let tables = self.manifest().tables.iter();
        tables.filter_map(|table| table.stream.as_deref().map(|stream| (table, stream)))
    }

    fn written(&self, error: io::Error) -> Error {
        self.error(Kind::of_io(&error), format!("cannot be written out: {error}"))
    }

    fn check_stop(&self) -> Result<()> {
        if self.watch.stop.raised() { Err(self.error(Kind::Interrupted, "stopped")) } else { Ok(()) }
    }
}

/// Writes the dump as SQL that `psql` loads into an empty database.
pub fn sql(stored: &dyn StoredDump, programs: &Programs, out: &mut dyn Write, watch: &Watch) -> Result<Exported> {
    let source = Source { stored, watch };
    let tools =
        Tools::find(client_version(source.manifest()), programs.folder.as_deref(), &programs.surroundings, watch)?;
    let written = sql_parts(&source, &tools, out);
    if written.is_err() {
        // It may be the output itself that failed.
        let _ = out.write_all(BROKEN_OFF).and_then(|()| out.flush());
    }
    written
}

fn sql_parts(source: &Source<'_>, tools: &Tools, out: &mut dyn Write) -> Result<Exported> {
    let manifest = source.manifest();
    let key: String = random::bytes::<24>().iter().map(|byte| format!("{byte:02x}")).collect();
    let write = |out: &mut dyn Write, text: &str| out.write_all(text.as_bytes()).map_err(|error| source.written(error));
    let name: String = manifest.database.chars().filter(|letter| !letter.is_control()).collect();
    write(
        out,
        &format!("--\n-- Database {name} of PostgreSQL {}\n--\n\n\\restrict {key}\n\n", manifest.server.version),
    )?;
    definitions(source, tools, StreamRole::PreData, "pre-data", out)?;
    // Names are in UTF-8 here, rows as the database has them.
    write(out, "\nSET client_encoding = 'UTF8';\n")?;
    let money = in_money_of(manifest);
    if let Some(sql) = &money {
        write(out, &format!("{sql};\n"))?;
    }
    let encoding = manifest.properties.get("encoding").map_or("UTF8", String::as_str);
    let with = if encoding == "UTF8" { String::new() } else { format!(" WITH (ENCODING {})", literal(encoding)) };
    let mut exported = Exported::default();
    let pre_data = contents(source.stored, StreamRole::PreData, |kind, message| source.error(kind, message))?;
    let routes = pre_data.map(|pre_data| Routes::of_definitions(&pre_data)).unwrap_or_default();
    for (table, stream) in source.tables() {
        source.check_stop()?;
        write(out, &format!("\nCOPY {}{} FROM stdin{with};\n", takes(table, &routes), columns(table)))?;
        let mut rows = source.open(stream)?;
        let bytes = io::copy(&mut rows, out).map_err(|error| source.written(error))?;
        write(out, "\\.\n")?;
        exported.add(table, bytes);
        source.watch.monitor.event(Event::Done { items: 1, bytes });
    }
    write(out, if money.is_some() { "\nRESET lc_monetary;\n" } else { "\n" })?;
    for sequence in &manifest.sequences {
        write(out, &format!("{};\n", set_sequence(sequence)))?;
    }
    large_objects(source, tools, out)?;
    definitions(source, tools, StreamRole::PostData, "post-data", out)?;
    write(out, &format!("\n\\unrestrict {key}\n"))?;
    out.flush().map_err(|error| source.written(error))?;
    Ok(exported)
}

/// As SQL, what takes the rows of a table: itself, or a table that it is a partition of.
fn takes(table: &Table, routes: &Routes) -> String {
    routes.instead_of(table).unwrap_or_else(|| qualified(&table.schema, &table.name))
}

fn columns(table: &Table) -> String {
    let columns: Vec<String> = table.columns.iter().map(|column| identifier(column)).collect();
    if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) }
}

/// What `pg_restore` makes of an archive of the dump.
fn definitions(source: &Source<'_>, tools: &Tools, role: StreamRole, section: &str, out: &mut dyn Write) -> Result<()> {
    let Some(stream) = source.manifest().streams_of(role).next() else { return Ok(()) };
    let reader = source.open(&stream.path)?;
    program_text(source, tools, From::Stream(reader), Some(section), &stream.path, out)
}

/// Large objects: what `pg_restore` makes of their definitions, and their content. It would write that between `BEGIN` and
/// `COMMIT`, which would end the transaction of whoever loads the whole in one.
fn large_objects(source: &Source<'_>, tools: &Tools, out: &mut dyn Write) -> Result<()> {
    let Some(stream) = source.manifest().streams_of(StreamRole::LargeObjects).next() else { return Ok(()) };
    let mut reader = BufReader::new(source.open(&stream.path)?);
    let damaged = |error: io::Error| source.error(Kind::of_io(&error), format!("stream {}: {error}", stream.path));
    let archive = Archive::read(&mut reader).map_err(damaged)?;
    let entries = archive.entries.iter().filter(|entry| !entry.has_data).cloned().collect();
    let contents = Archive { entries, ..archive.clone() };
    program_text(source, tools, From::Contents(&contents), None, &stream.path, out)?;
    let (mut object, mut offset) = (0, 0_u64);
    let written = archive.objects(&mut reader, &mut |piece| {
        let Piece::Bytes(oid, bytes) = piece else { return Ok(()) };
        if oid != object {
            (object, offset) = (oid, 0);
        }
        if bytes.is_empty() {
            (object, offset) = (0, 0);
            return Ok(());
        }
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        // What a backslash means in a literal is a setting, which the definitions make as it was at the source.
        writeln!(out, "SELECT pg_catalog.lo_put({oid}, {offset}, pg_catalog.decode('{hex}', 'hex'));")?;
        offset += bytes.len() as u64;
        Ok(())
    });
    written.map_err(damaged)
}

/// What `pg_restore` makes of an archive, without its own `\restrict`. `name` is for messages.
fn program_text(
    source: &Source<'_>,
    tools: &Tools,
    from: From<'_>,
    section: Option<&str>,
    name: &str,
    out: &mut dyn Write,
) -> Result<()> {
    let mut program = Program::new(tools.path(Tool::Restore)).args(["--file=-"]).with_input();
    if let Some(section) = section {
        program = program.arg(format!("--section={section}"));
    }
    let failed = |error: io::Error| source.error(Kind::of_io(&error), format!("pg_restore of {name}: {error}"));
    let mut child = program.start(&source.watch.stop).map_err(failed)?;
    let (input, output) = (child.take_input(), child.take_output());
    let (fed, copied) = thread::scope(|scope| {
        let feeder = scope.spawn(move || input.map_or(Ok(()), |mut input| from.write(&mut input)));
        let copied = output.map_or(Ok(()), |output| without_restrictions(&mut BufReader::new(output), out));
        let fed = feeder.join().unwrap_or_else(|_| Err(io::Error::other("the thread that feeds it panicked")));
        (fed, copied)
    });
    let ended = child.finish().map_err(failed)?;
    if ended.stopped || source.watch.stop.raised() {
        return Err(source.error(Kind::Interrupted, "stopped"));
    }
    if !ended.status.success() {
        let words = String::from_utf8_lossy(&ended.errors).into_owned();
        return Err(source.error(Kind::Target, format!("pg_restore of {name} failed: {}", words.trim())));
    }
    copied.and(fed).map_err(|error| source.written(error))
}

/// Copies lines, but not those by which `pg_restore` forbids commands of `psql`: ours stand around the whole.
fn without_restrictions(text: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<()> {
    let mut key: Option<Vec<u8>> = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        if text.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        // A definition may hold such lines too, but not with that key, nor before it.
        match (line.strip_prefix(b"\\restrict "), line.strip_prefix(b"\\unrestrict "), &key) {
            (Some(rest), _, None) => key = Some(rest.to_vec()),
            (_, Some(rest), Some(key)) if rest == *key => {}
            _ => out.write_all(&line)?,
        }
    }
}

/// Writes the dump as one archive in custom format.
pub fn archive(stored: &dyn StoredDump, out: &mut dyn Write, watch: &Watch) -> Result<Exported> {
    let source = Source { stored, watch };
    let whole = Whole::of(&source)?;
    whole.archive.write(out).map_err(|error| source.written(error))?;
    let mut exported = Exported::default();
    for (table, stream) in source.tables() {
        source.check_stop()?;
        let id = whole.tables[&(table.schema.as_str(), table.name.as_str())];
        let mut rows = source.open(stream)?;
        let written = whole.archive.write_rows(id, &mut rows, b"\\.\n\n\n", out);
        let bytes = written.map_err(|error| source.written(error))?;
        exported.add(table, bytes);
        watch.monitor.event(Event::Done { items: 1, bytes });
    }
    if let Some(stream) = source.manifest().streams_of(StreamRole::LargeObjects).next() {
        let mut reader = BufReader::new(source.open(&stream.path)?);
        let objects = Archive::read(&mut reader).map_err(|error| source.written(error))?;
        let number = |id| whole.objects.get(&id).copied().unwrap_or(id);
        let copied = objects.copy_objects(&mut reader, &whole.archive, &number, out);
        copied.map_err(|error| source.written(error))?;
    }
    out.flush().map_err(|error| source.written(error))?;
    Ok(exported)
}

/// The table of contents of the whole.
struct Whole<'s> {
    archive: Archive,
    /// The number of each table's rows.
    tables: HashMap<(&'s str, &'s str), i32>,
    /// The numbers of large objects, old and new.
    objects: HashMap<i32, i32>,
}

impl<'s> Whole<'s> {
    fn of(source: &Source<'s>) -> Result<Whole<'s>> {
        let part = |role| contents(source.stored, role, |kind, message| source.error(kind, message));
        let Some(mut archive) = part(StreamRole::PreData)? else {
            return Err(source.error(Kind::Damaged, "it has no definitions: there is no pre-data stream"));
        };
        refuse_odd_names(source)?;
        let post_data = part(StreamRole::PostData)?;
        let objects = part(StreamRole::LargeObjects)?;
        if [&post_data, &objects].into_iter().flatten().any(|other| other.minor != archive.minor) {
            return Err(source.error(Kind::Damaged, "its archives are of different versions"));
        }
        archive.compressed = false;
        let all = [Some(&archive), post_data.as_ref(), objects.as_ref()].into_iter().flatten();
        let highest = all.flat_map(|part| &part.entries).map(|entry| entry.id).max().unwrap_or(0);
        let mut whole = Whole { archive, tables: HashMap::new(), objects: HashMap::new() };
        let mut numbers = highest + 1..;
        let mut next = || numbers.next().unwrap_or(i32::MAX);
        whole.rows(source, &mut next);
        whole.large_objects(objects, &mut next);
        let mut barrier = Entry::new(next(), "COMMENT", "all rows are there", Section::Data);
        barrier.definition = b"-- All rows are there.\n".to_vec();
        barrier.needs = whole.tables.values().copied().collect();
        barrier.needs.sort_unstable();
        let barrier_id = barrier.id;
        whole.archive.entries.push(barrier);
        whole.after_rows(post_data, barrier_id, &mut next);
        Ok(whole)
    }

    /// Entries for rows and for where sequences stand.
    fn rows(&mut self, source: &Source<'s>, next: &mut dyn FnMut() -> i32) {
        let named = |entry: &Entry| (entry.schema.clone().unwrap_or_default(), entry.tag.clone());
        let defined = self.archive.entries.iter().filter(|entry| entry.is("TABLE") || entry.is("SEQUENCE"));
        let defined: HashMap<_, _> = defined.map(|entry| (named(entry), (entry.id, entry.owner.clone()))).collect();
        let belonging = |entry: Entry, schema: &str, name: &str| {
            let (needs, owner) = match defined.get(&(schema.as_bytes().to_vec(), name.as_bytes().to_vec())) {
                Some((id, owner)) => (vec![*id], owner.clone()),
                None => (Vec::new(), Vec::new()),
            };
            Entry { schema: Some(schema.as_bytes().to_vec()), needs, owner, ..entry }
        };
        let routes = Routes::of_definitions(&self.archive);
        for (table, _) in source.tables() {
            let mut entry =
                belonging(Entry::new(next(), "TABLE DATA", &table.name, Section::Data), &table.schema, &table.name);
            entry.has_data = true;
            let copy = format!("COPY {}{} FROM stdin;\n", takes(table, &routes), columns(table));
            entry.copy = Some(copy.into_bytes());
            self.tables.insert((&table.schema, &table.name), entry.id);
            self.archive.entries.push(entry);
        }
        for sequence in &source.manifest().sequences {
            let entry = Entry::new(next(), "SEQUENCE SET", &sequence.name, Section::Data);
            let mut entry = belonging(entry, &sequence.schema, &sequence.name);
            entry.definition = format!("{};\n", set_sequence(sequence)).into_bytes();
            self.archive.entries.push(entry);
        }
    }

    fn large_objects(&mut self, objects: Option<Archive>, next: &mut dyn FnMut() -> i32) {
        let there: HashSet<i32> = self.archive.entries.iter().map(|entry| entry.id).collect();
        for entry in objects.into_iter().flat_map(|archive| archive.entries) {
            let is_of_the_whole = ["ENCODING", "STDSTRINGS", "SEARCHPATH"].iter().any(|kind| entry.is(kind))
                || is_of_database(&entry.tag, &entry.kind);
            if is_of_the_whole || (!entry.has_data && there.contains(&entry.id)) {
                continue;
            }
            let id = next();
            self.objects.insert(entry.id, id);
            let needs = entry.needs.iter().map(|need| self.objects.get(need).copied().unwrap_or(*need)).collect();
            self.archive.entries.push(Entry { id, needs, ..entry });
        }
    }

    /// What comes after the rows waits for the barrier.
    fn after_rows(&mut self, post_data: Option<Archive>, barrier: i32, next: &mut dyn FnMut() -> i32) {
        let there: HashSet<i32> = self.archive.entries.iter().map(|entry| entry.id).collect();
        let entries: Vec<Entry> = post_data
            .into_iter()
            .flat_map(|archive| archive.entries)
            .filter(|entry| entry.section == Section::PostData)
            .collect();
        // Both archives number the same objects in the same way; should they not, the later ones get new numbers.
        let renumber = entries.iter().any(|entry| there.contains(&entry.id));
        let numbers: HashMap<i32, i32> =
            entries.iter().map(|entry| (entry.id, if renumber { next() } else { entry.id })).collect();
        for entry in entries {
            let mut needs: Vec<i32> =
                entry.needs.iter().map(|need| numbers.get(need).copied().unwrap_or(*need)).collect();
            needs.push(barrier);
            self.archive.entries.push(Entry { id: numbers[&entry.id], needs, ..entry });
        }
    }
}

/// Manifests are in UTF-8, archives in the encoding of their database: a name that differs cannot be put into one.
fn refuse_odd_names(source: &Source<'_>) -> Result<()> {
    let manifest = source.manifest();
    let encoding = manifest.properties.get("encoding").map_or("UTF8", String::as_str);
    let odd = manifest.tables.iter().find(|table| {
        let columns = table.columns.iter().any(|column| !column.is_ascii());
        !table.schema.is_ascii() || !table.name.is_ascii() || columns
    });
    match odd {
        Some(table) if encoding != "UTF8" => Err(source.error(
            Kind::Unsupported,
            format!(
                "table {}.{} has letters in its name that are written otherwise in {encoding}: use --as sql",
                table.schema, table.name
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_program_s_own_restrictions_go_and_lookalikes_stay() {
        let text = b"--\n\\restrict abc\n\nCREATE x;\n\\restrict def\n\\unrestrict def\n\\unrestrict abc\n\n";
        let mut out = Vec::new();
        without_restrictions(&mut &text[..], &mut out).unwrap();
        assert_eq!(out, b"--\n\nCREATE x;\n\\restrict def\n\\unrestrict def\n\n");
    }
}
