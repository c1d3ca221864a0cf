//! Whole dumps before the inspector: as the programs write them, cut, altered, wrapped.

#![allow(clippy::unwrap_used)]

use super::*;
use flate2::Compression as Level;
use flate2::write::{GzEncoder, ZlibEncoder};
use std::io::Write;

const POSTGRES: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\n\
    -- Dumped from database version 15.8 (Debian 15.8-0+deb12u1)\n-- Dumped by pg_dump version 15.8\n\n\
    SET standard_conforming_strings = on;\n\nCREATE TABLE public.orders (\n    id integer NOT NULL\n);\n\n\
    CREATE TABLE public.empty (\n);\n\n\
    COPY public.orders (id) FROM stdin;\n1\n2\n3\n\\.\n\n\nCOPY public.empty  FROM stdin;\n\\.\n\n\n\
    --\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n";

const MARIADB: &str = "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump 10.19  Distrib 10.11.6-MariaDB, for debian-linux-gnu (x86_64)\n--\n\
    -- Host: localhost    Database: shop\n-- ------------------------------------------------------\n\
    -- Server version\t10.11.6-MariaDB-0+deb12u1\n\n/*!40101 SET NAMES utf8mb4 */;\n\
    DROP TABLE IF EXISTS `orders`;\nCREATE TABLE `orders` (\n  `id` int(11) NOT NULL COMMENT 'a;''b'\n) ENGINE=InnoDB;\n\
    INSERT INTO `orders` VALUES\n(1,'x;\\'('),\n(2,NULL);\nINSERT INTO `orders` VALUES (3,0x00);\n\
    /*!50001 CREATE TABLE `a_view` (id int) */;\n-- Dump completed on 2026-11-22 18:48:16\n";

fn inspect(name: &str, bytes: &[u8], step: usize) -> Option<DumpReport> {
    let mut inspector = Inspector::new(name.as_bytes());
    bytes.chunks(step.max(1)).for_each(|part| inspector.push(part));
    inspector.finish()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), Level::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn rows(report: &DumpReport) -> Vec<(&str, Option<u64>)> {
    report.tables.iter().map(|table| (table.name.as_str(), table.rows)).collect()
}

/// Writes archives as `pg_dump` does.
struct Archive {
    bytes: Vec<u8>,
}

