//! Databases of a real MariaDB server in the program.

use crate::program::{CHEAP, Place};
use crate::servers_mysql::server::{PASSWORD, server};

#[test]
fn two_nights_of_a_mariadb_database_are_shown_with_their_rows_and_compared() {
    let Some(server) = server() else { return };
    server.fresh("streams_shop");
    let rows: Vec<String> = (1..3000).map(|number| format!("({number},'note {number}')")).collect();
    server.sql_in(
        "streams_shop",
        "CREATE TABLE orders (id int PRIMARY KEY, note varchar(40)); CREATE TABLE empty (a int)",
    );
    server.sql_in("streams_shop", &format!("INSERT INTO orders VALUES {}", rows.join(",")));
    let place = Place::new();
    let url = format!("shop={}", server.url("streams_shop"));
    let args = [&["backup", "--init"], &CHEAP[..], &["--mysql", &url]].concat();
    let run = place.run(&args).expect(0);
    assert!(
        run.text().contains("@mysql/shop (MariaDB ") && run.text().contains("2 tables, 2,999 rows"),
        "{}",
        run.text()
    );
    server.sql_in("streams_shop", "DELETE FROM orders WHERE id < 10");
    let silent = "other=mysql://ann:hidden-secret@127.0.0.1:1/x";
    let run = place.run(&["backup", "--mysql", &url, "--mysql", silent, "--attempts", "1"]).expect(3);
    assert!(run.err.contains("@mysql/other was not backed up: 127.0.0.1:1"), "{}", run.err);
    assert!(!run.err.contains("secret") && !run.text().contains(PASSWORD), "{}", run.err);
    let difference = place.run(&["diff", "latest~1", "latest"]).expect(0).text();
    assert!(difference.contains("/@mysql/shop: 2 tables, 2,990 rows, -9 rows"), "{difference}");
    let shown = place.run(&["show", "latest"]).expect(0).text();
    assert!(shown.contains("orders") && shown.contains("2,990") && shown.contains("MariaDB"), "{shown}");
    place.run(&["backup", "--mysql", &url, "--schema", "x"]).expect(2);
}

#[test]
fn all_mariadb_databases_are_taken_each_under_its_name() {
    let Some(server) = server() else { return };
    server.fresh("streams_one");
    server.sql_in("streams_one", "CREATE TABLE a (b int)");
    let place = Place::new();
    let url = format!("db1={}", server.url("streams_one"));
    // Databases of other tests come and go meanwhile.
    let args =
        [&["backup", "--init"], &CHEAP[..], &["--mysql", &url, "--all-databases", "--schema-only", "--attempts", "1"]];
    assert!([0, 3].contains(&place.run(&args.concat()).code));
    let listed = place.run(&["ls", "latest:/@mysql", "--json"]).expect(0).json();
    assert!(listed.iter().any(|entry| entry["path"] == "/@mysql/db1.streams_one"), "{listed:?}");
}
