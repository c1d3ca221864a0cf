//! Files that already are dumps, seen from the front door: `backup --validate-dumps` and what it says.

mod back;

use super::program::{CHEAP, Place, Run, describe};
use super::servers::postgres;
use super::servers_mysql::server::server as mariadb;
use super::vault::{Vault, backup_of};
use keepstone::format::snapshot::ImportedDump;
use keepstone::ops::backup::{self, Parent};
use keepstone::source::imported::{DumpReport, Inspector, State};
use serde_json::Value;
use std::fs;

const SHOP: &str = "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.8\n-- Dumped by pg_dump version 15.8\n\n\
    CREATE TABLE public.orders (\n    id integer\n);\n\nCOPY public.orders (id) FROM stdin;\n1\n2\n3\n\\.\n\n\n\
    --\n-- PostgreSQL database dump complete\n--\n\n";

const BLOG: &str = "-- MySQL dump 10.13  Distrib 8.0.33, for Linux (x86_64)\n--\n-- Host: localhost    Database: blog\n\
    -- Server version\t8.0.33\n\nCREATE TABLE `posts` (a int);\nINSERT INTO `posts` VALUES (1,'it''s'),(2,'a;(');\n\
    -- Dump completed on 2026-11-22 18:48:16\n";

fn back_up(place: &Place, more: &[&str]) -> Run {
    place.run(&[&["backup", "--init", "--validate-dumps"], &CHEAP[..], more, &["source"]].concat())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut writer, bytes).unwrap();
    writer.finish().unwrap()
}

fn place_with_dumps() -> Place {
    let place = Place::new();
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("shop.sql"), SHOP).unwrap();
    fs::write(source.join("blog.sql.gz"), gzip(BLOG.as_bytes())).unwrap();
    fs::write(source.join("migration.sql"), "ALTER TABLE t ADD a int;\n").unwrap();
    place
}

/// The dumps of a run, by the last part of their path.
fn dumps(run: &Run, folder: &str) -> Vec<(String, Value)> {
    let object = run.json().into_iter().find(|object| object.get("imported").is_some()).unwrap();
    let dumps = object["imported"].as_array().unwrap().clone();
    let name = |dump: &Value| dump["path"].as_str().unwrap().rsplit_once(folder).unwrap().1.to_owned();
    dumps.into_iter().map(|dump| (name(&dump), dump)).collect()
}

#[test]
fn dumps_among_the_files_are_counted_and_shown() {
    let place = place_with_dumps();
    let text = back_up(&place, &[]).expect(0).text();
    for said in ["shop.sql (SQL of pg_dump): complete, 1 table, 3 rows", "write it without gzip"] {
        assert!(text.contains(said), "{text}");
    }
    let first = dumps(&place.run(&["show", "latest", "--json"]).expect(0), "/source/");
    let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["blog.sql.gz", "shop.sql"]);
    assert_eq!(first[0].1["tables"], serde_json::json!([{"name": "posts", "rows": 2}]));
    assert_eq!((&first[0].1["compression"], &first[1].1["compression"]), (&"gzip".into(), &"none".into()));
    assert_eq!(first[1].1["server"], "PostgreSQL 15.8");
    let shown = place.run(&["show", "latest"]).expect(0).text();
    assert!(shown.contains("public.orders: 3 rows") && shown.contains("database blog"), "{shown}");
}

/// Backs up with a look into dumps, at a time when nothing that lies there is fresh.
fn look(vault: &Vault, validate_dumps: bool) -> backup::Outcome {
    vault.hours(24 * 365 * 10);
    let options = backup::Options { validate_dumps, ..backup_of(vault.files.path()) };
    backup::backup(&vault.open(), &options).unwrap()
}

#[test]
fn what_is_known_of_a_dump_stays_known_while_it_does_not_change() {
    let vault = Vault::new();
    vault.write("shop.sql", SHOP.as_bytes());
    vault.write("nameless", BLOG.as_bytes());
    vault.write("cut.sql", &SHOP.as_bytes()[..150]);
    vault.write("folder/8.dat", b"1\n2\n\\.\n\n\n");
    vault.write("migration.sql", b"ALTER TABLE t ADD a int;\n");
    // Nobody asked, then somebody asks: what has the name of a dump is read although it did not change.
    assert!(look(&vault, false).imported.is_empty());
    let first = look(&vault, true);
    let names = |outcome: &backup::Outcome| -> Vec<String> {
        let path = |dump: &ImportedDump| String::from_utf8(dump.path.0.clone()).unwrap();
        outcome.imported.iter().map(path).map(|path| path.rsplit_once('/').unwrap().1.to_owned()).collect()
    };
    assert_eq!((names(&first), first.problem_count), (vec!["cut.sql".to_owned(), "shop.sql".to_owned()], 1));
    let second = look(&vault, true);
    assert_eq!((second.totals.bytes_read, second.unchanged_files), (0, 5));
    assert_eq!((second.imported, second.problem_count), (first.imported, 1), "it is as truncated as it was");
    // Everything is read: the one without the name of a dump is found, and the one without a table of contents.
    let options = backup::Options { parent: Parent::None, validate_dumps: true, ..backup_of(vault.files.path()) };
    let third = backup::backup(&vault.open(), &options).unwrap();
    assert_eq!(names(&third), ["cut.sql", "folder", "nameless", "shop.sql"]);
    assert!(look(&vault, false).imported.is_empty());
}

