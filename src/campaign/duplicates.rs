//! Which addresses have been accepted: 7 octets a slot, about 9 an address, for any number of them.
//!
//! 32 bits of an address's key are kept: 8 choose a shard, 24 stand in a slot beside the row the address
//! came from. A hit says only *perhaps*: whoever asks looks at the row and says whether it is the
//! same address, so the answer is exact. Slots lie in order of hash (linear probing), so growing a shard
//! is a walk through two arrays, and growing by an eighth wastes little where doubling would waste half.
//! Shards are anonymous maps, because an allocator that keeps what every shard has outgrown needs as
//! much again. Knows no addresses and no segments.

use std::alloc::{Layout, handle_alloc_error};

use memmap2::MmapMut;

/// Growing one of so many is a hiccup of microseconds.
const SHARDS: usize = 1 << SHARD_BITS;
const SHARD_BITS: u32 = 8;
/// A page.
const SHARD_OCTETS_MIN: usize = 4096;
/// Taken slots of a shard at most, in percent: past it, runs of taken slots grow long.
const TAKEN_PERCENT_MAX: usize = 84;

/// 24 bits of hash above 32 of row; rows begin with 1, so all zero is free.
type Slot = [u8; 7];
const HASH_BITS: u32 = 24;
const FREE: Slot = [0; 7];

/// Rows by address key.
#[derive(Debug)]
pub(crate) struct Duplicates {
    shards: Vec<Shard>,
}

#[derive(Debug, Default)]
struct Shard {
    map: Option<MmapMut>,
    taken: usize,
}

impl Duplicates {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::default()).collect() }
    }

    /// Adds `row` under `key` unless a row there is the same, as `is_same` finds by looking at it.
    /// Returns whether it was added.
    ///
    /// # Errors
    /// Those of `is_same`.
    pub(crate) fn add<E>(
        &mut self,
        key: u128,
        row: u32,
        mut is_same: impl FnMut(u32) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let (shard, hash) = self.place(key);
        if shard.taken * 100 >= shard.slots().len() * TAKEN_PERCENT_MAX {
            shard.grow();
        }
        shard.taken += 1;
        let slots = shard.slots();
        let mut at = home(hash, slots.len());
        while slots[at] != FREE {
            let (known, row) = opened(slots[at]);
            if known == hash && is_same(row)? {
                shard.taken -= 1;
                return Ok(false);
            }
            at = after(at, slots.len());
        }
        slots[at] = closed(hash, row);
        Ok(true)
    }
}

impl Duplicates {
    /// Whether a row under `key` is the same, as `is_same` finds by looking at it.
    ///
    /// # Errors
    /// Those of `is_same`.
    pub(crate) fn holds<E>(
        &mut self,
        key: u128,
        mut is_same: impl FnMut(u32) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let (shard, hash) = self.place(key);
        let slots = shard.slots();
        if slots.is_empty() {
            return Ok(false);
        }
        let mut at = home(hash, slots.len());
        while slots[at] != FREE {
            let (known, row) = opened(slots[at]);
            if known == hash && is_same(row)? {
                return Ok(true);
            }
            at = after(at, slots.len());
        }
        Ok(false)
    }

    /// The shard of a key, and what of the key stands in a slot of it.
    fn place(&mut self, key: u128) -> (&mut Shard, u32) {
        let hash = key as u32 & ((1 << HASH_BITS) - 1);
        (&mut self.shards[(key >> HASH_BITS) as usize % SHARDS], hash)
    }
}

impl Shard {
    fn slots(&mut self) -> &mut [Slot] {
        self.map.as_mut().map_or(&mut [], |map| map.as_chunks_mut().0)
    }

    fn grow(&mut self) {
        let octets = self.map.as_ref().map_or(0, |map| map.len());
        let octets = (octets + octets / 8).next_multiple_of(SHARD_OCTETS_MIN);
        let octets = octets.max(SHARD_OCTETS_MIN);
        // Out of memory is what it would be for a vector.
        let Ok(mut map) = MmapMut::map_anon(octets) else {
            handle_alloc_error(Layout::from_size_align(octets, 1).unwrap_or(Layout::new::<u8>()))
        };
        let slots: &mut [Slot] = map.as_chunks_mut().0;
        for slot in self.slots().iter().filter(|&&slot| slot != FREE) {
            let mut at = home(opened(*slot).0, slots.len());
            while slots[at] != FREE {
                at = after(at, slots.len());
            }
            slots[at] = *slot;
        }
        self.map = Some(map);
    }
}

/// Where a hash would stand if it were alone.
fn home(hash: u32, slots: usize) -> usize {
    ((u64::from(hash) * slots as u64) >> HASH_BITS) as usize
}

fn after(at: usize, slots: usize) -> usize {
    if at + 1 == slots { 0 } else { at + 1 }
}

fn closed(hash: u32, row: u32) -> Slot {
    let [r0, r1, r2, r3] = row.to_le_bytes();
    let [h0, h1, h2, _] = hash.to_le_bytes();
    [r0, r1, r2, r3, h0, h1, h2]
}

fn opened([r0, r1, r2, r3, h0, h1, h2]: Slot) -> (u32, u32) {
    (u32::from_le_bytes([h0, h1, h2, 0]), u32::from_le_bytes([r0, r1, r2, r3]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::convert::Infallible;

    proptest! {
        /// Keys of few bits, so that hashes collide all the time and only the look at the row decides.
        #[test]
        fn the_answer_is_that_of_a_plain_set(keys in prop::collection::vec((0u64..4, 0u64..40), 0..3000)) {
            let (mut duplicates, mut seen) = (Duplicates::new(), HashSet::new());
            for (at, &(person, hash)) in keys.iter().enumerate() {
                // `person` is above the 32 bits the set keeps.
                let key = u128::from(person) << 64 | u128::from(hash.wrapping_mul(0x9e37_79b9) & 0x03ff_0fff);
                let held = duplicates
                    .holds(key, |row| Ok::<_, Infallible>(keys[row as usize - 1] == (person, hash)))
                    .unwrap();
                prop_assert_eq!(held, seen.contains(&(person, hash)));
                let added = duplicates
                    .add(key, at as u32 + 1, |row| Ok::<_, Infallible>(keys[row as usize - 1] == (person, hash)))
                    .unwrap();
                prop_assert_eq!(added, seen.insert((person, hash)));
            }
        }
    }

    #[test]
    fn two_million_addresses_take_less_than_eleven_octets_each() {
        let mut duplicates = Duplicates::new();
        for row in 1..=2_000_000u32 {
            let key = xxhash_rust::xxh3::xxh3_128(&row.to_le_bytes());
            duplicates.add(key, row, |_| Ok::<_, Infallible>(false)).unwrap();
        }
        let octets: usize = duplicates.shards.iter().map(|shard| shard.map.as_ref().unwrap().len()).sum();
        assert!(octets < 22_000_000, "{octets}");
    }
}
