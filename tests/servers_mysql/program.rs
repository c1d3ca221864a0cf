//! Ways back to a real MariaDB server in the program.

use super::dumps::odd;
use super::server::{PASSWORD, Server, another, server};
use crate::program::{CHEAP, Place};

/// A repository with a snapshot of an odd database, dumped as `shop`.
fn shop(server: &Server, database: &str) -> Place {
    odd(server, database);
    let place = Place::new();
    let url = format!("shop={}", server.url(database));
    place.run(&[&["backup", "--init"], &CHEAP[..], &["--mysql", &url]].concat()).expect(0);
    place
}

#[test]
fn a_snapshot_goes_back_to_a_server_by_name() {
    let Some(server) = server() else { return };
    let place = shop(server, "way there");
    server.sql("DROP DATABASE IF EXISTS `way back`");
    let url = server.url("way back");
    let run = place.run(&["restore", "latest", "--to-mysql", &url]).expect(1);
    assert!(run.err.contains("--create") && run.err.contains("way back"), "{}", run.err);
    let run = place.run(&["restore", "latest", "--to-mysql", &url, "--create", "--validate-only"]).expect(0);
    assert!(run.text().contains("make database way back"), "{}", run.text());
    assert!(!server.sql("SHOW DATABASES").contains("way back"));
    let run = place.run(&["restore", "latest", "--to-mysql", &url, "--create"]).expect(0);
    assert!(run.text().contains("in a new database") && run.text().contains(server.family.product()), "{}", run.text());
    assert!(!run.text().contains(PASSWORD) && !run.err.contains(PASSWORD));
    assert_eq!(
        server.dumped("way there").replace("'way there'", "''"),
        server.dumped("way back").replace("'way back'", "''")
    );
    let run = place.run(&["restore", "latest", "--to-mysql", &url]).expect(11);
    assert!(run.err.contains("not empty") && run.err.contains("--drop-existing"), "{}", run.err);
    let again =
        ["restore", "latest", "--to-mysql", &url, "--drop-existing", "--confirm-destructive", "way back", "--json"];
    let object = place.run(&again).expect(0).json().remove(0);
    assert_eq!((&object["kind"], &object["replaced"]), (&"mysql".into(), &true.into()), "{object}");
    let one = ["restore", "latest", "--to-mysql", &url, "--table", "part1", "--phase", "data"];
    assert!(place.run(&one).expect(11).err.contains("holds rows already"));
    server.sql_in("way back", "DELETE FROM part1");
    assert!(place.run(&one).expect(0).text().contains("1 table, 3 rows"));
    let data = ["restore", "latest", "--to-mysql", &server.url("not_made"), "--create", "--phase", "data"];
    assert!(place.run(&data).expect(2).err.contains("--create wants --phase pre-data as well"));
    let production = place.run(&["restore", "latest", "--to-mysql", &server.url("my_prod"), "--create"]).expect(11);
    assert!(production.err.contains("*prod*"), "{}", production.err);
    for (option, value) in [("--schema", "x"), ("--programs", "x")] {
        place.run(&["restore", "latest", "--to-mysql", &url, option, value]).expect(2);
    }
    server.sql("DROP DATABASE `way back`");
}

