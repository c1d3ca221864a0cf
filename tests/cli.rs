//! Stories at the front door: what a user types, what comes back, and with which exit code.

use super::program::{CHEAP, PASSWORD, Place, Run, describe, noise};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

const COMMANDS: &[&str] = &[
    "init",
    "backup",
    "probe",
    "snapshots",
    "show",
    "ls",
    "find",
    "diff",
    "dump",
    "restore",
    "drill",
    "verify",
    "check",
    "verify-packs",
    "stats",
    "info",
    "log",
    "history",
    "health",
    "key",
    "rebuild-index",
    "cat",
    "tag",
    "forget",
    "prune",
    "completions",
    "version",
];

fn only(run: &Run) -> Value {
    let mut objects = run.json();
    assert_eq!(objects.len(), 1, "{}", run.text());
    objects.remove(0)
}

/// The objects of one type.
fn of_type<'a>(objects: &'a [Value], message_type: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["message_type"] == message_type).collect()
}

#[track_caller]
fn has_fields(object: &Value, names: &[&str]) {
    for name in names {
        assert!(object.get(name).is_some(), "no `{name}` in {object}");
    }
}

// --------------------------------------------------------------------------------------------------- asking for help

#[test]
fn every_command_explains_itself_with_an_example() {
    let place = Place::new();
    for command in COMMANDS {
        let help = place.run(&[command, "--help"]).expect(0).text();
        assert!(
            help.contains("Example") && help.contains(&format!("keepstone {command}").replace(" check", " verify")),
            "{help}"
        );
    }
    for command in
        ["list", "add", "generate", "remove", "passwd", "rewrap", "rotate", "status", "recovery-sheet", "repair"]
    {
        assert!(place.run(&["key", command, "--help"]).expect(0).text().contains("Example"));
    }
}

#[test]
fn without_a_command_help_is_shown_and_it_is_an_error() {
    let run = Place::new().run::<&str>(&[]).expect(2);
    assert!(run.err.contains("Usage") && run.err.contains("snapshots"), "{}", run.err);
}

#[test]
fn a_malformed_command_line_is_a_usage_error() {
    let place = Place::with_snapshot();
    for args in [
        &["frobnicate"][..],
        &["backup", "--no-such-flag"],
        &["backup"],
        &["backup", "--compression", "99", "source"],
        &["backup", "--exclude-larger-than", "big", "source"],
        &["backup", "--stdin-from-command"],
        &["backup", "--exclude", "[", "source"],
        &["restore", "latest"],
        &["verify", "--sample", "500%"],
        &["verify", "--all", "--structure"],
        &["verify", "--all", "--budget", "1G"],
        &["verify", "--share", "3/2"],
        &["verify", "--presence", "--sample", "5%"],
        &["verify", "--newer-than", "7d", "latest"],
        &["verify-packs", "--jobs", "0"],
        &["log", "--outcome", "fine"],
        &["forget"],
        &["forget", "--keep-within", "soon"],
        &["forget", "--group-by", "moon", "--keep-last", "1"],
        &["prune", "--max-unused", "lots"],
        &["snapshots", "--newer-than", "soon"],
        &["cat", "nonsense"],
        &["key", "add", "--new-key-file", "x", "--generate-key-file", "y"],
    ] {
        let run = place.run(args);
        assert_eq!(run.code, 2, "{args:?}: {}{}", run.text(), run.err);
        assert!(!run.err.is_empty());
    }
    let nowhere = place.run_with(
        &["snapshots"],
        |command| {
            command.env_remove("KEEPSTONE_REPOSITORY");
        },
        b"",
    );
    assert!(nowhere.expect(2).err.contains("KEEPSTONE_REPOSITORY"));
}

#[test]
fn version_and_completions_need_no_repository() {
    let place = Place::new();
    assert!(place.run(&["version"]).expect(0).text().starts_with("keepstone "));
    has_fields(&only(&place.run(&["version", "--json"]).expect(0)), &["version", "format"]);
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.run(&["completions", shell]).expect(0).text().contains("rebuild-index"));
    }
}

// ------------------------------------------------------------------------------------------------ opening the vault

#[test]
fn no_repository_is_an_exit_code_of_its_own() {
    let place = Place::new();
    for command in ["snapshots", "verify", "prune", "stats", "info"] {
        let run = place.run(&[command]).expect(10);
        assert!(run.err.contains("keepstone init"), "{}", run.err);
    }
    place.make_tree();
    place.run(&["backup", "source"]).expect(10);
    assert!(!place.path("vault").exists());
}

