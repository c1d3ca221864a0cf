//! Dumps: what is in them, and what makes one fail.

use super::server::{PASSWORD, Server, numbers, server};
use keepstone::base::monitor::Remember;
use keepstone::base::{Kind, Stop};
use keepstone::db::mysql::Address;
use keepstone::db::probe::Verdict;
use keepstone::db::{Result, Surroundings, Watch};
use keepstone::format::dump::Manifest;
use keepstone::source::dump::DumpSource;
use keepstone::source::mysql::{Options, Source};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

/// Every kind of thing that a database may hold.
const ODD: &str = include_str!("odd.sql");
/// What only MariaDB has.
const ODD_MARIADB: &str = include_str!("odd_mariadb.sql");

/// A dump in memory.
pub struct Dumped {
    pub manifest: Manifest,
    pub streams: BTreeMap<String, Vec<u8>>,
}

impl Dumped {
    pub fn text(&self, path: &str) -> &str {
        std::str::from_utf8(&self.streams[path]).unwrap()
    }

    pub fn rows(&self) -> BTreeMap<&str, u64> {
        self.manifest.tables.iter().map(|table| (table.name.as_str(), table.rows)).collect()
    }
}

pub fn watch() -> Watch {
    Watch { stop: Stop::new(), monitor: Arc::new(Remember::default()) }
}

pub fn source(url: &str, options: Options) -> Source {
    Source::new(Address::parse(url, &Surroundings::default()).unwrap(), options).unwrap()
}

/// Dumps whatever `url` names; `meanwhile` is called once the moment was taken.
pub fn dump_while(url: &str, options: Options, meanwhile: impl FnOnce()) -> Result<Dumped> {
    let dump = source(url, options).begin(&watch())?;
    meanwhile();
    let mut streams = BTreeMap::new();
    for (at, planned) in dump.streams().to_vec().into_iter().enumerate() {
        let mut bytes = Vec::new();
        dump.read(at, &mut |reader: &mut dyn Read| reader.read_to_end(&mut bytes).map(|length| length as u64))?;
        streams.insert(planned.path, bytes);
    }
    let manifest = dump.finish()?;
    Ok(Dumped { manifest, streams })
}

pub fn dump(url: &str) -> Result<Dumped> {
    dump_while(url, Options::default(), || ())
}

/// A database with everything odd in it.
pub fn odd(server: &Server, name: &str) {
    server.fresh(name);
    server.sql_in(name, ODD);
    if server.is_mariadb() {
        server.sql_in(name, ODD_MARIADB);
    }
}

#[test]
fn a_dump_counts_its_rows_and_names_what_is_not_consistent() {
    let Some(server) = server() else { return };
    odd(server, "odd one");
    let dumped = dump(&server.url("odd one")).unwrap();
    let rows = dumped.rows();
    assert_eq!(rows["we`ird na,me(/"], 3);
    assert_eq!((rows["part1"], rows["empty1"], rows["größe"], rows["inv"], rows["zero"]), (3, 0, 2, 2, 2));
    for (table, rows) in &rows {
        let quoted = table.replace('`', "``");
        let counted = server.sql_in("odd one", &format!("SELECT COUNT(*) FROM `{quoted}`"));
        assert_eq!(counted.trim(), rows.to_string(), "{table}");
    }
    let manifest = &dumped.manifest;
    let notes = manifest.notes.join("\n");
    assert!(
        notes.contains("my1 (MyISAM)") && notes.contains("six digits in every dump, the rest is lost: my1"),
        "{notes}"
    );
    assert_eq!(notes.contains("without their history: vers"), server.is_mariadb(), "{notes}");
    assert!(manifest.position.as_ref().is_some_and(|position| position.starts_with("bin.000001:")), "{manifest:?}");
    assert_eq!(manifest.server.product, server.family.product());
    assert!(!manifest.server.identity.is_empty() && manifest.server.version_number >= 80_000);
    assert_eq!(manifest.properties["charset"], "utf8mb4");
    assert_eq!(manifest.sequences.len(), usize::from(server.is_mariadb()));
    let table = manifest.tables.iter().find(|table| table.name == "we`ird na,me(/").unwrap();
    assert_eq!(table.stream.as_deref(), Some("data/we`ird na,me(%2F.sql"));
    assert_eq!(table.columns.len(), 19);
    for stream in &manifest.streams {
        assert_eq!(stream.bytes, dumped.streams[&stream.path].len() as u64, "{}", stream.path);
    }
}

