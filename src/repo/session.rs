//! Sessions: the mark that whoever works on a repository leaves in it. Nobody waits for a lock.
//!
//! # The objects
//!
//! | object | put by | says |
//! | --- | --- | --- |
//! | `sessions/S` | whoever begins | S is at work |
//! | `sessions/S.seen` | the same, after listing the records | what these records name S does not rely on |
//! | `sessions/S.end` | whoever ends without a snapshot | S is over |
//! | `snapshots/S` | S, or who fences S with a tombstone: put-if-absent, one of them wins | S has committed, or never will |
//! | `condemned/N` | a prune | these packs and segments are to go; it saw these snapshots and segments, and all records below |
//! | `condemned/N.spared` | who sweeps N first | these packs stay after all; it saw these snapshots and segments besides |
//! | `condemned/N.done` | who closes N | the roster: segments that there should be, tombstones of what was swept |
//!
//! All are put-if-absent and never change. **One record is open at a time**: a prune plans only when all records are
//! closed, and puts the number after the last; if it is taken it plans again. Records are closed in the order of their
//! numbers, so whatever lies at or below the last `.done` counts as closed. A decision and a record are looked at once
//! more after they are put: who slept meanwhile withdraws what comes too late ([`put_condemned`], [`put_spared`]).
//!
//! # The rules
//!
//! 1. *Mark, then look.* A session is marked before it lists the records. So whoever puts a record and then lists the
//!    sessions sees the mark, or the session sees the record, in whatever second that is. What an open record names is
//!    void in the index (`repo/index/load.rs`); snapshots that its plan did not see are looked through before a parent's
//!    word counts (`ops/backup/trust.rs`); a tag, which copies a snapshot as it is, says that it has seen nothing.
//! 2. *Nothing is deleted but by a record.* The plan lists snapshots, then segments: a snapshot's segments are stored
//!    before it. What open sessions have segments for is left alone. Copies and merged segments come before the record.
//! 3. *Fencing costs no data.* A fenced writer looks at all that its snapshot needs under a new session, commits under
//!    that, or backs up again (`ops/backup/mod.rs`). Segments of a session that was fenced and that nobody saw when its
//!    time was over are late: void (`repo/index/late.rs`).
//! 4. *Sweeping.* Sessions are listed; the dead are fenced; if one is open that does not know of the record, it stays for
//!    a later prune. Else nobody can come any more who relies on what it names, and all who did are to be seen: snapshots
//!    and segments are listed, what the new ones need is spared, once and for all. Segments bring that back, all is
//!    proven, then segments go, then packs. Tombstones hide what was swept from who had listed such a segment just before.
//!    What the plan needs and cannot read stays, with all that it hangs on and all that hangs on it, and the rest goes
//!    (`ops/prune/plan.rs`): it may be mended.
//! 5. *Caches compare.* The index is brought up to date after the mark and before the first claim.
//! 6. *Readers are marked too*, and read what is condemned for as long as it is there.
//!
//! # Every pair
//!
//! A writer is a backup, a tag or a copy; a reader a restore, a verify or a drill.
//!
//! | two at once | what could go wrong | what protects it |
//! | --- | --- | --- |
//! | writer, writer | both store the same blob | names are content; the index allows several places, prune keeps one |
//! | writer, writer | one relies on what the other stores | known is only what a stored segment names; its packs are held (2), and spared if not (4) |
//! | writer, reader | half a snapshot is read | a snapshot is put last, whole |
//! | writer, forget | the parent goes | its blobs go only by a record, which the writer has not seen, so it waits (4); or has, then rule 1 |
//! | writer, prune | what the writer found known is condemned | the record waits for the writer, then spares what the snapshot needs (4) |
//! | writer, prune | a condemned blob is found known | it is void (1) and stored again, in a pack of another name: packs hold random bytes |
//! | writer, prune | a pack without segment is taken for an orphan | times are only a guess to save work: the record waits, the snapshot's needs are spared (4) |
//! | writer, prune | a blob is stored again as a difference on what hangs on it, and only that copy is kept | of each blob the shallowest place stays (`ops/prune/plan.rs`) |
//! | writer, prune | the base of a difference goes | bases of all that new segments hold are spared, needed or not (4) |
//! | sleeping writer, prune | it commits what is gone | its name is taken by a tombstone (3) |
//! | sleeping writer, writer | late segments are believed | they are void (3); packs are compared with the store before each backup |
//! | reader, prune | what is read is swept | the record waits for who has not seen it; who has reads copies, or what is still there |
//! | reader, forget | its snapshot goes | nothing of it goes before a record that the reader has not seen is swept |
//! | forget, prune | a snapshot is needed that has gone | it needs too much, no harm; deletions are flushed before the record |
//! | forget, forget | both remove the same | deleting what is absent succeeds |
//! | prune, prune | each keeps the other's copy | records are numbered: who comes second plans again, with what the first condemned void |
//! | prune, prune | both sweep one record | what is spared is decided once; deleting twice is deleting once |
//! | prune, prune | a merge brings back dead entries | they are named by a record or tombstone that the merge had not seen: void |
//! | sleeping prune, anybody | it goes on deleting | only what a decided record names, which nobody can use again: ids never come twice |
//! | sleeping prune, anybody | its record or decision comes late | it lies at or below the last `.done`, counts as closed, and is withdrawn |
//! | rebuild, writer | old segments go under a writer | they go by a record of their own, which waits for who has not seen it |
//! | rebuild, prune | what is being swept is found in packs again | an open record is decided first: all is spared, or what is not is left out |
//! | rebuild, rebuild | both replace the segments | each refuses while somebody else is at work, and numbers decide |
//!
//! # Each rule broken
//!
//! Each is a test in `tests/simulation/mutations.rs`: a store lies to one client in such a way that it breaks just this
//! rule, in a plan of a few clients that is tried with one change of turn at every step; then a snapshot cannot be read,
//! garbage stays, or somebody fails whom nothing happened to. With the rule kept the same plan goes well. What is killed
//! at any step beside others is in `killed.rs`, and whole crowds, by seeds, in `crowd.rs`.
//!
//! | rule | what is broken | test |
//! | --- | --- | --- |
//! | 1 | the mark comes after the look | `a_writer_that_looks_before_it_leaves_its_mark_is_found_out` |
//! | 1 | what the record names is not void | `a_writer_that_relies_on_what_it_says_it_has_seen_condemned_is_found_out` |
//! | 1 | a parent that the record did not see is not looked through | `a_parent_that_is_taken_at_its_word_beside_a_record_that_did_not_see_it_is_found_out` |
//! | 1 | a tag says what it has seen | `a_tag_that_says_what_it_has_seen_is_found_out` |
//! | 2 | the plan lists segments before snapshots | `a_plan_that_lists_segments_before_snapshots_is_found_out` |
//! | 2 | a snapshot is stored before its segments | `a_snapshot_before_its_segments_is_found_out` |
//! | 2 | a segment is stored before its packs | `a_segment_before_its_packs_is_found_out` |
//! | 2 | the record is stored before the copies | `a_record_before_the_copies_is_found_out` |
//! | 2 | what open sessions hold is condemned: no harm | `what_is_held_and_how_old_a_pack_is_only_saves_work` |
//! | 3 | who was fenced commits | `a_fenced_writer_that_commits_all_the_same_is_found_out` |
//! | 3 | who was fenced commits anew without a look | `a_fenced_writer_that_does_not_look_what_is_left_is_found_out` |
//! | 3 | tombstones of who may wake up are taken away | `a_prune_that_clears_the_tombstones_of_those_who_may_wake_up_is_found_out` |
//! | 3 | late segments count, the record being closed | `a_late_segment_that_is_believed_after_the_record_was_closed_is_found_out` |
//! | 3 | late segments count, the record being open | `a_late_segment_that_is_believed_while_the_record_is_open_is_found_out` |
//! | 3 | the living are fenced | `a_prune_that_fences_the_living_is_found_out`; data it costs nobody: `fencing_the_living_costs_nobody_his_data` |
//! | 3 | clocks that differ are trusted | `a_prune_that_does_not_compare_the_clocks_is_found_out` |
//! | 3 | nobody is ever fenced | `a_prune_for_which_nobody_grows_old_is_found_out` |
//! | 4 | sessions are not listed | `a_prune_that_does_not_look_for_sessions_is_found_out` |
//! | 4 | snapshots are listed before sessions | `a_sweep_that_lists_snapshots_before_sessions_is_found_out` |
//! | 4 | new snapshots are not looked at | `a_sweep_that_does_not_look_at_new_snapshots_is_found_out` |
//! | 4 | new segments are not looked at | `a_sweep_that_does_not_look_at_new_segments_is_found_out` |
//! | 4 | their bases are not spared | `a_sweep_that_does_not_spare_what_new_segments_hang_on_is_found_out` |
//! | 4 | it is decided twice what is spared | `a_decision_in_the_place_of_an_earlier_one_is_found_out` |
//! | 4 | what is spared is brought back too late | `a_sweep_that_brings_back_what_is_spared_after_segments_have_gone_is_found_out` |
//! | 4 | packs go before segments: the record stands behind it | `segments_go_before_packs_for_those_who_do_not_heed_the_record` |
//! | 4 | tombstones of packs are not heeded | `a_writer_that_takes_no_notice_of_what_was_swept_is_found_out` |
//! | 4 | what cannot be read is condemned, or what it hangs on, or what hangs on it | `a_prune_that_lets_go_of_what_it_cannot_read_or_of_what_hangs_together_with_it_is_found_out` |
//! | one record | two records have one number | `two_records_of_one_number_are_found_out` |
//! | one record | a late record stays: its decision comes late too | `a_record_that_comes_too_late_is_withdrawn_and_if_it_is_not_its_decision_is` |
//! | one record | a late decision stays | `a_decision_that_comes_too_late_and_is_not_withdrawn_is_found_out` |
//! | 5 | the index is not compared | `a_writer_that_does_not_compare_its_index_with_the_store_is_found_out` |
//! | 6 | a reader leaves no mark | `a_reader_that_leaves_no_mark_is_found_out` |
//!
//! The proofs before a record is put and before the first deletion are no rules but checks of this program's own sums: with
//! all rules kept they never fail.
//!
//! # The known killers
//!
//! Each is a test in `tests/simulation/pairs.rs`.
//!
//! | what | test |
//! | --- | --- |
//! | a pack rebuilt with equal content while condemned | `a_pack_rebuilt_with_equal_content_while_condemned_stays` |
//! | a session and a record put in the same second | `a_session_and_a_record_put_in_the_same_second_see_each_other_whichever_came_first` |
//! | a writer asleep between check and commit | `a_writer_asleep_between_check_and_commit_commits_anew` |
//! | two prunes each keeping the other's copy | `two_prunes_at_any_moment_of_each_other_never_take_each_others_copies` |
//! | an orphan delta whose base is swept | `an_orphan_delta_whose_base_would_be_swept_keeps_it_or_is_not_counted_on` |
//! | a merge that brings dead entries back | `a_merge_that_brings_dead_entries_back_is_not_believed` |
//! | a blob that comes to hang on itself | `a_blob_that_is_stored_again_on_what_hangs_on_it_keeps_its_whole_copy` |
//!
//! All this needs a store that puts only what is absent and lists what was just put. In another, prune refuses while
//! anybody is at work. A writer needs no right to delete.

