//! What a bucket shows of a repository: `store ls`, `store stats`, and what is said of each object.

use super::{Bucket, CHEAP, Place};
use crate::servers::proxy::{Fate, Proxy, error};
use crate::servers::seaweed::Server;
use std::collections::BTreeMap;

/// Names of all objects of a kind in the bucket.
fn names(server: &Server, bucket: &str, prefix: &str) -> Vec<String> {
    server.ask(async |client| {
        let page = client.list_objects_v2().bucket(bucket).prefix(prefix).send().await.unwrap();
        page.contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect()
    })
}

#[test]
fn objects_are_listed_and_counted_without_a_password() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let (place, bucket) = (Place::new(), Bucket::at(server, server.place()));
    place.make_tree();
    let none = [("KEEPSTONE_PASSWORD", "")];
    bucket.run_as(&place, &["store", "ls"], &none).expect(10);
    bucket.run(&place, &[&["backup", "--init"], &CHEAP[..], &["source"]].concat()).expect(0);

    let objects = bucket.run_as(&place, &["store", "ls", "--json"], &none).expect(0).json();
    let (sum, objects) = objects.split_last().unwrap();
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for object in objects {
        *kinds.entry(object["kind"].as_str().unwrap()).or_default() += 1;
    }
    assert_eq!((kinds["config"], kinds["keys"], kinds["epochs"], kinds["snapshots"]), (2, 2, 2, 1), "{kinds:?}");
    assert_eq!(sum["objects"], objects.len());
    let snapshots = bucket.run_as(&place, &["store", "ls", "--kind", "snapshots"], &none).expect(0).text();
    assert_eq!(snapshots.lines().count(), 2, "{snapshots}");
    assert!(snapshots.contains("  snapshots/"), "{snapshots}");

    let stats = &bucket.run_as(&place, &["store", "stats", "--json"], &none).expect(0).json()[0];
    assert_eq!((&stats["objects"], &stats["bytes"]), (&sum["objects"], &sum["bytes"]));
    let counted = stats["kinds"].as_array().unwrap().iter();
    let counted: BTreeMap<&str, u64> =
        counted.map(|kind| (kind["kind"].as_str().unwrap(), kind["objects"].as_u64().unwrap())).collect();
    assert_eq!(counted, kinds);
    assert_eq!((&stats["store"]["writes"], &stats["store"]["deletes"]), (&0.into(), &0.into()), "{stats}");
    assert!(stats["store"]["lists"].as_u64().unwrap() >= 12, "{stats}");
}

#[test]
fn a_folder_can_be_looked_at_too() {
    let place = Place::with_snapshot();
    let probed = place.run(&["store", "probe", "--json"]).expect(0).json();
    assert_eq!(probed[0]["verdict"], "ok", "{probed:?}");
    let stats = place.run(&["store", "stats", "--json"]).expect(0).json();
    assert!(stats[0]["store"].is_null() && stats[0]["objects"].as_u64().unwrap() > 8, "{stats:?}");
    let limited = ["store", "ls", "--limit-upload", "100", "--limit-download", "100M"];
    assert!(place.run(&limited).expect(0).text().contains("objects, "));
    place.run(&["-r", "nowhere", "store", "ls"]).expect(10);
}

