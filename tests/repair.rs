//! Parity sidecars and repair: what is damaged comes back, what cannot is named, and nothing is lost by trying.

use crate::program::{CHEAP, Place};
use crate::vault::{
    Vault, back_up, backup_of, count, crash_everywhere, files_below, key, keys, noise, open, prune_all,
    read_everything, restore, verify_all,
};
use keepstone::base::{Clock, Kind};
use keepstone::format::parity::{Shape, Share};
use keepstone::ops::repair::{self, Options, Way};
use keepstone::ops::{self, Context, forget, parity, verify};
use keepstone::repo::SealedRepository;
use keepstone::store::{Area, Fault, Key, Memory, ObjectStore, Operation, Record};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

fn share(text: &str) -> Share {
    text.parse().unwrap()
}

/// Asks for sidecars from now on.
fn ask_for_parity(vault: &Vault, share: Option<Share>) {
    let sealed = SealedRepository::open(Arc::new(vault.store.clone())).unwrap();
    sealed.unlock(&key(), vault.clock.clone()).unwrap().set_parity(share).unwrap();
}

/// Two nights, each pack with a sidecar: a dump that changes a little, and a file a night.
fn protected(share_text: &str) -> Vault {
    let vault = Vault::new();
    ask_for_parity(&vault, Some(share(share_text)));
    let mut dump = noise(1, 600_000);
    for night in 0..2u8 {
        dump[100_000 + usize::from(night) * 9000..][..50].fill(night);
        vault.write("dump.sql", &dump);
        vault.write(&format!("of/{night}"), &noise(20 + u64::from(night), 150_000));
        vault.back_up();
    }
    vault
}

fn names(store: &dyn ObjectStore, area: Area) -> BTreeSet<String> {
    keys(store).into_iter().filter(|key| key.area() == area).map(|key| key.name().to_owned()).collect()
}

/// The packs, the largest first.
fn packs(store: &dyn ObjectStore) -> Vec<Key> {
    let mut packs: Vec<Key> = keys(store).into_iter().filter(|key| key.area() == Area::Packs).collect();
    packs.sort_by_key(|key| std::cmp::Reverse(store.size(key).unwrap()));
    packs
}

fn sidecar(pack: &Key) -> Key {
    Key::new(Area::Parity, pack.name())
}

fn damage(store: &dyn ObjectStore, key: &Key, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let before = store.get(key, u64::MAX).unwrap();
    let mut bytes = before.clone();
    change(&mut bytes);
    store.replace(key, &bytes).unwrap();
    before
}

fn all() -> Options<'static> {
    Options { all: true, ..Options::default() }
}

fn apply(context: &Context, options: &Options<'_>) -> ops::Result<repair::Applied> {
    repair::apply(context, options, &key())
}

#[test]
fn every_pack_has_a_sidecar_stored_after_it_by_whoever_may_only_put() {
    let vault = Vault::new();
    ask_for_parity(&vault, Some(share("5%")));
    vault.write("file", &noise(1, 700_000));
    let record = Record::logging(vault.store.clone());
    back_up(&open(Arc::new(record.clone()), &vault.clock).unwrap(), vault.files.path()).unwrap();
    assert_eq!(names(&vault.store, Area::Packs), names(&vault.store, Area::Parity));
    let stored: Vec<String> = record
        .log()
        .iter()
        .filter(|entry| entry.operation == Operation::Finish)
        .map(|entry| entry.path.clone())
        .collect();
    for pack in packs(&vault.store) {
        let place = |path: String| stored.iter().position(|stored| *stored == path).unwrap();
        assert!(place(pack.path()) < place(sidecar(&pack).path()), "{stored:?}");
        let bytes = vault.store.size(&pack).unwrap();
        let shape = Shape::new(bytes, share("5%")).unwrap();
        assert_eq!(vault.store.size(&sidecar(&pack)).unwrap(), shape.sidecar_bytes());
    }
    let changed = [Operation::Replace, Operation::Delete].map(|operation| record.count(operation).requests);
    assert_eq!(changed[0], 0, "nothing was replaced");
    assert!(record.log().iter().all(|entry| entry.operation != Operation::Delete || !entry.path.contains("p")));
    let found = verify_all(&vault.open()).unwrap();
    let sidecars = found.sidecars.unwrap();
    let packs = packs(&vault.store).len() as u64;
    assert_eq!((sidecars.there, sidecars.missing, sidecars.read, found.damage), (packs, 0, packs, false));
}

