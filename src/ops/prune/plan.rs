//! What may go: which blobs live, and what is to become of each pack.
//!
//! Alive is what a snapshot reaches, every base of what is alive, and every base of whatever lies in a pack that
//! stays, alive or not: a delta that cannot be decoded would poison the next one built on it. What only dead deltas keep
//! counts as unused: where it is too much, the packs that hold these deltas are rewritten without them. The set of
//! living ids is on disk; memory goes with packs and snapshots, not with blobs.

use super::super::spill::Spill;
use super::super::{Context, Error, Result};
use super::{MaxUnused, Options};
use crate::base::monitor::Event;
use crate::base::{BlobId, Kind, PackId, SnapshotId, SortedMap};
use crate::format::pack::{BlobKind, Role};
use crate::format::tree::{HOLE, ListPiece, TreePiece};
use crate::repo;
use crate::repo::blob_reader::BlobReader;
use crate::repo::index::{LiveSet, PackSummary};
use crate::repo::pack_writer;
use crate::repo::snapshots::{self, Found};
use crate::repo::trees::{GetBlob, named};
use crate::store::Area;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Decoded frames of trees that the walk keeps.
const FRAMES_BYTES: usize = 16 << 20;
/// How often packs are looked for that keep what nobody needs; after that all that are left are rewritten.
const PINNING_ROUNDS: u32 = 4;
const DAY_NS: i64 = 24 * 3600 * 1_000_000_000;
/// So many small packs of one role are worth merging.
const SMALL_PACKS: usize = 8;
/// A pack is small below this part of what packs grow to.
const SMALL_PART: u64 = 4;

/// What a plan is made from.
pub struct Seen {
    /// The highest number that a condemned record had. None was open.
    pub condemned_seen: u64,
    /// The names of all snapshots and tombstones, listed before the index was brought up to date: all that the snapshots
    /// need is in it.
    pub names: Vec<SnapshotId>,
    /// Packs that segments of open sessions name: what is on its way into a snapshot is left alone.
    pub held: BTreeSet<PackId>,
    /// Packs without a segment that the store received before this, nanoseconds since 1970, are orphans of runs that died.
    pub since_ns: i64,
}

/// What is to become of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays as it is.
    Keep,
    /// It goes: nothing in it lives, or what does has another place.
    Drop,
    /// What lives in it is copied before it goes.
    Repack,
}

/// A pack that the index knows, and what is to become of it. There are as many in memory as there are packs.
pub struct Decided {
    id: PackId,
    /// By this the index knows when it learnt of it.
    number: i64,
    /// When it was written, nanoseconds since 1970.
    written_ns: i64,
    /// Its size; of one that goes, the size that it has in the store.
    size_bytes: u64,
    /// The bytes of its frames.
    total_bytes: u64,
    /// The part of them that holds what lives.
    live_bytes: u64,
    /// The same, not counting what only differences hang on which nobody needs.
    needed_bytes: u64,
    live_blobs: u32,
    role: Role,
    fate: Fate,
    /// It stays whatever is decided otherwise.
    is_fixed: bool,
    /// It keeps too much that nobody needs, or is damaged, or is to be rewritten in any case.
    is_pinning: bool,
}

impl Decided {
    /// Bytes of it that nobody needs, about.
    fn unused_bytes(&self) -> u64 {
        let share = self.live_bytes as f64 / self.total_bytes.max(1) as f64;
        (self.size_bytes as f64 * (1.0 - share.min(1.0))) as u64
    }

    /// Whether it stays unless somebody finds a reason why it should be rewritten.
    fn is_open(&self) -> bool {
        self.fate == Fate::Keep && !self.is_fixed
    }
}

