//! What is wrong with a bucket is said with its remedy; nothing is lost.

use super::{Bucket, CHEAP, Place, fs};
use crate::program::describe;
use crate::servers::proxy::{Fate, Proxy, Request, error};
use crate::servers::seaweed::Server;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A repository with a snapshot.
fn filled(server: &'static Server) -> (Place, Bucket) {
    let (place, bucket) = (Place::new(), Bucket::at(server, server.place()));
    place.make_tree();
    bucket.run(&place, &[&["backup", "--init"], &CHEAP[..], &["source"]].concat()).expect(0);
    fs::write(place.path("source/letters/new.txt"), "news".repeat(1000)).unwrap();
    (place, bucket)
}

/// Whether a request would store something under a name that begins so.
fn stores(request: &Request, kind: &str) -> bool {
    request.method == "PUT" && request.path.contains(kind)
}

#[test]
fn answers_that_say_what_is_wrong_are_handed_on_with_a_remedy_and_leave_all_as_it_was() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let (place, direct) = filled(server);
    type Case = (fn(&Request) -> Fate, i32, &'static [&'static str]);
    let cases: [Case; 9] = [
        (
            |_| {
                let Fate::Answer(_, mut headers, body) = error(
                    301,
                    "PermanentRedirect",
                    "The bucket you are attempting to access must be addressed using the specified endpoint.",
                ) else {
                    unreachable!()
                };
                headers.push(("x-amz-bucket-region", "eu-central-1".to_owned()));
                Fate::Answer(301, headers, body)
            },
            2,
            &["PermanentRedirect", "--s3-region eu-central-1"],
        ),
        (
            |_| {
                error(
                    400,
                    "AuthorizationHeaderMalformed",
                    "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'",
                )
            },
            2,
            &["expecting 'eu-west-1'", "--s3-region"],
        ),
        (
            |_| {
                error(
                    403,
                    "RequestTimeTooSkewed",
                    "The difference between the request time and the current time is too large.",
                )
            },
            1,
            &["too large", "set this machine's clock"],
        ),
        (|_| error(400, "ExpiredToken", "The provided token has expired."), 1, &["has expired", "fresh session token"]),
        (
            |request| match stores(request, "/packs/") {
                true => error(507, "InsufficientStorage", "No space left."),
                false => Fate::Pass,
            },
            1,
            &["packs/", "No space left", "make room, or raise the quota"],
        ),
        (
            |request| match stores(request, "/packs/") {
                true => error(403, "QuotaExceeded", "The quota set for the bucket is exceeded."),
                false => Fate::Pass,
            },
            1,
            &["quota set for the bucket", "make room"],
        ),
        (
            |request| match stores(request, "/sessions/") {
                true => error(403, "AccessDenied", "Access Denied"),
                false => Fate::Pass,
            },
            1,
            &["Access Denied", "the right s3:PutObject"],
        ),
        (
            |request| match request.path.contains("list-type=2") {
                true => error(403, "AccessDenied", "Access Denied"),
                false => Fate::Pass,
            },
            1,
            &["Access Denied", "the right s3:ListBucket"],
        ),
        (
            |request| match request.method == "GET" && !request.path.contains("list-type=2") {
                true => error(403, "AccessDenied", "Access Denied"),
                false => Fate::Pass,
            },
            1,
            &["Access Denied", "the right s3:GetObject"],
        ),
    ];
    for (fate, code, words) in cases {
        let proxy = Proxy::before(server.port, fate);
        let bucket = Bucket::at(server, proxy.place(&direct.place));
        let done = bucket.run(&place, &["backup", "source"]).expect(code);
        for word in words {
            assert!(done.err.contains(word), "no `{word}` in: {}", done.err);
        }
        assert!(!done.err.contains("follows in"), "such a request is not made again: {}", done.err);
    }
    direct.run(&place, &["verify", "--all"]).expect(0);
    direct.run(&place, &["backup", "source"]).expect(0);
    assert_eq!(direct.snapshots(&place), 2);
}

