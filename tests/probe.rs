//! `probe` before real servers, and before what is none.

use super::program::{CHEAP, Place, Run};
use super::servers::postgres;
use super::servers_mysql::server::server as mariadb;
use serde_json::Value;

/// The reports of a run by their type.
fn reports(run: &Run, message_type: &str) -> Vec<Value> {
    run.json().into_iter().filter(|object| object["message_type"] == message_type).collect()
}

/// The check of a name in a report.
#[track_caller]
fn check<'r>(report: &'r Value, name: &str) -> &'r Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check {name} in {report}"))
}

fn probe(args: &[&str]) -> Run {
    let place = Place::new();
    let all = [&["probe", "--json"], args].concat();
    place.run_with(&all, |command| _ = command.env_remove("KEEPSTONE_REPOSITORY"), b"")
}

#[test]
fn a_database_that_can_be_backed_up_is_found_well_with_its_size() {
    let Some(server) = postgres::server() else { return };
    let address = server.create("CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 1000); ANALYZE t");
    let run = probe(&[&server.url(&address.database), "--max-parallel", "2"]).expect(0);
    let report = &reports(&run, "probe")[0];
    assert_eq!(report["verdict"], "ok", "{report}");
    assert!(report["server"].as_str().unwrap().starts_with("PostgreSQL "), "{report}");
    assert!(report["estimate_bytes"].as_u64().unwrap() > 20_000, "{report}");
    assert!(report["database_bytes"].as_u64() >= report["estimate_bytes"].as_u64(), "{report}");
    for name in ["connection", "encryption", "pooler", "tables", "roles", "client programs", "locks", "blockers"] {
        assert_eq!(check(report, name)["verdict"], "ok", "{report}");
    }
}

#[test]
fn what_is_wrong_with_an_address_is_said_with_its_remedy_and_the_others_are_looked_at() {
    let Some(server) = postgres::server() else { return };
    let good = server.url("postgres");
    let wrong_password = format!("postgresql://postgres:wrong@127.0.0.1:{}/postgres", server.port);
    let no_database = server.url("no_such_database");
    let closed = "postgresql://x@127.0.0.1:1/shop";
    let nowhere = "postgresql://x@no-such-host.invalid/shop";
    let nonsense = "ftp://x/y";
    let run = probe(&[&wrong_password, &no_database, closed, nowhere, nonsense, &good]).expect(1);
    let reports = reports(&run, "probe");
    let said: [(usize, &str, &str); 5] = [
        (0, "connection", "password of user postgres is wrong"),
        (1, "connection", "psql -l"),
        (2, "connection", "connection refused"),
        (3, "connection", "no-such-host.invalid"),
        (4, "address", ""),
    ];
    for (at, name, words) in said {
        let found = check(&reports[at], name);
        assert_eq!(found["verdict"], "failed", "{found}");
        let text = format!("{} {}", found["message"], found["remedy"]);
        assert!(text.contains(words), "{text}");
        assert!(!found["remedy"].as_str().unwrap().is_empty(), "{found}");
    }
    assert_eq!(reports[5]["verdict"], "ok", "{}", reports[5]);
    assert!(!run.text().contains("wrong@") && !run.text().contains("secret"), "a password got out");
}

#[test]
fn missing_rights_row_security_and_exclusive_locks_are_found() {
    let Some(server) = postgres::server() else { return };
    let address = server.create(
        "CREATE ROLE probe_poor LOGIN PASSWORD 'poor'; CREATE TABLE open (a int); GRANT SELECT ON open TO probe_poor; \
         CREATE TABLE closed (a int); CREATE TABLE secret (a int); ALTER TABLE secret ENABLE ROW LEVEL SECURITY; \
         GRANT SELECT ON secret TO probe_poor; GRANT USAGE ON SCHEMA public TO probe_poor",
    );
    let mut holder = server.connect(&address.database);
    holder.execute("BEGIN; LOCK TABLE open IN ACCESS EXCLUSIVE MODE").unwrap();
    let url = format!("postgresql://probe_poor:poor@127.0.0.1:{}/{}", server.port, address.database);
    let run = probe(&[&url]).expect(1);
    let report = &reports(&run, "probe")[0];
    let tables = check(report, "tables");
    assert!(tables["message"].as_str().unwrap().contains("public.closed"), "{tables}");
    assert!(tables["remedy"].as_str().unwrap().contains("GRANT"), "{tables}");
    let hidden = check(report, "row security");
    assert!(hidden["message"].as_str().unwrap().contains("public.secret"), "{hidden}");
    assert_eq!(check(report, "roles")["verdict"], "warning");
    let blockers = check(report, "blockers");
    assert!(blockers["message"].as_str().unwrap().contains("public.open"), "{blockers}");
    holder.execute("ROLLBACK").unwrap();
}

