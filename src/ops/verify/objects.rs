//! The small objects: config, key slots, epochs, and the records of sessions, prunes and runs. Of what has two copies
//! each is read, for the second one is needed when the first is not there.

use super::super::{Context, Result};
use super::found::Found;
use super::told::Told;
use crate::base::{Kind, Timestamp, counted};
use crate::crypto::RootKey;
use crate::crypto::names;
use crate::format::cbor::Cbor;
use crate::format::config;
use crate::format::envelope::{self, ObjectKind};
use crate::format::keys::{Epoch, MAX_EPOCH_BYTES, MAX_SLOT_BYTES, Slot};
use crate::format::run::Run;
use crate::format::session::{Condemned, End, Seen, Session};
use crate::repo::ahead::{Ahead, each_ahead};
use crate::repo::{Error, damage, epochs, history, ledger, twice};
use crate::store::{Area, Key, ObjectStore};
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

/// What the second copy of an object is called besides.
const COPY: &str = ".copy";
/// What mends one copy with the other.
const REPAIR: &str = ": run `keepstone key repair`";
/// The most records of one area that are looked at.
const MOST_RECORDS: usize = 5000;
/// The most bytes that any record has.
const RECORD_BYTES: u64 = 64 << 20;

/// Reads config, slots and epochs.
pub(super) fn check(context: &Context, found: &Found) -> Result<()> {
    let ahead = Ahead::new(&**context.repository.store());
    let configs = ["config", "config.copy"].map(|name| Key::new(Area::Config, name));
    ahead.ask(&configs.clone().map(|key| (key, config::MAX_BYTES as u64)), &[Area::Keys, Area::Epochs]);
    for key in &configs {
        check_one(context, &ahead, key, found, config::MAX_BYTES, &|context, bytes| {
            let stored = config::decode(bytes)?;
            stored.prove(root_of(context)?)
        })?;
    }
    check_area(context, &ahead, Area::Keys, found, MAX_SLOT_BYTES, &|_, bytes| Slot::decode(bytes).map(drop))?;
    check_epochs(context, &ahead, found)
}

/// Reads epochs, and finds those of which only a later one still holds the keys.
fn check_epochs(context: &Context, ahead: &Ahead<'_>, found: &Found) -> Result<()> {
    let (read, held) = (RefCell::new(BTreeSet::new()), RefCell::new(BTreeSet::new()));
    let open = |context: &Context, bytes: &[u8]| {
        if let Some(epoch) = open_epoch(context, bytes)? {
            held.borrow_mut().extend(epochs::ids_held_by(&epoch, root_of(context)?));
            read.borrow_mut().insert(epoch.id);
        }
        Ok(())
    };
    check_area(context, ahead, Area::Epochs, found, MAX_EPOCH_BYTES, &open)?;
    for id in held.take().difference(&read.take()) {
        let key = epochs::epoch_key(*id);
        let message = format!("neither {key} nor its copy can be read: a later epoch still holds its keys{REPAIR}");
        found.object(&key.to_string(), &message);
    }
    Ok(())
}

/// What the newest run records tell of snapshots. What cannot be read tells nothing: `verify` names it.
pub(super) fn tell(context: &Context) -> Result<Told> {
    let (mut told, mut keys) = (Told::default(), Vec::new());
    let store = &**context.repository.store();
    store.list(Area::Runs, &mut |listed| {
        if !listed.name.ends_with(".ledger") {
            keys.push((Reverse(listed.stored_at), Key::new(Area::Runs, listed.name)));
        }
    })?;
    let keys = newest(keys);
    each_ahead(store, &keys, RECORD_BYTES, |store, key| match read_record(context, store, key, &mut told) {
        Err(error) if !matches!(error.kind(), Kind::NotFound | Kind::Damaged | Kind::Unsupported) => Err(error),
        _ => Ok(()),
    })?;
    Ok(told)
}

/// The newest of them: where nobody prunes, run records pile up.
fn newest(mut listed_keys: Vec<(Reverse<Timestamp>, Key)>) -> Vec<Key> {
    listed_keys.sort();
    listed_keys.into_iter().take(MOST_RECORDS).map(|(_, key)| key).collect()
}

