//! Nights of a profile, run as a timer runs them.

use crate::program::{CHEAP, Place, Run};
use crate::servers::postgres::server;
use crate::servers::receiver::Receiver;
use keepstone::base::RunId;
use keepstone::history::{Entry, History, figure};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// A place with a repository, two folders and a profile of both, with more in its config.
pub fn place(more: &str) -> Place {
    let place = Place::new();
    place.make_tree();
    fs::create_dir_all(place.path("second")).unwrap();
    fs::write(place.path("second/note"), "to do").unwrap();
    fs::write(place.path("password"), "correct horse\n").unwrap();
    fs::set_permissions(place.path("password"), fs::Permissions::from_mode(0o600)).unwrap();
    let at = |name: &str| place.path(name).display().to_string();
    let text = format!(
        "state_dir = \"{}\"\n[repositories.main]\nplace = \"{}\"\npassword_file = \"{}\"\ncache_dir = \"{}\"\n\
         [profiles.web]\nrepository = \"main\"\ntags = [\"site\"]\nsources.paths = [\"{}\", \"{}\"]\nlimits.min_free = 0\n{}",
        at("state"),
        at("vault"),
        at("password"),
        at("cache"),
        at("source"),
        at("second"),
        more.replace("HERE", &at(""))
    );
    fs::write(place.path("keepstone.toml"), text).unwrap();
    let made = run(&place, &[&["--profile", "web", "init"], &CHEAP[..]].concat()).expect(0).text();
    assert!(made.trim_end().ends_with(" run web"), "{made}");
    place
}

/// As a timer starts it: nothing in the environment but where the config is.
fn alone<'c>(place: &Place, command: &'c mut Command) -> &'c mut Command {
    command.env_remove("KEEPSTONE_REPOSITORY").env_remove("KEEPSTONE_PASSWORD").env_remove("KEEPSTONE_CACHE_DIR");
    command.env("KEEPSTONE_CONFIG", place.path("keepstone.toml"))
}

/// Runs as a timer does.
pub fn run(place: &Place, args: &[&str]) -> Run {
    place.run_with(
        args,
        |command| {
            alone(place, command);
        },
        b"",
    )
}

fn night(place: &Place, code: i32) -> Value {
    run(place, &["run", "web", "--by", "schedule", "--json"]).expect(code).json().remove(0)
}

/// How a phase ended, and what it said.
fn phase<'n>(night: &'n Value, name: &str) -> (&'n str, &'n str) {
    let found = night["phases"].as_array().unwrap().iter().find(|phase| phase["name"] == name);
    found.map_or(("absent", ""), |phase| (phase["outcome"].as_str().unwrap(), phase["message"].as_str().unwrap()))
}

#[test]
fn a_night_backs_up_reads_back_forgets_prunes_and_tries_a_restore() {
    let place = place(
        "[profiles.web.retention]\nlast = 2\n[profiles.web.verify]\nnewer_than = \"7d\"\nshare = \"1/2\"\n\
         [profiles.web.drill]\nschedule = \"0 3 1 * *\"\nfull = true\n",
    );
    // What other hands made stays.
    run(&place, &["--profile", "web", "backup", place.path("second").to_str().unwrap()]).expect(0);
    let first = night(&place, 0);
    for name in ["preflight", "backup", "verify", "forget", "prune", "drill"] {
        assert_eq!(phase(&first, name).0, "done", "{name}: {first}");
    }
    assert_eq!(first["snapshot"]["tags"], serde_json::json!(["by:schedule", "profile:web", "site"]));
    let second = night(&place, 0);
    let (ended, why) = phase(&second, "drill");
    assert!(ended == "skipped" && why.contains("not due before"), "{why}");
    let text = run(&place, &["run", "web"]).expect(0).text();
    assert!(text.contains("web, by hand") && text.contains("1 snapshot removed, 2 kept"), "{text}");
    let listed = run(&place, &["--profile", "web", "snapshots", "--json"]).expect(0).json();
    assert_eq!(listed[0]["snapshots"].as_array().unwrap().len(), 3, "two of the profile, one of somebody's");
}

