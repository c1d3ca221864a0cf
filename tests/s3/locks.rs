//! Object Lock: what it keeps from going, and what has to stay longer than it was locked.

use super::{Bucket, CHEAP, Place, fs};
use crate::program::noise;
use crate::servers::proxy::{Fate, Proxy, Request, error};
use crate::servers::seaweed::Server;

/// Objects beneath a prefix with the day until which they are locked, in days from now.
fn locked_days(server: &Server, bucket: &str, prefix: &str) -> Vec<(String, Option<i64>)> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    server.ask(async |client| {
        let page = client.list_objects_v2().bucket(bucket).prefix(prefix).send().await.unwrap();
        let mut found = Vec::new();
        for name in page.contents().iter().filter_map(|object| object.key()) {
            let object = client.head_object().bucket(bucket).key(name).send().await.unwrap();
            let until = object.object_lock_retain_until_date().map(|until| (until.secs() - now) / 86_400);
            found.push((name.to_owned(), until));
        }
        found
    })
}

#[test]
fn what_is_still_needed_stays_locked_when_that_is_asked_for() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let place = Place::new();
    place.make_tree();
    server.ask(async |client| {
        client.create_bucket().bucket("longer").object_lock_enabled_for_bucket(true).send().await.unwrap();
    });
    let bucket = Bucket::at(server, format!("{}/team", server.bucket("longer")));
    let lock = |days: &'static str| ["--s3-object-lock", days];
    let init = [&["backup", "--init"], &CHEAP[..], &["source"], &lock("governance:3")[..]].concat();
    bucket.run(&place, &init).expect(0);
    // For as long as half of the days are left nothing is asked of the server but how long they last.
    let pruned = |days: &'static str| {
        let args = [&["prune", "--extend-lock", "--json"], &lock(days)[..]].concat();
        bucket.run(&place, &args).expect(0).json().remove(0)
    };
    let locks = &pruned("governance:4")["locks"];
    assert!(locks["objects"].as_u64().unwrap() >= 9 && locks["extended"] == 0, "{locks}");
    let locks = &pruned("governance:40")["locks"];
    assert_eq!(locks["objects"], locks["extended"], "{locks}");
    for (name, days) in locked_days(server, "longer", "team/") {
        let covered =
            ["/config", "/keys/", "/epochs/", "/packs/", "/snapshots/"].iter().any(|kind| name.contains(kind));
        assert_eq!(days.is_some_and(|days| days >= 39), covered, "{name}: {days:?}");
    }
    assert_eq!(pruned("governance:40")["locks"]["extended"], 0);
    bucket.run(&place, &["verify", "--all"]).expect(0);
    // How long is not known without being told, and a store that locks nothing says so.
    let refused = bucket.run(&place, &["prune", "--extend-lock"]).expect(2);
    assert!(refused.err.contains("--s3-object-lock MODE:DAYS"), "{}", refused.err);
    let folder = Place::with_snapshot();
    let refused = folder.run(&["prune", "--extend-lock", "--s3-object-lock", "governance:3"]).expect(2);
    assert!(refused.err.contains("nothing is locked here"), "{}", refused.err);
}

#[test]
fn a_server_that_knows_no_locks_is_given_nothing_that_is_to_be_locked() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let place = Place::new();
    place.make_tree();
    // As Garage does it, which takes such an object and leaves its lock out.
    let proxy = Proxy::before(server.port, |request| match request.path.contains("?object-lock") {
        true => error(501, "NotImplemented", "Not implemented: GetObjectLockConfiguration"),
        false => Fate::Pass,
    });
    let (direct, lock) = (server.place(), ["--s3-object-lock", "governance:3"]);
    let bucket = Bucket::at(server, proxy.place(&direct));
    let probed = bucket.run(&place, &[&["store", "probe"], &lock[..]].concat()).expect(1);
    assert!(probed.text().contains("failed   object lock      the server knows no Object Lock"), "{}", probed.text());
    let init = [&["init"], &CHEAP[..]].concat();
    let refused = bucket.run(&place, &[&init[..], &lock[..]].concat()).expect(1);
    assert!(refused.err.contains("leave out --s3-object-lock"), "{}", refused.err);
    bucket.run(&place, &init).expect(0);
    let before = proxy.seen().len();
    bucket.run(&place, &[&["backup", "source"], &lock[..]].concat()).expect(1);
    let seen = &proxy.seen()[before..];
    assert!(seen.iter().all(|request| request.header("x-amz-object-lock-mode").is_none()), "{seen:?}");
    bucket.run(&place, &["backup", "source"]).expect(0);
}

