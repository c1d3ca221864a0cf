//! Ways back as people see them: `restore --to-postgres`, `drill`, `dump --as`, with a real server.

use crate::program::{CHEAP, Place, Run};
use crate::servers::postgres::{PASSWORD, Server, another, pooler_of, server, standby_of};
use keepstone::db::postgres::identifier;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

const SHOP: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text);
    INSERT INTO orders SELECT i, md5(i::text) FROM generate_series(1, 5000) i;
    CREATE TABLE customers (id serial PRIMARY KEY, \"odd name\" text); INSERT INTO customers VALUES (1, 'x'), (2, NULL);
    SELECT setval('customers_id_seq', 2); CREATE INDEX ON orders (note);";

/// A repository with a snapshot of a shop's database and some files, and that database.
fn shop(server: &Server) -> (Place, String) {
    let address = server.create(SHOP);
    let place = Place::with_snapshot();
    let url = format!("shop={}", server.url(&address.database));
    place.run(&["backup", "--postgres", &url, "source"]).expect(0);
    (place, address.database)
}

fn unused() -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    format!("program_{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn value(server: &Server, database: &str, sql: &str) -> String {
    server.connect(database).value(sql).unwrap().unwrap_or_default()
}

fn is_there(server: &Server, database: &str) -> bool {
    value(server, "postgres", &format!("SELECT count(*) FROM pg_database WHERE datname = '{database}'")) == "1"
}

#[track_caller]
fn says(run: &Run, words: &[&str]) {
    let all = format!("{}{}", run.text(), run.err);
    for word in words {
        assert!(all.contains(word), "no `{word}` in:\n{all}");
    }
    assert!(!all.contains(PASSWORD) && !all.contains("Gpw"), "a password was printed:\n{all}");
}

#[test]
fn a_dump_goes_back_to_a_new_database_and_is_counted() {
    let Some(server) = server() else { return };
    let (place, _) = shop(server);
    let name = unused();
    let url = server.url(&name);
    let only_look = ["restore", "latest", "--to-postgres", &url, "--create", "--validate-only"];
    let run = place.run(&only_look).expect(0);
    says(
        &run,
        &["verified  4 streams", "5002 rows into 2 tables", "set 1 sequence;", "nothing was written", "URL --create"],
    );
    assert!(!is_there(server, &name));
    let run = place.run(&["restore", "latest", "--to-postgres", &url, "--create"]).expect(0);
    says(&run, &["2 tables, 5,002 rows", "in a new database", "safe      ", "not safe  ", "drill "]);
    assert_eq!(value(server, &name, "SELECT nextval('customers_id_seq')"), "3");
    let run = place.run(&["restore", "latest", "--to-postgres", &url, "--create", "--json"]);
    says(&run.expect(11), &["there already", "refused"]);

    let replace = ["restore", "latest", "--to-postgres", &url, "--drop-existing", "--json"];
    says(&place.run(&replace).expect(11), &["left alone", &format!("--confirm-destructive {name}")]);
    says(
        &place.run(&[&replace[..], &["--confirm-destructive", "other"]].concat()).expect(11),
        &["left alone", "other"],
    );
    let run = place.run(&[&replace[..], &["--confirm-destructive", &name]].concat()).expect(0);
    let object = run.json().remove(0);
    assert_eq!(object["message_type"], "restore_database");
    assert_eq!((&object["tables"], &object["rows"], &object["replaced"]), (&2.into(), &5002.into(), &true.into()));
    for field in
        ["snapshot", "kind", "dump", "from_database", "server", "client", "steps", "verified_bytes", "notes", "plan"]
    {
        assert!(object.get(field).is_some(), "no {field} in {object}");
    }
    let runs = place.run(&["info", "--json"]).expect(0);
    assert!(!runs.out.is_empty());
    server.connect("postgres").execute(&format!("DROP DATABASE {}", identifier(&name))).unwrap();
}

#[test]
fn a_dump_of_rows_alone_is_not_sent_to_a_drill() {
    let Some(server) = server() else { return };
    let address = server.create(SHOP);
    let place = Place::with_snapshot();
    let url = format!("shop={}", server.url(&address.database));
    place.run(&["backup", "--postgres", &url, "--data-only"]).expect(0);
    let definitions = SHOP.split_once("INSERT").unwrap().0.to_owned()
        + "CREATE TABLE customers (id serial PRIMARY KEY, \"odd name\" text)";
    let to = server.url(&server.create(&definitions).database);
    let run = place.run(&["restore", "latest", "--to-postgres", &to, "--phase", "data"]).expect(0);
    says(&run, &["5,002 rows", "counted by the server"]);
    let all = ["restore", "latest", "--to-postgres", &to, "--phase", "data", "--phase", "post-data"];
    assert!(!run.text().contains("drill"), "{}", run.text());
    says(&place.run(&all).expect(2), &["no definitions"]);
}

#[test]
fn who_is_logged_in_to_a_replaced_database_is_named_before_being_thrown_out() {
    let Some(server) = server() else { return };
    let (place, _) = shop(server);
    let name = unused();
    server.create_named(&name, "");
    let url = server.url(&name);
    let mut guests = [server.connect(&name), server.connect(&name)];
    for guest in &mut guests {
        guest.execute("SET application_name = 'the till'").unwrap();
    }
    let replace = ["restore", "latest", "--to-postgres", &url, "--drop-existing", "--confirm-destructive", &name];
    let ended = "2 sessions (the till of postgres, 2)";
    says(
        &place.run(&[&replace[..], &["--validate-only"]].concat()).expect(0),
        &[&format!("last end {ended} and drop")],
    );
    assert!(guests[0].query("SELECT 1").is_ok());
    let run = place.run(&replace).expect(0);
    assert!(run.err.contains(&format!("database {name} is replaced, which ends {ended}")), "{}", run.err);
    assert!(guests[0].query("SELECT 1").is_err());
    drop(guests);
    server.connect("postgres").execute(&format!("DROP DATABASE {}", identifier(&name))).unwrap();
}

#[test]
fn what_is_protected_or_malformed_is_refused_before_anything_is_done() {
    let Some(server) = server() else { return };
    let (place, database) = shop(server);
    let protected = server.url("shop_Production");
    let run = place.run(&["restore", "latest", "--to-postgres", &protected, "--create"]).expect(11);
    says(&run, &["*prod*", "--confirm-destructive shop_Production"]);
    let own = server.url(&database);
    let run = place.run(&["restore", "latest", "--to-postgres", &own, "--protect", "test_*"]).expect(11);
    says(&run, &["test_*"]);
    says(&place.run(&["restore", "latest", "--to-postgres", &own]).expect(11), &["not empty", "table public."]);
    for wrong in [
        &["restore", "latest"][..],
        &["restore", "latest", "--create", "--target", "x"],
        &["restore", "latest", "--to-postgres", "shop", "--target", "x"],
        &["restore", "latest", "--to-postgres", "shop", "--include", "x"],
        &["restore", "latest", "--to-postgres", "shop", "--table", "a.b.c"],
        &["restore", "latest", "--to-postgres", "mysql://x/y"],
        &["drill", "latest"],
        &["drill", "latest", "--server", "shop", "--full", "--sample", "5%"],
        &["dump", "latest", "--as", "sql", "--archive", "tar"],
    ] {
        assert_eq!(place.run(wrong).code, 2, "{wrong:?}");
    }
    let run = place.run(&["restore", "latest", "--to-postgres", &own, "--database", "none"]).expect(1);
    says(&run, &["no dump \"none\"", "shop"]);
    let run = place.run(&["restore", "latest~1", "--to-postgres", &own]).expect(1);
    says(&run, &["holds no dump of PostgreSQL"]);
    let wrong = own.replace("secret", "hidden");
    says(&place.run(&["restore", "latest", "--to-postgres", &wrong]).expect(1), &["password", &database]);
    let nowhere = ["restore", "latest", "--to-postgres", "postgres://a:hidden@127.0.0.1:1/x"];
    says(&place.run(&nowhere).expect(1), &["127.0.0.1:1"]);
}

#[test]
fn commands_run_before_and_after_also_when_it_fails() {
    let Some(server) = server() else { return };
    let (place, database) = shop(server);
    let name = unused();
    let url = server.url(&name);
    let log = place.path("log");
    let note = |what: &str| format!("echo {what} $KEEPSTONE_DATABASE $KEEPSTONE_OUTCOME >> {}", log.display());
    let around = ["--before", &note("stop"), "--after", &note("start")];
    place.run(&[&["restore", "latest", "--to-postgres", &url, "--create"], &around[..]].concat()).expect(0);
    assert_eq!(fs::read_to_string(&log).unwrap(), format!("stop {name}\nstart {name} done\n"));

    // Nothing runs while it is still clear that nothing can be done.
    fs::remove_file(&log).unwrap();
    let own = server.url(&database);
    place.run(&[&["restore", "latest", "--to-postgres", &own], &around[..]].concat()).expect(11);
    assert!(!log.exists());
    let second = unused();
    let to_second = server.url(&second);
    let bad = ["--before", "echo locked >&2; exit 5", "--after", &note("start")];
    let run =
        place.run(&[&["restore", "latest", "--to-postgres", &to_second, "--create"], &bad[..]].concat()).expect(11);
    says(&run, &["locked", "nothing was written"]);
    assert_eq!(fs::read_to_string(&log).unwrap(), format!("start {second} failed\n"));
    assert!(!is_there(server, &second));
    let bad = ["--after", "exit 5"];
    let run =
        place.run(&[&["restore", "latest", "--to-postgres", &to_second, "--create"], &bad[..]].concat()).expect(1);
    says(&run, &["exit 5", "5,002 rows"]);
    assert!(is_there(server, &second));
}

#[test]
fn a_damaged_dump_touches_no_server() {
    let Some(server) = server() else { return };
    let (place, _) = shop(server);
    let packs: Vec<_> = walk(&place.path("vault/packs"));
    let largest = packs.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0);
    fs::set_permissions(largest, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(largest, bytes).unwrap();
    // What the source of the files takes lies in another pack or another block: one of the two is hurt.
    let name = unused();
    let url = server.url(&name);
    let run = place.run(&["restore", "latest", "--to-postgres", &url, "--create"]);
    if run.code == 4 {
        says(&run, &["damaged", "nothing was written"]);
        assert!(!is_there(server, &name));
    } else {
        let drill = place.run(&["drill", "latest", "--full", "--server", &url, "--allow-source-server"]);
        assert_eq!((run.code, drill.code), (0, 4), "{}{}", run.text(), run.err);
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_drill_proves_a_snapshot_on_another_server_and_leaves_nothing() {
    let Some(server) = server() else { return };
    let (place, _) = shop(server);
    let own = server.url("postgres");
    let run = place.run(&["drill", "latest", "--server", &own]).expect(11);
    says(&run, &["--allow-source-server", "taken from"]);
    let run = place.run(&["drill", "latest", "--server", &own, "--allow-source-server", "--full"]).expect(0);
    says(
        &run,
        &["database  shop (database test_", "2 tables, 5,002 rows, content of 2 tables", "as promised", "safe "],
    );
    says(&run, &["restored and compared", "nothing known"]);

    let Some(other) = another(&[]) else { return };
    let run = place.run(&["drill", "latest", "--server", &other.url("postgres"), "--json"]).expect(0);
    let object = run.json().remove(0);
    assert_eq!((&object["message_type"], &object["outcome"]), (&"drill".into(), &"same".into()));
    let drill = &object["databases"][0];
    assert_eq!((&drill["outcome"], &drill["rows"], &drill["checksums"]), (&"same".into(), &5002.into(), &1.into()));
    for field in
        ["dump", "database", "server", "tables", "sequences", "restore_ms", "compare_ms", "steps", "left_behind"]
    {
        assert!(drill.get(field).is_some(), "no {field} in {drill}");
    }
    assert_eq!(object["files"]["difference_count"], 0);
    let left = "SELECT count(*) FROM pg_database WHERE datname LIKE 'keepstone%'";
    assert_eq!(value(&other, "postgres", left), "0");
    // Only what a verify has read counts as verified.
    place.run(&["show", "latest-verified"]).expect(1);
}

#[test]
fn what_a_killed_restore_leaves_is_named_by_the_next_and_by_a_look() {
    let Some(server) = another(&[]) else { return };
    // An index that takes long, in a database that is being restored and nowhere else.
    let address = server.create(
        "CREATE TABLE t (x int); INSERT INTO t VALUES (1);
         CREATE FUNCTION slow(x int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
           IF pg_catalog.current_database() LIKE 'keepstone\\_restore%' THEN PERFORM pg_catalog.pg_sleep(600); END IF;
           RETURN x; END $$;
         CREATE INDEX ON t (slow(x));",
    );
    let place = Place::with_snapshot();
    place.run(&["backup", "--postgres", &format!("shop={}", server.url(&address.database))]).expect(0);
    let to = server.url("killed");
    let restore = ["restore", "latest", "--to-postgres", &to, "--create"];
    let mut child = place.command(&restore).spawn().unwrap();
    let until = |sql: &str, wanted: &str| {
        let mut session = server.connect("postgres");
        let seen = (0..1200).any(|_| {
            session.query("SELECT pg_sleep(0.05)").unwrap();
            session.value(sql).unwrap().as_deref() == Some(wanted)
        });
        assert!(seen, "{sql} is not {wanted} within a minute");
    };
    let making = "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'keepstone_restore%' \
                  AND query LIKE 'CREATE INDEX%' AND state = 'active'";
    until(making, "1");
    let look = [&restore[..], &["--validate-only"]].concat();
    let run = place.run(&look).expect(0);
    assert!(!run.err.contains("broken off"), "one that is at work is no leftover: {}", run.err);
    child.kill().unwrap();
    child.wait().unwrap();
    until("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", "0");
    let left = value(&server, "postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'keepstone_restore%'");
    assert!(!is_there(&server, "killed"));
    let drop = format!("DROP DATABASE \"{left}\"");
    says(&place.run(&look).expect(0), &[&left, "broken off", &drop]);
    says(&place.run(&["probe", &server.url("postgres")]), &[&left, "leftovers", &drop]);
    place.run(&["verify", "latest"]).expect(0);
}

#[test]
fn a_snapshot_of_files_is_drilled_without_a_server() {
    let place = Place::with_snapshot();
    let run = place.run(&["drill", "latest", "--full"]).expect(0);
    says(&run, &["3 of 3 files restored and compared", "safe "]);
    let next = place.run(&["drill", "latest"]).expect(0);
    assert!(next.text().trim_end().ends_with(" --full") && !next.text().contains("--server"), "{}", next.text());
    let object = place.run(&["drill", "--json"]).expect(0).json().remove(0);
    assert_eq!((&object["files"]["files"], &object["files"]["of_files"]), (&1.into(), &3.into()));
    let run = place.run(&["drill", "latest", "--database", "shop"]).expect(1);
    says(&run, &["no dump \"shop\""]);
}

#[test]
fn a_dump_is_written_as_sql_and_as_an_archive() {
    let Some(server) = server() else { return };
    let (place, _) = shop(server);
    let run = place.run(&["dump", "latest", "--as", "sql", "--database", "shop"]).expect(0);
    let sql = run.text();
    assert!(
        sql.contains("COPY \"public\".\"customers\" (\"id\", \"odd name\") FROM stdin;\n1\tx\n2\t\\N\n\\.\n"),
        "{sql}"
    );
    assert!(sql.contains("\\restrict ") && sql.trim_end().lines().last().unwrap().starts_with("\\unrestrict "));
    let run = place.run(&["dump", "latest", "--as", "archive", "--json"]).expect(0);
    assert!(run.out.starts_with(b"PGDMP"));
    assert!(run.err.contains("\"rows\":5002"), "{}", run.err);
    let archive = place.path("shop.dump");
    fs::write(&archive, &run.out).unwrap();
    let mut list = server.program("pg_restore", "postgres");
    let listed = list.arg("--list").arg(&archive).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("TABLE DATA public orders"));
    place.run(&["dump", "latest~1", "--as", "sql"]).expect(1);
}

#[test]
fn a_part_goes_back_by_table_schema_and_phase() {
    let Some(server) = server() else { return };
    let address = server.create(&format!("{SHOP} CREATE SCHEMA more; CREATE TABLE more.t AS SELECT 1 AS n"));
    let place = Place::new();
    let source = format!("shop={}", server.url(&address.database));
    place.run(&[&["backup", "--init"], &CHEAP[..], &["--postgres", &source]].concat()).expect(0);
    let busy = server.create("CREATE TABLE mine (n int)").database;
    let url = server.url(&busy);
    let restore = |more: &[&str]| place.run(&[&["restore", "latest", "--to-postgres", &url], more].concat());
    says(
        &restore(&["--table", "public.orders", "--validate-only"]).expect(0),
        &["5000 rows into 1 table", "nothing was"],
    );
    says(&restore(&["--table", "public.orders"]).expect(0), &["1 table, 5,000 rows"]);
    says(&restore(&["--table", "orders"]).expect(11), &["there is a table public.orders already", "--phase data"]);
    says(&restore(&["--table", "nobody.has"]).expect(1), &["holds no table nobody.has"]);
    says(&restore(&["--schema", "more"]).expect(0), &["1 table, 1 row"]);
    assert_eq!(value(server, &busy, "SELECT count(*) FROM pg_indexes WHERE tablename = 'orders'"), "2");

    let url = server.url(&server.create("").database);
    let phase = |phase: &str| place.run(&["restore", "latest", "--to-postgres", &url, "--phase", phase]);
    says(&phase("data").expect(1), &["it is not in the database", "--phase pre-data"]);
    let none = server.url("not_made");
    let create = ["restore", "latest", "--to-postgres", &none, "--create", "--phase", "data", "--phase", "post-data"];
    says(&place.run(&create).expect(2), &["--create wants --phase pre-data as well"]);
    for templates in ["template0", "template1"] {
        let run = place.run(&["restore", "latest", "--to-postgres", &server.url(templates)]);
        assert_ne!(run.code, 0, "{templates}");
        says(&run, &[if templates == "template1" { "belongs to the server" } else { "template0" }]);
    }
    let path = place.run(&["restore", "latest:/@postgres/shop", "--to-postgres", &url]).expect(2);
    says(&path, &["is the dump of a database", "--database"]);
    let before = phase("pre-data").expect(0);
    says(
        &before,
        &["0 tables, 0 rows", "no rows were", "rows, sequences and large objects, indexes", "--phase data\n"],
    );
    assert!(!before.text().contains("counted by the server") && !before.text().contains("drill"), "{}", before.text());
    let data = phase("data").expect(0);
    says(
        &data,
        &[
            "3 tables, 5,003 rows",
            "counted by the server",
            "constraints and triggers: not restored",
            "--phase post-data\n",
        ],
    );
    says(&phase("data").expect(11), &["holds rows already"]);
    says(&phase("post-data").expect(0), &["no rows were", " drill "]);
}

#[test]
fn a_target_that_is_a_standby_or_a_pooler_is_refused() {
    let Some(primary) = another(&[]) else { return };
    let (place, _) = shop(&primary);
    let standby = standby_of(&primary);
    let at = format!("127.0.0.1:{}", standby.port);
    let to = standby.url("to_standby");
    let words = [&at[..], "the server is a standby", "its primary"];
    says(&place.run(&["restore", "latest", "--to-postgres", &to, "--create"]).expect(1), &words);
    let drill = ["drill", "latest", "--server", &standby.url("postgres"), "--allow-source-server"];
    says(&place.run(&drill).expect(1), &words);
    let Some((through, _pooler)) = pooler_of(&primary, "postgres") else { return };
    let to = format!("postgresql://postgres@127.0.0.1:{}/to_pooler", through.port);
    let run = place.run(&["restore", "latest", "--to-postgres", &to, "--create"]).expect(11);
    says(&run, &["a pooler that shares sessions", "the address of the server itself"]);
    assert!(!is_there(&primary, "to_pooler") && !is_there(&primary, "to_standby"));
}
