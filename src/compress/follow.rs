//! Finds what data has in common with its bases by following its place in them.
//!
//! zstd enters every place of a prefix in a table and looks each place of the data up in it. That is a third of the
//! processor time of a night's dump, and the first place that agrees is often that of another row. But data that
//! resembles its base mostly goes on in it where it went on before: after a change in place, behind a row that is gone,
//! or before one that is new. So the place is followed: equal bytes are passed over at the speed of a comparison, and
//! only where they end, the neighbourhood in the base is searched, then samples of the whole base, then what was just
//! written. It takes a third of the time and leaves fewer bytes.
//!
//! Positions are those in the bases and the data, joined in order; they fit 32 bits.

/// Every so many bytes of the bases one place is entered in the table of samples …
const SAMPLE_STEP: usize = 16;
/// … under this many bytes from there on. A match of the two together, less one, is always found.
const SAMPLE_BYTES: usize = 12;
/// At most so many places in that table, as a power of two: two of 4 bytes each, 2 MiB.
const SAMPLE_LOG_MAX: u32 = 18;
/// How far behind the place in the base one looks for where the data goes on, …
const NEAR_BYTES: usize = 384;
/// … and for how many places of the data: what is new for longer is no change in a row.
const NEAR_PLACES: usize = 128;
/// So many bytes at once decide whether two places are compared further.
const WORD: usize = 8;
/// A match this long is taken without a look at what else there is.
const SURE_BYTES: usize = 512;
/// A shorter one is taken if what stands at the next places is not longer; below this length so is a match …
const LONG_BYTES: usize = 32;
/// … unless a long one begins within so many places.
const AHEAD_PLACES: usize = 8;
/// What was written lately is entered in a table of its own, so far back, …
const RECENT_BYTES: usize = 1024;
/// … under so many bytes, which are the least that a match may have …
const RECENT_KEY: usize = 6;
/// … and of so many entries, as a power of two.
const RECENT_LOG: u32 = 15;
/// More steps than one for so many bytes of data, and the bases are not followed: zstd's own search finds more then.
const BYTES_PER_STEP: usize = 128;
/// Nor are they when more than one byte in so many is new.
const NEW_SHARE: usize = 8;
/// So many steps are always allowed.
const FEW_STEPS: usize = 64;
/// No place.
const NONE: u32 = u32::MAX;

/// Some bytes as they are, then some that stand already `offset` bytes further ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) literals: u32,
    pub(super) matched: u32,
    pub(super) offset: u32,
}

/// `length` bytes at `at` are those at `from`, which is less.
#[derive(Clone, Copy)]
struct Match {
    from: usize,
    at: usize,
    length: usize,
}

/// The tables, kept from one search to the next.
#[derive(Default)]
pub(super) struct Follower {
    samples: Vec<[u32; 2]>,
    recent: Vec<u32>,
    steps: Vec<Step>,
}

impl Follower {
    /// The steps that lead through `joined` behind its first `bases` bytes; what follows the last is literal.
    ///
    /// `None` when the data does not follow them.
    pub(super) fn steps(&mut self, joined: &[u8], bases: usize) -> Option<&[Step]> {
        self.steps.clear();
        if u32::try_from(joined.len()).is_err() {
            return None;
        }
        self.enter_samples(&joined[..bases]);
        self.recent.clear();
        self.recent.resize(1 << RECENT_LOG, NONE);
        let mut walk = Walk {
            bytes: joined,
            bases,
            samples: &self.samples,
            recent: &mut self.recent,
            literal: bases,
            place: 0,
            offset: 0,
            entered: bases,
        };
        while let Some(found) = walk.next_match() {
            self.steps.push(walk.step_over(found));
            let done = walk.literal - bases;
            if self.steps.len() > FEW_STEPS + done / BYTES_PER_STEP {
                return None;
            }
        }
        let matched: usize = self.steps.iter().map(|step| step.matched as usize).sum();
        let data = joined.len() - bases;
        (data - matched <= data / NEW_SHARE).then_some(&self.steps[..])
    }

    /// The bytes that its tables hold between calls.
    pub(super) fn memory_bytes(&self) -> usize {
        self.samples.capacity() * size_of::<[u32; 2]>()
            + self.recent.capacity() * size_of::<u32>()
            + self.steps.capacity() * size_of::<Step>()
    }

