//! Credentials that may only add: a backup needs to put, get and list, and nothing else anywhere on its way.

use super::{Bucket, CHEAP, Place, fs};
use crate::program::describe;
use crate::servers::proxy::{Fate, Proxy, Request, error};

/// What a bucket's policy refuses to a machine that may only add: deleting, and putting without `If-None-Match`, which
/// could overwrite.
fn is_refused(request: &Request) -> bool {
    match request.method.as_str() {
        "DELETE" | "POST" => true,
        "PUT" => request.header("if-none-match") != Some("*"),
        _ => false,
    }
}

#[test]
fn who_may_only_add_makes_backups_and_restores_and_cannot_take_anything_away() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let (place, owner) = (Place::new(), Bucket::at(server, server.place()));
    place.make_tree();
    owner.run(&place, &[&["init"], &CHEAP[..]].concat()).expect(0);
    let proxy = Proxy::before(server.port, |request| match is_refused(request) {
        true => error(403, "AccessDenied", "Access Denied"),
        false => Fate::Pass,
    });
    let machine = Bucket::at(server, proxy.place(&owner.place));
    for number in 0..4 {
        fs::write(place.path("source/letters/new.txt"), format!("news {number}").repeat(1000)).unwrap();
        machine.run(&place, &["backup", "source", "--verify"]).expect(0);
    }
    // Also where the caches are gone, and where the last run was cut off.
    fs::remove_dir_all(place.path("cache")).unwrap();
    machine.run(&place, &["backup", "--force", "source"]).expect(0);
    machine.run(&place, &["verify", "--all"]).expect(0);
    machine.run(&place, &["restore", "latest", "--target", "back"]).expect(0);
    let source = place.path("source").canonicalize().unwrap();
    assert_eq!(describe(&place.path("back").join(source.strip_prefix("/").unwrap())), describe(&source));
    // Not even tried.
    let refused: Vec<_> = proxy.seen().into_iter().filter(is_refused).collect();
    assert!(refused.is_empty(), "{refused:?}");

    let failed = machine.run(&place, &["forget", "--keep-last", "1"]).expect(1);
    assert!(failed.err.contains("s3:DeleteObject"), "{}", failed.err);
    assert_eq!(machine.snapshots(&place), 5);
    let probed = machine.run(&place, &["store", "probe"]).expect(0);
    assert!(probed.text().contains("may not delete"), "{}", probed.text());
    // What they left is taken away from a machine that may.
    owner.run(&place, &["forget", "--keep-last", "1", "--prune"]).expect(0);
    owner.run(&place, &["verify", "--all"]).expect(0);
    assert_eq!(machine.snapshots(&place), 1);
}

#[test]
fn a_repository_can_be_made_by_who_may_only_add() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let (place, direct) = (Place::new(), server.place());
    place.make_tree();
    let proxy = Proxy::before(server.port, |request| match is_refused(request) {
        true => error(403, "AccessDenied", "Access Denied"),
        false => Fate::Pass,
    });
    let machine = Bucket::at(server, proxy.place(&direct));
    machine.run(&place, &[&["backup", "--init"], &CHEAP[..], &["source"]].concat()).expect(0);
    machine.run(&place, &["verify", "--all"]).expect(0);
}

#[test]
fn snapshots_that_claim_other_times_push_none_out_that_the_store_received_before() {
    let place = Place::with_snapshot();
    // An intruder with the right to add: the newest of today and of every day before, and of days to come.
    for time in ["2001-05-05 23:59:59", "2001-05-06 23:59:59", "2001-05-07 23:59:59", "2099-01-01 00:00:00"] {
        place.run(&["backup", "source", "--time", time]).expect(0);
    }
    let honest = place.run(&["snapshots", "--tag", "nightly", "--json"]).expect(0).json();
    let honest = honest[0]["snapshots"][0]["id"].as_str().unwrap().to_owned();
    for policy in [["--keep-last", "1"], ["--keep-daily", "1"], ["--keep-yearly", "1"], ["--keep-within", "1d"]] {
        let dry = place.run(&[&["forget", "--dry-run", "--json"], &policy[..]].concat()).expect(0).text();
        let kept = dry.split("\"removed\"").next().unwrap();
        assert!(kept.contains(&honest), "{policy:?}: {dry}");
    }
}