/// What becomes of each pack.
pub struct Plan<'i> {
    /// The highest number that a condemned record had.
    pub condemned_seen: u64,
    /// The blobs that live.
    pub live: LiveSet<'i>,
    /// Names of all snapshots and tombstones that were seen.
    pub snapshots: BTreeSet<SnapshotId>,
    /// How many of them are snapshots.
    pub snapshot_count: u64,
    /// Packs that the index knows, by name.
    packs: Vec<Decided>,
    /// Packs that no segment names and, as far as times tell, no open session is about to name, with their sizes.
    orphaned: SortedMap<PackId, u64>,
    /// Bytes of packs that go before the time that their storage class is billed for at least.
    pub early_bytes: u64,
    /// Packs that hold something needed which cannot be read and is nowhere else. They stay as they are, with all that they
    /// hang on, until somebody has repaired them.
    pub hurt: BTreeSet<PackId>,
}

impl Plan<'_> {
    fn find(&self, pack: &PackId) -> Option<&Decided> {
        find(&self.packs, pack).map(|place| &self.packs[place])
    }

    fn of(&self, fate: Fate) -> impl Iterator<Item = &Decided> {
        self.packs.iter().filter(move |one| one.fate == fate)
    }

    /// Whether a pack goes, in whatever way.
    pub fn goes(&self, pack: &PackId) -> bool {
        self.find(pack).map_or_else(|| self.orphaned.contains(pack), |one| one.fate != Fate::Keep)
    }

    /// All packs that go, with their sizes.
    pub fn going(&self) -> impl Iterator<Item = (PackId, u64)> {
        let known = self.packs.iter().filter(|one| one.fate != Fate::Keep).map(|one| (one.id, one.size_bytes));
        known.chain(self.orphaned.iter().copied())
    }

    /// Packs that the index knows and that stay.
    pub fn kept(&self) -> impl Iterator<Item = PackId> {
        self.of(Fate::Keep).map(|one| one.id)
    }

    /// Packs whose living blobs are copied before they go, with their sizes.
    pub fn repacked(&self) -> impl Iterator<Item = (PackId, u64)> {
        self.of(Fate::Repack).map(|one| (one.id, one.size_bytes))
    }

    /// What becomes of a pack that the index knows, and when it was written, nanoseconds since 1970.
    pub fn fate(&self, pack: &PackId) -> Option<(Fate, i64)> {
        self.find(pack).map(|one| (one.fate, one.written_ns))
    }

    /// How many packs no segment names.
    pub fn orphans(&self) -> u64 {
        self.orphaned.len() as u64
    }

    /// How many packs stay, and their bytes.
    pub fn kept_bytes(&self) -> (u64, u64) {
        (self.of(Fate::Keep).count() as u64, self.of(Fate::Keep).map(|one| one.size_bytes).sum())
    }

    /// Bytes in packs that stay that nobody needs.
    pub fn unused_bytes(&self) -> u64 {
        self.of(Fate::Keep).map(Decided::unused_bytes).sum()
    }

    /// Bytes in packs that stay that only differences hang on which nobody needs, about.
    pub fn pinned_bytes(&self) -> u64 {
        self.of(Fate::Keep).map(|one| one.live_bytes.saturating_sub(one.needed_bytes)).sum()
    }

    /// Bytes of what is to be copied, about.
    pub fn copied_bytes(&self) -> u64 {
        self.of(Fate::Repack).map(|one| one.size_bytes - one.unused_bytes()).sum()
    }
}

/// At which place a pack stands.
fn find(packs: &[Decided], pack: &PackId) -> Option<usize> {
    packs.binary_search_by_key(pack, |one| one.id).ok()
}

/// Whether a pack stays.
fn is_kept(packs: &[Decided], pack: &PackId) -> bool {
    find(packs, pack).is_some_and(|place| packs[place].fate == Fate::Keep)
}

/// A pack as the store lists it: its name, its size, when the store received it by its own clock and until when it is
/// billed in any case, both nanoseconds since 1970.
struct StoredPack {
    id: PackId,
    size_bytes: u64,
    stored_ns: i64,
    billed_until_ns: i64,
}

/// One in a sorted file.
const STORED_BYTES: usize = 56;

