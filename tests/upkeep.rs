//! What nights do now and then besides: drills of several sorts, upkeep of databases, new keys, and letting go of records.

use crate::nights::{place, run};
use crate::program::Place;
use crate::servers::postgres::{Server, server};
use crate::{formats, servers_mysql};
use keepstone::base::clock::{Clock, TimeZone, Timestamp};
use keepstone::base::{RunId, SnapshotId};
use keepstone::history::{Entry, History, Phase};
use serde_json::Value;
use std::fs;

fn night(place: &Place, code: i32) -> Value {
    run(place, &["run", "web", "--by", "schedule", "--json"]).expect(code).json().remove(0)
}

/// How a phase ended, and what it said.
fn phase<'n>(night: &'n Value, name: &str) -> (&'n str, &'n str) {
    let found = night["phases"].as_array().unwrap().iter().find(|phase| phase["name"] == name);
    found.map_or(("absent", ""), |phase| (phase["outcome"].as_str().unwrap(), phase["message"].as_str().unwrap()))
}

/// A check of `health`: its status, and what it says.
fn check(place: &Place, name: &str) -> (String, String) {
    let health = run(place, &["health", "web", "--json"]).json().remove(0);
    let checks = health["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {health}"));
    (check["status"].as_str().unwrap().to_owned(), check["message"].as_str().unwrap().to_owned())
}

/// A database with two tables, one of which names the other, and a profile that backs it up; `more` is written behind it.
fn shop(server: &Server, more: &str) -> (Place, String) {
    let address = server.create(
        "CREATE TABLE customers (id int PRIMARY KEY, name text);
         CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, note text);
         CREATE INDEX by_note ON orders (note);
         INSERT INTO customers SELECT i, md5(i::text) FROM generate_series(1, 50) i;
         INSERT INTO orders SELECT i, 1 + i % 50, md5(i::text) FROM generate_series(1, 400) i;",
    );
    let programs = server.programs.display();
    let place = place(&format!(
        "[profiles.web.sources.postgres.shop]\nurl = \"{}\"\nprograms = \"{programs}\"\n\
         [profiles.web.drill]\nallow_source_server = true\nschedule = \"0 3 1 1 *\"\n\
         [profiles.web.drill.postgres]\nurl = \"{}\"\nprograms = \"{programs}\"\n{more}",
        server.socket_url(&address.database),
        server.socket_url("postgres"),
    ));
    (place, address.database)
}

#[test]
fn each_scenario_of_a_drill_has_its_own_schedule_and_a_result_in_history_and_health() {
    let Some(server) = server() else { return };
    let (place, _) = shop(
        server,
        "[profiles.web.drill.scenarios]\ndatabase = {}\ntable = { tables = \"public.orders\" }\nfiles = { full = true }\n\
         [profiles.web.drill.scenarios.machine]\nschedule = \"0 4 1 1 *\"\nidentity_file = \"HEREspare.identity\"\n",
    );
    let identity = place.path("spare.identity").display().to_string();
    let recipient = run(&place, &["key", "generate", &identity]).expect(0).text();
    let recipient = recipient.split_whitespace().find(|word| word.starts_with("age1")).unwrap().to_owned();
    run(&place, &["--profile", "web", "key", "add", "--recipient", &recipient]).expect(0);
    assert!(check(&place, "drill_table").1.contains("never played"));
    let first = night(&place, 0);
    assert_eq!(phase(&first, "drill").0, "absent", "scenarios take its place");
    for (name, said) in [
        ("drill_database", "came back as promised: 1 database"),
        ("drill_table", "1 table with 400 rows of 1 database"),
        ("drill_files", "came back as promised: 14 files"),
        ("drill_machine", "1 snapshot and 0 runs found; snapshot"),
    ] {
        let (ended, message) = phase(&first, name);
        assert!(ended == "done" && message.contains(said.split(" 14").next().unwrap()), "{name}: {ended}: {message}");
        let (status, seen) = check(&place, name);
        assert!(status == "ok" && seen.contains(message), "{name}: {status}: {seen}");
    }
    let machine = phase(&first, "drill_machine").1;
    assert!(machine.contains("empty cache") && machine.contains("1 database, "), "{machine}");
    assert_eq!(check(&place, "drilled").0, "ok");
    let second = night(&place, 0);
    for name in ["drill_database", "drill_table", "drill_files", "drill_machine"] {
        let (ended, why) = phase(&second, name);
        assert!(ended == "skipped" && why.contains("not due before"), "{name}: {why}");
    }
    let entries = run(&place, &["history", "--json"]).expect(0).json();
    let of_table = entries[0]["phases"].as_array().unwrap().iter().find(|phase| phase["name"] == "drill_table");
    assert_eq!(of_table.unwrap()["figures"]["databases"], 1, "{entries:?}");
    assert!(entries[0]["figures"]["restore_ms"].is_u64());
}

