//! Where the repository is: a folder or a place in a bucket, and how its store is opened.

use super::app::App;
use super::args::Switch;
use super::error::{Error, Result};
use crate::base::{Kind, Timestamp};
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
    pub fn open(&self, app: &App) -> Result<Arc<dyn ObjectStore>> {
        match self {
            Location::Folder(path) if app.global.s3.as_of.is_some() => Err(Error::usage(format!(
                "--as-of needs a bucket that keeps versions, and {} is a folder: restore it from a snapshot of its file \
                 system, or leave --as-of away",
                path.display()
            ))),
            Location::Folder(path) => match Local::open(path) {
                Err(error) if error.kind() == Kind::NoRepository => {
                    Err(repo::Error::NoRepository(path.display().to_string()).into())
                }
                other => Ok(folder(app, other?)),
            },
            Location::Bucket(address) => match app.global.s3.as_of {
                Some(at) => past(app, address, at),
                None => bucket(app, address),
            },
        }
    }

    /// Opens the store of a repository that is to be made.
    pub fn create(&self, app: &App) -> Result<Arc<dyn ObjectStore>> {
        match self {
            Location::Folder(path) => Ok(folder(app, Local::create(path)?)),
            Location::Bucket(address) => bucket(app, address),
        }
    }
}

fn limits(app: &App) -> Limits {
    Limits { upload: app.global.s3.limit_upload, download: app.global.s3.limit_download }
}

/// The store of a folder, which may lie on another machine: with its limits, if there are any.
fn folder(app: &App, store: Local) -> Arc<dyn ObjectStore> {
    match limits(app) {
        Limits { upload: None, download: None } => Arc::new(store),
        limits => Arc::new(Throttle::new(store, limits, app.stop.clone())),
    }
}

/// A store that asks again when a fault may pass, and says so.
fn bucket(app: &App, address: &S3Address) -> Result<Arc<dyn ObjectStore>> {
    Ok(patient(app, present(app, address)?))
}

/// The same for a bucket as it was.
fn past(app: &App, address: &S3Address, at: Timestamp) -> Result<Arc<dyn ObjectStore>> {
    Ok(patient(app, present(app, address)?.at(at)))
}

fn patient(app: &App, store: impl ObjectStore + 'static) -> Arc<dyn ObjectStore> {
    let look = app.look.clone();
    let retry = Retry::new(store, app.stop.clone(), move |retried| look.note(&told(retried)));
    Arc::new(retry.trying(app.global.s3.s3_tries.unwrap_or(TRIES)))
}

fn present(app: &App, address: &S3Address) -> Result<S3> {
    let given = &app.global.s3;
    let settings = S3Settings {
        region: given.s3_region.clone(),
        authorities: given.s3_ca.clone(),
        keys: None,
        path_style: given.s3_path_style.map(|switch| switch == Switch::On),
        checksums: given.s3_checksums.map(Into::into),
        tries: given.s3_tries,
        connections: given.s3_connections.map(usize::from),
        limits: limits(app),
        plain_http: given.allow_plain_http,
        spool: app.spool()?,
        objects: S3ObjectSettings {
            pack_class: given.s3_storage_class.clone(),
            tags: given.s3_tag.clone(),
            encryption: given.s3_encryption.clone(),
            lock: given.s3_object_lock,
        },
    };
    let look = app.look.clone();
    Ok(S3::open(address.clone(), &settings, app.stop.clone(), move |retried| look.note(&told(retried)))?)
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
