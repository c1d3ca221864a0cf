//! Databases of a real PostgreSQL server in the program: backed up, shown, compared, refused.

use crate::program::{CHEAP, Place};
use crate::servers::postgres::{PASSWORD, another, server};

const SHOP: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text);
    INSERT INTO orders SELECT i, md5(i::text) FROM generate_series(1, 20000) i;
    CREATE TABLE customers (id int); INSERT INTO customers VALUES (1), (2);
    CREATE SCHEMA attic; CREATE TABLE attic.\"odd \"\"name\" (a int);";

#[test]
fn two_nights_of_a_database_are_shown_with_their_rows_and_compared() {
    let Some(server) = server() else { return };
    let address = server.create(SHOP);
    let place = Place::new();
    let url = format!("shop={}", server.url(&address.database));
    let args = [&["backup", "--init"], &CHEAP[..], &["--postgres", &url, "--command", "a=echo a"]].concat();
    let run = place.run(&args).expect(0);
    assert!(run.text().contains("@postgres/shop (PostgreSQL 1"), "{}", run.text());
    assert!(run.text().contains("3 tables, 20,002 rows"), "{}", run.text());
    let shown = place.run(&["show", "latest"]).expect(0).text();
    for line in ["public.orders", "20,000", "attic.odd \"name", "database", "/@postgres/shop: "] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let change = "INSERT INTO orders VALUES (20001, 'new'); DROP TABLE customers;
        CREATE TABLE invoices AS SELECT 1 AS a; UPDATE attic.\"odd \"\"name\" SET a = 1";
    server.connect(&address.database).execute(change).unwrap();
    let run = place.run(&["backup", "--postgres", &url, "--command", "a=echo a", "--json"]).expect(0);
    let object = run.json().remove(0);
    assert_eq!((&object["dumps"][0]["tables"], &object["dumps"][0]["rows"]), (&3.into(), &20_002.into()), "{object}");
    assert!(object["totals"]["files_changed"].as_u64() < Some(7), "{object}");
    let difference = place.run(&["diff", "latest~1", "latest"]).expect(0).text();
    for line in [
        "/@postgres/shop: 3 tables, 20,002 rows, +0 rows",
        "M  public.orders",
        "-  public.customers",
        "+  public.invoices",
    ] {
        assert!(difference.contains(line), "{line}: {difference}");
    }
    assert!(!difference.contains("odd \"name  "), "{difference}");
    place.run(&["backup", "--postgres", &url]).expect(0);
    server.connect(&address.database).execute("INSERT INTO orders VALUES (20002, 'one more')").unwrap();
    place.run(&["backup", "--postgres", &url]).expect(0);
    let one_more = place.run(&["diff", "latest~1", "latest"]).expect(0).text();
    assert!(one_more.contains("20,003 rows, +1 row\n"), "{one_more}");
    let objects = place.run(&["diff", "latest~3", "latest~2", "--json"]).expect(0).json();
    let orders = objects.iter().find(|object| object["table"] == "orders").unwrap();
    assert_eq!((orders["before_rows"].as_u64(), orders["after_rows"].as_u64()), (Some(20_000), Some(20_001)));
    let object = place.run(&["show", "latest", "--json"]).expect(0).json().remove(0);
    assert_eq!(object["dumps"][0]["manifest"]["tables"].as_array().unwrap().len(), 3);
    place.run(&["verify", "--all"]).expect(0);
    assert!(place.run(&["snapshots", "--kind", "db"]).expect(0).text().contains("4 snapshots\n"));
}

#[test]
fn a_database_that_cannot_be_read_is_named_without_its_password_and_the_rest_is_backed_up() {
    let Some(server) = server() else { return };
    let address = server.create(SHOP);
    let place = Place::with_snapshot();
    let good = format!("good={}", server.url(&address.database));
    let wrong = server.url(&address.database).replace("secret", "wrong-secret");
    let gone = server.url("no_such_database");
    let silent = "silent=postgres://ann:hidden-secret@127.0.0.1:1/shop";
    let names = ["--postgres", &format!("wrong={wrong}"), "--postgres", &format!("gone={gone}"), "--postgres", silent];
    let bad = [&["backup", "--attempts", "1"], &names[..]].concat();
    let run = place.run(&[&bad[..], &["--postgres", &good]].concat()).expect(3);
    for said in [
        "@postgres/wrong was not backed up: 127.0.0.1:",
        "@postgres/gone was not backed up: ",
        "no_such_database",
        "@postgres/silent was not backed up: 127.0.0.1:1",
    ] {
        assert!(run.err.contains(said), "{said}: {}", run.err);
    }
    let shown = place.run(&["show", "latest"]).expect(0).text();
    assert!(shown.contains("public.orders") && shown.contains("@postgres/gone was not backed up"), "{shown}");
    place.run(&bad).expect(1);
    let all = ["--all-databases", "--postgres", silent, "--command", "a=echo a"];
    let unlisted = place.run(&[&["backup", "--attempts", "1"], &all[..]].concat()).expect(3);
    assert!(unlisted.err.contains("@postgres/silent was not backed up"), "{}", unlisted.err);
    for text in [run.err, run.out.iter().map(|byte| char::from(*byte)).collect(), shown, unlisted.err] {
        assert!(!text.contains("secret") && !text.contains(PASSWORD), "{text}");
    }
}

#[test]
fn all_databases_of_a_server_are_taken_each_under_its_name() {
    let Some(server) = another(&[]) else { return };
    server.create_named("one", SHOP);
    server.create_named("two", "CREATE TABLE a (b int)");
    let place = Place::new();
    let url = server.url("postgres");
    let args = [&["backup", "--init"], &CHEAP[..], &["--postgres", &url, "--all-databases"]].concat();
    place.run(&args).expect(0);
    let listed = place.run(&["ls", "latest:/@postgres", "--json"]).expect(0).json();
    let names: Vec<_> = listed.iter().filter_map(|entry| entry["path"].as_str()).collect();
    for name in ["/@postgres/one", "/@postgres/two", "/@postgres/postgres"] {
        assert!(names.contains(&name), "{names:?}");
    }
    place.run(&["backup", "--postgres", &format!("db1={url}"), "--all-databases", "--schema-only"]).expect(0);
    let object = place.run(&["show", "latest", "--json"]).expect(0).json().remove(0);
    assert_eq!(object["dumps"][0]["path"], "/@postgres/db1.one", "{object}");
    assert_eq!(object["dumps"][0]["manifest"]["selection"][0], "--schema-only");
}
