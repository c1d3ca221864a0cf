//! Talks with a real server: what comes back, and what is said when nothing does.

use crate::servers::postgres::{PASSWORD, another, server, standby_of, surroundings, watch};
use keepstone::base::{Kind, Silent, Stop};
use keepstone::db::postgres::{Address, Connection, TemporaryDatabase, Tools, facts, temporary};
use keepstone::db::{Error, Watch};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

fn failure(url: &str) -> Error {
    let address = Address::parse(url, &surroundings()).unwrap();
    let error = Connection::connect(&address, None, &watch()).err().expect("nobody gets in");
    assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    error
}

#[test]
fn statements_are_answered_and_copies_go_both_ways() {
    let Some(server) = server() else { return };
    let address = server.create("CREATE TABLE t (n int, s text)");
    let mut connection = Connection::connect(&address, None, &watch()).unwrap();
    let mut copy = connection.copy_in("COPY t FROM STDIN").unwrap();
    for n in 0..50_000 {
        writeln!(copy, "{n}\trow {n}").unwrap();
    }
    assert_eq!(copy.finish().unwrap(), 50_000);
    let mut text = String::new();
    connection.copy_out("COPY t TO STDOUT").unwrap().read_to_string(&mut text).unwrap();
    assert!(
        text.starts_with("0\trow 0\n1\t") && text.ends_with("49999\trow 49999\n") && text.lines().count() == 50_000
    );

    // One that is not finished leaves nothing, and the connection can be used.
    let mut copy = connection.copy_in("COPY t FROM STDIN").unwrap();
    copy.write_all(&b"1\tx\n".repeat(50_000)).unwrap();
    drop(copy);
    assert_eq!(connection.value("SELECT count(*) FROM t").unwrap().as_deref(), Some("50000"));
    // Neither does one that is not read to its end keep anybody.
    let mut copy = connection.copy_out("COPY (SELECT generate_series(1, 100000000)) TO STDOUT").unwrap();
    copy.read_exact(&mut [0; 1000]).unwrap();
    drop(copy);
    assert_eq!(connection.query("SELECT 1, NULL; SELECT 2, NULL").unwrap(), [[Some("2".to_owned()), None]]);
    assert_eq!(connection.execute("UPDATE t SET s = '' WHERE n < 7").unwrap(), 7);

    let error = connection.query("SELECT * FROM nothing").unwrap_err();
    assert!(error.is("42P01") && error.to_string().contains(&address.database), "{error}");
    let mut copy = connection.copy_in("COPY t FROM STDIN").unwrap();
    copy.write_all(b"x\ty\n").unwrap();
    assert!(copy.finish().unwrap_err().is("22P02"));
    // What goes wrong between two rows is an error, never an end.
    let mut copy =
        connection.copy_out("COPY (SELECT 1 / (30000 - n) FROM generate_series(1, 40000) n) TO STDOUT").unwrap();
    assert!(std::io::copy(&mut copy, &mut std::io::sink()).is_err());
    assert!(copy.failure().unwrap().is("22012"));
    drop(copy);
    connection.execute("DO $$ BEGIN RAISE WARNING 'look'; END $$").unwrap();
    assert_eq!(connection.notices(), ["WARNING: look"]);
}

#[test]
fn who_cannot_get_in_is_told_why() {
    let Some(server) = server() else { return };
    let url = server.url("postgres");
    let wrong = failure(&url.replace("secret", "secret2"));
    assert!(wrong.kind() == Kind::Denied && wrong.is("28P01"), "{wrong}");
    let none = failure(&format!("postgresql://postgres@127.0.0.1:{}/postgres", server.port));
    assert!(none.to_string().contains("wants a password") && none.kind() == Kind::Denied, "{none}");
    let database = failure(&server.url("no_such"));
    assert!(database.kind() == Kind::NotFound && database.to_string().contains("\"no_such\""), "{database}");
    let port = failure("postgresql://x:secret@127.0.0.1:1/postgres");
    assert_eq!(port.to_string(), "127.0.0.1:1: connection refused: no server listens there");
    assert_eq!(port.kind(), Kind::Unavailable);
    let host = failure("postgresql://x:secret@no-such-host.invalid/postgres");
    assert!(host.to_string().contains("no-such-host.invalid is not known"), "{host}");
    let socket = failure("host=/nowhere dbname=x password=secret");
    assert!(socket.to_string().contains("no socket /nowhere/.s.PGSQL.5432"), "{socket}");
}