#[test]
fn users_and_grants_go_back_when_asked_for_and_those_that_are_there_keep_their_passwords() {
    // What others are granted meanwhile is none of this.
    let Some(server) = another() else { return };
    server.fresh("tenants");
    server.sql_in("tenants", "CREATE TABLE t (x int); INSERT INTO t VALUES (1)");
    server.user("tenant one", "first secret", &["SELECT ON `tenants`.*"]);
    server.user("tenant two", "old secret", &["SELECT ON `tenants`.*"]);
    server.sql("DROP ROLE IF EXISTS tenant_role; CREATE ROLE tenant_role; GRANT INSERT ON tenants.* TO tenant_role; GRANT tenant_role TO 'tenant one'@'%'");
    let place = Place::new();
    place.run(&[&["backup", "--init"], &CHEAP[..], &["--mysql", &server.url("tenants")]].concat()).expect(0);
    server.sql("DROP USER 'tenant one'@'%'; DROP ROLE tenant_role; DROP DATABASE tenants");
    server.user("tenant two", "new secret", &[]);
    let url = server.url("tenants");
    let run = place.run(&["restore", "latest", "--to-mysql", &url, "--create", "--globals"]).expect(0);
    assert!(run.err.contains("users and roles were made"), "{}", run.err);
    assert!(run.err.contains("kept as they are") && run.err.contains("tenant two@%"), "{}", run.err);
    assert!(run.text().contains("globals") && !run.err.contains("was not taken"), "{}{}", run.text(), run.err);
    for secret in ["first secret", "IDENTIFIED", "PASSWORD"] {
        assert!(!run.err.contains(secret) && !run.text().contains(secret), "{}", run.err);
    }
    // With the old password, the rights on the table, and the role.
    server.sql_as(
        "tenant one",
        "first secret",
        "SELECT * FROM tenants.t; SET ROLE tenant_role; INSERT INTO tenants.t VALUES (2)",
    );
    server.sql_as("tenant two", "new secret", "SELECT 1");
    // Whoever was there may be left over from an attempt that failed: the grants are made whole.
    let added = run.err.lines().find(|line| line.contains("granted what they lacked of the dump's grants: "));
    assert!(added.is_some_and(|line| line.contains("tenant two@%")), "{}", run.err);
    server.sql_as("tenant two", "new secret", "SELECT * FROM tenants.t");
    server.sql("REVOKE SELECT ON tenants.* FROM 'tenant two'@'%'; REVOKE tenant_role FROM 'tenant one'@'%'; DROP DATABASE tenants");
    let run = place.run(&["restore", "latest", "--to-mysql", &url, "--create", "--globals"]).expect(0);
    assert!(run.err.contains("grants: tenant one@%, tenant two@%"), "{}", run.err);
    server.sql_as("tenant one", "first secret", "SET ROLE tenant_role");
    server.sql("DROP DATABASE tenants");
    let run = place.run(&["restore", "latest", "--to-mysql", &url, "--create", "--globals"]).expect(0);
    assert!(!run.err.contains("what they lacked"), "{}", run.err);
}

#[test]
fn every_database_of_a_server_brings_the_users_and_nobody_is_made_who_would_keep_the_administrator_out() {
    let Some(server) = another() else { return };
    server.sql("CREATE DATABASE first; CREATE DATABASE second; CREATE TABLE second.t (x int)");
    server.user("teller", "pw", &["SELECT ON second.*"]);
    server.sql("CREATE USER 'boss'@'127.0.0.1' IDENTIFIED BY 'other'; CREATE USER ''@'localhost'; GRANT ALL ON *.* TO 'boss'@'127.0.0.1'");
    let shadows = "DROP USER 'boss'@'127.0.0.1'; DROP USER ''@'localhost'";
    let place = Place::new();
    let url = server.url_of("boss", "other", "");
    place.run(&[&["backup", "--init"], &CHEAP[..], &["--mysql", &url, "--all-databases"]].concat()).expect(0);
    server.sql(&format!("{shadows}; DROP USER 'teller'@'%'; DROP DATABASE second"));
    let url = server.url("second");
    let run = place.run(&["restore", "latest", "--database", "second", "--to-mysql", &url, "--create", "--globals"]);
    let run = run.expect(0);
    assert!(run.err.contains("would get in as them instead: @localhost, boss@127.0.0.1"), "{}", run.err);
    server.sql_as("teller", "pw", "SELECT * FROM second.t");
    server.sql_as("boss", PASSWORD, "SELECT 1");
}

#[test]
fn what_a_dump_cannot_hold_is_told_by_the_backup_too() {
    let Some(server) = server() else { return };
    odd(server, "losses");
    let place = Place::new();
    let run = place.run(&[&["backup", "--init"], &CHEAP[..], &["--mysql", &server.url("losses")]].concat()).expect(0);
    let told = |words: &str| run.err.contains(&format!("/losses: {words}"));
    assert!(told("FLOAT columns have six digits in every dump, the rest is lost: my1"), "{}", run.err);
    assert_eq!(told("without their history: vers"), server.is_mariadb(), "{}", run.err);
}