#[test]
fn rows_stand_one_a_line_and_nothing_changes_between_nights() {
    let Some(server) = server() else { return };
    odd(server, "nights");
    let first = dump(&server.url("nights")).unwrap();
    // The order of partitions is the server's.
    let text = first.text("data/part1.sql");
    let mut rows: Vec<&str> = text.lines().filter(|line| line.starts_with('(')).collect();
    rows.sort_unstable();
    let rows: Vec<&str> = rows.iter().map(|row| row.trim_end_matches([',', ';'])).collect();
    assert_eq!(rows, ["(1,2)", "(3,4)", "(5,6)"], "{text}");
    assert!(text.contains("VALUES\n(") && text.contains(");\n"), "{text}");
    assert!(first.text("data/inv.sql").contains("VALUES\n(1,7)"), "{}", first.text("data/inv.sql"));
    assert!(!first.text("schema.sql").contains("AUTO_INCREMENT=5"));
    assert!(first.text("counters.sql").contains("ALTER TABLE `we``ird na,me(/` AUTO_INCREMENT=503;\n"));
    let word = server.word("IDENTIFIED BY PASSWORD '*", "IDENTIFIED WITH 'caching_sha2_password' AS 0x");
    let boss = format!("CREATE USER IF NOT EXISTS `boss`@`%` {word}");
    assert!(first.text("users.sql").contains(&boss), "{}", first.text("users.sql"));
    server.sql_in("nights", "INSERT INTO zero VALUES (7)");
    let second = dump(&server.url("nights")).unwrap();
    // Other tests make users meanwhile.
    let paths = first.streams.keys().filter(|path| *path != "users.sql");
    let changed: Vec<&String> = paths.filter(|path| first.streams[*path] != second.streams[*path]).collect();
    assert_eq!(changed, ["counters.sql", "data/zero.sql"]);
}

#[test]
fn the_rows_are_those_of_the_moment_whatever_others_write_meanwhile() {
    let Some(server) = server() else { return };
    server.fresh("moment");
    server.sql_in(
        "moment",
        "CREATE TABLE a (x int); CREATE TABLE b (x int); INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)",
    );
    let meanwhile = || {
        server.sql_in("moment", "INSERT INTO a VALUES (2); DELETE FROM b");
    };
    let dumped = dump_while(&server.url("moment"), Options::default(), meanwhile).unwrap();
    assert_eq!((dumped.rows()["a"], dumped.rows()["b"]), (1, 1));
}

#[test]
fn a_table_that_is_altered_made_or_dropped_meanwhile_fails_the_dump_and_is_named() {
    let Some(server) = server() else { return };
    for (statement, table) in [
        ("ALTER TABLE a ADD COLUMN y int", "table a"),
        ("ALTER TABLE b ADD COLUMN y int DEFAULT 7", "table b"),
        ("CREATE TABLE c (x int)", "table c"),
        ("DROP TABLE b", "table b"),
        ("CREATE TRIGGER tr BEFORE INSERT ON b FOR EACH ROW SET NEW.x = 1", "trigger tr"),
    ] {
        server.fresh("drift");
        server.sql_in(
            "drift",
            "CREATE TABLE a (x int); CREATE TABLE b (x int); INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)",
        );
        let meanwhile = || {
            server.sql_in("drift", statement);
        };
        let error = dump_while(&server.url("drift"), Options::default(), meanwhile).err().expect(statement);
        assert_eq!(error.object.as_deref(), Some(table), "{statement}: {error}");
        assert_eq!(
            (error.kind(), error.database.as_deref()),
            (Kind::Unavailable, Some("drift")),
            "{statement}: {error}"
        );
    }
}

#[test]
fn a_table_that_is_emptied_behind_the_moment_is_not_taken_for_an_empty_one() {
    let Some(server) = server() else { return };
    server.fresh("emptied");
    let rows = format!("INSERT INTO a SELECT REPEAT(seq, 300) FROM {}", numbers(10000, 20000));
    server.sql_in(
        "emptied",
        &format!("CREATE TABLE a (x text); CREATE TABLE b (x int); {rows}; INSERT INTO b VALUES (1)"),
    );
    let meanwhile = || {
        server.sql_in("emptied", "TRUNCATE TABLE b");
    };
    let error = dump_while(&server.url("emptied"), Options::default(), meanwhile).err().unwrap();
    assert_eq!((error.kind(), error.code.as_deref()), (Kind::Unavailable, Some("1412")), "{error}");
    assert_eq!(error.object.as_deref(), Some("table b"), "{error}");
}

