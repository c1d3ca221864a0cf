//! What is said of an object when it is stored: class, metadata, tags, encryption, retention. Nothing of it is secret:
//! its kind stands in its name and the repository's id in `config`.

use super::settings::{Encryption, Lock, LockMode, ObjectSettings};
use crate::base::{Clock, RepositoryId, Timestamp};
use crate::store::{Area, Key};
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ChecksumAlgorithm, ObjectLockMode, ServerSideEncryption, StorageClass};
use std::sync::OnceLock;

/// The most tags of an object (S3: "Object tagging").
const MAX_TAGS: usize = 10;
/// The longest key and the longest value of a tag, in characters.
const MAX_TAG_CHARS: (usize, usize) = (128, 256);
/// The most days of a retention; a mistyped one in the strict mode can be undone by nobody.
const MAX_DAYS: u32 = 36_500;

pub(super) struct Labels {
    settings: ObjectSettings,
    /// The tags as the header wants them.
    tagging: Option<String>,
    repository: OnceLock<RepositoryId>,
    clock: Clock,
}

impl Labels {
    /// Refuses what S3 would refuse with each object.
    pub fn new(settings: ObjectSettings) -> Result<Labels, String> {
        if settings.tags.len() > MAX_TAGS {
            return Err(format!("an object has at most {MAX_TAGS} tags, not {}", settings.tags.len()));
        }
        for (name, value) in &settings.tags {
            if name.is_empty() || name.chars().count() > MAX_TAG_CHARS.0 || value.chars().count() > MAX_TAG_CHARS.1 {
                return Err(format!("`{name}={value}` is too long or too short for a tag"));
            }
        }
        if settings.lock.is_some_and(|lock| !(1..=MAX_DAYS).contains(&lock.days)) {
            return Err(format!("a retention has 1 to {MAX_DAYS} days"));
        }
        let pairs: Vec<String> =
            settings.tags.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
        let tagging = (!pairs.is_empty()).then(|| pairs.join("&"));
        Ok(Labels { settings, tagging, repository: OnceLock::new(), clock: Clock::System })
    }

    /// Says which repository the objects belong to; the first word counts.
    pub fn introduce(&self, repository: RepositoryId) {
        let _ = self.repository.set(repository);
    }

    /// How objects are to be locked.
    pub fn lock(&self) -> Option<Lock> {
        self.settings.lock
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether objects are to be locked.
    pub fn wants_lock(&self) -> bool {
        self.settings.lock.is_some()
    }

    /// Whether this object is to be locked.
    pub fn locks(&self, key: &Key) -> bool {
        self.wants_lock() && Lock::covers(key.area())
    }

    /// The rights that storing with all of it needs.
    pub fn right_to_put(&self) -> &'static str {
        match (self.tagging.is_some(), self.wants_lock()) {
            (false, false) => "s3:PutObject",
            (true, false) => "s3:PutObject (and s3:PutObjectTagging for --s3-tag)",
            (false, true) => "s3:PutObject (and s3:PutObjectRetention for --s3-object-lock)",
            (true, true) => {
                "s3:PutObject (and s3:PutObjectTagging for --s3-tag, s3:PutObjectRetention for --s3-object-lock)"
            }
        }
    }