    /// Of the places with equal bytes the last two stay.
    fn enter_samples(&mut self, bases: &[u8]) {
        let entries = (bases.len() / SAMPLE_STEP).next_power_of_two().clamp(1 << 8, 1 << SAMPLE_LOG_MAX);
        self.samples.clear();
        self.samples.resize(entries, [NONE; 2]);
        for at in (0..(bases.len() + 1).saturating_sub(SAMPLE_BYTES)).step_by(SAMPLE_STEP) {
            let entry = &mut self.samples[hash_sample(bases, at, entries)];
            *entry = [at as u32, entry[0]];
        }
    }
}

/// A search on its way.
struct Walk<'a> {
    bytes: &'a [u8],
    /// Where the bases end and the data begins.
    bases: usize,
    samples: &'a [[u32; 2]],
    recent: &'a mut [u32],
    /// Where the bytes begin that no step covers yet: the last match ended here.
    literal: usize,
    /// Where the base goes on behind its last match.
    place: usize,
    /// How far away the last match was; 0 before the first.
    offset: usize,
    /// The data is entered as recent up to here.
    entered: usize,
}

impl Walk<'_> {
    /// The next match that is worth a step.
    fn next_match(&mut self) -> Option<Match> {
        (self.literal..self.last_place()).find_map(|at| self.match_at(at))
    }

    /// One place more than the last at which a match can be looked for.
    fn last_place(&self) -> usize {
        (self.bytes.len() + 1).saturating_sub(SAMPLE_BYTES)
    }

    fn match_at(&mut self, at: usize) -> Option<Match> {
        let found = self.following(at);
        match found {
            Some(found) if found.length >= SURE_BYTES => return Some(found),
            Some(found) if found.length >= LONG_BYTES => return Some(self.longest_sampled_around(at, found)),
            _ => {}
        }
        let short = longer(found, self.recent_at(at))?;
        let ahead = at + 1..(at + 1 + short.length.min(AHEAD_PLACES)).min(self.last_place());
        let long = ahead
            .filter_map(|at| self.following(at))
            .find(|found| found.length >= LONG_BYTES && found.length > 2 * short.length);
        Some(long.unwrap_or(short))
    }

    /// The longest match of those at the same distance as the last one, near the place in the base, and in the samples.
    fn following(&self, at: usize) -> Option<Match> {
        let same = (self.offset > 0).then(|| self.compare(at - self.offset, at)).flatten();
        if same.is_some_and(|same| same.length >= SURE_BYTES) {
            return same;
        }
        let near = longer(same, self.near(at));
        if near.is_some_and(|near| near.length >= SURE_BYTES) {
            return near;
        }
        longer(near, self.sampled_at(at))
    }

    /// Where the base goes on as the data does, not far behind its place.
    fn near(&self, at: usize) -> Option<Match> {
        let passed = at - self.literal;
        if passed >= NEAR_PLACES {
            return None;
        }
        let end = (self.place + passed + NEAR_BYTES).min(self.bases);
        let word = load(self.bytes, at);
        let window = self.bytes.get(self.place..end)?;
        let equal = window.windows(WORD).enumerate().filter(|(_, there)| u64_of(there) == word);
        equal.map(|(behind, _)| self.extend(self.place + behind, at)).max_by_key(|found| found.length)
    }

    /// The longest match of the samples at this place.
    fn sampled_at(&self, at: usize) -> Option<Match> {
        let entry = self.samples[hash_sample(self.bytes, at, self.samples.len())];
        entry.into_iter().filter(|from| *from != NONE).fold(None, |best, from| {
            let from = from as usize;
            let equal = self.bytes[from..from + SAMPLE_BYTES] == self.bytes[at..at + SAMPLE_BYTES];
            longer(best, equal.then(|| self.extend(from, at)))
        })
    }

    /// A match that goes on a row further seems right to its end and is found at each row anew. The right one begins
    /// somewhere around here.
    fn longest_sampled_around(&self, at: usize, found: Match) -> Match {
        let first = (at + 1).saturating_sub(SAMPLE_BYTES).max(self.bases);
        let places = first..(at + SAMPLE_STEP).min(self.last_place());
        places.filter_map(|at| self.sampled_at(at)).filter_map(|other| self.behind_last(other)).fold(
            found,
            |best, other| {
                if other.length > best.length + WORD { other } else { best }
            },
        )
    }

    /// What of a match is not yet covered by a step.
    fn behind_last(&self, found: Match) -> Option<Match> {
        let covered = self.literal.saturating_sub(found.at);
        let length = found.length.checked_sub(covered)?;
        (length > 0).then_some(Match { from: found.from + covered, at: found.at + covered, length })
    }

    /// A match in what was written lately.
    fn recent_at(&mut self, at: usize) -> Option<Match> {
        for place in self.entered.max(self.literal.saturating_sub(RECENT_BYTES)).max(self.bases)..at {
            self.recent[hash_recent(self.bytes, place)] = place as u32;
        }
        self.entered = self.entered.max(at);
        let from = self.recent[hash_recent(self.bytes, at)];
        if from == NONE {
            return None;
        }
        let found = self.extend(from as usize, at);
        (found.length >= RECENT_KEY).then_some(found)
    }

    /// The match at these places, if it has a word at least.
    fn compare(&self, from: usize, at: usize) -> Option<Match> {
        (load(self.bytes, from) == load(self.bytes, at)).then(|| self.extend(from, at))
    }

    /// As far as both go on equally, and back as far as no step covers.
    fn extend(&self, from: usize, at: usize) -> Match {
        let ahead = equal_bytes(&self.bytes[from..], &self.bytes[at..]);
        let room = at.saturating_sub(self.literal).min(from);
        let (before_from, before_at) = (&self.bytes[from - room..from], &self.bytes[at - room..at]);
        let back = before_from.iter().rev().zip(before_at.iter().rev()).take_while(|(a, b)| a == b).count();
        Match { from: from - back, at: at - back, length: back + ahead }
    }

    /// The step to a match and over it.
    fn step_over(&mut self, found: Match) -> Step {
        let step = Step {
            literals: (found.at - self.literal) as u32,
            matched: found.length as u32,
            offset: (found.at - found.from) as u32,
        };
        self.offset = found.at - found.from;
        self.literal = found.at + found.length;
        if found.from < self.bases {
            self.place = found.from + found.length;
        }
        step
    }
}

