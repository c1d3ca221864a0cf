//! A part of the packs in its turn: those first that were read longest ago, so that one part after the other is all of
//! them in a number of nights that is known.

use super::super::fetch::Figures;
use super::super::{Context, Result};
use super::Coverage;
use super::content::Read;
use super::found::Found;
use super::full;
use super::packs::{Listed, each_there};
use crate::base::clock::Stopwatch;
use crate::repo::ledger::Known;
use std::sync::Arc;
use std::time::Duration;

/// How much is read before it is known how fast that goes: the first batch of a run that has only so much time.
const FIRST_BATCH_BYTES: u64 = 512 << 20;

/// How much is read of all packs; as far as more is said than one thing, the least of it. One pack is read in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// So many bytes at most.
    pub most_bytes: Option<u64>,
    /// So many of so many parts, at least: 1 and 30 for all in thirty nights.
    pub share: Option<(u32, u32)>,
    /// For so many seconds, counted from the beginning of the run.
    pub most_seconds: Option<u64>,
}

impl Part {
    /// How many of packs with these sizes, in their turn, are read at once of `total` bytes in all.
    fn count(&self, sizes: &[u64], total: u64) -> usize {
        let share = self.share.map(|(parts, of)| {
            let bytes = (u128::from(total) * u128::from(parts)).div_ceil(u128::from(of.max(1)));
            u64::try_from(bytes).unwrap_or(u64::MAX)
        });
        let (mut sum, mut count) = (0u64, 0);
        for size in sizes {
            let after = sum.saturating_add(*size);
            let exceeds = self.most_bytes.is_some_and(|most| after > most);
            // A share is rounded up: what is read in so many nights has to be all.
            if count > 0 && (exceeds || share.is_some_and(|least| sum >= least)) {
                break;
            }
            (sum, count) = (after, count + 1);
        }
        count
    }

    /// In how many runs all of these are read.
    fn nights(&self, mut sizes: &[u64]) -> u64 {
        let total = sizes.iter().sum();
        let mut nights = 0;
        while !sizes.is_empty() {
            sizes = &sizes[self.count(sizes, total)..];
            nights += 1;
        }
        nights
    }
}

/// The places among those `listed` of the packs in their turn: those that were never read in the order in which they were
/// written, then those that were read longest ago.
fn in_turn(context: &Context, listed: &Listed, known: &Known) -> Result<Vec<usize>> {
    let mut packs = Vec::new();
    each_there(context, listed, &mut |place, pack| {
        packs.push(match known.read_ns(&pack.id) {
            None => (false, pack.written_ns, place),
            Some(read_ns) => (true, read_ns, place),
        });
    })?;
    packs.sort_unstable();
    Ok(packs.into_iter().map(|(.., place)| place).collect())
}

fn sizes(listed: &Listed, places: &[usize]) -> Vec<u64> {
    places.iter().filter_map(|place| listed.at(*place)).map(|(_, size_bytes)| *size_bytes).collect()
}

/// Reads the part whose turn it is.
pub(super) fn read(
    context: &Context,
    part: &Part,
    since: &Stopwatch,
    listed: &Listed,
    known: &Known,
    found: &Arc<Found>,
) -> Result<Read> {
    let packs = in_turn(context, listed, known)?;
    let of_all = sizes(listed, &packs);
    let mut left = &packs[..part.count(&of_all, of_all.iter().sum())];
    let time = part.most_seconds.map(Duration::from_secs);
    let enough = || time.is_some_and(|time| since.elapsed() >= time);
    let mut read = Read { packs: 0, figures: Figures::default() };
    let mut batch_bytes = if time.is_some() { FIRST_BATCH_BYTES } else { u64::MAX };
    while !left.is_empty() && (read.packs == 0 || !enough()) {
        let batch = Part { most_bytes: Some(batch_bytes), ..Part::default() }.count(&sizes(listed, left), 0);
        let (now, later) = left.split_at(batch);
        let begun = since.elapsed();
        let one =
            full::read(context, &now.iter().filter_map(|place| listed.at(*place)).copied().collect(), found, &enough)?;
        read.packs += one.packs;
        read.figures.stored_bytes += one.figures.stored_bytes;
        read.figures.raw_bytes += one.figures.raw_bytes;
        if let Some(time) = time {
            // Each batch costs a look at the whole index: as few of them as the time allows for.
            let took = (since.elapsed() - begun).as_secs_f64().max(0.001);
            let room = time.saturating_sub(since.elapsed()).as_secs_f64() / 2.0;
            batch_bytes = ((one.figures.stored_bytes as f64 / took * room) as u64).max(FIRST_BATCH_BYTES);
        }
        left = later;
    }
    Ok(read)
}

/// How far the packs are read by now; `read` is what this run has read, if it read a part.
pub(super) fn coverage(
    context: &Context,
    part: Option<(&Part, u64)>,
    listed: &Listed,
    known: &Known,
) -> Result<Coverage> {
    let packs = in_turn(context, listed, known)?;
    let sizes = sizes(listed, &packs);
    let read = || packs.iter().filter_map(|place| listed.at(*place)).map(|(id, size)| (known.read_ns(id), *size));
    let unread = || read().filter(|(read_ns, _)| read_ns.is_none());
    let nights = part.map(|(part, read_bytes)| match part.most_seconds {
        // As fast as this time.
        Some(_) => Part { most_bytes: Some(read_bytes), ..*part }.nights(&sizes),
        None => part.nights(&sizes),
    });
    Ok(Coverage {
        packs: packs.len() as u64,
        bytes: sizes.iter().sum(),
        unread_packs: unread().count() as u64,
        unread_bytes: unread().map(|(_, size)| size).sum(),
        oldest_ns: read().filter_map(|(read_ns, _)| read_ns).min(),
        nights,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_one_in_thirty_is_all_in_thirty_nights_whatever_the_sizes() {
        let mut state = 7u64;
        for of in [1, 2, 7, 30] {
            for packs in [1, 2, 29, 30, 31, 400] {
                let sizes: Vec<u64> = (0..packs)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        (state >> 40) + 1
                    })
                    .collect();
                let part = Part { share: Some((1, of)), ..Part::default() };
                assert!(part.nights(&sizes) <= u64::from(of), "{packs} packs, 1/{of}: {}", part.nights(&sizes));
            }
        }
    }

    #[test]
    fn a_budget_is_kept_except_for_one_pack_that_alone_exceeds_it() {
        let part = |most| Part { most_bytes: Some(most), ..Part::default() };
        assert_eq!(part(100).count(&[60, 40, 1], 0), 2);
        assert_eq!(part(99).count(&[60, 40, 1], 0), 1);
        assert_eq!(part(1).count(&[60, 40, 1], 0), 1);
        assert_eq!(part(1).nights(&[60, 40, 1]), 3);
        assert_eq!(part(100).nights(&[60, 40, 1]), 2);
        assert_eq!(part(100).nights(&[]), 0);
        let both = Part { most_bytes: Some(50), share: Some((1, 1)), most_seconds: None };
        assert_eq!(both.count(&[30, 30, 30], 90), 1);
        assert_eq!(Part::default().count(&[1, 2, 3], 6), 3);
    }
}