impl Archive {
    fn int(&mut self, number: i32) {
        self.bytes.push(u8::from(number < 0));
        self.bytes.extend_from_slice(&number.unsigned_abs().to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.int(text.len() as i32);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn head(minor: u8, format: u8, method: u8, entries: i32) -> Archive {
        let mut archive = Archive { bytes: b"PGDMP\x01".to_vec() };
        archive.bytes.extend_from_slice(&[minor, 0, 4, 8, format]);
        match minor {
            15.. => archive.bytes.push(method),
            _ => archive.int(-i32::from(method)),
        }
        (0..7).for_each(|part| archive.int(part));
        ["shop", "15.8", "15.8"].iter().for_each(|text| archive.text(text));
        archive.int(entries);
        archive
    }

    fn entry(&mut self, minor: u8, id: i32, tag: &str, kind: &str, data: bool, file: Option<&str>) {
        self.int(id);
        self.int(i32::from(data));
        ["1259", "16384", tag, kind].iter().for_each(|text| self.text(text));
        self.int(2);
        ["CREATE …", "", "COPY public.t (a) FROM stdin;\n", "public", ""].iter().for_each(|text| self.text(text));
        if minor >= 14 {
            self.text("heap");
        }
        if minor >= 16 {
            self.int(114);
        }
        ["postgres", "false", "1", "2"].iter().for_each(|text| self.text(text));
        self.int(-1);
        match file {
            Some(file) => self.text(file),
            None => {
                self.bytes.push(if data { 1 } else { 3 });
                self.bytes.extend_from_slice(&[0; 8]);
            }
        }
    }

    fn block(&mut self, id: i32, data: &[u8]) {
        self.bytes.push(1);
        self.int(id);
        for part in data.chunks(9) {
            self.int(part.len() as i32);
            self.bytes.extend_from_slice(part);
        }
        self.int(0);
    }

    /// Two tables and large objects, in custom format.
    fn custom(minor: u8, method: u8) -> Vec<u8> {
        let mut archive = Archive::head(minor, 1, method, 4);
        archive.entry(minor, 7, "orders", "TABLE", false, None);
        archive.entry(minor, 8, "orders", "TABLE DATA", true, None);
        archive.entry(minor, 9, "empty", "TABLE DATA", true, None);
        archive.entry(minor, 10, "BLOBS", "BLOBS", true, None);
        let packed = |data: &[u8]| {
            let mut writer = ZlibEncoder::new(Vec::new(), Level::fast());
            writer.write_all(data).unwrap();
            writer.finish().unwrap()
        };
        for (id, data) in [(8, &b"1\ta\n2\tb\n\\.\n\n\n"[..]), (9, b"\\.\n\n\n")] {
            archive.block(id, &if method == 1 { packed(data) } else { data.to_vec() });
        }
        archive.bytes.push(3);
        archive.int(10);
        archive.int(16413);
        archive.int(5);
        archive.bytes.extend_from_slice(b"hello");
        archive.int(0);
        archive.int(0);
        archive.bytes
    }

    fn tar() -> Vec<u8> {
        let mut toc = Archive::head(14, 3, 0, 2);
        toc.entry(14, 8, "orders", "TABLE DATA", true, Some("8.dat"));
        toc.entry(14, 7, "orders", "TABLE", false, Some(""));
        let mut tar = Vec::new();
        for (name, data) in [("toc.dat", &toc.bytes[..]), ("8.dat", b"1\n2\n\\.\n\n\n"), ("restore.sql", b"--\n")] {
            let mut header = [0; 512];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
            header[257..262].copy_from_slice(b"ustar");
            header[148..156].fill(b' ');
            let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
            header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            tar.extend([&header[..], data].concat());
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
        tar.resize(tar.len() + 1024, 0);
        tar
    }
}

/// A whole dump of each kind with the name of a file, what it is and how many rows are in it.
fn dumps() -> Vec<(&'static str, Vec<u8>, Format, u64)> {
    let cluster =
        POSTGRES.replace("dump complete\n--\n\n\\unrestrict abc\n", "dump complete\n--\n\n\\unrestrict abc\n\n");
    let cluster = format!(
        "--\n-- PostgreSQL database cluster dump\n--\n\nCREATE ROLE x;\n\\connect shop\n\n{cluster}\\connect -reuse-previous=on \
         \"dbname='blog'\"\n\n{POSTGRES}\n--\n-- PostgreSQL database cluster dump complete\n--\n\n"
    );
    let mut dumps = vec![
        ("shop.sql", POSTGRES.as_bytes().to_vec(), Format::PostgresSql, 3),
        ("all.sql", cluster.into_bytes(), Format::PostgresClusterSql, 6),
        ("shop.sql", MARIADB.as_bytes().to_vec(), Format::MariadbSql, 3),
        ("shop.sql", MARIADB[41..].replace("MariaDB dump", "MySQL dump").into_bytes(), Format::MysqlSql, 3),
        ("shop.tar", Archive::tar(), Format::PostgresTar, 2),
    ];
    for minor in 12..=16 {
        for method in 0..=1 {
            dumps.push(("shop.dump", Archive::custom(minor, method), Format::PostgresCustom, 2));
        }
    }
    let packed: Vec<_> =
        dumps.iter().map(|(_, bytes, format, rows)| ("x.sql.gz", gzip(bytes), *format, *rows)).collect();
    dumps.extend(packed);
    dumps
}

#[test]
fn a_routine_that_was_written_without_escapes_does_not_cut_a_dump() {
    let routine = "DELIMITER ;;\n/*!50003 SET sql_mode              = 'ANSI,NO_BACKSLASH_ESCAPES' */ ;;\n\
        /*!50003 CREATE PROCEDURE `p`() SELECT 'c:\\' */ ;;\n/*!50003 SET sql_mode = @saved_sql_mode */ ;;\nDELIMITER ;\n\
        INSERT INTO `orders` VALUES (4,'it\\'s');\n";
    let text = MARIADB.replace("/*!50001", &format!("{routine}/*!50001"));
    for step in [1, 4096] {
        let report = inspect("shop.sql", text.as_bytes(), step).unwrap();
        assert_eq!((report.state, rows(&report)), (State::Complete, vec![("orders", Some(4))]), "{}", report.reason);
    }
}

#[test]
fn a_mark_that_says_utf_8_changes_nothing_and_utf_16_is_named() {
    let marked = format!("\u{feff}{MARIADB}");
    let (report, plain) =
        (inspect("shop.sql", marked.as_bytes(), 7).unwrap(), inspect("", MARIADB.as_bytes(), 7).unwrap());
    assert_eq!((&report.reach, report.reach.beyond("shop")), (&plain.reach, None));
    assert_eq!((report.state, rows(&report)), (State::Complete, rows(&plain)));
    for (text, option) in [(MARIADB, "--result-file=FILE"), (POSTGRES, "--file=FILE")] {
        let units: Vec<u16> = format!("\u{feff}{text}").encode_utf16().collect();
        for order in [u16::to_le_bytes, u16::to_be_bytes] {
            let bytes: Vec<u8> = units.iter().flat_map(|unit| order(*unit)).collect();
            let report = inspect("anything", &bytes, 100).unwrap();
            assert_eq!(report.state, State::Damaged);
            assert!(report.reason.contains("UTF-16") && report.reason.contains(option), "{}", report.reason);
        }
    }
    assert!(inspect("notes.txt", b"\xff\xfen\0o\0t\0e\0s\0", 100).is_none());
}

#[test]
fn every_kind_of_dump_is_recognised_and_its_rows_are_counted_however_it_is_cut() {
    for (name, bytes, format, rows) in dumps() {
        for step in [1, 13, 512, bytes.len()] {
            let report = inspect(name, &bytes, step).unwrap();
            assert_eq!((report.format, report.rows, report.state), (format, rows, State::Complete), "{report:?}");
            assert_eq!(report.bytes, bytes.len() as u64);
        }
    }
}

#[test]
fn a_dump_is_recognised_by_its_content_alone() {
    for (_, bytes, format, _) in dumps() {
        assert_eq!(inspect("nightly", &bytes, 4096).map(|report| report.format), Some(format));
    }
}

#[test]
fn a_dump_that_is_cut_anywhere_is_reported() {
    for (name, bytes, format, _) in dumps() {
        // Of what follows the last word of SQL nothing is missed.
        let plain = name == "shop.sql" || name == "all.sql";
        let spare = if plain { bytes.iter().rev().take_while(|byte| **byte == b'\n').count() } else { 0 };
        for length in 0..bytes.len() - spare {
            // A tar file shows what it is only after its first block.
            if format == Format::PostgresTar && length < 512 && name == "shop.tar" {
                continue;
            }
            let report = inspect(name, &bytes[..length], 700);
            let state = report.as_ref().map(|report| report.state);
            let bad = state.is_some_and(State::is_bad);
            assert!(bad, "{format:?} in {name} cut to {length} of {}: {report:?}", bytes.len());
        }
    }
}

#[test]
fn the_head_of_a_dump_says_where_it_comes_from() {
    let report = inspect("shop.sql", POSTGRES.as_bytes(), 50).unwrap();
    assert_eq!(report.server, "PostgreSQL 15.8 (Debian 15.8-0+deb12u1)");
    assert_eq!(report.tool, "pg_dump 15.8");
    assert_eq!(rows(&report), [("public.empty", Some(0)), ("public.orders", Some(3))]);
    let report = inspect("shop.sql", MARIADB.as_bytes(), 50).unwrap();
    assert_eq!(report.server, "MariaDB 10.11.6-MariaDB-0+deb12u1");
    assert_eq!(report.tool, "MariaDB dump 10.19  Distrib 10.11.6-MariaDB");
    assert_eq!(report.database, "shop");
    assert_eq!(rows(&report), [("orders", Some(3))]);
    let report = inspect("shop.dump", &Archive::custom(14, 1), 50).unwrap();
    assert_eq!((report.tool.as_str(), report.database.as_str()), ("pg_dump 15.8", "shop"));
    assert_eq!(rows(&report), [("public.empty", Some(0)), ("public.orders", Some(2))]);
    assert_eq!(report.compression.name(), "gzip");
    let (_, all, ..) = dumps().swap_remove(1);
    let report = inspect("all.sql", &all, 50).unwrap();
    let names: Vec<&str> = report.tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["blog.public.empty", "blog.public.orders", "shop.public.empty", "shop.public.orders"]);
}

#[test]
fn rows_that_are_compressed_in_a_way_we_do_not_know_are_not_counted_and_said_so() {
    let report = inspect("shop.dump", &Archive::custom(16, 3), 50).unwrap();
    assert_eq!(report.state, State::Complete);
    assert!(report.tables.iter().any(|table| table.rows.is_none()));
    assert!(report.notes[0].contains("zstd"), "{:?}", report.notes);
}

#[test]
fn an_archive_of_a_version_that_is_not_known_is_not_judged() {
    let mut bytes = Archive::custom(14, 0);
    bytes[6] = 17;
    let report = inspect("shop.dump", &bytes, 50).unwrap();
    assert_eq!((report.state, report.reason.as_str()), (State::Unchecked, "archives of version 1.17 are not known"));
}

#[test]
fn an_archive_that_contradicts_its_table_of_contents_is_damaged() {
    let whole = Archive::custom(14, 0);
    let mut other_id = whole.clone();
    let block = whole.windows(6).position(|bytes| bytes == [1, 0, 8, 0, 0, 0]).unwrap();
    other_id[block + 2] = 77;
    let report = inspect("shop.dump", &other_id, 50).unwrap();
    assert_eq!(report.state, State::Damaged, "{report:?}");
    let longer = [&whole[..], b"x"].concat();
    assert_eq!(inspect("shop.dump", &longer, 50).unwrap().state, State::Damaged);
}

#[test]
fn a_file_in_directory_format_says_what_belongs_to_it() {
    let mut toc = Archive::head(15, 3, 1, 2);
    toc.entry(15, 8, "orders", "TABLE DATA", true, Some("8.dat"));
    toc.entry(15, 9, "BLOBS", "BLOBS", true, Some("blobs.toc"));
    let report = inspect("/dumps/shop/toc.dat", &toc.bytes, 7).unwrap();
    assert_eq!((report.format, report.state), (Format::PostgresDirectory, State::Complete));
    let pieces: Vec<_> = report.pieces.iter().map(|piece| (piece.file.as_str(), piece.table.as_deref())).collect();
    assert_eq!(pieces, [("8.dat", Some("public.orders")), ("blobs.toc", None)]);
    assert_eq!(inspect("toc.dat", &toc.bytes[..90], 7).unwrap().state, State::Truncated);
    for (name, bytes, rows) in [
        ("8.dat", b"1\n2\n\\.\n\n\n".to_vec(), 2),
        ("8.dat.gz", gzip(b"1\n\\.\n\n\n"), 1),
        ("8.dat", b"\n\nINSERT INTO public.t VALUES (1);\nINSERT INTO public.t VALUES (2);\n\n\n".to_vec(), 2),
        ("8.dat", b"\n\n".to_vec(), 0),
    ] {
        let report = inspect(name, &bytes, 100).unwrap();
        assert_eq!((report.format, report.state, report.rows), (Format::PostgresPiece, State::Complete, rows));
    }
    assert_eq!(inspect("8.dat", b"", 5).unwrap().state, State::Truncated);
    let objects = inspect("blobs.toc", b"16413 blob_16413.dat\n", 5).unwrap();
    assert_eq!((objects.state, objects.pieces[0].file.as_str()), (State::Complete, "blob_16413.dat"));
    assert_eq!(inspect("blobs.toc", b"something else\n", 5).unwrap().state, State::Damaged);
    assert_eq!(inspect("blob_16413.dat", b"anything", 5).unwrap().format, Format::PostgresPiece);
    assert_eq!(inspect("blob_16413.dat.gz", &gzip(b"anything")[..20], 5).unwrap().state, State::Truncated);
    assert_eq!(inspect("blobs.toc", b"16413 blob_16", 5).unwrap().state, State::Truncated);
    assert_eq!(inspect("8.dat.gz", &gzip(b"1\n2\n"), 5).unwrap().state, State::Truncated);
    assert_eq!(inspect("8.dat.lz4", b"\x04\x22\x4d\x18 and so on", 5).unwrap().state, State::Unchecked);
}

#[test]
fn what_is_no_dump_is_let_alone() {
    for (name, bytes) in [
        ("migration.sql", b"ALTER TABLE t ADD a int;\n".to_vec()),
        ("notes.txt", b"".to_vec()),
        ("photo.gz", gzip(b"no dump")),
        ("photo.gz", gzip(b"no dump")[..12].to_vec()),
        ("migration.sql.gz", gzip(b"ALTER TABLE t ADD a int;\n")),
        ("photo.zst", b"\x28\xb5\x2f\xfdxxxx".to_vec()),
        ("x", b"P".to_vec()),
    ] {
        assert_eq!(inspect(name, &bytes, 5), None, "{name}");
    }
}

#[test]
fn a_file_that_should_be_a_dump_but_is_empty_or_broken_is_reported() {
    for (name, bytes, state) in [
        ("shop.sql", Vec::new(), State::Empty),
        ("shop.sql.gz", Vec::new(), State::Empty),
        ("shop.sql.gz", gzip(b""), State::Empty),
        ("shop.dump", b"PGD".to_vec(), State::Truncated),
        ("shop.sql", b"--\n-- Postgre".to_vec(), State::Truncated),
        ("shop.sql.gz", gzip(b"ALTER TABLE t ADD a int;\n")[..20].to_vec(), State::Truncated),
        ("shop.sql.zst", b"\x28\xb5\x2f\xfdxxxx".to_vec(), State::Unchecked),
    ] {
        assert_eq!(inspect(name, &bytes, 5).map(|report| report.state), Some(state), "{name}");
    }
}

#[test]
fn a_hole_in_a_dump_is_damage_and_takes_no_time() {
    let mut inspector = Inspector::new(b"shop.sql");
    inspector.push(POSTGRES.as_bytes());
    inspector.hole(1 << 50);
    let report = inspector.finish().unwrap();
    assert_eq!(report.state, State::Damaged);
    assert_eq!(report.bytes, POSTGRES.len() as u64 + (1 << 50));
}