#[test]
fn a_part_of_a_database_can_be_chosen() {
    let Some(server) = server() else { return };
    odd(server, "part");
    let chosen = |options: Options| dump_while(&server.url("part"), options, || ()).unwrap();
    let few = chosen(Options { include: vec!["p*".into(), "v?".into()], ..Options::default() });
    assert_eq!(few.rows().into_keys().collect::<Vec<_>>(), ["parent", "part1"]);
    assert!(few.text("views.sql").contains("VIEW `v1`") && !few.text("routines.sql").contains("FUNCTION"));
    assert_eq!(few.manifest.selection, ["--include-table p*", "--include-table v?"]);
    let schema = chosen(Options { schema_only: true, ..Options::default() });
    assert!(schema.streams.keys().all(|path| !path.starts_with("data/")) && schema.manifest.rows() == 0);
    let data = chosen(Options { data_only: true, exclude: vec!["child".into()], ..Options::default() });
    assert!(
        data.streams.keys().all(|path| path.starts_with("data/") || path == "counters.sql"),
        "{:?}",
        data.streams.keys()
    );
    let none =
        dump_while(&server.url("part"), Options { include: vec!["nothing".into()], ..Options::default() }, || ());
    assert_eq!(none.err().unwrap().kind(), Kind::NotFound);
}

#[test]
fn what_keeps_us_out_is_named_and_no_password_is() {
    let Some(server) = server() else { return };
    server.fresh("locked");
    server.sql_in("locked", "CREATE TABLE t (x int)");
    server.user("half", "pw", &["SELECT ON locked.*"]);
    let error = |url: &str| dump(url).err().unwrap();
    let wrong = error(&server.url_of("boss", "hunter2", "locked"));
    assert_eq!(wrong.kind(), Kind::Denied);
    assert!(wrong.to_string().contains("Access denied") && !wrong.to_string().contains("hunter2"), "{wrong}");
    assert!(!wrong.to_string().contains(PASSWORD));
    let missing = error(&server.url("no such"));
    assert_eq!((missing.kind(), missing.database.as_deref()), (Kind::NotFound, Some("no such")), "{missing}");
    let half = error(&server.url_of("half", "pw", "locked"));
    assert_eq!(half.kind(), Kind::Denied);
    assert!(half.to_string().contains("GRANT TRIGGER, EVENT ON `locked`.* TO 'half'@'%'"), "{half}");
    let nobody = error("mysql://boss@127.0.0.1:1/locked");
    assert_eq!(nobody.kind(), Kind::Unavailable, "{nobody}");
}

#[test]
fn who_asks_for_tls_gets_a_server_that_proves_itself_or_nothing() {
    let Some(server) = server() else { return };
    let Some(certificate) = server.certificate() else { return println!("skipped: no openssl to make a certificate") };
    server.fresh("sealed");
    server.sql_in("sealed", "CREATE TABLE t (x int)");
    let url = server.url("sealed").replace("127.0.0.1", "localhost");
    let unknown = dump(&format!("{url}?ssl=true")).err().unwrap();
    assert_eq!(unknown.kind(), Kind::Denied, "{unknown}");
    assert!(unknown.to_string().contains("ssl-ca"), "{unknown}");
    for query in [format!("ssl-ca={}", certificate.display()), "ssl-mode=REQUIRED".into(), "ssl-mode=DISABLED".into()] {
        dump(&format!("{url}?{query}")).unwrap();
    }
    server.user("sealed", "pw", &["ALL ON sealed.*"]);
    server.sql("ALTER USER 'sealed'@'%' REQUIRE SSL");
    let url = server.url_of("sealed", "pw", "sealed").replace("127.0.0.1", "localhost");
    dump(&format!("{url}?ssl-ca={}", certificate.display())).unwrap();
    assert_eq!(dump(&format!("{url}?ssl-mode=DISABLED")).err().unwrap().kind(), Kind::Denied);
}

#[test]
fn a_connection_that_is_cut_in_mid_dump_is_a_failure_that_may_pass() {
    let Some(server) = server() else { return };
    server.fresh("severed");
    let rows = format!("INSERT INTO a SELECT REPEAT(seq, 300) FROM {}", numbers(10000, 40000));
    server.sql_in("severed", &format!("CREATE TABLE a (x text); {rows}"));
    let meanwhile = || {
        let sessions =
            server.sql("SELECT id FROM information_schema.processlist WHERE db = 'severed' AND user = 'boss'");
        assert!(!sessions.is_empty());
        server.sql(&sessions.lines().map(|id| format!("KILL {id};")).collect::<String>());
    };
    let error = dump_while(&server.url("severed"), Options::default(), meanwhile).err().unwrap();
    assert_eq!((error.kind(), error.object.as_deref()), (Kind::Unavailable, Some("table a")), "{error}");
}

#[test]
fn whoever_is_asked_to_stop_stops_in_mid_dump() {
    let Some(server) = server() else { return };
    server.fresh("stopped");
    let rows = format!("INSERT INTO a SELECT REPEAT(seq, 300) FROM {}", numbers(10000, 40000));
    server.sql_in("stopped", &format!("CREATE TABLE a (x text); {rows}"));
    let watch = watch();
    let dump = source(&server.url("stopped"), Options::default()).begin(&watch).unwrap();
    watch.stop.raise();
    let rows = dump.streams().iter().position(|planned| planned.path == "data/a.sql").unwrap();
    let error = dump.read(rows, &mut |reader: &mut dyn Read| std::io::copy(reader, &mut std::io::sink())).unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted, "{error}");
}

