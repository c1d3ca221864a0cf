//! Repair: what is damaged is made anew from whatever still has it.
//!
//! ```text
//! plan    what is damaged, what mends each, and which snapshots and files stay hurt
//! apply   for each: written aside and proven; the damaged one into quarantine; the good one in its place; read back
//!         then what was noted down as damaged is forgotten, and read anew
//! ```
//!
//! The sources of truth, in this order: the pack's parity sidecar; the second copy of what lies there twice, or of a blob
//! in another pack; another repository; the original files. Nothing counts that does not have its name, and nothing is
//! deleted. What nothing mends is recorded ([`crate::repo::damage`]): it is unknown from then on, to every machine, so the
//! next backup stores it anew.
//!
//! What a crash after each line leaves:
//!
//! | after | there is |
//! | --- | --- |
//! | written aside | the damaged object, as it was |
//! | the damaged one in quarantine | the same, and a copy of it |
//! | the good one in its place | a whole object; this machine still holds it for damaged until it is looked at again |
//! | what is lost stored anew | packs and a segment, as an interrupted backup leaves them |
//! | noted down | all is done |

mod apply;
mod examine;
mod find;
mod heal;

pub use apply::{Applied, Mended, apply};
pub use heal::Healed;

use super::prune::stored_among;
use super::verify::{self, Damage, HurtSnapshot, Lost};
use super::{Context, Error, Result};
use crate::base::{Event, PackId};
use crate::crypto::slots::Unlock;
use crate::repo::index::Opened;
use crate::repo::ledger::News;
use crate::repo::{Repository, twice};
use crate::store::{Area, Key};
use std::collections::{BTreeMap, BTreeSet};

/// Where to look for damage, and for what mends it.
#[derive(Clone, Copy, Default)]
pub struct Options<'f> {
    /// Read all packs and sidecars, not only those that are known to be damaged.
    pub all: bool,
    /// Another repository: a mirror of this one, or one that names content alike.
    pub from: Option<&'f Context>,
    /// Look also at the files that were backed up on this machine, where they still lie.
    pub files: bool,
}

impl<'f> Options<'f> {
    /// The other repository, if it is a mirror of this one.
    fn mirror(&self, context: &Context) -> Option<&'f Context> {
        self.from.filter(|from| from.repository.id() == context.repository.id())
    }
}

/// What mends an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Its parity sidecar makes so many cells anew.
    Parity {
        /// Cells that are damaged.
        cells: u64,
    },
    /// The other repository has it, byte for byte.
    Mirror,
    /// Its other copy.
    Copy,
    /// It is made anew from its pack, which is whole.
    FromPack,
    /// Nothing needs it: it is set aside.
    Aside,
    /// Its bytes are whole: what was noted down against it is looked at once more.
    Again,
    /// Nothing that was asked has it.
    Nothing,
}

/// Something damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The object.
    pub key: Key,
    /// What is wrong with it, or why nothing mends it.
    pub reason: String,
    /// What mends it.
    pub way: Way,
}

/// What is damaged and what can be done.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Packs that were read.
    pub packs_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// What is damaged, packs first.
    pub items: Vec<Item>,
    /// Blobs that nothing in the repository gives any more.
    pub blobs_lost: u64,
    /// Of those, blobs that can be stored anew.
    pub healed: Healed,
    /// What stays damaged if this is carried out, with the files that it hurts.
    pub damages: Vec<Damage>,
    /// Snapshots that stay hurt.
    pub hurt: Vec<HurtSnapshot>,
    /// Key slots and epochs that come back from the other repository.
    returned: BTreeMap<Key, Vec<u8>>,
}

impl Item {
    /// The pack, if it is one.
    pub fn pack(&self) -> Option<PackId> {
        self.key.name().parse().ok().filter(|_| self.key.area() == Area::Packs)
    }
}

impl Plan {
    /// Whether anything is damaged.
    pub fn is_damage(&self) -> bool {
        self.items.iter().any(|item| item.way != Way::Again)
    }