use super::ahead::{Ahead, Answers, each_ahead};
use super::error::{Error, Result};
use super::{Repository, twice};
use crate::base::{Kind, PackId, SegmentId, SessionId, SortedSet, random};
use crate::format::cbor::{Cbor, Unknown};
use crate::format::envelope::{self, ObjectKind};
use crate::format::session::{Condemned, End, Seen, Session as Stored, SessionKind};
use crate::format::snapshot::Snapshot;
use crate::format::vouch;
use crate::store::{self, Area, Key, ObjectStore, Put};
use std::collections::{BTreeMap, BTreeSet};

const SEEN: &str = ".seen";
const END: &str = ".end";
/// In this order the marks of a session go: that it has ended last, for while one of the others is there it still says that
/// the session is closed.
const ENDINGS: [&str; 3] = [SEEN, "", END];
/// Open sessions whose marks are read at once.
const MOST_ASKED: usize = 64;

/// A session in your hand: the repository knows that you are at work.
pub struct Session<'r> {
    repository: &'r Repository,
    id: SessionId,
    condemned: BTreeSet<u64>,
    highest: u64,
    ended: bool,
    /// What it listed together with the condemned records.
    looked: Answers,
}

impl<'r> Session<'r> {
    /// Leaves a mark, then looks at the condemned records and says which it has seen, in this order.
    pub fn begin(repository: &'r Repository, kind: SessionKind, operation: &str) -> Result<Session<'r>> {
        let mut session = Session::begin_holding(repository, kind, operation)?;
        let store = Ahead::new(&**repository.store());
        if kind == SessionKind::Reader {
            // It brings its index up to date next. Who writes looks at snapshots before.
            store.list_now(&LOOKED_AT);
            session.looked = store.listings_again();
        }
        let records = list_condemned(&store)?;
        session.highest = records.highest();
        session.condemned = records.open;
        let seen = session.condemned.iter().copied().collect();
        let seen = Seen { session: session.id, records: seen, unknown: Unknown::none() };
        put_new(repository, &Key::new(Area::Sessions, format!("{}{SEEN}", session.id)), ObjectKind::Seen, &seen)?;
        Ok(session)
    }

    /// Leaves a mark and does not say what it has seen: nothing at all is swept while it is open. For what is short and
    /// relies on a snapshot that may go meanwhile.
    pub fn begin_holding(repository: &'r Repository, kind: SessionKind, operation: &str) -> Result<Session<'r>> {
        // Who may only write can do nothing else with what is stored.
        if (kind, operation) != (SessionKind::Writer, "backup") {
            repository.keyring().check_full(operation)?;
        }
        if kind != SessionKind::Reader {
            repository.check_writable()?;
        }
        let id = SessionId(random::bytes());
        let machine = repository.machine();
        let mark = Stored {
            id,
            kind,
            host: machine.host.clone(),
            process: machine.process,
            boot: machine.boot.clone(),
            process_began: machine.process_began,
            begun_ns: repository.now_ns(),
            program: machine.program.clone(),
            operation: operation.to_owned(),
            unknown: Unknown::none(),
        };
        // From here on it may be there, even if the answer is lost: dropping it says that it has ended.
        let session = Session {
            repository,
            id,
            condemned: BTreeSet::new(),
            highest: 0,
            ended: false,
            looked: Answers::default(),
        };
        put_new(repository, &Key::new(Area::Sessions, id), ObjectKind::Session, &mark)?;
        if kind != SessionKind::Reader {
            // What cannot be completed now can be later, and until then its copy does.
            drop(twice::complete(repository));
        }
        Ok(session)
    }

    /// Its name.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// What it has listed since it left its mark, for the index; once.
    pub fn take_looked(&mut self) -> Answers {
        std::mem::take(&mut self.looked)
    }

    /// The numbers of the open condemned records that it has seen.
    pub fn condemned(&self) -> &BTreeSet<u64> {
        &self.condemned
    }

    /// The highest number of a condemned record, open or closed, that it has seen: stands in all its segments.
    pub fn condemned_seen(&self) -> u64 {
        self.highest
    }

    /// Commits the snapshot of this session: from here on it exists. Fails when the session was fenced.
    pub fn commit(mut self, snapshot: &Snapshot) -> Result<()> {
        assert!(snapshot.id == self.id, "a snapshot has the name of its session");
        let sealed = self.repository.keyring().seal(ObjectKind::Snapshot, &snapshot.to_cbor())?;
        self.ended = true;
        match put_or_find(self.repository, &Key::new(Area::Snapshots, self.id), &sealed)? {
            Lies::Ours => Ok(()),
            Lies::Theirs => Err(Error::Fenced(self.id)),
        }
    }

    /// Ends it without a snapshot.
    pub fn end(mut self) -> Result<()> {
        self.put_end()
    }

    fn put_end(&mut self) -> Result<()> {
        self.ended = true;
        let end = End { session: self.id, at_ns: self.repository.now_ns(), unknown: Unknown::none() };
        put_new(self.repository, &Key::new(Area::Sessions, format!("{}{END}", self.id)), ObjectKind::End, &end)
    }
}

/// A session that is let go without a word (an error, a panic) still tries to say that it has ended; if that fails
/// too, prune finds out that its process is gone.
impl Drop for Session<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.put_end();
        }
    }
}

