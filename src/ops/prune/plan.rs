//! What may go: which blobs live, and what is to become of each pack.
//!
//! Alive is what a snapshot reaches, every base of what is alive, and every base of whatever lies in a pack that
//! stays, alive or not: a delta that cannot be decoded would poison the next one built on it. What only dead deltas keep
//! counts as unused: where it is too much, the packs that hold these deltas are rewritten without them. The set of
//! living ids is on disk; memory goes with packs and snapshots, not with blobs.

use super::super::{Context, Error, Result};
use super::{MaxUnused, Options};
use crate::base::monitor::Event;
use crate::base::{BlobId, Kind, PackId, SnapshotId};
use crate::format::pack::{BlobKind, Role};
use crate::format::tree::{HOLE, ListPiece, TreePiece};
use crate::repo;
use crate::repo::blob_reader::BlobReader;
use crate::repo::index::{LiveSet, PackUsage};
use crate::repo::pack_writer;
use crate::repo::snapshots::{self, Found};
use crate::repo::trees::{GetBlob, named};
use crate::store::Area;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

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
    /// Packs that stay, with when they were written, nanoseconds since 1970.
    pub kept: BTreeMap<PackId, i64>,
    /// Packs that go, with their sizes: nothing in them lives, or what does has another place.
    pub dropped: BTreeMap<PackId, u64>,
    /// Packs whose living blobs are copied before they go, with their sizes.
    pub repacked: BTreeMap<PackId, u64>,
    /// When these were written, nanoseconds since 1970.
    pub repacked_ns: BTreeMap<PackId, i64>,
    /// Packs that no segment names and, as far as times tell, no open session is about to name, with their sizes.
    pub orphaned: BTreeMap<PackId, u64>,
    /// Bytes in kept packs that nobody needs.
    pub unused_bytes: u64,
    /// Bytes in kept packs that only differences hang on which nobody needs, about.
    pub pinned_bytes: u64,
    /// Bytes of what is to be copied, about.
    pub copied_bytes: u64,
    /// Bytes of packs that stay.
    pub kept_bytes: u64,
    /// Bytes of packs that go before the time that their storage class is billed for at least.
    pub early_bytes: u64,
}

impl Plan<'_> {
    /// Whether a pack goes, in whatever way.
    pub fn goes(&self, pack: &PackId) -> bool {
        self.dropped.contains_key(pack) || self.repacked.contains_key(pack) || self.orphaned.contains_key(pack)
    }

    /// All packs that go, with their sizes.
    pub fn going(&self) -> impl Iterator<Item = (&PackId, &u64)> {
        self.dropped.iter().chain(&self.repacked).chain(&self.orphaned)
    }
}

