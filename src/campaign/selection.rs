//! Which rows are mailed: the order of the questions a row is asked, and what each answer makes of it.
//!
//! 1. A row that cannot be read, or whose `where` has no answer, is *invalid*.
//! 2. One of which a `where` is not true, its list's or that of all, is *left out*.
//! 3. So is one whose address is on an exclude list,
//! 4. One whose address is suppressed is *suppressed*.
//! 5. One that is not in the sample is left out.
//! 6. One whose address was accepted before is a *duplicate*: of the rows that come so far the first counts,
//!    with its fields. Rows left out before stand in nobody's way.
//! 7. One after the cap is reached is left out; all others are *accepted*.
//!
//! So every row ends in exactly one count, an address is mailed once, `suppressed` says how many of those
//! meant are on the lists whatever the sample is, a sample is a share of those who could be mailed, and a cap
//! counts people and not rows. Seeds are asked 1, 4 and 6 only, and their own list's `where`.
//!
//! Knows no files and no segments: whoever asks keeps the [`Ledger`].

use std::convert::Infallible;

use hashbrown::HashTable;

use crate::address::AddressRef;
use crate::campaign::condition::Condition;
use crate::campaign::row::{Fields, Row, RowError};

pub use crate::campaign::archive::Reason;

/// What becomes of a row.
#[derive(Debug)]
pub enum Decision<'a> {
    Invalid(RowError),
    LeftOut(Reason),
    Suppressed(AddressRef<'a>),
    Duplicate,
    Accepted(AddressRef<'a>, Fields<'a>),
}

/// What is known of the rows before.
pub trait Ledger {
    type Error;

    fn is_suppressed(&mut self, address: &AddressRef<'_>) -> bool;

    /// Whether the address was accepted before.
    ///
    /// # Errors
    /// Where it was accepted cannot be read.
    fn holds(&mut self, address: &AddressRef<'_>) -> Result<bool, Self::Error>;

    /// Notes that the address is accepted in this row, unless it was before; whether it is new.
    ///
    /// # Errors
    /// As [`Self::holds`], or that the row's number is too large.
    fn add(&mut self, row: &Row<'_>, address: &AddressRef<'_>) -> Result<bool, Self::Error>;

    /// Accepted rows that are no seeds.
    fn recipients(&self) -> u64;
}

/// The ledger of a row that is looked at by itself.
#[derive(Debug)]
pub struct NoRows;

impl Ledger for NoRows {
    type Error = Infallible;

    fn is_suppressed(&mut self, _: &AddressRef<'_>) -> bool {
        false
    }

    fn holds(&mut self, _: &AddressRef<'_>) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn add(&mut self, _: &Row<'_>, _: &AddressRef<'_>) -> Result<bool, Infallible> {
        Ok(true)
    }

    fn recipients(&self) -> u64 {
        0
    }
}

/// The conditions of a campaign. Default: every row of a single list is meant.
#[derive(Debug, Default)]
pub struct Selection {
    /// By list, the seeds' last.
    pub(crate) of_lists: Vec<Option<Condition>>,
    /// Of all lists but the seeds.
    pub(crate) of_all: Option<Condition>,
    pub(crate) excluded: AddressKeys,
    pub(crate) sample: Option<Sample>,
    pub(crate) cap: Option<u64>,
    /// The place of the seeds among the lists; `None`: there are none.
    pub(crate) seeds: Option<u16>,
}

impl Selection {
    /// Whether a row is one of the seeds.
    pub fn is_seed(&self, row: &Row<'_>) -> bool {
        self.seeds == Some(row.list)
    }

    /// Decides on a row. An accepted one has been added to the ledger's addresses, not to its count.
    ///
    /// # Errors
    /// Those of the ledger.
    pub fn decide<'a, L: Ledger>(&self, row: &Row<'a>, ledger: &mut L) -> Result<Decision<'a>, L::Error> {
        let (address, fields) = match row.read() {
            Ok(read) => read,
            Err(reason) => return Ok(Decision::Invalid(reason)),
        };
        let is_seed = self.is_seed(row);
        match self.is_meant(row, &address, &fields) {
            Ok(true) => {}
            Ok(false) => return Ok(Decision::LeftOut(Reason::Condition)),
            Err(reason) => return Ok(Decision::Invalid(RowError::Condition(reason))),
        }
        if !is_seed && self.excluded.holds(&address) {
            return Ok(Decision::LeftOut(Reason::Excluded));
        }
        if ledger.is_suppressed(&address) {
            return Ok(Decision::Suppressed(address));
        }
        if !is_seed && self.sample.as_ref().is_some_and(|sample| !sample.holds(&address)) {
            return Ok(Decision::LeftOut(Reason::Sample));
        }
        if !is_seed && self.cap.is_some_and(|cap| ledger.recipients() >= cap) {
            return Ok(match ledger.holds(&address)? {
                true => Decision::Duplicate,
                false => Decision::LeftOut(Reason::Cap),
            });
        }
        Ok(match ledger.add(row, &address)? {
            true => Decision::Accepted(address, fields),
            false => Decision::Duplicate,
        })
    }