#[test]
fn a_truncated_dump_makes_the_snapshot_partial_and_its_bytes_are_stored_all_the_same() {
    let place = place_with_dumps();
    fs::write(place.path("source/shop.sql"), &SHOP[..SHOP.find("(id) FROM").unwrap()]).unwrap();
    fs::write(place.path("source/empty.dump"), "").unwrap();
    let run = back_up(&place, &[]).expect(3);
    assert!(run.err.contains("shop.sql is a dump that is truncated"), "{}", run.err);
    assert!(run.err.contains("empty.dump is a dump that is empty"), "{}", run.err);
    assert!(
        run.text().contains("shop.sql (SQL of pg_dump): TRUNCATED: it ends in a statement on public.orders"),
        "{}",
        run.text()
    );
    place.run(&["restore", "latest", "--target", "back"]).expect(0);
    let source = place.path("source");
    let back = place.path("back").join(source.strip_prefix("/").unwrap());
    assert_eq!(describe(&back), describe(&source));
}

#[test]
fn a_large_dump_is_looked_into_chunk_by_chunk() {
    let place = Place::new();
    fs::create_dir(place.path("source")).unwrap();
    let rows: String = (0..200_000).map(|row| format!("{row}\trow number {row}\n")).collect();
    let text = SHOP.replace("1\n2\n3\n", &rows);
    fs::write(place.path("source/nightly"), &text).unwrap();
    let found = dumps(&back_up(&place, &["--json"]).expect(0), "/source/");
    assert_eq!((found[0].0.as_str(), &found[0].1["rows"]), ("nightly", &200_000.into()));
    fs::write(place.path("source/nightly"), &text[..text.len() / 2]).unwrap();
    let run = back_up(&place, &[]).expect(3);
    assert!(run.err.contains("it ends in the rows of public.orders"), "{}", run.err);
}

fn inspect(name: &str, bytes: &[u8]) -> Option<DumpReport> {
    let mut inspector = Inspector::new(name.as_bytes());
    bytes.chunks(4096).for_each(|part| inspector.push(part));
    inspector.finish()
}

/// The tables of a report with their rows, those without rows left out.
fn rows(report: &DumpReport) -> Vec<(&str, u64)> {
    let tables = report.tables.iter().map(|table| (table.name.as_str(), table.rows.unwrap()));
    tables.filter(|(_, rows)| *rows > 0).collect()
}

/// Cuts a dump at many points, those near its end above all.
fn is_reported_wherever_it_is_cut(name: &str, bytes: &[u8]) {
    let ends = bytes.iter().rev().take_while(|byte| **byte == b'\n' || **byte == 0).count();
    let last = bytes.len() - ends;
    for length in (520..last).step_by(last / 150 + 1).chain(last.saturating_sub(40)..last) {
        let state = inspect(name, &bytes[..length]).map(|report| report.state);
        assert!(state.is_some_and(State::is_bad), "{name} cut to {length} of {}: {state:?}", bytes.len());
    }
}

const ODD: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text); \
    INSERT INTO orders SELECT g, 'row ' || g || E'\\n;''$$ \\\\ \\t' FROM generate_series(1, 700) g; \
    CREATE TABLE \"odd \"\" ;name\" (a text); INSERT INTO \"odd \"\" ;name\" VALUES (''), (NULL), ('\\.'); \
    CREATE TABLE empty (a int); CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; \
    CREATE FUNCTION g() RETURNS text LANGUAGE plpgsql AS $_$ BEGIN INSERT INTO orders VALUES (5, '$$;'); RETURN ';'; \
    END $_$; CREATE VIEW v AS SELECT * FROM orders; \
    CREATE RULE r AS ON INSERT TO v DO INSTEAD (INSERT INTO orders VALUES (new.id); DELETE FROM empty); \
    CREATE TABLE p (a int) PARTITION BY RANGE (a); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); \
    INSERT INTO p VALUES (1), (2); SELECT lo_from_bytea(0, 'hello')";