#[test]
fn a_clock_that_is_wrong_refuses_a_new_repository() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let place = Place::new();
    // Every object seems to have been stored in the year 2001.
    fn long_ago(body: Vec<u8>) -> Vec<u8> {
        let text = String::from_utf8_lossy(&body).into_owned();
        let mut parts = text.split("<LastModified>");
        let mut changed = parts.next().unwrap_or_default().to_owned();
        parts.for_each(|part| changed.push_str(&format!("<LastModified>2001{}", &part[4..])));
        changed.into_bytes()
    }
    let proxy = Proxy::before(server.port, |request| match request.path.contains("list-type=2") {
        true => Fate::Change(long_ago),
        false => Fate::Pass,
    });
    let bucket = Bucket::at(server, proxy.place(&server.place()));
    let refused = bucket.run(&place, &[&["init"], &CHEAP[..]].concat()).expect(11);
    assert!(refused.err.contains("behind this machine's; set this machine's clock"), "{}", refused.err);
    assert!(refused.err.contains("Nothing was made"), "{}", refused.err);
    bucket.run(&place, &["snapshots"]).expect(10);
    let probed = bucket.run(&place, &["store", "probe"]).expect(1);
    assert!(probed.text().contains("failed   clock"), "{}", probed.text());
}

/// A server that takes no notice of `If-None-Match`: it overwrites and says that all is well.
fn careless(server: &Server) -> Proxy {
    let over: Arc<Mutex<BTreeMap<String, Vec<u8>>>> = Arc::default();
    let bare = |path: &str| path.split('?').next().unwrap_or_default().to_owned();
    Proxy::before(server.port, move |request| {
        let (path, over) = (bare(&request.path), over.clone());
        match request.method.as_str() {
            "PUT" if request.header("if-none-match").is_some() => {
                let body = request.body.clone();
                Fate::Seen(Box::new(move |status| {
                    (status == 412).then(|| {
                        over.lock().unwrap().insert(path, body);
                        Fate::Answer(200, Vec::new(), String::new())
                    })
                }))
            }
            "GET" => match over.lock().unwrap().get(&path) {
                Some(body) => shown(request, &String::from_utf8_lossy(body)),
                None => Fate::Pass,
            },
            _ => Fate::Pass,
        }
    })
}

/// An object, or the part of it that was asked for.
fn shown(request: &Request, body: &str) -> Fate {
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((from, to)) = range else { return Fate::Answer(200, Vec::new(), body.to_owned()) };
    let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
    let place = format!("bytes {from}-{to}/{}", body.len());
    Fate::Answer(206, vec![("Content-Range", place)], body[from..=to].to_owned())
}

#[test]
fn a_store_that_ignores_put_if_absent_is_found_out_and_its_objects_are_looked_for_first() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let place = Place::new();
    place.make_tree();
    let proxy = careless(server);
    let bucket = Bucket::at(server, proxy.place(&server.place()));
    let probed = bucket.run(&place, &["store", "probe"]).expect(0);
    assert!(probed.text().contains("warning  put-if-absent"), "{}", probed.text());
    assert!(probed.text().contains("run prune only while nothing else runs"), "{}", probed.text());
    let made = bucket.run(&place, &[&["init"], &CHEAP[..]].concat()).expect(0);
    assert!(made.err.contains("does not honour put-if-absent"), "{}", made.err);
    let config = bucket.run(&place, &["cat", "config"]).expect(0).text();
    assert!(config.contains("\"put_if_absent\": false"), "{config}");
    let before = proxy.seen().len();
    bucket.run(&place, &["backup", "source"]).expect(0);
    bucket.run(&place, &["backup", "source"]).expect(0);
    // It is known by now: nobody trusts the header, and every name is looked for before something is put there.
    let seen = &proxy.seen()[before..];
    assert!(seen.iter().all(|request| request.header("if-none-match").is_none()));
    for put in seen.iter().filter(|request| request.method == "PUT") {
        let name = |request: &Request| request.path.split('?').next().map(str::to_owned);
        assert!(seen.iter().any(|request| request.method == "HEAD" && name(request) == name(put)), "{}", put.path);
    }
    bucket.run(&place, &["verify", "--all"]).expect(0);
}

