//! Sets and maps that take hardly more memory than what is in them.
//!
//! A repository has hundreds of thousands of packs. In a tree or a table of hashes one of them takes half as much again as
//! its name, or three times as much; here a name takes its 32 bytes, and a yes or no takes a bit.

/// A map in one sorted piece of memory, made at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortedMap<K, V>(Vec<(K, V)>);

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> SortedMap<K, V> {
        SortedMap(Vec::new())
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// At which place a key stands in the order of all.
    pub fn position(&self, key: &K) -> Option<usize> {
        self.0.binary_search_by(|(there, _)| there.cmp(key)).ok()
    }

    /// What stands at a place.
    pub fn at(&self, place: usize) -> Option<&(K, V)> {
        self.0.get(place)
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.position(key).map(|place| &self.0[place].1)
    }

    /// Whether a key is there.
    pub fn contains(&self, key: &K) -> bool {
        self.position(key).is_some()
    }

    /// All of it, by key.
    pub fn iter(&self) -> std::slice::Iter<'_, (K, V)> {
        self.0.iter()
    }

    /// Keeps what `keep` picks.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.0.retain(|(key, value)| keep(key, value));
    }
}

/// Of equal keys the last one stays.
impl<K: Ord, V> FromIterator<(K, V)> for SortedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> SortedMap<K, V> {
        let mut entries: Vec<(K, V)> = entries.into_iter().collect();
        // A stable sort takes memory of its own: only where it matters which of two comes first.
        match entries.is_sorted_by(|a, b| a.0 < b.0) {
            true => {}
            false => {
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                entries.reverse();
                entries.dedup_by(|a, b| a.0 == b.0);
                entries.reverse();
            }
        }
        entries.shrink_to_fit();
        SortedMap(entries)
    }
}

impl<K, V> IntoIterator for SortedMap<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, K, V> IntoIterator for &'a SortedMap<K, V> {
    type Item = &'a (K, V);
    type IntoIter = std::slice::Iter<'a, (K, V)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// A set in one sorted piece of memory, made at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortedSet<K>(Vec<K>);

impl<K> Default for SortedSet<K> {
    fn default() -> SortedSet<K> {
        SortedSet(Vec::new())
    }
}

impl<K: Ord> SortedSet<K> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is there.
    pub fn contains(&self, key: &K) -> bool {
        self.0.binary_search(key).is_ok()
    }

    /// All of them in order.
    pub fn iter(&self) -> std::slice::Iter<'_, K> {
        self.0.iter()
    }

    /// All of them in order, as a list.
    pub fn into_vec(self) -> Vec<K> {
        self.0
    }
}

impl<K: Ord> FromIterator<K> for SortedSet<K> {
    fn from_iter<I: IntoIterator<Item = K>>(keys: I) -> SortedSet<K> {
        let mut keys: Vec<K> = keys.into_iter().collect();
        keys.sort_unstable();
        keys.dedup();
        keys.shrink_to_fit();
        SortedSet(keys)
    }
}

/// A set of small numbers: one bit for each up to the largest.
#[derive(Clone, Debug, Default)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// Whether no number is in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many numbers are in it.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Puts a number in; false when it was there.
    pub fn set(&mut self, number: usize) -> bool {
        let word = number >> 6;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let (word, bit) = (&mut self.0[word], 1 << (number & 63));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Takes a number out; false when it was not there.
    pub fn clear(&mut self, number: usize) -> bool {
        let Some(word) = self.0.get_mut(number >> 6) else { return false };
        let bit = 1 << (number & 63);
        let was = *word & bit != 0;
        *word &= !bit;
        was
    }

    /// Whether a number is in it.
    pub fn get(&self, number: usize) -> bool {
        self.0.get(number >> 6).is_some_and(|word| word >> (number & 63) & 1 == 1)
    }

    /// The first number from `number` on that is in it.
    pub fn first_from(&self, number: usize) -> Option<usize> {
        let first = self.0.get(number >> 6)? & (u64::MAX << (number & 63));
        if first != 0 {
            return Some((number & !63) + first.trailing_zeros() as usize);
        }
        let (skipped, word) = self.0.iter().enumerate().skip((number >> 6) + 1).find(|(_, word)| **word != 0)?;
        Some((skipped << 6) + word.trailing_zeros() as usize)
    }
}

impl FromIterator<usize> for Bits {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Bits {
        let mut bits = Bits::default();
        bits.extend(numbers);
        bits
    }
}

impl Extend<usize> for Bits {
    fn extend<I: IntoIterator<Item = usize>>(&mut self, numbers: I) {
        for number in numbers {
            self.set(number);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn numbers(count: usize) -> Vec<u32> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 22
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn a_sorted_map_and_set_answer_as_trees_do() {
        for count in [0, 1, 2, 700] {
            let entries: Vec<(u32, usize)> = numbers(count).into_iter().zip(0..).collect();
            let tree: BTreeMap<u32, usize> = entries.iter().copied().collect();
            let map: SortedMap<u32, usize> = entries.iter().copied().collect();
            let set: SortedSet<u32> = entries.iter().map(|(key, _)| *key).collect();
            assert_eq!((map.len(), set.len(), map.is_empty()), (tree.len(), tree.len(), tree.is_empty()));
            assert!(map.iter().map(|(key, value)| (key, value)).eq(tree.iter()), "the last of equal keys stays");
            assert!(set.iter().eq(tree.keys()));
            for key in 0..1024 {
                assert_eq!(map.get(&key), tree.get(&key));
                assert_eq!(
                    (map.contains(&key), set.contains(&key)),
                    (tree.contains_key(&key), tree.contains_key(&key))
                );
                assert_eq!(map.position(&key).map(|place| map.at(place).unwrap().0), map.get(&key).map(|_| key));
            }
        }
    }

    #[test]
    fn bits_answer_as_a_set_of_numbers_does() {
        let (mut bits, mut set) = (Bits::default(), BTreeSet::new());
        for (step, number) in numbers(2000).into_iter().map(|number| number as usize).enumerate() {
            match step % 3 {
                0 => assert_eq!(bits.clear(number), set.remove(&number)),
                _ => assert_eq!(bits.set(number), set.insert(number)),
            }
            assert_eq!((bits.count(), bits.is_empty()), (set.len() as u64, set.is_empty()));
        }
        for number in 0..1100 {
            assert_eq!(set.iter().copied().collect::<Bits>().get(number), set.contains(&number));
            assert_eq!(bits.get(number), set.contains(&number));
            assert_eq!(bits.first_from(number), set.range(number..).next().copied());
        }
    }
}