#[test]
fn tls_is_verified_when_it_is_asked_for() {
    let Some(server) = server() else { return };
    if server.connect("postgres").value("SHOW ssl").unwrap().as_deref() == Some("off") {
        // Some builds have no TLS: then there is nothing to see.
        let has_openssl = std::process::Command::new("openssl").arg("version").output().is_ok();
        if !has_openssl {
            println!("skipped: there is no openssl to make a certificate with");
        }
        return;
    }
    let own = server.folder.join("data/server.crt");
    let readable = tempfile::NamedTempFile::new().unwrap();
    if std::fs::copy(&own, readable.path()).is_err() {
        return println!("skipped: the server's certificate cannot be read");
    }
    let root = format!("sslrootcert={}", readable.path().display());
    let named = server.url("postgres").replace("127.0.0.1", "localhost");
    let is_encrypted = |url: &str| {
        let address = Address::parse(url, &surroundings()).unwrap();
        let mut connection = Connection::connect(&address, None, &watch()).unwrap();
        connection.value("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").unwrap().as_deref() == Some("t")
    };
    let unknown = failure(&format!("{named}?sslmode=require"));
    assert!(unknown.to_string().contains("sslrootcert=FILE") && unknown.kind() == Kind::Denied, "{unknown}");
    assert!(is_encrypted(&format!("{named}?sslmode=no-verify")));
    assert!(is_encrypted(&named));
    assert!(!is_encrypted(&format!("{named}?sslmode=disable")));
    assert!(is_encrypted(&format!("{named}?sslmode=require&{root}")));
    let another_name = failure(&format!("{}?sslmode=verify-full&{root}", server.url("postgres")));
    assert!(another_name.to_string().contains("name this host"), "{another_name}");
    assert!(is_encrypted(&format!("{}?sslmode=verify-ca&{root}", server.url("postgres"))));
}

#[test]
fn a_wait_ends_when_somebody_asks_to_stop() {
    let Some(server) = server() else { return };
    let stop = Stop::new();
    let watch = Watch { stop: stop.clone(), monitor: Arc::new(Silent) };
    let mut connection = Connection::connect(&server.address("postgres"), None, &watch).unwrap();
    let process = connection.backend().unwrap();
    let waiting = thread::spawn(move || connection.query("SELECT pg_sleep(600)").unwrap_err());
    let running = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {process} AND state = 'active'");
    let mut look = server.connect("postgres");
    until(|| look.value(&running).unwrap().as_deref() == Some("1"));
    stop.raise();
    assert_eq!(waiting.join().unwrap().kind(), Kind::Interrupted);
    until(|| look.value(&running).unwrap().as_deref() == Some("0"));
}

#[test]
fn a_lost_connection_says_why() {
    let Some(server) = server() else { return };
    let mut connection = Connection::connect(&server.address("postgres"), None, &watch()).unwrap();
    let process = connection.backend().unwrap();
    server.connect("postgres").query(&format!("SELECT pg_terminate_backend({process}, 5000)")).unwrap();
    let error = connection.query("SELECT 1").unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("administrator command"), "{error}");

    let dying = another(&[]).unwrap();
    let mut connection = Connection::connect(&dying.address("postgres"), None, &watch()).unwrap();
    let mut copy = connection.copy_out("COPY (SELECT generate_series(1, 100000000)) TO STDOUT").unwrap();
    copy.read_exact(&mut [0; 100]).unwrap();
    drop(dying);
    let failed = std::io::copy(&mut copy, &mut std::io::sink());
    assert!(failed.is_err());
    let error = copy.failure().unwrap();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
}

#[test]
fn facts_are_told_of_server_and_database() {
    let Some(server) = server() else { return };
    let address =
        server.create("CREATE TABLE t (n int); CREATE ROLE reader LOGIN; ALTER TABLE t ENABLE ROW LEVEL SECURITY;");
    let mut connection = Connection::connect(&address, None, &watch()).unwrap();
    let database = &address.database;
    connection
        .execute(&format!(
            "COMMENT ON DATABASE {database} IS 'mine'; ALTER DATABASE {database} SET DateStyle = 'German, DMY'"
        ))
        .unwrap();
    let facts = facts::ServerFacts::read(&mut connection).unwrap();
    assert!(facts.superuser && !facts.standby && facts.identity.len() > 15 && facts.major() >= 9, "{facts:?}");
    let of_database = facts::DatabaseFacts::read(&mut connection, facts.version_number).unwrap();
    let properties = of_database.properties();
    assert_eq!((properties["encoding"].as_str(), properties["owner"].as_str()), ("UTF8", "postgres"));
    assert_eq!((properties["comment"].as_str(), properties["collate"].as_str()), ("mine", "C"));
    assert_eq!(properties["settings"], "\tDateStyle=German, DMY");
    assert!(facts::databases(&mut connection).unwrap().iter().any(|listed| listed.name == *database));
    assert_eq!(facts::extensions(&mut connection).unwrap()[0].0, "plpgsql");
    assert_eq!(facts::unreadable(&mut connection).unwrap(), [""; 0]);
    assert_eq!(facts::hidden_by_row_security(&mut connection).unwrap(), [""; 0]);
    connection.execute("SET ROLE reader").unwrap();
    assert_eq!(facts::unreadable(&mut connection).unwrap(), ["public.t"]);
    connection.execute("RESET ROLE; GRANT SELECT ON t TO reader; SET ROLE reader").unwrap();
    assert_eq!(facts::hidden_by_row_security(&mut connection).unwrap(), ["public.t"]);
    assert!(!facts::is_pooled(&address, &watch()).unwrap());
    connection.execute("RESET ROLE; DROP OWNED BY reader; DROP ROLE reader").unwrap();
    let tools = Tools::find(facts.version_number, None, &surroundings(), &watch()).unwrap();
    assert!(tools.major >= facts.major());
}