#[test]
fn a_snapshot_is_drilled_and_a_difference_is_told() {
    let Some(server) = server() else { return };
    let place = shop(server, "to drill");
    let url = server.url("");
    let own = place.run(&["drill", "latest", "--server", &url]).expect(11);
    assert!(own.err.contains("--allow-source-server"), "{}", own.err);
    let drill = ["drill", "latest", "--server", &url, "--allow-source-server", "--full"];
    let run = place.run(&drill).expect(0);
    assert!(run.text().contains("as promised") && run.text().contains("database to drill"), "{}", run.text());
    let object = place.run(&[&drill[..], &["--json"]].concat()).expect(0).json().remove(0);
    assert_eq!(
        (&object["outcome"], &object["databases"][0]["left_behind"]),
        (&"same".into(), &serde_json::Value::Null)
    );
}

#[test]
fn a_dump_is_written_as_one_stream_of_sql() {
    let Some(server) = server() else { return };
    let place = shop(server, "as sql");
    let run = place.run(&["dump", "latest", "--as", "sql", "--database", "shop"]).expect(0);
    server.fresh("as sql back");
    server.sql_in("as sql back", std::str::from_utf8(&run.out).unwrap());
    assert_eq!(
        server.dumped("as sql").replace("'as sql'", "''"),
        server.dumped("as sql back").replace("'as sql back'", "''")
    );
    place.run(&["dump", "latest", "--as", "archive"]).expect(2);
}

#[test]
fn what_was_granted_on_tables_columns_and_routines_comes_back_with_them() {
    let Some(server) = another() else { return };
    let database = "grants on";
    server.fresh(database);
    server.user("clerk", "pw", &[]);
    server.sql_in(
        database,
        "CREATE TABLE t (x int); CREATE TABLE u (a int, b int); CREATE DEFINER='clerk'@'%' PROCEDURE p() SELECT 1; \
         CREATE DEFINER='clerk'@'%' VIEW v AS SELECT x FROM t; GRANT SELECT ON t TO clerk; GRANT SELECT ON v TO clerk; \
         GRANT SELECT (a), UPDATE (b) ON u TO clerk; GRANT EXECUTE ON PROCEDURE p TO clerk; GRANT INSERT ON *.* TO clerk",
    );
    let grants = || -> Vec<String> {
        let mut grants: Vec<String> = server.sql("SHOW GRANTS FOR clerk").lines().map(str::to_owned).collect();
        grants.sort();
        grants
    };
    let before = grants();
    assert_eq!(before.len(), 5, "{before:?}");
    let place = Place::new();
    let url = server.url(database);
    place.run(&[&["backup", "--init"], &CHEAP[..], &["--mysql", &url]].concat()).expect(0);
    server.sql(&format!("DROP USER clerk; DROP DATABASE `{database}`"));
    let run = place.run(&["restore", "latest", "--to-mysql", &url, "--create", "--globals"]).expect(0);
    assert!(!run.err.contains("to clerk@% was not taken"), "{}", run.err);
    assert_eq!(grants(), before, "{}", run.err);
    server.sql("DROP USER clerk");
}

#[test]
fn definitions_alone_are_drilled_with_a_sequence_that_was_used() {
    let Some(server) = server().filter(|server| server.is_mariadb()) else { return };
    let database = "schema only";
    server.fresh(database);
    server.sql_in(
        database,
        "CREATE SEQUENCE s START WITH 5 INCREMENT BY -8 MINVALUE -999 MAXVALUE 99 NOCACHE; SELECT NEXTVAL(s), NEXTVAL(s); \
         CREATE TABLE t (a int AUTO_INCREMENT PRIMARY KEY); INSERT INTO t VALUES (41)",
    );
    let place = Place::new();
    let url = server.url(database);
    place.run(&[&["backup", "--init", "--schema-only"], &CHEAP[..], &["--mysql", &url]].concat()).expect(0);
    let run = place.run(&["drill", "latest", "--server", &server.url(""), "--allow-source-server"]).expect(0);
    assert!(run.text().contains("as promised"), "{}", run.text());
    let back = "schema only back";
    server.sql(&format!("DROP DATABASE IF EXISTS `{back}`"));
    place.run(&["restore", "latest", "--to-mysql", &server.url(back), "--create"]).expect(0);
    assert_eq!(server.sql_in(back, "SELECT NEXTVAL(s)"), server.sql_in(database, "SELECT NEXTVAL(s)"));
    assert_eq!(server.sql_in(back, "INSERT INTO t VALUES (NULL); SELECT a FROM t").trim(), "1");
}

