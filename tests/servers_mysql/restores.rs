//! Dumps back on the server: equal, counted, refused where something is in the way, and drilled.

use super::dumps::{Dumped, dump, dump_while, odd, watch};
use super::server::{PASSWORD, Server, another, numbers, server};
use keepstone::base::{Kind, Stop};
use keepstone::db::mysql::{Address, Claim, Session};
use keepstone::db::{Result, Surroundings};
use keepstone::format::dump::{Manifest, Table};
use keepstone::source::mysql::Options as DumpOptions;
use keepstone::target::dump::{DRILL_PREFIX, DrillServer, DumpTarget, Restored, Sample, StoredDump};
use keepstone::target::mysql::{Destination, Drill, Options, Target, export_sql};
use std::io::{self, Read};

impl StoredDump for Dumped {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send + '_>> {
        let bytes = self.streams.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(&bytes[..]))
    }
}

fn address(url: &str) -> Address {
    Address::parse(url, &Surroundings::default()).unwrap()
}

fn restore(server: &Server, database: &str, dumped: &Dumped, options: Options) -> Result<Restored> {
    Target { address: address(&server.url(database)), options }.restore(dumped, &watch())
}

fn create() -> Options {
    Options { destination: Destination::Create, ..Options::default() }
}

fn databases(server: &Server) -> String {
    server.sql("SHOW DATABASES")
}

/// As [`Server::dumped`], without the name of the database.
fn anonymous(server: &Server, database: &str) -> String {
    server.dumped(database).replace(&format!("'{database}'"), "''")
}

#[test]
fn a_database_full_of_odd_things_comes_back_equal() {
    let Some(server) = server() else { return };
    odd(server, "odd there");
    let dumped = dump(&server.url("odd there")).unwrap();
    server.sql("DROP DATABASE IF EXISTS `odd back`");
    let restored = restore(server, "odd back", &dumped, create()).unwrap();
    assert_eq!(
        (restored.rows, restored.sequences, restored.created),
        (dumped.manifest.rows(), u64::from(server.is_mariadb()), true)
    );
    assert_eq!(anonymous(server, "odd there"), anonymous(server, "odd back"));
    let again = dump(&server.url("odd back")).unwrap();
    let sums = |dumped: &Dumped| -> Vec<_> {
        dumped.manifest.tables.iter().map(|table| (table.name.clone(), table.rows, table.checksum.clone())).collect()
    };
    assert_eq!(sums(&dumped), sums(&again));
    assert_eq!(dumped.manifest.sequences, again.manifest.sequences);
    server.sql("DROP DATABASE `odd back`");
}

#[test]
fn a_dump_as_plain_sql_is_loaded_by_the_client() {
    let Some(server) = server() else { return };
    odd(server, "plain there");
    let dumped = dump(&server.url("plain there")).unwrap();
    let mut sql = Vec::new();
    let exported = export_sql(&dumped, &mut sql, &watch()).unwrap();
    assert_eq!((exported.tables, exported.rows), (dumped.manifest.tables.len() as u64, dumped.manifest.rows()));
    assert_eq!(sql.starts_with(b"/*M!999999\\- enable the sandbox mode */ \n"), server.is_mariadb());
    assert_eq!(String::from_utf8_lossy(&sql).matches("sandbox mode").count(), usize::from(server.is_mariadb()));
    server.fresh("plain back");
    server.sql_in("plain back", std::str::from_utf8(&sql).unwrap());
    assert_eq!(anonymous(server, "plain there"), anonymous(server, "plain back"));
}

#[test]
fn plain_sql_that_breaks_off_is_an_error_for_the_client() {
    let Some(server) = server() else { return };
    server.fresh("broken");
    server.sql_in("broken", "CREATE TABLE a (x text); INSERT INTO a VALUES ('one'); CREATE TABLE b (x int)");
    let mut dumped = dump(&server.url("broken")).unwrap();
    dumped.streams.remove("data/b.sql");
    let mut sql = Vec::new();
    let error = export_sql(&dumped, &mut sql, &watch()).unwrap_err();
    assert_eq!(error.object.as_deref(), Some("data/b.sql"));
    server.fresh("broken back");
    let said = server.refused_in("broken back", std::str::from_utf8(&sql).unwrap());
    assert!(said.contains("the dump breaks off here"), "{said}");
}

