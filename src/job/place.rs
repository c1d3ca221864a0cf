//! Where the repository is: a folder or a place in a bucket, and how its store is opened.

use super::error::{Error, Result};
use super::reach::Reach;
use crate::base::{Event, Kind, Timestamp};
use crate::repo;
use crate::store::{
    Limits, Local, ObjectStore, Retried, Retry, S3, S3Address, S3ObjectSettings, S3Settings, TRIES, Throttle,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Schemes of other tools, which people may try.
const FOREIGN: [&str; 7] = ["sftp", "rest", "b2", "rclone", "http", "https", "gs"];

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A place in a bucket of an S3-compatible store.
    Bucket(S3Address),
}

impl Location {
    /// Reads what was given with `-r`.
    pub fn parse(given: &Path, plain_http: bool) -> Result<Location> {
        match given.to_str() {
            Some(text) if S3Address::is_meant(text) => Ok(Location::Bucket(S3Address::parse(text, plain_http)?)),
            Some(text) if text.split_once(':').is_some_and(|(scheme, _)| FOREIGN.contains(&scheme)) => {
                let text = format!(
                    "{text} is not understood: a repository is a folder, s3://BUCKET/PREFIX or \
                                    s3:https://HOST/BUCKET/PREFIX"
                );
                Err(Error::usage(text))
            }
            _ => Ok(Location::Folder(given.to_owned())),
        }
    }

    /// The folder, if it is one.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Location::Folder(path) => Some(path),
            Location::Bucket(_) => None,
        }
    }

    /// Opens the store of a repository that should be there.
    pub fn open(&self, reach: &Reach) -> Result<Arc<dyn ObjectStore>> {
        match self {
            Location::Folder(path) if reach.as_of.is_some() => Err(Error::usage(format!(
                "--as-of needs a bucket that keeps versions, and {} is a folder: restore it from a snapshot of its file \
                 system, or leave --as-of away",
                path.display()
            ))),
            Location::Folder(path) => match Local::open(path) {
                Err(error) if error.kind() == Kind::NoRepository => {
                    Err(repo::Error::NoRepository(path.display().to_string()).into())
                }
                other => Ok(folder(reach, other?)),
            },
            Location::Bucket(address) => match reach.as_of {
                Some(at) => past(reach, address, at),
                None => bucket(reach, address),
            },
        }
    }

    /// Opens the store of a repository that is to be made.
    pub fn create(&self, reach: &Reach) -> Result<Arc<dyn ObjectStore>> {
        match self {
            Location::Folder(path) => Ok(folder(reach, Local::create(path)?)),
            Location::Bucket(address) => bucket(reach, address),
        }
    }
}

fn limits(reach: &Reach) -> Limits {
    Limits { upload: reach.repository.limit_upload, download: reach.repository.limit_download }
}

/// The store of a folder, which may lie on another machine: with its limits, if there are any.
fn folder(reach: &Reach, store: Local) -> Arc<dyn ObjectStore> {
    match limits(reach) {
        Limits { upload: None, download: None } => Arc::new(store),
        limits => Arc::new(Throttle::new(store, limits, reach.stop.clone())),
    }
}

/// A store that asks again when a fault may pass, and says so.
fn bucket(reach: &Reach, address: &S3Address) -> Result<Arc<dyn ObjectStore>> {
    Ok(patient(reach, present(reach, address)?))
}

/// The same for a bucket as it was.
fn past(reach: &Reach, address: &S3Address, at: Timestamp) -> Result<Arc<dyn ObjectStore>> {
    Ok(patient(reach, present(reach, address)?.at(at)))
}

fn patient(reach: &Reach, store: impl ObjectStore + 'static) -> Arc<dyn ObjectStore> {
    let look = reach.monitor.clone();
    let retry = Retry::new(store, reach.stop.clone(), move |retried| look.event(Event::Note(&told(retried))));
    Arc::new(retry.trying(reach.repository.bucket.tries.unwrap_or(TRIES)))
}

fn present(reach: &Reach, address: &S3Address) -> Result<S3> {
    let given = &reach.repository.bucket;
    let settings = S3Settings {
        region: given.region.clone(),
        authorities: given.authorities.clone(),
        keys: None,
        path_style: given.path_style,
        checksums: given.checksums,
        tries: given.tries,
        connections: given.connections.map(usize::from),
        limits: limits(reach),
        plain_http: given.plain_http,
        spool: reach.spool()?,
        objects: S3ObjectSettings {
            pack_class: given.storage_class.clone(),
            tags: given.tags.clone(),
            encryption: given.encryption.clone(),
            lock: given.lock,
        },
    };
    let look = reach.monitor.clone();
    Ok(S3::open(address.clone(), &settings, reach.stop.clone(), move |retried| {
        look.event(Event::Note(&told(retried)))
    })?)
}

fn told(retried: &Retried<'_>) -> String {
    let Retried { tries, of, wait, error, .. } = retried;
    format!("{error}: try {} of {of} follows in {:.1} s", tries + 1, wait.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_buckets_are_told_apart_and_foreign_schemes_refused() {
        let parse = |text: &str| Location::parse(Path::new(text), false);
        assert!(matches!(parse("s3://vault/x"), Ok(Location::Bucket(_))));
        assert!(matches!(parse("./s3/vault"), Ok(Location::Folder(_))));
        assert!(matches!(parse("C:/vault"), Ok(Location::Folder(_))));
        for text in ["sftp:me@host:/vault", "rest:http://host/", "gs:vault:/"] {
            assert_eq!(parse(text).map_err(|error| error.kind()), Err(Kind::Usage), "{text}");
        }
    }
}