/// A pack as the store lists it.
#[derive(Clone, Copy, Debug)]
pub struct StoredPack {
    /// Its size.
    pub size_bytes: u64,
    /// When the store received it, nanoseconds since 1970 by the store's clock.
    pub stored_ns: i64,
    /// Until when it is billed in any case, nanoseconds since 1970.
    pub billed_until_ns: i64,
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

/// All packs in the store.
pub fn stored_packs(context: &Context) -> Result<BTreeMap<PackId, StoredPack>> {
    let mut packs = BTreeMap::new();
    context.repository.store().list(Area::Packs, &mut |listed| {
        if let Ok(id) = listed.name.parse::<PackId>() {
            let stored_ns = listed.stored_at.as_nanosecond() as i64;
            let billed_until_ns = stored_ns.saturating_add(least_days(listed.class.as_deref()) * DAY_NS);
            packs.insert(id, StoredPack { size_bytes: listed.size_bytes, stored_ns, billed_until_ns });
        }
    })?;
    Ok(packs)
}

/// Makes a plan.
pub fn make<'i>(context: &'i Context, options: &Options, seen: &Seen) -> Result<Plan<'i>> {
    let stored = stored_packs(context)?;
    let mut live = context.index.begin_live()?;
    let (snapshots, snapshot_count) = mark_snapshots(context, &mut live, &seen.names)?;
    live.close_over_bases(&|_| false)?;
    let pinning = find_pinning(context, options, &live, &seen.held)?;
    let usages = decide_until_closed(context, options, &mut live, &pinning.packs, &seen.held)?;
    let known: BTreeSet<PackId> = usages.iter().map(|one| one.usage.pack.id).collect();
    check_present(&usages, &stored)?;
    let mut plan = Plan {
        condemned_seen: seen.condemned_seen,
        live,
        snapshots,
        snapshot_count,
        kept: BTreeMap::new(),
        dropped: BTreeMap::new(),
        repacked: BTreeMap::new(),
        repacked_ns: BTreeMap::new(),
        orphaned: BTreeMap::new(),
        unused_bytes: 0,
        pinned_bytes: 0,
        copied_bytes: 0,
        kept_bytes: 0,
        early_bytes: 0,
    };
    for Decided { usage, fate } in &usages {
        let size_bytes = stored.get(&usage.pack.id).map_or(0, |pack| pack.size_bytes);
        match fate {
            Fate::Keep => {
                plan.kept.insert(usage.pack.id, usage.pack.written_ns);
                plan.kept_bytes += size_bytes;
                plan.unused_bytes += unused_bytes(usage);
                let needed = pinning.needed_bytes.get(&usage.pack.id).copied().unwrap_or(0);
                plan.pinned_bytes += usage.live_bytes.saturating_sub(needed);
            }
            Fate::Drop => {
                plan.dropped.insert(usage.pack.id, size_bytes);
            }
            Fate::Repack => {
                plan.repacked.insert(usage.pack.id, size_bytes);
                plan.repacked_ns.insert(usage.pack.id, usage.pack.written_ns);
                plan.copied_bytes += usage.pack.size_bytes - unused_bytes(usage);
            }
        }
    }
    let orphaned = stored.iter().filter(|(id, pack)| !known.contains(*id) && pack.stored_ns < seen.since_ns);
    plan.orphaned = orphaned.map(|(id, pack)| (*id, pack.size_bytes)).collect();
    let now_ns = context.repository.now_ns();
    let billed_on = |pack: &&PackId| stored.get(pack).is_some_and(|pack| pack.billed_until_ns > now_ns);
    plan.early_bytes = plan.going().filter(|(pack, _)| billed_on(pack)).map(|(_, bytes)| bytes).sum();
    Ok(plan)
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
        match found? {
            Found::Snapshot(snapshot) => {
                seen.insert(id);
                count += 1;
                if let Some(missing) = context.missing_segments([&*snapshot])?.first() {
                    return Err(super::index_damaged(missing));
                }
                mark_beneath(context, &mut reader, live, snapshot.root, &mut |id| match context.index.contains(id)? {
                    true => Ok(()),
                    false => Err(missing(id)),
                })?;
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

/// What to say of a blob that is needed and that no pack has which counts.
pub fn missing(id: &BlobId) -> Error {
    let reason = "no pack that the index knows has it; nothing was deleted: run `keepstone verify`, then `keepstone \
                  rebuild-index`";
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

/// What is to become of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Keep,
    Drop,
    Repack,
}

struct Decided {
    usage: PackUsage,
    fate: Fate,
}

/// Decides, then adds the bases of all that stays, and decides again for packs that these bring back to life, until
/// nothing changes. What was once to be kept stays kept, so this ends.
fn decide_until_closed(
    context: &Context,
    options: &Options,
    live: &mut LiveSet<'_>,
    pinning: &BTreeSet<PackId>,
    held: &BTreeSet<PackId>,
) -> Result<Vec<Decided>> {
    let mut kept = held.clone();
    loop {
        context.check_stop()?;
        let decided = decide(context, options, live, &kept, pinning)?;
        let keep = decided.iter().filter(|one| one.fate == Fate::Keep).map(|one| one.usage.pack.id);
        let keep: BTreeSet<PackId> = keep.collect();
        let before = live.count();
        live.close_over_bases(&|pack| keep.contains(&pack.id))?;
        if live.count() == before {
            return Ok(decided);
        }
        kept = keep;
    }
}

/// What would stay only for differences that nobody needs.
struct Pinning {
    /// Packs to rewrite without such differences, and those with damaged blocks.
    packs: BTreeSet<PackId>,
    /// How much of each pack lives, not counting what such differences keep.
    needed_bytes: BTreeMap<PackId, u64>,
}

/// Finds the packs whose dead differences would keep more than may stay unused. Those that keep most for what rewriting
/// them costs come first; a base that another pack keeps too is found in the next round.
fn find_pinning(context: &Context, options: &Options, live: &LiveSet<'_>, held: &BTreeSet<PackId>) -> Result<Pinning> {
    // Whatever may stay unused: while they are there, every backup of this machine distrusts its parent.
    let mut found = Pinning { packs: context.index.damaged_packs()?, needed_bytes: BTreeMap::new() };
    found.packs.extend(&options.rewrite);
    for round in 0..=PINNING_ROUNDS {
        context.check_stop()?;
        let decided = decide(context, options, live, held, &found.packs)?;
        if round == 0 {
            found.needed_bytes = decided.iter().map(|one| (one.usage.pack.id, one.usage.live_bytes)).collect();
        }
        let total_bytes = decided.iter().map(|one| one.usage.pack.size_bytes).sum();
        let Some(limit_bytes) = limit_bytes(options, total_bytes) else { return Ok(found) };
        let kept = decided.iter().filter(|one| one.fate == Fate::Keep).map(|one| &one.usage);
        let sizes: BTreeMap<PackId, u64> = kept.clone().map(|usage| (usage.pack.id, usage.pack.size_bytes)).collect();
        let mut pinned: Vec<(PackId, u64)> =
            live.pinned_bytes(&|pack| sizes.contains_key(&pack.id))?.into_iter().collect();
        let mut waste: u64 = kept.map(unused_bytes).sum::<u64>() + pinned.iter().map(|(_, bytes)| bytes).sum::<u64>();
        if pinned.is_empty() || waste <= limit_bytes {
            return Ok(found);
        }
        let worth = |(pack, bytes): &(PackId, u64)| bytes.saturating_mul(1 << 20) / sizes[pack].max(1);
        pinned.sort_by_key(|one| (std::cmp::Reverse(worth(one)), one.0));
        for (pack, bytes) in pinned {
            if waste > limit_bytes || round == PINNING_ROUNDS {
                waste = waste.saturating_sub(bytes);
                found.packs.insert(pack);
            }
        }
    }
    Ok(found)
}

fn decide(
    context: &Context,
    options: &Options,
    live: &LiveSet<'_>,
    kept: &BTreeSet<PackId>,
    pinning: &BTreeSet<PackId>,
) -> Result<Vec<Decided>> {
    let mut usages = live.pack_usage()?;
    let copies: u64 = usages.iter().map(|usage| usage.live_blobs).sum();
    if copies > live.count() {
        count_once(context, live, &mut usages)?;
    }
    let total_bytes: u64 = usages.iter().map(|usage| usage.pack.size_bytes).sum();
    let mut decided: Vec<Decided> = usages
        .into_iter()
        .map(|usage| Decided { fate: if usage.live_blobs == 0 { Fate::Drop } else { Fate::Keep }, usage })
        .collect();
    for one in &mut decided {
        if kept.contains(&one.usage.pack.id) {
            one.fate = Fate::Keep;
        }
    }
    let mut room_bytes = options.max_repack_bytes.unwrap_or(u64::MAX);
    for one in &mut decided {
        let id = one.usage.pack.id;
        if one.fate == Fate::Keep
            && pinning.contains(&id)
            && !kept.contains(&id)
            && take_room(&one.usage, &mut room_bytes)
        {
            one.fate = Fate::Repack;
        }
    }
    choose_wasteful(options, total_bytes, kept, &mut decided, &mut room_bytes);
    for role in [Role::Data, Role::Metadata] {
        choose_small(role, total_bytes, kept, &mut decided, &mut room_bytes);
    }
    Ok(decided)
}

/// Where a blob has several places only the newest counts, and the shallowest. What is stored a second time was often lost
/// or damaged where it lay first, which nobody may know here. But a newer difference may hang, over others, on this very
/// blob: who stored it did not know what it hung on before. Where of each blob the shallowest place stays, what any
/// difference hangs on has a shallower place than itself, and nothing can ever hang on itself.
fn count_once(context: &Context, live: &LiveSet<'_>, usages: &mut [PackUsage]) -> Result<()> {
    let order: BTreeMap<PackId, usize> = usages.iter().enumerate().map(|(place, one)| (one.pack.id, place)).collect();
    let written: Vec<i64> = usages.iter().map(|usage| usage.pack.written_ns).collect();
    let mut copies: Vec<Lying> = Vec::new();
    let mut last = None;
    let mut settle = |copies: &mut Vec<Lying>| {
        let age = |copy: &Lying| (written[copy.pack], copy.pack);
        let newest = copies.iter().copied().max_by_key(|copy| (age(copy), Reverse(copy.depth)));
        let shallowest = copies.iter().copied().min_by_key(|copy| (copy.depth, Reverse(age(copy))));
        let mut counted = Vec::new();
        for copy in copies.drain(..) {
            if (Some(copy) == newest || Some(copy) == shallowest) && !counted.contains(&copy) {
                counted.push(copy);
                continue;
            }
            let usage = &mut usages[copy.pack];
            usage.live_blobs = usage.live_blobs.saturating_sub(1);
            usage.live_bytes = usage.live_bytes.saturating_sub(copy.bytes);
        }
    };
    context.index.each_entry(&mut |located| {
        if last != Some(located.id) {
            settle(&mut copies);
            last = Some(located.id);
        }
        let place = &located.place;
        if let (Some(number), true) = (order.get(&place.pack), live.contains(&located.id)?) {
            let share = u64::from(place.frame_length) * u64::from(place.length) / u64::from(place.raw_length.max(1));
            copies.push(Lying { pack: *number, bytes: share, depth: place.depth() });
        }
        Ok(())
    })?;
    settle(&mut copies);
    Ok(())
}

/// One of the places of a blob: the number of its pack, its share of the frame there, and how deep it lies.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Lying {
    pack: usize,
    bytes: u64,
    depth: u32,
}

/// Bytes of a pack that nobody needs, about.
fn unused_bytes(usage: &PackUsage) -> u64 {
    let share = usage.live_bytes as f64 / usage.total_bytes.max(1) as f64;
    (usage.pack.size_bytes as f64 * (1.0 - share.min(1.0))) as u64
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
fn choose_wasteful(
    options: &Options,
    total_bytes: u64,
    kept: &BTreeSet<PackId>,
    decided: &mut [Decided],
    room_bytes: &mut u64,
) {
    let Some(limit_bytes) = limit_bytes(options, total_bytes) else { return };
    let mut unused: u64 = decided.iter().filter(|one| one.fate == Fate::Keep).map(|one| unused_bytes(&one.usage)).sum();
    let mut candidates: Vec<&mut Decided> = decided
        .iter_mut()
        .filter(|one| one.fate == Fate::Keep && !kept.contains(&one.usage.pack.id))
        .filter(|one| one.usage.live_bytes < one.usage.total_bytes)
        .collect();
    let share = |usage: &PackUsage| unused_bytes(usage).saturating_mul(1 << 20) / usage.pack.size_bytes.max(1);
    candidates.sort_by_key(|one| (Reverse(share(&one.usage)), one.usage.pack.id));
    for one in candidates {
        if unused <= limit_bytes {
            return;
        }
        if take_room(&one.usage, room_bytes) {
            unused -= unused_bytes(&one.usage);
            one.fate = Fate::Repack;
        }
    }
}

/// Small packs, when there are several: every night leaves some, and each costs a request and a file.
fn choose_small(role: Role, total_bytes: u64, kept: &BTreeSet<PackId>, decided: &mut [Decided], room_bytes: &mut u64) {
    let small_bytes = pack_writer::target_bytes(total_bytes) / SMALL_PART;
    let is_small = |one: &Decided| {
        one.usage.pack.role == role
            && one.usage.pack.size_bytes < small_bytes
            && (one.fate == Fate::Keep && !kept.contains(&one.usage.pack.id))
    };
    if decided.iter().filter(|one| is_small(one)).count() < SMALL_PACKS {
        return;
    }
    for one in decided.iter_mut() {
        if is_small(one) && take_room(&one.usage, room_bytes) {
            one.fate = Fate::Repack;
        }
    }
}

fn take_room(usage: &PackUsage, room_bytes: &mut u64) -> bool {
    let fits = usage.pack.size_bytes <= *room_bytes;
    if fits {
        *room_bytes -= usage.pack.size_bytes;
    }
    fits
}

/// A pack that is needed and not there, or not as large as it was: what is left must not be touched.
fn check_present(usages: &[Decided], stored: &BTreeMap<PackId, StoredPack>) -> Result<()> {
    for Decided { usage, fate } in usages {
        let size_bytes = stored.get(&usage.pack.id).map(|pack| pack.size_bytes);
        if *fate == Fate::Drop || size_bytes == Some(usage.pack.size_bytes) {
            continue;
        }
        let state = size_bytes.map_or("gone".to_owned(), |bytes| format!("{bytes} bytes long"));
        return Err(Error::Repo(repo::Error::damaged(
            format!("packs/{}", usage.pack.id),
            format!(
                "it should have {} bytes with {} blobs that snapshots need, and is {state}; nothing was deleted: run \
                 `keepstone verify` to see what that concerns",
                usage.pack.size_bytes, usage.live_blobs
            ),
        )));
    }
    Ok(())
}
