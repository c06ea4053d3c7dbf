//! What the check before sending takes for too much, and whom it asks, on this machine.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::units::duration;
use crate::address::Domain;

/// `[check]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Check {
    /// Block lists (RFC 5782) that are asked for the addresses of sources, like `zen.blocklist.example`.
    /// Nobody is asked unless named here.
    pub dnsbl: Vec<String>,
    /// Block lists that are asked for our domains and those of links.
    pub domain_dnsbl: Vec<String>,
    /// Looking up the domains of a list ends after so long; the rest is told as not looked up.
    #[serde(with = "duration")]
    pub domains_time: Duration,
}

impl Default for Check {
    fn default() -> Self {
        Self { dnsbl: Vec::new(), domain_dnsbl: Vec::new(), domains_time: Duration::from_secs(15 * 60) }
    }
}

impl Check {
    /// The first thing that types cannot rule out: keys below `[check]`, what is wrong, what to do.
    pub(super) fn mistake(&self) -> Option<(Vec<String>, String, String)> {
        [("dnsbl", &self.dnsbl), ("domain_dnsbl", &self.domain_dnsbl)].into_iter().find_map(|(key, lists)| {
            let (at, list) = lists.iter().enumerate().find(|(_, list)| Domain::parse(list).is_err())?;
            let what = format!("`{list}` is no name of a block list");
            let advice = "give the list's zone, like zen.blocklist.example".to_owned();
            Some((vec![key.to_owned(), at.to_string()], what, advice))
        })
    }
}
