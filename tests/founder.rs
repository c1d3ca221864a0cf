//! The repository after which those of tests are made: they cut, mark and name as it does, so that what a test finds
//! new, alike or the same does not hang on the luck of a key. Everything else in them is their own.
//!
//! With `KEEPSTONE_TEST_KEYS=random` every run has another founder. `tests/founder/` was made with
//! `KEEPSTONE_FOUNDER=FOLDER cargo test founders_are_made_and_read`.

use crate::vault::{key, keys};
use keepstone::base::Clock;
use keepstone::chunk::Sizes;
use keepstone::crypto::slots::GuardKind;
use keepstone::repo::{Repository, Result, SealedRepository};
use keepstone::store::{Local, Memory, ObjectStore};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Small chunks, so that little data makes many.
fn sizes() -> Sizes {
    Sizes::new(4 << 10, 16 << 10, 64 << 10).unwrap()
}

/// How a repository is made: where, with what label of its key, when.
pub type Make<'m> = &'m dyn Fn(Arc<dyn ObjectStore>, &str, &Clock) -> Result<Repository>;

/// Makes a repository with small chunks that the key of tests opens.
pub fn found(store: Arc<dyn ObjectStore>, label: &str, clock: &Clock) -> Result<Repository> {
    static FOUNDER: OnceLock<Repository> = OnceLock::new();
    let like = FOUNDER.get_or_init(|| match std::env::var("KEEPSTONE_TEST_KEYS").as_deref() {
        Ok("random") => any(),
        _ => kept(),
    });
    Repository::create_like(store, like, &key(), GuardKind::KeyFile, label, clock.clone())
}

/// The same with keys that no other has.
pub fn strange(store: Arc<dyn ObjectStore>, label: &str, clock: &Clock) -> Result<Repository> {
    Repository::create(store, sizes(), &key(), GuardKind::KeyFile, label, clock.clone())
}

fn any() -> Repository {
    strange(Arc::new(Memory::new()), "founder", &Clock::System).unwrap()
}

/// Opens a copy, so that nothing is ever written beside the original.
fn kept() -> Repository {
    let folder = Local::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/founder")).unwrap();
    let copy = Memory::new();
    for key in keys(&folder) {
        copy.put(&key, &folder.get(&key, u64::MAX).unwrap()).unwrap();
    }
    SealedRepository::open(Arc::new(copy)).unwrap().unlock(&key(), Clock::System).unwrap()
}

#[test]
fn founders_are_made_and_read() {
    let made = any();
    if let Some(folder) = std::env::var_os("KEEPSTONE_FOUNDER") {
        let folder = Local::create(Path::new(&folder)).unwrap();
        for key in keys(&**made.store()) {
            folder.put(&key, &made.store().get(&key, u64::MAX).unwrap()).unwrap();
        }
    }
    let (kept, made) = (kept(), found(Arc::new(Memory::new()), "first", &Clock::System).unwrap());
    assert_ne!(made.id(), kept.id());
    if std::env::var_os("KEEPSTONE_TEST_KEYS").is_none() {
        assert!(made.keyring().names_like(kept.keyring()));
    }
}
