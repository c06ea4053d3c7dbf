//! Who has a standing with a provider. Names, since they outlive the process.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What stands for every site without a known provider where they share one account.
pub const OTHER: &str = "other";

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Party {
    /// An egress source, by its name in the settings.
    Source(String),
    /// A sending domain: the domain of `From:`.
    Domain(String),
}

impl Party {
    /// `source` or `domain`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Source(_) => "source",
            Self::Domain(_) => "domain",
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Source(name) | Self::Domain(name) => name,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}
