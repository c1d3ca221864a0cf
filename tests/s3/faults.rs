//! Lines that break and servers that fail, between the program and a real S3 server.

use super::{Bucket, CHEAP, Place, Run, fs};
use crate::program::{describe, noise};
use crate::servers::proxy::{Fate, Proxy, error, faults};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// From its making to its pruning, and back bit for bit.
pub fn live(place: &Place, run: impl Fn(&[&str]) -> Run) {
    place.make_tree();
    run(&[&["init"], &CHEAP[..]].concat()).expect(0);
    run(&["backup", "source"]).expect(0);
    fs::write(place.path("source/letters/new.txt"), "news".repeat(1000)).unwrap();
    fs::write(place.path("source/more.bin"), noise(2_000_000)).unwrap();
    fs::remove_file(place.path("source/numbers.bin")).unwrap();
    run(&["backup", "source"]).expect(0);
    run(&["verify", "--all"]).expect(0);
    run(&["forget", "--keep-last", "1"]).expect(0);
    run(&["prune", "--max-unused", "0%"]).expect(0);
    // Nothing may hang on what the caches of this machine know.
    fs::remove_dir_all(place.path("cache")).unwrap();
    run(&["restore", "latest", "--target", "back"]).expect(0);
    let source = place.path("source").canonicalize().unwrap();
    assert_eq!(describe(&place.path("back").join(source.strip_prefix("/").unwrap())), describe(&source));
}

#[test]
fn a_whole_life_goes_well_through_a_line_that_harms_every_fifth_request() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let seeds = if std::env::var_os("KEEPSTONE_LONG").is_some() { 1..30 } else { 1..3 };
    for seed in seeds {
        println!("seed {seed}");
        let (place, direct) = (Place::new(), server.place());
        let proxy = Proxy::before(server.port, faults(seed, 20));
        let bucket = Bucket::at(server, proxy.place(&direct));
        live(&place, |args| bucket.run(&place, args));
        // What was stored through it is whole for those who come another way.
        Bucket::at(server, direct).run(&place, &["verify", "--all"]).expect(0);
    }
}

#[test]
fn a_put_whose_answer_is_lost_is_known_for_our_own() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let place = Place::new();
    let asked: Mutex<BTreeSet<String>> = Mutex::default();
    // The first answer to each put is lost, and the second says that somebody else is at it.
    let proxy = Proxy::before(server.port, move |request| match request.method.as_str() {
        "PUT" if asked.lock().unwrap().insert(request.path.clone()) => Fate::Lose,
        "PUT" if asked.lock().unwrap().insert(format!("{} again", request.path)) => error(
            409,
            "ConditionalRequestConflict",
            "The conditional request cannot succeed due to a conflicting operation against this resource.",
        ),
        _ => Fate::Pass,
    });
    let bucket = Bucket::at(server, proxy.place(&server.place()));
    live(&place, |args| bucket.run(&place, args));
}

#[test]
fn repeated_requests_are_told_counted_and_recorded() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let (place, direct) = (Place::new(), server.place());
    place.make_tree();
    Bucket::at(server, direct.clone()).run(&place, &[&["init"], &CHEAP[..]].concat()).expect(0);
    let failing = AtomicU64::new(3);
    let proxy = Proxy::before(server.port, move |request| {
        let fails = request.path.contains("/packs/") && request.method == "PUT";
        match fails && failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            true => error(503, "SlowDown", "Please reduce your request rate."),
            false => Fate::Pass,
        }
    });
    let bucket = Bucket::at(server, proxy.place(&direct));
    let done = bucket.run(&place, &["backup", "source", "--json"]).expect(0);
    let store = &done.json()[0]["store"];
    assert_eq!(store["retries"], 3, "{store}");
    assert_eq!(done.err.matches("SlowDown").count(), 3, "{}", done.err);
    assert!(done.err.contains("of 12 follows in"), "{}", done.err);
    let seen = proxy.seen();
    let count = |method: &str| seen.iter().filter(|request| request.method == method).count() as u64;
    // The record of the run is stored after the figures in it were taken, and before those that are printed.
    assert_eq!(store["writes"].as_u64(), Some(count("PUT")));
    assert_eq!(store["deletes"].as_u64(), Some(0));
    assert_eq!(store["requests"].as_u64(), Some(seen.len() as u64));
    let runs = bucket.run(&place, &["store", "ls", "--kind", "runs", "--json"]).expect(0).json();
    let id = runs[0]["name"].as_str().unwrap();
    let record = bucket.run(&place, &["cat", "run", id]).expect(0).text();
    assert!(record.contains("store_retries"), "{record}");
}