#[test]
fn every_object_says_what_it_is_and_only_packs_are_kept_for_rare_access() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let (place, bucket) = (Place::new(), Bucket::at(server, server.place()));
    place.make_tree();
    let said = ["--s3-storage-class", "STANDARD_IA", "--s3-tag", "team=ops & co"];
    bucket.run(&place, &[&["backup", "--init"], &CHEAP[..], &["source"], &said[..]].concat()).expect(0);
    let config = bucket.run(&place, &["cat", "config"]).expect(0).text();
    let prefix = format!("{}/", bucket.place.rsplit('/').next().unwrap());
    let mut classes = BTreeMap::new();
    for name in names(server, "vault", &prefix) {
        server.ask(async |client| {
            let object = client.head_object().bucket("vault").key(&name).send().await.unwrap();
            let said = object.metadata().unwrap();
            let kind = said["kind"].clone();
            assert!(name[prefix.len()..].starts_with(&kind), "{name}: {said:?}");
            assert!(config.contains(&said["repository"]), "{name}: {said:?}");
            assert!(said["created-at"].ends_with('Z'), "{name}: {said:?}");
            let class = object.storage_class().map(|class| class.as_str().to_owned());
            classes.insert(kind, class);
            let tags = client.get_object_tagging().bucket("vault").key(&name).send().await.unwrap();
            let tags: Vec<_> =
                tags.tag_set().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect();
            assert_eq!(tags, [("team".to_owned(), "ops & co".to_owned())], "{name}");
        });
    }
    for (kind, class) in classes {
        assert_eq!(class.as_deref() == Some("STANDARD_IA"), kind == "packs", "{kind}: {class:?}");
    }
    let stats = bucket.run(&place, &["store", "stats"]).expect(0).text();
    let packs = stats.lines().find(|line| line.starts_with("packs")).unwrap();
    assert!(packs.ends_with("STANDARD_IA"), "{stats}");
}

#[test]
fn what_a_restore_needs_is_locked_when_that_is_asked_for() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let place = Place::new();
    place.make_tree();
    server.ask(async |client| {
        client.create_bucket().bucket("locked").object_lock_enabled_for_bucket(true).send().await.unwrap();
    });
    let bucket = Bucket::at(server, format!("{}/team", server.bucket("locked")));
    let lock = ["--s3-object-lock", "governance:3"];
    bucket.run(&place, &[&["store", "probe"], &lock[..]].concat()).expect(0);
    bucket.run(&place, &[&["backup", "--init"], &CHEAP[..], &["source"], &lock[..]].concat()).expect(0);
    let mut locked = BTreeMap::new();
    for name in names(server, "locked", "team/") {
        server.ask(async |client| {
            let object = client.head_object().bucket("locked").key(&name).send().await.unwrap();
            let kind = object.metadata().unwrap()["kind"].clone();
            locked.insert(kind, object.object_lock_mode().is_some());
        });
    }
    for (kind, locked) in locked {
        assert_eq!(locked, ["config", "keys", "epochs", "packs", "snapshots"].contains(&kind.as_str()), "{kind}");
    }
    // What is deleted leaves a mark; its last version stays until the retention ends.
    bucket.run(&place, &["verify", "--all"]).expect(0);
    // Elsewhere the wish cannot be fulfilled, and the look says so.
    let unlocked = Bucket::at(server, server.place());
    let probed = unlocked.run(&place, &[&["store", "probe"], &lock[..]].concat()).expect(1);
    assert!(probed.text().contains("the bucket has no Object Lock"), "{}", probed.text());
}

#[test]
fn encryption_by_the_server_is_asked_for_with_what_is_stored() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let place = Place::new();
    // The server of the tests has no key service: it is enough to hear what is asked for.
    let proxy = Proxy::before(server.port, |request| match request.method.as_str() {
        "PUT" => error(507, "InsufficientStorage", "No space left."),
        _ => Fate::Pass,
    });
    let bucket = Bucket::at(server, proxy.place(&server.place()));
    for (given, algorithm, key) in
        [("AES256", "AES256", None), ("aws:kms", "aws:kms", None), ("aws:kms:key-1", "aws:kms", Some("key-1"))]
    {
        let before = proxy.seen().len();
        bucket.run(&place, &[&["init"], &CHEAP[..], &["--s3-encryption", given]].concat()).expect(1);
        let seen = proxy.seen();
        let put = seen[before..].iter().find(|request| request.method == "PUT").unwrap();
        assert_eq!(put.header("x-amz-server-side-encryption"), Some(algorithm));
        assert_eq!(put.header("x-amz-server-side-encryption-aws-kms-key-id"), key);
    }
}
