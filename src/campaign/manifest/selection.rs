//! What a manifest says of who is mailed: conditions, a sample, a cap, seeds.

use serde::{Deserialize, Serialize};

use super::List;
use super::variants::Share;

/// Which rows are mailed, after duplicates and suppression.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Select {
    /// An expression over the columns of all lists, like `country == "DE" and points > 100`.
    #[serde(rename = "where")]
    pub condition: Option<String>,
    /// So many of them, by chance, the same in each run of this campaign.
    pub sample: Option<Share>,
    /// So many at most, the first.
    pub cap: Option<u64>,
}

/// Addresses of our own that see what recipients see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seeds {
    pub list: List,
    /// The first comes after so many recipients, the second after so many, ...; those left over at the end.
    #[serde(default)]
    pub at: Vec<u64>,
    /// Instead of `at`: one after every so many.
    pub every: Option<u64>,
}
