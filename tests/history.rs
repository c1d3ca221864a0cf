//! What runs of a profile leave behind: entries, sealed records, lines of the operation log.

use crate::nights::{place, run};
use crate::program::Place;
use keepstone::base::RunId;
use keepstone::history::{Entry, History};
use serde_json::Value;
use std::fs;

fn night(place: &Place, code: i32) -> Value {
    run(place, &["run", "web", "--by", "schedule", "--json"]).expect(code).json().remove(0)
}

fn history(place: &Place, more: &[&str]) -> Vec<Value> {
    run(place, &[&["history", "--json"], more].concat()).expect(0).json()
}

fn outcomes(place: &Place) -> Vec<String> {
    history(place, &[]).iter().map(|entry| entry["outcome"].as_str().unwrap().to_owned()).collect()
}

fn sealed(place: &Place) -> Vec<Value> {
    let mut entries = run(place, &["--profile", "web", "log", "--operation", "run", "--json"]).expect(0).json();
    entries.retain(|entry| entry["message_type"] == "log_entry");
    entries
}

#[test]
fn every_run_leaves_an_entry_a_sealed_record_and_lines_that_say_the_same() {
    let place = place("retention.last = 2\nverify.share = \"1/1\"\ndrill.full = true\n");
    let night = night(&place, 0);
    let entry = history(&place, &["--outcome", "done"]).remove(0);
    assert_eq!(entry["id"], night["run"]);
    assert_eq!(
        (&entry["profile"], &entry["by"], &entry["repository"]),
        (&"web".into(), &"schedule".into(), &"main".into())
    );
    assert_eq!(entry["snapshot"], night["snapshot"]["id"]);
    for name in ["content_bytes", "read_bytes", "new_bytes", "added_bytes", "repository_bytes", "peak_memory_bytes"] {
        assert!(entry["figures"][name].as_u64().unwrap() > 0, "{name}: {entry}");
    }
    for name in [
        "seal_ms",
        "upload_ms",
        "verify_ms",
        "store_retries",
        "source_retries",
        "repository_free_before_bytes",
        "repository_free_after_bytes",
        "cache_free_before_bytes",
        "cache_free_after_bytes",
        "restore_ms",
        "problems",
    ] {
        assert!(entry["figures"][name].is_u64(), "{name}: {entry}");
    }
    assert_eq!(entry["figures"]["snapshots"], 1);
    assert!(entry["ratios"]["compression"].as_f64().unwrap() > 0.0, "{entry}");
    let phases: Vec<_> = entry["phases"].as_array().unwrap().iter().map(|phase| &phase["name"]).collect();
    assert_eq!(phases, ["preflight", "backup", "verify", "forget", "prune", "drill"]);
    assert_eq!(entry["sealed"], true);
    let record = sealed(&place).remove(0);
    assert_eq!((&record["id"], &record["snapshots"][0]), (&entry["id"], &entry["snapshot"]));
    assert_eq!(record["figures"], entry["figures"]);
    let text = fs::read_to_string(place.path("state/operations.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let operations: Vec<_> = lines.iter().map(|line| &line["operation"]).collect();
    assert_eq!(operations, ["preflight", "backup", "verify", "forget", "prune", "drill", "run"]);
    let backup = &lines[1];
    assert_eq!((&backup["status"], &backup["details"]["size"]), (&"done".into(), &entry["figures"]["added_bytes"]));
    assert!(backup["timestamp"].as_str().unwrap().ends_with('Z') && backup["details"]["duration"].is_f64(), "{backup}");
    let local =
        run(&place, &["log", "local", "--operation", "backup", "--operation", "run", "--json"]).expect(0).json();
    assert_eq!(local.len(), 2);
    let shown = run(&place, &["history", "show", &entry["id"].as_str().unwrap()[..8]]).expect(0).text();
    assert!(shown.contains("web, by schedule") && shown.contains("in the history and in the repository"), "{shown}");
    let days = history(&place, &["--days"]);
    assert_eq!((&days[0]["runs"], &days[0]["done"]), (&1.into(), &1.into()));
}

#[test]
fn what_is_done_by_hand_to_the_repository_of_a_profile_stands_in_the_operation_log_too() {
    let place = place("");
    night(&place, 0);
    run(&place, &["--profile", "web", "verify"]).expect(0);
    run(&place, &["--profile", "web", "snapshots"]).expect(0);
    let target = place.path("back").display().to_string();
    run(&place, &["--profile", "web", "restore", "deadbeef", "--target", &target]).expect(1);
    let lines = run(&place, &["log", "local", "--json"]).expect(0).json();
    let said: Vec<_> =
        lines.iter().map(|line| (line["operation"].as_str().unwrap(), line["status"].as_str().unwrap())).collect();
    assert_eq!(said[said.len() - 2..], [("verify", "done"), ("restore", "failed")], "{said:?}");
    assert!(lines.last().unwrap()["details"]["message"].as_str().unwrap().contains("deadbeef"), "{lines:?}");
}

#[test]
fn a_history_that_is_gone_comes_back_from_the_records_in_the_repository() {
    let place = place("");
    night(&place, 0);
    night(&place, 0);
    let before = history(&place, &[]);
    fs::remove_file(place.path("state/history.sqlite")).unwrap();
    assert!(history(&place, &[]).is_empty());
    let rebuilt = run(&place, &["history", "rebuild", "--json"]).expect(0).json();
    assert_eq!((&rebuilt[0]["repository"], &rebuilt[0]["runs"]), (&"main".into(), &2.into()));
    assert_eq!(history(&place, &[]), before);
    let again = run(&place, &["history", "rebuild", "--json"]).expect(0).json();
    assert_eq!(again[0]["runs"], 0, "what is there stays as it is");
    let elsewhere = run(&place, &["history", "rebuild", "--host", "elsewhere"]).expect(0).text();
    assert!(elsewhere.contains("0 runs from the records of main"), "{elsewhere}");
    // Nobody has to ask for it: the next night does the same by itself.
    fs::remove_dir_all(place.path("state")).unwrap();
    night(&place, 0);
    assert_eq!(history(&place, &[])[..2], before[..]);
    assert_eq!(outcomes(&place), ["done", "done", "done"]);
}

#[test]
fn a_run_that_was_killed_is_found_by_the_next_one_which_makes_up_for_it() {
    let place = place("hooks.before = \"test -e HERE/calm || kill -9 $PPID\"\n");
    assert_eq!(run(&place, &["run", "web", "--by", "schedule"]).code, -1);
    assert_eq!(outcomes(&place), ["vanished"], "whoever asks is told, also before that");
    fs::write(place.path("calm"), "").unwrap();
    let next = night(&place, 0);
    let killed = history(&place, &["--outcome", "vanished"]).remove(0);
    assert_eq!(next["vanished"][0]["run"], killed["id"]);
    assert_eq!(killed["duration_ms"], Value::Null, "nobody knows for how long it ran");
    assert_eq!(outcomes(&place), ["vanished", "done"]);
    let records: Vec<_> = sealed(&place).iter().map(|record| record["outcome"].clone()).collect();
    assert_eq!(records, ["vanished", "done"], "the repository knows it too");
    assert!(night(&place, 0)["vanished"].as_array().unwrap().is_empty(), "it is told once");
    let lines = run(&place, &["log", "local", "--status", "vanished", "--json"]).expect(0).json();
    assert_eq!(lines.len(), 1);
}

#[test]
fn a_run_that_was_killed_is_told_wherever_somebody_looks_first_and_nobody_who_looks_writes_it_down() {
    let place = place(
        "hooks.before = \"test -e HERE/calm || kill -9 $PPID\"\nnotify.channels = \"ops\"\n\
         [notify.command.ops]\nrun = \"cat > HERE/told\"\n",
    );
    fs::write(place.path("calm"), "").unwrap();
    night(&place, 0);
    fs::remove_file(place.path("calm")).unwrap();
    assert_eq!(run(&place, &["run", "web"]).code, -1);
    let id = history(&place, &["--outcome", "vanished"]).remove(0)["id"].as_str().unwrap().to_owned();
    assert!(history(&place, &["--outcome", "running"]).is_empty());
    let shown = run(&place, &["history", "show", &id[..8], "--json"]).expect(0).json();
    assert_eq!(shown[0]["outcome"], "vanished");
    let health = run(&place, &["health", "web", "--json"]).expect(21).json().remove(0);
    let runs = health["checks"].as_array().unwrap().iter().find(|check| check["name"] == "runs").unwrap();
    assert_eq!(runs["status"], "critical");
    assert!(runs["message"].as_str().unwrap().contains("ended as vanished: its process was ended"), "{runs}");
    let report = run(&place, &["report", "--from", "2020-01-01", "--to", "2099-12-31", "--json"]).expect(0).json();
    assert_eq!(report[0]["profiles"][0]["errors"]["vanished"], 1, "{report:?}");
    let metrics = run(&place, &["metrics"]).expect(0).text();
    assert!(metrics.contains("backup_total{type=\"web\",status=\"vanished\"} 1.0"), "{metrics}");
    for list in ["snapshots", "log"] {
        let listed = run(&place, &["--profile", "web", list]).expect(0);
        assert!(listed.err.contains("vanished") && listed.err.contains("run web"), "{list}: {}", listed.err);
    }
    run(&place, &["notify", "check"]).expect(0);
    let told = fs::read_to_string(place.path("told")).unwrap();
    assert!(told.contains("critical") && told.contains("vanished"), "{told}");
    // All of that left it to the next run to write it down and to seal it.
    fs::write(place.path("calm"), "").unwrap();
    assert_eq!(night(&place, 0)["vanished"][0]["run"], id.as_str());
    let listed = run(&place, &["--profile", "web", "snapshots"]).expect(0);
    assert!(!listed.err.contains("vanished"), "{}", listed.err);
    let metrics = run(&place, &["metrics"]).expect(0).text();
    assert!(metrics.contains("backup_total{type=\"web\",status=\"vanished\"} 1.0"), "it is counted once: {metrics}");
}

#[test]
fn a_run_from_the_future_hides_no_later_one_and_no_phase_waits_for_it() {
    let place = place("verify.newer_than = \"7d\"\nverify.schedule = \"0 * * * *\"\n");
    night(&place, 0);
    let (mut history, _) = History::open(&place.path("state"), 7).unwrap();
    let newest = history.newest("web").unwrap().unwrap();
    let ten_years_ns = 3650 * 86_400 * 1_000_000_000;
    let begun_ns = newest.begun_ns + ten_years_ns;
    let ahead = Entry { id: RunId([9; 16]), begun_ns, ended_ns: Some(begun_ns + 1), is_sealed: false, ..newest };
    history.end(&ahead).unwrap();
    drop(history);
    // It is sealed too, so that records in the repository say the same.
    night(&place, 0);
    assert_eq!(sealed(&place).len(), 3);
    let metrics = run(&place, &["metrics"]).expect(0).text();
    let times = metrics.lines().filter(|line| !line.starts_with('#') && line.contains("_timestamp_seconds"));
    let times: Vec<f64> = times.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    let ahead = (begun_ns / 1_000_000_000) as f64 - 86_400.0;
    assert!(!times.is_empty() && times.iter().all(|time| *time < ahead), "{metrics}");
    let health = run(&place, &["health", "web", "--json"]).code;
    assert!([0, 20].contains(&health), "{health}");
    let health = run(&place, &["health", "web"]).text();
    assert!(health.contains("a clock was ahead"), "{health}");
    let verify =
        night(&place, 0)["phases"].as_array().unwrap().iter().find(|one| one["name"] == "verify").cloned().unwrap();
    let years = ["2035", "2036", "2037", "2038"];
    assert!(!years.iter().any(|year| verify["message"].as_str().unwrap().contains(year)), "{verify}");
}

#[test]
fn a_history_that_cannot_be_used_costs_the_backup_nothing() {
    let place = place("");
    night(&place, 0);
    let file = place.path("state/history.sqlite");
    fs::write(&file, "these are not the bytes of a database, however long one looks at them ".repeat(100)).unwrap();
    let damaged = night(&place, 0);
    let why = damaged["unwritten"][0]["message"].as_str().unwrap();
    assert!(why.contains("it was moved to") && why.contains("history.sqlite.damaged-"), "{why}");
    assert_eq!(outcomes(&place), ["done", "done"], "it was filled again from the repository");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let unwritable = night(&place, 0);
    assert_eq!((&unwritable["outcome"], unwritable["snapshot"].is_object()), (&"done".into(), true));
    let why = unwritable["unwritten"][0]["message"].as_str().unwrap();
    assert!(why.contains("history.sqlite") && why.contains("the backup does without"), "{why}");
    assert!(why.contains("`keepstone --profile web history rebuild`"), "{why}");
    assert_eq!(sealed(&place).len(), 3, "the record lies in the repository all the same");
    fs::remove_dir(&file).unwrap();
    night(&place, 0);
    assert_eq!(outcomes(&place).len(), 4);
}

#[test]
fn a_night_that_did_not_reach_its_repository_is_sealed_by_the_next_one_that_does() {
    let place = place("");
    fs::rename(place.path("vault"), place.path("away")).unwrap();
    night(&place, 10);
    let failed = history(&place, &[]).remove(0);
    assert_eq!((&failed["outcome"], &failed["sealed"]), (&"failed".into(), &false.into()));
    assert_eq!(failed["phases"][0]["kind"], "no_repository");
    fs::rename(place.path("away"), place.path("vault")).unwrap();
    night(&place, 0);
    let records: Vec<_> = sealed(&place).iter().map(|record| record["outcome"].clone()).collect();
    assert_eq!(records, ["failed", "done"]);
    assert!(history(&place, &[]).iter().all(|entry| entry["sealed"] == true));
}