#[test]
fn events_of_a_database_with_quotes_in_its_name_are_taken() {
    let Some(server) = server() else { return };
    for (number, database) in ["it's here", "\"quoted\"", "back\\slash"].into_iter().enumerate() {
        server.fresh(database);
        server.sql_in(
            database,
            "CREATE TABLE t (a int); CREATE PROCEDURE p() SELECT 1; CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET @a = 1; \
             SET time_zone = '+03:00', sql_mode = 'ANSI_QUOTES'; \
             CREATE EVENT plain ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' DISABLE COMMENT 'it''s' DO INSERT INTO t VALUES (1);\n\
             DELIMITER $$\nCREATE EVENT `ev;;``ent` ON SCHEDULE AT '2037-01-01 00:00:00' DO BEGIN SELECT ';;', 'ü'; END$$\nDELIMITER ;\n",
        );
        let place = Place::new();
        let url = format!("shop={}", server.url(database));
        place.run(&[&["backup", "--init"], &CHEAP[..], &["--mysql", &url]].concat()).expect(0);
        let back = format!("events 'back' {number}");
        server.sql(&format!("DROP DATABASE IF EXISTS `{back}`"));
        place.run(&["restore", "latest", "--to-mysql", &server.url(&back), "--create"]).expect(0);
        let shown = |database: &str| {
            server.sql_in(database, "SHOW CREATE EVENT plain; SHOW CREATE EVENT `ev;;``ent`; SHOW CREATE PROCEDURE p")
        };
        assert!(shown(database).contains("+03:00"));
        assert_eq!(shown(&back), shown(database));
        server.sql(&format!("DROP DATABASE `{back}`"));
    }
}

#[test]
fn a_server_that_gives_no_more_than_some_rows_is_refused_and_its_own_databases_are_left_alone() {
    let Some(server) = another() else { return };
    server.fresh("short");
    server.sql_in("short", "CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2), (3)");
    let place = Place::with_snapshot();
    let url = server.url("short");
    place.run(&["backup", "--mysql", &url]).expect(0);
    for limit in [0, 2] {
        server.sql_in("short", &format!("SET GLOBAL sql_select_limit={limit}"));
        let run = place.run(&["backup", "--mysql", &url, "--attempts", "1"]).expect(1);
        assert!(run.err.contains("sql_select_limit"), "{}", run.err);
        let probe = place.run(&["probe", &url]).expect(1);
        assert!(probe.text().contains("sql_select_limit"), "{}", probe.text());
    }
    server.sql_in("short", "SET GLOBAL sql_select_limit=18446744073709551615");
    for name in ["mysql", "SYS"] {
        let to = server.url(name);
        let drop = ["restore", "latest", "--to-mysql", &to, "--drop-existing", "--confirm-destructive", name];
        assert!(place.run(&drop).expect(11).err.contains("belongs to the server"));
    }
}

#[test]
fn the_mode_of_a_server_changes_nothing_of_what_it_is_asked() {
    let Some(server) = another() else { return };
    server.fresh("moody");
    server.sql_in("moody", "CREATE TABLE t (x int); INSERT INTO t VALUES (1)");
    server.sql_in(
        "moody",
        "CREATE USER 'few'@'%' IDENTIFIED BY 'pw'; GRANT SELECT, TRIGGER, SHOW VIEW, EVENT ON moody.* TO 'few'@'%'; \
         SET GLOBAL sql_mode='ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH'",
    );
    let place = Place::with_snapshot();
    place.run(&["backup", "--mysql", &server.url("moody")]).expect(0);
    let users = place.run(&["dump", "latest:/@mysql/moody/users.sql"]).expect(0).text();
    assert!(users.contains("few") && users.contains("ON `moody`.* TO"), "{users}");
    let probe = place.run(&["probe", &server.url_of("few", "pw", "moody")]).text();
    assert!(probe.contains("few@% has the rights that a dump needs") && !probe.contains("lacks"), "{probe}");
}