#[test]
fn sidecars_are_added_later_changed_and_taken_away_and_an_interrupted_run_is_gone_on_with() {
    let vault = Vault::new();
    for night in 0..4 {
        vault.write("new", &noise(night, 100_000));
        vault.back_up();
    }
    assert!(verify_all(&vault.open()).unwrap().sidecars.is_none());
    let packs = packs(&vault.store).len();
    ask_for_parity(&vault, Some(share("5%")));
    let note = verify_all(&vault.open()).unwrap();
    assert_eq!((note.damage, note.sidecars.unwrap().missing), (false, packs as u64));
    assert!(note.notes.iter().any(|note| note.contains("keepstone parity")), "{:?}", note.notes);
    let fault = Fault::stop_after(3, vault.store.clone());
    parity::build(&open(Arc::new(fault), &vault.clock).unwrap(), Some(share("5%"))).unwrap_err();
    let there = count(&vault.store, Area::Parity);
    assert!(there > 0 && there < packs, "{there} of {packs}");
    let outcome = parity::build(&vault.open(), Some(share("5%"))).unwrap();
    assert_eq!((outcome.made, outcome.there), ((packs - there) as u64, there as u64));
    let again = parity::build(&vault.open(), Some(share("5%"))).unwrap();
    assert_eq!((again.made, again.there), (0, packs as u64));
    // Of another size: all of them anew.
    ask_for_parity(&vault, Some(share("50%")));
    let larger = parity::build(&vault.open(), Some(share("50%"))).unwrap();
    assert!(larger.replaced > 0 && larger.made_bytes > outcome.made_bytes, "{larger:?}");
    assert!(!verify_all(&vault.open()).unwrap().damage);
    ask_for_parity(&vault, None);
    let removed = parity::build(&vault.open(), None).unwrap();
    assert_eq!((removed.removed, count(&vault.store, Area::Parity)), (packs as u64, 0));
    vault.write("more", &noise(9, 50_000));
    vault.back_up();
    assert_eq!(count(&vault.store, Area::Parity), 0);
}

#[test]
fn a_damaged_pack_gets_no_sidecar_and_keeps_the_one_that_it_has() {
    let vault = protected("5%");
    let pack = packs(&vault.store).remove(0);
    damage(&vault.store, &pack, |bytes| bytes[9000] ^= 1);
    let before = vault.store.get(&sidecar(&pack), u64::MAX).unwrap();
    let outcome = parity::build(&vault.open(), Some(share("20%"))).unwrap();
    assert_eq!(outcome.damaged.len(), 1);
    assert!(outcome.damaged[0].message.contains("repair plan --all"), "{:?}", outcome.damaged);
    assert!(vault.store.get(&sidecar(&pack), u64::MAX).unwrap() == before);
    apply(&vault.open(), &all()).unwrap();
    assert_eq!(parity::build(&vault.open(), Some(share("20%"))).unwrap().damaged, []);
}

#[test]
fn prune_gives_new_packs_sidecars_and_takes_those_of_old_ones_away() {
    let vault = protected("5%");
    vault.write("gone", &noise(77, 200_000));
    vault.write("kept", &noise(78, 100_000));
    let gone = vault.back_up();
    fs::remove_file(vault.files.path().join("gone")).unwrap();
    vault.back_up();
    forget::remove(&vault.open(), gone).unwrap();
    // One that a prune left that was killed between its pack and itself.
    let orphan = Key::new(Area::Parity, "ab".repeat(32));
    vault.store.put(&orphan, b"whatever it was").unwrap();
    vault.hours(30);
    let dry = ops::prune::Options { dry_run: true, ..ops::prune::Options::default() };
    let dry = ops::prune::prune(&vault.open(), &dry).unwrap();
    assert!(dry.sidecars_deleted > 1, "{dry:?}");
    let before = names(&vault.store, Area::Packs);
    let outcome = prune_all(&vault.open()).unwrap();
    assert!(outcome.packs_deleted > 0 && outcome.packs_written > 0, "{outcome:?}");
    assert_eq!(outcome.sidecars_deleted, outcome.packs_deleted + 1, "{outcome:?}");
    assert!(outcome.sidecar_bytes_deleted > 8192);
    let after = names(&vault.store, Area::Packs);
    assert!(after != before && after == names(&vault.store, Area::Parity), "each pack has one, and no other has");
    read_everything(&vault.open()).unwrap();
}

#[test]
fn a_copy_gives_its_packs_sidecars_too() {
    let (source, destination) = (protected("5%"), Vault::new());
    ask_for_parity(&destination, Some(share("10%")));
    let (from, to) = (source.open(), destination.open());
    let listing = ops::select::list(&from, &ops::select::Filter::default()).unwrap();
    let options =
        ops::copy::Options { listing, level: keepstone::compress::Level::Default, verify: false, dry_run: false };
    ops::copy::copy(&from, &to, &options).unwrap();
    assert!(count(&destination.store, Area::Packs) > 0);
    assert_eq!(names(&destination.store, Area::Packs), names(&destination.store, Area::Parity));
}

/// What is done to a pack, by where in it (thousandths) and how much (of its bytes).
#[derive(Clone, Copy, Debug)]
enum Hit {
    Flip(usize),
    Zero(usize, usize),
    Noise(usize, usize),
    Cut(usize),
    Scatter(usize),
    Swap,
    Miss,
}