fn put_new(repository: &Repository, key: &Key, kind: ObjectKind, content: &impl Cbor) -> Result<()> {
    let sealed = repository.keyring().seal(kind, &content.to_cbor())?;
    repository.store().put(key, &sealed)?;
    Ok(())
}

/// Whose object lies at a name after a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lies {
    Ours,
    Theirs,
}

/// Puts an object whose name somebody else may take. Where the answer was lost, or says that something is there, it is
/// compared: what is sealed holds random bytes, so equal bytes are our own.
fn put_or_find(repository: &Repository, key: &Key, sealed: &[u8]) -> Result<Lies> {
    let store = repository.store();
    let put = match store.put(key, sealed) {
        Ok(Put::Stored) => return Ok(Lies::Ours),
        Ok(Put::Existed) => None,
        Err(error) if error.kind().is_transient() => Some(error),
        Err(error) => return Err(error.into()),
    };
    match store.get(key, sealed.len() as u64) {
        Ok(there) if there == sealed => Ok(Lies::Ours),
        Ok(_) => Ok(Lies::Theirs),
        // Longer than ours.
        Err(error) if error.kind() == Kind::Damaged => Ok(Lies::Theirs),
        Err(error) => Err(put.unwrap_or(error).into()),
    }
}

/// The most bytes of an object that are read.
fn limit(kind: ObjectKind) -> u64 {
    kind.max_bytes() as u64
}

