//! Commands as sources, as people see them.

use crate::program::{CHEAP, Place};

#[test]
fn commands_are_backed_up_beside_files_and_looked_at_and_compared() {
    let place = Place::with_snapshot();
    let sources = ["--command", "words.txt=echo some words", "--command", "numbers=seq 1 1000", "source"];
    let run = place.run(&[&["backup"][..], &sources].concat()).expect(0);
    assert!(run.text().contains("command   @command/numbers: 3.8 KiB"), "{}", run.text());
    let listed = place.run(&["snapshots", "--kind", "command"]).expect(0).text();
    assert!(listed.contains("command,files") && listed.contains("1 snapshot\n"), "{listed}");
    let listed = place.run(&["ls", "latest:/@command"]).expect(0).text();
    assert!(listed.contains("/@command/words.txt"), "{listed}");
    assert_eq!(place.run(&["dump", "latest:/@command/words.txt"]).expect(0).text(), "some words\n");
    place.run(&["restore", "latest:/@command", "--target", "out"]).expect(0);
    assert_eq!(std::fs::read_to_string(place.path("out/words.txt")).unwrap(), "some words\n");
    place.run(&["verify", "--all"]).expect(0);

    let changed = ["--command", "words.txt=echo other words", "--command", "numbers=seq 1 1000", "source"];
    let run = place.run(&[&["backup", "--json"][..], &changed].concat()).expect(0);
    let object = run.json().remove(0);
    assert_eq!(object["totals"]["files_changed"], 1, "{object}");
    assert_eq!(object["streams"][1]["command"], serde_json::json!(["sh", "-c", "echo other words"]));
    let difference = place.run(&["diff", "latest~1", "latest"]).expect(0).text();
    assert!(difference.contains("M  /@command/words.txt\n") && !difference.contains("numbers"), "{difference}");
}

#[test]
fn a_command_that_fails_makes_the_snapshot_partial_and_is_shown() {
    let place = Place::with_snapshot();
    let bad = "bad=echo half; echo cannot reach the directory >&2; exit 4";
    let run = place.run(&["backup", "--command", bad, "--command", "good=echo whole"]).expect(3);
    let said = "@command/bad was not backed up: its command ended with exit status: 4: cannot reach the directory";
    assert!(run.err.contains(said), "{}", run.err);
    assert!(run.text().contains(said) && run.text().contains(", partial"), "{}", run.text());
    let shown = place.run(&["show", "latest"]).expect(0).text();
    assert!(shown.contains("stream       /@command/bad of 5 B") || shown.contains("/@command/bad of 5 B"), "{shown}");
    assert!(shown.contains("failed with status 4 and is not in the snapshot") && shown.contains(said), "{shown}");
    let object = place.run(&["show", "latest", "--json"]).expect(0).json().remove(0);
    assert_eq!(object["streams"][0]["errors"], "cannot reach the directory\n");
    assert_eq!(
        (object["streams"][0]["status"].as_i64(), object["snapshot"]["partial"].as_bool()),
        (Some(4), Some(true))
    );
    place.run(&["dump", "latest:/@command/bad"]).expect(1);

    // Without any that ends well there is none.
    let run = place.run(&["backup", "--command", bad]).expect(1);
    assert!(run.err.contains("so there is no snapshot"), "{}", run.err);
    assert_eq!(place.run(&["snapshots", "--json"]).expect(0).json()[0]["snapshots"].as_array().unwrap().len(), 2);
}

#[test]
fn a_command_does_not_see_what_opens_the_repository() {
    let place = Place::new();
    let args =
        [&["backup", "--init"], &CHEAP[..], &["--command", "env=env | grep -c KEEPSTONE_PASSWORD; true"]].concat();
    place.run(&args).expect(0);
    assert_eq!(place.run(&["dump", "latest:/@command/env"]).expect(0).text(), "0\n");
}

#[test]
fn commands_that_are_no_sources_are_mistakes_of_usage() {
    let place = Place::with_snapshot();
    for args in [
        &["--command", "nameless"][..],
        &["--command", "a=x", "--command", "a=y"],
        &["--command", "a/b=x"],
        &["--command", "a=x", "--max-parallel", "0"],
        &["--command", "a=x", "--source-timeout", "soon"],
        &["--command", "a=x", "--all-databases"],
        &["source", "--schema-only"],
    ] {
        place.run(&[&["backup"][..], args].concat()).expect(2);
    }
    let run = place.run(&["backup"]).expect(2);
    assert!(run.err.contains("--command"), "{}", run.err);
}

#[test]
fn a_dry_run_of_a_command_stores_nothing() {
    let place = Place::with_snapshot();
    let run = place.run(&["backup", "--dry-run", "--command", "numbers=seq 1 1000"]).expect(0);
    assert!(run.text().contains("nothing: this was a dry run"), "{}", run.text());
    assert!(run.text().contains("3.8 KiB, of which 3.8 KiB had not been stored before"), "{}", run.text());
    assert!(place.run(&["snapshots"]).expect(0).text().contains("1 snapshot\n"));
}

#[test]
fn a_source_that_takes_too_long_or_fails_for_a_moment_is_told_with_each_try() {
    let place = Place::with_snapshot();
    let slow = ["backup", "--command", "slow=sleep 600", "--command", "good=echo whole"];
    let run = place.run(&[&slow[..], &["--source-timeout", "1"]].concat()).expect(3);
    assert!(run.err.contains("@command/slow was not backed up: ") && run.err.contains("timeout"), "{}", run.err);
    let run = place.run(&[&slow[..], &["--timeout", "1", "--max-parallel", "1"]].concat());
    assert!(run.code == 3 || run.code == 1, "{}", run.err);
    assert!(run.err.contains("@command/slow was not backed up: "), "{}", run.err);
    let run = place.run(&["backup", "--attempts", "2", "--postgres", "postgres://ann@127.0.0.1:1/shop"]).expect(1);
    let tries = run.err.lines().filter(|line| line.contains("127.0.0.1:1")).count();
    assert!(tries >= 2 && run.err.contains("so there is no snapshot"), "{}", run.err);
}
