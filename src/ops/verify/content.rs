//! The content of packs: every block that is needed is read, opened, decoded and named.

use super::super::fetch::{Fetch, Figures, Wanted};
use super::super::{Context, Error, Result};
use super::Depth;
use super::found::Found;
use super::packs::{Listed, each_there};
use crate::base::{Bits, BlobId, Event, PackId, random};
use crate::format::pack::Role;
use crate::repo;
use crate::repo::index::{LiveSet, Located, PackSummary, Place};
use std::sync::Arc;

/// Raw bytes of a window.
const WINDOW_BYTES: u64 = 48 << 20;
/// The same of a remote store, where the two ends of a window that lie in one pack cost a request each.
const REMOTE_WINDOW_BYTES: u64 = 1 << 30;
/// Blobs of a window: their places lie in memory.
const WINDOW_BLOBS: usize = 32 << 10;

/// What was read.
pub(super) struct Read {
    pub packs: u64,
    pub figures: Figures,
}

/// Reads the content of the packs that `depth` asks for.
pub(super) fn read(
    context: &Context,
    depth: Depth,
    listed: &Listed,
    live: &LiveSet<'_>,
    found: &Arc<Found>,
) -> Result<Read> {
    let chosen = choose(context, depth, listed)?;
    let wanted = |pack: &PackSummary| listed.position(&pack.id).is_some_and(|place| chosen.get(place));
    let sizes = listed.iter().enumerate().filter(|(place, _)| chosen.get(*place)).map(|(_, (_, size))| size);
    context.monitor.event(Event::Total { items: chosen.count(), bytes: sizes.sum(), complete: true });
    let mut windows = Windows::begin(context, found)?;
    let mut each = |_: &PackId, located: &Located| windows.add(located);
    let walked = live.each_live_by_pack(&wanted, &mut each);
    // Why the windows stopped says more than that they did.
    windows.failure.take().map_or(Ok(()), Err)?;
    walked?;
    let figures = windows.finish()?;
    Ok(Read { packs: chosen.count(), figures })
}

/// The places of the packs whose content is read. Trees and lists were read already, but not those that nobody needs.
fn choose(context: &Context, depth: Depth, listed: &Listed) -> Result<Bits> {
    let mut places: Vec<usize> = Vec::new();
    each_there(context, listed, &mut |place, pack| places.extend((pack.role == Role::Data).then_some(place)))?;
    if let Depth::Sample(percent) = depth {
        let count = (places.len() as f64 * percent / 100.0).ceil() as usize;
        places.sort_by_cached_key(|_| random::bytes::<8>());
        places.truncate(count);
    }
    Ok(places.into_iter().collect())
}

struct Windows<'c> {
    context: &'c Context,
    fetch: Fetch<BlobId>,
    placed: Vec<(Place, Wanted<BlobId>)>,
    bytes: u64,
    limit_bytes: u64,
    failure: Option<Error>,
}

impl<'c> Windows<'c> {
    fn begin(context: &'c Context, found: &Arc<Found>) -> Result<Windows<'c>> {
        let limit_bytes = if context.repository.store().is_remote() { REMOTE_WINDOW_BYTES } else { WINDOW_BYTES };
        let fetch = Fetch::begin(context, found.clone())?;
        Ok(Windows { context, fetch, placed: Vec::new(), bytes: 0, limit_bytes, failure: None })
    }

    fn add(&mut self, located: &Located) -> repo::Result<()> {
        let (id, length) = (located.id, u64::from(located.place.length));
        self.bytes += length;
        self.placed.push((located.place.clone(), Wanted { id, length, uses: id }));
        if self.bytes < self.limit_bytes && self.placed.len() < WINDOW_BLOBS {
            return Ok(());
        }
        self.bytes = 0;
        let placed = std::mem::take(&mut self.placed);
        let read = self.context.check_stop().and_then(|()| self.fetch.placed_window(placed));
        read.map_err(|error| {
            self.failure = Some(error);
            repo::Error::Internal("reading was stopped".to_owned())
        })
    }

    fn finish(mut self) -> Result<Figures> {
        self.fetch.placed_window(self.placed)?;
        self.fetch.finish()
    }
}
