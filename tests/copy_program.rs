//! `copy` and `init --from` as a user runs them, between folders and buckets of a real S3 server.

use crate::program::{CHEAP, PASSWORD, Place, Run, describe};
use crate::servers::{postgres, seaweed};
use std::fs;

/// Runs with the repository `to`; what is copied from has its own password.
fn run(place: &Place, to: &str, environment: &[(&str, String)], args: &[&str]) -> Run {
    let change = |command: &mut std::process::Command| {
        command.env("KEEPSTONE_REPOSITORY", to).env("KEEPSTONE_PASSWORD", "second site");
        command.env("KEEPSTONE_FROM_PASSWORD", PASSWORD);
        command.envs(environment.iter().map(|(name, value)| (*name, value.as_str())));
    };
    place.run_with(args, change, b"")
}

/// What a restore of the newest snapshot gives.
fn restored(place: &Place, to: &str, environment: &[(&str, String)], name: &str) -> Vec<String> {
    run(place, to, environment, &["restore", "latest", "--target", name, "--verify"]).expect(0);
    let source = place.path("source").canonicalize().unwrap();
    describe(&place.path(name).join(source.strip_prefix("/").unwrap()))
}

#[test]
fn snapshots_go_from_a_folder_to_a_bucket_and_from_there_to_another() {
    let Some(server) = seaweed::server() else { return };
    let place = Place::with_snapshot();
    let environment = server.environment();
    let (bucket, other) = (server.place(), server.place());
    let to_bucket = |args: &[&str]| run(&place, &bucket, &environment, args);
    to_bucket(&[&["init", "--from", "vault"], &CHEAP[..]].concat()).expect(0);
    let first = to_bucket(&["copy", "--from", "vault", "--verify", "--json"]).expect(0).json();
    let summary = first.last().unwrap();
    assert_eq!((summary["copied"].as_u64(), summary["shared_names"].as_bool()), (Some(1), Some(true)));
    let added = summary["added_bytes"].as_u64().unwrap();
    fs::write(place.path("source/letters/new.txt"), "news ".repeat(1000)).unwrap();
    place.run(&["backup", "source"]).expect(0);
    let second = to_bucket(&["copy", "--from", "vault", "--json"]).expect(0).json();
    assert_eq!((second[0]["fate"].as_str(), second[1]["fate"].as_str()), (Some("there"), Some("copied")));
    let summary = second.last().unwrap();
    assert!(summary["added_bytes"].as_u64().unwrap() * 4 < added, "{summary} after {added}");
    to_bucket(&["verify", "--all"]).expect(0);
    let wanted = describe(&place.path("source").canonicalize().unwrap());
    assert_eq!(restored(&place, &bucket, &environment, "from-bucket"), wanted);

    // Another bucket with names of its own, and only what is asked for.
    let mut environment = environment.to_vec();
    environment.push(("KEEPSTONE_FROM_PASSWORD", "second site".to_owned()));
    run(&place, &other, &environment, &[&["init"], &CHEAP[..]].concat()).expect(0);
    let copied = run(&place, &other, &environment, &["copy", "--from", &bucket, "latest", "--json"]).expect(0).json();
    let summary = copied.last().unwrap();
    assert_eq!((summary["copied"].as_u64(), summary["shared_names"].as_bool()), (Some(1), Some(false)));
    assert_eq!(restored(&place, &other, &environment, "from-other"), wanted);
    run(&place, &other, &environment, &["verify", "--all"]).expect(0);
}