#[test]
fn files_that_came_back_prove_nothing_of_the_databases_beside_them() {
    let Some(server) = server() else { return };
    let (place, _) = shop(server, "[profiles.web.drill.scenarios]\nfiles = {}\n");
    assert_eq!(phase(&night(&place, 0), "drill_files").0, "done");
    let newest = || run(&place, &["--profile", "web", "snapshots", "--json"]).expect(0).json().remove(0);
    let drilled =
        |listed: &Value| listed["snapshots"].as_array().unwrap().last().unwrap()["verification"]["drilled"].clone();
    assert_eq!(drilled(&newest()), Value::Null);
    let (status, said) = check(&place, "drilled");
    assert!(status == "ok" && said.contains("no snapshot came back whole at once"), "{status}: {said}");
    let metrics = run(&place, &["metrics"]).expect(0).text();
    assert!(!metrics.contains("backup_last_drilled_timestamp_seconds{"), "{metrics}");
    // Both in one run are all of it.
    let config = place.path("keepstone.toml");
    let text = fs::read_to_string(&config).unwrap();
    let each_night = text.replace("schedule = \"0 3 1 1 *\"\n", "").replace("files = {}", "database = {}\nfiles = {}");
    fs::write(&config, each_night).unwrap();
    let both = night(&place, 0);
    assert_eq!((phase(&both, "drill_database").0, phase(&both, "drill_files").0), ("done", "done"), "{both}");
    assert!(drilled(&newest()).is_string());
    assert!(check(&place, "drilled").1.contains("the newest proof of a whole snapshot"));
    let metrics = run(&place, &["metrics"]).expect(0).text();
    assert!(metrics.contains("backup_last_drilled_timestamp_seconds{type=\"web\"}"), "{metrics}");
}

#[test]
fn a_bare_machine_whose_key_does_not_open_fails_its_drill_and_nothing_else() {
    let place = place("[profiles.web.drill.scenarios.machine]\npassword_file = \"HEREwrong\"\n");
    fs::write(place.path("wrong"), "no such horse\n").unwrap();
    let failed = night(&place, 12);
    assert_eq!((phase(&failed, "backup").0, phase(&failed, "drill_machine").0), ("done", "failed"), "{failed}");
    let (status, seen) = check(&place, "drill_machine");
    assert!(status == "critical" && seen.starts_with("failed"), "{seen}");
    let again = night(&place, 12);
    assert_eq!(phase(&again, "drill_machine").0, "failed", "one that failed is tried again");
    fs::write(place.path("wrong"), "correct horse\n").unwrap();
    let good = night(&place, 0);
    assert!(phase(&good, "drill_machine").1.contains("3 snapshots and 2 runs found"), "{good}");
}