#[test]
fn a_wrong_password_is_an_exit_code_of_its_own() {
    let place = Place::with_snapshot();
    let run = place.run_with(
        &["snapshots"],
        |command| {
            command.env("KEEPSTONE_PASSWORD", "guess");
        },
        b"",
    );
    let run = run.expect(12);
    assert!(run.err.contains("wrong password") && !run.err.contains("guess"), "{}", run.err);
}

#[test]
fn passwords_come_from_files_commands_and_the_environment() {
    let place = Place::with_snapshot();
    fs::write(place.path("password"), format!("{PASSWORD}\n")).unwrap();
    let bare = |command: &mut Command| {
        command.env_remove("KEEPSTONE_PASSWORD");
    };
    let echo = format!("echo '{PASSWORD}'");
    for args in [&["--password-file", "password", "snapshots"][..], &["--password-command", &echo, "snapshots"]] {
        place.run_with(args, bare, b"").expect(0);
    }
    for (name, value) in [("KEEPSTONE_PASSWORD_FILE", "password"), ("KEEPSTONE_PASSWORD_COMMAND", &echo)] {
        let set = |command: &mut Command| {
            command.env_remove("KEEPSTONE_PASSWORD").env(name, value);
        };
        place.run_with(&["snapshots"], set, b"").expect(0);
    }
    // An argument goes before the environment.
    fs::write(place.path("wrong"), "guess").unwrap();
    place.run(&["--password-file", "wrong", "snapshots"]).expect(12);
    let asked = place.run_with(&["snapshots"], bare, b"").expect(2);
    assert!(asked.err.contains("no terminal"), "{}", asked.err);
    place.run(&["--password-command", "exit 3", "snapshots"]).expect(1);
}

#[test]
fn a_key_file_opens_in_place_of_a_password() {
    let place = Place::new();
    let bare = |command: &mut Command| {
        command.env_remove("KEEPSTONE_PASSWORD");
    };
    let made = place.run_with(&["init", "--generate-key-file", "vault.key", "--json"], bare, b"").expect(0);
    let made = only(&made);
    has_fields(&made, &["repository_id", "location", "key_slot_id"]);
    place.run_with(&["--key-file", "vault.key", "snapshots"], bare, b"").expect(0);
    place.run(&["snapshots"]).expect(12);
    // Both a password and a key are too many, and a key file that is there is not overwritten.
    place.run(&["-r", "other", "init", "--generate-key-file", "other.key"]).expect(2);
    place.run_with(&["-r", "other", "init", "--generate-key-file", "vault.key"], bare, b"").expect(1);
}

#[test]
fn a_second_repository_is_not_made_over_the_first() {
    let place = Place::with_snapshot();
    let run = place.run(&[&["init"], &CHEAP[..]].concat()).expect(11);
    assert!(run.err.contains("already"), "{}", run.err);
    place.run(&["ls", "latest"]).expect(0);
}

#[test]
fn failures_are_json_too() {
    let run = Place::new().run(&["snapshots", "--json"]).expect(10);
    assert!(run.out.is_empty());
    let error: Value = serde_json::from_str(run.err.trim()).unwrap();
    assert_eq!(error["message_type"], "error");
    assert_eq!(error["code"], 10);
    assert_eq!(error["kind"], "no_repository");
}

// ------------------------------------------------------------------------------------------------------- there and back

#[test]
fn a_tree_with_odd_names_comes_back_bit_for_bit() {
    let place = Place::new();
    place.make_odd_tree();
    place.run(&[&["backup", "--init", "odd"], &CHEAP[..]].concat()).expect(0);
    let restored = place.run(&["restore", "latest", "--target", "back", "--verify"]).expect(0);
    assert!(restored.text().contains("compared"), "{}", restored.text());
    let original = place.path("odd").canonicalize().unwrap();
    let back = place.path("back").join(original.strip_prefix("/").unwrap());
    assert_eq!(describe(&original), describe(&back));
}

#[test]
fn a_part_is_restored_into_the_target_itself() {
    let place = Place::with_snapshot();
    let inside = format!("latest:{}", place.path("source/letters").display());
    place.run(&["restore", &inside, "--target", "back", "--exclude", "old"]).expect(0);
    assert_eq!(fs::read_to_string(place.path("back/ann.txt")).unwrap(), "Dear Ann\n");
    assert!(!place.path("back/old").exists());
    // What is there already is left as it is, or taken away, as asked.
    fs::write(place.path("back/ann.txt"), "mine").unwrap();
    fs::write(place.path("back/more"), "mine").unwrap();
    place.run(&["restore", &inside, "--target", "back", "--overwrite", "never"]).expect(0);
    assert_eq!(fs::read_to_string(place.path("back/ann.txt")).unwrap(), "mine");
    let dry = place.run(&["restore", &inside, "--target", "back", "--delete", "--dry-run", "--json"]).expect(0);
    assert_eq!(only(&dry)["dry_run"], true);
    assert!(place.path("back/more").exists());
    let done = only(&place.run(&["restore", &inside, "--target", "back", "--delete", "--json"]).expect(0));
    has_fields(&done, &["snapshot", "target", "files", "written_bytes", "content_bytes", "deleted", "problems"]);
    assert!(!place.path("back/more").exists());
    // The target is the user's own: what it is called, and its time, stay his.
    assert_eq!(describe(&place.path("back"))[1..], describe(&place.path("source/letters"))[1..]);
}