impl StoredPack {
    fn to_bytes(&self) -> [u8; STORED_BYTES] {
        let mut bytes = [0; STORED_BYTES];
        bytes[..32].copy_from_slice(&self.id.0);
        bytes[32..40].copy_from_slice(&self.size_bytes.to_be_bytes());
        bytes[40..48].copy_from_slice(&self.stored_ns.to_be_bytes());
        bytes[48..].copy_from_slice(&self.billed_until_ns.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; STORED_BYTES]) -> StoredPack {
        let word = |place: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[place..place + 8]);
            word
        };
        let mut id = PackId([0; 32]);
        id.0.copy_from_slice(&bytes[..32]);
        StoredPack {
            id,
            size_bytes: u64::from_be_bytes(word(32)),
            stored_ns: i64::from_be_bytes(word(40)),
            billed_until_ns: i64::from_be_bytes(word(48)),
        }
    }
}

/// How long objects of a class are billed at least, in days (Amazon S3: "Storage classes"); nothing for others.
fn least_days(class: Option<&str>) -> i64 {
    match class {
        Some("STANDARD_IA" | "ONEZONE_IA") => 30,
        Some("GLACIER_IR" | "GLACIER") => 90,
        Some("DEEP_ARCHIVE") => 180,
        _ => 0,
    }
}

/// Calls `each` for all packs in the store, each with its size.
pub fn each_stored(context: &Context, each: &mut dyn FnMut(PackId, u64)) -> Result<()> {
    context.repository.store().list(Area::Packs, &mut |listed| {
        if let Ok(id) = listed.name.parse() {
            each(id, listed.size_bytes);
        }
    })?;
    Ok(())
}

/// The packs in the store that `wanted` picks, with their sizes.
pub fn stored_among(context: &Context, wanted: &dyn Fn(&PackId) -> bool) -> Result<SortedMap<PackId, u64>> {
    let mut packs = Vec::new();
    each_stored(context, &mut |id, size_bytes| packs.extend(Some((id, size_bytes)).filter(|(id, _)| wanted(id))))?;
    Ok(packs.into_iter().collect())
}

/// All packs in the store, aside: what they are compared with is not known yet.
fn set_aside(context: &Context) -> Result<Spill<STORED_BYTES>> {
    let mut stored = Spill::new(context);
    let mut failed = None;
    context.repository.store().list(Area::Packs, &mut |listed| {
        if let (None, Ok(id)) = (&failed, listed.name.parse::<PackId>()) {
            let stored_ns = listed.stored_at.as_nanosecond() as i64;
            let billed_until_ns = stored_ns.saturating_add(least_days(listed.class.as_deref()) * DAY_NS);
            let pack = StoredPack { id, size_bytes: listed.size_bytes, stored_ns, billed_until_ns };
            failed = stored.add(&pack.to_bytes()).err();
        }
    })?;
    failed.map_or(Ok(()), Err)?;
    stored.settle()?;
    Ok(stored)
}

/// Makes a plan. The packs in `left` cannot be rewritten: those of them that are needed stay.
pub fn make<'i>(context: &'i Context, options: &Options, seen: &Seen, left: &BTreeSet<PackId>) -> Result<Plan<'i>> {
    let stored = set_aside(context)?;
    let mut live = context.index.begin_live()?;
    let (snapshots, snapshot_count) = mark_snapshots(context, &mut live, &seen.names)?;
    live.close_over_bases(&|_| false)?;
    let mut packs = look_through(context, &live, &seen.held)?;
    let needed = packs.iter_mut().filter(|one| one.live_blobs > 0 && left.contains(&one.id));
    let mut hurt: BTreeSet<PackId> = needed.map(stay).collect();
    keep_hurt(context, &live, &mut packs, &mut hurt)?;
    let options = &within_room(context, options, &packs);
    find_pinning(context, options, &live, &mut packs)?;
    decide_until_closed(context, options, &mut live, &mut packs, &mut hurt)?;
    let Compared { orphaned, early_bytes } = compare(context, stored, &mut packs, seen.since_ns)?;
    let condemned_seen = seen.condemned_seen;
    Ok(Plan { condemned_seen, live, snapshots, snapshot_count, packs, orphaned, early_bytes, hurt })
}