    fn is_meant(&self, row: &Row<'_>, address: &AddressRef<'_>, fields: &Fields<'_>) -> Result<bool, String> {
        let of_list = self.of_lists.get(usize::from(row.list)).and_then(Option::as_ref);
        let of_all = self.of_all.as_ref().filter(|_| !self.is_seed(row));
        for condition in of_list.into_iter().chain(of_all) {
            if !condition.holds(address, fields)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Part of all addresses, by a hash of each and of the campaign's name: the same part whenever it is asked,
/// whatever else is in the lists, and another for another campaign.
#[derive(Debug)]
pub(crate) struct Sample {
    campaign: u64,
    /// Of 2⁶⁴.
    share: u128,
}

impl Sample {
    /// `share` of 0 to 1.
    pub(crate) fn new(campaign: &str, share: f64) -> Self {
        // Other choices by chance, of variants say, must not go by the same hash.
        let campaign = xxhash_rust::xxh3::xxh3_64(format!("sample\0{campaign}").as_bytes());
        Self { campaign, share: (share * 2f64.powi(64)) as u128 }
    }

    fn holds(&self, address: &AddressRef<'_>) -> bool {
        let chance = xxhash_rust::xxh3::xxh3_64_with_seed(&address.key().to_le_bytes(), self.campaign);
        u128::from(chance) < self.share
    }
}

/// A set of addresses as they count among duplicates: 18 to 35 octets each.
#[derive(Debug, Default)]
pub(crate) struct AddressKeys(HashTable<u128>);

impl AddressKeys {
    pub(crate) fn add(&mut self, address: &AddressRef<'_>) {
        let key = address.key();
        if !self.holds_key(key) {
            self.0.insert_unique(key as u64, key, |&key| key as u64);
        }
    }

    pub(crate) fn holds(&self, address: &AddressRef<'_>) -> bool {
        !self.0.is_empty() && self.holds_key(address.key())
    }

    fn holds_key(&self, key: u128) -> bool {
        self.0.find(key as u64, |&known| known == key).is_some()
    }
}

/// After how many recipients seeds come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SeedPlaces {
    /// One at each of these, ascending.
    At(Vec<u64>),
    /// One after every so many; not 0.
    Every(u64),
}

impl SeedPlaces {
    /// Seeds that should have come when there are so many recipients.
    pub(crate) fn due(&self, recipients: u64) -> u64 {
        match self {
            Self::At(places) => places.partition_point(|&place| place <= recipients) as u64,
            Self::Every(step) => recipients / step,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_a_share_of_any_addresses_and_another_for_another_campaign() {
        let (ten, other) = (Sample::new("summer", 0.1), Sample::new("winter", 0.1));
        let twenty = Sample::new("summer", 0.2);
        let (mut counts, mut both) = ([0u32; 3], 0);
        for number in 0..100_000 {
            let text = format!("ann{number}@one.test");
            let address = AddressRef::parse(&text).unwrap();
            let held = [&ten, &other, &twenty].map(|sample| sample.holds(&address));
            counts.iter_mut().zip(held).for_each(|(count, held)| *count += u32::from(held));
            both += u32::from(held[0] && held[1]);
            assert!(!held[0] || held[2], "a smaller sample is part of a larger one");
        }
        // Five standard deviations of a binomial: 5 × √(100 000 × 0.1 × 0.9) = 474, and so on.
        assert!(counts[0].abs_diff(10_000) < 475 && counts[1].abs_diff(10_000) < 475, "{counts:?}");
        assert!(counts[2].abs_diff(20_000) < 633, "{counts:?}");
        assert!(both.abs_diff(1_000) < 158, "{both}");
        let all = Sample::new("summer", 1.0);
        assert_eq!(all.share, 1 << 64);
    }

    #[test]
    fn seeds_are_due_at_their_places() {
        let at = SeedPlaces::At(vec![0, 2, 2, 5]);
        assert_eq!([0, 1, 2, 4, 5, 9].map(|recipients| at.due(recipients)), [1, 1, 3, 3, 4, 4]);
        let every = SeedPlaces::Every(3);
        assert_eq!([0, 2, 3, 5, 6].map(|recipients| every.due(recipients)), [0, 0, 1, 1, 2]);
    }
}
