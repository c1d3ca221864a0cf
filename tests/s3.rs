//! Repositories in buckets of a real S3 server, through the program.

mod attack;
mod deletes;
pub mod faults;
mod locks;
mod looks;
mod rights;
mod wrong;

use crate::program::{CHEAP, Place, Run};
use crate::servers::seaweed::{self, READER_KEY, Server};
use std::fs;

/// A place for a repository in a bucket, perhaps behind a proxy.
struct Bucket {
    server: &'static Server,
    /// As `-r` takes it.
    place: String,
}

impl Bucket {
    fn at(server: &'static Server, place: String) -> Bucket {
        Bucket { server, place }
    }

    fn run(&self, place: &Place, args: &[&str]) -> Run {
        self.run_as(place, args, &[])
    }

    fn run_as(&self, place: &Place, args: &[&str], changed: &[(&str, &str)]) -> Run {
        run_as(place, self.server, &self.place, args, changed)
    }

    /// How many snapshots are there.
    fn snapshots(&self, place: &Place) -> usize {
        snapshots(&self.run(place, &["snapshots", "--json"]))
    }
}

/// Runs with a repository in a bucket.
fn run(place: &Place, server: &Server, repository: &str, args: &[&str]) -> Run {
    run_as(place, server, repository, args, &[])
}

fn run_as(place: &Place, server: &Server, repository: &str, args: &[&str], changed: &[(&str, &str)]) -> Run {
    let change = |command: &mut std::process::Command| {
        command.env("KEEPSTONE_REPOSITORY", repository).envs(server.environment()).envs(changed.iter().copied());
    };
    place.run_with(args, change, b"")
}

/// How many snapshots a listing has.
fn snapshots(listing: &Run) -> usize {
    assert_eq!(listing.code, 0, "{}", listing.err);
    listing.json()[0]["snapshots"].as_array().unwrap().len()
}

#[test]
fn a_bucket_holds_a_repository_from_its_making_to_its_pruning() {
    let Some(server) = seaweed::server() else { return };
    let (place, vault) = (Place::new(), server.place());
    let run = |args: &[&str]| run(&place, server, &vault, args);
    place.make_tree();
    run(&[&["backup", "--init"], &CHEAP[..], &["source"]].concat()).expect(0);
    fs::write(place.path("source/letters/new.txt"), "news".repeat(1000)).unwrap();
    run(&["backup", "source", "--verify"]).expect(0);
    run(&["verify", "--all"]).expect(0);
    assert_eq!(snapshots(&run(&["snapshots", "--json"])), 2);
    run(&["restore", "latest", "--target", "back", "--verify"]).expect(0);
    let source = place.path("source").canonicalize().unwrap();
    let back = place.path("back").join(source.strip_prefix("/").unwrap());
    for name in ["letters/new.txt", "letters/old/bob.txt", "numbers.bin"] {
        assert_eq!(fs::read(back.join(name)).unwrap(), fs::read(source.join(name)).unwrap(), "{name}");
    }
    run(&["forget", "--keep-last", "1", "--prune"]).expect(0);
    run(&["rebuild-index"]).expect(0);
    run(&["verify", "--all"]).expect(0);
    // Nothing of it is local but caches.
    fs::remove_dir_all(place.path("cache")).unwrap();
    assert_eq!(snapshots(&run(&["snapshots", "--json"])), 1);
}

#[test]
fn what_is_wrong_with_a_bucket_is_said_with_its_remedy() {
    let Some(server) = seaweed::server() else { return };
    let (place, vault) = (Place::new(), server.place());
    place.make_tree();
    let init = [&["init"], &CHEAP[..]].concat();
    run(&place, server, &vault, &init).expect(0);
    run(&place, server, &vault, &init).expect(11);
    for (repository, changed, code, words) in [
        (server.bucket("nowhere"), vec![], 10, "make the bucket first"),
        (format!("{vault}/deeper"), vec![], 10, "keepstone init"),
        (vault.clone(), vec![("AWS_SECRET_ACCESS_KEY", "wrong")], 1, "secret key"),
        (vault.clone(), vec![("AWS_ACCESS_KEY_ID", "nobody")], 1, "does not know this access key"),
        (vault.clone(), vec![("AWS_ACCESS_KEY_ID", "")], 1, "there are no credentials"),
        (vault.clone(), vec![("AWS_ACCESS_KEY_ID", READER_KEY)], 1, "s3:PutObject"),
        ("s3:http://192.0.2.1/vault".to_owned(), vec![], 11, "--allow-plain-http"),
        (vault.clone(), vec![("KEEPSTONE_PASSWORD", "wrong")], 12, "password"),
    ] {
        let done = run_as(&place, server, &repository, &["backup", "source"], &changed).expect(code);
        assert!(done.err.contains(words), "{repository} {changed:?}: {}", done.err);
        assert!(!done.err.contains(seaweed::SECRET_KEY), "{}", done.err);
    }
}