/// Rewrites no more than there is room for: what is written anew lies beside what it replaces until that is deleted.
fn within_room(context: &Context, options: &Options, packs: &[Decided]) -> Options {
    let free_bytes = context.repository.store().free_bytes().unwrap_or(u64::MAX);
    let stored_bytes = packs.iter().map(|one| one.size_bytes).sum();
    // Whoever seals anew wants all of it, or hears that it does not fit.
    if free_bytes >= stored_bytes || !options.rewrite.is_empty() {
        return options.clone();
    }
    let max_repack_bytes = options.max_repack_bytes.unwrap_or(u64::MAX).min(free_bytes / 2);
    Options { max_repack_bytes: Some(max_repack_bytes), ..options.clone() }
}

/// Decides that a pack stays, whatever is decided otherwise.
fn stay(one: &mut Decided) -> PackId {
    one.is_fixed = true;
    one.id
}

/// Sees to it that packs stay whose damaged blocks hold something that lives and is nowhere else: parity, a second copy
/// of the pack or another repository may still mend them.
fn keep_hurt(context: &Context, live: &LiveSet<'_>, packs: &mut [Decided], hurt: &mut BTreeSet<PackId>) -> Result<()> {
    let index = &context.index;
    if !index.knows_of_damage()? {
        return Ok(());
    }
    let known = hurt.clone();
    index.each_damaged(&|pack| !known.contains(&pack.id), &mut |pack, id, _| {
        if !hurt.contains(pack)
            && let Some(place) = find(packs, pack)
            && live.contains(id)?
            && index.places(id)?.is_empty()
        {
            hurt.insert(stay(&mut packs[place]));
        }
        Ok(())
    })?;
    Ok(())
}

/// What the packs in the store say to what was decided.
struct Compared {
    orphaned: SortedMap<PackId, u64>,
    early_bytes: u64,
}

/// Sees to it that what is needed is there in its full length, and finds what nobody knows.
fn compare(context: &Context, stored: Spill<STORED_BYTES>, packs: &mut [Decided], since_ns: i64) -> Result<Compared> {
    let now_ns = context.repository.now_ns();
    let (mut orphaned, mut early_bytes) = (Vec::new(), 0);
    let mut known = packs.iter_mut().peekable();
    stored.finish(&mut |bytes| {
        let pack = StoredPack::from_bytes(bytes);
        while let Some(one) = known.next_if(|one| one.id < pack.id) {
            take_stored(one, None)?;
        }
        let goes = match known.next_if(|one| one.id == pack.id) {
            Some(one) => {
                take_stored(one, Some(pack.size_bytes))?;
                one.fate != Fate::Keep
            }
            None if pack.stored_ns < since_ns => {
                orphaned.push((pack.id, pack.size_bytes));
                true
            }
            None => false,
        };
        if goes && pack.billed_until_ns > now_ns {
            early_bytes += pack.size_bytes;
        }
        Ok(())
    })?;
    known.try_for_each(|one| take_stored(one, None))?;
    Ok(Compared { orphaned: orphaned.into_iter().collect(), early_bytes })
}

/// A pack that is needed and not there, or not as large as it was: what is left must not be touched.
fn take_stored(one: &mut Decided, size_bytes: Option<u64>) -> Result<()> {
    if one.fate == Fate::Drop {
        one.size_bytes = size_bytes.unwrap_or(0);
        return Ok(());
    }
    if size_bytes == Some(one.size_bytes) {
        return Ok(());
    }
    let state = size_bytes.map_or("gone".to_owned(), |bytes| format!("{bytes} bytes long"));
    Err(Error::Repo(repo::Error::damaged(
        format!("packs/{}", one.id),
        format!(
            "it should have {} bytes, with blobs that snapshots need, and is {state}; nothing was deleted: put it back from a \
             mirror (`keepstone repair apply --from PLACE`), let a backup of the same files store anew what it held, or \
             forget the snapshots that `keepstone verify` names",
            one.size_bytes
        ),
    )))
}