#[test]
fn large_rows_and_many_rows_come_back() {
    let Some(server) = server() else { return };
    server.fresh("big there");
    server.sql_in(
        "big there",
        &format!(
            "CREATE TABLE t (id int PRIMARY KEY, b longblob, t longtext); \
             INSERT INTO t VALUES (1, REPEAT(x'00ff', 1500000), 'a'), (2, NULL, REPEAT('it''s \\r\\n', 900000)), (3, '', ''); \
             CREATE TABLE many (id int PRIMARY KEY, t text) SELECT seq AS id, REPEAT(seq, 20) AS t FROM {}",
            numbers(1, 20_000)
        ),
    );
    let dumped = dump(&server.url("big there")).unwrap();
    server.sql("DROP DATABASE IF EXISTS `big back`");
    let restored = restore(server, "big back", &dumped, create()).unwrap();
    assert_eq!(restored.rows, 20_003);
    assert!(dumped.text("data/many.sql").matches("INSERT INTO").count() > 1);
    assert_eq!(anonymous(server, "big there"), anonymous(server, "big back"));
    server.sql("DROP DATABASE `big back`; DROP DATABASE `big there`");
}

#[test]
fn what_is_there_is_not_written_over() {
    let Some(server) = server() else { return };
    server.fresh("src");
    server.sql_in("src", "CREATE TABLE a (x int); INSERT INTO a VALUES (1),(2); CREATE TABLE b (x int)");
    let dumped = dump(&server.url("src")).unwrap();
    server.fresh("mine");
    server.sql_in("mine", "CREATE TABLE keep (x int); INSERT INTO keep VALUES (1)");
    let refused = |options: Options| restore(server, "mine", &dumped, options).unwrap_err();
    assert_eq!(refused(Options::default()).kind(), Kind::Refused);
    assert_eq!(refused(create()).kind(), Kind::Refused);
    let error = restore(server, "nowhere", &dumped, Options::default()).unwrap_err();
    assert_eq!((error.kind(), error.database.as_deref()), (Kind::NotFound, Some("nowhere")), "{error}");
    // One table beside what is there, then again, then its rows once more.
    let only_a = Options { tables: vec!["a".into()], ..Options::default() };
    assert_eq!(restore(server, "mine", &dumped, only_a.clone()).unwrap().rows, 2);
    assert_eq!(server.sql_in("mine", "SHOW TABLES"), "a\nkeep\n");
    assert_eq!(refused(only_a.clone()).object.as_deref(), Some("table a"));
    let rows = Options { pre_data: false, post_data: false, ..only_a };
    assert!(refused(rows.clone()).to_string().contains("holds rows already"));
    server.sql_in("mine", "DELETE FROM a; CREATE TRIGGER tr BEFORE INSERT ON a FOR EACH ROW SET NEW.x = 7");
    assert!(refused(rows.clone()).to_string().contains("has triggers"));
    server.sql_in("mine", "DROP TRIGGER tr");
    assert_eq!(restore(server, "mine", &dumped, rows).unwrap().rows, 2);
    // In its place.
    let replaced =
        restore(server, "mine", &dumped, Options { destination: Destination::Replace, ..Options::default() });
    assert!(replaced.unwrap().replaced);
    assert_eq!(server.sql_in("mine", "SHOW TABLES"), "a\nb\n");
}