#[test]
fn databases_are_vacuumed_and_analyzed_after_a_backup_and_the_result_is_written_down() {
    let Some(server) = server() else { return };
    let (place, database) = shop(server, "[profiles.web.maintenance]\nschedule = \"0 4 1 1 *\"\npostgres.shop = {}\n");
    let counted = || {
        let sql = "SELECT pg_stat_get_vacuum_count('orders'::regclass) || ' ' || pg_stat_get_analyze_count('orders'::regclass)";
        let mut connection = server.connect(&database);
        connection.execute("SELECT pg_stat_clear_snapshot()").unwrap();
        connection.value(sql).unwrap().unwrap()
    };
    assert_eq!(counted(), "0 0");
    let first = night(&place, 0);
    let (ended, message) = phase(&first, "maintenance");
    assert!(ended == "done" && message.contains("shop: 2 tables vacuumed and analyzed, "), "{message}");
    assert_eq!(counted(), "1 1");
    assert_eq!(first["phases"].as_array().unwrap().last().unwrap()["figures"]["maintained_tables"], 2, "{first}");
    let (status, seen) = check(&place, "maintenance");
    assert!(status == "ok" && seen.contains("2 tables"), "{seen}");
    assert!(phase(&night(&place, 0), "maintenance").1.contains("not due before"));
}

#[test]
fn tables_that_may_not_be_kept_are_problems_and_the_backup_is_worth_what_it_was() {
    let Some(server) = server() else { return };
    let (place, database) =
        shop(server, "[profiles.web.maintenance.postgres.shop]\nrun = \"vacuum\"\nurl = \"OTHER\"\n");
    let config = place.path("keepstone.toml");
    let text = fs::read_to_string(&config).unwrap();
    let url = server.socket_url(&database);
    let role = format!("sweeper_{}", std::process::id());
    server.connect("postgres").execute(&format!("CREATE ROLE {role} LOGIN")).unwrap();
    let user = url.split("//").nth(1).and_then(|rest| rest.split('@').next()).unwrap();
    let other = url.replacen(&format!("//{user}@"), &format!("//{role}@"), 1);
    fs::write(&config, text.replace("OTHER", &other)).unwrap();
    let partial = night(&place, 3);
    assert_eq!((phase(&partial, "backup").0, phase(&partial, "maintenance").0), ("done", "partial"), "{partial}");
    let message = phase(&partial, "maintenance").1;
    assert!(message.contains("2 problems, the first: shop: table public.customers"), "{message}");
    assert_eq!(partial["snapshot"]["partial"], false);
    let entry = run(&place, &["history", "--json"]).expect(0).json().remove(0);
    assert_eq!((&entry["outcome"], &entry["problem_count"]), (&"partial".into(), &2.into()), "{entry}");
    // It is worth a warning: nobody has to get up for a backup that is whole.
    let metrics = run(&place, &["metrics"]).expect(0).text();
    for (rule, level) in [("maintenance", "1.0"), ("error", "0.0")] {
        let series = format!("backup_health_status{{type=\"web\",check_type=\"{rule}\"}} {level}\n");
        assert!(metrics.contains(&series), "{series}{metrics}");
    }
    // A server that is not there is one problem more, and no failure.
    fs::write(&config, text.replace("OTHER", "postgres://nobody@127.0.0.1:1/shop")).unwrap();
    assert_eq!(phase(&night(&place, 3), "maintenance").0, "partial");
    server.connect("postgres").execute(&format!("DROP ROLE {role}")).unwrap();
}

#[test]
fn tables_of_mysql_and_mariadb_are_analyzed_and_made_anew() {
    let Some(server) = servers_mysql::server::server() else { return };
    let database = "kept_in_order";
    server.fresh(database);
    server.sql_in(
        database,
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2); CREATE VIEW v AS SELECT * FROM t",
    );
    let place = place(&format!(
        "[profiles.web.maintenance.mysql.stock]\nrun = [\"analyze\", \"optimize\"]\nurl = \"{}\"\npassword_file = \"HEREmysql\"\n",
        without_password(&server.url(database))
    ));
    fs::write(place.path("mysql"), format!("{}\n", password_of(&server.url(database)))).unwrap();
    let night = night(&place, 0);
    let (ended, message) = phase(&night, "maintenance");
    assert!(ended == "done" && message.contains("stock: 1 table analyzed and optimized"), "{message}");
}

fn password_of(url: &str) -> String {
    let login = url.split("//").nth(1).unwrap().rsplit_once('@').unwrap().0;
    percent_decoded(login.split_once(':').unwrap().1)
}