/// Marks everything that snapshots reach. A snapshot or tree that cannot be read ends it: what it needs is unknown.
fn mark_snapshots(
    context: &Context,
    live: &mut LiveSet<'_>,
    names: &[SnapshotId],
) -> Result<(BTreeSet<SnapshotId>, u64)> {
    context.monitor.event(Event::Phase("finding what is needed"));
    let reader = BlobReader::new(context.repository.clone(), context.index.clone(), FRAMES_BYTES);
    let mut reader = reader.walking();
    let mut seen = BTreeSet::new();
    let mut count = 0;
    snapshots::each(&context.repository, names, |id, found| {
        match found.map_err(|error| unreadable_snapshot(&id, error))? {
            Found::Snapshot(snapshot) => {
                seen.insert(id);
                count += 1;
                if let Some(missing) = context.missing_segments([&*snapshot])?.first() {
                    return Err(super::index_damaged(missing));
                }
                mark_beneath(context, &mut reader, live, snapshot.root, &mut |id| check_known(context, id))?;
            }
            Found::Tombstone => {
                seen.insert(id);
            }
            Found::Gone => {}
        }
        Ok::<_, Error>(())
    })?;
    Ok((seen, count))
}

/// What a snapshot that cannot be read needs is unknown.
fn unreadable_snapshot(id: &SnapshotId, error: repo::Error) -> Error {
    match error.kind() {
        Kind::Damaged => Error::Repo(repo::Error::damaged(
            format!("snapshot {}", id.short()),
            format!(
                "{error}; nobody knows what it needs, so nothing was deleted: put its object back from a mirror of the \
                 repository, or let it go with `keepstone forget {}`",
                id.short()
            ),
        )),
        _ => error.into(),
    }
}

/// Fails for a blob that lies nowhere. One that lies in a damaged block is no reason to free nothing: its pack stays.
fn check_known(context: &Context, id: &BlobId) -> Result<()> {
    match context.index.contains(id)? || !context.index.damaged_places(id)?.is_empty() {
        true => Ok(()),
        false => Err(missing(id)),
    }
}

/// What to say of a blob that is needed and that no pack has which counts.
pub fn missing(id: &BlobId) -> Error {
    let reason = "no pack that the index knows has it, and what it hung on is unknown, so nothing was deleted: `keepstone \
                  rebuild-index` looks for it in all packs; a backup of the same files stores it anew; or forget the \
                  snapshots that `keepstone verify` names";
    repo::Error::damaged(format!("blob {id}"), reason).into()
}

/// Called with each blob that a tree needs, once, before it is read.
type Check<'c> = &'c mut dyn FnMut(&BlobId) -> Result<()>;

/// Marks a tree and all beneath it.
pub fn mark_tree(context: &Context, live: &mut LiveSet<'_>, root: BlobId, check: Check<'_>) -> Result<()> {
    let mut reader = BlobReader::new(context.repository.clone(), context.index.clone(), FRAMES_BYTES);
    mark_beneath(context, &mut reader, live, root, check)
}

/// Depth first: what waits is at most one piece's worth of names per level.
fn mark_beneath(
    context: &Context,
    reader: &mut BlobReader,
    live: &mut LiveSet<'_>,
    root: BlobId,
    check: Check<'_>,
) -> Result<()> {
    let mut waiting = vec![(root, BlobKind::Tree)];
    while let Some((id, kind)) = waiting.pop() {
        if !live.mark(&id)? {
            continue;
        }
        context.check_stop()?;
        check(&id)?;
        let bytes = reader.get(&id, kind).map_err(|error| unreadable(&id, error))?;
        if kind == BlobKind::Tree {
            let piece = TreePiece::decode(&bytes).map_err(repo::Error::object(format!("tree {id}")))?;
            reader.expect(&mut named(&piece));
            mark_piece(live, piece, &mut waiting, check)?;
        } else {
            let piece = ListPiece::decode(&bytes).map_err(repo::Error::object(format!("content list {id}")))?;
            mark_list(live, &piece, &mut waiting, check)?;
        }
        context.monitor.event(Event::Done { items: 1, bytes: 0 });
    }
    Ok(())
}