#[test]
fn a_stream_that_was_cut_off_leaves_no_rows_and_no_database() {
    let Some(server) = server() else { return };
    server.fresh("cut");
    server.sql_in("cut", &format!("CREATE TABLE t (x int); INSERT INTO t SELECT seq FROM {}", numbers(1, 1000)));
    let whole = dump(&server.url("cut")).unwrap();
    for (path, keep) in
        [("data/t.sql", 3000), ("data/t.sql", whole.streams["data/t.sql"].len() - 3), ("schema.sql", 500)]
    {
        let mut streams = whole.streams.clone();
        streams.get_mut(path).unwrap().truncate(keep);
        let cut = Dumped { manifest: whole.manifest.clone(), streams };
        let error = restore(server, "cut back", &cut, create()).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
        assert!(error.to_string().contains("cut off"), "{error}");
        // Definitions are read before anything is made.
        assert_eq!(error.to_string().contains("dropped again"), path != "schema.sql", "{error}");
        assert!(!databases(server).contains("cut back"));
        server.fresh("cut into");
        restore(server, "cut into", &cut, Options::default()).unwrap_err();
        if path != "schema.sql" {
            assert_eq!(server.sql_in("cut into", "SELECT COUNT(*) FROM t"), "0\n", "{path} cut at {keep}");
        }
    }
    let mut other = whole.manifest.clone();
    other.tables[0].rows += 1;
    let error = restore(server, "cut back", &Dumped { manifest: other, streams: whole.streams }, create()).unwrap_err();
    assert!(error.to_string().contains("the dump promises 1001 rows, the server counts 1000"), "{error}");
    assert_eq!(error.object.as_deref(), Some("table t"));
}

/// A dump whose server is killed behind half of the rows of a table.
struct Deadly<'d> {
    dumped: &'d Dumped,
    server: &'d Server,
}

/// Kills a server when somebody reads on, and gives nothing.
struct Killer<'d>(&'d Server);

impl Read for Killer<'_> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.kill();
        Ok(0)
    }
}

impl StoredDump for Deadly<'_> {
    fn manifest(&self) -> &Manifest {
        &self.dumped.manifest
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send + '_>> {
        let bytes = self.dumped.streams.get(path).ok_or(io::ErrorKind::NotFound)?;
        let (before, after) = bytes.split_at(bytes.len() / 2);
        match path.starts_with("data/") {
            true => Ok(Box::new(before.chain(Killer(self.server)).chain(after))),
            false => Ok(Box::new(&bytes[..])),
        }
    }
}

#[test]
fn a_server_that_is_killed_in_mid_restore_is_named_with_the_table_and_what_is_left() {
    let Some(server) = another() else { return };
    server.fresh("deadly");
    let rows = format!("INSERT INTO t SELECT REPEAT(seq, 300) FROM {}", numbers(10_000, 20_000));
    server.sql_in("deadly", &format!("CREATE TABLE t (x text); {rows}"));
    let dumped = dump(&server.url("deadly")).unwrap();
    let target = Target { address: address(&server.url("deadly back")), options: create() };
    let error = target.restore(&Deadly { dumped: &dumped, server: &server }, &watch()).unwrap_err();
    assert_eq!((error.kind(), error.object.as_deref()), (Kind::Unavailable, Some("table t")), "{error}");
    assert_eq!(error.database.as_deref(), Some("deadly back"), "{error}");
    let said = error.to_string();
    assert!(said.contains("127.0.0.1:") && said.contains("could not be dropped") && said.contains("by hand"), "{said}");
}

