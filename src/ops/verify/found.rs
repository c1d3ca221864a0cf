//! What a verify has found so far.

use super::super::Context;
use super::super::fetch::Sink;
use super::{Damage, HurtFile, HurtSnapshot, Outcome, Tally};
use crate::base::monitor::Silent;
use crate::base::{BlobId, Event, Kind, Monitor, PackId, Problem, SnapshotId, SortedSet};
use crate::repo::Error;
use crate::repo::ledger::News;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most damages that are kept; all are counted and told to the onlooker.
const MAX_DAMAGES: usize = 1000;
/// The most blobs that are remembered in order to find the files that they hurt.
const MAX_BLOBS: usize = 200_000;
/// The most files that are named for one damage.
const MAX_FILES: usize = 100;

/// Damages, and the blobs that cannot be read for them.
pub(in super::super) struct Found {
    monitor: Arc<dyn Monitor>,
    state: Mutex<State>,
    blobs_read: AtomicU64,
}

#[derive(Default)]
struct State {
    damages: Vec<Damage>,
    count: u64,
    /// Where a damage with this message stands.
    places: HashMap<String, usize>,
    /// Blobs that cannot be read, with their damage.
    blobs: HashMap<BlobId, usize>,
    blobs_left_out: bool,
    notes: Vec<String>,
    tally: Tally,
    /// Files and directories that are hurt, by snapshot.
    hurt: BTreeMap<SnapshotId, u64>,
    /// Packs that were read to their last byte.
    packs: Vec<PackId>,
    /// Packs whose bytes or directories are damaged.
    altered: Vec<PackId>,
}

impl Found {
    pub fn new(context: &Context) -> Found {
        Found { monitor: context.monitor.clone(), state: Mutex::default(), blobs_read: AtomicU64::new(0) }
    }

    /// One that tells nobody: who asks reports in another way.
    pub fn silent() -> Found {
        Found { monitor: Arc::new(Silent), state: Mutex::default(), blobs_read: AtomicU64::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object is damaged. Told once for each message.
    pub fn object(&self, object: &str, message: &str) {
        let mut state = self.state();
        let before = state.count;
        self.place(&mut state, object, message);
        state.tally.objects_damaged += state.count - before;
    }

    /// So many objects were looked at.
    pub fn looked_at(&self, objects: u64) {
        self.state().tally.objects += objects;
    }

    /// So many trees and lists were read.
    pub fn walked(&self, blobs: u64) {
        self.state().tally.blobs += blobs;
    }

    /// A pack was read to its last byte, and has its name or not.
    pub fn pack(&self, id: PackId, is_whole: bool) {
        let state = &mut *self.state();
        if is_whole { &mut state.packs } else { &mut state.altered }.push(id);
    }

    /// The packs that were read to their last byte, whole or not.
    pub fn packs_read(&self) -> SortedSet<PackId> {
        let state = self.state();
        state.packs.iter().chain(&state.altered).copied().collect()
    }

    /// What was read of packs, and which snapshots are hurt.
    pub fn news(&self) -> News {
        let state = self.state();
        News {
            packs: state.packs.clone(),
            damaged: state.altered.clone(),
            hurt: state.hurt.keys().copied().collect(),
            ..News::default()
        }
    }

    /// Whether all that is hurt is known: neither damages nor blobs were left out.
    pub fn is_complete(&self) -> bool {
        let state = self.state();
        !state.blobs_left_out && state.count <= MAX_DAMAGES as u64
    }

    fn place(&self, state: &mut State, object: &str, message: &str) -> Option<usize> {
        if let Some(place) = state.places.get(message) {
            return Some(*place);
        }
        self.monitor.event(Event::Problem(&Problem::new(object, message, Kind::Damaged)));
        state.count += 1;
        if state.damages.len() >= MAX_DAMAGES {
            return None;
        }
        let place = state.damages.len();
        state.places.insert(message.to_owned(), place);
        let (object, message) = (object.to_owned(), message.to_owned());
        state.damages.push(Damage { object, message, ..Damage::default() });
        Some(place)
    }

    /// A blob cannot be read at all.
    pub fn blob(&self, id: &BlobId, error: &Error) {
        let mut state = self.state();
        let message = error.to_string();
        let Some(place) = self.place(&mut state, &format!("blob {id}"), &message) else {
            state.tally.blobs_damaged += 1;
            return;
        };
        state.damages[place].is_lost = matches!(error, Error::Missing(_));
        if state.blobs.len() < MAX_BLOBS {
            let is_new = state.blobs.insert(*id, place).is_none();
            state.tally.blobs_damaged += u64::from(is_new);
        } else {
            state.blobs_left_out = true;
            state.tally.blobs_damaged += 1;
        }
    }

    /// Whether there are blobs that cannot be read.
    pub fn any_blob(&self) -> bool {
        !self.state().blobs.is_empty()
    }

    /// Which damage a blob suffers from.
    pub fn damage_of(&self, id: &BlobId) -> Option<usize> {
        self.state().blobs.get(id).copied()
    }

    /// One more file or directory of a snapshot is hurt, by however many damages.
    pub fn hurt_one(&self, snapshot: SnapshotId) {
        *self.state().hurt.entry(snapshot).or_default() += 1;
    }

    /// A file that a damage hurts.
    pub fn hurt(&self, damage: usize, snapshot: SnapshotId, path: &[u8]) {
        let state = &mut *self.state();
        let Some(damage) = state.damages.get_mut(damage) else { return };
        *damage.snapshots.entry(snapshot).or_default() += 1;
        damage.file_count += 1;
        if damage.files.len() < MAX_FILES {
            damage.files.push(HurtFile { snapshot, path: path.to_vec() });
        }
    }

    /// Keeps a note for the outcome and tells it.
    pub fn note(&self, note: String) {
        self.monitor.event(Event::Note(&note));
        self.state().notes.push(note);
    }

    pub fn blobs_read(&self) -> u64 {
        self.blobs_read.load(Ordering::Relaxed)
    }

    /// Moves everything into the outcome.
    pub fn hand_over(&self, outcome: &mut Outcome) {
        let state = std::mem::take(&mut *self.state());
        outcome.damage_count = state.count;
        outcome.damage = state.count > 0;
        outcome.damages = state.damages;
        outcome.notes.extend(state.notes);
        outcome.tally = state.tally;
        let read = self.blobs_read();
        outcome.tally.blobs += read + state.tally.blobs_damaged;
        outcome.hurt = state.hurt.into_iter().map(|(id, files)| HurtSnapshot { id, files }).collect();
        if state.blobs_left_out {
            let note = "so many blobs are damaged that not every file that is hurt was looked for";
            outcome.notes.push(note.to_owned());
        }
    }
}

/// Counts what can be read and remembers what cannot.
impl Sink<BlobId> for Found {
    fn take(&self, id: BlobId, blob: Result<&[u8], &Error>) {
        match blob {
            Ok(bytes) => {
                self.blobs_read.fetch_add(1, Ordering::Relaxed);
                self.monitor.event(Event::Done { items: 1, bytes: bytes.len() as u64 });
            }
            Err(error) => self.blob(&id, error),
        }
    }

    /// Another copy may do, but this one is damaged all the same.
    fn damaged(&self, id: &BlobId, error: &Error) {
        self.place(&mut self.state(), &format!("blob {id}"), &error.to_string());
    }
}