#[test]
fn temporary_databases_go_away_and_leftovers_are_found() {
    let Some(server) = server() else { return };
    let address = server.address("postgres");
    let none = BTreeMap::new();
    let temporary = TemporaryDatabase::create(&address, &none, &watch()).unwrap();
    let name = temporary.name().to_owned();
    let there = |name: &str| {
        let sql = format!("SELECT 1 FROM pg_database WHERE datname = '{name}'");
        server.connect("postgres").value(&sql).unwrap().is_some()
    };
    let _in_the_way = Connection::connect(temporary.address(), None, &watch()).unwrap();
    assert!(there(&name) && !temporary::leftovers(temporary::PREFIX, &address, &watch()).unwrap().contains(&name));
    drop(temporary);
    assert!(!there(&name));

    server.connect("postgres").execute("CREATE DATABASE keepstone_drill_00000000000000ff").unwrap();
    assert_eq!(
        temporary::leftovers(temporary::PREFIX, &address, &watch()).unwrap(),
        ["keepstone_drill_00000000000000ff"]
    );
    temporary::drop_leftover(&address, "keepstone_drill_00000000000000ff", &watch()).unwrap();
    assert_eq!(temporary::drop_leftover(&address, "postgres", &watch()).unwrap_err().kind(), Kind::Refused);
    TemporaryDatabase::create(&address, &none, &watch()).unwrap().remove().unwrap();
    assert!(!PASSWORD.is_empty());
}

fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..200 {
        if done() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("it did not happen within 10 s");
}

#[test]
fn the_end_of_a_servers_certificate_is_known_and_a_server_without_one_has_none() {
    use keepstone::db::certificate::{Before, ends};
    let Some(server) = server() else { return };
    let limit = std::time::Duration::from_secs(60);
    let speaks = server.connect("postgres").value("SHOW ssl").unwrap().as_deref() == Some("on");
    let known = ends("127.0.0.1", server.port, Before::Postgres, limit).unwrap();
    // The tests give it ten years.
    let in_years = |at: keepstone::base::Timestamp| {
        (at.as_second() - keepstone::base::Clock::System.now().as_second()) / 31_557_600
    };
    assert_eq!(known.map(in_years), speaks.then_some(9));
    let Some(plain) = another(&["ssl=off"]) else { return };
    assert_eq!(ends("127.0.0.1", plain.port, Before::Postgres, limit).unwrap(), None);
}

#[test]
fn a_replica_that_stands_still_is_behind_and_one_that_has_caught_up_is_not() {
    let Some(primary) = another(&[]) else { return };
    let standby = standby_of(&primary);
    let (mut there, mut here) = (primary.connect("postgres"), standby.connect("postgres"));
    // Each look takes a while; a replica that never comes to this point fails the test.
    let until = |connection: &mut Connection, what: &str, place: &str| {
        let sql = format!("SELECT pg_last_wal_{what}_lsn() >= '{place}'");
        let comes = (0..1_000_000).any(|_| connection.value(&sql).unwrap().as_deref() == Some("t"));
        assert!(comes, "{what} {place}");
    };
    let mut write = |sql: &str| {
        there.execute(sql).unwrap();
        there.value("SELECT pg_switch_wal()").unwrap().unwrap()
    };
    let begun = write("CREATE TABLE seen (i int)");
    until(&mut here, "replay", &begun);
    here.execute("SELECT pg_wal_replay_pause()").unwrap();
    let later = write("INSERT INTO seen VALUES (1)");
    until(&mut here, "receive", &later);
    assert!(facts::replication_lag_seconds(&mut here).unwrap() > 0.0);
    here.execute("SELECT pg_wal_replay_resume()").unwrap();
    // The primary may write something by itself meanwhile: one look at which all is replayed is enough.
    assert!((0..1_000_000).any(|_| facts::replication_lag_seconds(&mut here).unwrap() == 0.0));
    assert!(facts::replication_lag_seconds(&mut primary.connect("postgres")).unwrap() >= 0.0);
}
