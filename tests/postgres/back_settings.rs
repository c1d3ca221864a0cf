//! Settings of a database and what hangs on them, on the way back.

use super::back::{back, drill, drop_database, unused};
use super::taken::{options as how, source, take};
use crate::servers::postgres::{another, server, watch};
use keepstone::target::dump::{DrillServer, DumpTarget, Sample};
use keepstone::target::postgres::{Destination, Phases};

#[test]
fn what_hangs_on_settings_of_the_database_comes_back_the_same() {
    let Some(server) = server() else { return };
    let address = server.create("");
    let name = &address.database;
    for setting in [
        "\"TimeZone\" = 'Asia/Tokyo'",
        "\"DateStyle\" = 'German, DMY'",
        "\"IntervalStyle\" = 'sql_standard'",
        "default_text_search_config = 'pg_catalog.german'",
        "array_nulls = off",
        "quote_all_identifiers = on",
        "bytea_output = 'escape'",
        "shop.tenant = 'north'",
        "default_transaction_read_only = on",
    ] {
        server.connect("postgres").execute(&format!("ALTER DATABASE {name} SET {setting}")).unwrap();
    }
    let mut connection = server.connect(name);
    connection.execute("SET default_transaction_read_only = off").unwrap();
    connection
        .query(
            "CREATE TABLE t (d date CHECK (d::text ~ '^[0-9]{2}[.]'), at timestamptz CHECK (at::text LIKE '% JST'), \
               tenant text CHECK (tenant = current_setting('shop.tenant')), a text[], of regclass, i interval, b bytea, \
               paid money, words text); \
             INSERT INTO t VALUES ('2026-02-01', '2026-02-01 00:30+00', 'north', '{}', 't', '-1 year -2 days +03:00', \
               '\\\\x00ff', '1234.50', 'Die Häuser'); \
             UPDATE t SET a = ARRAY[NULL, 'NULL', 'x']; \
             CREATE MATERIALIZED VIEW m AS SELECT d::text, at::text AS at, i::text, b::text, to_tsvector(words) AS v FROM t",
        )
        .unwrap();
    let seen = |database: &str| {
        let mut connection = server.connect(database);
        connection.query("SELECT m.*, t.a[1] IS NULL, a::text, t.i, paid, t.b, t.of FROM m, t").unwrap()
    };
    let taken = take(&source(&address, how()));
    let to = unused(server);
    let create = back(&to, |options| options.destination = Destination::Create);
    let restored = create.target.restore(&taken, &watch()).unwrap();
    assert_eq!((restored.rows, &restored.notes[..]), (1, &[][..]));
    assert_eq!(seen(&to.database), seen(name));
    assert_eq!(seen(name)[0][0].as_deref(), Some("01.02.2026"), "so that the test is one");
    let settings = |database: &str| {
        let sql = format!(
            "SELECT s.setconfig::text FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase \
             WHERE datname = '{database}'"
        );
        server.connect("postgres").value(&sql).unwrap()
    };
    let sorted = |database: &str| {
        let all = settings(database).unwrap();
        let mut all: Vec<_> = all.trim_matches(['{', '}']).split(',').map(str::to_owned).collect();
        all.sort();
        all
    };
    assert_eq!(sorted(&to.database), sorted(name));
    drop_database(server, &to);

    let (drill, _scratch) = drill(server);
    let tried = drill.try_out(&taken, Sample::whole(&|_| true), &watch()).unwrap();
    assert_eq!(tried.tables[0].checksum, taken.manifest.tables[0].checksum);
    assert_eq!(tried.tables[0].rows, 1);
}

