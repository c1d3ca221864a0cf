//! Real servers for the tests: started when the first test asks, stopped when the test program ends, however it ends;
//! never run as root.

pub mod cluster;
pub mod garage;
pub mod postgres;
pub mod prometheus;
pub mod proxy;
pub mod receiver;
pub mod seaweed;
pub mod seaweed_cluster;
pub mod smtp;
pub mod tunnel;

use keepstone::base::{Secret, Stop};
use keepstone::store::{S3, S3Address, S3Keys, S3Settings};

/// A store in a bucket of the test server, as its owner opens it.
pub fn seaweed_store(place: &str) -> S3 {
    store(place, seaweed::ACCESS_KEY, seaweed::SECRET_KEY, None)
}

/// A store in a bucket, as the owner of a key opens it.
fn store(place: &str, access: &str, secret: &str, region: Option<&str>) -> S3 {
    let settings = S3Settings {
        region: region.map(str::to_owned),
        keys: Some(S3Keys { access: access.to_owned(), secret: Secret::new(secret.as_bytes().to_vec()) }),
        spool: std::env::temp_dir(),
        ..S3Settings::default()
    };
    S3::open(S3Address::parse(place, false).unwrap(), &settings, Stop::new(), |_| ()).unwrap()
}