/// Reads what sessions, prunes and runs left. No snapshot hangs on it, but prune waits for a session that it cannot read,
/// and history is history.
pub(super) fn records(context: &Context, found: &Found) -> Result<Told> {
    let mut told = Told::default();
    let remedies = [
        (
            Area::Sessions,
            "it marks a session; nothing is lost with it, and the first prune a day after it was stored clears it",
        ),
        (Area::Condemned, "run `keepstone rebuild-index`, which takes it back"),
        (
            Area::Runs,
            "it records what was done or read back once, and no snapshot needs it; `keepstone repair apply` sets it aside",
        ),
        (
            Area::Damage,
            "it records what cannot be read in a pack; `keepstone repair apply --all` finds that again and sets it aside",
        ),
    ];
    let store = &**context.repository.store();
    let listings = Ahead::new(store);
    listings.list_now(&remedies.map(|(area, _)| area));
    for (area, remedy) in remedies {
        let mut listed_keys = Vec::new();
        listings.list(area, &mut |listed| {
            listed_keys.push((Reverse(listed.stored_at), Key::new(area, listed.name)));
        })?;
        let rest = listed_keys.len().saturating_sub(MOST_RECORDS);
        if rest > 0 {
            found.note(format!(
                "{} in {} not looked at: the next prune puts older runs together",
                counted(rest as u64, "older record"),
                area.name()
            ));
        }
        let keys = newest(listed_keys);
        found.looked_at(keys.len() as u64);
        let mut stopped = Ok(());
        each_ahead(store, &keys, RECORD_BYTES, |store, key| {
            stopped = context.check_stop();
            if stopped.is_err() {
                return Err(Error::Refused("interrupted".to_owned()));
            }
            match read_record(context, store, key, &mut told) {
                // Cleared since it was listed.
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Unsupported) => {
                    found.object(&key.to_string(), &error.advising(remedy));
                }
                read => read?,
            }
            Ok(())
        })
        .or_else(|error| std::mem::replace(&mut stopped, Ok(())).and(Err(error.into())))?;
    }
    Ok(told)
}

/// Records in an area whose bytes are damaged, and what is wrong with each. For want of an epoch one only cannot be opened.
pub(in super::super) fn damaged_records(context: &Context, area: Area) -> Result<Vec<(Key, String)>> {
    let (mut keys, mut damaged) = (Vec::new(), Vec::new());
    let store = &**context.repository.store();
    store.list(area, &mut |listed| keys.push((Reverse(listed.stored_at), Key::new(area, listed.name))))?;
    each_ahead(store, &newest(keys), RECORD_BYTES, |store, key| {
        match read_record(context, store, key, &mut Told::default()) {
            Err(error) if error.kind() == Kind::Damaged && !matches!(error, Error::UnknownKey { .. }) => {
                damaged.push((key.clone(), error.to_string()));
                Ok(())
            }
            Err(error) if !matches!(error.kind(), Kind::NotFound | Kind::Damaged | Kind::Unsupported) => Err(error),
            _ => Ok(()),
        }
    })?;
    Ok(damaged)
}

/// Reads one of them; names that nobody gives are passed over.
fn read_record(context: &Context, store: &dyn ObjectStore, key: &Key, told: &mut Told) -> crate::repo::Result<()> {
    let (name, ending) = key.name().split_once('.').unwrap_or((key.name(), ""));
    match (key.area(), ending) {
        (Area::Sessions, "") => record(context, store, key, ObjectKind::Session, name, |session: Session| session.id),
        (Area::Sessions, "seen") => record(context, store, key, ObjectKind::Seen, name, |seen: Seen| seen.session),
        (Area::Sessions, "end") => record(context, store, key, ObjectKind::End, name, |end: End| end.session),
        (Area::Condemned, "" | "done" | "spared") => {
            record(context, store, key, ObjectKind::Condemned, name, |record: Condemned| {
                format!("{:010}", record.number)
            })
        }
        (Area::Runs, "ledger") => {
            let object = store.get(key, ObjectKind::Ledger.max_bytes() as u64)?;
            ledger::open(&context.repository, key, object).map(drop)
        }
        (Area::Runs, "history") => {
            let object = store.get(key, ObjectKind::History.max_bytes() as u64)?;
            history::open(&context.repository, key, object)?.runs.iter().for_each(|run| told.take(run));
            Ok(())
        }
        (Area::Damage, _) if damage::pack_of(key.name()).is_some() => {
            damage::load(store, context.repository.keyring(), key.name()).map(drop)
        }
        (Area::Runs, "") => record(context, store, key, ObjectKind::Run, name, |run: Run| {
            told.take(&run);
            run.id
        }),
        _ => Ok(()),
    }
}

