//! Clients that lie: each story is what somebody can try who has a write-only key, knows this program and writes objects of
//! his own. Where it says so, the same lie is told where it would be believed, so that the story proves something.

use super::*;
use keepstone::base::{BlobId, PackId, RunId, SegmentId};
use keepstone::crypto::keys::{Class, ClassKey};
use keepstone::crypto::names::PackHasher;
use keepstone::format::cbor::{Bytes, Cbor, Unknown};
use keepstone::format::envelope::ObjectKind;
use keepstone::format::ledger::{Finding, Ledger, SnapshotsFound};
use keepstone::format::pack::{BlobKind, Encoding, Role};
use keepstone::format::segment::{Entry, FrameRow, PackRow};
use keepstone::format::session::Condemned;
use keepstone::format::vouch::{self, Vouched as _, Voucher};
use keepstone::ops::forget::Filter;
use keepstone::ops::retention::{GroupBy, Policy};
use keepstone::repo::index::{Located, Origin, SegmentContents, condemned_key, save};
use keepstone::repo::ledger::{self, State};
use keepstone::repo::pack_writer::{PackWriter, PlacedBlob, PlacedFrame, seal_block};
use keepstone::store::Key;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

const SESSION: keepstone::base::SessionId = keepstone::base::SessionId([9; 16]);

fn origin(condemned_seen: u64) -> Origin {
    Origin { session: SESSION, level: 0, supersedes: Vec::new(), previous: Vec::new(), condemned_seen, written_ns: 1 }
}

fn save_segment(liar: &Context, condemned_seen: u64, contents: &mut SegmentContents) -> SegmentId {
    let (store, keyring) = (&**liar.repository.store(), liar.repository.keyring());
    save(store, keyring, origin(condemned_seen), contents).unwrap()
}

/// Stores `bytes` under the name of another blob, in a pack and a segment as this program writes them.
fn store_under(liar: &Context, id: BlobId, bytes: &[u8]) -> PackId {
    let keyring = liar.repository.keyring();
    let length = bytes.len() as u32;
    let blob = PlacedBlob { id, kind: BlobKind::Data, offset: 0, length, start: None, end: None };
    let frame =
        PlacedFrame { offset: 0, length, raw_length: length, encoding: Encoding::Raw, chain: None, blobs: vec![blob] };
    let block = seal_block(keyring, Role::Data, bytes, vec![frame]).unwrap();
    let mut pack = PackWriter::begin(&liar.repository, Role::Data, SESSION, 1 << 20).unwrap();
    pack.add(block).unwrap();
    let (row, directory) = pack.fill(keyring).unwrap().store().unwrap();
    let mut contents = SegmentContents::default();
    contents.add_pack(row.id, row.size_bytes, &directory).unwrap();
    save_segment(liar, 0, &mut contents);
    row.id
}

/// A file of one chunk, and what that chunk will be called.
fn coming_file(vault: &Vault) -> (Vec<u8>, BlobId) {
    let content = noise(77, 3_000);
    let id = vault.open().repository.keyring().naming().blob_id(&content);
    (content, id)
}

#[test]
fn content_under_the_name_of_other_content_is_stored_again_and_never_restored() {
    let vault = with_client();
    let (content, id) = coming_file(&vault);
    store_under(&as_client(&vault, "host7"), id, &noise(78, 3_000));
    vault.write("coming", &content);

    // Who trusts such clients is deceived, which shows.
    let (store, clock) = vault.copy();
    let trusting = open(Arc::new(store.clone()), &clock).unwrap();
    trusting.index.trust_writers();
    crate::vault::back_up(&trusting, vault.files.path()).unwrap();
    assert!(
        verify_all(&open(Arc::new(store), &clock).unwrap()).unwrap().damage,
        "the lie is one that would be believed"
    );

    // Nobody else is: neither a full client nor another one.
    add_client(&vault, "host8");
    let full = back_up_as(&vault, &vault.open(), "alpha");
    assert_eq!(full.totals.bytes_new, 3_000);
    assert_eq!(restored(&vault, id_of(&full)), files_below(vault.files.path()));
    // The lie is newer than the truth in the index of a prune; the truth stays.
    store_under(&as_client(&vault, "host7"), id, &noise(79, 3_000));
    let pruned = prune_all(&vault.open()).unwrap();
    assert_eq!(pruned.blobs_doubtful, 0, "what has a place that is proven need not be read: {pruned:?}");
    assert_eq!(restored(&vault, id_of(&full)), files_below(vault.files.path()));
    whole(&vault);
}