#[test]
fn a_store_that_stays_away_fails_the_run_and_loses_nothing() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let (place, direct) = (Place::new(), server.place());
    place.make_tree();
    let away = Arc::new(AtomicBool::new(false));
    let is_away = away.clone();
    let proxy = Proxy::before(server.port, move |request| {
        // From the first pack on.
        if request.path.contains("/packs/") && request.method == "PUT" {
            is_away.store(true, Ordering::SeqCst);
        }
        match is_away.load(Ordering::SeqCst) {
            true => error(503, "ServiceUnavailable", "Service is unable to handle request."),
            false => Fate::Pass,
        }
    });
    let (bucket, direct) = (Bucket::at(server, proxy.place(&direct)), Bucket::at(server, direct));
    direct.run(&place, &[&["backup", "--init"], &CHEAP[..], &["source"]].concat()).expect(0);
    fs::write(place.path("source/more.bin"), noise(400_000)).unwrap();
    let failed = bucket.run(&place, &["backup", "source", "--s3-tries", "2"]).expect(1);
    assert!(failed.err.contains("ServiceUnavailable"), "{}", failed.err);
    assert!(!failed.text().contains("snapshot"), "{}", failed.text());
    away.store(false, Ordering::SeqCst);
    direct.run(&place, &["verify", "--all"]).expect(0);
    direct.run(&place, &["backup", "source"]).expect(0);
    direct.run(&place, &["restore", "latest", "--target", "back"]).expect(0);
    let source = place.path("source").canonicalize().unwrap();
    assert_eq!(describe(&place.path("back").join(source.strip_prefix("/").unwrap())), describe(&source));
}

#[test]
fn a_limit_of_bandwidth_and_one_of_connections_are_kept() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let (place, direct) = (Place::new(), server.place());
    let proxy = Proxy::before(server.port, |_| Fate::Pass);
    let bucket = Bucket::at(server, proxy.place(&direct));
    fs::create_dir(place.path("source")).unwrap();
    fs::write(place.path("source/noise"), noise(1_500_000)).unwrap();
    bucket.run(&place, &[&["init", "--s3-connections", "1"], &CHEAP[..]].concat()).expect(0);
    // It cannot be quicker than the limit allows, however slow this machine is.
    let since = std::time::Instant::now();
    bucket.run(&place, &["backup", "source", "--limit-upload", "1M", "--s3-connections", "1"]).expect(0);
    assert!(since.elapsed().as_millis() > 1100, "{:?}", since.elapsed());
    assert_eq!(proxy.most_at_once(), 1);
    let since = std::time::Instant::now();
    bucket.run(&place, &["restore", "latest", "--target", "back", "--limit-download", "1024"]).expect(0);
    assert!(since.elapsed().as_millis() > 1100, "{:?}", since.elapsed());
}

#[test]
fn with_one_connection_trees_are_kept_at_hand_all_the_same() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let (place, direct) = (Place::new(), server.place());
    let proxy = Proxy::before(server.port, |_| Fate::Pass);
    let bucket = Bucket::at(server, proxy.place(&direct));
    let one = ["--s3-connections", "1"];
    place.make_tree();
    bucket.run(&place, &[&["backup", "--init"], &CHEAP[..], &["source"], &one[..]].concat()).expect(0);
    bucket.run(&place, &[&["verify", "--all"], &one[..]].concat()).expect(0);
    let before = proxy.seen().len();
    let listed = bucket.run(&place, &[&["ls", "latest", "--recursive"], &one[..]].concat()).expect(0).text();
    assert!(listed.contains("letters/old/bob.txt"), "{listed}");
    let seen = &proxy.seen()[before..];
    let of_packs: Vec<_> = seen.iter().filter(|request| request.path.contains("/packs/")).collect();
    assert!(of_packs.is_empty(), "{of_packs:?}");
    bucket.run(&place, &[&["forget", "latest", "--prune"], &one[..]].concat()).expect(0);
    assert_eq!(proxy.most_at_once(), 1);
}
