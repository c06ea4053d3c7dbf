//! The resolver: routes and addresses from the cache, or from the DNS for all who wait.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::address::Domain;
use crate::config;

use super::cache::{Asker, Cache, Fact, Kind, Look};
use super::mx::{Answer, Dns, Target};
use super::sites::Sites;
use super::{AddressFailure, Addresses, Exchange, Grouping, Route, Routed, Site};

/// Names held by each cache, some 200 octets each; more are asked for again.
const NAMES_MAX: usize = 100_000;
/// A failure is remembered for at most this long (RFC 9520 §3.2 asks for at least a second).
const FAILURE_HOLDS_MAX: Duration = Duration::from_secs(5);

/// How to ask the DNS.
#[derive(Debug, Clone)]
pub struct ResolverSettings {
    /// None: those of `/etc/resolv.conf`. Given some, no others are asked.
    pub servers: Vec<SocketAddr>,
    /// For one try.
    pub timeout: Duration,
    /// Tries in all, at least 1.
    pub attempts: usize,
    /// Questions under way at once, at least 1.
    pub lookups_max: usize,
    /// An answer holds at least for this long,
    pub ttl_min: Duration,
    /// and at most for this long.
    pub ttl_max: Duration,
    /// A negative answer holds at most for this long.
    pub negative_ttl: Duration,
}

impl From<&config::Dns> for ResolverSettings {
    fn from(dns: &config::Dns) -> Self {
        Self {
            servers: dns.servers.clone(),
            timeout: dns.timeout,
            attempts: usize::from(dns.attempts),
            lookups_max: dns.lookups_max,
            ttl_min: dns.ttl_min,
            ttl_max: dns.ttl_max,
            negative_ttl: dns.negative_ttl,
        }
    }
}

/// Why no resolver can be made.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ResolverError {
    #[error("cannot read the DNS servers in {}: {error}; name some in [dns] servers", path.display())]
    SystemServers { path: PathBuf, error: Arc<std::io::Error> },
    #[error("{} names no DNS server; name some in [dns] servers", .0.display())]
    NoServers(PathBuf),
    #[error("cannot start the DNS client: {0}")]
    Start(String),
}

/// Answers from the cache or the DNS; clones share both.
#[derive(Debug, Clone)]
pub struct Resolver {
    inner: Arc<Inner>,
    /// Where all mail goes, whatever its domain.
    everything_to: Option<Arc<Site>>,
}

#[derive(Debug)]
struct Inner {
    dns: Dns,
    settings: ResolverSettings,
    sites: Sites,
    routes: Cache<Route>,
    addresses: Cache<Result<Arc<Addresses>, AddressFailure>>,
}

/// Hosts of a domain that are kept, the most preferred: an answer of thousands would hold a session for
/// hours that tries them all.
const EXCHANGES_MAX: usize = 16;

impl Resolver {
    /// # Errors
    /// No servers are given and the system names none.
    pub fn new(settings: ResolverSettings, grouping: Grouping) -> Result<Self, ResolverError> {
        let inner = Inner {
            dns: Dns::new(&settings)?,
            settings,
            sites: Sites::new(grouping),
            routes: Cache::new(NAMES_MAX),
            addresses: Cache::new(NAMES_MAX),
        };
        Ok(Self { inner: Arc::new(inner), everything_to: None })
    }

    /// A resolver for which every domain's mail goes to `site`, without a look-up: that of relays, who
    /// look for the exchanges themselves. Addresses are looked up as ever.
    #[must_use]
    pub fn with_everything_to(self, site: Arc<Site>) -> Self {
        Self { everything_to: Some(site), ..self }
    }

    /// From now on domains are told apart by `grouping`. A route that is known holds until it expires.
    pub fn regroup(&self, grouping: Grouping) {
        self.inner.sites.regroup(grouping);
    }

    /// Where `domain`'s mail goes. Needs a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the question under way for others.
    pub async fn route(&self, domain: &Domain) -> Routed {
        if let Some(site) = &self.everything_to {
            return Routed {
                route: Route::Site(site.clone()),
                expires: Instant::now() + self.inner.settings.ttl_max,
            };
        }
        let look = self.inner.routes.look(domain, Instant::now());
        match found(look, |asker| self.find_route(domain, asker)).await {
            Some(fact) => Routed { route: fact.value, expires: fact.expires },
            None => {
                let route = Route::Unresolved { reason: "the look-up was given up".into() };
                Routed { route, expires: Instant::now() }
            }
        }
    }

    /// The addresses of a server. Needs a tokio runtime.
    ///
    /// # Errors
    /// There are none, or nothing could be learned now.
    ///
    /// # Cancel safety
    /// As for [`Resolver::route`].
    pub async fn addresses(&self, host: &Domain) -> Result<Arc<Addresses>, AddressFailure> {
        self.address_fact(host).await.map_or_else(
            || Err(AddressFailure::Unresolved("the look-up was given up".into())),
            |fact| fact.value,
        )
    }

    async fn address_fact(&self, host: &Domain) -> Option<Fact<Result<Arc<Addresses>, AddressFailure>>> {
        let look = self.inner.addresses.look(host, Instant::now());
        found(look, |asker| self.find_addresses(host, asker)).await
    }

    fn find_route(&self, domain: &Domain, asker: Asker<Route>) {
        let (resolver, domain) = (self.clone(), domain.clone());
        tokio::spawn(async move {
            let (value, kind, ttl) = resolver.ask_route(&domain).await;
            let now = Instant::now();
            resolver.inner.routes.tell(&domain, asker, Fact { value, kind, expires: now + ttl }, now);
        });
    }