#[test]
fn one_file_and_a_directory_go_to_standard_output() {
    let place = Place::with_snapshot();
    let file = place.path("source/numbers.bin");
    assert_eq!(place.run(&[OsStr::new("dump"), OsStr::new("latest"), file.as_os_str()]).expect(0).out, noise(300_000));
    let letters = format!("latest:{}", place.path("source/letters").display());
    let tar = place.run(&["dump", &letters]).expect(0).out;
    assert_eq!(&tar[257..262], b"ustar");
    assert_eq!(&place.run(&["dump", &letters, "--archive", "zip"]).expect(0).out[..2], b"PK");
    place.run(&["dump", "latest", "/not/there"]).expect(1);
}

#[test]
fn standard_input_and_a_command_become_files() {
    let place = Place::new();
    place.run(&[&["init"], &CHEAP[..]].concat()).expect(0);
    let dump = noise(100_000);
    place.run_with(&["backup", "--stdin", "--stdin-filename", "shop.sql"], |_| {}, &dump).expect(0);
    assert_eq!(place.run(&["dump", "latest", "shop.sql"]).expect(0).out, dump);
    let args = ["backup", "--stdin-filename", "words", "--stdin-from-command", "--", "echo", "hello", "-n"];
    place.run(&args).expect(0);
    assert_eq!(place.run(&["dump", "latest", "words"]).expect(0).out, b"hello -n\n");
    let warns = "echo rows; echo 'table t has no key' >&2";
    for how in [&["--stdin-from-command", "--", "sh", "-c", warns][..], &["--command", &format!("warns={warns}")]] {
        let run = place.run(&[&["backup"], how].concat()).expect(0);
        assert!(run.err.contains("said: table t has no key"), "a command that ends well may have warned: {}", run.err);
    }
    place.run(&["backup", "--stdin-from-command", "--", "sh", "-c", "echo half; exit 3"]).expect(1);
    let listed = only(&place.run(&["snapshots", "--kind", "command", "--json"]).expect(0));
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 4, "a command that fails makes no snapshot");
}

#[test]
fn lists_of_paths_and_patterns_are_read_from_files() {
    let place = Place::new();
    place.make_tree();
    fs::write(place.path("list"), "# these\nsource/letters\n").unwrap();
    fs::write(place.path("patterns"), "*.bin\nold\n").unwrap();
    let args = ["backup", "--init", "--files-from", "list", "--exclude-file", "patterns", "--json"];
    let first = only(&place.run(&[&args[..], &CHEAP].concat()).expect(0));
    assert_eq!(first["totals"]["files"], 1);
    let raw = [place.path("source/numbers.bin").as_os_str().as_bytes(), b"\0"].concat();
    let second = place.run_with(&["backup", "--files-from-raw", "-", "--json"], |_| {}, &raw).expect(0);
    assert_eq!(only(&second)["totals"]["content_bytes"], 300_000);
    let excluded = ["backup", "source", "--iexclude", "LETTERS", "--exclude-larger-than", "1K", "--json"];
    assert_eq!(only(&place.run(&excluded).expect(0))["totals"]["files"], 0);
}

#[test]
fn lists_take_wildcards_and_files_of_patterns_take_variables() {
    let place = Place::new();
    place.make_tree();
    fs::write(place.path("list"), "  source/l*\nsource/[m-o]*\n").unwrap();
    let lists = ["backup", "--init", "--files-from", "list", "--json"];
    let first = only(&place.run(&[&lists[..], &CHEAP].concat()).expect(0));
    assert_eq!(first["totals"]["files"], 3);
    fs::write(place.path("patterns"), "\u{feff}$WHAT\n${NOT_SET}letters\n").unwrap();
    let patterns = ["backup", "source", "--exclude-file", "patterns", "--json"];
    let second = place
        .run_with(
            &patterns,
            |command| {
                command.env("WHAT", "*.bin");
            },
            b"",
        )
        .expect(0);
    assert_eq!(only(&second)["totals"]["files"], 2, "what nobody set stays as it stands");
    let shown = only(&place.run(&["cat", "snapshot", "latest", "--json"]).expect(0)).to_string();
    assert!(shown.contains("*.bin"), "what was left out is kept as it was meant: {shown}");
    fs::write(place.path("list"), "source/letters\nsource/none*\n").unwrap();
    let third = place.run(&["backup", "--files-from", "list", "--json"]).expect(3);
    assert_eq!(only(&third)["partial"], true);
}