/// Answers as a server does that keeps locked packs and snapshots from being deleted.
fn keeps_locked(request: &Request) -> Fate {
    let locked = |name: &str| name.contains("/packs/") || name.contains("/snapshots/");
    let denied = "Access Denied because object protected by object lock.";
    match request.method.as_str() {
        "POST" if request.path.contains("delete") => {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            let keys = body.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
            let errors: Vec<String> = keys
                .filter(|key| locked(key))
                .map(|key| {
                    format!("<Error><Key>{key}</Key><Code>AccessDenied</Code><Message>{denied}</Message></Error>")
                })
                .collect();
            if errors.is_empty() {
                return Fate::Pass;
            }
            let xml = vec![("Content-Type", "application/xml".to_owned())];
            let result = format!("<DeleteResult>{}</DeleteResult>", errors.concat());
            Fate::Answer(200, xml, format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{result}"))
        }
        "DELETE" if locked(&request.path) => error(403, "AccessDenied", denied),
        "HEAD" if locked(&request.path) => {
            let until = ("x-amz-object-lock-retain-until-date", "2099-01-01T00:00:00.000Z".to_owned());
            Fate::Answer(200, vec![("x-amz-object-lock-mode", "GOVERNANCE".to_owned()), until], String::new())
        }
        _ => Fate::Pass,
    }
}

#[test]
fn what_is_still_locked_is_left_to_a_later_prune_and_is_no_failure() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let (place, direct) = (Place::new(), Bucket::at(server, server.place()));
    place.make_tree();
    direct.run(&place, &[&["backup", "--init"], &CHEAP[..], &["source"]].concat()).expect(0);
    for night in 0..3 {
        fs::write(place.path("source/new"), noise(300_000).iter().map(|byte| byte ^ night).collect::<Vec<_>>())
            .unwrap();
        direct.run(&place, &["backup", "source"]).expect(0);
    }
    let proxy = Proxy::before(server.port, keeps_locked);
    let locked = Bucket::at(server, proxy.place(&direct.place));
    let refused = locked.run(&place, &["forget", "--keep-last", "1"]).expect(1);
    assert!(refused.err.contains("locked until 2099-01-01T00:00:00Z"), "{}", refused.err);
    assert_eq!(direct.snapshots(&place), 4, "nothing was removed");
    direct.run(&place, &["forget", "--keep-last", "1"]).expect(0);
    let pruned = locked.run(&place, &["prune", "--max-unused", "0"]).expect(0).text();
    assert!(pruned.contains("that nobody needs, the last locked until 2099-01-01T00:00:00Z"), "{pruned}");
    let pruned = locked.run(&place, &["prune", "--json"]).expect(0).json().remove(0);
    assert_eq!(pruned["packs_locked"], 0, "it is too early to take them for orphans: {pruned}");
    direct.run(&place, &["verify", "--all"]).expect(0);
    direct.run(&place, &["restore", "latest", "--target", "back"]).expect(0);
}