fn longer(one: Option<Match>, other: Option<Match>) -> Option<Match> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.length > one.length { other } else { one }),
        (one, other) => one.or(other),
    }
}

/// How many bytes both begin with.
fn equal_bytes(one: &[u8], other: &[u8]) -> usize {
    const STRIDE: usize = 32;
    let strides = one.chunks_exact(STRIDE).zip(other.chunks_exact(STRIDE)).take_while(|(a, b)| a == b).count() * STRIDE;
    strides + one[strides..].iter().zip(&other[strides..]).take_while(|(a, b)| a == b).count()
}

fn load(bytes: &[u8], at: usize) -> u64 {
    u64_of(&bytes[at..at + WORD])
}

fn u64_of(word: &[u8]) -> u64 {
    word.try_into().map_or(0, u64::from_le_bytes)
}

const MIX: u64 = 0x9e37_79b1_85eb_ca87;

fn hash_sample(bytes: &[u8], at: usize, entries: usize) -> usize {
    // Both words lie within the bytes of a sample.
    let mixed = load(bytes, at) ^ load(bytes, at + SAMPLE_BYTES - WORD).wrapping_mul(MIX);
    (mixed.wrapping_mul(0xc2b2_ae3d_27d4_eb4f) >> (64 - entries.ilog2())) as usize
}

