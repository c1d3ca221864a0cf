//! Metrics as a real Prometheus reads them, and what `packaging/` makes of them.

use crate::nights;
use crate::program::Place;
use crate::servers::prometheus::{self, Server, promtool};
use crate::servers::proxy::{Fate, Proxy};
use crate::servers::receiver::Receiver;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

/// A place after a good night with everything in it and a partial one, whose metrics are in a file.
fn nights_with_metrics(more: &str, gate: &str) -> Place {
    let place = nights::place(&format!(
        "sources.command.list.run = \"test ! -e HERE/bad\"\nretention.last = 5\nverify.newer_than = \"7d\"\ndrill.full = true\n\
         [metrics]\ntextfile = \"HERE/collector/keepstone.prom\"\n{more}"
    ));
    fs::create_dir(place.path("collector")).unwrap();
    fs::write(place.path("gate"), format!("{gate}\n")).unwrap();
    nights::run(&place, &["run", "web", "--by", "schedule"]).expect(0);
    fs::write(place.path("bad"), "").unwrap();
    nights::run(&place, &["run", "web", "--by", "schedule"]).expect(3);
    place
}

/// The value of a series, as text.
fn value<'t>(text: &'t str, series: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
}

/// The names of all series.
fn names(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split(['{', ' ']).next()).collect()
}

#[test]
fn a_night_leaves_a_file_for_the_collector_that_counts_all_nights() {
    let place = nights_with_metrics("", "");
    let file = place.path("collector/keepstone.prom");
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    for (series, expected) in [
        ("backup_total{type=\"web\",status=\"done\"}", "1.0"),
        ("backup_total{type=\"web\",status=\"partial\"}", "1.0"),
        ("backup_errors_total{error_type=\"source\"}", "1.0"),
        ("backup_verification_total{status=\"done\"}", "2.0"),
        ("backup_verification_total{status=\"damage\"}", "0.0"),
        ("backup_restore_total{status=\"done\"}", "2.0"),
        ("backup_success_rate{type=\"web\"}", "0.5"),
        ("backup_size_bytes_count{type=\"web\"}", "2.0"),
        ("backup_encryption_time_seconds_count", "2.0"),
        ("backup_upload_time_seconds_count{cloud_provider=\"local\"}", "2.0"),
        ("backup_health_status{type=\"web\",check_type=\"error\"}", "2.0"),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
    }
    for name in [
        "backup_duration_seconds_bucket",
        "backup_total_size_bytes",
        "backup_disk_usage_percent",
        "backup_disk_free_bytes",
        "backup_last_complete_timestamp_seconds",
        "backup_last_verified_timestamp_seconds",
        "backup_last_drilled_timestamp_seconds",
    ] {
        assert!(names(&text).contains(name), "{name}\n{text}");
    }
    assert!(!text.contains("_age_seconds"), "an age would stand still in a file");
    if prometheus::is_installed() {
        promtool(&place.path(""), &["check", "metrics"], &text);
    }
    // What the history lets go of stays counted.
    fs::remove_file(place.path("state/history.sqlite")).unwrap();
    fs::rename(place.path("vault"), place.path("away")).unwrap();
    nights::run(&place, &["run", "web"]).expect(10);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(value(&text, "backup_total{type=\"web\",status=\"done\"}"), Some("1.0"), "{text}");
    assert_eq!(value(&text, "backup_total{type=\"web\",status=\"failed\"}"), Some("1.0"), "{text}");
}

#[test]
fn a_push_gateway_is_told_and_what_cannot_be_written_is_a_failure_of_the_night() {
    let gateway = Receiver::start("");
    let place = nights_with_metrics("url_file = \"HERE/gate\"\ntimeout = 5\n", &gateway.url("/s3cr3t/"));
    assert_eq!(gateway.requests().len(), 2);
    fs::remove_file(place.path("bad")).unwrap();
    let night = nights::run(&place, &["run", "web", "--json"]).expect(0);
    let pushed = gateway.requests();
    assert_eq!((pushed.len(), pushed[2].method.as_str()), (3, "PUT"));
    assert!(pushed[2].path.starts_with("/s3cr3t/metrics/job/keepstone/instance/"), "{}", pushed[2].path);
    assert_eq!(pushed[2].body, fs::read(place.path("collector/keepstone.prom")).unwrap());
    assert!(!night.text().contains("s3cr3t"));
    fs::remove_dir_all(place.path("collector")).unwrap();
    gateway.answer(500);
    let night = nights::run(&place, &["run", "web"]).expect(1);
    let text = night.text();
    assert!(text.contains("metrics    failed") && text.contains("is it that of the collector?"), "{text}");
}

#[test]
fn a_real_prometheus_scrapes_it_and_the_dashboard_and_the_rules_ask_for_what_is_there() {
    if !prometheus::is_installed() {
        return;
    }
    let place = nights_with_metrics("", "");
    let live = nights::run(&place, &["metrics", "--openmetrics"]).expect(0).text();
    assert!(live.ends_with("# EOF\n") && live.contains("backup_last_complete_age_seconds"), "{live}");
    let answer = live.clone();
    let exporter = Proxy::before(0, move |_| {
        let headers = vec![("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8".to_owned())];
        Fate::Answer(200, headers, answer.clone())
    });
    let server = Server::scraping(exporter.port);
    let answer = server.ask("backup_total{status=\"partial\"}", "backup_total");
    assert!(answer.contains("type=\"web\"") && answer.contains("=> 1 @"), "{answer}");
    server.ask("up", "=> 1 @");
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(packaging("grafana/keepstone.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let rules = fs::read_to_string(packaging("prometheus/keepstone-rules.yml")).unwrap();
    let mut questions: Vec<String> = targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    questions.extend(rules.lines().filter_map(|line| Some(line.trim().strip_prefix("expr: ")?.to_owned())));
    assert!(questions.len() > 30, "{questions:?}");
    for question in &questions {
        let question = question.replace("$type", ".*").replace("$instance", ".*");
        server.understands(&question);
        let asked = question
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .filter(|word| word.starts_with("backup_"));
        for name in asked {
            assert!(names(&live).contains(name), "{question} asks for {name}, which there is not");
        }
    }
}

#[test]
fn promtool_likes_the_scrape_config_and_the_rules_and_they_alarm_when_they_should() {
    if !prometheus::is_installed() {
        return;
    }
    let folder = packaging("prometheus");
    promtool(&folder, &["check", "config", "prometheus.yml"], "");
    promtool(&folder, &["check", "rules", "keepstone-rules.yml"], "");
    promtool(&folder, &["test", "rules", "keepstone-rules-test.yml"], "");
}