/// What a tree that cannot be read needs is unknown, whether it is damaged or its pack is gone.
fn unreadable(id: &BlobId, error: repo::Error) -> Error {
    match error.kind() {
        Kind::Damaged | Kind::NotFound => Error::Repo(repo::Error::damaged(
            format!("tree or list {id}"),
            format!(
                "{error}; nothing was deleted: run `keepstone verify` to see which snapshots that concerns, and forget \
                 those that cannot be saved"
            ),
        )),
        _ => error.into(),
    }
}

fn mark_piece(
    live: &mut LiveSet<'_>,
    piece: TreePiece,
    waiting: &mut Vec<(BlobId, BlobKind)>,
    check: Check<'_>,
) -> Result<()> {
    waiting.extend(piece.children.iter().map(|child| (child.piece, BlobKind::Tree)));
    for node in &piece.nodes {
        waiting.extend(node.tree.map(|tree| (tree, BlobKind::Tree)));
        waiting.extend(node.list.map(|list| (list, BlobKind::List)));
        node.chunks().try_for_each(|(chunk, _)| mark_chunk(live, &chunk, check))?;
    }
    Ok(())
}

fn mark_list(
    live: &mut LiveSet<'_>,
    piece: &ListPiece,
    waiting: &mut Vec<(BlobId, BlobKind)>,
    check: Check<'_>,
) -> Result<()> {
    if piece.level > 0 {
        waiting.extend(piece.ids.0.iter().map(|id| (*id, BlobKind::List)));
        return Ok(());
    }
    piece.ids.0.iter().try_for_each(|id| mark_chunk(live, id, check))
}

fn mark_chunk(live: &mut LiveSet<'_>, id: &BlobId, check: Check<'_>) -> Result<()> {
    if *id == HOLE || !live.mark(id)? { Ok(()) } else { check(id) }
}

/// The packs that the index knows, by name, and how much of each lives. What is on its way into a snapshot stays.
fn look_through(context: &Context, live: &LiveSet<'_>, held: &BTreeSet<PackId>) -> Result<Vec<Decided>> {
    let mut packs = Vec::new();
    live.each_usage::<Error>(&mut |number, usage| {
        let PackSummary { id, size_bytes, role, written_ns, .. } = usage.pack;
        packs.push(Decided {
            id,
            number,
            written_ns,
            size_bytes,
            total_bytes: usage.total_bytes,
            live_bytes: usage.live_bytes,
            needed_bytes: 0,
            live_blobs: u32::try_from(usage.live_blobs).unwrap_or(u32::MAX),
            role,
            fate: Fate::Drop,
            is_fixed: held.contains(&id),
            is_pinning: false,
        });
        Ok(())
    })?;
    packs.sort_unstable_by_key(|one| one.id);
    count_once(context, live, &mut packs)?;
    Ok(packs)
}

/// The same again: more lives by now.
fn look_again(context: &Context, live: &LiveSet<'_>, packs: &mut [Decided]) -> Result<()> {
    live.each_usage::<Error>(&mut |_, usage| {
        if let Some(place) = find(packs, &usage.pack.id) {
            let one = &mut packs[place];
            (one.total_bytes, one.live_bytes) = (usage.total_bytes, usage.live_bytes);
            one.live_blobs = u32::try_from(usage.live_blobs).unwrap_or(u32::MAX);
        }
        Ok(())
    })?;
    count_once(context, live, packs)
}

/// Decides, then adds the bases of all that stays, and decides again for packs that these bring back to life, until
/// nothing changes. What was once to be kept stays kept, so this ends.
fn decide_until_closed(
    context: &Context,
    options: &Options,
    live: &mut LiveSet<'_>,
    packs: &mut [Decided],
    hurt: &mut BTreeSet<PackId>,
) -> Result<()> {
    loop {
        context.check_stop()?;
        decide(options, packs);
        let before = live.count();
        live.close_over_bases(&|pack| is_kept(packs, &pack.id))?;
        if live.count() == before {
            return Ok(());
        }
        packs.iter_mut().for_each(|one| one.is_fixed = one.fate == Fate::Keep);
        look_again(context, live, packs)?;
        keep_hurt(context, live, packs, hurt)?;
    }
}