#[test]
fn what_goes_before_its_class_allows_is_told_before_and_after() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let (place, bucket) = (Place::new(), Bucket::at(server, server.place()));
    place.make_tree();
    let class = ["--s3-storage-class", "STANDARD_IA"];
    bucket.run(&place, &[&["backup", "--init"], &CHEAP[..], &["source"], &class[..]].concat()).expect(0);
    fs::write(place.path("source/numbers.bin"), noise(500_000)).unwrap();
    bucket.run(&place, &[&["backup", "source"], &class[..]].concat()).expect(0);
    bucket.run(&place, &["forget", "--keep-last", "1"]).expect(0);
    for dry_run in [true, false] {
        let args = [&["prune", "--max-unused", "0", "--json"][..], if dry_run { &["-n"] } else { &[] }].concat();
        let pruned = bucket.run(&place, &args).expect(0).json().remove(0);
        let early = pruned["early_bytes"].as_u64().unwrap();
        assert!(early > 1000 && early <= pruned["deleted_bytes"].as_u64().unwrap(), "{pruned}");
    }
}

/// Names of objects beneath a prefix.
fn segments(server: &Server, bucket: &str, prefix: &str) -> Vec<String> {
    server.ask(async |client| {
        let page = client.list_objects_v2().bucket(bucket).prefix(prefix).send().await.unwrap();
        page.contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect()
    })
}

fn overwrite(server: &Server, bucket: &str, key: &str) {
    server.ask(async |client| {
        let body = aws_sdk_s3::primitives::ByteStream::from_static(b"damaged");
        client.put_object().bucket(bucket).key(key).body(body).send().await.unwrap();
    });
}

/// Two nights whose first segment is damaged: the index is made anew, and everything goes on beside what is locked.
fn makes_its_index_anew(server: &'static Server, place: &Place, direct: &Bucket, used: &Bucket, bucket: &str) {
    direct.run(place, &[&["backup", "--init"], &CHEAP[..], &["source"]].concat()).expect(0);
    fs::write(place.path("source/new"), noise(200_000)).unwrap();
    direct.run(place, &["backup", "source"]).expect(0);
    let prefix = format!("{}/index/", direct.place.rsplit_once('/').unwrap().1);
    let before = segments(server, bucket, &prefix);
    assert!(before.len() > 1, "{before:?}");
    overwrite(server, bucket, &before[0]);
    used.run(place, &["--cache-dir", "fresh1", "verify", "--structure"]).expect(4);
    used.run(place, &["rebuild-index"]).expect(0);
    used.run(place, &["--cache-dir", "fresh2", "verify", "--all"]).expect(0);
    // Again, with nothing damaged, and after another night.
    used.run(place, &["rebuild-index"]).expect(0);
    fs::write(place.path("source/newer"), noise(100_000)).unwrap();
    used.run(place, &["backup", "source"]).expect(0);
    used.run(place, &["prune"]).expect(0);
    used.run(place, &["--cache-dir", "fresh3", "verify", "--all"]).expect(0);
    used.run(place, &["--cache-dir", "fresh4", "restore", "latest", "--target", "back"]).expect(0);
    let again =
        used.run(place, &["--cache-dir", "fresh5", "backup", "--force", "--json", "source"]).expect(0).json().remove(0);
    assert_eq!(again["totals"]["new_bytes"], 0, "{again}");
}

#[test]
fn an_index_is_made_anew_in_a_bucket_that_locks_every_object_by_default() {
    use aws_sdk_s3::types::{
        DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode, ObjectLockRule,
    };
    let Some(server) = crate::servers::seaweed::server() else { return };
    let place = Place::new();
    place.make_tree();
    server.ask(async |client| {
        client.create_bucket().bucket("kept").object_lock_enabled_for_bucket(true).send().await.unwrap();
        let retention = DefaultRetention::builder().mode(ObjectLockRetentionMode::Governance).days(5).build();
        let rule = ObjectLockRule::builder().default_retention(retention).build();
        let enabled = ObjectLockEnabled::Enabled;
        let rules = ObjectLockConfiguration::builder().object_lock_enabled(enabled).rule(rule).build();
        client.put_object_lock_configuration().bucket("kept").object_lock_configuration(rules).send().await.unwrap();
    });
    let bucket = Bucket::at(server, format!("{}/team", server.bucket("kept")));
    makes_its_index_anew(server, &place, &bucket, &bucket, "kept");
}
