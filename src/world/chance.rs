//! All chance in the world: hashes of the seed, a purpose, a subject and a number.
//!
//! The same question has the same answer in every run, whatever order it is asked in.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A number from 0 up to but not including 1.
pub(crate) fn share(seed: u64, purpose: &str, subject: &[u8], number: u64) -> f64 {
    let seed = xxh3_64_with_seed(purpose.as_bytes(), seed) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = xxh3_64_with_seed(subject, seed);
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_spread_evenly_and_depend_on_every_part() {
        let points: Vec<f64> = (0..10_000).map(|n| share(7, "a", b"x", n)).collect();
        let low = points.iter().filter(|p| **p < 0.1).count();
        assert!((850..1_150).contains(&low), "{low}");
        assert_ne!(share(7, "a", b"x", 0), share(8, "a", b"x", 0));
        assert_ne!(share(7, "a", b"x", 0), share(7, "b", b"x", 0));
        assert_ne!(share(7, "a", b"x", 0), share(7, "a", b"y", 0));
    }
}