#[test]
fn large_objects_that_the_role_may_not_read_are_found() {
    let Some(server) = postgres::server() else { return };
    let address = server.create("SELECT lo_create(4000), lo_create(4001); GRANT SELECT ON LARGE OBJECT 4000 TO PUBLIC");
    let role = format!("lo_{}", address.database);
    let mut owner = server.connect(&address.database);
    owner.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x'")).unwrap();
    let url = format!("postgresql://{role}:x@127.0.0.1:{}/{}", server.port, address.database);
    let run = probe(&[&url]).expect(1);
    let report = &reports(&run, "probe")[0];
    let found = check(report, "large objects");
    assert_eq!(found["verdict"], "failed", "{report}");
    let said = found["message"].as_str().unwrap();
    assert!(said.contains("4001") && !said.contains("4000"), "{said}");
    owner.execute(&format!("GRANT SELECT ON LARGE OBJECT 4001 TO {role}")).unwrap();
    let run = probe(&[&url]).expect(0);
    assert!(!run.text().contains("large objects"), "{}", run.text());
    owner.execute(&format!("REVOKE ALL ON LARGE OBJECT 4001 FROM {role}; DROP ROLE {role}")).unwrap();
}

#[test]
fn a_backup_looks_first_and_says_what_would_be_missing() {
    let Some(server) = postgres::server() else { return };
    let address = server.create(
        "CREATE ROLE probe_meek LOGIN PASSWORD 'meek'; CREATE TABLE closed (a int); \
         GRANT USAGE ON SCHEMA public TO probe_meek",
    );
    let url = format!("postgresql://probe_meek:meek@127.0.0.1:{}/{}", server.port, address.database);
    let place = Place::new();
    place.make_tree();
    let args = [&["backup", "--init", "--postgres", &url], &CHEAP[..], &["source"]].concat();
    let run = place.run(&args).expect(3);
    assert!(run.err.contains("probe_meek may not read public.closed"), "{}", run.err);
    assert!(run.err.contains("GRANT"), "{}", run.err);
}

#[test]
fn the_repository_is_looked_at_when_one_is_named() {
    let Some(server) = postgres::server() else { return };
    let place = Place::with_snapshot();
    let run = place.run(&["probe", "--json", &server.url("postgres")]).expect(0);
    let repository = &reports(&run, "probe_repository")[0];
    assert_eq!(check(repository, "repository")["verdict"], "ok");
    assert_eq!(check(repository, "space")["verdict"], "ok");
    let text = place.run(&["probe", &server.url("postgres")]).expect(0).text();
    assert!(text.contains("ok       locks") && text.contains("can be written"), "{text}");
}

#[test]
fn mariadb_is_looked_at_too() {
    let Some(server) = mariadb() else { return };
    server.fresh("probed");
    server.sql_in("probed", "CREATE TABLE t (a int); INSERT INTO t VALUES (1); CREATE TABLE old (a int) ENGINE=MyISAM");
    let good = server.url("probed");
    let wrong = server.url_of("boss", "wrong", "probed");
    let missing = server.url("no_such_database");
    let closed = "mysql://x@127.0.0.1:1/shop";
    let run = probe(&[&good, &wrong, &missing, closed]).expect(1);
    let reports = reports(&run, "probe");
    assert_eq!(reports[0]["verdict"], "warning", "{}", reports[0]);
    assert!(check(&reports[0], "engines")["message"].as_str().unwrap().contains("old (MyISAM)"));
    assert!(reports[0]["server"].as_str().unwrap().starts_with("MariaDB "));
    let names = ["connection", "database", "connection"];
    for (report, name) in reports[1..].iter().zip(names) {
        let found = check(report, name);
        assert_eq!(found["verdict"], "failed");
        assert!(!found["remedy"].as_str().unwrap().is_empty(), "{found}");
    }
}