#[test]
fn another_client_does_not_believe_it_and_a_prune_finds_it_out() {
    let vault = with_client();
    add_client(&vault, "host8");
    let (content, id) = coming_file(&vault);
    let lie = store_under(&as_client(&vault, "host7"), id, &noise(78, 3_000));
    let pruned = prune::prune(&vault.open(), &prune::Options::default()).unwrap();
    assert_eq!((pruned.blobs_doubtful, pruned.packs_vouched), (1, 0), "{pruned:?}");
    assert!(vault.open().index.packs().unwrap().iter().all(|pack| pack.id != lie || !pack.proven));
    vault.write("coming", &content);
    let outcome = back_up_as(&vault, &as_client(&vault, "host8"), "host8");
    assert_eq!(outcome.totals.bytes_new, 3_000);
    assert_eq!(restored(&vault, id_of(&outcome)), files_below(vault.files.path()));
    whole(&vault);
}

/// Some chunk that the full client stored.
fn good_chunk(context: &Context) -> Located {
    let mut found = None;
    let take = &mut |located: &Located| {
        if located.place.kind == BlobKind::Data && located.place.length >= 3_000 {
            found = Some(located.clone());
        }
        Ok(())
    };
    context.index.each_entry(take).unwrap();
    found.unwrap()
}

#[test]
fn a_segment_that_maps_a_good_name_to_a_wrong_place_in_a_good_pack_is_not_believed() {
    let vault = with_client();
    let (content, id) = coming_file(&vault);
    let liar = as_client(&vault, "host7");
    let place = good_chunk(&liar).place;
    let size_bytes = liar.index.pack_bytes(&place.pack).unwrap().unwrap();
    let frame = FrameRow {
        pack: 0,
        block_offset: place.block_offset,
        block_length: place.block_length,
        key: 0,
        offset: place.frame_offset,
        length: place.frame_length,
        raw_length: place.raw_length,
        encoding: place.encoding,
        chain: None,
    };
    let entry = |id| Entry { id, frame: 0, offset: 0, length: 3_000, kind: BlobKind::Data, start: None, end: None };
    let pack = PackRow { id: place.pack, size_bytes: size_bytes + 1, role: Role::Data, written_ns: i64::MAX };
    let mut contents =
        SegmentContents { packs: vec![pack], keys: vec![place.key], frames: vec![frame], entries: vec![entry(id)] };
    save_segment(&liar, 9_999, &mut contents);

    // Whether it comes before or after what the full client says of that pack.
    for context in [vault.open(), as_client(&vault, "host7")] {
        assert_eq!(context.index.pack_bytes(&place.pack).unwrap(), Some(size_bytes));
        assert!(!context.index.contains(&id).unwrap());
    }
    vault.write("coming", &content);
    let outcome = back_up_as(&vault, &vault.open(), "alpha");
    assert_eq!(outcome.totals.bytes_new, 3_000);
    assert!(outcome.damages.is_empty(), "{:?}", outcome.damages);
    prune_all(&vault.open()).unwrap();
    assert_eq!(restored(&vault, id_of(&outcome)), files_below(vault.files.path()));
    whole(&vault);
}

#[test]
fn a_snapshot_that_says_that_a_file_is_as_it_was_is_no_parent_for_others() {
    let vault = with_client();
    let path = vault.files.path().join("ledger");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    let put = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    };
    let back_up = |context: &Context| {
        vault.hours(1);
        // What nobody can set is the time of change of the inode.
        let options = backup::Options { ignore_ctime: true, ..backup_of(vault.files.path()) };
        backup::backup(context, &options).unwrap()
    };
    put(&noise(1, 3_000));
    let inode = path.metadata().unwrap().ino();
    back_up(&as_client(&vault, "host7"));
    put(&noise(2, 3_000));
    assert_eq!(path.metadata().unwrap().ino(), inode);
    let (store, clock) = vault.copy();
    let outcome = back_up(&vault.open());
    assert_eq!(restored(&vault, id_of(&outcome))["ledger"], noise(2, 3_000));

    // A full client that lied so would be believed: the lie is a good one.
    put(&noise(1, 3_000));
    let options = || backup::Options { ignore_ctime: true, ..backup_of(vault.files.path()) };
    let again = || open(Arc::new(store.clone()), &clock).unwrap();
    backup::backup(&again(), &options()).unwrap();
    put(&noise(2, 3_000));
    clock.advance(Duration::from_secs(3600));
    let deceived = id_of(&backup::backup(&again(), &options()).unwrap());
    assert_eq!(restore(&again(), deceived, vault.files.path()).unwrap().1["ledger"], noise(1, 3_000));
}