/// The numbers of the condemned records that are open.
pub fn condemned_numbers(store: &dyn ObjectStore) -> Result<BTreeSet<u64>> {
    Ok(list_condemned(store)?.open)
}

use super::index::{LOOKED_AT, done_key, late, load_condemned_at, present_segments, spared_key};
pub use super::index::{Records, condemned_key, list_condemned, load_condemned};

/// Signs and seals a record, a decision or a roster: clients that may only write hold the key of the seal, and what is
/// said here decides what is deleted.
fn seal_condemned(repository: &Repository, record: &mut Condemned) -> Result<Vec<u8>> {
    repository.keyring().vouch(&vouch::nothing_before(), record)?;
    repository.keyring().seal(ObjectKind::Condemned, &record.to_cbor())
}

/// Stores a condemned record and gives it back; none if its number is taken. A number that was taken and closed meanwhile, as only a
/// fenced session could miss, is taken too: then the record is withdrawn, and nobody minded it while it lay there, since
/// it lies at or below the last that was closed.
pub fn put_condemned(repository: &Repository, mut record: Condemned) -> Result<Option<Condemned>> {
    let sealed = seal_condemned(repository, &mut record)?;
    let key = condemned_key(record.number);
    if put_or_find(repository, &key, &sealed)? == Lies::Theirs {
        return Ok(None);
    }
    drop(sealed);
    let store = &**repository.store();
    if list_condemned(store)?.closed < record.number {
        return Ok(Some(record));
    }
    store.delete(&key)?;
    Ok(None)
}

