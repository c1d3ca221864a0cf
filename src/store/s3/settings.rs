//! How a bucket is talked to, as its user wants it.

use crate::base::Secret;
use crate::store::{Area, Limits};
use std::path::PathBuf;

/// How the store is talked to. Everything has a default that does for Amazon and for compatible servers.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The region; none for what the environment or the profile says, `us-east-1` if neither does.
    pub region: Option<String>,
    /// Certificates (PEM) of authorities to trust beside the system's.
    pub authorities: Option<PathBuf>,
    /// The keys; none for what the environment, the profile or the machine gives.
    pub keys: Option<Keys>,
    /// The bucket stands in the path and not in the host's name; none for so at every server but Amazon's.
    pub path_style: Option<bool>,
    /// When the SDK adds checksums of its own; none for always at Amazon, and elsewhere only where S3 requires them.
    pub checksums: Option<Checksums>,
    /// Tries of one request; none for [`crate::store::TRIES`].
    pub tries: Option<u32>,
    /// Requests at once; none for as many as are asked for, and four packs on their way.
    pub connections: Option<usize>,
    /// Bandwidth.
    pub limits: Limits,
    /// Plain http may be spoken with another machine, should the environment or the profile name such an endpoint.
    pub plain_http: bool,
    /// Where packs lie until they are complete; a folder on a disk with some hundred MB.
    pub spool: PathBuf,
    /// What is said of each object when it is stored.
    pub objects: ObjectSettings,
}

/// What is said of each object when it is stored.
#[derive(Clone, Debug, Default)]
pub struct ObjectSettings {
    /// The storage class of packs, such as `STANDARD_IA`; everything else is kept in the bucket's own.
    pub pack_class: Option<String>,
    /// Tags of all objects. Storing with tags needs the right `s3:PutObjectTagging`.
    pub tags: Vec<(String, String)>,
    /// How the server encrypts what it keeps; none for what the bucket says.
    pub encryption: Option<Encryption>,
    /// Until when objects cannot be deleted, by anybody; none for what the bucket says.
    pub lock: Option<Lock>,
}

/// An access key and its secret.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The name of the key.
    pub access: String,
    /// The secret, UTF-8.
    pub secret: Secret<Vec<u8>>,
}

/// When the SDK sends and checks checksums of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksums {
    /// Wherever S3 knows them.
    WhenSupported,
    /// Only where S3 requires them: many compatible servers refuse the others.
    WhenRequired,
}

/// How the server encrypts what it keeps. Everything is sealed before it leaves us; this is for buckets whose policy
/// demands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// With keys of the server's.
    Aes256,
    /// With a key of the key service, by name, or the account's own.
    Kms(Option<String>),
}

/// A retention that Object Lock enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Who may lift it.
    pub mode: LockMode,
    /// Days from when an object is stored.
    pub days: u32,
}

/// Who may lift a retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Whoever has the right `s3:BypassGovernanceRetention`.
    Governance,
    /// Nobody.
    Compliance,
}

impl Lock {
    /// Whether objects of an area are locked: what a restore cannot do without. Segments can be made anew from the packs.
    /// Marks of sessions and condemned records come and go with the work, and prune has to be able to take them away.
    pub fn covers(area: Area) -> bool {
        matches!(area, Area::Config | Area::Keys | Area::Epochs | Area::Packs | Area::Snapshots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_restore_needs_is_locked_and_the_marks_of_work_never_are() {
        let locked: Vec<_> = Area::ALL.into_iter().filter(|area| Lock::covers(*area)).collect();
        assert_eq!(locked, [Area::Config, Area::Keys, Area::Epochs, Area::Packs, Area::Snapshots]);
    }
}