#[test]
fn a_snapshot_of_a_client_that_says_it_is_none_is_refused() {
    let vault = with_client();
    let liar = as_client(&vault, "host7");
    let Found::Snapshot(snapshot) =
        snapshots::load(&vault.open().repository, id_of(&back_up_as(&vault, &liar, "host7"))).unwrap()
    else {
        panic!("it is there");
    };
    let forged = keepstone::format::snapshot::Snapshot { id: SESSION, unverified: false, ..*snapshot };
    let sealed = liar.repository.keyring().seal(ObjectKind::Snapshot, &forged.to_cbor()).unwrap();
    vault.store.put(&Key::new(Area::Snapshots, SESSION), &sealed).unwrap();
    let refused = snapshots::load(&vault.open().repository, SESSION).map(drop).unwrap_err();
    assert_eq!(refused.kind(), Kind::Damaged);
    let (readable, damaged) = snapshots::list(&vault.open().repository).unwrap();
    assert_eq!((readable.len(), damaged.len()), (2, 1));
}

#[test]
fn a_snapshot_with_another_time_takes_no_place_of_one_that_came_when_it_says() {
    let vault = with_client();
    let good: Vec<SnapshotId> = (0..3).map(|_| id_of(&back_up_as(&vault, &vault.open(), "alpha"))).collect();
    let liar = as_client(&vault, "host7");
    for time in ["2001-01-01T00:00:00Z", "2099-01-01T00:00:00Z"] {
        let options = backup::Options { time: Some(time.parse().unwrap()), ..backup_of(vault.files.path()) };
        backup::backup(&liar, &options).unwrap();
    }
    let policy = Box::new(Policy { keep_last: 3, ..Policy::default() });
    let selection = forget::Selection::Policy { policy, filter: Filter::default(), group_by: GroupBy::default() };
    let options = forget::Options { selection, zone: keepstone::base::TimeZone::UTC, dry_run: false, fresh: None };
    forget::forget(&vault.open(), &options).unwrap();
    let left = snapshots::names(&vault.open().repository).unwrap();
    assert!(good.iter().all(|id| left.contains(id)), "{good:?} of {left:?}");
}

/// A record that condemns every pack and says that it has seen every snapshot.
fn condemn_all(vault: &Vault) -> Condemned {
    let context = vault.open();
    let packs = context.index.packs().unwrap().into_iter().map(|pack| pack.id).collect();
    Condemned {
        number: 1,
        session: SESSION,
        at_ns: 0,
        packs,
        segments: Vec::new(),
        snapshots: snapshots::names(&context.repository).unwrap(),
        kept_segments: Vec::new(),
        voucher: None,
        unknown: Unknown::none(),
    }
}

fn put_record(vault: &Vault, record: &Condemned) {
    let liar = as_client(vault, "host7");
    let sealed = liar.repository.keyring().seal(ObjectKind::Condemned, &record.to_cbor()).unwrap();
    vault.store.put(&condemned_key(1), &sealed).unwrap();
}

#[test]
fn a_record_that_condemns_everything_deletes_nothing_and_can_be_taken_back() {
    let vault = with_client();
    put_record(&vault, &condemn_all(&vault));
    let packs = count(&vault.store, Area::Packs);
    let refused = prune_all(&vault.open()).unwrap_err();
    assert_eq!(refused.kind(), Kind::Damaged);
    assert!(refused.to_string().contains("rebuild-index"), "{refused}");
    assert_eq!(count(&vault.store, Area::Packs), packs);
    rebuild::rebuild_index(&vault.open()).unwrap();
    prune_all(&vault.open()).unwrap();
    assert_eq!(count(&vault.store, Area::Packs), packs);
    whole(&vault);
}

