//! One [`Site`] a set of servers, and its name.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::address::Domain;

use super::grouping::sort;
use super::{Exchange, Grouping, Site};

/// Fewer known sites are not swept.
const SITES_MIN: usize = 1024;

/// The sites in use, each once.
#[derive(Debug)]
pub(super) struct Sites {
    grouping: RwLock<Arc<Grouping>>,
    known: DashMap<Servers, Weak<Site>>,
    /// Sites to be known before the unused are dropped.
    sweep_at: AtomicUsize,
}

/// The one domain, if there is but one; whether implicit; servers in order, preferences as ranks.
type Servers = (Option<Domain>, bool, Vec<(u16, Domain)>);

impl Sites {
    pub(super) fn new(grouping: Grouping) -> Self {
        Self {
            grouping: RwLock::new(Arc::new(grouping)),
            known: DashMap::new(),
            sweep_at: AtomicUsize::new(SITES_MIN),
        }
    }

    /// From now on sites are made by `grouping`. One that would come out the same is still the same, so
    /// that nobody has two for one set of servers.
    pub(super) fn regroup(&self, grouping: Grouping) {
        *self.grouping.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(grouping);
    }

    /// The one site of these servers, for `domain`.
    pub(super) fn of(&self, domain: &Domain, mut exchanges: Vec<Exchange>, implicit: bool) -> Arc<Site> {
        let grouping = Arc::clone(&self.grouping.read().unwrap_or_else(PoisonError::into_inner));
        sort(&mut exchanges);
        let own = grouping.own(domain);
        let key = (own.clone(), implicit, ranked(&exchanges));
        // Now and then, those that nobody uses any more go.
        if self.known.len() >= self.sweep_at.load(Relaxed) {
            self.known.retain(|_, site| site.strong_count() > 0);
            self.sweep_at.store(self.known.len().max(SITES_MIN) * 2, Relaxed);
        }
        let provider = grouping.provider(&exchanges);
        let make = |provider| Arc::new(Site::new(exchanges, provider, implicit, own));
        match self.known.entry(key) {
            Entry::Occupied(mut held) => {
                let known = held.get().upgrade().filter(|known| known.provider == provider);
                known.unwrap_or_else(|| {
                    let site = make(provider);
                    held.insert(Arc::downgrade(&site));
                    site
                })
            }
            Entry::Vacant(space) => {
                let site = make(provider);
                space.insert(Arc::downgrade(&site));
                site
            }
        }
    }
}

impl Site {
    pub(super) fn new(
        exchanges: Vec<Exchange>,
        provider: Option<Arc<str>>,
        implicit: bool,
        own_limits_of: Option<Domain>,
    ) -> Self {
        let of_exchanges = || site_name(&exchanges);
        let name = own_limits_of.as_ref().map_or_else(of_exchanges, ToString::to_string);
        Self { name, exchanges, provider, implicit, own_limits_of }
    }
}

/// Servers with their preferences as ranks: `5 a, 7 b` is the same order as `10 a, 20 b`.
fn ranked(exchanges: &[Exchange]) -> Vec<(u16, Domain)> {
    let mut rank = 0;
    let mut before = exchanges.first().map(|exchange| exchange.preference);
    let ranked = exchanges.iter().map(|exchange| {
        if before.replace(exchange.preference) != Some(exchange.preference) {
            rank += 1;
        }
        (rank, exchange.host.clone())
    });
    ranked.collect()
}

/// A name for people, from hosts in order.
fn site_name(exchanges: &[Exchange]) -> String {
    const OCTETS_MAX: usize = 100;
    let hosts: Vec<&str> = exchanges.iter().map(|exchange| exchange.host.as_str()).collect();
    let Some((&first, others)) = hosts.split_first() else { return String::new() };
    if others.is_empty() {
        return first.to_owned();
    }
    let suffix = others.iter().fold(first, |suffix, host| common_suffix(suffix, host));
    if suffix.contains('.') {
        let heads: Vec<&str> = hosts
            .iter()
            .filter_map(|host| host.strip_suffix(suffix).map(|head| head.trim_end_matches('.')))
            .filter(|head| !head.is_empty())
            .collect();
        let optional = if heads.len() < hosts.len() { "?" } else { "" };
        let name = format!("({}){optional}.{suffix}", heads.join("|"));
        if name.len() <= OCTETS_MAX {
            return name;
        }
    }
    format!("{first}+{}", others.len())
}

/// The labels that both end in.
fn common_suffix<'a>(a: &'a str, b: &str) -> &'a str {
    let labels = a.rsplit('.').zip(b.rsplit('.')).take_while(|(a, b)| a == b);
    let octets: usize = labels.map(|(label, _)| label.len() + 1).sum();
    &a[(a.len() + 1).saturating_sub(octets).min(a.len())..]
}