fn hash_recent(bytes: &[u8], at: usize) -> usize {
    ((load(bytes, at) << (8 * (WORD - RECENT_KEY))).wrapping_mul(MIX) >> (64 - RECENT_LOG)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seeded source of numbers below a bound.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % bound
        }
    }

    fn row(number: usize) -> Vec<u8> {
        format!("{number}\t{}\t{}\t{:<40}\n", number % 30, number * 7919 % 10_007, "").into_bytes()
    }

    fn joined(bases: &[u8], data: &[u8]) -> Vec<u8> {
        [bases, data].concat()
    }

    /// The data that the steps give when they are gone behind the bases.
    fn gone(bases: &[u8], data: &[u8], steps: &[Step]) -> Vec<u8> {
        let mut out = bases.to_vec();
        for step in steps {
            let at = out.len() - bases.len();
            out.extend_from_slice(&data[at..at + step.literals as usize]);
            (0..step.matched).for_each(|_| out.push(out[out.len() - step.offset as usize]));
        }
        let rest = out.len() - bases.len();
        out.extend_from_slice(&data[rest..]);
        out.split_off(bases.len())
    }

    #[test]
    fn rows_that_changed_came_and_went_cost_a_step_or_two_each() {
        let rows = 20_000..30_000;
        let old = rows.clone().flat_map(row).collect::<Vec<u8>>();
        let is_odd = |number: usize| number % 500 == 77;
        let changed =
            rows.clone().flat_map(|n| if is_odd(n) { row(n + 1_000_003) } else { row(n) }).collect::<Vec<u8>>();
        let gone_rows = rows.clone().filter(|n| !is_odd(*n)).flat_map(row).collect::<Vec<u8>>();
        let new_rows = rows.flat_map(|n| if is_odd(n) { [row(n), row(n + 1_000_003)].concat() } else { row(n) });
        for (what, data, most) in
            [("changed", &changed, 5), ("gone", &gone_rows, 1), ("new", &new_rows.collect::<Vec<u8>>(), 5)]
        {
            let mut follower = Follower::default();
            let all = joined(&old, data);
            let steps = follower.steps(&all, old.len()).expect("rows follow their bases");
            assert!(gone(&old, data, steps) == *data, "{what}");
            assert!(steps.len() <= 1 + 20 * most, "{what}: {} steps for 20 rows", steps.len());
            let literals: u32 = steps.iter().map(|step| step.literals).sum();
            assert!(literals <= 20 * 30, "{what}: {literals} literal bytes for 20 rows");
        }
    }

    #[test]
    fn a_wrong_row_at_the_beginning_is_left_for_the_right_one() {
        // Each row resembles that ten rows before it but for one figure: the data begins in the midst of its base.
        let old = (10_000..25_000).flat_map(row).collect::<Vec<u8>>();
        let data = (18_367..24_000).flat_map(row).collect::<Vec<u8>>();
        let mut follower = Follower::default();
        let steps = follower.steps(&joined(&old, &data), old.len()).expect("rows follow their bases").len();
        assert!(steps <= 20, "{steps} steps");
    }

    #[test]
    fn steps_give_the_data_whatever_it_is() {
        for seed in 0..300 {
            let mut dice = Dice(seed);
            let letters = 1 + dice.below(40);
            let old: Vec<u8> = (0..dice.below(6000)).map(|_| b'0' + dice.below(letters) as u8).collect();
            let mut data = old.clone();
            for _ in 0..dice.below(12) {
                let at = dice.below(data.len() + 1);
                let end = (at + dice.below(60)).min(data.len());
                let new: Vec<u8> = (0..dice.below(60)).map(|_| b'0' + dice.below(letters) as u8).collect();
                data.splice(at..end, new);
            }
            let all = joined(&old, &data);
            let mut follower = Follower::default();
            if let Some(steps) = follower.steps(&all, old.len()) {
                assert!(gone(&old, &data, steps) == data, "seed {seed}");
                assert!(steps.iter().all(|step| step.matched as usize >= RECENT_KEY), "seed {seed}");
            }
        }
    }

    #[test]
    fn what_does_not_resemble_its_bases_is_not_followed() {
        let mut dice = Dice(7);
        let mut noise = |length: usize| (0..length).map(|_| dice.below(256) as u8).collect::<Vec<u8>>();
        let (old, data) = (noise(100_000), noise(100_000));
        assert!(Follower::default().steps(&joined(&old, &data), old.len()).is_none());
        // A quarter of it is new: zstd's own search is the better one.
        let mut partly = old.clone();
        partly[50_000..75_000].copy_from_slice(&data[..25_000]);
        assert!(Follower::default().steps(&joined(&old, &partly), old.len()).is_none());
        assert!(Follower::default().steps(&joined(&old, b"short"), old.len()).is_none());
        assert!(Follower::default().steps(&joined(b"short", &data), 5).is_none());
    }

    #[test]
    fn the_tables_stay_small_however_large_the_bases_are() {
        let old = (0..200_000).flat_map(row).collect::<Vec<u8>>();
        let data = (0..20_000).flat_map(row).collect::<Vec<u8>>();
        let mut follower = Follower::default();
        assert!(follower.steps(&joined(&old, &data), old.len()).is_some());
        assert!(follower.memory_bytes() < 3 << 20, "{} bytes", follower.memory_bytes());
    }
}