#[test]
fn rows_alone_come_past_every_trigger_and_leave_it_as_it_was() {
    let Some(server) = server() else { return };
    let function =
        "CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.v := 'changed'; RETURN NEW; END$$";
    let triggers = |table: &str| {
        ["ALWAYS", "REPLICA", ""].map(|when| {
            format!(
                "CREATE TRIGGER \"t {when}\" BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION change(); \
                 ALTER TABLE {table} ENABLE {when} TRIGGER \"t {when}\";"
            )
        })
    };
    let made = format!(
        "{function}; CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE TABLE plain (v text); \
         CREATE TABLE \"H h\" (m mood, v text) PARTITION BY HASH (m); \
         CREATE TABLE h0 PARTITION OF \"H h\" FOR VALUES WITH (MODULUS 2, REMAINDER 0); \
         CREATE TABLE h1 PARTITION OF \"H h\" FOR VALUES WITH (MODULUS 2, REMAINDER 1); \
         INSERT INTO plain VALUES ('as it was'); INSERT INTO \"H h\" VALUES ('glad', 'as it was'), ('sad', 'as it was')"
    );
    let address = server.create(&made);
    server.connect(&address.database).query(&triggers("plain").concat()).unwrap();
    server.connect(&address.database).query(&triggers("\"H h\"").concat()).unwrap();
    let taken = take(&source(&address, how()));
    let to = server.create("");
    for data in [false, true] {
        let phases = Phases { pre_data: !data, data, post_data: !data };
        back(&to, |options| options.phases = phases).target.restore(&taken, &watch()).unwrap();
    }
    let mut connection = server.connect(&to.database);
    let rows = "SELECT string_agg(v, ',') FROM (SELECT v FROM plain UNION ALL SELECT v FROM \"H h\") a";
    assert_eq!(connection.value(rows).unwrap().as_deref(), Some("as it was,as it was,as it was"));
    let awake = "SELECT string_agg(tgenabled::text, '' ORDER BY tgrelid::regclass::text, tgname) FROM pg_trigger";
    let before = server.connect(&address.database).value(awake).unwrap();
    assert_eq!(connection.value(awake).unwrap(), before);
}

#[test]
fn a_database_comes_back_into_its_tablespace_or_a_note_says_why_not() {
    let Some(server) = another(&["allow_in_place_tablespaces=on"]) else { return };
    let mut connection = server.connect("postgres");
    for statement in ["CREATE TABLESPACE fast LOCATION ''", "CREATE DATABASE shop TABLESPACE fast TEMPLATE template0"] {
        connection.execute(statement).unwrap();
    }
    let taken = take(&source(&server.address("shop"), how()));
    let lies_in = |connection: &mut keepstone::db::postgres::Connection| {
        let sql =
            "SELECT spcname FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace WHERE datname = 'copy'";
        connection.value(sql).unwrap().unwrap()
    };
    let copy = back(&server.address("copy"), |options| options.destination = Destination::Create);
    assert_eq!(copy.target.restore(&taken, &watch()).unwrap().notes, Vec::<String>::new());
    assert_eq!(lies_in(&mut connection), "fast");
    for statement in ["DROP DATABASE copy", "DROP DATABASE shop", "DROP TABLESPACE fast"] {
        connection.execute(statement).unwrap();
    }
    let notes = copy.target.restore(&taken, &watch()).unwrap().notes;
    assert!(notes.concat().contains("no tablespace fast, where the database was"), "{notes:?}");
    assert_eq!(lies_in(&mut connection), "pg_default");
}

#[test]
fn foreign_keys_in_circles_are_made_by_sessions_that_do_not_wait_for_each_other() {
    let Some(server) = server() else { return };
    let pairs: String = (0..12)
        .map(|n| {
            format!(
                "CREATE TABLE a{n} (id int PRIMARY KEY, b int); CREATE TABLE b{n} (id int PRIMARY KEY, a int REFERENCES a{n}); \
                 ALTER TABLE a{n} ADD FOREIGN KEY (b) REFERENCES b{n} DEFERRABLE; SET CONSTRAINTS ALL DEFERRED; \
                 INSERT INTO a{n} SELECT i FROM generate_series(1, 300) i; INSERT INTO b{n} SELECT i, i FROM generate_series(1, 300) i; \
                 UPDATE a{n} SET b = id;"
            )
        })
        .collect();
    let address = server.create(&pairs);
    let taken = take(&source(&address, how()));
    for _ in 0..2 {
        let to = unused(server);
        let create = back(&to, |options| (options.destination, options.jobs) = (Destination::Create, 4));
        create.target.restore(&taken, &watch()).unwrap();
        let keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated";
        assert_eq!(server.connect(&to.database).value(keys).unwrap().as_deref(), Some("24"));
        drop_database(server, &to);
    }
}