const HITS: [Hit; 16] = [
    Hit::Flip(0),
    Hit::Flip(300),
    Hit::Flip(999),
    Hit::Zero(0, 4096),
    Hit::Zero(500, 4096),
    Hit::Zero(900, 8192),
    Hit::Noise(200, 4096),
    Hit::Noise(700, 5000),
    Hit::Cut(1),
    Hit::Cut(8192),
    Hit::Scatter(2),
    Hit::Zero(0, 80_000),
    Hit::Cut(200_000),
    Hit::Scatter(60),
    Hit::Swap,
    Hit::Miss,
];

fn hit(store: &Memory, pack: &Key, other: &Key, hit: Hit) {
    let bytes = store.get(pack, u64::MAX).unwrap();
    let length = bytes.len();
    let fill = |at: usize, count: usize, with: &dyn Fn(usize) -> u8| {
        let start = (length * at / 1000).min(length - count.min(length));
        damage(store, pack, |bytes| {
            bytes[start..(start + count).min(length)].iter_mut().enumerate().for_each(|(at, byte)| *byte ^= with(at));
        });
    };
    match hit {
        Hit::Flip(at) => fill(at, 1, &|_| 4),
        Hit::Zero(at, count) => {
            let start = (length * at / 1000).min(length.saturating_sub(count));
            damage(store, pack, |bytes| bytes[start..(start + count).min(length)].fill(0));
        }
        Hit::Noise(at, count) => {
            let noise = noise(5, count);
            fill(at, count, &|at| noise[at] | 1);
        }
        Hit::Cut(count) => drop(damage(store, pack, |bytes| bytes.truncate(length - count.min(length)))),
        Hit::Scatter(hits) => {
            let places: BTreeSet<usize> = (0..hits).map(|hit| (hit * 2 + 1) * 4096 % length).collect();
            damage(store, pack, |bytes| places.iter().for_each(|place| bytes[*place] ^= 1));
        }
        Hit::Swap => drop(damage(store, pack, |bytes| *bytes = store.get(other, u64::MAX).unwrap())),
        Hit::Miss => store.delete(pack).unwrap(),
    }
}

#[test]
fn whatever_is_done_to_a_pack_is_found_and_what_its_sidecar_can_mend_is_mended() {
    let vault = protected("5%");
    let whole = packs(&vault.store);
    let (mut tried, mut found, mut mended) = (0, 0, 0);
    for (at, pack) in whole.iter().enumerate() {
        for one in HITS {
            let (store, clock) = vault.copy();
            let before = store.get(pack, u64::MAX).unwrap();
            hit(&store, pack, &whole[(at + 1) % whole.len()], one);
            let context = open(Arc::new(store.clone()), &clock).unwrap();
            let plan = repair::plan(&context, &all(), &key()).unwrap();
            tried += 1;
            found += u32::from(plan.items.iter().any(|item| item.key == *pack));
            let applied = apply(&context, &all()).unwrap();
            let planned = plan.items.iter().find(|item| item.key == *pack).unwrap();
            let is_mended = store.get(pack, u64::MAX).is_ok_and(|bytes| bytes == before);
            assert_eq!(matches!(planned.way, Way::Parity { .. }), is_mended, "{one:?}: {planned:?}");
            assert_eq!(applied.is_damage(), !is_mended, "{one:?}: {:?} {:?}", applied.left, applied.damages);
            mended += u32::from(is_mended);
            if is_mended {
                read_everything(&context).unwrap();
                // What was damaged is kept, as it was.
                assert_eq!(count(&store, Area::Quarantine), 1, "{one:?}");
                assert!(applied.mended[0].quarantine.as_ref().unwrap().name().contains(pack.name()));
            }
        }
    }
    println!("damage matrix of packs: {found} of {tried} found, {mended} mended with sidecars of 5 %");
    assert_eq!(found, tried);
    assert!(mended * 10 >= tried * 6, "{mended} of {tried}");
}

#[test]
fn after_a_repair_this_machine_and_others_take_what_was_damaged_for_whole_again() {
    let vault = protected("5%");
    let cache = tempfile::tempdir().unwrap();
    let context = || {
        let sealed = SealedRepository::open(Arc::new(vault.store.clone())).unwrap();
        let repository = sealed.unlock(&key(), vault.clock.clone()).unwrap();
        let monitor = Arc::new(keepstone::base::monitor::Silent);
        let stop = keepstone::base::Stop::new();
        Context::open(repository, Some(cache.path().to_owned()), monitor, stop).unwrap().0
    };
    for pack in packs(&vault.store) {
        damage(&vault.store, &pack, |bytes| bytes[100..4000].fill(7));
    }
    assert!(verify_all(&context()).unwrap().damage);
    assert!(!context().index.damaged_packs().unwrap().is_empty(), "the trap is set");
    vault.hours(1);
    // Nothing is read but what is known to be damaged.
    let applied = apply(&context(), &Options::default()).unwrap();
    assert!(!applied.is_damage() && applied.mended.len() >= 4, "{applied:?}");
    assert!(context().index.damaged_packs().unwrap().is_empty());
    vault.hours(1);
    let options = backup_of(vault.files.path());
    let again = ops::backup::backup(&context(), &options).unwrap();
    assert_eq!(again.totals.bytes_new, 0, "nothing is stored again");
    let plan = repair::plan(&context(), &Options::default(), &key()).unwrap();
    assert_eq!(plan.items, [], "the ledger says that they are whole");
    assert!(!verify_all(&vault.open()).unwrap().damage);
}