#[test]
fn a_source_that_fails_makes_the_night_partial_and_nothing_is_forgotten() {
    let place = place("retention.last = 1\nsources.command.list.run = \"echo half; exit 3\"\n");
    for _ in 0..2 {
        let night = night(&place, 3);
        assert_eq!(night["outcome"], "partial");
        assert_eq!(phase(&night, "backup").0, "partial");
        for name in ["forget", "prune"] {
            let (ended, why) = phase(&night, name);
            assert!(ended == "skipped" && why.contains("lacks nothing"), "{name}: {why}");
        }
    }
    let listed = run(&place, &["--profile", "web", "snapshots", "--json"]).expect(0).json();
    assert_eq!(listed[0]["snapshots"].as_array().unwrap().len(), 2);
}

#[test]
fn a_machine_that_may_only_write_has_its_nights_and_leaves_the_rest_to_others() {
    let place = place(
        "[profiles.web.retention]\nlast = 1\n[profiles.web.verify]\nshare = \"1/1\"\n\
         [profiles.web.drill]\nschedule = \"0 3 1 * *\"\n",
    );
    let (config, key) = (place.path("keepstone.toml"), place.path("host7.key"));
    let key = key.to_str().unwrap();
    run(&place, &["--profile", "web", "key", "add", "--write-only", "--generate-key-file", key]).expect(0);
    let full = fs::read_to_string(&config).unwrap();
    let password = place.path("password").display().to_string();
    fs::write(&config, full.replace(&format!("password_file = \"{password}\""), &format!("key_file = \"{key}\"")))
        .unwrap();
    for _ in 0..2 {
        let night = night(&place, 0);
        assert_eq!((phase(&night, "preflight").0, phase(&night, "backup").0), ("done", "done"), "{night}");
        for name in ["verify", "forget", "prune", "drill"] {
            let (ended, why) = phase(&night, name);
            assert!(ended == "skipped" && why.contains("may only write"), "{name}: {why}");
        }
    }
    run(&place, &["health", "--json"]);
    let history = run(&place, &["history", "--json"]).expect(0).json();
    assert_eq!(history.iter().map(|entry| &entry["outcome"]).collect::<Vec<_>>(), ["done", "done"]);
    fs::write(&config, full).unwrap();
    let listed = run(&place, &["--profile", "web", "snapshots", "--json"]).expect(0).json();
    assert_eq!(listed[0]["snapshots"].as_array().unwrap().len(), 2, "nothing was forgotten");
    run(&place, &["--profile", "web", "verify", "--all"]).expect(0);
}

#[test]
fn hooks_run_around_the_backup_and_one_that_fails_before_it_stops_it() {
    let hooks = "[profiles.web.hooks]\nbefore = \"echo before >> HERE/ran\"\nafter = \"echo after $KEEPSTONE_OUTCOME >> HERE/ran\"\n\
                 failed = \"echo failed $KEEPSTONE_OUTCOME >> HERE/ran\"\nfinally = \"echo finally $KEEPSTONE_PROFILE >> HERE/ran\"\n";
    let good = place(hooks);
    let night_of_good = night(&good, 0);
    assert_eq!(fs::read_to_string(good.path("ran")).unwrap(), "before\nafter done\nfinally web\n");
    assert_eq!(phase(&night_of_good, "after").0, "done");
    let bad = place(&hooks.replace("echo before", "echo no disk >&2; false; exit 1; echo"));
    let night_of_bad = night(&bad, 1);
    assert_eq!((phase(&night_of_bad, "before").0, phase(&night_of_bad, "backup").0), ("failed", "skipped"));
    assert!(phase(&night_of_bad, "before").1.contains("no disk"), "{night_of_bad}");
    assert_eq!(fs::read_to_string(bad.path("ran")).unwrap(), "failed failed\nfinally web\n");
    assert_eq!(night_of_bad["snapshot"], Value::Null);
}

#[test]
fn a_night_that_finds_damage_names_it_and_calls_nothing_safe_that_may_need_it() {
    let place = place("verify.newer_than = \"7d\"\n");
    night(&place, 0);
    let folder = fs::read_dir(place.path("vault/packs")).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()).unwrap();
    let damaged = run(&place, &["run", "web"]).expect(4).text();
    assert!(damaged.contains("safe      what does not need the objects that are named above"), "{damaged}");
    assert!(damaged.contains("repair plan") && !damaged.contains("damaged: it is gone"), "{damaged}");
}

