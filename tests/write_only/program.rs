//! The program with a key that only writes, as a machine uses it.

use crate::program::{CHEAP, Place};
use std::fs;

/// A repository with a snapshot, and the key file of a client.
fn with_client() -> Place {
    let place = Place::with_snapshot();
    let added = place.run(&["key", "add", "--write-only", "--generate-key-file", "host7.key", "--label", "host7"]);
    assert!(added.expect(0).text().contains("prune"), "what others rely on is told");
    place
}

/// Runs the program with the key file of the client and nothing else.
fn client(place: &Place, args: &[&str]) -> crate::program::Run {
    let args = [&["--key-file", "host7.key"], args].concat();
    place.run_with(
        &args,
        |command| {
            command.env_remove("KEEPSTONE_PASSWORD").env_remove("KEEPSTONE_PASSWORD_FILE");
        },
        b"",
    )
}

#[test]
fn a_machine_with_a_write_only_key_backs_up_and_another_restores() {
    let place = with_client();
    fs::write(place.path("source/letters/new.txt"), "Dear Eve\n").unwrap();
    let done = client(&place, &["backup", "--json", "source"]).expect(0).json();
    let id = done[0]["snapshot"]["id"].as_str().unwrap().to_owned();
    place.run(&["restore", &id, "--target", "back"]).expect(0);
    place.run(&["verify", "--all"]).expect(0);
    let shown = place.run(&["key", "list"]).expect(0).text();
    assert!(shown.contains("key file, write-only") && shown.contains("not write-only can read everything"), "{shown}");
    let listed = place.run(&["key", "list", "--json"]).expect(0).json();
    let kinds: Vec<bool> =
        listed[0]["keys"].as_array().unwrap().iter().map(|key| key["write_only"].as_bool().unwrap()).collect();
    assert_eq!(kinds, [false, true]);
    let snapshots = place.run(&["snapshots", "--json"]).expect(0).json();
    let made_so: Vec<bool> =
        snapshots[0]["snapshots"].as_array().unwrap().iter().map(|one| one["write_only"].as_bool().unwrap()).collect();
    assert_eq!(made_so, [false, true]);
    assert!(place.run(&["snapshots"]).expect(0).text().contains("complete, write-only"));
    assert!(place.run(&["show", &id]).expect(0).text().contains("complete, write-only"));
}

#[test]
fn everything_else_is_refused_and_says_which_key_is_needed() {
    let place = with_client();
    client(&place, &["backup", "source"]).expect(0);
    let refused: [(&[&str], i32); 14] = [
        (&["ls", "latest"], 12),
        (&["show", "latest"], 12),
        (&["dump", "latest", "source/letters/ann.txt"], 12),
        (&["restore", "latest", "--target", "back"], 12),
        (&["verify"], 12),
        (&["prune"], 11),
        (&["forget", "--keep-last", "1"], 11),
        (&["tag", "latest", "--add", "x"], 12),
        (&["rebuild-index"], 11),
        (&["key", "rotate"], 11),
        (&["key", "passwd", "--new-key-file", "host7.key"], 11),
        (&["key", "list"], 12),
        (&["log"], 12),
        (&["backup", "--verify", "source"], 11),
    ];
    for (args, code) in refused {
        let run = client(&place, args);
        assert_eq!(run.code, code, "{args:?}: {}", run.err);
        assert!(run.err.contains("write-only key"), "{args:?}: {}", run.err);
        assert!(run.err.contains("opens the whole repository"), "{args:?}: {}", run.err);
    }
    assert!(!place.path("back").exists());
}

#[test]
fn snapshots_tells_a_client_what_it_can_know() {
    let place = with_client();
    let done = client(&place, &["backup", "--json", "source"]).expect(0).json();
    let id = done[0]["snapshot"]["id"].as_str().unwrap().to_owned();
    let run = client(&place, &["snapshots"]).expect(0);
    assert!(run.text().contains(&id[..8]) && run.text().contains("2 snapshots"), "{}", run.text());
    let json = client(&place, &["snapshots", "--json"]).expect(0).json();
    let named = json[0]["stored"].as_array().unwrap();
    assert_eq!(named.len(), 2);
    assert!(named.iter().any(|one| one["id"] == id.as_str()));
}

#[test]
fn a_password_does_as_well_as_a_key_file() {
    let place = Place::with_snapshot();
    fs::write(place.path("second.txt"), "a second password\n").unwrap();
    let args = [&["key", "add", "--write-only", "--new-password-file", "second.txt"], &CHEAP[..]].concat();
    place.run(&args).expect(0);
    place.run(&["--password-file", "second.txt", "backup", "source"]).expect(0);
    assert_eq!(place.run(&["--password-file", "second.txt", "verify"]).code, 12);
}