#[test]
fn a_damaged_sidecar_is_made_anew_from_its_pack_and_the_pack_of_a_damaged_one_is_not_touched() {
    let vault = protected("5%");
    let pack = packs(&vault.store).remove(0);
    let bytes = vault.store.get(&pack, u64::MAX).unwrap();
    let before = damage(&vault.store, &sidecar(&pack), |bytes| bytes[5000] ^= 1);
    let found = verify_all(&vault.open()).unwrap();
    assert!(found.damage && found.hurt.is_empty(), "{:?}", found.damages);
    assert!(found.damages[0].message.contains("repair apply --all"), "{:?}", found.damages);
    let applied = apply(&vault.open(), &all()).unwrap();
    assert_eq!((applied.mended.len(), &applied.mended[0].item.way), (1, &Way::FromPack));
    assert!(vault.store.get(&sidecar(&pack), u64::MAX).unwrap() == before);
    assert!(vault.store.get(&pack, u64::MAX).unwrap() == bytes);
    assert_eq!(count(&vault.store, Area::Quarantine), 1);
    // That of another pack in its place.
    let other = packs(&vault.store).remove(1);
    vault.store.replace(&sidecar(&pack), &vault.store.get(&sidecar(&other), u64::MAX).unwrap()).unwrap();
    let plan = repair::plan(&vault.open(), &all(), &key()).unwrap();
    assert!(plan.items[0].reason.contains("it is the sidecar of pack"), "{:?}", plan.items);
    apply(&vault.open(), &all()).unwrap();
    assert!(!verify_all(&vault.open()).unwrap().damage);
    assert_eq!(count(&vault.store, Area::Quarantine), 2);
}

#[test]
fn what_nothing_mends_is_left_as_it_is_named_and_the_rest_restored() {
    let vault = protected("5%");
    let folder = vault.files.path();
    // The largest pack holds the dump and the file of the first night.
    let pack = packs(&vault.store).remove(0);
    let half = vault.store.size(&pack).unwrap() as usize / 2;
    damage(&vault.store, &pack, |bytes| bytes[4096..half].fill(0));
    let damaged = vault.store.get(&pack, u64::MAX).unwrap();
    let context = vault.open();
    let applied = apply(&context, &all()).unwrap();
    assert!(applied.is_damage() && applied.mended.is_empty(), "{applied:?}");
    assert!(applied.left[0].reason.contains("more than its sidecar can make anew"), "{:?}", applied.left);
    assert!(!applied.hurt.is_empty());
    let hurt: BTreeSet<Vec<u8>> =
        applied.damages.iter().flat_map(|damage| &damage.files).map(|file| file.path.clone()).collect();
    assert!(hurt.iter().any(|path| path.ends_with(b"dump.sql")), "{hurt:?}");
    assert!(vault.store.get(&pack, u64::MAX).unwrap() == damaged, "nothing takes its place");
    assert_eq!(count(&vault.store, Area::Quarantine), 0);
    let id = applied.hurt.iter().map(|hurt| hurt.id).max().unwrap();
    let (outcome, files) = restore(&context, id, folder).unwrap();
    assert!(outcome.damage && outcome.problem_count > 0);
    assert!(outcome.problems.iter().any(|problem| problem.subject.ends_with("dump.sql")), "{:?}", outcome.problems);
    let there = files_below(folder);
    assert!(!files.is_empty() && files.iter().all(|(name, bytes)| there.get(name) == Some(bytes)), "the rest is right");
    // The next backup of the same files stores anew what is gone, and is whole.
    vault.hours(1);
    let healed = back_up(&context, folder).unwrap();
    let (outcome, files) =
        restore(&open(Arc::new(vault.store.clone()), &vault.clock).unwrap(), healed, folder).unwrap();
    assert!(outcome.problem_count == 0 && files == there, "{:?}", outcome.problems);
}