/// What is decided to be spared of a condemned record; none if nobody has decided yet.
pub fn load_spared(repository: &Repository, number: u64) -> Result<Option<Condemned>> {
    match load_condemned_at(&**repository.store(), repository.keyring(), &spared_key(number), number) {
        Ok(spared) => Ok(Some(spared)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Decides what is spared of a condemned record, and gives what holds: who comes second does what the first decided.
/// None if the record is closed.
pub fn put_spared(repository: &Repository, mut spared: Condemned) -> Result<Option<Condemned>> {
    let sealed = seal_condemned(repository, &mut spared)?;
    let (store, key) = (&**repository.store(), spared_key(spared.number));
    if put_or_find(repository, &key, &sealed)? == Lies::Theirs {
        return load_spared(repository, spared.number);
    }
    // Who slept between deciding and this may be late: others decided, swept and closed, and what they spared is in use.
    if list_condemned(store)?.closed < spared.number {
        return Ok(Some(spared));
    }
    store.delete(&key)?;
    Ok(None)
}

/// Closes a condemned record of which `spared` is all that did not go: leaves the roster of the segments that there
/// should be from then on, and tombstones. `brought_back` are the segments that name what is spared, and `tombstones`
/// packs that were swept earlier and that some segment still names.
pub fn close_condemned(
    repository: &Repository,
    record: &Condemned,
    spared: &Condemned,
    by: SessionId,
    brought_back: &[SegmentId],
    tombstones: &BTreeSet<PackId>,
) -> Result<()> {
    let kept: BTreeSet<SegmentId> =
        record.kept_segments.iter().chain(&spared.kept_segments).chain(brought_back).copied().collect();
    let spare: BTreeSet<&PackId> = spared.packs.iter().collect();
    let swept = record.packs.iter().filter(|pack| !spare.contains(pack));
    // All that was swept, named by a segment or not: somebody may have listed such a segment just before it went.
    let packs: SortedSet<PackId> = swept.chain(tombstones).copied().collect();
    let roster = Condemned {
        session: by,
        at_ns: repository.now_ns(),
        packs: packs.into_vec(),
        kept_segments: kept.into_iter().filter(|id| !record.segments.contains(id)).collect(),
        number: record.number,
        segments: record.segments.clone(),
        snapshots: record.snapshots.clone(),
        voucher: record.voucher.clone(),
        unknown: record.unknown.clone(),
    };
    put_done(repository, roster)
}

/// Closes a condemned record that cannot be read, or without sweeping it: what is there counts. All packs that it might
/// name are spared for ever, unless somebody has decided otherwise before.
pub fn give_up_condemned(repository: &Repository, number: u64, by: SessionId) -> Result<()> {
    let store = &**repository.store();
    let mut packs = BTreeSet::new();
    store.list(Area::Packs, &mut |listed| packs.extend(listed.name.parse::<PackId>().ok()))?;
    let segments: Vec<SegmentId> = present_segments(store)?.into_keys().collect();
    let spare_all = Condemned {
        number,
        session: by,
        at_ns: repository.now_ns(),
        packs: packs.into_iter().collect(),
        segments: Vec::new(),
        snapshots: super::snapshots::names(repository)?,
        kept_segments: segments.clone(),
        voucher: None,
        unknown: Unknown::none(),
    };
    let all = spare_all.clone();
    let spared = match put_spared(repository, spare_all) {
        Ok(None) => return Ok(()),
        Ok(Some(spared)) => spared,
        Err(error) if is_unreadable(&error) => all.clone(),
        Err(error) => return Err(error),
    };
    let record = match load_condemned(store, repository.keyring(), number) {
        Ok(record) => record,
        Err(error) if is_unreadable(&error) || error.kind() == Kind::NotFound => all,
        Err(error) => return Err(error),
    };
    // Segments that it says go may have gone already; those that have not stay.
    let there: BTreeSet<SegmentId> = segments.into_iter().collect();
    let gone = record.segments.iter().filter(|id| !there.contains(id)).copied().collect();
    let record = Condemned { segments: gone, kept_segments: there.into_iter().collect(), ..record };
    close_condemned(repository, &record, &spared, by, &[], &BTreeSet::new())
}

fn put_done(repository: &Repository, mut roster: Condemned) -> Result<()> {
    let (store, number) = (&**repository.store(), roster.number);
    // The roster first: were the record gone before it, its number could come again.
    store.put(&done_key(number), &seal_condemned(repository, &mut roster)?)?;
    store::delete_unlocked(store, &[condemned_key(number), spared_key(number)])?;
    clear_records(store)
}

/// Takes away what closed records left. One that is locked says nothing any more.
pub fn clear_records(store: &dyn ObjectStore) -> Result<()> {
    store::delete_unlocked(store, &list_condemned(store)?.left)?;
    Ok(())
}

/// A session that has neither committed nor ended, as the store shows it.
#[derive(Clone, Debug)]
pub struct OpenSession {
    /// Its mark.
    pub mark: Stored,
    /// The condemned records that it has seen; none if it has not said yet.
    pub seen: Option<BTreeSet<u64>>,
    /// When the store received its mark, nanoseconds since 1970 by the store's clock.
    pub stored_ns: i64,
    /// Whether its process is known to be gone.
    pub dead: bool,
}

impl OpenSession {
    /// Whether it relies on nothing that the record names: it has seen it, or put it itself.
    pub fn knows(&self, record: &Condemned) -> bool {
        self.mark.id == record.session || self.seen.as_ref().is_some_and(|seen| seen.contains(&record.number))
    }
}

/// All sessions that have neither committed, ended nor been fenced.
pub fn open_sessions(repository: &Repository) -> Result<Vec<OpenSession>> {
    let store = &**repository.store();
    let mut marks = BTreeMap::new();
    let mut closed = BTreeSet::new();
    let mut with_seen = BTreeSet::new();
    // Sessions first, then snapshots: a session that commits in between is found among the snapshots.
    store.list(Area::Sessions, &mut |listed| {
        let name = listed.name.as_str();
        if let Some(id) = name.strip_suffix(END).and_then(|id| id.parse::<SessionId>().ok()) {
            closed.insert(id);
        } else if let Some(id) = name.strip_suffix(SEEN).and_then(|id| id.parse::<SessionId>().ok()) {
            with_seen.insert(id);
        } else if let Ok(id) = name.parse::<SessionId>() {
            marks.insert(id, listed.stored_at.as_nanosecond() as i64);
        }
    })?;
    store.list(Area::Snapshots, &mut |listed| closed.extend(listed.name.parse::<SessionId>().ok()))?;
    marks.retain(|id, _| !closed.contains(id));
    let mut open = Vec::new();
    let asked = Ahead::new(store);
    ask_for_sessions(&asked, marks.keys(), &with_seen);
    for (id, stored_ns) in marks {
        if let Some(session) = load_session(repository, &asked, id, stored_ns, with_seen.contains(&id))? {
            open.push(session);
        }
    }
    Ok(open)
}

fn ask_for_sessions<'s>(
    store: &Ahead<'_>,
    sessions: impl Iterator<Item = &'s SessionId>,
    with_seen: &BTreeSet<SessionId>,
) {
    let mut objects = Vec::new();
    for id in sessions.take(MOST_ASKED) {
        objects.push((Key::new(Area::Sessions, id), limit(ObjectKind::Session)));
        if with_seen.contains(id) {
            objects.push((Key::new(Area::Sessions, format!("{id}{SEEN}")), limit(ObjectKind::Seen)));
        }
    }
    store.ask(&objects, &[]);
}

/// A session as its mark says it. One whose mark is damaged is open too: nobody knows who it is, so it counts as
/// living until it is old.
fn load_session(
    repository: &Repository,
    store: &dyn ObjectStore,
    id: SessionId,
    stored_ns: i64,
    has_seen: bool,
) -> Result<Option<OpenSession>> {
    let key = Key::new(Area::Sessions, id);
    let mark = match load_mark(repository, store, id) {
        Ok(mark) => mark,
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        Err(error) if is_unreadable(&error) => unknown_session(id, &key),
        Err(error) => return Err(error),
    };
    let seen = match has_seen.then(|| load_seen(repository, store, id)) {
        None => None,
        Some(Ok(seen)) => Some(seen),
        // What it has seen is not known, so nothing is swept before it ends or is fenced.
        Some(Err(error)) if is_unreadable(&error) || error.kind() == Kind::NotFound => None,
        Some(Err(error)) => return Err(error),
    };
    let dead = repository.machine().knows_dead(&mark.host, &mark.boot, mark.process, mark.process_began);
    Ok(Some(OpenSession { mark, seen, stored_ns, dead }))
}

fn is_unreadable(error: &Error) -> bool {
    matches!(error.kind(), Kind::Damaged | Kind::Unsupported)
}

fn load_mark(repository: &Repository, store: &dyn ObjectStore, id: SessionId) -> Result<Stored> {
    let key = Key::new(Area::Sessions, id);
    let object = store.get(&key, limit(ObjectKind::Session))?;
    let mark: Stored = repository.keyring().load(ObjectKind::Session, object, &key)?;
    match mark.id == id {
        true => Ok(mark),
        false => Err(Error::damaged(&key, "it is the mark of another session")),
    }
}

fn load_seen(repository: &Repository, store: &dyn ObjectStore, id: SessionId) -> Result<BTreeSet<u64>> {
    let key = Key::new(Area::Sessions, format!("{id}{SEEN}"));
    let object = store.get(&key, limit(ObjectKind::Seen))?;
    let seen: Seen = repository.keyring().load(ObjectKind::Seen, object, &key)?;
    match seen.session == id {
        true => Ok(seen.records.into_iter().collect()),
        false => Err(Error::damaged(&key, "it is what another session has seen")),
    }
}

fn unknown_session(id: SessionId, key: &Key) -> Stored {
    Stored {
        id,
        kind: SessionKind::Writer,
        host: String::new(),
        process: 0,
        boot: String::new(),
        process_began: 0,
        begun_ns: 0,
        program: String::new(),
        operation: format!("a session whose mark {key} is damaged"),
        unknown: Unknown::none(),
    }
}

/// Sessions that have committed, ended or been fenced and whose marks still lie there.
pub fn closed_sessions(store: &dyn ObjectStore) -> Result<BTreeSet<SessionId>> {
    let mut left = BTreeSet::new();
    let mut closed = BTreeSet::new();
    store.list(Area::Sessions, &mut |listed| {
        let (name, ended) = match listed.name.strip_suffix(END) {
            Some(name) => (name, true),
            None => (listed.name.strip_suffix(SEEN).unwrap_or(&listed.name), false),
        };
        if let Ok(id) = name.parse::<SessionId>() {
            left.insert(id);
            if ended {
                closed.insert(id);
            }
        }
    })?;
    store.list(Area::Snapshots, &mut |listed| closed.extend(listed.name.parse::<SessionId>().ok()))?;
    Ok(left.intersection(&closed).copied().collect())
}

/// Takes away what finished sessions left: prune's work, since writers may not delete. What is locked stays for another
/// time; says of how many sessions nothing is left.
pub fn clear_sessions(store: &dyn ObjectStore, sessions: &BTreeSet<SessionId>) -> Result<u64> {
    let mut left: Vec<SessionId> = sessions.iter().copied().collect();
    for ending in ENDINGS {
        let keys: Vec<Key> = left.iter().map(|id| Key::new(Area::Sessions, format!("{id}{ending}"))).collect();
        let mut locks = store::delete_unlocked(store, &keys)?.into_iter();
        left.retain(|_| locks.next().flatten().is_none());
    }
    Ok(left.len() as u64)
}

/// The same; gives those that could not be cleared.
pub fn clear_each(
    store: &dyn ObjectStore,
    sessions: impl Iterator<Item = SessionId>,
) -> BTreeMap<SessionId, store::Error> {
    let mut left: Vec<SessionId> = sessions.collect();
    let mut failed = BTreeMap::new();
    for ending in ENDINGS {
        let keys: Vec<Key> = left.iter().map(|id| Key::new(Area::Sessions, format!("{id}{ending}"))).collect();
        let answers = left.iter().zip(store.delete_each(&keys));
        failed.extend(answers.filter_map(|(id, answer)| Some((*id, answer.err()?))));
        left.retain(|id| !failed.contains_key(id));
    }
    failed
}

/// Deletes several objects, many at once where that is quicker; fails if one of them could not be deleted.
pub fn delete_all(store: &dyn ObjectStore, keys: &[Key]) -> Result<()> {
    Ok(store.delete_each(keys).into_iter().collect::<Result<(), store::Error>>()?)
}

/// Those of the sessions whose processes are known to be gone; one whose mark cannot tell is not.
pub fn gone_among(repository: &Repository, sessions: &BTreeSet<SessionId>) -> Result<BTreeSet<SessionId>> {
    let keys: Vec<Key> = sessions.iter().map(|id| Key::new(Area::Sessions, id)).collect();
    let (mut ids, mut gone) = (sessions.iter(), BTreeSet::new());
    each_ahead(&**repository.store(), &keys, limit(ObjectKind::Session), |store, _| {
        let id = *ids.next().expect("as many keys as sessions");
        match load_mark(repository, store, id) {
            Ok(mark) if repository.machine().knows_dead(&mark.host, &mark.boot, mark.process, mark.process_began) => {
                gone.insert(id);
            }
            Ok(_) => {}
            Err(error) if is_unreadable(&error) || error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok::<(), Error>(())
    })?;
    Ok(gone)
}

/// Those of the sessions that were fenced.
pub fn fenced_among(store: &dyn ObjectStore, sessions: &BTreeSet<SessionId>) -> Result<BTreeSet<SessionId>> {
    let keys: Vec<Key> = sessions.iter().map(|id| Key::new(Area::Snapshots, id)).collect();
    let (mut ids, mut fenced) = (sessions.iter(), BTreeSet::new());
    each_ahead(store, &keys, limit(ObjectKind::Snapshot), |store, _| {
        let id = *ids.next().expect("as many keys as sessions");
        if late::is_fenced(store, id)? {
            fenced.insert(id);
        }
        Ok::<(), Error>(())
    })?;
    Ok(fenced)
}

/// Whether a tombstone lies where the session's snapshot would.
pub fn is_fenced(repository: &Repository, id: SessionId) -> Result<bool> {
    late::is_fenced(&**repository.store(), id)
}

/// Ends a dead session for ever: puts a tombstone where its snapshot would come. False if its snapshot was quicker.
pub fn fence(repository: &Repository, id: SessionId, by: SessionId) -> Result<bool> {
    let tombstone = crate::format::snapshot::Tombstone {
        session: id,
        fenced_by: by,
        at_ns: repository.now_ns(),
        unknown: Unknown::none(),
    };
    let sealed = repository.keyring().seal(ObjectKind::Tombstone, &tombstone.to_cbor())?;
    let key = Key::new(Area::Snapshots, id);
    match put_or_find(repository, &key, &sealed)? {
        Lies::Ours => Ok(true),
        Lies::Theirs => {
            let there = repository.store().get(&key, limit(ObjectKind::Snapshot))?;
            let header = envelope::peek_any(&there, "snapshot").map_err(Error::object(&key))?;
            Ok(header.kind == ObjectKind::Tombstone)
        }
    }
}