#[test]
fn a_database_and_files_come_back_from_the_copy_of_a_copy() {
    let (Some(bucket_server), Some(server)) = (seaweed::server(), postgres::server()) else { return };
    let address = server.create(
        "CREATE TABLE orders (id int PRIMARY KEY, note text, paid timestamptz);
         INSERT INTO orders SELECT i, repeat(md5(i::text), 8), to_timestamp(i * 7000) FROM generate_series(1, 6000) i;
         CREATE TABLE \"odd name\" (x bytea); INSERT INTO \"odd name\" VALUES ('\\x00ff0a'), (NULL), ('');",
    );
    let place = Place::with_snapshot();
    let url = format!("shop={}", server.url(&address.database));
    let nights = 3;
    for night in 0..nights {
        // A few rows change everywhere: the later nights are differences on the first.
        let change = format!("UPDATE orders SET note = md5('{night}' || id) || note WHERE id % 500 = {night}");
        server.connect(&address.database).execute(&change).unwrap();
        place.run(&["backup", "--postgres", &url, "source"]).expect(0);
    }
    let content = |database: &str| {
        let sql = "SELECT md5(string_agg(o::text, '|' ORDER BY id)) || (SELECT md5(string_agg(n::text, '|' ORDER BY \
                   n::text)) FROM \"odd name\" n) FROM orders o";
        server.connect(database).value(sql).unwrap().unwrap()
    };
    let wanted = content(&address.database);

    // From a folder to a bucket, and from there to a folder with names of its own.
    let bucket = bucket_server.place();
    let mut environment = bucket_server.environment().to_vec();
    run(&place, &bucket, &environment, &[&["init", "--from", "vault"], &CHEAP[..]].concat()).expect(0);
    run(&place, &bucket, &environment, &["copy", "--from", "vault"]).expect(0);
    environment.push(("KEEPSTONE_FROM_PASSWORD", "second site".to_owned()));
    run(&place, "third", &environment, &[&["init"], &CHEAP[..]].concat()).expect(0);
    let copied = run(&place, "third", &environment, &["copy", "--from", &bucket, "--json"]).expect(0).json();
    assert_eq!(copied.last().unwrap()["copied"], nights + 1);
    fs::remove_dir_all(place.path("vault")).unwrap();
    fs::remove_dir_all(place.path("cache")).unwrap();

    let files = describe(&place.path("source").canonicalize().unwrap());
    for (number, at) in [bucket.as_str(), "third"].into_iter().enumerate() {
        let name = format!("{}_copy_{number}", address.database);
        let target = server.url(&name);
        run(&place, at, &environment, &["restore", "latest", "--to-postgres", &target, "--create"]).expect(0);
        assert_eq!(content(&name), wanted, "{at}");
        assert_eq!(restored(&place, at, &environment, &format!("files-{number}")), files, "{at}");
        run(&place, at, &environment, &["verify", "--all"]).expect(0);
    }
}

#[test]
fn a_copy_that_finds_nothing_new_has_done_its_work() {
    let place = Place::with_snapshot();
    run(&place, "other", &[], &[&["init", "--from", "vault"], &CHEAP[..]].concat()).expect(0);
    let copied = run(&place, "other", &[], &["copy", "--from", "vault", "--newer-than", "0h"]).expect(0).text();
    assert!(copied.contains("0 snapshots"), "{copied}");
    run(&place, "other", &[], &["copy", "--from", "vault", "--newer-than", "0h", "--tag", "none"]).expect(1);
}

#[test]
fn what_is_wrong_with_either_side_is_said_by_its_name() {
    let place = Place::with_snapshot();
    let none: &[(&str, String)] = &[];
    run(&place, "site", none, &[&["init", "--from", "vault"], &CHEAP[..]].concat()).expect(0);
    // One that is there is left alone, whatever its names.
    let again = run(&place, "site", none, &[&["init", "--from", "vault"], &CHEAP[..]].concat()).expect(11);
    assert!(again.err.contains("already a repository"), "{}", again.err);
    std::os::unix::fs::symlink("vault", place.path("alias")).unwrap();
    let wrong = |name: &'static str| vec![(name, "wrong".to_owned())];
    for (to, from, environment, code, words) in [
        ("vault", "vault", wrong(""), 11, "the same repository"),
        ("alias", "./vault", wrong(""), 11, "the same repository"),
        ("site", "nowhere", wrong(""), 10, "nowhere"),
        ("elsewhere", "vault", wrong(""), 10, "elsewhere"),
        ("site", "vault", wrong("KEEPSTONE_FROM_PASSWORD"), 12, "of vault opens"),
        ("site", "vault", wrong("KEEPSTONE_PASSWORD"), 12, "of site opens"),
        ("site", "vault", vec![("KEEPSTONE_FROM_PASSWORD", String::new())], 2, "--from-password-file"),
    ] {
        let environment: Vec<_> = environment.into_iter().filter(|(name, _)| !name.is_empty()).collect();
        let done = run(&place, to, &environment, &["copy", "--from", from]).expect(code);
        assert!(done.err.contains(words), "{to} {from}: {}", done.err);
    }
    run(&place, "site", none, &["copy"]).expect(2);
    run(&place, "site", none, &["copy", "--from", "vault", "--host", "nobody"]).expect(1);
    // Nothing of all this was stored, and now it works.
    let done = run(&place, "site", none, &["copy", "--from", "vault", "--tag", "nightly"]).expect(0);
    assert!(done.text().contains("1 snapshot"), "{}", done.text());
}