#[test]
fn a_mirror_gives_what_no_sidecar_can_and_another_repository_is_refused() {
    let vault = protected("5%");
    let (mirror, clock) = vault.copy();
    let packs = packs(&vault.store);
    vault.store.delete(&packs[0]).unwrap();
    damage(&vault.store, &packs[1], |bytes| bytes.fill(0));
    let mirrored = open(Arc::new(mirror.clone()), &clock).unwrap();
    let options = Options { from: Some(&mirrored), ..all() };
    let plan = repair::plan(&vault.open(), &options, &key()).unwrap();
    assert!(plan.mends_all() && plan.hurt.is_empty(), "{:?}", plan.items);
    // A mirror that lacks it too.
    mirror.delete(&packs[0]).unwrap();
    let plan = repair::plan(&vault.open(), &options, &key()).unwrap();
    let lost = plan.items.iter().find(|item| item.way == Way::Nothing).unwrap();
    assert!(lost.reason.contains("does not have it") && !plan.hurt.is_empty(), "{lost:?}");
    let applied = apply(&vault.open(), &options).unwrap();
    assert_eq!((applied.mended.len(), applied.left.len(), applied.is_damage()), (1, 1, true));
    let other = Vault::strange();
    let foreign = other.open();
    let refused = apply(&vault.open(), &Options { from: Some(&foreign), ..all() }).unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused);
    assert!(refused.to_string().contains("keys of its own"), "{refused}");
}

#[test]
fn a_full_disk_ends_a_repair_and_everything_is_as_it_was() {
    let vault = protected("5%");
    let pack = packs(&vault.store).remove(0);
    damage(&vault.store, &pack, |bytes| bytes[100] ^= 1);
    let before: Vec<_> = keys(&vault.store).iter().map(|key| vault.store.get(key, u64::MAX).unwrap()).collect();
    let fault = Fault::new(vault.store.clone());
    fault.full_after(300_000);
    let context = open(Arc::new(fault), &vault.clock).unwrap();
    let error = apply(&context, &all()).unwrap_err();
    assert_eq!(error.kind(), Kind::Full, "{error}");
    let stored: BTreeSet<Vec<u8>> =
        keys(&vault.store).iter().map(|key| vault.store.get(key, u64::MAX).unwrap()).collect();
    assert!(before.iter().all(|bytes| stored.contains(bytes)), "something is gone");
    assert!(!apply(&vault.open(), &all()).unwrap().is_damage());
}

#[test]
fn a_repair_that_is_killed_at_any_change_loses_nothing_and_the_next_one_mends_all() {
    let vault = protected("5%");
    let packs = packs(&vault.store);
    let whole: Vec<(Key, Vec<u8>)> = keys(&vault.store)
        .into_iter()
        .filter(|key| matches!(key.area(), Area::Packs | Area::Parity))
        .map(|key| (key.clone(), vault.store.get(&key, u64::MAX).unwrap()))
        .collect();
    let mut damaged = Vec::new();
    for pack in &packs[..2] {
        damage(&vault.store, pack, |bytes| bytes[5000..6000].fill(1));
        damaged.push((pack.clone(), vault.store.get(pack, u64::MAX).unwrap()));
    }
    damage(&vault.store, &sidecar(&packs[2]), |bytes| bytes[9000] ^= 1);
    let changes = crash_everywhere(
        &vault,
        &|store, clock| apply(&open(store, clock)?, &all()).map(drop),
        &|store, clock, what| {
            // Each damaged pack is where it was, or whole and kept in quarantine.
            for (pack, bytes) in &damaged {
                let now = store.get(pack, u64::MAX).unwrap();
                let kept = Key::new(Area::Quarantine, format!("packs.{}.1", pack.name()));
                assert!(now == *bytes || store.get(&kept, u64::MAX).is_ok_and(|kept| kept == *bytes), "{what}");
            }
            clock.advance(std::time::Duration::from_secs(60));
            let context = open(Arc::new(store.clone()), clock).unwrap();
            let applied = apply(&context, &all()).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(!applied.is_damage(), "{what}: {:?}", applied.left);
            assert!(whole.iter().all(|(key, bytes)| store.get(key, u64::MAX).unwrap() == *bytes), "{what}");
            assert!(read_everything(&context).unwrap() > 0);
        },
    );
    assert!(changes >= 8, "only {changes} changes were tried");
}

#[test]
fn a_backup_or_a_making_of_sidecars_that_is_killed_at_any_change_leaves_what_the_next_one_completes() {
    let vault = protected("5%");
    vault.write("more", &noise(50, 120_000));
    vault.hours(1);
    let folder = vault.files.path();
    let whole = |store: &Memory, clock: &Clock, what: &str| {
        let context = || open(Arc::new(store.clone()), clock).unwrap();
        let found = verify_all(&context()).unwrap();
        assert!(!found.damage, "{what}: {:?}", found.damages);
        let orphans = names(store, Area::Parity).difference(&names(store, Area::Packs)).count();
        assert_eq!(orphans, 0, "{what}: a sidecar before its pack");
        parity::build(&context(), Some(share("30%"))).unwrap();
        assert_eq!(names(store, Area::Packs), names(store, Area::Parity), "{what}");
        assert!(!verify_all(&context()).unwrap().damage, "{what}");
    };
    let changes = crash_everywhere(&vault, &|store, clock| back_up(&open(store, clock)?, folder).map(drop), &whole);
    assert!(changes >= 8, "only {changes} changes of the backup were tried");
    let changes = crash_everywhere(
        &vault,
        &|store, clock| parity::build(&open(store, clock)?, Some(share("30%"))).map(drop),
        &whole,
    );
    assert!(changes >= 5, "only {changes} changes of the making were tried");
}