/// Finds the packs whose dead differences would keep more than may stay unused, to rewrite them without these; and those
/// with damaged blocks. Those that keep most for what rewriting them costs come first; a base that another pack keeps too
/// is found in the next round.
fn find_pinning(context: &Context, options: &Options, live: &LiveSet<'_>, packs: &mut [Decided]) -> Result<()> {
    // Whatever may stay unused: while they are there, every backup of this machine distrusts its parent.
    let damaged = context.index.damaged_packs()?;
    for one in packs.iter_mut() {
        one.needed_bytes = one.live_bytes;
        one.is_pinning = damaged.contains(&one.id) || options.rewrite.contains(&one.id);
    }
    for round in 0..=PINNING_ROUNDS {
        context.check_stop()?;
        decide(options, packs);
        let total_bytes = packs.iter().map(|one| one.size_bytes).sum();
        let Some(limit_bytes) = limit_bytes(options, total_bytes) else { return Ok(()) };
        let pinned = live.pinned_bytes(&|pack| is_kept(packs, pack))?;
        let kept = packs.iter().filter(|one| one.fate == Fate::Keep);
        let mut waste: u64 = kept.map(Decided::unused_bytes).sum::<u64>() + pinned.values().sum::<u64>();
        if pinned.is_empty() || waste <= limit_bytes {
            return Ok(());
        }
        let placed = pinned.into_iter().filter_map(|(pack, bytes)| Some((find(packs, &pack)?, bytes)));
        let mut pinned: Vec<(usize, u64)> = placed.collect();
        let worth = |place: usize, bytes: u64| bytes.saturating_mul(1 << 20) / packs[place].size_bytes.max(1);
        pinned.sort_by_key(|(place, bytes)| (Reverse(worth(*place, *bytes)), *place));
        for (place, bytes) in pinned {
            if waste > limit_bytes || round == PINNING_ROUNDS {
                waste = waste.saturating_sub(bytes);
                packs[place].is_pinning = true;
            }
        }
    }
    Ok(())
}

fn decide(options: &Options, packs: &mut [Decided]) {
    let total_bytes: u64 = packs.iter().map(|one| one.size_bytes).sum();
    for one in packs.iter_mut() {
        one.fate = if one.live_blobs == 0 && !one.is_fixed { Fate::Drop } else { Fate::Keep };
    }
    let mut room_bytes = options.max_repack_bytes.unwrap_or(u64::MAX);
    for place in oldest_first(packs, &|one| one.is_open() && one.is_pinning) {
        take(&mut packs[place], &mut room_bytes);
    }
    choose_wasteful(options, total_bytes, packs, &mut room_bytes);
    for role in [Role::Data, Role::Metadata] {
        choose_small(role, total_bytes, packs, &mut room_bytes);
    }
}

/// The places of the packs that `wanted` picks, in the order in which the index learnt of them.
fn oldest_first(packs: &[Decided], wanted: &dyn Fn(&Decided) -> bool) -> Vec<usize> {
    let mut places: Vec<usize> = (0..packs.len()).filter(|place| wanted(&packs[*place])).collect();
    places.sort_unstable_by_key(|place| packs[*place].number);
    places
}

/// Where a blob has several places only the newest counts, and the shallowest. What is stored a second time was often lost
/// or damaged where it lay first, which nobody may know here. But a newer difference may hang, over others, on this very
/// blob: who stored it did not know what it hung on before. Where of each blob the shallowest place stays, what any
/// difference hangs on has a shallower place than itself, and nothing can ever hang on itself.
fn count_once(context: &Context, live: &LiveSet<'_>, packs: &mut [Decided]) -> Result<()> {
    let copies: u64 = packs.iter().map(|one| u64::from(one.live_blobs)).sum();
    if copies <= live.count() {
        return Ok(());
    }
    let mut copies: Vec<Lying> = Vec::new();
    let mut last = None;
    let mut ascending = live.ascending();
    context.index.each_entry(&mut |located| {
        if last != Some(located.id) {
            leave_out_copies(packs, &mut copies);
            last = Some(located.id);
        }
        let place = &located.place;
        if let (Some(pack), true) = (find(packs, &place.pack), ascending.contains(&located.id)?) {
            let share = u64::from(place.frame_length) * u64::from(place.length) / u64::from(place.raw_length.max(1));
            copies.push(Lying { pack, bytes: share, depth: place.depth() });
        }
        Ok(())
    })?;
    leave_out_copies(packs, &mut copies);
    Ok(())
}

