//! Imported dumps back to servers: what goes back, what is refused, and that a failure leaves nothing behind.

use super::{back_up, gzip};
use crate::program::Place;
use crate::servers::postgres::{self, Server};
use crate::servers_mysql::server::server as mariadb;
use std::fs;

const SHOP: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text); \
    INSERT INTO orders SELECT g, 'row ' || g FROM generate_series(1, 500) g; \
    CREATE TABLE \"odd one\" (a text); INSERT INTO \"odd one\" VALUES (E'\\\\! touch x'), (NULL)";

/// A place with a snapshot of dumps of a database.
fn place_with_dumps(server: &Server) -> Place {
    let address = server.create(SHOP);
    let place = Place::new();
    let folder = place.path("source");
    fs::create_dir(&folder).unwrap();
    for (name, option) in [("shop.dump", "-Fc"), ("shop.tar", "-Ft"), ("shop.sql", "-Fp")] {
        let mut command = server.program("pg_dump", &address.database);
        assert!(command.arg(option).arg("-f").arg(folder.join(name)).status().unwrap().success());
    }
    let sql = fs::read(folder.join("shop.sql")).unwrap();
    // As an older pg_dump wrote it, and one that lacks its end, and one that fails half way.
    let text = String::from_utf8(sql.clone()).unwrap();
    let older = text.lines().filter(|line| !line.contains("restrict")).map(|line| format!("{line}\n"));
    let older: String = older.collect();
    fs::write(folder.join("older.sql"), &older).unwrap();
    fs::write(folder.join("cut.sql"), &sql[..sql.len() / 2]).unwrap();
    let failing = older.replace(
        "--\n-- PostgreSQL database dump complete",
        "SELECT nonsense;\n\n--\n-- PostgreSQL database dump complete",
    );
    fs::write(folder.join("failing.sql"), &failing).unwrap();
    // As pg_dump writes large objects: in a transaction of their own.
    let halfway = failing.replace("SELECT nonsense;", "BEGIN;\n\nCOMMIT;\n\nSELECT nonsense;");
    fs::write(folder.join("halfway.sql"), halfway).unwrap();
    let evil = older.replace("SET lock_timeout", "\\! touch evil\nSET lock_timeout");
    fs::write(folder.join("evil.sql"), evil).unwrap();
    // With the dump's own restriction: what comes before it, behind it, and beside its end.
    for (name, text) in [
        ("early.sql", format!("\\! touch evil\n{text}")),
        ("late.sql", format!("{text}\n\\! touch evil\n")),
        ("last.sql", format!("{text}\n\\! touch evil")),
        ("beside.sql", text.replacen("\n\\unrestrict", "\nSELECT 1; \\unrestrict", 1)),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    fs::write(folder.join("shop.sql.gz"), gzip(&sql)).unwrap();
    back_up(&place, &[]).expect(3);
    place
}

fn named(place: &Place, name: &str) -> String {
    format!("latest:{}/{name}", place.path("source").display())
}

fn counted(server: &Server, database: &str) -> Vec<Option<String>> {
    let sql = "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM \"odd one\")";
    server.connect(database).query(sql).unwrap().remove(0)
}

#[test]
fn dumps_go_back_from_the_snapshot_and_sql_only_if_it_is_trusted() {
    let Some(server) = postgres::server() else { return };
    let place = place_with_dumps(server);
    let wanted = [Some("500".to_owned()), Some("2".to_owned())];
    for (number, (name, more)) in [
        ("shop.dump", &[][..]),
        ("shop.tar", &["--no-owner"]),
        ("shop.sql", &["--trust-sql"]),
        ("older.sql", &["--trust-sql", "--no-analyze"]),
    ]
    .into_iter()
    .enumerate()
    {
        let database = format!("imported_{number}");
        let url = server.url(&database);
        let file = named(&place, name);
        let args = [&["restore", &file, "--to-postgres", &url, "--create", "--json"], more].concat();
        let run = place.run(&args).expect(0);
        let report = run.json().remove(0);
        assert_eq!((&report["rows"], &report["created"]), (&502.into(), &true.into()), "{report}");
        assert_eq!(counted(server, &database), wanted, "{name}");
    }
    // Into one that is there: all or nothing, since what is there already is in the way.
    let url = server.url("imported_0");
    let run = place.run(&["restore", &named(&place, "shop.dump"), "--to-postgres", &url]).expect(1);
    assert!(run.err.contains("already exists"), "{}", run.err);
    assert_eq!(counted(server, "imported_0"), wanted);
    // SQL might drop what it makes anew.
    let sql = ["restore", &named(&place, "shop.sql"), "--to-postgres", &url, "--trust-sql"];
    let run = place.run(&sql).expect(11);
    assert!(
        run.err.contains("table public.odd one") && run.err.contains("--confirm-destructive imported_0"),
        "{}",
        run.err
    );
    let run = place.run(&[&sql[..], &["--confirm-destructive", "imported_0"]].concat()).expect(1);
    assert!(run.err.contains("already exists"), "{}", run.err);
    assert_eq!(counted(server, "imported_0"), wanted);
    let text = place.run(&["restore", &named(&place, "shop.dump"), "--to-postgres", &url, "--validate-only"]).expect(0);
    assert!(text.text().contains("nothing was written"), "{}", text.text());
}

#[test]
fn what_is_not_whole_not_trusted_or_not_a_dump_is_refused_before_the_server_is_touched() {
    let Some(server) = postgres::server() else { return };
    let place = place_with_dumps(server);
    let url = server.url("never_made");
    for (name, more, code, said) in [
        ("shop.sql", &[][..], 11, "--trust-sql"),
        ("cut.sql", &["--trust-sql"], 11, "it ends in the rows of"),
        ("shop.sql.gz", &["--trust-sql"], 11, "lies within gzip"),
        ("shop.dump", &["--table", "orders"], 2, "--table is for dumps"),
        ("", &[], 2, "is a directory"),
        ("failing.sql", &["--trust-sql"], 1, "nonsense"),
        ("evil.sql", &["--trust-sql"], 1, "restricted"),
        ("early.sql", &["--trust-sql"], 1, "restricted"),
        ("late.sql", &["--trust-sql"], 1, "lifts the restriction"),
        ("last.sql", &["--trust-sql"], 11, "is truncated"),
        ("beside.sql", &["--trust-sql"], 1, "lifts the restriction"),
    ] {
        let file = named(&place, name);
        let args = [&["restore", file.trim_end_matches('/'), "--to-postgres", &url, "--create"], more].concat();
        let run = place.run(&args).expect(code);
        assert!(run.err.contains(said), "{name}: {}", run.err);
    }
    assert!(!place.path("evil").exists(), "a dump ran a command");
    let tables = "SELECT count(*) FROM pg_class WHERE relname = 'orders'";
    for (name, said, kept) in [("failing.sql", "; nothing was kept", "0"), ("halfway.sql", "before it was kept", "1")] {
        let file = named(&place, name);
        let used = server.create("").database;
        let args = ["restore", &file, "--to-postgres", &server.url(&used), "--trust-sql"];
        let run = place.run(&args).expect(1);
        assert!(run.err.contains(said), "{name}: {}", run.err);
        assert_eq!(server.connect(&used).value(tables).unwrap().as_deref(), Some(kept), "{name}");
    }
    let left = "SELECT datname FROM pg_database WHERE datname = 'never_made'";
    assert_eq!(server.connect("postgres").value(left).unwrap(), None);
    // A protected name.
    let url = server.url("production");
    let file = named(&place, "shop.dump");
    let run = place.run(&["restore", &file, "--to-postgres", &url, "--create"]).expect(11);
    assert!(run.err.contains("production"), "{}", run.err);
}

#[test]
fn dumps_of_mariadb_go_back_from_the_snapshot() {
    let Some(server) = mariadb() else { return };
    server.fresh("imported_from");
    server
        .sql_in("imported_from", "CREATE TABLE t (a int, b varchar(20)); INSERT INTO t VALUES (1, 'x;''y'), (2, NULL)");
    let place = Place::new();
    fs::create_dir(place.path("source")).unwrap();
    fs::write(place.path("source/blog.sql"), server.dumped("imported_from")).unwrap();
    back_up(&place, &[]).expect(0);
    let file = named(&place, "blog.sql");
    server.sql("DROP DATABASE IF EXISTS imported_to");
    let url = server.url("imported_to");
    let refused = place.run(&["restore", &file, "--to-mysql", &url, "--create"]).expect(11);
    assert!(refused.err.contains("--trust-sql"), "{}", refused.err);
    let look = ["restore", &file, "--to-mysql", &url, "--create", "--trust-sql", "--validate-only"];
    let looked = place.run(&look).expect(0).text();
    assert!(looked.contains("--to-mysql URL, without --validate-only") && !looked.contains("postgres"), "{looked}");
    let run = place.run(&["restore", &file, "--to-mysql", &url, "--create", "--trust-sql", "--json"]).expect(0);
    assert_eq!(run.json()[0]["rows"], 2, "{}", run.text());
    assert_eq!(server.sql_in("imported_to", "SELECT COUNT(*), MAX(b) FROM t").trim(), "2\tx;'y");
    // What is there is replaced only by somebody who says its name.
    server.sql_in("imported_to", "INSERT INTO t VALUES (3, 'mine')");
    let again = ["restore", &file, "--to-mysql", &url, "--trust-sql"];
    let refused = place.run(&again).expect(11);
    assert!(
        refused.err.contains("table t") && refused.err.contains("--confirm-destructive imported_to"),
        "{}",
        refused.err
    );
    assert_eq!(server.sql_in("imported_to", "SELECT COUNT(*) FROM t").trim(), "3");
    place.run(&[&again[..], &["--confirm-destructive", "imported_to"]].concat()).expect(0);
    assert_eq!(server.sql_in("imported_to", "SELECT COUNT(*) FROM t").trim(), "2");
    let other = place.run(&["restore", &file, "--to-postgres", "postgres://x@127.0.0.1:1/x", "--trust-sql"]).expect(2);
    assert!(other.err.contains("cannot go to PostgreSQL"), "{}", other.err);
}

#[test]
fn a_dump_of_mariadb_that_leads_out_of_the_named_database_is_refused_before_the_server_is_touched() {
    let Some(server) = mariadb() else { return };
    let (own, other) = ("led_shop", "led_other");
    for database in [own, other] {
        server.fresh(database);
        server.sql_in(database, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    }
    let place = Place::new();
    let folder = place.path("source");
    fs::create_dir(&folder).unwrap();
    let plain = server.dumped(other);
    let with = |line: &str| plain.replacen("DROP TABLE IF EXISTS", &format!("{line};\nDROP TABLE IF EXISTS"), 1);
    for (name, text) in [
        ("one.sql", server.dumped_with(&["--databases", own])),
        ("two.sql", server.dumped_with(&["--databases", own, other])),
        ("anew.sql", server.dumped_with(&["--add-drop-database", "--databases", own])),
        ("table.sql", with("INSERT INTO `led_shop`.`t` VALUES (7)")),
        ("hidden.sql", with("SELECT 5--2; /*!50003 DROP DATABASE led_shop */")),
        ("accounts.sql", with("CREATE USER led_user")),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    back_up(&place, &[]).expect(0);
    server.sql_in(own, "INSERT INTO t VALUES (2)");
    server.sql("DROP DATABASE IF EXISTS led_i33");
    let url = server.url("led_i33");
    for (name, said) in [
        ("one.sql", "restore it into a database named led_shop"),
        ("two.sql", "led_other (`"),
        ("anew.sql", "led_shop (`"),
        ("table.sql", "led_shop (`INSERT INTO `led_shop`.`t`"),
        ("hidden.sql", "led_shop (`DROP DATABASE led_shop`)"),
        ("accounts.sql", "no database bounds `CREATE USER led_user`"),
    ] {
        for more in [&[][..], &["--validate-only"]] {
            let file = named(&place, name);
            let args = [&["restore", &file, "--to-mysql", &url, "--create", "--trust-sql"], more].concat();
            let run = place.run(&args).expect(11);
            assert!(run.err.contains("does not stay in led_i33") && run.err.contains(said), "{name}: {}", run.err);
        }
    }
    assert_eq!(server.sql("SHOW DATABASES LIKE 'led\\_i33'"), "");
    assert_eq!(server.sql_in(own, "SELECT COUNT(*) FROM t").trim(), "2");
    // Into one of the same name it goes, unless it drops that.
    let url = server.url(own);
    let to = |name: &str, more: &[&str], code: i32| {
        let file = named(&place, name);
        place.run(&[&["restore", &file, "--to-mysql", &url, "--trust-sql"], more].concat()).expect(code)
    };
    assert!(to("one.sql", &[], 11).err.contains("--confirm-destructive led_shop"));
    let anew = to("anew.sql", &["--confirm-destructive", own], 11);
    assert!(anew.err.contains("led_shop itself is replaced"), "{}", anew.err);
    assert_eq!(server.sql_in(own, "SELECT COUNT(*) FROM t").trim(), "2");
    server.sql("DROP DATABASE led_shop");
    to("one.sql", &["--create", "--validate-only"], 0);
    to("one.sql", &["--create"], 0);
    assert_eq!(server.sql_in(own, "SHOW TABLES; SELECT COUNT(*) FROM t"), "t\n1\n");
}