    /// Whether every object is whole if this is carried out.
    pub fn mends_all(&self) -> bool {
        self.items.iter().all(|item| item.way != Way::Nothing)
    }

    /// Whether every file of every snapshot can be restored if this is carried out.
    pub fn saves_all(&self) -> bool {
        let others = self.items.iter().filter(|item| item.way == Way::Nothing && item.pack().is_none());
        others.count() == 0 && self.hurt.is_empty()
    }

    /// The packs that some item is about, and the way.
    fn packs(&self) -> impl Iterator<Item = (PackId, &Way)> {
        self.items.iter().filter_map(|item| Some((item.pack()?, &item.way)))
    }
}

/// Looks for damage and for what mends it. Nothing in the store is changed. `secret` is what opened the repository: it shows
/// which of two copies of its own slot is right.
pub fn plan(context: &Context, options: &Options<'_>, secret: &Unlock) -> Result<Plan> {
    let returned = returned(context, options, secret)?;
    let (_session, opened) = context.read_session("repair plan")?;
    make(context, options, secret, (&opened, returned))
}

/// What of keys is lost here and comes back from a mirror. From here on what is sealed under them can be read.
fn returned(context: &Context, options: &Options<'_>, secret: &Unlock) -> Result<BTreeMap<Key, Vec<u8>>> {
    check_source(context, options)?;
    let Some(from) = options.mirror(context) else { return Ok(BTreeMap::new()) };
    let returned = twice::lost_here(&context.repository, &from.repository, secret)?;
    twice::learn(&context.repository, &returned)?;
    Ok(returned)
}

fn make(
    context: &Context,
    options: &Options<'_>,
    secret: &Unlock,
    (opened, returned): (&Opened, BTreeMap<Key, Vec<u8>>),
) -> Result<Plan> {
    let item = |key: &Key| {
        let reason = format!("neither {key} nor its copy is there and makes sense");
        Item { key: key.clone(), reason, way: Way::Mirror }
    };
    let mut plan = Plan { items: returned.keys().map(item).collect(), returned, ..Plan::default() };
    find::packs(context, options, &mut plan)?;
    find::small_objects(context, options, (opened, secret), &mut plan)?;
    let lost: BTreeSet<PackId> = plan.packs().filter(|(_, way)| **way == Way::Nothing).map(|(pack, _)| pack).collect();
    if !lost.is_empty() {
        let (mut lost, _) = lost_in(context, &lost)?;
        plan.blobs_lost = lost.len() as u64;
        plan.healed = heal::look(context, options, &mut lost)?;
        context.monitor.event(Event::Phase("looking for the files that stay hurt"));
        let left = verify::hurt_by(context, &lost)?;
        (plan.damages, plan.hurt) = (left.damages, left.hurt);
    }
    Ok(plan)
}

/// Reads what is left of these packs and notes down what cannot be read; gives what is lost.
fn lost_in(context: &Context, packs: &BTreeSet<PackId>) -> Result<(Lost, News)> {
    verify::lost_with(context, &stored_among(context, &|pack| packs.contains(pack))?)
}

/// Refuses another repository that cannot have anything of this one.
fn check_source(context: &Context, options: &Options<'_>) -> Result<()> {
    let Some(from) = options.from else { return Ok(()) };
    if from.repository.id() == context.repository.id() {
        return Ok(());
    }
    if shares_names(&context.repository, &from.repository) {
        return Ok(());
    }
    let place = from.repository.store().location();
    Err(Error::Refused(format!(
        "{place} is another repository with keys of its own, so it calls the same content by other names and has nothing \
         that can be used here: name a mirror of this one, or one that was made with `init --from`. Nothing was changed"
    )))
}

/// Whether both call the same content by the same names.
fn shares_names(one: &Repository, other: &Repository) -> bool {
    let probe = b"the same names?";
    one.keyring().naming().blob_id(probe) == other.keyring().naming().blob_id(probe)
}
