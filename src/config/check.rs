//! What the check before sending takes for too much, what it leaves out, and whom it asks, on this machine.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::spam::{Place, Spam};
use super::units::{Size, duration};
use crate::address::Domain;

/// `[check]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Check {
    /// Names of checks that say nothing, like `role-accounts`, for every campaign.
    pub ignore: Vec<String>,
    /// HTML of more than this is a warning: Gmail shows no more and hides the rest, and with it the
    /// unsubscribe link.
    pub html_size: Size,
    /// A message of more than this is an error: some receivers refuse it.
    pub message_size: Size,
    /// Domains of link shorteners besides those that are shipped.
    pub shorteners: Vec<String>,
    /// Block lists (RFC 5782) that are asked for the addresses of sources, like `zen.blocklist.example`.
    /// Nobody is asked unless named here.
    pub dnsbl: Vec<String>,
    /// Block lists that are asked for our domains and those of links.
    pub domain_dnsbl: Vec<String>,
    /// Looking up the domains of a list ends after so long; the rest is told as not looked up.
    #[serde(with = "duration")]
    pub domains_time: Duration,
    /// SpamAssassin's daemon.
    pub spamd: Option<Place>,
    /// A worker of Rspamd that scans: `normal`, or `controller` with a password.
    pub rspamd: Option<Place>,
    /// The environment variable that holds the password; none for a worker that asks for none.
    pub rspamd_password_env: Option<String>,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            ignore: Vec::new(),
            html_size: Size(102_000),
            message_size: Size(10_000_000),
            shorteners: Vec::new(),
            dnsbl: Vec::new(),
            domain_dnsbl: Vec::new(),
            domains_time: Duration::from_secs(15 * 60),
            spamd: None,
            rspamd: None,
            rspamd_password_env: None,
        }
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

    /// The spam filters that are asked.
    pub fn spam(&self) -> Spam {
        let Self { spamd, rspamd, rspamd_password_env, .. } = self.clone();
        Spam { spamd, rspamd, rspamd_password_env }
    }
}