#[test]
fn a_signature_counts_for_what_was_signed_and_by_a_key_of_the_repository_only() {
    let vault = with_client();
    let full = vault.open();
    // One that a full client made for another record.
    let mut signed = Condemned { packs: Vec::new(), ..condemn_all(&vault) };
    full.repository.keyring().vouch(&vouch::nothing_before(), &mut signed).unwrap();
    let altered = Condemned { packs: condemn_all(&vault).packs, ..signed.clone() };
    // One under a key that he made himself, which a full client has taken in with what he stored.
    back_up_as(&vault, &as_client(&vault, "host7"), "host7");
    let own = ClassKey::generate(Class::Metadata);
    let record = condemn_all(&vault);
    let message =
        vouch::message(ObjectKind::Condemned, full.repository.id(), &vouch::nothing_before(), &record.content_hash());
    let signature = Bytes(own.vouch(&message).to_vec());
    let voucher = Some(Voucher { key: own.id(), signature, unknown: Unknown::none() });
    let foreign = Condemned { voucher, ..record };
    for (lie, what) in [(&altered, "altered"), (&foreign, "by his own key")] {
        put_record(&vault, lie);
        assert_eq!(prune_all(&vault.open()).unwrap_err().kind(), Kind::Damaged, "{what}");
        vault.store.delete(&condemned_key(1)).unwrap();
    }
    put_record(&vault, &signed);
    prune_all(&vault.open()).unwrap();
    whole(&vault);
}

#[test]
fn a_directory_that_was_signed_for_another_pack_vouches_for_nothing() {
    let vault = with_client();
    let good = good_chunk(&vault.open()).place.pack;
    let key = |pack: PackId| Key::new(Area::Packs, pack);
    let mut object = vault.store.get(&key(good), u64::MAX).unwrap();
    // The blocks could be any; here it is the random beginning that differs.
    object[0] ^= 1;
    let mut hasher = PackHasher::new();
    hasher.update(&object);
    let moved = PackId(hasher.finish());
    vault.store.put(&key(moved), &object).unwrap();
    rebuild::rebuild_index(&vault.open()).unwrap();
    let proven = |pack: PackId| vault.open().index.packs().unwrap().iter().find(|one| one.id == pack).unwrap().proven;
    assert!(proven(good) && !proven(moved));
}

#[test]
fn a_ledger_of_a_client_proves_nothing() {
    let vault = with_client();
    let liar = as_client(&vault, "host7");
    let snapshots = snapshots::names(&vault.open().repository).unwrap();
    let run = RunId([8; 16]);
    let at_ns = vault.clock.now().as_nanosecond() as i64;
    let found =
        SnapshotsFound { at_ns, finding: Finding::Whole, snapshots: snapshots.clone(), unknown: Unknown::none() };
    let lie =
        Ledger { run, at_ns, covers: Vec::new(), packs: Vec::new(), snapshots: vec![found], unknown: Unknown::none() };
    let sealed = liar.repository.keyring().seal(ObjectKind::Ledger, &lie.to_cbor()).unwrap();
    vault.store.put(&ledger::ledger_key(run), &sealed).unwrap();
    let known = ledger::load(&vault.open().repository).unwrap();
    assert_eq!(known.state(&snapshots[0]), State::Unverified);
}

#[test]
fn a_client_cannot_make_another_seal_to_it() {
    let vault = with_client();
    add_client(&vault, "host8");
    // He puts the slot of the other in again, with a credential of his own making: he knows its public half, and not the
    // grant key.
    let slots = keepstone::repo::slots::list(&vault.store).unwrap();
    let theirs = slots.iter().find(|stored| stored.slot.label == "host8").unwrap();
    let own = slots.iter().find(|stored| stored.slot.label == "host7").unwrap();
    let forged = keepstone::format::keys::Slot { grant: own.slot.grant.clone(), ..theirs.slot.clone() };
    for key in crate::vault::keys(&vault.store) {
        if key.area() == Area::Keys && key.name().starts_with(&theirs.slot.id.to_string()) {
            vault.store.replace(&key, &forged.encode(theirs.root)).unwrap();
        }
    }
    let refused = open_in(Arc::new(vault.store.clone()), &vault.clock, &client_key("host8"), None).err().unwrap();
    assert_eq!(refused.kind(), Kind::Damaged, "{refused}");
}