#[test]
fn a_reading_of_packs_in_their_turn_reads_their_sidecars_too() {
    let vault = protected("5%");
    let part = verify::Part { share: Some((1, 2)), ..verify::Part::default() };
    let options = verify::Options { snapshots: Vec::new(), depth: verify::Depth::Part(part) };
    let mut read = 0;
    for _ in 0..2 {
        vault.hours(1);
        read += verify::verify(&vault.open(), &options).unwrap().sidecars.unwrap().read;
    }
    assert!(read >= packs(&vault.store).len() as u64, "{read}");
}

fn last(run: &crate::program::Run) -> Value {
    run.json().pop().unwrap()
}

#[test]
fn a_user_makes_damage_good_and_the_host_of_the_storage_sees_it_without_a_key() {
    let place = Place::new();
    place.make_tree();
    place.run(&[&["init", "--parity", "5%"], &CHEAP[..]].concat()).expect(0);
    place.run(&["backup", "source"]).expect(0);
    let files = files_below(&place.path("vault/packs"));
    let (name, bytes) = files.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let mut altered = bytes.clone();
    altered[20_000..24_000].fill(0);
    fs::write(place.path("vault/packs").join(name), &altered).unwrap();
    assert_eq!(last(&place.run(&["repair", "plan", "--json"]).expect(0))["damage"], false, "nobody has looked yet");
    place.run(&["verify", "--all"]).expect(4);
    let plan = last(&place.run(&["repair", "plan", "--json"]).expect(4));
    assert_eq!((&plan["mends_all"], &plan["items"][0]["way"]), (&true.into(), &"parity".into()));
    let said = place.run(&["repair", "plan", "--all", "--files"]).expect(4).text();
    assert!(said.contains(" repair apply --all --files"), "what is told to be next has the same sources: {said}");
    let applied = last(&place.run(&["repair", "apply", "--json"]).expect(0));
    assert!(applied["mended"][0]["quarantine"].as_str().unwrap().contains("quarantine/packs."), "{applied}");
    assert!(fs::read(place.path("vault/packs").join(name)).unwrap() == *bytes);
    place.run(&["verify", "--all"]).expect(0);
    let kept = files_below(&place.path("vault/quarantine"));
    assert!(kept.len() == 1 && kept.values().all(|kept| *kept == altered));
    let stats = last(&place.run(&["stats", "--json"]).expect(0));
    let areas: Vec<&str> = stats["areas"].as_array().unwrap().iter().filter_map(|area| area["name"].as_str()).collect();
    assert!(areas.contains(&"parity") && areas.contains(&"quarantine"), "{stats}");
    // Without a key.
    let host = |args: &[&str]| {
        place.run_with(
            args,
            |command| {
                command.env_remove("KEEPSTONE_PASSWORD");
            },
            b"",
        )
    };
    let found = last(&host(&["verify-packs", "vault", "--json"]).expect(0));
    assert_eq!((&found["sidecars"], &found["packs_without_sidecar"]), (&2.into(), &0.into()));
    let sidecar = place.path("vault/parity").join(name);
    let mut beside = fs::read(&sidecar).unwrap();
    beside[7000] ^= 1;
    fs::write(&sidecar, beside).unwrap();
    let found = last(&host(&["verify-packs", "vault", "--json"]).expect(4));
    assert!(found["damages"][0]["message"].as_str().unwrap().contains("1 of its"), "{found}");
    let text = place.run(&["repair", "apply", "--all"]).expect(0).text();
    assert!(text.contains("mended by its pack"), "{text}");
    fs::remove_file(&sidecar).unwrap();
    let text = host(&["verify-packs", "vault"]).expect(0).text();
    assert!(text.contains("1 pack without one"), "{text}");
    assert_eq!(last(&place.run(&["parity", "--json"]).expect(0))["made"], 1);
    assert_eq!(last(&place.run(&["parity", "off", "--json"]).expect(0))["removed"], 2);
    assert!(place.run(&["parity"]).expect(0).text().contains("off"));
    for (words, said) in
        [(["parity", "0.1%"], "no share"), (["parity", "90%"], "no share"), (["parity", "some"], "no share")]
    {
        assert!(place.run(&words).expect(2).err.contains(said));
    }
}

/// Damages so much of the largest pack that its sidecar is of no use; gives the pack.
fn ruin(vault: &Vault) -> Key {
    let pack = packs(&vault.store).remove(0);
    let half = vault.store.size(&pack).unwrap() as usize / 2;
    damage(&vault.store, &pack, |bytes| bytes[4096..half].fill(0));
    pack
}