#[test]
fn a_user_with_few_rights_is_enough_but_what_he_cannot_see_is_never_passed_over() {
    let Some(server) = server() else { return };
    server.fresh("few");
    server.sql_in("few", "CREATE TABLE t (x int); INSERT INTO t VALUES (1),(2); CREATE PROCEDURE p() SELECT 1");
    server.user("few", "pw", &["SELECT, TRIGGER, EVENT, SHOW VIEW ON few.*"]);
    let url = server.url_of("few", "pw", "few");
    let right = server.word("SELECT ON mysql.proc", "SHOW_ROUTINE ON *.*");
    let kept = |words: &str| {
        let error = dump(&url).err().unwrap();
        let said = error.to_string();
        assert_eq!(error.kind(), Kind::Denied, "{error}");
        assert!(said.contains(words) && said.contains(&format!("GRANT {right} TO 'few'@'%'")), "{error}");
        let probe = source(&url, Options::default()).probe(&watch()).unwrap().unwrap();
        let check = probe.checks.iter().find(|check| check.name == "routines").unwrap();
        assert!(check.verdict == Verdict::Failed && check.message.contains(words), "{check:?}");
    };
    // The server does not even say that there is one.
    kept("nor whether there are any");
    // Who may run it sees its name and not its text.
    server.sql("GRANT EXECUTE ON few.* TO 'few'@'%'");
    kept("the text of 1 procedure or function");
    // Who takes tables alone need not see it.
    let tables = Options { include: vec!["*".into()], ..Options::default() };
    let probe = source(&url, tables.clone()).probe(&watch()).unwrap().unwrap();
    assert!(probe.checks.iter().all(|check| check.verdict != Verdict::Failed), "{probe:?}");
    assert_eq!(dump_while(&url, tables, || ()).unwrap().rows()["t"], 2);
    server.sql(&format!("GRANT {right} TO 'few'@'%'"));
    let dumped = dump(&url).unwrap();
    assert!(dumped.text("routines.sql").contains("PROCEDURE `p`"));
    assert!(dumped.manifest.notes.join("\n").contains("without users and grants"), "{:?}", dumped.manifest.notes);
    assert!(!dumped.streams.contains_key("users.sql"));
    // Where all names are seen and no text is missing, nothing is.
    server.sql(&format!("REVOKE {right} FROM 'few'@'%'; DROP PROCEDURE few.p"));
    dump(&url).unwrap();
}

#[test]
fn the_rights_of_a_role_count_while_it_is_at_work() {
    let Some(server) = server() else { return };
    server.fresh("by role");
    server.sql_in("by role", "CREATE TABLE t (x int); CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.x = 1");
    server.user("by role", "pw", &["SELECT, EXECUTE ON `by role`.*"]);
    server.sql("DROP ROLE IF EXISTS dump_role; CREATE ROLE dump_role; GRANT TRIGGER, EVENT ON `by role`.* TO dump_role; GRANT dump_role TO 'by role'@'%'");
    let url = server.url_of("by role", "pw", "by role");
    let error = dump(&url).err().unwrap();
    assert!(
        error.to_string().contains("lacks TRIGGER, EVENT") && error.to_string().contains("DEFAULT ROLE"),
        "{error}"
    );
    server.sql(
        server.word("SET DEFAULT ROLE dump_role FOR 'by role'@'%'", "SET DEFAULT ROLE dump_role TO 'by role'@'%'"),
    );
    assert!(dump(&url).unwrap().text("routines.sql").contains("SET NEW.x = 1"));
}

#[test]
fn a_server_behind_a_socket_is_named_by_it() {
    let Some(server) = server() else { return };
    server.fresh("by socket");
    let socket = server.socket().display().to_string();
    let dumped = dump(&format!("mysql://root@localhost/by%20socket?socket={socket}")).unwrap();
    assert_eq!((dumped.manifest.server.host, dumped.manifest.server.port), (socket, 0));
}

#[test]
fn rows_larger_than_a_statement_come_whole() {
    let Some(server) = server() else { return };
    server.fresh("large");
    server.sql_in(
        "large",
        "CREATE TABLE t (id int PRIMARY KEY, b longblob, t longtext); INSERT INTO t VALUES (1, REPEAT(x'00ff', 1500000), 'a'), \
         (2, NULL, REPEAT('it''s ', 900000)), (3, '', '')",
    );
    let dumped = dump(&server.url("large")).unwrap();
    assert_eq!(dumped.rows()["t"], 3);
    assert!(dumped.manifest.tables[0].bytes > 10_000_000);
}