#[test]
fn a_night_that_is_stopped_after_its_backup_is_interrupted() {
    // Its parent is the night itself.
    let place = place("verify.newer_than = \"7d\"\nretention.last = 1\nhooks.after = \"kill -TERM $PPID\"\n");
    let stopped = night(&place, 130);
    assert_eq!((phase(&stopped, "backup").0, phase(&stopped, "verify").0), ("done", "failed"), "{stopped}");
    assert_eq!(phase(&stopped, "forget").0, "skipped", "{stopped}");
    let entries = run(&place, &["history", "--json"]).expect(0).json();
    assert_eq!(entries[0]["outcome"], "interrupted");
}

#[test]
fn a_night_that_is_stopped_while_it_opens_its_repository_says_so() {
    let place = place("");
    let text = fs::read_to_string(place.path("keepstone.toml")).unwrap();
    let file = format!("password_file = \"{}\"", place.path("password").display());
    let slow = "password_command = \"kill -TERM $PPID; sleep 1000\"";
    fs::write(place.path("keepstone.toml"), text.replace(&file, slow)).unwrap();
    let stopped = night(&place, 130);
    assert_eq!((phase(&stopped, "preflight").0, phase(&stopped, "backup").0), ("failed", "skipped"), "{stopped}");
    let entries = run(&place, &["history", "--json"]).expect(0).json();
    assert_eq!(entries[0]["outcome"], "interrupted");
}