/// A second machine: another context with a cache of its own.
fn machine(vault: &Vault, cache: &std::path::Path) -> Context {
    let sealed = SealedRepository::open(Arc::new(vault.store.clone())).unwrap();
    let repository = sealed.unlock(&key(), vault.clock.clone()).unwrap();
    let (monitor, stop) = (Arc::new(keepstone::base::monitor::Silent), keepstone::base::Stop::new());
    Context::open(repository, Some(cache.to_owned()), monitor, stop).unwrap().0
}

#[test]
fn what_is_recorded_as_damaged_another_machine_stores_anew_and_counts_on_again_once_it_is_mended() {
    let vault = protected("5%");
    let caches = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    // The other machine has seen it whole and would count on it.
    drop(machine(&vault, caches[1].path()));
    let (mirror, _) = vault.copy();
    let pack = ruin(&vault);
    vault.hours(1);
    let applied = apply(&machine(&vault, caches[0].path()), &all()).unwrap();
    assert!(applied.recorded == 1 && applied.blobs_lost > 0, "{applied:?}");
    assert_eq!(count(&vault.store, Area::Damage), 1);
    assert_eq!(apply(&machine(&vault, caches[0].path()), &all()).unwrap().recorded, 0, "once is enough");
    vault.hours(1);
    let other = machine(&vault, caches[1].path());
    assert!(!other.index.damaged_packs().unwrap().is_empty(), "the other machine knows");
    let made = ops::backup::backup(&other, &backup_of(vault.files.path())).unwrap();
    assert!(made.totals.bytes_read > 0 && made.totals.bytes_new > 0, "{:?}", made.totals);
    let (outcome, files) =
        restore(&machine(&vault, caches[0].path()), made.snapshot.unwrap().id, vault.files.path()).unwrap();
    assert!(outcome.problem_count == 0 && files == files_below(vault.files.path()), "{:?}", outcome.problems);
    // Mended from a mirror, it counts again for both.
    vault.hours(1);
    let mirrored = open(Arc::new(mirror), &vault.clock).unwrap();
    let options = Options { from: Some(&mirrored), ..all() };
    let applied = apply(&machine(&vault, caches[0].path()), &options).unwrap();
    assert!(!applied.is_damage() && applied.mended.iter().any(|mended| mended.item.key == pack), "{applied:?}");
    assert_eq!(count(&vault.store, Area::Damage), 0);
    assert!(machine(&vault, caches[1].path()).index.damaged_packs().unwrap().is_empty());
}

#[test]
fn a_record_of_damage_goes_with_its_pack_and_a_damaged_record_is_told() {
    let vault = protected("5%");
    ruin(&vault);
    vault.hours(1);
    apply(&vault.open(), &all()).unwrap();
    let record = keys(&vault.store).into_iter().find(|key| key.area() == Area::Damage).unwrap();
    let whole = damage(&vault.store, &record, |bytes| bytes[60] ^= 1);
    let found = verify_all(&vault.open()).unwrap();
    assert!(found.damages.iter().any(|damage| damage.object == record.to_string()), "{:?}", found.damages);
    vault.store.replace(&record, &whole).unwrap();
    // Stored anew; then the old snapshots go, and with them the damaged pack.
    vault.hours(1);
    let newest = vault.back_up();
    for id in keepstone::repo::snapshots::names(&vault.open().repository).unwrap() {
        if id != newest {
            forget::remove(&vault.open(), id).unwrap();
        }
    }
    vault.hours(30);
    prune_all(&vault.open()).unwrap();
    assert_eq!(count(&vault.store, Area::Damage), 0);
    assert!(!verify_all(&vault.open()).unwrap().damage);
}

#[test]
fn another_repository_that_names_content_alike_gives_lost_blobs_back() {
    let vault = protected("5%");
    let second = keepstone::store::Memory::with_clock(vault.clock.clone());
    let guard = keepstone::crypto::slots::GuardKind::KeyFile;
    let shared: Arc<dyn ObjectStore> = Arc::new(second.clone());
    let context = vault.open();
    keepstone::repo::Repository::create_like(
        shared.clone(),
        &context.repository,
        &key(),
        guard,
        "two",
        vault.clock.clone(),
    )
    .unwrap();
    let other = open(shared, &vault.clock).unwrap();
    let listing = ops::select::list(&context, &ops::select::Filter::default()).unwrap();
    let level = keepstone::compress::Level::Default;
    ops::copy::copy(&context, &other, &ops::copy::Options { listing, level, verify: false, dry_run: false }).unwrap();
    ruin(&vault);
    // Whole files and directories are gone too, and no sidecar helps.
    let mut metadata = vault.open().index.packs().unwrap().into_iter();
    let metadata = metadata.rfind(|pack| pack.role == keepstone::format::pack::Role::Metadata).unwrap();
    vault.store.delete(&Key::new(Area::Packs, metadata.id)).unwrap();
    vault.hours(1);
    let options = Options { from: Some(&other), ..all() };
    let plan = repair::plan(&vault.open(), &options, &key()).unwrap();
    assert!(plan.blobs_lost > 0 && plan.healed.from_repository == plan.blobs_lost, "{plan:?}");
    assert!(plan.hurt.is_empty() && plan.saves_all() && !plan.mends_all(), "{:?}", plan.hurt);
    let applied = apply(&vault.open(), &options).unwrap();
    assert_eq!(applied.healed.from_repository, applied.blobs_lost);
    assert!(applied.hurt.is_empty() && applied.saves_all(), "{applied:?}");
    let context = vault.open();
    read_everything(&context).unwrap();
    for id in keepstone::repo::snapshots::names(&context.repository).unwrap() {
        assert_eq!(restore(&context, id, vault.files.path()).unwrap().0.problem_count, 0);
    }
    // Some of it only: the other one lacks what was backed up since.
    vault.write("since", &noise(90, 300_000));
    vault.back_up();
    ruin_all(&vault);
    let plan = repair::plan(&vault.open(), &options, &key()).unwrap();
    assert!(plan.healed.from_repository > 0 && plan.healed.from_repository < plan.blobs_lost, "{plan:?}");
    assert!(!plan.saves_all());
}

