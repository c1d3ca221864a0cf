//! Many objects that go at once: one request where the server knows how, many side by side where it does not.

use super::{Bucket, CHEAP, Place, fs};
use crate::program::noise;
use crate::servers::proxy::{Fate, Proxy, Request, error};
use crate::servers::seaweed::Server;
use std::sync::atomic::{AtomicU64, Ordering};

/// Nights of which most are forgotten.
const NIGHTS: u8 = 6;

fn asks_for_many(request: &Request) -> bool {
    request.method == "POST" && request.path.contains("delete")
}

/// Backs up some nights directly, then forgets and prunes by way of `proxy`; gives what prune says.
fn nights_and_prune(server: &'static Server, proxy: &Proxy, direct: &str) -> serde_json::Value {
    let (place, direct) = (Place::new(), Bucket::at(server, direct.to_owned()));
    place.make_tree();
    direct.run(&place, &[&["init"], &CHEAP[..]].concat()).expect(0);
    for night in 0..NIGHTS {
        let mut bytes = noise(300_000);
        bytes.iter_mut().for_each(|byte| *byte ^= night);
        fs::write(place.path("source/new"), bytes).unwrap();
        direct.run(&place, &["backup", "source"]).expect(0);
    }
    let bucket = Bucket::at(server, proxy.place(&direct.place));
    bucket.run(&place, &["forget", "--keep-last", "1"]).expect(0);
    let pruned = bucket.run(&place, &["prune", "--max-unused", "0", "--json"]).expect(0).json().remove(0);
    direct.run(&place, &["verify", "--all"]).expect(0);
    assert_eq!(direct.snapshots(&place), 1);
    assert!(pruned["packs_deleted"].as_u64().unwrap() >= u64::from(NIGHTS), "{pruned}");
    assert!(pruned["segments_deleted"].as_u64().unwrap() >= u64::from(NIGHTS) - 1, "{pruned}");
    pruned
}

#[test]
fn what_goes_together_goes_with_one_request() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let proxy = Proxy::before(server.port, |_| Fate::Pass);
    let pruned = nights_and_prune(server, &proxy, &server.place());
    let seen = proxy.seen();
    let many = seen.iter().filter(|request| asks_for_many(request)).count();
    let single = seen.iter().filter(|request| request.method == "DELETE").count();
    assert!((3..=16).contains(&many) && single <= 2, "{many} requests for many objects, {single} for one");
    assert!(pruned["store"]["deletes"].as_u64().unwrap() < 16, "{pruned}");
}

#[test]
fn a_server_that_does_not_delete_many_at_once_is_asked_for_each_and_not_again_for_many() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let refusals: [fn() -> Fate; 3] = [
        || error(501, "NotImplemented", "A header you provided implies functionality that is not implemented."),
        || error(400, "InvalidRequest", "Missing required header for this request: Content-MD5"),
        || Fate::Answer(405, Vec::new(), String::new()),
    ];
    for refuse in refusals {
        let proxy = Proxy::before(server.port, move |request| match asks_for_many(request) {
            true => refuse(),
            false => Fate::Pass,
        });
        nights_and_prune(server, &proxy, &server.place());
        let seen = proxy.seen();
        // Once by each of the two commands.
        assert_eq!(seen.iter().filter(|request| asks_for_many(request)).count(), 2);
        let single = seen.iter().filter(|request| request.method == "DELETE").count();
        assert!(single >= 4 * usize::from(NIGHTS), "{single}");
    }
}

#[test]
fn a_server_that_is_busy_is_asked_again_for_what_is_left() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let asked = AtomicU64::new(0);
    let proxy = Proxy::before(server.port, move |request| match asks_for_many(request) {
        true if asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) => {
            error(503, "SlowDown", "Reduce your request rate.")
        }
        _ => Fate::Pass,
    });
    let pruned = nights_and_prune(server, &proxy, &server.place());
    assert!(pruned["store"]["retries"].as_u64().unwrap() >= 2, "{pruned}");
    assert!(proxy.seen().iter().all(|request| request.method != "DELETE"), "none is asked for alone");
}
