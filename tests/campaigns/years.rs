//! Five years of nights in the time of a manual clock: what a repository costs must follow what it holds, not how long it
//! has been there.

use super::rounds;
use crate::vault::{Vault, back_up, bytes, noise, open, prune_all, read_everything, restore};
use keepstone::base::TimeZone;
use keepstone::ops::keys::{ResealOptions, reseal, rotate};
use keepstone::ops::retention::{GroupBy, Policy};
use keepstone::ops::{forget, prune};
use keepstone::repo::session;
use keepstone::store::Record;
use std::sync::Arc;

/// What a repository costs on one night.
#[derive(Clone, Copy, Debug)]
struct Cost {
    night: u64,
    bytes: u64,
    objects: u64,
    /// Requests until a command can begin.
    opening: u64,
}

/// A dump of which a hundredth changes, a log that begins anew, a file that is new and one that stays.
fn live(vault: &Vault, dump: &mut [u8], night: u64) {
    for place in 0..3_u64 {
        let at = (night * 7_919 + place * 31_337) as usize % (dump.len() - 60);
        dump[at..at + 60].copy_from_slice(&noise(night * 10 + place, 60));
    }
    vault.write("dump.sql", dump);
    vault.write("log", &noise(night / 7, 2_000 + 500 * (night % 7) as usize));
    vault.write("letters/new", &noise(night + 1_000_000, 5_000));
    vault.write("letters/old", &noise(5, 40_000));
}

/// Sunday: what the policy does not keep goes.
fn let_go(vault: &Vault) {
    let policy = Policy { keep_daily: 7, keep_weekly: 4, keep_monthly: 6, keep_yearly: 3, ..Policy::default() };
    let selection = forget::Selection::Policy {
        policy: Box::new(policy),
        filter: forget::Filter::default(),
        group_by: GroupBy::default(),
    };
    let options = forget::Options { selection, zone: TimeZone::UTC, dry_run: false, fresh: None };
    let outcome = forget::forget(&vault.open(), &options).unwrap();
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    prune::prune(&vault.open(), &prune::Options::default()).unwrap();
}

fn cost(vault: &Vault, night: u64) -> Cost {
    let counted = Record::counting(vault.store.clone());
    drop(open(Arc::new(counted.clone()), &vault.clock).unwrap());
    let objects = crate::vault::keys(&vault.store).len() as u64;
    let bytes = keepstone::store::Area::ALL.iter().map(|area| bytes(&vault.store, *area)).sum();
    Cost { night, bytes, objects, opening: counted.total().requests }
}

#[test]
fn years_of_nights_leave_size_objects_and_opening_where_they_were() {
    let nights = rounds(250, 1826);
    let vault = Vault::new();
    let mut dump = noise(1, 150_000);
    let mut curve: Vec<Cost> = Vec::new();
    for night in 1..=nights {
        live(&vault, &mut dump, night);
        vault.hours(24);
        back_up(&vault.open(), vault.files.path()).unwrap();
        if night % 7 == 0 {
            let_go(&vault);
        }
        if night % 30 == 0 {
            rotate(&vault.open()).unwrap();
            reseal(&vault.open(), &ResealOptions::default()).unwrap();
        }
        if night % 90 == 0 {
            let newest = *keepstone::repo::snapshots::names(&vault.open().repository).unwrap().last().unwrap();
            restore(&vault.open(), newest, vault.files.path()).unwrap();
        }
        if night % (nights / 10) == 0 {
            curve.push(cost(&vault, night));
        }
    }
    for Cost { night, bytes, objects, opening } in &curve {
        println!("night {night}: {} KB, {objects} objects, {opening} requests to open", bytes / 1000);
    }
    read_everything(&vault.open()).unwrap();
    // By then all of the policy's days, weeks and months are there; from then on only years are added.
    let settled = *curve.iter().find(|cost| cost.night >= 200).unwrap();
    let last = curve[curve.len() - 1];
    assert!(last.bytes < settled.bytes * 2, "{settled:?} {last:?}");
    assert!(last.objects < settled.objects * 2 + 40, "{settled:?} {last:?}");
    assert!(last.opening < settled.opening * 2 + 20, "{settled:?} {last:?}");
    prune_all(&vault.open()).unwrap();
    assert!(session::condemned_numbers(&vault.store).unwrap().is_empty(), "nothing waits to be deleted");
}
