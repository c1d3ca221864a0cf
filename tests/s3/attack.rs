//! Somebody has a client's credentials and its key, deletes, overwrites and adds what misleads: the bucket's versions have
//! every good snapshot, and who looks at the bucket as it was finds them.

use super::{Bucket, CHEAP, Place, fs};
use crate::program::{PASSWORD, describe};
use crate::servers::seaweed::Server;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};

const BUCKET: &str = "attacked";

/// A bucket that keeps versions, for one repository.
fn versioned(server: &'static Server) -> Bucket {
    server.ask(async |client| {
        client.create_bucket().bucket(BUCKET).send().await.unwrap();
        let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        client.put_bucket_versioning().bucket(BUCKET).versioning_configuration(enabled).send().await.unwrap();
    });
    Bucket::at(server, format!("{}/team", server.bucket(BUCKET)))
}

/// The server's time in seconds, as it notes it on what is stored now.
async fn seconds(client: &Client) -> i64 {
    client.put_object().bucket(BUCKET).key("clock").body(ByteStream::from_static(b"tick")).send().await.unwrap();
    client.head_object().bucket(BUCKET).key("clock").send().await.unwrap().last_modified().unwrap().secs()
}

/// A second of the server's in which all that was stored before is there and nothing that is stored after.
fn moment(server: &Server) -> String {
    let second = server.ask(async |client| {
        let now = seconds(&client).await;
        while seconds(&client).await <= now {}
        now
    });
    jiff::Timestamp::from_second(second).unwrap().to_string()
}

async fn names(client: &Client) -> Vec<String> {
    let mut pages = client.list_objects_v2().bucket(BUCKET).prefix("team/").into_paginator().send();
    let mut names = Vec::new();
    while let Some(page) = pages.next().await {
        names.extend(page.unwrap().contents().iter().filter_map(|object| object.key().map(str::to_owned)));
    }
    names
}

/// Overwrites every second object and deletes all others.
fn ravage(server: &Server) {
    server.ask(async |client| {
        for (number, name) in names(&client).await.into_iter().enumerate() {
            if number % 2 == 0 {
                let body = ByteStream::from_static(b"pay up");
                client.put_object().bucket(BUCKET).key(name).body(body).send().await.unwrap();
            } else {
                client.delete_object().bucket(BUCKET).key(name).send().await.unwrap();
            }
        }
    });
}

#[test]
fn what_an_attacker_deletes_overwrites_and_adds_harms_no_snapshot_of_before() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let (place, bucket) = (Place::new(), versioned(server));
    place.make_tree();
    bucket.run(&place, &[&["init"], &CHEAP[..]].concat()).expect(0);
    let mut good = Vec::new();
    for night in ["first", "second", "third"] {
        fs::write(place.path("source/letters/new.txt"), night.repeat(20_000)).unwrap();
        bucket.run(&place, &["backup", "source", "--tag", night]).expect(0);
        good.push(describe(&place.path("source")));
    }
    // Also what was forgotten and swept by then is not there again: in a later second than it was stored, for of both in one
    // second an object is there.
    moment(server);
    bucket.run(&place, &["forget", "--keep-last", "2", "--prune"]).expect(0);
    let before = moment(server);

    // Snapshots that claim to be older and newer than all others, of files that nobody wants.
    fs::write(place.path("source/letters/new.txt"), "pay up").unwrap();
    bucket.run(&place, &["backup", "source", "--time", "2020-01-01 00:00"]).expect(0);
    bucket.run(&place, &["backup", "source", "--time", "2031-01-01 00:00"]).expect(0);
    ravage(server);
    let lost = bucket.run(&place, &["--cache-dir", "another", "snapshots"]);
    assert!(lost.code != 0 && lost.code != 2, "{} {}", lost.code, lost.err);

    let as_of = |args: &[&str]| bucket.run(&place, &[&["--as-of", &before], args].concat());
    assert_eq!(super::snapshots(&as_of(&["snapshots", "--json"])), 2);
    as_of(&["verify", "--all"]).expect(0);
    let source = place.path("source").canonicalize().unwrap();
    let inside = source.strip_prefix("/").unwrap();
    as_of(&["restore", "latest", "--target", "back"]).expect(0);
    assert_eq!(describe(&place.path("back").join(inside)), good[2]);
    for refused in [&["backup", "source"][..], &["forget", "--keep-last", "1"], &["prune"]] {
        let refused = as_of(refused);
        assert!(refused.code != 0 && refused.err.contains("only read"), "{} {}", refused.code, refused.err);
    }

    // A repository to go on with, in another place.
    let (rescued, from) = (place.path("rescued"), bucket.place.clone());
    let environment = server.environment();
    let rescue = |args: &[&str]| {
        let change = |command: &mut std::process::Command| {
            command.env("KEEPSTONE_REPOSITORY", &rescued).env("KEEPSTONE_FROM_PASSWORD", PASSWORD);
            command.envs(environment.clone());
        };
        place.run_with(args, change, b"")
    };
    rescue(&[&["init", "--from", &from, "--from-as-of", &before], &CHEAP[..]].concat()).expect(0);
    rescue(&["copy", "--from", &from, "--from-as-of", &before]).expect(0);
    rescue(&["verify", "--all"]).expect(0);
    assert_eq!(super::snapshots(&rescue(&["snapshots", "--json"])), 2);
    rescue(&["restore", "latest~1", "--target", "older"]).expect(0);
    assert_eq!(describe(&place.path("older").join(inside)), good[1]);
    let folder = rescue(&["--as-of", &before, "snapshots"]).expect(2);
    assert!(folder.err.contains("bucket that keeps versions"), "{}", folder.err);
    let too_early = bucket.run(&place, &["--as-of", "2001-01-01 00:00", "snapshots"]).expect(10);
    assert!(too_early.err.contains("no repository"), "{}", too_early.err);
}
