//! How things stand, as `health` says it.

use crate::nights::{place, run};
use crate::program::{CHEAP, Place};
use crate::servers::seaweed;
use keepstone::history::{History, figure};
use serde_json::Value;
use std::fs;

/// What `health` says of the profile, and that it ends with this code.
fn health(place: &Place, code: i32) -> Value {
    let mut said = run(place, &["health", "web", "--json"]).expect(code).json();
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(said[1]["status"], said[0]["status"]);
    said.remove(0)
}

/// The status of a check, and what it says.
fn check(health: &Value, name: &str) -> (String, String) {
    let check = health["checks"].as_array().unwrap().iter().find(|check| check["name"] == name);
    let check = check.unwrap_or_else(|| panic!("no check {name}: {health}"));
    (check["status"].as_str().unwrap().to_owned(), format!("{}; {}", check["message"], check["remedy"]))
}

fn night(place: &Place) {
    run(place, &["run", "web"]).expect(0);
}

/// A place whose nights read back and try all, and that has a second way in.
fn cared_for() -> Place {
    let place = place("verify.newer_than = \"7d\"\ndrill.full = true\n");
    let spare = place.path("spare.key").display().to_string();
    run(&place, &["--profile", "web", "key", "add", "--generate-key-file", &spare]).expect(0);
    place
}

#[test]
fn a_repository_that_is_cared_for_is_well_and_one_way_in_is_a_warning() {
    let place = cared_for();
    night(&place);
    let good = health(&place, 0);
    assert_eq!(good["status"], "ok", "{good}");
    for name in ["repository", "consistency", "keys", "clock", "space", "complete", "verified", "drilled", "runs"] {
        assert_eq!(check(&good, name).0, "ok", "{good}");
    }
    let text = run(&place, &["health"]).expect(0).text();
    assert!(text.contains("web in main: ok") && text.contains("overall   ok"), "{text}");
    let alone = self::place("verify.newer_than = \"7d\"\ndrill.full = true\n");
    night(&alone);
    let said = health(&alone, 20);
    assert_eq!((said["status"].as_str().unwrap(), check(&said, "keys").0.as_str()), ("warning", "warning"));
    assert!(check(&said, "keys").1.contains("one way in"), "{said}");
}

#[test]
fn a_profile_without_a_snapshot_or_without_its_repository_is_critical() {
    let place = cared_for();
    let none = health(&place, 21);
    assert_eq!(check(&none, "complete"), ("critical".into(), check(&none, "complete").1));
    assert!(check(&none, "complete").1.contains("keepstone run web"), "{none}");
    assert_eq!(check(&none, "runs").0, "warning");
    fs::rename(place.path("vault"), place.path("away")).unwrap();
    let gone = health(&place, 21);
    let (status, said) = check(&gone, "repository");
    assert!(status == "critical" && said.contains("cannot be opened"), "{said}");
}

#[test]
fn packs_that_are_gone_and_runs_that_failed_are_critical_and_told_with_a_remedy() {
    let place = cared_for();
    night(&place);
    let packs = fs::read_dir(place.path("vault/packs")).unwrap().map(|entry| entry.unwrap().path());
    let pack = packs.flat_map(|folder| fs::read_dir(folder).unwrap()).next().unwrap().unwrap().path();
    fs::rename(&pack, place.path("pack")).unwrap();
    let hurt = health(&place, 21);
    let (status, said) = check(&hurt, "consistency");
    assert!(status == "critical" && said.contains("repair plan"), "{said}");
    fs::rename(place.path("pack"), &pack).unwrap();
    let config = place.path("keepstone.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}hooks.before = \"echo no disk >&2; false\"\n")).unwrap();
    run(&place, &["run", "web"]).expect(1);
    let failed = health(&place, 21);
    let (status, said) = check(&failed, "runs");
    assert!(status == "critical" && said.contains("no disk") && said.contains("history show"), "{said}");
}

#[test]
fn what_is_too_old_or_too_slow_is_what_the_rules_for_alerts_say() {
    let place = cared_for();
    night(&place);
    let (mut history, _) = History::open(&place.path("state"), 7).unwrap();
    let mut slow = history.newest("web").unwrap().unwrap();
    slow.figures.set(figure::RESTORE_MS, 3_600_000);
    history.end(&slow).unwrap();
    drop(history);
    let (status, said) = check(&health(&place, 20), "rto");
    assert!(status == "warning" && said.contains("took 1 h 0 min, and a restore may take 30 min 0 s"), "{said}");
    let config = place.path("keepstone.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}alerts.warning.rto = \"2h\"\n")).unwrap();
    assert_eq!(check(&health(&place, 0), "rto").0, "ok");
    fs::write(&config, format!("{text}alerts.critical.rto = \"59min\"\n")).unwrap();
    assert_eq!(check(&health(&place, 21), "rto").0, "critical");
}

#[test]
fn a_bucket_whose_certificate_ends_soon_is_told_before_it_does() {
    let Some(server) = seaweed::server() else { return };
    let Some(certificate) = server.certificate() else { return };
    let place = place("");
    let config = place.path("keepstone.toml");
    let text = fs::read_to_string(&config).unwrap();
    let tls =
        server.place().replace("http://", "https://").replace(&server.port.to_string(), &server.tls_port.to_string());
    let vault = format!("place = \"{}\"", place.path("vault").display());
    let bucket = format!("place = \"{tls}\"\ns3.ca = \"{}\"", certificate.display());
    fs::write(&config, text.replace(&vault, &bucket)).unwrap();
    let run = |args: &[&str]| {
        let as_timer = |command: &mut std::process::Command| {
            command.env_remove("KEEPSTONE_REPOSITORY").env_remove("KEEPSTONE_PASSWORD");
            command.env("KEEPSTONE_CONFIG", &config).envs(server.environment());
        };
        place.run_with(args, as_timer, b"")
    };
    run(&[&["--profile", "web", "init"], &CHEAP[..]].concat()).expect(0);
    run(&["run", "web"]).expect(0);
    let mut said = run(&["health", "web", "--json"]).expect(20).json();
    let (status, seen) = check(&said.remove(0), "certificates");
    let shown = format!("the certificate of 127.0.0.1:{} ends on ", server.tls_port);
    assert!(status == "warning" && seen.contains(&shown) && seen.contains("renew it"), "{status}: {seen}");
}
