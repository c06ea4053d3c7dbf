//! What a manifest says of who is mailed: conditions, a sample, a cap, seeds.

use serde::{Deserialize, Serialize};

use super::List;
use super::variants::Share;

/// Which rows of all lists are mailed. What is asked first is in [`crate::campaign::selection`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Select {
    /// An expression over the columns of all lists, like `country == "DE" and points > 100`; see
    /// [`crate::campaign::condition`].
    #[serde(rename = "where")]
    pub condition: Option<String>,
    /// So many of them, by chance, the same in each run of this campaign. Each address by itself has this
    /// chance, so that of 1,000 some 50 to 150 are in a sample of 10 %.
    pub sample: Option<Share>,
    /// So many at most, the first; not 0.
    pub cap: Option<u64>,
}

/// Addresses of our own that see what recipients see. Each is mailed once, and neither `where`, exclude
/// lists, sample nor cap hold it back, suppression does; one that is also on a list is mailed once.
///
/// Places count recipients in the order of the lists as they are accepted, seeds not counted. Mail goes out in
/// another order: a segment of some thousand to a quarter of a million rows is grouped by domain, and each
/// domain has a pace of its own. A place therefore says among which recipients a seed is, to within a
/// segment, and not after how many messages it is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seeds {
    /// Its `where` says which of its rows are seeds; of columns that no list has nothing is taken.
    pub list: List,
    /// The first comes after so many recipients, the second after so many, ...; those left over at the end.
    /// Ascending; 0 is before the first. One that cannot be mailed leaves its place to the next.
    #[serde(default)]
    pub at: Vec<u64>,
    /// Instead of `at`: one after every so many; not 0.
    pub every: Option<u64>,
}
