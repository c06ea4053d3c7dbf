//! What makes a site of servers: whose they are, and which domains keep a site to themselves.

use std::collections::HashSet;
use std::sync::Arc;

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
        let provider = self.provider(&exchanges);
        Site::new(exchanges, provider, implicit, self.own(domain))
    }

    pub(super) fn provider(&self, exchanges: &[Exchange]) -> Option<Arc<str>> {
        self.providers.of(exchanges.iter().map(|exchange| &exchange.host))
    }
}

/// By preference, then name; a host named twice counts where it is preferred.
pub(super) fn sort(exchanges: &mut Vec<Exchange>) {
    exchanges.sort_unstable();
    let mut seen = HashSet::new();
    exchanges.retain(|exchange| seen.insert(exchange.host.clone()));
}