    fn find_addresses(&self, host: &Domain, asker: Asker<Result<Arc<Addresses>, AddressFailure>>) {
        let (resolver, host) = (self.clone(), host.clone());
        tokio::spawn(async move {
            let (v4, v6) = tokio::join!(resolver.inner.dns.v4(&host), resolver.inner.dns.v6(&host));
            let (value, kind, ttl) = resolver.inner.settings.addresses(&host, v4, v6);
            let now = Instant::now();
            resolver.inner.addresses.tell(&host, asker, Fact { value, kind, expires: now + ttl }, now);
        });
    }

    async fn ask_route(&self, domain: &Domain) -> (Route, Kind, Duration) {
        let settings = &self.inner.settings;
        match self.inner.dns.mx(domain).await {
            Answer::Records { records, ttl } => self.by_mx(domain, records, settings.positive(ttl)),
            Answer::NoData { ttl } => self.implicit(domain, settings.negative(ttl)).await,
            Answer::NoName { ttl } => {
                let reason = "the domain does not exist";
                (Route::NoDomain { reason }, Kind::Negative, settings.negative(ttl))
            }
            Answer::Unknown { reason } => {
                (Route::Unresolved { reason: reason.into() }, Kind::Failure, settings.failure())
            }
        }
    }

    fn by_mx(&self, domain: &Domain, records: Vec<(u16, Target)>, ttl: Duration) -> (Route, Kind, Duration) {
        let null = records.iter().any(|(_, target)| *target == Target::Null);
        let hosts = records.into_iter().filter_map(|(preference, target)| match target {
            Target::Host(host) => Some(Exchange { preference, host }),
            Target::Null | Target::Unusable => None,
        });
        let mut exchanges: Vec<Exchange> = hosts.collect();
        exchanges.sort_unstable();
        exchanges.truncate(EXCHANGES_MAX);
        match (exchanges.is_empty(), null) {
            (false, _) => (Route::Site(self.inner.sites.of(domain, exchanges, false)), Kind::Positive, ttl),
            (true, true) => (Route::NullMx, Kind::Negative, ttl),
            (true, false) => {
                let reason = "the domain's MX records name no host";
                (Route::NoDomain { reason }, Kind::Negative, self.inner.settings.negative(Some(ttl)))
            }
        }
    }

    /// `ttl` is how long it holds that there is no MX record.
    async fn implicit(&self, domain: &Domain, ttl: Duration) -> (Route, Kind, Duration) {
        let Some(fact) = self.address_fact(domain).await else {
            let reason = "the look-up was given up".into();
            return (Route::Unresolved { reason }, Kind::Failure, self.inner.settings.failure());
        };
        let ttl = ttl.min(fact.expires.saturating_duration_since(Instant::now()));
        match fact.value {
            Ok(_) => {
                let exchange = Exchange { preference: 0, host: domain.clone() };
                (Route::Site(self.inner.sites.of(domain, vec![exchange], true)), Kind::Positive, ttl)
            }
            Err(AddressFailure::NoAddress(_)) => {
                let reason = "the domain has no MX, A or AAAA record";
                (Route::NoDomain { reason }, Kind::Negative, ttl)
            }
            Err(AddressFailure::Unresolved(reason)) => (Route::Unresolved { reason }, Kind::Failure, ttl),
        }
    }
}

impl ResolverSettings {
    fn positive(&self, ttl: Duration) -> Duration {
        ttl.min(self.ttl_max).max(self.ttl_min)
    }

    fn negative(&self, ttl: Option<Duration>) -> Duration {
        ttl.unwrap_or(self.negative_ttl).max(self.ttl_min).min(self.negative_ttl)
    }

    fn failure(&self) -> Duration {
        self.ttl_min.min(FAILURE_HOLDS_MAX)
    }

    /// Both families together: what one lacks the other may have.
    fn addresses(
        &self,
        host: &Domain,
        v4: Answer<Ipv4Addr>,
        v6: Answer<Ipv6Addr>,
    ) -> (Result<Arc<Addresses>, AddressFailure>, Kind, Duration) {
        let (v4, v4_ttl, v4_unknown) = self.family(v4);
        let (v6, v6_ttl, v6_unknown) = self.family(v6);
        let ttl = v4_ttl.min(v6_ttl);
        if !v4.is_empty() || !v6.is_empty() {
            return (Ok(Arc::new(Addresses { v4, v6 })), Kind::Positive, ttl);
        }
        match v4_unknown.or(v6_unknown) {
            Some(reason) => (Err(AddressFailure::Unresolved(reason.into())), Kind::Failure, ttl),
            None => (Err(AddressFailure::NoAddress(host.clone())), Kind::Negative, ttl),
        }
    }

    fn family<T>(&self, answer: Answer<T>) -> (Vec<T>, Duration, Option<String>) {
        match answer {
            Answer::Records { records, ttl } => (records, self.positive(ttl), None),
            Answer::NoData { ttl } | Answer::NoName { ttl } => (Vec::new(), self.negative(ttl), None),
            Answer::Unknown { reason } => (Vec::new(), self.failure(), Some(reason)),
        }
    }
}

/// What is known, or comes; `find` asks for it in the background. `None` when the asker died.
async fn found<V: Clone>(look: Look<V>, find: impl FnOnce(Asker<V>)) -> Option<Fact<V>> {
    let mut answer = match look {
        Look::Known(fact) => return Some(fact),
        Look::Refresh(fact, asker) => {
            find(asker);
            return Some(fact);
        }
        Look::Ask(asker) => {
            let answer = asker.listen();
            find(asker);
            answer
        }
        Look::Wait(answer) => answer,
    };
    answer.wait_for(Option::is_some).await.ok().and_then(|fact| fact.clone())
}
