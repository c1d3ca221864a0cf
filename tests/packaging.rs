//! The units in `packaging/systemd`: what they start is started here, with the settings that the example gives.

use crate::nights;
use crate::program::{CHEAP, Place};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap()
}

/// The values of a key in a unit, in order.
fn values<'u>(unit: &'u str, key: &str) -> Vec<&'u str> {
    let value = |line: &'u str| line.strip_prefix(key)?.strip_prefix('=');
    unit.lines().filter_map(value).collect()
}

/// The example's settings, with the folders of this machine's owner replaced by those of the test.
fn settings() -> BTreeMap<String, String> {
    let example = read("example.env");
    let lines = example.lines().filter(|line| !line.starts_with('#'));
    let mut settings: BTreeMap<_, _> = lines
        .map(|line| line.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let sources = settings.get_mut("KEEPSTONE_SOURCES").unwrap();
    *sources = sources.replace("/etc /home /srv", "source");
    let (files, _database) = sources.split_once(" --postgres ").unwrap();
    *sources = files.to_owned();
    settings
}

/// A line of a unit as systemd hands it to the program: variables that stand alone become words.
fn words(line: &str, settings: &BTreeMap<String, String>) -> Vec<String> {
    let arguments = line.strip_prefix("/usr/local/bin/keepstone ").unwrap_or_else(|| panic!("{line}"));
    let expand = |word: &str| match word.strip_prefix('$') {
        Some(name) => settings[name].split(' ').map(str::to_owned).collect(),
        None => vec![word.replace("%%", "%")],
    };
    arguments.split(' ').flat_map(expand).collect()
}

#[test]
fn what_the_units_start_makes_a_night_and_a_morning() {
    let place = Place::new();
    place.make_tree();
    place.run(&[&["init"], &CHEAP[..]].concat()).expect(0);
    let settings = settings();
    for (unit, commands) in [("keepstone@.service", 2), ("keepstone-verify@.service", 1)] {
        let unit = read(unit);
        let lines = values(&unit, "ExecStart");
        assert_eq!(lines.len(), commands);
        for line in lines {
            let arguments = words(line, &settings);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            place.run(&arguments).expect(0);
        }
    }
    let listed = place.run(&["snapshots", "--json"]).expect(0).json();
    assert_eq!(listed[0]["snapshots"].as_array().unwrap().len(), 1);
}

#[test]
fn the_unit_of_a_profile_does_its_night() {
    let unit = read("keepstone-run@.service");
    let lines = values(&unit, "ExecStart");
    let arguments = lines[0].strip_prefix("/usr/local/bin/keepstone ").unwrap().replace("%i", "web");
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let place = nights::place("");
    nights::run(&place, &arguments).expect(0);
    let listed =
        nights::run(&place, &["--profile", "web", "snapshots", "--tag", "by:schedule", "--json"]).expect(0).json();
    assert_eq!(listed[0]["snapshots"].as_array().unwrap().len(), 1);
    assert_eq!((lines.len(), values(&unit, "LimitCORE")), (1, vec!["0"]));
    assert_eq!(values(&unit, "StateDirectory"), ["keepstone"], "the lock can be taken");
    assert_eq!(values(&read("keepstone-run@.timer"), "Persistent"), ["true"]);
}

#[test]
fn what_is_read_anew_on_sundays_and_read_back_in_the_morning_has_timers_of_its_own_at_the_times_that_a_first_config_has()
 {
    let whole = read("keepstone-whole@.timer");
    assert_eq!(values(&whole, "OnCalendar"), ["Sun *-*-* 03:00:00"]);
    assert_eq!(values(&whole, "Unit"), ["keepstone-run@%i.service"], "it is a night like all others");
    let morning = read("keepstone-run-verify@.timer");
    assert_eq!(values(&morning, "OnCalendar"), ["*-*-* 06:00:00"]);
    for timer in [&whole, &morning] {
        assert_eq!(values(timer, "Persistent"), ["true"]);
        assert!(values(timer, "RandomizedDelaySec").is_empty(), "what comes too late is left to the next night");
    }
    let unit = read("keepstone-run-verify@.service");
    let line = values(&unit, "ExecStart")[0].strip_prefix("/usr/local/bin/keepstone ").unwrap().replace("%i", "web");
    let place = nights::place("verify.newer_than = \"7d\"\n");
    nights::run(&place, &["run", "web"]).expect(0);
    let read_back = nights::run(&place, &line.split(' ').collect::<Vec<_>>()).expect(0).text();
    assert!(read_back.contains("1 new snapshot"), "{read_back}");
    // Whatever keeps the night's unit within bounds keeps this one.
    let bounds = |unit: &str| -> Vec<String> {
        let is_bound =
            |line: &&str| !line.starts_with('#') && !line.starts_with("ExecStart") && !line.starts_with("Description");
        unit.lines().filter(is_bound).map(str::to_owned).collect()
    };
    assert_eq!(bounds(&unit), bounds(&read("keepstone-run@.service")));
}

#[test]
fn reports_and_looks_between_nights_are_started_by_timers_of_their_own_and_write_only_into_their_state() {
    let place = nights::place("");
    for (name, arguments) in [("keepstone-report", &["report", "due"]), ("keepstone-check", &["notify", "check"])] {
        let unit = read(&format!("{name}.service"));
        assert_eq!(values(&unit, "ExecStart"), [format!("/usr/local/bin/keepstone {}", arguments.join(" "))]);
        nights::run(&place, arguments).expect(0);
        assert_eq!((values(&unit, "StateDirectory"), values(&unit, "LimitCORE")), (vec!["keepstone"], vec!["0"]));
        assert_eq!((values(&unit, "ProtectSystem"), values(&unit, "ReadWritePaths")), (vec!["strict"], vec![]));
        let timer = read(&format!("{name}.timer"));
        assert_eq!((values(&timer, "OnCalendar"), values(&timer, "Persistent")), (vec!["*:00/15"], vec!["true"]));
    }
}

#[test]
fn every_timer_starts_a_service_that_is_there_and_both_units_keep_keys_out_of_the_environment() {
    for timer in ["keepstone@.timer", "keepstone-verify@.timer"] {
        assert_eq!(values(&read(timer), "Persistent"), ["true"], "a night that was slept through is made up for");
        let service = read(&timer.replace(".timer", ".service"));
        assert_eq!(values(&service, "LoadCredential"), ["key:/etc/keepstone/%i.key"]);
        assert_eq!(values(&service, "LimitCORE"), ["0"]);
        assert!(values(&service, "Environment").contains(&"KEEPSTONE_KEY_FILE=%d/key"));
        assert!(!service.contains("KEEPSTONE_PASSWORD"));
    }
}
