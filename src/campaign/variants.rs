//! Who gets which variant, and who is in the test slice: pure functions of campaign and address.
//!
//! Of the campaign's name two seeds are made, `XXH3-64(name + "/variant")` and `XXH3-64(name + "/test")`,
//! and of an address its key (XXH3-128 of `local@domain`, the local part in lower case), as 16
//! little-endian octets. `XXH3-64(key, seed)` is then a number h evenly from 0 to 2^64 − 1:
//!
//! - the variant is the one in whose share of the weights, laid end to end, `h · sum of weights / 2^64` falls;
//! - in the test slice is whose h, by the other seed, is below `share · 2^64`.
//!
//! So preview, rehearsal, run and retry agree, over restarts and lists in any order. What is chosen once
//! is the winner, for those outside the slice. Knows no files and no time.

use std::sync::{Arc, OnceLock};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::manifest::Manifest;
use super::spool::Spool;
use crate::envelope::RecipientId;

/// A variant of a campaign: 1 and its place in the manifest. The journal keeps it in an octet, 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VariantId(u8);

impl VariantId {
    /// Of the variant at `place` in the manifest, which has fewer than 255.
    pub fn at(place: usize) -> Self {
        Self(u8::try_from(place + 1).expect("a manifest has few variants"))
    }

    pub fn place(self) -> usize {
        usize::from(self.0) - 1
    }

    pub fn number(self) -> u8 {
        self.0
    }
}

/// Which recipients are in the test slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    seed: u64,
    /// Hashes below it are in; up to 2^64.
    below: u128,
}

impl Slice {
    /// `None` where the campaign tests nothing.
    pub fn of(manifest: &Manifest) -> Option<Self> {
        let share = manifest.test.as_ref()?.share.of_one();
        let below = (share * 2f64.powi(64)) as u128;
        Some(Self { seed: seed(&manifest.name, "/test"), below })
    }

    /// By [`crate::address::AddressRef::key`].
    pub fn holds(&self, key: u128) -> bool {
        u128::from(hash(key, self.seed)) < self.below
    }
}

/// Who gets which variant of a campaign.
#[derive(Debug)]
pub struct Assignment {
    seed: u64,
    /// Sums of the weights up to and with each variant.
    ends: Vec<u64>,
    slice: Option<Slice>,
    winner: OnceLock<VariantId>,
}

impl Assignment {
    /// `None` where the campaign has no variants.
    pub fn of(manifest: &Manifest) -> Option<Self> {
        let mut sum = 0;
        let ends: Vec<u64> = manifest
            .variants
            .iter()
            .map(|variant| {
                sum += u64::from(variant.weight);
                sum
            })
            .collect();
        let seed = seed(&manifest.name, "/variant");
        let slice = Slice::of(manifest);
        (!ends.is_empty()).then_some(Self { seed, ends, slice, winner: OnceLock::new() })
    }

    /// The variant that chance gives an address, by its key.
    pub fn variant_of(&self, key: u128) -> VariantId {
        let sum = self.ends.last().copied().unwrap_or(0);
        let at = ((u128::from(hash(key, self.seed)) * u128::from(sum)) >> 64) as u64;
        VariantId::at(self.ends.partition_point(|end| *end <= at))
    }

    /// The variant an address is sent: the winner outside the test slice; `None` until there is one.
    pub fn given(&self, key: u128) -> Option<VariantId> {
        match self.slice {
            Some(slice) if !slice.holds(key) => self.winner(),
            _ => Some(self.variant_of(key)),
        }
    }

    /// Whether there is a test, so that some wait for its winner.
    pub fn is_test(&self) -> bool {
        self.slice.is_some()
    }

    pub fn winner(&self) -> Option<VariantId> {
        self.winner.get().copied()
    }

    /// Takes the winner, once and for all; `false` if there was one already.
    pub fn decide(&self, winner: VariantId) -> bool {
        self.winner.set(winner).is_ok()
    }
}

/// Who of a spool is given what.
#[derive(Debug, Clone)]
pub struct Assigned {
    pub spool: Arc<Spool>,
    pub assignment: Arc<Assignment>,
}

impl Assigned {
    /// As the journal keeps it: 0 for whom no variant is given (yet), or whose row cannot be read.
    pub fn number(&self, recipient: RecipientId) -> u8 {
        self.given(recipient).map_or(0, VariantId::number)
    }

    fn given(&self, recipient: RecipientId) -> Option<VariantId> {
        let segment = self.spool.segment(recipient.segment)?;
        let recipient = segment.recipient(recipient.index).ok()?;
        self.assignment.given(recipient.address.key())
    }
}

fn seed(campaign: &str, purpose: &str) -> u64 {
    xxh3_64([campaign.as_bytes(), purpose.as_bytes()].concat().as_slice())
}

