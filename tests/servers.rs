//! Real servers for the tests: started when the first test asks, stopped when the test program ends, however it ends;
//! never run as root.

pub mod cluster;
pub mod postgres;
pub mod prometheus;
pub mod proxy;
pub mod receiver;
pub mod seaweed;
pub mod smtp;
pub mod tunnel;

use keepstone::base::{Secret, Stop};
use keepstone::store::{S3, S3Address, S3Keys, S3Settings};

/// A store in a bucket of the test server, as its owner opens it.
pub fn seaweed_store(place: &str) -> S3 {
    let settings = S3Settings {
        keys: Some(S3Keys {
            access: seaweed::ACCESS_KEY.to_owned(),
            secret: Secret::new(seaweed::SECRET_KEY.as_bytes().to_vec()),
        }),
        spool: std::env::temp_dir(),
        ..S3Settings::default()
    };
    S3::open(S3Address::parse(place, false).unwrap(), &settings, Stop::new(), |_| ()).unwrap()
}