#[test]
fn no_cache_goes_before_the_environment_and_no_match_is_not_nothing() {
    let place = Place::with_snapshot();
    let caches = place.path("caches");
    let set = |command: &mut Command| {
        command.env("KEEPSTONE_CACHE_DIR", &caches);
    };
    place.run_with(&["snapshots", "--no-cache"], set, b"").expect(0);
    assert!(!caches.exists());
    let none = place.run(&["snapshots", "--host", "elsewhere"]).expect(0).text();
    assert!(none.contains("no snapshot matches") && none.contains("in 1 snapshot that was not asked for"), "{none}");
    let nothing = place.run(&["restore", "latest", "--target", "back", "--include", "nothing"]).expect(0).text();
    assert!(nothing.contains("nothing in the snapshot matches"), "{nothing}");
    let part = format!("latest:{}", place.path("source").display());
    let kept = place.run(&["restore", &part, "--target", "back", "--overwrite", "never", "--exclude", "*.o"]).expect(0);
    let next = format!(":{} --target back --overwrite never --exclude '*.o' --verify", place.path("source").display());
    assert!(kept.text().contains(&next), "{}", kept.text());
}

#[test]
fn what_is_named_is_backed_up_even_if_a_pattern_matches_it() {
    let place = Place::new();
    place.make_tree();
    let file = ["backup", "--init", "source/numbers.bin", "--exclude", "*.bin", "--json"];
    assert_eq!(only(&place.run(&[&file[..], &CHEAP].concat()).expect(0))["totals"]["files"], 1);
    let one = ["backup", "source", "--exclude", "*", "--exclude", "!*.bin", "--json"];
    assert_eq!(only(&place.run(&one).expect(0))["totals"]["files"], 1);
    let itself = ["backup", "source", "--exclude", "source", "--json"];
    assert_eq!(only(&place.run(&itself).expect(0))["totals"]["files"], 3);
    place.run(&["backup", "source", "--exclude", "**"]).expect(1);
}

#[test]
fn a_place_named_beneath_another_that_leaves_it_out_is_backed_up() {
    let place = Place::new();
    place.make_tree();
    fs::create_dir_all(place.path("source/cache/keep")).unwrap();
    fs::write(place.path("source/cache/keep/this"), "x").unwrap();
    let signature = "Signature: 8a477f597d28d172789f06886806bc55";
    fs::write(place.path("source/cache/CACHEDIR.TAG"), signature).unwrap();
    let named = ["backup", "--init", "source/cache/keep", "source", "--exclude-caches", "--json"];
    place.run(&[&named[..], &CHEAP].concat()).expect(0);
    let listed = place.run(&["ls", "latest"]).expect(0).text();
    assert!(listed.contains("/source/cache/keep/this") && listed.contains("/source/letters/ann.txt"), "{listed}");
    let again = only(&place.run(&["backup", "source/cache/keep/", "source/", "--exclude-caches", "--json"]).expect(0));
    assert!(!again["parent"].is_null(), "a slash at the end is no other place");
    std::os::unix::fs::symlink("cache", place.path("source/link")).unwrap();
    let by_link = place.run(&["backup", "source", "source/link/keep"]).expect(3).text();
    assert!(by_link.contains("name the place that it links to"), "{by_link}");
    place.run(&["backup", "source", "source/none"]).expect(3);
}

#[test]
fn a_file_system_that_is_named_is_backed_up_where_the_walk_stays_on_one() {
    let place = Place::new();
    place.make_tree();
    let Some(_disk) = crate::surroundings::small_disk(&place.path("source/mounted"), 1 << 20) else {
        println!("skipped: nothing can be mounted here");
        return;
    };
    fs::create_dir_all(place.path("source/mounted/deep")).unwrap();
    fs::write(place.path("source/mounted/deep/inside"), "x").unwrap();
    fs::write(place.path("source/mounted/beside"), "x").unwrap();
    let listed = |named: &[&str]| {
        place.run(&[&["backup", "--init", "-x"], named, &CHEAP[..]].concat()).expect(0);
        let text = place.run(&["ls", "latest"]).expect(0).text();
        ["/mounted\n", "/beside", "/deep/inside", "/letters/ann.txt"].map(|place| text.contains(place))
    };
    assert_eq!(listed(&["source"]), [true, false, false, true], "a mount point is kept");
    for order in [["source", "source/mounted"], ["source/mounted", "source"]] {
        assert_eq!(listed(&order), [true; 4], "{order:?}");
    }
    assert_eq!(listed(&["source/mounted/deep", "source"]), [true, false, true, true]);
}