#[test]
fn a_second_run_of_a_profile_says_so_and_leaves() {
    // The first run waits in its hook until its pipe is closed.
    let receiver = Receiver::start("");
    let place = place(
        "hooks.before = \"echo begun > HERE/pipe; cat HERE/hold\"\nnotify.night = \"beat\"\n\
         [notify.ping.beat]\nurl_file = \"HERE/beat\"\n",
    );
    fs::write(place.path("beat"), format!("{}\n", receiver.url("/ping"))).unwrap();
    for name in ["pipe", "hold"] {
        rustix::fs::mkfifoat(rustix::fs::CWD, place.path(name), rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    }
    let mut command = place.command(&["run", "web", "--json"]);
    let child = alone(&place, &mut command).spawn().unwrap();
    let mut begun = String::new();
    BufReader::new(fs::File::open(place.path("pipe")).unwrap()).read_line(&mut begun).unwrap();
    assert_eq!(begun, "begun\n");
    let second = run(&place, &["run", "web"]).expect(11);
    assert!(
        second.err.contains(&format!("being run on this machine already (process {})", child.id())),
        "{}",
        second.err
    );
    let health = run(&place, &["health", "web"]).text();
    assert!(
        health.contains("a run has been going on for") && health.contains(&format!("(process {})", child.id())),
        "{health}"
    );
    drop(fs::File::options().write(true).open(place.path("hold")).unwrap());
    Run::of(child).expect(0);
    let entries = run(&place, &["history", "--json"]).expect(0).json();
    let ended: Vec<_> = entries.iter().map(|entry| entry["outcome"].as_str().unwrap()).collect();
    assert_eq!(ended, ["done", "refused"], "the second one is not forgotten");
    let told: Vec<String> = receiver.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(told, ["/ping/start", "/ping"], "one that leaves again has not begun");
    assert!(entries[1]["problems"][0]["message"].as_str().unwrap().contains("already"), "{entries:?}");
}

#[test]
fn a_night_without_its_repository_runs_the_hooks_of_a_failure_and_ends_with_its_code() {
    let place = place("hooks.failed = \"echo $KEEPSTONE_MESSAGE > HERE/ran\"\n");
    fs::rename(place.path("vault"), place.path("away")).unwrap();
    let gone = night(&place, 10);
    assert_eq!((phase(&gone, "preflight").0, phase(&gone, "backup").0), ("failed", "skipped"));
    assert!(fs::read_to_string(place.path("ran")).unwrap().contains("vault"));
    fs::rename(place.path("away"), place.path("vault")).unwrap();
    fs::write(place.path("password"), "wrong\n").unwrap();
    night(&place, 12);
    fs::write(place.path("password"), "correct horse\n").unwrap();
    let text = fs::read_to_string(place.path("keepstone.toml")).unwrap();
    fs::write(place.path("keepstone.toml"), text.replace("min_free = 0", "min_free = \"9000T\"")).unwrap();
    let full = night(&place, 1);
    assert!(phase(&full, "preflight").1.contains("limits.min_free"), "{full}");
}

#[test]
fn a_night_does_not_begin_where_what_half_of_the_last_nights_added_does_not_fit() {
    let place = place("");
    night(&place, 0);
    let (mut history, _) = History::open(&place.path("state"), 7).unwrap();
    let known = history.newest("web").unwrap().unwrap();
    for number in 1..=3 {
        let mut large =
            Entry { id: RunId([number; 16]), begun_ns: known.begun_ns + i64::from(number), ..known.clone() };
        large.figures.set(figure::ADDED_BYTES, 1 << 62);
        history.end(&large).unwrap();
    }
    drop(history);
    let stopped = night(&place, 1);
    let (ended, why) = phase(&stopped, "preflight");
    assert!(ended == "failed" && why.contains("half of the last 3 nights added 4096.0 PiB"), "{why}");
    assert_eq!(phase(&stopped, "backup").0, "skipped");
    let text = fs::read_to_string(place.path("keepstone.toml")).unwrap();
    let text = text.replace("limits.min_free = 0", "limits.min_free = 0\nlimits.ignore_free_space = true");
    fs::write(place.path("keepstone.toml"), text).unwrap();
    night(&place, 0);
}

#[test]
fn a_run_has_the_priorities_of_its_profile_and_so_have_the_programs_that_it_starts() {
    let place =
        place("load.nice = 11\nload.ionice = \"idle\"\nhooks.before = \"nice > HERE/nice; ionice > HERE/ionice\"\n");
    let night = night(&place, 0);
    assert_eq!(fs::read_to_string(place.path("nice")).unwrap(), "11\n");
    assert_eq!(fs::read_to_string(place.path("ionice")).unwrap(), "idle\n", "{night}");
}

#[test]
fn a_variable_that_holds_a_password_is_kept_from_hooks_and_commands() {
    let place = place("hooks.before = \"env > HERE/seen\"\nsources.command.list.run = \"env\"\n");
    let config = place.path("keepstone.toml");
    let text = fs::read_to_string(&config).unwrap();
    let line = text.lines().find(|line| line.starts_with("password_file")).unwrap();
    fs::write(&config, text.replace(line, "password_env = \"SHOP_SECRET\"")).unwrap();
    let with_secret = |args: &[&str]| {
        let run = place.run_with(
            args,
            |command| {
                alone(&place, command).env("SHOP_SECRET", "correct horse");
            },
            b"",
        );
        run.expect(0)
    };
    with_secret(&["run", "web"]);
    assert!(!fs::read_to_string(place.path("seen")).unwrap().contains("SHOP_SECRET"));
    let printed = with_secret(&["--profile", "web", "dump", "latest", "/@command/list"]).text();
    assert!(printed.contains("PATH=") && !printed.contains("SHOP_SECRET"), "{printed}");
}

#[test]
fn nobody_gives_a_snapshot_the_tags_of_a_profile_by_hand() {
    let place = place("");
    night(&place, 0);
    for args in [
        &["--profile", "web", "backup", "--tag", "profile:web", "second"][..],
        &["--profile", "web", "tag", "--add", "by:hand", "latest"],
    ] {
        let refused = run(&place, args).expect(2);
        assert!(refused.err.contains("looks like a tag that a run of a profile gives by itself"), "{}", refused.err);
    }
}

#[test]
fn the_folder_of_state_is_shown_where_only_the_environment_names_it() {
    let place = place("");
    let config = place.path("keepstone.toml");
    let text = fs::read_to_string(&config).unwrap();
    let line = text.lines().find(|line| line.starts_with("state_dir")).unwrap();
    fs::write(&config, text.replace(line, "")).unwrap();
    let mut command = place.command(&["config", "show", "web"]);
    let child = alone(&place, &mut command).env("KEEPSTONE_STATE_DIR", "/srv/state").spawn().unwrap();
    let shown = Run::of(child).expect(0).text();
    assert!(shown.contains("state_dir = \"/srv/state\"") && shown.contains("from the environment"), "{shown}");
}

#[test]
fn a_night_with_a_database_is_tried_on_a_server_and_its_tables_stand_in_the_history() {
    let Some(server) = server() else { return };
    let address = server.create(
        "CREATE TABLE orders (id int PRIMARY KEY, note text); INSERT INTO orders SELECT i, md5(i::text) FROM generate_series(1, 500) i;
         CREATE TABLE empty (id int);",
    );
    let place = place(&format!(
        "[profiles.web.sources.postgres.shop]\nurl = \"{}\"\nprograms = \"{programs}\"\n[profiles.web.load]\nreplication_lag = \"1h\"\n\
         [profiles.web.drill]\nfull = true\nallow_source_server = true\n[profiles.web.drill.postgres]\nurl = \"{}\"\n\
         programs = \"{programs}\"\n",
        server.socket_url(&address.database),
        server.socket_url("postgres"),
        programs = server.programs.display(),
    ));
    let first = night(&place, 0);
    assert!(phase(&first, "drill").1.contains("came back as promised: 1 database, "), "{first}");
    server
        .connect(&address.database)
        .execute("INSERT INTO orders VALUES (501, 'one more'), (502, 'and another')")
        .unwrap();
    night(&place, 0);
    let entries = run(&place, &["history", "--json"]).expect(0).json();
    let rows = |entry: &Value| {
        let table = entry["tables"].as_array().unwrap().iter().find(|table| table["name"] == "public.orders");
        let table = table.unwrap_or_else(|| panic!("no table: {entry}"));
        assert_eq!(table["source"], "@postgres/shop");
        (table["rows"].as_u64().unwrap(), table["bytes"].as_u64().unwrap() > 0)
    };
    assert_eq!((rows(&entries[0]), rows(&entries[1])), ((500, true), (502, true)));
    let figures = &entries[1]["figures"];
    assert_eq!((&figures["databases"], &figures["rows"], &figures["tables"]), (&1.into(), &502.into(), &2.into()));
    assert!(figures["restore_ms"].is_u64() && figures["paused_ms"] == 0, "{figures}");
    let looks = run(&place, &["health", "web", "--json"]).json().remove(0);
    let looks = looks["checks"].as_array().unwrap();
    let database = looks.iter().find(|check| check["name"] == "databases").unwrap();
    assert!(database["message"].as_str().unwrap().contains("can be dumped (PostgreSQL"), "{looks:?}");
}

#[test]
fn commands_of_the_profile_run_around_a_restore_and_one_that_fails_before_it_stops_it() {
    let hooks = "[profiles.web.hooks.restore]\nbefore = \"echo before $KEEPSTONE_TARGET >> HERE/ran\"\n\
                 after = \"echo after $KEEPSTONE_OUTCOME >> HERE/ran\"\nfailed = \"echo failed $KEEPSTONE_OUTCOME >> HERE/ran\"\n\
                 finally = \"echo finally $KEEPSTONE_PROFILE >> HERE/ran\"\n";
    let good = place(hooks);
    night(&good, 0);
    assert!(!good.path("ran").exists(), "a backup is no restore");
    let restore = ["--profile", "web", "restore", "latest", "--target", "back"];
    run(&good, &[&restore[..], &["--dry-run"]].concat()).expect(0);
    assert!(!good.path("ran").exists(), "nothing is written, so nobody has to stop for it");
    run(&good, &restore).expect(0);
    assert_eq!(fs::read_to_string(good.path("ran")).unwrap(), "before back\nafter done\nfinally web\n");
    let bad = place(&hooks.replace("echo before", "echo in use >&2; false; exit 1; echo"));
    night(&bad, 0);
    let refused = run(&bad, &restore).expect(11);
    assert!(refused.err.contains("nothing was written") && refused.err.contains("in use"), "{}", refused.err);
    assert!(!bad.path("back").exists());
    assert_eq!(fs::read_to_string(bad.path("ran")).unwrap(), "failed failed\nfinally web\n");
    let late = place("hooks.restore.finally = \"exit 3\"\n");
    night(&late, 0);
    let failed = run(&late, &restore).expect(1);
    assert!(failed.text().contains("what the command that failed should have done"), "{}", failed.text());
    assert!(late.path("back").exists());
}

#[test]
fn databases_that_the_config_protects_are_never_written_over_whatever_is_confirmed() {
    let Some(server) = server() else { return };
    let address = server.create("CREATE TABLE t (n int); INSERT INTO t VALUES (1)");
    let place = place(&format!(
        "protected = \"*_live\"\nsources.postgres.shop.url = \"{}\"\nsources.postgres.shop.programs = \"{}\"\n\
         hooks.restore.before = \"echo $KEEPSTONE_DATABASE >> HERE/ran\"\n",
        server.socket_url(&address.database),
        server.programs.display()
    ));
    night(&place, 0);
    let name = format!("{}_live", address.database);
    let programs = server.programs.display().to_string();
    let restore = |more: &[&str]| {
        let url = server.socket_url(&name);
        let all = ["--profile", "web", "restore", "latest", "--to-postgres", &url, "--programs", &programs];
        run(&place, &[&all[..], more].concat())
    };
    // Where there is none of that name it may come back.
    restore(&["--create"]).expect(0);
    assert_eq!(fs::read_to_string(place.path("ran")).unwrap(), format!("{name}\n"));
    for more in [&["--confirm-destructive", &name][..], &["--drop-existing", "--confirm-destructive", &name]] {
        let refused = restore(more).expect(11);
        assert!(refused.err.contains("the config protects `*_live`"), "{}", refused.err);
    }
    // Whoever names no profile finds the names at the top of the config.
    let config = place.path("keepstone.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("protected = [\"{name}\"]\n{}", text.replace("protected = \"*_live\"\n", ""))).unwrap();
    let vault = place.path("vault").display().to_string();
    let password = place.path("password").display().to_string();
    let url = server.socket_url(&name);
    let args = ["-r", &vault, "--password-file", &password, "restore", "latest", "--to-postgres", &url];
    let refused = run(&place, &[&args[..], &["--drop-existing", "--confirm-destructive", &name]].concat()).expect(11);
    assert!(refused.err.contains("the config protects"), "{}", refused.err);
    assert_eq!(server.connect(&name).value("SELECT count(*) FROM t").unwrap().as_deref(), Some("1"));
}

#[test]
fn how_people_were_told_stands_in_the_history_and_makes_no_bad_night_of_a_good_one() {
    let place = place("notify.night = \"note\"\n[notify.command.note]\nrun = \"echo nobody there >&2; exit 3\"\n");
    let night = night_of(&place);
    assert_eq!(phase(&night, "announce").0, "failed", "{night}");
    let entry = run(&place, &["history", "--json"]).expect(0).json().remove(0);
    let told = entry["phases"].as_array().unwrap().last().unwrap();
    assert_eq!((&told["name"], &told["outcome"]), (&"announce".into(), &"failed".into()), "{entry}");
    assert!(told["message"].as_str().unwrap().contains("nobody there"), "{entry}");
    assert_eq!((&entry["outcome"], &entry["sealed"]), (&"done".into(), &true.into()));
    let lines = run(&place, &["log", "local", "--json"]).expect(0).text();
    assert!(lines.contains("\"operation\":\"announce\""), "{lines}");
}

fn night_of(place: &Place) -> Value {
    run(place, &["run", "web", "--json"]).json().remove(0)
}

#[test]
fn a_night_reads_everything_when_that_is_due_and_when_somebody_says_so() {
    let place = place("whole = \"0 3 1 1 *\"\n");
    let read = |night: &Value| {
        let backup = night["phases"].as_array().unwrap().iter().find(|phase| phase["name"] == "backup").unwrap();
        (backup["figures"]["whole"].as_u64().unwrap(), night["snapshot"]["parent"].is_null())
    };
    let check = || {
        let health = run(&place, &["health", "web", "--json"]).json().remove(0);
        let found = health["checks"].as_array().unwrap().iter().find(|check| check["name"] == "whole").cloned();
        found.unwrap()["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(check(), "warning", "nothing was read yet");
    assert_eq!(read(&night(&place, 0)), (1, true), "the first one compares with nothing");
    assert_eq!(check(), "ok");
    assert_eq!(read(&night(&place, 0)), (0, false), "it is not due again");
    let by_hand = run(&place, &["run", "web", "--whole", "--json"]).expect(0).json().remove(0);
    assert_eq!(read(&by_hand), (1, true));
    assert!(phase(&by_hand, "backup").1.contains("everything read whether it looked changed or not"), "{by_hand}");
    // Only what the repository remembers is left: those that read everything are known from it too.
    fs::remove_dir_all(place.path("state")).unwrap();
    assert_eq!(read(&night(&place, 0)), (0, false));
    // Neither remembers one of this year's.
    let config = place.path("keepstone.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("[profiles.web]", "[profiles.other]\ninherit = \"web\"\n[profiles.web]")).unwrap();
    let other = run(&place, &["run", "other", "--json"]).expect(0).json().remove(0);
    assert_eq!(read(&other), (1, true), "another profile is another matter");
}

#[test]
fn single_tasks_have_times_of_their_own_and_are_no_nights() {
    let receiver = Receiver::start("");
    let place = place(
        "schedule = \"0 2 * * *\"\nnotify.night = \"beat\"\n[notify.ping.beat]\nurl_file = \"HERE/beat\"\n\
         [profiles.web.verify]\nschedule = \"0 6 1 1 *\"\nnewer_than = \"7d\"\n[profiles.web.drill]\nfull = true\n",
    );
    fs::write(place.path("beat"), format!("{}\n", receiver.url("/ping"))).unwrap();
    let only = |by: &str, task: &str, code: i32| {
        run(&place, &["run", "web", "--only", task, "--by", by, "--json"]).expect(code).json().remove(0)
    };
    let names = |run: &Value| -> Vec<String> {
        run["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = night(&place, 0);
    assert_eq!(phase(&first, "verify").0, "done", "a night does what nobody did at its time");
    assert!(phase(&night(&place, 0), "verify").1.contains("not due before"));
    let by_timer = only("schedule", "verify", 0);
    assert_eq!(names(&by_timer), ["preflight", "verify", "announce"]);
    assert!(phase(&by_timer, "verify").1.contains("not due before"), "{by_timer}");
    assert_eq!((&by_timer["snapshot"], &by_timer["outcome"]), (&Value::Null, &"done".into()));
    let by_hand = only("hand", "verify", 0);
    assert!(phase(&by_hand, "verify").1.starts_with("2 new snapshots: "), "{by_hand}");
    assert!(phase(&only("hand", "drill", 0), "drill").1.contains("came back as promised"));
    assert_eq!(receiver.requests().len(), 4, "two nights have begun and ended: nobody takes a task for a night");
    let metrics = run(&place, &["metrics"]).expect(0).text();
    for series in ["backup_total{type=\"web\",status=\"done\"} 2.0", "backup_verification_total{status=\"done\"} 2.0"] {
        assert!(metrics.contains(series), "{series}: {metrics}");
    }
    let report =
        run(&place, &["report", "--from", "2020-01-01", "--to", "2099-12-31", "--json"]).expect(0).json().remove(0);
    assert_eq!((&report["all"]["runs"], &report["profiles"][0]["verify"]["all"]), (&2.into(), &2.into()), "{report}");
    // A task finds what is wrong, and the next good night does not hide it.
    let packs = fs::read_dir(place.path("vault/packs")).unwrap().map(|entry| entry.unwrap().path());
    let pack = packs.flat_map(|folder| fs::read_dir(folder).unwrap()).next().unwrap().unwrap().path();
    let bytes = fs::read(&pack).unwrap();
    let hurt: Vec<u8> = bytes.iter().map(|byte| byte ^ 1).collect();
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, hurt).unwrap();
    assert_eq!(only("hand", "verify", 4)["outcome"], "damage");
    let health = run(&place, &["health", "web", "--json"]).expect(21).json().remove(0);
    let checks = health["checks"].as_array().unwrap();
    let of = |name: &str| checks.iter().find(|check| check["name"] == name).map(|check| check["status"].clone());
    assert_eq!((of("runs"), of("tasks")), (Some("ok".into()), Some("critical".into())), "{health}");
    let metrics = run(&place, &["metrics"]).expect(0).text();
    assert!(metrics.contains("check_type=\"error\"} 2.0"), "it is an alert like that of a night: {metrics}");
}

#[test]
fn a_task_that_the_profile_says_nothing_of_is_refused() {
    let place = place("");
    let refused = run(&place, &["run", "web", "--only", "drill"]).expect(2);
    assert!(refused.err.contains("has no table `drill`"), "{}", refused.err);
    run(&place, &["run", "web", "--only", "verify", "--whole"]).expect(2);
}

#[test]
fn a_profile_may_be_called_metrics_or_reports() {
    let place = place("[metrics]\ntextfile = \"HERE/keepstone.prom\"\n");
    let text = fs::read_to_string(place.path("keepstone.toml")).unwrap();
    fs::write(place.path("keepstone.toml"), text.replace("[profiles.web]", "[profiles.metrics]")).unwrap();
    let text = run(&place, &["run", "metrics"]).expect(0).text();
    assert!(text.contains("written to"), "{text}");
}

#[test]
fn metrics_are_written_again_after_a_command_of_a_profile() {
    let place = place("[metrics]\ntextfile = \"HERE/collector/keepstone.prom\"\n");
    fs::create_dir(place.path("collector")).unwrap();
    let file = place.path("collector/keepstone.prom");
    run(&place, &["--profile", "web", "backup", place.path("second").to_str().unwrap()]).expect(0);
    assert!(fs::read_to_string(&file).unwrap().contains("backup_disk_free_bytes{repository=\"main\"}"));
    fs::remove_file(&file).unwrap();
    run(&place, &["--profile", "web", "snapshots"]).expect(0);
    assert!(!file.exists(), "looking changes nothing");
    run(&place, &["--profile", "web", "verify", "--all"]).expect(0);
    assert!(file.exists());
    fs::remove_dir_all(place.path("collector")).unwrap();
    let told = run(&place, &["--profile", "web", "verify", "--all"]).expect(0);
    assert!(
        told.err.contains("the metrics are those of before") && told.err.contains("its folder is not there"),
        "{}",
        told.err
    );
}

#[test]
fn a_night_whose_path_is_suddenly_empty_lets_nothing_go() {
    let place = place("retention.last = 1\n");
    night(&place, 0);
    let full = night(&place, 0)["snapshot"]["id"].as_str().unwrap().to_owned();
    fs::rename(place.path("second/note"), place.path("note")).unwrap();
    for _ in 0..2 {
        let (ended, why) = night(&place, 11)["phases"].as_array().map_or((Value::Null, Value::Null), |phases| {
            let forget = phases.iter().find(|phase| phase["name"] == "forget").unwrap();
            (forget["outcome"].clone(), forget["message"].clone())
        });
        let why = why.as_str().unwrap();
        assert!(ended == "failed" && why.contains(&full[..8]) && why.contains("second is empty"), "{ended}: {why}");
    }
    let list = run(&place, &["--profile", "web", "snapshots", "--json"]).expect(0).json();
    assert_eq!(list[0]["snapshots"].as_array().map_or(list.len(), Vec::len), 3, "{list:?}");
    fs::rename(place.path("note"), place.path("second/note")).unwrap();
    assert_eq!(phase(&night(&place, 0), "forget").0, "done");
}

#[test]
fn two_machines_that_have_one_name_let_nothing_of_each_other_go() {
    let place = place("retention.last = 3\n");
    let config = fs::read_to_string(place.path("keepstone.toml")).unwrap();
    let second = format!(", \"{}\"", place.path("second").display());
    let other = config.replace(&second, "").replace("/state\"", "/state-of-another\"");
    assert_ne!(config, other);
    let mut codes = Vec::new();
    for config in [&config, &other, &config, &other] {
        fs::write(place.path("keepstone.toml"), config).unwrap();
        let run = run(&place, &["run", "web", "--by", "schedule", "--json"]);
        codes.push(run.code);
        if run.code != 0 {
            let night = run.json().remove(0);
            assert!(phase(&night, "forget").1.contains("as if two machines had one name"), "{night}");
        }
    }
    assert_eq!(codes, [0, 0, 0, 11]);
}