#[test]
fn sql_that_fails_is_named_with_its_line_and_runs_no_commands() {
    let Some(server) = server() else { return };
    server.fresh("bad");
    server.sql_in("bad", "CREATE TABLE t (x int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let whole = dump(&server.url("bad")).unwrap();
    for (added, said) in [("\\! touch", "Unknown command"), ("system touch", "ERROR 1064"), ("(1);", "ERROR 1064")] {
        let added = format!("(1);\n{added} keepstone-was-here\n;");
        let mut dumped = Dumped { manifest: whole.manifest.clone(), streams: whole.streams.clone() };
        let text = dumped.text("data/t.sql").replace("(1);", &added);
        dumped.streams.insert("data/t.sql".to_owned(), text.into_bytes());
        let error = restore(server, "bad back", &dumped, create()).unwrap_err();
        assert!(error.to_string().contains("at line 8") && error.to_string().contains(said), "{error}");
        assert_eq!(
            (error.object.as_deref(), error.database.as_deref()),
            (Some("table t"), Some("bad back")),
            "{error}"
        );
        assert!(!std::path::Path::new("keepstone-was-here").exists());
    }
}

#[test]
fn who_may_not_make_what_belongs_to_others_can_leave_it_to_himself() {
    let Some(server) = server() else { return };
    server.fresh("owned");
    server.sql_in(
        "owned",
        "CREATE TABLE t (x int); CREATE DEFINER='gone'@'nowhere' VIEW v AS SELECT * FROM t; \
         CREATE DEFINER='gone'@'nowhere' PROCEDURE p() SELECT 1; CREATE DEFINER='gone'@'nowhere' TRIGGER owned.tr BEFORE INSERT ON owned.t FOR EACH ROW SET NEW.x = 1",
    );
    let dumped = dump(&server.url("owned")).unwrap();
    server.sql("DROP DATABASE IF EXISTS `owned back`; CREATE DATABASE `owned back`");
    server.user("plain", "pw", &["ALL ON `owned back`.*"]);
    let address = address(&server.url_of("plain", "pw", "owned back"));
    let target = |owners| Target { address: address.clone(), options: Options { owners, ..Options::default() } };
    let error = target(true).restore(&dumped, &watch()).unwrap_err();
    assert!(error.to_string().contains("--no-owner"), "{error}");
    server.sql("DROP DATABASE `owned back`; CREATE DATABASE `owned back`");
    target(false).restore(&dumped, &watch()).unwrap();
    assert!(server.sql_in("owned back", "SHOW CREATE VIEW v").contains("DEFINER=`plain`@`%`"));
    server.sql("DROP DATABASE `owned back`; CREATE DATABASE `owned back`; REVOKE TRIGGER, EVENT ON `owned back`.* FROM 'plain'@'%'");
    let error = target(false).check(&dumped, &watch()).unwrap_err();
    assert!(error.to_string().contains("GRANT TRIGGER, EVENT ON `owned back`.* TO 'plain'@'%'"), "{error}");
}

#[test]
fn a_drill_restores_looks_and_leaves_nothing() {
    let Some(server) = server() else { return };
    odd(server, "drilled");
    let dumped = dump(&server.url("drilled")).unwrap();
    let drill = Drill { address: address(&server.url("")), jobs: 2 };
    assert_eq!(drill.identity(&watch()).unwrap(), dumped.manifest.server.identity);
    let seen = drill.try_out(&dumped, Sample::whole(&|table: &Table| table.name != "my1"), &watch()).unwrap();
    assert_eq!(seen.sequences, dumped.manifest.sequences);
    assert_eq!(seen.tables.len(), dumped.manifest.tables.len());
    for (seen, promised) in seen.tables.iter().zip(&dumped.manifest.tables) {
        assert_eq!((&seen.name, seen.rows), (&promised.name, promised.rows));
        match seen.name.as_str() {
            "my1" => assert_eq!(seen.checksum, None),
            name => assert_eq!((&seen.checksum, seen.bytes), (&promised.checksum, promised.bytes), "{name}"),
        }
    }
    assert_eq!(seen.left_behind, None);
    let mut damaged = Dumped { manifest: dumped.manifest.clone(), streams: dumped.streams.clone() };
    damaged.streams.get_mut("views.sql").unwrap().splice(300..310, *b"not quite ");
    assert!(drill.try_out(&damaged, Sample::whole(&|_| true), &watch()).is_err());
    // A drill of another test may be quicker, for once.
    let swept = (0..50).any(|_| {
        server.sql(&format!("CREATE DATABASE IF NOT EXISTS {DRILL_PREFIX}left"));
        drill.sweep(&watch()).unwrap().contains(&format!("{DRILL_PREFIX}left"))
    });
    assert!(swept);
    assert!(!databases(server).contains(&format!("{DRILL_PREFIX}left")));
}

#[test]
fn a_table_whose_rows_are_those_of_others_is_not_held_against_its_count() {
    let Some(server) = server() else { return };
    server.fresh("merged");
    // Its rows are there before its turn comes: it has the last name.
    server.sql_in(
        "merged",
        "CREATE TABLE a (x int) ENGINE=MyISAM; INSERT INTO a VALUES (1),(2); \
         CREATE TABLE z (x int) ENGINE=MRG_MyISAM UNION=(a) INSERT_METHOD=LAST",
    );
    let dumped = dump(&server.url("merged")).unwrap();
    assert!(
        dumped.manifest.notes.iter().any(|note| note == "without rows, since their engine keeps them elsewhere: z")
    );
    server.sql("DROP DATABASE IF EXISTS `merged back`");
    restore(server, "merged back", &dumped, Options { jobs: 1, ..create() }).unwrap();
    assert_eq!(server.sql_in("merged back", "SELECT COUNT(*) FROM z"), "2\n");
    let drill = Drill { address: address(&server.url("")), jobs: 1 };
    let seen = drill.try_out(&dumped, Sample::whole(&|_| true), &watch()).unwrap();
    let rows: Vec<_> = seen.tables.iter().map(|table| (table.name.as_str(), table.rows)).collect();
    assert_eq!(rows, [("a", 2), ("z", 0)]);
}

#[test]
fn a_table_whose_engine_the_server_lacks_is_named_before_anything_is_written() {
    let Some(server) = server() else { return };
    server.fresh("engines");
    server.sql_in("engines", "CREATE TABLE a (x int); CREATE TABLE b (x int) ENGINE=MyISAM");
    let mut dumped = dump(&server.url("engines")).unwrap();
    let text = dumped.text("schema.sql").replace("ENGINE=MyISAM", "ENGINE=Cassandra");
    dumped.streams.insert("schema.sql".to_owned(), text.into_bytes());
    let error = restore(server, "engines back", &dumped, create()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    assert!(error.to_string().contains("with another: b (Cassandra);"), "{error}");
    assert!(!databases(server).contains("engines back"));
    let drill = Drill { address: address(&server.url("")), jobs: 1 };
    assert!(drill.try_out(&dumped, Sample::whole(&|_| true), &watch()).is_err());
    let others = Options { tables: vec!["a".into()], ..Options::default() };
    server.fresh("engines back");
    restore(server, "engines back", &dumped, others).unwrap();
}

#[test]
fn a_default_from_a_sequence_is_that_of_the_copy() {
    let Some(server) = server().filter(|server| server.is_mariadb()) else { return };
    server.fresh("seq there");
    server.sql_in(
        "seq there",
        "CREATE SEQUENCE s; CREATE TABLE t (x int DEFAULT NEXTVAL(s), y int); INSERT INTO t (y) VALUES (0)",
    );
    let dumped = dump(&server.url("seq there")).unwrap();
    server.sql("DROP DATABASE `seq there`; DROP DATABASE IF EXISTS `seq back`");
    restore(server, "seq back", &dumped, create()).unwrap();
    assert_ne!(server.sql_in("seq back", "INSERT INTO t (y) VALUES (1); SELECT x FROM t WHERE y = 1"), "NULL\n");
    assert!(server.sql_in("seq back", "SHOW CREATE TABLE t").contains("nextval(`seq back`.`s`)"));
    let drill = Drill { address: address(&server.url("")), jobs: 1 };
    drill.try_out(&dumped, Sample::whole(&|_| true), &watch()).unwrap();
    server.sql("DROP DATABASE `seq back`");
}

#[test]
fn rows_of_versioned_tables_keep_when_they_were_written_or_it_is_said() {
    let Some(server) = server().filter(|server| server.is_mariadb()) else { return };
    server.fresh("times");
    let table = |name: &str, kind: &str| {
        format!(
            "CREATE TABLE {name} (x int, s {kind} GENERATED ALWAYS AS ROW START, e {kind} GENERATED ALWAYS AS ROW END, \
             PERIOD FOR SYSTEM_TIME(s, e)) WITH SYSTEM VERSIONING; INSERT INTO {name} (x) VALUES (1), (2); DELETE FROM {name} WHERE x = 2;"
        )
    };
    server.sql_in(
        "times",
        &(table("seen", "timestamp(6)") + &table("unseen", "timestamp(6)").replace("ROW START", "ROW START INVISIBLE")),
    );
    server.sql_in("times", &table("counted", "bigint unsigned"));
    let dumped = dump(&server.url("times")).unwrap();
    server.sql("DROP DATABASE IF EXISTS `times back`");
    let restored = restore(server, "times back", &dumped, create()).unwrap();
    for table in ["seen", "unseen"] {
        let rows = |database: &str| {
            server.sql_in(database, &format!("SELECT x, s, e FROM {table} FOR SYSTEM_TIME AS OF NOW(6)"))
        };
        assert_eq!(rows("times"), rows("times back"), "{table}");
    }
    let note = "rows say when they were restored, not when they were written: counted";
    assert!(restored.notes.iter().any(|said| said.ends_with(note)), "{:?}", restored.notes);
    let drill = Drill { address: address(&server.url("")), jobs: 1 };
    let seen = drill.try_out(&dumped, Sample::whole(&|_| true), &watch()).unwrap();
    for (seen, promised) in seen.tables.iter().zip(&dumped.manifest.tables) {
        let expected = promised.checksum.clone().filter(|_| promised.name != "counted");
        assert_eq!((&seen.name, seen.rows, &seen.checksum), (&promised.name, 1, &expected));
    }
    // Where the server is older, or time ends otherwise, the rows come back all the same.
    let mut other = Dumped { manifest: dumped.manifest.clone(), streams: dumped.streams.clone() };
    other.manifest.server.version_number = 110_800;
    let seen = drill.try_out(&other, Sample::whole(&|_| true), &watch()).unwrap();
    assert!(seen.tables.iter().all(|table| (table.rows, &table.checksum) == (1, &None)));
    server.sql("DROP DATABASE `times back`");
}

#[test]
fn a_database_whose_name_is_claimed_is_no_leftover_even_while_nobody_works_in_it() {
    let Some(server) = server() else { return };
    let name = format!("{DRILL_PREFIX}claimed");
    let session = Session::open(&address(&server.url("")), Kind::Target, &Stop::new()).unwrap();
    let claim = Claim::of(&name, &session).unwrap();
    server.sql(&format!("CREATE DATABASE {name}"));
    let drill = Drill { address: address(&server.url("")), jobs: 1 };
    assert!(!drill.sweep(&watch()).unwrap().contains(&name));
    assert!(databases(server).contains(&name));
    drop(claim);
    // The server notices in its own time that the session is gone. Another test's drill may be the one that sweeps.
    while databases(server).contains(&name) {
        drill.sweep(&watch()).unwrap();
    }
}

#[test]
fn no_password_stands_on_a_command_line_or_in_a_folder() {
    let Some(server) = server() else { return };
    server.fresh("secret");
    server.sql_in(
        "secret",
        &format!("CREATE TABLE t (x text); INSERT INTO t SELECT REPEAT(seq, 300) FROM {}", numbers(10_000, 20_000)),
    );
    let mut lines = Vec::new();
    let meanwhile = || {
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            lines.push(String::from_utf8_lossy(&line).into_owned());
        }
    };
    dump_while(&server.url("secret"), DumpOptions::default(), meanwhile).unwrap();
    let ours: Vec<&String> = lines.iter().filter(|line| line.contains("--defaults-file=")).collect();
    assert!(
        ours.iter().any(|line| line.contains(server.word("mariadb-dump", "mysqldump")) && line.contains("secret")),
        "{ours:?}"
    );
    assert!(lines.iter().all(|line| !line.contains(PASSWORD)));
    for line in ours {
        let file = line.split('\0').find_map(|word| word.strip_prefix("--defaults-file=")).unwrap();
        assert!(file.starts_with("/proc/self/fd/"), "who is killed leaves no file behind: {file}");
    }
}