// --------------------------------------------------------------------------------------------- done, partial, refused

#[test]
fn the_summary_of_a_backup_says_what_it_came_to() {
    let place = Place::new();
    place.make_tree();
    let made = place.run(&[&["backup", "--init", "source"], &CHEAP[..]].concat()).expect(0).text();
    for word in ["found", "3 files", "dedup", "delta", "compression", "added", "snapshot", "safe", "not safe", "next"] {
        assert!(made.contains(word), "no `{word}` in\n{made}");
    }
    let again = only(&place.run(&["backup", "source", "--verify", "--json"]).expect(0));
    has_fields(
        &again,
        &["dry_run", "snapshot", "parent", "partial", "verified", "files_unchanged", "totals", "problems"],
    );
    assert_eq!(again["message_type"], "backup");
    assert_eq!(again["files_unchanged"], 3);
    assert_eq!(again["verified"], true);
    // What changed a moment before the first run is read again, since times are coarse; but none of it is new.
    assert_eq!(again["totals"]["new_bytes"], 0);
    has_fields(
        &again["totals"],
        &["saved_by_dedup_bytes", "saved_by_delta_bytes", "saved_by_compression_bytes", "added_bytes"],
    );
}

#[test]
fn a_dry_run_stores_nothing() {
    let place = Place::with_snapshot();
    fs::write(place.path("source/more"), noise(50_000)).unwrap();
    let before = describe(&place.path("vault"));
    let run = only(&place.run(&["backup", "source", "--dry-run", "--json"]).expect(0));
    assert_eq!(run["snapshot"], Value::Null);
    assert_eq!(run["totals"]["files_new"], 1);
    assert_eq!(before, describe(&place.path("vault")));
}

#[test]
fn a_missing_source_makes_the_snapshot_partial() {
    let place = Place::with_snapshot();
    let run = place.run(&["backup", "source", "missing"]).expect(3);
    assert!(run.err.contains("missing") && run.text().contains("partial"), "{}{}", run.text(), run.err);
    let shown = only(&place.run(&["show", "latest", "--json"]).expect(0));
    assert_eq!(shown["snapshot"]["partial"], true);
    assert_eq!(shown["problems"].as_array().unwrap().len(), 1);
    // Nothing at all is no snapshot.
    place.run(&["backup", "missing"]).expect(1);
}

#[test]
fn a_repository_in_its_own_source_is_left_out() {
    let place = Place::with_snapshot();
    let run = place.run(&["backup", "."]).expect(0);
    assert!(run.err.contains("left out"), "{}", run.err);
    let listed = place.run(&["ls", "latest"]).expect(0).text();
    assert!(listed.contains("/source/numbers.bin") && !listed.contains("/vault"), "{listed}");
    for inside in ["vault", "vault/packs"] {
        let run = place.run(&["backup", inside]).expect(11);
        assert!(run.err.contains("repository itself"), "{}", run.err);
    }
}

#[test]
fn a_policy_that_keeps_nothing_is_refused() {
    let place = Place::with_snapshot();
    place.run(&["forget", "--keep-tag", "no-such-tag"]).expect(11);
    assert_eq!(only(&place.run(&["snapshots", "--json"]).expect(0))["snapshots"].as_array().unwrap().len(), 1);
}

#[test]
fn damage_is_an_exit_code_of_its_own() {
    let place = Place::with_snapshot();
    place.run(&["verify"]).expect(0);
    place.run(&["verify", "--structure"]).expect(0);
    place.run(&["check", "--sample", "50%"]).expect(0);
    has_fields(
        &only(&place.run(&["verify", "--all", "--json"]).expect(0)),
        &["depth", "packs", "read_bytes", "damages"],
    );
    for pack in files_below(&place.path("vault/packs")) {
        let mut bytes = fs::read(&pack).unwrap();
        let middle = bytes.len() / 3;
        bytes[middle] ^= 1;
        fs::write(&pack, bytes).unwrap();
    }
    let damaged = place.run(&["verify", "--all", "--json"]).expect(4);
    let damaged = only(&damaged);
    assert_eq!(damaged["damage"], true);
    has_fields(&damaged["damages"][0], &["object", "message", "files", "file_count"]);
    assert!(place.run(&["verify"]).expect(4).text().contains("damage"));
}

