//! The cut of a chunk whose content asks for none.

use std::ops::Range;

/// The hash forgets a byte after this many more.
const REACH: usize = u64::BITS as usize;
/// Places that are looked at side by side: one hash after the other would wait for itself.
const LANES: usize = 4;

/// Where in `places` of `data` the gear hash of the 64 bytes that end with the byte behind the cut is lowest: the last
/// such place if there are several, so that data that repeats itself is cut in step with itself. None if the hash is
/// the same everywhere.
///
/// An edit moves that place only if it touches the lowest one or makes a lower one, and where the chunk begins matters
/// only as far as it moves the ends of `places`. There are at least 64 bytes before them, and their number is a
/// multiple of four.
#[allow(clippy::needless_range_loop)] // Four arrays go side by side.
pub fn find(gear: &[u64], data: &[u8], places: Range<usize>) -> Option<usize> {
    let gear: &[u64; 256] = gear.try_into().expect("the gear table has 256 entries");
    let count = places.len() / LANES;
    let lanes: [&[u8]; LANES] = std::array::from_fn(|lane| {
        let start = places.start + lane * count;
        &data[start + 1 - REACH..start + count]
    });
    let mut hash = [0_u64; LANES];
    for at in 0..REACH - 1 {
        for (hash, lane) in hash.iter_mut().zip(lanes) {
            *hash = (*hash << 1).wrapping_add(gear[usize::from(lane[at])]);
        }
    }
    let lanes = lanes.map(|lane| &lane[REACH - 1..][..count]);
    let first = (hash[0] << 1).wrapping_add(gear[usize::from(lanes[0][0])]);
    let (mut lowest, mut place, mut differs) = ([u64::MAX; LANES], [0; LANES], 0);
    for at in 0..count {
        for lane in 0..LANES {
            hash[lane] = (hash[lane] << 1).wrapping_add(gear[usize::from(lanes[lane][at])]);
            differs |= hash[lane] ^ first;
            if hash[lane] <= lowest[lane] {
                (lowest[lane], place[lane]) = (hash[lane], at);
            }
        }
    }
    // Of equal ones `min_by_key` takes the first: the last lane.
    let lane = (0..LANES).rev().min_by_key(|lane| lowest[*lane])?;
    (differs != 0).then_some(places.start + lane * count + place[lane])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::cutter::tests::random_bytes;
    use fastcdc::v2020::get_gear_with_seed;

    /// The definition, place by place.
    fn defined(gear: &[u64], data: &[u8], places: Range<usize>) -> Option<usize> {
        let hash = |place: usize| {
            let bytes = &data[place + 1 - REACH..=place];
            bytes.iter().fold(0_u64, |hash, byte| (hash << 1).wrapping_add(gear[usize::from(*byte)]))
        };
        let lowest = places.clone().map(hash).min()?;
        let differs = places.clone().any(|place| hash(place) != lowest);
        places.rev().find(|place| hash(*place) == lowest).filter(|_| differs)
    }

    #[test]
    fn the_lowest_place_is_found_whichever_lane_it_lies_in() {
        for seed in 0..60 {
            let (gear, _) = get_gear_with_seed(seed);
            let mut data = random_bytes(seed, 800);
            if seed % 3 == 1 {
                // Rows that differ in little.
                data.iter_mut().for_each(|byte| *byte = b"0   "[usize::from(*byte % 4)]);
            }
            let start = REACH - 1 + seed as usize % 7;
            let places = start..start + 4 * (1 + seed as usize * 3);
            let found = find(&gear, &data, places.clone());
            assert_eq!(found, defined(&gear, &data, places), "seed {seed}");
            assert!(found.is_some() || seed == 0, "seed {seed}");
        }
    }

    #[test]
    fn of_equal_places_the_last_is_taken_and_no_place_where_all_are_equal() {
        let (gear, _) = get_gear_with_seed(5);
        let period = random_bytes(1, 10);
        let data: Vec<u8> = period.iter().copied().cycle().take(1000).collect();
        let found = find(&gear, &data, 64..964).expect("ten different places");
        assert!((954..964).contains(&found), "{found}");
        assert_eq!(find(&gear, &data, 64..964 - 40), Some(found - 40));
        assert_eq!(find(&gear, &[7; 1000], 64..964), None);
    }
}