#[test]
fn a_bucket_that_keeps_versions_works_and_says_what_that_costs() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let place = Place::new();
    place.make_tree();
    server.ask(async |client| {
        use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
        client.create_bucket().bucket("versions").send().await.unwrap();
        let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        client.put_bucket_versioning().bucket("versions").versioning_configuration(enabled).send().await.unwrap();
    });
    let bucket = Bucket::at(server, format!("{}/team", server.bucket("versions")));
    let probed = bucket.run(&place, &["store", "probe"]).expect(0);
    assert!(probed.text().contains("warning  versions"), "{}", probed.text());
    assert!(probed.text().contains("lifecycle rule"), "{}", probed.text());
    bucket.run(&place, &[&["backup", "--init"], &CHEAP[..], &["source"]].concat()).expect(0);
    fs::write(place.path("source/letters/new.txt"), "news".repeat(1000)).unwrap();
    bucket.run(&place, &["backup", "source"]).expect(0);
    bucket.run(&place, &["forget", "--keep-last", "1", "--prune"]).expect(0);
    bucket.run(&place, &["verify", "--all"]).expect(0);
    bucket.run(&place, &["restore", "latest", "--target", "back"]).expect(0);
    let source = place.path("source").canonicalize().unwrap();
    assert_eq!(describe(&place.path("back").join(source.strip_prefix("/").unwrap())), describe(&source));
}

#[test]
fn plain_http_to_another_machine_is_refused_before_any_request_however_it_is_named() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let place = Place::new();
    let bucket = Bucket::at(server, "s3://vault/team".to_owned());
    for variable in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"] {
        let refused = bucket.run_as(&place, &["snapshots"], &[(variable, "http://192.0.2.1:9")]).expect(11);
        assert!(refused.err.contains("--allow-plain-http"), "{}", refused.err);
        let own = format!("http://127.0.0.1:{}", server.port);
        bucket.run_as(&place, &["snapshots"], &[(variable, &own)]).expect(10);
    }
}

#[test]
fn a_certificate_that_nobody_trusts_is_refused_and_its_authority_can_be_named() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let Some(certificate) = server.certificate() else { return };
    let place = Place::new();
    place.make_tree();
    let vault =
        server.place().replace("http://", "https://").replace(&server.port.to_string(), &server.tls_port.to_string());
    let bucket = Bucket::at(server, vault);
    let refused = bucket.run(&place, &["snapshots"]).expect(1);
    assert!(refused.err.contains("certificate") && refused.err.contains("--s3-ca"), "{}", refused.err);
    assert!(!refused.err.contains("follows in"), "{}", refused.err);
    let trusted = ["--s3-ca", certificate.to_str().unwrap()];
    // With checksums of S3 as well, as Amazon takes them.
    let init =
        [&["backup", "--init"], &CHEAP[..], &["source", "--s3-checksums", "when-supported"], &trusted[..]].concat();
    bucket.run(&place, &init).expect(0);
    bucket.run(&place, &[&["verify", "--all"], &trusted[..]].concat()).expect(0);
}

#[test]
fn credentials_come_from_files_profiles_and_commands_as_with_the_aws_tools() {
    let Some(server) = crate::servers::seaweed::server() else { return };
    let (place, bucket) = filled(server);
    let (key, secret) = (crate::servers::seaweed::ACCESS_KEY, crate::servers::seaweed::SECRET_KEY);
    let pair = format!("aws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
    fs::write(place.path("credentials"), format!("[default]\n{pair}\n[vault]\n{pair}")).unwrap();
    let said = format!("{{\"Version\": 1, \"AccessKeyId\": \"{key}\", \"SecretAccessKey\": \"{secret}\"}}");
    fs::write(place.path("said"), said).unwrap();
    let told = place.path("said");
    let config = format!("[profile told]\nregion = us-east-1\ncredential_process = cat {}\n", told.display());
    fs::write(place.path("config"), config).unwrap();
    let (credentials, config) = (place.path("credentials"), place.path("config"));
    let files = [
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_SHARED_CREDENTIALS_FILE", credentials.to_str().unwrap()),
        ("AWS_CONFIG_FILE", config.to_str().unwrap()),
    ];
    for profile in ["default", "vault", "told"] {
        let changed = [&files[..], &[("AWS_PROFILE", profile)]].concat();
        assert_eq!(super::snapshots(&bucket.run_as(&place, &["snapshots", "--json"], &changed)), 1, "{profile}");
    }
    let nobody = bucket.run_as(&place, &["snapshots"], &[&files[..], &[("AWS_PROFILE", "nobody")]].concat()).expect(1);
    assert!(nobody.err.contains("there are no credentials"), "{}", nobody.err);
}
