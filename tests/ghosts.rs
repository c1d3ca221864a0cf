//! Listings that still show what was deleted, as those of a store do whose copies learn of each other late: nobody relies
//! on what is not there.

use crate::vault::{Vault, back_up, files_below, noise, open, prune_all, restore, verify_all};
use keepstone::ops::forget;
use keepstone::store::{Area, Error, Listed, Memory, ObjectStore};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A store whose listings show all that there is, and besides what there was when this was made. Each object by itself is
/// answered for as it is.
struct Late {
    inner: Memory,
    then: BTreeMap<Area, Vec<Listed>>,
    /// Whether it says that puts are atomic, and so is believed.
    is_believed: bool,
}

impl Late {
    fn of(store: &Memory, is_believed: bool) -> Late {
        let listing = |area| {
            let mut listed = Vec::new();
            store.list(area, &mut |one| listed.push(one)).unwrap();
            (area, listed)
        };
        Late { inner: store.clone(), then: Area::ALL.into_iter().map(listing).collect(), is_believed }
    }
}

impl ObjectStore for Late {
    keepstone::store::forward!(inner: put, begin, replace, get, get_range, size, delete, location, free_bytes);

    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
        let mut all: BTreeMap<String, Listed> =
            self.then[&area].iter().map(|one| (one.name.clone(), one.clone())).collect();
        self.inner.list(area, &mut |one| drop(all.insert(one.name.clone(), one)))?;
        all.into_values().for_each(each);
        Ok(())
    }

    fn puts_are_atomic(&self) -> bool {
        self.is_believed
    }
}

/// A repository from which a file has gone with all that was stored for it, so long ago that no tombstone tells of it any
/// more, and its bytes. `before` gets a store whose listings go on to show all that there was before.
fn with_ghosts(is_believed: bool, before: impl FnOnce(&Vault, Arc<Late>)) -> (Vault, Vec<u8>) {
    let (vault, old) = (Vault::new(), noise(1, 300_000));
    // In a pack of its own, which goes as a whole.
    vault.write("old", &old);
    let first = vault.back_up();
    vault.write("stays", &noise(2, 100_000));
    let mut last = vault.back_up();
    forget::remove(&vault.open(), first).unwrap();
    before(&vault, Arc::new(Late::of(&vault.store, is_believed)));
    std::fs::remove_file(vault.files.path().join("old")).unwrap();
    for round in 3..6 {
        vault.write("new", &noise(round, 200_000));
        let next = vault.back_up();
        forget::remove(&vault.open(), last).unwrap();
        vault.hours(1);
        let pruned = prune_all(&vault.open()).unwrap();
        assert!(pruned.packs_deleted > 0, "{pruned:?}");
        last = next;
    }
    (vault, old)
}

#[test]
fn a_cache_from_before_does_not_take_swept_packs_for_stored() {
    let mut machine = None;
    // Where such listings are believed they deceive, which shows.
    let (deceived, old) = with_ghosts(true, |vault, late| machine = Some(open(late, &vault.clock).unwrap()));
    deceived.write("old", &old);
    deceived.hours(1);
    back_up(&machine.unwrap(), deceived.files.path()).unwrap();
    assert!(verify_all(&deceived.open()).unwrap().damage, "the listing is one that would be believed");

    let mut machine = None;
    let (vault, old) = with_ghosts(false, |vault, late| machine = Some(open(late, &vault.clock).unwrap()));
    vault.write("old", &old);
    vault.hours(1);
    let id = back_up(&machine.unwrap(), vault.files.path()).unwrap();
    let verified = verify_all(&vault.open()).unwrap();
    assert!(!verified.damage, "{:?}", verified.damages);
    let (_, back) = restore(&vault.open(), id, vault.files.path()).unwrap();
    assert_eq!(back, files_below(vault.files.path()));
}

#[test]
fn a_machine_without_a_cache_passes_over_what_is_gone() {
    let mut store = None;
    let (vault, old) = with_ghosts(false, |_, late| store = Some(late));
    let machine = open(store.unwrap(), &vault.clock).unwrap();
    let verified = verify_all(&machine).unwrap();
    assert!(!verified.damage, "{:?}", verified.damages);
    vault.write("old", &old);
    vault.hours(1);
    let id = back_up(&machine, vault.files.path()).unwrap();
    prune_all(&machine).unwrap();
    let (_, back) = restore(&vault.open(), id, vault.files.path()).unwrap();
    assert_eq!(back, files_below(vault.files.path()));
}