fn hash(key: u128, seed: u64) -> u64 {
    xxh3_64_with_seed(&key.to_le_bytes(), seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::AddressRef;

    fn manifest(name: &str, weights: &[u32], share: &str) -> Manifest {
        let mut text = format!(
            "name = \"{name}\"\nfrom = \"us@sender.test\"\nreturn_path_domain = \"b.sender.test\"\n\
             subject = \"Hello\"\ntext = \"m.txt\"\n[list]\nfile = \"l.csv\"\n[test]\nshare = \"{share}\"\n"
        );
        for (number, weight) in weights.iter().enumerate() {
            text +=
                &format!("[[variants]]\nname = \"v{number}\"\nweight = {weight}\nsubject = \"S{number}\"\n");
        }
        Manifest::parse("campaign.toml".as_ref(), &text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn keys(count: usize) -> impl Iterator<Item = u128> {
        (0..count).map(|number| {
            let address = format!("person.{number}@d{}.test", number % 997);
            AddressRef::parse(&address).unwrap().key()
        })
    }

    fn chi_squared(seen: &[u64], expected: &[f64]) -> f64 {
        seen.iter().zip(expected).map(|(seen, expected)| (*seen as f64 - expected).powi(2) / expected).sum()
    }

    #[test]
    fn chance_follows_the_weights() {
        const COUNT: usize = 100_000;
        // Critical values of chi-squared at p = 0.001, for 1, 2 and 3 degrees of freedom.
        let cases: [(&[u32], f64); 3] =
            [(&[1, 1], 10.828), (&[5, 3, 2], 13.816), (&[1, 4_000_000_000, 1_000_000_000, 7], 16.266)];
        for (weights, critical) in cases {
            let assignment = Assignment::of(&manifest("summer", weights, "10%")).unwrap();
            let mut seen = vec![0; weights.len()];
            keys(COUNT).for_each(|key| seen[assignment.variant_of(key).place()] += 1);
            let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            let expected: Vec<f64> =
                weights.iter().map(|weight| COUNT as f64 * f64::from(*weight) / sum).collect();
            // Of a variant that nobody should get, nobody is right.
            let (seen, expected): (Vec<u64>, Vec<f64>) =
                seen.into_iter().zip(expected).filter(|(_, expected)| *expected >= 5.0).unzip();
            assert!(chi_squared(&seen, &expected) < critical, "{weights:?}: {seen:?}");
        }
    }

    #[test]
    fn who_weighs_nothing_gets_nobody() {
        let assignment = Assignment::of(&manifest("summer", &[0, 1, 0, 2, 0], "10%")).unwrap();
        assert!(keys(10_000).all(|key| [1, 3].contains(&assignment.variant_of(key).place())));
    }

    #[test]
    fn the_slice_is_its_share_and_knows_nothing_of_variants() {
        const COUNT: usize = 100_000;
        let manifest = manifest("summer", &[1, 1], "10%");
        let assignment = Assignment::of(&manifest).unwrap();
        let slice = Slice::of(&manifest).unwrap();
        let mut seen = [0; 4];
        for key in keys(COUNT) {
            seen[assignment.variant_of(key).place() * 2 + usize::from(slice.holds(key))] += 1;
        }
        let expected = [0.45, 0.05, 0.45, 0.05].map(|share| share * COUNT as f64);
        assert!(chi_squared(&seen, &expected) < 16.266, "{seen:?}");
        let all = Slice::of(&self::manifest("summer", &[1, 1], "100%")).unwrap();
        assert!(all.holds(0) && keys(10_000).all(|key| all.holds(key)));
    }

    #[test]
    fn another_campaign_draws_other_lots() {
        let [one, other] =
            ["summer", "winter"].map(|name| Assignment::of(&manifest(name, &[1, 1], "10%")).unwrap());
        let same = keys(10_000).filter(|key| one.variant_of(*key) == other.variant_of(*key)).count();
        assert!((4_800..5_200).contains(&same), "{same}");
    }

    #[test]
    fn the_winner_is_for_those_outside_the_slice_alone_and_for_good() {
        let manifest = manifest("summer", &[1, 1], "10%");
        let (assignment, slice) = (Assignment::of(&manifest).unwrap(), Slice::of(&manifest).unwrap());
        assert!(keys(1_000).all(|key| assignment.given(key).is_some() == slice.holds(key)));
        assert!(assignment.decide(VariantId::at(1)) && !assignment.decide(VariantId::at(0)));
        for key in keys(1_000) {
            let expected = if slice.holds(key) { assignment.variant_of(key) } else { VariantId::at(1) };
            assert_eq!(assignment.given(key), Some(expected));
        }
    }
}
