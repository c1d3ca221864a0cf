//! Servers of two versions: what goes from one to the other, and what is refused.

use crate::program::{CHEAP, Place, Run};
use crate::servers::postgres::{Server, of_another_version, server};

#[track_caller]
fn says(run: &Run, words: &[&str]) {
    let all = format!("{}{}", run.text(), run.err);
    for word in words {
        assert!(all.contains(word), "no `{word}` in:\n{all}");
    }
}

fn night(server: &Server, sql: &str) -> Place {
    let address = server.create(sql);
    let place = Place::new();
    let source = format!("shop={}", server.url(&address.database));
    place.run(&[&["backup", "--init"], &CHEAP[..], &["--postgres", &source]].concat()).expect(0);
    place
}

fn databases(server: &Server, like: &str) -> String {
    let sql = format!("SELECT count(*) FROM pg_database WHERE datname LIKE '{like}'");
    server.connect("postgres").value(&sql).unwrap().unwrap_or_default()
}

#[test]
fn a_dump_goes_to_a_newer_server_and_not_to_an_older_one_or_one_that_lacks_an_extension() {
    let (Some(server), Some(other)) = (server(), of_another_version()) else { return };
    let (older, newer) = if server.major < other.major { (server, &other) } else { (&other, server) };
    let shop = "CREATE TABLE orders (id int PRIMARY KEY, note text); INSERT INTO orders VALUES (1, 'a'), (2, 'b')";

    let place = night(older, shop);
    let url = newer.url("from_older");
    let run = place.run(&["restore", "latest", "--to-postgres", &url, "--create"]).expect(0);
    says(&run, &["1 table, 2 rows", &format!("PostgreSQL {}", newer.major)]);
    says(&place.run(&["drill", "latest", "--server", &newer.url("postgres")]).expect(0), &["as promised"]);
    assert_eq!(
        newer.connect("from_older").value("SELECT note FROM orders WHERE id = 2").unwrap().as_deref(),
        Some("b")
    );
    newer.connect("postgres").execute("DROP DATABASE from_older").unwrap();

    let back = night(newer, shop);
    let url = older.url("from_newer");
    let at = format!("127.0.0.1:{}", older.port);
    let words =
        [&at, &format!("the server is PostgreSQL {}", older.major)[..], "an older server does not understand it"];
    for more in [&["--create"][..], &["--create", "--validate-only"]] {
        says(&back.run(&[&["restore", "latest", "--to-postgres", &url], more].concat()).expect(1), &words);
    }
    says(&back.run(&["drill", "latest", "--server", &older.url("postgres")]).expect(1), &words);
    assert_eq!(databases(older, "from_newer"), "0");
    back.run(&["verify", "--all"]).expect(0);

    // Extensions that a server has and the other does not; there are such in every pair of versions.
    let available = |server: &Server| -> Vec<String> {
        let sql = "SELECT name FROM pg_available_extensions WHERE name <> 'plpgsql' ORDER BY 1";
        server.connect("postgres").query(sql).unwrap().into_iter().filter_map(|row| row[0].clone()).collect()
    };
    let there = available(newer);
    let Some(missing) = available(older).into_iter().find(|name| !there.contains(name)) else { return };
    let place = night(
        older,
        &format!("{shop}; CREATE EXTENSION \"{missing}\"; CREATE ROLE lacked; ALTER TABLE orders OWNER TO lacked"),
    );
    let run = place.run(&["restore", "latest", "--to-postgres", &newer.url("lacking"), "--create"]).expect(1);
    let at = format!("127.0.0.1:{}, database lacking, extension {missing}: ", newer.port);
    says(&run, &[&at, "install the packages that bring it", "the server has no role lacked"]);
    assert_eq!(databases(newer, "lacking"), "0");
}