fn ruin_all(vault: &Vault) {
    for pack in packs(&vault.store) {
        damage(&vault.store, &pack, |bytes| bytes.fill(0));
    }
}

#[test]
fn the_original_files_give_back_what_they_still_hold() {
    let vault = protected("5%");
    let repository_host = vault.open().repository.machine().host.clone();
    // On this machine, that is: the vault's own snapshots are of another host.
    vault.hours(1);
    let options = ops::backup::Options { host: Some(repository_host), ..backup_of(vault.files.path()) };
    let own = ops::backup::backup(&vault.open(), &options).unwrap().snapshot.unwrap().id;
    ruin(&vault);
    // One of the files has gone meanwhile.
    std::fs::remove_file(vault.files.path().join("of/0")).unwrap();
    vault.hours(1);
    let options = Options { files: true, ..all() };
    let plan = repair::plan(&vault.open(), &options, &key()).unwrap();
    assert!(plan.healed.from_files > 0 && plan.healed.from_repository == 0, "{plan:?}");
    let applied = apply(&vault.open(), &options).unwrap();
    assert_eq!(applied.healed, plan.healed);
    let (outcome, files) = restore(&vault.open(), own, vault.files.path()).unwrap();
    assert!(files.get("dump.sql") == Some(&std::fs::read(vault.files.path().join("dump.sql")).unwrap()));
    assert!(outcome.problems.iter().all(|problem| problem.subject.contains("of/0")), "{:?}", outcome.problems);
    assert!(applied.hurt.iter().any(|hurt| hurt.id == own) == (outcome.problem_count > 0));
}

#[test]
fn a_pack_that_goes_after_its_first_block_was_found_damaged_is_unknown_as_a_whole() {
    let vault = Vault::new();
    vault.write("one", &noise(1, 3_000_000));
    vault.back_up();
    let pack = packs(&vault.store).remove(0);
    let context = vault.open();
    let mut blobs = Vec::new();
    let of_pack = |one: &keepstone::repo::index::PackSummary| one.id.to_string() == pack.name();
    context
        .index
        .each_by_pack(&of_pack, &mut |_, located| {
            blobs.push((located.id, located.place.block_offset));
            Ok(())
        })
        .unwrap();
    let blocks: BTreeSet<u64> = blobs.iter().map(|(_, block)| *block).collect();
    assert!(blocks.len() > 1, "{blocks:?}");
    context.index.mark_damaged(&pack.name().parse().unwrap(), *blocks.first().unwrap()).unwrap();
    vault.store.delete(&pack).unwrap();
    context.index.check_packs(&vault.store, true).unwrap();
    assert!(blobs.iter().all(|(id, _)| !context.index.contains(id).unwrap()), "what is gone counts as known");
}

#[test]
fn a_damaged_run_record_is_set_aside_and_verify_is_content() {
    let vault = protected("5%");
    let record = keys(&vault.store).into_iter().find(|key| key.area() == Area::Runs).unwrap();
    let before = damage(&vault.store, &record, |bytes| bytes.truncate(20));
    let found = verify_all(&vault.open()).unwrap();
    assert!(found.damages[0].message.contains("repair apply"), "{found:?}");
    let plan = repair::plan(&vault.open(), &Options::default(), &key()).unwrap();
    assert_eq!((plan.items.len(), &plan.items[0].way, &plan.items[0].key), (1, &Way::Aside, &record));
    let applied = apply(&vault.open(), &Options::default()).unwrap();
    assert!(!applied.is_damage() && applied.saves_all(), "{applied:?}");
    let kept = applied.mended[0].quarantine.clone().unwrap();
    assert_eq!(vault.store.get(&kept, u64::MAX).unwrap(), before[..20]);
    assert!(!verify_all(&vault.open()).unwrap().damage);
}