#[test]
fn dumps_of_real_programs_are_counted_as_the_server_counts() {
    let Some(server) = postgres::server() else { return };
    let address = server.create(ODD);
    let database = address.database.as_str();
    let place = Place::new();
    let folder = place.path("source");
    fs::create_dir(&folder).unwrap();
    for (name, options) in [
        ("plain.sql", &["-Fp"][..]),
        ("inserts.sql", &["--inserts"]),
        ("multi.sql", &["--column-inserts", "--rows-per-insert=50", "--on-conflict-do-nothing"]),
        ("packed.sql.gz", &["-Fp", "-Z6"]),
        ("custom.dump", &["-Fc"]),
        ("open.dump", &["-Fc", "-Z0"]),
        ("inserts.dump", &["-Fc", "--inserts"]),
        ("shop.tar", &["-Ft"]),
        ("packed", &["-Fd"]),
        ("open", &["-Fd", "-Z0"]),
    ] {
        let mut command = server.program("pg_dump", database);
        let done = command.args(options).arg("-f").arg(folder.join(name)).output().unwrap();
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
    }
    // Into a pipe: without the places of the data in the table of contents.
    let piped = server.program("pg_dump", database).args(["-Fc", "-Z0"]).output().unwrap();
    fs::write(folder.join("piped.dump"), &piped.stdout).unwrap();
    let wanted = [("public.nothing", 1), ("public.odd \" ;name", 3), ("public.orders", 700), ("public.p1", 2)];
    for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        let name = entry.file_name().into_string().unwrap();
        let bytes = fs::read(entry.path()).unwrap();
        let report = inspect(&name, &bytes).unwrap_or_else(|| panic!("{name} is not recognised"));
        assert_eq!((report.state, report.reason.as_str()), (State::Complete, ""), "{name}");
        assert!(report.tool.starts_with("pg_dump ") && report.server.starts_with("PostgreSQL "), "{report:?}");
        assert_eq!(rows(&report), wanted, "{name}");
        is_reported_wherever_it_is_cut(&name, &bytes);
    }
    let found = dumps(&back_up(&place, &["--json"]).expect(0), "/source/");
    assert_eq!(found.len(), 11, "{found:?}");
    for (name, dump) in &found {
        assert_eq!((&dump["state"], &dump["rows"]), (&"complete".into(), &706.into()), "{name}: {dump}");
        let packed = ["packed", "packed.sql.gz", "custom.dump", "inserts.dump"].contains(&name.as_str());
        let advised = dump["notes"].to_string().contains("hides from dedup");
        assert_eq!((dump["compression"] == "gzip", advised), (packed, packed), "{name}: {dump}");
    }
    // One file of a directory is gone, one is cut.
    let piece = fs::read_dir(folder.join("open")).unwrap().map(|entry| entry.unwrap().path());
    let is_piece = |path: &std::path::PathBuf| {
        let stem = path.file_name().unwrap().to_str().unwrap().strip_suffix(".dat");
        stem.is_some_and(|stem| stem.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let piece = piece.into_iter().find(is_piece);
    fs::remove_file(piece.unwrap()).unwrap();
    fs::remove_file(folder.join("packed/toc.dat")).unwrap();
    let run = back_up(&place, &["--force"]).expect(3);
    assert!(run.err.contains("source/open is a dump that is truncated: its file"), "{}", run.err);
    assert!(run.err.contains("source/packed is a dump that is truncated: its table of contents"), "{}", run.err);
}

#[test]
fn a_dump_of_a_whole_server_is_counted_database_by_database() {
    let Some(server) = postgres::server() else { return };
    server.create_named("whole one", "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2)");
    // Other tests make and drop databases meanwhile: all but ours are left out.
    let names =
        server.connect("postgres").query("SELECT datname FROM pg_database WHERE datname <> 'whole one'").unwrap();
    let mut command = server.program("pg_dumpall", "postgres");
    command.args(names.iter().map(|row| format!("--exclude-database={}", row[0].as_deref().unwrap())));
    command.args(["--exclude-database=test_*"]);
    let done = command.output().unwrap();
    if !done.status.success() {
        println!("skipped: other tests made databases meanwhile");
        return;
    }
    let report = inspect("all.sql", &done.stdout).unwrap();
    assert_eq!((report.format.name(), report.state), ("postgres-cluster-sql", State::Complete), "{}", report.reason);
    assert_eq!(rows(&report), [("whole one.public.t", 2)]);
    is_reported_wherever_it_is_cut("all.sql", &done.stdout);
}

#[test]
fn dumps_of_mariadb_are_counted_as_the_server_counts() {
    let Some(server) = mariadb() else { return };
    server.fresh("imported");
    server.sql_in(
        "imported",
        "CREATE TABLE `odd``;name` (a varchar(50), b blob); \
         INSERT INTO `odd``;name` VALUES ('it''s \\\\; (', 0x00ff27), (NULL, NULL), ('),(', '\"'); \
         CREATE TABLE empty (a int); CREATE VIEW v AS SELECT * FROM empty;\n\
         DELIMITER ;;\nCREATE TRIGGER x BEFORE INSERT ON empty FOR EACH ROW BEGIN SET NEW.a = 1; END;;\nDELIMITER ;\n",
    );
    let text = server.dumped("imported");
    let report = inspect("imported.sql", text.as_bytes()).unwrap();
    assert_eq!((report.format.name(), report.state), ("mariadb-sql", State::Complete), "{}", report.reason);
    assert_eq!(rows(&report), [("odd`;name", 3)]);
    assert_eq!(report.table_count, 2, "{:?}", report.tables);
    is_reported_wherever_it_is_cut("imported.sql", text.as_bytes());
    let packed = gzip(text.as_bytes());
    assert_eq!(inspect("x.gz", &packed).unwrap().rows, 3);
    is_reported_wherever_it_is_cut("imported.sql.gz", &packed);
}