fn record<T: Cbor, N: ToString>(
    context: &Context,
    store: &dyn ObjectStore,
    key: &Key,
    kind: ObjectKind,
    name: &str,
    own_name: impl FnOnce(T) -> N,
) -> crate::repo::Result<()> {
    let object = store.get(key, kind.max_bytes() as u64)?;
    let record = context.repository.keyring().load(kind, object, key)?;
    match own_name(record).to_string() == name {
        true => Ok(()),
        false => Err(Error::damaged(key, "it is the record of another name")),
    }
}

type Check<'c> = dyn Fn(&Context, &[u8]) -> Result<(), crate::format::Error> + 'c;

fn check_area(
    context: &Context,
    ahead: &Ahead<'_>,
    area: Area,
    found: &Found,
    limit_bytes: usize,
    check: &Check<'_>,
) -> Result<()> {
    let (mut names, mut strangers) = (Vec::new(), Vec::new());
    ahead.list(area, &mut |listed| {
        let is_ours = twice::plain_name(area, &listed.name).is_some();
        if is_ours { &mut names } else { &mut strangers }.push(listed.name);
    })?;
    if let Some(stranger) = strangers.first() {
        let more = if strangers.len() > 1 { format!(" and {} more", strangers.len() - 1) } else { String::new() };
        found.note(format!(
            "{}/{stranger}{more}: keepstone gives no such names there, so what lies under them was passed over",
            area.folder()
        ));
    }
    let all: Vec<_> = names.iter().map(|name| (Key::new(area, name), limit_bytes as u64)).collect();
    ahead.ask(&all, &[]);
    // What each of them reads as, by its hash: it is compared with its copy, which may come much later.
    let mut read = HashMap::new();
    for (key, _) in &all {
        read.insert(key.name(), check_one(context, ahead, key, found, limit_bytes, check)?);
    }
    for name in &names {
        let other = match name.strip_suffix(COPY) {
            Some(first) => first.to_owned(),
            None => format!("{name}{COPY}"),
        };
        match (read.get(name.as_str()), read.get(other.as_str())) {
            (_, None) => {
                let key = Key::new(area, &other);
                found.object(&key.to_string(), &format!("{key} is not there: only the other copy is left{REPAIR}"));
            }
            // A slot opens only with its secret, so damage that leaves it well formed shows by its copy alone. What
            // cannot be read has been told already.
            (Some(Some(first)), Some(Some(second))) if first != second && !name.ends_with(COPY) => {
                let (key, copy) = (Key::new(area, name), Key::new(area, &other));
                let message = format!("{key} and {copy} differ: one of them is damaged, the other is used{REPAIR}");
                found.object(&key.to_string(), &message);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads and checks one of them; gives the hash of what was read.
fn check_one(
    context: &Context,
    store: &dyn ObjectStore,
    key: &Key,
    found: &Found,
    limit_bytes: usize,
    check: &Check<'_>,
) -> Result<Option<[u8; 32]>> {
    let read = store.get(key, limit_bytes as u64);
    let hash = read.as_ref().ok().map(|bytes| names::hash(bytes));
    let checked = match read {
        Ok(bytes) => check(context, &bytes).map_err(Error::object(key)),
        Err(error) => Err(error.into()),
    };
    found.looked_at(1);
    match checked {
        Ok(()) => Ok(hash),
        // A newer version is what a damaged header looks like: those who wrote it would have raised the config's.
        Err(error) if super::super::fetch::is_damage(&error) || error.kind() == Kind::Unsupported => {
            found.object(&key.to_string(), &format!("{error}{REPAIR}"));
            Ok(hash)
        }
        Err(error) => Err(error.into()),
    }
}

/// The root key. Who has none cannot verify, and was refused before.
fn root_of(context: &Context) -> Result<&RootKey, crate::format::Error> {
    context.repository.keyring().root().map_err(|_| crate::format::Error::Forged { what: "config" })
}

/// An epoch of another root key belongs to a root that was rotated away.
fn open_epoch(context: &Context, bytes: &[u8]) -> Result<Option<Epoch>, crate::format::Error> {
    let root = root_of(context)?;
    let header = envelope::peek(bytes, ObjectKind::Epoch)?;
    if header.key != root.key_id() {
        return Ok(None);
    }
    let content = envelope::open(bytes.to_vec(), &header, context.repository.id(), &root.epoch_key())?;
    Epoch::from_cbor(&content, "key epoch").map(Some)
}