    /// Adds all of it to a request.
    pub fn put_on(&self, request: PutObjectFluentBuilder, key: &Key) -> PutObjectFluentBuilder {
        let (now, settings) = (self.clock.now(), &self.settings);
        let mut request = request
            .content_type("application/octet-stream")
            .metadata("kind", key.area().name())
            .metadata("created-at", format!("{now:.0}"))
            .set_tagging(self.tagging.clone());
        if let Some(repository) = self.repository.get() {
            request = request.metadata("repository", repository.to_string());
        }
        // Smaller and shorter-lived objects would cost more in a class for rare access.
        if key.area() == Area::Packs {
            request = request.set_storage_class(settings.pack_class.as_deref().map(StorageClass::from));
        }
        request = match &settings.encryption {
            None => request,
            Some(Encryption::Aes256) => request.server_side_encryption(ServerSideEncryption::Aes256),
            Some(Encryption::Kms(key)) => {
                request.server_side_encryption(ServerSideEncryption::AwsKms).set_ssekms_key_id(key.clone())
            }
        };
        match settings.lock.filter(|_| Lock::covers(key.area())) {
            None => request,
            // S3 takes a retention only with a checksum of the body.
            Some(lock) => request
                .checksum_algorithm(ChecksumAlgorithm::Crc32)
                .object_lock_mode(mode(lock.mode))
                .object_lock_retain_until_date(until(now, lock.days)),
        }
    }
}

pub(super) fn mode(mode: LockMode) -> ObjectLockMode {
    match mode {
        LockMode::Governance => ObjectLockMode::Governance,
        LockMode::Compliance => ObjectLockMode::Compliance,
    }
}

pub(super) fn until(now: Timestamp, days: u32) -> DateTime {
    DateTime::from_secs(now.as_second().saturating_add(i64::from(days) * 86_400))
}

/// As in a URL: everything but letters, digits and `-_.~` by its bytes.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'.' | b'~' => (byte as char).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tagged(tags: &[(&str, &str)]) -> ObjectSettings {
        let tags = tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ObjectSettings { tags, ..ObjectSettings::default() }
    }

    #[test]
    fn tags_are_escaped_and_their_bounds_kept() {
        let labels = Labels::new(tagged(&[("team", "ops & co"), ("é", "=")])).unwrap();
        assert_eq!(labels.tagging.as_deref(), Some("team=ops%20%26%20co&%C3%A9=%3D"));
        assert_eq!(Labels::new(tagged(&[])).unwrap().tagging, None);
        assert!(Labels::new(tagged(&[("", "x")])).is_err());
        assert!(Labels::new(tagged(&[("x", "y"); 11])).is_err());
        let forever = Lock { mode: LockMode::Compliance, days: u32::MAX };
        assert!(Labels::new(ObjectSettings { lock: Some(forever), ..tagged(&[]) }).is_err());
    }

    /// The headers of a request to store an object.
    fn headers(settings: ObjectSettings, area: Area) -> String {
        let labels = Labels::new(settings).unwrap();
        labels.introduce(RepositoryId([0xab; 32]));
        let config = aws_sdk_s3::Config::builder().behavior_version(aws_sdk_s3::config::BehaviorVersion::latest());
        let client = aws_sdk_s3::Client::from_conf(config.build());
        let request = labels.put_on(client.put_object(), &Key::new(area, "aa"));
        format!("{:?}", request.as_input())
    }

    #[test]
    fn packs_get_the_class_and_what_a_restore_needs_the_retention() {
        let settings = ObjectSettings {
            pack_class: Some("STANDARD_IA".to_owned()),
            lock: Some(Lock { mode: LockMode::Governance, days: 30 }),
            encryption: Some(Encryption::Kms(Some("key-1".to_owned()))),
            ..tagged(&[("team", "ops")])
        };
        for (area, classed, locked) in [
            (Area::Packs, true, true),
            (Area::Snapshots, false, true),
            (Area::Sessions, false, false),
            (Area::Condemned, false, false),
            (Area::Index, false, false),
        ] {
            let said = headers(settings.clone(), area);
            assert_eq!(said.contains("StandardIa"), classed, "{area:?}: {said}");
            assert_eq!(said.contains("Governance"), locked, "{area:?}: {said}");
            assert_eq!(said.contains("Crc32"), locked, "{area:?}: {said}");
            for always in ["team=ops", "AwsKms", "abababab", area.name(), "created-at"] {
                assert!(said.contains(always), "{area:?} lacks {always}: {said}");
            }
        }
    }
}
