//! What makes a site of servers: whose they are, and which domains keep a site to themselves.

use std::collections::HashSet;

use crate::address::Domain;

use super::{Exchange, Providers, Site};

/// What is known of providers and domains before any name is looked up.
#[derive(Debug, Clone, Default)]
pub struct Grouping {
    pub providers: Providers,
    /// Domains with limits of their own: each is a site by itself, whoever else has the same servers.
    pub own_limits: HashSet<Domain>,
}

impl Grouping {
    /// The domain itself, if it is a site of its own.
    pub(super) fn own(&self, domain: &Domain) -> Option<Domain> {
        self.own_limits.get(domain).cloned()
    }

    /// The site of `domain`, whose servers these are.
    pub fn site(&self, domain: &Domain, mut exchanges: Vec<Exchange>, implicit: bool) -> Site {
        sort(&mut exchanges);
        self.sorted_site(self.own(domain), exchanges, implicit)
    }

    /// As [`Self::site`], of servers in order.
    pub(super) fn sorted_site(
        &self,
        own_limits_of: Option<Domain>,
        exchanges: Vec<Exchange>,
        implicit: bool,
    ) -> Site {
        let of_exchanges = || super::sites::site_name(&exchanges);
        Site {
            name: own_limits_of.as_ref().map_or_else(of_exchanges, ToString::to_string),
            provider: self.providers.of(exchanges.iter().map(|exchange| &exchange.host)),
            exchanges,
            implicit,
            own_limits_of,
        }
    }
}

/// By preference, then name; a host named twice counts where it is preferred.
pub(super) fn sort(exchanges: &mut Vec<Exchange>) {
    exchanges.sort_unstable();
    let mut seen = HashSet::new();
    exchanges.retain(|exchange| seen.insert(exchange.host.clone()));
}