fn percent_decoded(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        plain.push(u8::from_str_radix(&after[..2], 16).unwrap() as char);
        rest = &after[2..];
    }
    plain + rest
}

fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("//").unwrap();
    let (login, place) = rest.rsplit_once('@').unwrap();
    format!("{scheme}//{}@{place}", login.split(':').next().unwrap())
}

#[test]
fn keys_are_renewed_when_the_newest_are_older_than_the_calendar_says_and_once() {
    // The time is always half an hour away, before and after.
    let minute = (Clock::System.now().to_zoned(TimeZone::UTC).minute() + 30) % 60;
    let place = place("");
    let config = place.path("keepstone.toml");
    let text = fs::read_to_string(&config).unwrap();
    let keys = format!("[repositories.main.keys]\nrotate = \"{minute} * * * *\"\nreseal = \"1G\"\n[profiles.web]");
    fs::write(&config, text.replace("[profiles.web]", &keys)).unwrap();
    // Its keys were made just now.
    let new = night(&place, 0);
    assert!(phase(&new, "keys").0 == "skipped" && phase(&new, "keys").1.contains("not due before"), "{new}");
    // One whose keys are of an earlier day.
    let old = formats::golden("files").place();
    fs::remove_dir_all(place.path("vault")).unwrap();
    fs::rename(old.path("vault"), place.path("vault")).unwrap();
    fs::copy(old.path("keys/password"), place.path("password")).unwrap();
    let epochs = || {
        let status = run(&place, &["--profile", "web", "key", "status", "--json"]).expect(0).json();
        status[0]["epochs"].as_array().unwrap().len()
    };
    let before = epochs();
    let renewed = night(&place, 0);
    let (ended, message) = phase(&renewed, "keys");
    assert!(ended == "done" && message.contains("opened epoch") && message.contains("sealed anew"), "{message}");
    assert_eq!(epochs(), before + 1);
    let log = run(&place, &["--profile", "web", "log", "--operation", "key rotate", "--json"]).expect(0).text();
    assert!(log.contains("key rotate"), "{log}");
    let again = night(&place, 0);
    assert_ne!(phase(&again, "keys").0, "failed", "{again}");
    assert!(!phase(&again, "keys").1.contains("opened epoch"), "{again}");
    assert_eq!(epochs(), before + 1, "once is enough");
}

#[test]
fn runs_and_log_files_that_are_older_than_what_is_kept_are_let_go_and_that_is_said() {
    let place = place("");
    let config = place.path("keepstone.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("history_keep = \"90d\"\n{text}")).unwrap();
    night(&place, 0);
    let (mut history, _) = History::open(&place.path("state"), 7).unwrap();
    let newest = history.newest("web").unwrap().unwrap();
    let days = |days: i64| newest.begun_ns - days * 86_400 * 1_000_000_000;
    for (number, age) in [(1, 91), (2, 89)] {
        let old = Entry {
            id: RunId([number; 16]),
            begun_ns: days(age),
            ended_ns: Some(days(age) + 1),
            snapshot: SnapshotId::from_slice(&[number; 16]),
            phases: vec![Phase { name: "backup".into(), outcome: "done".into(), ..Phase::default() }],
            ..newest.clone()
        };
        history.end(&old).unwrap();
    }
    drop(history);
    let at = Timestamp::from_nanosecond(i128::from(days(91))).unwrap().strftime("%Y%m%dT%H%M%SZ").to_string();
    fs::write(place.path(&format!("state/operations.jsonl.{at}")), "{}\n").unwrap();
    let second = night(&place, 0);
    let (ended, message) = phase(&second, "records");
    assert!(
        ended == "done" && message.starts_with("1 run of the history and 1 file of the operation log"),
        "{message}"
    );
    assert_eq!(run(&place, &["history", "--json"]).expect(0).json().len(), 3);
    assert_eq!(phase(&night(&place, 0), "records").0, "absent", "nothing to let go is no phase");
}