/// Takes all places of one blob but those that count out of their packs' figures.
fn leave_out_copies(packs: &mut [Decided], copies: &mut Vec<Lying>) {
    let age = |copy: &Lying| (packs[copy.pack].written_ns, packs[copy.pack].number);
    let newest = copies.iter().copied().max_by_key(|copy| (age(copy), Reverse(copy.depth)));
    let shallowest = copies.iter().copied().min_by_key(|copy| (copy.depth, Reverse(age(copy))));
    let mut counted = Vec::new();
    for copy in copies.drain(..) {
        if (Some(copy) == newest || Some(copy) == shallowest) && !counted.contains(&copy) {
            counted.push(copy);
            continue;
        }
        let one = &mut packs[copy.pack];
        one.live_blobs = one.live_blobs.saturating_sub(1);
        one.live_bytes = one.live_bytes.saturating_sub(copy.bytes);
    }
}

/// One of the places of a blob: where its pack stands, its share of the frame there, and how deep it lies.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Lying {
    pack: usize,
    bytes: u64,
    depth: u32,
}

/// How much may stay unused of so much; none for any amount.
fn limit_bytes(options: &Options, total_bytes: u64) -> Option<u64> {
    match options.max_unused {
        MaxUnused::Percent(percent) => Some((total_bytes as f64 * percent.max(0.0) / 100.0) as u64),
        MaxUnused::Bytes(bytes) => Some(bytes),
        MaxUnused::Unlimited => None,
    }
}

/// The packs with the largest unused share, until what stays unused is within the bound. However little of a pack is
/// dead it may be chosen: a dead delta of a few bytes keeps its bases alive.
fn choose_wasteful(options: &Options, total_bytes: u64, packs: &mut [Decided], room_bytes: &mut u64) {
    let Some(limit_bytes) = limit_bytes(options, total_bytes) else { return };
    let mut unused: u64 = packs.iter().filter(|one| one.fate == Fate::Keep).map(Decided::unused_bytes).sum();
    let mut candidates: Vec<&mut Decided> =
        packs.iter_mut().filter(|one| one.is_open() && one.live_bytes < one.total_bytes).collect();
    let share = |one: &Decided| one.unused_bytes().saturating_mul(1 << 20) / one.size_bytes.max(1);
    candidates.sort_unstable_by_key(|one| (Reverse(share(one)), one.id));
    for one in candidates {
        if unused <= limit_bytes {
            return;
        }
        if take(one, room_bytes) {
            unused -= one.unused_bytes();
        }
    }
}

/// Small packs, when there are several: every night leaves some, and each costs a request and a file.
fn choose_small(role: Role, total_bytes: u64, packs: &mut [Decided], room_bytes: &mut u64) {
    let small_bytes = pack_writer::target_bytes(total_bytes) / SMALL_PART;
    let small = oldest_first(packs, &|one| one.role == role && one.size_bytes < small_bytes && one.is_open());
    if small.len() < SMALL_PACKS {
        return;
    }
    for place in small {
        take(&mut packs[place], room_bytes);
    }
}

/// Decides that a pack is rewritten, if there is room for it.
fn take(one: &mut Decided, room_bytes: &mut u64) -> bool {
    let fits = one.size_bytes <= *room_bytes;
    if fits {
        *room_bytes -= one.size_bytes;
        one.fate = Fate::Repack;
    }
    fits
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_pack_comes_back_from_a_sorted_file() {
        let pack = StoredPack { id: PackId([7; 32]), size_bytes: 1 << 40, stored_ns: -5, billed_until_ns: i64::MAX };
        let back = StoredPack::from_bytes(&pack.to_bytes());
        assert_eq!((back.id, back.size_bytes), (pack.id, 1 << 40));
        assert_eq!((back.stored_ns, back.billed_until_ns), (-5, i64::MAX));
    }
}
