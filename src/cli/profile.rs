//! The repository of a profile in place of the one that the command line names, and that one as it is meant.

use super::args::{Global, Switch, When};
use crate::config::meant::{Bucket, Repository};
use crate::store::S3Checksums;
use std::path::PathBuf;

/// From now on `global` is about `repository`. What the command line says of buckets and bandwidth besides still counts.
pub fn take(global: &mut Global, repository: Repository) {
    let Repository {
        name: _,
        place,
        origin,
        cache_dir,
        cache_bytes,
        limit_upload,
        limit_download,
        bucket,
        quota_bytes: _,
        price: _,
        keys: _,
    } = repository;
    global.repository = Some(place);
    global.origin = origin;
    global.cache_size = cache_bytes;
    set(&mut global.cache_dir, cache_dir);
    let s3 = &mut global.s3;
    set(&mut s3.limit_upload, limit_upload);
    set(&mut s3.limit_download, limit_download);
    set(&mut s3.s3_region, bucket.region);
    set(&mut s3.s3_ca, bucket.authorities);
    set(&mut s3.s3_path_style, bucket.path_style.map(|on| if on { Switch::On } else { Switch::Off }));
    let when = |when| match when {
        S3Checksums::WhenSupported => When::WhenSupported,
        S3Checksums::WhenRequired => When::WhenRequired,
    };
    set(&mut s3.s3_checksums, bucket.checksums.map(when));
    set(&mut s3.s3_connections, bucket.connections);
    set(&mut s3.s3_tries, bucket.tries);
    set(&mut s3.s3_storage_class, bucket.storage_class);
    set(&mut s3.s3_encryption, bucket.encryption);
    set(&mut s3.s3_object_lock, bucket.lock);
    s3.s3_tag.extend(bucket.tags);
    s3.allow_plain_http |= bucket.plain_http;
}

/// What was said already stays.
fn set<T>(place: &mut Option<T>, value: Option<T>) {
    if place.is_none() {
        *place = value;
    }
}

/// The repository at `place`, as the command line means it.
pub fn meant(global: &Global, place: PathBuf) -> Repository {
    let s3 = &global.s3;
    Repository {
        name: String::new(),
        place,
        origin: global.origin.clone(),
        cache_dir: global.cache_dir.clone(),
        cache_bytes: global.cache_size,
        quota_bytes: None,
        price: None,
        keys: None,
        limit_upload: s3.limit_upload,
        limit_download: s3.limit_download,
        bucket: Bucket {
            region: s3.s3_region.clone(),
            authorities: s3.s3_ca.clone(),
            path_style: s3.s3_path_style.map(|switch| switch == Switch::On),
            checksums: s3.s3_checksums.map(Into::into),
            connections: s3.s3_connections,
            tries: s3.s3_tries,
            storage_class: s3.s3_storage_class.clone(),
            tags: s3.s3_tag.clone(),
            encryption: s3.s3_encryption.clone(),
            lock: s3.s3_object_lock,
            plain_http: s3.allow_plain_http,
        },
    }
}