#[test]
fn a_damaged_snapshot_is_let_go_when_it_is_named_and_prune_goes_on() {
    let place = Place::with_snapshot();
    let damaged =
        only(&place.run(&["backup", "source", "--json"]).expect(0))["snapshot"]["id"].as_str().unwrap().to_owned();
    place.run(&["backup", "source/letters"]).expect(0);
    let object = place.path("vault/snapshots").join(&damaged);
    let mut bytes = fs::read(&object).unwrap();
    bytes[60] ^= 1;
    fs::write(&object, bytes).unwrap();
    let verified = place.run(&["verify", "--all"]).expect(4).text();
    assert!(verified.contains("damage   1 object") && verified.contains("cannot be read"), "{verified}");
    assert_eq!(only(&place.run(&["verify", "--all", "--json"]).expect(4))["damage"], true);
    let remedy = format!("keepstone forget {}", &damaged[..8]);
    for refused in [&["prune"][..], &["forget", "--keep-last", "1", "--prune"]] {
        let said = place.run(refused).expect(4);
        assert!(said.err.contains(&remedy), "{refused:?}: {}", said.err);
    }
    let dry = only(&place.run(&["forget", &damaged[..8], "--dry-run", "--json"]).expect(0));
    assert_eq!((dry["removed"].as_u64(), dry["unreadable"][0].as_str()), (Some(1), Some(&*damaged)));
    assert!(object.exists());
    place.run(&["forget", &damaged[..8], "--prune"]).expect(0);
    assert!(!object.exists());
    place.run(&["verify", "--all"]).expect(0);
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

// --------------------------------------------------------------------------------------------------------- looking

#[test]
fn snapshots_are_listed_and_chosen() {
    let place = Place::with_snapshot();
    place.run(&["backup", "source/letters", "--host", "web1", "--tag", "a,b", "--time", "2025-03-10 14:00"]).expect(0);
    let all = only(&place.run(&["snapshots", "--json"]).expect(0));
    let all = all["snapshots"].as_array().unwrap();
    assert_eq!(all.len(), 2);
    has_fields(&all[0], &["id", "short_id", "time", "host", "user", "paths", "tags", "kinds", "partial", "totals"]);
    assert_eq!(all[0]["time"], "2025-03-10T14:00:00Z", "the oldest comes first");
    assert_eq!(all[1]["user"], "ann");
    for (args, count) in [
        (&["--host", "web1"][..], 1),
        (&["--tag", "a,b"], 1),
        (&["--tag", "nightly", "--tag", "a"], 2),
        (&["--newer-than", "30d"], 1),
        (&["--kind", "files"], 2),
        (&["--kind", "db"], 0),
        (&["--latest", "1"], 2),
        (&["latest"], 1),
    ] {
        let listed = only(&place.run(&[&["snapshots", "--json"], args].concat()).expect(0));
        assert_eq!(listed["snapshots"].as_array().unwrap().len(), count, "{args:?}");
    }
    let table = place.run(&["snapshots"]).expect(0).text();
    assert!(table.contains("2025-03-10 14:00:00") && table.contains("a,b") && table.contains("next"), "{table}");
    place.run(&["show", "0123abcd"]).expect(1);
    assert!(place.run(&["show"]).expect(0).text().contains("never verified"));
}

#[test]
fn files_are_listed_found_and_compared() {
    let place = Place::with_snapshot();
    fs::write(place.path("source/letters/carl.txt"), "Dear Carl\n").unwrap();
    fs::write(place.path("source/letters/ann.txt"), "Dearest Ann\n").unwrap();
    place.run(&["backup", "source"]).expect(0);
    let objects = place.run(&["ls", "latest", "--json"]).expect(0).json();
    let entries = of_type(&objects, "entry");
    has_fields(entries[0], &["path", "kind", "mode", "uid", "gid", "size", "mtime", "user", "group"]);
    let link = entries.iter().find(|entry| entry["kind"] == "symlink").unwrap();
    assert_eq!(link["target"], "letters/ann.txt");
    assert_eq!(of_type(&objects, "ls")[0]["entries"], entries.len());
    let letters = place.path("source/letters");
    let direct = place.run(&[OsStr::new("ls"), OsStr::new("latest"), letters.as_os_str(), OsStr::new("--long")]);
    let direct = direct.expect(0).text();
    assert!(direct.contains("ann.txt") && direct.contains("drwx") && !direct.contains("bob.txt"), "{direct}");

    let found = place.run(&["find", "*.TXT", "--ignore-case", "--json"]).expect(0).json();
    assert_eq!(of_type(&found, "entry").len(), 5);
    assert_eq!(of_type(&found, "find")[0]["snapshots"], 2);
    let found = place.run(&["find", "*", "--larger", "100K", "--snapshot", "latest"]).expect(0).text();
    assert!(found.contains("numbers.bin") && !found.contains("ann.txt"), "{found}");

    let compared = place.run(&["diff", "latest~1", "latest"]).expect(0).text();
    assert!(compared.contains("+  ") && compared.contains("carl.txt") && compared.contains("M  "), "{compared}");
    let compared = place.run(&["diff", "latest~1", "latest", "--json"]).expect(0).json();
    assert_eq!(of_type(&compared, "diff")[0]["files_added"], 1);
    assert_eq!(of_type(&compared, "difference").len(), 2);
}

#[test]
fn odd_names_are_escaped_for_people_and_whole_for_programs() {
    let place = Place::new();
    place.make_odd_tree();
    place.run(&[&["backup", "--init", "odd"], &CHEAP[..]].concat()).expect(0);
    let text = place.run(&["ls", "latest"]).expect(0).text();
    assert!(text.contains("/odd/a\\nb\n") && text.contains("/odd/\\xff\\xfe not utf-8\n"), "{text}");
    let objects = place.run(&["ls", "latest", "--json"]).expect(0).json();
    let hex = objects.iter().filter_map(|object| object["path_hex"].as_str());
    let odd: Vec<&str> = hex.collect();
    assert_eq!(odd.len(), 1);
    assert!(odd[0].ends_with("2ffffe206e6f74207574662d38"), "{odd:?}");
}

#[test]
fn the_repository_says_what_it_holds() {
    let place = Place::with_snapshot();
    let stats = only(&place.run(&["stats", "--json"]).expect(0));
    has_fields(&stats, &["snapshots", "files", "restore_bytes", "unique_bytes", "stored_bytes", "areas"]);
    assert_eq!(stats["files"], 3);
    assert!(place.run(&["stats", "latest"]).expect(0).text().contains("packs"));
    let info = only(&place.run(&["info", "--json"]).expect(0));
    has_fields(&info, &["snapshots", "hosts", "total_bytes", "days", "weeks", "months"]);
    assert_eq!(info["days"].as_array().unwrap().len(), 1);
    assert!(place.run(&["info"]).expect(0).text().contains("Month"));
    assert!(
        place.run(&["cat", "config"]).expect(0).text().contains("fastcdc")
            || !place.run(&["cat", "config"]).out.is_empty()
    );
    let shown = only(&place.run(&["cat", "snapshot", "latest", "--json"]).expect(0));
    has_fields(&shown, &["kind", "object"]);
    place.run(&["cat", "blob", "zz"]).expect(2);
}

// -------------------------------------------------------------------------------------------------- looking after it

#[test]
fn keys_are_added_changed_and_removed() {
    let place = Place::with_snapshot();
    fs::write(place.path("second"), "another password\n").unwrap();
    let add =
        [&["key", "add", "--new-password-file", "second", "--label", "in the safe", "--json"], &CHEAP[..]].concat();
    let added = only(&place.run(&add).expect(0))["added"].as_str().unwrap().to_owned();
    place.run(&["--password-file", "second", "snapshots"]).expect(0);
    let listed = only(&place.run(&["key", "list", "--json"]).expect(0));
    assert_eq!(listed["keys"].as_array().unwrap().len(), 2);
    has_fields(&listed["keys"][0], &["id", "kind", "label", "created", "proven", "current", "kdf_memory_bytes"]);
    assert!(place.run(&["key", "list"]).expect(0).text().contains("in the safe"));
    // Not the one in use, and not the last.
    let first = listed["keys"].as_array().unwrap().iter().find(|key| key["current"] == true).unwrap();
    place.run(&["key", "remove", first["id"].as_str().unwrap()]).expect(11);
    place.run(&["key", "remove", &added[..8]]).expect(0);
    place.run(&["--password-file", "second", "snapshots"]).expect(12);
    let changed = place.run(&[&["key", "passwd", "--new-password-file", "second"], &CHEAP[..]].concat()).expect(0);
    assert!(changed.text().contains("--password-file second key list"), "{}", changed.text());
    place.run(&["snapshots"]).expect(12);
    place.run(&[&["--password-file", "second", "key", "rewrap"], &CHEAP[..]].concat()).expect(0);
    place.run(&["--password-file", "second", "snapshots"]).expect(0);
}

#[test]
fn tags_are_changed() {
    let place = Place::with_snapshot();
    let tagged = only(&place.run(&["tag", "--add", "keep", "latest", "--json"]).expect(0));
    assert_eq!(tagged["changed"][0]["tags"], serde_json::json!(["keep", "nightly"]));
    place.run(&["tag", "--remove", "nightly", "latest"]).expect(0);
    let listed = only(&place.run(&["snapshots", "--json"]).expect(0));
    assert_eq!(listed["snapshots"][0]["tags"], serde_json::json!(["keep"]));
    place.run(&["ls", "latest"]).expect(0);
}

#[test]
fn what_is_forgotten_is_pruned_and_the_rest_is_whole() {
    let place = Place::with_snapshot();
    fs::write(place.path("source/numbers.bin"), [noise(200_000), vec![7; 100_000]].concat()).unwrap();
    fs::write(place.path("source/later.bin"), noise(400_000)).unwrap();
    place.run(&["backup", "source"]).expect(0);
    let dry = only(&place.run(&["forget", "--keep-last", "1", "--dry-run", "--json"]).expect(0));
    has_fields(&dry, &["dry_run", "groups", "kept", "removed", "remaining", "added_bytes", "failures"]);
    assert_eq!((&dry["removed"], &dry["kept"]), (&Value::from(1), &Value::from(1)));
    assert!(place.run(&["forget", "--keep-last", "1"]).expect(0).text().contains("prune"));
    let dry = only(&place.run(&["prune", "--dry-run", "--json"]).expect(0));
    has_fields(&dry, &["packs_before", "packs_deleted", "freed_bytes", "waiting"]);
    place.run(&["prune", "--max-unused", "0%"]).expect(0);
    place.run(&["verify", "--all"]).expect(0);
    // The last one by name: that is asked for, not a policy.
    let both = place.run(&["forget", "latest", "--prune", "--json"]).expect(0).json();
    assert_eq!(of_type(&both, "forget")[0]["removed"], 1);
    assert_eq!(of_type(&both, "prune").len(), 1);
}

#[test]
fn a_lost_index_is_made_anew_from_the_packs() {
    let place = Place::with_snapshot();
    fs::remove_dir_all(place.path("vault/index")).unwrap();
    fs::remove_dir_all(place.path("cache")).unwrap();
    let rebuilt = only(&place.run(&["rebuild-index", "--json"]).expect(0));
    has_fields(&rebuilt, &["packs", "blobs", "segments_written", "damaged"]);
    place.run(&["verify"]).expect(0);
}

// ------------------------------------------------------------------------------------------------------- good manners

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let place = Place::with_snapshot();
    for command in ["ls latest", "ls latest --json", "dump latest", "snapshots", "completions bash"] {
        let script = format!("{} {command} | true; exit ${{PIPESTATUS[0]}}", crate::program::binary().display());
        let done = Command::new("bash")
            .args(["-c", &script])
            .current_dir(place.path(""))
            .env("KEEPSTONE_REPOSITORY", "vault")
            .env("KEEPSTONE_PASSWORD", PASSWORD)
            .env("KEEPSTONE_CACHE_DIR", place.path("cache"))
            .stdin(Stdio::null())
            .output();
        let Ok(done) = done else { return println!("skipped: there is no bash here") };
        let err = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(0), "{command}: {err}");
        assert!(!err.contains("panicked") && !err.contains("roken pipe"), "{command}: {err}");
    }
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let place = Place::with_snapshot();
    let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") else {
        return println!("skipped: there is no /dev/full here");
    };
    let run = place
        .run_with(
            &["snapshots"],
            |command| {
                command.stdout(full);
            },
            b"",
        )
        .expect(1);
    assert!(run.err.contains("cannot write to standard output") && run.err.contains("carried out"), "{}", run.err);
}

#[test]
fn a_password_is_nowhere_in_what_is_printed() {
    let place = Place::with_snapshot();
    for args in
        [&["snapshots", "--verbose"][..], &["cat", "config"], &["key", "list"], &["show"], &["-r", "no", "init"]]
    {
        let run = place.run(args);
        assert!(!run.text().contains(PASSWORD) && !run.err.contains(PASSWORD), "{args:?}");
    }
}

#[test]
fn quiet_is_quiet() {
    let place = Place::with_snapshot();
    let run = place.run(&["backup", ".", "--quiet"]).expect(0);
    assert_eq!(run.err, "");
}

#[test]
fn a_signal_stops_gently_and_the_next_run_goes_on() {
    let place = Place::new();
    place.run(&[&["init"], &CHEAP[..]].concat()).expect(0);
    // Its standard input is a pipe that stays open: it waits for more until it is told to stop.
    let mut child = Command::new(crate::program::binary())
        .args(["-r", "vault", "backup", "--stdin-filename", "endless", "--stdin-from-command", "--"])
        .args(["sh", "-c", "kill -INT $PPID; yes"])
        .current_dir(place.path(""))
        .env("KEEPSTONE_PASSWORD", PASSWORD)
        .env("KEEPSTONE_CACHE_DIR", place.path("cache"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    place.run(&["verify", "--structure"]);
    place.run(&["backup", "--stdin"]).expect(0);
}
